//! The steps of the cases: a session of ours, a pipeline of the peers, a look at what came of it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use coffer_tests::{
    coffer::{Coffer, Output},
    memory::Memory,
    redis_server::{RedisServer, free_port},
};

use crate::SECRET;

/// What all cases share.
pub(crate) struct Bench {
    pub(crate) folder: PathBuf,
    pub(crate) source: RedisServer,
    pub(crate) target: RedisServer,
    pub(crate) coffer: Coffer,
}

/// What a session took.
pub(crate) struct Took {
    /// The Job.
    pub(crate) seconds: f64,
    /// What was around it.
    pub(crate) around: f64,
    /// The most memory that the worker had.
    pub(crate) worker_mib: f64,
}

impl Bench {
    /// Bytes of the files in the repository of canonical backups.
    pub(crate) fn stored_bytes(&self) -> Result<f64> {
        let du = Command::new("du")
            .args(["-sb"])
            .arg(self.folder.join("repository-canonical"))
            .output()?;
        let text = String::from_utf8(du.stdout)?;
        text.split_whitespace().next().and_then(|n| n.parse().ok()).context("du gave no number")
    }

    /// Those of the peer and of backups by replication; they are made again when they are needed.
    pub(crate) fn remove_repositories(&self) -> Result<()> {
        for name in ["peer", "repository-replication"] {
            let folder = self.folder.join(name);
            if folder.exists() {
                fs::remove_dir_all(folder)?;
            }
        }
        Ok(())
    }

    pub(crate) fn backup(&self, method: &str) -> Result<Took> {
        eprintln!("backing up: {method}");
        self.session(&["backup", method])
    }

    pub(crate) fn restore(&self, load: &str) -> Result<Took> {
        eprintln!("restoring: {load}");
        let task = format!("restore-{load}");
        self.session(&["restore", "--repository", "replication", "--target", load, "--task", &task])
    }

    #[allow(clippy::cast_precision_loss, reason = "figures for people")]
    fn session(&self, words: &[&str]) -> Result<Took> {
        let memory = Memory::watch(self.coffer.pid());
        let clock = Instant::now();
        let flags = ["-n", "bench", "--quiet", "--output", "json"];
        let said = self.coffer.run(&[words, &flags].concat(), Output::Captured)?;
        let whole = clock.elapsed().as_secs_f64();
        let worker_mib = memory.stop().children as f64 / f64::from(1 << 20);
        let said: serde_json::Value = serde_json::from_str(&said)?;
        let took = said["result"]["durationMs"].as_f64().context("the session has no duration")?;
        let seconds = took / 1000.0;
        Ok(Took { seconds, around: whole - seconds, worker_mib })
    }

    pub(crate) async fn is_complete(&self) -> Result<()> {
        let keys: u64 = self.source.command(&["DBSIZE"]).await?;
        let restored: u64 = self.target.command(&["DBSIZE"]).await?;
        ensure!(restored == keys, "{keys} keys were backed up, {restored} came back");
        Ok(())
    }

    /// The append-only file of a server that has loaded the data, as commands from its first byte.
    pub(crate) async fn typed_dump(&self) -> Result<PathBuf> {
        for (name, value) in [("aof-use-rdb-preamble", "no"), ("appendonly", "yes")] {
            self.source.command::<()>(&["CONFIG", "SET", name, value]).await?;
        }
        loop {
            let info: String = self.source.command(&["INFO", "persistence"]).await?;
            if info.contains("aof_rewrite_in_progress:0")
                && info.contains("aof_rewrite_scheduled:0")
            {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let dir: Vec<String> = self.source.command(&["CONFIG", "GET", "dir"]).await?;
        let dir = Path::new(dir.get(1).context("no dir")?).join("appendonlydir");
        let bases = fs::read_dir(&dir)?.filter_map(|entry| Some(entry.ok()?.path()));
        let base = bases.filter(|path| path.to_string_lossy().ends_with(".base.aof")).max();
        let typed = self.folder.join("typed.resp");
        fs::copy(base.context("the server wrote no base")?, &typed)?;
        self.source.command::<()>(&["CONFIG", "SET", "appendonly", "no"]).await?;
        Ok(typed)
    }

    /// How long a server takes to start on the file.
    pub(crate) fn own_loading(&self) -> Result<f64> {
        let data = self.folder.join("own");
        fs::create_dir_all(&data)?;
        self.shell(&format!(
            "redis-cli -p {} --rdb {}/dump.rdb > /dev/null 2>&1",
            self.source.port,
            data.display()
        ))?;
        let port = free_port()?.to_string();
        let clock = Instant::now();
        let mut server = Command::new("redis-server")
            .args(["--port", &port, "--bind", "127.0.0.1", "--save", "", "--dir"])
            .arg(&data)
            .stdout(Stdio::null())
            .spawn()?;
        let ready = self.shell(&format!(
            "until redis-cli -p {port} ping 2> /dev/null | grep -q PONG; do :; done"
        ));
        let took = clock.elapsed().as_secs_f64();
        stop(&mut server);
        ready.map(|_| took)
    }

    /// Runs a pipeline of the peers, with restic's repository at hand.
    pub(crate) fn shell(&self, pipeline: &str) -> Result<f64> {
        let repository = self.folder.join("peer");
        let command = |script: &str| {
            let mut shell = Command::new("bash");
            shell
                .args(["-c", &format!("set -o pipefail; {script}")])
                .env("RESTIC_PASSWORD", SECRET)
                .env("RESTIC_REPOSITORY", &repository);
            shell
        };
        if !repository.exists() {
            ensure!(command("restic init > /dev/null").status()?.success(), "restic init failed");
        }
        eprintln!("peer: {pipeline}");
        let clock = Instant::now();
        if !command(pipeline).status()?.success() {
            bail!("failed: {pipeline}");
        }
        Ok(clock.elapsed().as_secs_f64())
    }
}

fn stop(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}
