//! What a Redis holds, and how two of them differ: every key of every database with its type, value, time to live,
//! consumer groups and pending entries, read as a client reads them. DUMP would not do: it depends on the encoding.

mod read;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use anyhow::{Context as _, Result};

/// The most keys that a printed difference names of each sort.
const SHOWN: usize = 20;

/// All that a Redis holds, value by value as digests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fingerprint {
    keys: BTreeMap<(u32, Vec<u8>), Entry>,
    /// Digest of the code of each function library, by name.
    functions: BTreeMap<String, u64>,
}

/// One key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// As TYPE says.
    pub kind: String,
    /// Bytes of a string, elements of anything else.
    pub size: usize,
    /// Digest of the value; of a stream, of its entries.
    pub value: u64,
    /// Digest of what a stream has besides its entries: last id, groups, consumers, pending entries. Of a hash: the times
    /// to live of its fields.
    pub rest: u64,
    /// When it expires, in milliseconds since 1970.
    pub expires: Option<i64>,
}

impl Fingerprint {
    /// Keys of all databases.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// True without any key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Databases that hold a key.
    #[must_use]
    pub fn databases(&self) -> usize {
        self.keys.keys().map(|(database, _)| database).collect::<BTreeSet<_>>().len()
    }

    /// Keys by type.
    #[must_use]
    pub fn by_type(&self) -> BTreeMap<&str, usize> {
        let mut counts = BTreeMap::new();
        for entry in self.keys.values() {
            *counts.entry(entry.kind.as_str()).or_default() += 1;
        }
        counts
    }

    /// One key of a database.
    #[must_use]
    pub fn get(&self, database: u32, key: &[u8]) -> Option<&Entry> {
        self.keys.get(&(database, key.to_vec()))
    }
}

/// Reads every key of every database, without changing any.
///
/// # Errors
/// When the server cannot be read.
pub async fn fingerprint(client: &redis::Client) -> Result<Fingerprint> {
    let mut reader = read::Reader::new(client).await?;
    let mut keys = BTreeMap::new();
    for database in reader.databases().await? {
        for (key, entry) in
            reader.database(database).await.with_context(|| format!("read database {database}"))?
        {
            keys.insert((database, key), entry);
        }
    }
    Ok(Fingerprint { keys, functions: reader.functions().await? })
}

/// How `after` differs from `before`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Differences {
    /// Keys that are only in the first.
    pub lost: Vec<String>,
    /// Keys that are only in the second.
    pub added: Vec<String>,
    /// Keys in both that are not equal, and why.
    pub changed: Vec<String>,
}

impl Differences {
    /// True when both are equal.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lost.is_empty() && self.added.is_empty() && self.changed.is_empty()
    }
}

/// Compares two fingerprints key by key.
#[must_use]
pub fn compare(before: &Fingerprint, after: &Fingerprint) -> Differences {
    let name =
        |(database, key): &(u32, Vec<u8>)| format!("db{database} \"{}\"", key.escape_ascii());
    let mut differences = Differences::default();
    for (key, old) in &before.keys {
        match after.keys.get(key) {
            None => differences.lost.push(format!("{} ({})", name(key), old.kind)),
            Some(new) if old != new => {
                differences.changed.push(format!("{}: {}", name(key), why(old, new)))
            }
            Some(_) => {}
        }
    }
    let added = after.keys.iter().filter(|(key, _)| !before.keys.contains_key(*key));
    differences.added.extend(added.map(|(key, new)| format!("{} ({})", name(key), new.kind)));
    for (library, code) in &before.functions {
        match after.functions.get(library) {
            None => differences.lost.push(format!("function library {library:?}")),
            Some(other) if other != code => {
                differences.changed.push(format!("function library {library:?}: its code"))
            }
            Some(_) => {}
        }
    }
    let added = after.functions.keys().filter(|library| !before.functions.contains_key(*library));
    differences.added.extend(added.map(|library| format!("function library {library:?}")));
    differences
}

fn why(old: &Entry, new: &Entry) -> String {
    if old.kind != new.kind {
        return format!("was a {}, is a {}", old.kind, new.kind);
    }
    let mut reasons = Vec::new();
    if old.size != new.size {
        let unit = if old.kind == "string" { "bytes" } else { "elements" };
        reasons.push(format!("had {} {unit}, has {}", old.size, new.size));
    } else if old.value != new.value {
        reasons.push(format!("another {}", old.kind));
    }
    if old.rest != new.rest {
        let what = if old.kind == "hash" {
            "fields expire at other times"
        } else {
            "other groups, consumers, pending entries or ids"
        };
        reasons.push(what.to_owned());
    }
    let time =
        |expires: Option<i64>| expires.map_or_else(|| "never".to_owned(), |at| format!("at {at}"));
    if old.expires != new.expires {
        reasons.push(format!("expired {}, expires {}", time(old.expires), time(new.expires)));
    }
    reasons.join("; ")
}

impl fmt::Display for Differences {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { lost, added, changed } = self;
        for (sort, names) in [("lost", lost), ("added", added), ("changed", changed)] {
            for name in names.iter().take(SHOWN) {
                writeln!(f, "  {sort}: {name}")?;
            }
            if names.len() > SHOWN {
                writeln!(f, "  {sort}: … and {} more", names.len() - SHOWN)?;
            }
        }
        Ok(())
    }
}
