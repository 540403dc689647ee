//! Servers of other versions, the same data for each of them, and what is in them whatever they made of it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use coffer_rdb::digest::{self, Digest};
use coffer_rdb::entries::{Entries, Entry, Event};
use coffer_rdb::resp::Reply;
use coffer_rdb::target::{Feature, Target};
use coffer_rdb::travel::{self, Loss, Travel};
use coffer_rdb::value;
use coffer_rdb::version::Version;
use coffer_worker::redis::Client;

use super::{LIBRARY, TestServer, dump, free_port, line, noise};

const FOR_CLUSTER: &[&str] = &["--cluster-enabled", "yes", "--cluster-node-timeout", "2000"];
const NO_LIMIT: u64 = 1 << 30;

/// A server of some version: the one of this machine, or one of those that `tests/tools/servers` installs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Make {
    pub(crate) name: &'static str,
    version: &'static str,
}

impl Make {
    pub(crate) const MACHINE: Self = Self { name: "redis-7.0", version: "7.0" };
    pub(crate) const REDIS_8: Self = Self { name: "redis-8.2", version: "8.2" };
    pub(crate) const VALKEY_9: Self = Self { name: "valkey-9.1", version: "9.1" };
    pub(crate) const ALL: [Self; 6] = [
        Self { name: "redis-5.0", version: "5.0" },
        Self { name: "redis-6.2", version: "6.2" },
        Self::MACHINE,
        Self::REDIS_8,
        Self { name: "valkey-8.1", version: "8.1" },
        Self::VALKEY_9,
    ];

    /// What clusters and Sentinels are tried with: the machine's, and the newest of both, where they exist.
    pub(crate) fn of_sets() -> impl Iterator<Item = Self> {
        [Self::MACHINE, Self::REDIS_8, Self::VALKEY_9]
            .into_iter()
            .filter(|make| Self::AVAILABLE || *make == Self::MACHINE)
    }

    /// Whether those servers exist for this machine; `tests/tools/servers` says so too.
    pub(crate) const AVAILABLE: bool = cfg!(all(target_os = "linux", target_arch = "x86_64"));

    pub(crate) fn target(self) -> Target {
        let valkey = self.name.starts_with("valkey").then_some(self.version);
        Target::from_info(valkey.map_or(self.version, |_| "7.2.4"), valkey)
    }

    pub(crate) fn can(self, feature: Feature) -> bool {
        self.target().can(feature)
    }

    pub(crate) fn program(self) -> PathBuf {
        if self == Self::MACHINE {
            return PathBuf::from("redis-server");
        }
        let servers = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/servers");
        Path::new(servers).join(self.name).join("server")
    }

    pub(crate) fn start(self, options: &[&str]) -> TestServer {
        self.start_on(free_port(), options)
    }

    /// Starts one for a cluster, whose other port is 10,000 higher.
    pub(crate) fn start_for_cluster(self) -> TestServer {
        self.start_on(port_of_cluster(), FOR_CLUSTER)
    }

    /// Starts three on one port, each at an address of its own, as pods have it.
    pub(crate) fn start_for_cluster_on_one_port(self) -> Vec<TestServer> {
        let port = port_of_cluster();
        let start = |host| {
            let options = [FOR_CLUSTER, &["--bind", host, "--cluster-announce-ip", host]].concat();
            let mut server = self.start_on(port, &options);
            server.host = host;
            server
        };
        ["127.0.0.1", "127.0.0.2", "127.0.0.3"].map(start).into()
    }

    fn start_on(self, port: u16, options: &[&str]) -> TestServer {
        let debug: &[&str] = if self.can(Feature::Functions) { super::DEBUG } else { &[] };
        let options = [debug, options].concat();
        TestServer::start_program(&self.program(), port, &["--port", &port.to_string()], &options)
    }
}

/// Of two ports, the other is 10,000 higher.
fn port_of_cluster() -> u16 {
    std::iter::repeat_with(free_port).find(|port| *port < 55_000).unwrap()
}

/// Every type that the server has, packed and not, and what is special about streams.
pub(crate) async fn fill(client: &mut Client, make: Make) {
    for command in [
        "SET int 12345",
        "HSET hash f v g w",
        "SADD intset 1 2 300000",
        "SADD set a b c",
        "ZADD zset 1.5 a -inf b +inf c 1e300 d 0.1 e",
        "RPUSH list a b -1 c",
        "PFADD hll a b c d e f",
        "SETBIT bits 1000 1",
        "GEOADD geo 13.361389 38.115556 Palermo",
        "SET later x",
        "PEXPIREAT later 4102444800123",
        "XADD stream 1-1 a 1 b 2",
        "XADD stream 2-1 a 1",
        "XADD stream 2-2 gone soon",
        "XADD stream 3-1 c 1 d 3",
        "XGROUP CREATE stream group 0",
        "XGROUP CREATE stream second 2-1",
        "XREADGROUP GROUP group alice COUNT 2 STREAMS stream >",
        "XACK stream group 1-1",
        "XREADGROUP GROUP group bob COUNT 2 STREAMS stream >",
        "XREADGROUP GROUP group nobody COUNT 1 STREAMS stream 0",
        "XCLAIM stream group carol 0 3-1 TIME 1600000000000 RETRYCOUNT 17 FORCE JUSTID",
        // Pending, and gone from the middle.
        "XDEL stream 2-2",
        "XADD trimmed 1-1 f v",
        "XADD trimmed 1-2 f v",
        "XADD trimmed 1-3 f v",
        "XGROUP CREATE trimmed g 0",
        "XREADGROUP GROUP g c COUNT 3 STREAMS trimmed >",
        // Pending, and gone from the front.
        "XTRIM trimmed MAXLEN 1",
        "PEXPIREAT trimmed 4102444800999",
        "XADD emptied 7-7 f v",
        "XGROUP CREATE emptied g 0",
        "XREADGROUP GROUP g c COUNT 3 STREAMS emptied >",
        "XDEL emptied 7-7",
        "XGROUP CREATE no-entries g $ MKSTREAM",
        "SELECT 3",
        "SET here 3",
        "SELECT 0",
    ] {
        line(client, command).await;
    }
    let all: Vec<u8> = (0..=255).collect();
    client.run(&[b"SET", b"\x00\xff\r\n\x80", &all]).await.unwrap();
    client.run(&[b"RPUSH", b"plain-nodes", &noise(20_000), b"x", &noise(9_000)]).await.unwrap();
    let script = b"for i = 1, 2500 do local m = 'member-' .. i .. string.rep('y', 70) \
        redis.call('HSET', 'big-hash', m, i) redis.call('SADD', 'big-set', m) \
        redis.call('ZADD', 'big-zset', i / 3, m) redis.call('RPUSH', 'big-list', m) \
        redis.call('XADD', 'big-stream', i .. '-1', 'f', m) end";
    client.run(&[b"EVAL", script, b"0"]).await.unwrap();
    line(client, "XGROUP CREATE big-stream g 0").await;
    line(client, "XREADGROUP GROUP g c COUNT 1700 STREAMS big-stream >").await;
    if make.can(Feature::Functions) {
        client.run(&[b"FUNCTION", b"LOAD", LIBRARY]).await.unwrap();
    }
    if make.can(Feature::FieldTtls) {
        for command in [
            "HSET ttl f v g w h x",
            "HPEXPIREAT ttl 4102444800123 FIELDS 1 f",
            "HPEXPIREAT ttl 4102444900123 FIELDS 1 g",
        ] {
            line(client, command).await;
        }
    }
}

/// The keys of a server.
pub(crate) async fn entries(server: &TestServer) -> Vec<Entry> {
    let (chunks, _) = dump(&server.redis()).await.unwrap();
    let mut reader = Entries::new(NO_LIMIT);
    let mut entries = Vec::new();
    for chunk in chunks {
        reader.feed(chunk);
        while let Some(event) = reader.next().unwrap() {
            if let Event::Entry(entry) = event {
                entries.push(entry);
            }
        }
    }
    reader.finish().unwrap();
    entries
}

/// Digests by database and key.
pub(crate) type Keys = BTreeMap<(u64, Bytes), Digest>;

/// What entries come to in a server of that make, without what it has no place for.
pub(crate) fn digests(entries: &[Entry], make: Make) -> Keys {
    let pairs = value::lookup(4, Version::redis(6)).unwrap();
    let target = make.target();
    let digest = |entry: &Entry| {
        let travels = travel::travel(entry.value_type, &entry.body, &target, NO_LIMIT).unwrap();
        let Travel::Partly(_, Loss::FieldTtls { .. }) = travels else {
            return digest::of_entry(entry, NO_LIMIT).unwrap();
        };
        let body = travel::reencode(entry.value_type, &entry.body, pairs, NO_LIMIT).unwrap();
        let plain = Entry { value_type: pairs, body, ..entry.clone() };
        digest::of_entry(&plain, NO_LIMIT).unwrap()
    };
    entries.iter().map(|entry| ((entry.database, entry.key.clone()), digest(entry))).collect()
}

/// What servers show of a stream and no digest covers, where both keep it.
pub(crate) async fn figures(client: &mut Client, key: &str) -> String {
    let mut text = format!("{:?}", line(client, &format!("XINFO GROUPS {key}")).await);
    if let Reply::Array(Some(fields)) = line(client, &format!("XINFO STREAM {key}")).await {
        for pair in fields.chunks(2) {
            if ["entries-added", "max-deleted-entry-id", "length", "last-generated-id"]
                .iter()
                .any(|name| pair[0] == Reply::Bulk(Some(Bytes::from_static(name.as_bytes()))))
            {
                text.push_str(&format!("{pair:?}"));
            }
        }
    }
    text
}
