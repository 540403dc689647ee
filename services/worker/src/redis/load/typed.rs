//! The part of a load that serves dumps of typed commands, such as Stash's: a key is deleted, then written
//! by one command or several.

use std::borrow::Cow;

use bytes::Bytes;
use coffer_rdb::commands::{self, Pages};
use coffer_rdb::entries::Entry;
use coffer_rdb::resp::{self, Reply};
use coffer_rdb::strings::printable;
use coffer_rdb::value::Kind;

use super::answers::{Command, Counts, Expect, To};
use super::{Error, Loader, OnConflict, Throttle};

impl Loader {
    /// Says whether a dump of typed commands can be loaded as the options ask.
    ///
    /// # Errors
    /// When the commands do not say enough: a key's type shows only when it is written, and whether it was
    /// there before only when it is too late.
    pub(crate) fn check_typed(&self) -> Result<(), Error> {
        let why = if self.options.on_conflict != OnConflict::Replace {
            "onConflict needs a dump that Coffer made"
        } else if !self.options.filter.types.is_empty() {
            "a filter by type needs a dump that Coffer made"
        } else {
            return Ok(());
        };
        Err(Error::Unsupported {
            address: self.address(),
            what: "a dump of typed commands".to_owned(),
            why: format!("{why}: remove the param from the Task"),
        })
    }

    /// Goes to a database, as it is numbered in the dump.
    pub(crate) const fn enter(&mut self, database: u64) {
        self.database = database;
    }

    /// Whether a key of the database that was entered is meant.
    pub(crate) fn takes(&self, key: &[u8]) -> bool {
        self.options.filter.takes_database(self.database) && self.options.filter.takes_key(key)
    }

    /// Deletes a key before its parts are written, and counts it as replaced if it was there.
    pub(crate) async fn delete(&mut self, key: &Bytes) -> Result<(), Error> {
        self.may_ask_existing = true;
        let database = self.options.target_of(self.database);
        let command: &'static [u8] = if self.options.dry_run { b"EXISTS" } else { b"DEL" };
        self.send_first(Command {
            arguments: vec![Bytes::from_static(command), key.clone()],
            key: key.clone(),
            database,
            counts: Counts::Existed,
            what: Cow::Borrowed("what is there"),
            hops: 0,
        })
        .await
    }

    /// Sends a command that writes to a key; the first one of each key counts it.
    pub(crate) async fn write(
        &mut self,
        arguments: &[Bytes],
        key: &Bytes,
        kind: Option<Kind>,
        what: &'static str,
    ) -> Result<(), Error> {
        if self.options.dry_run {
            if let Some(kind) = kind {
                *self.tally.restored.entry(kind).or_default() += 1;
            }
            return Ok(());
        }
        let bytes = arguments.iter().map(Bytes::len).sum();
        if self.throttle.is_set()
            && let Some(due) = self.throttle.wait_for(bytes)
        {
            self.flush().await?;
            Throttle::until(due).await;
        }
        let database = self.options.target_of(self.database);
        self.send_first(Command {
            arguments: arguments.to_vec(),
            key: key.clone(),
            database,
            counts: kind.map_or(Counts::More, Counts::Key),
            what: Cow::Borrowed(what),
            hops: 0,
        })
        .await
    }

    /// Sends a command behind those that came back, since they may be of the same key.
    async fn send_first(&mut self, command: Command) -> Result<(), Error> {
        self.send_returned().await?;
        self.send_command(command, None).await
    }

    /// Sends a command to its key's server, or to where that said it is to go.
    pub(super) async fn send_command(
        &mut self,
        command: Command,
        again: Option<To>,
    ) -> Result<(), Error> {
        let lane = match &again {
            Some(to) => self.lanes.follow(to, &command.key, command.database).await?,
            None => {
                let lane = self.lanes.of(&command.key);
                lane.select(command.database).await?;
                lane
            }
        };
        if again.is_some_and(|to| matches!(to, To::Elsewhere { ask: true, .. })) {
            lane.pipe.admit(0, Expect::Nothing).await?;
            resp::write_command(&mut lane.pipe.buffer, &[b"ASKING"]);
        }
        let arguments = command.arguments.clone();
        let bytes = arguments.iter().map(Bytes::len).sum();
        lane.pipe.admit(bytes, Expect::Command(Box::new(command))).await?;
        resp::write_array(&mut lane.pipe.buffer, arguments.len());
        for argument in &arguments {
            resp::write_bulk_head(&mut lane.pipe.buffer, argument.len());
            // A large one is kept for its answer: no copy shall lie beside it.
            lane.pipe.body(argument).await?;
            lane.pipe.buffer.extend_from_slice(b"\r\n");
        }
        lane.pipe.let_pass(bytes).await
    }

    /// Writes a key of an RDB by the commands of its type, for a target that takes its value in no other way.
    pub(super) async fn write_commands(
        &mut self,
        entry: Entry,
        replaces: bool,
    ) -> Result<(), Error> {
        let (key, database, kind) = (entry.key.clone(), entry.database, entry.value_type.kind);
        if !replaces {
            // The first of the commands deletes what is there.
            let lane = self.lanes.of(&key);
            let there = lane.pipe.run(&[b"EXISTS", &key]).await?;
            if !matches!(there, Reply::Integer(0)) {
                if self.options.on_conflict == OnConflict::Skip {
                    self.tally.skipped += 1;
                    return Ok(());
                }
                return Err(Error::InTheWay { key: printable(&key, 80), database });
            }
        }
        let largest = self.largest_argument;
        let unreadable = |source| super::unreadable(&entry, source);
        let target = self.target.clone();
        let commands = commands::commands(&entry, &target, Pages::default(), largest);
        let mut first = true;
        for command in commands.map_err(unreadable)? {
            let command = command.map_err(unreadable)?;
            // The first deletes; those that were there are counted by a question of its own.
            let counts = match command.first() {
                Some(word) if first && &word[..] != b"UNLINK" => Counts::Key(kind),
                _ => Counts::More,
            };
            first &= matches!(counts, Counts::More);
            self.send_first(Command {
                arguments: command,
                key: key.clone(),
                database,
                counts,
                what: Cow::Borrowed(entry.value_type.name),
                hops: 0,
            })
            .await?;
        }
        Ok(())
    }

    /// Counts a key of the dump, whether it is meant or not.
    pub(crate) const fn count_read(&mut self) {
        self.tally.read += 1;
    }

    /// Counts a key as expired, and not as restored, that was written and whose time had passed.
    pub(crate) fn count_expired(&mut self, kind: Kind) {
        self.tally.expired += 1;
        *self.gone.entry(kind).or_default() += 1;
    }
}
