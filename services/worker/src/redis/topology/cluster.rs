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

/// Which master holds which ranges of slots.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Slots {
    /// First and last slot, and the master.
    pub ranges: BTreeMap<(u16, u16), Master>,
}

/// A master as the map names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Master {
    /// Where clients are to connect to.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Its id in the cluster; empty before Redis 4.0.
    pub id: String,
}

impl Slots {
    /// The masters, each with its ranges, by their first slot.
    #[must_use]
    pub fn masters(&self) -> Vec<(Master, Vec<(u16, u16)>)> {
        let mut masters = Vec::<(Master, Vec<(u16, u16)>)>::new();
        for (range, master) in &self.ranges {
            match masters.iter_mut().find(|(known, _)| known == master) {
                Some((_, ranges)) => ranges.push(*range),
                None => masters.push((master.clone(), vec![*range])),
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
        let why = match reach(&slots, redis, wait, prefer).await? {
            Ok(nodes) => break (slots, nodes),
            Err(why) => why,
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

/// The masters, connected, or why they are not in order.
async fn reach(
    slots: &Slots,
    redis: &Redis,
    wait: Duration,
    prefer: Prefer,
) -> Result<Result<Vec<Node>, String>, Error> {
    if let Some(slot) = slots.gap() {
        return Ok(Err(format!("slot {slot} has no master")));
    }
    let mut nodes = masters(slots, redis, wait).await?;
    let moving = moving_in_any(slots, &mut nodes).await?.filter(|_| prefer != Prefer::ToWrite);
    let demoted = nodes.iter().find(|node| node.server.master.is_some());
    Ok(match (demoted, moving) {
        (Some(node), _) => {
            Err(format!("{} is a replica: a failover is under way", node.client.address()))
        }
        (None, Some(moving)) => Err(format!("it is being resharded ({moving})")),
        (None, None) => Ok(nodes),
    })
}

/// The masters, connected.
async fn masters(slots: &Slots, redis: &Redis, wait: Duration) -> Result<Vec<Node>, Error> {
    let mut nodes = Vec::new();
    for (Master { host, port, .. }, slots) in slots.masters() {
        let redis = at(redis, &host, port);
        let mut client = connect(&redis, wait).await?;
        let server = Server::ask(&mut client).await?;
        nodes.push(Node { redis, client, server, slots });
    }
    Ok(nodes)
}

/// A slot on its way. Only the two masters concerned know of it, so all are asked. Fails where another node answers than
/// the map has there: its keys would be taken for the other's.
async fn moving_in_any(slots: &Slots, nodes: &mut [Node]) -> Result<Option<String>, Error> {
    let mut found = None;
    for (node, (master, _)) in nodes.iter_mut().zip(slots.masters()) {
        let nodes = node.client.text(&[b"CLUSTER", b"NODES"]).await?;
        if let Some(myself) = myself(&nodes).filter(|id| !master.id.is_empty() && *id != master.id)
        {
            let address = node.client.address().to_owned();
            return Err(Error::WrongNode { address, named: master.id, found: myself.to_owned() });
        }
        found = found.or_else(|| moving_in(&nodes));
    }
    Ok(found)
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
    } else if let Some(moving) = moving_in_any(&now, &mut masters(&now, redis, wait).await?).await?
    {
        format!("a resharding began while it was dumped ({moving})")
    } else {
        return Ok(());
    };
    Err(Error::Unsettled { address: client.address().to_owned(), why })
}

pub(super) async fn ask(client: &mut Client, redis: &Redis) -> Result<Slots, Error> {
    Ok(parse(&client.run(&[b"CLUSTER", b"SLOTS"]).await?, &redis.host))
}

/// A cluster may keep the hosts of its masters to itself (`cluster-preferred-endpoint-type`). Then they are at `host`, which
/// was asked, each at its port; where they share a port, each is at the IP address that is told beside.
fn parse(reply: &Reply, host: &str) -> Slots {
    let Reply::Array(Some(ranges)) = reply else { return Slots::default() };
    let ranges: Vec<_> = ranges.iter().filter_map(range).collect();
    let shared = ranges.iter().any(|(_, one)| {
        one.host.is_none()
            && ranges.iter().any(|(_, other)| {
                (one.port, &one.id) != (other.port, &other.id) && one.port == other.port
            })
    });
    let master = |Named { host: named, ip, port, id }: Named| {
        let told = named.or_else(|| ip.filter(|_| shared));
        Master { host: told.unwrap_or_else(|| host.to_owned()), port, id }
    };
    Slots { ranges: ranges.into_iter().map(|(range, named)| (range, master(named))).collect() }
}

/// A master in a reply to `CLUSTER SLOTS`.
struct Named {
    /// `None` where the cluster does not tell.
    host: Option<String>,
    ip: Option<String>,
    port: u16,
    id: String,
}

fn range(fields: &Reply) -> Option<((u16, u16), Named)> {
    let Reply::Array(Some(fields)) = fields else { return None };
    let [first, last, Reply::Array(Some(master)), ..] = fields.as_slice() else { return None };
    let number = |field: &Reply| match field {
        Reply::Integer(number) => u16::try_from(*number).ok(),
        _ => None,
    };
    let metadata = match master.get(3) {
        Some(Reply::Array(Some(pairs))) => pairs.as_slice(),
        _ => &[],
    };
    let ip = metadata.chunks_exact(2).find(|pair| text(&pair[0]) == Some("ip"));
    let named = Named {
        host: text(master.first()?).filter(|name| !matches!(*name, "" | "?")).map(str::to_owned),
        ip: ip.and_then(|pair| text(&pair[1])).map(str::to_owned),
        port: number(master.get(1)?)?,
        id: master.get(2).and_then(text).unwrap_or_default().to_owned(),
    };
    Some(((number(first)?, number(last)?), named))
}

fn text(reply: &Reply) -> Option<&str> {
    match reply {
        Reply::Bulk(Some(text)) => std::str::from_utf8(text).ok(),
        _ => None,
    }
}

/// The id of the node that answered `CLUSTER NODES`.
fn myself(nodes: &str) -> Option<&str> {
    let mine = |line: &&str| {
        line.split(' ').nth(2).is_some_and(|flags| flags.split(',').any(|flag| flag == "myself"))
    };
    nodes.lines().find(mine)?.split(' ').next()
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
        let a = Master { host: "a".to_owned(), port: 1, id: String::new() };
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
        let nodes =
            "id1 h:1@2 master - 0 0 1 connected 0-5\nid2 h:2@3 myself,master - 0 0 2 connected\n";
        assert_eq!(myself(nodes), Some("id2"));
    }

    /// What `CLUSTER SLOTS` tells of a master: its host, its port, its id, and an IP address beside.
    fn told(host: Option<&str>, port: i64, id: &str, ip: &str) -> Reply {
        let bulk = |text: &str| Reply::Bulk(Some(text.to_owned().into()));
        let host = host.map_or(Reply::Bulk(None), bulk);
        let beside = Reply::Array(Some(vec![bulk("ip"), bulk(ip)]));
        Reply::Array(Some(vec![host, Reply::Integer(port), bulk(id), beside]))
    }

    #[test]
    fn masters_of_which_no_host_is_told_are_never_one() {
        let hosts = |masters: Vec<Reply>| {
            let ranges = masters.into_iter().zip(0..).map(|(master, slot)| {
                Reply::Array(Some(vec![Reply::Integer(slot), Reply::Integer(slot), master]))
            });
            let slots = parse(&Reply::Array(Some(ranges.collect())), "asked");
            slots.masters().into_iter().map(|(master, _)| master.host).collect::<Vec<_>>()
        };
        for unknown in [None, Some("?"), Some("")] {
            let one = |port, id, ip| told(unknown, port, id, ip);
            // As behind one balancer, a port each; and as pods, an address each.
            assert_eq!(hosts(vec![one(1, "a", "::1"), one(2, "b", "::2")]), ["asked", "asked"]);
            assert_eq!(hosts(vec![one(1, "a", "::1"), one(1, "b", "::2")]), ["::1", "::2"]);
        }
        let named = hosts(vec![told(Some("x"), 1, "a", "::1"), told(Some("x"), 1, "a", "::1")]);
        assert_eq!(named, ["x"]);
    }
}
