//! Dumps key by key, for servers that refuse replication and for parts of the data: `SCAN` for the names,
//! `DUMP` for the values, written as `RESTORE` commands that `redis-cli --pipe` understands.
//!
//! It has no point in time: each key is as it was when it was read. A key that vanishes meanwhile is left
//! out, one whose time to live changes while it is read is read again. A key that `SCAN` names twice, as it
//! may while the server's table shrinks, is read once (see [`super::recent`]).
//!
//! ```text
//!   Walker: SCAN, MEMORY USAGE ─▶ rounds (bounded in keys, bytes and time) ─▶ Value ─▶ Writer ─▶ chunks
//!                                                             canonical order: └▶ Sorter ─▶ ┘
//! ```

mod databases;
mod pace;
mod round;
mod sort;
mod stream;
mod typed;
mod usage;
mod write;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use coffer_rdb::payload::FOOTER_LEN;
use coffer_rdb::resp::Reply;
use coffer_rdb::walk::Summary;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use self::pace::Pacer;
use self::round::{Rights, Walker};
use self::sort::Sorter;
use self::write::Writer;
use super::error::first_word;
use super::{Client, Error, Server};
use crate::filter::Filter;
use crate::options::{Order, Pace};

/// The largest value that is read: what a server takes back unless it was told otherwise is half of this.
const LARGEST_VALUE_BYTES: u64 = 1024 * 1024 * 1024;
/// Pieces on their way to the caller: 2 MiB.
const QUEUE: usize = 8;

/// What a scan is to do.
#[derive(Debug, Clone)]
pub struct ScanOptions {
    /// Which keys.
    pub filter: Filter,
    /// In which order.
    pub order: Order,
    /// How fast.
    pub pace: Pace,
    /// Whether values are read and written by the commands of their types.
    pub typed: bool,
    /// Where a canonical order may keep what does not fit into memory.
    pub scratch: PathBuf,
}

/// A scan on its way.
pub struct Scan {
    chunks: mpsc::Receiver<Bytes>,
    task: Option<AbortOnDropHandle<Result<Scanned, Error>>>,
    bytes: u64,
    keys: Arc<AtomicU64>,
}

/// A scan that came to its end.
#[derive(Debug)]
pub struct Scanned {
    /// What was written.
    pub summary: Summary,
    /// Keys whose type is unknown to this version: they are kept, but not in the counts.
    pub unknown: u64,
    /// The version in the payloads' footers, 0 when there was no key.
    pub rdb_version: u16,
    /// What was done without, and why.
    pub remarks: Vec<String>,
    /// What the server said when it refused to show its function libraries, if it did.
    pub functions_refused: Option<String>,
}

impl Scan {
    /// Asks for the first keys; what the server refuses is told here, before anything is written.
    ///
    /// # Errors
    /// When the server refuses `SCAN` or `DUMP`.
    pub async fn start(
        mut client: Client,
        server: &Server,
        options: ScanOptions,
    ) -> Result<Self, Error> {
        client.take_replies_of(LARGEST_VALUE_BYTES);
        client.be_patient();
        if server.cluster && server.master.is_some() {
            // Without it a replica sends whoever asks for a key to its master.
            client.run(&[b"READONLY"]).await?;
        }
        if !server.shows_databases {
            return Err(Error::NoKeyspace { address: client.address().to_owned() });
        }
        client.run(&[b"SCAN", b"0", b"COUNT", b"1"]).await?;
        // Of a name that nobody has: only the right to ask is of interest.
        let right: &[u8] = if options.typed { b"TYPE" } else { b"DUMP" };
        may(&mut client, &[right, b"coffer:none"]).await?;
        let sizes = may(&mut client, &[b"MEMORY", b"USAGE", b"coffer:none"]).await.is_ok();
        let absolute = server.is_at_least(7, 0)
            && may(&mut client, &[b"PEXPIRETIME", b"coffer:none"]).await.is_ok();
        if !absolute {
            may(&mut client, &[b"PTTL", b"coffer:none"]).await?;
            may(&mut client, &[b"TIME"]).await?;
        }
        let without_keys = databases::without_keys(&mut client, server, &options.filter).await?;
        let watches = options.typed && watches(&mut client).await?;
        let pacer = Pacer::measure(&mut client, options.pace).await?;
        let (usage, no_usage) = usage::find(&mut client, server, &options).await?;
        let rights = Rights { sizes, watches, usage, absolute };
        let takes_functions = options.filter.takes_functions();
        let functions = match server.is_at_least(7, 0) {
            true => Some(client.ask(functions_command(options.typed)).await?),
            false => None,
        };
        let keys = Arc::<AtomicU64>::default();
        let (sender, chunks) = mpsc::channel(QUEUE);
        let writer = Writer::new(sender, keys.clone());
        let databases =
            server.databases.keys().copied().filter(|db| options.filter.takes_database(*db));
        let work = Work {
            address: client.address().to_owned(),
            databases: databases.collect(),
            walker: Walker::new(client, server, options.filter, options.typed, rights, pacer),
            server: server.clone(),
            writer,
            sorter: (options.order == Order::Canonical).then(|| Sorter::new(options.scratch)),
            functions,
            takes_functions,
            remarks: [
                (!sizes).then_some(
                    "the sizes of values could not be asked for (grant +memory|usage): they were read a few at \
                     a time",
                ),
                (server.is_at_least(7, 0) && !absolute).then_some(
                    "times to live were asked for as what is left of them (grant +pexpiretime): they may be a \
                     millisecond off",
                ),
                (options.typed && !watches).then_some(
                    "large values and streams were read in pieces without seeing whether they change meanwhile \
                     (grant +watch +multi +exec)",
                ),
            ]
            .into_iter()
            .flatten()
            .map(str::to_owned)
            .chain(no_usage)
            .chain(without_keys)
            .collect(),
        };
        let task = AbortOnDropHandle::new(tokio::spawn(work.run()));
        Ok(Self { chunks, task: Some(task), bytes: 0, keys })
    }

    /// The next piece, at most [`coffer_runtime::grpc::PIECE_BYTES`]; `None` after the last one.
    ///
    /// # Errors
    /// When the server fails, or the connection.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        let chunk = self.chunks.recv().await;
        self.bytes += chunk.as_ref().map_or(0, |chunk| chunk.len() as u64);
        Ok(chunk)
    }

    /// Bytes so far.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Keys so far.
    #[must_use]
    pub fn keys(&self) -> u64 {
        self.keys.load(Ordering::Relaxed)
    }

    /// Confirms that the scan came to its end, and says what it found.
    ///
    /// # Errors
    /// When it did not.
    pub async fn finish(mut self) -> Result<Scanned, Error> {
        // A task that is gone without a result has panicked.
        let gone = || Error::Scratch {
            act: "scan",
            source: std::io::Error::other("the scan ended without a result"),
        };
        match self.task.take() {
            Some(task) => task.await.map_err(|_| gone())?,
            None => Err(gone()),
        }
    }
}

/// Asks about a key that nobody has; the server of a cluster may say that it would be elsewhere.
async fn may(client: &mut Client, command: &[&[u8]]) -> Result<(), Error> {
    match client.ask(command).await? {
        Reply::Error(reply) if !matches!(first_word(&reply), "MOVED" | "ASK") => {
            Err(client.refused(command, &reply))
        }
        _ => Ok(()),
    }
}

/// Whether the user may have keys watched.
async fn watches(client: &mut Client) -> Result<bool, Error> {
    for command in [&[&b"WATCH"[..], b"coffer:none"][..], &[b"MULTI"], &[b"EXEC"]] {
        if may(client, command).await.is_err() {
            // Whatever was begun ends here; where this is refused, too, nothing was.
            client.ask(&[b"DISCARD"]).await?;
            client.ask(&[b"UNWATCH"]).await?;
            return Ok(false);
        }
    }
    Ok(true)
}

struct Work {
    address: String,
    databases: Vec<u64>,
    walker: Walker,
    /// As it was before.
    server: Server,
    writer: Writer,
    sorter: Option<Sorter>,
    functions: Option<Reply>,
    takes_functions: bool,
    remarks: Vec<String>,
}

impl Work {
    async fn run(self) -> Result<Scanned, Error> {
        let Self { databases, mut walker, mut writer, mut sorter, .. } = self;
        let (functions, mut remarks) = (self.functions, self.remarks);
        let mut functions_refused = None;
        match functions {
            Some(functions) if !self.takes_functions => remarks.extend(left_out(&functions)),
            Some(Reply::Bulk(Some(payload))) => writer.functions(payload).await?,
            Some(Reply::Array(Some(libraries))) => {
                for source in libraries.iter().filter_map(source_of) {
                    writer.library(&source).await?;
                }
            }
            Some(Reply::Error(reply)) => {
                let reply = String::from_utf8_lossy(&reply).into_owned();
                remarks.push(format!(
                    "functions are not in this backup: the server refused to show them: {reply}"
                ));
                functions_refused = Some(reply);
            }
            _ => {}
        }
        for database in databases {
            walker.enter(database).await?;
            while let Some(values) = walker.next().await? {
                for value in values {
                    match &mut sorter {
                        None => writer.value(value).await?,
                        Some(sorter) => sorter.add(value).await?,
                    }
                }
            }
        }
        if let Some(why) = walker.replaced_since(&self.server).await? {
            return Err(Error::OtherData { address: self.address, why });
        }
        if walker.torn > 0 {
            remarks.push(format!(
                "{} large values changed each time they were read: their parts are of different moments",
                walker.torn
            ));
        }
        if let Some(sorter) = sorter {
            let mut sorted = sorter.finish().await?;
            while let Some(value) = sorted.next().await? {
                writer.value(value).await?;
            }
        }
        let (summary, unknown, rdb_version) = writer.finish().await?;
        Ok(Scanned { summary, unknown, rdb_version, remarks, functions_refused })
    }
}

/// Says that there are function libraries and that they are not meant.
fn left_out(functions: &Reply) -> Option<String> {
    let are_there = match functions {
        // An empty dump is a footer alone.
        Reply::Bulk(Some(payload)) => payload.len() > FOOTER_LEN,
        Reply::Array(Some(libraries)) => !libraries.is_empty(),
        _ => false,
    };
    are_there.then(|| {
        "function libraries are not in this backup: it is of those keys that databases or include name".to_owned()
    })
}

const fn functions_command(typed: bool) -> &'static [&'static [u8]] {
    if typed { &[b"FUNCTION", b"LIST", b"WITHCODE"] } else { &[b"FUNCTION", b"DUMP"] }
}

/// The source in a library's flat list of names and values.
fn source_of(library: &Reply) -> Option<Bytes> {
    let Reply::Array(Some(fields)) = library else { return None };
    let place =
        fields.iter().position(|field| *field == Reply::Bulk(Some("library_code".into())))?;
    match fields.get(place + 1)? {
        Reply::Bulk(Some(source)) => Some(source.clone()),
        _ => None,
    }
}
