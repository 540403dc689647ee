//! Where each kind of object lies in the store, and the few operations on them.
//!
//! Every error names the operation and the object with its location. A listing is complete or an
//! error. Writes replace whole objects: the stores put atomically; and a write counts only once it
//! is proven (`store/proof.rs`).

use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode};

use crate::error::{Error, Result};
use crate::id::Id;

mod directory;
mod pack_file;
mod pages;
mod proof;
mod range;

pub(crate) use pack_file::PackFile;
use pack_file::{Folders, sync};
pub use proof::Attested;

/// The kinds of objects in a repository, `config` apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FileKind {
    Pack,
    Index,
    Snapshot,
    Key,
    Lock,
}

impl FileKind {
    const fn folder(self) -> &'static str {
        match self {
            Self::Pack => "data",
            Self::Index => "index",
            Self::Snapshot => "snapshots",
            Self::Key => "keys",
            Self::Lock => "locks",
        }
    }

    /// The object's name inside the repository.
    pub(crate) fn name(self, id: &Id) -> String {
        match self {
            Self::Pack => format!("data/{}/{id}", hex::encode(&id.as_bytes()[..1])),
            _ => format!("{}/{id}", self.folder()),
        }
    }
}

/// The name of the config object.
pub(crate) const CONFIG: &str = "config";

/// An object store whose root is a repository, and the name people know the place by.
#[derive(Clone, Debug)]
pub struct Store {
    objects: Arc<dyn ObjectStore>,
    location: Arc<str>,
    /// Set for a directory, which is then listed by ourselves.
    directory: Option<Arc<std::path::Path>>,
    /// Those of the directory, as far as something was put into them.
    folders: Arc<Folders>,
    append_only: bool,
}

impl Store {
    /// The repository at the root of `objects` (wrap it in a `PrefixStore` for a sub-folder).
    /// `location` appears in errors: `s3:bucket/prefix`, `/srv/backup`; put no credentials in it.
    #[must_use]
    pub fn new(objects: Arc<dyn ObjectStore>, location: impl Into<Arc<str>>) -> Self {
        let location = location.into();
        Self { objects, location, directory: None, folders: Arc::default(), append_only: false }
    }

    /// Refuses to delete anything but lock files, whoever asks: a guard below every operation.
    #[must_use]
    pub fn append_only(self) -> Self {
        Self { append_only: true, ..self }
    }

    /// Whether [`append_only`](Self::append_only) was asked for.
    #[must_use]
    pub fn is_append_only(&self) -> bool {
        self.append_only
    }

    /// Refuses an operation that takes something away, before it begins.
    ///
    /// # Errors
    /// [`Error::AppendOnly`] if this store is.
    pub(crate) fn may_take_away(&self, operation: &'static str) -> Result<()> {
        if self.append_only {
            return Err(Error::AppendOnly { operation, location: self.location.to_string() });
        }
        Ok(())
    }

    /// A repository in a directory, which must exist. Every file is on the disk, its data and its
    /// name, before a write is reported as done.
    ///
    /// # Errors
    /// [`Error::Directory`] if it is missing or no directory.
    pub fn local(path: impl AsRef<std::path::Path>) -> Result<Self> {
        let path = path.as_ref();
        let text = path.display().to_string();
        let objects = LocalFileSystem::new_with_prefix(path)
            .map_err(|source| Error::Directory { path: text.clone(), source })?
            .with_fsync(true);
        Ok(Self { directory: Some(path.into()), ..Self::new(Arc::new(objects), text) })
    }

    /// The place, for people.
    #[must_use]
    pub fn location(&self) -> &str {
        &self.location
    }

    pub(crate) fn describe(&self, name: &str) -> String {
        format!("{name} in {}", self.location)
    }

    fn failed(
        &self,
        operation: &'static str,
        name: &str,
    ) -> impl FnOnce(object_store::Error) -> Error {
        let path = self.describe(name);
        move |source| {
            // S3 answers 404 to both a missing object and a missing bucket; only the text differs.
            if format!("{source:?}").contains("NoSuchBucket") {
                Error::NoBucket { operation, path, source }
            } else {
                Error::Store { operation, path, source }
            }
        }
    }

    /// The same for a file of a directory that we handle ourselves.
    fn io_failed(&self, operation: &'static str, name: &str, source: std::io::Error) -> Error {
        let (store, source) = ("LocalFileSystem", Box::new(source));
        self.failed(operation, name)(object_store::Error::Generic { store, source })
    }

    pub(crate) async fn get(&self, name: &str) -> Result<Bytes> {
        let answer =
            self.objects.get(&Path::from(name)).await.map_err(self.failed("read", name))?;
        answer.bytes().await.map_err(self.failed("read", name))
    }

    /// Writes an object and proves it. One that is stored wrong is written once more, then deleted.
    pub(crate) async fn put(&self, name: &str, content: Bytes) -> Result<()> {
        let written = self.replace(name, content).await;
        if matches!(written, Err(Error::WrongWrite { .. })) {
            // A damaged snapshot or index would keep everybody from reading the others.
            if let Err(left) = self.delete(name).await {
                let error = left.chain();
                tracing::warn!(object = name, error, "a damaged object is left behind");
            }
        }
        written
    }

    /// The same for an object that others need: whatever is stored in the end, it is not deleted.
    pub(crate) async fn replace(&self, name: &str, content: Bytes) -> Result<()> {
        self.ensure_folder(name).await?;
        let mut wrong = None;
        for _ in 0..2 {
            let answer = self
                .objects
                .put(&Path::from(name), content.clone().into())
                .await
                .map_err(self.failed("write", name))?;
            match self.prove(name, &content, &answer).await? {
                Ok(()) => return Ok(()),
                Err(problem) => wrong = Some(problem),
            }
        }
        let problem = wrong.unwrap_or_default();
        Err(Error::WrongWrite { path: self.describe(name), problem })
    }

    /// Makes the folder of an object, where that is for us to do, and its name safe. object_store syncs what it makes itself,
    /// and not what it finds: who made that may not have come so far.
    async fn ensure_folder(&self, name: &str) -> Result<()> {
        let (Some(root), Some((folder, _))) = (&self.directory, name.rsplit_once('/')) else {
            return Ok(());
        };
        if self.folders.have(&root.join(folder)) {
            return Ok(());
        }
        let (root, folders) = (Arc::clone(root), Arc::clone(&self.folders));
        let folder = folder.to_owned();
        let made = tokio::task::spawn_blocking(move || folders.make(&root, &folder, sync)).await;
        made.map_err(|died| Error::internal("make a folder", died))?
            .map_err(|source| self.io_failed("write", name, source))
    }

    /// Writes an object that is not there yet; false if it was there. Stores without conditional
    /// writes replace it: look at what is there afterwards.
    pub(crate) async fn create(&self, name: &str, content: Bytes) -> Result<bool> {
        use object_store::Error as E;
        self.ensure_folder(name).await?;
        let payload = content.clone().into();
        match self.objects.put_opts(&Path::from(name), payload, PutMode::Create.into()).await {
            Ok(_) => Ok(true),
            Err(E::AlreadyExists { .. } | E::Precondition { .. }) => Ok(false),
            Err(E::NotImplemented { .. } | E::NotSupported { .. }) => {
                self.put(name, content).await.map(|()| true)
            }
            Err(error) if format!("{error:?}").contains("NotImplemented") => {
                self.put(name, content).await.map(|()| true)
            }
            Err(error) => Err(self.failed("write", name)(error)),
        }
    }

    /// Deletes an object; one that is gone already is as good.
    pub(crate) async fn delete(&self, name: &str) -> Result<()> {
        if !name.starts_with("locks/") {
            self.may_take_away("delete")?;
        }
        match self.objects.delete(&Path::from(name)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(source) => Err(self.failed("delete", name)(source)),
        }
    }

    /// Whether the object is there, by reading its head.
    pub(crate) async fn exists(&self, name: &str) -> Result<bool> {
        match self.objects.head(&Path::from(name)).await {
            Ok(_) => Ok(true),
            Err(source) => match self.failed("look up", name)(source) {
                error if error.is_not_found_in_store() => Ok(false),
                error => Err(error),
            },
        }
    }

    /// Every object of a kind with its size. Names that are no ids (temporary files of other
    /// programs) are skipped, as restic does, and so is what lies elsewhere below the folder.
    pub(crate) async fn list(&self, kind: FileKind) -> Result<Vec<(Id, u64)>> {
        Ok(self.list_with_misplaced(kind).await?.0)
    }

    /// The same, and the names of those that look like one, and are not where it would be looked for: in a folder
    /// of somebody's own, or in capitals.
    pub(crate) async fn list_with_misplaced(
        &self,
        kind: FileKind,
    ) -> Result<(Vec<(Id, u64)>, Vec<String>)> {
        let (mut placed, mut misplaced) = (Vec::new(), Vec::new());
        for (name, size) in self.list_folder(kind.folder()).await? {
            let Some(Ok(id)) = name.rsplit('/').next().map(str::parse) else { continue };
            if kind.name(&id) == name {
                placed.push((id, size));
            } else {
                misplaced.push(name);
            }
        }
        misplaced.sort_unstable();
        Ok((placed, misplaced))
    }

    /// Every object below a folder of a kind, whatever its name: what `wipe` deletes.
    pub(crate) async fn list_names(&self, kind: FileKind) -> Result<Vec<String>> {
        let listed = self.list_folder(kind.folder()).await?;
        Ok(listed.into_iter().map(|(name, _)| name).collect())
    }

    /// The name of any object in the folder of a kind, whether it is one of a repository or not.
    pub(crate) async fn any(&self, kind: FileKind) -> Result<Option<String>> {
        if self.directory.is_some() {
            return Ok(self.list_names(kind).await?.into_iter().next());
        }
        let folder = kind.folder();
        let first = self.objects.list(Some(&Path::from(folder))).try_next().await;
        Ok(first.map_err(self.failed("list", folder))?.map(|meta| meta.location.to_string()))
    }

    async fn list_folder(&self, folder: &'static str) -> Result<Vec<(String, u64)>> {
        if let Some(directory) = &self.directory {
            let directory = Arc::clone(directory);
            return tokio::task::spawn_blocking(move || directory::list(&directory, folder))
                .await
                .map_err(|died| Error::internal("list a directory", died))?
                .map_err(self.failed("list", folder));
        }
        self.objects
            .list(Some(&Path::from(folder)))
            .map_ok(|meta| (meta.location.to_string(), meta.size))
            .try_collect()
            .await
            .map_err(self.failed("list", folder))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Kind;

    #[tokio::test]
    async fn missing_objects_and_directories() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::local(folder.path()).unwrap();
        let error = store.get(CONFIG).await.unwrap_err();
        assert!(error.is_not_found_in_store(), "{error:?}");
        assert!(!store.exists(CONFIG).await.unwrap());
        assert_eq!(store.list(FileKind::Snapshot).await.unwrap(), []);
        store.delete(CONFIG).await.unwrap();
        let error = Store::local(folder.path().join("absent")).unwrap_err();
        assert_eq!(error.kind(), Kind::NotFound, "{}", error.chain());
    }

    #[tokio::test]
    async fn the_folders_of_all_objects_are_made_safe() {
        let folder = tempfile::tempdir().unwrap();
        // Somebody has made it, and may have been killed before he synced.
        std::fs::create_dir(folder.path().join("index")).unwrap();
        let store = Store::local(folder.path()).unwrap();
        store.put(CONFIG, Bytes::from_static(b"x")).await.unwrap();
        for kind in [FileKind::Index, FileKind::Snapshot, FileKind::Key, FileKind::Lock] {
            let path = folder.path().join(kind.folder());
            assert!(!store.folders.have(&path));
            store.put(&kind.name(&Id::of(b"x")), Bytes::from_static(b"x")).await.unwrap();
            assert!(store.folders.have(&path), "{kind:?}");
        }
        let gone = Store::local(folder.path()).unwrap();
        drop(folder);
        let error = gone.put("keys/x", Bytes::new()).await.unwrap_err();
        assert_eq!(error.kind(), Kind::NotFound, "{}", error.chain());
    }

    #[tokio::test]
    async fn what_is_not_named_as_its_kind_is_skipped_in_listings_only() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::local(folder.path()).unwrap();
        let (id, capitals) = (Id::of(b"x"), Id::of(b"x").to_string().to_uppercase());
        for kind in [FileKind::Pack, FileKind::Index, FileKind::Snapshot] {
            let (folder, name) = (kind.folder(), kind.name(&id));
            let misplaced = [
                format!("{folder}/0/{id}"),
                format!("{folder}/old/{name}"),
                format!("{folder}/{capitals}"),
            ];
            store.put(&name, Bytes::from_static(b"four")).await.unwrap();
            for other in misplaced.iter().chain([&format!("{folder}/00/restic-temp-1")]) {
                store.put(other, Bytes::new()).await.unwrap();
            }
            assert_eq!(store.list(kind).await.unwrap(), [(id, 4)]);
            let (_, mut told) = store.list_with_misplaced(kind).await.unwrap();
            told.sort_by_key(|name| misplaced.iter().position(|other| other == name));
            assert_eq!(told, misplaced);
            assert_eq!(store.list_names(kind).await.unwrap().len(), 5);
        }
    }
}
