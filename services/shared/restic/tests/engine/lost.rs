//! Repositories that go away, or whose config is lied about, while somebody works.

use std::sync::Arc;

use crate::support::faulty::{Fault, Faulty};
use crate::support::{PASSWORD, backup, data, everyone, latest, options, read};
use bytes::Bytes;
use coffer_restic::{
    BackupOptions, Error, InitOptions, Kdf, Kind, Observer, OpenOptions, Password, ReadOptions,
    Repository, Store, Version,
};
use futures::TryStreamExt;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};

async fn init(objects: &Arc<InMemory>, version: Version) -> Repository {
    let init = InitOptions { version, kdf: Kdf { log_n: 4, r: 8, p: 1 } };
    let store = Store::new(objects.clone(), "memory");
    Repository::init(store, &Password::new(PASSWORD), &init, options()).await.unwrap()
}

async fn open(store: impl ObjectStore, options: OpenOptions) -> coffer_restic::Result<Repository> {
    let store = Store::new(Arc::new(store), "memory");
    Repository::open(store, &Password::new(PASSWORD), options).await
}

async fn list(objects: &InMemory, folder: &str) -> Vec<Path> {
    objects.list(Some(&Path::from(folder))).map_ok(|m| m.location).try_collect().await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_does_not_commit_into_what_a_deleted_repository_has_left() {
    for replaced in [false, true] {
        let objects = Arc::new(InMemory::new());
        let repository = init(&objects, Version::V2).await;
        let mut snapshot = repository.backup(BackupOptions::default()).await.unwrap();
        let mut file = snapshot.file("/a").unwrap();
        file.write(Bytes::from_static(b"1")).await.unwrap();
        file.finish().await.unwrap();
        for gone in [list(&objects, "keys").await, vec![Path::from("config")]].concat() {
            objects.delete(&gone).await.unwrap();
        }
        if replaced {
            let others = Arc::new(InMemory::new());
            init(&others, Version::V2).await;
            let config = others.get(&Path::from("config")).await.unwrap().bytes().await.unwrap();
            objects.put(&Path::from("config"), config.into()).await.unwrap();
        }
        let error = snapshot.commit().await.unwrap_err();
        let expected = if replaced { Kind::Invalid } else { Kind::NoRepository };
        assert_eq!(error.kind(), expected, "{error}");
        assert_eq!(list(&objects, "snapshots").await, []);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repository_that_lost_its_config_is_not_taken_for_none() {
    let objects = Arc::new(InMemory::new());
    let repository = init(&objects, Version::V2).await;
    backup(&repository, BackupOptions::default(), &[("/a", b"1")]).await.unwrap();
    objects.delete(&Path::from("config")).await.unwrap();
    for folder in ["snapshots", "index", "data"] {
        let error = open(objects.clone(), options()).await.unwrap_err();
        assert!(matches!(error, Error::Remains { .. }), "{error}");
        let said = error.to_string();
        assert!(said.contains(&format!("holds {folder}/")) && said.contains("no config"), "{said}");
        for gone in list(&objects, folder).await {
            objects.delete(&gone).await.unwrap();
        }
    }
    // A key alone is what an init leaves that was killed, and what the next one begins with.
    assert_eq!(list(&objects, "keys").await.len(), 1);
    let error = open(objects.clone(), options()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::NoRepository, "{error}");
    init(&objects, Version::V2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wiping_keeps_everybody_out_until_there_is_no_repository_any_more() {
    let objects = Arc::new(InMemory::new());
    let repository = init(&objects, Version::V2).await;
    backup(&repository, BackupOptions::default(), &[("/a", b"1")]).await.unwrap();
    let nothing = InMemory::new();
    let mut begun = false;
    for at in 0.. {
        let store = Faulty::copy(&objects, &nothing, Some((at, Fault::Cut)));
        let Ok(repository) = open(store.clone(), options()).await else { continue };
        if repository.wipe().await.is_ok() {
            break;
        }
        let left = store.content();
        let missing = list(&left, "snapshots").await.is_empty();
        let config = left.head(&Path::from("config")).await.is_ok();
        let locked = !list(&left, "locks").await.is_empty();
        assert!(locked || !missing || !config, "cut at {at}: somebody could have come in");
        begun |= missing && config;
    }
    assert!(begun, "no cut came in the midst of it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_a_store_makes_of_a_new_config_the_old_one_is_there() {
    let objects = Arc::new(InMemory::new());
    init(&objects, Version::V1).await;
    let config = Path::from("config");
    let before = objects.get(&config).await.unwrap().bytes().await.unwrap();
    for lie in [Fault::Truncated, Fault::Flipped, Fault::Forgotten] {
        let mut seen = Vec::new();
        for at in 0.. {
            let now = Arc::new(objects.fork());
            let faulty = Faulty::writing(&now, at, lie, true);
            let migrated = open(faulty.clone(), options()).await.unwrap();
            let migrated = migrated.migrate(&Observer::default()).await;
            let Some(victim) = faulty.victim() else { break };
            let error = migrated.unwrap_err();
            if open(faulty, options()).await.is_err() {
                let kept = now.get(&Path::from("config-format-1")).await.unwrap();
                assert!(kept.bytes().await.unwrap() == before, "{lie:?} {victim}");
                assert!(error.to_string().contains("kept as config-format-1"), "{error}");
            }
            seen.push(victim);
        }
        assert_eq!(seen, ["config-format-1", "config"], "{lie:?}");

        // The new one is stored wrong each time, and the old one is not.
        let now = Arc::new(objects.fork());
        let faulty = Faulty::writing(&now, 1, lie, true).again(1);
        let repository = open(faulty.clone(), options()).await.unwrap();
        repository.migrate(&Observer::default()).await.unwrap_err();
        assert_eq!(faulty.victim().as_deref(), Some("config"));
        assert!(now.get(&config).await.unwrap().bytes().await.unwrap() == before, "{lie:?}");
        assert!(now.head(&Path::from("config-format-1")).await.is_err(), "{lie:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_blob_that_lies_in_two_packs_is_read_from_either() {
    let objects = Arc::new(InMemory::new());
    init(&objects, Version::V2).await;
    let content = data(1, 3_000_000);
    // Neither knows of the other's blobs.
    let backup = BackupOptions::default();
    let mut both = Vec::new();
    for _ in 0..2 {
        let repository = open(objects.clone(), options()).await.unwrap();
        both.push(repository.backup(backup.clone()).await.unwrap());
    }
    for mut snapshot in both {
        let mut file = snapshot.file("/a").unwrap();
        file.write(content.clone().into()).await.unwrap();
        file.finish().await.unwrap();
        snapshot.commit().await.unwrap();
    }
    let packs = list(&objects, "data").await;
    assert!(packs.len() >= 4, "data and trees, twice: {packs:?}");
    for pack in &packs {
        for cut in [false, true] {
            let damaged = objects.fork();
            if cut {
                damaged.put(pack, Bytes::from_static(b"short").into()).await.unwrap();
            } else {
                damaged.delete(pack).await.unwrap();
            }
            let damaged = open(damaged, options()).await.unwrap();
            let snapshot = latest(&damaged).await;
            let got = read(&damaged, &snapshot, "/a", ReadOptions::default()).await;
            assert!(got.unwrap() == content, "{pack} is damaged");
        }
    }
    for pack in &packs {
        objects.delete(pack).await.unwrap();
    }
    let nothing = open(objects.fork(), options()).await.unwrap();
    let snapshot = nothing.snapshots(&everyone()).await.unwrap().remove(0);
    let error = read(&nothing, &snapshot, "/a", ReadOptions::default()).await.unwrap_err();
    assert!(matches!(error, Error::MissingPack { .. }), "{error}");
}
