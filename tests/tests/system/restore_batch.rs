//! Hooks around all members of a RestoreBatch: they surround the members' own, and one that fails fails the batch.

use anyhow::{Context as _, Result};
use coffer_api::{
    RestoreBatch, RestoreSession, backup_session::SessionPhase, condition::Status,
    restore_batch::RestoreBatchStatus, restore_session::RestorePhase,
};
use coffer_tests::{
    listener::Listener,
    redis_server::{Options, RedisServer},
    world::World,
};

use crate::COFFER;

/// A batch that restores the one snapshot into both servers; `hooks` goes into its spec.
fn batch(name: &str, hooks: &str, port: u16) -> String {
    let member = |target: &str| {
        format!(
            "  - target: {{ref: {{apiVersion: appcatalog.appscode.com/v1alpha1, kind: AppBinding, name: {target}}}, rules: [{{snapshots: [latest]}}]}}
    task: {{name: redis-restore-7.0.5}}
    hooks: {{preRestore: {{httpGet: {{host: 127.0.0.1, port: {port}, path: /{name}/{target}}}}}}}
"
        )
    };
    format!(
        "apiVersion: stash.appscode.com/v1beta1
kind: RestoreBatch
metadata: {{name: {name}, namespace: demo}}
spec:
  executionOrder: Sequential
  repository: {{name: repo}}
  hooks: {hooks}
  members:
{}{}",
        member("orders"),
        member("copy")
    )
}

async fn over(world: &World, name: &str) -> Result<RestoreBatchStatus> {
    let is_over = |batch: &RestoreBatch| {
        let phase = batch.status.as_ref().and_then(|status| status.phase);
        phase.is_some_and(|phase| phase.is_final() || phase == RestorePhase::Invalid)
    };
    world.until(name, "is final", is_over).await?.status.context("no status")
}

fn condition(status: &RestoreBatchStatus, kind: &str) -> Result<(Status, String, String)> {
    let found = status.conditions.iter().find(|c| c.kind == kind);
    let found = found.with_context(|| format!("no {kind}: {status:#?}"))?;
    Ok((found.status, found.reason.clone(), found.message.clone()))
}

#[tokio::test]
async fn hooks_surround_all_members() -> Result<()> {
    let world = World::start(COFFER).await?;
    let copy = RedisServer::start(Options::default()).await?;
    let listener = Listener::start().await?;
    let port = listener.port;
    world.redis.command::<()>(&["SET", "a", "1"]).await?;
    world.apply_basics()?;
    world.apply(&world.app_binding("copy", &copy))?;
    assert_eq!(world.back_up("first", "orders").await?.phase, Some(SessionPhase::Succeeded));
    let get = |path: &str| format!("httpGet: {{host: 127.0.0.1, port: {port}, path: {path}}}");
    let told = || -> Vec<String> {
        listener.told().into_iter().map(|told| format!("{} {}", told.line, told.body)).collect()
    };

    let post = format!(
        "httpPost: {{host: 127.0.0.1, port: {port}, path: /good/after, body: \"{{{{ .Invoker.Kind }}}} {{{{ .Status.Phase }}}}\"}}"
    );
    let hooks = format!("{{preRestore: {{{}}}, postRestore: {{{post}}}}}", get("/good/before"));
    world.apply(&batch("good", &hooks, port))?;
    let status = over(&world, "good").await?;
    assert_eq!(status.phase, Some(RestorePhase::Succeeded), "{status:#?}");
    assert_eq!(copy.command::<String>(&["GET", "a"]).await?, "1");
    let all = [
        "GET /good/before ",
        "GET /good/orders ",
        "GET /good/copy ",
        "POST /good/after RestoreBatch Succeeded",
    ];
    assert_eq!(told(), all);
    for (kind, reason) in [
        ("GlobalPreRestoreHookSucceeded", "GlobalPreRestoreHookExecutedSuccessfully"),
        ("GlobalPostRestoreHookSucceeded", "GlobalPostRestoreHookExecutedSuccessfully"),
    ] {
        let (state, why, _) = condition(&status, kind)?;
        assert_eq!((state, why.as_str()), (Status::True, reason));
    }

    // Before: nothing is restored, no member is begun, and what comes after does not come.
    copy.command::<()>(&["FLUSHALL"]).await?;
    let hooks =
        format!("{{preRestore: {{{}}}, postRestore: {{{}}}}}", get("/bad/503"), get("/bad/never"));
    world.apply(&batch("bad", &hooks, port))?;
    let status = over(&world, "bad").await?;
    assert_eq!(status.phase, Some(RestorePhase::Failed), "{status:#?}");
    let (state, reason, why) = condition(&status, "GlobalPreRestoreHookSucceeded")?;
    assert_eq!((state, reason.as_str()), (Status::False, "GlobalPreRestoreHookExecutionFailed"));
    assert!(why.contains("/bad/503") && why.contains("the answer is 503"), "{why}");
    assert_eq!(condition(&status, "Succeeded")?, (Status::False, reason, why));
    assert_eq!(told().split_off(all.len()), ["GET /bad/503 "]);
    let restores = world.api::<RestoreSession>().list(&kube::api::ListParams::default()).await?;
    let names: Vec<String> = restores.items.into_iter().filter_map(|s| s.metadata.name).collect();
    assert!(names.iter().all(|name| name.starts_with("good-")), "{names:?}");
    assert_eq!(copy.command::<i64>(&["DBSIZE"]).await?, 0);

    // After: everything is there, the batch failed all the same.
    let hooks = format!("{{postRestore: {{executionPolicy: OnSuccess, {}}}}}", get("/late/404"));
    world.apply(&batch("late", &hooks, port))?;
    let status = over(&world, "late").await?;
    assert_eq!(status.phase, Some(RestorePhase::Failed), "{status:#?}");
    assert!(status.members.iter().all(|m| m.phase == Some(RestorePhase::Succeeded)));
    assert_eq!(condition(&status, "Succeeded")?.1, "GlobalPostRestoreHookExecutionFailed");
    assert_eq!(copy.command::<String>(&["GET", "a"]).await?, "1");
    Ok(())
}
