//! The rounds of a scan: which keys are next, what is asked about them, what came of it.
//!
//! A round is one write and the answers to it. It asks for the values of some keys, for the sizes of those
//! of the next round, and for more names when they get few; so every round can be cut to what fits into
//! memory, and a value known to be large goes alone.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use coffer_rdb::resp::{self, Reply};
use coffer_rdb::strings::printable;
use tokio::time::sleep;

use super::pace::Pacer;
use crate::filter::Filter;
use crate::redis::{Client, Error, Server};

/// Values asked for at a time, in bytes of the server's memory. The text of `DUMP` is rarely larger.
const ROUND_BYTES: u64 = 1024 * 1024;
/// Where sizes are not known, so many values at a time.
const BLIND_KEYS: usize = 4;
/// Names that one `SCAN` is to look at.
const SCAN_COUNT: &[u8] = b"100";
/// A key whose time to live changes again and again while it is read is taken as it is after so many times.
const MOST_READS: u8 = 8;
const NO_EXPIRY: i64 = -1;
const NO_KEY: i64 = -2;

/// A key as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Value {
    pub(super) database: u64,
    pub(super) key: Bytes,
    /// Milliseconds since 1970.
    pub(super) expires_at_ms: Option<i64>,
    pub(super) payload: Bytes,
}

/// A key to be read.
struct Name {
    key: Bytes,
    /// In the server's memory; `None` until it is known.
    bytes: Option<u64>,
    reads: u8,
}

/// What an answer is about.
enum Question {
    Size(usize),
    Names,
}

pub(super) struct Walker {
    client: Client,
    filter: Filter,
    /// The server may be asked for sizes.
    sizes: bool,
    /// `PEXPIRETIME`, since 7.0; before, the time left.
    absolute: bool,
    pacer: Pacer,
    pause: Duration,
    database: u64,
    cursor: Option<Bytes>,
    names: VecDeque<Name>,
}

impl Walker {
    pub(super) fn new(
        client: Client,
        server: &Server,
        filter: Filter,
        sizes: bool,
        pacer: Pacer,
    ) -> Self {
        let absolute = server.is_at_least(7, 0);
        let (pause, names) = (Duration::ZERO, VecDeque::new());
        Self { client, filter, sizes, absolute, pacer, pause, database: 0, cursor: None, names }
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
        let round = self.choose();
        let mut questions = Vec::new();
        let mut out = BytesMut::new();
        for name in &round {
            self.ask_value(&mut out, &name.key);
        }
        if self.sizes {
            for (index, name) in self.names.iter().enumerate().take(self.pacer.keys() * 2) {
                if name.bytes.is_none() {
                    resp::write_command(&mut out, &[b"MEMORY", b"USAGE", &name.key]);
                    questions.push(Question::Size(index));
                }
            }
        }
        if self.names.len() < self.pacer.keys() * 2
            && let Some(cursor) = &self.cursor
        {
            resp::write_command(&mut out, &[b"SCAN", cursor, b"COUNT", SCAN_COUNT]);
            questions.push(Question::Names);
        }
        if out.is_empty() {
            return Ok(None);
        }
        if !self.pause.is_zero() {
            sleep(self.pause).await;
        }
        let begun = Instant::now();
        self.client.send(&out).await?;
        let small = round.iter().all(|name| name.bytes.is_none_or(|bytes| bytes < 4096));
        let mut values = Vec::with_capacity(round.len());
        for name in round {
            self.read_value(name, &mut values).await?;
        }
        for question in questions {
            let reply = self.client.answer().await?;
            match question {
                Question::Size(index) => self.learn_size(index, &reply)?,
                Question::Names => self.learn_names(reply)?,
            }
        }
        // Large values take their time, and say nothing about how many small ones would.
        self.pause = if small { self.pacer.learn(begun.elapsed()) } else { Duration::ZERO };
        Ok(Some(values))
    }

    /// The keys whose values are asked for next.
    fn choose(&mut self) -> Vec<Name> {
        let most = if self.sizes { self.pacer.keys() } else { BLIND_KEYS };
        let (mut chosen, mut sum) = (Vec::with_capacity(most), 0);
        while chosen.len() < most
            && let Some(name) = self.names.pop_front()
        {
            let bytes = match (self.sizes, name.bytes) {
                (false, _) => 0,
                (true, Some(bytes)) => bytes,
                (true, None) => {
                    self.names.push_front(name);
                    break;
                }
            };
            if !chosen.is_empty() && sum + bytes > ROUND_BYTES {
                self.names.push_front(name);
                break;
            }
            sum += bytes;
            chosen.push(name);
        }
        chosen
    }

    fn expiry_command(&self) -> &'static [u8] {
        if self.absolute { b"PEXPIRETIME" } else { b"PTTL" }
    }

    /// The expiry is asked for twice: a value that was replaced in between shows by it.
    fn ask_value(&self, out: &mut BytesMut, key: &[u8]) {
        resp::write_command(out, &[self.expiry_command(), key]);
        resp::write_command(out, &[b"DUMP", key]);
        resp::write_command(out, &[self.expiry_command(), key]);
    }

    async fn read_value(&mut self, name: Name, values: &mut Vec<Value>) -> Result<(), Error> {
        let before = self.client.answer().await?;
        let dumped = self.client.answer().await?;
        let after = self.client.answer().await?;
        let before = self.expiry(&name.key, &before)?;
        let after = self.expiry(&name.key, &after)?;
        let payload = match dumped {
            Reply::Bulk(Some(payload)) => payload,
            Reply::Bulk(None) => return Ok(()),
            Reply::Error(reply) => return Err(self.refused("DUMP", &name.key, &reply)),
            other => return Err(self.odd("DUMP", &other)),
        };
        if after == NO_KEY {
            return Ok(());
        }
        if !self.is_same(before, after) && name.reads < MOST_READS {
            self.names.push_back(Name { reads: name.reads + 1, ..name });
            return Ok(());
        }
        let expires_at_ms = match after {
            NO_EXPIRY => None,
            at if self.absolute => Some(at),
            left => Some(now_ms().saturating_add(left)),
        };
        let database = self.database;
        values.push(Value { database, key: name.key, expires_at_ms, payload });
        Ok(())
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

    fn learn_size(&mut self, index: usize, reply: &Reply) -> Result<(), Error> {
        let bytes = match reply {
            Reply::Integer(bytes) => u64::try_from(*bytes).unwrap_or(0),
            // It is gone: DUMP will say the same.
            Reply::Bulk(None) => 0,
            Reply::Error(reply) => {
                return Err(Error::from_reply(self.client.address(), "MEMORY USAGE", reply));
            }
            other => return Err(self.odd("MEMORY USAGE", other)),
        };
        if let Some(name) = self.names.get_mut(index) {
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
                self.names.push_back(Name { key, bytes: None, reads: 0 });
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

/// Only for servers that tell no absolute times.
fn now_ms() -> i64 {
    chrono::Utc::now().timestamp_millis()
}
