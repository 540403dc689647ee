//! What is killed in the midst of its work: Redis, the worker, Coffer itself. The session settles as Failed with the true
//! reason, nothing partial is listed, and the next session succeeds.

use std::{path::Path, process::Command};

use anyhow::{Context as _, Result};
use coffer_api::{
    BackupSession,
    backup_session::{SessionPhase, TargetPhase},
    restore_session::RestorePhase,
};
use coffer_tests::{
    confined::Confinement,
    dataset,
    gateway::Gateway,
    redis_server, wait,
    world::{SESSION_LIMIT, World, configuration, restore_session},
};
use kube::api::DeleteParams;

use crate::COFFER;

const GATEWAY: &str = env!("CARGO_BIN_EXE_storage-gateway-under-test");

/// A world whose Redis holds enough that a session takes a while, and one good snapshot of less, with its id.
async fn slow_world() -> Result<(World, String)> {
    slow(World::start(COFFER).await?).await
}

async fn slow(world: World) -> Result<(World, String)> {
    world.redis.command::<()>(&["SET", "a", "1"]).await?;
    world.apply_basics()?;
    let status = world.back_up("good", "orders").await?;
    assert_eq!(status.phase, Some(SessionPhase::Succeeded), "{status:#?}");
    let good = latest(&world)?;
    world.redis.command::<()>(&["FLUSHALL"]).await?;
    // The server sleeps between keys of an RDB: the dump then takes seconds, whatever the machine.
    dataset::load(&world.redis.client()?, &dataset::Spec::small()).await?;
    world.redis.command::<()>(&["CONFIG", "SET", "rdb-key-save-delay", "2000"]).await?;
    Ok((world, good))
}

fn latest(world: &World) -> Result<String> {
    let snapshot = world.restic().snapshots()?.pop().context("no snapshot")?;
    Ok(snapshot["id"].as_str().context("no id")?.to_owned())
}

/// Asserts that `latest` names this snapshot.
fn still(world: &World, id: &str) -> Result<()> {
    assert_eq!(latest(world)?, id, "`latest` has moved");
    Ok(())
}

/// Waits until the session's worker runs, and returns its process id.
async fn worker(world: &World) -> Result<u32> {
    wait::until("a worker runs", SESSION_LIMIT, async || Ok(worker_of(world.coffer.pid()))).await
}

fn worker_of(coffer: u32) -> Option<u32> {
    let children = format!("/proc/{coffer}/task");
    let tasks = std::fs::read_dir(children).ok()?.flatten();
    let read = |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("children")).ok();
    tasks
        .filter_map(read)
        .flat_map(|t| t.split_whitespace().filter_map(|p| p.parse().ok()).collect::<Vec<u32>>())
        .next()
}

/// Waits until the server has begun to write a dump.
async fn dumping(world: &World) -> Result<()> {
    wait::until("the server dumps", SESSION_LIMIT, async || {
        let info: String = world.redis.command(&["INFO", "persistence"]).await?;
        Ok(info.contains("rdb_bgsave_in_progress:1").then_some(()))
    })
    .await
}

async fn only_the_good_one_is_listed_and_the_next_succeeds(
    world: &World,
    good: &str,
) -> Result<()> {
    assert_eq!(world.restic().snapshots()?.len(), 1);
    still(world, good)?;
    world.redis.command::<()>(&["CONFIG", "SET", "rdb-key-save-delay", "0"]).await?;
    let status = world.back_up("next", "orders").await?;
    assert_eq!(status.phase, Some(SessionPhase::Succeeded), "{status:#?}");
    assert_eq!(world.restic().snapshots()?.len(), 2);
    world.restic().check()
}

#[tokio::test]
async fn redis_in_mid_dump() -> Result<()> {
    let (mut world, good) = slow_world().await?;
    world.create_backup_session("bad", "orders").await?;
    dumping(&world).await?;
    world.redis.kill();
    let status = world.settled("bad").await?;
    assert_eq!(status.phase, Some(SessionPhase::Failed), "{status:#?}");
    assert_eq!(status.targets[0].phase, Some(TargetPhase::Failed));
    let error = status.targets[0].stats[0].error.clone().context("no error")?;
    assert!(error.contains(&world.redis.port.to_string()), "{error}");
    let described = world.describe("backupsession", "bad")?;
    assert!(described.contains("connection"), "{described}");
    world.redis.restart().await?;
    world.redis.command::<()>(&["SET", "b", "2"]).await?;
    only_the_good_one_is_listed_and_the_next_succeeds(&world, &good).await
}

#[tokio::test]
async fn the_worker_in_mid_dump() -> Result<()> {
    let (world, good) = slow_world().await?;
    world.create_backup_session("bad", "orders").await?;
    dumping(&world).await?;
    let pid = worker(&world).await?;
    assert!(Command::new("kill").args(["-KILL", &pid.to_string()]).status()?.success());
    let status = world.settled("bad").await?;
    assert_eq!(status.phase, Some(SessionPhase::Failed), "{status:#?}");
    let described = world.describe("backupsession", "bad")?;
    assert!(
        described.contains("137")
            || described.contains("SIGKILL")
            || described.contains("signal 9"),
        "{described}"
    );
    only_the_good_one_is_listed_and_the_next_succeeds(&world, &good).await
}

/// The gateway alone: everybody else lives, and tells of it.
#[tokio::test]
async fn the_gateway_in_mid_stream() -> Result<()> {
    let port = redis_server::free_port()?;
    let flag = format!("--storage-gateway=https://127.0.0.1:{port}");
    let world = World::with_flags(COFFER, &[flag]).await?;
    let mut gateway = Gateway::start(Path::new(GATEWAY), &world.coffer, port).await?;
    let (world, good) = slow(world).await?;
    world.create_backup_session("bad", "orders").await?;
    dumping(&world).await?;
    gateway.kill();
    let status = world.settled("bad").await?;
    assert_eq!(status.phase, Some(SessionPhase::Failed), "{status:#?}");
    let described = world.describe("backupsession", "bad")?;
    for text in ["storage-gateway", &port.to_string()] {
        assert!(described.contains(text), "\"{text}\" is not in\n{described}");
    }
    gateway.restart().await?;
    only_the_good_one_is_listed_and_the_next_succeeds(&world, &good).await
}

#[tokio::test]
async fn the_whole_of_coffer_in_mid_dump() -> Result<()> {
    let (mut world, good) = slow_world().await?;
    world.create_backup_session("bad", "orders").await?;
    dumping(&world).await?;
    world.restart_coffer(&Confinement::none()).await?;
    let status = world.settled("bad").await?;
    assert_eq!(status.phase, Some(SessionPhase::Failed), "{status:#?}");
    let described = world.describe("backupsession", "bad")?;
    assert!(described.contains("its processes with it"), "{described}");
    // The dead gateway's lock is in the way of nothing that comes after.
    only_the_good_one_is_listed_and_the_next_succeeds(&world, &good).await
}

/// Starts a restore and waits until it writes. Nothing is answered to it, so that it cannot win the race against what the
/// test does next.
async fn restoring(world: &World, session: &str) -> Result<()> {
    world.redis.command::<()>(&["CLIENT", "PAUSE", "600000", "WRITE"]).await?;
    world.apply(&restore_session(session, "orders", "latest", ""))?;
    wait::until("the worker writes", SESSION_LIMIT, async || {
        let clients: String = world.redis.command(&["CLIENT", "LIST"]).await?;
        let writes = |c: &str| {
            ["restore", "set", "function"].iter().any(|w| c.contains(&format!("cmd={w}")))
        };
        Ok(clients.lines().any(writes).then_some(()))
    })
    .await
}

#[tokio::test]
async fn redis_in_mid_restore() -> Result<()> {
    let mut world = World::start(COFFER).await?;
    dataset::load(&world.redis.client()?, &dataset::Spec::small()).await?;
    world.apply_basics()?;
    world.back_up("good", "orders").await?;
    let good = latest(&world)?;
    world.redis.command::<()>(&["FLUSHALL"]).await?;
    restoring(&world, "bad").await?;
    world.redis.kill();
    let status = world.restored("bad").await?;
    assert_eq!(status.phase, Some(RestorePhase::Failed), "{status:#?}");
    let described = world.describe("restoresession", "bad")?;
    for text in [&world.redis.port.to_string(), "connection"] {
        assert!(described.contains(text), "\"{text}\" is not in\n{described}");
    }
    still(&world, &good)?;
    world.redis.restart().await?;
    let again = world.restore("again", "orders", "latest").await?;
    assert_eq!(again.phase, Some(RestorePhase::Succeeded), "{again:#?}");
    Ok(())
}

#[tokio::test]
async fn the_worker_in_mid_restore() -> Result<()> {
    let world = World::start(COFFER).await?;
    dataset::load(&world.redis.client()?, &dataset::Spec::small()).await?;
    world.apply_basics()?;
    world.back_up("good", "orders").await?;
    let good = latest(&world)?;
    restoring(&world, "bad").await?;
    let pid = worker(&world).await?;
    assert!(Command::new("kill").args(["-KILL", &pid.to_string()]).status()?.success());
    let status = world.restored("bad").await?;
    assert_eq!(status.phase, Some(RestorePhase::Failed), "{status:#?}");
    let described = world.describe("restoresession", "bad")?;
    assert!(described.contains("was killed by signal 9"), "{described}");
    still(&world, &good)?;
    world.redis.command::<()>(&["CLIENT", "UNPAUSE"]).await?;
    let again = world.restore("again", "orders", "latest").await?;
    assert_eq!(again.phase, Some(RestorePhase::Succeeded), "{again:#?}");
    Ok(())
}

#[tokio::test]
async fn the_gateway_in_mid_restore() -> Result<()> {
    let port = redis_server::free_port()?;
    let flag = format!("--storage-gateway=https://127.0.0.1:{port}");
    let world = World::with_flags(COFFER, &[flag]).await?;
    let mut gateway = Gateway::start(Path::new(GATEWAY), &world.coffer, port).await?;
    // More than all windows and buffers between the gateway and Redis hold.
    world.redis.command::<()>(&["CONFIG", "SET", "rdbcompression", "no"]).await?;
    for n in 0..128 {
        let key = format!("large:{n}");
        world.redis.command::<()>(&["SETRANGE", &key, "1048575", "x"]).await?;
    }
    world.apply_basics()?;
    world.back_up("good", "orders").await?;
    let good = latest(&world)?;
    world.redis.command::<()>(&["FLUSHALL"]).await?;
    restoring(&world, "bad").await?;
    gateway.kill();
    world.redis.command::<()>(&["CLIENT", "UNPAUSE"]).await?;
    let status = world.restored("bad").await?;
    assert_eq!(status.phase, Some(RestorePhase::Failed), "{status:#?}");
    let described = world.describe("restoresession", "bad")?;
    for text in ["storage-gateway", &port.to_string()] {
        assert!(described.contains(text), "\"{text}\" is not in\n{described}");
    }
    still(&world, &good)?;
    gateway.restart().await?;
    let again = world.restore("again", "orders", "latest").await?;
    assert_eq!(again.phase, Some(RestorePhase::Succeeded), "{again:#?}");
    assert_eq!(world.redis.command::<u32>(&["DBSIZE"]).await?, 128);
    Ok(())
}

#[tokio::test]
async fn a_deadline_stops_the_job() -> Result<()> {
    let (world, good) = slow_world().await?;
    let yaml = configuration("orders", "0 0 1 1 *", "  timeOut: 2s");
    world.apply(&yaml)?;
    world.create_backup_session("late", "orders").await?;
    let status = world.settled("late").await?;
    assert_eq!(status.phase, Some(SessionPhase::Failed), "{status:#?}");
    assert!(coffer_api::condition::DEADLINE_EXCEEDED.holds(&status.conditions), "{status:#?}");
    wait::until("the worker is gone", SESSION_LIMIT, async || {
        Ok(worker_of(world.coffer.pid()).is_none().then_some(()))
    })
    .await?;
    world.apply(&configuration("orders", "0 0 1 1 *", ""))?;
    only_the_good_one_is_listed_and_the_next_succeeds(&world, &good).await
}

#[tokio::test]
async fn deleting_a_running_session_stops_its_worker() -> Result<()> {
    let (world, good) = slow_world().await?;
    world.create_backup_session("gone", "orders").await?;
    dumping(&world).await?;
    world.api::<BackupSession>().delete("gone", &DeleteParams::default()).await?;
    wait::until("the worker is gone", SESSION_LIMIT, async || {
        Ok(worker_of(world.coffer.pid()).is_none().then_some(()))
    })
    .await?;
    only_the_good_one_is_listed_and_the_next_succeeds(&world, &good).await
}
