//! Files that only their owner may read: keys, tokens, the kubeconfig.

use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

/// Writes a file (0600) in one step: a reader sees the old content or the new one.
///
/// # Errors
/// When the directory cannot be made (0700) or the file cannot be written.
pub(crate) fn write(path: &Path, content: &[u8]) -> std::io::Result<()> {
    if let Some(parent) = path.parent() {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
    }
    let mut draft = path.as_os_str().to_owned();
    draft.push(".new");
    // A draft that a crash left behind may have other permissions: start anew.
    match std::fs::remove_file(&draft) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file =
        std::fs::OpenOptions::new().create_new(true).write(true).mode(0o600).open(&draft)?;
    file.write_all(content)?;
    file.sync_all()?;
    std::fs::rename(&draft, path)
}
