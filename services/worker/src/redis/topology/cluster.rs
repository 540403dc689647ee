//! Redis Cluster: which master holds which slots.

use std::collections::BTreeMap;
use std::time::Duration;

use coffer_api::session::Redis;
use coffer_rdb::resp::Reply;
use tokio::time::{Instant, sleep_until};

use super::{Node, Topology, at, replica};
use crate::options::Prefer;
use crate::redis::{Client, Error, Server, connect};

/// Slots of a cluster.
const SLOTS: u16 = 16_384;
/// Between two looks at a cluster that is being resharded.
const PAUSE: Duration = Duration::from_secs(1);

/// Which master, by host and port, holds which ranges of slots.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Slots {
    /// First and last slot, and the master.
    pub ranges: BTreeMap<(u16, u16), (String, u16)>,
}

/// Host and port of a master, and its ranges.
pub type Master = ((String, u16), Vec<(u16, u16)>);

impl Slots {
    /// The masters, each with its ranges, by their first slot.
    #[must_use]
    pub fn masters(&self) -> Vec<Master> {
        let mut masters = Vec::<Master>::new();
        for (range, address) in &self.ranges {
            match masters.iter_mut().find(|(known, _)| known == address) {
                Some((_, ranges)) => ranges.push(*range),
                None => masters.push((address.clone(), vec![*range])),
            }
        }
        masters
    }

    /// The first slot that no master holds.
    fn gap(&self) -> Option<u16> {
        let mut next = 0;
        for (first, last) in self.ranges.keys() {
            if *first > next {
                return Some(next);
            }
            next = next.max(last + 1);
        }
        (next < SLOTS).then_some(next)
    }
}

/// The slot of a key: CRC-16 of what is between its first braces, or of all of it.
#[must_use]
pub fn slot_of(key: &[u8]) -> u16 {
    let tag = key.iter().position(|byte| *byte == b'{').and_then(|open| {
        let behind = &key[open + 1..];
        let close = behind.iter().position(|byte| *byte == b'}').filter(|close| *close > 0)?;
        Some(&behind[..close])
    });
    let mut crc: u16 = 0;
    for byte in tag.unwrap_or(key) {
        crc ^= u16::from(*byte) << 8;
        for _ in 0..8 {
            crc = if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 };
        }
    }
    crc % SLOTS
}

/// Finds the masters, or a replica of each.
pub(super) async fn find(
    redis: &Redis,
    mut client: Client,
    wait: Duration,
    prefer: Prefer,
) -> Result<Topology, Error> {
    let deadline = Instant::now() + wait;
    let (slots, mut nodes) = loop {
        let slots = ask(&mut client, redis).await?;
        let why = match slots.gap() {
            Some(slot) => format!("slot {slot} has no master"),
            None => {
                let mut nodes = masters(&slots, redis, wait).await?;
                match moving_in_any(&mut nodes).await? {
                    Some(moving) if prefer != Prefer::ToWrite => {
                        format!("it is being resharded ({moving})")
                    }
                    _ => break (slots, nodes),
                }
            }
        };
        let next = Instant::now() + PAUSE;
        if next >= deadline {
            return Err(Error::Unsettled { address: client.address().to_owned(), why });
        }
        tracing::info!(why, "the cluster is not in order yet");
        sleep_until(next).await;
    };
    let found = Some(format!("of a cluster of {} masters", nodes.len()));
    let mut remarks = Vec::new();
    if prefer == Prefer::Replica {
        let mut replicas = Vec::new();
        for node in nodes {
            replicas.push(replica::instead_of(node, &mut remarks).await);
        }
        nodes = replicas;
    }
    Ok(Topology { nodes, slots: Some(slots), remarks, found })
}

/// The masters, connected.
async fn masters(slots: &Slots, redis: &Redis, wait: Duration) -> Result<Vec<Node>, Error> {
    let mut nodes = Vec::new();
    for ((host, port), slots) in slots.masters() {
        let redis = at(redis, &host, port);
        let mut client = connect(&redis, wait).await?;
        let server = Server::ask(&mut client).await?;
        nodes.push(Node { redis, client, server, slots });
    }
    Ok(nodes)
}

/// A slot on its way. Only the two masters concerned know of it, so all are asked.
async fn moving_in_any(nodes: &mut [Node]) -> Result<Option<String>, Error> {
    for node in nodes {
        let nodes = node.client.text(&[b"CLUSTER", b"NODES"]).await?;
        if let Some(moving) = moving_in(&nodes) {
            return Ok(Some(moving));
        }
    }
    Ok(None)
}

/// Confirms that the map is still that one.
pub(super) async fn is_unchanged(
    redis: &Redis,
    before: &Slots,
    wait: Duration,
) -> Result<(), Error> {
    let mut client = connect(redis, wait).await?;
    let now = ask(&mut client, redis).await?;
    let why = if now != *before {
        "slots moved, or a failover took place, while it was dumped".to_owned()
    } else if let Some(moving) = moving_in_any(&mut masters(&now, redis, wait).await?).await? {
        format!("a resharding began while it was dumped ({moving})")
    } else {
        return Ok(());
    };
    Err(Error::Unsettled { address: client.address().to_owned(), why })
}

pub(super) async fn ask(client: &mut Client, redis: &Redis) -> Result<Slots, Error> {
    Ok(parse(&client.run(&[b"CLUSTER", b"SLOTS"]).await?, &redis.host))
}

/// `host` stands for a server that does not know its own address.
fn parse(reply: &Reply, host: &str) -> Slots {
    let Reply::Array(Some(ranges)) = reply else { return Slots::default() };
    let range = |fields: &Reply| {
        let Reply::Array(Some(fields)) = fields else { return None };
        let slot = |field: &Reply| match field {
            Reply::Integer(slot) => u16::try_from(*slot).ok(),
            _ => None,
        };
        let [first, last, Reply::Array(Some(master)), ..] = fields.as_slice() else { return None };
        let named = match master.first()? {
            Reply::Bulk(Some(name)) if !matches!(&name[..], b"" | b"?") => {
                std::str::from_utf8(name).ok()?
            }
            _ => host,
        };
        let Reply::Integer(port) = master.get(1)? else { return None };
        Some(((slot(first)?, slot(last)?), (named.to_owned(), u16::try_from(*port).ok()?)))
    };
    Slots { ranges: ranges.iter().filter_map(range).collect() }
}

fn moving_in(nodes: &str) -> Option<String> {
    let mut words = nodes.split_whitespace();
    words
        .find(|word| word.starts_with('[') && (word.contains("->-") || word.contains("-<-")))
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_redis() {
        // As CLUSTER KEYSLOT answers.
        for (key, slot) in [
            ("123456789", 12_739),
            ("foo", 12_182),
            ("{foo}.bar", 12_182),
            ("x{foo}{bar}", 12_182),
            ("", 0),
        ] {
            assert_eq!(slot_of(key.as_bytes()), slot, "{key}");
        }
        assert_ne!(slot_of(b"{}foo"), slot_of(b"foo"));
    }

    #[test]
    fn gaps_and_moves_are_found() {
        let a = ("a".to_owned(), 1);
        let map = |ranges: &[(u16, u16)]| Slots {
            ranges: ranges.iter().map(|range| (*range, a.clone())).collect(),
        };
        assert_eq!(map(&[(0, 16_383)]).gap(), None);
        assert_eq!(map(&[(0, 5), (7, 16_383)]).gap(), Some(6));
        assert_eq!(map(&[(0, 5)]).gap(), Some(6));
        assert_eq!(map(&[]).gap(), Some(0));
        assert_eq!(map(&[(0, 5), (6, 16_383)]).masters(), [(a.clone(), vec![(0, 5), (6, 16_383)])]);
        assert_eq!(
            moving_in("id1 h:1@2 myself,master - 0 0 1 connected 0-5 [93->-id2]").as_deref(),
            Some("[93->-id2]")
        );
        assert_eq!(moving_in("id1 h:1@2 myself,master - 0 0 1 connected 0-5"), None);
    }
}
