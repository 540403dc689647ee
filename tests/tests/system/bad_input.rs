//! Bad input and broken surroundings: each ends in a message that names the object, the cause and the remedy where a user
//! looks for it, in `kubectl describe`, and `latest` still names the last complete snapshot.

mod redis;
mod repository;
mod spec;

use anyhow::{Context as _, Result};
use coffer_api::{
    backup_session::{BackupSessionStatus, SessionPhase},
    restore_session::{RestorePhase, RestoreSessionStatus},
};
use coffer_tests::{
    redis_server,
    restic_program::ResticProgram,
    world::{NAMESPACE, World},
};

use crate::COFFER;

/// Asserts that `kubectl describe` of an object shows every one of `texts`, and no password.
fn shows(world: &World, kind: &str, name: &str, texts: &[&str]) -> Result<()> {
    let described = world.describe(kind, name)?;
    for text in texts {
        assert!(described.contains(text), "\"{text}\" is not in\n{described}");
    }
    assert!(!described.contains(world.redis.password()), "the password is shown:\n{described}");
    Ok(())
}

/// A backup that must fail, and what is shown of it.
async fn backup_shows(world: &World, session: &str, texts: &[&str]) -> Result<()> {
    failed(&world.back_up(session, "orders").await?);
    shows(world, "backupsession", session, texts)
}

/// A restore of the latest snapshot that must fail, and what is shown of it.
async fn restore_shows(world: &World, session: &str, target: &str, texts: &[&str]) -> Result<()> {
    restore_failed(&world.restore(session, target, "latest").await?);
    shows(world, "restoresession", session, texts)
}

fn failed(status: &BackupSessionStatus) {
    assert_eq!(status.phase, Some(SessionPhase::Failed), "{status:#?}");
}

fn restore_failed(status: &RestoreSessionStatus) {
    assert_eq!(status.phase, Some(RestorePhase::Failed), "{status:#?}");
}

/// A world with one good snapshot, whose id is returned.
async fn with_snapshot() -> Result<(World, String)> {
    with_snapshot_of(redis_server::Options::default()).await
}

async fn with_snapshot_of(redis: redis_server::Options) -> Result<(World, String)> {
    let world = World::with_redis(COFFER, redis).await?;
    let id = good_backup(&world, &world.restic()).await?;
    Ok((world, id))
}

/// Makes the objects and the one good snapshot of a world.
async fn good_backup(world: &World, restic: &ResticProgram) -> Result<String> {
    world.redis.command::<()>(&["SET", "a", "1"]).await?;
    world.apply_basics()?;
    let status = world.back_up("good", "orders").await?;
    assert_eq!(status.phase, Some(SessionPhase::Succeeded), "{status:#?}");
    latest(restic)
}

fn latest(restic: &ResticProgram) -> Result<String> {
    let snapshot = restic.snapshots()?.pop().context("no snapshot")?;
    Ok(snapshot["id"].as_str().context("no id")?.to_owned())
}

/// Asserts that `latest` names this snapshot, and that the repository is sound.
fn still(world: &World, id: &str) -> Result<()> {
    still_in(&world.restic(), id)
}

fn still_in(restic: &ResticProgram, id: &str) -> Result<()> {
    assert_eq!(latest(restic)?, id, "`latest` has moved");
    restic.check()
}

fn secret(name: &str, key: &str, value: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: Secret, metadata: {{name: {name}, namespace: {NAMESPACE}}}, stringData: {{{key}: \"{value}\"}}}}"
    )
}
