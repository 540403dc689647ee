//! The backup, one straight line: find the servers, open the snapshot, get the data out, pass them on, say
//! that they are complete. Any error on the way leaves the snapshot without its `finish`, and so without
//! existence.
//!
//! `method: auto` goes down a list. A method is given up for the next one only when the server refused it
//! before a byte of data was sent; the session then says so.

mod part;
mod remarks;

use std::time::Duration;

use chrono::{DateTime, Utc};
use coffer_api::manifest;
use coffer_api::outcome::BackedUp;
use coffer_api::session::Session;
use coffer_proto::orchestrator::v1::SessionKind;
use coffer_proto::storage::v1 as proto;
use coffer_runtime::{Clock, fault};
use tokio::time::{Instant, sleep};

use self::part::Origin;
pub(crate) use self::part::Part;
use crate::args::BackupArgs;
use crate::convert;
use crate::error::Error;
use crate::gateway::{self, Gateway, Late};
use crate::keyspace::Contents;
use crate::options::{self, Method, Order};
use crate::progress::{Progress, Stage};
use crate::redis::{self, Topology};

/// Between two attempts at a gateway that is full or away, doubled each time.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);
/// Version of the layout of Coffer's snapshots, in their tags.
const FORMAT_TAG: &str = "coffer:format=1";

/// Dumps the session's Redis into its repository.
pub(crate) async fn run(
    args: &BackupArgs,
    session: &Session,
    wait: Duration,
    clock: &Clock,
    warnings: &mut Vec<String>,
) -> Result<BackedUp, Error> {
    let options = options::Backup::new(args)?;
    let progress = Progress::start(session, SessionKind::Backup);
    let gateway = Gateway::new(session, clock, progress.meter())?;
    let backup = Backup { args, options, session, wait, clock, gateway, progress };
    let backed_up = backup.repeat_until_taken(warnings).await;
    let Backup { gateway, progress, .. } = backup;
    drop(gateway);
    progress.finish().await;
    backed_up
}

struct Backup<'a> {
    args: &'a BackupArgs,
    options: options::Backup,
    session: &'a Session,
    wait: Duration,
    clock: &'a Clock,
    gateway: Gateway,
    progress: Progress,
}

/// Why an attempt ended.
enum Ended {
    /// The gateway could not take it now, and has received no data.
    NotTaken(Error),
    /// The server does not allow this method; no data was sent.
    NotAllowed(redis::Error),
    Failed(Error),
}

impl<E: Into<Error>> From<E> for Ended {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

impl Backup<'_> {
    async fn repeat_until_taken(&self, warnings: &mut Vec<String>) -> Result<BackedUp, Error> {
        let deadline = Instant::now() + self.wait;
        let mut pause = FIRST_PAUSE;
        loop {
            match Box::pin(self.try_methods(warnings)).await {
                Ok(backed_up) => return Ok(backed_up),
                Err(Ended::Failed(error)) => return Err(error),
                Err(Ended::NotAllowed(error)) => return Err(error.into()),
                Err(Ended::NotTaken(error)) if Instant::now() + pause >= deadline => {
                    return Err(error);
                }
                Err(Ended::NotTaken(error)) => {
                    tracing::warn!(
                        error = fault::chain(&error),
                        ?pause,
                        "the storage-gateway will be asked again"
                    );
                }
            }
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Goes down the list of methods.
    async fn try_methods(&self, warnings: &mut Vec<String>) -> Result<BackedUp, Ended> {
        let (methods, mut reasons): (&[Method], Vec<String>) = match self.options.method {
            Method::Auto => match self.options.only_by_scan() {
                None => (&[Method::Replication, Method::Scan, Method::Portable], vec![]),
                Some(why) => (&[Method::Scan, Method::Portable], vec![why.to_owned()]),
            },
            Method::Replication => (&[Method::Replication], vec![]),
            Method::Scan => (&[Method::Scan], vec![]),
            Method::Portable => (&[Method::Portable], vec![]),
        };
        let Some((last, others)) = methods.split_last() else { return self.unknown_method() };
        for method in others {
            match Box::pin(self.attempt(*method, &reasons, warnings)).await {
                Err(Ended::NotAllowed(error)) => {
                    let why = fault::chain(&error);
                    tracing::warn!(
                        method = method.name(),
                        why,
                        "the server does not allow this method"
                    );
                    reasons.push(format!("{} is not possible: {why}", method.name()));
                }
                ended => return ended,
            }
        }
        let ended = Box::pin(self.attempt(*last, &reasons, warnings)).await;
        // Whoever is to grant rights has a choice between those of each method.
        ended.map_err(|ended| match ended {
            Ended::NotAllowed(source) | Ended::Failed(Error::Redis(source))
                if !reasons.is_empty() && part::is_refusal(&source) =>
            {
                let refused = reasons.join("; ");
                let source = Box::new(source);
                Ended::Failed(Error::NoMethod { refused, method: last.name(), source })
            }
            ended => ended,
        })
    }

    fn unknown_method(&self) -> Result<BackedUp, Ended> {
        let value = self.options.method.name().to_owned();
        Err(Error::Flag { flag: "method", value, problem: "no such method" }.into())
    }

    async fn attempt(
        &self,
        method: Method,
        reasons: &[String],
        warnings: &mut Vec<String>,
    ) -> Result<BackedUp, Ended> {
        self.progress.stage(Stage::Connect);
        let redis = &self.session.redis;
        let options = &self.options;
        let topology =
            redis::find(redis, self.wait, &options.sentinel_master, options.prefer).await?;
        let Topology { nodes, slots, remarks, found } = topology;
        let mut new_warnings = remarks;
        for node in &nodes {
            new_warnings.extend(remarks::before(node, method));
        }
        let started = self.clock.now();
        let not_taken = |error| match gateway::may_be_repeated(&error) {
            true => Ended::NotTaken(error),
            false => Ended::Failed(error),
        };
        let paths = paths(method, nodes.len(), slots.is_some());
        let mut upload =
            self.gateway.upload(self.header(method, paths.clone())).await.map_err(not_taken)?;

        self.progress.stage(Stage::Wait);
        let origins: Vec<Origin> =
            nodes.iter().zip(&paths).map(|(n, path)| Origin::of(n, path)).collect();
        let dumps =
            part::start_all(nodes, method, options, &self.args.addon.scratch_dir, self.wait)
                .await?;
        upload.check().await.map_err(not_taken)?;

        self.progress.stage(Stage::Transfer);
        self.progress.update(|state| {
            state.total_bytes = dumps.iter().map(|dump| dump.announced().unwrap_or(0)).sum();
            state.total_keys = origins.iter().map(|origin| origin.server.keys).sum();
        });
        let late = began_late(dumps.iter().map(part::Dump::began_after).max());
        let no_digest = no_digest(method, options.order);
        let digest = options.digest && no_digest.is_none();
        let parts = part::drain_all(dumps, origins, &mut upload, &self.progress, digest).await?;
        if let (Some(slots), Some(first)) = (&slots, parts.first()) {
            redis::is_unchanged(slots, &first.origin.redis, self.wait).await?;
        }
        for part in &parts {
            new_warnings.extend(remarks::after(part));
        }
        warnings.append(&mut new_warnings);

        self.progress.stage(Stage::Commit);
        let times = (started, self.clock.now());
        if let Some(why) = no_digest.filter(|_| options.digest) {
            warnings.push(format!("there is no digest: {why}"));
        }
        let reason = reasons.join("; ");
        let waited = waited(upload.late());
        let more = [found.as_deref(), waited.as_deref(), late.as_deref(), Some(&reason)];
        let mut done = backed_up(method, &more, &parts);
        let manifest = self.manifest(method, reason, &parts, slots.is_some(), times);
        done.keys = convert::totals(&manifest).into_iter().collect();
        done.counted = manifest.counted;
        done.digest.clone_from(&manifest.digest);
        let finish = proto::BackupFinish { manifest: Some(manifest) };
        let stored = upload.finish(finish).await?;
        done.snapshot_id = stored.snapshot_id;
        done.data_added = stored.data_added;
        done.data_added_packed = stored.data_added_packed;
        done.files_new = stored.files_new;
        done.repository_created = stored.repository_created;
        Ok(done)
    }

    fn header(&self, method: Method, paths: Vec<String>) -> proto::BackupHeader {
        let host = match self.session.host.as_str() {
            "" => self.args.addon.hostname.as_str(),
            host => host,
        };
        let host = if host.is_empty() { coffer_api::names::DEFAULT_HOST } else { host };
        let mut tags = self.session.tags.clone();
        for tag in [format!("coffer:method={}", method.name()), FORMAT_TAG.to_owned()] {
            if !tags.contains(&tag) {
                tags.push(tag);
            }
        }
        proto::BackupHeader {
            repository: None,
            host: host.to_owned(),
            paths,
            tags,
            time: None,
            no_verify: false,
            hears_waiting: false,
        }
    }

    fn manifest(
        &self,
        method: Method,
        reason: String,
        parts: &[Part],
        cluster: bool,
        (started, finished): (DateTime<Utc>, DateTime<Utc>),
    ) -> proto::Manifest {
        let shards = if cluster { parts.iter().map(convert::shard).collect() } else { vec![] };
        proto::Manifest {
            method: method.name().to_owned(),
            files: parts.iter().map(convert::file_sum).collect(),
            databases: convert::databases(parts.iter().map(|part| &part.summary)),
            server: parts.first().map(convert::server),
            started: Some(convert::timestamp(started)),
            finished: Some(convert::timestamp(finished)),
            counted: parts.iter().all(|part| part.counted),
            rdb_version: parts.iter().map(|part| u32::from(part.rdb_version)).max().unwrap_or(0),
            functions: parts.iter().map(|part| part.summary.functions).max().unwrap_or(0),
            reason,
            shards,
            digest: digest(parts).unwrap_or_default(),
            largest_value_bytes: largest_value(parts),
        }
    }
}

/// Why the digest of a dump cannot be had on its way.
const fn no_digest(method: Method, order: Order) -> Option<&'static str> {
    match (method, order) {
        (Method::Portable, _) => Some(
            "`method: portable` writes commands, which say how values are made and not what they are",
        ),
        (Method::Scan, Order::Server) => Some(
            "a scan in the server's order may name a key twice; set `order: canonical`, or ask `coffer digest` for it",
        ),
        _ => None,
    }
}

/// Of all parts together, when each has one.
fn digest(parts: &[Part]) -> Option<String> {
    let mut all = Contents::default();
    for part in parts {
        all.merge(part.contents.as_ref()?);
    }
    (!parts.is_empty()).then(|| all.digest().to_string())
}

/// The largest value of all parts, unless there may be one that could not be walked.
fn largest_value(parts: &[Part]) -> u64 {
    let counted = parts.iter().all(|part| part.counted);
    let largest = parts.iter().map(|part| part.summary.largest_value).max();
    largest.filter(|_| counted).unwrap_or(0)
}

/// The data files of the snapshot.
fn paths(method: Method, parts: usize, cluster: bool) -> Vec<String> {
    let rdb = method == Method::Replication;
    match (cluster, rdb) {
        (false, true) => vec![manifest::DUMP_RDB.to_owned()],
        (false, false) => vec![manifest::DUMP_RESP.to_owned()],
        (true, true) => (0..parts).map(manifest::shard_rdb).collect(),
        (true, false) => (0..parts).map(manifest::shard_resp).collect(),
    }
}

/// Why a backup took longer than its data, where it was the storage-gateway that waited.
fn waited(late: Option<&Late>) -> Option<String> {
    let Late { after, words } = late?;
    Some(format!("the storage-gateway began after {} s ({words})", after.as_secs()))
}

/// The same, where it was the server.
fn began_late(after: Option<Duration>) -> Option<String> {
    let seconds = after.map_or(0, |after| after.as_secs());
    (seconds > 0).then(|| {
        format!(
            "the server began after {seconds} s (repl-diskless-sync-delay, another child, or its disk)"
        )
    })
}

/// What is known of the result before the snapshot is committed.
fn backed_up(method: Method, more: &[Option<&str>], parts: &[Part]) -> BackedUp {
    let servers: Vec<String> = parts.iter().map(|part| part.origin.described()).collect();
    let mut words = format!("by {} from {}", method.name(), servers.join(", "));
    for more in more.iter().flatten().filter(|more| !more.is_empty()) {
        words.push_str("; ");
        words.push_str(more);
    }
    let first = parts.first();
    BackedUp {
        path: first.map_or("", |part| part.origin.path.trim_start_matches('/')).to_owned(),
        method: method.name().to_owned(),
        reason: words,
        bytes: parts.iter().map(|part| part.bytes).sum(),
        server_version: first.map(|part| part.origin.server.version.clone()).unwrap_or_default(),
        ..BackedUp::default()
    }
}
