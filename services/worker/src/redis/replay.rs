//! Replays a dump of commands so that a repeat does no harm: Coffer's own, of `RESTORE`, Stash's, and what a
//! server's rewritten append-only file holds.
//!
//! Typed commands come per key one or several, interleaved with those of other keys. `redis-cli --pipe`
//! appends them to what is there, so a second restore doubles every list. Here each key is deleted before
//! its first command. Coffer's own dumps hold all commands of a key in a row, so one that is named again later begins
//! anew, and nothing has to be remembered. What no such dump holds is refused by name.

mod fields;
mod kinds;
mod step;

use bytes::Bytes;
use coffer_rdb::entries::{Entry, Event};
use coffer_rdb::payload;
use coffer_rdb::resp::CommandReader;
use coffer_rdb::strings::printable;
use coffer_rdb::value;
use coffer_rdb::version::Version;

use self::kinds::Kinds;
use self::step::{Restored, Step};
use super::Error;
use super::load::Loader;
use super::seen::Seen;

/// A replay under way.
pub struct Replay {
    path: String,
    reader: CommandReader,
    /// Whether Coffer made the dump.
    ours: bool,
    seen: Seen,
    /// The key whose commands come, in a dump of ours.
    current: Option<(u64, Bytes)>,
    kinds: Kinds,
    /// Keys that were left out, of which there are few: what else the dump says of them is about others of their name.
    left_out: Seen,
    database: u64,
    announced: Option<u64>,
    /// The second half of a command that stands for two.
    half: Option<Vec<Bytes>>,
    /// Function libraries that came at once and are told one by one.
    libraries: Vec<Bytes>,
}

impl Replay {
    /// Begins in front of the first command; no command may be larger than `largest` bytes.
    #[must_use]
    pub fn new(path: &str, largest: u64) -> Self {
        Self {
            path: path.to_owned(),
            reader: CommandReader::new(largest),
            ours: false,
            seen: Seen::default(),
            current: None,
            kinds: Kinds::default(),
            left_out: Seen::default(),
            database: 0,
            announced: None,
            half: None,
            libraries: Vec::new(),
        }
    }

    /// Says whether Coffer made the dump, as its manifest shows.
    #[must_use]
    pub fn of_coffer(self, ours: bool) -> Self {
        Self { ours, ..self }
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
        // A scan may name a key twice.
        loader.expect_repeats();
        self.reader.feed(piece);
        while let Some((command, step)) = self.next()? {
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
                Step::Write { kind, what, key, needs } => {
                    let key = &command[key];
                    let first = self.is_new(key, loader)?;
                    if first {
                        loader.count_read();
                    }
                    if !loader.takes(key) {
                        continue;
                    }
                    if !loader.may_send(key, kind, first, needs)? {
                        if first {
                            self.left_out.insert(self.database, key);
                        }
                        continue;
                    }
                    self.left_out.remove(self.database, key);
                    if first {
                        self.kinds.insert(self.database, key, kind);
                        loader.delete(key).await?;
                    }
                    loader.write(&command, key, first.then_some(kind), what).await?;
                }
                Step::Expire { at_ms } => {
                    let key = &command[1];
                    if !loader.takes(key) || self.left_out.contains(self.database, key) {
                        continue;
                    }
                    if at_ms <= now_ms
                        && let Some(kind) = self.kinds.of(self.database, key)
                    {
                        loader.count_expired(kind);
                    }
                    loader.write(&command, key, None, "its expiry").await?;
                }
            }
        }
        Ok(())
    }

    /// Looks at the commands in a piece of the dump without sending any. What the target cannot hold is
    /// noted; with `in_the_way` a key or function library that is there is an error.
    ///
    /// # Errors
    /// When it is no such dump.
    pub async fn look_through(
        &mut self,
        piece: &[u8],
        loader: &mut Loader,
        in_the_way: bool,
    ) -> Result<(), Error> {
        self.reader.feed(piece);
        while let Some((command, step)) = self.next()? {
            match step {
                Step::Select(database) => {
                    self.database = database;
                    loader.enter(database);
                }
                Step::Restore(restored) => {
                    let entry = self.entry(restored)?;
                    loader.look_at(&entry)?;
                    loader.refuse_no_access(&entry).await?;
                    if in_the_way {
                        loader.refuse_in_the_way(&entry).await?;
                    }
                }
                Step::Functions(payload) => {
                    loader.look_at_functions();
                    if in_the_way {
                        loader.refuse_functions_in_the_way(&payload).await?;
                    }
                }
                Step::Library(source) => {
                    loader.look_at_functions();
                    if in_the_way {
                        loader.refuse_function_in_the_way(&source).await?;
                    }
                }
                Step::Write { kind, key, needs, .. } => {
                    let first = self.is_new(&command[key], loader)?;
                    loader.look_at_command(&command[key], kind, first, needs);
                    if first {
                        loader.refuse_no_access_to(&command[key]).await?;
                    }
                }
                Step::Total(_) | Step::Expire { .. } => {}
            }
        }
        Ok(())
    }

    /// Adds a piece of the dump, for [`Self::next_event`].
    pub fn push(&mut self, piece: &[u8]) {
        self.reader.feed(piece);
    }

    /// The next key or function library of a dump that holds values, not typed commands; `None` when the next
    /// piece is needed.
    ///
    /// # Errors
    /// When it is no such dump.
    pub fn next_event(&mut self) -> Result<Option<Event>, Error> {
        if let Some(source) = self.libraries.pop() {
            return Ok(Some(Event::Function(source)));
        }
        while let Some((command, step)) = self.next()? {
            match step {
                Step::Select(database) => self.database = database,
                Step::Restore(restored) => {
                    return self.entry(restored).map(|entry| Some(Event::Entry(entry)));
                }
                Step::Functions(payload) => {
                    let unreadable = |source| Error::Rdb { path: self.path.clone(), source };
                    self.libraries = payload::libraries(payload).map_err(unreadable)?;
                    if let Some(source) = self.libraries.pop() {
                        return Ok(Some(Event::Function(source)));
                    }
                }
                Step::Library(source) => return Ok(Some(Event::Function(source))),
                Step::Total(_) => {}
                Step::Write { .. } | Step::Expire { .. } => {
                    return Err(Error::Unsupported {
                        address: self.path.clone(),
                        what: format!("command {}", printable(&command[0], 40)),
                        why: "it says how a value is made, and not what it is: only dumps by replication or scan \
                              can be compared"
                            .to_owned(),
                    });
                }
            }
        }
        Ok(None)
    }

    fn next(&mut self) -> Result<Option<(Vec<Bytes>, Step)>, Error> {
        let path = &self.path;
        let unreadable = |source| Error::Resp { path: path.clone(), source };
        let command = match self.half.take() {
            Some(half) => half,
            None => match self.reader.next().map_err(unreadable)? {
                None => return Ok(None),
                Some(command) => match fields::apart(&command) {
                    None => command,
                    Some((set, expire)) => {
                        self.half = expire;
                        set
                    }
                },
            },
        };
        let step = Step::parse(&command, self.ours).ok_or_else(|| Error::Command {
            path: self.path.clone(),
            command: command.first().map(|name| printable(name, 40)).unwrap_or_default(),
            at: self.reader.position(),
        })?;
        Ok(Some((command, step)))
    }

    /// Whether a key's commands begin. Those that come whole need no such memory.
    fn is_new(&mut self, key: &Bytes, loader: &Loader) -> Result<bool, Error> {
        loader.check_typed()?;
        if !self.ours {
            return Ok(self.seen.insert(self.database, key));
        }
        let same = |(database, name): &(u64, Bytes)| *database == self.database && name == key;
        if self.current.as_ref().is_some_and(same) {
            return Ok(false);
        }
        self.current = Some((self.database, key.clone()));
        Ok(true)
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

#[cfg(test)]
mod tests {
    use super::Seen;

    #[test]
    fn a_key_is_new_once_in_each_database() {
        let mut seen = Seen::default();
        assert!(seen.insert(0, b"k") && seen.insert(1, b"k") && seen.insert(0, b""));
        assert!(!seen.insert(0, b"k"));
        assert_eq!(seen.len(), 3);
    }
}
