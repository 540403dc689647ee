//! Locks.
use chrono::{DateTime, FixedOffset};

use crate::id::Id;

/// A lock in the repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockInfo {
    /// The id of its file.
    pub id: Id,
    /// When it was written or last refreshed.
    pub time: DateTime<FixedOffset>,
    /// Whether nobody else may work meanwhile.
    pub exclusive: bool,
    /// The holder's machine.
    pub hostname: String,
    /// The holder's user.
    pub username: String,
    /// The holder's process.
    pub pid: u32,
    /// Whether its holder is gone, by restic's rules.
    pub stale: bool,
}
