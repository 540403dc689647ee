//! Hooks as users see them: what is run before and after, what is told, and what a hook that fails means.

use anyhow::{Context as _, Result};
use coffer_api::{
    BackupConfiguration, BackupSession,
    backup_configuration::InvokerPhase,
    backup_session::{BackupSessionStatus, SessionPhase},
    condition::Status,
    restore_session::RestorePhase,
};
use coffer_tests::{
    listener::Listener,
    wait,
    world::{SESSION_LIMIT, World, configuration, restore_session},
};

use crate::COFFER;

async fn world() -> Result<(World, Listener)> {
    let world = World::start(COFFER).await?;
    world.redis.command::<()>(&["SET", "a", "1"]).await?;
    world.apply(&world.storage())?;
    world.apply(&world.app_binding("orders", &world.redis))?;
    Ok((world, Listener::start().await?))
}

pub(crate) fn of_target(status: &BackupSessionStatus, kind: &str) -> Result<(Status, String)> {
    let mut all = status.targets.iter().flat_map(|target| &target.conditions);
    let found = all.find(|c| c.kind == kind).with_context(|| format!("no {kind}: {status:#?}"))?;
    Ok((found.status, found.message.clone()))
}

#[tokio::test]
async fn hooks_run_before_and_after_and_tell_how_it_went() -> Result<()> {
    let (world, listener) = world().await?;
    let port = listener.port;
    let hooks = format!(
        r#"  hooks:
    preBackup:
      httpGet: {{host: 127.0.0.1, port: {port}, path: /before?a=b}}
      tcpSocket: {{host: 127.0.0.1, port: {port}}}
    postBackup:
      executionPolicy: OnSuccess
      httpPost:
        port: "{port}"
        path: /after
        body: '{{"session": "{{{{ .Namespace }}}}/{{{{ .Name }}}}", "invoker": "{{{{ .Invoker.Kind }}}}", "phase": "{{{{ .Status.Phase }}}}", "error": {{{{ .Status.Error | quote }}}}}}'"#
    );
    world.apply(&configuration("orders", "0 0 1 1 *", &hooks))?;
    let status = world.back_up("first", "orders").await?;
    assert_eq!(status.phase, Some(SessionPhase::Succeeded), "{status:#?}");
    let (before, message) = of_target(&status, "PreBackupHookExecutionSucceeded")?;
    assert_eq!(before, Status::True);
    assert!(message.contains("answered 200") && message.contains("accepts connections"));
    assert_eq!(of_target(&status, "PostBackupHookExecutionSucceeded")?.0, Status::True);
    let told = listener.told();
    assert_eq!(told.len(), 2, "{told:?}");
    assert_eq!(told[0].line, "GET /before?a=b");
    assert_eq!((told[1].line.as_str(), told[1].kind.as_str()), ("POST /after", "application/json"));
    let body: serde_json::Value = serde_json::from_str(&told[1].body)?;
    assert_eq!(
        body,
        serde_json::json!({"session": "demo/first", "invoker": "BackupConfiguration", "phase": "Succeeded", "error": ""})
    );

    // The same around a restore, of which only the failure is to be told: it is not.
    let hooks = format!(
        r#"  hooks:
    preRestore: {{httpPost: {{host: 127.0.0.1, port: {port}, path: /restore, form: [{{key: who, values: ["x y"]}}]}}}}
    postRestore: {{executionPolicy: OnFailure, httpGet: {{host: 127.0.0.1, port: {port}, path: /failed}}}}"#
    );
    world.apply(&restore_session("back", "orders", "latest", &hooks))?;
    let restored = world.restored("back").await?;
    assert_eq!(restored.phase, Some(RestorePhase::Succeeded), "{restored:#?}");
    let told = listener.told();
    assert_eq!(told.len(), 3, "{told:?}");
    assert_eq!((told[2].line.as_str(), told[2].body.as_str()), ("POST /restore", "who=x+y"));
    let post = restored.conditions.iter().find(|c| c.kind == "PostRestoreHookExecutionSucceeded");
    let post = post.context("no condition of the post hook")?;
    assert_eq!(post.message, "not run: its executionPolicy is OnFailure");
    Ok(())
}

#[tokio::test]
async fn a_hook_that_fails_fails_the_session() -> Result<()> {
    let (world, listener) = world().await?;
    let port = listener.port;
    let get = |path: &str| format!("{{httpGet: {{host: 127.0.0.1, port: {port}, path: {path}}}}}");
    let hooks = |pre: &str, post: &str| {
        format!("  hooks: {{preBackup: {}, postBackup: {}}}", get(pre), get(post))
    };
    // Before: nothing is backed up, and what comes after does not come.
    world.apply(&configuration("before", "0 0 1 1 *", &hooks("/503", "/never")))?;
    let status = world.back_up("first", "before").await?;
    assert_eq!(status.phase, Some(SessionPhase::Failed));
    let (pre, why) = of_target(&status, "PreBackupHookExecutionSucceeded")?;
    assert_eq!(pre, Status::False);
    assert!(why.contains(&format!("httpGet http://127.0.0.1:{port}/503")), "{why}");
    assert!(why.contains("the answer is 503"), "{why}");
    assert!(status.targets[0].stats.is_empty());
    assert_eq!(listener.told().len(), 1);
    let summary = status.conditions.last().context("no condition")?;
    assert_eq!(summary.reason, "FailedToExecutePreBackupHook");
    let jobs = world.kubectl(&["get", "jobs", "-o", "name"])?;
    assert_eq!(jobs.trim(), "", "a Job was made");

    // After: the snapshot is there, the session failed all the same.
    world.kubectl(&["delete", "backupconfiguration/before"])?;
    world.apply(&configuration("after", "0 0 1 1 *", &hooks("/first", "/404")))?;
    let status = world.back_up("second", "after").await?;
    assert_eq!(status.phase, Some(SessionPhase::Failed));
    assert_eq!(status.targets[0].stats[0].snapshots.len(), 1);
    assert_eq!(of_target(&status, "PostBackupHookExecutionSucceeded")?.0, Status::False);
    assert_eq!(world.repository_status().await?.snapshot_count, Some(1));
    Ok(())
}

#[tokio::test]
async fn a_failure_is_told_once_nothing_more_is_tried() -> Result<()> {
    let (mut world, listener) = world().await?;
    let hooks = format!(
        r#"  retryConfig: {{maxRetry: 1}}
  hooks:
    postBackup:
      executionPolicy: OnFinalRetryFailure
      httpPost: {{host: 127.0.0.1, port: {}, body: "{{{{ .Status.Phase }}}} {{{{ .RetryLeft }}}}: {{{{ .Status.Error }}}}"}}"#,
        listener.port
    );
    let impatient = "{name: redis-backup-7.0.5, params: [{name: waitTimeout, value: \"1\"}]}";
    let config = configuration("orders", "0 0 1 1 *", &hooks);
    world.apply(&config.replace("{name: redis-backup-7.0.5}", impatient))?;
    world.ready("orders").await?;
    world.redis.kill();
    let session = serde_json::json!({"apiVersion": "stash.appscode.com/v1beta1", "kind": "BackupSession",
        "metadata": {"name": "first", "namespace": "demo", "labels": {
            "stash.appscode.com/invoker-type": "BackupConfiguration", "stash.appscode.com/invoker-name": "orders"}},
        "spec": {"invoker": {"kind": "BackupConfiguration", "name": "orders"}, "retryLeft": 1}});
    world.apply(&session.to_string())?;
    let status = world.settled("first").await?;
    let (post, message) = of_target(&status, "PostBackupHookExecutionSucceeded")?;
    assert_eq!(
        (post, message.as_str()),
        (Status::True, "not run: its executionPolicy is OnFinalRetryFailure")
    );
    let sessions = world.api::<BackupSession>();
    let again = wait::until("the second attempt", SESSION_LIMIT, async || {
        let all = sessions.list(&kube::api::ListParams::default()).await?;
        Ok(all.items.into_iter().filter_map(|s| s.metadata.name).find(|name| name != "first"))
    })
    .await?;
    let status = world.settled(&again).await?;
    assert_eq!(status.phase, Some(SessionPhase::Failed));
    let told = listener.told();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(
        told[0].body.starts_with("Failed 0: ") && told[0].body.contains("127.0.0.1"),
        "{told:?}"
    );
    Ok(())
}

#[tokio::test]
async fn a_hook_is_not_run_again_because_somebody_labels_the_session() -> Result<()> {
    let (world, _) = world().await?;
    let listener = Listener::start_held().await?;
    let hooks = format!(
        "  hooks: {{preBackup: {{httpGet: {{host: 127.0.0.1, port: {}}}}}}}",
        listener.port
    );
    world.apply(&configuration("orders", "0 0 1 1 *", &hooks))?;
    let told = async {
        wait::until("the hook", SESSION_LIMIT, async || {
            Ok((!listener.told().is_empty()).then_some(()))
        })
        .await?;
        world.kubectl(&["label", "backupsession/first", "seen=yes"])?;
        listener.release();
        anyhow::Ok(())
    };
    let (status, told) = tokio::join!(world.back_up("first", "orders"), told);
    told?;
    assert_eq!(status?.phase, Some(SessionPhase::Succeeded));
    assert_eq!(listener.told().len(), 1, "{:?}", listener.told());
    Ok(())
}

#[tokio::test]
async fn what_cannot_be_run_is_refused_or_named() -> Result<()> {
    let (world, listener) = world().await?;
    world.without_admission()?;
    let exec = "  hooks: {preBackup: {exec: {command: [\"true\"]}}}";
    world.apply(&configuration("orders", "0 0 1 1 *", exec))?;
    let invalid = |config: &BackupConfiguration| {
        let status = config.status.clone().unwrap_or_default();
        status.phase == Some(InvokerPhase::Invalid)
            && status.conditions.iter().any(|c| c.message.contains("has only a url"))
    };
    world.until("orders", "is Invalid", invalid).await?;
    world.kubectl(&["delete", "backupconfiguration/orders"])?;

    // Behind a service: the address of its pod is the host, and the name of the pod's port is a port.
    world.apply(&format!(
        r#"apiVersion: v1
kind: Pod
metadata: {{name: redis-0, namespace: demo}}
spec: {{containers: [{{name: redis, image: "redis:7", ports: [{{name: admin, containerPort: {}}}]}}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: orders-1, namespace: demo, labels: {{kubernetes.io/service-name: orders}}}}
addressType: IPv4
endpoints: [{{addresses: [127.0.0.1], conditions: {{ready: true}}, targetRef: {{kind: Pod, name: redis-0}}}}]
ports: []
---
apiVersion: appcatalog.appscode.com/v1alpha1
kind: AppBinding
metadata: {{name: behind, namespace: demo}}
spec: {{type: redis, clientConfig: {{service: {{name: orders, port: 6379, scheme: redis}}}}}}
"#,
        listener.port
    ))?;
    let with = |hook: &str| {
        configuration("behind", "0 0 1 1 *", &format!("  hooks: {{preBackup: {hook}}}"))
            .replace("AppBinding, name: orders}", "AppBinding, name: behind}")
    };
    world.apply(&with("{httpGet: {port: admin, path: /here/500}}"))?;
    let status = world.back_up("named", "behind").await?;
    let (_, why) = of_target(&status, "PreBackupHookExecutionSucceeded")?;
    assert!(why.contains(&format!("http://127.0.0.1:{}/here/500", listener.port)), "{why}");
    assert_eq!(listener.told()[0].line, "GET /here/500");

    // The pod's image stands for no program here, so that there is nothing to run a command in.
    world.kubectl(&["delete", "backupconfiguration/behind"])?;
    world.apply(&with("{exec: {command: [\"true\"]}}"))?;
    let status = world.back_up("exec", "behind").await?;
    assert_eq!(status.phase, Some(SessionPhase::Failed));
    let (_, why) = of_target(&status, "PreBackupHookExecutionSucceeded")?;
    let wanted = "exec in pod demo/redis-0: container \"redis\" of pod \"redis-0\" is not running";
    assert!(why.contains(wanted), "{why}");
    Ok(())
}
