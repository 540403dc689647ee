//! The connections of a load, and which of them a key goes to: in a cluster the one of its slot's master.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use coffer_api::session::Redis;
use coffer_rdb::resp::Reply;
use coffer_rdb::strings::printable;
use tokio::sync::mpsc;

use super::answers::{Again, To};
use super::pipe::Pipe;
use crate::redis::error::first_word;
use crate::redis::topology::{Slots, at, slot_of};
use crate::redis::{Client, Error, connect};

/// Slots of a cluster.
const SLOTS: usize = 16_384;

/// A connection and what it is set to.
pub(super) struct Lane {
    pub(super) pipe: Pipe,
    database: Option<u64>,
    /// Whether the database held keys when it was entered.
    pub(super) holds_keys: bool,
    /// Whether the user may `SET`, once that is asked.
    may_set: Option<bool>,
}

/// All connections.
pub(super) struct Lanes {
    lanes: Vec<Lane>,
    routes: Option<Routes>,
    written: Arc<AtomicU64>,
    again: mpsc::UnboundedSender<Again>,
    /// What is to be sent once more.
    returned: mpsc::UnboundedReceiver<Again>,
}

/// Where the slots of a cluster are, as far as is known.
struct Routes {
    /// How to log in to any of them.
    redis: Redis,
    wait: Duration,
    /// By slot, the index of a connection.
    table: Vec<usize>,
    /// By connection, host and port.
    addresses: Vec<(String, u16)>,
}

impl Lanes {
    /// One server.
    pub(super) fn one(client: Client, written: Arc<AtomicU64>) -> Self {
        let (again, returned) = mpsc::unbounded_channel();
        let lane = Lane::new(client, 1, written.clone(), again.clone());
        Self { lanes: vec![lane], routes: None, written, again, returned }
    }

    /// The masters of a cluster, in the order of [`Slots::masters`].
    pub(super) fn cluster(
        clients: Vec<Client>,
        slots: &Slots,
        redis: Redis,
        wait: Duration,
        written: Arc<AtomicU64>,
    ) -> Self {
        let (again, returned) = mpsc::unbounded_channel();
        let (mut table, mut addresses) = (vec![0; SLOTS], Vec::new());
        for (index, (master, ranges)) in slots.masters().into_iter().enumerate() {
            for (first, last) in ranges {
                table[usize::from(first)..=usize::from(last)].fill(index);
            }
            addresses.push((master.host, master.port));
        }
        let of = clients.len();
        let lane = |client| Lane::new(client, of, written.clone(), again.clone());
        let lanes = clients.into_iter().map(lane).collect();
        let routes = Some(Routes { redis, wait, table, addresses });
        Self { lanes, routes, written, again, returned }
    }

    /// The connection for a key.
    pub(super) fn of(&mut self, key: &[u8]) -> &mut Lane {
        let index = match &self.routes {
            Some(routes) => routes.table[usize::from(slot_of(key))],
            None => 0,
        };
        &mut self.lanes[index]
    }

    /// The first server, for messages.
    pub(super) fn address(&self) -> String {
        self.lanes.first().map(|lane| lane.pipe.address.clone()).unwrap_or_default()
    }

    pub(super) fn all(&mut self) -> &mut [Lane] {
        &mut self.lanes
    }

    pub(super) fn into_all(self) -> Vec<Lane> {
        self.lanes
    }

    pub(super) fn has_returned(&self) -> bool {
        !self.returned.is_empty()
    }

    /// What came back so far, in the order of the answers.
    pub(super) fn returned(&mut self) -> Vec<Again> {
        std::iter::from_fn(|| self.returned.try_recv().ok()).collect()
    }

    /// Waits until everything that was sent is answered.
    pub(super) async fn settle(&mut self) -> Result<(), Error> {
        for lane in &mut self.lanes {
            lane.pipe.settle().await?;
        }
        Ok(())
    }

    /// The connection for a key that is sent once more, in its database; after `MOVED` its slot's from now on.
    pub(super) async fn follow(
        &mut self,
        to: &To,
        key: &[u8],
        database: u64,
    ) -> Result<&mut Lane, Error> {
        let (address, ask) = match to {
            To::Later | To::Replace => {
                let lane = self.of(key);
                if matches!(to, To::Later) {
                    // Answered when the server is no longer held up.
                    lane.pipe.ask(&[b"PING"]).await?;
                }
                // Others may have gone elsewhere meanwhile.
                lane.select(database).await?;
                return Ok(lane);
            }
            To::Elsewhere { address, ask } => (address, *ask),
        };
        let Some(routes) = &mut self.routes else { return Ok(&mut self.lanes[0]) };
        let known = routes.addresses.iter().position(|known| known == address);
        let index = match known {
            Some(index) => index,
            None => {
                let redis = at(&routes.redis, &address.0, address.1);
                let client = connect(&redis, routes.wait).await?;
                let (of, written) = (self.lanes.len() + 1, self.written.clone());
                self.lanes.push(Lane::new(client, of, written, self.again.clone()));
                routes.addresses.push(address.clone());
                self.lanes.len() - 1
            }
        };
        if !ask {
            routes.table[usize::from(slot_of(key))] = index;
        }
        let lane = &mut self.lanes[index];
        lane.select(database).await?;
        Ok(lane)
    }
}

impl Lane {
    fn new(
        client: Client,
        of: usize,
        written: Arc<AtomicU64>,
        again: mpsc::UnboundedSender<Again>,
    ) -> Self {
        let pipe = Pipe::new(client, of, written, again);
        Self { pipe, database: None, holds_keys: false, may_set: None }
    }

    /// Whether the server lets the user `SET`. It is asked once, in a way that no server can obey: a key cannot be there
    /// and not be there.
    pub(super) async fn may_set(&mut self) -> Result<bool, Error> {
        if let Some(known) = self.may_set {
            return Ok(known);
        }
        let may = match self.pipe.ask(&[b"SET", b"coffer", b"", b"NX", b"XX"]).await? {
            Reply::Error(reply) => {
                matches!(first_word(&reply), "MOVED" | "ASK")
                    || String::from_utf8_lossy(&reply).contains("syntax error")
            }
            _ => false,
        };
        self.may_set = Some(may);
        Ok(may)
    }

    /// Whether the server has `RESTORE` and lets the user run it, asked with a payload that no server takes. A user who must
    /// not touch that key may do so with others.
    pub(super) async fn may_restore(&mut self) -> Result<(), Error> {
        let Reply::Error(reply) = self.pipe.ask(&[b"RESTORE", b"coffer", b"0", b""]).await? else {
            return Ok(());
        };
        let text = printable(&reply, 300);
        if first_word(&reply) == "NOPERM" && text.contains("to run the") {
            return Err(Error::from_reply(&self.pipe.address, "RESTORE", &reply));
        }
        if !text.to_ascii_lowercase().contains("unknown command") {
            return Ok(());
        }
        Err(Error::Unsupported {
            address: self.pipe.address.clone(),
            what: "any key".to_owned(),
            why: format!(
                "{text}; take RESTORE back from `rename-command` of the server, or make the backup with `method: portable`"
            ),
        })
    }

    /// What was known of the database is so no more.
    pub(super) const fn leave(&mut self) {
        self.database = None;
    }

    /// Goes to a database. Waits for the answer, or what follows would go into the one before.
    pub(super) async fn select(&mut self, database: u64) -> Result<(), Error> {
        if self.database == Some(database) {
            return Ok(());
        }
        let index = database.to_string();
        if let Reply::Error(reply) = self.pipe.ask(&[b"SELECT", index.as_bytes()]).await? {
            if first_word(&reply) == "NOPERM" {
                return Err(Error::from_reply(&self.pipe.address, "SELECT", &reply));
            }
            let reply = printable(&reply, 200);
            let remedy = if reply.contains("cluster") {
                "a cluster has database 0 alone: name one database with the Task's param databases, and send it there with \
                 databaseMap"
            } else {
                "raise `databases` of the server, or send it elsewhere with the Task's param databaseMap"
            };
            return Err(Error::Unsupported {
                address: self.pipe.address.clone(),
                what: format!("database {database}"),
                why: format!("{reply}; {remedy}"),
            });
        }
        self.database = Some(database);
        self.holds_keys = !matches!(self.pipe.ask(&[b"DBSIZE"]).await?, Reply::Integer(0));
        Ok(())
    }
}
