//! A snapshot that stays while it is looked at: one lock for the list of its files and for all that are read.

use std::sync::Arc;

use futures::stream::{StreamExt, TryStreamExt};
use tokio::sync::Semaphore;

use super::fetch::{self, BUDGET_UNITS};
use super::listing::entries;
use super::plan::{self, Part, Reads};
use super::{FileEntry, FileReader, ReadOptions};
use crate::error::{Error, Result};
use crate::lock::Lock;
use crate::repository::{Inner, Repository};
use crate::snapshot::Snapshot;
use crate::tree::Node;
use crate::tree::name::{self, FilePath};

/// A snapshot under a shared lock (unless reads are opened without). The lock is released when this and
/// every reader begun from it have ended or are dropped.
#[derive(Debug)]
pub struct HeldSnapshot {
    inner: Arc<Inner>,
    lock: Option<Arc<Lock>>,
    snapshot: Snapshot,
    nodes: Vec<(FilePath, Node)>,
}

impl Repository {
    /// Takes a lock, and under it looks up the files of a snapshot.
    ///
    /// # Errors
    /// [`Error::MissingBlob`] or [`Error::Damaged`] if a tree cannot be read.
    pub async fn hold(&self, snapshot: &Snapshot) -> Result<HeldSnapshot> {
        let inner = &self.inner;
        let look = async {
            inner.refresh_index().await?;
            inner.file_nodes(snapshot).await
        };
        let (lock, nodes) = inner.begin_reading(look).await?;
        Ok(HeldSnapshot {
            inner: Arc::clone(inner),
            lock: lock.map(Arc::new),
            snapshot: snapshot.clone(),
            nodes,
        })
    }
}

impl HeldSnapshot {
    /// Its files, in every folder, by path.
    #[must_use]
    pub fn files(&self) -> Vec<FileEntry> {
        entries(&self.nodes)
    }

    /// A file, with the length that reading it gives: that of its blobs. What a tree says can be another, where the file
    /// grew while restic read it. It is named as `restic dump` takes it, with or without the first slash.
    ///
    /// # Errors
    /// [`Error::NoFile`]; [`Error::MissingBlob`] if any part of it is in no pack.
    pub fn file(&self, path: &str) -> Result<FileEntry> {
        let (FilePath { shown: path, .. }, node) = self.find(path)?;
        let blobs = node.content.as_deref().unwrap_or_default();
        let size = plan::length_of(&self.inner, blobs, &self.needed_by(path))?;
        Ok(FileEntry { path: path.clone(), size, mtime: node.mtime, linked: false })
    }

    /// Reads a file, named as for [`file`](Self::file).
    ///
    /// # Errors
    /// [`Error::NoFile`]; [`Error::MissingBlob`] before anything is read, if any part of the file
    /// is in no pack. Errors while reading come through the stream and end it.
    pub fn read(&self, path: &str, options: ReadOptions) -> Result<FileReader> {
        let inner = &self.inner;
        let stream = inner.resources.enter_reading();
        let (reads, length) = self.plan(path, &options)?;
        let lock = self.lock.clone();
        // Yields nothing, and not before the lock is released.
        let end = async move {
            drop(stream);
            release(lock).await;
            futures::stream::empty()
        };
        let end = futures::stream::once(end).flatten();
        let budget = Arc::new(Semaphore::new(BUDGET_UNITS as usize));
        let shared = Arc::clone(inner);
        let content = futures::stream::iter(reads)
            // One after the other, so that the read that is due first has its memory first.
            .then(move |read| fetch::begin(Arc::clone(&shared), Arc::clone(&budget), read))
            .map(fetch::finish)
            .buffered(options.ahead.max(1))
            .map_ok(fetch::pieces)
            .try_flatten()
            .chain(end);
        Ok(FileReader { length, content: content.boxed() })
    }

    /// Lets go. Waits until the lock is released, unless a reader still needs it.
    pub async fn release(self) {
        release(self.lock).await;
    }

    fn find(&self, path: &str) -> Result<&(FilePath, Node)> {
        let cleaned = name::clean(path);
        self.nodes.iter().find(|(other, _)| other.is(&cleaned)).ok_or_else(|| {
            let present: Vec<&str> =
                self.nodes.iter().map(|(path, _)| path.shown.as_str()).collect();
            Error::NoFile {
                snapshot: self.snapshot.id,
                path: path.into(),
                present: present[..present.len().min(10)].join(", "),
            }
        })
    }

    fn plan(&self, path: &str, options: &ReadOptions) -> Result<(Reads, u64)> {
        let (FilePath { shown: path, .. }, node) = self.find(path)?;
        let (needed_by, blobs) = (self.needed_by(path), node.content.clone().unwrap_or_default());
        let part = Part::of(plan::length_of(&self.inner, &blobs, &needed_by)?, options);
        Ok((Reads::new(&self.inner, blobs, needed_by, part), part.length()))
    }

    fn needed_by(&self, path: &str) -> String {
        format!("{path} in snapshot {}", self.snapshot.id.short())
    }
}

async fn release(lock: Option<Arc<Lock>>) {
    if let Some(lock) = lock.and_then(Arc::into_inner) {
        lock.release().await;
    }
}
