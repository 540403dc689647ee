//! The way of a backup: from the manifests to a snapshot that the restic program confirms, and what the status says of it.

use std::time::Duration;

use anyhow::{Context as _, Result};
use coffer_api::{
    BackupConfiguration, BackupSession, Repository,
    backup_configuration::InvokerPhase,
    backup_session::{BackupTargetStatus, HostBackupPhase, SessionPhase},
    condition,
};
use coffer_tests::{
    coffer::Output,
    compare, dataset, wait,
    world::{NAMESPACE, SESSION_LIMIT, World, configuration},
};
use k8s_openapi::api::{
    batch::v1::Job,
    core::v1::{Event, Secret},
};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};

const COFFER: &str = env!("CARGO_BIN_EXE_coffer-under-test");

#[tokio::test]
async fn a_session_made_by_hand_stores_everything_and_says_so() -> Result<()> {
    let world = World::start(COFFER).await?;
    dataset::load(&world.redis.client()?, &dataset::Spec::small()).await?;
    let before = compare::fingerprint(&world.redis.client()?).await?;
    world.apply_basics()?;
    let status = world.back_up("orders-manual-1", "orders").await?;

    assert_eq!(status.phase, Some(SessionPhase::Succeeded), "{status:#?}");
    let conditions: Vec<_> =
        status.conditions.iter().map(|c| (c.kind.as_str(), c.status)).collect();
    for kind in [
        condition::BACKEND_REPOSITORY_INITIALIZED,
        condition::RETENTION_POLICY_APPLIED,
        condition::REPOSITORY_INTEGRITY_VERIFIED,
        condition::REPOSITORY_METRICS_PUSHED,
        condition::BACKUP_HISTORY_CLEANED,
        condition::METRICS_PUSHED,
    ] {
        assert!(kind.holds(&status.conditions), "{} does not hold: {conditions:?}", kind.name);
    }
    let BackupTargetStatus { total_hosts, stats, conditions, .. } = &status.targets[0];
    assert_eq!(*total_hosts, Some(1));
    assert!(condition::BACKUP_EXECUTOR_ENSURED.holds(conditions));
    assert_eq!(stats[0].hostname, "host-0");
    assert_eq!(stats[0].phase, Some(HostBackupPhase::Succeeded));
    let snapshot = &stats[0].snapshots[0];
    assert_eq!(snapshot.path, "dump.rdb");
    assert_eq!(snapshot.name.len(), 8);
    assert!(status.session_duration.is_some());

    world.restic().check()?;
    let listed = world.restic().snapshots()?;
    assert_eq!(listed.len(), 1);
    assert!(listed[0]["id"].as_str().unwrap().starts_with(&snapshot.name));
    assert_eq!(listed[0]["hostname"], "host-0");
    assert_eq!(listed[0]["paths"], serde_json::json!(["/dump.rdb"]));
    let manifest: coffer_api::manifest::Manifest =
        serde_json::from_slice(&world.restic().dump("latest", "/manifest.json")?)?;
    assert_eq!(manifest.keys(), u64::try_from(before.len())?);
    assert!(manifest.counted);

    let repository = world.repository_status().await?;
    assert_eq!(repository.integrity, Some(true));
    assert_eq!(repository.snapshot_count, Some(1));
    assert!(repository.total_size.is_some() && repository.last_backup_time.is_some());
    let references: Vec<_> =
        repository.references.iter().map(|r| (r.kind.as_str(), r.name.as_str())).collect();
    assert_eq!(references, [("BackupConfiguration", "orders")]);

    let events = world.api::<Event>().list(&ListParams::default()).await?;
    let reasons: Vec<_> = events.iter().filter_map(|e| e.reason.as_deref()).collect();
    assert!(reasons.contains(&"Host Backup Succeeded"), "{reasons:?}");
    Ok(())
}

#[tokio::test]
async fn what_the_original_shows_in_columns_is_shown() -> Result<()> {
    let world = World::start(COFFER).await?;
    world.apply_basics()?;
    world.back_up("orders-manual-1", "orders").await?;
    let row = |kind: &str| world.kubectl(&["get", kind]);
    let configurations = row("bc")?;
    assert!(
        configurations.contains("TASK") && configurations.contains("redis-backup-7.0.5"),
        "{configurations}"
    );
    assert!(configurations.contains("Ready"), "{configurations}");
    let sessions = row("backupsession")?;
    assert!(sessions.contains("INVOKER-TYPE") && sessions.contains("Succeeded"), "{sessions}");
    let repositories = row("repo")?;
    assert!(repositories.contains("INTEGRITY") && repositories.contains("true"), "{repositories}");
    Ok(())
}

#[tokio::test]
async fn the_figures_are_at_the_metrics_gateway() -> Result<()> {
    let world = World::start(COFFER).await?;
    world.redis.command::<()>(&["SET", "a", "1"]).await?;
    world.apply_basics()?;
    world.back_up("orders-manual-1", "orders").await?;
    let metrics = world.metrics().await?;
    for line in [
        "stash_appscode_com_backupsession_success{",
        "stash_backup_session_success{",
        "stash_appscode_com_backupsession_host_backup_success{",
        "stash_appscode_com_repository_integrity{",
        "stash_appscode_com_repository_snapshot_count{",
    ] {
        let value = metrics
            .lines()
            .find(|l| l.starts_with(line))
            .with_context(|| format!("no {line} in\n{metrics}"))?;
        assert!(value.ends_with(" 1"), "{value}");
        assert!(value.contains("job=\"backupconfiguration-demo-orders\""), "{value}");
    }
    Ok(())
}

#[tokio::test]
async fn a_schedule_makes_sessions_until_it_is_paused() -> Result<()> {
    let world = World::start(COFFER).await?;
    world.redis.command::<()>(&["SET", "a", "1"]).await?;
    world.apply_basics()?;
    world.apply(&configuration("often", "@every 1s", ""))?;
    let sessions = world.api::<BackupSession>();
    let of_often = ListParams::default().labels("stash.appscode.com/invoker-name=often");
    let first = wait::until("a session succeeded", SESSION_LIMIT, async || {
        let list = sessions.list(&of_often).await?;
        let done = |s: &&BackupSession| {
            s.status.as_ref().and_then(|s| s.phase) == Some(SessionPhase::Succeeded)
        };
        Ok(list.iter().find(done).cloned())
    })
    .await?;
    let name = first.metadata.name.clone().unwrap();
    assert!(name.starts_with("often-"), "{name}");
    let owner = &first.metadata.owner_references.as_ref().context("no owner")?[0];
    assert_eq!((owner.kind.as_str(), owner.name.as_str()), ("BackupConfiguration", "often"));

    world.coffer.run(&["pause", "often", "-n", NAMESPACE], Output::Captured)?;
    let paused = world
        .until("often", "is looked at", |c: &BackupConfiguration| {
            c.spec.paused
                && c.status.as_ref().and_then(|s| s.observed_generation) == c.metadata.generation
        })
        .await?;
    assert_eq!(paused.status.unwrap().phase, Some(InvokerPhase::Ready));
    // What was under way at the pause ends, and is the last of its kind.
    let at_pause = wait::until("every session is final", SESSION_LIMIT, async || {
        let list = sessions.list(&of_often).await?.items;
        let done = |s: &BackupSession| {
            s.status.as_ref().and_then(|s| s.phase).is_some_and(SessionPhase::is_final)
        };
        Ok(list
            .iter()
            .all(done)
            .then(|| list.iter().filter_map(|s| s.metadata.name.clone()).max())
            .flatten())
    })
    .await?;
    // Firings pass by meanwhile; that the session by hand runs shows that the controller lives.
    let manual = world.back_up("often-by-hand", "often").await?;
    assert_eq!(manual.phase, Some(SessionPhase::Succeeded), "{manual:#?}");
    let scheduled_since: Vec<_> = sessions
        .list(&of_often)
        .await?
        .iter()
        .filter_map(|s| s.metadata.name.clone())
        .filter(|name| name != "often-by-hand" && *name > at_pause)
        .collect();
    assert!(scheduled_since.is_empty(), "{scheduled_since:?}");
    Ok(())
}

#[tokio::test]
async fn what_is_missing_is_named_and_waited_for() -> Result<()> {
    let world = World::start(COFFER).await?;
    world.apply("{apiVersion: v1, kind: Namespace, metadata: {name: demo}}")?;
    world.apply(&configuration("orders", "0 0 1 1 *", ""))?;
    let says = |kind: condition::Kind, text: &'static str| {
        move |c: &BackupConfiguration| {
            let conditions = c.status.as_ref().map(|s| s.conditions.as_slice()).unwrap_or_default();
            kind.find(conditions)
                .is_some_and(|c| c.status == condition::Status::False && c.message.contains(text))
        }
    };
    let not_ready =
        world.until("orders", "misses repo", says(condition::REPOSITORY_FOUND, "repo")).await?;
    assert_eq!(not_ready.status.unwrap().phase, Some(InvokerPhase::NotReady));

    let (namespace_and_secret, repository) = split_storage(&world.storage());
    world.apply(&repository)?;
    world
        .until("orders", "misses the Secret", says(condition::BACKEND_SECRET_FOUND, "storage"))
        .await?;
    world.apply(&namespace_and_secret)?;
    world
        .until("orders", "misses the target", says(condition::BACKUP_TARGET_FOUND, "orders"))
        .await?;
    world.apply(&world.app_binding("orders", &world.redis))?;
    world.ready("orders").await?;
    Ok(())
}

#[tokio::test]
async fn deleting_takes_the_children_and_leaves_the_data() -> Result<()> {
    let world = World::start(COFFER).await?;
    world.redis.command::<()>(&["SET", "a", "1"]).await?;
    world.apply_basics()?;
    world.back_up("orders-manual-1", "orders").await?;
    // A session by hand has no owner unless it is given one; this one is of the orchestrator's making.
    world.coffer.run(&["backup", "orders", "-n", NAMESPACE], Output::Captured)?;
    let configurations = world.api::<BackupConfiguration>();
    let finalizers = configurations.get("orders").await?.metadata.finalizers.unwrap_or_default();
    assert_eq!(finalizers, ["stash.appscode.com"]);
    assert_eq!(
        world.api::<Repository>().get("repo").await?.metadata.finalizers.unwrap_or_default(),
        ["stash"]
    );

    configurations.delete("orders", &DeleteParams::default()).await?;
    wait::until("the configuration and its children are gone", SESSION_LIMIT, async || {
        let owned = |refs: Option<
            &Vec<k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference>,
        >| { refs.is_some_and(|refs| refs.iter().any(|r| r.name == "orders")) };
        let sessions = world.api::<BackupSession>().list(&ListParams::default()).await?;
        let left = sessions.iter().filter(|s| owned(s.metadata.owner_references.as_ref())).count();
        let gone = configurations.get_opt("orders").await?.is_none();
        Ok((gone && left == 0).then_some(()))
    })
    .await?;
    let repository = world.repository_status().await?;
    assert!(repository.references.is_empty(), "{:?}", repository.references);
    assert_eq!(world.restic().snapshots()?.len(), 2);
    world.api::<Repository>().delete("repo", &DeleteParams::default()).await?;
    wait::until("the Repository is gone", SESSION_LIMIT, async || {
        Ok(world.api::<Repository>().get_opt("repo").await?.is_none().then_some(()))
    })
    .await?;
    world.restic().check()?;
    Ok(())
}

#[tokio::test]
async fn the_job_is_as_the_original_makes_it_and_its_secret_is_closed_afterwards() -> Result<()> {
    let world = World::start(COFFER).await?;
    world.redis.command::<()>(&["SET", "a", "1"]).await?;
    world.apply_basics()?;
    let labels = serde_json::json!({"metadata": {"labels": {"team": "shop"}}});
    let configurations = world.api::<BackupConfiguration>();
    configurations.patch("orders", &PatchParams::default(), &Patch::Merge(labels)).await?;
    world.back_up("orders-manual-1", "orders").await?;
    let job = world.api::<Job>().get("stash-backup-orders-manual-1-0").await?;
    let labels = job.metadata.labels.clone().unwrap_or_default();
    assert_eq!(labels.get("app.kubernetes.io/component").map(String::as_str), Some("stash-backup"));
    assert_eq!(
        labels.get("app.kubernetes.io/managed-by").map(String::as_str),
        Some("stash.appscode.com")
    );
    assert_eq!(labels.get("team").map(String::as_str), Some("shop"));
    let spec = job.spec.context("a Job without spec")?;
    assert_eq!(spec.backoff_limit, Some(0));
    let pod = spec.template.spec.context("a pod without spec")?;
    assert_eq!(pod.containers[0].name, "redis-backup-7-0-5-0");
    assert_eq!(pod.containers.len(), 1, "update-status is the orchestrator's work");
    assert_eq!(pod.automount_service_account_token, Some(false));
    let argv = format!("{:?} {:?}", pod.containers[0].args, pod.containers[0].env);
    assert!(!argv.contains(world.redis.password()) && !argv.contains("restic-secret"), "{argv}");
    wait::until("the session's Secret is gone", Duration::from_secs(20), async || {
        let secret = world.api::<Secret>().get_opt("stash-backup-orders-manual-1-0").await?;
        Ok(secret.is_none_or(|s| s.data.unwrap_or_default().is_empty()).then_some(()))
    })
    .await
}

fn split_storage(yaml: &str) -> (String, String) {
    let (first, last) = yaml.rsplit_once("---\n").expect("several documents");
    (first.to_owned(), last.to_owned())
}
