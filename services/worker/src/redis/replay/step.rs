//! Which commands a dump may hold, and what each means to a restore.

use bytes::Bytes;
use coffer_rdb::entries::Usage;
use coffer_rdb::target::Feature;
use coffer_rdb::value::Kind;

use crate::redis::load::Need;

/// The last command of Stash's newer dumps sets this key to the number of keys, itself included. Its restores leave the
/// key behind, and in a dump of Coffer's it is a key like any other.
const MARKER_KEY: &[u8] = b"__redisdump_total_keys";

/// A command understood.
pub(super) enum Step {
    Select(u64),
    /// The marker: keys in the dump.
    Total(u64),
    /// A value as a payload.
    Restore(Restored),
    /// What `FUNCTION DUMP` gave.
    Functions(Bytes),
    /// The source of one function library.
    Library(Bytes),
    Write {
        kind: Kind,
        what: &'static str,
        /// Which argument is the key.
        key: usize,
        needs: Option<Need>,
    },
    Expire {
        at_ms: i64,
    },
}

/// `RESTORE` as Coffer's scan writes it.
pub(super) struct Restored {
    pub(super) key: Bytes,
    pub(super) expires_at_ms: Option<i64>,
    pub(super) usage: Option<Usage>,
    pub(super) payload: Bytes,
}

impl Restored {
    fn parse(command: &[Bytes]) -> Option<Self> {
        let [_, key, ttl, payload, switches @ ..] = command else { return None };
        let ttl: i64 = number(ttl)?;
        let (mut absolute, mut usage) = (false, None);
        let mut switches = switches.iter();
        while let Some(switch) = switches.next() {
            match switch.to_ascii_uppercase().as_slice() {
                b"REPLACE" => {}
                b"ABSTTL" => absolute = true,
                b"IDLETIME" => usage = Some(Usage::IdleSeconds(number(switches.next()?)?)),
                b"FREQ" => usage = Some(Usage::Frequency(number(switches.next()?)?)),
                _ => return None,
            }
        }
        // A time from now on means nothing without knowing when that was.
        let expires_at_ms = match ttl {
            0 => None,
            at if absolute => Some(at),
            _ => return None,
        };
        Some(Self { key: key.clone(), expires_at_ms, usage, payload: payload.clone() })
    }
}

fn number<T: std::str::FromStr>(text: &[u8]) -> Option<T> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

impl Step {
    /// `None`: not a command of such a dump, or not of its shape.
    pub(super) fn parse(command: &[Bytes], ours: bool) -> Option<Self> {
        let name = command.first()?.to_ascii_uppercase();
        let values = command.len().checked_sub(2);
        let write = |kind: Kind, fits: bool| fits.then(|| Self::write(kind, 1, None));
        match name.as_slice() {
            b"SELECT" if command.len() == 2 => number(&command[1]).map(Self::Select),
            b"SET" if !ours && command.len() == 3 && command[1] == MARKER_KEY => {
                match number::<u64>(&command[2]) {
                    Some(total) => Some(Self::Total(total.saturating_sub(1))),
                    None => write(Kind::String, true),
                }
            }
            b"RESTORE" => Restored::parse(command).map(Self::Restore),
            b"FUNCTION" => Self::function(command),
            b"SET" => write(Kind::String, values? == 1),
            b"RPUSH" => write(Kind::List, values? >= 1),
            b"SADD" => write(Kind::Set, values? >= 1),
            b"HSET" | b"HMSET" => write(Kind::Hash, values? >= 2 && values?.is_multiple_of(2)),
            b"HPEXPIREAT" if values? >= 4 => {
                Some(Self::write(Kind::Hash, 1, Some(Need::FieldTime(number(&command[2])?))))
            }
            b"ZADD" => write(Kind::SortedSet, values? >= 2 && values?.is_multiple_of(2)),
            b"XADD" => write(Kind::Stream, values? >= 3),
            b"XSETID" if values? == 1 => Some(Self::write(Kind::Stream, 1, None)),
            b"XSETID" if values? == 5 => Some(Self::figures(1)),
            b"XCLAIM" | b"XTRIM" | b"XDEL" => write(Kind::Stream, values? >= 1),
            b"XGROUP" if command.len() >= 5 => {
                match command.get(1)?.to_ascii_uppercase().as_slice() {
                    b"CREATE" => Some(Self::write(Kind::Stream, 2, None)),
                    b"CREATECONSUMER" => Some(Self::write(
                        Kind::Stream,
                        2,
                        Some(Need::Feature(Feature::CreateConsumer)),
                    )),
                    // With the entries that were read, which is all that it is used for.
                    b"SETID" if command.len() == 7 => Some(Self::figures(2)),
                    _ => None,
                }
            }
            // A consumer's own history, which makes the consumer.
            b"XREADGROUP" if command.len() == 9 && command[8] == "0" => {
                Some(Self::write(Kind::Stream, 7, None))
            }
            b"EXPIREAT" if command.len() == 3 => {
                let seconds: i64 = number(&command[2])?;
                Some(Self::Expire { at_ms: seconds.saturating_mul(1000) })
            }
            b"PEXPIREAT" if command.len() == 3 => {
                Some(Self::Expire { at_ms: number(&command[2])? })
            }
            _ => None,
        }
    }

    const fn write(kind: Kind, key: usize, needs: Option<Need>) -> Self {
        let what = match kind {
            Kind::SortedSet => "sorted set",
            kind => kind.name(),
        };
        Self::Write { kind, what, key, needs }
    }

    const fn figures(key: usize) -> Self {
        Self::write(Kind::Stream, key, Some(Need::Feature(Feature::StreamFigures)))
    }

    fn function(command: &[Bytes]) -> Option<Self> {
        match command.get(1)?.to_ascii_uppercase().as_slice() {
            b"RESTORE" => Some(Self::Functions(command.get(2)?.clone())),
            b"LOAD" => Some(Self::Library(command.last().filter(|_| command.len() > 2)?.clone())),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Option<Step> {
        let words: Vec<Bytes> = line.split(' ').map(|w| Bytes::from(w.to_owned())).collect();
        Step::parse(&words, false)
    }

    #[test]
    fn the_marker_is_a_key_where_it_counts_nothing() {
        let marker = [&b"SET"[..], MARKER_KEY, b"8"].map(Bytes::copy_from_slice);
        assert!(matches!(Step::parse(&marker, false), Some(Step::Total(7))));
        assert!(matches!(Step::parse(&marker, true), Some(Step::Write { key: 1, .. })));
        let words = parse("SET __redisdump_total_keys words");
        assert!(matches!(words, Some(Step::Write { key: 1, .. })));
    }

    #[test]
    fn understands_what_such_dumps_hold_and_nothing_else() {
        assert!(matches!(parse("SELECT 3"), Some(Step::Select(3))));
        assert!(matches!(parse("SET __redisdump_total_keys 8"), Some(Step::Total(7))));
        assert!(matches!(parse("rpush l a b"), Some(Step::Write { kind: Kind::List, .. })));
        assert!(matches!(parse("EXPIREAT k 2"), Some(Step::Expire { at_ms: 2000 })));
        assert!(matches!(parse("XGROUP CREATE s g 0 MKSTREAM"), Some(Step::Write { key: 2, .. })));
        assert!(matches!(parse("FUNCTION RESTORE p REPLACE"), Some(Step::Functions(_))));
        let Some(Step::Restore(restored)) = parse("RESTORE k 5 p REPLACE ABSTTL FREQ 7") else {
            panic!()
        };
        assert_eq!((restored.expires_at_ms, restored.usage), (Some(5), Some(Usage::Frequency(7))));
        for wrong in [
            "FLUSHALL",
            "DEL k",
            "HSET h f",
            "ZADD z 1",
            "SET k v EX 3",
            "RPUSH l",
            "SELECT x",
            "EVAL x 0",
            "RESTORE k 5 payload REPLACE",
            "RESTORE k 0",
            "FUNCTION FLUSH",
            "FUNCTION LOAD",
            "XGROUP DESTROY s g",
            "XADD s 1-1",
            "SELECT",
        ] {
            assert!(parse(wrong).is_none(), "{wrong}");
        }
    }
}
