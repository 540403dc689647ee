//! Whatever is damaged, the deep check finds it: every kind of file, bits flipped all over it, cut anywhere, deleted.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::support::faulty::{Faulty, Lack};
use crate::support::{PASSWORD, Place, backup, data, everyone};
use bytes::Bytes;
use coffer_restic::{
    BackupOptions, Error, GroupBy, InitOptions, Kdf, KeepPolicy, Kind, Observer, OpenOptions,
    Password, Repository, Store, UnlockScope, check, prune,
};
use futures::{StreamExt, TryStreamExt, stream};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};

fn options(lock_reads: bool) -> OpenOptions {
    OpenOptions { lock_reads, lock_wait: Duration::ZERO, ..OpenOptions::default() }
}

fn deep() -> check::Options {
    check::Options { read_data: true, ..check::Options::default() }
}

async fn open(store: Arc<InMemory>) -> Repository {
    let store = Store::new(store, "memory");
    Repository::open(store, &Password::new(PASSWORD), options(false)).await.unwrap()
}

/// Three snapshots with folders, in several packs and index files, and the lock of somebody at work.
async fn repository() -> (Arc<InMemory>, Vec<(Path, Bytes)>) {
    let store = Arc::new(InMemory::new());
    let init = InitOptions { kdf: Kdf { log_n: 4, r: 8, p: 1 }, ..InitOptions::default() };
    let place = Store::new(store.clone(), "memory");
    let repository =
        Repository::init(place, &Password::new(PASSWORD), &init, options(false)).await.unwrap();
    for seed in 0..3 {
        let content = data(seed, 900_000);
        let files: [(&str, &[u8]); 2] = [("/a/dump.rdb", &content), ("/manifest.json", b"{}")];
        backup(&repository, BackupOptions::default(), &files).await.unwrap();
    }
    let at_work = repository.backup(BackupOptions::default()).await.unwrap();
    // As a killed process leaves it: the copy still has the lock.
    let store = Arc::new(store.fork());
    drop(at_work);
    let listed: Vec<_> = store.list(None).map_ok(|meta| meta.location).try_collect().await.unwrap();
    let mut files = Vec::new();
    for path in listed {
        let content = store.get(&path).await.unwrap().bytes().await.unwrap();
        files.push((path, content));
    }
    (store, files)
}

/// What is done to a file; `None` deletes it.
fn damages(content: &Bytes) -> Vec<(String, Option<Bytes>)> {
    let length = content.len();
    let mut damages = vec![("deleted".to_owned(), None)];
    let spread = (0..24).map(|i| i * length / 24);
    let ends = [1, 15, 16, 17, 31, 32].into_iter().flat_map(|at| [at, length.saturating_sub(at)]);
    let places: std::collections::BTreeSet<usize> =
        spread.chain(ends).filter(|at| *at < length).collect();
    for at in places {
        let mut flipped = content.to_vec();
        flipped[at] ^= 1 << (at % 8);
        damages.push((format!("bit {} of byte {at} flipped", at % 8), Some(flipped.into())));
        damages.push((format!("cut at {at}"), Some(content.slice(..at))));
    }
    let longer = [content, &b"x"[..]].concat();
    damages.push(("one byte longer".to_owned(), Some(longer.into())));
    damages
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_deep_check_finds_every_damage() {
    let (store, files) = repository().await;
    let sound = open(store.clone()).await.check(&deep()).await.unwrap();
    assert!(sound.is_ok() && sound.notes.is_empty(), "{sound:?}");

    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let cases: Vec<_> = files
        .iter()
        .flat_map(|(path, content)| {
            damages(content).into_iter().map(move |(what, damage)| (path.clone(), what, damage))
        })
        .collect();
    for (path, _, _) in &cases {
        *seen.entry(path.parts().next().unwrap().as_ref().to_owned()).or_default() += 1;
    }
    let kinds: Vec<&str> = seen.keys().map(String::as_str).collect();
    assert_eq!(kinds, ["config", "data", "index", "keys", "locks", "snapshots"], "{seen:?}");
    assert!(cases.len() > 500, "{seen:?}");

    stream::iter(cases)
        .for_each_concurrent(8, |(path, what, damage)| {
            let store = Arc::new(store.fork());
            async move {
                let repository = open(store.clone()).await;
                let deleted = damage.is_none();
                match damage {
                    Some(content) => drop(store.put(&path, content.into()).await.unwrap()),
                    None => store.delete(&path).await.unwrap(),
                }
                let report = repository.check(&deep()).await.unwrap();
                let kind = path.parts().next().unwrap();
                match kind.as_ref() {
                    // Its holder has released it, for all that anybody can know.
                    "locks" if deleted => assert!(report.is_ok(), "{path}: {report:?}"),
                    // What a forget leaves looks the same: it is told, but is no damage.
                    "snapshots" if deleted => {
                        let told = report.notes.iter().any(|n| n.problem.contains("snapshot file"));
                        assert!(told, "{path}: {report:?}");
                    }
                    // A crash leaves an empty lock: told, and no damage.
                    "locks" if report.is_ok() => {
                        assert!(report.notes.iter().any(|n| n.file == path.as_ref()), "{path}");
                    }
                    // The blobs that only it lists are missing; the file itself nobody knows of.
                    "index" if deleted => assert!(!report.is_ok(), "{path}"),
                    _ => {
                        let of = |problem: &&check::Problem| problem.file == path.as_ref();
                        let found: Vec<&check::Problem> =
                            report.problems.iter().filter(of).collect();
                        assert!(!found.is_empty(), "{path}, {what}: {report:?}");
                        let again = found.iter().any(|p| p.problem.contains(path.as_ref()));
                        assert!(!again, "{path}, {what}: {report:?}");
                        let empty = found.iter().any(|p| p.problem == "is empty");
                        let cut_off = what == "cut at 0" && kind.as_ref() != "data";
                        assert_eq!(empty, cut_off, "{path}, {what}: {report:?}");
                    }
                }
            }
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_check_whose_own_lock_is_removed_does_not_vouch_for_anything() {
    let place = Place::new();
    let repository = place.init(coffer_restic::Version::V2).await;
    backup(&repository, BackupOptions::default(), &[("/a", b"1")]).await.unwrap();
    let checking = tokio::spawn({
        let repository = repository.clone();
        async move { repository.check(&deep()).await }
    });
    // It waits a while after it wrote its lock, to see others' locks.
    crate::support::until("the check's lock", || !place.files("locks").is_empty()).await;
    for lock in place.files("locks") {
        std::fs::remove_file(lock).unwrap();
    }
    let error = checking.await.unwrap().unwrap_err();
    assert!(matches!(error, Error::LockLost { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_part_of_the_data_is_a_part_and_all_parts_are_the_whole() {
    let (store, files) = repository().await;
    let packs: u64 = files
        .iter()
        .filter(|(path, _)| path.as_ref().starts_with("data/"))
        .map(|(_, content)| content.len() as u64)
        .sum();
    let repository = open(store).await;
    let read = async |subset: &str| {
        let options = check::Options { subset: subset.parse().unwrap(), ..deep() };
        let report = repository.check(&options).await.unwrap();
        assert!(report.is_ok(), "{report:?}");
        report.bytes_read
    };
    let mut sum = 0;
    for part in 1..=3 {
        sum += read(&format!("{part}/3")).await;
    }
    assert_eq!((read("").await, sum), (packs, packs));
    let some = read("1%").await;
    assert!(some > 0 && some < packs, "{some} of {packs}");
    assert!(read("1").await < packs);
    assert_eq!(read("1T").await, packs);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_somebody_put_aside_is_told_and_in_nobodys_way() {
    let place = Place::new();
    let repository = place.init(coffer_restic::Version::V2).await;
    for content in [b"1", b"2"] {
        backup(&repository, BackupOptions::default(), &[("/a", content)]).await.unwrap();
    }
    let mut aside = Vec::new();
    for folder in ["index", "keys", "locks", "snapshots"] {
        let name = match place.files(folder).first() {
            Some(file) => file.file_name().unwrap().to_str().unwrap().to_owned(),
            None => coffer_restic::Id::of(b"a lock").to_string(),
        };
        let to = format!("{folder}/old/{name}");
        std::fs::create_dir(place.path().join(folder).join("old")).unwrap();
        std::fs::write(place.path().join(&to), b"").unwrap();
        aside.push((to, format!("{folder}/{name}")));
    }
    let (old, snapshot) = aside.last().unwrap();
    std::fs::rename(place.path().join(snapshot), place.path().join(old)).unwrap();
    // A key that comes first when they are tried.
    let first = format!("keys/old/{}", "0".repeat(64));
    std::fs::write(place.path().join(&first), b"").unwrap();

    let repository = place.open().await;
    let told = |report: &check::Report| {
        let names: Vec<String> = report.notes.iter().map(|note| note.file.clone()).collect();
        aside.iter().map(|(name, _)| name).chain([&first]).all(|name| names.contains(name))
    };
    let report = repository.check(&deep()).await.unwrap();
    assert!(report.is_ok() && told(&report), "{report:?}");
    assert_eq!(repository.snapshots(&everyone()).await.unwrap().len(), 1);
    backup(&repository, BackupOptions::default(), &[("/a", b"3")]).await.unwrap();
    repository.prune(&prune::Options::default()).await.unwrap();
    place.restic_check().await;
    let left = place.open().await.check(&deep()).await.unwrap();
    assert!(left.is_ok() && told(&left), "{left:?}");

    // A pack that is missed, and lies nearby.
    let pack = place.files("data").remove(0);
    let name = format!("data/zz/{}", pack.file_name().unwrap().to_str().unwrap());
    std::fs::create_dir(place.path().join("data/zz")).unwrap();
    std::fs::rename(&pack, place.path().join(&name)).unwrap();
    let report = repository.check(&check::Options::default()).await.unwrap();
    assert!(report.problems.iter().any(|p| p.problem.contains("missing")), "{report:?}");
    assert!(report.notes.iter().any(|note| note.file == name), "{report:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_that_is_listed_and_not_to_be_had_is_not_taken_for_deleted() {
    let (sound, _) = repository().await;
    let faulty = Faulty::lacking(&sound, Lack::Snapshots);
    let store = Store::new(Arc::new(faulty), "faulty");
    let lying = Repository::open(store, &Password::new(PASSWORD), options(false)).await.unwrap();
    lying.unlock(UnlockScope::All).await.unwrap();

    let report = lying.check(&deep()).await.unwrap();
    let lost = report.problems.iter().filter(|problem| problem.file.starts_with("snapshots/"));
    assert_eq!(lost.count(), 3, "{report:?}");
    never_less_than_all(&lying).await;

    // Its name, as a copying program may have changed it.
    let place = Place::new();
    let repository = place.init(coffer_restic::Version::V2).await;
    backup(&repository, BackupOptions::default(), &[("/a", b"1")]).await.unwrap();
    let snapshot = place.files("snapshots").remove(0);
    let name = snapshot.file_name().unwrap().to_str().unwrap().to_uppercase();
    std::fs::rename(&snapshot, snapshot.with_file_name(&name)).unwrap();
    let report = repository.check(&check::Options::default()).await.unwrap();
    let told = report.problems.iter().any(|problem| problem.file == format!("snapshots/{name}"));
    assert!(told, "{report:?}");
    never_less_than_all(&repository).await;
    assert_eq!(place.files("data").len(), 2);
}

/// Whatever reads the snapshots fails rather than go by fewer.
async fn never_less_than_all(repository: &Repository) {
    let policy = KeepPolicy { last: 1, ..KeepPolicy::default() };
    let (by, observer) = (GroupBy::default(), Observer::default());
    let dry = prune::Options { dry_run: true, ..prune::Options::default() };
    let failed = [
        repository.snapshots(&everyone()).await.map(drop),
        repository.stats().await.map(drop),
        repository.forget(&everyone(), by, &policy, true, &observer).await.map(drop),
        repository.forget(&everyone(), by, &policy, false, &observer).await.map(drop),
        repository.prune(&dry).await.map(drop),
        repository.prune(&prune::Options::default()).await.map(drop),
    ];
    for failed in failed {
        let error = failed.unwrap_err();
        assert_eq!(error.kind(), Kind::Corrupt, "{}", error.chain());
        assert!(error.to_string().contains("snapshots/"), "{error}");
    }
}
