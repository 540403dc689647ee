//! A file of a snapshot becomes a stream of bytes. Every blob is verified before its bytes leave; the sum of the whole comes
//! last, for whoever receives it to compare: the manifest's, where that has one. Dropping the stream stops the work and
//! releases the lock.

use crate::metrics;
use crate::repositories::{self, At, Missing, Opened, Repositories};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use coffer_api::manifest::{self, Manifest};
use coffer_restic as restic;
use coffer_runtime::fault::{Class, Fault};
use coffer_runtime::grant::RepositoryRef;
use coffer_runtime::grpc::PIECE_BYTES;
use futures::stream::BoxStream;
use futures::{StreamExt as _, TryStreamExt as _};
use sha2::{Digest as _, Sha256};

/// A manifest of sixteen databases has some 5 KiB.
const LARGEST_MANIFEST: u64 = 4 * 1024 * 1024;

/// A restore that could not begin or go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The repository is not usable, or the engine failed.
    #[error(transparent)]
    Repository(#[from] repositories::Error),
    /// No path is given, and the snapshot has no single data file.
    #[error("snapshot {snapshot} of Repository {repository} has {found}; name the file to restore")]
    WhichFile {
        /// Where.
        repository: RepositoryRef,
        /// Which.
        snapshot: String,
        /// Its files.
        found: String,
    },
    /// What the session may read is `latest`, and that is another snapshot.
    #[error(
        "snapshot {snapshot} of Repository {repository} was not the latest when the session began ({since}), and its grant is for that one; name the snapshot in the session's rules"
    )]
    NotLatest {
        /// Where.
        repository: RepositoryRef,
        /// Which.
        snapshot: String,
        /// The session's beginning.
        since: DateTime<Utc>,
    },
    /// The part begins behind the end.
    #[error("offset {offset} is behind the end of {path}, which has {size} bytes")]
    BadRange {
        /// The file.
        path: String,
        /// What was asked for.
        offset: u64,
        /// Its size.
        size: u64,
    },
    /// `/manifest.json` is not what we write there.
    #[error("the manifest of snapshot {snapshot} of Repository {repository} cannot be read")]
    BadManifest {
        /// Where.
        repository: RepositoryRef,
        /// Which.
        snapshot: String,
        /// Why not.
        #[source]
        source: serde_json::Error,
    },
    /// What was read differs from what was backed up.
    #[error("{path} of snapshot {snapshot} of Repository {repository} is damaged: {problem}")]
    Differs {
        /// Where.
        repository: RepositoryRef,
        /// Which.
        snapshot: String,
        /// The file.
        path: String,
        /// The two values.
        problem: String,
    },
}

impl Fault for Error {
    fn class(&self) -> Class {
        match self {
            Self::Repository(error) => error.class(),
            Self::WhichFile { .. } | Self::BadRange { .. } => Class::Invalid,
            Self::NotLatest { .. } => Class::Denied,
            Self::BadManifest { .. } | Self::Differs { .. } => Class::Corrupt,
        }
    }
}

/// What to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Where.
    pub at: At,
    /// `latest`, an id, or the beginning of one.
    pub snapshot: String,
    /// With `latest`: only of one of these hosts; none for any.
    pub hosts: Vec<String>,
    /// The snapshot must have been `latest` at this moment, or later; none if it need not.
    pub latest_since: Option<DateTime<Utc>>,
    /// The file; none for the snapshot's only data file.
    pub path: Option<String>,
    /// The first byte.
    pub offset: u64,
    /// How many bytes; none for all the rest.
    pub length: Option<u64>,
    /// Whether the client is told what it waits for before the header.
    pub hears_waiting: bool,
}

/// What is known before the first byte.
#[derive(Debug, Clone)]
pub struct Header {
    /// The snapshot.
    pub snapshot: restic::Snapshot,
    /// Its files.
    pub files: Vec<restic::FileEntry>,
    /// The file that is read.
    pub path: String,
    /// All of its bytes, whatever part is read.
    pub size: u64,
    /// What the dump holds; none for snapshots that Coffer did not make.
    pub manifest: Option<Manifest>,
}

/// A piece of the answer.
#[derive(Debug)]
pub enum Message {
    /// At most [`PIECE_BYTES`].
    Chunk(Bytes),
    /// The end: bytes sent, and the SHA-256 that they must have.
    Finish {
        /// Bytes sent.
        bytes: u64,
        /// The sum.
        sha256: [u8; 32],
    },
}

/// Begins to read. `hear` is called for each lock that is waited for. The stream ends with [`Message::Finish`], or with an error.
///
/// # Errors
/// When there is no such snapshot or file, or the repository is not usable.
pub async fn run(
    repositories: &Repositories,
    request: Request,
    figures: metrics::Stream,
    hear: impl Fn(&restic::LockInfo) + Send + Sync + 'static,
) -> Result<(Header, BoxStream<'static, Result<Message, Error>>), Error> {
    let opened = repositories.open(&request.at, Missing::Refuse).await?;
    let failed = || opened.place.failed("restore from");
    let wanted = request.snapshot.parse::<restic::SnapshotRef>().map_err(failed())?;
    let filter = restic::SnapshotFilter {
        hosts: request.hosts.clone(),
        ..restic::SnapshotFilter::default()
    };
    let snapshot = find(&opened, &request, &wanted, &filter).await?;
    let held = opened.repository.telling(hear).hold(&snapshot).await.map_err(failed())?;
    let begun = begin(&opened, &request, snapshot, &held).await;
    // The reader's, if there is one; else what comes next must not meet our lock.
    held.release().await;
    let (header, reader) = begun?;
    let whole = reader.len() == header.size;
    let promised = header.manifest.as_ref().filter(|_| whole);
    let promised = promised.and_then(|manifest| sum_of(manifest, &header.path));
    let state = Reading {
        left: reader.len(),
        reader,
        chunk: Bytes::new(),
        sum: promised.map_or_else(Sum::default, Sum::Promised),
        sent: 0,
        finished: false,
        opened,
        snapshot: header.snapshot.id.short(),
        path: header.path.clone(),
        figures,
    };
    let messages = futures::stream::try_unfold(state, |mut state| async move {
        Ok(state.next().await?.map(|message| (message, state)))
    });
    Ok((header, messages.boxed()))
}

/// The snapshot meant, if it may be read.
async fn find(
    opened: &Opened,
    request: &Request,
    wanted: &restic::SnapshotRef,
    filter: &restic::SnapshotFilter,
) -> Result<restic::Snapshot, Error> {
    let everyone = restic::SnapshotFilter::default();
    let failed = || opened.place.failed("restore from");
    let snapshots = opened.repository.snapshots(&everyone).await.map_err(failed())?;
    let snapshot = wanted.pick(&snapshots, filter).map_err(failed())?;
    match request.latest_since {
        Some(since) if !filter.was_latest_since(since, &snapshot, &snapshots) => {
            Err(Error::NotLatest {
                repository: request.at.repository.clone(),
                snapshot: snapshot.id.short(),
                since,
            })
        }
        Some(_) | None => Ok(snapshot),
    }
}

/// Finds out what is to be read, and begins to. All of it under one lock.
async fn begin(
    opened: &Opened,
    request: &Request,
    snapshot: restic::Snapshot,
    held: &restic::HeldSnapshot,
) -> Result<(Header, restic::FileReader), Error> {
    let files = held.files();
    let path = match &request.path {
        Some(path) => path.clone(),
        None => only_data_file(request, &snapshot, &files)?,
    };
    let failed = || opened.place.failed("restore from");
    let restic::FileEntry { path, size, mtime: _, linked: _ } =
        held.file(&path).map_err(failed())?;
    if request.offset > size {
        return Err(Error::BadRange { path, offset: request.offset, size });
    }
    let manifest = read_manifest(opened, request, &snapshot, held, &files).await?;
    let options = restic::ReadOptions {
        offset: request.offset,
        length: request.length,
        ..restic::ReadOptions::default()
    };
    let reader = held.read(&path, options).map_err(failed())?;
    Ok((Header { snapshot, files, path, size, manifest }, reader))
}

/// The sum that a stream ends with.
enum Sum {
    /// The manifest's. To count it here, too, would tell nothing that the receiver does not find out.
    Promised([u8; 32]),
    Counted(Sha256),
}

impl Default for Sum {
    fn default() -> Self {
        Self::Counted(Sha256::new())
    }
}

/// What the manifest says of a file. What is no sum there equals none: the receiver will say so.
fn sum_of(manifest: &Manifest, path: &str) -> Option<[u8; 32]> {
    let file = manifest.files.iter().find(|file| file.path == path)?;
    let mut sum = [0; 32];
    hex::decode_to_slice(&file.sha256, &mut sum).ok().map(|()| sum)
}

struct Reading {
    reader: restic::FileReader,
    left: u64,
    chunk: Bytes,
    sum: Sum,
    sent: u64,
    finished: bool,
    opened: Opened,
    snapshot: String,
    path: String,
    figures: metrics::Stream,
}

impl Reading {
    async fn next(&mut self) -> Result<Option<Message>, Error> {
        if self.finished {
            return Ok(None);
        }
        while self.chunk.is_empty() {
            match self.reader.try_next().await {
                Ok(Some(bytes)) => self.chunk = bytes,
                Ok(None) => return self.finish().map(Some),
                Err(error) => {
                    let error = Error::from(self.opened.place.failed("restore from")(error));
                    self.figures.failed(error.class());
                    return Err(error);
                }
            }
        }
        let data = self.chunk.split_to(self.chunk.len().min(PIECE_BYTES));
        if let Sum::Counted(sum) = &mut self.sum {
            sum.update(&data);
        }
        self.sent += data.len() as u64;
        self.figures.add(data.len());
        Ok(Some(Message::Chunk(data)))
    }

    fn finish(&mut self) -> Result<Message, Error> {
        self.finished = true;
        if self.sent != self.left {
            self.figures.failed(Class::Corrupt);
            return Err(Error::Differs {
                repository: self.opened.place.repository.clone(),
                snapshot: self.snapshot.clone(),
                path: self.path.clone(),
                problem: format!("{} bytes were read, {} were expected", self.sent, self.left),
            });
        }
        let sha256 = match std::mem::take(&mut self.sum) {
            Sum::Promised(sum) => sum,
            Sum::Counted(sum) => sum.finalize().into(),
        };
        Ok(Message::Finish { bytes: self.sent, sha256 })
    }
}

fn only_data_file(
    request: &Request,
    snapshot: &restic::Snapshot,
    files: &[restic::FileEntry],
) -> Result<String, Error> {
    let data: Vec<_> = files
        .iter()
        .map(|file| file.path.as_str())
        .filter(|path| *path != manifest::PATH)
        .collect();
    match data.as_slice() {
        [path] => Ok((*path).to_owned()),
        several => Err(Error::WhichFile {
            repository: request.at.repository.clone(),
            snapshot: snapshot.id.short(),
            found: match several.len() {
                0 => "no data file".to_owned(),
                count => format!("{count} files ({}, …)", several[..count.min(5)].join(", ")),
            },
        }),
    }
}

async fn read_manifest(
    opened: &Opened,
    request: &Request,
    snapshot: &restic::Snapshot,
    held: &restic::HeldSnapshot,
    files: &[restic::FileEntry],
) -> Result<Option<Manifest>, Error> {
    let manifest = files.iter().find(|file| file.path == manifest::PATH);
    if manifest.is_none_or(|file| file.size > LARGEST_MANIFEST) {
        return Ok(None);
    }
    let failed = || opened.place.failed("read the manifest from");
    let options = restic::ReadOptions::default();
    let reader = held.read(manifest::PATH, options).map_err(failed())?;
    let pieces: Vec<Bytes> = reader.try_collect().await.map_err(failed())?;
    let json = pieces.concat();
    serde_json::from_slice(&json).map(Some).map_err(|source| Error::BadManifest {
        repository: request.at.repository.clone(),
        snapshot: snapshot.id.short(),
        source,
    })
}
