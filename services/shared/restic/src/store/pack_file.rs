//! A pack on its way into a directory: written to a file while it is filled, and named when it is whole.
//!
//! Other stores want a pack in one piece and its name first, so that all of it has to be kept until it is
//! stored. Here memory holds no more than the last blobs.

use std::collections::HashSet;
use std::fs::{self, File, Permissions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crc_fast::{CrcAlgorithm, Digest};
use parking_lot::Mutex;
use tempfile::NamedTempFile;

use super::Store;
use crate::error::{Error, Result};

/// Where files lie that are not packs yet. restic, too, has files there that are named by no id, and passes
/// over them.
const FOLDER: &str = "data/00";
const PREFIX: &str = "coffer-tmp-";

/// The folders of a directory whose names are known to be on the disk.
///
/// One that is there need not be: who made it may not have come to sync its parent, or be about to. So that is done once
/// for each by every process.
#[derive(Debug, Default)]
pub(super) struct Folders(Mutex<HashSet<PathBuf>>);

/// The file. Dropped before it is placed, it is deleted.
#[derive(Debug)]
pub(crate) struct PackFile {
    root: Arc<Path>,
    folders: Arc<Folders>,
    file: NamedTempFile,
    length: u64,
    /// Of what was written, to tell whether it can be read back. Apart from the futures that a pack is in, for its size.
    sum: Box<Digest>,
}

const SUM: CrcAlgorithm = CrcAlgorithm::Crc64Nvme;

impl PackFile {
    fn create(root: Arc<Path>, folders: Arc<Folders>) -> io::Result<Self> {
        let folder = root.join(FOLDER);
        folders.make(&root, FOLDER, sync)?;
        let mut builder = tempfile::Builder::new();
        // As those of all other files of the repository, less what the process masks.
        builder.prefix(PREFIX).permissions(Permissions::from_mode(0o666));
        let file = builder.tempfile_in(folder)?;
        Ok(Self { root, folders, file, length: 0, sum: Box::new(Digest::new(SUM)) })
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.as_file_mut().write_all(bytes)?;
        self.sum.update(bytes);
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// What was written so far; `None` if it holds other bytes than it was given.
    fn content(&self) -> io::Result<Option<Vec<u8>>> {
        let content = fs::read(self.file.path())?;
        let same = content.len() as u64 == self.length
            && crc_fast::checksum(SUM, &content) == self.sum.finalize();
        Ok(same.then_some(content))
    }

    /// Makes it an object of the repository, on the disk with its data and its name; false if it holds other
    /// bytes than it was given.
    fn place(self, name: &str) -> io::Result<bool> {
        self.file.as_file().sync_all()?;
        if !self.is_as_written()? {
            return Ok(false);
        }
        super::pages::let_go(self.file.as_file(), 0..self.length);
        let folder = name.rsplit_once('/').map_or("", |(folder, _)| folder);
        self.folders.make(&self.root, folder, sync)?;
        self.file.persist(self.root.join(name))?;
        sync(&self.root.join(folder))?;
        Ok(true)
    }

    fn is_as_written(&self) -> io::Result<bool> {
        let mut file = File::open(self.file.path())?;
        let (mut read, mut sum) = (0, Digest::new(SUM));
        // It stays in the processor's caches between reading and summing.
        let mut buffer = vec![0; 64 * 1024];
        loop {
            match file.read(&mut buffer)? {
                0 => return Ok(read == self.length && sum.finalize() == self.sum.finalize()),
                n => {
                    sum.update(&buffer[..n]);
                    read += n as u64;
                }
            }
        }
    }
}

impl Folders {
    /// Whether the name of a folder is known to be safe.
    pub(super) fn have(&self, folder: &Path) -> bool {
        self.0.lock().contains(folder)
    }

    /// Makes a folder below the root and those that lead to it, where they are not there, and their names safe.
    pub(super) fn make(
        &self,
        root: &Path,
        folder: &str,
        sync: impl Fn(&Path) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut path = root.to_owned();
        for name in folder.split('/').filter(|name| !name.is_empty()) {
            let parent = path.clone();
            path.push(name);
            match fs::create_dir(&path) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                    if self.have(&path) {
                        continue;
                    }
                }
                made => made?,
            }
            sync(&parent)?;
            self.0.lock().insert(path.clone());
        }
        Ok(())
    }
}

pub(super) fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

impl Store {
    /// Whether packs can be written as they are filled.
    pub(crate) fn takes_pack_files(&self) -> bool {
        self.directory.is_some()
    }

    /// Appends to a pack, and begins it if there is none. Blocks.
    pub(crate) fn append(&self, pack: &mut Option<PackFile>, bytes: &[u8]) -> Result<()> {
        let appended = match (&mut *pack, &self.directory) {
            (Some(file), _) => file.append(bytes),
            (None, Some(root)) => {
                let created = PackFile::create(Arc::clone(root), Arc::clone(&self.folders));
                created.and_then(|mut file| {
                    file.append(bytes)?;
                    *pack = Some(file);
                    Ok(())
                })
            }
            (None, None) => Err(ErrorKind::Unsupported.into()),
        };
        appended.map_err(|source| self.io_failed("write", FOLDER, source))
    }

    /// What a pack has so far, proven: its bytes go on into another pack, whose id would vouch for whatever they are.
    /// Blocks.
    pub(crate) fn content_of(&self, pack: &PackFile) -> Result<Vec<u8>> {
        let content =
            pack.content().map_err(|source| self.io_failed("read back", FOLDER, source))?;
        let problem = "an unfinished pack holds other bytes than it was given";
        content.ok_or_else(|| Error::WrongWrite {
            path: self.describe(FOLDER),
            problem: problem.into(),
        })
    }

    /// Makes a pack an object. Like [`put`](Self::put), proves that it holds what it was given; one that does
    /// not is deleted.
    pub(crate) async fn place(&self, name: &str, pack: PackFile) -> Result<()> {
        let to = name.to_owned();
        let placed = tokio::task::spawn_blocking(move || pack.place(&to)).await;
        let problem = match placed.map_err(|died| Error::internal("place a pack", died))? {
            Ok(true) => return Ok(()),
            Ok(false) => "it holds other bytes than it was given".into(),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                "it is not there after it was written".into()
            }
            Err(source) => return Err(self.io_failed("write", name, source)),
        };
        Err(Error::WrongWrite { path: self.describe(name), problem })
    }

    /// Deletes what writers left that were killed. Nobody may be writing. Gives how many files there were.
    pub(crate) async fn sweep(&self) -> Result<usize> {
        let Some(root) = self.directory.clone() else { return Ok(0) };
        let swept = tokio::task::spawn_blocking(move || sweep(&root)).await;
        swept
            .map_err(|died| Error::internal("delete unfinished packs", died))?
            .map_err(|source| self.io_failed("delete unfinished packs", FOLDER, source))
    }
}

fn sweep(root: &Path) -> io::Result<usize> {
    let entries = match fs::read_dir(root.join(FOLDER)) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(0),
        entries => entries?,
    };
    let mut swept = 0;
    for entry in entries {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(PREFIX) {
            fs::remove_file(entry.path())?;
            swept += 1;
        }
    }
    Ok(swept)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::FileKind;
    use crate::{Id, Kind};

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> = super::super::directory::list(folder, "data").unwrap();
        names.sort();
        names.into_iter().map(|(name, _)| name).collect()
    }

    #[tokio::test]
    async fn a_pack_is_there_when_it_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::local(folder.path()).unwrap();
        let mut pack = None;
        store.append(&mut pack, b"first").unwrap();
        store.append(&mut pack, b" second").unwrap();
        assert_eq!(store.list(FileKind::Pack).await.unwrap(), []);
        let pack = pack.unwrap();
        assert_eq!(store.content_of(&pack).unwrap(), b"first second");
        let name = FileKind::Pack.name(&Id::of(b"first second"));
        store.place(&name, pack).await.unwrap();
        assert_eq!(store.get(&name).await.unwrap(), "first second");
        assert_eq!(names(folder.path()), [name]);
    }

    #[tokio::test]
    async fn a_pack_that_changed_on_its_way_is_none() {
        for damage in [&b"firsT"[..], b"first and more", b"fir"] {
            let folder = tempfile::tempdir().unwrap();
            let store = Store::local(folder.path()).unwrap();
            let mut pack = None;
            store.append(&mut pack, b"first").unwrap();
            let pack = pack.unwrap();
            fs::write(pack.file.path(), damage).unwrap();
            let error = store.content_of(&pack).unwrap_err();
            assert!(matches!(error, Error::WrongWrite { .. }), "{error}");
            let error = store.place("data/ab/abcd", pack).await.unwrap_err();
            assert!(matches!(error, Error::WrongWrite { .. }), "{error}");
            assert_eq!(error.kind(), Kind::Unavailable);
            assert!(names(folder.path()).is_empty());
        }
    }

    #[tokio::test]
    async fn what_is_given_up_is_deleted_at_once_and_what_was_killed_by_a_sweep() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::local(folder.path()).unwrap();
        assert_eq!(store.sweep().await.unwrap(), 0);
        let (mut given_up, mut killed) = (None, None);
        store.append(&mut given_up, b"x").unwrap();
        store.append(&mut killed, b"y").unwrap();
        drop(given_up);
        std::mem::forget(killed);
        fs::write(folder.path().join("data/00/other"), b"").unwrap();
        assert_eq!(store.sweep().await.unwrap(), 1);
        assert_eq!(names(folder.path()), ["data/00/other"]);
    }

    #[test]
    fn the_names_of_folders_are_made_safe_whoever_made_them() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let synced = Mutex::new(Vec::new());
        let make = |folders: &Folders, folder: &str| {
            let sync = |folder: &Path| {
                synced.lock().push(folder.strip_prefix(root).unwrap().display().to_string());
                Ok(())
            };
            folders.make(root, folder, sync).unwrap();
            assert!(root.join(folder).is_dir());
            std::mem::take(&mut *synced.lock())
        };
        let (one, other) = (Folders::default(), Folders::default());
        assert_eq!(make(&one, "data/00"), ["", "data"]);
        assert_eq!(make(&one, "data/00"), <[&str; 0]>::default());
        assert_eq!(make(&one, "data/ab"), ["data"]);
        // Of another process, which cannot tell how far the first has come.
        assert_eq!(make(&other, "data/ab"), ["", "data"]);
        assert_eq!(make(&other, "data/ab"), <[&str; 0]>::default());
        fs::remove_dir(root.join("data/ab")).unwrap();
        assert_eq!(make(&other, "data/ab"), ["data"]);
        // What failed is done again.
        let failing = |_: &Path| Err(ErrorKind::Other.into());
        one.make(root, "data/cd", failing).unwrap_err();
        assert_eq!(make(&one, "data/cd"), ["data"]);
    }

    #[tokio::test]
    async fn a_directory_that_cannot_be_written_is_named() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("data"), b"").unwrap();
        let store = Store::local(folder.path()).unwrap();
        let error = store.append(&mut None, b"x").unwrap_err().chain();
        assert!(error.contains(&folder.path().display().to_string()), "{error}");
    }
}
