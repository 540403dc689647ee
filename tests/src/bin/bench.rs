//! `make bench`: a backup and a restore by Coffer beside `redis-cli --rdb - | restic backup --stdin` and what restores it.
//!
//! Both work on the same Redis, the same data and the same disk, one after the other in one run. The table goes to standard
//! output and to `target/bench/end-to-end.json`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use coffer_tests::{
    coffer::{Coffer, Output},
    memory::Memory,
    redis_server::{self, RedisServer},
};
use rand::{RngCore as _, SeedableRng as _};
use serde_json::json;
use tokio::time::Instant;

const VALUE_BYTES: usize = 10_000;
const PASSWORD: &str = "restic-secret";

#[tokio::main]
async fn main() -> ExitCode {
    match bench().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// One line of the table.
struct Figure {
    case: String,
    ours: f64,
    peer: Option<f64>,
    unit: &'static str,
}

async fn bench() -> Result<()> {
    let sizes: Vec<u64> = match std::env::args().nth(1) {
        Some(megabytes) => vec![megabytes.parse().context("usage: bench [MEGABYTES]")?],
        None => vec![100, 2000],
    };
    let mut figures = vec![];
    for megabytes in sizes {
        eprintln!("measuring with {megabytes} MB");
        figures.extend(measure(megabytes).await?);
    }
    println!("{:<34} {:>10} {:>10} {:>8}  unit", "case", "coffer", "peer", "ratio");
    for figure in &figures {
        let (peer, ratio) = match figure.peer {
            Some(peer) => (format!("{peer:.1}"), format!("{:.2}", figure.ours / peer)),
            None => ("-".to_owned(), "-".to_owned()),
        };
        println!(
            "{:<34} {:>10.1} {peer:>10} {ratio:>8}  {}",
            figure.case, figure.ours, figure.unit
        );
    }
    let lines: Vec<_> = figures
        .iter()
        .map(|f| {
            json!({"case": f.case, "ours": f.ours, "peer": f.peer, "unit": f.unit,
                   "ratio": f.peer.map(|p| f.ours / p), "limit": null})
        })
        .collect();
    fs::create_dir_all("target/bench")?;
    fs::write("target/bench/end-to-end.json", serde_json::to_string_pretty(&lines)?)?;
    Ok(())
}

#[allow(clippy::cast_precision_loss, reason = "figures for people")]
async fn measure(megabytes: u64) -> Result<Vec<Figure>> {
    let folder = tempfile::tempdir_in("target")?;
    let folder = folder.path().canonicalize()?;
    let redis = RedisServer::start(redis_server::Options::default()).await?;
    fill(&redis, megabytes).await?;
    let keys: u64 = redis.command(&["DBSIZE"]).await?;

    let (peer_backup, size) = peer_backup(&redis, &folder)?;
    let coffer = Coffer::up(&folder).await?;
    fs::write(folder.join("manifests.yaml"), manifests(&redis, &folder))?;
    coffer.run(
        &["apply", "-f", &folder.join("manifests.yaml").display().to_string()],
        Output::Captured,
    )?;

    let memory = Memory::watch(coffer.pid());
    let clock = Instant::now();
    coffer.run(&["backup", "bench", "-n", "bench", "--quiet"], Output::Captured)?;
    let backup = clock.elapsed();
    let backup_memory = memory.stop();

    let peer_restore = peer_restore(&folder)?;
    redis.command::<()>(&["FLUSHALL"]).await?;
    let memory = Memory::watch(coffer.pid());
    let clock = Instant::now();
    let words = ["restore", "--repository", "bench", "--target", "bench", "-n", "bench", "--quiet"];
    coffer.run(&[&words[..], &["--task", "redis-restore-7.0.5"]].concat(), Output::Captured)?;
    let restore = clock.elapsed();
    let restore_memory = memory.stop();
    let restored: u64 = redis.command(&["DBSIZE"]).await?;
    ensure!(restored == keys, "{keys} keys were backed up, {restored} came back");
    coffer.down().await?;

    let speed = |time: Duration| size as f64 / 1e6 / time.as_secs_f64();
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let case = |what: &str| format!("{what}, {megabytes} MB");
    let figure = |what: &str, ours, peer, unit| Figure { case: case(what), ours, peer, unit };
    Ok(vec![
        figure("backup", speed(backup), Some(speed(peer_backup)), "MB/s"),
        figure("restore", speed(restore), Some(speed(peer_restore)), "MB/s"),
        figure("worker memory, backup", mib(backup_memory.children), None, "MiB"),
        figure("services memory, backup", mib(backup_memory.own), None, "MiB"),
        figure("worker memory, restore", mib(restore_memory.children), None, "MiB"),
        figure("services memory, restore", mib(restore_memory.own), None, "MiB"),
    ])
}

/// Half random bytes, half repeated ones, so that the data compress about as much as real values do.
async fn fill(redis: &RedisServer, megabytes: u64) -> Result<()> {
    let mut random = rand::rngs::StdRng::seed_from_u64(1);
    let mut connection = redis.connect().await?;
    let keys = megabytes * 1_000_000 / VALUE_BYTES as u64;
    let mut value = vec![b'a'; VALUE_BYTES];
    for start in (0..keys).step_by(500) {
        let mut pipe = redis::pipe();
        for key in start..(start + 500).min(keys) {
            random.fill_bytes(&mut value[..VALUE_BYTES / 2]);
            pipe.set(format!("key:{key}"), &value[..]).ignore();
        }
        pipe.exec_async(&mut connection).await?;
    }
    Ok(())
}

/// The peer's pipeline, and the size of what it stored.
fn peer_backup(redis: &RedisServer, folder: &Path) -> Result<(Duration, u64)> {
    let repository = folder.join("peer");
    restic(&repository).arg("init").stdout(Stdio::null()).status()?;
    let pipeline = format!(
        "set -o pipefail; redis-cli -p {} --rdb - 2>/dev/null | restic --no-cache backup --stdin --stdin-filename dump.rdb",
        redis.port
    );
    let clock = Instant::now();
    let status = restic_env(Command::new("bash").args(["-c", &pipeline]), &repository)
        .env("REDISCLI_AUTH", redis.password())
        .stdout(Stdio::null())
        .status()?;
    let time = clock.elapsed();
    ensure!(status.success(), "the peer's backup failed");
    let stats = restic(&repository).args(["stats", "--json", "latest"]).output()?;
    let stats: serde_json::Value = serde_json::from_slice(&stats.stdout)?;
    Ok((time, stats["total_size"].as_u64().context("restic stats without total_size")?))
}

/// What a user of the peer does: writes the dump into a folder and starts a Redis on it.
fn peer_restore(folder: &Path) -> Result<Duration> {
    let data = folder.join("peer-redis");
    fs::create_dir(&data)?;
    let port = redis_server::free_port()?;
    let script = format!(
        "set -e; restic --no-cache dump latest /dump.rdb > {data}/dump.rdb; \
         redis-server --port {port} --bind 127.0.0.1 --dir {data} --save '' --daemonize yes > /dev/null; \
         until redis-cli -p {port} ping 2> /dev/null | grep -q PONG; do :; done; \
         redis-cli -p {port} dbsize > /dev/null",
        data = data.display()
    );
    let clock = Instant::now();
    let status =
        restic_env(Command::new("bash").args(["-c", &script]), &folder.join("peer")).status()?;
    let time = clock.elapsed();
    let _ =
        Command::new("redis-cli").args(["-p", &port.to_string(), "shutdown", "nosave"]).status();
    ensure!(status.success(), "the peer's restore failed");
    Ok(time)
}

fn restic(repository: &Path) -> Command {
    let mut command = Command::new("restic");
    command.arg("--no-cache");
    restic_env(&mut command, repository);
    command
}

fn restic_env<'a>(command: &'a mut Command, repository: &Path) -> &'a mut Command {
    command.env("RESTIC_PASSWORD", PASSWORD).env("RESTIC_REPOSITORY", repository)
}

fn manifests(redis: &RedisServer, folder: &Path) -> String {
    let repository: PathBuf = folder.join("repository");
    format!(
        r#"apiVersion: v1
kind: Namespace
metadata: {{name: bench}}
---
apiVersion: v1
kind: Secret
metadata: {{name: storage, namespace: bench}}
stringData: {{RESTIC_PASSWORD: {PASSWORD}}}
---
apiVersion: v1
kind: Secret
metadata: {{name: auth, namespace: bench}}
stringData: {{password: "{}"}}
---
apiVersion: stash.appscode.com/v1alpha1
kind: Repository
metadata: {{name: bench, namespace: bench}}
spec: {{backend: {{storageSecretName: storage, local: {{mountPath: /backup, hostPath: {{path: "{}"}}}}}}}}
---
apiVersion: appcatalog.appscode.com/v1alpha1
kind: AppBinding
metadata: {{name: bench, namespace: bench}}
spec: {{type: redis, clientConfig: {{url: "redis://127.0.0.1:{}"}}, secret: {{name: auth}}}}
---
apiVersion: stash.appscode.com/v1beta1
kind: BackupConfiguration
metadata: {{name: bench, namespace: bench}}
spec:
  schedule: "0 0 1 1 *"
  task: {{name: redis-backup-7.0.5}}
  repository: {{name: bench}}
  target: {{ref: {{apiVersion: appcatalog.appscode.com/v1alpha1, kind: AppBinding, name: bench}}}}
  retentionPolicy: {{name: one, keepLast: 1, prune: false}}
"#,
        redis.password(),
        repository.display(),
        redis.port
    )
}
