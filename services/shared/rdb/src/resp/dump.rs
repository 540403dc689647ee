//! What the commands of a dump do: redis-dump-go's, an append-only file's, or our own of `RESTORE`.
//!
//! A dump is only replayed as far as each command is understood: which key it writes to, and that it means
//! the same whenever it is run. So relative times, scripts, and commands on several keys are refused, and
//! so is whatever would empty a server.

use crate::payload;
use crate::value::{self, Kind};
use crate::version::Version;
use bytes::Bytes;

/// The last command of newer redis-dump-go dumps sets this key to the number of keys, itself included. It
/// is a note and no key: it must be checked, and not be written.
pub const MARKER_KEY: &[u8] = b"__redisdump_total_keys";

/// What a command does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Goes to a database.
    Select(u64),
    /// Says how many keys the dump holds.
    Total(u64),
    /// Begins a transaction.
    Begin,
    /// Ends a transaction.
    Commit,
    /// Writes to a key; where it is the first one to do so, what was there before does not belong to it.
    Write {
        /// Of which kind the key is then.
        kind: Kind,
        /// The index of the key in the command.
        key: usize,
    },
    /// Sets, or with `None` removes, the expiry of a key.
    Expire {
        /// The index of the key in the command.
        key: usize,
        /// In milliseconds since 1970.
        at_ms: Option<i64>,
    },
    /// Deletes the keys from this index on.
    Delete {
        /// The index of the first of them.
        first_key: usize,
    },
    /// Loads a function library.
    Function,
}

/// Arguments behind the key.
#[derive(Clone, Copy)]
enum Shape {
    Exactly(usize),
    AtLeast(usize),
    /// One pair or more.
    Pairs,
}

use Shape::{AtLeast, Exactly, Pairs};

/// Commands whose key comes first, and that mean the same at any time.
const WRITES: &[(&[u8], Kind, Shape)] = &[
    (b"APPEND", Kind::String, Exactly(1)),
    (b"DECR", Kind::String, Exactly(0)),
    (b"DECRBY", Kind::String, Exactly(1)),
    (b"INCR", Kind::String, Exactly(0)),
    (b"INCRBY", Kind::String, Exactly(1)),
    (b"SETBIT", Kind::String, Exactly(2)),
    (b"SETRANGE", Kind::String, Exactly(2)),
    (b"PFADD", Kind::String, AtLeast(0)),
    (b"LPUSH", Kind::List, AtLeast(1)),
    (b"RPUSH", Kind::List, AtLeast(1)),
    (b"LPOP", Kind::List, AtLeast(0)),
    (b"RPOP", Kind::List, AtLeast(0)),
    (b"LINSERT", Kind::List, Exactly(3)),
    (b"LREM", Kind::List, Exactly(2)),
    (b"LSET", Kind::List, Exactly(2)),
    (b"LTRIM", Kind::List, Exactly(2)),
    (b"SADD", Kind::Set, AtLeast(1)),
    (b"SREM", Kind::Set, AtLeast(1)),
    (b"ZADD", Kind::SortedSet, Pairs),
    (b"ZREM", Kind::SortedSet, AtLeast(1)),
    (b"HSET", Kind::Hash, Pairs),
    (b"HMSET", Kind::Hash, Pairs),
    (b"HDEL", Kind::Hash, AtLeast(1)),
    (b"HPEXPIREAT", Kind::Hash, AtLeast(4)),
    (b"HPERSIST", Kind::Hash, AtLeast(3)),
    (b"XADD", Kind::Stream, AtLeast(3)),
    (b"XDEL", Kind::Stream, AtLeast(1)),
    (b"XTRIM", Kind::Stream, AtLeast(2)),
    (b"XSETID", Kind::Stream, AtLeast(1)),
    (b"XACK", Kind::Stream, AtLeast(2)),
    (b"XCLAIM", Kind::Stream, AtLeast(4)),
];

impl Step {
    /// What a command does; `None` if it is not one that can be replayed, or not of its shape.
    #[must_use]
    pub fn of(command: &[Bytes]) -> Option<Self> {
        let name = command.first()?.to_ascii_uppercase();
        let arguments = command.get(1..)?;
        match (name.as_slice(), arguments) {
            (b"SELECT", [database]) => number(database).map(Self::Select),
            (b"MULTI", []) => Some(Self::Begin),
            (b"EXEC", []) => Some(Self::Commit),
            (b"SET", [key, total]) if key == MARKER_KEY => {
                let total: u64 = number(total)?;
                Some(Self::Total(total.saturating_sub(1)))
            }
            // The marker is nothing else than that.
            (_, [key, ..]) if key == MARKER_KEY => None,
            (b"SET", [_, _, options @ ..]) => set(options),
            (b"RESTORE", [_, ttl, dumped, options @ ..]) => restore(ttl, dumped, options),
            (b"DEL" | b"UNLINK", [_, ..]) => Some(Self::Delete { first_key: 1 }),
            (b"EXPIREAT", [_, seconds]) => {
                let seconds: i64 = number(seconds)?;
                Some(Self::Expire { key: 1, at_ms: Some(seconds.checked_mul(1000)?) })
            }
            (b"PEXPIREAT", [_, ms]) => Some(Self::Expire { key: 1, at_ms: Some(number(ms)?) }),
            (b"PERSIST", [_]) => Some(Self::Expire { key: 1, at_ms: None }),
            (b"XGROUP", [_, _, _, ..]) => Some(Self::Write { kind: Kind::Stream, key: 2 }),
            (b"FUNCTION", [load, .., _]) if load.eq_ignore_ascii_case(b"LOAD") => {
                Some(Self::Function)
            }
            (name, [_, values @ ..]) => {
                let (_, kind, shape) = WRITES.iter().find(|(known, ..)| *known == name)?;
                shape.fits(values.len()).then_some(Self::Write { kind: *kind, key: 1 })
            }
            _ => None,
        }
    }
}

impl Shape {
    const fn fits(self, count: usize) -> bool {
        match self {
            Exactly(wanted) => count == wanted,
            AtLeast(least) => count >= least,
            Pairs => count >= 2 && count.is_multiple_of(2),
        }
    }
}

/// Only times that are absolute: any other would begin anew with each replay.
fn set(options: &[Bytes]) -> Option<Step> {
    match options {
        [] => {}
        [pxat, ms] if pxat.eq_ignore_ascii_case(b"PXAT") => {
            number::<i64>(ms)?;
        }
        _ => return None,
    }
    Some(Step::Write { kind: Kind::String, key: 1 })
}

fn restore(ttl: &Bytes, dumped: &Bytes, options: &[Bytes]) -> Option<Step> {
    let absolute = options.iter().any(|option| option.eq_ignore_ascii_case(b"ABSTTL"));
    if !absolute && number::<i64>(ttl)? != 0 {
        return None;
    }
    let payload = payload::parse(dumped.clone()).ok()?;
    let known = value::lookup(payload.type_code, Version::from_footer(payload.rdb_version))?;
    Some(Step::Write { kind: known.kind, key: 1 })
}

fn number<N: std::str::FromStr>(text: &Bytes) -> Option<N> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(line: &str) -> Option<Step> {
        let words: Vec<_> = line.split(' ').map(|word| Bytes::from(word.to_owned())).collect();
        Step::of(&words)
    }

    #[test]
    fn understands_what_dumps_hold() {
        let write = |kind| Some(Step::Write { kind, key: 1 });
        for (line, want) in [
            ("SELECT 3", Some(Step::Select(3))),
            ("SET __redisdump_total_keys 8", Some(Step::Total(7))),
            ("rpush l a b", write(Kind::List)),
            ("SET k v", write(Kind::String)),
            ("SET k v PXAT 99", write(Kind::String)),
            ("ZADD z 1 a 2 b", write(Kind::SortedSet)),
            ("HSET h f v", write(Kind::Hash)),
            ("XADD s 1-1 f v", write(Kind::Stream)),
            ("XGROUP CREATE s g 0", Some(Step::Write { kind: Kind::Stream, key: 2 })),
            ("EXPIREAT k 2", Some(Step::Expire { key: 1, at_ms: Some(2000) })),
            ("PEXPIREAT k 2", Some(Step::Expire { key: 1, at_ms: Some(2) })),
            ("PERSIST k", Some(Step::Expire { key: 1, at_ms: None })),
            ("DEL a b", Some(Step::Delete { first_key: 1 })),
            ("MULTI", Some(Step::Begin)),
            ("EXEC", Some(Step::Commit)),
            ("FUNCTION LOAD x", Some(Step::Function)),
        ] {
            assert_eq!(step(line), want, "{line}");
        }
    }

    #[test]
    fn refuses_what_is_not_a_dump_or_means_something_else_each_time() {
        for line in [
            "FLUSHALL",
            "HSET h f",
            "ZADD z 1",
            "SET k v EX 3",
            "EXPIRE k 3",
            "RPUSH l",
            "SELECT x",
            "EVAL x 0",
            "SELECT",
            "FUNCTION FLUSH",
            "RENAME a b",
            "RESTORE k 5 x",
            "DEL __redisdump_total_keys",
            "SET __redisdump_total_keys x",
        ] {
            assert_eq!(step(line), None, "{line}");
        }
    }

    #[test]
    fn a_payload_tells_its_kind_and_must_not_live_by_the_clock() {
        let body = b"\x01\x01a";
        let dumped = [&[2][..], body, &payload::footer(2, body, 10)].concat();
        let restore = |ttl: &str, option: &str| {
            let words = ["RESTORE", "k", ttl].map(|word| Bytes::from(word.to_owned()));
            let tail = [Bytes::from(dumped.clone()), Bytes::from(option.to_owned())];
            Step::of(&[&words[..], &tail].concat())
        };
        let write = Some(Step::Write { kind: Kind::Set, key: 1 });
        assert_eq!(restore("0", "REPLACE"), write);
        assert_eq!(restore("99", "ABSTTL"), write);
        assert_eq!(restore("99", "REPLACE"), None);
    }
}
