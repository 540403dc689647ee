//! A fingerprint of what users stored, whatever a server made of it.
//!
//! The digest of a key covers database, name, type, expiry and value, and nothing that a server is free to
//! choose: not the encoding, nor the order in sets, hashes and sorted sets. The digest of a keyspace is the
//! sum of its keys' digests, so it does not depend on their order either, and parts that were read apart
//! (databases, shards, threads) can be [merged](Keyspace::merge).
//!
//! Left out, because not every version keeps them and commands cannot set them: when and how often a key
//! was used, when consumers of a stream were seen, the figures of a stream that exist since 7.0 (the first
//! and the greatest deleted id, entries added, entries read by a group), and what Redis 8.6 remembers of a
//! stream's producers for some minutes.
//!
//! Every part is hashed with SHA-256 behind its length. A few unordered parts are sorted first, many are
//! summed; how hard it is to find two collections with one sum is told in `digest/multiset.rs`.

mod hash;
mod multiset;
mod unordered;

use crate::decode::{self, ModuleField, Pending, Stream, StreamId, Value};
use crate::entries::Entry;
use crate::error::Error;
use crate::value::Kind;
use hash::{Hash, Sink};
use multiset::Multiset;
use std::fmt;

/// Begins every key's digest. To be changed when anything below changes, so that digests of different
/// definitions never agree by mistake.
const KEY: &[u8] = b"coffer key digest 1";
const KEYSPACE: &[u8] = b"coffer keyspace digest 1";
const FUNCTION: &[u8] = b"coffer function digest 1";

/// A digest of 256 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest(pub [u8; 32]);

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The digest of a key with its value, whatever has expired. No string may be larger than `largest` bytes when unpacked.
///
/// # Errors
/// When the value cannot be decoded.
pub fn of_entry(entry: &Entry, largest: u64) -> Result<Digest, Error> {
    of_rest(entry, i64::MIN, largest).map(|(digest, _)| digest)
}

/// The same of what a server shows of a key at a moment, in milliseconds since 1970: nothing when its time has passed by
/// then, or that of all its fields, and no field whose time has passed. A server may hold those for a while.
///
/// # Errors
/// When the value cannot be decoded.
pub fn of_entry_at(entry: &Entry, now_ms: i64, largest: u64) -> Result<Option<Digest>, Error> {
    if is_over(entry.expires_at_ms, now_ms) {
        return Ok(None);
    }
    let (digest, rest) = of_rest(entry, now_ms, largest)?;
    Ok((rest == Rest::Some).then_some(digest))
}

fn is_over(expires_at_ms: Option<i64>, now_ms: i64) -> bool {
    expires_at_ms.is_some_and(|at_ms| at_ms <= now_ms)
}

/// What is left of a value without the fields whose time has passed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rest {
    Some,
    Nothing,
}

fn of_rest(entry: &Entry, now_ms: i64, largest: u64) -> Result<(Digest, Rest), Error> {
    let mut hash = Hash::of(KEY);
    let mut rest = Rest::Some;
    hash.number(entry.database);
    hash.text(&entry.key);
    hash.number(kind_number(entry.value_type.kind));
    hash.optional(entry.expires_at_ms);
    match decode::decode(entry.value_type, entry.body.clone(), largest)? {
        Value::String(text) => hash.text(&text),
        Value::List(elements) => {
            for element in elements {
                hash.text(&element?);
            }
        }
        Value::Set(elements) => hash.unordered(elements, |sink, element| sink.text(element))?,
        Value::SortedSet(members) => hash.unordered(members, |sink, member| {
            sink.text(&member.member);
            sink.float(member.score);
        })?,
        Value::Hash(fields) => {
            let (mut over, mut left) = (0_u64, 0_u64);
            let fields = fields.filter(|field| {
                let is_over =
                    field.as_ref().is_ok_and(|field| is_over(field.expires_at_ms, now_ms));
                match is_over {
                    true => over += 1,
                    false => left += 1,
                }
                !is_over
            });
            hash.unordered(fields, |sink, field| {
                sink.text(&field.name);
                sink.text(&field.value);
                sink.optional(field.expires_at_ms);
            })?;
            if over > 0 && left == 0 {
                rest = Rest::Nothing;
            }
        }
        Value::Stream(stream) => hash_stream(&mut hash, &stream)?,
        Value::Module(module) => {
            hash.number(module.id);
            for field in module {
                let (opcode, number) = match field? {
                    ModuleField::Signed(number) => (1, number),
                    ModuleField::Unsigned(number) => (2, number),
                    ModuleField::Float(number) => (3, u64::from(number.to_bits())),
                    ModuleField::Double(number) => (4, number.to_bits()),
                    ModuleField::Text(text) => {
                        hash.number(5);
                        hash.text(&text);
                        continue;
                    }
                };
                hash.number(opcode);
                hash.number(number);
            }
        }
    }
    Ok((hash.finish(), rest))
}

fn hash_stream(hash: &mut Hash, stream: &Stream) -> Result<(), Error> {
    let id = |hash: &mut Hash, id: StreamId| {
        hash.number(id.ms);
        hash.number(id.seq);
    };
    let mut len = 0;
    for entry in stream.entries()? {
        let entry = entry?;
        id(hash, entry.id);
        hash.number(entry.fields.len() as u64);
        for (name, value) in &entry.fields {
            hash.text(name);
            hash.text(value);
        }
        len += 1;
    }
    // Behind the entries, so that they need not be counted first.
    hash.number(len);
    id(hash, stream.last_id);
    let mut groups: Vec<_> = stream.groups()?.collect::<Result<_, _>>()?;
    groups.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    hash.number(groups.len() as u64);
    for group in &mut groups {
        hash.text(&group.name);
        id(hash, group.last_id);
        group.consumers.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        let pending = |hash: &mut Hash, pending: &[Pending]| {
            hash.number(pending.len() as u64);
            for entry in pending {
                id(hash, entry.id);
                hash.number(entry.delivered_at_ms.cast_unsigned());
                hash.number(entry.deliveries);
            }
        };
        pending(hash, &group.unowned);
        hash.number(group.consumers.len() as u64);
        for consumer in &group.consumers {
            hash.text(&consumer.name);
            pending(hash, &consumer.pending);
        }
    }
    Ok(())
}

/// Numbers of the kinds, fixed here since digests are kept.
const fn kind_number(kind: Kind) -> u64 {
    match kind {
        Kind::String => 0,
        Kind::List => 1,
        Kind::Set => 2,
        Kind::SortedSet => 3,
        Kind::Hash => 4,
        Kind::Stream => 5,
        Kind::Module => 6,
    }
}

/// The digest of a whole keyspace, in the making.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Keyspace {
    sum: Multiset,
}

impl Keyspace {
    /// Without any key.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a key by its digest.
    pub fn add(&mut self, key: &Digest) {
        self.sum.add(&key.0);
    }

    /// Adds a function library by its source.
    pub fn add_function(&mut self, source: &[u8]) {
        let mut hash = Hash::of(FUNCTION);
        hash.text(source);
        self.sum.add(&hash.finish().0);
    }

    /// Adds all that was added to another one.
    pub fn merge(&mut self, other: &Self) {
        self.sum.merge(&other.sum);
    }

    /// Keys and function libraries so far.
    #[must_use]
    pub const fn len(&self) -> u64 {
        self.sum.len()
    }

    /// Whether nothing was added.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The digest of all that was added.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let mut hash = Hash::of(KEYSPACE);
        self.sum.write(&mut hash);
        hash.finish()
    }
}

#[cfg(test)]
mod tests;
