//! What is wrong in a manifest, or with what it names: Task, Function, variable, image, argument, volume, schedule, rules.

use anyhow::Result;
use coffer_api::{
    BackupConfiguration, backup_configuration::InvokerPhase, restore_session::RestorePhase,
};
use coffer_tests::{
    coffer::Output,
    world::{NAMESPACE, configuration, restore_session},
};

use super::{backup_shows, shows, still, with_snapshot};

const TASKS: &str = r#"apiVersion: stash.appscode.com/v1beta1
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
---
apiVersion: stash.appscode.com/v1beta1
kind: Function
metadata: {name: odd}
spec: {image: "ghcr.io/coffer-backup/coffer-worker:0", args: [backup-redis, --no-such-flag=1]}
---
apiVersion: stash.appscode.com/v1beta1
kind: Task
metadata: {name: no-flag}
spec: {steps: [{name: odd}]}
---
apiVersion: stash.appscode.com/v1beta1
kind: Task
metadata: {name: no-volume}
spec:
  steps: [{name: odd}]
  volumes: [{name: data, hostPath: {path: /nowhere/at/all, type: Directory}}]
---
apiVersion: stash.appscode.com/v1beta1
kind: Task
metadata: {name: no-claim}
spec:
  steps: [{name: odd}]
  volumes: [{name: data, persistentVolumeClaim: {claimName: lost}}]
"#;

#[tokio::test]
async fn what_a_task_needs_and_does_not_find_is_named() -> Result<()> {
    let (world, id) = with_snapshot().await?;
    let yaml = configuration("orders", "0 0 1 1 *", "");
    let with_task = |task: &str| yaml.replace("name: redis-backup-7.0.5", &format!("name: {task}"));
    world.apply(TASKS)?;
    world.without_admission()?;
    for (task, session, texts) in [
        ("no-such-task", "bad-task", &["no-such-task"][..]),
        ("no-function", "bad-function", &["nowhere", "no-function"]),
        ("no-variable", "bad-variable", &["noSuchVariable", "asks"]),
        ("no-program", "bad-image", &["registry.example.org/alien:1", "ImagePullBackOff"]),
        ("no-flag", "bad-flag", &["--no-such-flag", "args of the Function"]),
        ("no-volume", "bad-volume", &["FailedMount", "\"data\"", "/nowhere/at/all"]),
        ("no-claim", "bad-claim", &["FailedMount", "persistentvolumeclaim \"lost\" not found"]),
    ] {
        world.apply(&with_task(task))?;
        backup_shows(&world, session, texts).await?;
    }
    still(&world, &id)
}

#[tokio::test]
async fn a_schedule_that_is_none() -> Result<()> {
    let (world, id) = with_snapshot().await?;
    world.without_admission()?;
    world.apply(&configuration("broken", "every tuesday", ""))?;
    let invalid = Some(InvokerPhase::Invalid);
    world
        .until("broken", "is Invalid", |c: &BackupConfiguration| {
            c.status.as_ref().is_some_and(|s| s.phase == invalid)
        })
        .await?;
    shows(&world, "backupconfiguration", "broken", &["every tuesday", "schedule"])?;
    still(&world, &id)
}

#[tokio::test]
async fn rules_that_contradict_themselves() -> Result<()> {
    let (world, id) = with_snapshot().await?;
    let yaml = restore_session("torn", "orders", "latest", "")
        .replace("snapshots: [\"latest\"]", "snapshots: [latest, 0123abcd]");
    world.without_admission()?;
    world.apply(&yaml)?;
    assert_eq!(world.restored("torn").await?.phase, Some(RestorePhase::Invalid));
    shows(&world, "restoresession", "torn", &["2 snapshots", "a Redis is restored from one"])?;
    // Nobody at a shell waits for what will not come.
    let said = world.coffer.run(&["restore", "torn", "-n", NAMESPACE], Output::Captured);
    let said = format!("{:#}", said.expect_err("an invalid restore is no success"));
    assert!(said.contains("is invalid: ") && said.contains("2 snapshots"), "{said}");
    still(&world, &id)
}
