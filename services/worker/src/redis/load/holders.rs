//! Whether the servers that took the keys are the ones that keep them. In a failover a replica is made the master that
//! may lack the last of what was written, and the old master goes on saying OK until it is told, and drops it then.

use std::time::Duration;

use coffer_api::session::Redis;
use coffer_rdb::resp::Reply;
use tokio::time::{Instant, sleep};

use super::{Error, Loader, Server};
use crate::redis::server::Replica;
use crate::redis::topology::at;
use crate::redis::{Node, connect};

/// How long a replica may take for the last of what was written, and at most as long as a server is waited for. One that
/// lags is no reason to fail: the data are where they were to go.
const CATCH_UP: Duration = Duration::from_secs(30);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(100);
/// How long a replica may take to answer that left its master meanwhile.
const ATTEMPT: Duration = Duration::from_secs(2);

/// A server before the load.
pub(super) struct Began {
    pub(super) redis: Redis,
    pub(super) server: Server,
    pub(super) slots: Vec<(u16, u16)>,
}

/// A server that took keys, as it was when the last of them was answered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Holder {
    address: String,
    server: Server,
    /// In a cluster: its slots before the load.
    slots: Vec<(u16, u16)>,
}

impl Holder {
    /// A server that is no part of a cluster.
    pub(crate) const fn alone(address: String, server: Server) -> Self {
        Self { address, server, slots: Vec::new() }
    }

    /// Whether that server is this one, or has all that this one had: its history is this one's up to a later point. A
    /// server that tells no id cannot be told from another.
    fn is_kept_by(&self, other: &Server) -> bool {
        let Server { run_id, replication_id, offset, .. } = &self.server;
        if run_id.is_empty() || other.run_id.is_empty() || *run_id == other.run_id {
            return true;
        }
        *replication_id == other.former_replication_id && other.former_offset > *offset
    }
}

/// Confirms that what the address leads to now holds what was written. In a cluster another may have a slot since, with the
/// slot's keys, if it was a master of it before; one that was none took its master's place.
///
/// # Errors
/// When it is another server, or has got another's data.
pub fn are_kept(holders: &[Holder], found: &[Node]) -> Result<(), Error> {
    for Holder { address, server: then, .. } in holders {
        let same = |node: &&Node| !then.run_id.is_empty() && node.server.run_id == then.run_id;
        let why = found.iter().find(same).and_then(|node| node.server.replaced_since(then));
        if let Some(why) = why {
            return Err(Error::Replaced { address: address.clone(), why });
        }
    }
    let found = found.iter().map(|Node { client, server, slots, .. }| Found {
        address: client.address(),
        server,
        slots,
    });
    let Some((holder, other)) = replaced(holders, &found.collect::<Vec<_>>()) else {
        return Ok(());
    };
    Err(Error::Replaced {
        address: holder.address.clone(),
        why: format!("{other} took its place in a failover"),
    })
}

/// A server that the address leads to after the load.
#[derive(Debug)]
struct Found<'a> {
    address: &'a str,
    server: &'a Server,
    slots: &'a [(u16, u16)],
}

/// A server that took keys and does not keep them, and the one in its place.
fn replaced<'a>(holders: &'a [Holder], found: &[Found<'a>]) -> Option<(&'a Holder, &'a str)> {
    holders.iter().find_map(|holder| {
        if found.iter().any(|one| holder.is_kept_by(one.server)) {
            return None;
        }
        let another = found.iter().find(|one| {
            let was_there = |held: &Holder| held.server.run_id == one.server.run_id;
            meet(&holder.slots, one.slots) && !holders.iter().any(was_there)
        });
        another.map(|one| (holder, one.address))
    })
}

/// Whether two servers have a slot in common; without a cluster each has everything.
fn meet(some: &[(u16, u16)], others: &[(u16, u16)]) -> bool {
    let meets = |(first, last): &(u16, u16)| others.iter().any(|(a, b)| a <= last && first <= b);
    some.is_empty() || others.is_empty() || some.iter().any(meets)
}

/// How far a replica has come that was there before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Come {
    All,
    NotYet,
    Gone,
}

fn come(replica: &Replica, now: &Server, offset: u64) -> Come {
    let same = |one: &&Replica| one.host == replica.host && one.port == replica.port;
    match now.replicas.iter().find(same) {
        None => Come::Gone,
        Some(one) if one.online && one.offset >= offset => Come::All,
        Some(_) => Come::NotYet,
    }
}

impl Loader {
    /// Confirms that the servers are masters still, which `ended` as these, and waits until their replicas have all that was
    /// written, so that it is where a failover would take it.
    pub(super) async fn settle_down(&mut self, ended: Vec<Server>) -> Result<(), Error> {
        for (index, server) in ended.into_iter().enumerate() {
            let address = self.lanes.all()[index].pipe.address.clone();
            let replaced = |why: String| Error::Replaced { address: address.clone(), why };
            if let Some(master) = &server.master {
                return Err(replaced(format!("it is a replica of {master} since")));
            }
            let Some(Began { redis, server: before, slots }) = self.began.get(index) else {
                continue;
            };
            if let Some(why) = server.replaced_since(before) {
                return Err(replaced(why));
            }
            let (redis, slots) = (redis.clone(), slots.clone());
            let replicas = before.replicas.iter().filter(|one| one.online && one.port != 0);
            let replicas: Vec<Replica> = replicas.cloned().collect();
            let holder = Holder { address, server, slots };
            self.wait_for(index, &holder, &redis, replicas).await?;
            self.tally.holders.push(holder);
        }
        Ok(())
    }

    async fn wait_for(
        &mut self,
        index: usize,
        holder: &Holder,
        redis: &Redis,
        replicas: Vec<Replica>,
    ) -> Result<(), Error> {
        let pipe = &mut self.lanes.all()[index].pipe;
        let limit = CATCH_UP.min(pipe.wait());
        let deadline = Instant::now() + limit;
        let mut now = holder.server.clone();
        let come = |replica: &Replica, now: &Server| come(replica, now, holder.server.offset);
        while replicas.iter().any(|one| come(one, &now) == Come::NotYet)
            && Instant::now() < deadline
        {
            // Has replicas confirm at once. A user who must not has them do it each second.
            let online = now.replicas.iter().filter(|one| one.online).count().to_string();
            if let Reply::Error(_) = pipe.ask(&[b"WAIT", online.as_bytes(), b"1000"]).await? {
                tracing::debug!(address = holder.address, "not allowed to WAIT");
            }
            sleep(PAUSE).await;
            now = pipe.info().await?;
        }
        for replica in replicas {
            let Replica { host, port, .. } = &replica;
            match come(&replica, &now) {
                Come::All => {}
                Come::NotYet => self.tally.remarks.push(format!(
                    "replica {host}:{port} of {} does not have all that was restored, {} s after the last key: a failover \
                     to it would lose the rest",
                    holder.address,
                    limit.as_secs()
                )),
                Come::Gone => {
                    let left = left(holder, redis, &replica).await?;
                    self.tally.remarks.extend(left);
                }
            }
        }
        Ok(())
    }
}

/// What became of a replica that left its master, if it can be asked: it may be the master by now, which whoever leads to
/// it learns later.
async fn left(holder: &Holder, redis: &Redis, replica: &Replica) -> Result<Option<String>, Error> {
    let Replica { host, port, .. } = replica;
    let there = at(redis, host, *port);
    let asked = async { Server::ask(&mut connect(&there, ATTEMPT).await?).await };
    let promoted = asked.await.ok().filter(|server| {
        server.master.is_none()
            && server.former_replication_id == holder.server.replication_id
            && !server.former_replication_id.is_empty()
    });
    let address = holder.address.clone();
    match promoted {
        Some(server) if holder.is_kept_by(&server) => Ok(None),
        Some(_) => Err(Error::Replaced {
            address,
            why: format!("{host}:{port} took its place in a failover, without the last keys"),
        }),
        None => Ok(Some(format!(
            "{host}:{port} is no longer a replica of {address}: a failover to it would lose what was restored since"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(run_id: &str, replication_id: &str, former: (&str, u64)) -> Server {
        Server {
            run_id: run_id.to_owned(),
            replication_id: replication_id.to_owned(),
            former_replication_id: former.0.to_owned(),
            former_offset: former.1,
            offset: 100,
            ..Server::default()
        }
    }

    #[test]
    fn another_server_holds_the_keys_if_it_has_their_history() {
        let one = |slots: &[(u16, u16)], id: &str| Holder {
            address: id.to_owned(),
            server: server(id, id, ("0000", 0)),
            slots: slots.to_vec(),
        };
        let (a, b) = (one(&[(0, 9)], "a"), one(&[(10, 16_383)], "b"));
        let alone = [one(&[], "a")];
        let both = [a, b];
        let before = server("new", "c", ("a", 100));
        let behind = server("new", "c", ("a", 101));
        let (is_a, is_b, silent) =
            (&both[0].server, &both[1].server, server("", "", Default::default()));
        let all: &[(u16, u16)] = &[];
        for (holders, found, expected) in [
            (&alone[..], vec![(is_a, all)], None),
            (&alone, vec![(&silent, all)], None),
            (&alone, vec![(&behind, all)], None),
            (&alone, vec![(&before, all)], Some("a")),
            (&alone, vec![(is_b, all)], Some("a")),
            // Slots moved to a master that was there, and to one that was added.
            (&both, vec![(is_b, &[(0, 16_383)][..])], None),
            (&both, vec![(is_a, &[(9, 9)]), (is_b, &[(10, 16_383)]), (&before, &[(0, 8)])], None),
            // A replica took the place of the first.
            (&both, vec![(&before, &[(0, 9)]), (is_b, &[(10, 16_383)])], Some("a")),
            (&both, vec![(&behind, &[(0, 9)]), (is_b, &[(10, 16_383)])], None),
        ] {
            let one = |(server, slots)| Found { address: "x", server, slots };
            let found: Vec<_> = found.into_iter().map(one).collect();
            let replaced = replaced(holders, &found).map(|(holder, _)| holder.address.as_str());
            assert_eq!(replaced, expected, "{found:?}");
        }
    }

    #[test]
    fn a_replica_has_all_once_it_confirms_it() {
        let replica =
            |offset| Replica { host: "r".to_owned(), port: 1, online: true, offset, lag: 0 };
        let now = |replicas: Vec<Replica>| Server { replicas, ..Server::default() };
        assert_eq!(come(&replica(0), &now(vec![replica(99)]), 100), Come::NotYet);
        assert_eq!(come(&replica(0), &now(vec![replica(100)]), 100), Come::All);
        let loading = Replica { online: false, ..replica(100) };
        assert_eq!(come(&replica(0), &now(vec![loading]), 100), Come::NotYet);
        assert_eq!(come(&replica(0), &now(vec![]), 100), Come::Gone);
    }
}
