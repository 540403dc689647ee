//! kill -9 of the gateway at random instants: whatever it was doing, every snapshot that it has acknowledged is listed and
//! restores byte for byte, so does every other that is listed, our deep check and restic's find nothing, and the next
//! gateway goes on without anybody's help.
//!
//! `COFFER_KILLS` is how many instants (72), `COFFER_KILL_SEED` the seed that a failure has printed.

use super::support::*;
use coffer_proto::storage::v1::*;
use coffer_restic::{
    InitOptions, Kdf, OpenOptions, Password, ReadOptions, Repository, Snapshot, SnapshotFilter,
    Store, check,
};
use futures::TryStreamExt as _;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::{Instant, timeout_at};

/// Repositories that suffer at the same time: most of each operation is the wait after taking a lock.
const REPOSITORIES: usize = 6;
/// Two or three operations long, on two processors that all repositories share.
const WINDOW: Duration = Duration::from_secs(3);
/// The gateway has begun after this long on the slowest machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// restic is asked after every so many instants of a repository. What is damaged stays so: nothing is missed in between.
const SAMPLE: usize = 6;
/// Snapshots that are kept.
const KEPT: usize = 2;
const WORDS: [&str; 3] = ["begun", "kept", "deleting"];

/// The process that is killed: a gateway, and a client that has it back up, delete and prune for ever.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "it is started, and killed, by the test below"]
async fn victim() {
    let Ok(directory) = std::env::var("COFFER_VICTIM_OF") else { return };
    let first: u64 = std::env::var("COFFER_VICTIM_BEGINS").unwrap().parse().unwrap();
    let gateway = start().await;
    let volume = json_volume(&directory);
    gateway.cluster.repository("mortal", volume);
    let mut client = gateway.service("orchestrator");
    let repository = || Some(at("mortal"));
    println!("{}", WORDS[0]);
    for step in first.. {
        match step % 5 {
            0..=2 => {
                let done = gateway.backup("mortal", &content(step)).await.unwrap();
                println!("{} {}", WORDS[1], done.snapshot_id);
            }
            3 => {
                let list = ListSnapshotsRequest { repository: repository(), ..Default::default() };
                let listed = client.list_snapshots(list).await.unwrap().into_inner().snapshots;
                let old = listed.len().saturating_sub(KEPT);
                let ids: Vec<String> =
                    listed.into_iter().take(old).map(|snapshot| snapshot.id).collect();
                if !ids.is_empty() {
                    println!("{} {}", WORDS[2], ids.join(" "));
                    let delete = DeleteSnapshotsRequest { repository: repository(), ids };
                    let mut answers = client.delete_snapshots(delete).await.unwrap().into_inner();
                    while answers.message().await.unwrap().is_some() {}
                }
            }
            _ => {
                let prune = PruneRequest { repository: repository(), ..PruneRequest::default() };
                let mut answers = client.prune(prune).await.unwrap().into_inner();
                while answers.message().await.unwrap().is_some() {}
            }
        }
    }
}

fn json_volume(directory: &str) -> serde_json::Value {
    let volume = serde_json::json!({"mountPath": "/backup", "hostPath": {"path": directory}});
    serde_json::json!({"storageSecretName": "store", "local": volume})
}

/// Something in common, something of its own, and what it is at the end.
fn content(step: u64) -> Vec<u8> {
    [noise(1, 1_000_000), noise(step, 1_500_000), step.to_le_bytes().to_vec()].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_instant_it_loses_nothing_and_lists_nothing_partial() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let kills = usize::try_from(number("COFFER_KILLS").unwrap_or(72)).unwrap();
    let seed = number("COFFER_KILL_SEED").unwrap_or_else(rand::random);
    println!("COFFER_KILL_SEED={seed}");
    let suffer = (0..REPOSITORIES).map(|one| {
        let kills = kills / REPOSITORIES + usize::from(one < kills % REPOSITORIES);
        let random = StdRng::seed_from_u64(seed.wrapping_add(one as u64));
        tokio::spawn(suffer(random, kills))
    });
    let ended: Vec<Seen> = futures::future::try_join_all(suffer).await.unwrap();
    let sum = |of: fn(&Seen) -> usize| ended.iter().map(of).sum::<usize>();
    println!("{kills} instants, {} snapshots kept, {} looked at", sum(|s| s.kept), sum(|s| s.read));
    assert!(kills < 50 || sum(|seen| seen.kept) > 0, "nothing was ever backed up");
}

/// What came of it.
#[derive(Default)]
struct Seen {
    kept: usize,
    read: usize,
}

async fn suffer(mut random: StdRng, kills: usize) -> Seen {
    let dir = tempfile::tempdir().unwrap();
    let (directory, scratch) = (dir.path().join("repository"), dir.path().join("scratch"));
    for folder in [&directory, &scratch] {
        std::fs::create_dir(folder).unwrap();
    }
    let init = InitOptions { kdf: Kdf { log_n: 6, r: 8, p: 1 }, ..InitOptions::default() };
    let store = Store::local(&directory).unwrap();
    Repository::init(store, &Password::new(PASSWORD), &init, options()).await.unwrap();
    let mut promised = BTreeSet::new();
    let mut seen = Seen::default();
    for kill in 1..=kills {
        let mut gateway = Victim::begin(&directory, &scratch, random.random()).await;
        let instant = Instant::now() + WINDOW.mul_f64(random.random());
        let said = gateway.listen_and_kill(instant).await;
        for line in &said {
            let mut words = line.split(' ');
            match words.next() {
                Some(word) if word == WORDS[1] => {
                    seen.kept += 1;
                    promised.extend(words.map(str::to_owned));
                }
                Some(word) if word == WORDS[2] => words.for_each(|id| {
                    promised.remove(id);
                }),
                _ => {}
            }
        }
        seen.read += confirm(&directory, &promised).await;
        if kill % SAMPLE == 0 || kill == kills {
            let place = directory.to_str().unwrap().to_owned();
            let check = move || restic::restic(&place, &["check", "--read-data", "--no-lock"]);
            tokio::task::spawn_blocking(check).await.unwrap();
        }
    }
    seen
}

fn options() -> OpenOptions {
    // The dead one's locks stay for the next gateway to judge.
    OpenOptions { lock_reads: false, lock_wait: Duration::ZERO, ..OpenOptions::default() }
}

/// Looks at what is left, and returns how many snapshots there are.
async fn confirm(directory: &Path, promised: &BTreeSet<String>) -> usize {
    let store = Store::local(directory).unwrap();
    let repository = Repository::open(store, &Password::new(PASSWORD), options()).await.unwrap();
    let snapshots = repository.snapshots(&SnapshotFilter::default()).await.unwrap();
    let listed: BTreeSet<String> = snapshots.iter().map(|one| one.id.to_string()).collect();
    let lost: Vec<_> = promised.difference(&listed).collect();
    assert!(lost.is_empty(), "acknowledged, and gone: {lost:?}");
    for snapshot in &snapshots {
        let data = read(&repository, snapshot, "/dump.rdb").await;
        let step = data.last_chunk().map(|end| u64::from_le_bytes(*end)).unwrap();
        assert!(data == content(step), "{} differs from what was backed up", snapshot.id);
        let manifest = read(&repository, snapshot, "/manifest.json").await;
        serde_json::from_slice::<serde_json::Value>(&manifest).unwrap();
    }
    let deep = check::Options { read_data: true, ..check::Options::default() };
    let report = repository.check(&deep).await.unwrap();
    assert!(report.is_ok(), "{:?}", report.problems);
    snapshots.len()
}

async fn read(repository: &Repository, snapshot: &Snapshot, path: &str) -> Vec<u8> {
    let content = repository.read(snapshot, path, ReadOptions::default()).await.unwrap();
    content.try_collect::<Vec<_>>().await.unwrap().concat()
}

/// The process.
struct Victim {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Victim {
    /// Starts it, and waits until its gateway serves.
    async fn begin(directory: &Path, scratch: &Path, first: u32) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["killed::victim", "--exact", "--ignored", "--nocapture"])
            .env("COFFER_VICTIM_OF", directory)
            .env("COFFER_VICTIM_BEGINS", first.to_string())
            .env("TMPDIR", scratch)
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut victim = Self { child, lines };
        let deadline = Instant::now() + PATIENCE;
        while victim.line(deadline).await.expect("it never began") != WORDS[0] {}
        victim
    }

    /// The next line, if it comes in time.
    async fn line(&mut self, deadline: Instant) -> Option<String> {
        let line = timeout_at(deadline, self.lines.next_line()).await.ok()?;
        Some(line.unwrap().expect("it ended before it was killed"))
    }

    /// Kills it at `instant`, and returns all that it has said.
    async fn listen_and_kill(&mut self, instant: Instant) -> Vec<String> {
        let mut said = Vec::new();
        while let Some(line) = self.line(instant).await {
            said.push(line);
        }
        self.child.kill().await.unwrap();
        while let Some(line) = self.lines.next_line().await.unwrap() {
            said.push(line);
        }
        said
    }
}
