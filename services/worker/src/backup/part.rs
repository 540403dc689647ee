//! The data of one server on their way into one file of the snapshot. Those of a cluster go side by side.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use coffer_api::session::Redis;
use coffer_rdb::walk::Summary;
use coffer_runtime::fault;
use crc_fast::CrcAlgorithm;
use sha2::{Digest, Sha256};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::Ended;
use crate::error::Error;
use crate::gateway::{Closed, Pieces, Upload};
use crate::keyspace::{Contents, Counting};
use crate::options::{self, Method};
use crate::progress::{Progress, State};
use crate::redis::{self, Node, Replication, Scan, ScanOptions, Server};

/// Where a part comes from, and where it goes.
pub(crate) struct Origin {
    pub(crate) redis: Redis,
    pub(crate) address: String,
    pub(crate) server: Server,
    pub(crate) slots: Vec<(u16, u16)>,
    /// The file.
    pub(crate) path: String,
}

impl Origin {
    pub(super) fn of(node: &Node, path: &str) -> Self {
        Self {
            redis: node.redis.clone(),
            address: node.client.address().to_owned(),
            server: node.server.clone(),
            slots: node.slots.clone(),
            path: path.to_owned(),
        }
    }

    /// `replica 10.0.0.2:6379`.
    pub(super) fn described(&self) -> String {
        let role = if self.server.master.is_some() { "replica" } else { "master" };
        format!("{role} {}", self.address)
    }
}

/// A part that is whole.
pub(crate) struct Part {
    pub(crate) origin: Origin,
    pub(crate) bytes: u64,
    pub(crate) sha256: Vec<u8>,
    /// CRC-64/NVME.
    pub(crate) crc64: u64,
    pub(crate) summary: Summary,
    /// Whether the summary counts every key.
    pub(crate) counted: bool,
    pub(crate) rdb_version: u16,
    pub(crate) replication_id: String,
    pub(crate) offset: i64,
    /// What is in it, when that was asked for and could be had.
    pub(crate) contents: Option<Contents>,
    /// What a user should know of it.
    pub(crate) remarks: Vec<String>,
}

/// Data on their way, by whatever method.
pub(super) enum Dump {
    Replication(Box<Replication>),
    Scan(Scan),
}

impl Dump {
    async fn next(&mut self) -> Result<Option<Bytes>, redis::Error> {
        match self {
            Self::Replication(replication) => replication.next().await,
            Self::Scan(scan) => scan.next().await,
        }
    }

    fn so_far(&self) -> (u64, u64) {
        match self {
            Self::Replication(replication) => (replication.bytes(), replication.keys()),
            Self::Scan(scan) => (scan.bytes(), scan.keys()),
        }
    }

    pub(super) const fn began_after(&self) -> Duration {
        match self {
            Self::Replication(replication) => replication.began_after(),
            Self::Scan(_) => Duration::ZERO,
        }
    }

    pub(super) fn announced(&self) -> Option<u64> {
        match self {
            Self::Replication(replication) => replication.announced(),
            Self::Scan(_) => None,
        }
    }
}

/// Starts with all servers at once, so that the parts of a cluster are of nearly one time.
pub(super) async fn start_all(
    nodes: Vec<Node>,
    method: Method,
    options: &options::Backup,
    scratch: &Path,
    wait: Duration,
) -> Result<Vec<Dump>, Ended> {
    let options = ScanOptions {
        filter: options.filter.clone(),
        order: options.order,
        pace: options.pace,
        typed: method == Method::Portable,
        scratch: scratch.to_owned(),
    };
    let mut starting = JoinSet::new();
    for (index, node) in nodes.into_iter().enumerate() {
        let options = options.clone();
        starting.spawn(async move {
            let Node { client, server, .. } = node;
            let dump = match method {
                Method::Auto | Method::Replication => Replication::start(client, &server, wait)
                    .await
                    .map(|replication| Dump::Replication(Box::new(replication))),
                Method::Scan | Method::Portable => {
                    Scan::start(client, &server, options).await.map(Dump::Scan)
                }
            };
            (index, dump)
        });
    }
    let mut dumps = Vec::new();
    while let Some(started) = starting.join_next().await {
        let Ok((index, dump)) = started else { return Err(gone()) };
        dumps.push((index, dump.map_err(refused_or_failed)?));
    }
    dumps.sort_by_key(|(index, _)| *index);
    Ok(dumps.into_iter().map(|(_, dump)| dump).collect())
}

fn refused_or_failed(error: redis::Error) -> Ended {
    if is_refusal(&error) { Ended::NotAllowed(error) } else { error.into() }
}

/// Whether the server says no to the method; otherwise something is wrong.
pub(super) fn is_refusal(error: &redis::Error) -> bool {
    matches!(
        error,
        redis::Error::Permission { .. }
            | redis::Error::Refused { .. }
            | redis::Error::Answer { .. }
    )
}

/// Takes all dumps to their ends. The first that fails ends the others.
pub(super) async fn drain_all(
    dumps: Vec<Dump>,
    origins: Vec<Origin>,
    upload: &mut Upload,
    progress: &Progress,
    digest: bool,
) -> Result<Vec<Part>, Ended> {
    let mut draining = JoinSet::new();
    for (index, (dump, origin)) in dumps.into_iter().zip(origins).enumerate() {
        let Ok(pieces) = upload.pieces(index) else { return Err(upload.ended().await.into()) };
        let meter = progress.meter();
        let counting = digest.then(|| Counting::start(&origin.path));
        draining.spawn(async move { (index, drain(dump, origin, pieces, meter, counting).await) });
    }
    let mut parts = Vec::new();
    while let Some(drained) = draining.join_next().await {
        match drained {
            Err(_) => return Err(gone()),
            Ok((index, Ok(part))) => parts.push((index, part)),
            Ok((_, Err(Stopped::Redis(error)))) => return Err(error.into()),
            Ok((_, Err(Stopped::Gateway))) => return Err(upload.ended().await.into()),
        }
    }
    parts.sort_by_key(|(index, _)| *index);
    Ok(parts.into_iter().map(|(_, part)| part).collect())
}

/// Why a dump did not come to its end.
enum Stopped {
    Redis(redis::Error),
    Gateway,
}

impl From<redis::Error> for Stopped {
    fn from(error: redis::Error) -> Self {
        Self::Redis(error)
    }
}

impl From<Closed> for Stopped {
    fn from(Closed: Closed) -> Self {
        Self::Gateway
    }
}

async fn drain(
    mut dump: Dump,
    origin: Origin,
    pieces: Pieces,
    meter: watch::Sender<State>,
    counting: Option<Counting>,
) -> Result<Part, Stopped> {
    let (mut crc64, mut sha256) = (crc_fast::Digest::new(CrcAlgorithm::Crc64Nvme), Sha256::new());
    let (mut bytes, mut told) = (0_u64, (0_u64, 0_u64));
    while let Some(chunk) = dump.next().await? {
        // In this order: what changes in memory behind the first is seen by the gateway.
        crc64.update(&chunk);
        sha256.update(&chunk);
        bytes += chunk.len() as u64;
        if let Some(counting) = &counting {
            counting.push(&chunk).await;
        }
        pieces.send(chunk).await?;
        let now = dump.so_far();
        meter.send_modify(|state| {
            state.bytes += now.0 - told.0;
            state.keys += now.1 - told.1;
        });
        told = now;
    }
    let mut part = Part {
        origin,
        bytes,
        sha256: sha256.finalize().to_vec(),
        crc64: crc64.finalize(),
        summary: Summary::default(),
        counted: true,
        rdb_version: 0,
        replication_id: String::new(),
        offset: 0,
        contents: None,
        remarks: vec![],
    };
    match dump {
        Dump::Replication(replication) => {
            let received = replication.finish()?;
            part.replication_id = received.replication_id;
            part.offset = received.offset;
            part.counted = received.summary.is_some();
            part.summary = received.summary.unwrap_or_default();
            part.rdb_version = part.summary.version.map_or(0, |version| version.number);
            part.remarks.extend(received.opaque.map(|reason| {
                format!("the dump is whole and was kept as it is, but its keys are not counted: {reason}")
            }));
        }
        Dump::Scan(scan) => {
            let scanned = scan.finish().await?;
            part.counted = scanned.unknown == 0;
            part.summary = scanned.summary;
            part.rdb_version = scanned.rdb_version;
            part.remarks = scanned.remarks;
            if scanned.unknown > 0 {
                part.remarks.push(format!(
                    "{} keys are of types that this version does not know: they are kept, and not counted",
                    scanned.unknown
                ));
            }
        }
    }
    // The dump is whole, whatever the digest comes to.
    match counting {
        None => {}
        Some(counting) => match counting.finish().await {
            Ok(contents) => part.contents = Some(contents),
            Err(error) => {
                part.remarks.push(format!("there is no digest: {}", fault::chain(&error)))
            }
        },
    }
    Ok(part)
}

fn gone() -> Ended {
    // A task of ours that ends without a result has been aborted, with the whole process.
    Ended::Failed(Error::Terminated)
}
