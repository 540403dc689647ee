//! Which server it is, from its `INFO`.

use std::collections::HashMap;

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
    /// Keys that it has thrown away since it started, to stay below its `maxmemory`.
    pub evicted_keys: u64,
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
        let keys = fields
            .iter()
            .filter(|(name, _)| {
                name.strip_prefix("db").is_some_and(|n| n.bytes().all(|b| b.is_ascii_digit()))
            })
            .filter_map(|(_, figures)| {
                figures.split(',').next()?.strip_prefix("keys=")?.parse().ok()
            })
            .fold(0_u64, u64::saturating_add);
        Self {
            software: if valkey_version.is_some() { "valkey" } else { "redis" },
            version: valkey_version.clone().unwrap_or_else(|| text("redis_version").to_owned()),
            redis_version: text("redis_version").to_owned(),
            valkey_version,
            run_id: text("run_id").to_owned(),
            cluster: !matches!(text("cluster_enabled"), "" | "0"),
            master,
            used_memory: text("used_memory").parse().unwrap_or(0),
            keys,
            evicted_keys: text("evicted_keys").parse().unwrap_or(0),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_info_of_both_vendors() {
        let redis = Server::parse(
            "# Server\r\nredis_version:7.0.15\r\nrun_id:abc\r\nused_memory:900\r\nrole:master\r\n\
             cluster_enabled:0\r\n# Keyspace\r\ndb0:keys=3,expires=1,avg_ttl=0\r\ndb15:keys=4,expires=0,avg_ttl=0\r\n",
        );
        assert_eq!((redis.software, redis.version.as_str()), ("redis", "7.0.15"));
        assert_eq!((redis.keys, redis.used_memory, redis.cluster), (7, 900, false));
        assert_eq!(redis.reads(), Version::redis(10));
        assert!(redis.is_at_least(7, 0) && !redis.is_at_least(7, 2));
        let valkey = Server::parse(
            "redis_version:7.2.4\r\nvalkey_version:9.1.2\r\nrole:slave\r\nmaster_host:m\r\nmaster_port:1\r\n\
             cluster_enabled:1\r\n",
        );
        assert_eq!((valkey.software, valkey.version.as_str()), ("valkey", "9.1.2"));
        assert_eq!(valkey.master.as_deref(), Some("m:1"));
        assert!(valkey.cluster);
        assert_eq!(valkey.reads(), Version::valkey(80));
    }
}
