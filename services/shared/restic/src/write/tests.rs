//! The promises that the compiler can keep, and commits that cannot be had from outside.

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

/// A snapshot of one file, all but committed.
async fn written() -> (Store, Repository, SnapshotWriter) {
    let store = Store::new(Arc::new(InMemory::new()), "memory");
    let init = InitOptions { kdf: Kdf { log_n: 4, r: 8, p: 1 }, ..InitOptions::default() };
    let (password, options) = (Password::new("x"), OpenOptions::default());
    let repository = Repository::init(store.clone(), &password, &init, options).await.unwrap();
    let mut writer = repository.backup(BackupOptions::default()).await.unwrap();
    let mut file = writer.file("/a").unwrap();
    file.write(Bytes::from_static(b"some content")).await.unwrap();
    file.finish().await.unwrap();
    (store, repository, writer)
}

#[tokio::test]
async fn a_file_that_changed_while_it_was_read_is_told_and_read_as_it_was_backed_up() {
    let (_, repository, writer) = written().await;
    if let Some(Some(file)) = writer.session.state.lock().files.get_mut("/a") {
        file.size += 1;
    }
    writer.commit().await.unwrap();
    let report = repository.check(&check::Options::default()).await.unwrap();
    assert!(report.is_ok(), "{report:?}");
    assert!(report.notes[0].problem.contains("13 bytes, and 12 were backed up"), "{report:?}");
    let snapshot = repository.snapshots(&SnapshotFilter::default()).await.unwrap().remove(0);
    let held = repository.hold(&snapshot).await.unwrap();
    assert_eq!((held.files()[0].size, held.file("/a").unwrap().size), (13, 12));
    let read = held.read("/a", ReadOptions::default()).unwrap();
    assert_eq!(read.len(), 12);
    let read: Vec<Bytes> = futures::TryStreamExt::try_collect(read).await.unwrap();
    assert_eq!(read.concat(), b"some content");
}

#[tokio::test]
async fn an_index_that_others_took_away_is_written_again_before_the_commit() {
    let (store, repository, writer) = written().await;

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

    let (password, options) = (Password::new("x"), OpenOptions::default());
    let opened = Repository::open(store, &password, options).await.unwrap();
    let deep = check::Options { read_data: true, ..check::Options::default() };
    let report = opened.check(&deep).await.unwrap();
    assert!(report.is_ok() && report.notes.is_empty(), "{report:?}");
    let found = opened.snapshots_with_files(&SnapshotFilter::default()).await.unwrap();
    assert_eq!(found[0].1[0].size, 12);
}
