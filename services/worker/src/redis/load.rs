//! Writes keys into a Redis, many in flight on each connection.
//!
//! A task reads the answers while the caller sends: neither ever waits for the other's turn, and the
//! server is never idle. What is in flight is bounded in bytes and in number. One connection a server
//! suffices: its one thread is the limit, and two were measured to be no faster.
//!
//! The first error reply ends the load: nothing after it is sent, and the error names the key.

mod answers;
mod command;
mod lanes;
mod options;
mod pipe;
mod throttle;
mod typed;

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use coffer_rdb::entries::Entry;
use coffer_rdb::resp::{self, Reply};
use coffer_rdb::strings::printable;
use coffer_rdb::target::{Feature, Modules, Target};
use coffer_rdb::travel::{self, Loss, Travel, Way};
use coffer_rdb::value::{self, Kind, Type};

use self::answers::{Expect, Redirect};
use self::lanes::Lanes;
use self::pipe::WRITE_BYTES;
use self::throttle::Throttle;
use super::topology::Slots;
use super::{Client, Error, Node, Server};
use crate::options::{OnConflict, OnLoss};

pub use answers::Tally;
pub use options::LoadOptions;

/// The largest argument a server takes unless `proto-max-bulk-len` says otherwise.
const DEFAULT_LARGEST_ARGUMENT: u64 = 512 * 1024 * 1024;
/// A key that is sent from server to server this often has no home.
const MOST_HOPS: u8 = 16;
/// Losses that are named one by one.
const NAMED_LOSSES: usize = 10;

const LOADING: &str = "restore into";

/// A load under way.
pub struct Loader {
    lanes: Lanes,
    options: LoadOptions,
    throttle: Throttle,
    /// What all servers of the target can take.
    target: Target,
    largest_argument: u64,
    may_ask_existing: bool,
    /// Where the commands of a RESP dump go.
    database: u64,
    tally: Tally,
    losses: usize,
    named_losses: Vec<String>,
    evicted_before: u64,
}

impl Loader {
    /// Prepares a load: learns what the servers can take, and refuses one that cannot be loaded into.
    /// `written` counts keys as they are confirmed, to be read while it runs and when it has failed.
    ///
    /// # Errors
    /// When it is a replica, or does not answer.
    pub async fn start(
        nodes: Vec<Node>,
        slots: Option<&Slots>,
        options: LoadOptions,
        wait: Duration,
        written: Arc<AtomicU64>,
    ) -> Result<Self, Error> {
        let mut limits = Limits::default();
        let (mut clients, mut redis) = (Vec::new(), None);
        for Node { redis: reached, mut client, server, .. } in nodes {
            limits.learn(&mut client, &server).await?;
            clients.push(client);
            redis.get_or_insert(reached);
        }
        let lanes = match (slots, redis) {
            (Some(slots), Some(redis)) => Lanes::cluster(clients, slots, redis, wait, written),
            _ => {
                let client = clients.into_iter().next().ok_or_else(|| Error::Unsettled {
                    address: "the target".to_owned(),
                    why: "it has no servers".to_owned(),
                })?;
                Lanes::one(client, written)
            }
        };
        Ok(Self {
            throttle: Throttle::new(options.keys_per_second, options.bytes_per_second),
            options,
            lanes,
            target: limits.target.unwrap_or_else(|| Target::from_info("", None)),
            largest_argument: limits.largest_argument.unwrap_or(DEFAULT_LARGEST_ARGUMENT),
            may_ask_existing: limits.may_ask_existing,
            database: 0,
            tally: Tally::default(),
            losses: 0,
            named_losses: Vec::new(),
            evicted_before: limits.evicted,
        })
    }

    /// The largest value that the servers take in one argument.
    #[must_use]
    pub const fn largest_argument(&self) -> u64 {
        self.largest_argument
    }

    /// Empties the target, or those of its databases that are loaded into.
    ///
    /// # Errors
    /// When a server refuses it.
    pub async fn empty(&mut self) -> Result<(), Error> {
        let databases = &self.options.filter.databases;
        let targets: Vec<u64> = databases.iter().map(|db| self.options.target_of(*db)).collect();
        for lane in self.lanes.all() {
            if targets.is_empty() {
                lane.pipe.run(&[b"FLUSHALL"]).await?;
            }
            for target in &targets {
                lane.select(*target).await?;
                lane.pipe.run(&[b"FLUSHDB"]).await?;
            }
        }
        Ok(())
    }

    /// Whether a key is there already.
    ///
    /// # Errors
    /// When the server does not say.
    pub async fn is_in_the_way(&mut self, entry: &Entry) -> Result<bool, Error> {
        if !self.is_meant(entry) {
            return Ok(false);
        }
        let lane = self.lanes.of(&entry.key);
        lane.select(self.options.target_of(entry.database)).await?;
        if !lane.holds_keys {
            return Ok(false);
        }
        let reply = lane.pipe.run(&[b"EXISTS", &entry.key]).await?;
        Ok(!matches!(reply, Reply::Integer(0)))
    }

    /// Whether two databases of the snapshot would go to the same one.
    ///
    /// # Errors
    /// Names them.
    pub fn check_databases(&self, databases: &BTreeSet<u64>) -> Result<(), Error> {
        let Some((one, other)) = self.options.collision(databases) else { return Ok(()) };
        Err(Error::Unsupported {
            address: "the target".to_owned(),
            what: format!("databases {one} and {other}"),
            why: "both would go to the same database and overwrite each other's keys; change databaseMap, or name \
                  what is wanted in databases"
                .to_owned(),
        })
    }

    fn is_meant(&self, entry: &Entry) -> bool {
        let filter = &self.options.filter;
        filter.takes_database(entry.database)
            && filter.takes_key(&entry.key)
            && filter.takes_type(entry.value_type.kind)
    }

    /// Writes a key as it stood in an RDB, as the options say. One that has expired by `now_ms` is left out
    /// and counted.
    ///
    /// # Errors
    /// When the server cannot hold it, or the load has failed.
    pub async fn restore(&mut self, entry: Entry, now_ms: i64) -> Result<(), Error> {
        self.tally.read += 1;
        if !self.is_meant(&entry) {
            return Ok(());
        }
        if entry.expires_at_ms.is_some_and(|at| at <= now_ms) {
            self.tally.expired += 1;
            return Ok(());
        }
        let way = match self.travel(&entry)? {
            Travel::Whole(way) => way,
            Travel::Partly(way, loss) => {
                self.lose(&entry, &loss)?;
                way
            }
            Travel::Lost(loss) => {
                self.tally.lost += 1;
                return self.lose(&entry, &loss);
            }
        };
        let database = self.options.target_of(entry.database);
        let entry = Entry { database, ..entry };
        if self.throttle.is_set()
            && let Some(due) = self.throttle.wait_for(entry.body.len())
        {
            self.flush().await?;
            Throttle::until(due).await;
        }
        let replace = self.options.on_conflict == OnConflict::Replace;
        let ask_existing = self.may_ask_existing && replace || self.options.dry_run;
        let lane = self.lanes.of(&entry.key);
        lane.select(database).await?;
        if ask_existing && lane.holds_keys {
            lane.pipe.admit(entry.key.len(), Expect::Existed).await?;
            resp::write_command(&mut lane.pipe.buffer, &[b"EXISTS", &entry.key]);
        }
        if self.options.dry_run {
            *self.tally.restored.entry(entry.value_type.kind).or_default() += 1;
            return lane.pipe.flush_if_full().await;
        }
        let entry = match way {
            Way::AsIs => entry,
            Way::Reencode(value_type) => {
                let limit = self.largest_argument;
                let body = travel::reencode(entry.value_type, &entry.body, value_type, limit)
                    .map_err(|source| unreadable(&entry, source))?;
                Entry { value_type, body, ..entry }
            }
            Way::Commands => return self.write_commands(entry).await,
        };
        self.send(entry, now_ms, None).await?;
        self.send_redirected(now_ms).await
    }

    /// Sends a key to its server, or to where one said that it is.
    async fn send(
        &mut self,
        entry: Entry,
        now_ms: i64,
        redirect: Option<Redirect>,
    ) -> Result<(), Error> {
        let hops = redirect.as_ref().map_or(0, |redirect| redirect.hops);
        let expect = Expect::Key {
            key: entry.key.clone(),
            database: entry.database,
            kind: entry.value_type.kind,
            what: name_of(entry.value_type, &entry.body),
            skip: self.options.on_conflict == OnConflict::Skip,
            again: self.lanes.is_cluster().then(|| Box::new((entry.clone(), hops))),
        };
        let conflict = self.options.on_conflict;
        let lane = match &redirect {
            None => self.lanes.of(&entry.key),
            Some(redirect) => self.lanes.follow(redirect).await?,
        };
        if redirect.is_some_and(|redirect| redirect.ask) {
            lane.pipe.admit(0, Expect::Nothing).await?;
            resp::write_command(&mut lane.pipe.buffer, &[b"ASKING"]);
        }
        lane.pipe.admit(entry.key.len() + entry.body.len(), expect).await?;
        let restore = command::Restore::new(&entry, &self.target, now_ms, conflict);
        restore.write_head(&mut lane.pipe.buffer);
        if entry.body.len() < WRITE_BYTES {
            lane.pipe.buffer.extend_from_slice(&entry.body);
        } else {
            lane.pipe.flush().await?;
            lane.pipe.send(&entry.body).await?;
        }
        restore.write_tail(&mut lane.pipe.buffer);
        lane.pipe.flush_if_full().await
    }

    /// Follows the servers of a cluster that said that a key is elsewhere.
    async fn send_redirected(&mut self, now_ms: i64) -> Result<(), Error> {
        while let Ok(redirect) = self.lanes.redirected.try_recv() {
            if redirect.hops > MOST_HOPS {
                return Err(Error::Unsettled {
                    address: format!("{}:{}", redirect.address.0, redirect.address.1),
                    why: format!(
                        "key {} was sent from server to server {MOST_HOPS} times; the restore is not complete",
                        printable(&redirect.entry.key, 80)
                    ),
                });
            }
            let entry = redirect.entry.clone();
            self.send(entry, now_ms, Some(redirect)).await?;
        }
        Ok(())
    }

    /// Whether the target can hold a key as it is in the dump.
    ///
    /// # Errors
    /// When it cannot, naming key and what would be lost.
    pub fn check_loss(&self, entry: &Entry) -> Result<(), Error> {
        if !self.is_meant(entry) {
            return Ok(());
        }
        match self.travel(entry)? {
            Travel::Whole(_) => Ok(()),
            Travel::Partly(_, loss) | Travel::Lost(loss) => Err(self.loss(entry, &loss)),
        }
    }

    fn travel(&self, entry: &Entry) -> Result<Travel, Error> {
        travel::travel(entry.value_type, &entry.body, &self.target, self.largest_argument)
            .map_err(|source| unreadable(entry, source))
    }

    fn loss(&self, entry: &Entry, loss: &Loss) -> Error {
        Error::Unsupported {
            address: self.address(),
            what: format!("key {} of database {}", printable(&entry.key, 80), entry.database),
            why: format!(
                "it would lose {loss}; use another server, or allow it with `onLoss: report`"
            ),
        }
    }

    /// Takes a loss as the options say.
    fn lose(&mut self, entry: &Entry, loss: &Loss) -> Result<(), Error> {
        if self.options.on_loss == OnLoss::Fail {
            return Err(self.loss(entry, loss));
        }
        let (key, database) = (printable(&entry.key, 80), entry.database);
        self.note_loss(format!("key {key} of database {database} lost {loss}"));
        Ok(())
    }

    fn note_loss(&mut self, loss: String) {
        self.losses += 1;
        if self.named_losses.len() < NAMED_LOSSES {
            self.named_losses.push(loss);
        }
    }

    /// What was lost: the first by name, and how many more.
    #[must_use]
    pub fn losses(&self) -> Vec<String> {
        let mut all = self.named_losses.clone();
        if self.losses > all.len() {
            all.push(format!("and {} more losses", self.losses - all.len()));
        }
        all
    }

    fn address(&self) -> String {
        self.lanes.address()
    }

    /// Loads a function library, in place of one of that name; none when only a part of the keys is meant.
    ///
    /// # Errors
    /// When the server refuses it.
    pub async fn function(&mut self, source: &[u8]) -> Result<(), Error> {
        let head = source.split(|byte| *byte == b'\n').next().unwrap_or_default();
        self.load_functions(
            &[b"FUNCTION", b"LOAD", b"REPLACE", source],
            &format!("the function library `{}`", printable(head, 80)),
        )
        .await
    }

    /// Loads what `FUNCTION DUMP` gave.
    ///
    /// # Errors
    /// When the server refuses it.
    pub async fn functions(&mut self, payload: &[u8]) -> Result<(), Error> {
        self.load_functions(
            &[b"FUNCTION", b"RESTORE", payload, b"REPLACE"],
            "the function libraries",
        )
        .await
    }

    async fn load_functions(&mut self, command: &[&[u8]], what: &str) -> Result<(), Error> {
        if !self.options.filter.is_all() || self.options.dry_run {
            return Ok(());
        }
        let refused = |address: String, why: String| Error::Unsupported {
            address,
            what: what.to_owned(),
            why,
        };
        if !self.target.can(Feature::Functions) {
            let why =
                "functions need Redis 7.0; use a newer server, or `onLoss: report`".to_owned();
            let error = refused(self.address(), why);
            if self.options.on_loss == OnLoss::Fail {
                return Err(error);
            }
            self.note_loss(error.to_string());
            self.tally.lost += 1;
            return Ok(());
        }
        for lane in self.lanes.all() {
            let address = lane.pipe.address.clone();
            match lane.pipe.ask(command).await? {
                Reply::Error(reply) if reply.starts_with(b"NOPERM") => {
                    return Err(Error::from_reply(&address, "FUNCTION LOAD", &reply));
                }
                Reply::Error(reply) => return Err(refused(address, printable(&reply, 300))),
                _ => {}
            }
        }
        self.tally.functions += 1;
        Ok(())
    }

    /// Writes out what waits in the buffers; to be called before waiting for more input.
    ///
    /// # Errors
    /// When a connection is lost, or the load has failed.
    pub async fn flush(&mut self) -> Result<(), Error> {
        for lane in self.lanes.all() {
            lane.pipe.flush().await?;
        }
        Ok(())
    }

    /// Waits for the last answer and says what was done. `now_ms` as for [`Self::restore`].
    ///
    /// # Errors
    /// When any command was refused, a connection is lost, or a server threw keys away meanwhile.
    pub async fn finish(mut self, now_ms: i64) -> Result<Tally, Error> {
        let evicted = loop {
            let mut evicted = 0;
            for lane in self.lanes.all() {
                // Behind all that is in flight. A server that is full and evicts answers every command with OK.
                if let Reply::Bulk(Some(info)) = lane.pipe.ask(&[b"INFO"]).await? {
                    evicted += Server::parse(&String::from_utf8_lossy(&info)).evicted_keys;
                }
            }
            if self.lanes.redirected.is_empty() {
                break evicted;
            }
            self.send_redirected(now_ms).await?;
        };
        if evicted > self.evicted_before {
            let (address, keys) = (self.address(), evicted - self.evicted_before);
            return Err(Error::Evicted { address, keys });
        }
        let Self { lanes, mut tally, may_ask_existing, .. } = self;
        for lane in lanes.into_all() {
            let more = lane.pipe.finish().await?;
            tally.add(more);
        }
        tally.replaced_known = may_ask_existing;
        Ok(tally)
    }
}

/// What all servers of the target can take.
#[derive(Default)]
struct Limits {
    target: Option<Target>,
    largest_argument: Option<u64>,
    may_ask_existing: bool,
    evicted: u64,
}

impl Limits {
    async fn learn(&mut self, client: &mut Client, server: &Server) -> Result<(), Error> {
        if let Some(master) = server.master.clone() {
            return Err(Error::Replica { address: client.address().to_owned(), master });
        }
        let largest = largest_argument(client).await?;
        // To say how many keys were replaced is a courtesy, not worth failing for a missing right.
        let probe = client.ask(&[b"EXISTS", b"coffer"]).await?;
        let may_ask = !matches!(&probe, Reply::Error(reply) if !matches!(super::error::first_word(reply), "MOVED" | "ASK"));
        let mut target = Target::from_info(&server.redis_version, server.valkey_version.as_deref());
        target.modules = modules(client).await?;
        let first = self.target.is_none();
        self.may_ask_existing = may_ask && (first || self.may_ask_existing);
        // Of servers in an upgrade, the oldest says what all of them can take.
        let oldest = self.target.take().filter(|known| known.release <= target.release);
        self.target = Some(oldest.unwrap_or(target));
        self.largest_argument =
            Some(self.largest_argument.map_or(largest, |known| known.min(largest)));
        self.evicted += server.evicted_keys;
        Ok(())
    }
}

/// The modules that the server has, where the user may ask.
async fn modules(client: &mut Client) -> Result<Modules, Error> {
    let Reply::Array(Some(list)) = client.ask(&[b"MODULE", b"LIST"]).await? else {
        return Ok(Modules::Unknown);
    };
    let name = |module: &Reply| {
        let Reply::Array(Some(fields)) = module else { return None };
        match fields.get(1)? {
            Reply::Bulk(Some(name)) => std::str::from_utf8(name).ok().map(str::to_owned),
            _ => None,
        }
    };
    Ok(Modules::Known(list.iter().filter_map(name).collect()))
}

fn unreadable(entry: &Entry, source: coffer_rdb::Error) -> Error {
    let path = format!("key {} of database {}", printable(&entry.key, 80), entry.database);
    Error::Rdb { path, source }
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
