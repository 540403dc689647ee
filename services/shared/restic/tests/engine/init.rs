//! Beginnings: killed half way, two at once, on stores that can create an object only once and on those that cannot.

use std::sync::Arc;

use crate::support::faulty::{Fault, Faulty, Lack};
use crate::support::{PASSWORD, Place, backup, latest, options, read};
use coffer_restic::{
    BackupOptions, Error, InitOptions, Kdf, Kind, Password, ReadOptions, Repository, Store,
};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};

fn cheap() -> InitOptions {
    InitOptions { kdf: Kdf { log_n: 4, r: 8, p: 1 }, ..InitOptions::default() }
}

async fn init(objects: &Arc<dyn ObjectStore>, password: &str) -> Result<Repository, Error> {
    let store = Store::new(Arc::clone(objects), "memory");
    Repository::init(store, &Password::new(password), &cheap(), options()).await
}

async fn open(objects: &Arc<dyn ObjectStore>) -> Repository {
    let store = Store::new(Arc::clone(objects), "memory");
    Repository::open(store, &Password::new(PASSWORD), options()).await.unwrap()
}

#[tokio::test]
async fn an_init_killed_between_key_and_config_is_completed_by_the_next() {
    let place = Place::new();
    place.init(coffer_restic::Version::V2).await;
    std::fs::remove_file(place.path().join("config")).unwrap();
    let password = Password::new(PASSWORD);
    let key = place.files("keys");
    let made = Repository::init(place.store(), &password, &cheap(), options()).await.unwrap();
    backup(&made, BackupOptions::default(), &[("/a", b"1")]).await.unwrap();
    assert_eq!(place.files("keys"), key, "the key that was there is the repository's");
    place.restic_check().await;
}

#[tokio::test]
async fn nothing_is_initialised_over_and_nothing_is_written_beside_it() {
    for found in ["data/ab/notes.txt", "index/x", "snapshots/x", "locks/x", "keys/readme"] {
        let objects: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        objects.put(&Path::from(found), "foreign".into()).await.unwrap();
        let error = init(&objects, PASSWORD).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Corrupt, "{error}");
        assert!(error.to_string().contains(found), "{error}");
        let listed: Vec<_> = futures::TryStreamExt::try_collect(objects.list(None)).await.unwrap();
        assert_eq!(listed.len(), 1, "{found}: {listed:?}");
    }
    // What is not of a repository's layout is no concern of ours.
    let objects: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    objects.put(&Path::from("lost+found/x"), "foreign".into()).await.unwrap();
    init(&objects, PASSWORD).await.unwrap();
}

async fn two_at_once(objects: Arc<dyn ObjectStore>) {
    let (one, two) = tokio::join!(init(&objects, PASSWORD), init(&objects, PASSWORD));
    assert!(one.is_ok() || two.is_ok(), "{one:?} {two:?}");
    // Whoever was told that it made the repository can be relied upon: what it writes, everybody reads.
    let mut made = 0;
    for repository in [one, two] {
        match repository {
            Ok(repository) => {
                made += 1;
                backup(&repository, BackupOptions::default(), &[("/a", b"mine")]).await.unwrap();
                let opened = open(&objects).await;
                let snapshot = latest(&opened).await;
                let content = read(&opened, &snapshot, "/a", ReadOptions::default()).await.unwrap();
                assert_eq!(content, b"mine");
            }
            Err(error) => assert!(matches!(error, Error::AlreadyInitialised { .. }), "{error}"),
        }
    }
    let snapshots = open(&objects).await.snapshots(&crate::support::everyone()).await.unwrap();
    assert_eq!(snapshots.len(), made);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_inits_at_once_end_with_one_key() {
    let many = (0..4).map(|n| async move {
        let memory = Arc::new(InMemory::new());
        if n % 2 == 0 {
            two_at_once(memory).await;
        } else {
            two_at_once(Arc::new(Faulty::lacking(&memory, Lack::Create))).await;
        }
    });
    futures::future::join_all(many).await;
}

#[tokio::test]
async fn a_store_that_fails_at_any_step_of_an_init_leaves_a_place_for_the_next() {
    for failing in 0.. {
        let memory = Arc::new(InMemory::new());
        let faulty = Arc::new(Faulty::writing(&memory, failing, Fault::AnswerLost, false));
        let first = init(&(Arc::clone(&faulty) as Arc<dyn ObjectStore>), PASSWORD).await;
        let sound: Arc<dyn ObjectStore> = memory;
        match init(&sound, PASSWORD).await {
            Ok(_) => assert!(first.is_err()),
            Err(error) => assert!(matches!(error, Error::AlreadyInitialised { .. }), "{error}"),
        }
        let opened = open(&sound).await;
        backup(&opened, BackupOptions::default(), &[("/a", b"1")]).await.unwrap();
        if faulty.victim().is_none() {
            assert!(failing >= 2, "a key and a config are written");
            break;
        }
    }
}
