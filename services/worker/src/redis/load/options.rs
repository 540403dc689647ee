//! How a load treats what it meets. Without a word said, every key of the snapshot replaces one of its name.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::filter::Filter;
use crate::options::{OnConflict, OnLoss, Restore};

/// How to load.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadOptions {
    /// Which keys.
    pub filter: Filter,
    /// Databases that go to another number.
    pub mapping: BTreeMap<u64, u64>,
    /// About keys that are there.
    pub on_conflict: OnConflict,
    /// About what the server cannot hold.
    pub on_loss: OnLoss,
    /// Whether nothing is written.
    pub dry_run: bool,
    /// Most keys a second.
    pub keys_per_second: Option<u64>,
    /// Most bytes a second.
    pub bytes_per_second: Option<u64>,
    /// How long a server may be silent once all is sent, 0 for ever; as long as at any other time when absent.
    pub pipe_timeout: Option<Duration>,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self {
            filter: Filter::default(),
            mapping: BTreeMap::new(),
            on_conflict: OnConflict::Replace,
            on_loss: OnLoss::Fail,
            dry_run: false,
            keys_per_second: None,
            bytes_per_second: None,
            pipe_timeout: None,
        }
    }
}

impl From<&Restore> for LoadOptions {
    fn from(restore: &Restore) -> Self {
        Self {
            filter: restore.filter.clone(),
            mapping: restore.mapping.clone(),
            on_conflict: restore.on_conflict,
            on_loss: restore.on_loss,
            dry_run: restore.dry_run,
            keys_per_second: restore.keys_per_second,
            bytes_per_second: restore.bytes_per_second,
            pipe_timeout: restore.pipe_timeout,
        }
    }
}

impl LoadOptions {
    /// The database that keys of `database` go to.
    #[must_use]
    pub fn target_of(&self, database: u64) -> u64 {
        self.mapping.get(&database).copied().unwrap_or(database)
    }

    /// Two of these databases that would go to the same one, if there are such.
    #[must_use]
    pub fn collision(&self, databases: &BTreeSet<u64>) -> Option<(u64, u64)> {
        let mut targets = BTreeMap::new();
        let meant = databases.iter().filter(|database| self.filter.takes_database(**database));
        meant.copied().find_map(|database| {
            targets.insert(self.target_of(database), database).map(|other| (other, database))
        })
    }
}
