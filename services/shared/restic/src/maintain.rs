//! Unlock, forget, delete, wipe.

use std::collections::HashSet;

use chrono::Utc;
use futures::{StreamExt, TryStreamExt, stream};

use crate::error::{Error, Result};
use crate::forget::{self, GroupBy, KeepPolicy};
use crate::id::Id;
use crate::lock::{self, Lock, LockInfo, Mode};
use crate::migrate::OLD_CONFIG;
use crate::progress::{Observer, Step};
use crate::repository::{Inner, Repository};
use crate::snapshot::SnapshotFilter;
use crate::store::{CONFIG, FileKind};

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

impl Repository {
    /// The locks in the repository, ours among them.
    ///
    /// # Errors
    /// Errors of the store; [`Error::Damaged`] for a lock that cannot be read.
    pub async fn locks(&self) -> Result<Vec<LockInfo>> {
        lock::list(&self.inner.locker).await
    }

    /// Removes locks and says how many.
    ///
    /// # Errors
    /// Errors of the store.
    pub async fn unlock(&self, scope: UnlockScope) -> Result<usize> {
        let all = scope == UnlockScope::All;
        if all {
            self.inner.vault.store.may_take_away("remove all locks")?;
        }
        lock::remove(&self.inner.locker, all).await
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
        observer: &Observer,
    ) -> Result<ForgetSummary> {
        if dry_run {
            return self.plan_forget(filter, group_by, policy, Mode::Shared).await;
        }
        self.inner.vault.store.may_take_away("forget snapshots")?;
        let lock = Lock::acquire(&self.inner.locker, Mode::Exclusive).await?;
        let done = async {
            let summary = self.plan_forget(filter, group_by, policy, Mode::Exclusive).await?;
            self.delete_all(&summary.removed, &lock, observer).await?;
            Ok(summary)
        };
        let done = done.await;
        lock.release().await;
        done
    }

    async fn plan_forget(
        &self,
        filter: &SnapshotFilter,
        group_by: GroupBy,
        policy: &KeepPolicy,
        mode: Mode,
    ) -> Result<ForgetSummary> {
        let snapshots = self.inner.snapshots(filter, mode).await?;
        let groups = forget::plan(snapshots, group_by, policy, Utc::now());
        let removed = groups.iter().flat_map(|group| &group.remove).map(|s| s.id).collect();
        Ok(ForgetSummary { groups, removed })
    }

    /// Deletes these snapshots. Their data stays until [`prune`](Self::prune).
    ///
    /// # Errors
    /// [`Error::NoSnapshot`] if one is not there, before any is deleted; [`Error::Locked`]; errors
    /// of the store.
    pub async fn delete_snapshots(&self, ids: &[Id], observer: &Observer) -> Result<()> {
        self.inner.vault.store.may_take_away("delete snapshots")?;
        let lock = Lock::acquire(&self.inner.locker, Mode::Exclusive).await?;
        let done = async {
            let listed = self.inner.vault.store.list(FileKind::Snapshot).await?;
            let present: HashSet<Id> = listed.into_iter().map(|(id, _)| id).collect();
            if let Some(absent) = ids.iter().find(|id| !present.contains(id)) {
                return Err(Error::NoSnapshot { wanted: format!("the id {absent}") });
            }
            self.delete_all(ids, &lock, observer).await
        };
        let done = done.await;
        lock.release().await;
        done
    }

    async fn delete_all(&self, ids: &[Id], lock: &Lock, observer: &Observer) -> Result<()> {
        let step = observer.items("delete snapshots", ids.len() as u64);
        delete(&self.inner, FileKind::Snapshot, ids.to_vec(), lock, &step).await
    }

    /// Deletes the repository: every object in its folders, and the config. Other objects beside it
    /// stay. That it could be opened is the proof that it is a repository. Says how many objects
    /// were deleted. If it fails half way, open it again and repeat.
    ///
    /// # Errors
    /// [`Error::Locked`]; errors of the store.
    pub async fn wipe(self) -> Result<usize> {
        let store = &self.inner.vault.store;
        store.may_take_away("wipe")?;
        let lock = Lock::acquire(&self.inner.locker, Mode::Exclusive).await?;
        let watch = lock.watch();
        let mut deleted = 0;
        let done = async {
            // Snapshots first: what is left after an interruption is unreferenced data. The config
            // stands nearly to the end, so that the rest can still be opened and wiped.
            for kind in [FileKind::Snapshot, FileKind::Index, FileKind::Pack] {
                for name in store.list_names(kind).await? {
                    watch.ensure_held()?;
                    store.delete(&name).await?;
                    deleted += 1;
                }
            }
            let mut rest = Vec::new();
            if store.exists(OLD_CONFIG).await? {
                rest.push(OLD_CONFIG.into());
            }
            rest.push(CONFIG.into());
            rest.extend(store.list_names(FileKind::Key).await?);
            for name in rest {
                watch.ensure_held()?;
                store.delete(&name).await?;
                deleted += 1;
            }
            Ok::<_, Error>(deleted)
        };
        // Our lock goes last: whoever waits for it finds no repository any more.
        lock::during(Some(lock), done).await
    }
}

/// Objects deleted at a time.
const DELETES: usize = 8;

/// Deletes objects, several at a time, for as long as the lock can be relied upon.
pub(crate) async fn delete(
    inner: &Inner,
    kind: FileKind,
    ids: Vec<Id>,
    lock: &Lock,
    step: &Step,
) -> Result<()> {
    let watch = lock.watch();
    let watch = &watch;
    let mut deletions = stream::iter(ids)
        .map(|id| async move {
            watch.ensure_held()?;
            inner.vault.store.delete(&kind.name(&id)).await
        })
        .buffer_unordered(DELETES);
    while let Some(()) = deletions.try_next().await? {
        step.advance(1);
    }
    Ok(())
}
