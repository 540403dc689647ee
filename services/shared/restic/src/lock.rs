//! Lock files, as restic means them.
//!
//! Several programs may share a repository: each writes a lock file before it works. Shared locks get
//! along with each other, an exclusive one with nobody. A lock is refreshed every five minutes and is
//! stale after thirty. Each of our locks is owned by one task, which writes, refreshes and finally
//! deletes it, also when whoever asked for it has been dropped meanwhile.
//!
//! Where a store lets nobody delete, our lock files stay and turn stale. They are in nobody's way but
//! those who want the repository for themselves.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, FixedOffset, TimeDelta, Utc};
use futures::{StreamExt, TryStreamExt, stream};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::id::Id;
use crate::identity::Identity;
use crate::store::FileKind;
use crate::vault::Vault;

mod handle;
mod holder;
pub(crate) use handle::{Continuity, Lock, LockWatch, during};

/// A lock older than this belongs to nobody any more.
pub(crate) const STALE_AFTER: TimeDelta = TimeDelta::minutes(30);

/// A lock in the repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockInfo {
    /// The id of its file.
    pub id: Id,
    /// When it was written or last refreshed.
    pub time: DateTime<FixedOffset>,
    /// Whether nobody else may work meanwhile.
    pub exclusive: bool,
    /// The holder's machine.
    pub hostname: String,
    /// The holder's user.
    pub username: String,
    /// The holder's process.
    pub pid: u32,
    /// Whether its holder is gone, by restic's rules.
    pub stale: bool,
}

impl fmt::Display for LockInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (lock, mode, holder) = (self.id.short(), mode_of(self), holder_of(self));
        write!(f, "the {mode} lock {lock} of {holder}, since {}", self.time.to_rfc3339())
    }
}

/// Hears of each lock that is waited for, once; by default nobody does. It is called from any thread: it must not wait.
#[derive(Clone, Default)]
pub(crate) struct LockListener(Option<Arc<Tell>>);

type Tell = dyn Fn(&LockInfo) + Send + Sync;

impl fmt::Debug for LockListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LockListener").field(&self.0.is_some()).finish()
    }
}

/// Whether others may work at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Shared,
    Exclusive,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Document {
    #[serde(serialize_with = "crate::tree::as_go_does")]
    time: DateTime<FixedOffset>,
    exclusive: bool,
    hostname: String,
    username: String,
    pid: u32,
}

async fn write(vault: &Vault, identity: &Identity, mode: Mode) -> Result<Id> {
    let document = Document {
        time: Utc::now().fixed_offset(),
        exclusive: mode == Mode::Exclusive,
        hostname: identity.hostname.clone(),
        username: identity.username.clone(),
        pid: identity.pid,
    };
    let json = serde_json::to_vec(&document).map_err(|e| Error::internal("encode lock", e))?;
    vault.save(FileKind::Lock, &json).await
}

/// Every lock in the repository. Empty files are ignored, as restic does: a crash leaves such. A lock
/// file never changes, so each is read only once.
pub(crate) async fn list(locker: &Locker) -> Result<Vec<LockInfo>> {
    let listed = locker.vault.store.list(FileKind::Lock).await?;
    let listed: HashSet<Id> =
        listed.into_iter().filter(|(_, size)| *size > 0).map(|(id, _)| id).collect();
    let mut locks = locker.known.lock().clone();
    locks.retain(|id, _| listed.contains(id));
    let new: Vec<Id> = listed.into_iter().filter(|id| !locks.contains_key(id)).collect();
    let mut read = stream::iter(new)
        .map(|id| async move { Ok::<_, Error>((id, read(&locker.vault, id).await?)) })
        .buffer_unordered(8);
    while let Some((id, document)) = read.try_next().await? {
        // One that is gone was released meanwhile.
        locks.extend(document.map(|document| (id, document)));
    }
    locker.known.lock().clone_from(&locks);
    let now = Utc::now();
    Ok(locks.into_iter().map(|(id, document)| document.judge(id, &locker.identity, now)).collect())
}

/// Reads a lock; `None` if it was released meanwhile. A damaged one is tried again before it counts,
/// because some stores show a file before it is complete.
async fn read(vault: &Vault, id: Id) -> Result<Option<Document>> {
    let mut pause = Duration::from_millis(250);
    loop {
        let error = match vault.load(FileKind::Lock, &id).await {
            Ok(json) => match decode(vault, id, &json) {
                Ok(lock) => return Ok(Some(lock)),
                Err(error) => error,
            },
            Err(error) if error.is_not_found_in_store() => return Ok(None),
            Err(error) => error,
        };
        if pause > Duration::from_secs(2) {
            return Err(error);
        }
        tokio::time::sleep(pause).await;
        pause *= 2;
    }
}

fn decode(vault: &Vault, id: Id, json: &[u8]) -> Result<Document> {
    serde_json::from_slice(json).map_err(|source| {
        let name = vault.store.describe(&FileKind::Lock.name(&id));
        Error::damaged_by(name, "is not a lock document", source)
    })
}

/// For fuzzing: reads a document, writes it and reads it again, and judges it.
pub(crate) fn read_any(json: &[u8]) {
    let Ok(document) = serde_json::from_slice::<Document>(json) else { return };
    let written = serde_json::to_vec(&document).unwrap_or_default();
    let again = serde_json::from_slice::<Document>(&written);
    assert!(again.is_ok_and(|again| again.time == document.time && again.pid == document.pid));
    if let Ok(identity) = Identity::new("host", "user", None) {
        let _ = document.judge(Id::of(json), &identity, Utc::now());
    }
}

impl Document {
    fn judge(self, id: Id, identity: &Identity, now: DateTime<Utc>) -> LockInfo {
        let Self { time, exclusive, hostname, username, pid } = self;
        let stale = is_stale(identity, time, &hostname, pid, now);
        LockInfo { id, time, exclusive, hostname, username, pid, stale }
    }
}

fn is_stale(
    identity: &Identity,
    time: DateTime<FixedOffset>,
    hostname: &str,
    pid: u32,
    now: DateTime<Utc>,
) -> bool {
    now.signed_duration_since(time) > STALE_AFTER || identity.is_gone(hostname, pid)
}

/// What is seen of the locks beside ours.
struct Look {
    /// One that a lock of the mode asked for cannot stand beside, a stale one first: those count until they are removed.
    conflict: Option<LockInfo>,
    /// Whether every one of ours is there.
    ours: bool,
}

async fn look(locker: &Locker, mode: Mode, ours: &[Id]) -> Result<Look> {
    let (mine, others): (Vec<_>, Vec<_>) =
        list(locker).await?.into_iter().partition(|lock| ours.contains(&lock.id));
    let in_the_way = |lock: &LockInfo| lock.exclusive || mode == Mode::Exclusive;
    let conflict = others.into_iter().filter(in_the_way).max_by_key(|lock| lock.stale);
    Ok(Look { conflict, ours: mine.len() == ours.len() })
}

fn locked_by(lock: &LockInfo, waited: Duration) -> Error {
    Error::Locked {
        lock: lock.id.short(),
        holder: holder_of(lock),
        since: lock.time.to_rfc3339(),
        mode: mode_of(lock),
        waited_seconds: waited.as_secs(),
    }
}

fn holder_of(lock: &LockInfo) -> String {
    format!("{}@{}, process {}", lock.username, lock.hostname, lock.pid)
}

const fn mode_of(lock: &LockInfo) -> &'static str {
    if lock.exclusive { "exclusive" } else { "shared" }
}

/// Says once whose lock is waited for: nobody else can tell why nothing goes on.
fn tell_of(locker: &Locker, lock: &LockInfo, told: &mut Option<Id>) {
    if told.replace(lock.id) == Some(lock.id) {
        return;
    }
    if let LockListener(Some(tell)) = &locker.listener {
        tell(lock);
    }
    let (holder, mode, since) = (holder_of(lock), mode_of(lock), lock.time.to_rfc3339());
    tracing::info!(lock = lock.id.short(), holder, mode, since, "waiting for a repository lock");
}

/// Deletes locks: the stale ones, or all.
pub(crate) async fn remove(locker: &Locker, all: bool) -> Result<usize> {
    let store = &locker.vault.store;
    let doomed: Vec<Id> = if all {
        // Without reading them: a damaged lock must be removable.
        store.list(FileKind::Lock).await?.into_iter().map(|(id, _)| id).collect()
    } else {
        let locks = list(locker).await?;
        locks.into_iter().filter(|lock| lock.stale).map(|lock| lock.id).collect()
    };
    for id in &doomed {
        store.delete(&FileKind::Lock.name(id)).await?;
    }
    Ok(doomed.len())
}

/// The parts of [`Lock`]'s timing, together so that tests can shrink them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timing {
    /// Between writing a lock and looking again for conflicts.
    pub(crate) settle: Duration,
    /// Between refreshes.
    pub(crate) refresh: Duration,
    /// Between looks whether the file of an exclusive lock still stands.
    pub(crate) watch: Duration,
    /// After this long without a successful refresh we stop writing: well before others may call
    /// the lock stale.
    pub(crate) give_up: TimeDelta,
    /// Until the second attempt at a conflicting lock; doubles up to `max_retry`.
    pub(crate) first_retry: Duration,
    pub(crate) max_retry: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            settle: Duration::from_millis(200),
            refresh: Duration::from_secs(5 * 60),
            watch: Duration::from_secs(5),
            give_up: TimeDelta::seconds(22 * 60 + 30),
            first_retry: Duration::from_millis(500),
            max_retry: Duration::from_secs(30),
        }
    }
}

/// Everything needed to take a lock.
#[derive(Clone, Debug)]
pub(crate) struct Locker {
    pub(crate) vault: Arc<Vault>,
    pub(crate) identity: Identity,
    pub(crate) timing: Timing,
    pub(crate) wait: Duration,
    listener: LockListener,
    /// The lock files that were read.
    known: Arc<Mutex<HashMap<Id, Document>>>,
}

impl Locker {
    pub(crate) fn new(vault: Arc<Vault>, identity: Identity, wait: Duration) -> Self {
        let (timing, listener) = (Timing::default(), LockListener::default());
        Self { vault, identity, timing, wait, listener, known: Arc::default() }
    }

    /// The same, but for how long it waits.
    pub(crate) fn waiting(&self, wait: Duration) -> Self {
        Self { wait, ..self.clone() }
    }

    /// The same, but for who hears of the locks that it waits for.
    pub(crate) fn telling(&self, tell: impl Fn(&LockInfo) + Send + Sync + 'static) -> Self {
        Self { listener: LockListener(Some(Arc::new(tell))), ..self.clone() }
    }
}

#[cfg(test)]
mod tests;
