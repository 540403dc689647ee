//! Which blobs snapshots use: the walk over all trees that stats, check, prune and copy share.

use std::collections::HashSet;

use futures::StreamExt;
use futures::stream::FuturesUnordered;

use crate::catalog::{BlobAt, Catalog, Marks, content_of};
use crate::error::{Error, Result};
use crate::fetch;
use crate::id::Id;
use crate::pack::BlobKind;
use crate::progress::Observer;
use crate::repository::Inner;
use crate::snapshot::Snapshot;
use crate::tree::{Node, Tree, name};

/// Trees fetched at a time: the tree of a dump of a terabyte has some 45 MB.
const FETCHES: usize = 4;
/// Failures that are kept; a repository without its packs would have millions.
pub(crate) const MAX_FINDINGS: usize = 1000;

/// What a walk found.
#[derive(Debug)]
pub(crate) struct Walked {
    /// The first entry of every blob that is used.
    pub(crate) used: Marks,
    /// Trees and blobs that are not to be had.
    pub(crate) failures: Vec<Error>,
    /// What trees say that makes no sense: the tree, and what.
    pub(crate) oddities: Vec<(String, String)>,
    /// The same, where nothing is lost by it.
    pub(crate) harmless: Vec<(String, String)>,
    /// Failures and oddities beyond [`MAX_FINDINGS`].
    pub(crate) more: u64,
}

impl Walked {
    /// The used blobs, if all of them are there.
    pub(crate) fn into_used(self) -> Result<Marks> {
        self.failures.into_iter().next().map_or(Ok(self.used), Err)
    }
}

struct Walk<'a> {
    catalog: &'a Catalog,
    snapshots: &'a [Snapshot],
    /// Trees to be read, each with the snapshot that led to it, to be named if the tree is bad.
    waiting: Vec<(BlobAt, usize)>,
    missing: HashSet<(BlobKind, Id)>,
    walked: Walked,
}

/// Walks the trees of the snapshots. Goes on after a failure; whoever must not (prune) looks at the
/// failures first.
pub(crate) async fn walk(
    inner: &Inner,
    catalog: &Catalog,
    snapshots: &[Snapshot],
    observer: &Observer,
) -> Walked {
    let walked = Walked {
        used: Marks::none(catalog),
        failures: Vec::new(),
        oddities: Vec::new(),
        harmless: Vec::new(),
        more: 0,
    };
    let mut walk =
        Walk { catalog, snapshots, waiting: Vec::new(), missing: HashSet::new(), walked };
    let step = observer.items("walk the snapshots", 0);
    for (number, snapshot) in snapshots.iter().enumerate() {
        walk.reach(BlobKind::Tree, &snapshot.tree, number);
    }
    step.expect(walk.waiting.len() as u64);
    let mut loading = FuturesUnordered::new();
    loop {
        while loading.len() < FETCHES
            && let Some((at, number)) = walk.waiting.pop()
        {
            loading.push(async move { (number, at, load(inner, catalog, at).await) });
        }
        let Some((number, at, loaded)) = loading.next().await else { break };
        match loaded {
            Ok(tree) => {
                let before = walk.waiting.len();
                walk.look(&catalog.get(at).0.id, tree, number);
                step.expect((walk.waiting.len() - before) as u64);
            }
            Err(error) => walk.failed(error),
        }
        step.advance(1);
    }
    walk.walked
}

/// Reads a tree.
pub(crate) async fn load(inner: &Inner, catalog: &Catalog, at: BlobAt) -> Result<Tree> {
    let (blob, _) = catalog.get(at);
    let json = fetch::any_place(inner, catalog, at).await?;
    let decode = move || Tree::decode(&format!("tree {}", blob.id), &json);
    inner.resources.compute("read a tree", decode).await?
}

impl Walk<'_> {
    /// Marks a blob; gives it back if it is there.
    fn reach(&mut self, kind: BlobKind, id: &Id, number: usize) -> Option<BlobAt> {
        let Some(at) = self.catalog.find(kind, id) else {
            // Each once, as far as can be remembered in bounded memory.
            if self.missing.len() >= MAX_FINDINGS {
                self.walked.more += 1;
            } else if self.missing.insert((kind, *id)) {
                let snapshot = &self.snapshots[number];
                let needed_by = format!("snapshot {}", snapshot.id.short());
                self.failed(Error::MissingBlob { kind: kind.name(), id: *id, needed_by });
            }
            return None;
        };
        if self.walked.used.mark(at.entry()) && kind == BlobKind::Tree {
            self.waiting.push((at, number));
        }
        Some(at)
    }

    fn look(&mut self, tree: &Id, content: Tree, number: usize) {
        let mut names = HashSet::new();
        for node in content.nodes {
            if !names.insert(node.name.clone()) {
                self.odd(tree, &node, "is there twice");
            }
            match (node.kind.as_str(), &node.content, &node.subtree) {
                ("file", Some(blobs), _) => {
                    let found = blobs.iter().map(|id| self.reach(BlobKind::Data, id, number));
                    let found: Option<Vec<BlobAt>> =
                        found.collect::<Vec<_>>().into_iter().collect();
                    let length = |at: &BlobAt| content_of(&self.catalog.get(*at).0);
                    // A missing blob is a failure of its own.
                    let length = found.map(|found| found.iter().map(length).sum::<u64>());
                    if let Some(length) = length.filter(|length| *length != node.size) {
                        self.has_another_size(tree, &node, length);
                    }
                }
                ("file", None, _) => self.odd(tree, &node, "is a file without a list of blobs"),
                ("dir", _, Some(subtree)) => {
                    self.reach(BlobKind::Tree, subtree, number);
                }
                ("dir", _, None) => self.odd(tree, &node, "is a folder without a tree"),
                ("symlink" | "dev" | "chardev" | "fifo" | "socket" | "irregular", _, _) => {}
                (_, _, _) => self.odd(tree, &node, "is of no kind that is known"),
            }
        }
    }

    fn odd(&mut self, tree: &Id, node: &Node, problem: &str) {
        if self.walked.oddities.len() < MAX_FINDINGS {
            let problem = format!("{:?} {problem}", name::shown(&node.name));
            self.walked.oddities.push((format!("tree {tree}"), problem));
        } else {
            self.walked.more += 1;
        }
    }

    /// Old versions of restic left such when a file grew while they read it. What was read is all there.
    fn has_another_size(&mut self, tree: &Id, node: &Node, length: u64) {
        if self.walked.harmless.len() < MAX_FINDINGS {
            let (name, size) = (name::shown(&node.name), node.size);
            let problem = format!(
                "{name:?} is said to have {size} bytes, and {length} were backed up: it changed meanwhile"
            );
            self.walked.harmless.push((format!("tree {tree}"), problem));
        }
    }

    fn failed(&mut self, error: Error) {
        if self.walked.failures.len() < MAX_FINDINGS {
            self.walked.failures.push(error);
        } else {
            self.walked.more += 1;
        }
    }
}
