//! Our side of a measurement, as a process of its own: `bench-storage child VERB DIRECTORY …`.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::time::Instant;

use bytes::Bytes;
use coffer_restic::{
    BackupOptions, Compression, InitOptions, OpenOptions, Password, ReadOptions, Repository,
    SnapshotFilter, SnapshotRef, Store,
};
use futures::TryStreamExt;
use tokio::sync::mpsc;

use crate::Result;

pub(crate) const PASSWORD: &str = "correct horse";
pub(crate) const FILE: &str = "/dump.rdb";
/// What a gRPC message of the gateway carries.
const PIECE: u64 = 1 << 20;

/// How a backup is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Settings {
    Default,
    /// As quick as it goes, compressing.
    Fastest,
    /// As quick as it goes.
    Uncompressed,
}

impl Settings {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Fastest => "fastest",
            Self::Uncompressed => "uncompressed",
        }
    }

    fn parse(word: &str) -> Result<Self> {
        [Self::Default, Self::Fastest, Self::Uncompressed]
            .into_iter()
            .find(|settings| settings.name() == word)
            .ok_or_else(|| format!("unknown settings {word}").into())
    }

    fn options(self) -> BackupOptions {
        let options = BackupOptions::default();
        match self {
            Self::Default => options,
            Self::Fastest => BackupOptions { verify: false, ..options },
            Self::Uncompressed => {
                BackupOptions { verify: false, compression: Compression::Off, ..options }
            }
        }
    }
}

/// Carries a verb out.
pub(crate) fn child(words: &[String]) -> Result<()> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        match words[..] {
            ["init", directory] => init(directory).await,
            ["backup", directory, settings] => {
                let input = Input::stdin();
                backup(&open(directory).await?, Settings::parse(settings)?, input).await
            }
            ["read", directory] => read(&open(directory).await?).await,
            ["streams", directory, count, file] => {
                streams(&open(directory).await?, count.parse()?, Path::new(file)).await
            }
            _ => Err(format!("unknown words {words:?}").into()),
        }
    })
}

async fn init(directory: &str) -> Result<()> {
    std::fs::create_dir_all(directory)?;
    let store = Store::local(directory)?;
    let password = Password::new(PASSWORD);
    Repository::init(store, &password, &InitOptions::default(), OpenOptions::default()).await?;
    Ok(())
}

async fn open(directory: &str) -> Result<Repository> {
    let store = Store::local(directory)?;
    Ok(Repository::open(store, &Password::new(PASSWORD), OpenOptions::default()).await?)
}

async fn backup(repository: &Repository, settings: Settings, mut input: Input) -> Result<()> {
    let mut snapshot = repository.backup(settings.options()).await?;
    let mut file = snapshot.file(FILE)?;
    while let Some(piece) = input.pieces.recv().await {
        file.write(piece?).await?;
    }
    file.finish().await?;
    snapshot.commit().await?;
    Ok(())
}

async fn read(repository: &Repository) -> Result<()> {
    let everyone = SnapshotFilter::default();
    let snapshots = repository.snapshots(&everyone).await?;
    let snapshot = SnapshotRef::Latest.pick(&snapshots, &everyone)?;
    let mut content = repository.read(&snapshot, FILE, ReadOptions::default()).await?;
    let mut out = std::io::stdout();
    while let Some(bytes) = content.try_next().await? {
        out.write_all(&bytes)?;
    }
    Ok(())
}

/// Cuts a file into equal parts and backs them up at once, a snapshot each. Prints the seconds that each took.
async fn streams(repository: &Repository, count: u64, file: &Path) -> Result<()> {
    let part = std::fs::metadata(file)?.len() / count;
    let clock = Instant::now();
    let tasks: Vec<_> = (0..count)
        .map(|number| {
            let (repository, file) = (repository.clone(), file.to_owned());
            tokio::spawn(async move {
                let mut source = File::open(file)?;
                source.seek(SeekFrom::Start(number * part))?;
                let input = Input::of(source.take(part));
                backup(&repository, Settings::Default, input).await?;
                Ok::<_, Box<dyn std::error::Error + Send + Sync>>(clock.elapsed().as_secs_f64())
            })
        })
        .collect();
    for task in tasks {
        println!("{}", task.await??);
    }
    Ok(())
}

/// Bytes that a thread reads ahead, as a connection would bring them.
struct Input {
    pieces: mpsc::Receiver<std::io::Result<Bytes>>,
}

impl Input {
    fn stdin() -> Self {
        Self::of(std::io::stdin())
    }

    fn of(mut source: impl Read + Send + 'static) -> Self {
        let (send, pieces) = mpsc::channel(1);
        std::thread::spawn(move || {
            loop {
                let mut piece = Vec::with_capacity(PIECE as usize);
                let read = (&mut source).take(PIECE).read_to_end(&mut piece);
                let piece = match read {
                    Ok(0) => return,
                    Ok(_) => Ok(Bytes::from(piece)),
                    Err(error) => Err(error),
                };
                if send.blocking_send(piece).is_err() {
                    return;
                }
            }
        });
        Self { pieces }
    }
}
