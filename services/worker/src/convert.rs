//! From what was dumped to the manifest of the contract.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, Utc};
use coffer_proto::storage::v1 as proto;
use coffer_rdb::value::Kind;
use coffer_rdb::walk::Summary;

use crate::backup::Part;

pub(crate) fn file_sum(part: &Part) -> proto::FileSum {
    proto::FileSum {
        path: part.origin.path.clone(),
        bytes: part.bytes,
        sha256: part.sha256.clone().into(),
        crc64: Some(part.crc64),
    }
}

pub(crate) fn server(part: &Part) -> proto::Server {
    let server = &part.origin.server;
    proto::Server {
        software: server.software.to_owned(),
        version: server.version.clone(),
        run_id: server.run_id.clone(),
        replication_id: part.replication_id.clone(),
        replication_offset: part.offset,
    }
}

pub(crate) fn shard(part: &Part) -> proto::Shard {
    let range = |(first, last): &(u16, u16)| proto::SlotRange {
        first: u32::from(*first),
        last: u32::from(*last),
    };
    proto::Shard {
        path: part.origin.path.clone(),
        address: part.origin.address.clone(),
        slots: part.origin.slots.iter().map(range).collect(),
        server: Some(server(part)),
    }
}

/// The databases of all parts that hold keys.
pub(crate) fn databases<'a>(summaries: impl Iterator<Item = &'a Summary>) -> Vec<proto::Database> {
    let mut databases = BTreeMap::<u64, proto::Database>::new();
    let found = summaries.flat_map(|summary| &summary.databases);
    for (index, database) in found.filter(|(_, database)| database.total() > 0) {
        let sum = databases.entry(*index).or_default();
        sum.index = u32::try_from(*index).unwrap_or(u32::MAX);
        sum.expiring += database.expiring;
        for (name, count) in by_name(database.keys.iter().map(|(kind, count)| (*kind, *count))) {
            *sum.keys.entry(name).or_default() += count;
        }
    }
    databases.into_values().collect()
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

pub(crate) fn timestamp(instant: DateTime<Utc>) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: instant.timestamp(),
        nanos: i32::try_from(instant.timestamp_subsec_nanos()).unwrap_or(0),
    }
}
