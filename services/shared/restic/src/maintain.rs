//! Unlock, forget, delete, count, wipe.

use std::collections::HashSet;

use crate::error::{Error, Result};
use crate::forget::{self, GroupBy, KeepPolicy};
use crate::id::Id;
use crate::lock::{self, Lock, LockInfo, Mode};
use crate::repository::Repository;
use crate::shared_index;
use crate::snapshot::SnapshotFilter;
use crate::store::{CONFIG, FileKind};
use crate::used;

/// Which locks `unlock` removes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnlockScope {
    /// Those older than 30 minutes, and those whose process on this machine is gone.
    Stale,
    /// All of them, whoever holds them. A backup that is running then fails or proves at its end
    /// that nothing it needs was removed meanwhile.
    All,
}

/// What a forget kept and removed, by group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForgetSummary {
    /// The decision, group by group.
    pub groups: Vec<forget::Group>,
    /// Every snapshot that was (or in a dry run would be) deleted.
    pub removed: Vec<Id>,
}

/// Figures of a repository.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Snapshots.
    pub snapshots: u64,
    /// Distinct blobs that snapshots use.
    pub blobs: u64,
    /// Their bytes in packs: `restic stats --mode raw-data`.
    pub raw_size: u64,
    /// Their bytes before compression.
    pub uncompressed_size: u64,
}

impl Repository {
    /// The locks in the repository, ours among them.
    ///
    /// # Errors
    /// Errors of the store; [`Error::Damaged`] for a lock that cannot be read.
    pub async fn locks(&self) -> Result<Vec<LockInfo>> {
        lock::list(&self.inner.vault, &self.inner.locker.identity).await
    }

    /// Removes locks and says how many.
    ///
    /// # Errors
    /// Errors of the store.
    pub async fn unlock(&self, scope: UnlockScope) -> Result<usize> {
        let all = scope == UnlockScope::All;
        lock::remove(&self.inner.vault, &self.inner.locker.identity, all).await
    }

    /// Applies a keep policy to the snapshots that pass the filter and deletes the others. Their
    /// data stays until [`prune`](Self::prune).
    ///
    /// # Errors
    /// [`Error::Locked`]; errors of the store. Nothing is deleted unless every snapshot was read.
    pub async fn forget(
        &self,
        filter: &SnapshotFilter,
        group_by: GroupBy,
        policy: &KeepPolicy,
        dry_run: bool,
    ) -> Result<ForgetSummary> {
        if dry_run {
            return self.plan_forget(filter, group_by, policy).await;
        }
        let lock = Lock::acquire(&self.inner.locker, Mode::Exclusive).await?;
        let watch = lock.watch();
        let done = async {
            let summary = self.plan_forget(filter, group_by, policy).await?;
            watch.ensure_held()?;
            self.delete_all(&summary.removed).await?;
            Ok(summary)
        };
        lock::during(Some(lock), done).await
    }

    async fn plan_forget(
        &self,
        filter: &SnapshotFilter,
        group_by: GroupBy,
        policy: &KeepPolicy,
    ) -> Result<ForgetSummary> {
        let groups = forget::plan(self.snapshots(filter).await?, group_by, policy);
        let removed = groups.iter().flat_map(|group| &group.remove).map(|s| s.id).collect();
        Ok(ForgetSummary { groups, removed })
    }

    /// Deletes these snapshots. Their data stays until [`prune`](Self::prune).
    ///
    /// # Errors
    /// [`Error::NoSnapshot`] if one is not there, before any is deleted; [`Error::Locked`]; errors
    /// of the store.
    pub async fn delete_snapshots(&self, ids: &[Id]) -> Result<()> {
        let lock = Lock::acquire(&self.inner.locker, Mode::Exclusive).await?;
        let done = async {
            let listed = self.inner.vault.store.list(FileKind::Snapshot).await?;
            let present: HashSet<Id> = listed.into_iter().map(|(id, _)| id).collect();
            if let Some(absent) = ids.iter().find(|id| !present.contains(id)) {
                return Err(Error::NoSnapshot { wanted: format!("the id {absent}") });
            }
            self.delete_all(ids).await
        };
        lock::during(Some(lock), done).await
    }

    async fn delete_all(&self, ids: &[Id]) -> Result<()> {
        for id in ids {
            self.inner.vault.store.delete(&FileKind::Snapshot.name(id)).await?;
        }
        Ok(())
    }

    /// Counts what all snapshots use.
    ///
    /// # Errors
    /// Errors of the store; [`Error::MissingBlob`] and [`Error::Damaged`] if a tree cannot be read.
    pub async fn stats(&self) -> Result<Stats> {
        let inner = &self.inner;
        let lock = inner.lock_for_reading(Mode::Shared).await?;
        lock::during(lock, self.count()).await
    }

    async fn count(&self) -> Result<Stats> {
        let inner = &self.inner;
        let snapshots = inner.all_snapshots().await?;
        let files = shared_index::load_all(&inner.vault, &inner.resources).await?;
        let index = used::index_of(&files);
        let (used, failures) = used::walk(inner, &index, &snapshots).await;
        if let Some(failure) = failures.into_iter().next() {
            return Err(failure);
        }
        let mut stats = Stats { snapshots: snapshots.len() as u64, ..Stats::default() };
        for (kind, id) in used.iter() {
            if let Some(location) = index.get(kind, &id) {
                stats.blobs += 1;
                stats.raw_size += u64::from(location.length);
                stats.uncompressed_size += location.content_length();
            }
        }
        Ok(stats)
    }

    /// Deletes the repository: every object in its folders, and the config. Other objects beside it
    /// stay. That it could be opened is the proof that it is a repository. Says how many objects
    /// were deleted. If it fails half way, open it again and repeat.
    ///
    /// # Errors
    /// [`Error::Locked`]; errors of the store.
    pub async fn wipe(self) -> Result<usize> {
        let store = &self.inner.vault.store;
        let lock = Lock::acquire(&self.inner.locker, Mode::Exclusive).await?;
        let mut deleted = 0;
        let done = async {
            // Snapshots first: what is left after an interruption is unreferenced data. The config
            // stands nearly to the end, so that the rest can still be opened and wiped.
            for kind in [FileKind::Snapshot, FileKind::Index, FileKind::Pack] {
                for name in store.list_names(kind).await? {
                    store.delete(&name).await?;
                    deleted += 1;
                }
            }
            Ok::<_, Error>(())
        };
        lock::during(Some(lock), done).await?;
        let mut rest = store.list_names(FileKind::Lock).await?;
        rest.push(CONFIG.into());
        rest.extend(store.list_names(FileKind::Key).await?);
        for name in rest {
            store.delete(&name).await?;
            deleted += 1;
        }
        Ok(deleted)
    }
}
