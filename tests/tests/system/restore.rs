//! The way back: into the same Redis, into another, from an older snapshot, and from repositories that restic made.

use std::{io::Write as _, process::Stdio};

use anyhow::{Context as _, Result};
use coffer_api::{
    condition,
    restore_session::{HostRestorePhase, RestorePhase},
};
use coffer_tests::{
    compare, dataset,
    redis_server::{self, RedisServer},
    world::{World, restore_session},
};

use crate::COFFER;

#[tokio::test]
async fn latest_brings_every_key_back_also_when_it_is_done_twice() -> Result<()> {
    let world = World::start(COFFER).await?;
    dataset::load(&world.redis.client()?, &dataset::Spec::small()).await?;
    let before = compare::fingerprint(&world.redis.client()?).await?;
    world.apply_basics()?;
    world.back_up("orders-1", "orders").await?;
    world.redis.command::<()>(&["FLUSHALL"]).await?;
    for session in ["back-1", "back-2"] {
        let status = world.restore(session, "orders", "latest").await?;
        assert_eq!(status.phase, Some(RestorePhase::Succeeded), "{status:#?}");
        assert_eq!(status.total_hosts, Some(1));
        assert_eq!(status.stats[0].phase, Some(HostRestorePhase::Succeeded));
        for kind in [
            condition::REPOSITORY_FOUND,
            condition::BACKEND_SECRET_FOUND,
            condition::VALIDATION_PASSED,
            condition::RESTORE_TARGET_FOUND,
            condition::RESTORE_EXECUTOR_ENSURED,
            condition::METRICS_PUSHED,
        ] {
            assert!(kind.holds(&status.conditions), "{}: {:?}", kind.name, status.conditions);
        }
        let after = compare::fingerprint(&world.redis.client()?).await?;
        let differences = compare::compare(&before, &after);
        assert!(differences.is_empty(), "after {session}:\n{differences}");
    }
    let metrics = world.metrics().await?;
    let success =
        metrics.lines().find(|l| l.starts_with("stash_appscode_com_restoresession_success{"));
    assert!(success.context("no restoresession_success")?.ends_with(" 1"));
    Ok(())
}

#[tokio::test]
async fn latest_can_be_read_a_second_time_to_verify_what_was_restored() -> Result<()> {
    let world = World::start(COFFER).await?;
    dataset::load(&world.redis.client()?, &dataset::Spec::small()).await?;
    world.apply_basics()?;
    world.back_up("orders-1", "orders").await?;
    world.redis.command::<()>(&["FLUSHALL"]).await?;
    let verified = restore_session("verified", "orders", "latest", "").replace(
        "redis-restore-7.0.5}",
        "redis-restore-7.0.5, params: [{name: verify, value: \"true\"}]}",
    );
    world.apply(&verified)?;
    let status = world.restored("verified").await?;
    assert_eq!(status.phase, Some(RestorePhase::Succeeded), "{status:#?}");
    let described = world.describe("restoresession", "verified")?;
    assert!(described.contains("0 lost, 0 changed"), "{described}");
    Ok(())
}

#[tokio::test]
async fn an_older_snapshot_goes_into_another_redis() -> Result<()> {
    let world = World::start(COFFER).await?;
    world.apply_basics()?;
    world.redis.command::<()>(&["SET", "which", "first"]).await?;
    let first = world.back_up("orders-1", "orders").await?;
    world.redis.command::<()>(&["SET", "which", "second"]).await?;
    world.back_up("orders-2", "orders").await?;
    let id = first.targets[0].stats[0].snapshots[0].name.clone();

    let other = RedisServer::start(redis_server::Options {
        password: "other".into(),
        ..Default::default()
    })
    .await?;
    world.apply(&world.app_binding("copy", &other))?;
    let status = world.restore("to-copy", "copy", &id).await?;
    assert_eq!(status.phase, Some(RestorePhase::Succeeded), "{status:#?}");
    assert_eq!(other.command::<String>(&["GET", "which"]).await?, "first");
    let status = world.restore("to-copy-latest", "copy", "latest").await?;
    assert_eq!(status.phase, Some(RestorePhase::Succeeded), "{status:#?}");
    assert_eq!(other.command::<String>(&["GET", "which"]).await?, "second");
    Ok(())
}

#[tokio::test]
async fn what_restic_wrote_for_stash_restores_in_either_format() -> Result<()> {
    for version in ["1", "2"] {
        let world = World::start(COFFER).await?;
        let restic = world.restic();
        restic.run(&["init", "--repository-version", version])?;
        let mut child = restic
            .command()
            .args([
                "backup",
                "--quiet",
                "--stdin",
                "--stdin-filename",
                "dumpfile.resp",
                "--host",
                "host-0",
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()?;
        child.stdin.take().context("stdin")?.write_all(DUMPFILE)?;
        assert!(child.wait()?.success());

        world.apply_basics()?;
        // Twice: the second time must not double the list.
        for session in ["stash-1", "stash-2"] {
            let status = world.restore(session, "orders", "latest").await?;
            assert_eq!(
                status.phase,
                Some(RestorePhase::Succeeded),
                "format {version}: {status:#?}"
            );
        }
        let list: Vec<String> = world.redis.command(&["LRANGE", "list", "0", "-1"]).await?;
        assert_eq!(list, ["a", "b", "c"]);
        assert_eq!(world.redis.command::<String>(&["GET", "string"]).await?, "v");
        assert!(world.redis.command::<i64>(&["PEXPIRETIME", "string"]).await? > 0);
        assert_eq!(world.redis.command::<u64>(&["DBSIZE"]).await?, 2, "the marker is not data");
    }
    Ok(())
}

#[tokio::test]
async fn a_restore_without_rules_takes_the_latest_and_the_deprecated_place_is_read() -> Result<()> {
    let world = World::start(COFFER).await?;
    world.apply_basics()?;
    world.redis.command::<()>(&["SET", "a", "1"]).await?;
    world.back_up("orders-1", "orders").await?;
    let with_rules =
        restore_session("old-place", "orders", "x", "  rules: [{snapshots: [latest]}]");
    for (name, yaml) in [
        (
            "no-rules",
            restore_session("no-rules", "orders", "x", "")
                .replace("    rules: [{snapshots: [\"x\"]}]\n", ""),
        ),
        ("old-place", with_rules.replace("    rules: [{snapshots: [\"x\"]}]\n", "")),
    ] {
        world.redis.command::<()>(&["FLUSHALL"]).await?;
        world.apply(&yaml)?;
        assert_eq!(world.restored(name).await?.phase, Some(RestorePhase::Succeeded));
        assert_eq!(world.redis.command::<String>(&["GET", "a"]).await?, "1");
    }
    Ok(())
}

/// A dump as Stash's addon writes it, with its marker.
const DUMPFILE: &[u8] = b"*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n\
*3\r\n$3\r\nSET\r\n$6\r\nstring\r\n$1\r\nv\r\n\
*3\r\n$8\r\nEXPIREAT\r\n$6\r\nstring\r\n$10\r\n4102444800\r\n\
*4\r\n$5\r\nRPUSH\r\n$4\r\nlist\r\n$1\r\na\r\n$1\r\nb\r\n\
*3\r\n$5\r\nRPUSH\r\n$4\r\nlist\r\n$1\r\nc\r\n\
*3\r\n$3\r\nSET\r\n$22\r\n__redisdump_total_keys\r\n$1\r\n3\r\n";
