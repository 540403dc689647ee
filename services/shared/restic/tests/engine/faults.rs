//! What goes wrong, and what is said and left behind then.

use crate::support::faulty::Faulty;
use crate::support::{Place, backup, data, everyone, latest, options, read, snapshot};
use bytes::Bytes;
use coffer_restic::{
    BackupOptions, Error, InitOptions, Kdf, Kind, Observer, Password, ReadOptions, Repository,
    SnapshotRef, Store, UnlockScope, Version, check, prune,
};
use object_store::ObjectStore;
use object_store::memory::InMemory;
use object_store::path::Path;
use std::sync::Arc;

#[tokio::test]
async fn no_repository_wrong_password_and_initialising_over() {
    let place = Place::new();
    let open = async |password: &str| {
        Repository::open(place.store(), &Password::new(password), options()).await
    };
    let error = open(crate::support::PASSWORD).await.unwrap_err();
    assert_eq!(error.kind(), Kind::NoRepository, "{error}");
    place.init(Version::V2).await;
    let error = open("wrong").await.unwrap_err();
    assert!(matches!(error, Error::WrongPassword { keys: 1, .. }), "{error}");

    let init = async |password: &str| {
        let init = InitOptions::default();
        Repository::init(place.store(), &Password::new(password), &init, options()).await
    };
    let error = init(crate::support::PASSWORD).await.unwrap_err();
    assert!(matches!(error, Error::AlreadyInitialised { .. }), "{error}");
    // A lost config must not be taken for an empty place while a key is there that is not ours.
    let config = std::fs::read(place.path().join("config")).unwrap();
    std::fs::remove_file(place.path().join("config")).unwrap();
    let error = init("x").await.unwrap_err();
    assert!(error.to_string().contains("the password does not open that key"), "{error}");
    assert_eq!(place.files("").len(), 1);
    std::fs::write(place.path().join("config"), &config[..20]).unwrap();
    let error = open(crate::support::PASSWORD).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Corrupt, "{error}");
}

#[tokio::test]
async fn a_key_that_was_removed_meanwhile_keeps_out_only_who_needs_it() {
    let memory = Arc::new(InMemory::new());
    let store = |faulty: Faulty| Store::new(Arc::new(faulty), "memory");
    let (first, second) = (Password::new("first"), Password::new("second"));
    let kdf = Kdf { log_n: 10, r: 8, p: 1 };
    let init = InitOptions { version: Version::V2, kdf };
    let whole = Store::new(Arc::clone(&memory) as Arc<dyn ObjectStore>, "memory");
    let repository = Repository::init(whole, &first, &init, options()).await.unwrap();
    repository.add_key(&second, kdf, "laptop", "alice").await.unwrap();
    for key in repository.keys().await.unwrap() {
        let name = format!("keys/{}", key.id);
        let removed =
            || store(Faulty::copy(&memory, &memory, None).without(Path::from(name.as_str())));
        let (its, other) = if key.current { (&first, &second) } else { (&second, &first) };
        Repository::open(removed(), other, options()).await.unwrap();
        let error = Repository::open(removed(), its, options()).await.unwrap_err();
        assert!(error.to_string().contains(&name), "{error}");
        assert_eq!(error.kind(), Kind::NotFound, "{error}");
    }
}

#[tokio::test]
async fn restic_accepts_our_key_and_refuses_a_wrong_password() {
    let place = Place::new();
    place.init(Version::V2).await;
    place.run(&["cat", "config"]).await;
    let mut wrong = place.restic(["cat", "config"]);
    assert!(!wrong.env("RESTIC_PASSWORD", "wrong").output().unwrap().status.success());
    // Every key is tried, also those restic adds.
    let file = place.path().join("new-password");
    std::fs::write(&file, "second").unwrap();
    place.run(&["key", "add", "--new-password-file", file.to_str().unwrap()]).await;
    for password in [crate::support::PASSWORD, "second"] {
        Repository::open(place.store(), &Password::new(password), options()).await.unwrap();
    }
}

#[tokio::test]
async fn a_file_in_place_of_the_directory_is_no_missing_repository() {
    let place = Place::new();
    let file = place.path().join("file");
    std::fs::write(&file, b"").unwrap();
    let error = match Store::local(&file) {
        Err(error) => error,
        Ok(store) => Repository::open(store, &Password::new("x"), options()).await.unwrap_err(),
    };
    assert_ne!(error.kind(), Kind::NoRepository, "{}", error.chain());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_backup_leaves_no_snapshot_and_a_sound_repository() {
    let place = Place::new();
    let repository = place.init(Version::V2).await;
    let content = data(1, 40_000_000);
    backup(&repository, BackupOptions::default(), &[("/dump.rdb", b"complete")]).await.unwrap();
    let complete = latest(&repository).await;

    // Dropped in the middle of the stream.
    let mut snapshot = repository.backup(BackupOptions::default()).await.unwrap();
    let mut file = snapshot.file("/dump.rdb").unwrap();
    file.write(Bytes::from(content.clone())).await.unwrap();
    drop(snapshot);
    let error = file.write(Bytes::from_static(b"more")).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Cancelled, "{error}");
    assert!(file.finish().await.is_err());

    // Aborted.
    let mut snapshot = repository.backup(BackupOptions::default()).await.unwrap();
    let mut file = snapshot.file("/dump.rdb").unwrap();
    file.write(Bytes::from(content)).await.unwrap();
    snapshot.abort().await;
    assert!(file.finish().await.is_err());

    // Committed with a file that is not finished, or with none at all.
    let mut snapshot = repository.backup(BackupOptions::default()).await.unwrap();
    let unfinished = snapshot.file("/dump.rdb").unwrap();
    let error = snapshot.commit().await.unwrap_err();
    assert!(error.to_string().contains("/dump.rdb: is not finished"), "{error}");
    drop(unfinished);
    let empty = repository.backup(BackupOptions::default()).await.unwrap();
    assert_eq!(empty.commit().await.unwrap_err().kind(), Kind::Invalid);

    crate::support::until("the locks to go", || place.files("locks").is_empty()).await;
    assert_eq!(latest(&repository).await, complete);
    assert_eq!(repository.snapshots(&everyone()).await.unwrap().len(), 1);
    place.restic_check().await;
    let report = repository.check(&check::Options::default()).await.unwrap();
    assert!(report.is_ok(), "{report:?}");
    repository.prune(&prune::Options::default()).await.unwrap();
    let report = repository
        .check(&check::Options { read_data: true, ..check::Options::default() })
        .await
        .unwrap();
    assert!(report.is_ok() && report.notes.is_empty(), "{report:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_fails_in_mid_stream_fails_the_backup() {
    let place = Place::new();
    let repository = place.init(Version::V2).await;
    let mut snapshot = repository.backup(BackupOptions::default()).await.unwrap();
    let mut file = snapshot.file("/dump.rdb").unwrap();
    // A file where the folder of packs should be.
    let folder = place.path().join("data");
    if folder.exists() {
        std::fs::remove_dir_all(&folder).unwrap();
    }
    std::fs::write(&folder, b"").unwrap();
    let noise: Vec<u8> = (0..40).flat_map(|seed| data(seed, 700_000)).collect();
    let mut failure = None;
    for piece in noise.chunks(1 << 20) {
        if let Err(error) = file.write(Bytes::copy_from_slice(piece)).await {
            failure = Some(error);
            break;
        }
    }
    let failure = match failure {
        Some(error) => error,
        None => match file.finish().await {
            Err(error) => error,
            Ok(_) => snapshot.commit().await.unwrap_err(),
        },
    };
    assert!(failure.chain().contains("data/"), "{}", failure.chain());
    assert_eq!(repository.snapshots(&everyone()).await.unwrap(), []);
}

/// Chunks of a file are stored by whoever has the lane: none may wait for one that has failed, nor hide why. Who is first to
/// tell is a matter of chance, hence the rounds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_beside_each_other_fail_of_the_same_cause() {
    for _ in 0..20 {
        let place = Place::new();
        let repository = place.init(Version::V2).await;
        let mut snapshot = repository.backup(BackupOptions::default()).await.unwrap();
        std::fs::remove_dir_all(place.path().join("data")).unwrap_or_default();
        std::fs::write(place.path().join("data"), b"").unwrap();
        let writers = (0..4_u64).map(|number| {
            let mut file = snapshot.file(&format!("/dump-{number}.rdb")).unwrap();
            tokio::spawn(async move {
                for seed in 0..40 {
                    file.write(Bytes::from(data(100 * number + seed, 700_000))).await?;
                }
                file.finish().await
            })
        });
        let writers: Vec<_> = writers.collect();
        for writer in writers {
            let error = writer.await.unwrap().unwrap_err();
            assert!(error.chain().contains("data/"), "{}", error.chain());
        }
        let error = snapshot.commit().await.unwrap_err();
        assert!(error.chain().contains("data/"), "{}", error.chain());
        assert_eq!(repository.snapshots(&everyone()).await.unwrap(), []);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_whose_lock_was_removed_proves_its_packs_or_fails() {
    let place = Place::new();
    let repository = place.init(Version::V2).await;
    let content = data(2, 5_000_000);
    backup(&repository, BackupOptions::default(), &[("/a", &content)]).await.unwrap();
    let packs = place.files("data");
    let pack = packs.iter().max_by_key(|pack| pack.metadata().unwrap().len()).unwrap();

    // Removed, but nothing is missing: committed.
    let mut snapshot = repository.backup(BackupOptions::default()).await.unwrap();
    assert_eq!(repository.unlock(UnlockScope::All).await.unwrap(), 1);
    let mut file = snapshot.file("/a").unwrap();
    file.write(Bytes::from(content.clone())).await.unwrap();
    file.finish().await.unwrap();
    snapshot.commit().await.unwrap();
    place.restic_check().await;

    // Removed, and with it a pack we rely on or what lists it, as a prune does to its end or half way: refused.
    let index = place.files("index");
    for gone in [index, vec![pack.clone()]] {
        let mut snapshot = repository.backup(BackupOptions::default()).await.unwrap();
        place.run(&["unlock", "--remove-all"]).await;
        let mut file = snapshot.file("/a").unwrap();
        file.write(Bytes::from(content.clone())).await.unwrap();
        file.finish().await.unwrap();
        let kept: Vec<_> = gone.iter().map(|file| std::fs::read(file).unwrap()).collect();
        gone.iter().for_each(|file| std::fs::remove_file(file).unwrap());
        let error = snapshot.commit().await.unwrap_err();
        if gone[0] == *pack {
            assert!(matches!(error, Error::MissingPack { .. }), "{error}");
        } else {
            assert!(matches!(error, Error::MissingBlob { .. }), "{error}");
        }
        assert!(error.to_string().contains("the new snapshot"), "{error}");
        gone.iter().zip(kept).for_each(|(file, content)| std::fs::write(file, content).unwrap());
        assert_eq!(repository.snapshots(&everyone()).await.unwrap().len(), 2);
        place.restic_check().await;
    }
}

/// Flips a byte in the middle of a file.
fn damage(file: &std::path::Path) {
    let mut content = std::fs::read(file).unwrap();
    let middle = content.len() / 2;
    content[middle] ^= 0x40;
    let mut permissions = std::fs::metadata(file).unwrap().permissions();
    #[allow(clippy::permissions_set_readonly_false, reason = "a temporary file")]
    permissions.set_readonly(false);
    std::fs::set_permissions(file, permissions).unwrap();
    std::fs::write(file, content).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_is_found_and_named_and_never_read_out() {
    let place = Place::new();
    let repository = place.init(Version::V2).await;
    let content = data(3, 6_000_000);
    backup(&repository, BackupOptions::default(), &[("/a", &content)]).await.unwrap();
    let snapshot = latest(&repository).await;
    let quick = check::Options::default();
    let deep = check::Options { read_data: true, ..check::Options::default() };
    let largest =
        place.files("data").into_iter().max_by_key(|f| f.metadata().unwrap().len()).unwrap();
    let name = largest.file_name().unwrap().to_str().unwrap().to_owned();

    damage(&largest);
    assert!(repository.check(&quick).await.unwrap().is_ok(), "the structure is whole");
    let report = repository.check(&deep).await.unwrap();
    assert!(report.problems.len() >= 2, "pack and blob: {report:?}");
    assert!(report.problems.iter().all(|p| p.file.contains(&name)), "{report:?}");
    let error = read(&repository, &snapshot, "/a", ReadOptions::default()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Corrupt);
    assert!(error.to_string().contains(&name), "{error}");

    std::fs::remove_file(&largest).unwrap();
    let report = repository.check(&quick).await.unwrap();
    assert!(report.problems.iter().any(|p| p.problem.contains("missing")), "{report:?}");
    let error = read(&repository, &snapshot, "/a", ReadOptions::default()).await.unwrap_err();
    assert!(matches!(error, Error::MissingPack { .. }), "{error}");
    let before = (place.files("data"), place.files("index"));
    let error = repository.prune(&prune::Options::default()).await.unwrap_err();
    assert!(matches!(error, Error::MissingPack { .. }), "{error}");
    assert_eq!(before, (place.files("data"), place.files("index")), "nothing was touched");

    let index = place.files("index").remove(0);
    damage(&index);
    let report = place.open().await.check(&quick).await.unwrap();
    assert!(report.problems.iter().any(|p| p.file.starts_with("index/")), "{report:?}");
    assert_eq!(
        place.open().await.prune(&prune::Options::default()).await.unwrap_err().kind(),
        Kind::Corrupt
    );
    damage(&place.files("snapshots")[0]);
    let report = repository.check(&quick).await.unwrap();
    assert!(report.problems.iter().any(|p| p.file.starts_with("snapshots/")), "{report:?}");
    assert_eq!(repository.snapshots(&everyone()).await.unwrap_err().kind(), Kind::Corrupt);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn missing_snapshots_and_files_are_named() {
    let place = Place::new();
    let repository = place.init(Version::V2).await;
    let error = snapshot(&repository, &SnapshotRef::Latest).await.unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound);
    backup(&repository, BackupOptions::default(), &[("/a", b"1")]).await.unwrap();
    let snapshot = latest(&repository).await;
    let error = read(&repository, &snapshot, "/b", ReadOptions::default()).await.unwrap_err();
    assert!(error.to_string().ends_with("has no file /b; it has /a"), "{error}");
    let absent = coffer_restic::Id::of(b"absent");
    let error = repository
        .delete_snapshots(&[snapshot.id, absent], &Observer::default())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound);
    assert_eq!(repository.snapshots(&everyone()).await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wiping_takes_the_repository_and_nothing_else() {
    let place = Place::new();
    let repository = place.init(Version::V2).await;
    backup(&repository, BackupOptions::default(), &[("/a", b"1")]).await.unwrap();
    std::fs::write(place.path().join("neighbour"), b"stays").unwrap();
    let deleted = repository.wipe().await.unwrap();
    assert!(deleted >= 5, "{deleted}");
    assert_eq!(place.files(""), [place.path().join("neighbour")]);
    place.init(Version::V2).await;
}
