//! The plan on small made-up repositories, and by property: whatever is used survives.

use std::collections::HashSet;

use proptest::prelude::*;

use super::*;
use crate::pack::{IndexedPack, PackedBlob};
use crate::prune::MaxUnused;

/// Four fifths of a MiB: packs of a few of these are not small.
const BLOB_LEN: u32 = 800_000;

/// Where nothing can be compressed, so that only use and size count.
fn plan(catalog: &Catalog, sizes: &PackSizes, used: &Marks, options: &Options) -> Result<Plan> {
    super::plan(catalog, sizes, used, options, Version::V1)
}

fn blob_id(name: u8) -> Id {
    Id::of(&[name])
}

fn pack_of(kind: BlobKind, length: u32, name: &str, blobs: &[u8]) -> IndexedPack {
    let place = |(i, blob): (u32, &u8)| PackedBlob {
        kind,
        id: blob_id(*blob),
        offset: i * length,
        length,
        raw_length: None,
    };
    let blobs = (0..).zip(blobs).map(place).collect();
    IndexedPack { id: Id::of(name.as_bytes()), blobs }
}

fn pack(name: &str, blobs: &[u8]) -> IndexedPack {
    pack_of(BlobKind::Data, BLOB_LEN, name, blobs)
}

fn catalog(files: &[&[IndexedPack]]) -> Catalog {
    let mut catalog = Catalog::default();
    for (number, packs) in files.iter().enumerate() {
        catalog.add_file(Id::of(&number.to_le_bytes()), packs).unwrap();
    }
    catalog.settle();
    catalog
}

fn used(catalog: &Catalog, names: &[u8]) -> Marks {
    let mut marks = Marks::none(catalog);
    for name in names {
        for kind in [BlobKind::Data, BlobKind::Tree] {
            if let Some(at) = catalog.find(kind, &blob_id(*name)) {
                marks.mark(at.entry());
            }
        }
    }
    marks
}

fn sizes(packs: &[&IndexedPack]) -> PackSizes {
    packs.iter().map(|pack| (pack.id, pack.size())).collect()
}

fn fate(catalog: &Catalog, plan: &Plan, pack: &IndexedPack) -> Fate {
    plan.fates[catalog.pack_number(&pack.id).unwrap()]
}

fn at_most(percent: f64) -> Options {
    Options { max_unused: MaxUnused::Percent(percent), ..Options::default() }
}

#[test]
fn unused_goes_whole_stays_partial_is_repacked() {
    let (whole, partial, unused) =
        (pack("whole", &[1, 2]), pack("partial", &[3, 4]), pack("unused", &[5]));
    let stray = pack("stray", &[6]);
    let catalog = catalog(&[&[whole.clone(), partial.clone()], std::slice::from_ref(&unused)]);
    let sizes = sizes(&[&whole, &partial, &unused, &stray]);
    let plan = plan(&catalog, &sizes, &used(&catalog, &[1, 2, 3]), &Options::default()).unwrap();
    assert_eq!(fate(&catalog, &plan, &whole), Fate::Stay);
    assert_eq!(fate(&catalog, &plan, &partial), Fate::Repack);
    assert_eq!(fate(&catalog, &plan, &unused), Fate::Go);
    assert_eq!((plan.obsolete, plan.copies), (vec![0, 1], 1));
    let deleted: HashSet<Id> = plan.delete.into_iter().collect();
    assert_eq!(deleted, [partial.id, unused.id, stray.id].into());
    let summary = plan.summary;
    assert_eq!((summary.packs_deleted, summary.packs_unlisted, summary.packs_repacked), (2, 1, 1));
    assert_eq!(summary.bytes_repacked, u64::from(BLOB_LEN));
}

#[test]
fn a_little_waste_may_stay() {
    let (a, b) = (pack("a", &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]), pack("b", &[11, 12]));
    let catalog = catalog(&[&[a.clone(), b.clone()]]);
    let all = used(&catalog, &[1, 2, 3, 4, 5, 6, 7, 8, 9, 11]);
    let plan_with = |options: Options| plan(&catalog, &sizes(&[&a, &b]), &all, &options).unwrap();
    let fates = |options| {
        let plan = plan_with(options);
        [&a, &b].map(|pack| fate(&catalog, &plan, pack))
    };
    use Fate::{Repack, Stay};
    assert_eq!(fates(at_most(100.0)), [Stay, Stay]);
    assert_eq!(
        fates(Options { max_unused: MaxUnused::Unlimited, ..Options::default() }),
        [Stay, Stay]
    );
    // The most wasteful first.
    assert_eq!(fates(at_most(10.0)), [Stay, Repack]);
    assert_eq!(fates(at_most(0.0)), [Repack, Repack]);
    let bytes = MaxUnused::Bytes(u64::from(BLOB_LEN) * 3 / 2);
    assert_eq!(fates(Options { max_unused: bytes, ..Options::default() }), [Stay, Repack]);
    // A limit on the work keeps what would exceed it.
    let limited = Options { max_repack_bytes: Some(u64::from(BLOB_LEN) * 3), ..at_most(0.0) };
    assert_eq!(fates(limited), [Stay, Repack]);
    assert_eq!(fates(Options { repack_cacheable_only: true, ..at_most(0.0) }), [Stay, Stay]);
}

#[test]
fn trees_are_repacked_whatever_may_stay_unused() {
    let trees = pack_of(BlobKind::Tree, BLOB_LEN, "trees", &[1, 2]);
    let data = pack("data", &[3, 4, 5, 6, 7, 8, 9]);
    let catalog = catalog(&[&[trees.clone(), data.clone()]]);
    let marks = used(&catalog, &[1, 3, 4, 5, 6, 7, 8, 9]);
    let options = Options { repack_cacheable_only: true, ..at_most(100.0) };
    let plan = plan(&catalog, &sizes(&[&trees, &data]), &marks, &options).unwrap();
    assert_eq!(fate(&catalog, &plan, &trees), Fate::Repack);
    assert_eq!(fate(&catalog, &plan, &data), Fate::Stay);
}

#[test]
fn what_is_not_compressed_is_repacked_if_asked_for_and_trees_anyway() {
    let compressed = |mut pack: IndexedPack| {
        pack.blobs.iter_mut().for_each(|blob| blob.raw_length = Some(2 * BLOB_LEN));
        pack
    };
    let trees = |length, name, blob| pack_of(BlobKind::Tree, length, name, &[blob]);
    let packs = [
        pack("data", &[11]),
        compressed(pack("compressed data", &[12])),
        trees(BLOB_LEN, "trees", 13),
        compressed(trees(BLOB_LEN, "compressed trees", 14)),
        trees(45, "an empty tree", 15),
    ];
    let catalog = catalog(&[&packs]);
    let all = used(&catalog, &(0..40).collect::<Vec<u8>>());
    let sizes = sizes(&packs.iter().collect::<Vec<_>>());
    let repacked = |options: &Options, version| {
        let plan = super::plan(&catalog, &sizes, &all, options, version).unwrap();
        let goes = |pack| fate(&catalog, &plan, pack) == Fate::Repack;
        packs.iter().map(goes).collect::<Vec<bool>>()
    };
    let asked = Options { repack_uncompressed: true, ..at_most(100.0) };
    assert_eq!(repacked(&asked, Version::V2), [true, false, true, false, false]);
    assert_eq!(repacked(&at_most(0.0), Version::V2), [false, false, true, false, false]);
    assert_eq!(repacked(&asked, Version::V1), [false; 5]);
    let trees_only = Options { repack_cacheable_only: true, ..asked.clone() };
    assert_eq!(repacked(&trees_only, Version::V2), [false, false, true, false, false]);
    let limited = Options { max_repack_bytes: Some(u64::from(BLOB_LEN) * 3 / 2), ..asked };
    assert_eq!(repacked(&limited, Version::V2), [false, false, true, false, false]);
}

#[test]
fn small_packs_are_gathered_once_there_are_ten() {
    let names: Vec<String> = (0..12).map(|n| n.to_string()).collect();
    let packs: Vec<IndexedPack> = names
        .iter()
        .zip(0..)
        .map(|(name, blob)| pack_of(BlobKind::Tree, 1000, name, &[blob]))
        .collect();
    let repacked = |count: usize, options: &Options| {
        let catalog = catalog(&[&packs[..count]]);
        let all = used(&catalog, &(0..12).collect::<Vec<u8>>());
        let sizes = sizes(&packs[..count].iter().collect::<Vec<_>>());
        plan(&catalog, &sizes, &all, options).unwrap().summary.packs_repacked
    };
    assert_eq!(repacked(9, &Options::default()), 0);
    assert_eq!(repacked(12, &Options::default()), 12);
    let large: Vec<IndexedPack> = (0..10).map(|n| pack(&format!("large {n}"), &[20 + n])).collect();
    let catalog = catalog(&[&large]);
    let all = used(&catalog, &(20..30).collect::<Vec<u8>>());
    let sizes = sizes(&large.iter().collect::<Vec<_>>());
    let repacked = |repack_small| {
        let options = Options { repack_small, ..Options::default() };
        plan(&catalog, &sizes, &all, &options).unwrap().summary.packs_repacked
    };
    assert_eq!((repacked(false), repacked(true)), (0, 10));
}

#[test]
fn a_duplicate_is_kept_once() {
    let (a, b) = (pack("a", &[1, 2, 3]), pack("b", &[1]));
    let catalog = catalog(&[std::slice::from_ref(&a), std::slice::from_ref(&b)]);
    let marks = used(&catalog, &[1, 2, 3]);
    let plan = plan(&catalog, &sizes(&[&a, &b]), &marks, &Options::default()).unwrap();
    assert_eq!((plan.delete, plan.obsolete), (vec![b.id], vec![1]));
}

#[test]
fn nothing_is_planned_over_missing_data() {
    let (a, b) = (pack("a", &[1]), pack("b", &[2]));
    let catalog = catalog(&[&[a.clone(), b.clone()]]);
    let attempt = |sizes: PackSizes, names: &[u8]| {
        plan(&catalog, &sizes, &used(&catalog, names), &Options::default())
    };
    assert!(matches!(attempt(sizes(&[&a]), &[1, 2]), Err(Error::MissingPack { .. })));
    let mut short = sizes(&[&a, &b]);
    short.insert(b.id, 5);
    assert!(matches!(attempt(short, &[2]), Err(Error::MissingPack { .. })));
    // An unused pack may be missing: it only leaves the index.
    let fine = attempt(sizes(&[&a]), &[1]).unwrap();
    assert_eq!((fine.delete, fine.obsolete), (vec![], vec![0]));
}

proptest! {
    #[test]
    fn whatever_is_used_survives(
        contents in proptest::collection::vec(proptest::collection::vec(0_u8..60, 1..8), 1..20),
        split in 1_usize..5,
        pick in proptest::collection::vec(any::<prop::sample::Index>(), 0..40),
        percent in 0.0_f64..50.0,
        damaged in proptest::option::of(any::<prop::sample::Index>()),
    ) {
        let packs: Vec<_> =
            contents.iter().enumerate().map(|(i, c)| pack(&i.to_string(), c)).collect();
        let existing: Vec<u8> = contents.concat();
        let names: Vec<u8> = pick.iter().map(|index| existing[index.index(existing.len())]).collect();
        let files: Vec<&[IndexedPack]> = packs.chunks(split).collect();
        let catalog = catalog(&files);
        let marks = used(&catalog, &names);
        let mut sizes = sizes(&packs.iter().collect::<Vec<_>>());
        let damaged = damaged.map(|index| packs[index.index(packs.len())].id);
        if let Some(id) = damaged {
            sizes.remove(&id);
        }
        let options = at_most(percent);
        let Ok(plan) = plan(&catalog, &sizes, &marks, &options) else {
            // Refused, and only because something used is in the missing pack alone.
            let only_there = names.iter().any(|name| {
                let holds = |pack: &&IndexedPack| pack.blobs.iter().any(|b| b.id == blob_id(*name));
                packs.iter().filter(holds).all(|pack| Some(pack.id) == damaged)
            });
            prop_assert!(only_there);
            return Ok(());
        };

        // Afterwards: packs that stay, and what was copied of those that go.
        let deleted: HashSet<Id> = plan.delete.iter().copied().collect();
        let obsolete: HashSet<usize> = plan.obsolete.iter().copied().collect();
        let mut found: HashSet<Id> = HashSet::new();
        for pack in &packs {
            let number = catalog.pack_number(&pack.id).unwrap();
            let stays = plan.fates[number] == Fate::Stay;
            prop_assert!(stays != deleted.contains(&pack.id) || Some(pack.id) == damaged);
            prop_assert!(!stays || Some(pack.id) != damaged);
            for blob in &pack.blobs {
                let chosen = plan.chosen.has(catalog.entry(blob, number).unwrap());
                if stays || (plan.fates[number] == Fate::Repack && chosen) {
                    found.insert(blob.id);
                }
            }
        }
        for (number, file) in catalog.files().iter().enumerate() {
            let goes = file.packs.iter().any(|pack| plan.fates[*pack as usize] != Fate::Stay);
            prop_assert_eq!(obsolete.contains(&number), goes);
        }
        prop_assert!(names.iter().all(|name| found.contains(&blob_id(*name))));
        let summary = plan.summary;
        prop_assert!(summary.bytes_unused <= options.max_unused.bytes(summary.bytes_used));
    }
}
