//! Bad input and broken surroundings: each ends in a message that names the object, the cause and the remedy where a user
//! looks for it, in `kubectl describe`, and `latest` still names the last complete snapshot.

use anyhow::{Context as _, Result};
use coffer_api::{
    backup_session::{BackupSessionStatus, SessionPhase},
    restore_session::{RestorePhase, RestoreSessionStatus},
};
use coffer_tests::{
    redis_server::{self, RedisServer},
    world::{NAMESPACE, World, configuration, restore_session},
};

const COFFER: &str = env!("CARGO_BIN_EXE_coffer-under-test");

/// Asserts that `kubectl describe` of the session shows every one of `texts`.
fn shows(world: &World, kind: &str, session: &str, texts: &[&str]) -> Result<()> {
    let described = world.describe(kind, session)?;
    // Long messages are wrapped by nobody, but blanks may be doubled.
    for text in texts {
        assert!(described.contains(text), "\"{text}\" is not in\n{described}");
    }
    assert!(!described.contains(world.redis.password()), "the password is shown:\n{described}");
    Ok(())
}

fn failed(status: &BackupSessionStatus) {
    assert_eq!(status.phase, Some(SessionPhase::Failed), "{status:#?}");
}

fn restore_failed(status: &RestoreSessionStatus) {
    assert_eq!(status.phase, Some(RestorePhase::Failed), "{status:#?}");
}

/// A world with one good snapshot, whose id is returned.
async fn with_snapshot() -> Result<(World, String)> {
    let world = World::start(COFFER).await?;
    world.redis.command::<()>(&["SET", "a", "1"]).await?;
    world.apply_basics()?;
    let status = world.back_up("good", "orders").await?;
    assert_eq!(status.phase, Some(SessionPhase::Succeeded), "{status:#?}");
    let id = latest(&world)?;
    Ok((world, id))
}

fn latest(world: &World) -> Result<String> {
    let snapshot = world.restic().snapshots()?.pop().context("no snapshot")?;
    Ok(snapshot["id"].as_str().context("no id")?.to_owned())
}

fn still(world: &World, id: &str) -> Result<()> {
    assert_eq!(latest(world)?, id, "`latest` has moved");
    world.restic().check()
}

fn secret(name: &str, key: &str, value: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: Secret, metadata: {{name: {name}, namespace: {NAMESPACE}}}, stringData: {{{key}: \"{value}\"}}}}"
    )
}

#[tokio::test]
async fn a_wrong_redis_password() -> Result<()> {
    let (world, id) = with_snapshot().await?;
    world.apply(&secret("orders-auth", "password", "wrong"))?;
    failed(&world.back_up("bad", "orders").await?);
    let port = world.redis.port.to_string();
    shows(&world, "backupsession", "bad", &["127.0.0.1", &port, "password"])?;
    restore_failed(&world.restore("bad-restore", "orders", "latest").await?);
    shows(&world, "restoresession", "bad-restore", &["127.0.0.1", "password"])?;
    still(&world, &id)
}

#[tokio::test]
async fn a_user_without_rights() -> Result<()> {
    let (world, id) = with_snapshot().await?;
    world
        .redis
        .command::<()>(&["ACL", "SETUSER", "poor", "on", ">pw", "+ping", "+info", "~*"])
        .await?;
    let auth = format!(
        "{{apiVersion: v1, kind: Secret, metadata: {{name: orders-auth, namespace: {NAMESPACE}}}, stringData: {{username: poor, password: pw}}}}"
    );
    world.apply(&auth)?;
    failed(&world.back_up("bad", "orders").await?);
    shows(&world, "backupsession", "bad", &["NOPERM", "+psync", "127.0.0.1"])?;
    still(&world, &id)
}

#[tokio::test]
async fn a_host_that_does_not_answer() -> Result<()> {
    let (mut world, id) = with_snapshot().await?;
    let yaml = configuration("orders", "0 0 1 1 *", "");
    let quick = "task: {name: redis-backup-7.0.5, params: [{name: waitTimeout, value: \"1\"}]}";
    world.apply(&yaml.replace("task: {name: redis-backup-7.0.5}", quick))?;
    world.redis.kill();
    failed(&world.back_up("bad", "orders").await?);
    let port = world.redis.port.to_string();
    shows(&world, "backupsession", "bad", &["127.0.0.1", &port, "refused"])?;
    still(&world, &id)
}

#[tokio::test]
async fn tls_that_the_server_does_not_speak() -> Result<()> {
    let (world, id) = with_snapshot().await?;
    let plain = format!("redis://127.0.0.1:{}", world.redis.port);
    let tls = format!("rediss://127.0.0.1:{}", world.redis.port);
    world.apply(&world.app_binding("orders", &world.redis).replace(&plain, &tls))?;
    failed(&world.back_up("bad", "orders").await?);
    shows(&world, "backupsession", "bad", &["TLS", "127.0.0.1"])?;
    still(&world, &id)
}

#[tokio::test]
async fn a_wrong_repository_password_is_not_a_reason_to_begin_anew() -> Result<()> {
    let (world, id) = with_snapshot().await?;
    world.apply(&secret("storage", "RESTIC_PASSWORD", "wrong"))?;
    failed(&world.back_up("bad", "orders").await?);
    shows(&world, "backupsession", "bad", &["password", "repo"])?;
    restore_failed(&world.restore("bad-restore", "orders", "latest").await?);
    shows(&world, "restoresession", "bad-restore", &["password", "repo"])?;
    still(&world, &id)
}

#[tokio::test]
async fn a_directory_that_cannot_be_made() -> Result<()> {
    let world = World::start(COFFER).await?;
    let file = world.path("a-file");
    std::fs::write(&file, "")?;
    let repository = world.path("repository").display().to_string();
    world
        .apply(&world.storage().replace(&repository, &file.join("below").display().to_string()))?;
    world.apply(&world.app_binding("orders", &world.redis))?;
    world.apply(&configuration("orders", "0 0 1 1 *", ""))?;
    failed(&world.back_up("bad", "orders").await?);
    shows(&world, "backupsession", "bad", &["a-file/below", "repo"])?;
    Ok(())
}

#[tokio::test]
async fn an_unknown_task_function_or_variable_is_named() -> Result<()> {
    let (world, id) = with_snapshot().await?;
    let yaml = configuration("orders", "0 0 1 1 *", "");
    let with_task = |task: &str| yaml.replace("name: redis-backup-7.0.5", &format!("name: {task}"));
    world.apply(
        r#"apiVersion: stash.appscode.com/v1beta1
kind: Task
metadata: {name: no-function}
spec: {steps: [{name: nowhere}]}
---
apiVersion: stash.appscode.com/v1beta1
kind: Function
metadata: {name: asks}
spec: {image: x, args: ["--x=${noSuchVariable}"]}
---
apiVersion: stash.appscode.com/v1beta1
kind: Task
metadata: {name: no-variable}
spec: {steps: [{name: asks}]}
---
apiVersion: stash.appscode.com/v1beta1
kind: Function
metadata: {name: alien}
spec: {image: "registry.example.org/alien:1"}
---
apiVersion: stash.appscode.com/v1beta1
kind: Task
metadata: {name: no-program}
spec: {steps: [{name: alien}]}
"#,
    )?;
    for (task, session, texts) in [
        ("no-such-task", "bad-task", vec!["no-such-task"]),
        ("no-function", "bad-function", vec!["nowhere", "no-function"]),
        ("no-variable", "bad-variable", vec!["noSuchVariable", "asks"]),
        ("no-program", "bad-image", vec!["registry.example.org/alien:1"]),
    ] {
        world.apply(&with_task(task))?;
        failed(&world.back_up(session, "orders").await?);
        shows(&world, "backupsession", session, &texts)?;
    }
    still(&world, &id)
}

#[tokio::test]
async fn a_schedule_that_is_none() -> Result<()> {
    let world = World::start(COFFER).await?;
    world.apply_basics()?;
    world.apply(&configuration("broken", "every tuesday", ""))?;
    let invalid = Some(coffer_api::backup_configuration::InvokerPhase::Invalid);
    world
        .until("broken", "is Invalid", |c: &coffer_api::BackupConfiguration| {
            c.status.as_ref().is_some_and(|s| s.phase == invalid)
        })
        .await?;
    shows(&world, "backupconfiguration", "broken", &["every tuesday", "schedule"])
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
    let done = |s: &coffer_api::RestoreSession| {
        s.status.as_ref().and_then(|s| s.phase).is_some_and(RestorePhase::is_final)
    };
    let session = world.until("bad-host", "is final", done).await?;
    restore_failed(&session.status.context("no status")?);
    shows(&world, "restoresession", "bad-host", &["other"])?;
    assert_eq!(world.redis.command::<String>(&["GET", "a"]).await?, "1", "nothing was touched");
    still(&world, &id)
}

#[tokio::test]
async fn a_redis_without_its_app_binding_or_secret() -> Result<()> {
    let (world, id) = with_snapshot().await?;
    world.kubectl(&["delete", "secret", "orders-auth"])?;
    failed(&world.back_up("no-secret", "orders").await?);
    shows(&world, "backupsession", "no-secret", &["orders-auth"])?;
    still(&world, &id)
}

#[tokio::test]
async fn a_cluster_is_not_backed_up_by_halves() -> Result<()> {
    let options = redis_server::Options {
        config: vec!["cluster-enabled yes".into()],
        databases: 1,
        ..Default::default()
    };
    let world = World::with_redis(COFFER, options).await?;
    world.apply_basics()?;
    failed(&world.back_up("bad", "orders").await?);
    shows(&world, "backupsession", "bad", &["cluster"])
}

#[tokio::test]
async fn a_restore_into_a_server_that_lacks_rights_or_memory_says_what_it_wrote() -> Result<()> {
    let (world, id) = with_snapshot().await?;
    let small = RedisServer::start(redis_server::Options {
        config: vec!["maxmemory 1mb".into(), "maxmemory-policy noeviction".into()],
        ..Default::default()
    })
    .await?;
    let value = "x".repeat(4 << 20);
    world.redis.command::<()>(&["SET", "large", &value]).await?;
    world.back_up("large", "orders").await?;
    world.apply(&world.app_binding("small", &small))?;
    restore_failed(&world.restore("bad", "small", "latest").await?);
    shows(&world, "restoresession", "bad", &["OOM"])?;
    assert_ne!(latest(&world)?, id);
    Ok(())
}
