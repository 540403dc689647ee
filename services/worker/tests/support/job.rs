//! Runs a whole job: session document in, result out.

use std::path::Path;

use clap::Parser as _;
use coffer_api::outcome::{BackedUp, Failed, Outcome, Restored, Result as Ended};
use coffer_api::session::{self, Endpoints, Redis, Sensitive, Session};
use coffer_runtime::Runtime;
use coffer_worker::Args;

use super::PASSWORD;

pub(crate) const BACKUP: &str = "backup-redis";
pub(crate) const RESTORE: &str = "restore-redis";

pub(crate) fn session(kind: &str, redis: Redis, endpoint: &str) -> Session {
    Session {
        version: 1,
        kind: kind.to_owned(),
        namespace: "demo".to_owned(),
        name: "nightly-1".to_owned(),
        invoker_kind: "BackupConfiguration".to_owned(),
        invoker_name: "nightly".to_owned(),
        target: session::Target {
            kind: "AppBinding".to_owned(),
            namespace: "demo".to_owned(),
            name: "cache".to_owned(),
            app_type: "kubedb.com/redis".to_owned(),
        },
        redis,
        repository: session::Repository { namespace: "demo".to_owned(), name: "repo".to_owned() },
        host: "host-0".to_owned(),
        tags: vec!["session=nightly-1".to_owned()],
        restore: (kind == "RestoreSession").then(session::Restore::default),
        endpoints: Endpoints {
            storage_gateway: endpoint.to_owned(),
            orchestrator: endpoint.to_owned(),
            metrics_gateway: endpoint.to_owned(),
            ca: None,
        },
        grant: Sensitive::new("the-grant"),
        wait_timeout_seconds: 20,
    }
}

pub(crate) fn args(dir: &Path, job: &str, more: &[&str]) -> Args {
    let log = dir.join("termination-log");
    let options =
        ["--session-dir", dir.to_str().unwrap(), "--termination-log", log.to_str().unwrap(), job];
    let program = ["coffer-worker"];
    Args::try_parse_from(program.iter().chain(&options).chain(more)).unwrap()
}

/// Runs a job; its result, and whether the exit code agrees with it.
pub(crate) async fn run_with(
    session: &Session,
    job: &str,
    more: &[&str],
    runtime: &Runtime,
) -> Outcome {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join(session::KEY), serde_json::to_vec(session).unwrap()).unwrap();
    let code = coffer_worker::run(args(dir.path(), job, more), runtime).await;
    let message = std::fs::read_to_string(dir.path().join("termination-log")).unwrap();
    assert!(!message.contains(PASSWORD) && !message.contains("the-grant"));
    let outcome = Outcome::from_message(&message).unwrap();
    let failed = matches!(outcome.result, Ended::Failed(_));
    assert_eq!(format!("{code:?}").contains("(1)"), failed, "{code:?}");
    outcome
}

pub(crate) async fn run(session: &Session, job: &str) -> Outcome {
    run_with(session, job, &[], &Runtime::new()).await
}

pub(crate) async fn backup(redis: Redis, endpoint: &str, more: &[&str]) -> Outcome {
    run_with(&session("BackupSession", redis, endpoint), BACKUP, more, &Runtime::new()).await
}

pub(crate) async fn restore(redis: Redis, endpoint: &str, more: &[&str]) -> Outcome {
    run_with(&session("RestoreSession", redis, endpoint), RESTORE, more, &Runtime::new()).await
}

pub(crate) fn backed_up(outcome: Outcome) -> BackedUp {
    match outcome.result {
        Ended::BackedUp(done) => done,
        other => panic!("{other:?}"),
    }
}

pub(crate) fn restored(outcome: Outcome) -> Restored {
    match outcome.result {
        Ended::Restored(done) => done,
        other => panic!("{other:?}"),
    }
}

pub(crate) fn failed(outcome: Outcome) -> Failed {
    match outcome.result {
        Ended::Failed(failed) => failed,
        other => panic!("{other:?}"),
    }
}
