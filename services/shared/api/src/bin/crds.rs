//! Writes the CustomResourceDefinitions into the folder given as the only argument.

use std::{env, fs, path::PathBuf};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = PathBuf::from(env::args().nth(1).ok_or("usage: crds FOLDER")?);
    fs::create_dir_all(&folder)?;
    for (name, yaml) in coffer_api::crds::files()? {
        fs::write(folder.join(name), yaml)?;
    }
    Ok(())
}
