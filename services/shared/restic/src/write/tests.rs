//! The promises that the compiler can keep, and what becomes of an index that goes before the commit.

use super::*;
use crate::{
    FileReader, InitOptions, Kdf, OpenOptions, Password, ReadOptions, SnapshotFilter, Store, check,
};
use bytes::Bytes;
use object_store::memory::InMemory;

fn is_send<T: Send>(_: &T) {}
fn is_shared<T: Send + Sync + Clone + 'static>() {}

#[test]
fn handles_and_futures_travel_between_threads() {
    is_shared::<Repository>();
    is_shared::<Store>();
    fn futures(repository: &Repository, mut writer: SnapshotWriter, snapshot: &Snapshot) {
        is_send(&repository.backup(BackupOptions::default()));
        is_send(&repository.read(snapshot, "/x", ReadOptions::default()));
        is_send(&repository.prune(&crate::prune::Options::default()));
        is_send(&repository.check(&crate::check::Options::default()));
        is_send(&repository.stats());
        is_send(&repository.clone().wipe());
        if let Ok(mut file) = writer.file("/x") {
            is_send(&file.write(bytes::Bytes::new()));
            is_send(&file.finish());
        }
        is_send(&writer.commit());
    }
    let _ = futures;
    fn readers<T: Send>() {}
    readers::<FileReader>();
}

#[tokio::test]
async fn an_index_that_others_took_away_is_written_again_before_the_commit() {
    let store = Store::new(Arc::new(InMemory::new()), "memory");
    let init = InitOptions { kdf: Kdf { log_n: 4, r: 8, p: 1 }, ..InitOptions::default() };
    let options = OpenOptions { lock_reads: false, ..OpenOptions::default() };
    let password = Password::new("x");
    let repository = Repository::init(store.clone(), &password, &init, options.clone());
    let repository = repository.await.unwrap();
    let mut writer = repository.backup(BackupOptions::default()).await.unwrap();
    let mut file = writer.file("/a").unwrap();
    file.write(Bytes::from_static(b"some content")).await.unwrap();
    file.finish().await.unwrap();

    // As `commit` does, up to where it finds that the lock was removed.
    let session = Arc::clone(&writer.session);
    let files = std::mem::take(&mut session.state.lock().files);
    let (tree, dirs) = session.save_trees(files).await.unwrap();
    let written = session.packer.finish().await.unwrap();
    for (index, packs) in &written {
        repository.inner.index.add_file(*index, packs);
        store.delete(&FileKind::Index.name(index)).await.unwrap();
    }
    let snapshot = session.snapshot(tree, vec!["/a".into()], session.summary(1, dirs));
    session.confirm(&snapshot, &written).await.unwrap();
    session.save_snapshot(&snapshot.encode().unwrap()).await.unwrap();
    writer.abort().await;

    let opened = Repository::open(store, &password, options).await.unwrap();
    let deep = check::Options { read_data: true, ..check::Options::default() };
    let report = opened.check(&deep).await.unwrap();
    assert!(report.is_ok() && report.notes.is_empty(), "{report:?}");
    let found = opened.snapshots_with_files(&SnapshotFilter::default()).await.unwrap();
    assert_eq!(found[0].1[0].size, 12);
}
