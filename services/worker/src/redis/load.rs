//! Writes keys into a Redis, many in flight on one connection.
//!
//! A task reads the answers while the caller sends: neither ever waits for the other's turn, and the
//! server is never idle. What is in flight is bounded in bytes and in number. One connection suffices:
//! the server's one thread is the limit, and two were measured to be no faster.
//!
//! The first error reply ends the load: nothing after it is sent, and the error names the key.

mod answers;
mod command;
mod pipe;

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use bytes::Bytes;
use coffer_rdb::entries::Entry;
use coffer_rdb::resp::{self, Reply};
use coffer_rdb::strings::printable;
use coffer_rdb::value::{self, Kind, Type};
use coffer_rdb::version::Version;

use self::answers::Expect;
use self::pipe::{Pipe, WRITE_BYTES};
use super::{Client, Error, Server};

pub use answers::Tally;

/// The largest argument a server takes unless `proto-max-bulk-len` says otherwise.
const DEFAULT_LARGEST_ARGUMENT: u64 = 512 * 1024 * 1024;

const LOADING: &str = "restore into";

/// A load under way.
pub struct Loader {
    pipe: Pipe,
    reads: Version,
    /// `RESTORE` takes absolute times and usage: since 5.0.
    absolute_times: bool,
    functions: bool,
    largest_argument: u64,
    database: Option<u64>,
    /// Whether to ask of each key if it is there already.
    ask_existing: bool,
    may_ask_existing: bool,
    expired: u64,
    evicted_before: u64,
}

impl Loader {
    /// Prepares a load: learns what the server can take, and refuses one that cannot be loaded into.
    /// `written` counts keys as they are confirmed, to be read while it runs and when it has failed.
    ///
    /// # Errors
    /// When it is a replica or part of a cluster, or does not answer.
    pub async fn start(
        mut client: Client,
        server: &Server,
        written: Arc<AtomicU64>,
    ) -> Result<Self, Error> {
        let address = client.address().to_owned();
        if server.cluster {
            return Err(Error::Cluster { address, act: "restore into" });
        }
        if let Some(master) = server.master.clone() {
            return Err(Error::Replica { address, master });
        }
        let largest_argument = largest_argument(&mut client).await?;
        // To say how many keys were replaced is a courtesy, not worth failing for a missing right.
        let probe = client.ask(&[b"EXISTS", b"coffer"]).await?;
        let may_ask_existing = !matches!(probe, Reply::Error(_));
        Ok(Self {
            pipe: Pipe::new(client, written),
            reads: server.reads(),
            absolute_times: server.is_at_least(5, 0),
            functions: server.is_at_least(7, 0),
            largest_argument,
            database: None,
            ask_existing: false,
            may_ask_existing,
            expired: 0,
            evicted_before: server.evicted_keys,
        })
    }

    /// The largest value that the server takes in one argument.
    #[must_use]
    pub const fn largest_argument(&self) -> u64 {
        self.largest_argument
    }

    /// Goes to a database. Waits for the answer, or what follows would go into the one before.
    ///
    /// # Errors
    /// When the server has no such database.
    pub async fn select(&mut self, database: u64) -> Result<(), Error> {
        if self.database == Some(database) {
            return Ok(());
        }
        let index = database.to_string();
        if let Reply::Error(reply) = self.pipe.ask(&[b"SELECT", index.as_bytes()]).await? {
            return Err(Error::Unsupported {
                address: self.pipe.address.clone(),
                what: format!("database {database}"),
                why: format!("{}; raise `databases` of the server", printable(&reply, 200)),
            });
        }
        self.database = Some(database);
        let empty = matches!(self.pipe.ask(&[b"DBSIZE"]).await?, Reply::Integer(0));
        self.ask_existing = self.may_ask_existing && !empty;
        Ok(())
    }

    /// Writes a key as it stood in an RDB, in place of one of that name. One that has expired by `now_ms`
    /// is left out and counted.
    ///
    /// # Errors
    /// When the server cannot hold it, or the load has failed.
    pub async fn restore(&mut self, entry: Entry, now_ms: i64) -> Result<(), Error> {
        if entry.expires_at_ms.is_some_and(|at| at <= now_ms) {
            self.expired += 1;
            return Ok(());
        }
        self.check_type(&entry)?;
        self.select(entry.database).await?;
        if self.ask_existing {
            self.pipe.admit(entry.key.len(), Expect::Existed).await?;
            resp::write_command(&mut self.pipe.buffer, &[b"EXISTS", &entry.key]);
        }
        let expect = Expect::Key {
            key: entry.key.clone(),
            database: entry.database,
            kind: entry.value_type.kind,
            what: name_of(entry.value_type, &entry.body),
        };
        self.pipe.admit(entry.key.len() + entry.body.len(), expect).await?;
        let restore = command::Restore::new(&entry, self.reads, self.absolute_times, now_ms);
        restore.write_head(&mut self.pipe.buffer);
        if entry.body.len() < WRITE_BYTES {
            self.pipe.buffer.extend_from_slice(&entry.body);
        } else {
            self.pipe.flush().await?;
            self.pipe.send(&entry.body).await?;
        }
        restore.write_tail(&mut self.pipe.buffer);
        self.pipe.flush_if_full().await
    }

    /// Whether the server knows the type of a key.
    ///
    /// # Errors
    /// When it does not, naming key and type.
    pub fn check_type(&self, entry: &Entry) -> Result<(), Error> {
        if entry.value_type.is_read_by(self.reads) {
            return Ok(());
        }
        Err(Error::Unsupported {
            address: self.pipe.address.clone(),
            what: format!(
                "key {} of database {}, a {} (type {}),",
                printable(&entry.key, 80),
                entry.database,
                entry.value_type.name,
                entry.value_type.code,
            ),
            why: format!(
                "the server reads {} and does not know that type; use a newer server",
                self.reads
            ),
        })
    }

    /// Loads a function library, in place of one of that name.
    ///
    /// # Errors
    /// When the server refuses it.
    pub async fn function(&mut self, source: &[u8]) -> Result<(), Error> {
        let head = source.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let refused = |why: String| Error::Unsupported {
            address: self.pipe.address.clone(),
            what: format!("the function library `{}`", printable(head, 80)),
            why,
        };
        if !self.functions {
            return Err(refused("functions need Redis 7.0; use a newer server".to_owned()));
        }
        let address = self.pipe.address.clone();
        match self.pipe.ask(&[b"FUNCTION", b"LOAD", b"REPLACE", source]).await? {
            Reply::Error(reply) if reply.starts_with(b"NOPERM") => {
                Err(Error::from_reply(&address, "FUNCTION LOAD", &reply))
            }
            Reply::Error(reply) => Err(Error::Unsupported {
                address,
                what: format!("the function library `{}`", printable(head, 80)),
                why: printable(&reply, 300),
            }),
            _ => Ok(()),
        }
    }

    /// Deletes a key before its parts are written, and counts it as replaced if it was there.
    pub(crate) async fn delete(&mut self, key: &[u8]) -> Result<(), Error> {
        self.may_ask_existing = true;
        self.pipe.admit(key.len(), Expect::Existed).await?;
        resp::write_command(&mut self.pipe.buffer, &[b"DEL", key]);
        self.pipe.flush_if_full().await
    }

    /// Sends a command that writes to a key; the first one of each key counts it.
    pub(crate) async fn write(
        &mut self,
        arguments: &[Bytes],
        kind: Option<Kind>,
        what: &'static str,
    ) -> Result<(), Error> {
        let key = arguments.get(1).cloned().unwrap_or_default();
        let database = self.database.unwrap_or(0);
        let expect = match kind {
            Some(kind) => Expect::Key { key, database, kind, what: Cow::Borrowed(what) },
            None => Expect::More { key, database, what: Cow::Borrowed(what) },
        };
        let bytes = arguments.iter().map(Bytes::len).sum();
        self.pipe.admit(bytes, expect).await?;
        resp::write_array(&mut self.pipe.buffer, arguments.len());
        for argument in arguments {
            resp::write_bulk(&mut self.pipe.buffer, argument);
        }
        self.pipe.flush_if_full().await
    }

    /// Counts a key that is left out because its time had passed.
    pub(crate) const fn count_expired(&mut self) {
        self.expired += 1;
    }

    /// Writes out what waits in the buffer; to be called before waiting for more input.
    ///
    /// # Errors
    /// When the connection is lost, or the load has failed.
    pub async fn flush(&mut self) -> Result<(), Error> {
        self.pipe.flush().await
    }

    /// Waits for the last answer and says what was done.
    ///
    /// # Errors
    /// When any command was refused, the connection is lost, or the server threw keys away meanwhile.
    pub async fn finish(mut self) -> Result<Tally, Error> {
        // A server that is full and evicts answers every command with OK.
        if let Reply::Bulk(Some(info)) = self.pipe.ask(&[b"INFO"]).await? {
            let now = Server::parse(&String::from_utf8_lossy(&info)).evicted_keys;
            if now > self.evicted_before {
                let keys = now - self.evicted_before;
                return Err(Error::Evicted { address: self.pipe.address, keys });
            }
        }
        let Self { pipe, expired, may_ask_existing, .. } = self;
        let mut tally = pipe.finish().await?;
        tally.expired = expired;
        tally.replaced_known = may_ask_existing;
        Ok(tally)
    }
}

/// What the server takes in one argument; its default where the user may not ask.
async fn largest_argument(client: &mut Client) -> Result<u64, Error> {
    let reply = client.ask(&[b"CONFIG", b"GET", b"proto-max-bulk-len"]).await?;
    let Reply::Array(Some(pair)) = reply else { return Ok(DEFAULT_LARGEST_ARGUMENT) };
    let Some(Reply::Bulk(Some(value))) = pair.get(1) else { return Ok(DEFAULT_LARGEST_ARGUMENT) };
    let value = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
    Ok(value.unwrap_or(DEFAULT_LARGEST_ARGUMENT))
}

/// What a value is called in messages; a module's by the module.
fn name_of(value_type: &Type, body: &[u8]) -> Cow<'static, str> {
    match value::module_name(body).filter(|_| value_type.kind == Kind::Module) {
        Some(module) => Cow::Owned(format!("{} of module {module}", value_type.name)),
        None => Cow::Borrowed(value_type.name),
    }
}
