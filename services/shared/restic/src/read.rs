//! Snapshot → byte stream: ranged reads of packs, several in flight, in order, each blob verified.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use chrono::{DateTime, FixedOffset};
use futures::stream::{BoxStream, Stream, StreamExt, TryStreamExt};

use crate::encode;
use crate::error::{Error, Result};
use crate::id::Id;
use crate::index::Location;
use crate::lock::{self, Mode};
use crate::pack::BlobKind;
use crate::repository::{Inner, Repository};
use crate::snapshot::Snapshot;
use crate::store::FileKind;
use crate::tree::{Node, Tree};

/// One ranged read covers blobs of up to this much content, unless a single one is larger.
const READ_CONTENT: u64 = 4 * 1024 * 1024;
/// Blobs of one pack that lie no further apart than this are fetched in one read.
const MAX_GAP: u32 = 64 * 1024;
/// Folders may not be nested deeper: a limit against damaged or malicious trees.
const MAX_DEPTH: usize = 64;

/// A file of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileEntry {
    /// Its absolute path.
    pub path: String,
    /// Its length in bytes.
    pub size: u64,
    /// When it was last modified.
    pub mtime: DateTime<FixedOffset>,
}

/// Which part of a file to read, and how far ahead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadOptions {
    /// The first byte to read.
    pub offset: u64,
    /// How many bytes; `None`: to the end. A range that ends beyond the file is cut there.
    pub length: Option<u64>,
    /// Ranged reads in flight, each of about 4 MiB of content (at least one).
    pub ahead: usize,
}

impl Default for ReadOptions {
    fn default() -> Self {
        Self { offset: 0, length: None, ahead: 4 }
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
    /// The files of a snapshot, in every folder, by path.
    ///
    /// # Errors
    /// [`Error::MissingBlob`] or [`Error::Damaged`] if a tree cannot be read.
    pub async fn files(&self, snapshot: &Snapshot) -> Result<Vec<FileEntry>> {
        let lock = self.inner.lock_for_reading(Mode::Shared).await?;
        let nodes = lock::during(lock, async {
            self.inner.refresh_index().await?;
            self.inner.file_nodes(snapshot).await
        })
        .await?;
        let entry =
            |(path, node): (String, Node)| FileEntry { path, size: node.size, mtime: node.mtime };
        Ok(nodes.into_iter().map(entry).collect())
    }

    /// Reads a file of a snapshot.
    ///
    /// # Errors
    /// [`Error::NoFile`]; [`Error::MissingBlob`] before anything is read, if any part of the file
    /// is in no pack. Errors while reading come through the stream and end it.
    pub async fn read(
        &self,
        snapshot: &Snapshot,
        path: &str,
        options: ReadOptions,
    ) -> Result<FileReader> {
        let inner = &self.inner;
        let lock = inner.lock_for_reading(Mode::Shared).await?;
        let (reads, length) = match inner.plan(snapshot, path, &options).await {
            Ok(planned) => planned,
            // What comes next must not meet our lock.
            Err(error) => return lock::during(lock, async { Err(error) }).await,
        };
        let shared = Arc::clone(inner);
        // Yields nothing, and not before the lock is released.
        let end = async move {
            if let Some(lock) = lock {
                lock.release().await;
            }
            futures::stream::empty()
        };
        let end = futures::stream::once(end).flatten();
        let content = futures::stream::iter(reads)
            .map(move |read| fetch(Arc::clone(&shared), read))
            .buffered(options.ahead.max(1))
            .map_ok(|pieces| futures::stream::iter(pieces.into_iter().map(Ok)))
            .try_flatten()
            .chain(end);
        Ok(FileReader { length, content: content.boxed() })
    }
}

impl Inner {
    async fn plan(
        &self,
        snapshot: &Snapshot,
        path: &str,
        options: &ReadOptions,
    ) -> Result<(Vec<Read>, u64)> {
        self.refresh_index().await?;
        let nodes = self.file_nodes(snapshot).await?;
        let Some((_, node)) = nodes.iter().find(|(other, _)| other == path) else {
            let present: Vec<&str> = nodes.iter().map(|(path, _)| path.as_str()).take(10).collect();
            return Err(Error::NoFile {
                snapshot: snapshot.id,
                path: path.into(),
                present: present.join(", "),
            });
        };
        let needed_by = format!("{path} in snapshot {}", snapshot.id.short());
        let content = node.content.as_deref().unwrap_or_default();
        plan_reads(self, content, node.size, &needed_by, options)
    }

    /// The file nodes of a snapshot with their paths, sorted by path.
    pub(crate) async fn file_nodes(&self, snapshot: &Snapshot) -> Result<Vec<(String, Node)>> {
        let mut found = Vec::new();
        let mut folders = vec![(String::new(), snapshot.tree, 0)];
        while let Some((folder, tree, depth)) = folders.pop() {
            if depth > MAX_DEPTH {
                let name = format!("snapshot {}", snapshot.id);
                return Err(Error::damaged(name, "its folders are nested too deep"));
            }
            let needed_by = format!("snapshot {}", snapshot.id.short());
            for node in self.load_tree(tree, &needed_by).await?.nodes {
                let path = format!("{folder}/{}", node.name);
                match (node.kind.as_str(), node.subtree) {
                    ("file", _) => found.push((path, node)),
                    ("dir", Some(subtree)) => folders.push((path, subtree, depth + 1)),
                    _ => {}
                }
            }
        }
        found.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(found)
    }

    /// Loads a tree blob through the index.
    pub(crate) async fn load_tree(&self, id: Id, needed_by: &str) -> Result<Tree> {
        let location = self.locate(BlobKind::Tree, id, needed_by)?;
        let json = self.load_blob(id, location).await?;
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

/// A pack that the index lists and the store does not have is damage, not a wrong request.
fn missing_pack(error: Error, pack: &Id, blob: &Id) -> Error {
    if error.is_not_found_in_store() {
        let needed_by = format!("blob {blob}");
        Error::MissingPack { id: *pack, needed_by, problem: "is missing".into() }
    } else {
        error
    }
}

/// Neighbouring blobs of one pack, fetched at once.
#[derive(Debug)]
struct Read {
    pack: Id,
    offset: u32,
    length: u32,
    content: u64,
    blobs: Vec<Wanted>,
}

#[derive(Debug)]
struct Wanted {
    id: Id,
    location: Location,
    /// Bytes of the content to leave out at either end.
    skip_front: u64,
    keep: u64,
}

/// Looks every blob of the range up, so that a missing one is known before anything is given out,
/// and groups them into reads.
fn plan_reads(
    inner: &Inner,
    content: &[Id],
    size: u64,
    needed_by: &str,
    options: &ReadOptions,
) -> Result<(Vec<Read>, u64)> {
    let start = options.offset.min(size);
    let end = options.length.map_or(size, |length| start.saturating_add(length).min(size));
    let mut reads: Vec<Read> = Vec::new();
    let mut position = 0_u64;
    for id in content {
        let location = inner.locate(BlobKind::Data, *id, needed_by)?;
        let blob_start = position;
        position += location.content_length();
        if position <= start || blob_start >= end {
            continue;
        }
        let skip_front = start.saturating_sub(blob_start);
        let keep = position.min(end) - blob_start - skip_front;
        let wanted = Wanted { id: *id, location, skip_front, keep };
        match reads.last_mut() {
            Some(read) if read.can_take(&wanted) => read.take(wanted),
            _ => reads.push(Read::of(wanted)),
        }
    }
    if position != size {
        let problem = format!("its chunks make {position} bytes, its size is {size}");
        return Err(Error::damaged(needed_by, problem));
    }
    Ok((reads, end - start))
}

impl Read {
    fn of(wanted: Wanted) -> Self {
        let Location { pack, offset, length, .. } = wanted.location;
        Self {
            pack,
            offset,
            length,
            content: wanted.location.content_length(),
            blobs: vec![wanted],
        }
    }

    fn end(&self) -> u32 {
        self.offset.saturating_add(self.length)
    }

    fn can_take(&self, wanted: &Wanted) -> bool {
        let gap = wanted.location.offset.checked_sub(self.end());
        wanted.location.pack == self.pack
            && gap.is_some_and(|gap| gap <= MAX_GAP)
            && self.content + wanted.location.content_length() <= READ_CONTENT
    }

    fn take(&mut self, wanted: Wanted) {
        let end = wanted.location.offset.saturating_add(wanted.location.length);
        self.length = end - self.offset;
        self.content += wanted.location.content_length();
        self.blobs.push(wanted);
    }
}

async fn fetch(inner: Arc<Inner>, read: Read) -> Result<Vec<Bytes>> {
    let name = FileKind::Pack.name(&read.pack);
    let start = u64::from(read.offset);
    let range = start..start + u64::from(read.length);
    let first = read.blobs[0].id;
    let sealed = inner
        .vault
        .store
        .get_range(&name, range)
        .await
        .map_err(|error| missing_pack(error, &read.pack, &first))?;
    let resources = inner.resources.clone();
    resources.compute("decode blobs", move || decode_all(&inner, &read, &sealed)).await?
}

fn decode_all(inner: &Inner, read: &Read, sealed: &Bytes) -> Result<Vec<Bytes>> {
    let mut pieces = Vec::with_capacity(read.blobs.len());
    for Wanted { id, location, skip_front, keep } in &read.blobs {
        let failed = |problem: &str| inner.damaged_blob(&read.pack, id, problem.into());
        let bounds = || {
            let start = usize::try_from(location.offset - read.offset).ok()?;
            let length = usize::try_from(location.length).ok()?;
            sealed.get(start..start.checked_add(length)?)
        };
        let blob = bounds().ok_or_else(|| failed("it lies outside its pack"))?;
        let content = encode::decode(&inner.vault.key, id, blob, location.raw_length)
            .map_err(|problem| failed(&problem))?;
        let piece = || {
            let start = usize::try_from(*skip_front).ok()?;
            let end = start.checked_add(usize::try_from(*keep).ok()?)?;
            (end <= content.len()).then_some(start..end)
        };
        let range = piece().ok_or_else(|| failed("it is shorter than the index says"))?;
        pieces.push(Bytes::from(content).slice(range));
    }
    Ok(pieces)
}
