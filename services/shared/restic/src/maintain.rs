//! Unlock, forget, delete, stats, wipe.
use crate::id::Id;

/// Which locks `unlock` removes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnlockScope {
    /// Those older than 30 minutes, and those whose process on this machine is gone.
    Stale,
    /// All of them, whoever holds them.
    All,
}

/// What a forget kept and removed, by group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForgetSummary {
    /// The decision, group by group.
    pub groups: Vec<crate::forget::Group>,
    /// Every snapshot that was (or in a dry run would be) deleted.
    pub removed: Vec<Id>,
}

/// Figures of a repository.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Snapshots.
    pub snapshots: u64,
    /// Distinct blobs that snapshots use.
    pub blobs: u64,
    /// Their bytes in packs: `restic stats --mode raw-data`.
    pub raw_size: u64,
    /// Their bytes before compression.
    pub uncompressed_size: u64,
}
