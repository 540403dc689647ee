//! Reads keys of a target back by their names, many at a time, to be compared.

use bytes::{Bytes, BytesMut};
use coffer_rdb::entries::Entry;
use coffer_rdb::payload;
use coffer_rdb::resp::{self, Reply};
use coffer_rdb::strings::printable;
use coffer_rdb::value;
use coffer_rdb::version::Version;

use super::{Client, Error, LARGEST_VALUE_BYTES, Node, Server, slot_of};

const NO_EXPIRY: i64 = -1;

/// The servers of a target.
pub struct ReadBack {
    lanes: Vec<Lane>,
}

struct Lane {
    client: Client,
    slots: Vec<(u16, u16)>,
    database: u64,
    /// `PEXPIRETIME`, since 7.0; before, the time left.
    absolute: bool,
}

impl ReadBack {
    /// Reads from these servers, each of which was not asked for anything but `INFO`.
    #[must_use]
    pub fn new(nodes: Vec<Node>) -> Self {
        let lane = |Node { mut client, server, slots, .. }: Node| {
            client.take_replies_of(LARGEST_VALUE_BYTES);
            Lane { client, slots, database: 0, absolute: server.is_at_least(7, 0) }
        };
        Self { lanes: nodes.into_iter().map(lane).collect() }
    }

    /// Whether expiries are exact; otherwise they are off by the time that an answer takes.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        self.lanes.iter().all(|lane| lane.absolute)
    }

    /// Keys in all databases of all servers, those included whose time has passed.
    ///
    /// # Errors
    /// When a server does not answer.
    pub async fn count(&mut self) -> Result<u64, Error> {
        let mut keys = 0;
        for lane in &mut self.lanes {
            keys += Server::ask(&mut lane.client).await?.keys;
        }
        Ok(keys)
    }

    /// The keys as they are, in the order of their names; `None` for one that there is not. `now_ms` counts
    /// only where the server tells no absolute times.
    ///
    /// # Errors
    /// When a server refuses to show them, or holds what is not known here.
    pub async fn fetch(
        &mut self,
        names: &[(u64, Bytes)],
        now_ms: i64,
    ) -> Result<Vec<Option<Entry>>, Error> {
        let mut found = vec![None; names.len()];
        let alone = self.lanes.len() == 1;
        for lane in &mut self.lanes {
            let here = names.iter().enumerate().filter(|(_, (_, key))| {
                let slot = slot_of(key);
                alone || lane.slots.iter().any(|(first, last)| (*first..=*last).contains(&slot))
            });
            let here: Vec<_> = here.map(|(index, (db, key))| (index, *db, key.clone())).collect();
            for (index, entry) in lane.fetch(here, now_ms).await? {
                found[index] = entry;
            }
        }
        Ok(found)
    }
}

impl Lane {
    async fn fetch(
        &mut self,
        names: Vec<(usize, u64, Bytes)>,
        now_ms: i64,
    ) -> Result<Vec<(usize, Option<Entry>)>, Error> {
        let expiry: &[u8] = if self.absolute { b"PEXPIRETIME" } else { b"PTTL" };
        let (mut out, mut selects) = (BytesMut::new(), Vec::with_capacity(names.len()));
        for (_, database, key) in &names {
            selects.push(*database != self.database);
            if *database != self.database {
                resp::write_command(&mut out, &[b"SELECT", database.to_string().as_bytes()]);
                self.database = *database;
            }
            resp::write_command(&mut out, &[b"DUMP", key]);
            resp::write_command(&mut out, &[expiry, key]);
        }
        if out.is_empty() {
            return Ok(Vec::new());
        }
        self.client.send(&out).await?;
        let mut found = Vec::with_capacity(names.len());
        for ((index, database, key), selected) in names.into_iter().zip(selects) {
            if selected {
                self.answer("SELECT").await?;
            }
            let dumped = self.answer("DUMP").await?;
            let expires = self.answer("PEXPIRETIME").await?;
            let entry = match (dumped, expires) {
                (Reply::Bulk(Some(payload)), Reply::Integer(at)) => {
                    let at = if self.absolute || at < 0 { at } else { now_ms.saturating_add(at) };
                    Some(self.entry(database, key, payload, at)?)
                }
                _ => None,
            };
            found.push((index, entry));
        }
        Ok(found)
    }

    async fn answer(&mut self, command: &str) -> Result<Reply, Error> {
        match self.client.answer().await? {
            Reply::Error(reply) => Err(Error::from_reply(self.client.address(), command, &reply)),
            reply => Ok(reply),
        }
    }

    fn entry(&self, database: u64, key: Bytes, dumped: Bytes, at: i64) -> Result<Entry, Error> {
        let shown = || format!("key {} of database {database}", printable(&key, 80));
        let payload =
            payload::parse(dumped).map_err(|source| Error::Rdb { path: shown(), source })?;
        let version = Version::from_footer(payload.rdb_version);
        let known = value::lookup(payload.type_code, version);
        let value_type = known.ok_or_else(|| Error::Unsupported {
            address: self.client.address().to_owned(),
            what: shown(),
            why: format!(
                "it cannot be compared: this version of Coffer does not know type {} of {version}",
                payload.type_code
            ),
        })?;
        let expires_at_ms = (at > NO_EXPIRY).then_some(at);
        Ok(Entry { database, key, expires_at_ms, usage: None, value_type, body: payload.body })
    }
}
