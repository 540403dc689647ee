//! What the integration tests share: a place for a repository, the restic program, test data.

pub(crate) mod faulty;

use std::ffi::OsStr;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use coffer_restic::{
    BackupOptions, BackupSummary, Error, InitOptions, Kdf, OpenOptions, Password, ReadOptions,
    Repository, Snapshot, SnapshotFilter, SnapshotRef, Store, Version,
};
use futures::TryStreamExt;

pub(crate) const PASSWORD: &str = "correct horse";

/// A temporary directory with a repository in it, or room for one.
pub(crate) struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn store(&self) -> Store {
        Store::local(self.path()).unwrap()
    }

    pub(crate) async fn init(&self, version: Version) -> Repository {
        let kdf = Kdf { log_n: 10, r: 8, p: 1 };
        let init = InitOptions { version, kdf };
        Repository::init(self.store(), &Password::new(PASSWORD), &init, options()).await.unwrap()
    }

    pub(crate) async fn open(&self) -> Repository {
        Repository::open(self.store(), &Password::new(PASSWORD), options()).await.unwrap()
    }

    /// A restic command on this repository, not yet run.
    pub(crate) fn restic<I: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = I>) -> Command {
        let mut command = Command::new("restic");
        command
            .arg("--no-cache")
            .arg("--repo")
            .arg(self.path())
            .args(args)
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", self.path())
            .env("TZ", "UTC")
            .env("RESTIC_PASSWORD", PASSWORD);
        command
    }

    /// Runs restic, off the async threads so that our lock refreshes go on; must succeed.
    pub(crate) async fn run(&self, args: &[&str]) -> Vec<u8> {
        let mut command = self.restic(args);
        let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        succeeded(args, output)
    }

    /// Runs restic with bytes on its standard input; must succeed.
    pub(crate) async fn run_with_input(&self, args: &[&str], input: &[u8]) -> Vec<u8> {
        let mut command = self.restic(args);
        let input = input.to_vec();
        let output = tokio::task::spawn_blocking(move || {
            let mut child = command
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            let mut stdin = child.stdin.take().unwrap();
            let feeder = std::thread::spawn(move || stdin.write_all(&input));
            let output = child.wait_with_output().unwrap();
            feeder.join().unwrap().unwrap();
            output
        });
        succeeded(args, output.await.unwrap())
    }

    pub(crate) async fn restic_check(&self) {
        self.run(&["check", "--read-data"]).await;
    }

    pub(crate) fn files(&self, folder: &str) -> Vec<PathBuf> {
        files_below(&self.path().join(folder))
    }
}

fn succeeded(args: &[&str], output: Output) -> Vec<u8> {
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let shown: String = out.chars().take(2000).collect();
    assert!(output.status.success(), "restic {args:?}: {}\n{shown}\n{err}", output.status);
    output.stdout
}

/// Without those that are still being written: object_store renames `name#1` when it is whole.
pub(crate) fn files_below(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(files_below(&path));
        } else if !path.to_string_lossy().contains('#') {
            files.push(path);
        }
    }
    files.sort();
    files
}

pub(crate) fn options() -> OpenOptions {
    // Long enough for a dropped reader to have its lock removed.
    OpenOptions { lock_wait: Duration::from_secs(3), ..OpenOptions::default() }
}

/// What restic prints, read as JSON.
pub(crate) async fn json(place: &Place, args: &[&str]) -> serde_json::Value {
    serde_json::from_slice(&place.run(args).await).unwrap()
}

pub(crate) fn everyone() -> SnapshotFilter {
    SnapshotFilter::default()
}

pub(crate) async fn latest(repository: &Repository) -> Snapshot {
    snapshot(repository, &SnapshotRef::Latest).await.unwrap()
}

/// The snapshot that is meant.
pub(crate) async fn snapshot(
    repository: &Repository,
    wanted: &SnapshotRef,
) -> Result<Snapshot, Error> {
    wanted.pick(&repository.snapshots(&everyone()).await?, &everyone())
}

/// Backs the files up, in pieces of odd sizes, and commits.
pub(crate) async fn backup(
    repository: &Repository,
    options: BackupOptions,
    files: &[(&str, &[u8])],
) -> Result<BackupSummary, Error> {
    let mut snapshot = repository.backup(options).await?;
    for (path, content) in files {
        let mut file = snapshot.file(path)?;
        for piece in content.chunks(300_007) {
            file.write(Bytes::copy_from_slice(piece)).await?;
        }
        let summary = file.finish().await?;
        assert_eq!(summary.size, content.len() as u64);
    }
    snapshot.commit().await
}

pub(crate) async fn read(
    repository: &Repository,
    snapshot: &Snapshot,
    path: &str,
    options: ReadOptions,
) -> Result<Vec<u8>, Error> {
    let reader = repository.read(snapshot, path, options).await?;
    let expected = reader.len();
    let pieces: Vec<Bytes> = reader.try_collect().await?;
    let content = pieces.concat();
    assert_eq!(content.len() as u64, expected);
    Ok(content)
}

/// Reproducible bytes: noise, then text that compresses, then noise again.
pub(crate) fn data(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut noise = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut data = Vec::with_capacity(len + 16);
    while data.len() < len {
        if data.len() / 700_000 % 3 == 1 {
            data.extend_from_slice(
                format!("key:{} value:{};", noise() % 1000, noise() % 10).as_bytes(),
            );
        } else {
            data.extend_from_slice(&noise().to_le_bytes());
        }
    }
    data.truncate(len);
    data
}

/// Noise that no chunk of repeats.
pub(crate) fn noise(piece: u64) -> Bytes {
    let mut state = (piece + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let words = (0..(1 << 20) / 8).flat_map(|_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    words.collect::<Vec<u8>>().into()
}

/// Waits for a condition, with a limit.
pub(crate) async fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
