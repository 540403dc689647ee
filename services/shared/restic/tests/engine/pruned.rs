//! What prune frees and rewrites, beside the restic program on the same repositories.

use std::sync::Arc;

use crate::support::{Place, backup, data, everyone, json, latest, noise, read};
use coffer_restic::{
    BackupOptions, Compression, GroupBy, KeepPolicy, Kind, Observer, Progress, ReadOptions,
    Version, prune,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn our_prune_frees_what_restics_frees() {
    let (ours, theirs) = (Place::new(), Place::new());
    let repository = ours.init(Version::V2).await;
    let common = data(1, 6_000_000);
    for seed in 2..14 {
        let content = [common.clone(), data(seed, 1_500_000)].concat();
        backup(&repository, BackupOptions::default(), &[("/dump.rdb", &content)]).await.unwrap();
    }
    let policy = KeepPolicy { last: 3, ..KeepPolicy::default() };
    repository
        .forget(&everyone(), GroupBy::default(), &policy, false, &Observer::default())
        .await
        .unwrap();
    let source = ours.path().to_str().unwrap().to_owned() + "/.";
    let copied =
        std::process::Command::new("cp").args(["-a", &source]).arg(theirs.path()).status().unwrap();
    assert!(copied.success());
    let told: Arc<parking_lot::Mutex<Vec<Progress>>> = Arc::default();
    let observer = Observer::new({
        let told = Arc::clone(&told);
        move |progress| told.lock().push(progress)
    });
    let options = prune::Options { observer, ..prune::Options::default() };
    let dry = prune::Options { dry_run: true, ..options.clone() };
    let planned = repository.prune(&dry).await.unwrap();
    assert_eq!(repository.prune(&options).await.unwrap(), planned);
    theirs.run(&["prune"]).await;
    let size = |place: &Place| -> u64 {
        place.files("data").iter().map(|file| file.metadata().unwrap().len()).sum()
    };
    let (our_size, their_size) = (size(&ours), size(&theirs));
    assert!(our_size.abs_diff(their_size) * 20 < their_size, "{our_size} and {their_size}");
    assert!(planned.packs_repacked > 0 && planned.packs_deleted > 0, "{planned:?}");
    ours.restic_check().await;
    // Each step's numbers only grow, to their total.
    let told = told.lock();
    let steps: std::collections::BTreeSet<&str> = told.iter().map(|p| p.step).collect();
    for step in ["read the index", "walk the snapshots", "repack", "delete packs"] {
        assert!(steps.contains(step), "{steps:?}");
    }
    let repack: Vec<_> = told.iter().filter(|p| p.step == "repack").collect();
    assert!(repack.is_sorted_by_key(|p| p.done));
    assert_eq!(
        repack.last().map(|p| (p.done, p.total)),
        Some((planned.bytes_repacked, planned.bytes_repacked))
    );
}

/// Text that compresses, in no order that repeats.
fn text(seed: u64) -> Vec<u8> {
    let line = |n: u64| format!("key:{} value:{};", n * 7919 % 100_003, (n + seed) % 10);
    (seed * 1_000_000..seed * 1_000_000 + 200_000).flat_map(|n| line(n).into_bytes()).collect()
}

/// The blobs that are not compressed, as restic reads it from the index.
async fn uncompressed(place: &Place) -> Vec<String> {
    let mut blobs = Vec::new();
    for file in place.files("index") {
        let id = file.file_name().unwrap().to_str().unwrap().to_owned();
        let index = json(place, &["cat", "index", &id]).await;
        let packs = index["packs"].as_array().unwrap().iter();
        let all = packs.flat_map(|pack| pack["blobs"].as_array().unwrap());
        let plain = all.filter(|blob| blob["uncompressed_length"].as_u64().is_none());
        blobs.extend(plain.map(|blob| blob["id"].as_str().unwrap().to_owned()));
    }
    blobs
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_format_1_left_is_compressed_as_restic_does() {
    let (ours, theirs) = (Place::new(), Place::new());
    let old = ours.init(Version::V1).await;
    for seed in 0..3 {
        let (text, noise) = (text(seed), noise(seed));
        let files: [(&str, &[u8]); 2] = [("/x/dump.rdb", &text), ("/x/noise", &noise)];
        backup(&old, BackupOptions::default(), &files).await.unwrap();
    }
    let asked = prune::Options { repack_uncompressed: true, ..prune::Options::default() };
    for dry_run in [true, false] {
        let error = old.prune(&prune::Options { dry_run, ..asked.clone() }).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Invalid);
        assert!(error.to_string().contains("coffer migrate"), "{error}");
    }
    let refused = ours.restic(["prune", "--repack-uncompressed"]).output().unwrap();
    assert!(!refused.status.success(), "restic refuses it, too");
    old.migrate(&Observer::default()).await.unwrap();
    let repository = ours.open().await;
    let compression = Compression::Off;
    let error =
        repository.prune(&prune::Options { compression, ..asked.clone() }).await.unwrap_err();
    assert!(error.to_string().contains("off"), "{error}");
    let source = ours.path().to_str().unwrap().to_owned() + "/.";
    let copied =
        std::process::Command::new("cp").args(["-a", &source]).arg(theirs.path()).status().unwrap();
    assert!(copied.success());

    // Without being asked, trees alone.
    let before = repository.stats().await.unwrap();
    let snapshots = repository.snapshots(&everyone()).await.unwrap();
    assert_eq!(before.raw_size, before.uncompressed_size + 32 * before.blobs);
    let trees = repository.prune(&prune::Options::default()).await.unwrap();
    assert_eq!(trees.packs_repacked, 3, "one of each backup: {trees:?}");
    assert_eq!(repository.prune(&prune::Options::default()).await.unwrap().packs_repacked, 0);

    let planned = repository.prune(&prune::Options { dry_run: true, ..asked.clone() }).await;
    let (planned, done) = (planned.unwrap(), repository.prune(&asked).await.unwrap());
    assert_eq!(done.packs_repacked, planned.packs_repacked);
    assert!(done.bytes_repacked < planned.bytes_repacked, "{done:?} {planned:?}");
    theirs.run(&["prune", "--repack-uncompressed"]).await;
    let size = |place: &Place| -> u64 {
        place.files("data").iter().map(|file| file.metadata().unwrap().len()).sum()
    };
    let (our_size, their_size) = (size(&ours), size(&theirs));
    assert!(our_size.abs_diff(their_size) * 10 < their_size, "{our_size} and {their_size}");
    let after = repository.stats().await.unwrap();
    assert!(after.raw_size * 3 < before.raw_size * 2, "{before:?} {after:?}");
    assert_eq!(after.raw_size, done.bytes_used);
    assert_eq!(after.uncompressed_size, before.uncompressed_size);

    // restic compresses noise, too; we do not, and nothing else is left.
    assert_eq!(uncompressed(&theirs).await, Vec::<String>::new());
    for blob in uncompressed(&ours).await {
        let content = ours.run(&["cat", "blob", &blob]).await;
        let packed = zstd::bulk::compress(&content, 3).unwrap();
        assert!(packed.len() * 100 > content.len() * 99, "{blob}: {} bytes", content.len());
    }
    for place in [&ours, &theirs] {
        place.restic_check().await;
        let repository = place.open().await;
        for (snapshot, seed) in snapshots.iter().zip(0..) {
            let read = async |path| {
                read(&repository, snapshot, path, ReadOptions::default()).await.unwrap()
            };
            assert!(read("/x/dump.rdb").await == text(seed), "snapshot {seed} differs");
            assert!(read("/x/noise").await == noise(seed), "snapshot {seed} differs");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_prune_releases_its_lock_and_harms_nothing() {
    let place = Place::new();
    let repository = place.init(Version::V2).await;
    // A blob each, so that whatever packs the first backup made of them hold both what stays and what goes.
    let files = |seed: u64| {
        (0..20).map(move |n| (n, data(if n % 5 < 2 { n } else { 100 * seed + n }, 300_000)))
    };
    for seed in 1..6 {
        let named: Vec<_> = files(seed).map(|(n, content)| (format!("/{n:02}"), content)).collect();
        let named: Vec<_> = named.iter().map(|(path, content)| (&**path, &**content)).collect();
        backup(&repository, BackupOptions::default(), &named).await.unwrap();
    }
    let policy = KeepPolicy { last: 1, ..KeepPolicy::default() };
    repository
        .forget(&everyone(), GroupBy::default(), &policy, false, &Observer::default())
        .await
        .unwrap();
    let (sender, begun) = tokio::sync::oneshot::channel();
    let sender = parking_lot::Mutex::new(Some(sender));
    let observer = Observer::new(move |progress| {
        if progress.step == "repack"
            && let Some(sender) = sender.lock().take()
        {
            let _ = sender.send(());
        }
    });
    let max_unused = prune::MaxUnused::Bytes(0);
    let options = prune::Options { observer, max_unused, ..prune::Options::default() };
    tokio::select! {
        done = repository.prune(&options) => panic!("it ended before it was cancelled: {done:?}"),
        _ = begun => {}
    }
    crate::support::until("the lock to go", || place.files("locks").is_empty()).await;
    place.restic_check().await;
    repository.prune(&prune::Options::default()).await.unwrap();
    place.restic_check().await;
    let latest = latest(&repository).await;
    for (n, content) in files(5) {
        let path = format!("/{n:02}");
        assert!(
            read(&repository, &latest, &path, ReadOptions::default()).await.unwrap() == content
        );
    }
}
