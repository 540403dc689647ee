//! What is wrong with the repository: its password, its directory, its disk, the snapshot that is asked for. (Buckets are
//! in `s3.rs`.)

use std::path::Path;

use anyhow::Result;
use coffer_api::restore_session::RestorePhase;
use coffer_tests::{
    confined::{Confinement, Sealed},
    restic_program::ResticProgram,
    world::{RESTIC_PASSWORD, World, configuration, restore_session},
};
use rand::RngCore as _;

use super::{
    COFFER, backup_shows, good_backup, restore_failed, restore_shows, secret, shows, still,
    still_in, with_snapshot,
};

#[tokio::test]
async fn a_wrong_password_is_not_a_reason_to_begin_anew() -> Result<()> {
    let (world, id) = with_snapshot().await?;
    world.apply(&secret("storage", "RESTIC_PASSWORD", "wrong"))?;
    backup_shows(&world, "bad", &["password", "repo"]).await?;
    restore_shows(&world, "bad-restore", "orders", &["password", "repo"]).await?;
    still(&world, &id)
}

/// The repository's directory in another place.
fn moved(world: &World, place: &Path, kind: &str) -> String {
    let here = format!("path: \"{}\"", world.path("repository").display());
    let there = format!("path: \"{}\", type: {kind}", place.display());
    world.storage().replace(&here, &there)
}

#[tokio::test]
async fn a_directory_that_is_missing_or_cannot_be_made() -> Result<()> {
    let (world, id) = with_snapshot().await?;
    let missing = world.path("missing");
    world.apply(&moved(&world, &missing, "Directory"))?;
    backup_shows(&world, "missing", &["/missing", "mount the volume, or make the directory"])
        .await?;
    restore_shows(&world, "missing-restore", "orders", &["/missing", "repo"]).await?;
    assert!(!missing.exists(), "nothing was made");

    let file = world.path("a-file");
    std::fs::write(&file, "")?;
    world.apply(&moved(&world, &file.join("below"), "DirectoryOrCreate"))?;
    backup_shows(&world, "in-file", &["a-file/below", "repo"]).await?;
    still(&world, &id)
}

#[tokio::test]
async fn a_directory_that_is_read_only() -> Result<()> {
    let world = World::confined(COFFER, |_| Ok(Confinement::no_override())).await?;
    let id = good_backup(&world, &world.restic()).await?;
    let sealed = Sealed::new(&world.path("repository"))?;
    let place = world.path("repository").display().to_string();
    backup_shows(&world, "bad", &[&place, "writable", "demo/repo"]).await?;
    drop(sealed);
    still(&world, &id)
}

#[tokio::test]
async fn a_disk_that_is_full() -> Result<()> {
    let confine = |folder: &Path| Confinement::small_disk(&folder.join("repository"), 8);
    let world = World::confined(COFFER, confine).await?;
    // The disk is Coffer's alone; so it is seen through its eyes.
    let seen = format!("/proc/{}/root{}", world.coffer.pid(), world.path("repository").display());
    let restic = ResticProgram::new(Path::new(&seen), RESTIC_PASSWORD);
    let id = good_backup(&world, &restic).await?;
    let mut noise = vec![0; 24 << 20];
    rand::rng().fill_bytes(&mut noise);
    let mut connection = world.redis.connect().await?;
    redis::cmd("SET").arg("noise").arg(noise).exec_async(&mut connection).await?;
    backup_shows(&world, "bad", &["free some space", "demo/repo"]).await?;
    still_in(&restic, &id)?;

    // What the failed backup left is no data, and in nobody's way.
    world.redis.command::<()>(&["DEL", "noise"]).await?;
    world.redis.command::<()>(&["SET", "b", "2"]).await?;
    restore_of(&world, "back", &id).await
}

/// A restore from the disk that is full: reading takes no room.
async fn restore_of(world: &World, session: &str, id: &str) -> Result<()> {
    let status = world.restore(session, "orders", id).await?;
    assert_eq!(status.phase, Some(RestorePhase::Succeeded), "{status:#?}");
    assert_eq!(world.redis.command::<String>(&["GET", "a"]).await?, "1");
    Ok(())
}

#[tokio::test]
async fn a_snapshot_that_does_not_exist() -> Result<()> {
    let (world, id) = with_snapshot().await?;
    restore_failed(&world.restore("bad", "orders", "0123abcd").await?);
    shows(&world, "restoresession", "bad", &["0123abcd"])?;
    world.apply(
        &restore_session("bad-host", "orders", "latest", "")
            .replace("rules: [{", "alias: other\n    rules: [{"),
    )?;
    restore_failed(&world.restored("bad-host").await?);
    shows(&world, "restoresession", "bad-host", &["other"])?;
    assert_eq!(world.redis.command::<String>(&["GET", "a"]).await?, "1", "nothing was touched");
    still(&world, &id)
}

#[tokio::test]
async fn remains_of_another_repository_are_not_buried() -> Result<()> {
    let (world, id) = with_snapshot().await?;
    let config = world.path("repository").join("config");
    let kept = std::fs::read(&config)?;
    std::fs::remove_file(&config)?;
    world.apply(&configuration("orders", "0 0 1 1 *", ""))?;
    backup_shows(&world, "bad", &["config", "repo"]).await?;
    std::fs::write(&config, kept)?;
    still(&world, &id)
}
