//! Which server it is, from its `INFO`.

use std::collections::{BTreeMap, HashMap};

use coffer_rdb::version::Version;

use super::{Client, Error};

/// What a server says about itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Server {
    /// `redis` or `valkey`.
    pub software: &'static str,
    /// Its own version: for Valkey not the Redis version that it claims compatibility with.
    pub version: String,
    /// `redis_version`, which decides about commands.
    pub redis_version: String,
    /// `valkey_version`.
    pub valkey_version: Option<String>,
    /// `run_id`.
    pub run_id: String,
    /// Whether it is part of a Redis Cluster.
    pub cluster: bool,
    /// Host and port of its master, for a replica.
    pub master: Option<String>,
    /// Bytes used by data and server.
    pub used_memory: u64,
    /// Keys in all databases.
    pub keys: u64,
    /// Keys by database, of those that hold any.
    pub databases: BTreeMap<u64, u64>,
    /// Whether it is no Redis but a Sentinel that knows where one is.
    pub is_sentinel: bool,
    /// Of a replica: whether it is connected with its master and has all of its data.
    pub link_is_up: bool,
    /// The history of writes that its data are of (`master_replid`): a replica's is its master's. Empty before 4.0.
    pub replication_id: String,
    /// How far it has come in it, in bytes.
    pub offset: u64,
    /// The history before, of which its data are the continuation (`master_replid2`): its former master's, for one that was
    /// promoted. Zeros where there is none.
    pub former_replication_id: String,
    /// The first byte that is of the new history.
    pub former_offset: u64,
    /// Whether it says at all which databases hold keys: a proxy may not.
    pub shows_databases: bool,
    /// Its replicas.
    pub replicas: Vec<Replica>,
    /// `maxmemory`; 0 is no limit.
    pub maxmemory: u64,
    /// `maxmemory-policy`: which keys it throws away at its `maxmemory`.
    pub maxmemory_policy: String,
    /// What its process takes in memory.
    pub resident_memory: u64,
    /// The memory of its machine.
    pub system_memory: u64,
    /// Bytes used that do not count for `maxmemory`.
    pub uncounted_memory: u64,
    /// Keys that it has thrown away since it started, to stay below its `maxmemory`.
    pub evicted_keys: u64,
    /// Keys that it has removed since it started because their time had passed.
    pub expired_keys: u64,
    /// Function libraries, where it knows such.
    pub libraries: u64,
}

/// A replica as its master sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Replica {
    /// Host.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Whether it has all data and receives what is new.
    pub online: bool,
    /// How far it has come.
    pub offset: u64,
    /// Seconds since it said so.
    pub lag: u64,
}

impl Server {
    /// Asks a server.
    ///
    /// # Errors
    /// When it does not answer, or does not allow the question.
    pub async fn ask(client: &mut Client) -> Result<Self, Error> {
        // One plain INFO: naming sections one by one needs 7.0, `all` adds hundreds of lines.
        let info = client.text(&[b"INFO"]).await?;
        Ok(Self::parse(&info))
    }

    pub(crate) fn parse(info: &str) -> Self {
        let fields: HashMap<&str, &str> =
            info.lines().filter_map(|line| line.trim_end().split_once(':')).collect();
        let text = |name: &str| fields.get(name).copied().unwrap_or_default();
        let valkey_version = fields.get("valkey_version").map(|version| (*version).to_owned());
        let master = (text("role") == "slave")
            .then(|| format!("{}:{}", text("master_host"), text("master_port")));
        let number = |name: &str| text(name).parse().unwrap_or(0);
        let databases: BTreeMap<u64, u64> = fields
            .iter()
            .filter_map(|(name, figures)| {
                let index = name.strip_prefix("db")?.parse().ok()?;
                let keys = figures.split(',').next()?.strip_prefix("keys=")?.parse().ok()?;
                Some((index, keys))
            })
            .collect();
        let replicas = (0..number("connected_slaves"))
            .filter_map(|index| Replica::parse(text(&format!("slave{index}"))))
            .collect();
        Self {
            software: if valkey_version.is_some() { "valkey" } else { "redis" },
            version: valkey_version.clone().unwrap_or_else(|| text("redis_version").to_owned()),
            redis_version: text("redis_version").to_owned(),
            valkey_version,
            run_id: text("run_id").to_owned(),
            cluster: !matches!(text("cluster_enabled"), "" | "0"),
            master,
            used_memory: number("used_memory"),
            keys: databases.values().copied().fold(0, u64::saturating_add),
            databases,
            // The first is Redis's name for it, the other Valkey's.
            is_sentinel: ["redis_mode", "server_mode"].iter().any(|name| text(name) == "sentinel"),
            link_is_up: text("master_link_status") == "up",
            replication_id: text("master_replid").to_owned(),
            offset: number("master_repl_offset"),
            former_replication_id: text("master_replid2").to_owned(),
            former_offset: number("second_repl_offset"),
            shows_databases: info.contains("# Keyspace"),
            replicas,
            maxmemory: number("maxmemory"),
            maxmemory_policy: text("maxmemory_policy").to_owned(),
            resident_memory: number("used_memory_rss"),
            system_memory: number("total_system_memory"),
            uncounted_memory: number("mem_not_counted_for_evict"),
            evicted_keys: number("evicted_keys"),
            expired_keys: number("expired_keys"),
            libraries: number("number_of_libraries"),
        }
    }

    /// By how many bytes its data exceed its `maxmemory`, so that it throws keys away or refuses writes.
    #[must_use]
    pub const fn memory_exceeded_by(&self) -> u64 {
        match self.maxmemory {
            0 => 0,
            limit => self.used_memory.saturating_sub(self.uncounted_memory).saturating_sub(limit),
        }
    }

    /// Why its data are not those that it had then, if they are not: a replica takes over all of its master's.
    #[must_use]
    pub fn replaced_since(&self, then: &Self) -> Option<String> {
        if self.run_id != then.run_id {
            return Some("another server answers, or it was started anew".to_owned());
        }
        let knows_ids = !(self.replication_id.is_empty() && then.replication_id.is_empty());
        // Who was promoted, or goes on after its master was, keeps the data, and the id behind the new one.
        let goes_on =
            [&self.replication_id, &self.former_replication_id].contains(&&then.replication_id);
        match (&then.master, &self.master) {
            (before, now) if !knows_ids => (before != now)
                .then(|| format!("its master was {} and is {}", named(before), named(now))),
            _ if goes_on => None,
            // A master begins a history of its own when its first replica comes, and long after the last has gone.
            (None, None) if self.former_replication_id.bytes().all(|digit| digit == b'0') => None,
            (_, None) => Some("it was a replica of another server meanwhile".to_owned()),
            (_, Some(master)) => Some(format!("it took over the data of {master}")),
        }
    }

    /// The newest RDB dialect that it reads.
    #[must_use]
    pub fn reads(&self) -> Version {
        Version::read_by(&self.redis_version, self.valkey_version.as_deref())
    }

    /// Whether it has the commands of that Redis version, for example `(5, 0)`.
    #[must_use]
    pub fn is_at_least(&self, major: u32, minor: u32) -> bool {
        let mut parts = self.redis_version.split('.').map(|part| part.parse().unwrap_or(0));
        let have: (u32, u32) = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
        have >= (major, minor)
    }
}

fn named(master: &Option<String>) -> &str {
    master.as_deref().unwrap_or("none")
}

impl Replica {
    /// `ip=10.0.0.2,port=6379,state=online,offset=1234,lag=1`
    fn parse(line: &str) -> Option<Self> {
        let fields: HashMap<&str, &str> =
            line.split(',').filter_map(|field| field.split_once('=')).collect();
        let number = |name: &str| fields.get(name)?.parse().ok();
        Some(Self {
            host: (*fields.get("ip")?).to_owned(),
            port: fields.get("port")?.parse().ok()?,
            online: fields.get("state") == Some(&"online"),
            offset: number("offset").unwrap_or(0),
            // Unknown while it is not online.
            lag: number("lag").unwrap_or(u64::MAX),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_limit_can_be_exceeded() {
        let server = |limit| Server {
            maxmemory: limit,
            used_memory: 100,
            uncounted_memory: 10,
            ..Server::default()
        };
        assert_eq!([0, 89, 90].map(|limit| server(limit).memory_exceeded_by()), [0, 1, 0]);
    }

    #[test]
    fn data_that_were_replaced_are_noticed() {
        let server = |run_id: &str, master: Option<&str>, id: &str, before: &str| Server {
            run_id: run_id.to_owned(),
            master: master.map(str::to_owned),
            replication_id: id.to_owned(),
            former_replication_id: before.to_owned(),
            ..Server::default()
        };
        let (master, replica) = (server("r", None, "a", "0"), server("r", Some("m:1"), "a", "0"));
        for (then, now) in [
            (&master, server("r", None, "a", "0")),
            // Its first replica came.
            (&master, server("r", None, "b", "0")),
            // Demoted, and still, or again, with its data.
            (&master, server("r", Some("m:1"), "a", "0")),
            (&master, server("r", Some("m:1"), "b", "a")),
            (&replica, server("r", Some("m:1"), "a", "0")),
            // Promoted; its master was replaced by another of its replicas.
            (&replica, server("r", None, "b", "a")),
            (&replica, server("r", Some("n:1"), "b", "a")),
            (&server("r", None, "", ""), server("r", None, "", "")),
        ] {
            assert_eq!(now.replaced_since(then), None, "{now:?}");
        }
        for (then, now, why) in [
            (&master, server("s", None, "a", "0"), "started anew"),
            (&master, server("r", Some("m:1"), "b", "0"), "took over the data of m:1"),
            (&master, server("r", None, "c", "b"), "was a replica of another"),
            (&replica, server("r", Some("m:1"), "b", "0"), "took over the data of m:1"),
            (&replica, server("r", None, "c", "b"), "was a replica of another"),
            (&server("r", None, "", ""), server("r", Some("m:1"), "", ""), "was none and is m:1"),
        ] {
            let found = now.replaced_since(then).unwrap_or_default();
            assert!(found.contains(why), "{now:?}: {found}");
        }
    }

    #[test]
    fn reads_info_of_both_vendors() {
        let redis = Server::parse(
            "# Server\r\nredis_version:7.0.15\r\nrun_id:abc\r\nused_memory:900\r\nrole:master\r\n\
             cluster_enabled:0\r\n# Keyspace\r\ndb0:keys=3,expires=1,avg_ttl=0\r\ndb15:keys=4,expires=0,avg_ttl=0\r\n",
        );
        assert_eq!((redis.software, redis.version.as_str()), ("redis", "7.0.15"));
        assert_eq!((redis.keys, redis.used_memory, redis.cluster), (7, 900, false));
        assert_eq!(redis.databases, BTreeMap::from([(0, 3), (15, 4)]));
        assert_eq!(redis.reads(), Version::redis(10));
        assert!(redis.is_at_least(7, 0) && !redis.is_at_least(7, 2));
        let valkey = Server::parse(
            "redis_version:7.2.4\r\nvalkey_version:9.1.2\r\nrole:slave\r\nmaster_host:m\r\nmaster_port:1\r\n\
             cluster_enabled:1\r\nconnected_slaves:2\r\nmaster_link_status:up\r\n\
             slave0:ip=10.0.0.2,port=6379,state=online,offset=1234,lag=1\r\n\
             slave1:ip=::1,port=6380,state=wait_bgsave,offset=0,lag=0\r\n",
        );
        let replicas: Vec<_> = valkey
            .replicas
            .iter()
            .map(|r| (r.host.as_str(), r.port, r.online, r.offset, r.lag))
            .collect();
        assert_eq!(replicas, [("10.0.0.2", 6379, true, 1234, 1), ("::1", 6380, false, 0, 0)]);
        assert!(valkey.link_is_up && !valkey.is_sentinel);
        assert_eq!((valkey.software, valkey.version.as_str()), ("valkey", "9.1.2"));
        assert_eq!(valkey.master.as_deref(), Some("m:1"));
        assert!(valkey.cluster);
        assert_eq!(valkey.reads(), Version::valkey(80));
        for sentinel in ["redis_mode:sentinel", "server_mode:sentinel"] {
            assert!(Server::parse(sentinel).is_sentinel);
        }
    }
}
