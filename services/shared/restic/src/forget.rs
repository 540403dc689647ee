//! Which snapshots a keep policy keeps: pure, restic's rules.
use crate::snapshot::Snapshot;

/// What to keep; zero and empty mean "no rule". With no rule at all everything is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeepPolicy {
    /// The newest *n*.
    pub last: u32,
    /// The newest of each of the last *n* hours that have one; and so on.
    pub hourly: u32,
    /// Days.
    pub daily: u32,
    /// ISO weeks.
    pub weekly: u32,
    /// Months.
    pub monthly: u32,
    /// Years.
    pub yearly: u32,
    /// Snapshots that carry all tags of one of these lists.
    pub tags: Vec<Vec<String>>,
}

/// What snapshots are grouped by before the policy is applied to each group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupBy {
    /// The host.
    pub host: bool,
    /// The set of paths.
    pub paths: bool,
    /// The set of tags.
    pub tags: bool,
}

impl Default for GroupBy {
    fn default() -> Self {
        Self { host: true, paths: true, tags: false }
    }
}

/// What the snapshots of a group have in common; `None` where it was not asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct GroupKey {
    /// The host.
    pub host: Option<String>,
    /// The paths, sorted.
    pub paths: Option<Vec<String>>,
    /// The tags, sorted.
    pub tags: Option<Vec<String>>,
}

/// A snapshot that stays, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The snapshot.
    pub snapshot: Snapshot,
    /// The rules that keep it, in restic's words.
    pub reasons: Vec<String>,
}

/// The decision for one group; newest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// What they have in common.
    pub key: GroupKey,
    /// Those that stay.
    pub keep: Vec<Kept>,
    /// Those that go.
    pub remove: Vec<Snapshot>,
}

/// Applies the policy to each group.
#[must_use]
pub fn plan(_snapshots: Vec<Snapshot>, _group_by: GroupBy, _policy: &KeepPolicy) -> Vec<Group> {
    todo!()
}
