//! Byte streams → one snapshot, in bounded memory.
use bytes::Bytes;

use crate::error::Result;
use crate::id::Id;

/// A snapshot being written. Dropping it commits nothing.
#[derive(Debug)]
pub struct SnapshotWriter {}

/// What a commit did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupSummary {
    /// The snapshot.
    pub snapshot: Id,
    /// Its root tree.
    pub tree: Id,
    /// Files in it.
    pub files: u64,
    /// Bytes read from the callers, all files together.
    pub total_bytes_processed: u64,
    /// Bytes of new blobs, before compression.
    pub data_added: u64,
    /// Bytes of new blobs as they lie in packs.
    pub data_added_packed: u64,
    /// New data blobs.
    pub data_blobs: u64,
    /// New tree blobs.
    pub tree_blobs: u64,
    /// Blobs that were there already, or came twice.
    pub deduplicated_blobs: u64,
}

/// One finished file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileSummary {
    /// Its path in the snapshot.
    pub path: String,
    /// Its length in bytes.
    pub size: u64,
    /// How many chunks it was cut into.
    pub chunks: u64,
}

/// One file being written. Independent of others of the same snapshot.
#[derive(Debug)]
pub struct FileWriter {}

#[allow(unused_variables, clippy::unused_async, clippy::todo, missing_docs, reason = "skeleton")]
impl SnapshotWriter {
    pub fn file(&mut self, path: &str) -> Result<FileWriter> { todo!() }
    pub async fn commit(self) -> Result<BackupSummary> { todo!() }
    pub async fn abort(self) { todo!() }
}

#[allow(unused_variables, clippy::unused_async, clippy::todo, missing_docs, reason = "skeleton")]
impl FileWriter {
    pub async fn write(&mut self, bytes: Bytes) -> Result<()> { todo!() }
    pub async fn finish(self) -> Result<FileSummary> { todo!() }
}
