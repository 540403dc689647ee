//! Listing a local repository.
//!
//! object_store's own listing leaves out files it may not look at. A list of snapshots that is short
//! for such a reason would have prune delete the data of the others, so here every failure counts.

use std::io::{ErrorKind, Result};
use std::path::Path;

/// Every file below `root/folder` as its name relative to `root`, with its size. A folder that is
/// not there is empty: some programs make it with the first file.
pub(super) fn list(
    root: &Path,
    folder: &str,
) -> std::result::Result<Vec<(String, u64)>, object_store::Error> {
    let mut found = Vec::new();
    walk(root, folder, &mut found).map_err(|source| object_store::Error::Generic {
        store: "LocalFileSystem",
        source: Box::new(source),
    })?;
    Ok(found)
}

fn walk(root: &Path, folder: &str, found: &mut Vec<(String, u64)>) -> Result<()> {
    let Some(entries) = there(std::fs::read_dir(root.join(folder)))? else {
        // A repository whose root is gone (an unmounted volume) is not an empty one.
        return std::fs::metadata(root).map(drop);
    };
    for entry in entries {
        let entry = entry?;
        // No name of a repository is other than plain text; those of others are not ours to list.
        let Ok(name) = entry.file_name().into_string() else { continue };
        // A file may be gone since it was listed. Links are followed, as restic does.
        let Some(metadata) = there(std::fs::metadata(entry.path()))? else { continue };
        let path = format!("{folder}/{name}");
        if metadata.is_dir() {
            walk(root, &path, found)?;
        } else {
            found.push((path, metadata.len()));
        }
    }
    Ok(())
}

fn there<T>(result: Result<T>) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nested_files_are_listed_and_a_missing_root_is_an_error() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("data/ab")).unwrap();
        std::fs::write(root.path().join("data/ab/file"), b"123").unwrap();
        std::fs::write(root.path().join("other"), b"").unwrap();
        assert_eq!(list(root.path(), "data").unwrap(), [("data/ab/file".to_owned(), 3)]);
        assert_eq!(list(root.path(), "index").unwrap(), []);
        assert!(list(&root.path().join("gone"), "index").is_err());
        assert!(list(root.path(), "other").is_err(), "a file is no folder");
    }
}
