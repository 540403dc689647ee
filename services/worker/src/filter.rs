//! Which keys are meant: by database, by pattern, by type. Nothing said means all.

use std::collections::BTreeSet;

use coffer_rdb::value::Kind;

use crate::glob::Glob;

/// Which keys are meant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Databases; all when empty.
    pub databases: BTreeSet<u64>,
    /// The same as they were named: first and last of a range, twice the same of a number.
    pub named: Vec<(u64, u64)>,
    /// A key must fit one of these; any key when empty.
    pub include: Vec<Glob>,
    /// A key must fit none of these.
    pub exclude: Vec<Glob>,
    /// Types; all when empty.
    pub types: BTreeSet<Kind>,
}

impl Filter {
    /// Means these databases, too, each named by number or by range.
    pub fn add_databases(&mut self, named: impl IntoIterator<Item = (u64, u64)>) {
        for (first, last) in named {
            self.databases.extend(first..=last);
            self.named.push((first, last));
        }
    }

    /// What was named of which nothing is present: a number that is not, and a range none of which is. Nobody who says
    /// `0-15` says that there are keys in each of them.
    #[must_use]
    pub fn absent(&self, present: &BTreeSet<u64>) -> Vec<(u64, u64)> {
        let is_absent = |(first, last): &(u64, u64)| present.range(first..=last).next().is_none();
        self.named.iter().copied().filter(is_absent).collect()
    }

    /// Whether every key is meant.
    #[must_use]
    pub fn is_all(&self) -> bool {
        let Self { databases, named: _, include, exclude, types } = self;
        databases.is_empty() && include.is_empty() && exclude.is_empty() && types.is_empty()
    }

    /// Whether function libraries are meant, which belong to no key: whoever leaves keys out means all else; whoever says
    /// what is meant (databases, patterns, types) did not say functions.
    #[must_use]
    pub fn takes_functions(&self) -> bool {
        let Self { databases, named: _, include, exclude: _, types } = self;
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

/// Databases in words, each the first and the last of a range: `databases 0, 5-7`.
pub(crate) fn named(databases: &[(u64, u64)]) -> String {
    let word = |(first, last): &(u64, u64)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    };
    let words: Vec<String> = databases.iter().map(word).collect();
    match databases {
        [] => "no database".to_owned(),
        [(first, last)] if first == last => format!("database {first}"),
        _ => format!("databases {}", words.join(", ")),
    }
}
