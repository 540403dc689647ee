//! What is asked of the store when our lock did not keep others out all the time: is all there that the new snapshot
//! needs, and can everybody find it? A prune may have taken new packs for unused, and have got no further than the index.

use std::collections::HashMap;

use super::Session;
use crate::error::{Error, Result};
use crate::id::Id;
use crate::index_file;
use crate::pack::{BlobKind, IndexedPack};
use crate::snapshot::Snapshot;
use crate::store::FileKind;

const NEEDED_BY: &str = "the new snapshot (its lock did not keep others out all the time)";

impl Session {
    /// Fails unless the packs that we wrote are there in full, and every blob of the snapshot is, by index files that are
    /// there, in a pack that is there. Ours are written again if they are gone. Call it under a lock.
    pub(super) async fn confirm(
        &self,
        snapshot: &Snapshot,
        written: &[(Id, Vec<IndexedPack>)],
    ) -> Result<()> {
        let repository = &self.repository;
        let listed = repository.vault.store.list(FileKind::Pack).await?;
        let sizes: HashMap<Id, u64> = listed.into_iter().collect();
        for pack in written.iter().flat_map(|(_, packs)| packs) {
            match sizes.get(&pack.id) {
                Some(found) if *found == pack.size() => {}
                Some(found) => {
                    let problem = format!("has {found} bytes instead of {}", pack.size());
                    return Err(missing(pack.id, problem));
                }
                None => return Err(missing(pack.id, "is missing".into())),
            }
        }
        repository.refresh_index().await?;
        self.index_again(written).await?;
        for (_, node) in repository.file_nodes(snapshot).await? {
            for id in node.content.unwrap_or_default() {
                let pack = repository.locate(BlobKind::Data, id, NEEDED_BY)?.pack;
                if !sizes.contains_key(&pack) {
                    return Err(missing(pack, "is missing".into()));
                }
            }
        }
        Ok(())
    }

    /// Writes index files of ours again that were there when we wrote them.
    async fn index_again(&self, written: &[(Id, Vec<IndexedPack>)]) -> Result<()> {
        let index = &self.repository.index;
        for (_, packs) in written.iter().filter(|(file, _)| !index.has_file(file)) {
            let json = index_file::encode(packs)?;
            let file = self.repository.vault.save(FileKind::Index, &json).await?;
            index.add_file(file, packs);
        }
        Ok(())
    }
}

fn missing(id: Id, problem: String) -> Error {
    Error::MissingPack { id, needed_by: NEEDED_BY.into(), problem }
}
