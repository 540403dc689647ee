//! Keys of every type, the same for the same seed: what a backup tool must carry, and what tools have been seen to lose.
//!
//! `edges` holds the values that somebody once got wrong, one by one; `bulk` fills up with ordinary keys to the number
//! that is asked for. Times to live are hours away, so that nothing expires while a test looks at it.

mod bulk;
mod edges;

use std::{collections::BTreeMap, time::SystemTime};

use anyhow::{Context as _, Result, ensure};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use redis::{Cmd, Pipeline, aio::MultiplexedConnection};

/// A pipeline is sent when it has this many commands or bytes.
const PIPELINE_COMMANDS: usize = 2_000;
const PIPELINE_BYTES: usize = 1024 * 1024;

/// What is loaded.
#[derive(Clone, Debug)]
pub struct Spec {
    /// Keys in all databases together; never fewer than the edge cases, which are about 350.
    pub keys: usize,
    /// The databases; the edge cases are in the first, a few keys at least are in each.
    pub databases: Vec<u32>,
    /// Size of the largest value in bytes; none when 0.
    pub largest_bytes: usize,
    /// Loads a function library too; needs Redis 7.
    pub functions: bool,
    /// Same seed, same keys and values.
    pub seed: u64,
}

impl Default for Spec {
    fn default() -> Self {
        Self {
            keys: 200_000,
            databases: vec![0, 1, 7, 15],
            largest_bytes: 100 * 1024 * 1024,
            functions: false,
            seed: 1,
        }
    }
}

impl Spec {
    /// A small one for tests: every type and edge, without the huge value.
    #[must_use]
    pub fn small() -> Self {
        Self { keys: 2_000, largest_bytes: 0, ..Self::default() }
    }
}

/// What was loaded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Keys by type, as TYPE names them.
    pub keys: BTreeMap<&'static str, usize>,
    /// Keys with a time to live.
    pub expiring: usize,
    /// Bytes of keys and values that were sent.
    pub bytes: usize,
}

impl Summary {
    /// Keys of all types.
    #[must_use]
    pub fn total(&self) -> usize {
        self.keys.values().sum()
    }
}

/// Fills a Redis that has none of these keys.
///
/// # Errors
/// When the server refuses a command, or has other keys than these afterwards.
pub async fn load(client: &redis::Client, spec: &Spec) -> Result<Summary> {
    ensure!(!spec.databases.is_empty(), "a dataset needs a database");
    let config = redis::AsyncConnectionConfig::new().set_response_timeout(None);
    let connection = client
        .get_multiplexed_async_connection_with_config(&config)
        .await
        .context("connect to the Redis to load")?;
    let mut loader = Loader::new(connection, spec.seed)?;
    edges::load(&mut loader, spec).await?;
    bulk::load(&mut loader, spec).await?;
    loader.flush().await?;

    let mut held = 0;
    for database in &spec.databases {
        loader.select(*database).await?;
        held += redis::cmd("DBSIZE").query_async::<usize>(&mut loader.connection).await?;
    }
    let summary = loader.summary;
    ensure!(
        held == summary.total(),
        "{} keys were loaded, the server holds {held}",
        summary.total()
    );
    Ok(summary)
}

/// Sends commands in pipelines and counts what they make.
struct Loader {
    connection: MultiplexedConnection,
    pipeline: Pipeline,
    pipeline_bytes: usize,
    summary: Summary,
    random: StdRng,
    /// Milliseconds; times to live count from it.
    now: i64,
}

impl Loader {
    fn new(connection: MultiplexedConnection, seed: u64) -> Result<Self> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_millis();
        Ok(Self {
            connection,
            pipeline: redis::pipe(),
            pipeline_bytes: 0,
            summary: Summary::default(),
            random: StdRng::seed_from_u64(seed),
            now: i64::try_from(now)?,
        })
    }

    async fn select(&mut self, database: u32) -> Result<()> {
        self.flush().await?;
        redis::cmd("SELECT").arg(database).exec_async(&mut self.connection).await?;
        Ok(())
    }

    /// The command that makes a key, of the type that TYPE will say.
    async fn make(&mut self, kind: &'static str, command: Cmd) -> Result<()> {
        *self.summary.keys.entry(kind).or_default() += 1;
        self.send(command).await
    }

    /// A command that changes a key.
    async fn send(&mut self, command: Cmd) -> Result<()> {
        let arguments = command.args_iter().map(|argument| match argument {
            redis::Arg::Simple(bytes) => bytes.len(),
            _ => 0,
        });
        let bytes: usize = arguments.sum();
        self.summary.bytes += bytes;
        self.pipeline_bytes += bytes;
        self.pipeline.add_command(command);
        if self.pipeline.len() >= PIPELINE_COMMANDS || self.pipeline_bytes >= PIPELINE_BYTES {
            self.flush().await?;
        }
        Ok(())
    }

    /// A time to live of hours to weeks, to the millisecond.
    async fn expire(&mut self, key: &[u8]) -> Result<()> {
        self.summary.expiring += 1;
        let at = self.now + self.random.random_range(3_600_000..2_600_000_000);
        let mut command = redis::cmd("PEXPIREAT");
        command.arg(key).arg(at);
        self.send(command).await
    }

    async fn flush(&mut self) -> Result<()> {
        if !self.pipeline.is_empty() {
            self.pipeline.exec_async(&mut self.connection).await.context("load keys")?;
            self.pipeline.clear();
            self.pipeline_bytes = 0;
        }
        Ok(())
    }

    /// Text or binary, of up to `longest` bytes.
    fn bytes(&mut self, longest: usize) -> Vec<u8> {
        let length = self.random.random_range(0..=longest);
        if self.random.random_bool(0.5) {
            let mut bytes = vec![0; length];
            self.random.fill(&mut bytes[..]);
            bytes
        } else {
            let letters = (0..length).map(|_| self.random.random_range(b'a'..=b'z'));
            letters.collect()
        }
    }
}

/// A command of words that may be binary.
fn command<A: AsRef<[u8]>>(name: &str, arguments: impl IntoIterator<Item = A>) -> Cmd {
    let mut command = redis::cmd(name);
    for argument in arguments {
        command.arg(argument.as_ref());
    }
    command
}

#[cfg(test)]
mod tests;
