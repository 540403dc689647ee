//! A stream of bytes becomes a snapshot, or nothing.
//!
//! The snapshot is committed only after `finish` has come, its sums were those of what arrived, and the stream has ended
//! cleanly behind it. Everything else (a cut, a reset, a wrong sum, a second header, a dropped call) drops the writer, and
//! with it the snapshot.

use crate::metrics;
use crate::repositories::{self, At, Missing, Opened, Repositories};
use bytes::Bytes;
use chrono::{DateTime, FixedOffset, Utc};
use coffer_api::manifest::{self, Manifest};
use coffer_restic as restic;
use coffer_runtime::Clock;
use coffer_runtime::fault::{Class, Fault, class_of};
use coffer_runtime::grpc::CHUNK_BYTES;
use crc_fast::{CrcAlgorithm, Digest};
use futures::{Stream, StreamExt as _};
use std::collections::HashSet;
use std::time::Duration;
use tonic::Status;

/// Of a SHA-256 in hex.
const SHA256_DIGITS: usize = 64;
/// Files of a snapshot: as many as a Redis Cluster has slots for masters.
const MOST_PATHS: usize = 16_384;

/// A backup that was not committed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The repository is not usable, or the engine failed.
    #[error(transparent)]
    Repository(#[from] repositories::Error),
    /// The first message is something else.
    #[error("the backup stream does not begin with a header; nothing was stored")]
    NoHeader,
    /// The header cannot be right.
    #[error("the header of the backup stream is not valid: {problem}; nothing was stored")]
    BadHeader {
        /// What is wrong.
        problem: String,
    },
    /// A message that cannot come here.
    #[error("the backup stream is not valid: {problem}; nothing was committed")]
    BadStream {
        /// What is wrong.
        problem: String,
    },
    /// The stream ended without `finish`: the dump is not complete.
    #[error(
        "the backup stream ended after {bytes} bytes without a finish message; nothing was committed"
    )]
    NoFinish {
        /// What had arrived.
        bytes: u64,
    },
    /// The stream broke.
    #[error("the backup stream broke after {bytes} bytes; nothing was committed")]
    Cut {
        /// What had arrived.
        bytes: u64,
        /// How it broke.
        #[source]
        source: Status,
    },
    /// `finish` promises something else than what arrived.
    #[error("{path} differs from what finish says of it: {problem}; nothing was committed")]
    Differs {
        /// The file.
        path: String,
        /// The two values.
        problem: String,
    },
    /// The manifest cannot be written.
    #[error("write the manifest; nothing was committed")]
    Manifest(#[source] serde_json::Error),
}

impl Fault for Error {
    fn class(&self) -> Class {
        match self {
            Self::Repository(error) => error.class(),
            Self::NoHeader
            | Self::BadHeader { .. }
            | Self::BadStream { .. }
            | Self::NoFinish { .. } => Class::Invalid,
            Self::Cut { source, .. } => class_of(source),
            Self::Differs { .. } => Class::Corrupt,
            Self::Manifest(_) => Class::Internal,
        }
    }
}

/// What a snapshot shall be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Where.
    pub at: At,
    /// restic's host.
    pub host: String,
    /// The data files; chunks refer to them by index.
    pub paths: Vec<String>,
    /// The snapshot's tags.
    pub tags: Vec<String>,
    /// The snapshot's time; now when absent.
    pub time: Option<DateTime<FixedOffset>>,
    /// Whether blobs are decoded again before they are written.
    pub verify: bool,
    /// Whether the client is told what the snapshot waits for before it begins.
    pub hears_waiting: bool,
}

/// What may follow the header.
#[derive(Debug)]
pub enum Message {
    /// A piece of a file.
    Chunk {
        /// Index into [`Header::paths`].
        file: usize,
        /// At most [`CHUNK_BYTES`].
        data: Bytes,
    },
    /// The end. Rare beside chunks, and larger.
    ///
    /// What was sent, as the worker has it: length and sums of every file among others.
    Finish(Box<Manifest>),
}

/// A committed backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// The engine's figures.
    pub written: restic::BackupSummary,
    /// Bytes of the data files.
    pub data_bytes: u64,
    /// Whether this backup made the repository.
    pub repository_created: bool,
    /// From the header to the commit.
    pub took: Duration,
}

/// A snapshot that may be written: its repository is open, and locked.
pub struct Begun {
    opened: Opened,
    writer: restic::SnapshotWriter,
    header: Header,
    started: DateTime<Utc>,
}

/// Begins a snapshot. `hear` is called for each lock that it waits for.
///
/// # Errors
/// When the header is not valid, or the repository not usable.
pub async fn begin(
    repositories: &Repositories,
    header: Header,
    started: DateTime<Utc>,
    hear: impl Fn(&restic::LockInfo) + Send + Sync + 'static,
) -> Result<Begun, Error> {
    check(&header)?;
    let opened = repositories.open(&header.at, Missing::Create).await?;
    let options = restic::BackupOptions {
        host: header.host.clone(),
        tags: header.tags.clone(),
        paths: header.paths.clone(),
        time: header.time.unwrap_or_else(|| started.fixed_offset()),
        verify: header.verify,
        compression: opened.compression,
        ..restic::BackupOptions::default()
    };
    let writer = opened.repository.telling(hear).backup(options).await;
    let writer = writer.map_err(opened.place.failed("back up to"))?;
    Ok(Begun { opened, writer, header, started })
}

impl Begun {
    /// Stores the files of the stream as one snapshot.
    ///
    /// # Errors
    /// In every case of an error no snapshot exists.
    pub async fn run(
        self,
        messages: impl Stream<Item = Result<Message, Error>>,
        clock: &Clock,
        figures: &metrics::Stream,
    ) -> Result<Summary, Error> {
        let Self { opened, mut writer, header, started } = self;
        let stored = store(&mut writer, &opened, &header, messages, figures).await;
        let data_bytes = match stored {
            Ok(bytes) => bytes,
            Err(error) => {
                // Waits until the lock is gone, so that a retry does not meet it.
                writer.abort().await;
                return Err(error);
            }
        };
        let written = writer.commit().await.map_err(opened.place.failed("back up to"))?;
        let took = (clock.now() - started).to_std().unwrap_or_default();
        tracing::info!(
            repository = %header.at, snapshot = %written.snapshot, bytes = data_bytes,
            added = written.data_added_packed, ?took, "backup committed"
        );
        Ok(Summary { written, data_bytes, repository_created: opened.created, took })
    }
}

/// One data file on its way.
struct File {
    path: String,
    writer: restic::FileWriter,
    /// Tells what the network changed. The SHA-256 in the manifest would too, at ten times the processor's time.
    crc64: Digest,
    bytes: u64,
}

/// Takes the stream to its end. Returns the bytes of the data files.
async fn store(
    writer: &mut restic::SnapshotWriter,
    opened: &Opened,
    header: &Header,
    messages: impl Stream<Item = Result<Message, Error>>,
    figures: &metrics::Stream,
) -> Result<u64, Error> {
    let failed = || opened.place.failed("back up to");
    let mut files = Vec::with_capacity(header.paths.len());
    for path in &header.paths {
        let writer = writer.file(path).map_err(failed())?;
        let crc64 = Digest::new(CrcAlgorithm::Crc64Nvme);
        files.push(File { path: path.clone(), writer, crc64, bytes: 0 });
    }
    let mut messages = std::pin::pin!(messages);
    let mut total: u64 = 0;
    let manifest = loop {
        let message = messages.next().await.ok_or(Error::NoFinish { bytes: total })?;
        let (file, data) = match message.map_err(|error| error.after(total))? {
            Message::Chunk { file, data } => (file, data),
            Message::Finish(manifest) => break *manifest,
        };
        let known = files.len();
        let Some(file) = files.get_mut(file) else {
            let problem = format!("a chunk is of file {file}, and the header names {known}");
            return Err(Error::BadStream { problem });
        };
        if data.len() > CHUNK_BYTES {
            let problem = format!("a chunk has {} bytes, the most is {CHUNK_BYTES}", data.len());
            return Err(Error::BadStream { problem });
        }
        figures.add(data.len());
        total += data.len() as u64;
        file.bytes += data.len() as u64;
        file.crc64.update(&data);
        file.writer.write(data).await.map_err(failed())?;
    };
    compare(&files, &manifest)?;
    match messages.next().await {
        None => {}
        Some(Err(error)) => return Err(error.after(total)),
        Some(Ok(_)) => {
            return Err(Error::BadStream { problem: "something follows finish".to_owned() });
        }
    }
    for file in files {
        file.writer.finish().await.map_err(failed())?;
    }
    let mut json = serde_json::to_vec_pretty(&manifest).map_err(Error::Manifest)?;
    json.push(b'\n');
    let mut file = writer.file(manifest::PATH).map_err(failed())?;
    file.write(json.into()).await.map_err(failed())?;
    file.finish().await.map_err(failed())?;
    Ok(total)
}

impl Error {
    /// Says how much had arrived when the stream broke.
    fn after(self, total: u64) -> Self {
        match self {
            Self::Cut { source, .. } => Self::Cut { bytes: total, source },
            other => other,
        }
    }
}

fn check(header: &Header) -> Result<(), Error> {
    let bad = |problem: String| Err(Error::BadHeader { problem });
    if header.host.is_empty() {
        return bad("it names no host".to_owned());
    }
    if header.paths.is_empty() {
        return bad("it names no file".to_owned());
    }
    if header.paths.len() > MOST_PATHS {
        return bad(format!("it names {} files, the most is {MOST_PATHS}", header.paths.len()));
    }
    let mut named = HashSet::new();
    for path in &header.paths {
        if !path.starts_with('/') {
            return bad(format!("path {path:?} is not absolute"));
        }
        if path == manifest::PATH {
            return bad(format!("{path} is written by the gateway"));
        }
        if !named.insert(path) {
            return bad(format!("path {path} is named twice"));
        }
    }
    Ok(())
}

/// Every file must be in the manifest exactly once, with its length and sums, and what arrived must have its CRC.
fn compare(files: &[File], manifest: &Manifest) -> Result<(), Error> {
    let differs = |path: &str, problem| Error::Differs { path: path.to_owned(), problem };
    for promised in &manifest.files {
        if !files.iter().any(|file| file.path == promised.path) {
            return Err(differs(&promised.path, "the header does not name it".to_owned()));
        }
    }
    for file in files {
        let mut promised = manifest.files.iter().filter(|promised| promised.path == file.path);
        let (Some(sum), None) = (promised.next(), promised.next()) else {
            return Err(differs(&file.path, "finish must name it exactly once".to_owned()));
        };
        if sum.bytes != file.bytes {
            let problem = format!("{} bytes arrived, finish says {}", file.bytes, sum.bytes);
            return Err(differs(&file.path, problem));
        }
        let arrived = format!("{:016x}", file.crc64.clone().finalize());
        let Some(sent) = sum.crc64.as_deref() else {
            let problem = format!(
                "finish has no CRC-64 of {}: the worker is of another version than the storage-gateway; \
                 install all services together",
                file.path
            );
            return Err(Error::BadStream { problem });
        };
        if sent != arrived {
            let problem = format!("CRC-64 {arrived} arrived, finish says {sent}");
            return Err(differs(&file.path, problem));
        }
        if sum.sha256.len() != SHA256_DIGITS {
            let problem = format!("its SHA-256 is {:?} in finish", sum.sha256);
            return Err(differs(&file.path, problem));
        }
    }
    Ok(())
}
