//! Blobs whose usual place cannot be read, from another one.
//!
//! Two programs that write at the same time may both write a blob, and the index then has it twice. Ours keeps one place of
//! each (`index.rs`); the others are in the index files, which are looked through only when they are needed.

use std::collections::{HashMap, HashSet};

use futures::{StreamExt, TryStreamExt, stream};

use crate::error::{Error, Kind, Result};
use crate::id::Id;
use crate::index::Location;
use crate::pack::BlobKind;
use crate::repository::Inner;
use crate::shared_index::load_file;
use crate::store::FileKind;

/// Index files held at a time: each lists up to some ten thousand blobs.
const FETCHES: usize = 2;

impl Inner {
    /// The content of blobs that could not be read where the index has them, which is tried once more for each.
    ///
    /// # Errors
    /// `failure`, if there is a blob that cannot be read anywhere, or if another place would not help.
    pub(crate) async fn read_elsewhere(
        &self,
        kind: BlobKind,
        blobs: Vec<Id>,
        failure: Error,
    ) -> Result<Vec<Vec<u8>>> {
        if failure.kind() != Kind::Corrupt {
            return Err(failure);
        }
        let places = match self.places(kind, blobs.iter().copied().collect()).await {
            Ok(places) => places,
            Err(error) => {
                let error = error.chain();
                tracing::warn!(error, "cannot look for another place of a damaged blob");
                return Err(failure);
            }
        };
        let mut contents = Vec::with_capacity(blobs.len());
        for id in blobs {
            let mut content = None;
            for location in places.get(&id).into_iter().flatten() {
                if let Ok(read) = self.load_blob(id, *location).await {
                    content = Some(read);
                    break;
                }
            }
            match content {
                Some(content) => contents.push(content),
                None => return Err(failure),
            }
        }
        let error = failure.chain();
        tracing::warn!(error, "read from another pack; repair the repository's index and prune it");
        Ok(contents)
    }

    /// Every place that the index files know of these blobs.
    async fn places(
        &self,
        kind: BlobKind,
        wanted: HashSet<Id>,
    ) -> Result<HashMap<Id, Vec<Location>>> {
        let listed = self.vault.store.list(FileKind::Index).await?;
        let load = |(id, _)| load_file(&self.vault, &self.resources, id);
        let mut files = stream::iter(listed).map(load).buffer_unordered(FETCHES);
        let mut places: HashMap<Id, Vec<Location>> = HashMap::new();
        while let Some((_, packs)) = files.try_next().await? {
            for pack in packs {
                let blobs = pack.blobs.iter();
                for blob in blobs.filter(|blob| blob.kind == kind && wanted.contains(&blob.id)) {
                    places.entry(blob.id).or_default().push(Location {
                        pack: pack.id,
                        offset: blob.offset,
                        length: blob.length,
                        raw_length: blob.raw_length,
                    });
                }
            }
        }
        Ok(places)
    }
}
