//! `/manifest.json`: what a snapshot holds, for programs and people that have only the repository.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// Path of the manifest in a snapshot.
pub const PATH: &str = "/manifest.json";
/// Path of an RDB dump in a snapshot.
pub const DUMP_RDB: &str = "/dump.rdb";
/// Path of the RDB dump of a shard of a cluster.
#[must_use]
pub fn shard_rdb(index: usize) -> String {
    format!("/dump-{index}.rdb")
}

/// Path of the RESP dump of a shard of a cluster.
#[must_use]
pub fn shard_resp(index: usize) -> String {
    format!("/dumpfile-{index}.resp")
}

/// Path of a RESP dump in a snapshot.
pub const DUMP_RESP: &str = "/dumpfile.resp";

/// What a snapshot holds. Fields may be added; `version` rises when one changes its meaning.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Version of this document: 1.
    pub version: u32,
    /// `replication`, `scan` or `portable`.
    pub method: String,
    /// The data files.
    pub files: Vec<FileSum>,
    /// The databases that hold keys.
    pub databases: Vec<Database>,
    /// Where it came from.
    pub server: Server,
    /// When the dump began.
    pub started: DateTime<Utc>,
    /// When it was complete.
    pub finished: DateTime<Utc>,
    /// False when something could not be walked and is therefore not in the counts.
    pub counted: bool,
    /// RDB version, 0 when the data is no RDB.
    pub rdb_version: u32,
    /// Function libraries.
    pub functions: u64,
    /// Why that method, when it was not asked for by name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// Of a Redis Cluster: which file holds which slots, and from where it came.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shards: Vec<Shard>,
    /// Digest of all that users stored, hex, when it was asked for.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub digest: String,
    /// Bytes of the largest value as a payload of `DUMP`; 0 when that is not known.
    #[serde(default)]
    pub largest_value_bytes: u64,
}

/// A master of a Redis Cluster as it was dumped.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Shard {
    /// Its file.
    pub path: String,
    /// The server that was read, host and port.
    pub address: String,
    /// Its slots, as ranges with both ends.
    pub slots: Vec<(u32, u32)>,
    /// What it said about itself.
    pub server: Server,
}

/// Size and sum of a data file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FileSum {
    /// `/dump.rdb`.
    pub path: String,
    /// Bytes.
    pub bytes: u64,
    /// Lower-case hex.
    pub sha256: String,
    /// CRC-64/NVME, 16 digits of lower-case hex; none in manifests of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crc64: Option<String>,
}

/// Keys of one database.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Database {
    /// Its number.
    pub index: u32,
    /// Keys by type: string, list, set, zset, hash, stream, module.
    pub keys: BTreeMap<String, u64>,
    /// Keys with a time to live.
    pub expiring: u64,
}

/// The server of a dump.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Server {
    /// `redis` or `valkey`.
    pub software: String,
    /// Its version.
    pub version: String,
    /// `run_id` of INFO.
    pub run_id: String,
    /// Replication id of the dump.
    pub replication_id: String,
    /// Replication offset of the dump.
    pub replication_offset: i64,
}

impl Manifest {
    /// Keys of all databases.
    #[must_use]
    pub fn keys(&self) -> u64 {
        self.databases.iter().flat_map(|d| d.keys.values()).sum()
    }
}
