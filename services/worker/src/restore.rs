//! The restore, one straight line: reach the Redis, open the snapshot, load what comes, confirm that all
//! of it came.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use coffer_api::outcome::Restored;
use coffer_api::session::Session;
use coffer_proto::orchestrator::v1::SessionKind;
use coffer_proto::storage::v1 as proto;
use coffer_rdb::entries::{Entries, Event};
use coffer_rdb::payload::FOOTER_LEN;
use coffer_runtime::{Clock, fault};
use sha2::{Digest, Sha256};
use tokio::time::{Instant, sleep};

use crate::args::RestoreArgs;
use crate::convert;
use crate::error::Error;
use crate::gateway::{self, Download, Gateway, Part};
use crate::progress::{Progress, Stage};
use crate::redis::{self, Loader, Replay, Server};
use crate::redis_args;

/// Between two attempts at a gateway that is full or away, doubled each time.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);
/// The largest command of a RESP dump: a batch of a thousand elements, each of any size.
const LARGEST_COMMAND_BYTES: u64 = 2 * 1024 * 1024 * 1024;

/// Loads the session's snapshot into its Redis. `written` counts keys as they are confirmed.
pub(crate) async fn run(
    args: &RestoreArgs,
    session: &Session,
    wait: Duration,
    clock: &Clock,
    warnings: &mut Vec<String>,
    written: &Arc<AtomicU64>,
) -> Result<Restored, Error> {
    redis_args::check(&args.addon.redis_args)?;
    let gateway = Gateway::new(session)?;
    let progress = Progress::start(session, SessionKind::Restore);
    let restore =
        Restore { request: request(args, session), session, wait, clock, gateway, progress };
    let restored = Box::pin(restore.load(warnings, written)).await;
    restore.progress.finish().await;
    restored
}

/// The session decides; flags count where it says nothing.
fn request(args: &RestoreArgs, session: &Session) -> proto::RestoreRequest {
    let named = session.restore.clone().unwrap_or_default();
    let or = |first: String, second: &str| if first.is_empty() { second.to_owned() } else { first };
    let snapshot = or(or(named.snapshot, &args.snapshot), "latest");
    let host = or(named.source_host, &args.source_hostname);
    proto::RestoreRequest {
        repository: None,
        snapshot,
        host,
        path: String::new(),
        offset: 0,
        length: 0,
    }
}

struct Restore<'a> {
    request: proto::RestoreRequest,
    session: &'a Session,
    wait: Duration,
    clock: &'a Clock,
    gateway: Gateway,
    progress: Progress,
}

/// How the data of a snapshot is read.
enum Reader {
    Rdb(Entries),
    Resp(Replay),
}

impl Restore<'_> {
    async fn load(
        &self,
        warnings: &mut Vec<String>,
        written: &Arc<AtomicU64>,
    ) -> Result<Restored, Error> {
        self.progress.stage(Stage::Connect);
        let mut client = redis::connect(&self.session.redis, self.wait).await?;
        let server = Server::ask(&mut client).await?;
        let mut loader = Loader::start(client, &server, written.clone()).await?;
        let download = self.open().await?;
        let path = download.header.path.clone();
        let snapshot = download.header.snapshot.clone().unwrap_or_default().id;
        tracing::info!(snapshot, path, bytes = download.header.size, "restoring");
        if needs_survey(&download.header, &server) {
            self.survey(&loader).await?;
        }

        self.progress.stage(Stage::Load);
        let differs =
            |problem| Error::Differs { path: path.clone(), snapshot: snapshot.clone(), problem };
        let (header, bytes, functions) =
            self.pour(download, &mut loader, warnings, written).await?;
        let tally = loader.finish().await?;
        if let Some(manifest) = header.manifest.as_ref().filter(|manifest| manifest.counted) {
            let promised: u64 = convert::totals(manifest).values().sum();
            let found = tally.total() + tally.expired;
            if promised != found && path.ends_with(".rdb") {
                return Err(differs(format!(
                    "its manifest promises {promised} keys, {found} were in it"
                )));
            }
        }
        if !tally.replaced_known {
            warnings.push("replaced keys are not counted: grant the user +exists".to_owned());
        }
        Ok(Restored {
            snapshot_id: snapshot.clone(),
            path: path.trim_start_matches('/').to_owned(),
            bytes,
            restored: convert::by_name(tally.restored.into_iter()).collect(),
            expired: tally.expired,
            replaced: tally.replaced,
            functions,
        })
    }

    /// Opens the snapshot; a gateway that is full or away is asked again.
    async fn open(&self) -> Result<Download, Error> {
        let deadline = Instant::now() + self.wait;
        let mut pause = FIRST_PAUSE;
        loop {
            match self.gateway.download(self.request.clone()).await {
                Err(error)
                    if gateway::may_be_repeated(&error) && Instant::now() + pause < deadline =>
                {
                    tracing::warn!(
                        error = fault::chain(&error),
                        ?pause,
                        "the storage-gateway will be asked again"
                    );
                }
                result => return result,
            }
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Reads the snapshot once without loading it, and refuses what the server cannot hold.
    async fn survey(&self, loader: &Loader) -> Result<(), Error> {
        tracing::info!("the snapshot may hold what the server cannot: looking through it first");
        let mut download = self.open().await?;
        let path = download.header.path.clone();
        let unreadable = |source| redis::Error::Rdb { path: path.clone(), source };
        let mut entries = Entries::new(largest_value(loader));
        while let Part::Chunk(chunk) = download.next().await? {
            entries.feed(chunk);
            while let Some(event) = entries.next().map_err(unreadable)? {
                if let Event::Entry(entry) = event {
                    loader.check_type(&entry)?;
                }
            }
        }
        Ok(())
    }

    /// Pours the data into the Redis and verifies that it is what was stored. Gives back the header, the
    /// bytes read and the number of function libraries.
    async fn pour(
        &self,
        mut download: Download,
        loader: &mut Loader,
        warnings: &mut Vec<String>,
        written: &AtomicU64,
    ) -> Result<(proto::RestoreHeader, u64, u64), Error> {
        let header = download.header.clone();
        let path = header.path.clone();
        let mut reader = if path.ends_with(".resp") {
            Reader::Resp(Replay::new(&path, LARGEST_COMMAND_BYTES))
        } else {
            Reader::Rdb(Entries::new(largest_value(loader)))
        };
        let total_keys =
            header.manifest.as_ref().map_or(0, |manifest| convert::totals(manifest).values().sum());
        self.progress.update(|state| {
            state.total_bytes = header.size;
            state.total_keys = total_keys;
        });
        let (mut sum, mut bytes, mut functions) = (Sha256::new(), 0_u64, 0_u64);
        let finish = loop {
            let chunk = match download.next().await? {
                Part::Finish(finish) => break finish,
                Part::Chunk(chunk) => chunk,
            };
            sum.update(&chunk);
            bytes += chunk.len() as u64;
            let now_ms = self.clock.now().timestamp_millis();
            match &mut reader {
                Reader::Resp(replay) => replay.feed(&chunk, loader, now_ms).await?,
                Reader::Rdb(entries) => {
                    entries.feed(chunk);
                    let unreadable = |source| redis::Error::Rdb { path: path.clone(), source };
                    while let Some(event) = entries.next().map_err(unreadable)? {
                        functions += load(event, loader, now_ms, warnings).await?;
                    }
                }
            }
            loader.flush().await?;
            self.progress.update(|state| {
                state.bytes = bytes;
                state.keys = written.load(Ordering::Relaxed);
            });
        };
        verify(&header, &finish, bytes, &sum.finalize())?;
        match reader {
            Reader::Resp(replay) => warnings.extend(replay.finish()?),
            Reader::Rdb(entries) => {
                entries
                    .finish()
                    .map_err(|source| redis::Error::Rdb { path: path.clone(), source })?;
            }
        }
        Ok((header, bytes, functions))
    }
}

/// Loads one thing; gives back how many function libraries it was.
async fn load(
    event: Event,
    loader: &mut Loader,
    now_ms: i64,
    warnings: &mut Vec<String>,
) -> Result<u64, Error> {
    match event {
        Event::Entry(entry) => loader.restore(entry, now_ms).await?,
        Event::Function(source) => {
            loader.function(&source).await?;
            return Ok(1);
        }
        Event::ModuleAux { module } => warnings.push(format!(
            "data that module {module} keeps outside any key is in the snapshot, but no command can restore it"
        )),
        Event::Version(version) => tracing::info!(%version, "reading the dump"),
        Event::Note { .. } | Event::SizeHint { .. } | Event::End { .. } => {}
    }
    Ok(0)
}

/// The largest value whose payload the server takes.
fn largest_value(loader: &Loader) -> u64 {
    loader.largest_argument().saturating_sub(FOOTER_LEN as u64 + 1)
}

/// Whether the dump comes from a server that has types which this one may lack.
fn needs_survey(header: &proto::RestoreHeader, server: &Server) -> bool {
    if header.path.ends_with(".resp") {
        return false;
    }
    let read_by_server = u32::from(server.reads().number);
    match header.manifest.as_ref().map_or(0, |manifest| manifest.rdb_version) {
        // Not ours, or something in it could not be walked when it was made.
        0 => true,
        // From 12 on, the types of the two vendors differ.
        dumped @ 12.. => dumped != read_by_server,
        dumped => dumped > read_by_server,
    }
}

/// Whether what came is what the gateway sent, and what the backup stored.
fn verify(
    header: &proto::RestoreHeader,
    finish: &proto::RestoreFinish,
    bytes: u64,
    sha256: &[u8],
) -> Result<(), Error> {
    let path = &header.path;
    let problem = if bytes != header.size || bytes != finish.bytes {
        format!("{bytes} bytes came of the {} that are in it", header.size)
    } else if finish.sha256 != sha256 {
        "its SHA-256 changed on the way".to_owned()
    } else {
        let stored = header.manifest.iter().flat_map(|manifest| &manifest.files);
        let stored = stored.filter(|file| file.path == *path).find(|file| file.sha256 != sha256);
        let Some(stored) = stored else { return Ok(()) };
        format!(
            "its SHA-256 is {}, and was {} when it was made",
            hex::encode(sha256),
            hex::encode(&stored.sha256)
        )
    };
    let snapshot = header.snapshot.clone().unwrap_or_default().id;
    Err(Error::Differs { path: path.clone(), snapshot, problem })
}
