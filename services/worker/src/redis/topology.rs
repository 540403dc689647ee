//! Which servers hold the data that an AppBinding names: one, the master that a Sentinel knows, or the
//! masters of a Redis Cluster; and which server of a set is read.
//!
//! What the address leads to says itself what it is, in `INFO`. Nothing has to be configured.

mod cluster;
mod replica;
mod sentinel;

use std::time::Duration;

use coffer_api::session::Redis;

pub use cluster::{Master, Slots, slot_of};

use super::{Client, Error, Server, connect};
use crate::options::Prefer;

/// A server that is to be dumped.
pub struct Node {
    /// How it was reached.
    pub redis: Redis,
    /// The connection.
    pub client: Client,
    /// What it says about itself.
    pub server: Server,
    /// In a cluster: its slots, as ranges.
    pub slots: Vec<(u16, u16)>,
}

/// All servers that hold the data, each a part.
pub struct Topology {
    /// One, or the masters of a cluster (or a replica of each) by their first slot.
    pub nodes: Vec<Node>,
    /// The map of a cluster.
    pub slots: Option<Slots>,
    /// What was found on the way that a user should know.
    pub remarks: Vec<String>,
    /// Through what the server was found, for the session: `named by a Sentinel as the master of mymaster`.
    pub found: Option<String>,
}

/// Finds the servers.
///
/// # Errors
/// When one of them cannot be reached in time, or the set is not in order.
pub async fn find(
    redis: &Redis,
    wait: Duration,
    sentinel_master: &str,
    prefer: Prefer,
) -> Result<Topology, Error> {
    let mut client = match connect(redis, wait).await {
        // Redis has users of its own, of whom a Sentinel seldom knows.
        Err(refused @ Error::Password { .. }) => {
            sentinel::as_its_user(redis, wait, refused).await?
        }
        reached => reached?,
    };
    let mut server = Server::ask(&mut client).await?;
    let (mut redis, mut found) = (redis.clone(), None);
    let by_sentinel = server.is_sentinel;
    if by_sentinel {
        let master = sentinel::master(&mut client, &redis, sentinel_master, wait, prefer).await?;
        found = Some(format!(
            "named by the Sentinel at {} as master of {}",
            client.address(),
            master.name
        ));
        (redis, client, server) = (master.redis, master.client, master.server);
    }
    if !by_sentinel && !sentinel_master.is_empty() {
        let (address, name) = (client.address().to_owned(), sentinel_master.to_owned());
        return Err(Error::NoSentinel { address, name });
    }
    if server.cluster {
        return cluster::find(&redis, client, wait, prefer).await;
    }
    let mut remarks = Vec::new();
    let mut node = Node { redis, client, server, slots: Vec::new() };
    // Any sync with a master leaves a replica in Sentinel's memory that it never forgets.
    if prefer == Prefer::Replica || (prefer == Prefer::Any && by_sentinel) {
        node = replica::instead_of(node, &mut remarks).await;
    }
    if prefer != Prefer::ToWrite {
        node = replica::in_sync(node, wait).await?;
    }
    Ok(Topology { nodes: vec![node], slots: None, remarks, found })
}

/// The same user, password and certificates at another address.
pub(super) fn at(redis: &Redis, host: &str, port: u16) -> Redis {
    let mut there = Redis { host: host.to_owned(), port, ..redis.clone() };
    if let Some(tls) = &mut there.tls {
        // Certificates name the service, or the server behind it.
        tls.also_named.get_or_insert_with(|| redis.host.clone());
    }
    there
}

/// Confirms, after a dump, that a cluster's slots are where they were before it: a slot that moved
/// meanwhile is in two parts, or in none.
///
/// # Errors
/// When they are not.
pub async fn is_unchanged(slots: &Slots, redis: &Redis, wait: Duration) -> Result<(), Error> {
    cluster::is_unchanged(redis, slots, wait).await
}
