//! The way of a backup: from the manifests to a snapshot that the restic program confirms, and what the status says of it.

use anyhow::{Context as _, Result};
use coffer_api::{
    BackupConfiguration, BackupSession,
    backup_session::{BackupTargetStatus, HostBackupPhase, SessionPhase},
    condition,
};
use coffer_tests::{
    compare, dataset, wait,
    world::{SESSION_LIMIT, World, configuration},
};
use k8s_openapi::api::{
    batch::v1::Job,
    core::v1::{Event, Secret},
};
use kube::api::{ListParams, Patch, PatchParams};

use crate::COFFER;

#[tokio::test]
async fn an_append_only_repository_keeps_what_retention_would_remove() -> Result<()> {
    let world = World::start(COFFER).await?;
    world.apply(
        &world.storage().replace("spec:\n  backend:", "spec:\n  appendOnly: true\n  backend:"),
    )?;
    world.apply(&world.app_binding("orders", &world.redis))?;
    let last_one = configuration("orders", "0 0 1 1 *", "").replace("keepLast: 5", "keepLast: 1");
    world.apply(&last_one)?;
    for session in ["orders-1", "orders-2"] {
        let status = world.back_up(session, "orders").await?;
        assert_eq!(status.phase, Some(SessionPhase::Succeeded), "{status:#?}");
        let retention = condition::RETENTION_POLICY_APPLIED.find(&status.conditions);
        let message = &retention.context("no word about the retention policy")?.message;
        assert!(message.contains("append-only: every snapshot is kept"), "{message}");
    }
    assert_eq!(world.restic().snapshots()?.len(), 2);
    world.restic().check()?;
    Ok(())
}

#[tokio::test]
async fn a_session_that_is_kept_out_of_its_repository_says_by_whose_lock() -> Result<()> {
    let world = World::start(COFFER).await?;
    world.apply_basics()?;
    assert_eq!(world.back_up("orders-1", "orders").await?.phase, Some(SessionPhase::Succeeded));
    // restic wants the repository for itself, and stands still under its lock.
    let mut restic = world.restic().command().args(["check", "-q"]).spawn()?;
    let signal = |signal: &str| {
        let id = restic.id().to_string();
        std::process::Command::new("kill").args([signal, id.as_str()]).status()
    };
    let locks = world.path("repository").join("locks");
    let is_lock = |file: std::io::Result<std::fs::DirEntry>| {
        file.is_ok_and(|file| file.file_name().len() == 64)
    };
    while !std::fs::read_dir(&locks)?.any(is_lock) {
        std::thread::yield_now();
    }
    signal("-STOP")?;
    world.create_backup_session("orders-2", "orders").await?;
    let whose = format!("process {}, since", restic.id());
    let told = |session: &BackupSession| {
        let conditions = session.status.iter().flat_map(|status| &status.conditions);
        let mut running = conditions.filter(|c| c.kind == "Succeeded" && c.reason == "Running");
        running.any(|c| c.message.starts_with("waiting for") && c.message.contains(&whose))
    };
    let told = world.until("orders-2", "says whose lock it waits for", told).await;
    signal("-CONT")?;
    told?;
    assert!(restic.wait()?.success());
    assert_eq!(world.settled("orders-2").await?.phase, Some(SessionPhase::Succeeded));
    Ok(())
}

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
    wait::until("the session's Secret is gone", SESSION_LIMIT, async || {
        let secret = world.api::<Secret>().get_opt("stash-backup-orders-manual-1-0").await?;
        Ok(secret.is_none_or(|s| s.data.unwrap_or_default().is_empty()).then_some(()))
    })
    .await
}
