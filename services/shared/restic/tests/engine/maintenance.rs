//! Stats, keys, copies, repairs and the migration, beside the restic program on the same repositories.

use crate::support::{PASSWORD, Place, backup, data, everyone, json, latest, options, read};
use coffer_restic::{
    BackupOptions, CopyOptions, Kdf, Kind, Migration, Observer, Password, ReadOptions,
    RepairOptions, Repository, SnapshotFilter, Version, check, prune,
};

const CHEAP: Kdf = Kdf { log_n: 10, r: 8, p: 1 };

async fn open(place: &Place, password: &str) -> coffer_restic::Result<Repository> {
    Repository::open(place.store(), &Password::new(password), options()).await
}

/// Three snapshots of files in folders, with most of their data in common.
async fn fill(place: &Place, version: Version) -> Repository {
    let repository = place.init(version).await;
    for seed in 0..3 {
        // More than the longest chunk in common, wherever this repository cuts.
        let content = [data(9, 12_000_000), data(seed, 700_000)].concat();
        let options =
            BackupOptions { host: format!("host-{}", seed % 2), ..BackupOptions::default() };
        let files: [(&str, &[u8]); 3] =
            [("/x/y/dump.rdb", &content), ("/x/manifest.json", b"{}"), ("/empty", b"")];
        backup(&repository, options, &files).await.unwrap();
    }
    repository
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn our_figures_are_restics() {
    let place = Place::new();
    let repository = fill(&place, Version::V2).await;
    let whole = repository.stats().await.unwrap();
    let raw = json(&place, &["stats", "--json", "--mode", "raw-data"]).await;
    assert_eq!(raw["total_size"], whole.raw_size);
    assert_eq!(raw["total_blob_count"], whole.blobs);
    // Told since 0.15.
    if let Some(theirs) = raw["total_uncompressed_size"].as_u64() {
        assert_eq!(theirs, whole.uncompressed_size);
    }
    assert!(whole.uncompressed_size > whole.raw_size);
    let restored = json(&place, &["stats", "--json", "--mode", "restore-size"]).await;
    assert_eq!(restored["total_size"], whole.restore_size);
    assert_eq!((whole.snapshots, whole.files), (3, 9));
    assert_eq!(whole.packs, place.files("data").len() as u64);

    let filter = SnapshotFilter { hosts: vec!["host-1".into()], ..everyone() };
    let one = repository.stats_of(&filter, &Observer::default()).await.unwrap();
    let theirs = json(&place, &["stats", "--json", "--host", "host-1", "--mode", "raw-data"]).await;
    assert_eq!((one.snapshots, &theirs["total_size"]), (1, &one.raw_size.into()));
    assert!(one.raw_size < whole.raw_size && one.restore_size < whole.restore_size);

    // A file of several names is restored once, in each snapshot.
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::create_dir_all(at("sub/deep")).unwrap();
    std::fs::write(at("one"), [7; 100_000]).unwrap();
    for other in ["two", "sub/three", "sub/deep/four"] {
        std::fs::hard_link(at("one"), at(other)).unwrap();
    }
    std::fs::write(at("sub/deep/alone"), [8; 1000]).unwrap();
    let back_up = ["backup", "--host", "links", folder.path().to_str().unwrap()];
    for _ in 0..2 {
        place.run(&back_up).await;
    }
    let filter = SnapshotFilter { hosts: vec!["links".into()], ..everyone() };
    let linked = repository.stats_of(&filter, &Observer::default()).await.unwrap();
    let args = ["stats", "--json", "--host", "links", "--mode", "restore-size"];
    assert_eq!(json(&place, &args).await["total_size"], linked.restore_size);
    assert_eq!((linked.files, linked.restore_size), (10, 202_000));
    for (_, files) in repository.snapshots_with_files(&filter).await.unwrap() {
        let bytes = files.iter().filter(|file| !file.linked).map(|file| file.size).sum::<u64>();
        assert_eq!((files.len(), bytes), (5, 101_000));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_come_and_go_and_the_one_in_use_stays() {
    let place = Place::new();
    let repository = fill(&place, Version::V2).await;
    let second = Password::new("second");
    let added = repository.add_key(&second, CHEAP, "laptop", "alice").await.unwrap();
    let keys = repository.keys().await.unwrap();
    assert_eq!(keys.iter().filter(|key| key.current).count(), 1);
    assert_eq!(keys.iter().find(|key| !key.current), Some(&added));
    let listed = json(&place, &["key", "list", "--json"]).await;
    let listed = listed.as_array().unwrap();
    assert_eq!(listed.len(), 2);
    let theirs = listed.iter().find(|key| key["current"] == false).unwrap();
    assert_eq!(theirs["userName"], "alice");
    assert_eq!(theirs["hostName"], "laptop");
    assert!(added.id.to_string().starts_with(theirs["id"].as_str().unwrap()));

    // Each opens it for restic too, and neither handle removes the key that it uses.
    let other = open(&place, "second").await.unwrap();
    place.restic(["cat", "config"]).env("RESTIC_PASSWORD", "second").status().unwrap();
    let ours = keys.iter().find(|key| key.current).unwrap().id.to_string();
    for (handle, key) in [(&repository, &ours), (&other, &added.id.to_string())] {
        let error = handle.remove_key(&key[..12]).await.unwrap_err();
        assert!(error.to_string().contains("in use"), "{error}");
    }
    let error = repository.remove_key("0123456789abcdef0").await.unwrap_err();
    assert_eq!(error.kind(), Kind::Invalid);
    let empty = repository.add_key(&Password::new(""), CHEAP, "h", "u").await.unwrap_err();
    assert_eq!(empty.kind(), Kind::Invalid);
    repository.remove_key(&added.id.to_string()[..8]).await.unwrap();
    assert_eq!(open(&place, "second").await.unwrap_err().kind(), Kind::WrongPassword);

    // The password changes under the handle, which goes on.
    let changed = repository.change_key(&Password::new("third"), CHEAP, "h", "u").await.unwrap();
    assert_eq!(open(&place, PASSWORD).await.unwrap_err().kind(), Kind::WrongPassword);
    assert_eq!(repository.keys().await.unwrap(), [changed]);
    backup(&repository, BackupOptions::default(), &[("/z", b"z")]).await.unwrap();
    let deep = check::Options { read_data: true, ..check::Options::default() };
    assert!(open(&place, "third").await.unwrap().check(&deep).await.unwrap().is_ok());
    let mut restic = place.restic(["check"]);
    assert!(restic.env("RESTIC_PASSWORD", "third").output().unwrap().status.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copies_are_restics_copies() {
    let (from, to) = (Place::new(), Place::new());
    let source = fill(&from, Version::V1).await;
    // Other keys, another polynomial, another format.
    let target = to.init(Version::V2).await;
    let snapshots = source.snapshots(&everyone()).await.unwrap();
    let one = CopyOptions { snapshots: vec![snapshots[0].id], ..CopyOptions::default() };
    let first = source.copy_to(&target, &one).await.unwrap();
    assert_eq!((first.copied.len(), first.skipped.len()), (1, 0));
    to.restic_check().await;
    let rest = source.copy_to(&target, &CopyOptions::default()).await.unwrap();
    assert_eq!((rest.copied.len(), &rest.skipped[..]), (2, &[snapshots[0].id][..]));
    assert!(rest.bytes < first.bytes, "what they have in common is not sent twice");
    let again = source.copy_to(&target, &CopyOptions::default()).await.unwrap();
    assert_eq!((again.copied.len(), again.skipped.len(), again.blobs), (0, 3, 0));
    to.restic_check().await;

    let copies = target.snapshots(&everyone()).await.unwrap();
    for (original, copy) in snapshots.iter().zip(&copies) {
        assert_eq!(copy.original, Some(original.id));
        assert_eq!(
            (copy.tree, copy.time, &copy.hostname),
            (original.tree, original.time, &original.hostname)
        );
        for path in ["/x/y/dump.rdb", "/x/manifest.json", "/empty"] {
            let read = async |repository: &Repository, snapshot| {
                read(repository, snapshot, path, ReadOptions::default()).await.unwrap()
            };
            assert!(read(&target, copy).await == read(&source, original).await, "{path}");
        }
    }
    // restic finds nothing left to copy: it takes ours for its own.
    let path = from.path().to_str().unwrap();
    let args = ["copy", "--from-repo", path];
    let mut restic = to.restic(args);
    let output = restic.env("RESTIC_FROM_PASSWORD", PASSWORD).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said} {}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(target.snapshots(&everyone()).await.unwrap().len(), 3, "{said}");

    let error = source.copy_to(&source, &CopyOptions::default()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Invalid, "{error}");
    let absent = CopyOptions { snapshots: vec![coffer_restic::Id::of(b"?")], ..one };
    assert_eq!(source.copy_to(&target, &absent).await.unwrap_err().kind(), Kind::NotFound);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_or_damaged_index_comes_back() {
    let place = Place::new();
    let repository = fill(&place, Version::V2).await;
    let snapshot = latest(&repository).await;
    let before = repository.stats().await.unwrap();
    let sound = async || {
        place.restic_check().await;
        let repository = place.open().await;
        assert_eq!(repository.stats().await.unwrap(), before);
        let content = read(&repository, &snapshot, "/x/y/dump.rdb", ReadOptions::default()).await;
        assert_eq!(content.unwrap().len(), 12_700_000);
        let deep = check::Options { read_data: true, ..check::Options::default() };
        let report = repository.check(&deep).await.unwrap();
        assert!(report.is_ok() && report.notes.is_empty(), "{report:?}");
    };
    let quick = RepairOptions::default();
    let nothing = repository.repair_index(&quick).await.unwrap();
    assert_eq!(
        (nothing.packs, nothing.packs_added, nothing.index_files_deleted),
        (before.packs, 0, 0)
    );

    // All of it gone.
    for file in place.files("index") {
        std::fs::remove_file(file).unwrap();
    }
    assert_eq!(repository.stats().await.unwrap_err().kind(), Kind::Corrupt);
    assert_eq!(
        repository.prune(&prune::Options::default()).await.unwrap_err().kind(),
        Kind::Corrupt
    );
    let repaired = repository.repair_index(&quick).await.unwrap();
    assert_eq!((repaired.packs, repaired.packs_added), (before.packs, before.packs));
    sound().await;

    // A file damaged, and junk beside the packs.
    let index = place.files("index").remove(0);
    let content = std::fs::read(&index).unwrap();
    std::fs::remove_file(&index).unwrap();
    std::fs::write(&index, &content[..content.len() / 2]).unwrap();
    let junk = place.path().join("data/00").join("0".repeat(64));
    std::fs::create_dir_all(junk.parent().unwrap()).unwrap();
    std::fs::write(&junk, b"no pack at all").unwrap();
    let repaired = repository.repair_index(&quick).await.unwrap();
    assert_eq!((repaired.index_files_deleted, repaired.unreadable.len()), (1, 1), "{repaired:?}");
    assert!(junk.exists(), "what cannot be read is left alone");
    std::fs::remove_file(junk).unwrap();
    sound().await;
    let all = RepairOptions { read_all_packs: true, ..RepairOptions::default() };
    assert_eq!(repository.repair_index(&all).await.unwrap().packs, before.packs);
    sound().await;

    // A pack lost: the index forgets it, and a backup of the same data heals the repository.
    let largest = place.files("data").into_iter().max_by_key(|f| f.metadata().unwrap().len());
    std::fs::remove_file(largest.unwrap()).unwrap();
    let repaired = repository.repair_index(&quick).await.unwrap();
    assert_eq!((repaired.packs, repaired.packs_dropped), (before.packs - 1, 1));
    assert!(!repository.check(&check::Options::default()).await.unwrap().is_ok());
    for seed in 0..3 {
        // More than the longest chunk in common, wherever this repository cuts.
        let content = [data(9, 12_000_000), data(seed, 700_000)].concat();
        let files: [(&str, &[u8]); 2] = [("/again", &content), ("/manifest", b"{}")];
        backup(&repository, BackupOptions::default(), &files).await.unwrap();
    }
    let report = repository.check(&check::Options::default()).await.unwrap();
    assert!(report.is_ok(), "{:?}", report.problems);
    place.restic_check().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn format_1_becomes_format_2() {
    let place = Place::new();
    let repository = fill(&place, Version::V1).await;
    assert_eq!(repository.migrate(&Observer::default()).await.unwrap(), Migration::Done);
    assert_eq!(repository.migrate(&Observer::default()).await.unwrap(), Migration::NotNeeded);
    assert!(!place.path().join("config-format-1").exists());
    assert_eq!(json(&place, &["cat", "config"]).await["version"], 2);
    let migrated = place.open().await;
    assert_eq!(migrated.version(), Version::V2);
    // The old handle still writes, uncompressed, which format 2 allows; the new one compresses.
    let text = b"it compresses well; ".repeat(100_000);
    backup(&repository, BackupOptions::default(), &[("/old", &data(50, 500_000))]).await.unwrap();
    let done = backup(&migrated, BackupOptions::default(), &[("/new", &text)]).await.unwrap();
    assert!(done.data_added_packed < done.data_added / 10, "{done:?}");
    place.restic_check().await;

    // A repository that is not whole stays as it is.
    let broken = Place::new();
    let repository = fill(&broken, Version::V1).await;
    std::fs::remove_file(&broken.files("data")[0]).unwrap();
    let config = std::fs::read(broken.path().join("config")).unwrap();
    let error = repository.migrate(&Observer::default()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Corrupt, "{error}");
    assert_eq!(std::fs::read(broken.path().join("config")).unwrap(), config);
}
