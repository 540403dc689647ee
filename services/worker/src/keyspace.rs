//! What is in a dump: the digest of all that users stored, counted key by key as the bytes pass by. One value is in memory
//! at a time.
//!
//! A scan in the server's order may name a key twice, and what it says last counts: such a dump is read with the digest of
//! [each](Contents::each) key at hand.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use coffer_rdb::digest::{self, Digest, Keyspace};
use coffer_rdb::entries::{Entries, Entry, Event};
use coffer_rdb::strings::printable;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use crate::redis::{Error, Replay};

/// No value may be larger.
const LARGEST_BYTES: u64 = 1 << 30;
/// Chunks that wait for a digest in the making.
const QUEUE: usize = 4;

/// Keys by database and name.
pub type Keys = BTreeMap<(u64, Bytes), Known>;

/// What is remembered of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    /// Of all that a user stored under it.
    pub digest: Digest,
    /// When it expires, in milliseconds since 1970.
    pub expires_at_ms: Option<i64>,
}

/// What was read.
#[derive(Debug, Default)]
pub struct Contents {
    /// Of the keys, where they are not kept one by one.
    sum: Keyspace,
    /// Sources of the function libraries: those of a cluster are in each of its servers, and count once.
    pub libraries: BTreeSet<Bytes>,
    /// The digest of each key, when it is wanted, or when a key may come twice: some 170 bytes a key.
    pub each: Option<Keys>,
    /// Keys and fields whose time had passed by then, in milliseconds since 1970, count nowhere: a server may hold them for
    /// a while, and shows them to nobody. All count when absent.
    pub as_of_ms: Option<i64>,
    /// The database that counts alone, and without libraries, which belong to none; all when absent.
    pub only: Option<u64>,
}

impl Contents {
    /// The digest of all that was read.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let mut sum = self.sum.clone();
        self.each.iter().flatten().for_each(|(_, known)| sum.add(&known.digest));
        self.libraries.iter().for_each(|library| sum.add_function(library));
        sum.digest()
    }

    /// Keys.
    #[must_use]
    pub fn keys(&self) -> u64 {
        self.sum.len() + self.each.as_ref().map_or(0, |each| each.len() as u64)
    }

    /// Forgets the keys, kept one by one, whose time has passed by now: a server that was read later no longer had them.
    pub fn forget_over(&mut self, now_ms: i64) {
        if let Some(each) = &mut self.each {
            each.retain(|_, known| known.expires_at_ms.is_none_or(|at_ms| at_ms > now_ms));
        }
    }

    /// Adds what another part holds.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.sum.merge(&other.sum);
        self.libraries.extend(other.libraries.iter().cloned());
    }

    fn event(&mut self, path: &str, event: Event) -> Result<(), Error> {
        match event {
            Event::Entry(entry) if self.only.is_none_or(|only| only == entry.database) => {
                let as_of_ms = self.as_of_ms.unwrap_or(i64::MIN);
                let digest =
                    digest::of_entry_at(&entry, as_of_ms, LARGEST_BYTES).map_err(|source| {
                        let key = printable(&entry.key, 80);
                        let path = format!("key {key} of database {} in {path}", entry.database);
                        Error::Rdb { path, source }
                    })?;
                let Entry { database, key, expires_at_ms, .. } = entry;
                match (&mut self.each, digest) {
                    (Some(each), Some(digest)) => {
                        // A copy: a slice would keep alive all that it was cut from.
                        let key = Bytes::copy_from_slice(&key);
                        each.insert((database, key), Known { digest, expires_at_ms });
                    }
                    (Some(each), None) => drop(each.remove(&(database, key))),
                    (None, Some(digest)) => self.sum.add(&digest),
                    (None, None) => {}
                }
            }
            Event::Function(code) if self.only.is_none() => {
                self.libraries.insert(Bytes::copy_from_slice(&code));
            }
            _ => {}
        }
        Ok(())
    }
}

/// Reads a dump of either kind piece by piece.
pub struct Reader {
    path: String,
    kind: Kind,
}

enum Kind {
    Rdb(Box<Entries>),
    Resp(Box<Replay>),
}

impl Reader {
    /// Begins in front of the first byte. A name that ends in `.resp` is that of commands.
    #[must_use]
    pub fn of(path: &str) -> Self {
        let kind = if path.ends_with(".resp") {
            Kind::Resp(Box::new(Replay::new(path, LARGEST_BYTES)))
        } else {
            Kind::Rdb(Box::new(Entries::new(LARGEST_BYTES)))
        };
        Self { path: path.to_owned(), kind }
    }

    /// Counts what is whole by now.
    ///
    /// # Errors
    /// When it is no such dump, or holds what nothing here can read.
    pub fn feed(&mut self, chunk: Bytes, contents: &mut Contents) -> Result<(), Error> {
        let path = &self.path;
        match &mut self.kind {
            Kind::Rdb(entries) => {
                entries.feed(chunk);
                let next = |entries: &mut Entries| {
                    entries.next().map_err(|source| Error::Rdb { path: path.clone(), source })
                };
                while let Some(event) = next(entries)? {
                    contents.event(path, event)?;
                }
            }
            Kind::Resp(replay) => {
                replay.push(&chunk);
                while let Some(event) = replay.next_event()? {
                    contents.event(path, event)?;
                }
            }
        }
        Ok(())
    }

    /// Confirms that the dump came to its end.
    ///
    /// # Errors
    /// When it did not.
    pub fn finish(self) -> Result<(), Error> {
        let Self { path, kind } = self;
        match kind {
            Kind::Rdb(entries) => entries.finish().map_err(|source| Error::Rdb { path, source }),
            Kind::Resp(replay) => replay.finish().map(drop),
        }
    }
}

/// A digest in the making, by a thread of its own, beside the dump's way to the gateway.
pub(crate) struct Counting {
    chunks: mpsc::Sender<Bytes>,
    counted: AbortOnDropHandle<Result<Contents, Error>>,
}

impl Counting {
    pub(crate) fn start(path: &str) -> Self {
        let mut reader = Reader::of(path);
        let (chunks, mut waiting) = mpsc::channel::<Bytes>(QUEUE);
        let count = move || {
            let mut contents = Contents::default();
            while let Some(chunk) = waiting.blocking_recv() {
                reader.feed(chunk, &mut contents)?;
            }
            reader.finish()?;
            Ok(contents)
        };
        Self { chunks, counted: AbortOnDropHandle::new(tokio::task::spawn_blocking(count)) }
    }

    /// Hands over the next piece. What cannot be counted is told at the end.
    pub(crate) async fn push(&self, chunk: &Bytes) {
        let _ = self.chunks.send(chunk.clone()).await;
    }

    /// What was counted.
    pub(crate) async fn finish(self) -> Result<Contents, Error> {
        let Self { chunks, counted } = self;
        drop(chunks);
        let gone = || Error::Scratch {
            act: "digest",
            source: std::io::Error::other("the digest ended without a result"),
        };
        counted.await.map_err(|_| gone())?
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use coffer_rdb::{value, version::Version};

    fn contents(keys: &[(&'static str, &'static str)], each: bool) -> Contents {
        let mut contents = Contents {
            each: each.then(Keys::default),
            as_of_ms: Some(1000),
            ..Contents::default()
        };
        for (key, text) in keys {
            let mut body = vec![u8::try_from(text.len()).unwrap()];
            body.extend_from_slice(text.as_bytes());
            let entry = Entry {
                database: 0,
                key: Bytes::from_static(key.as_bytes()),
                expires_at_ms: (*text == "over").then_some(1000),
                usage: None,
                value_type: value::lookup(0, Version::redis(10)).unwrap(),
                body: body.into(),
            };
            contents.event("dump", Event::Entry(entry)).unwrap();
        }
        contents
    }

    #[test]
    fn what_is_said_last_of_a_key_counts() {
        let once = contents(&[("a", "new"), ("b", "x")], false);
        for order in [false, true] {
            assert_eq!(contents(&[("b", "x"), ("a", "new")], order).digest(), once.digest());
        }
        let twice = contents(&[("a", "old"), ("b", "x"), ("a", "new")], true);
        assert_eq!((twice.digest(), twice.keys()), (once.digest(), 2));
        let gone = contents(&[("b", "x"), ("c", "old"), ("a", "new"), ("c", "over")], true);
        assert_eq!((gone.digest(), gone.keys()), (once.digest(), 2));
    }
}
