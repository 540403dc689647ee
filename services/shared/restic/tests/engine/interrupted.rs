//! Backup, forget, prune, copy, repair and migration on a store in which one operation goes wrong, for every operation and every
//! fault: whatever happens, each snapshot that is listed afterwards restores byte for byte, our deep check and (for a
//! sample) restic's find nothing, and the same operation succeeds when it is repeated.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::support::faulty::{Fault, Faulty, export};
use crate::support::{PASSWORD, Place, backup, data, everyone, read};
use coffer_restic::{
    BackupOptions, CopyOptions, GroupBy, Id, InitOptions, Kdf, KeepPolicy, Observer, OpenOptions,
    Password, ReadOptions, RepairOptions, Repository, Store, UnlockScope, Version, check, prune,
};
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, TryStreamExt, stream};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};

/// Cases at a time: most of each is the wait after taking a lock.
const CASES: usize = 48;
/// Every so many cases, restic is asked too.
const SAMPLE: usize = 25;
/// Every so many cases, what the repeated operation leaves is looked at as well.
const REPEATS: usize = 4;

fn options(lock_reads: bool) -> OpenOptions {
    OpenOptions { lock_wait: Duration::ZERO, lock_reads, ..OpenOptions::default() }
}

async fn open(store: Arc<dyn ObjectStore>, lock_reads: bool) -> coffer_restic::Result<Repository> {
    let store = Store::new(store, "memory");
    Repository::open(store, &Password::new(PASSWORD), options(lock_reads)).await
}

/// A repository in memory, as it was before the last backup and as it is.
struct Scene {
    earlier: InMemory,
    now: Arc<InMemory>,
    /// What each snapshot holds.
    contents: BTreeMap<Id, Vec<u8>>,
}

/// Snapshots that share some of their data; of each, the second half is its own.
async fn scene(version: Version, count: u64) -> Scene {
    let now = Arc::new(InMemory::new());
    let init = InitOptions { version, kdf: Kdf { log_n: 4, r: 8, p: 1 } };
    let store = Store::new(now.clone(), "memory");
    let repository =
        Repository::init(store, &Password::new(PASSWORD), &init, options(false)).await.unwrap();
    let common = data(1, 700_000);
    let mut contents = BTreeMap::new();
    let mut earlier = now.fork();
    for seed in 2..2 + count {
        earlier = now.fork();
        let content = [common.clone(), data(seed, 600_000)].concat();
        let time = BackupOptions::default().time + chrono::TimeDelta::seconds(seed.cast_signed());
        let options = BackupOptions { time, ..BackupOptions::default() };
        let done = backup(&repository, options, &[("/dump.rdb", &content)]).await.unwrap();
        contents.insert(done.snapshot, content);
    }
    Scene { earlier, now, contents }
}

impl Scene {
    /// The scene after `change`.
    async fn after(self, change: impl AsyncFnOnce(&Repository)) -> Self {
        change(&open(self.now.clone(), false).await.unwrap()).await;
        self
    }

    /// The same objects, all but those of a folder.
    async fn without(self, folder: &str) -> Self {
        let listed: Vec<_> = self.now.list(Some(&Path::from(folder))).try_collect().await.unwrap();
        for object in listed {
            self.now.delete(&object.location).await.unwrap();
        }
        self
    }
}

type Operation = fn(Repository) -> BoxFuture<'static, coffer_restic::Result<()>>;

/// Runs `operation` with every fault at every operation of the store.
async fn survives(scene: &Scene, faults: &[Fault], operation: Operation, readable_before: bool) {
    let store = Faulty::copy(&scene.now, &scene.earlier, None);
    let repository = open(Arc::new(store.clone()), true).await.unwrap();
    let before = store.operations();
    operation(repository).await.unwrap();
    confirm(scene, &store, true, "without a fault").await;
    let after = store.operations();
    let cases = (before..after).flat_map(|at| faults.iter().map(move |fault| (at, *fault)));
    stream::iter(cases.enumerate())
        .for_each_concurrent(CASES, |(number, (at, fault))| async move {
            let store = Faulty::copy(&scene.now, &scene.earlier, Some((at, fault)));
            let case = format!("{fault:?} at operation {at} of {before}..{after}");
            let repository = open(Arc::new(store.clone()), true).await.unwrap();
            let result = operation(repository).await;
            if fault == Fault::Cut {
                assert!(result.is_err() || at + 1 >= after, "{case}");
            }
            if readable_before {
                confirm(scene, &store, number % SAMPLE == 0, &case).await;
            }
            // Again, on what is left.
            let left = Faulty::copy(&store.content(), &scene.earlier, None);
            let repository = open(Arc::new(left.clone()), true).await.unwrap();
            repository.unlock(UnlockScope::All).await.unwrap();
            operation(repository)
                .await
                .unwrap_or_else(|e| panic!("{case}, repeated: {}", e.chain()));
            if number % REPEATS == 0 {
                confirm(scene, &left, number % SAMPLE == 4, &case).await;
            }
        })
        .await;
}

/// Every snapshot that is listed restores, and checks find nothing.
async fn confirm(scene: &Scene, store: &Faulty, ask_restic: bool, case: &str) {
    let content = store.content();
    let repository = open(content.clone(), false).await.unwrap();
    repository.unlock(UnlockScope::All).await.unwrap();
    let snapshots = repository.snapshots(&everyone()).await.unwrap();
    assert!(!snapshots.is_empty(), "{case}");
    for snapshot in &snapshots {
        let origin = snapshot.original.unwrap_or(snapshot.id);
        let restored = read(&repository, snapshot, "/dump.rdb", ReadOptions::default()).await;
        let restored = restored.unwrap_or_else(|e| panic!("{case}: {}", e.chain()));
        let expected = scene.contents.get(&origin).cloned().unwrap_or_else(new_content);
        assert!(restored == expected, "{case}: the content differs");
    }
    let deep = check::Options { read_data: true, ..check::Options::default() };
    let report = repository.check(&deep).await.unwrap();
    assert!(report.is_ok(), "{case}: {:?}", report.problems);
    if ask_restic {
        let place = Place::new();
        export(&content, place.path()).await;
        place.restic_check().await;
    }
}

const FAILING: [Fault; 3] = [Fault::Refused, Fault::AnswerLost, Fault::Cut];
const LYING: [Fault; 6] =
    [Fault::Refused, Fault::AnswerLost, Fault::Cut, Fault::Truncated, Fault::Flipped, Fault::Stale];

/// What a snapshot holds that was not there when it began: in part, what others hold.
fn new_content() -> Vec<u8> {
    [data(1, 700_000), data(99, 600_000)].concat()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn backup_survives_every_fault() {
    let back_up: Operation = |repository| {
        async move {
            let files: &[(&str, &[u8])] = &[("/dump.rdb", &new_content())];
            backup(&repository, BackupOptions::default(), files).await.map(drop)
        }
        .boxed()
    };
    survives(&scene(Version::V2, 2).await, &LYING, back_up, true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forget_survives_every_fault() {
    let scene = scene(Version::V2, 4).await;
    let forget: Operation = |repository| {
        async move {
            let policy = KeepPolicy { last: 2, ..KeepPolicy::default() };
            repository
                .forget(&everyone(), GroupBy::default(), &policy, false, &Observer::default())
                .await
                .map(drop)
        }
        .boxed()
    };
    survives(&scene, &[Fault::Refused, Fault::AnswerLost, Fault::Cut, Fault::Stale], forget, true)
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn prune_survives_every_fault() {
    let scene = scene(Version::V2, 4).await;
    let scene = scene
        .after(async |repository| {
            let policy = KeepPolicy { last: 2, ..KeepPolicy::default() };
            repository
                .forget(&everyone(), GroupBy::default(), &policy, false, &Observer::default())
                .await
                .unwrap();
        })
        .await;
    let prune: Operation = |repository| {
        async move {
            let max_unused = prune::MaxUnused::Percent(0.0);
            let options = prune::Options { max_unused, ..prune::Options::default() };
            repository.prune(&options).await.map(drop)
        }
        .boxed()
    };
    survives(&scene, &LYING, prune, true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn repair_survives_every_fault() {
    let repair: Operation = |repository| {
        async move {
            let options = RepairOptions { read_all_packs: true, ..RepairOptions::default() };
            repository.repair_index(&options).await.map(drop)
        }
        .boxed()
    };
    // With an index that is whole, nothing may get worse; with none, it must come back.
    survives(&scene(Version::V2, 3).await, &FAILING, repair, true).await;
    let lost = scene(Version::V2, 3).await.without("index").await;
    survives(&lost, &FAILING, repair, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn migration_survives_every_fault() {
    let migrate: Operation = |repository| {
        async move { repository.migrate(&Observer::default()).await.map(drop) }.boxed()
    };
    survives(&scene(Version::V1, 1).await, &LYING[..5], migrate, true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changing_the_password_leaves_one_that_opens() {
    let scene = scene(Version::V2, 1).await;
    let new = || Password::new("another");
    let kdf = Kdf { log_n: 4, r: 8, p: 1 };
    let change = |store: Faulty| async move {
        let repository = open(Arc::new(store.clone()), true).await.unwrap();
        let before = store.operations();
        let result = repository.change_key(&new(), kdf, "host", "user").await;
        (before, result)
    };
    let store = Faulty::copy(&scene.now, &scene.earlier, None);
    let (before, result) = change(store.clone()).await;
    result.unwrap();
    let after = store.operations();
    let cases = (before..after).flat_map(|at| LYING.iter().map(move |fault| (at, *fault)));
    stream::iter(cases)
        .for_each_concurrent(CASES, |(at, fault)| {
            let store = Faulty::copy(&scene.now, &scene.earlier, Some((at, fault)));
            async move {
                let (_, result) = change(store.clone()).await;
                let opens = async |password: Password| {
                    let store = Store::new(store.content(), "memory");
                    Repository::open(store, &password, options(false)).await.is_ok()
                };
                let (old, new) = (opens(Password::new(PASSWORD)).await, opens(new()).await);
                assert!(old || new, "{fault:?} at {at}: nothing opens it");
                assert!(result.is_err() || new, "{fault:?} at {at}: said to be done");
            }
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copy_survives_every_fault_of_the_target() {
    let source = scene(Version::V1, 2).await;
    let target = Arc::new(InMemory::new());
    let init = InitOptions { kdf: Kdf { log_n: 4, r: 8, p: 1 }, ..InitOptions::default() };
    let store = Store::new(target.clone(), "target");
    Repository::init(store, &Password::new(PASSWORD), &init, options(false)).await.unwrap();
    let source = &source;
    let copy = |store: Faulty| async move {
        let from = open(source.now.clone(), false).await.unwrap();
        let to = Store::new(Arc::new(store.clone()), "target");
        let to = Repository::open(to, &Password::new(PASSWORD), options(true)).await.unwrap();
        let before = store.operations();
        (before, from.copy_to(&to, &CopyOptions::default()).await)
    };
    let store = Faulty::copy(&target, &target, None);
    let (before, done) = copy(store.clone()).await;
    assert_eq!(done.unwrap().copied.len(), 2);
    confirm(source, &store, true, "without a fault").await;
    let after = store.operations();
    let cases = (before..after).flat_map(|at| FAILING.iter().map(move |fault| (at, *fault)));
    stream::iter(cases.enumerate())
        .for_each_concurrent(CASES, |(number, (at, fault))| {
            let store = Faulty::copy(&target, &target, Some((at, fault)));
            async move {
                let case = format!("{fault:?} at operation {at} of {before}..{after}");
                let (_, result) = copy(store.clone()).await;
                assert!(fault != Fault::Cut || result.is_err() || at + 1 >= after, "{case}");
                let left = Faulty::copy(&store.content(), &store.content(), None);
                open(left.content(), false).await.unwrap().unlock(UnlockScope::All).await.unwrap();
                let (_, again) = copy(left.clone()).await;
                let again = again.unwrap_or_else(|e| panic!("{case}, repeated: {}", e.chain()));
                assert_eq!(again.copied.len() + again.skipped.len(), 2, "{case}");
                confirm(source, &left, number % SAMPLE == 0, &case).await;
                let listed = open(left.content(), false).await.unwrap();
                assert_eq!(listed.snapshots(&everyone()).await.unwrap().len(), 2, "{case}");
            }
        })
        .await;
}
