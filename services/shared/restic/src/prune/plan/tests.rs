//! The plan on small made-up repositories, and by property: whatever is used survives.

use proptest::prelude::*;

use super::*;
use crate::pack::size_of;

fn blob_id(name: u8) -> Id {
    Id::of(&[name])
}

fn pack(name: &str, blobs: &[u8]) -> IndexedPack {
    let mut offset = 0;
    let blobs = blobs
        .iter()
        .map(|name| {
            let length = 1000;
            offset += length;
            let kind = BlobKind::Data;
            PackedBlob {
                kind,
                id: blob_id(*name),
                offset: offset - length,
                length,
                raw_length: None,
            }
        })
        .collect();
    IndexedPack { id: Id::of(name.as_bytes()), blobs }
}

fn used(names: &[u8]) -> Used {
    Used { data: names.iter().map(|name| blob_id(*name)).collect(), trees: HashSet::new() }
}

fn sizes(packs: &[&IndexedPack]) -> PackSizes {
    packs.iter().map(|pack| (pack.id, size_of(&pack.blobs))).collect()
}

#[test]
fn unused_goes_whole_stays_partial_is_repacked() {
    let (whole, partial, unused) =
        (pack("whole", &[1, 2]), pack("partial", &[3, 4]), pack("unused", &[5]));
    let stray = pack("stray", &[6]);
    let files = vec![
        (Id::of(b"i"), vec![whole.clone(), partial.clone()]),
        (Id::of(b"j"), vec![unused.clone()]),
    ];
    let sizes = sizes(&[&whole, &partial, &unused, &stray]);
    let plan = plan(files, &sizes, &used(&[1, 2, 3]), 5.0).unwrap();
    assert_eq!(plan.relist, [whole]);
    assert_eq!(plan.repack.len(), 1);
    assert_eq!((plan.repack[0].id, plan.repack[0].blobs[0].id), (partial.id, blob_id(3)));
    assert_eq!(plan.obsolete_index.len(), 2);
    let deleted: HashSet<Id> = plan.delete.into_iter().collect();
    assert_eq!(deleted, [partial.id, unused.id, stray.id].into());
    assert_eq!((plan.summary.packs_deleted, plan.summary.packs_repacked), (2, 1));
}

#[test]
fn a_little_waste_may_stay() {
    let (a, b) = (pack("a", &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]), pack("b", &[11, 12]));
    let files = vec![(Id::of(b"i"), vec![a.clone(), b.clone()])];
    let all = used(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 11]);
    let plan_with = |percent| plan(files.clone(), &sizes(&[&a, &b]), &all, percent).unwrap();
    assert_eq!(plan_with(100.0), Plan { summary: plan_with(100.0).summary, ..Plan::default() });
    let some = plan_with(20.0);
    assert_eq!((some.repack.len(), some.repack[0].id), (1, b.id));
    assert_eq!(some.relist, std::slice::from_ref(&a));
    assert_eq!(plan_with(0.0).repack.len(), 2);
}

#[test]
fn a_duplicate_is_kept_once() {
    let (a, b) = (pack("a", &[1, 2, 3]), pack("b", &[1]));
    let files = vec![(Id::of(b"i"), vec![a.clone()]), (Id::of(b"j"), vec![b.clone()])];
    let plan = plan(files, &sizes(&[&a, &b]), &used(&[1, 2, 3]), 5.0).unwrap();
    assert_eq!((plan.delete, plan.obsolete_index), (vec![b.id], vec![Id::of(b"j")]));
}

#[test]
fn nothing_is_planned_over_missing_data() {
    let (a, b) = (pack("a", &[1]), pack("b", &[2]));
    let files = vec![(Id::of(b"i"), vec![a.clone(), b.clone()])];
    let attempt = |sizes: PackSizes, names: &[u8]| plan(files.clone(), &sizes, &used(names), 5.0);
    assert!(matches!(attempt(sizes(&[&a]), &[1, 2]), Err(Error::MissingPack { .. })));
    assert!(matches!(attempt(sizes(&[&a, &b]), &[3]), Err(Error::MissingBlob { .. })));
    let mut short = sizes(&[&a, &b]);
    short.insert(b.id, 5);
    assert!(matches!(attempt(short, &[2]), Err(Error::MissingPack { .. })));
    // An unused pack may be missing: it only leaves the index.
    let fine = attempt(sizes(&[&a]), &[1]).unwrap();
    assert_eq!((fine.delete, fine.relist), (vec![], vec![a.clone()]));
}

proptest! {
    #[test]
    fn whatever_is_used_survives(
        contents in proptest::collection::vec(proptest::collection::vec(0_u8..60, 1..8), 1..20),
        split in 1_usize..5,
        pick in proptest::collection::vec(any::<prop::sample::Index>(), 0..40),
        percent in 0.0_f64..50.0,
    ) {
        let packs: Vec<_> =
            contents.iter().enumerate().map(|(i, c)| pack(&i.to_string(), c)).collect();
        let existing: Vec<u8> = contents.concat();
        let names: Vec<u8> = pick.iter().map(|index| existing[index.index(existing.len())]).collect();
        let used = used(&names);
        let files: Vec<_> = packs
            .chunks(split)
            .enumerate()
            .map(|(i, chunk)| (Id::of(&i.to_le_bytes()), chunk.to_vec()))
            .collect();
        let sizes = sizes(&packs.iter().collect::<Vec<_>>());
        let plan = plan(files.clone(), &sizes, &used, percent).unwrap();

        // Afterwards: the index files that stay, what is listed again, what was copied.
        let obsolete: HashSet<Id> = plan.obsolete_index.iter().copied().collect();
        let deleted: HashSet<Id> = plan.delete.iter().copied().collect();
        let stay = files.iter().filter(|(id, _)| !obsolete.contains(id)).flat_map(|(_, p)| p);
        let mut found: HashSet<Id> = HashSet::new();
        for listed in stay.chain(&plan.relist) {
            prop_assert!(!deleted.contains(&listed.id), "an index lists a deleted pack");
            found.extend(listed.blobs.iter().map(|blob| blob.id));
        }
        for copied in &plan.repack {
            prop_assert!(deleted.contains(&copied.id));
            found.extend(copied.blobs.iter().map(|blob| blob.id));
        }
        prop_assert!(used.data.is_subset(&found));
        let used_bytes = used.data.len() as u64 * 1000;
        prop_assert!(plan.summary.bytes_unused <= allowance(used_bytes, percent));
    }
}
