//! The snapshots with their files: one lock and one look at the index for all of them, however many there are.

use std::collections::HashSet;

use futures::{StreamExt, TryStreamExt, stream};

use super::FileEntry;
use crate::error::Result;
use crate::repository::{Inner, Repository};
use crate::snapshot::{Snapshot, SnapshotFilter};
use crate::tree::Node;
use crate::tree::name::FilePath;

/// Snapshots whose trees are read at a time: what hides the latency of a store, and leaves room for others' requests.
const LOOKS: usize = 16;

impl Repository {
    /// The snapshots that pass the filter, oldest first, each with its files by path. They are listed under the lock: none
    /// of them is pruned before its files are known.
    ///
    /// # Errors
    /// Those of [`snapshots`](Self::snapshots); [`Error::MissingBlob`](crate::Error::MissingBlob) or
    /// [`Error::Damaged`](crate::Error::Damaged) if a tree cannot be read.
    pub async fn snapshots_with_files(
        &self,
        filter: &SnapshotFilter,
    ) -> Result<Vec<(Snapshot, Vec<FileEntry>)>> {
        let inner = &self.inner;
        let look = async {
            let snapshots = self.snapshots(filter).await?;
            inner.refresh_index().await?;
            stream::iter(snapshots)
                .map(|snapshot| inner.with_files(snapshot))
                .buffered(LOOKS)
                .try_collect()
                .await
        };
        let (lock, listed) = inner.begin_reading(look).await?;
        if let Some(lock) = lock {
            lock.release().await;
        }
        Ok(listed)
    }
}

impl Inner {
    async fn with_files(&self, snapshot: Snapshot) -> Result<(Snapshot, Vec<FileEntry>)> {
        let nodes = self.file_nodes(&snapshot).await?;
        Ok((snapshot, entries(&nodes)))
    }
}

/// The files that these nodes are.
pub(super) fn entries(nodes: &[(FilePath, Node)]) -> Vec<FileEntry> {
    let mut seen = HashSet::new();
    let entry = |(path, node): &(FilePath, Node)| FileEntry {
        path: path.shown.clone(),
        size: node.size,
        mtime: node.mtime,
        linked: node.hard_link().is_some_and(|file| !seen.insert(file)),
    };
    nodes.iter().map(entry).collect()
}
