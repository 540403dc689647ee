//! What prune will do: pure, and complete before anything is touched.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::{PackSizes, Summary};
use crate::error::{Error, Result};
use crate::id::Id;
use crate::pack::{BlobKind, IndexedPack, PackedBlob};
use crate::used::Used;

/// The steps, in no particular order; `execute` knows the order.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// Packs to be emptied, each with only the blobs that are to be copied.
    pub(super) repack: Vec<IndexedPack>,
    /// Packs that stay but are listed in an obsolete index file.
    pub(super) relist: Vec<IndexedPack>,
    /// Index files that list a pack that goes.
    pub(super) obsolete_index: Vec<Id>,
    /// Packs to delete at the end, the emptied ones among them.
    pub(super) delete: Vec<Id>,
    pub(super) summary: Summary,
}

/// A pack with the used blobs that it, of all packs that hold them, is to provide.
struct Candidate {
    pack: IndexedPack,
    size: u64,
    keep: Vec<PackedBlob>,
    used_bytes: u64,
}

impl Candidate {
    fn unused_bytes(&self) -> u64 {
        self.size.saturating_sub(self.used_bytes)
    }
}

pub(super) fn plan(
    files: Vec<(Id, Vec<IndexedPack>)>,
    sizes: &PackSizes,
    used: &Used,
    max_unused_percent: f64,
) -> Result<Plan> {
    let packs = merge(&files);
    let candidates = assign(&packs, sizes, used)?;

    let used_bytes: u64 = candidates.iter().map(|c| c.used_bytes).sum();
    let (unused, partly): (Vec<_>, Vec<_>) =
        candidates.into_iter().partition(|candidate| candidate.keep.is_empty());
    let (whole, mut wasteful): (Vec<_>, Vec<_>) = partly
        .into_iter()
        .partition(|candidate| candidate.keep.len() == candidate.pack.blobs.len());
    // The most wasteful first, until what is left may stay.
    wasteful.sort_by(|a, b| {
        let share =
            |c: &Candidate| u128::from(c.unused_bytes()) * (1 << 32) / u128::from(c.size.max(1));
        share(b).cmp(&share(a)).then(a.pack.id.cmp(&b.pack.id))
    });
    let allowed = allowance(used_bytes, max_unused_percent);
    let mut left: u64 = wasteful.iter().map(Candidate::unused_bytes).sum();
    let mut staying: HashSet<Id> = whole.iter().map(|candidate| candidate.pack.id).collect();
    let mut plan = Plan::default();
    for candidate in wasteful {
        if left <= allowed {
            staying.insert(candidate.pack.id);
            continue;
        }
        left -= candidate.unused_bytes();
        plan.summary.packs_repacked += 1;
        plan.summary.bytes_repacked += candidate.used_bytes;
        plan.summary.bytes_deleted += candidate.size;
        plan.delete.push(candidate.pack.id);
        plan.repack.push(IndexedPack { id: candidate.pack.id, blobs: candidate.keep });
    }
    plan.summary.bytes_unused = left;
    plan.summary.packs = sizes.len() as u64;

    let unlisted = sizes.keys().filter(|id| !packs.contains_key(id)).copied();
    let unused = unused.iter().map(|candidate| candidate.pack.id);
    let mut doomed: Vec<Id> = unused.chain(unlisted).filter(|id| sizes.contains_key(id)).collect();
    doomed.sort_unstable();
    plan.summary.packs_deleted = doomed.len() as u64;
    plan.summary.bytes_deleted += doomed.iter().filter_map(|id| sizes.get(id)).sum::<u64>();
    plan.delete.extend(doomed);

    // An index file stays only if all its packs do.
    let mut relist: BTreeMap<Id, ()> = BTreeMap::new();
    for (file, listed) in &files {
        if listed.iter().all(|pack| staying.contains(&pack.id)) {
            continue;
        }
        plan.obsolete_index.push(*file);
        relist.extend(listed.iter().filter(|p| staying.contains(&p.id)).map(|p| (p.id, ())));
    }
    plan.relist = relist
        .into_keys()
        .filter_map(|id| Some(IndexedPack { id, blobs: packs.get(&id)?.clone() }))
        .collect();
    Ok(plan)
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a share of a size needs no exact byte; the cast saturates"
)]
fn allowance(used_bytes: u64, percent: f64) -> u64 {
    (used_bytes as f64 * percent.max(0.0) / 100.0) as u64
}

/// All packs of all index files; a pack listed twice holds what either listing says.
fn merge(files: &[(Id, Vec<IndexedPack>)]) -> BTreeMap<Id, Vec<PackedBlob>> {
    let mut packs: BTreeMap<Id, Vec<PackedBlob>> = BTreeMap::new();
    for pack in files.iter().flat_map(|(_, packs)| packs) {
        let blobs = packs.entry(pack.id).or_default();
        blobs.extend_from_slice(&pack.blobs);
        blobs.sort_by_key(|blob| (blob.offset, blob.id));
        blobs.dedup();
    }
    packs
}

/// Decides which pack provides each used blob: of several, the one with the most used bytes, so that
/// duplicates gather where they cost least. Packs that are missing or of the wrong size provide
/// nothing; if a used blob is only in such a pack, or in none, that is an error.
fn assign(
    packs: &BTreeMap<Id, Vec<PackedBlob>>,
    sizes: &PackSizes,
    used: &Used,
) -> Result<Vec<Candidate>> {
    let mut order: Vec<_> = packs
        .iter()
        .map(|(id, blobs)| {
            let used_blobs = blobs.iter().filter(|blob| used.contains(blob.kind, &blob.id));
            let bytes: u64 = used_blobs.map(|blob| u64::from(blob.length)).sum();
            (std::cmp::Reverse(bytes), IndexedPack { id: *id, blobs: blobs.clone() })
        })
        .collect();
    order.sort_by_key(|(bytes, pack)| (*bytes, pack.id));

    let mut provided: HashSet<(BlobKind, Id)> = HashSet::new();
    let mut unsound: HashMap<(BlobKind, Id), Error> = HashMap::new();
    let mut candidates = Vec::with_capacity(order.len());
    for (_, pack) in order {
        let problem = match sizes.get(&pack.id) {
            Some(size) if *size == pack.size() => None,
            Some(size) => Some(format!("has {size} bytes instead of {}", pack.size())),
            None => Some("is missing".to_owned()),
        };
        let mut candidate = Candidate {
            size: sizes.get(&pack.id).copied().unwrap_or(0),
            keep: Vec::new(),
            used_bytes: 0,
            pack,
        };
        for blob in &candidate.pack.blobs {
            let key = (blob.kind, blob.id);
            if !used.contains(blob.kind, &blob.id) {
                continue;
            }
            if let Some(problem) = &problem {
                unsound.entry(key).or_insert_with(|| Error::MissingPack {
                    id: candidate.pack.id,
                    needed_by: format!("{} blob {}", blob.kind.name(), blob.id),
                    problem: problem.clone(),
                });
            } else if provided.insert(key) {
                candidate.used_bytes += u64::from(blob.length);
                candidate.keep.push(*blob);
            }
        }
        candidates.push(candidate);
    }
    match used.iter().find(|key| !provided.contains(key)) {
        None => Ok(candidates),
        Some(key) => Err(unsound.remove(&key).unwrap_or_else(|| Error::MissingBlob {
            kind: key.0.name(),
            id: key.1,
            needed_by: "a snapshot".into(),
        })),
    }
}

#[cfg(test)]
mod tests;
