//! From what was dumped to the manifest of the contract.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use coffer_api::manifest::DUMP_RDB;
use coffer_proto::storage::v1 as proto;
use coffer_rdb::value::Kind;
use coffer_rdb::walk::Summary;

use crate::redis::{Received, Server};

/// How this version dumps.
pub(crate) const REPLICATION: &str = "replication";

/// The manifest of a dump that arrived whole.
pub(crate) fn manifest(
    received: &Received,
    server: &Server,
    sha256: Vec<u8>,
    started: DateTime<Utc>,
    finished: DateTime<Utc>,
) -> proto::Manifest {
    let Received { summary, opaque: _, bytes, replication_id, offset } = received;
    let file = proto::FileSum { path: DUMP_RDB.to_owned(), bytes: *bytes, sha256: sha256.into() };
    proto::Manifest {
        method: REPLICATION.to_owned(),
        files: vec![file],
        databases: summary.as_ref().map(databases).unwrap_or_default(),
        server: Some(proto::Server {
            software: server.software.to_owned(),
            version: server.version.clone(),
            run_id: server.run_id.clone(),
            replication_id: replication_id.clone(),
            replication_offset: *offset,
        }),
        started: Some(timestamp(started)),
        finished: Some(timestamp(finished)),
        counted: summary.is_some(),
        rdb_version: summary
            .as_ref()
            .and_then(|summary| summary.version)
            .map_or(0, |version| u32::from(version.number)),
        functions: summary.as_ref().map_or(0, |summary| summary.functions),
    }
}

fn databases(summary: &Summary) -> Vec<proto::Database> {
    let found = summary.databases.iter().filter(|(_, database)| database.total() > 0);
    found
        .map(|(index, database)| proto::Database {
            index: u32::try_from(*index).unwrap_or(u32::MAX),
            keys: by_name(database.keys.iter().map(|(kind, count)| (*kind, *count))).collect(),
            expiring: database.expiring,
        })
        .collect()
}

/// Counts by the word that Redis has for the type.
pub(crate) fn by_name(
    counts: impl Iterator<Item = (Kind, u64)>,
) -> impl Iterator<Item = (String, u64)> {
    counts.map(|(kind, count)| (kind.name().to_owned(), count))
}

/// Keys by type over all databases.
pub(crate) fn totals(manifest: &proto::Manifest) -> HashMap<String, u64> {
    let mut totals = HashMap::new();
    for (name, count) in manifest.databases.iter().flat_map(|database| &database.keys) {
        *totals.entry(name.clone()).or_default() += count;
    }
    totals
}

fn timestamp(instant: DateTime<Utc>) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: instant.timestamp(),
        nanos: i32::try_from(instant.timestamp_subsec_nanos()).unwrap_or(0),
    }
}
