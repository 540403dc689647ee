//! Replays a dump of commands so that a repeat does no harm: Coffer's own, of `RESTORE`, Stash's, and what a
//! server's rewritten append-only file holds.
//!
//! Typed commands come per key one or several, interleaved with those of other keys. `redis-cli --pipe`
//! appends them to what is there, so a second restore doubles every list. Here each key is deleted before
//! its first command. What no such dump holds is refused by name.

use bytes::Bytes;
use coffer_rdb::entries::{Entry, Usage};
use coffer_rdb::payload;
use coffer_rdb::resp::CommandReader;
use coffer_rdb::strings::printable;
use coffer_rdb::value::{self, Kind};
use coffer_rdb::version::Version;

use super::Error;
use super::load::Loader;
use super::seen::Seen;

/// The last command of newer dumps sets this key to the number of keys, itself included.
const MARKER_KEY: &[u8] = b"__redisdump_total_keys";

/// A replay under way.
pub struct Replay {
    path: String,
    reader: CommandReader,
    seen: Seen,
    database: u64,
    announced: Option<u64>,
}

impl Replay {
    /// Begins in front of the first command; no command may be larger than `largest` bytes.
    #[must_use]
    pub fn new(path: &str, largest: u64) -> Self {
        Self {
            path: path.to_owned(),
            reader: CommandReader::new(largest),
            seen: Seen::default(),
            database: 0,
            announced: None,
        }
    }

    /// Sends on the commands in a piece of the dump.
    ///
    /// # Errors
    /// When it is no such dump, or the load fails.
    pub async fn feed(
        &mut self,
        piece: &[u8],
        loader: &mut Loader,
        now_ms: i64,
    ) -> Result<(), Error> {
        self.reader.feed(piece);
        let path = self.path.clone();
        let unreadable = |source| Error::Resp { path: path.clone(), source };
        while let Some(command) = self.reader.next().map_err(unreadable)? {
            let step = Step::parse(&command).ok_or_else(|| Error::Command {
                path: self.path.clone(),
                command: command.first().map(|name| printable(name, 40)).unwrap_or_default(),
                at: self.reader.position(),
            })?;
            match step {
                Step::Select(database) => {
                    self.database = database;
                    loader.enter(database);
                }
                Step::Total(total) => self.announced = Some(total),
                Step::Restore(restored) => {
                    let entry = self.entry(restored)?;
                    loader.restore(entry, now_ms).await?;
                }
                Step::Functions(payload) => loader.functions(&payload).await?,
                Step::Library(source) => loader.function(&source).await?,
                Step::Write { kind, what, key } => {
                    let key = &command[key];
                    let first = self.is_new(key, loader)?;
                    if !loader.takes(key) {
                        continue;
                    }
                    if first {
                        loader.delete(key).await?;
                    }
                    loader.write(&command, key, first.then_some(kind), what).await?;
                }
                Step::Expire { at_ms } => {
                    let key = &command[1];
                    if !loader.takes(key) {
                        continue;
                    }
                    if at_ms <= now_ms {
                        loader.count_expired();
                    }
                    loader.write(&command, key, None, "its expiry").await?;
                }
            }
        }
        Ok(())
    }

    /// Whether a key is named for the first time. Those that come whole need no such memory.
    fn is_new(&mut self, key: &[u8], loader: &Loader) -> Result<bool, Error> {
        if self.seen.len() == 0 {
            loader.check_typed()?;
        }
        Ok(self.seen.insert(self.database, key))
    }

    /// A value that came as the payload of a `DUMP`.
    fn entry(
        &self,
        Restored { key, expires_at_ms, usage, payload }: Restored,
    ) -> Result<Entry, Error> {
        let unreadable = |source| Error::Rdb { path: self.path.clone(), source };
        let payload = payload::parse(payload).map_err(unreadable)?;
        let version = Version::from_footer(payload.rdb_version);
        let value_type =
            value::lookup(payload.type_code, version).ok_or_else(|| Error::Unsupported {
                address: "any server".to_owned(),
                what: format!(
                    "key {} of database {}, of the type {}",
                    printable(&key, 80),
                    self.database,
                    payload.type_code
                ),
                why: format!("this version of Coffer does not know that type of {version}"),
            })?;
        let database = self.database;
        Ok(Entry { database, key, expires_at_ms, usage, value_type, body: payload.body })
    }

    /// Confirms that the dump ended between two commands. Says what is odd about it: a dump that
    /// announces more keys than it holds was cut short, or left out what its program could not read.
    ///
    /// # Errors
    /// When it is cut off.
    pub fn finish(self) -> Result<Option<String>, Error> {
        let Self { path, reader, seen, announced, .. } = self;
        reader.finish().map_err(|source| Error::Resp { path: path.clone(), source })?;
        let held = seen.len();
        Ok(announced.filter(|announced| *announced != held).map(|announced| {
            format!(
                "{path} announces {announced} keys and holds {held}: it was incomplete when it was made, \
                 or keys expired meanwhile (streams and module values are never in such a dump)"
            )
        }))
    }
}

/// A command understood.
enum Step {
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
    },
    Expire {
        at_ms: i64,
    },
}

/// `RESTORE` as Coffer's scan writes it.
struct Restored {
    key: Bytes,
    expires_at_ms: Option<i64>,
    usage: Option<Usage>,
    payload: Bytes,
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
    fn parse(command: &[Bytes]) -> Option<Self> {
        let name = command.first()?.to_ascii_uppercase();
        let values = command.len().checked_sub(2);
        let write = |kind, what, fits: bool| fits.then_some(Self::Write { kind, what, key: 1 });
        match name.as_slice() {
            b"SELECT" if command.len() == 2 => number(&command[1]).map(Self::Select),
            b"SET" if command.len() == 3 && command[1] == MARKER_KEY => {
                let total: u64 = number(&command[2])?;
                Some(Self::Total(total.saturating_sub(1)))
            }
            b"RESTORE" => Restored::parse(command).map(Self::Restore),
            b"FUNCTION" => Self::function(command),
            b"SET" => write(Kind::String, "string", values? == 1),
            b"RPUSH" => write(Kind::List, "list", values? >= 1),
            b"SADD" => write(Kind::Set, "set", values? >= 1),
            b"HSET" | b"HMSET" => {
                write(Kind::Hash, "hash", values? >= 2 && values?.is_multiple_of(2))
            }
            b"HPEXPIREAT" => write(Kind::Hash, "hash", values? >= 4),
            b"ZADD" => {
                write(Kind::SortedSet, "sorted set", values? >= 2 && values?.is_multiple_of(2))
            }
            b"XADD" => write(Kind::Stream, "stream", values? >= 3),
            b"XSETID" => write(Kind::Stream, "stream", values? >= 1),
            b"XCLAIM" | b"XTRIM" | b"XDEL" => write(Kind::Stream, "stream", values? >= 1),
            b"XGROUP" => {
                let made = command.get(1)?.to_ascii_uppercase();
                let known = matches!(made.as_slice(), b"CREATE" | b"CREATECONSUMER");
                let stream = Self::Write { kind: Kind::Stream, what: "stream", key: 2 };
                (known && command.len() >= 5).then_some(stream)
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
        Step::parse(&words)
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

    #[test]
    fn a_key_is_new_once_in_each_database() {
        let mut seen = Seen::default();
        assert!(seen.insert(0, b"k") && seen.insert(1, b"k") && seen.insert(0, b""));
        assert!(!seen.insert(0, b"k"));
        assert_eq!(seen.len(), 3);
    }
}
