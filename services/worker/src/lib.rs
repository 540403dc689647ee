//! The worker: dumps a Redis into a snapshot, or loads a snapshot into a Redis, once, and ends.
//!
//! It runs as a Job. It has no rights in the cluster and asks nobody what to do: the session is a document
//! in a mounted Secret, the result is the container's termination message and the exit code.
//!
//! ```text
//!   session.json ─▶ backup::run ── redis::{Replication, Scan} ══ bytes ══▶ gateway::Upload ─▶ storage-gateway
//!                   restore::run ◀═ gateway::Download ══ bytes ══▶ redis::Loader, redis::Replay
//!                       │ └─ progress ─▶ orchestrator (best effort)
//!                       └──▶ outcome ─▶ termination message, report ─▶ metrics-gateway
//! ```
//!
//! Memory does not grow with the data: a chunk of 1 MiB and a few in queues on the way up; one value and
//! what is in flight on the way down. (A RESP dump costs some 16 bytes a key besides, see `redis::seen`.)
//!
//! Read [`run`], then `backup.rs`, then `redis/replicate.rs`; for the way back `restore.rs` and
//! `redis/load.rs`.

pub mod args;
mod backup;
mod convert;
mod error;
pub mod filter;
mod gateway;
pub mod glob;
pub mod keyspace;
pub mod options;
mod outcome;
mod process;
mod progress;
pub mod redis;
pub mod redis_args;
mod report;
mod restore;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use coffer_api::outcome::{Outcome, Result as Ended};
use coffer_api::session::{self, Session};
use coffer_runtime::{Runtime, Shutdown};

pub use args::Args;
pub use error::Error;
pub use process::main;

use crate::args::{AddonArgs, Job};

/// Does the job, leaves its result, and says how the process is to end.
///
/// The runtime's shutdown ends the job where it stands, but for a Redis that has to be set back first: what it has
/// written to the storage-gateway is not committed, and the result says that it was terminated.
pub async fn run(args: Args, runtime: &Runtime) -> ExitCode {
    let started = runtime.clock.now();
    let written = Arc::new(AtomicU64::new(0));
    let mut warnings = Vec::new();
    let session = read_session(&args).await;
    let result = match &session {
        Err(error) => outcome::failed(error, 0),
        Ok(session) => Box::pin(work(&args.job, session, runtime, &mut warnings, &written)).await,
    };
    let duration = runtime.clock.now() - started;
    let duration_ms = u64::try_from(duration.num_milliseconds()).unwrap_or(0);
    let mut outcome = Outcome { version: 1, result, duration_ms, warnings };
    if let Ok(session) = &session {
        // Asked to stop, we have little time left, and the message matters more than the figures.
        if !runtime.shutdown.is_triggered() {
            outcome.warnings.extend(report::push(session, &outcome).await);
        }
    }
    leave(&args, &outcome).await
}

/// Writes the result and logs it.
async fn leave(args: &Args, outcome: &Outcome) -> ExitCode {
    for warning in &outcome.warnings {
        tracing::warn!(warning, "the job has a remark");
    }
    let succeeded = match &outcome.result {
        Ended::BackedUp(done) => {
            tracing::info!(snapshot = done.snapshot_id, bytes = done.bytes, "backup done");
            true
        }
        Ended::Restored(done) => {
            tracing::info!(snapshot = done.snapshot_id, bytes = done.bytes, "restore done");
            true
        }
        Ended::Failed(failed) => {
            tracing::error!(class = failed.class, error = failed.error, "the job failed");
            false
        }
    };
    if let Err(error) = outcome::write(&args.termination_log, outcome).await {
        let path = args.termination_log.display();
        tracing::error!(%path, %error, "the result cannot be written");
        return ExitCode::FAILURE;
    }
    if succeeded { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn work(
    job: &Job,
    session: &Session,
    runtime: &Runtime,
    warnings: &mut Vec<String>,
    written: &Arc<AtomicU64>,
) -> Ended {
    let result = match job {
        Job::BackupRedis(args) => match wait_of(&args.addon, session) {
            Ok(wait) => {
                let job = backup::run(args, session, wait, &runtime.clock, warnings);
                unless_stopped(&runtime.shutdown, job).await.map(Ended::BackedUp)
            }
            Err(error) => Err(error),
        },
        Job::RestoreRedis(args) => match wait_of(&args.addon, session) {
            Ok(wait) => restore::run(args, session, wait, runtime, warnings, written)
                .await
                .map(Ended::Restored),
            Err(error) => Err(error),
        },
    };
    result.unwrap_or_else(|error| outcome::failed(&error, written.load(Ordering::Relaxed)))
}

/// Drops what is being done where it stands when we are told to stop.
async fn unless_stopped<T>(
    stop: &Shutdown,
    act: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    tokio::select! {
        done = act => done,
        () = stop.triggered() => Err(Error::Terminated),
    }
}

async fn read_session(args: &Args) -> Result<Session, Error> {
    let path = args.session_dir.join(session::KEY);
    let text = tokio::fs::read(&path)
        .await
        .map_err(|source| Error::ReadSession { path: path.clone(), source })?;
    let session: Session =
        serde_json::from_slice(&text).map_err(|source| Error::ParseSession { path, source })?;
    let expected = match args.job {
        Job::BackupRedis(_) => "BackupSession",
        Job::RestoreRedis(_) => "RestoreSession",
    };
    if session.version != 1 || session.kind != expected {
        let Session { kind: found, version, .. } = session;
        return Err(Error::WrongSession { found, version, expected });
    }
    Ok(session)
}

/// How long to wait for servers: the flag, or else the session.
fn wait_of(args: &AddonArgs, session: &Session) -> Result<Duration, Error> {
    let flag = args.wait_timeout.trim();
    if flag.is_empty() {
        return Ok(Duration::from_secs(session.wait_timeout_seconds));
    }
    flag.parse().map(Duration::from_secs).map_err(|_| Error::Flag {
        flag: "wait-timeout",
        value: flag.to_owned(),
        problem: "a number of seconds is needed; mend the Task's param `waitTimeout`",
    })
}
