//! Reads keys of a target back by their names, many at a time, to be compared. Those that a cluster has on their way to
//! another server are read there.

use bytes::{Bytes, BytesMut};
use coffer_api::session::Redis;
use coffer_rdb::entries::Entry;
use coffer_rdb::payload;
use coffer_rdb::resp::{self, Reply};
use coffer_rdb::strings::printable;
use coffer_rdb::value;
use coffer_rdb::version::Version;

use super::load::{MOST_HOPS, elsewhere};
use super::topology::at;
use super::{Client, Error, LARGEST_VALUE_BYTES, Node, Server, connect, slot_of};

const NO_EXPIRY: i64 = -1;

/// The servers of a target.
pub struct ReadBack {
    lanes: Vec<Lane>,
    /// How to log in to others of the same cluster.
    redis: Option<Redis>,
    /// Those that one of the servers sent us to.
    others: Vec<((String, u16), Lane)>,
}

/// A key to be read: its place among those that were asked for, its database and its name.
type Name = (usize, u64, Bytes);

/// What a server said of a key.
enum Said {
    /// It has it, or has not.
    Has(Option<Entry>),
    /// Another server is to be asked, for this once or from now on.
    Elsewhere((String, u16), bool),
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
        let redis = nodes.first().map(|node| node.redis.clone());
        let lane = |Node { client, server, slots, .. }: Node| Lane::new(client, &server, slots);
        Self { lanes: nodes.into_iter().map(lane).collect(), redis, others: Vec::new() }
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
        let mut on_their_way = Vec::new();
        for lane in &mut self.lanes {
            let here = names.iter().enumerate().filter(|(_, (_, key))| {
                let slot = slot_of(key);
                alone || lane.slots.iter().any(|(first, last)| (*first..=*last).contains(&slot))
            });
            let here: Vec<_> = here.map(|(index, (db, key))| (index, *db, key.clone())).collect();
            for (name, said) in lane.fetch(here, false, now_ms).await? {
                match said {
                    Said::Has(entry) => found[name.0] = entry,
                    Said::Elsewhere(address, ask) => on_their_way.push((name, address, ask)),
                }
            }
        }
        for (name, address, ask) in on_their_way {
            let index = name.0;
            found[index] = self.follow(name, address, ask, now_ms).await?;
        }
        Ok(found)
    }

    /// Reads a key where a server said that it is.
    async fn follow(
        &mut self,
        mut name: Name,
        mut address: (String, u16),
        mut ask: bool,
        now_ms: i64,
    ) -> Result<Option<Entry>, Error> {
        for _ in 0..MOST_HOPS {
            let lane = self.other(&address).await?;
            let Some((same, said)) = lane.fetch(vec![name], ask, now_ms).await?.pop() else {
                return Ok(None);
            };
            name = same;
            match said {
                Said::Has(entry) => return Ok(entry),
                Said::Elsewhere(next, only_once) => (address, ask) = (next, only_once),
            }
        }
        let key = printable(&name.2, 80);
        let why =
            format!("key {key} was looked for on one server after the other, {MOST_HOPS} times");
        Err(Error::Unsettled { address: format!("{}:{}", address.0, address.1), why })
    }

    async fn other(&mut self, address: &(String, u16)) -> Result<&mut Lane, Error> {
        let known = self.others.iter().position(|(known, _)| known == address);
        let index = match (known, &self.redis, self.lanes.first()) {
            (Some(index), ..) => index,
            (None, Some(redis), Some(first)) => {
                let redis = at(redis, &address.0, address.1);
                let mut client = connect(&redis, first.client.wait()).await?;
                let server = Server::ask(&mut client).await?;
                self.others.push((address.clone(), Lane::new(client, &server, Vec::new())));
                self.others.len() - 1
            }
            (None, ..) => {
                let address = format!("{}:{}", address.0, address.1);
                return Err(Error::Unsettled { address, why: "nobody leads to it".to_owned() });
            }
        };
        Ok(&mut self.others[index].1)
    }
}

impl Lane {
    fn new(mut client: Client, server: &Server, slots: Vec<(u16, u16)>) -> Self {
        client.take_replies_of(LARGEST_VALUE_BYTES);
        Self { client, slots, database: 0, absolute: server.is_at_least(7, 0) }
    }

    /// `asking` for keys whose slot is not the server's yet.
    async fn fetch(
        &mut self,
        names: Vec<Name>,
        asking: bool,
        now_ms: i64,
    ) -> Result<Vec<(Name, Said)>, Error> {
        let expiry: &[u8] = if self.absolute { b"PEXPIRETIME" } else { b"PTTL" };
        let (mut out, mut selects) = (BytesMut::new(), Vec::with_capacity(names.len()));
        for (_, database, key) in &names {
            selects.push(*database != self.database);
            if *database != self.database {
                resp::write_command(&mut out, &[b"SELECT", database.to_string().as_bytes()]);
                self.database = *database;
            }
            for command in [&b"DUMP"[..], expiry] {
                if asking {
                    resp::write_command(&mut out, &[b"ASKING"]);
                }
                resp::write_command(&mut out, &[command, key]);
            }
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
            let mut answers = Vec::with_capacity(2);
            for command in ["DUMP", "PEXPIRETIME"] {
                if asking {
                    self.answer("ASKING").await?;
                }
                answers.push(self.answer_or_elsewhere(command).await?);
            }
            let mut answers = answers.into_iter();
            let said = match (answers.next(), answers.next()) {
                // It may have left between the two questions.
                (Some(Err((address, ask))), _) | (_, Some(Err((address, ask)))) => {
                    Said::Elsewhere(address, ask)
                }
                (Some(Ok(Reply::Bulk(Some(payload)))), Some(Ok(Reply::Integer(at)))) => {
                    let at = if self.absolute || at < 0 { at } else { now_ms.saturating_add(at) };
                    Said::Has(Some(self.entry(database, key.clone(), payload, at)?))
                }
                _ => Said::Has(None),
            };
            found.push(((index, database, key), said));
        }
        Ok(found)
    }

    async fn answer(&mut self, command: &str) -> Result<Reply, Error> {
        match self.client.answer().await? {
            Reply::Error(reply) => Err(Error::from_reply(self.client.address(), command, &reply)),
            reply => Ok(reply),
        }
    }

    /// The answer, or where else it is to be had.
    async fn answer_or_elsewhere(
        &mut self,
        command: &str,
    ) -> Result<Result<Reply, ((String, u16), bool)>, Error> {
        match self.client.answer().await? {
            Reply::Error(reply) => match elsewhere(&reply, self.client.address()) {
                Some(elsewhere) => Ok(Err(elsewhere)),
                None => Err(Error::from_reply(self.client.address(), command, &reply)),
            },
            reply => Ok(Ok(reply)),
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
