//! Snapshot → byte stream: ranged reads of packs, several in flight, in order, each blob verified.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use chrono::{DateTime, FixedOffset};
use futures::stream::{BoxStream, Stream, StreamExt};

use crate::encode;
use crate::error::{Error, Result};
use crate::id::Id;
use crate::index::Location;
use crate::pack::BlobKind;
use crate::repository::{Inner, Repository};
use crate::snapshot::Snapshot;
use crate::store::FileKind;
use crate::tree::name::FilePath;
use crate::tree::{Node, Tree};

mod elsewhere;
mod fetch;
mod held;
mod listing;
mod plan;

use fetch::missing_pack;

pub use held::HeldSnapshot;

/// Folders may not be nested deeper: a limit against damaged or malicious trees.
const MAX_DEPTH: usize = 64;

/// A file of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileEntry {
    /// Its absolute path. A name in it that is no text, or that has control characters, is written as restic's trees have
    /// it: quoted as by Go.
    pub path: String,
    /// Its length in bytes.
    pub size: u64,
    /// When it was last modified.
    pub mtime: DateTime<FixedOffset>,
    /// Whether one before it in the list is another name of the same file, so that its bytes count already.
    pub linked: bool,
}

/// Which part of a file to read, and how far ahead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadOptions {
    /// The first byte to read.
    pub offset: u64,
    /// How many bytes; `None`: to the end. A range that ends beyond the file is cut there.
    pub length: Option<u64>,
    /// Ranged reads in flight, each of 4 to 8 MiB of content (at least one); fewer while many streams
    /// share the memory.
    pub ahead: usize,
}

impl Default for ReadOptions {
    fn default() -> Self {
        Self { offset: 0, length: None, ahead: 8 }
    }
}

/// The content of a file, in order; every blob is verified before its bytes are given out. Holds a
/// shared lock (unless reads are opened without) until it has ended or is dropped.
pub struct FileReader {
    length: u64,
    content: BoxStream<'static, Result<Bytes>>,
}

impl std::fmt::Debug for FileReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FileReader").field("length", &self.length).finish_non_exhaustive()
    }
}

impl FileReader {
    /// Bytes the stream yields in total.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.length
    }

    /// Whether it yields nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }
}

impl Stream for FileReader {
    type Item = Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.content.poll_next_unpin(cx)
    }
}

impl Repository {
    /// Reads a file of a snapshot.
    ///
    /// # Errors
    /// Those of [`hold`](Self::hold) and of [`HeldSnapshot::read`].
    pub async fn read(
        &self,
        snapshot: &Snapshot,
        path: &str,
        options: ReadOptions,
    ) -> Result<FileReader> {
        let held = self.hold(snapshot).await?;
        let reader = held.read(path, options);
        // Not the reader's, if there is one: then what comes next must not meet our lock.
        held.release().await;
        reader
    }
}

impl Inner {
    /// The file nodes of a snapshot with their paths, sorted by path.
    pub(crate) async fn file_nodes(&self, snapshot: &Snapshot) -> Result<Vec<(FilePath, Node)>> {
        let mut found = Vec::new();
        let mut folders = vec![(FilePath::default(), snapshot.tree, 0)];
        while let Some((folder, tree, depth)) = folders.pop() {
            if depth > MAX_DEPTH {
                let name = format!("snapshot {}", snapshot.id);
                return Err(Error::damaged(name, "its folders are nested too deep"));
            }
            let needed_by = format!("snapshot {}", snapshot.id.short());
            for node in self.load_tree(tree, &needed_by).await?.nodes {
                let path = folder.join(&node.name);
                match (node.kind.as_str(), node.subtree) {
                    ("file", _) => found.push((path, node)),
                    ("dir", Some(subtree)) => folders.push((path, subtree, depth + 1)),
                    _ => {}
                }
            }
        }
        found.sort_by(|(a, _), (b, _)| a.shown.cmp(&b.shown));
        Ok(found)
    }

    /// Loads a tree blob through the index.
    pub(crate) async fn load_tree(&self, id: Id, needed_by: &str) -> Result<Tree> {
        let location = self.locate(BlobKind::Tree, id, needed_by)?;
        let json = match self.load_blob(id, location).await {
            Ok(json) => json,
            Err(error) => self
                .read_elsewhere(BlobKind::Tree, vec![id], error)
                .await?
                .pop()
                .unwrap_or_default(),
        };
        Tree::decode(&format!("tree {id}"), &json)
    }

    pub(crate) fn locate(&self, kind: BlobKind, id: Id, needed_by: &str) -> Result<Location> {
        self.index.get(kind, &id).ok_or_else(|| Error::MissingBlob {
            kind: kind.name(),
            id,
            needed_by: needed_by.into(),
        })
    }

    pub(crate) async fn load_blob(&self, id: Id, location: Location) -> Result<Vec<u8>> {
        let name = FileKind::Pack.name(&location.pack);
        let start = u64::from(location.offset);
        let sealed = self
            .vault
            .store
            .get_range(&name, start..start + u64::from(location.length))
            .await
            .map_err(|error| missing_pack(error, &location.pack, &id))?;
        let key = self.vault.key.clone();
        let decoded = self
            .resources
            .compute("decode a blob", move || {
                encode::decode(&key, &id, &sealed, location.raw_length)
            })
            .await?;
        decoded.map_err(|problem| self.damaged_blob(&location.pack, &id, problem))
    }

    fn damaged_blob(&self, pack: &Id, blob: &Id, problem: String) -> Error {
        let file = self.vault.store.describe(&FileKind::Pack.name(pack));
        Error::damaged(file, format!("blob {blob}: {problem}"))
    }
}
