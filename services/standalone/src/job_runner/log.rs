//! A container's log: both of its streams in one file of bounded size.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use tokio::{
    fs::{self, File},
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    sync::Mutex,
};

/// More than any sane container prints; a loop that prints must not fill the disk.
const MOST: usize = 16 << 20;
/// The end of a log that explains a failure: as much as the kubelet takes.
const TAIL_BYTES: usize = 2048;
const TAIL_LINES: usize = 80;

/// An open log.
#[derive(Clone)]
pub(super) struct Log {
    path: PathBuf,
    inner: Arc<Mutex<(File, usize)>>,
}

impl Log {
    /// Starts an empty log.
    pub(super) async fn create(path: PathBuf) -> io::Result<Self> {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).await?;
        }
        let mut options = fs::OpenOptions::new();
        options.create(true).append(true).mode(0o600);
        let file = options.open(&path).await?;
        file.set_len(0).await?;
        Ok(Self { path, inner: Arc::new(Mutex::new((file, 0))) })
    }

    /// Copies a stream into the log until it ends.
    pub(super) async fn copy(self, mut from: impl AsyncRead + Unpin) -> io::Result<()> {
        let mut buffer = vec![0; 16 << 10];
        loop {
            let length = from.read(&mut buffer).await?;
            if length == 0 {
                return Ok(());
            }
            self.append(&buffer[..length]).await?;
        }
    }

    async fn append(&self, bytes: &[u8]) -> io::Result<()> {
        let mut inner = self.inner.lock().await;
        let (file, written) = &mut *inner;
        if *written + bytes.len() > MOST {
            let old = fs::read(&self.path).await?;
            let half = &old[old.len() / 2..];
            let line = half.iter().position(|b| *b == b'\n').map_or(0, |at| at + 1);
            file.set_len(0).await?;
            file.write_all(b"(earlier output dropped: the log is full)\n").await?;
            file.write_all(&half[line..]).await?;
            *written = half.len();
        }
        file.write_all(bytes).await?;
        file.flush().await?;
        *written += bytes.len();
        Ok(())
    }

    /// The last lines.
    pub(super) async fn tail(&self) -> String {
        tail(&self.path).await
    }
}

async fn tail(path: &Path) -> String {
    let bytes = fs::read(path).await.unwrap_or_default();
    let text =
        String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(TAIL_BYTES)..]).into_owned();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
}
