//! An open repository.
use crate::error::Result;
use crate::{BackupOptions, FileEntry, FileReader, Id, InitOptions, OpenOptions, Password, ReadOptions, Snapshot, SnapshotFilter, SnapshotRef, SnapshotWriter, Stats, Store, Version, LockInfo, UnlockScope, ForgetSummary, GroupBy, KeepPolicy};
use crate::{check, prune};

/// An open repository; clones are cheap and share index and processors.
#[derive(Clone, Debug)]
pub struct Repository {}

#[allow(unused_variables, clippy::unused_async, clippy::todo, missing_docs, reason = "skeleton")]
impl Repository {
    pub async fn init(store: Store, password: &Password, init: &InitOptions, options: OpenOptions) -> Result<Self> { todo!() }
    pub async fn open(store: Store, password: &Password, options: OpenOptions) -> Result<Self> { todo!() }
    pub fn id(&self) -> Id { todo!() }
    pub fn version(&self) -> Version { todo!() }
    pub fn location(&self) -> &str { todo!() }
    pub async fn backup(&self, options: BackupOptions) -> Result<SnapshotWriter> { todo!() }
    pub async fn snapshots(&self, filter: &SnapshotFilter) -> Result<Vec<Snapshot>> { todo!() }
    pub async fn snapshot(&self, wanted: &SnapshotRef, filter: &SnapshotFilter) -> Result<Snapshot> { todo!() }
    pub async fn files(&self, snapshot: &Snapshot) -> Result<Vec<FileEntry>> { todo!() }
    pub async fn read(&self, snapshot: &Snapshot, path: &str, options: ReadOptions) -> Result<FileReader> { todo!() }
    pub async fn locks(&self) -> Result<Vec<LockInfo>> { todo!() }
    pub async fn unlock(&self, scope: UnlockScope) -> Result<usize> { todo!() }
    pub async fn delete_snapshots(&self, ids: &[Id]) -> Result<()> { todo!() }
    pub async fn forget(&self, filter: &SnapshotFilter, group_by: GroupBy, policy: &KeepPolicy, dry_run: bool) -> Result<ForgetSummary> { todo!() }
    pub async fn prune(&self, options: &prune::Options) -> Result<prune::Summary> { todo!() }
    pub async fn check(&self, options: &check::Options) -> Result<check::Report> { todo!() }
    pub async fn stats(&self) -> Result<Stats> { todo!() }
    pub async fn wipe(self) -> Result<usize> { todo!() }
}
