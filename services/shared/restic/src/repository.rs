//! Opening a repository, and looking at its snapshots.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use parking_lot::Mutex;

use crate::chunker::Tables;
use crate::config::{Config, Version};
use crate::crypto::SealingKey;
use crate::error::{Error, Result};
use crate::id::Id;
use crate::identity::Identity;
use crate::key::{KeyFile, Password};
use crate::lock::{Lock, LockInfo, Locker, Mode};
use crate::options::OpenOptions;
use crate::resources::Resources;
use crate::shared_index::SharedIndex;
use crate::snapshot::{Snapshot, SnapshotFilter};
use crate::store::{CONFIG, FileKind, Store};
use crate::vault::Vault;

/// Snapshot files fetched at a time.
const FETCHES: usize = 16;

/// An open repository. Clones are cheap and share the index, so open a repository once and keep it.
#[derive(Clone, Debug)]
pub struct Repository {
    pub(crate) inner: Arc<Inner>,
}

#[derive(Clone, Debug)]
pub(crate) struct Inner {
    pub(crate) vault: Arc<Vault>,
    pub(crate) config: Config,
    pub(crate) tables: Arc<Tables>,
    pub(crate) index: Arc<SharedIndex>,
    pub(crate) locker: Locker,
    pub(crate) resources: Resources,
    /// The key that the password opened.
    pub(crate) key_id: Arc<Mutex<Id>>,
    lock_reads: bool,
}

impl Repository {
    /// Opens a repository, trying the password on every key.
    ///
    /// # Errors
    /// [`Error::NoRepository`] only if the store says that there is no `config`, [`Error::Remains`] if it has been there;
    /// [`Error::WrongPassword`] only if every key was read and none opened. One that is gone when it is read was removed
    /// meanwhile, which matters only if no other opens.
    pub async fn open(store: Store, password: &Password, options: OpenOptions) -> Result<Self> {
        let Some(sealed) = read_config(&store).await? else {
            return Err(nothing_to_open(&store).await);
        };
        let mut keys = store.list(FileKind::Key).await?;
        keys.sort_unstable();
        let mut unusable = None;
        for (id, _) in &keys {
            let name = FileKind::Key.name(id);
            let json = match store.get(&name).await {
                Ok(json) => json,
                Err(gone) if gone.is_not_found_in_store() => {
                    unusable.get_or_insert(gone);
                    continue;
                }
                Err(error) => return Err(error),
            };
            let described = store.describe(&name);
            let password = password.clone();
            let open = move || KeyFile::decode(&described, &json)?.open(&described, &password);
            let master = match options.resources.compute("derive a key", open).await? {
                Ok(Some(master)) => master,
                Ok(None) => continue,
                Err(error) => {
                    unusable.get_or_insert(error);
                    continue;
                }
            };
            match Vault::open_config(&master, &store, &sealed) {
                Ok(json) => {
                    let config = Config::decode(&json)?;
                    return Self::assemble(store, master, *id, config, options);
                }
                // A key that is not this config's, left by an init that lost a race.
                Err(error) => unusable = Some(error),
            }
        }
        Err(unusable.unwrap_or_else(|| Error::WrongPassword {
            location: store.location().into(),
            keys: keys.len(),
        }))
    }

    pub(crate) fn assemble(
        store: Store,
        key: SealingKey,
        key_id: Id,
        config: Config,
        options: OpenOptions,
    ) -> Result<Self> {
        let OpenOptions { host, username, instance, lock_wait, lock_reads, resources } = options;
        let vault = Arc::new(Vault { store, key, version: config.version });
        let identity = Identity::new(&host, &username, instance.as_ref())?;
        let locker = Locker::new(Arc::clone(&vault), identity, lock_wait);
        let tables = Arc::new(Tables::new(config.polynomial));
        let index = Arc::default();
        let key_id = Arc::new(Mutex::new(key_id));
        let inner = Inner { vault, config, tables, index, locker, resources, key_id, lock_reads };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The same handle, index and all, whose operations wait so long for a conflicting lock instead of as long as
    /// [`OpenOptions::lock_wait`] says. With zero they do not wait.
    #[must_use]
    pub fn waiting(&self, lock_wait: Duration) -> Self {
        self.with(self.inner.locker.waiting(lock_wait))
    }

    /// The same handle, whose operations tell of each lock that they wait for, once. What they call must not wait.
    #[must_use]
    pub fn telling(&self, tell: impl Fn(&LockInfo) + Send + Sync + 'static) -> Self {
        self.with(self.inner.locker.telling(tell))
    }

    fn with(&self, locker: Locker) -> Self {
        Self { inner: Arc::new(Inner { locker, ..Inner::clone(&self.inner) }) }
    }

    /// The repository's own id, which survives moving it.
    #[must_use]
    pub fn id(&self) -> Id {
        self.inner.config.id
    }

    /// The format version.
    #[must_use]
    pub fn version(&self) -> Version {
        self.inner.config.version
    }

    /// The place, for people.
    #[must_use]
    pub fn location(&self) -> &str {
        self.inner.vault.store.location()
    }

    /// The snapshots that pass the filter, oldest first.
    ///
    /// # Errors
    /// Errors of the store; [`Error::Damaged`] if any snapshot cannot be read, because an
    /// incomplete list would mislead whoever prunes or restores by it.
    pub async fn snapshots(&self, filter: &SnapshotFilter) -> Result<Vec<Snapshot>> {
        self.inner.snapshots(filter, Mode::Shared).await
    }
}

/// What is wrong with a snapshot that the store lists and does not give out.
pub(crate) const LISTED_ONLY: &str =
    "the store lists it, and says that it is not there when it is read";

/// What is wrong with what [`is_misnamed_snapshot`].
pub(crate) const MISNAMED_SNAPSHOT: &str =
    "its name is not in small letters, so that nobody can read it; rename it";

/// Whether this is a snapshot's file, among the others and under a name that it cannot be read by. In a folder below it
/// would have been put aside.
pub(crate) fn is_misnamed_snapshot(misplaced: &str) -> bool {
    misplaced.matches('/').count() == 1
}

/// The config as it lies in the store. `None` only if the store says so.
pub(crate) async fn read_config(store: &Store) -> Result<Option<Bytes>> {
    match store.get(CONFIG).await {
        Ok(sealed) => Ok(Some(sealed)),
        Err(error) if error.is_not_found_in_store() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Why a place without a config cannot be opened. A key alone is a beginning that the next init completes; what holds data
/// had a config, and must not be taken for a place that waits for its first backup.
async fn nothing_to_open(store: &Store) -> Error {
    let location: String = store.location().into();
    for kind in [FileKind::Snapshot, FileKind::Index, FileKind::Pack] {
        // Where nothing can be listed, all that is known is that there is no config.
        if let Ok(Some(found)) = store.any(kind).await {
            let problem = "nothing can be read without it".into();
            return Error::Remains { location, found, problem };
        }
    }
    Error::NoRepository { location }
}

impl Inner {
    /// Fails if the repository at this place is no longer the one that was opened. Who waited for its lock may have waited for
    /// somebody who deleted it, and nobody could ever read what is written into what is left.
    ///
    /// # Errors
    /// [`Error::NoRepository`]; [`Error::Invalid`] if another one is there now; errors of the store.
    pub(crate) async fn ensure_same(&self) -> Result<()> {
        let Vault { store, key, .. } = &*self.vault;
        let location = store.location();
        let Some(sealed) = read_config(store).await? else {
            return Err(Error::NoRepository { location: location.into() });
        };
        let config = Vault::open_config(key, store, &sealed).and_then(|json| Config::decode(&json));
        match config {
            Ok(config) if config.id == self.config.id => Ok(()),
            _ => {
                let problem = "holds another repository than when it was opened, or a damaged one; \
                               nothing was committed";
                Err(Error::invalid(location, problem))
            }
        }
    }

    pub(crate) async fn refresh_index(&self) -> Result<()> {
        self.index.refresh(&self.vault, &self.resources).await
    }

    /// A shared lock that was begun, and under it an index that is up to date: what the index lists then,
    /// nobody removes before the lock is released.
    pub(crate) async fn lock_and_refresh(&self) -> Result<Lock> {
        Ok(Lock::begin_with(&self.locker, self.refresh_index()).await?.0)
    }

    /// Does what a reader begins with under a shared lock, unless the repository is read without. The lock need
    /// not have settled: should somebody not give way to it, then what he removes is missed, and nothing worse.
    pub(crate) async fn begin_reading<T>(
        &self,
        work: impl Future<Output = Result<T>>,
    ) -> Result<(Option<Lock>, T)> {
        if !self.lock_reads {
            return Ok((None, work.await?));
        }
        let (lock, done) = Lock::begin_with(&self.locker, work).await?;
        Ok((Some(lock), done))
    }

    /// A lock for an operation that writes nothing, unless the repository is read without.
    pub(crate) async fn lock_for_reading(&self) -> Result<Option<Lock>> {
        if !self.lock_reads {
            return Ok(None);
        }
        Lock::acquire(&self.locker, Mode::Shared).await.map(Some)
    }

    /// The snapshots that pass the filter, oldest first, as [`all_snapshots`](Self::all_snapshots) gives them.
    pub(crate) async fn snapshots(
        &self,
        filter: &SnapshotFilter,
        mode: Mode,
    ) -> Result<Vec<Snapshot>> {
        let mut snapshots = self.all_snapshots(mode).await?;
        snapshots.retain(|snapshot| filter.matches(snapshot));
        Ok(snapshots)
    }

    /// Every snapshot, oldest first. Beside others, by the mode of the lock, one that is deleted while the list is read is
    /// left out; one that is listed and not to be had is an error: whoever took it for deleted would free its data.
    pub(crate) async fn all_snapshots(&self, mode: Mode) -> Result<Vec<Snapshot>> {
        let (listed, misplaced) = self.vault.store.list_with_misplaced(FileKind::Snapshot).await?;
        if let Some(name) = misplaced.iter().find(|name| is_misnamed_snapshot(name)) {
            return Err(Error::damaged(self.vault.store.describe(name), MISNAMED_SNAPSHOT));
        }
        let mut loaded: Vec<(Id, Option<Snapshot>)> = stream::iter(listed)
            .map(|(id, _)| async move { Ok::<_, Error>((id, self.load_snapshot(id).await?)) })
            .buffer_unordered(FETCHES)
            .try_collect()
            .await?;
        let gone: Vec<Id> =
            loaded.iter().filter(|(_, found)| found.is_none()).map(|(id, _)| *id).collect();
        if let Some(id) = self.not_to_be_had(gone, mode).await?.first() {
            let file = self.vault.store.describe(&FileKind::Snapshot.name(id));
            return Err(Error::damaged(file, LISTED_ONLY));
        }
        let mut snapshots: Vec<Snapshot> =
            loaded.drain(..).filter_map(|(_, snapshot)| snapshot).collect();
        snapshots.sort_by_key(|snapshot| (snapshot.time, snapshot.id));
        Ok(snapshots)
    }

    /// Which of these snapshots, that were listed and not found, were not deleted meanwhile. Under an exclusive lock nobody
    /// deletes; else they are looked for again.
    pub(crate) async fn not_to_be_had(&self, gone: Vec<Id>, mode: Mode) -> Result<Vec<Id>> {
        if gone.is_empty() || mode == Mode::Exclusive {
            return Ok(gone);
        }
        let listed = self.vault.store.list(FileKind::Snapshot).await?;
        let listed: HashSet<Id> = listed.into_iter().map(|(id, _)| id).collect();
        Ok(gone.into_iter().filter(|id| listed.contains(id)).collect())
    }

    pub(crate) async fn load_snapshot(&self, id: Id) -> Result<Option<Snapshot>> {
        match self.vault.load(FileKind::Snapshot, &id).await {
            Ok(json) => {
                let name = self.vault.store.describe(&FileKind::Snapshot.name(&id));
                Snapshot::decode(id, &name, &json).map(Some)
            }
            Err(error) if error.is_not_found_in_store() => Ok(None),
            Err(error) => Err(error),
        }
    }
}
