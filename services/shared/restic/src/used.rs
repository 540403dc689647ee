//! Which blobs snapshots use: the walk over all trees that stats, check and prune share.

use std::collections::{HashMap, HashSet};

use futures::StreamExt;
use futures::stream::FuturesUnordered;

use crate::error::{Error, Result};
use crate::id::Id;
use crate::index::Index;
use crate::pack::{BlobKind, IndexedPack};
use crate::repository::Inner;
use crate::snapshot::Snapshot;
use crate::tree::Tree;

/// Trees fetched at a time.
const FETCHES: usize = 8;

/// The blobs that snapshots refer to, directly or through trees.
#[derive(Debug, Default)]
pub(crate) struct Used {
    pub(crate) data: HashSet<Id>,
    pub(crate) trees: HashSet<Id>,
}

impl Used {
    pub(crate) fn contains(&self, kind: BlobKind, id: &Id) -> bool {
        match kind {
            BlobKind::Data => self.data.contains(id),
            BlobKind::Tree => self.trees.contains(id),
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (BlobKind, Id)> + '_ {
        let data = self.data.iter().map(|id| (BlobKind::Data, *id));
        data.chain(self.trees.iter().map(|id| (BlobKind::Tree, *id)))
    }
}

/// An index made of whole index files.
pub(crate) fn index_of(files: &[(Id, Vec<IndexedPack>)]) -> Index {
    let mut index = Index::default();
    for (file, packs) in files {
        index.add_file(*file, packs);
    }
    index
}

/// Walks the trees of the snapshots. Goes on after a failure; whoever must not (prune) looks at the
/// second part first.
pub(crate) async fn walk(
    inner: &Inner,
    index: &Index,
    snapshots: &[Snapshot],
) -> (Used, Vec<Error>) {
    let mut used = Used::default();
    let mut failures = Vec::new();
    // Which snapshot led to a tree, to be named if the tree is bad.
    let mut waiting: Vec<(Id, Id)> = Vec::new();
    for snapshot in snapshots {
        if used.trees.insert(snapshot.tree) {
            waiting.push((snapshot.tree, snapshot.id));
        }
    }
    let mut missing: HashMap<(BlobKind, Id), Id> = HashMap::new();
    let mut loading = FuturesUnordered::new();
    loop {
        while loading.len() < FETCHES
            && let Some((tree, snapshot)) = waiting.pop()
        {
            loading.push(async move { (snapshot, load(inner, index, tree, snapshot).await) });
        }
        let Some((snapshot, loaded)) = loading.next().await else { break };
        let tree = match loaded {
            Ok(tree) => tree,
            Err(error) => {
                failures.push(error);
                continue;
            }
        };
        for node in tree.nodes {
            for id in node.content.into_iter().flatten() {
                if used.data.insert(id) && index.get(BlobKind::Data, &id).is_none() {
                    missing.insert((BlobKind::Data, id), snapshot);
                }
            }
            if let Some(subtree) = node.subtree.filter(|id| used.trees.insert(*id)) {
                waiting.push((subtree, snapshot));
            }
        }
    }
    failures
        .extend(missing.into_iter().map(|((kind, id), snapshot)| missing_blob(kind, id, snapshot)));
    (used, failures)
}

fn missing_blob(kind: BlobKind, id: Id, snapshot: Id) -> Error {
    let needed_by = format!("snapshot {}", snapshot.short());
    Error::MissingBlob { kind: kind.name(), id, needed_by }
}

async fn load(inner: &Inner, index: &Index, tree: Id, snapshot: Id) -> Result<Tree> {
    let location = index
        .get(BlobKind::Tree, &tree)
        .ok_or_else(|| missing_blob(BlobKind::Tree, tree, snapshot))?;
    let json = inner.load_blob(tree, location).await?;
    Tree::decode(&format!("tree {tree}"), &json)
}
