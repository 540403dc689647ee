//! What is in a keyspace, wherever it is: a server, a snapshot, a file. For `coffer digest` and `coffer diff`.
//!
//! A server is read by replication, else by scan; a snapshot as it is downloaded. One value is in memory at a time. Keys
//! whose time has passed count nowhere: a server may hold them for a while, and shows them to nobody.
mod source;

use std::{collections::BTreeMap, path::Path, time::Duration};

use anyhow::Context;
use bytes::Bytes;
use coffer_proto::storage::v1::{DownloadRequest, RestoreHeader, restore_response::Message};
use coffer_rdb::{
    digest::{self, Digest, Keyspace},
    entries::{Entries, Entry, Event},
};
use coffer_runtime::fault::{Class, class_of};
use coffer_worker::{
    filter::Filter,
    options::{Order, Pace, Prefer},
    redis::{self, Node, Replay, Replication, Scan, ScanOptions},
};
use tokio::io::AsyncReadExt;

pub use source::{ServerArgs, Source};

use crate::{client::Cluster, maintenance};

/// No value may be larger.
const LARGEST_BYTES: u64 = 1 << 30;
/// How long a server may take to answer.
const WAIT: Duration = Duration::from_secs(60);
const CHUNK_BYTES: usize = 1 << 20;
/// The document in a snapshot that names its files.
const MANIFEST: &str = "/manifest.json";

/// Digests by database and key.
pub type Keys = BTreeMap<(u64, Bytes), Digest>;

/// What was read.
#[derive(Default)]
pub struct Contents {
    /// The digest, in the making.
    pub sum: Keyspace,
    /// Keys.
    pub keys: u64,
    /// Function libraries.
    pub functions: u64,
    /// The digest of each key, when it is wanted: some 150 bytes a key.
    pub each: Option<Keys>,
    now_ms: i64,
}

impl Contents {
    fn event(&mut self, event: Event) -> anyhow::Result<()> {
        match event {
            Event::Entry(entry) if entry.expires_at_ms.is_some_and(|at| at <= self.now_ms) => {}
            Event::Entry(entry) => self.entry(&entry)?,
            Event::Function(code) => {
                self.functions += 1;
                self.sum.add_function(&code);
            }
            _ => {}
        }
        Ok(())
    }

    fn entry(&mut self, entry: &Entry) -> anyhow::Result<()> {
        let digest = digest::of_entry(entry, LARGEST_BYTES).with_context(|| {
            let key = coffer_rdb::strings::printable(&entry.key, 80);
            format!("read key {key} of database {}", entry.database)
        })?;
        self.keys += 1;
        self.sum.add(&digest);
        if let Some(each) = &mut self.each {
            // A copy: a slice would keep alive all that it was cut from.
            each.insert((entry.database, Bytes::copy_from_slice(&entry.key)), digest);
        }
        Ok(())
    }
}

/// Reads a file of either kind piece by piece.
enum Reader {
    Rdb(Box<Entries>),
    Resp(Box<Replay>),
}

impl Reader {
    fn of(path: &str) -> Self {
        if path.ends_with(".resp") {
            Self::Resp(Box::new(Replay::new(path, LARGEST_BYTES)))
        } else {
            Self::Rdb(Box::new(Entries::new(LARGEST_BYTES)))
        }
    }

    fn feed(&mut self, chunk: Bytes, contents: &mut Contents) -> anyhow::Result<()> {
        match self {
            Self::Rdb(entries) => {
                entries.feed(chunk);
                while let Some(event) = entries.next()? {
                    contents.event(event)?;
                }
            }
            Self::Resp(replay) => {
                replay.push(&chunk);
                while let Some(event) = replay.next_event()? {
                    contents.event(event)?;
                }
            }
        }
        Ok(())
    }

    fn finish(self) -> anyhow::Result<()> {
        match self {
            Self::Rdb(entries) => entries.finish()?,
            Self::Resp(replay) => drop(replay.finish()?),
        }
        Ok(())
    }
}

/// Reads all of a source; `each` says whether the digest of every key is kept.
///
/// # Errors
/// When it cannot be read to its end, or holds values that nothing here can read.
pub async fn read(cluster: &Lazy<'_>, source: &Source, each: bool) -> anyhow::Result<Contents> {
    let mut contents = Contents {
        each: each.then(Keys::default),
        now_ms: chrono::Utc::now().timestamp_millis(),
        ..Contents::default()
    };
    let reading = async {
        match source {
            Source::File(path) => file(path, &mut contents).await,
            Source::Server(redis) => server(redis, &mut contents).await,
            Source::Snapshot { repository, snapshot } => {
                snapshots(cluster.open().await?, repository, snapshot, &mut contents).await
            }
        }
    };
    reading.await.with_context(|| format!("read {source}"))?;
    Ok(contents)
}

/// A cluster that is only looked for when it is needed: files and servers need none.
pub struct Lazy<'a> {
    global: &'a crate::args::GlobalArgs,
    cluster: tokio::sync::OnceCell<Cluster>,
}

impl<'a> Lazy<'a> {
    /// As the flags say.
    #[must_use]
    pub fn new(global: &'a crate::args::GlobalArgs) -> Self {
        Self { global, cluster: tokio::sync::OnceCell::new() }
    }

    async fn open(&self) -> anyhow::Result<&Cluster> {
        self.cluster.get_or_try_init(|| Cluster::open(self.global)).await
    }
}

async fn file(path: &Path, contents: &mut Contents) -> anyhow::Result<()> {
    let mut file = tokio::fs::File::open(path).await?;
    let mut reader = Reader::of(&path.to_string_lossy());
    loop {
        let mut chunk = bytes::BytesMut::with_capacity(CHUNK_BYTES);
        if file.read_buf(&mut chunk).await? == 0 {
            return reader.finish();
        }
        reader.feed(chunk.freeze(), contents)?;
    }
}

async fn server(redis: &coffer_api::session::Redis, contents: &mut Contents) -> anyhow::Result<()> {
    let nodes = redis::find(redis, WAIT, "", Prefer::Any).await?.nodes;
    for Node { redis, client, server, .. } in nodes {
        match Replication::start(client, &server, WAIT).await {
            Ok(mut replication) => {
                let mut reader = Reader::of("dump.rdb");
                while let Some(chunk) = replication.next().await? {
                    reader.feed(chunk, contents)?;
                }
                replication.finish()?;
                reader.finish()?;
            }
            Err(refused) => {
                eprintln!("replication is not possible, the keys are scanned: {refused}");
                let client = redis::connect(&redis, WAIT).await?;
                let options = ScanOptions {
                    filter: Filter::default(),
                    order: Order::Server,
                    pace: Pace::Gentle,
                    typed: false,
                    scratch: std::env::temp_dir(),
                };
                let mut scan = Scan::start(client, &server, options).await?;
                let mut reader = Reader::of("dump.resp");
                while let Some(chunk) = scan.next().await? {
                    reader.feed(chunk, contents)?;
                }
                scan.finish().await?;
                reader.finish()?;
            }
        }
    }
    Ok(())
}

async fn snapshots(
    cluster: &Cluster,
    repository: &str,
    snapshot: &str,
    contents: &mut Contents,
) -> anyhow::Result<()> {
    let mut request = DownloadRequest {
        repository: Some(maintenance::repository(cluster, repository)),
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
    let named = header.manifest.iter().flat_map(|manifest| &manifest.files);
    let mut paths: Vec<String> = named.map(|file| file.path.clone()).collect();
    if paths.is_empty() {
        paths.push(header.path.clone());
    }
    // What `latest` is must not change between two files.
    request.snapshot = header.snapshot.map(|snapshot| snapshot.id).unwrap_or_default();
    for path in paths {
        let mut reader = Reader::of(&path);
        let request = DownloadRequest { path, ..request.clone() };
        let mut answers = cluster.repositories().await?.download(request).await?.into_inner();
        let mut ended = false;
        while let Some(answer) = answers.message().await? {
            match answer.message {
                Some(Message::Chunk(chunk)) => reader.feed(chunk, contents)?,
                Some(Message::Finish(_)) => ended = true,
                Some(Message::Header(_)) | None => {}
            }
        }
        anyhow::ensure!(ended, "the storage-gateway ended the data before their end");
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
