//! Prune: remove what no snapshot uses. A pure plan first, then its execution under the exclusive
//! lock, in an order that is safe to be cut off anywhere:
//!
//! 1. used blobs of wasteful packs are copied to new packs, compressed where they were not, an index for
//!    these is written, and the packs are read back;
//! 2. the entries that stay, of index files that also list packs to go, are written again;
//! 3. only now, and only if our lock stood all the time and no snapshot has come, old index files are deleted,
//! 4. and then the packs that no index lists any more.
//!
//! If a blob that a snapshot needs is nowhere to be found, nothing is changed at all: the pieces
//! that are left may be what a repair needs. Memory: the [`catalog`](crate::catalog), two bits for
//! each of its entries, and what is on its way. Dropping the future stops the work and has the lock
//! released.

use std::collections::HashSet;
use std::sync::Arc;

use crate::catalog::Catalog;
use crate::config::Version;
use crate::error::{Error, Result};
use crate::id::Id;
use crate::lock::{self, Lock, Mode};
use crate::options::Compression;
use crate::repository::{Inner, Repository};
use crate::store::FileKind;
use crate::used;

pub(crate) mod execute;
mod options;
mod plan;

pub use options::{MaxUnused, Options};

/// What prune did, or in a dry run would do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Packs before.
    pub packs: u64,
    /// Packs deleted because nothing in them is used, or no index lists them.
    pub packs_deleted: u64,
    /// Of these, those that no index lists: what interrupted backups leave.
    pub packs_unlisted: u64,
    /// Packs whose used blobs moved to new packs.
    pub packs_repacked: u64,
    /// Bytes the deleted and the repacked packs took.
    pub bytes_deleted: u64,
    /// Bytes copied to new packs; in a dry run, as they are before they are compressed.
    pub bytes_repacked: u64,
    /// Bytes that snapshots use; the same holds.
    pub bytes_used: u64,
    /// Unused bytes that stay.
    pub bytes_unused: u64,
}

impl Repository {
    /// Removes what no snapshot uses.
    ///
    /// # Errors
    /// [`Error::Invalid`] if something is to be compressed that cannot be; [`Error::Locked`]; `MissingBlob`,
    /// `MissingPack` or `Damaged` if a snapshot's data is not all there, before anything is changed; errors of the store.
    pub async fn prune(&self, options: &Options) -> Result<Summary> {
        let inner = &self.inner;
        if options.repack_uncompressed {
            ensure_compresses(inner, options.compression)?;
        }
        if options.dry_run {
            let lock = inner.lock_for_reading().await?;
            return lock::during(lock, async { Ok(prepare(inner, options).await?.plan.summary) })
                .await;
        }
        inner.vault.store.may_take_away("prune")?;
        let lock = Lock::acquire(&inner.locker, Mode::Exclusive).await?;
        let done = async {
            let Prepared { catalog, snapshots, plan } = prepare(inner, options).await?;
            let mut summary = plan.summary;
            if !(plan.obsolete.is_empty() && plan.delete.is_empty()) {
                let saved =
                    execute::execute(inner, &catalog, plan, &snapshots, &lock, options).await?;
                summary.bytes_repacked = summary.bytes_repacked.saturating_sub(saved);
                summary.bytes_used = summary.bytes_used.saturating_sub(saved);
            }
            inner.vault.store.sweep().await?;
            Ok(summary)
        };
        let done = done.await;
        lock.release().await;
        done
    }
}

fn ensure_compresses(inner: &Inner, compression: Compression) -> Result<()> {
    let refused = |problem| Err(Error::invalid("repacking what is uncompressed", problem));
    if inner.config.version < Version::V2 {
        return refused(
            "needs format 2, and the repository has format 1; run `coffer migrate` first",
        );
    }
    match compression {
        Compression::Off => refused("needs compression, which is off here; set a level first"),
        Compression::Level(_) => Ok(()),
    }
}

struct Prepared {
    catalog: Catalog,
    /// All that were counted.
    snapshots: HashSet<Id>,
    plan: plan::Plan,
}

async fn prepare(inner: &Arc<Inner>, options: &Options) -> Result<Prepared> {
    let mode = if options.dry_run { Mode::Shared } else { Mode::Exclusive };
    let snapshots = inner.all_snapshots(mode).await?;
    let catalog = Catalog::load(inner, &options.observer).await?;
    let used = used::walk(inner, &catalog, &snapshots, &options.observer).await.into_used()?;
    let packs = inner.vault.store.list(FileKind::Pack).await?.into_iter().collect();
    let plan = plan::plan(&catalog, &packs, &used, options, inner.config.version)?;
    let snapshots = snapshots.into_iter().map(|snapshot| snapshot.id).collect();
    Ok(Prepared { catalog, snapshots, plan })
}

#[cfg(test)]
mod tests;
