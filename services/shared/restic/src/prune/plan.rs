//! What prune will do: pure, and complete before anything is touched. The rules are restic's.

use std::cmp::Reverse;
use std::collections::HashMap;

use super::{Options, Summary};
use crate::catalog::{Catalog, Marks, content_of};
use crate::config::Version;
use crate::error::{Error, Result};
use crate::id::Id;
use crate::pack::{BlobKind, PackedBlob, TARGET_LEN};

/// Fewer small packs than this are not worth a rewrite, which would also go on forever with a single one.
const FEW_SMALL_PACKS: usize = 10;

/// Shorter content, such as an empty folder's tree, does not shrink: its pack would be rewritten in vain each time.
const WORTH_COMPRESSING: u64 = 64;

/// What becomes of a pack that an index file lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It stays as it is.
    Stay,
    /// Its chosen blobs move to a new pack, and it goes.
    Repack,
    /// Nothing of it is needed, or it is not there.
    Go,
}

/// The decision, complete.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Plan {
    /// By the numbers of the packs in the catalog.
    pub(super) fates: Vec<Fate>,
    /// The entries that provide the used blobs: one of each. Of packs to repack, these are copied.
    pub(super) chosen: Marks,
    /// Index files that list a pack that goes, by their numbers in the catalog.
    pub(super) obsolete: Vec<usize>,
    /// Packs to delete at the end.
    pub(super) delete: Vec<Id>,
    /// Blobs that are to be copied.
    pub(super) copies: u64,
    pub(super) summary: Summary,
}

/// The size of every pack in the store.
pub(super) type PackSizes = HashMap<Id, u64>;

/// A pack that is there, and what of it is needed.
#[derive(Clone, Copy, Default)]
struct Tally {
    data: bool,
    trees: bool,
    /// Whether it provides a blob that is not compressed and may shrink.
    uncompressed: bool,
    /// Blobs that it provides, and their bytes.
    chosen: u32,
    chosen_bytes: u64,
}

pub(super) fn plan(
    catalog: &Catalog,
    sizes: &PackSizes,
    used: &Marks,
    options: &Options,
    version: Version,
) -> Result<Plan> {
    let (chosen, tallies) = choose(catalog, sizes, used)?;
    let mut summary = Summary { packs: sizes.len() as u64, ..Summary::default() };
    let packs = catalog.packs();
    let mut fates: Vec<Fate> =
        tallies.iter().map(|tally| if tally.chosen == 0 { Fate::Go } else { Fate::Stay }).collect();
    summary.bytes_used = tallies.iter().map(|tally| tally.chosen_bytes).sum();

    let unused = |number: usize| packs[number].size.saturating_sub(tallies[number].chosen_bytes);
    let whole = |number: usize| tallies[number].chosen == packs[number].blobs;
    let mixed = |number: usize| tallies[number].data && tallies[number].trees;
    let compress = |number: usize| {
        let Tally { data, uncompressed, .. } = tallies[number];
        version >= Version::V2 && uncompressed && (!data || options.repack_uncompressed)
    };
    let enough = large_enough(options);
    let mut candidates = Vec::new();
    let mut small = Vec::new();
    for number in (0..packs.len()).filter(|number| fates[*number] == Fate::Stay) {
        if options.repack_cacheable_only && tallies[number].data {
            continue;
        }
        if !whole(number) || mixed(number) || compress(number) {
            candidates.push(number);
        } else if packs[number].size < enough {
            small.push(number);
        }
    }
    if small.len() >= FEW_SMALL_PACKS {
        candidates.extend(small);
    }
    // Trees first, then what is small, then the most wasteful.
    candidates.sort_by_key(|number| {
        let size = packs[*number].size;
        let share = u128::from(unused(*number)) * (1 << 32) / u128::from(size.max(1));
        (!tallies[*number].trees, size >= enough, Reverse(share), packs[*number].id)
    });

    let allowed = options.max_unused.bytes(summary.bytes_used);
    // What lies in a whole pack beside blobs is its header, not waste.
    let wasted = |number: usize| if whole(number) { 0 } else { unused(number) };
    let staying = (0..packs.len()).filter(|number| fates[*number] == Fate::Stay);
    let mut waste: u64 = staying.map(wasted).sum();
    let limit = options.max_repack_bytes.unwrap_or(u64::MAX);
    let (mut repacked, mut copies) = (0_u64, 0_u64);
    for number in candidates {
        let size = packs[number].size;
        let spared = size >= enough && !tallies[number].trees && !compress(number);
        let tolerable = waste <= allowed && spared;
        if tolerable || repacked.saturating_add(size) > limit {
            continue;
        }
        fates[number] = Fate::Repack;
        repacked += size;
        copies += u64::from(tallies[number].chosen);
        waste -= wasted(number);
        summary.packs_repacked += 1;
        summary.bytes_repacked += tallies[number].chosen_bytes;
    }
    summary.bytes_unused = waste;

    let listed = |id: &Id| catalog.pack_number(id);
    let mut delete: Vec<Id> = Vec::new();
    for (id, size) in sizes {
        match listed(id).map(|number| fates[number]) {
            Some(Fate::Stay) => continue,
            Some(Fate::Repack) => {}
            Some(Fate::Go) => summary.packs_deleted += 1,
            None => {
                summary.packs_deleted += 1;
                summary.packs_unlisted += 1;
            }
        }
        summary.bytes_deleted += size;
        delete.push(*id);
    }
    delete.sort_unstable();

    // An index file stays only if all its packs do.
    let stays = |number: &u32| fates[*number as usize] == Fate::Stay;
    let obsolete = catalog.files().iter().enumerate();
    let obsolete =
        obsolete.filter(|(_, file)| !file.packs.iter().all(stays)).map(|(number, _)| number);
    let obsolete = obsolete.collect();
    Ok(Plan { fates, chosen, obsolete, delete, copies, summary })
}

/// From which size on a pack is not small.
fn large_enough(options: &Options) -> u64 {
    let target = TARGET_LEN as u64;
    if options.repack_small { target / 5 * 4 } else { target / 25 }
}

/// Decides which pack provides each used blob: of several, the one with the most used bytes, so that
/// duplicates gather where they cost least. Packs that are missing or of the wrong size provide
/// nothing; if a used blob is only in such a pack, that is an error.
fn choose(catalog: &Catalog, sizes: &PackSizes, used: &Marks) -> Result<(Marks, Vec<Tally>)> {
    let packs = catalog.packs();
    let sound: Vec<bool> =
        packs.iter().map(|pack| sizes.get(&pack.id) == Some(&pack.size)).collect();
    let used_blobs = || catalog.blobs().filter(|at| used.has(at.entry()));

    let mut promised = vec![0_u64; packs.len()];
    for at in used_blobs() {
        for (_, blob, pack) in catalog.places(at) {
            promised[pack] += u64::from(blob.length);
        }
    }
    let mut chosen = Marks::none(catalog);
    let mut tallies = vec![Tally::default(); packs.len()];
    for at in catalog.blobs() {
        for (_, blob, pack) in catalog.places(at) {
            match blob.kind {
                BlobKind::Data => tallies[pack].data = true,
                BlobKind::Tree => tallies[pack].trees = true,
            }
        }
        if !used.has(at.entry()) {
            continue;
        }
        let best = catalog
            .places(at)
            .filter(|(_, _, pack)| sound[*pack])
            .min_by_key(|(_, blob, pack)| (Reverse(promised[*pack]), packs[*pack].id, blob.offset));
        let Some((entry, blob, pack)) = best else {
            let (blob, pack) = catalog.get(at);
            let problem = match sizes.get(&pack) {
                None => "is missing".to_owned(),
                Some(size) => {
                    let number = catalog.pack_number(&pack).unwrap_or_default();
                    format!("has {size} bytes instead of {}", packs[number].size)
                }
            };
            let needed_by = format!("{} blob {}", blob.kind.name(), blob.id);
            return Err(Error::MissingPack { id: pack, needed_by, problem });
        };
        chosen.mark(entry);
        tallies[pack].uncompressed |= may_shrink(&blob);
        tallies[pack].chosen += 1;
        tallies[pack].chosen_bytes += u64::from(blob.length);
    }
    Ok((chosen, tallies))
}

fn may_shrink(blob: &PackedBlob) -> bool {
    blob.raw_length.is_none() && content_of(blob) >= WORTH_COMPRESSING
}

#[cfg(test)]
mod tests;
