//! What is in a keyspace, wherever it is: a server, a snapshot, a file. For `coffer digest` and `coffer diff`.
//!
//! A server is read by replication, else by scan; a snapshot as it is downloaded. One value is in memory at a time.

mod reading;
mod source;

use std::{path::Path, time::Duration};

use anyhow::Context;
use coffer_proto::storage::v1::{
    DownloadRequest, RepositoryRef, RestoreHeader, restore_response::Message,
};
use coffer_runtime::fault::{Class, class_of};
use coffer_worker::{
    filter::Filter,
    keyspace::{Keys, Reader},
    options::{Order, Pace, Prefer},
    redis::{self, Node, Replication, Scan, ScanOptions, Topology},
};
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncReadExt;

pub use coffer_worker::keyspace::Contents;
pub use source::{ServerArgs, Source};

use self::reading::Reading;
use crate::{client::Cluster, errors::Advice, maintenance, maintenance::LockArgs};

/// How long a server may take to be there: somebody sits before it.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long it may take to begin its dump.
const WAIT: Duration = Duration::from_secs(60);
const CHUNK_BYTES: usize = 1 << 20;
/// The document in a snapshot that names its files.
const MANIFEST: &str = "/manifest.json";
const NO_RDB: &str = "an RDB file begins with REDIS or VALKEY; a dump of commands is read from a file whose name ends in .resp";
const GRANT_FUNCTIONS: &str = "they count, and without them the result would be wrong: grant the user +psync +replconf, or \
    +function|dump; a url with a database (redis://HOST/0) counts that database alone, without libraries";

/// What is to be read of a source.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    /// Whether the digest of every key is kept.
    pub each: bool,
    /// The database that counts alone, without function libraries; all when absent.
    pub only: Option<u64>,
    /// What has expired by then counts nowhere, in milliseconds since 1970.
    pub as_of_ms: i64,
}

/// Reads all of a source, and shows on standard error how far it is.
///
/// # Errors
/// When it cannot be read to its end, or holds values that nothing here can read.
pub async fn read(cluster: &Lazy<'_>, source: &Source, wanted: Wanted) -> anyhow::Result<Contents> {
    let Wanted { each, only, as_of_ms } = wanted;
    let mut contents = Contents::default();
    contents.each = each.then(Keys::default);
    contents.as_of_ms = Some(as_of_ms);
    contents.only = only;
    let step = format!("read {source}");
    let mut reading = Reading::new(&mut contents, step.clone(), cluster.global.quiet);
    let read = async {
        match source {
            Source::File(path) => return file(path, &mut reading).await,
            Source::Server { redis, .. } => server(redis, &mut reading).await,
            Source::Snapshot { repository, snapshot } => {
                let repository =
                    maintenance::repository(cluster.open().await?, repository, cluster.lock);
                snapshots(cluster.open().await?, repository, snapshot, &mut reading).await
            }
        }
        .context(step)
    };
    read.await?;
    drop(reading);
    Ok(contents)
}

/// A cluster that is only looked for when it is needed: files and servers need none.
pub struct Lazy<'a> {
    global: &'a crate::args::GlobalArgs,
    lock: LockArgs,
    cluster: tokio::sync::OnceCell<Cluster>,
}

impl<'a> Lazy<'a> {
    /// As the flags say.
    #[must_use]
    pub fn new(global: &'a crate::args::GlobalArgs, lock: LockArgs) -> Self {
        Self { global, lock, cluster: tokio::sync::OnceCell::new() }
    }

    async fn open(&self) -> anyhow::Result<&Cluster> {
        self.cluster.get_or_try_init(|| Cluster::open(self.global)).await
    }
}

/// Errors name the file.
async fn file(path: &Path, reading: &mut Reading<'_>) -> anyhow::Result<()> {
    let step = || format!("read {}", path.display());
    let mut file = tokio::fs::File::open(path).await.with_context(step)?;
    reading.expect(file.metadata().await.with_context(step)?.len());
    let mut reader = reading.reader(&path.to_string_lossy());
    loop {
        let mut chunk = bytes::BytesMut::with_capacity(CHUNK_BYTES);
        if file.read_buf(&mut chunk).await.with_context(step)? == 0 {
            return reader.finish().map_err(explain);
        }
        reading.feed(&mut reader, chunk.freeze()).map_err(explain)?;
    }
}

fn explain(error: redis::Error) -> anyhow::Error {
    match error {
        redis::Error::Rdb { path, source: source @ coffer_rdb::Error::Magic { .. } } => {
            Advice::new(format!("read {path}: {source}"), NO_RDB).into()
        }
        error => error.into(),
    }
}

async fn server(
    redis: &coffer_api::session::Redis,
    reading: &mut Reading<'_>,
) -> anyhow::Result<()> {
    let found = redis::find(redis, PATIENCE, "", Prefer::Any).await.map_err(name_the_password)?;
    let Topology { nodes, slots, remarks, .. } = found;
    remarks.into_iter().for_each(|remark| reading.remark(remark));
    let first = nodes.first().map(|node| node.redis.clone());
    for Node { redis, client, server, .. } in nodes {
        match Replication::start(client, &server, WAIT).await {
            Ok(mut replication) => {
                let mut reader = reading.reader("dump.rdb");
                while let Some(piece) = replication.next().await? {
                    reading.feed(&mut reader, piece)?;
                }
                replication.finish()?;
                reader.finish()?;
            }
            Err(refused) => {
                eprintln!("replication is not possible, the keys are scanned: {refused}");
                let client = redis::connect(&redis, WAIT).await?;
                let options = ScanOptions {
                    filter: Filter {
                        databases: reading.only().into_iter().collect(),
                        ..Filter::default()
                    },
                    // Each key once.
                    order: Order::Canonical,
                    pace: Pace::Gentle,
                    typed: false,
                    scratch: std::env::temp_dir(),
                };
                let mut scan = Scan::start(client, &server, options).await?;
                let mut reader = Reader::of("dump.resp");
                while let Some(piece) = scan.next().await? {
                    reading.feed(&mut reader, piece)?;
                }
                let scanned = scan.finish().await?;
                reader.finish()?;
                if let Some(reply) = scanned.functions_refused {
                    let message =
                        format!("the server does not show its function libraries: {reply}");
                    return Err(Advice::new(message, GRANT_FUNCTIONS).into());
                }
                scanned.remarks.into_iter().for_each(|remark| reading.remark(remark));
            }
        }
    }
    if let (Some(slots), Some(first)) = (slots, first) {
        redis::is_unchanged(&slots, &first, WAIT).await?;
    }
    Ok(())
}

/// The worker's remedy names objects of a cluster; here they are an argument and a variable.
fn name_the_password(error: redis::Error) -> anyhow::Error {
    match error {
        redis::Error::Password { user, reply, .. } => anyhow::anyhow!(
            "log in as {user}: {reply}; REDISCLI_AUTH is the password, and the url names the user: redis://USER@HOST"
        ),
        error => error.into(),
    }
}

async fn snapshots(
    cluster: &Cluster,
    repository: RepositoryRef,
    snapshot: &str,
    reading: &mut Reading<'_>,
) -> anyhow::Result<()> {
    let mut request = DownloadRequest {
        repository: Some(repository),
        snapshot: snapshot.to_owned(),
        ..DownloadRequest::default()
    };
    let header = match look(cluster, request.clone()).await {
        // Several files: the manifest names them.
        Err(error) if is_invalid(&error) => {
            look(cluster, DownloadRequest { path: MANIFEST.to_owned(), ..request.clone() })
                .await
                .map_err(|_| error)?
        }
        header => header?,
    };
    let named = || header.manifest.iter().flat_map(|manifest| &manifest.files);
    let mut paths: Vec<String> = named().map(|file| file.path.clone()).collect();
    if paths.is_empty() {
        paths.push(header.path.clone());
        reading.expect(header.size);
    } else {
        reading.expect(named().map(|file| file.bytes).sum());
    }
    // What `latest` is must not change between two files.
    request.snapshot = header.snapshot.map(|snapshot| snapshot.id).unwrap_or_default();
    for path in paths {
        let mut reader = reading.reader(&path);
        let request = DownloadRequest { path: path.clone(), ..request.clone() };
        let mut answers = cluster.repositories().await?.download(request).await?.into_inner();
        let (mut sum, mut promised) = (Sha256::new(), None);
        while let Some(answer) = answers.message().await? {
            match answer.message {
                Some(Message::Chunk(chunk)) => {
                    sum.update(&chunk);
                    reading.feed(&mut reader, chunk)?;
                }
                Some(Message::Finish(finish)) => promised = Some(finish.sha256),
                Some(Message::Header(_) | Message::Waiting(_)) | None => {}
            }
        }
        let promised = promised.context("the storage-gateway ended the data before their end")?;
        let arrived = sum.finalize();
        anyhow::ensure!(
            promised[..] == arrived[..],
            "what arrived of {path} is not what was backed up (its SHA-256 differs); ask again, and if it stays so look at \
             the repository with coffer check --read-data"
        );
        reader.finish()?;
    }
    Ok(())
}

async fn look(cluster: &Cluster, request: DownloadRequest) -> anyhow::Result<RestoreHeader> {
    let request = DownloadRequest { length: 1, ..request };
    let mut answers = cluster.repositories().await?.download(request).await?.into_inner();
    match answers.message().await?.and_then(|answer| answer.message) {
        Some(Message::Header(header)) => Ok(header),
        _ => anyhow::bail!("the storage-gateway does not begin with a header"),
    }
}

fn is_invalid(error: &anyhow::Error) -> bool {
    let status = error.downcast_ref::<tonic::Status>();
    status.is_some_and(|status| class_of(status) == Class::Invalid)
}
