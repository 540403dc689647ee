//! The rounds of a scan: which keys are next, what is asked about them, what came of it.
//!
//! A round is one write and the answers to it. It asks for the values of some keys, for the sizes of those
//! of later rounds, and for more names when they get few; so every round can be cut to what fits into
//! memory, and a value known to be large goes alone. Two rounds may be on their way: the server goes on with
//! the second while we take the first apart.

mod answers;
mod names;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use coffer_rdb::entries::Usage;
use coffer_rdb::resp::{self, Reply};
use coffer_rdb::target::{Feature, Target};
use coffer_rdb::value::Kind;
use tokio::time::sleep;

use self::names::{Name, Names};
use super::pace::{self, Pacer};
use super::typed;
use super::usage;
use crate::filter::Filter;
use crate::redis::patience::{Patience, is_held_up};
use crate::redis::recent::Recent;
use crate::redis::{Client, Error, Server};

/// Values asked for at a time, in bytes of the server's memory. The text of `DUMP` is rarely larger.
const ROUND_BYTES: u64 = 1024 * 1024;
/// Where sizes are not known, so many values at a time.
const BLIND_KEYS: usize = 4;
/// Names that one `SCAN` is to look at, at least.
const FEWEST_NAMES: usize = 10;

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
    /// How it was used; not in canonical order.
    pub(super) usage: Option<Usage>,
}

/// What an answer is about.
enum Question {
    /// Of the name with this number.
    Size(u64),
    /// The same; elements, or the bytes of a string.
    Length(u64),
    Type(u64),
    /// From this cursor on.
    Names(Bytes),
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

/// What the server lets us ask.
pub(super) struct Rights {
    pub(super) sizes: bool,
    pub(super) watches: bool,
    pub(super) usage: Option<usage::Question>,
    /// Whether times to live are told as the moments at which they end.
    pub(super) absolute: bool,
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
    /// How values were used is asked for.
    usage: Option<usage::Question>,
    /// Values that changed whenever they were read in pieces.
    pub(super) torn: u64,
    /// `PEXPIRETIME`, since 7.0; before, the time left.
    absolute: bool,
    pacer: Pacer,
    pause: Duration,
    database: u64,
    /// Where `SCAN` goes on; none while it is asked, and at its end.
    cursor: Option<Bytes>,
    names: Names,
    recent: Recent,
    patience: Patience,
    sent: VecDeque<Sent>,
}

impl Walker {
    pub(super) fn new(
        client: Client,
        server: &Server,
        filter: Filter,
        typed: bool,
        Rights { sizes, watches, usage, absolute }: Rights,
        pacer: Pacer,
    ) -> Self {
        let target = Target::from_info(&server.redis_version, server.valkey_version.as_deref());
        let field_ttls = target.can(Feature::FieldTtls);
        let patience = Patience::new(client.wait());
        Self {
            client,
            filter,
            typed,
            field_ttls,
            sizes,
            watches,
            usage,
            torn: 0,
            absolute,
            pacer,
            pause: Duration::ZERO,
            database: 0,
            cursor: None,
            names: Names::default(),
            recent: Recent::default(),
            patience,
            sent: VecDeque::new(),
        }
    }

    /// Why the server's data are not those of before, if they are not.
    pub(super) async fn replaced_since(&mut self, then: &Server) -> Result<Option<String>, Error> {
        Ok(Server::ask(&mut self.client).await?.replaced_since(then))
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
        while self.sent.len() < self.pacer.in_flight() {
            match self.begin_round().await? {
                Begun::Sent => {}
                Begun::Alone(name) => return self.read_alone(name).await.map(Some),
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
                round.into_iter().rev().for_each(|name| self.names.put_back(name));
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
        // Those that are on their way when the names are asked for, when their sizes are, and the next.
        let ahead = self.pacer.keys() * (2 * self.pacer.in_flight() + 1);
        for (number, name) in self.names.numbered().take(ahead) {
            if self.typed && !name.asks_type {
                resp::write_command(&mut out, &[b"TYPE", &name.key]);
                questions.push(Question::Type(number));
                name.asks_type = true;
            }
            let length = name.kind.filter(|_| self.typed && !self.sizes && !name.asks_size);
            if let Some(command) = length.and_then(typed::length_command) {
                resp::write_command(&mut out, &[command, &name.key]);
                questions.push(Question::Length(number));
                name.asks_size = true;
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
            // Until it is answered, as many rounds as are on their way go without it.
            let count = (self.pacer.keys() * self.pacer.in_flight()).max(FEWEST_NAMES).to_string();
            resp::write_command(&mut out, &[b"SCAN", &cursor, b"COUNT", count.as_bytes()]);
            questions.push(Question::Names(cursor));
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
        let mut held_up: Option<Bytes> = None;
        for name in round {
            let (key, reads) = (name.key.clone(), name.reads);
            match self.read_value(name, &mut values).await {
                Err(Error::Refused { reply, .. }) if is_held_up(reply.as_bytes()) => {
                    self.names.push(Name::new(key, reads));
                    held_up = Some(reply.into());
                }
                read => read?,
            }
        }
        for question in questions {
            let reply = self.client.answer().await?;
            if let Reply::Error(reply) = &reply
                && is_held_up(reply)
            {
                self.ask_again(question);
                held_up = Some(reply.clone());
                continue;
            }
            match question {
                Question::Size(number) => self.learn_size(number, &reply)?,
                Question::Length(number) => self.learn_length(number, &reply),
                Question::Type(number) => {
                    if let Some(name) = self.names.get(number) {
                        name.kind = typed::kind_of(&self.client, &name.key, &reply)?;
                        name.typed = true;
                    }
                }
                Question::Names(_) => self.learn_names(reply)?,
            }
        }
        let ends = pace::time(&self.client.answer().await?);
        if let Some(reply) = held_up {
            self.patience.pause(self.client.address(), &reply).await?;
            return Ok(values);
        }
        self.patience.moved_on();
        let busy = self.pacer.busy([begins, ends], begun.elapsed());
        // Large values take their time, and say nothing about how many small ones would.
        self.pause = if small { self.pacer.learn(values.len(), busy) } else { Duration::ZERO };
        Ok(values)
    }

    /// Undoes a question that was not answered.
    fn ask_again(&mut self, question: Question) {
        let (number, typed) = match question {
            Question::Names(cursor) => {
                self.cursor = Some(cursor);
                return;
            }
            Question::Size(number) | Question::Length(number) => (number, false),
            Question::Type(number) => (number, true),
        };
        if let Some(name) = self.names.get(number) {
            if typed {
                name.asks_type = false;
            } else {
                name.asks_size = false;
            }
        }
    }

    /// Reads a value in pieces; puts its name back when the server is held up meanwhile.
    async fn read_alone(&mut self, name: Name) -> Result<Vec<Value>, Error> {
        let (key, reads) = (name.key.clone(), name.reads);
        match self.read_in_pieces(name).await {
            Err(Error::Refused { reply, .. }) if is_held_up(reply.as_bytes()) => {
                self.names.push(Name::new(key, reads));
                self.patience.pause(self.client.address(), reply.as_bytes()).await?;
                if self.watches {
                    // Whatever was begun ends here.
                    self.client.ask(&[b"DISCARD"]).await?;
                    self.client.ask(&[b"UNWATCH"]).await?;
                }
                Ok(Vec::new())
            }
            read => {
                self.patience.moved_on();
                read
            }
        }
    }

    /// The keys whose values are asked for next.
    fn choose(&mut self) -> Vec<Name> {
        let most = if self.sizes { self.pacer.keys() } else { BLIND_KEYS };
        let (mut chosen, mut sum) = (Vec::with_capacity(most), 0);
        while chosen.len() < most
            && let Some(name) = self.names.take()
        {
            let lengths = self.typed && name.kind.and_then(typed::length_command).is_some();
            let unsized_yet = name.bytes.is_none() && (self.sizes || lengths);
            if unsized_yet || self.typed && !name.typed {
                self.names.put_back(name);
                break;
            }
            let bytes = name.bytes.unwrap_or(0);
            // A value that is read in pieces has a round of its own.
            let alone = self.typed && name.takes_several(self.field_ttls);
            if !chosen.is_empty() && (alone || sum + bytes > ROUND_BYTES) {
                self.names.put_back(name);
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
        if let Some(question) = self.usage {
            resp::write_command(out, &[b"OBJECT", question.word(), key]);
        }
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
}
