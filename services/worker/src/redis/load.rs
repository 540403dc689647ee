//! Writes keys into a Redis, many in flight on each connection.
//!
//! A task reads the answers while the caller sends: neither ever waits for the other's turn, and the
//! server is never idle. What is in flight is bounded in bytes and in number. One connection a server
//! suffices: its one thread is the limit, and two were measured to be no faster.
//!
//! The first error reply ends the load: nothing after it is sent, and the error names the key.

mod access;
mod answers;
mod beforehand;
mod command;
mod functions;
mod holders;
mod lanes;
mod limits;
mod losses;
mod options;
mod pipe;
mod set;
mod throttle;
mod typed;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use coffer_rdb::entries::Entry;
use coffer_rdb::resp;
use coffer_rdb::strings::printable;
use coffer_rdb::target::{DEFAULT_LARGEST_ARGUMENT, Target};
use coffer_rdb::travel::{self, Travel, Way};
use coffer_rdb::value::{self, Kind, Type};

use self::answers::{Again, Command, Expect, Kept, To, What};
use self::holders::Began;
use self::lanes::Lanes;
use self::limits::Limits;
use self::losses::Losses;
use self::pipe::LARGE_BYTES;
use self::set::Set;
use self::throttle::Throttle;
use super::recent::Recent;
use super::topology::Slots;
use super::{Error, Node, Server};
use crate::options::OnConflict;

pub(crate) use access::By;
pub use answers::Tally;
pub(super) use answers::elsewhere;
pub use holders::{Holder, are_kept};
pub(super) use losses::Need;
pub use options::LoadOptions;

/// A key that is sent from server to server this often has no home.
pub(super) const MOST_HOPS: u8 = 16;

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
    /// How a user is asked for who may touch some keys only.
    asks_for_keys: Option<By>,
    /// Whether a key may come more than once.
    repeats: bool,
    recent: Recent,
    /// Where the commands of a RESP dump go.
    database: u64,
    /// When a key was last restored, in milliseconds since 1970.
    now_ms: i64,
    tally: Tally,
    /// Keys that were written and counted, and expired at once.
    gone: BTreeMap<Kind, u64>,
    losses: Losses,
    /// Databases of the keys that were looked at and are meant.
    databases: BTreeSet<u64>,
    /// Databases of all keys that were looked at, if any were.
    seen: Option<BTreeSet<u64>>,
    evicted_before: u64,
    /// The servers before it, in the order of the connections.
    began: Vec<Began>,
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
        let (mut clients, mut began) = (Vec::new(), Vec::new());
        for Node { redis, mut client, server, slots } in nodes {
            limits.learn(&mut client, &server).await?;
            clients.push(client);
            began.push(Began { redis, server, slots });
        }
        let redis = began.first().map(|first| first.redis.clone());
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
        let largest_argument = limits.largest_argument.unwrap_or(DEFAULT_LARGEST_ARGUMENT);
        let target = limits.target.unwrap_or_else(|| Target::from_info("", None));
        Ok(Self {
            throttle: Throttle::new(options.keys_per_second, options.bytes_per_second),
            options,
            lanes,
            target: Target { largest_argument, ..target },
            largest_argument,
            may_ask_existing: limits.may_ask_existing,
            asks_for_keys: None,
            repeats: false,
            recent: Recent::default(),
            database: 0,
            now_ms: 0,
            tally: Tally::default(),
            gone: BTreeMap::new(),
            losses: Losses::default(),
            databases: BTreeSet::new(),
            seen: None,
            evicted_before: limits.evicted,
            began,
        })
    }

    /// The largest value that the servers take in one argument.
    #[must_use]
    pub const fn largest_argument(&self) -> u64 {
        self.largest_argument
    }

    /// Prepares for a dump in which a key may stand twice, the last time as it is meant.
    pub(crate) const fn expect_repeats(&mut self) {
        self.repeats = true;
    }

    /// Empties the target, or those of its databases that are meant. Of a range it may have none of the last, which hold no
    /// key then.
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
                match lane.select(*target).await {
                    Ok(()) => lane.pipe.run(&[b"FLUSHDB"]).await?,
                    Err(Error::Unsupported { .. }) => continue,
                    Err(error) => return Err(error),
                };
            }
            lane.leave();
        }
        Ok(())
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
        self.now_ms = now_ms;
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
                self.lose_of(&entry, &loss)?;
                way
            }
            Travel::Lost(loss) => {
                self.tally.lost += 1;
                return self.lose_of(&entry, &loss);
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
        let again = match self.options.on_conflict {
            OnConflict::Replace => None,
            _ if !self.repeats || self.recent.is_new(entry.database, &entry.key) => None,
            // What is in the way is, or may be, our own.
            OnConflict::Skip => return Ok(()),
            OnConflict::Fail => Some(To::Replace),
        };
        let replaces = replace || again.is_some();
        let entry = match way {
            Way::AsIs => entry,
            Way::Reencode(value_type) => {
                let limit = self.largest_argument;
                let body = travel::reencode(entry.value_type, &entry.body, value_type, limit)
                    .map_err(|source| unreadable(&entry, source))?;
                Entry { value_type, body, ..entry }
            }
            Way::Commands => return self.write_commands(entry, replaces).await,
        };
        self.send(entry, again, 0).await?;
        self.send_returned().await
    }

    /// Sends a key to its server, or to where one said that it is.
    ///
    /// Into a database that was empty a small one goes without `REPLACE`, which has the server look for a key to delete
    /// first: a quarter of its time. If there is one after all, the key is sent once more. A large one would have to be
    /// kept for that. It replaces at once, by `SET` where that comes to the same; but not where a key may come again,
    /// since what is sent once more is overtaken.
    async fn send(&mut self, entry: Entry, again: Option<To>, hops: u8) -> Result<(), Error> {
        let lane = match &again {
            None => self.lanes.of(&entry.key),
            Some(to) => self.lanes.follow(to, &entry.key, entry.database).await?,
        };
        let replaces = self.options.on_conflict == OnConflict::Replace
            || again.as_ref().is_some_and(|to| matches!(to, To::Replace));
        let large = entry.body.len() >= LARGE_BYTES && !self.repeats;
        let hopes = replaces && again.is_none() && !lane.holds_keys && !large;
        let set = (large && replaces).then(|| Set::of(&entry, &self.target)).flatten();
        let set = if set.is_some() && lane.may_set().await? { set } else { None };
        let expect = Expect::Key {
            key: entry.key.clone(),
            database: entry.database,
            kind: entry.value_type.kind,
            what: name_of(entry.value_type, &entry.body),
            skip: self.options.on_conflict == OnConflict::Skip,
            kept: Box::new(Kept { entry: entry.clone(), hops, replaces }),
        };
        if again.is_some_and(|to| matches!(to, To::Elsewhere { ask: true, .. })) {
            lane.pipe.admit(0, Expect::Nothing).await?;
            resp::write_command(&mut lane.pipe.buffer, &[b"ASKING"]);
        }
        let bytes = entry.key.len() + entry.body.len();
        lane.pipe.admit(bytes, expect).await?;
        if let Some(set) = set {
            set.write_head(&mut lane.pipe.buffer);
            lane.pipe.body(&set.text).await?;
            set.write_tail(&mut lane.pipe.buffer);
        } else {
            let restore =
                command::Restore::new(&entry, &self.target, self.now_ms, replaces && !hopes);
            restore.write_head(&mut lane.pipe.buffer);
            lane.pipe.body(&entry.body).await?;
            restore.write_tail(&mut lane.pipe.buffer);
        }
        lane.pipe.let_pass(bytes).await
    }

    /// Sends once more what came back: to replace, when a server is no longer held up, or to where the servers of a
    /// cluster said that it belongs.
    async fn send_returned(&mut self) -> Result<(), Error> {
        loop {
            let mut returned = self.lanes.returned();
            if returned.is_empty() {
                return Ok(());
            }
            if returned.iter().any(|again| matches!(again.what, What::Command(_))) {
                // Those of one key come back in their order, and keep it only if none is on its way any more.
                self.lanes.settle().await?;
                returned.extend(self.lanes.returned());
            }
            for Again { what, to, hops } in returned {
                let (What::Key(Entry { key, .. }) | What::Command(Command { key, .. })) = &what;
                if hops > MOST_HOPS {
                    return Err(Error::Unsettled {
                        address: self.address(),
                        why: format!(
                            "key {} was sent from server to server {MOST_HOPS} times; the restore is not complete",
                            printable(key, 80)
                        ),
                    });
                }
                match what {
                    What::Key(entry) => self.send(entry, Some(to), hops).await?,
                    What::Command(command) => {
                        self.send_command(Command { hops, ..command }, Some(to)).await?;
                    }
                }
            }
        }
    }

    fn address(&self) -> String {
        self.lanes.address()
    }

    /// Waits until everything that was sent is answered.
    ///
    /// # Errors
    /// When a connection is lost, or the load has failed.
    pub async fn settle(&mut self) -> Result<(), Error> {
        self.lanes.settle().await
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
    /// When any command was refused, a connection is lost, or a server threw keys away meanwhile or is no master any more.
    pub async fn finish(mut self, now_ms: i64) -> Result<Tally, Error> {
        self.now_ms = now_ms;
        self.flush().await?;
        if let Some(pipe_timeout) = self.options.pipe_timeout {
            self.lanes.all().iter().for_each(|lane| lane.pipe.all_is_sent(pipe_timeout));
        }
        let ended = loop {
            let mut ended = Vec::new();
            for lane in self.lanes.all() {
                // Behind all that is in flight. A server that is full and evicts answers every command with OK.
                ended.push(lane.pipe.info().await?);
            }
            if !self.lanes.has_returned() {
                break ended;
            }
            self.send_returned().await?;
        };
        let evicted = ended.iter().map(|server| server.evicted_keys).sum::<u64>();
        if evicted > self.evicted_before {
            let (address, keys) = (self.address(), evicted - self.evicted_before);
            return Err(Error::Evicted { address, keys });
        }
        if !self.options.dry_run {
            self.settle_down(ended).await?;
        }
        let Self { lanes, mut tally, gone, may_ask_existing, .. } = self;
        for lane in lanes.into_all() {
            let more = lane.pipe.finish().await?;
            tally.add(more);
        }
        tally.take_out(&gone);
        tally.replaced_known = may_ask_existing;
        Ok(tally)
    }
}

fn unreadable(entry: &Entry, source: coffer_rdb::Error) -> Error {
    let path = format!("key {} of database {}", printable(&entry.key, 80), entry.database);
    Error::Rdb { path, source }
}

/// What a value is called in messages; a module's by the module.
fn name_of(value_type: &Type, body: &[u8]) -> Cow<'static, str> {
    match value::module_name(body).filter(|_| value_type.kind == Kind::Module) {
        Some(module) => Cow::Owned(format!("{} of module {module}", value_type.name)),
        None => Cow::Borrowed(value_type.name),
    }
}
