//! The restore, one straight line: reach the Redis, open the snapshot, load what comes, confirm that all
//! of it came.
//!
//! What can be known beforehand is told before anything is written: types that the target lacks, keys that
//! are in the way, a memory limit that is too small.

mod databases;
mod replica;
mod room;
mod source;
mod survey;
mod verify;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use coffer_api::outcome::{Restored, Verified};
use coffer_api::session::Session;
use coffer_proto::orchestrator::v1::SessionKind;
use coffer_proto::storage::v1 as proto;
use coffer_rdb::entries::{Entries, Event};
use coffer_rdb::target::Target;
use coffer_runtime::{Clock, Runtime};

use self::source::{File, Source};
use self::verify::Verification;
use crate::args::RestoreArgs;
use crate::convert;
use crate::error::Error;
use crate::gateway::Gateway;
use crate::options::{self, Load, OnConflict, Prefer};
use crate::progress::{Progress, Stage};
use crate::redis::{self, By, Holder, LoadOptions, Loader, ReadBack, Replay, Serving, Topology};

/// The largest command of a RESP dump: a batch of a thousand elements, each of any size.
const LARGEST_COMMAND_BYTES: u64 = 2 * 1024 * 1024 * 1024;

/// Loads the session's snapshot into its Redis. `written` counts keys as they are confirmed.
pub(crate) async fn run(
    args: &RestoreArgs,
    session: &Session,
    wait: Duration,
    runtime: &Runtime,
    warnings: &mut Vec<String>,
    written: &Arc<AtomicU64>,
) -> Result<Restored, Error> {
    let Runtime { clock, shutdown: stop, .. } = runtime;
    let options = options::Restore::new(args)?;
    let progress = Progress::start(session, SessionKind::Restore);
    let gateway = Gateway::new(session, clock, progress.meter())?;
    let source = Source::new(gateway, request(args, session), wait);
    let restore = Restore { options, source, session, wait, clock, progress };
    let mut serving = None;
    let restoring = Box::pin(restore.load(&mut serving, warnings, written));
    let restored = crate::unless_stopped(stop, restoring).await;
    if let Some(serving) = serving {
        serving.give_up(stop, warnings).await;
    }
    let Restore { source, progress, .. } = restore;
    drop(source);
    progress.finish().await;
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
        hears_waiting: false,
    }
}

struct Restore<'a> {
    options: options::Restore,
    source: Source,
    session: &'a Session,
    wait: Duration,
    clock: &'a Clock,
    progress: Progress,
}

/// How the data of a snapshot is read.
enum Reader {
    Rdb(Box<Entries>),
    Resp(Box<Replay>),
}

impl Restore<'_> {
    /// Leaves the target in `serving` for as long as it may have to be set back.
    async fn load(
        &self,
        serving: &mut Option<Serving>,
        warnings: &mut Vec<String>,
        written: &Arc<AtomicU64>,
    ) -> Result<Restored, Error> {
        self.progress.stage(Stage::Connect);
        let redis = &self.session.redis;
        let name = &self.options.sentinel_master;
        let topology = redis::find(redis, self.wait, name, Prefer::ToWrite).await?;
        let mut files = self.source.open().await?;
        if self.options.verify {
            verify::check(&files)?;
        }
        room::check(&topology.nodes, &files, &self.options, warnings)?;
        if self.options.load == Load::Replica {
            return Box::pin(self.serve(topology, files, serving, warnings)).await;
        }
        let Topology { nodes, slots, remarks, found } = topology;
        warnings.extend(remarks);
        let Some(first) = files.first() else { return Err(self.source.has_no_data()) };
        let snapshot = first.snapshot_id();
        let load = LoadOptions::from(&self.options);
        let needs_survey = nodes.iter().any(|node| survey::is_needed(&files, &node.server))
            || survey::may_merge(&files, &self.options)
            || self.options.flush && databases::told(&files).is_none();
        let mut loader =
            Loader::start(nodes, slots.as_ref(), load, self.wait, written.clone()).await?;
        for file in &files {
            tracing::info!(snapshot, path = file.path(), bytes = file.size(), "restoring");
        }
        let typed = files.iter().all(File::is_typed);
        let by = if typed { By::Commands } else { By::Restore };
        let is_limited = loader.find_limits_of_user(by).await?;
        let needs_survey = needs_survey || is_limited || survey::may_be_too_large(&files, &loader);
        if needs_survey || self.options.on_conflict == OnConflict::Fail {
            survey::run(&self.source, &files, &mut loader, &self.options).await?;
        }
        if let Some(manifest) = files.iter().find_map(File::manifest) {
            let databases = manifest.databases.iter().map(|db| u64::from(db.index)).collect();
            loader.check_databases(&databases)?;
        }
        // What was looked through is known, too, where the manifest does not tell.
        if let Some(present) = databases::told(&files).or_else(|| loader.seen()) {
            warnings.extend(databases::check(&present, &self.options)?);
            loader.refuse_databases(&present).await?;
        }
        if !typed {
            loader.refuse_no_restore().await?;
        }
        if self.options.flush && !self.options.dry_run {
            loader.empty().await?;
        }

        self.progress.stage(Stage::Load);
        self.progress.update(|state| {
            state.total_bytes = files.iter().map(File::size).sum();
            state.total_keys = files
                .iter()
                .find_map(File::manifest)
                .map_or(0, |manifest| convert::totals(manifest).values().sum());
        });
        let mut bytes = 0;
        for file in &mut files {
            match self.pour(file, &mut loader, warnings, written).await {
                Ok(poured) => bytes += poured,
                Err(error) => {
                    // What is on its way is written all the same, and is to be counted.
                    let _ = loader.settle().await;
                    return Err(error);
                }
            }
        }
        warnings.extend(loader.losses().iter().cloned());
        let target = loader.target().clone();
        let tally = loader.finish(self.clock.now().timestamp_millis()).await?;
        promised(&files, &tally)?;
        self.are_kept(&tally.holders).await?;
        warnings.extend(tally.remarks);
        if !tally.replaced_known {
            warnings.push("replaced keys are not counted: grant the user +exists".to_owned());
        }
        let verified = self.verify(&files, target).await?;
        Ok(Restored {
            snapshot_id: snapshot,
            path: files.first().map_or("", File::path).trim_start_matches('/').to_owned(),
            bytes,
            restored: convert::by_name(tally.restored.into_iter()).collect(),
            expired: tally.expired,
            replaced: tally.replaced,
            functions: tally.functions,
            skipped: tally.skipped + tally.lost,
            remark: self.remark(found, verified),
            verified,
        })
    }

    /// Whether what the AppBinding leads to has what was written, by now.
    async fn are_kept(&self, holders: &[Holder]) -> Result<(), Error> {
        if holders.is_empty() {
            return Ok(());
        }
        let name = &self.options.sentinel_master;
        let topology = redis::find(&self.session.redis, self.wait, name, Prefer::ToWrite).await?;
        Ok(redis::are_kept(holders, &topology.nodes)?)
    }

    /// Compares the target with the snapshot, if that is asked for.
    async fn verify(&self, files: &[File], target: Target) -> Result<Option<Verified>, Error> {
        if !self.options.verify {
            return Ok(None);
        }
        self.progress.stage(Stage::Verify);
        let name = &self.options.sentinel_master;
        let topology = redis::find(&self.session.redis, self.wait, name, Prefer::ToWrite).await?;
        let read_back = ReadBack::new(topology.nodes);
        let verification = Verification::new(read_back, target, &self.options, self.clock);
        Box::pin(verification.run(&self.source, files)).await.map(Some)
    }

    fn remark(&self, found: Option<String>, verified: Option<Verified>) -> String {
        let mut words: Vec<String> = found.into_iter().collect();
        if let Some(Verified { keys, lost, changed, added }) = verified {
            words.push(format!(
                "verified: {keys} keys compared, {lost} lost, {changed} changed, {added} added"
            ));
        }
        if self.options.dry_run {
            words.insert(
                0,
                "a dry run: nothing was written, the figures say what would be".to_owned(),
            );
        }
        if self.options.flush && !self.options.dry_run {
            words.push("the target was emptied first".to_owned());
        }
        words.join("; ")
    }

    /// Pours a file into the Redis and verifies that it is what was stored. Gives back the bytes read.
    async fn pour(
        &self,
        file: &mut File,
        loader: &mut Loader,
        warnings: &mut Vec<String>,
        written: &AtomicU64,
    ) -> Result<u64, Error> {
        let path = file.path().to_owned();
        let unreadable = |source| redis::Error::Rdb { path: path.clone(), source };
        let mut reader = if path.ends_with(".resp") {
            let ours = file.manifest().is_some();
            Reader::Resp(Box::new(Replay::new(&path, LARGEST_COMMAND_BYTES).of_coffer(ours)))
        } else {
            Reader::Rdb(Box::new(Entries::new(redis::LARGEST_VALUE_BYTES)))
        };
        let mut bytes = 0;
        let mut download = self.source.download(file).await?;
        while let Some(chunk) = download.next().await? {
            bytes += chunk.len() as u64;
            let read = chunk.len() as u64;
            let now_ms = self.clock.now().timestamp_millis();
            match &mut reader {
                Reader::Resp(replay) => replay.feed(&chunk, loader, now_ms).await?,
                Reader::Rdb(entries) => {
                    entries.feed(chunk);
                    while let Some(event) = entries.next().map_err(unreadable)? {
                        load(event, loader, now_ms, warnings).await?;
                    }
                }
            }
            loader.flush().await?;
            self.progress.update(|state| {
                state.bytes += read;
                state.keys = written.load(Ordering::Relaxed);
            });
        }
        match reader {
            Reader::Resp(replay) => warnings.extend(replay.finish()?),
            Reader::Rdb(entries) => entries.finish().map_err(unreadable)?,
        }
        Ok(bytes)
    }
}

/// Whether all keys came that the manifest counts.
fn promised(files: &[File], tally: &redis::Tally) -> Result<(), Error> {
    let Some(file) = files.iter().find(|file| file.manifest().is_some_and(|m| m.counted)) else {
        return Ok(());
    };
    let promised: u64 =
        file.manifest().map_or(0, |manifest| convert::totals(manifest).values().sum());
    if promised == tally.read {
        return Ok(());
    }
    Err(file.differs(format!("its manifest promises {promised} keys, {} were in it", tally.read)))
}

/// Loads one thing.
async fn load(
    event: Event,
    loader: &mut Loader,
    now_ms: i64,
    warnings: &mut Vec<String>,
) -> Result<(), Error> {
    match event {
        Event::Entry(entry) => loader.restore(entry, now_ms).await?,
        Event::Function(source) => loader.function(&source).await?,
        Event::ModuleAux { module, .. } => warnings.push(format!(
            "data that module {module} keeps outside any key is in the snapshot, but no command can restore it"
        )),
        Event::Version(version) => tracing::info!(%version, "reading the dump"),
        Event::Note { .. } | Event::SizeHint { .. } | Event::End { .. } => {}
    }
    Ok(())
}
