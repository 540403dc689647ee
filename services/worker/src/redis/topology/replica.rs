//! A replica to read instead of its master: no fork there, and nothing for a Sentinel to see.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::{Node, at};
use crate::redis::server::Replica;
use crate::redis::{Error, Server, connect};

/// A replica that cannot be reached within this is not used: there is a master.
const ATTEMPT: Duration = Duration::from_secs(3);
/// Between two looks at a replica that is not in sync.
const PAUSE: Duration = Duration::from_secs(1);
/// A replica that has not confirmed for so many seconds is not healthy; it does so each second.
const LONGEST_LAG: u64 = 5;

/// The freshest healthy replica; the node itself when there is none, and then says why.
pub(super) async fn instead_of(node: Node, remarks: &mut Vec<String>) -> Node {
    let Some(candidates) = candidates(&node.server) else { return node };
    let mut why = Vec::new();
    for Replica { host, port, .. } in &candidates {
        let there = at(&node.redis, host, *port);
        let reached = async {
            let mut client = connect(&there, ATTEMPT).await?;
            let server = Server::ask(&mut client).await?;
            Ok::<_, Error>((client, server))
        };
        match reached.await {
            // What is announced may lead elsewhere, and to a replica of something else.
            Ok((_, server)) if server.replication_id != node.server.replication_id => {
                why.push(format!("{host}:{port} is not a replica of it"));
            }
            Ok((client, server)) if server.link_is_up => {
                return Node { redis: there, client, server, slots: node.slots };
            }
            Ok(_) => why.push(format!("{host}:{port} has lost its master")),
            Err(error) => why.push(error.to_string()),
        }
    }
    let why = if why.is_empty() { "it has none that is online".to_owned() } else { why.join("; ") };
    remarks.push(format!(
        "no replica of {} can be read, so the master is: {why}",
        node.client.address()
    ));
    node
}

/// Waits until a server that is a replica has its master's data: before, it answers with what it had, or with nothing.
pub(super) async fn in_sync(mut node: Node, wait: Duration) -> Result<Node, Error> {
    let deadline = Instant::now() + wait;
    loop {
        let Some(master) = node.server.master.as_ref().filter(|_| !node.server.link_is_up) else {
            return Ok(node);
        };
        let (address, next) = (node.client.address().to_owned(), Instant::now() + PAUSE);
        if next >= deadline {
            return Err(Error::NotInSync { address, master: master.clone(), waited: wait });
        }
        tracing::info!(address, master, "the replica is not in sync with its master yet");
        sleep_until(next).await;
        node.server = Server::ask(&mut node.client).await?;
    }
}

/// Replicas by how much they have received; `None` for a server that is a replica itself.
fn candidates(server: &Server) -> Option<Vec<Replica>> {
    if server.master.is_some() {
        return None;
    }
    let healthy =
        |replica: &&Replica| replica.online && replica.lag <= LONGEST_LAG && replica.port != 0;
    let mut healthy: Vec<Replica> = server.replicas.iter().filter(healthy).cloned().collect();
    healthy.sort_by_key(|replica| std::cmp::Reverse(replica.offset));
    Some(healthy)
}
