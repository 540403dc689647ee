//! What came of the questions of a round. The expiry is asked for twice: a value that was replaced in between shows by it.

use bytes::{Bytes, BytesMut};
use coffer_rdb::entries::Usage;
use coffer_rdb::resp::Reply;
use coffer_rdb::strings::printable;
use coffer_rdb::value::Kind;

use super::names::Name;
use super::{Value, Walker};
use crate::redis::Error;
use crate::redis::patience::is_held_up;
use crate::redis::scan::{stream, typed};

/// A key whose time to live changes again and again while it is read is taken as it is after so many times.
const MOST_READS: u8 = 8;
/// An element counts for so much where only their number is known.
const ELEMENT_BYTES: u64 = 64;
const NO_EXPIRY: i64 = -1;
const NO_KEY: i64 = -2;

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

impl Walker {
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

    pub(super) async fn read_value(
        &mut self,
        name: Name,
        values: &mut Vec<Value>,
    ) -> Result<(), Error> {
        let before = self.client.answer().await?;
        let usage = match self.usage {
            Some(_) => Some(self.client.answer().await?),
            None => None,
        };
        let read = match (self.typed, name.kind) {
            (true, None) => None,
            _ => Some(self.client.answer().await?),
        };
        let after = self.read_expiry(&name.key).await?;
        let before = self.expiry(&name.key, &before)?;
        if let Some(Reply::Error(reply)) = &usage
            && is_held_up(reply)
        {
            return Err(self.refused("OBJECT", &name.key, reply));
        }
        let usage = self.usage.zip(usage).and_then(|(question, reply)| question.usage(&reply));
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
        self.keep(name, after, payload, usage, values);
        Ok(())
    }

    /// Puts a key back that changed while it was read.
    fn again(&mut self, name: Name, why: &[u8]) -> Result<(), Error> {
        if name.reads == MOST_READS {
            return Err(self.refused("a command that reads", &name.key, why));
        }
        let Name { key, reads, .. } = name;
        self.names.push(Name::new(key, reads + 1));
        Ok(())
    }

    pub(super) async fn read_in_pieces(&mut self, name: Name) -> Result<Vec<Value>, Error> {
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
            self.keep(name, after, payload, None, &mut values);
        }
        Ok(values)
    }

    /// Whether the key that is watched was written to, by a transaction that does nothing.
    async fn has_changed(&mut self) -> Result<bool, Error> {
        self.client.run(&[b"MULTI"]).await?;
        match self.client.ask(&[b"EXEC"]).await? {
            // The server was held up in between, and has forgotten.
            Reply::Error(reply) if reply.starts_with(b"EXECABORT") => Ok(true),
            Reply::Error(reply) => Err(self.client.refused(&[b"EXEC"], &reply)),
            reply => Ok(matches!(reply, Reply::Array(None))),
        }
    }

    fn keep(
        &self,
        name: Name,
        after: Expiry,
        payload: Bytes,
        usage: Option<Usage>,
        values: &mut Vec<Value>,
    ) {
        let expires_at_ms = (after.said != NO_EXPIRY).then_some(after.at_ms);
        let (database, Name { key, kind, .. }) = (self.database, name);
        values.push(Value { database, key, expires_at_ms, payload, kind, usage });
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

    pub(super) fn learn_size(&mut self, number: u64, reply: &Reply) -> Result<(), Error> {
        let bytes = match reply {
            Reply::Integer(bytes) => u64::try_from(*bytes).unwrap_or(0),
            // It is gone: DUMP will say the same.
            Reply::Bulk(None) => 0,
            Reply::Error(reply) => {
                return Err(Error::from_reply(self.client.address(), "MEMORY USAGE", reply));
            }
            other => return Err(self.odd("MEMORY USAGE", other)),
        };
        if let Some(name) = self.names.get(number) {
            name.bytes = Some(bytes);
        }
        Ok(())
    }

    /// Where the length is not told, the value counts as large.
    pub(super) fn learn_length(&mut self, number: u64, reply: &Reply) {
        let length = match reply {
            Reply::Integer(length) => u64::try_from(*length).unwrap_or(0),
            _ => u64::from(u32::MAX),
        };
        if let Some(name) = self.names.get(number) {
            let each = if name.kind == Some(Kind::String) { 1 } else { ELEMENT_BYTES };
            name.bytes = Some(length.saturating_mul(each));
        }
    }

    pub(super) fn learn_names(&mut self, reply: Reply) -> Result<(), Error> {
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
            if self.filter.takes_key(&key) && self.recent.is_new(self.database, &key) {
                self.names.push(Name::new(key, 0));
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
