//! The rounds of a scan: which keys are next, what is asked about them, what came of it.
//!
//! A round is one write and the answers to it. It asks for the values of some keys, for the sizes of those
//! of later rounds, and for more names when they get few; so every round can be cut to what fits into
//! memory, and a value known to be large goes alone. Two rounds are on their way: the server goes on with
//! the second while we take the first apart, and serves its other clients between them.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use coffer_rdb::resp::{self, Reply};
use coffer_rdb::strings::printable;
use coffer_rdb::target::{Feature, Target};
use coffer_rdb::value::Kind;
use tokio::time::sleep;

use super::pace::{self, Pacer};
use super::{stream, typed};
use crate::filter::Filter;
use crate::redis::{Client, Error, Server};

/// Values asked for at a time, in bytes of the server's memory. The text of `DUMP` is rarely larger.
const ROUND_BYTES: u64 = 1024 * 1024;
/// Where sizes are not known, so many values at a time.
const BLIND_KEYS: usize = 4;
/// Rounds on their way.
const IN_FLIGHT: usize = 2;
/// Names that one `SCAN` is to look at, at least: as many as a round takes, or it would be the longest part of one.
const FEWEST_NAMES: usize = 10;
/// A key whose time to live changes again and again while it is read is taken as it is after so many times.
const MOST_READS: u8 = 8;
/// Typed values of more than this are read in pieces.
const LARGE: u64 = 64 * 1024;
const NO_EXPIRY: i64 = -1;
const NO_KEY: i64 = -2;

/// A key as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Value {
    pub(super) database: u64,
    pub(super) key: Bytes,
    /// Milliseconds since 1970.
    pub(super) expires_at_ms: Option<i64>,
    /// What `DUMP` gave; with a kind the commands that write the value.
    pub(super) payload: Bytes,
    pub(super) kind: Option<Kind>,
}

/// A key to be read.
struct Name {
    key: Bytes,
    /// In the server's memory; `None` until it is known.
    bytes: Option<u64>,
    /// What `TYPE` says, where that is needed. A key without one is gone.
    kind: Option<Kind>,
    /// `TYPE` has been answered.
    asked: bool,
    /// `TYPE` and `MEMORY USAGE` have been asked.
    asks_type: bool,
    asks_size: bool,
    reads: u8,
}

impl Name {
    fn new(key: Bytes, reads: u8) -> Self {
        let (asked, asks_type, asks_size) = (false, false, false);
        Self { key, bytes: None, kind: None, asked, asks_type, asks_size, reads }
    }

    /// A value of typed commands that is not read by one command.
    fn takes_several(&self, field_ttls: bool) -> bool {
        self.kind == Some(Kind::Stream)
            || (self.kind == Some(Kind::Hash) && field_ttls)
            || self.bytes.is_some_and(|bytes| bytes > LARGE)
    }
}

/// When a key expires.
#[derive(Clone, Copy)]
struct Expiry {
    /// The server's answer.
    said: i64,
    /// What follows from it, in milliseconds since 1970, for a key that expires.
    at_ms: i64,
    /// Whether the clock stood still meanwhile.
    exact: bool,
}

/// What an answer is about.
enum Question {
    /// Of the name with this number.
    Size(u64),
    Type(u64),
    Names,
}

/// A round that is asked and not answered.
struct Sent {
    round: Vec<Name>,
    questions: Vec<Question>,
    begun: Instant,
}

/// What came of beginning a round.
enum Begun {
    Sent,
    /// A value that is to be read by itself.
    Alone(Name),
    /// There is nothing to ask for now.
    Nothing,
}

pub(super) struct Walker {
    client: Client,
    filter: Filter,
    /// Values are read by the commands of their types.
    typed: bool,
    /// Fields of a hash may have times to live of their own.
    field_ttls: bool,
    /// The server may be asked for sizes.
    sizes: bool,
    /// The user may have keys watched, so that a change shows in what is read in pieces.
    watches: bool,
    /// Values that changed whenever they were read in pieces.
    pub(super) torn: u64,
    /// `PEXPIRETIME`, since 7.0; before, the time left.
    absolute: bool,
    pacer: Pacer,
    pause: Duration,
    database: u64,
    /// Where `SCAN` goes on; none while it is asked, and at its end.
    cursor: Option<Bytes>,
    names: VecDeque<Name>,
    /// Number of the first of the names.
    first: u64,
    sent: VecDeque<Sent>,
}

impl Walker {
    pub(super) fn new(
        client: Client,
        server: &Server,
        filter: Filter,
        typed: bool,
        sizes: bool,
        watches: bool,
        pacer: Pacer,
    ) -> Self {
        let absolute = server.is_at_least(7, 0);
        let target = Target::from_info(&server.redis_version, server.valkey_version.as_deref());
        let field_ttls = target.can(Feature::FieldTtls);
        Self {
            client,
            filter,
            typed,
            field_ttls,
            sizes,
            watches,
            torn: 0,
            absolute,
            pacer,
            pause: Duration::ZERO,
            database: 0,
            cursor: None,
            names: VecDeque::new(),
            first: 0,
            sent: VecDeque::new(),
        }
    }

    /// Begins with a database.
    pub(super) async fn enter(&mut self, database: u64) -> Result<(), Error> {
        let index = database.to_string();
        // A cluster's only database needs no SELECT, and its servers allow none.
        if database != 0 || self.database != 0 {
            self.client.run(&[b"SELECT", index.as_bytes()]).await?;
        }
        self.database = database;
        self.cursor = Some(Bytes::from_static(b"0"));
        Ok(())
    }

    /// The values of the next round, possibly none; `None` at the end of the database.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<Value>>, Error> {
        while self.sent.len() < IN_FLIGHT {
            match self.begin_round().await? {
                Begun::Sent => {}
                Begun::Alone(name) => return self.read_in_pieces(name).await.map(Some),
                Begun::Nothing => break,
            }
        }
        match self.sent.pop_front() {
            Some(sent) => self.end_round(sent).await.map(Some),
            None => Ok(None),
        }
    }

    /// Asks, if there is anything to ask about.
    async fn begin_round(&mut self) -> Result<Begun, Error> {
        let mut round = self.choose();
        if self.typed && round.first().is_some_and(|name| name.takes_several(self.field_ttls)) {
            // It talks to and fro, so nothing else may be on its way.
            if !self.sent.is_empty() {
                round.into_iter().rev().for_each(|name| self.put_back(name));
                return Ok(Begun::Nothing);
            }
            if let Some(name) = round.pop() {
                return Ok(Begun::Alone(name));
            }
        }
        let mut questions = Vec::new();
        let mut out = BytesMut::new();
        resp::write_command(&mut out, &[b"TIME"]);
        let nothing = out.len();
        for name in &round {
            self.ask_value(&mut out, name);
        }
        // As many as the rounds on their way and the next one need.
        let ahead = self.pacer.keys() * (IN_FLIGHT + 1);
        for (number, name) in (self.first..).zip(&mut self.names).take(ahead) {
            if self.typed && !name.asks_type {
                resp::write_command(&mut out, &[b"TYPE", &name.key]);
                questions.push(Question::Type(number));
                name.asks_type = true;
            }
            if self.sizes && !name.asks_size {
                resp::write_command(&mut out, &[b"MEMORY", b"USAGE", &name.key]);
                questions.push(Question::Size(number));
                name.asks_size = true;
            }
        }
        if self.names.len() < ahead
            && let Some(cursor) = self.cursor.take()
        {
            let count = self.pacer.keys().max(FEWEST_NAMES).to_string();
            resp::write_command(&mut out, &[b"SCAN", &cursor, b"COUNT", count.as_bytes()]);
            questions.push(Question::Names);
        }
        if out.len() == nothing {
            return Ok(Begun::Nothing);
        }
        resp::write_command(&mut out, &[b"TIME"]);
        if !self.pause.is_zero() {
            sleep(self.pause).await;
        }
        let begun = Instant::now();
        self.client.send(&out).await?;
        self.sent.push_back(Sent { round, questions, begun });
        Ok(Begun::Sent)
    }

    /// Takes the answers.
    async fn end_round(&mut self, sent: Sent) -> Result<Vec<Value>, Error> {
        let Sent { round, questions, begun } = sent;
        let small = round.iter().all(|name| name.bytes.is_none_or(|bytes| bytes < 4096));
        let mut values = Vec::with_capacity(round.len());
        let begins = pace::time(&self.client.answer().await?);
        for name in round {
            self.read_value(name, &mut values).await?;
        }
        for question in questions {
            let reply = self.client.answer().await?;
            match question {
                Question::Size(number) => self.learn_size(number, &reply)?,
                Question::Type(number) => {
                    if let Some(name) = self.name(number) {
                        let key = name.key.clone();
                        let kind = typed::kind_of(&self.client, &key, &reply)?;
                        if let Some(name) = self.name(number) {
                            name.kind = kind;
                            name.asked = true;
                        }
                    }
                }
                Question::Names => self.learn_names(reply)?,
            }
        }
        let ends = pace::time(&self.client.answer().await?);
        let busy = self.pacer.busy([begins, ends], begun.elapsed());
        // Large values take their time, and say nothing about how many small ones would.
        self.pause = if small { self.pacer.learn(busy) } else { Duration::ZERO };
        Ok(values)
    }

    /// A name that waits, by its number.
    fn name(&mut self, number: u64) -> Option<&mut Name> {
        self.names.get_mut(usize::try_from(number.checked_sub(self.first)?).ok()?)
    }

    fn take_name(&mut self) -> Option<Name> {
        let name = self.names.pop_front()?;
        self.first += 1;
        Some(name)
    }

    fn put_back(&mut self, name: Name) {
        self.first -= 1;
        self.names.push_front(name);
    }

    /// The keys whose values are asked for next.
    fn choose(&mut self) -> Vec<Name> {
        let most = if self.sizes { self.pacer.keys() } else { BLIND_KEYS };
        let (mut chosen, mut sum) = (Vec::with_capacity(most), 0);
        while chosen.len() < most
            && let Some(name) = self.take_name()
        {
            let bytes = match (self.sizes, name.bytes) {
                (false, _) => 0,
                (true, Some(bytes)) => bytes,
                (true, None) => {
                    self.put_back(name);
                    break;
                }
            };
            if self.typed && !name.asked {
                self.put_back(name);
                break;
            }
            // A value that is read in pieces has a round of its own.
            let alone = self.typed && name.takes_several(self.field_ttls);
            if !chosen.is_empty() && (alone || sum + bytes > ROUND_BYTES) {
                self.put_back(name);
                break;
            }
            sum += bytes;
            chosen.push(name);
            if alone {
                break;
            }
        }
        chosen
    }

    fn expiry_command(&self) -> &'static [u8] {
        if self.absolute { b"PEXPIRETIME" } else { b"PTTL" }
    }

    /// The expiry is asked for twice: a value that was replaced in between shows by it.
    fn ask_value(&self, out: &mut BytesMut, Name { key, kind, .. }: &Name) {
        resp::write_command(out, &[self.expiry_command(), key]);
        match kind {
            Some(kind) if self.typed => typed::ask_small(out, *kind, key),
            _ if self.typed => {}
            _ => resp::write_command(out, &[b"DUMP", key]),
        }
        self.ask_expiry(out, key);
    }

    /// A time that is left says when it ends only together with the time at which that was said.
    fn ask_expiry(&self, out: &mut BytesMut, key: &[u8]) {
        if !self.absolute {
            resp::write_command(out, &[b"TIME"]);
        }
        resp::write_command(out, &[self.expiry_command(), key]);
        if !self.absolute {
            resp::write_command(out, &[b"TIME"]);
        }
    }

    async fn read_expiry(&mut self, key: &Bytes) -> Result<Expiry, Error> {
        if self.absolute {
            let reply = self.client.answer().await?;
            let said = self.expiry(key, &reply)?;
            return Ok(Expiry { said, at_ms: said, exact: true });
        }
        let before = stream::milliseconds(&self.client.answer().await?);
        let reply = self.client.answer().await?;
        let after = stream::milliseconds(&self.client.answer().await?);
        let said = self.expiry(key, &reply)?;
        // Where the server does not tell the time, ours has to do.
        let now_ms = after.unwrap_or_else(|| chrono::Utc::now().timestamp_millis());
        Ok(Expiry { said, at_ms: now_ms.saturating_add(said), exact: before == after || said < 0 })
    }

    async fn read_value(&mut self, name: Name, values: &mut Vec<Value>) -> Result<(), Error> {
        let before = self.client.answer().await?;
        let read = match (self.typed, name.kind) {
            (true, None) => None,
            _ => Some(self.client.answer().await?),
        };
        let after = self.read_expiry(&name.key).await?;
        let before = self.expiry(&name.key, &before)?;
        // Gone since its name was told.
        let Some(read) = read else { return Ok(()) };
        let changed = !self.is_same(before, after.said) || !after.exact;
        let payload = match (read, name.kind) {
            (Reply::Error(reply), Some(_)) if self.typed && reply.starts_with(b"WRONGTYPE") => {
                return self.again(name, &reply);
            }
            (Reply::Error(reply), _) => return Err(self.refused("DUMP", &name.key, &reply)),
            (read, Some(kind)) if self.typed => {
                typed::write_small(&self.client, kind, &name.key, read)?
            }
            (Reply::Bulk(Some(payload)), _) => payload,
            (Reply::Bulk(None), _) => return Ok(()),
            (other, _) => return Err(self.odd("DUMP", &other)),
        };
        if after.said == NO_KEY || payload.is_empty() {
            return Ok(());
        }
        if changed && name.reads < MOST_READS {
            return self.again(name, b"its time to live changes");
        }
        self.keep(name, after, payload, values);
        Ok(())
    }

    /// Puts a key back that changed while it was read.
    fn again(&mut self, name: Name, why: &[u8]) -> Result<(), Error> {
        if name.reads == MOST_READS {
            return Err(self.refused("a command that reads", &name.key, why));
        }
        let Name { key, reads, .. } = name;
        self.names.push_back(Name::new(key, reads + 1));
        Ok(())
    }

    async fn read_in_pieces(&mut self, name: Name) -> Result<Vec<Value>, Error> {
        let mut values = Vec::new();
        let Some(kind) = name.kind else { return Ok(values) };
        if self.watches {
            self.client.run(&[b"WATCH", &name.key]).await?;
        }
        let read = typed::read_large(&mut self.client, kind, &name.key, self.field_ttls).await;
        let payload = match read {
            Err(Error::Refused { reply, .. }) if reply.starts_with("WRONGTYPE") => {
                self.again(name, reply.as_bytes())?;
                return Ok(values);
            }
            read => read?,
        };
        let mut reads = 0;
        let after = loop {
            let mut out = BytesMut::new();
            self.ask_expiry(&mut out, &name.key);
            self.client.send(&out).await?;
            let after = self.read_expiry(&name.key).await?;
            reads += 1;
            if after.exact || reads == MOST_READS {
                break after;
            }
        };
        if self.watches && self.has_changed().await? {
            if name.reads < MOST_READS {
                self.again(name, b"it changes")?;
                return Ok(values);
            }
            self.torn += 1;
        }
        if after.said != NO_KEY && !payload.is_empty() {
            self.keep(name, after, payload, &mut values);
        }
        Ok(values)
    }

    /// Whether the key that is watched was written to, by a transaction that does nothing.
    async fn has_changed(&mut self) -> Result<bool, Error> {
        self.client.run(&[b"MULTI"]).await?;
        Ok(matches!(self.client.run(&[b"EXEC"]).await?, Reply::Array(None)))
    }

    fn keep(&self, name: Name, after: Expiry, payload: Bytes, values: &mut Vec<Value>) {
        let expires_at_ms = (after.said != NO_EXPIRY).then_some(after.at_ms);
        let (database, Name { key, kind, .. }) = (self.database, name);
        values.push(Value { database, key, expires_at_ms, payload, kind });
    }

    const fn is_same(&self, before: i64, after: i64) -> bool {
        if self.absolute || before < 0 || after < 0 { before == after } else { after <= before }
    }

    fn expiry(&self, key: &Bytes, reply: &Reply) -> Result<i64, Error> {
        match reply {
            Reply::Integer(number) => Ok(*number),
            Reply::Error(reply) => Err(self.refused("PEXPIRETIME", key, reply)),
            other => Err(self.odd("PEXPIRETIME", other)),
        }
    }

    fn learn_size(&mut self, number: u64, reply: &Reply) -> Result<(), Error> {
        let bytes = match reply {
            Reply::Integer(bytes) => u64::try_from(*bytes).unwrap_or(0),
            // It is gone: DUMP will say the same.
            Reply::Bulk(None) => 0,
            Reply::Error(reply) => {
                return Err(Error::from_reply(self.client.address(), "MEMORY USAGE", reply));
            }
            other => return Err(self.odd("MEMORY USAGE", other)),
        };
        if let Some(name) = self.name(number) {
            name.bytes = Some(bytes);
        }
        Ok(())
    }

    fn learn_names(&mut self, reply: Reply) -> Result<(), Error> {
        let (cursor, names) = match reply {
            Reply::Error(reply) => {
                return Err(Error::from_reply(self.client.address(), "SCAN", &reply));
            }
            Reply::Array(Some(pair)) => match <[Reply; 2]>::try_from(pair) {
                Ok([Reply::Bulk(Some(cursor)), Reply::Array(Some(names))]) => (cursor, names),
                Ok(_) | Err(_) => return Err(self.odd("SCAN", &Reply::Array(None))),
            },
            other => return Err(self.odd("SCAN", &other)),
        };
        self.cursor = Some(cursor).filter(|cursor| cursor != "0");
        for name in names {
            let Reply::Bulk(Some(key)) = name else { return Err(self.odd("SCAN", &name)) };
            if self.filter.takes_key(&key) {
                self.names.push_back(Name::new(key, 0));
            }
        }
        Ok(())
    }

    fn refused(&self, command: &str, key: &[u8], reply: &[u8]) -> Error {
        match Error::from_reply(self.client.address(), command, reply) {
            Error::Refused { address, command, reply } => {
                let command = format!("{command} {}", printable(key, 80));
                Error::Refused { address, command, reply }
            }
            other => other,
        }
    }

    fn odd(&self, command: &str, reply: &Reply) -> Error {
        Error::Answer {
            address: self.client.address().to_owned(),
            command: command.to_owned(),
            reply: printable(format!("{reply:?}").as_bytes(), 100),
        }
    }
}
