//! The index that all streams of a repository share, brought up to date by listing.

use futures::{StreamExt, TryStreamExt, stream};
use parking_lot::RwLock;

use crate::error::Result;
use crate::id::Id;
use crate::index::{Index, Location};
use crate::index_file;
use crate::pack::{BlobKind, IndexedPack};
use crate::resources::Resources;
use crate::store::FileKind;
use crate::vault::Vault;

/// Index files fetched at a time.
const FETCHES: usize = 8;
/// How often a listing is repeated when a listed index file is gone before it is read: another
/// program's prune or index rewrite is at work.
const ATTEMPTS: u32 = 5;

#[derive(Debug, Default)]
pub(crate) struct SharedIndex {
    index: RwLock<Index>,
    /// One refresh at a time.
    refreshing: tokio::sync::Mutex<()>,
}

impl SharedIndex {
    pub(crate) fn get(&self, kind: BlobKind, id: &Id) -> Option<Location> {
        self.index.read().get(kind, id)
    }

    /// Whether an index file is in here: after a [`refresh`](Self::refresh), whether it is there.
    pub(crate) fn has_file(&self, file: &Id) -> bool {
        self.index.read().files().contains(file)
    }

    /// Adds an index file we have just written.
    pub(crate) fn add_file(&self, file: Id, packs: &[IndexedPack]) {
        self.index.write().add_file(file, packs);
    }

    /// Loads what is new; starts afresh if a loaded index file is no longer there, because then
    /// packs may have been removed. Call it with a lock held, so that it stays true.
    pub(crate) async fn refresh(&self, vault: &Vault, resources: &Resources) -> Result<()> {
        let _turn = self.refreshing.lock().await;
        let mut attempt = 1;
        loop {
            let listed = vault.store.list(FileKind::Index).await?;
            let (new, rebuild) = {
                let index = self.index.read();
                let known = listed.iter().filter(|(id, _)| index.files().contains(id)).count();
                let rebuild = known < index.files().len();
                let new = listed
                    .iter()
                    .map(|(id, _)| *id)
                    .filter(|id| rebuild || !index.files().contains(id))
                    .collect::<Vec<_>>();
                (new, rebuild)
            };
            match self.load(vault, resources, new, rebuild).await {
                Err(error) if error.is_not_found_in_store() && attempt < ATTEMPTS => attempt += 1,
                result => return result,
            }
        }
    }

    async fn load(
        &self,
        vault: &Vault,
        resources: &Resources,
        files: Vec<Id>,
        rebuild: bool,
    ) -> Result<()> {
        let mut fresh = rebuild.then(Index::default);
        let mut loading =
            stream::iter(files).map(|id| load_file(vault, resources, id)).buffer_unordered(FETCHES);
        while let Some((id, packs)) = loading.try_next().await? {
            match &mut fresh {
                Some(fresh) => fresh.add_file(id, &packs),
                None => self.add_file(id, &packs),
            }
        }
        if let Some(fresh) = fresh {
            *self.index.write() = fresh;
        }
        Ok(())
    }
}

/// What an index file lists.
pub(crate) async fn load_file(
    vault: &Vault,
    resources: &Resources,
    id: Id,
) -> Result<(Id, Vec<IndexedPack>)> {
    let json = vault.load(FileKind::Index, &id).await?;
    let name = vault.store.describe(&FileKind::Index.name(&id));
    let packs = resources.compute("read the index", move || index_file::decode(&name, &json));
    Ok((id, packs.await??))
}
