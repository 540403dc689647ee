//! What a backup did, as restic 0.17 and later keep it in the snapshot.

use chrono::{DateTime, FixedOffset};
use serde::{Deserialize, Serialize};

/// What a backup did. A dump is always a new file, so what is changed or unmodified stays 0 in our own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotSummary {
    /// When it began.
    #[serde(serialize_with = "crate::tree::as_go_does")]
    pub backup_start: DateTime<FixedOffset>,
    /// When all of its data were written.
    #[serde(serialize_with = "crate::tree::as_go_does")]
    pub backup_end: DateTime<FixedOffset>,
    /// Files.
    #[serde(default)]
    pub files_new: u64,
    /// Files that an earlier snapshot has otherwise.
    #[serde(default)]
    pub files_changed: u64,
    /// Files that an earlier snapshot has, too.
    #[serde(default)]
    pub files_unmodified: u64,
    /// Directories.
    #[serde(default)]
    pub dirs_new: u64,
    /// Directories that an earlier snapshot has otherwise.
    #[serde(default)]
    pub dirs_changed: u64,
    /// Directories that an earlier snapshot has, too.
    #[serde(default)]
    pub dirs_unmodified: u64,
    /// New data blobs.
    #[serde(default)]
    pub data_blobs: u64,
    /// New tree blobs.
    #[serde(default)]
    pub tree_blobs: u64,
    /// Bytes of new blobs, before compression.
    #[serde(default)]
    pub data_added: u64,
    /// Bytes of new blobs as they lie in packs.
    #[serde(default)]
    pub data_added_packed: u64,
    /// All files.
    #[serde(default)]
    pub total_files_processed: u64,
    /// Their bytes.
    #[serde(default)]
    pub total_bytes_processed: u64,
}

impl SnapshotSummary {
    /// Of a backup that has begun.
    #[must_use]
    pub const fn of_nothing(begun: DateTime<FixedOffset>) -> Self {
        Self {
            backup_start: begun,
            backup_end: begun,
            files_new: 0,
            files_changed: 0,
            files_unmodified: 0,
            dirs_new: 0,
            dirs_changed: 0,
            dirs_unmodified: 0,
            data_blobs: 0,
            tree_blobs: 0,
            data_added: 0,
            data_added_packed: 0,
            total_files_processed: 0,
            total_bytes_processed: 0,
        }
    }
}
