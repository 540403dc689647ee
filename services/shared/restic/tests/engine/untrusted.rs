//! Stores that lie about a write, and stores that let nobody delete.

use std::sync::Arc;

use crate::support::faulty::{Fault, Faulty, Lack};
use crate::support::{PASSWORD, backup, data, everyone, options};
use coffer_restic::{
    BackupOptions, Error, GroupBy, InitOptions, Kdf, KeepPolicy, Kind, Observer, OpenOptions,
    Password, Repository, SnapshotFilter, Store, UnlockScope, check, prune,
};
use object_store::ObjectStore;
use object_store::memory::InMemory;

async fn open(store: Store, options: OpenOptions) -> Repository {
    Repository::open(store, &Password::new(PASSWORD), options).await.unwrap()
}

async fn fresh() -> Arc<InMemory> {
    let objects = Arc::new(InMemory::new());
    let init = InitOptions { kdf: Kdf { log_n: 4, r: 8, p: 1 }, ..InitOptions::default() };
    let store = Store::new(objects.clone(), "memory");
    Repository::init(store, &Password::new(PASSWORD), &init, options()).await.unwrap();
    objects
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lie_about_any_write_is_caught_before_the_commit() {
    let content = data(1, 3_000_000);
    let lies = [Fault::Truncated, Fault::Flipped, Fault::Forgotten].into_iter();
    for (lie, again) in lies.flat_map(|lie| {
        // Once: the second attempt mends it. Every time: the backup fails.
        [(lie, false), (lie, true)]
    }) {
        let mut seen = std::collections::BTreeSet::new();
        for at in 0.. {
            let objects = fresh().await;
            let faulty = Faulty::writing(&objects, at, lie, again);
            let store = Store::new(Arc::new(faulty.clone()), "faulty");
            let lied_to = open(store, options()).await;
            let result = backup(&lied_to, BackupOptions::default(), &[("/a", &content)]).await;
            let Some(victim) = faulty.victim() else {
                result.unwrap();
                break;
            };
            seen.insert(victim.split('/').next().unwrap().to_owned());
            let sound = open(Store::new(objects, "memory"), options()).await;
            let snapshots = sound.snapshots(&everyone()).await.unwrap();
            if again {
                let error = result.unwrap_err();
                assert!(error.chain().contains("acknowledged"), "{lie:?} {victim}: {error}");
                assert_eq!(snapshots, [], "{lie:?} {victim}");
            } else {
                result.unwrap();
                assert_eq!(snapshots.len(), 1, "{lie:?} {victim}");
            }
            let report = sound
                .check(&check::Options { read_data: true, ..check::Options::default() })
                .await
                .unwrap();
            assert!(report.is_ok(), "{lie:?} {victim}: {report:?}");
        }
        let kinds = ["data", "index", "snapshots"].map(str::to_owned);
        assert_eq!(seen, kinds.into(), "{lie:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_append_only_repository_grows_and_nothing_takes_from_it() {
    let objects = fresh().await;
    let store = Store::new(objects.clone(), "memory").append_only();
    let repository = open(store, options()).await;
    for content in [b"first", b"again"] {
        backup(&repository, BackupOptions::default(), &[("/a", content)]).await.unwrap();
    }
    let before = list(&objects).await;
    let snapshots = repository.snapshots(&everyone()).await.unwrap();
    let policy = KeepPolicy { last: 1, ..KeepPolicy::default() };
    let (all, by) = (everyone(), GroupBy::default());
    let refused: Vec<Error> = vec![
        repository.forget(&all, by, &policy, false, &Observer::default()).await.unwrap_err(),
        repository.delete_snapshots(&[snapshots[0].id], &Observer::default()).await.unwrap_err(),
        repository.prune(&prune::Options::default()).await.unwrap_err(),
        repository.unlock(UnlockScope::All).await.unwrap_err(),
        repository.clone().wipe().await.unwrap_err(),
    ];
    for error in refused {
        assert_eq!(error.kind(), Kind::AppendOnly, "{error}");
        assert!(error.to_string().contains("is append-only; nothing was changed"), "{error}");
    }
    assert_eq!(list(&objects).await, before);
    // What changes nothing is allowed.
    assert_eq!(
        repository
            .forget(&all, by, &policy, true, &Observer::default())
            .await
            .unwrap()
            .removed
            .len(),
        1
    );
    let dry = prune::Options { dry_run: true, ..prune::Options::default() };
    repository.prune(&dry).await.unwrap();
    assert_eq!(repository.unlock(UnlockScope::Stale).await.unwrap(), 0);
    assert!(repository.check(&check::Options::default()).await.unwrap().is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_nobody_may_delete_backups_go_on_beside_their_own_old_locks() {
    let objects = fresh().await;
    let sealed = Faulty::lacking(&objects, Lack::Delete);
    let repository = open(Store::new(Arc::new(sealed), "sealed").append_only(), options()).await;
    for _ in 0..3 {
        backup(&repository, BackupOptions::default(), &[("/a", b"1")]).await.unwrap();
    }
    assert_eq!(repository.locks().await.unwrap().len(), 3, "they stay until somebody may");
    // Who may delete is kept out for as long as restic's rule says, or removes them by force.
    let owner = OpenOptions { lock_wait: std::time::Duration::ZERO, ..options() };
    let owner = open(Store::new(objects, "memory"), owner).await;
    let error = owner.prune(&prune::Options::default()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Locked);
    assert_eq!(owner.unlock(UnlockScope::All).await.unwrap(), 3);
    owner.prune(&prune::Options::default()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listing_with_files_takes_one_lock_for_all_snapshots() {
    let objects = fresh().await;
    let writer = open(Store::new(objects.clone(), "memory"), options()).await;
    for number in 0..20_u8 {
        let options = BackupOptions { host: format!("host-{}", number % 2), ..Default::default() };
        let name = format!("/folder/{number}");
        backup(&writer, options, &[(&name, &[number]), ("/b", b"")]).await.unwrap();
    }
    // Where nobody may delete, a lock file that was written stays to be counted.
    let sealed = Faulty::lacking(&objects, Lack::Delete);
    let store = Store::new(Arc::new(sealed.clone()), "sealed").append_only();
    let repository = open(store, options()).await;
    let filter = SnapshotFilter { hosts: vec!["host-1".into()], ..everyone() };
    let listed = repository.snapshots_with_files(&filter).await.unwrap();
    let expected = repository.snapshots(&filter).await.unwrap();
    assert_eq!(
        listed.iter().map(|(snapshot, _)| snapshot).collect::<Vec<_>>(),
        expected.iter().collect::<Vec<_>>()
    );
    for ((_, files), number) in listed.iter().zip((1..20).step_by(2)) {
        let files: Vec<_> = files.iter().map(|file| (file.path.clone(), file.size)).collect();
        assert_eq!(files, [("/b".to_owned(), 0), (format!("/folder/{number}"), 1)]);
    }
    assert_eq!((listed.len(), repository.locks().await.unwrap().len()), (10, 1));

    // Each snapshot's document, and two trees of those that pass; all else does not grow with them.
    let before = sealed.operations();
    repository.snapshots_with_files(&filter).await.unwrap();
    let requests = sealed.operations() - before;
    assert!((40..60).contains(&requests), "{requests} requests");
}

async fn list(objects: &InMemory) -> Vec<String> {
    let listed: Vec<_> = futures::TryStreamExt::try_collect(objects.list(None)).await.unwrap();
    let mut names: Vec<String> = listed
        .into_iter()
        .map(|meta: object_store::ObjectMeta| meta.location.to_string())
        .collect();
    names.sort();
    names
}
