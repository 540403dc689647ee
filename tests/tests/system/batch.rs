//! A BackupBatch: two servers, one session, one repository; what goes wrong with one of them; and its hooks.

use anyhow::{Context as _, Result};
use coffer_api::{
    BackupBatch, BackupSession, RestoreBatch, RestoreSession,
    backup_configuration::InvokerPhase,
    backup_session::{SessionPhase, TargetPhase},
    restore_session::RestorePhase,
};
use coffer_tests::{
    coffer::Output,
    listener::Listener,
    redis_server::{Options, RedisServer},
    wait,
    world::{SESSION_LIMIT, World},
};

use crate::COFFER;

fn batch(order: &str, hooks: &str) -> String {
    let member = |name: &str, hooks: &str| {
        format!(
            "  - target: {{alias: {name}, ref: {{apiVersion: appcatalog.appscode.com/v1alpha1, kind: AppBinding, name: {name}}}}}\n    task: {{name: redis-backup-7.0.5, params: [{{name: waitTimeout, value: \"2\"}}]}}\n{hooks}"
        )
    };
    let own = |name: &str| hooks.replace("WHO", name);
    let split = |name: &str| match own(name).split_once("---\n") {
        Some((_, members)) => members.to_owned(),
        None => String::new(),
    };
    let global = hooks.split_once("---\n").map_or("", |(global, _)| global);
    format!(
        "apiVersion: stash.appscode.com/v1beta1\nkind: BackupBatch\nmetadata: {{name: shop, namespace: demo}}\nspec:\n  schedule: \"0 0 1 1 *\"\n  executionOrder: {order}\n  repository: {{name: repo}}\n  retentionPolicy: {{name: last-5, keepLast: 5, prune: true}}\n{global}  members:\n{}{}",
        member("orders", &split("orders")),
        member("carts", &split("carts")),
    )
}

async fn ready(world: &World) -> Result<BackupBatch> {
    let is_ready = |batch: &BackupBatch| {
        let status = batch.status.as_ref();
        status.is_some_and(|s| {
            s.phase == Some(InvokerPhase::Ready)
                && s.observed_generation == batch.metadata.generation
        })
    };
    world.until("shop", "is Ready", is_ready).await
}

fn start(world: &World, name: &str) -> Result<()> {
    let session = serde_json::json!({"apiVersion": "stash.appscode.com/v1beta1", "kind": "BackupSession",
        "metadata": {"name": name, "namespace": "demo", "labels": {
            "stash.appscode.com/invoker-type": "BackupBatch", "stash.appscode.com/invoker-name": "shop"}},
        "spec": {"invoker": {"kind": "BackupBatch", "name": "shop"}}});
    world.apply(&session.to_string()).map(|_| ())
}

/// Two RestoreSessions, one after the other, out of one snapshot each.
async fn comes_back(world: &World, carts: &RedisServer) -> Result<()> {
    for server in [&world.redis, carts] {
        server.command::<()>(&["FLUSHALL"]).await?;
    }
    let member = |name: &str| {
        format!(
            "  - target: {{alias: {name}, ref: {{apiVersion: appcatalog.appscode.com/v1alpha1, kind: AppBinding, name: {name}}}, rules: [{{snapshots: [latest]}}]}}\n    task: {{name: redis-restore-7.0.5}}\n"
        )
    };
    let header = |name: &str| {
        format!(
            "apiVersion: stash.appscode.com/v1beta1\nkind: RestoreBatch\nmetadata: {{name: {name}, namespace: demo}}\nspec:\n  executionOrder: Sequential\n  repository: {{name: repo}}\n  members:\n"
        )
    };
    world.apply(&format!("{}{}{}", header("back"), member("orders"), member("carts")))?;
    let is_over = |batch: &RestoreBatch| {
        let phase = batch.status.as_ref().and_then(|status| status.phase);
        phase.is_some_and(RestorePhase::is_final)
    };
    let status = world.until("back", "is final", is_over).await?.status.context("no status")?;
    assert_eq!(status.phase, Some(RestorePhase::Succeeded), "{status:#?}");
    let members: Vec<(&str, Option<RestorePhase>)> =
        status.members.iter().map(|m| (m.reference.name.as_str(), m.phase)).collect();
    let good = Some(RestorePhase::Succeeded);
    assert_eq!(members, [("orders", good), ("carts", good)]);
    assert_eq!(world.redis.command::<String>(&["GET", "a"]).await?, "1");
    assert_eq!(carts.command::<String>(&["GET", "b"]).await?, "2");
    world.kubectl(&["wait", "--for=condition=Succeeded", "restorebatch/back", "--timeout=10s"])?;

    // A member that cannot be restored fails the batch, and its sessions go with it.
    world.apply(
        &format!("{}{}{}", header("half"), member("nothing"), member("carts"))
            .replace("Sequential", "Parallel")
            .replace("snapshots: [latest]", "snapshots: [\"00000000\"]"),
    )?;
    world.apply(&world.app_binding("nothing", carts))?;
    let status = world.until("half", "is final", is_over).await?.status.context("no status")?;
    assert_eq!(status.phase, Some(RestorePhase::Failed), "{status:#?}");
    world.kubectl(&["delete", "restorebatch", "--all"])?;
    let restores = world.api::<RestoreSession>();
    wait::until("the sessions are gone", SESSION_LIMIT, async || {
        let left = restores.list(&kube::api::ListParams::default()).await?;
        Ok(left.items.is_empty().then_some(()))
    })
    .await
}

/// A batch is triggered by name, and nobody takes it for a BackupConfiguration.
fn by_hand(world: &World) -> Result<()> {
    let flags = ["-n", "demo", "-q", "-o", "json"];
    let said = world
        .coffer
        .run(&[&["backup", "shop", "--batch"], &flags[..]].concat(), Output::Captured)?;
    let said: serde_json::Value = serde_json::from_str(&said)?;
    assert_eq!(said["phase"], "Succeeded", "{said:#}");
    assert_eq!(said["target"], "orders, carts", "{said:#}");
    assert_eq!(said["repository"], "repo", "{said:#}");
    let said = world.coffer.run(&[&["backup", "shop"], &flags[..]].concat(), Output::Captured);
    let said = format!("{:#}", said.expect_err("there is no such BackupConfiguration"));
    assert!(said.contains("is a BackupBatch") && said.contains("--batch"), "{said}");
    Ok(())
}

#[tokio::test]
async fn one_session_backs_up_several_servers() -> Result<()> {
    let world = World::start(COFFER).await?;
    let mut carts = RedisServer::start(Options::default()).await?;
    world.redis.command::<()>(&["SET", "a", "1"]).await?;
    carts.command::<()>(&["SET", "b", "2"]).await?;
    world.apply(&world.storage())?;
    world.apply(&world.app_binding("orders", &world.redis))?;
    world.apply(&world.app_binding("carts", &carts))?;
    world.apply(&batch("Parallel", ""))?;
    let found = ready(&world).await?.status.context("no status")?;
    let targets: Vec<&str> =
        found.member_conditions.iter().map(|member| member.target.name.as_str()).collect();
    assert_eq!(targets, ["orders", "carts"]);

    start(&world, "first")?;
    let status = world.settled("first").await?;
    assert_eq!(status.phase, Some(SessionPhase::Succeeded), "{status:#?}");
    let hosts: Vec<(&str, usize)> = status
        .targets
        .iter()
        .flat_map(|target| &target.stats)
        .map(|host| (host.hostname.as_str(), host.snapshots.len()))
        .collect();
    assert_eq!(hosts, [("orders", 1), ("carts", 1)]);
    assert_eq!(world.repository_status().await?.snapshot_count, Some(2));
    let metrics = world.metrics().await?;
    for target in ["orders", "carts"] {
        let line = metrics.lines().find(|line| {
            line.starts_with("stash_appscode_com_backupsession_target_success{")
                && line.contains(&format!("name=\"{target}\""))
                && line.contains("invoker_kind=\"BackupBatch\"")
        });
        assert!(line.is_some_and(|line| line.ends_with(" 1")), "{target}: {line:?}");
    }

    comes_back(&world, &carts).await?;
    by_hand(&world)?;

    // One after the other, each with its hooks, and hooks around all. The second server is gone: the first one is backed
    // up all the same, and the session fails.
    let listener = Listener::start().await?;
    let tell = |what: &str| {
        format!(
            "{{httpPost: {{host: 127.0.0.1, port: {}, path: /{what}, body: \"{{{{ .Status.Phase }}}}\"}}}}",
            listener.port
        )
    };
    let hooks = format!(
        "  hooks: {{preBackup: {}, postBackup: {}}}\n---\n    hooks: {{preBackup: {}, postBackup: {}}}\n",
        tell("all-before"),
        tell("all-after"),
        tell("WHO-before"),
        tell("WHO-after")
    );
    world.apply(&batch("Sequential", &hooks))?;
    ready(&world).await?;
    carts.kill();
    start(&world, "second")?;
    let status = world.settled("second").await?;
    assert_eq!(status.phase, Some(SessionPhase::Failed), "{status:#?}");
    let phases: Vec<Option<TargetPhase>> = status.targets.iter().map(|t| t.phase).collect();
    assert_eq!(phases, [Some(TargetPhase::Succeeded), Some(TargetPhase::Failed)]);
    let told: Vec<String> =
        listener.told().into_iter().map(|told| format!("{} {}", told.line, told.body)).collect();
    assert_eq!(
        told,
        [
            "POST /all-before Succeeded",
            "POST /orders-before Succeeded",
            "POST /orders-after Succeeded",
            "POST /carts-before Succeeded",
            "POST /carts-after Failed",
            "POST /all-after Failed",
        ]
    );
    let global = status.conditions.iter().find(|c| c.kind == "GlobalPostBackupHookSucceeded");
    assert_eq!(global.context("no condition")?.reason, "GlobalPostBackupHookExecutedSuccessfully");
    let sessions = world.api::<BackupSession>().list(&kube::api::ListParams::default()).await?;
    // The history keeps one.
    assert_eq!(sessions.items.len(), 1);
    Ok(())
}
