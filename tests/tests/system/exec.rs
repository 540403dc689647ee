//! `exec` hooks: commands in the pod behind the AppBinding's service, of which those that fail, hang or are forbidden say so.

use anyhow::{Context as _, Result};
use coffer_api::{
    backup_session::{BackupSessionStatus, SessionPhase},
    condition::Status,
    restore_session::RestorePhase,
};
use coffer_tests::{
    confined::Confinement,
    wait,
    world::{SESSION_LIMIT, World, configuration},
};

use crate::{COFFER, hooks::of_target};

/// A Service as a cluster has it, with a pod behind it that runs here.
fn behind_a_service(world: &World) -> String {
    format!(
        r#"apiVersion: v1
kind: Pod
metadata: {{name: redis-0, namespace: demo}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - {{name: redis, image: ghcr.io/coffer-backup/stands-for-redis, command: [tail, "--pid={coffer}", -f, /dev/null], env: [{{name: PORT, value: "{port}"}}, {{name: REDISCLI_AUTH, value: "{password}"}}]}}
  - {{name: sidecar, image: ghcr.io/coffer-backup/stands-for-redis, command: [tail, "--pid={coffer}", -f, /dev/null]}}
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
spec: {{type: redis, clientConfig: {{service: {{name: orders, port: {port}, scheme: redis}}}}, secret: {{name: orders-auth}}}}
"#,
        // Ends also when Coffer is killed, as it is at the end of a test.
        coffer = world.coffer.pid(),
        port = world.redis.port,
        password = world.redis.password(),
    )
}

/// Backs up what is behind the Service, with these hooks.
async fn back_up(world: &World, name: &str, more: &str) -> Result<BackupSessionStatus> {
    let config = configuration(name, "0 0 1 1 *", more)
        .replace("AppBinding, name: orders}", "AppBinding, name: behind}");
    world.apply(&config)?;
    world.back_up(name, name).await
}

fn sh(script: &str) -> String {
    format!("{{exec: {{command: [sh, -c, {script:?}]}}}}")
}

#[tokio::test]
async fn a_command_runs_in_the_pod_of_the_target() -> Result<()> {
    let mut named = false;
    let world = World::confined(COFFER, |folder| {
        let names = Confinement::names(&folder.join("hosts"), &["orders.demo.svc"])?;
        named = names.is_some();
        Ok(names.unwrap_or_default())
    })
    .await?;
    world.apply(&world.storage())?;
    world.apply(&world.app_binding("orders", &world.redis))?;
    world.apply(&behind_a_service(&world))?;
    world.kubectl(&["wait", "--for=condition=Ready", "pod/redis-0", "--timeout=60s"])?;

    // Before the dump, and after it: what is in the snapshot is not in the server any more.
    let hooks = format!(
        "  hooks: {{preBackup: {}, postBackup: {}}}",
        sh("redis-cli -p $PORT SET told before"),
        sh("redis-cli -p $PORT DEL told")
    );
    let status = back_up(&world, "around", &hooks).await?;
    let (before, said) = of_target(&status, "PreBackupHookExecutionSucceeded")?;
    assert_eq!((before, said.as_str()), (Status::True, "the command in pod redis-0 exited with 0"));
    assert_eq!(of_target(&status, "PostBackupHookExecutionSucceeded")?.0, Status::True);
    assert_eq!(world.redis.command::<i64>(&["EXISTS", "told"]).await?, 0);
    if named {
        assert_eq!(status.phase, Some(SessionPhase::Succeeded), "{status:#?}");
        let restored = world.restore("back", "orders", "latest").await?;
        assert_eq!(restored.phase, Some(RestorePhase::Succeeded), "{restored:#?}");
        assert_eq!(world.redis.command::<String>(&["GET", "told"]).await?, "before");
    } else {
        eprintln!(
            "NOTE: this machine knows no Service by name: the backup between the hooks is NOT tested"
        );
        assert_eq!(status.phase, Some(SessionPhase::Failed), "{status:#?}");
    }

    // One that fails: its code and its last words are told, and nothing is backed up.
    let hooks = format!("  hooks: {{preBackup: {}}}", sh("echo no space is left >&2; exit 7"));
    let status = back_up(&world, "fails", &hooks).await?;
    assert_eq!(status.phase, Some(SessionPhase::Failed));
    let (pre, why) = of_target(&status, "PreBackupHookExecutionSucceeded")?;
    assert_eq!(pre, Status::False);
    for part in ["exec in pod demo/redis-0: ", "exit code 7", ": no space is left"] {
        assert!(why.contains(part), "{part:?} is not in {why}");
    }
    let summary = status.conditions.last().context("no condition")?;
    assert_eq!(summary.reason, "FailedToExecutePreBackupHook");
    assert!(status.targets[0].stats.is_empty());

    // In the container that is named, which has not what the other one has.
    let hooks = "  hooks: {preBackup: {containerName: sidecar, exec: {command: [sh, -c, 'test \"$PORT\"']}}}";
    let status = back_up(&world, "elsewhere", hooks).await?;
    assert_eq!(of_target(&status, "PreBackupHookExecutionSucceeded")?.0, Status::False);

    // One that hangs ends with the session's time, and does not stay behind.
    let pid = world.path("pid");
    let script = format!("echo $$ > {}; exec sleep 3600", pid.display());
    let hooks = format!("  timeOut: 2s\n  hooks: {{preBackup: {}}}", sh(&script));
    let status = back_up(&world, "hangs", &hooks).await?;
    let (_, why) = of_target(&status, "PreBackupHookExecutionSucceeded")?;
    assert!(why.contains("exec was not done within"), "{why}");
    let pid = std::fs::read_to_string(pid)?;
    wait::until("the command has ended", SESSION_LIMIT, async || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim()));
        Ok(stat.is_err().then_some(()))
    })
    .await?;

    // One that may not be run says what right is missing.
    world.kubectl_anywhere(&["delete", "clusterrolebinding", "coffer-exec-hooks"])?;
    let hooks = format!("  hooks: {{preBackup: {}}}", sh("true"));
    let status = back_up(&world, "forbidden", &hooks).await?;
    let (_, why) = of_target(&status, "PreBackupHookExecutionSucceeded")?;
    for part in ["is forbidden", "needs the right to get and create pods/exec"] {
        assert!(why.contains(part), "{part:?} is not in {why}");
    }
    Ok(())
}
