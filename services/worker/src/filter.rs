//! Which keys are meant: by database, by pattern, by type. Nothing said means all.

use std::collections::BTreeSet;

use coffer_rdb::value::Kind;

use crate::glob::Glob;

/// Which keys are meant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Databases; all when empty.
    pub databases: BTreeSet<u64>,
    /// A key must fit one of these; any key when empty.
    pub include: Vec<Glob>,
    /// A key must fit none of these.
    pub exclude: Vec<Glob>,
    /// Types; all when empty.
    pub types: BTreeSet<Kind>,
}

impl Filter {
    /// Whether every key is meant.
    #[must_use]
    pub fn is_all(&self) -> bool {
        let Self { databases, include, exclude, types } = self;
        databases.is_empty() && include.is_empty() && exclude.is_empty() && types.is_empty()
    }

    /// Whether function libraries are meant, which belong to no key: whoever leaves keys out means all else; whoever says
    /// what is meant (databases, patterns, types) did not say functions.
    #[must_use]
    pub fn takes_functions(&self) -> bool {
        let Self { databases, include, exclude: _, types } = self;
        databases.is_empty() && include.is_empty() && types.is_empty()
    }

    /// Whether a database may hold keys that are meant.
    #[must_use]
    pub fn takes_database(&self, database: u64) -> bool {
        self.databases.is_empty() || self.databases.contains(&database)
    }

    /// Whether a key of that name is meant, in a database that is.
    #[must_use]
    pub fn takes_key(&self, key: &[u8]) -> bool {
        (self.include.is_empty() || self.include.iter().any(|glob| glob.matches(key)))
            && !self.exclude.iter().any(|glob| glob.matches(key))
    }

    /// Whether values of that type are meant.
    #[must_use]
    pub fn takes_type(&self, kind: Kind) -> bool {
        self.types.is_empty() || self.types.contains(&kind)
    }
}
