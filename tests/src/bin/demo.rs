//! `make demo`: a real Redis is loaded, backed up, emptied, restored and compared key by key, by the programs that users run.

use std::{process::ExitCode, time::Duration};

use anyhow::{Context as _, Result, ensure};
use coffer_tests::{
    coffer::{Coffer, Output},
    compare, dataset,
    redis_server::{self, RedisServer},
    report::{Report, bytes, count, rate},
    restic_program::ResticProgram,
};
use tokio::time::Instant;

const NAMESPACE: &str = "demo";
const CONFIGURATION: &str = "orders-nightly";

#[tokio::main]
async fn main() -> ExitCode {
    match demo().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\ndemo failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn demo() -> Result<()> {
    let started = Instant::now();
    let folder = tempfile::tempdir().context("make a temporary folder")?;
    let mut report = Report::new("Coffer: one backup and one restore, end to end");

    let redis = RedisServer::start(redis_server::Options::default()).await?;
    let step = report.step("load a Redis with every type of key");
    let spec = dataset::Spec::default();
    dataset::load(&redis.client()?, &spec).await?;
    let before = compare::fingerprint(&redis.client()?).await?;
    step.done(&format!("{} keys in {} databases", count(before.len()), before.databases()));

    let step = report.step("start Coffer (`coffer up`)");
    let coffer = Coffer::up(folder.path()).await?;
    step.done("API server, Job runner and five services, all in one process");

    let manifests = folder.path().join("manifests.yaml");
    std::fs::write(&manifests, manifest(&redis, folder.path()))?;
    let step = report.step("apply the manifests");
    let applied =
        coffer.run(&["apply", "-f", &manifests.display().to_string()], Output::Captured)?;
    step.done(&format!("{} objects", applied.lines().count()));

    let step = report.step("back up (triggered over gRPC)");
    let clock = Instant::now();
    coffer.run(&["backup", CONFIGURATION, "-n", NAMESPACE], Output::Shown)?;
    let backup_time = clock.elapsed();
    step.done(&seconds(backup_time));

    coffer.run(&["snapshots", "orders", "-n", NAMESPACE], Output::Shown)?;

    let step = report.step("empty the Redis");
    redis.command::<()>(&["FLUSHALL"]).await?;
    let left: u64 = redis.command(&["DBSIZE"]).await?;
    ensure!(left == 0, "FLUSHALL left {left} keys");
    step.done("0 keys left");

    let step = report.step("restore the latest snapshot");
    let clock = Instant::now();
    let words = ["restore", "--repository", "orders", "--target", "orders", "-n", NAMESPACE];
    coffer.run(&[&words[..], &["--task", "redis-restore-7.0.5"]].concat(), Output::Shown)?;
    let restore_time = clock.elapsed();
    step.done(&seconds(restore_time));

    let step = report.step("compare every key: type, value, time to live, groups");
    let after = compare::fingerprint(&redis.client()?).await?;
    let differences = compare::compare(&before, &after);
    ensure!(differences.is_empty(), "the restored Redis differs:\n{differences}");
    step.done("no difference");

    let step = report.step("restic check --read-data");
    let repository = ResticProgram::new(&folder.path().join("repository"), "restic-secret");
    repository.check()?;
    step.done("no errors were found");

    let snapshot = repository.snapshots()?.pop().context("restic lists no snapshot")?;
    let id = snapshot["id"].as_str().context("a snapshot without an id")?;
    let dump = repository.file_size(id, "/dump.rdb")?;
    let stored = directory_size(&folder.path().join("repository"))?;
    coffer.down().await?;

    report.line("keys", &format!("{}, all equal", count(before.len())));
    report.line("dump", &bytes(dump));
    report.line("repository", &format!("{} ({:.1}x smaller)", bytes(stored), ratio(dump, stored)));
    report.line("backup", &format!("{}, {}", seconds(backup_time), rate(dump, backup_time)));
    report.line("restore", &format!("{}, {}", seconds(restore_time), rate(dump, restore_time)));
    report.line("whole demo", &seconds(started.elapsed()));
    report.finish();
    Ok(())
}

/// What a user applies: the same objects that Stash takes.
fn manifest(redis: &RedisServer, folder: &std::path::Path) -> String {
    format!(
        r#"apiVersion: v1
kind: Namespace
metadata: {{name: {NAMESPACE}}}
---
apiVersion: v1
kind: Secret
metadata: {{name: storage, namespace: {NAMESPACE}}}
stringData: {{RESTIC_PASSWORD: restic-secret}}
---
apiVersion: v1
kind: Secret
metadata: {{name: orders-auth, namespace: {NAMESPACE}}}
stringData: {{password: "{password}"}}
---
apiVersion: stash.appscode.com/v1alpha1
kind: Repository
metadata: {{name: orders, namespace: {NAMESPACE}}}
spec:
  backend:
    storageSecretName: storage
    local:
      mountPath: /backup
      hostPath: {{path: "{repository}", type: DirectoryOrCreate}}
---
apiVersion: appcatalog.appscode.com/v1alpha1
kind: AppBinding
metadata: {{name: orders, namespace: {NAMESPACE}}}
spec:
  type: redis
  version: 7.0.5
  clientConfig: {{url: "redis://127.0.0.1:{port}"}}
  secret: {{name: orders-auth}}
---
apiVersion: stash.appscode.com/v1beta1
kind: BackupConfiguration
metadata: {{name: {CONFIGURATION}, namespace: {NAMESPACE}}}
spec:
  schedule: "30 2 * * *"
  task: {{name: redis-backup-7.0.5}}
  repository: {{name: orders}}
  target:
    ref: {{apiVersion: appcatalog.appscode.com/v1alpha1, kind: AppBinding, name: orders}}
  retentionPolicy: {{name: last-7, keepLast: 7, prune: true}}
"#,
        password = redis.password(),
        port = redis.port,
        repository = folder.join("repository").display(),
    )
}

fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}

#[allow(clippy::cast_precision_loss, reason = "printed with one decimal")]
fn ratio(a: u64, b: u64) -> f64 {
    a as f64 / b.max(1) as f64
}

fn directory_size(folder: &std::path::Path) -> Result<u64> {
    let mut total = 0;
    for entry in std::fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))? {
        let entry = entry?;
        let meta = entry.metadata()?;
        total += if meta.is_dir() { directory_size(&entry.path())? } else { meta.len() };
    }
    Ok(total)
}
