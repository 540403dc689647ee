//! A directory, where packs are written to files while they are filled.

use std::path::{Path, PathBuf};

use coffer_restic::{
    BackupOptions, FileWriter, Kind, ReadOptions, Repository, SnapshotWriter, Version, prune,
};

use crate::support::{Place, backup, everyone, latest, noise, read, until};

/// Packs that are not whole yet.
fn unfinished(place: &Place) -> Vec<PathBuf> {
    place.files("data").into_iter().filter(|file| !is_pack(file)).collect()
}

fn is_pack(file: &Path) -> bool {
    file.file_name().is_some_and(|name| name.len() == 64)
}

/// A backup in whose midst there are unfinished packs.
async fn half_way(place: &Place, repository: &Repository) -> (SnapshotWriter, FileWriter) {
    let mut snapshot = repository.backup(BackupOptions::default()).await.unwrap();
    let mut file = snapshot.file("/dump").unwrap();
    for piece in 0..30 {
        file.write(noise(piece)).await.unwrap();
    }
    until("unfinished packs", || !unfinished(place).is_empty()).await;
    (snapshot, file)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn packs_have_restics_size_and_unfinished_ones_are_in_nobodys_way() {
    let place = Place::new();
    let repository = place.init(Version::V2).await;
    let (snapshot, mut file) = half_way(&place, &repository).await;
    // A restic that works in the repository meanwhile.
    place.run(&["list", "packs"]).await;
    place.run(&["check", "--no-lock"]).await;
    for piece in 30..90 {
        file.write(noise(piece)).await.unwrap();
    }
    file.finish().await.unwrap();
    snapshot.commit().await.unwrap();
    assert_eq!(unfinished(&place), <[PathBuf; 0]>::default());
    let sizes = place.files("data").into_iter().map(|pack| pack.metadata().unwrap().len());
    let large = sizes.filter(|size| *size >= 16 << 20).count();
    assert!(large >= 3, "{large} packs of 16 MiB or more for 90 MiB");
    let content = (0..90).flat_map(noise).collect::<Vec<u8>>();
    let snapshot = latest(&repository).await;
    let restored = read(&repository, &snapshot, "/dump", ReadOptions::default()).await;
    assert!(restored.unwrap() == content);
    place.restic_check().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_that_is_dropped_takes_its_unfinished_packs_with_it() {
    let place = Place::new();
    let repository = place.init(Version::V2).await;
    let (snapshot, file) = half_way(&place, &repository).await;
    drop((snapshot, file));
    until("the unfinished packs to go", || unfinished(&place).is_empty()).await;
    assert_eq!(repository.snapshots(&everyone()).await.unwrap(), []);
    place.restic_check().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn packs_that_change_before_they_are_whole_are_never_committed() {
    for damage in
        [|file: &Path| std::fs::remove_file(file), |file: &Path| std::fs::write(file, "x")]
    {
        let place = Place::new();
        let repository = place.init(Version::V2).await;
        let (snapshot, file) = half_way(&place, &repository).await;
        unfinished(&place).iter().for_each(|file| drop(damage(file)));
        let error = match file.finish().await {
            Err(error) => error,
            Ok(_) => snapshot.commit().await.unwrap_err(),
        };
        assert_eq!(error.kind(), Kind::Unavailable, "{}", error.chain());
        assert!(error.chain().contains(&place.path().display().to_string()), "{}", error.chain());
        assert_eq!(repository.snapshots(&everyone()).await.unwrap(), []);
        let content = noise(7);
        backup(&repository, BackupOptions::default(), &[("/dump", &content)]).await.unwrap();
        place.restic_check().await;
    }
}

#[tokio::test]
async fn prune_deletes_what_a_writer_left_that_was_killed() {
    let place = Place::new();
    let repository = place.init(Version::V2).await;
    backup(&repository, BackupOptions::default(), &[("/dump", &noise(1))]).await.unwrap();
    let left = place.path().join("data/00/coffer-tmp-abc");
    std::fs::create_dir_all(left.parent().unwrap()).unwrap();
    std::fs::write(&left, "half of a pack").unwrap();
    repository.check(&Default::default()).await.unwrap();
    let dry_run = prune::Options { dry_run: true, ..prune::Options::default() };
    repository.prune(&dry_run).await.unwrap();
    assert_eq!(unfinished(&place), [left]);
    repository.prune(&prune::Options::default()).await.unwrap();
    assert_eq!(unfinished(&place), <[PathBuf; 0]>::default());
    place.restic_check().await;
}
