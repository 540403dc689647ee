//! Prune.
/// How prune weighs work against waste.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Options {
    /// Unused bytes that may stay in packs, in percent of the used ones.
    pub max_unused_percent: f64,
    /// Only plan; change nothing.
    pub dry_run: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { max_unused_percent: 5.0, dry_run: false }
    }
}

/// What prune did, or in a dry run would do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Packs before.
    pub packs: u64,
    /// Packs deleted because nothing in them is used, or no index lists them.
    pub packs_deleted: u64,
    /// Packs whose used blobs moved to new packs.
    pub packs_repacked: u64,
    /// Bytes the deleted packs took.
    pub bytes_deleted: u64,
    /// Bytes copied to new packs.
    pub bytes_repacked: u64,
    /// Unused bytes that stay.
    pub bytes_unused: u64,
}
