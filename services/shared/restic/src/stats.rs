//! Figures of a repository: restic's `stats` in its modes `raw-data` and `restore-size`.

use std::collections::{HashMap, HashSet};

use crate::catalog::{BlobAt, Catalog, content_of};
use crate::error::{Error, Result};
use crate::id::Id;
use crate::lock::Mode;
use crate::pack::BlobKind;
use crate::progress::Observer;
use crate::repository::{Inner, Repository};
use crate::snapshot::{Snapshot, SnapshotFilter};
use crate::store::FileKind;
use crate::tree::{Inode, Tree};
use crate::used;

/// Folders may not be nested deeper: a limit against damaged or malicious trees.
const MAX_DEPTH: usize = 64;

/// Figures of a repository, or of some of its snapshots.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Snapshots.
    pub snapshots: u64,
    /// Distinct blobs that these use.
    pub blobs: u64,
    /// Their bytes in packs: `restic stats --mode raw-data`.
    pub raw_size: u64,
    /// Their bytes before compression.
    pub uncompressed_size: u64,
    /// Files in the snapshots, each snapshot's counted.
    pub files: u64,
    /// Bytes that restoring each of the snapshots would write: `--mode restore-size`.
    pub restore_size: u64,
    /// Packs in the repository, whoever uses them.
    pub packs: u64,
}

impl Repository {
    /// Counts what all snapshots use.
    ///
    /// # Errors
    /// As [`stats_of`](Self::stats_of).
    pub async fn stats(&self) -> Result<Stats> {
        self.stats_of(&SnapshotFilter::default(), &Observer::default()).await
    }

    /// Counts what the snapshots that pass the filter use.
    ///
    /// # Errors
    /// Errors of the store; [`Error::MissingBlob`] and [`Error::Damaged`] if a tree cannot be read.
    pub async fn stats_of(&self, filter: &SnapshotFilter, observer: &Observer) -> Result<Stats> {
        let inner = &self.inner;
        let (lock, stats) = inner.begin_reading(count(inner, filter, observer)).await?;
        if let Some(lock) = lock {
            lock.release().await;
        }
        Ok(stats)
    }
}

async fn count(inner: &Inner, filter: &SnapshotFilter, observer: &Observer) -> Result<Stats> {
    let snapshots = inner.snapshots(filter, Mode::Shared).await?;
    let catalog = Catalog::load(inner, observer).await?;
    let used = used::walk(inner, &catalog, &snapshots, observer).await.into_used()?;
    let packs = inner.vault.store.list(FileKind::Pack).await?.len() as u64;
    let mut stats = Stats { snapshots: snapshots.len() as u64, packs, ..Stats::default() };
    for at in catalog.blobs().filter(|at| used.has(at.entry())) {
        let (blob, _) = catalog.get(at);
        stats.blobs += 1;
        stats.raw_size += u64::from(blob.length);
        stats.uncompressed_size += content_of(&blob);
    }
    let mut sizes = Sizes { inner, catalog: &catalog, known: HashMap::new() };
    let step = observer.items("measure the snapshots", stats.snapshots);
    for snapshot in &snapshots {
        let size = sizes.of(snapshot).await?;
        step.advance(1);
        stats.files += size.files;
        stats.restore_size = stats.restore_size.saturating_add(size.bytes);
    }
    Ok(stats)
}

#[derive(Clone, Copy, Default)]
struct Size {
    files: u64,
    bytes: u64,
}

/// What trees hold, with all below them; each is read once.
struct Sizes<'a> {
    inner: &'a Inner,
    catalog: &'a Catalog,
    known: HashMap<BlobAt, Known>,
}

/// What is below a tree.
struct Known {
    /// All of it, without the bytes of files with several names: a restore writes those once in a snapshot.
    size: Size,
    /// Such files in the tree itself.
    linked: Vec<(Inode, u64)>,
    /// Trees in it below which there are such files.
    leading: Vec<BlobAt>,
}

/// A tree whose subtrees are being counted.
struct Open {
    tree: BlobAt,
    known: Known,
    left: Vec<BlobAt>,
}

impl Known {
    fn has_linked(&self) -> bool {
        !(self.linked.is_empty() && self.leading.is_empty())
    }
}

impl Sizes<'_> {
    async fn of(&mut self, snapshot: &Snapshot) -> Result<Size> {
        let name = || format!("snapshot {}", snapshot.id.short());
        let missing = |id| Error::MissingBlob { kind: "tree", id, needed_by: name() };
        let catalog = self.catalog;
        let find = |id| catalog.find(BlobKind::Tree, &id).ok_or_else(|| missing(id));
        let root = find(snapshot.tree)?;
        let mut next = root;
        let mut open: Vec<Open> = Vec::new();
        loop {
            let mut done = self.known.contains_key(&next).then_some(next);
            if done.is_none() {
                if open.len() >= MAX_DEPTH {
                    return Err(Error::damaged(name(), "its folders are nested too deep"));
                }
                let tree = used::load(self.inner, self.catalog, next).await?;
                let (known, subtrees) = look(tree);
                let left = subtrees.into_iter().map(find).collect::<Result<_>>()?;
                open.push(Open { tree: next, known, left });
            }
            // Up, for as long as there is nothing left below.
            loop {
                let Some(top) = open.last_mut() else { return Ok(self.whole(root)) };
                if let Some((tree, below)) =
                    done.take().and_then(|at| self.known.get_key_value(&at))
                {
                    top.known.size.files += below.size.files;
                    top.known.size.bytes = top.known.size.bytes.saturating_add(below.size.bytes);
                    if below.has_linked() {
                        top.known.leading.push(*tree);
                    }
                }
                match top.left.pop() {
                    Some(below) => {
                        next = below;
                        break;
                    }
                    None => {
                        done = Some(top.tree);
                        if let Some(Open { tree, known, left: _ }) = open.pop() {
                            self.known.insert(tree, known);
                        }
                    }
                }
            }
        }
    }

    /// The size of what is below a tree that was counted, with each file of several names once.
    fn whole(&self, root: BlobAt) -> Size {
        let mut size = self.known.get(&root).map_or_else(Size::default, |known| known.size);
        let (mut seen, mut walked) = (HashSet::new(), HashSet::new());
        let mut waiting = vec![root];
        while let Some(tree) = waiting.pop() {
            let Some(known) = self.known.get(&tree).filter(|_| walked.insert(tree)) else {
                continue;
            };
            for (inode, bytes) in &known.linked {
                if seen.insert(*inode) {
                    size.bytes = size.bytes.saturating_add(*bytes);
                }
            }
            waiting.extend(&known.leading);
        }
        size
    }
}

/// What a tree itself has, and the trees in it.
fn look(tree: Tree) -> (Known, Vec<Id>) {
    let (mut size, mut linked, mut subtrees) = (Size::default(), Vec::new(), Vec::new());
    for node in tree.nodes {
        match (node.kind.as_str(), node.subtree) {
            ("file", _) => {
                size.files += 1;
                match node.hard_link() {
                    Some(inode) => linked.push((inode, node.size)),
                    None => size.bytes = size.bytes.saturating_add(node.size),
                }
            }
            ("dir", Some(subtree)) => subtrees.push(subtree),
            _ => {}
        }
    }
    (Known { size, linked, leading: Vec::new() }, subtrees)
}
