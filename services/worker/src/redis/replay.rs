//! Replays Stash's `/dumpfile.resp` so that a repeat does no harm.
//!
//! The dump is what redis-dump-go wrote: per key one command or several, interleaved with those of other
//! keys. `redis-cli --pipe` appends them to what is there, so a second restore doubles every list. Here
//! each key is deleted before its first command. What no such dump holds is refused by name.

use bytes::Bytes;
use coffer_rdb::resp::CommandReader;
use coffer_rdb::strings::printable;
use coffer_rdb::value::Kind;

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
        let unreadable = |source| Error::Resp { path: self.path.clone(), source };
        while let Some(command) = self.reader.next().map_err(unreadable)? {
            let step = Step::parse(&command).ok_or_else(|| Error::Command {
                path: self.path.clone(),
                command: command.first().map(|name| printable(name, 40)).unwrap_or_default(),
                at: self.reader.position(),
            })?;
            match step {
                Step::Select(database) => {
                    self.database = database;
                    loader.select(database).await?;
                }
                Step::Total(total) => self.announced = Some(total),
                Step::Write { kind, what } => {
                    let key = &command[1];
                    let first = self.seen.insert(self.database, key);
                    if first {
                        // A dump that never selects is one of database 0.
                        loader.select(self.database).await?;
                        loader.delete(key).await?;
                    }
                    loader.write(&command, first.then_some(kind), what).await?;
                }
                Step::Expire { at_ms } => {
                    if at_ms <= now_ms {
                        loader.count_expired();
                    }
                    loader.write(&command, None, "its expiry").await?;
                }
            }
        }
        Ok(())
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
    Write {
        kind: Kind,
        what: &'static str,
    },
    Expire {
        at_ms: i64,
    },
}

impl Step {
    /// `None`: not a command of such a dump, or not of its shape.
    fn parse(command: &[Bytes]) -> Option<Self> {
        let name = command.first()?.to_ascii_uppercase();
        let values = command.len().checked_sub(2);
        let text = |index: usize| std::str::from_utf8(command.get(index)?).ok();
        let write = |kind, what, fits: bool| fits.then_some(Self::Write { kind, what });
        match name.as_slice() {
            b"SELECT" if command.len() == 2 => text(1)?.parse().ok().map(Self::Select),
            b"SET" if command.len() == 3 && command[1] == MARKER_KEY => {
                let total: u64 = text(2)?.parse().ok()?;
                Some(Self::Total(total.saturating_sub(1)))
            }
            b"SET" => write(Kind::String, "string", values? == 1),
            b"RPUSH" => write(Kind::List, "list", values? >= 1),
            b"SADD" => write(Kind::Set, "set", values? >= 1),
            b"HSET" | b"HMSET" => {
                write(Kind::Hash, "hash", values? >= 2 && values?.is_multiple_of(2))
            }
            b"ZADD" => {
                write(Kind::SortedSet, "sorted set", values? >= 2 && values?.is_multiple_of(2))
            }
            b"EXPIREAT" if command.len() == 3 => {
                let seconds: i64 = text(2)?.parse().ok()?;
                Some(Self::Expire { at_ms: seconds.saturating_mul(1000) })
            }
            b"PEXPIREAT" if command.len() == 3 => {
                Some(Self::Expire { at_ms: text(2)?.parse().ok()? })
            }
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
        for wrong in [
            "FLUSHALL",
            "DEL k",
            "HSET h f",
            "ZADD z 1",
            "SET k v EX 3",
            "RPUSH l",
            "SELECT x",
            "EVAL x 0",
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
