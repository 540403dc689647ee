//! Where a download goes: a file that gets its name at the end, or standard output.
use std::{
    io::Write,
    path::{Path, PathBuf},
};

use anyhow::Context;
use sha2::{Digest, Sha256};
use tokio::{
    fs::{self, File, OpenOptions},
    io::{AsyncReadExt, AsyncWriteExt},
};

/// What is shown instead of a file's name.
pub(super) const STDOUT: &str = "standard output";

/// Receives the bytes in order, and sums them.
pub(super) struct Sink {
    out: Out,
    sum: Sha256,
    bytes: u64,
}

enum Out {
    Stdout,
    File { file: File, part: PathBuf, name: PathBuf },
}

impl Sink {
    /// `-` is standard output; without a name, the file is called as in the snapshot. What an earlier attempt at this very
    /// file has left counts if it has no more than `resumable` bytes; with none, it never does.
    pub(super) async fn open(
        to: Option<PathBuf>,
        path: &str,
        snapshot: &str,
        resumable: Option<u64>,
    ) -> anyhow::Result<Self> {
        let name = match to {
            Some(to) if to.as_os_str() == "-" => {
                return Ok(Self { out: Out::Stdout, sum: Sha256::new(), bytes: 0 });
            }
            Some(to) => to,
            None => {
                let name = Path::new(path).file_name();
                PathBuf::from(name.with_context(|| format!("{path} has no file name; pass --to"))?)
            }
        };
        let part = part_of(&name, path, snapshot);
        anyhow::ensure!(
            !fs::try_exists(&name).await.unwrap_or(true),
            "{} is there already; move it away, or name another file with --to",
            name.display()
        );
        let file = OpenOptions::new().create(true).read(true).append(true).open(&part).await;
        let mut file = file.with_context(|| format!("open {}", part.display()))?;
        begin_anew(&file, resumable).await.with_context(|| format!("empty {}", part.display()))?;
        let (sum, bytes) =
            sum_of(&mut file).await.with_context(|| format!("read {}", part.display()))?;
        Ok(Self { out: Out::File { file, part, name }, sum, bytes })
    }

    /// Bytes until now.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The SHA-256 of them.
    pub(super) fn sum(&self) -> [u8; 32] {
        self.sum.clone().finalize().into()
    }

    pub(super) async fn write(&mut self, data: &[u8]) -> anyhow::Result<()> {
        match &mut self.out {
            // Whoever reads slowly holds the download up, which is what is wanted.
            Out::Stdout => {
                std::io::stdout().write_all(data).context("write to standard output")?;
            }
            Out::File { file, part, .. } => {
                file.write_all(data).await.with_context(|| format!("write {}", part.display()))?;
            }
        }
        self.sum.update(data);
        self.bytes += data.len() as u64;
        Ok(())
    }

    /// Gives the file its name. Says where the bytes are, and how many.
    pub(super) async fn finish(self) -> anyhow::Result<(String, u64)> {
        match self.out {
            Out::Stdout => {
                std::io::stdout().flush().context("write to standard output")?;
                Ok((STDOUT.to_owned(), self.bytes))
            }
            Out::File { mut file, part, name } => {
                let kept = async {
                    file.flush().await?;
                    file.sync_all().await?;
                    fs::rename(&part, &name).await
                };
                kept.await
                    .with_context(|| format!("rename {} to {}", part.display(), name.display()))?;
                Ok((name.display().to_string(), self.bytes))
            }
        }
    }

    /// Deletes what arrived.
    pub(super) async fn discard(self) -> anyhow::Result<()> {
        match self.out {
            Out::Stdout => Ok(()),
            Out::File { part, .. } => {
                fs::remove_file(&part).await.with_context(|| format!("delete {}", part.display()))
            }
        }
    }
}

/// Where the bytes lie until all are there. Several files of a snapshot may go to one name, one after the other.
fn part_of(name: &Path, path: &str, snapshot: &str) -> PathBuf {
    let path: String =
        Sha256::digest(path).iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    let snapshot = snapshot.get(..16).unwrap_or(snapshot);
    let mut part = name.to_owned().into_os_string();
    part.push(format!(".{snapshot}.{path}.part"));
    part.into()
}

/// Empties a part that cannot be continued. One that is longer than the file is no beginning of it.
async fn begin_anew(part: &File, resumable: Option<u64>) -> std::io::Result<()> {
    let there = part.metadata().await?.len();
    if resumable.is_none_or(|most| there > most) {
        part.set_len(0).await?;
    }
    Ok(())
}

async fn sum_of(file: &mut File) -> std::io::Result<(Sha256, u64)> {
    let (mut sum, mut bytes) = (Sha256::new(), 0);
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer).await? {
            0 => return Ok((sum, bytes)),
            read => {
                sum.update(&buffer[..read]);
                bytes += read as u64;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SNAPSHOT: &str = "1a2b3c4d5e6f7a8b9c0d";

    /// A file's beginning, left behind.
    async fn leave(to: &Path, path: &str, beginning: &[u8]) {
        let mut sink = Sink::open(Some(to.to_owned()), path, SNAPSHOT, Some(99)).await.unwrap();
        sink.write(beginning).await.unwrap();
        // A write is done when the file is told to flush.
        let Out::File { file, .. } = &mut sink.out else { panic!("no file") };
        file.flush().await.unwrap();
    }

    #[tokio::test]
    async fn a_second_attempt_goes_on_behind_the_first() {
        let folder = tempfile::tempdir().unwrap();
        let to = folder.path().join("dump.rdb");
        leave(&to, "/dump.rdb", b"the beginning").await;
        assert!(!to.exists());
        let open = || Sink::open(Some(to.clone()), "/dump.rdb", SNAPSHOT, Some(25));
        let mut second = open().await.unwrap();
        assert_eq!(second.bytes(), 13);
        second.write(b" and the end").await.unwrap();
        let whole: [u8; 32] = Sha256::digest(b"the beginning and the end").into();
        assert_eq!(second.sum(), whole);
        assert_eq!(second.finish().await.unwrap().1, 25);
        assert_eq!(std::fs::read(&to).unwrap(), b"the beginning and the end");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        assert!(open().await.is_err(), "what is there is not overwritten");
    }

    #[tokio::test]
    async fn what_cannot_be_told_right_is_not_continued() {
        // Another path or snapshot, no sum to compare the whole with, and more than the file has.
        for (path, snapshot, resumable, counts) in [
            ("/a", SNAPSHOT, Some(13), 13),
            ("/b", SNAPSHOT, Some(13), 0),
            ("/a", "another", Some(13), 0),
            ("/a", SNAPSHOT, None, 0),
            ("/a", SNAPSHOT, Some(12), 0),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let to = folder.path().join("file");
            leave(&to, "/a", b"the beginning").await;
            let sink = Sink::open(Some(to.clone()), path, snapshot, resumable).await.unwrap();
            assert_eq!(sink.bytes(), counts, "{path} {snapshot} {resumable:?}");
            sink.finish().await.unwrap();
            let written = std::fs::read(&to).unwrap().len() as u64;
            assert_eq!(written, counts, "{path} {snapshot} {resumable:?}");
        }
    }

    #[tokio::test]
    async fn what_is_discarded_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let to = folder.path().join("dump.rdb");
        let mut sink = Sink::open(Some(to), "/dump.rdb", SNAPSHOT, Some(1)).await.unwrap();
        sink.write(b"x").await.unwrap();
        sink.discard().await.unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
