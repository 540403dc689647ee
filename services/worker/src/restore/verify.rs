//! Reads the snapshot and the target again after a restore, and compares them key by key: what users
//! stored, whatever either server made of it.
//!
//! The target may be in use by then. A key or a field whose time came meanwhile is not missed; a key that somebody wrote
//! to is changed, and the restore cannot tell who it was.

use std::collections::HashSet;

use bytes::Bytes;
use coffer_api::outcome::Verified;
use coffer_rdb::digest;
use coffer_rdb::entries::{Entries, Entry, Event};
use coffer_rdb::strings::printable;
use coffer_rdb::target::Target;
use coffer_rdb::travel::{self, Loss, Travel};
use coffer_rdb::value;
use coffer_rdb::version::Version;
use coffer_runtime::Clock;

use super::source::{File, Source};
use crate::error::Error;
use crate::options;
use crate::redis::{self, LARGEST_VALUE_BYTES, ReadBack, Recent, Replay};

/// Keys compared at a time.
const MOST_KEYS: usize = 256;
/// Their values in the snapshot, in bytes; one that is larger goes alone.
const MOST_BYTES: usize = 4 << 20;
/// How far an expiry may be off that a server tells as the time left.
const CLOCK_MS: i64 = 2000;
/// Keys that are named.
const NAMED: usize = 10;
/// Keys that are remembered as changed. Of more than that not all will stand in the snapshot again.
const MOST_CHANGED: usize = 1000;
/// The type of hashes that every server knows: pairs of strings.
const PAIRS: u8 = 4;
/// The type of hashes whose fields expire in Redis.
const FIELDS_OF_REDIS: u8 = 24;

/// Whether the files can be compared with anything.
///
/// # Errors
/// When one of them says only how its values are made.
pub(super) fn check(files: &[File]) -> Result<(), Error> {
    match files.iter().find(|file| file.is_typed()) {
        None => Ok(()),
        Some(_) => Err(Error::Flag {
            flag: "verify",
            value: "true".to_owned(),
            problem: "the snapshot holds typed commands (of `method: portable`, or Stash's), which say how values are \
                      made and not what they are: only dumps by replication or scan can be compared",
        }),
    }
}

/// A comparison under way.
pub(super) struct Verification<'a> {
    read_back: ReadBack,
    target: Target,
    options: &'a options::Restore,
    clock: &'a Clock,
    batch: Vec<Entry>,
    bytes: usize,
    found: Verified,
    /// Keys of the snapshot that the target holds.
    present: u64,
    named: Vec<String>,
    recent: Recent,
    /// Keys that are not as they first stood in the snapshot, by database and name: they may stand there again.
    changed: HashSet<(u64, Bytes)>,
}

impl<'a> Verification<'a> {
    pub(super) fn new(
        read_back: ReadBack,
        target: Target,
        options: &'a options::Restore,
        clock: &'a Clock,
    ) -> Self {
        Self {
            read_back,
            target,
            options,
            clock,
            batch: Vec::new(),
            bytes: 0,
            found: Verified::default(),
            present: 0,
            named: Vec::new(),
            recent: Recent::default(),
            changed: HashSet::new(),
        }
    }

    /// Compares all files with the target.
    ///
    /// # Errors
    /// When a key is missing or not as it should be, or either cannot be read.
    pub(super) async fn run(mut self, source: &Source, files: &[File]) -> Result<Verified, Error> {
        for file in files {
            let path = file.path().to_owned();
            let mut reading = source.look_through(file).await?;
            if path.ends_with(".resp") {
                let mut replay = Replay::new(&path, super::LARGEST_COMMAND_BYTES)
                    .of_coffer(file.manifest().is_some());
                while let Some(chunk) = reading.next().await? {
                    replay.push(&chunk);
                    while let Some(event) = replay.next_event()? {
                        if let Event::Entry(entry) = event {
                            self.take(entry).await?;
                        }
                    }
                }
                replay.finish()?;
                continue;
            }
            let unreadable = |source| redis::Error::Rdb { path: path.clone(), source };
            let mut entries = Entries::new(LARGEST_VALUE_BYTES);
            while let Some(chunk) = reading.next().await? {
                entries.feed(chunk);
                while let Some(event) = entries.next().map_err(unreadable)? {
                    if let Event::Entry(entry) = event {
                        self.take(entry).await?;
                    }
                }
            }
            entries.finish().map_err(unreadable)?;
        }
        self.compare().await?;
        self.found.added = self.read_back.count().await?.saturating_sub(self.present);
        let Verified { keys, lost, changed, added } = self.found;
        if lost + changed == 0 {
            return Ok(self.found);
        }
        Err(Error::Unlike { keys, lost, changed, added, named: self.named.join(", ") })
    }

    async fn take(&mut self, entry: Entry) -> Result<(), Error> {
        let filter = &self.options.filter;
        let meant = filter.takes_database(entry.database)
            && filter.takes_key(&entry.key)
            && filter.takes_type(entry.value_type.kind);
        if !meant {
            return Ok(());
        }
        self.bytes += entry.body.len();
        self.batch.push(entry);
        if self.batch.len() < MOST_KEYS && self.bytes < MOST_BYTES {
            return Ok(());
        }
        self.compare().await
    }

    async fn compare(&mut self) -> Result<(), Error> {
        let batch = std::mem::take(&mut self.batch);
        self.bytes = 0;
        let names: Vec<(u64, Bytes)> = batch
            .iter()
            .map(|entry| (self.options.target_of(entry.database), entry.key.clone()))
            .collect();
        let now_ms = self.clock.now().timestamp_millis();
        let there = self.read_back.fetch(&names, now_ms).await?;
        let now_ms = self.clock.now().timestamp_millis();
        for (want, got) in batch.into_iter().zip(there) {
            let first = self.recent.is_new(want.database, &want.key);
            self.present += u64::from(got.is_some() && first);
            // Its time came, or did before it was restored.
            if want.expires_at_ms.is_some_and(|at| at <= now_ms) {
                continue;
            }
            self.judge(want, got, first, now_ms)?;
        }
        Ok(())
    }

    /// Compares a key; `first` unless it stood in the snapshot before, as it may in one by scan: then the last counts.
    fn judge(
        &mut self,
        want: Entry,
        got: Option<Entry>,
        first: bool,
        now_ms: i64,
    ) -> Result<(), Error> {
        let travels =
            travel::travel(want.value_type, &want.body, &self.target, LARGEST_VALUE_BYTES)
                .map_err(|source| unreadable(&want, source))?;
        let want = match travels {
            Travel::Whole(_) => want,
            Travel::Partly(_, Loss::FieldTtls { .. }) => as_type(want, PAIRS)?,
            Travel::Partly(_, Loss::FarFieldTtls { .. }) => as_type(want, FIELDS_OF_REDIS)?,
            // Reported as lost, and nothing that the target could show.
            Travel::Partly(..) | Travel::Lost(_) => return Ok(()),
        };
        let found = found(&want, got.as_ref(), self.read_back.is_exact(), now_ms)?;
        self.found.keys += u64::from(first && found != Found::Over);
        let name = format!("{} of database {}", printable(&want.key, 80), want.database);
        let place = (want.database, want.key.clone());
        let (count, what) = match found {
            Found::Lost => (&mut self.found.lost, "lost"),
            Found::Changed => (&mut self.found.changed, "changed"),
            Found::Same => {
                if self.changed.remove(&place) {
                    self.found.changed -= 1;
                    self.named.retain(|named| *named != format!("{name} (changed)"));
                }
                return Ok(());
            }
            Found::Over => return Ok(()),
        };
        if what == "changed" && self.changed.len() < MOST_CHANGED && !self.changed.insert(place) {
            return Ok(());
        }
        *count += 1;
        if self.named.len() < NAMED {
            self.named.push(format!("{name} ({what})"));
        }
        Ok(())
    }
}

/// A hash as that type of Redis holds it, without the times of fields that it has no place for.
fn as_type(entry: Entry, code: u8) -> Result<Entry, Error> {
    let Some(other) = value::lookup(code, Version::redis(12)) else { return Ok(entry) };
    let body = travel::reencode(entry.value_type, &entry.body, other, LARGEST_VALUE_BYTES)
        .map_err(|source| unreadable(&entry, source))?;
    Ok(Entry { value_type: other, body, ..entry })
}

/// What became of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    Same,
    Changed,
    Lost,
    /// The time of all its fields came: there is nothing to be missed.
    Over,
}

fn found(want: &Entry, got: Option<&Entry>, exact: bool, now_ms: i64) -> Result<Found, Error> {
    let same = got.map(|got| is_same(want, got, exact, now_ms)).transpose()?;
    Ok(match same {
        Some(true) => Found::Same,
        _ if digest_of(want, now_ms)?.is_none() => Found::Over,
        Some(false) => Found::Changed,
        None => Found::Lost,
    })
}

fn is_same(want: &Entry, got: &Entry, exact: bool, now_ms: i64) -> Result<bool, Error> {
    let expiry = match (want.expires_at_ms, got.expires_at_ms) {
        (Some(want), Some(got)) if !exact => want.abs_diff(got) <= CLOCK_MS.unsigned_abs(),
        (want, got) => want == got,
    };
    if !expiry {
        return Ok(false);
    }
    // Mostly the server keeps what it was given, and nothing has to be unpacked.
    if std::ptr::eq(want.value_type, got.value_type) && want.body == got.body {
        return Ok(true);
    }
    Ok(digest_of(want, now_ms)? == digest_of(got, now_ms)?)
}

/// Of the value alone, without the fields whose time has passed: the target drops them when it comes to it.
fn digest_of(entry: &Entry, now_ms: i64) -> Result<Option<digest::Digest>, Error> {
    let value = Entry { database: 0, expires_at_ms: None, ..entry.clone() };
    digest::of_entry_at(&value, now_ms, LARGEST_VALUE_BYTES)
        .map_err(|source| unreadable(entry, source))
}

fn unreadable(entry: &Entry, source: coffer_rdb::Error) -> Error {
    let path = format!("key {} of database {}", printable(&entry.key, 80), entry.database);
    redis::Error::Rdb { path, source }.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A hash in the layout of Redis since 7.4: fields, each with when it expires or 0.
    fn hash(fields: &[(&str, i64)]) -> Entry {
        let mut body = fields.iter().map(|(_, at)| *at).min().unwrap().to_le_bytes().to_vec();
        body.push(u8::try_from(fields.len()).unwrap());
        for (name, at_ms) in fields {
            // Counted from one below the smallest.
            body.push(u8::from(*at_ms > 0));
            for text in [*name, "v"] {
                body.push(u8::try_from(text.len()).unwrap());
                body.extend_from_slice(text.as_bytes());
            }
        }
        Entry {
            database: 0,
            key: Bytes::from_static(b"k"),
            expires_at_ms: None,
            usage: None,
            value_type: value::lookup(24, Version::redis(12)).unwrap(),
            body: body.into(),
        }
    }

    #[test]
    fn fields_whose_time_came_are_not_missed() {
        let found = |want: &Entry, got: Option<&Entry>, now_ms| {
            super::found(want, got, true, now_ms).unwrap()
        };
        let two = [hash(&[("a", 7000)]), hash(&[("a", 7000), ("b", 7000)])];
        let [one, both] = &two;
        assert_eq!(found(both, Some(one), 6999), Found::Changed);
        assert_eq!(found(one, None, 6999), Found::Lost);
        assert_eq!(found(one, Some(one), 7000), Found::Same);
        assert_eq!(found(both, Some(one), 7000), Found::Same);
        assert_eq!(found(one, None, 7000), Found::Over);
        let lasting = hash(&[("c", 0)]);
        assert_eq!(found(&lasting, None, 7000), Found::Lost);
        assert_eq!(found(&lasting, Some(one), 7000), Found::Changed);
    }
}
