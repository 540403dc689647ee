//! Index files as other programs may leave them: a pack that several of them list in parts.

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::memory::InMemory;

use super::*;
use crate::catalog;
use crate::index_file;
use crate::pack::IndexedPack;
use crate::progress::Observer;
use crate::{
    BackupOptions, InitOptions, Kdf, OpenOptions, Password, ReadOptions, SnapshotFilter, Store,
    check,
};

fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..length / 8).flat_map(|_| next()).collect()
}

async fn backup(repository: &Repository, content: &[u8]) -> Id {
    let mut snapshot = repository.backup(BackupOptions::default()).await.unwrap();
    let mut file = snapshot.file("/dump").unwrap();
    file.write(Bytes::copy_from_slice(content)).await.unwrap();
    file.finish().await.unwrap();
    snapshot.commit().await.unwrap().snapshot
}

/// Replaces all index files by two, each of which lists every other blob of every pack.
async fn part_the_index(repository: &Repository) {
    let inner = &repository.inner;
    let mut parts: [Vec<IndexedPack>; 2] = [Vec::new(), Vec::new()];
    for (file, _) in inner.vault.store.list(FileKind::Index).await.unwrap() {
        for pack in catalog::load_file(inner, file).await.unwrap() {
            for (number, part) in parts.iter_mut().enumerate() {
                let every_other = pack.blobs.iter().skip(number).step_by(2).copied();
                part.push(IndexedPack { id: pack.id, blobs: every_other.collect() });
            }
        }
        inner.vault.store.delete(&FileKind::Index.name(&file)).await.unwrap();
    }
    for part in parts {
        inner.vault.save(FileKind::Index, &index_file::encode(&part).unwrap()).await.unwrap();
    }
}

async fn prune_with_a_parted_index(forgotten: usize) {
    let store = Arc::new(InMemory::new());
    let init = InitOptions { kdf: Kdf { log_n: 4, r: 8, p: 1 }, ..InitOptions::default() };
    let store = Store::new(store, "memory");
    let options = OpenOptions::default();
    let repository = Repository::init(store, &Password::new("x"), &init, options).await.unwrap();
    let common = noise(1, 4_000_000);
    let contents = [
        [common.clone(), noise(2, 3_000_000)].concat(),
        [common, noise(3, 3_000_000)].concat(),
        noise(4, 3_000_000),
    ];
    let mut ids = Vec::new();
    for content in &contents {
        ids.push(backup(&repository, content).await);
    }
    part_the_index(&repository).await;
    repository.delete_snapshots(&[ids[forgotten]], &Observer::default()).await.unwrap();
    let options = Options { max_unused: MaxUnused::Bytes(0), ..Options::default() };
    let summary = repository.prune(&options).await.unwrap();
    assert!(summary.packs_deleted + summary.packs_repacked > 0, "{summary:?}");
    let deep = check::Options { read_data: true, ..check::Options::default() };
    let report = repository.check(&deep).await.unwrap();
    assert!(report.is_ok(), "{:?}", report.problems);
    for snapshot in repository.snapshots(&SnapshotFilter::default()).await.unwrap() {
        let number = ids.iter().position(|id| *id == snapshot.id).unwrap();
        let reader = repository.read(&snapshot, "/dump", ReadOptions::default()).await.unwrap();
        let pieces: Vec<Bytes> = reader.try_collect().await.unwrap();
        assert!(pieces.concat() == contents[number], "snapshot {number} differs");
    }
}

#[tokio::test]
async fn a_pack_listed_in_parts_is_repacked_whole() {
    prune_with_a_parted_index(0).await;
}

#[tokio::test]
async fn a_pack_listed_in_parts_stays_whole() {
    prune_with_a_parted_index(2).await;
}
