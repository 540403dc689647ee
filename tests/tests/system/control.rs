//! What users ask of the control plane with kubectl: conditions to wait for, refusals at the door, backups by annotation;
//! and that another orchestrator goes on when one dies.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use clap::Parser as _;
use coffer_api::{
    AppBinding, BackupConfiguration, BackupSession, Repository, backup_configuration::InvokerPhase,
    backup_session::SessionPhase,
};
use coffer_orchestrator::{Config, Settings, lease::Rules};
use coffer_runtime::{Runtime, grant::Signer};
use coffer_tests::{
    wait,
    world::{NAMESPACE, World, configuration},
};
use k8s_openapi::api::{authorization::v1::SubjectAccessReview, coordination::v1::Lease};
use kube::{
    Api,
    api::{ListParams, Patch, PatchParams, PostParams},
};

use crate::COFFER;

/// kubectl must refuse, and say why.
fn refused(world: &World, args: &[&str], why: &str) {
    let said = world.kubectl(args);
    let as_wanted = said.as_ref().is_err_and(|error| error.to_string().contains(why));
    assert!(as_wanted, "kubectl {} was not refused for {why:?}: {said:?}", args.join(" "));
}

#[tokio::test]
async fn kubectl_waits_for_conditions_and_is_told_what_is_refused() -> Result<()> {
    let world = World::start(COFFER).await?;
    world.redis.command::<()>(&["SET", "a", "1"]).await?;
    world.apply_basics()?;
    let wait = |condition: &str, object: &str| {
        world.kubectl(&["wait", &format!("--for=condition={condition}"), object, "--timeout=60s"])
    };
    wait("Ready", "repository/repo")?;
    wait("Ready", "backupconfiguration/orders")?;
    world.create_backup_session("first", "orders").await?;
    wait("Succeeded", "backupsession/first")?;
    assert_eq!(world.settled("first").await?.phase, Some(SessionPhase::Succeeded));

    let to = |spec: &str| format!("{{\"spec\": {spec}}}");
    let patch = |object: &str, spec: &str, why: &str| {
        refused(&world, &["patch", object, "--type=merge", "-p", &to(spec)], why);
    };
    let other = r#"{"target": {"ref": {"name": "other"}}}"#;
    patch("backupconfiguration/orders", other, "make another BackupConfiguration");
    patch("backupsession/first", r#"{"retryLeft": 3}"#, "make another BackupSession");
    patch("repository/repo", r#"{"backend": {"gcs": {"bucket": "b"}}}"#, "is in one place");
    patch(
        "repository/repo",
        r#"{"backend": {"local": {"mountPath": "/stash/x"}}}"#,
        "below /stash",
    );
    patch(
        "backupconfiguration/orders",
        r#"{"backupHistoryLimit": -1}"#,
        "greater than or equal to 0",
    );
    Ok(())
}

#[tokio::test]
async fn an_annotation_is_enough_for_a_backup() -> Result<()> {
    let world = World::start(COFFER).await?;
    world.redis.command::<()>(&["SET", "a", "1"]).await?;
    world.apply(&world.storage())?;
    world.apply(&world.app_binding("sessions", &world.redis))?;
    let place = world.path("blueprints");
    world.apply(&format!(
        r#"apiVersion: stash.appscode.com/v1beta1
kind: BackupBlueprint
metadata: {{name: standard}}
spec:
  backend:
    storageSecretName: storage
    local: {{mountPath: /backup, subPath: "${{TARGET_NAMESPACE}}/${{TARGET_NAME}}", hostPath: {{path: "{}", type: DirectoryOrCreate}}}}
  schedule: "H 3 * * *"
  task: {{name: "${{TARGET_APP_RESOURCE}}-backup-7.0.5"}}
  retentionPolicy: {{name: week, keepLast: 7, prune: true}}
"#,
        place.display()
    ))?;
    let bindings = world.api::<AppBinding>();
    let annotate = async |value: serde_json::Value| {
        let patch = serde_json::json!({"metadata": {"annotations": {"stash.appscode.com/backup-blueprint": value}}});
        bindings.patch("sessions", &PatchParams::default(), &Patch::Merge(patch)).await
    };
    annotate("standard".into()).await?;
    let config = world.ready("app-sessions").await?;
    assert_eq!(config.spec.task.context("no task")?.name, "redis-backup-7.0.5");
    let status = world.back_up("now", "app-sessions").await?;
    assert_eq!(status.phase, Some(SessionPhase::Succeeded), "{status:#?}");

    // An edit of the blueprint reaches who uses it.
    let edit = r#"{"spec": {"retentionPolicy": {"keepLast": 3}}}"#;
    world.kubectl(&["patch", "backupblueprint/standard", "--type=merge", "-p", edit])?;
    let edited = |config: &BackupConfiguration| config.spec.retention_policy.keep_last == Some(3);
    world.until("app-sessions", "has the edit", edited).await?;

    // Without the annotation the backups end, and the data stays.
    annotate(serde_json::Value::Null).await?;
    let configs = world.api::<BackupConfiguration>();
    wait::until("app-sessions is gone", Duration::from_secs(60), async || {
        Ok(configs.get_opt("app-sessions").await?.is_none().then_some(()))
    })
    .await?;
    assert!(world.api::<Repository>().get_opt("app-sessions").await?.is_some());
    Ok(())
}

/// An orchestrator that has only the Lease in common with the others: there is nothing for it to do.
async fn candidate(
    world: &World,
    identity: &str,
) -> Result<(Runtime, tokio::task::JoinHandle<Result<(), coffer_orchestrator::Error>>)> {
    let runtime = Runtime::new();
    let nowhere = "http://127.0.0.1:1".to_owned();
    let config = Config {
        listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into(),
        tls: None,
        catalog: nowhere.clone(),
        storage_gateway: nowhere.clone(),
        metrics_gateway: nowhere,
        signer: Signer::generate()?,
        admission: None,
        settings: Settings {
            lease: Some(Rules {
                namespace: NAMESPACE.to_owned(),
                name: "orchestrator".to_owned(),
                identity: identity.to_owned(),
                duration: LEASE,
            }),
            ..Settings::default()
        },
    };
    let app = coffer_orchestrator::build(config, world.client.clone(), &runtime).await?;
    Ok((runtime, tokio::spawn(app.run())))
}

const LEASE: Duration = Duration::from_secs(5);

async fn held_by(world: &World, holder: &str) -> Result<i32> {
    let leases: Api<Lease> = world.api();
    wait::until(
        &format!("{holder:?} holds the Lease"),
        LEASE + Duration::from_secs(5),
        async || {
            let lease = leases.get_opt("orchestrator").await?;
            let spec = lease.and_then(|lease| lease.spec).unwrap_or_default();
            let held = spec.holder_identity.as_deref() == Some(holder);
            Ok(held.then_some(spec.lease_transitions.unwrap_or(0)))
        },
    )
    .await
}

#[tokio::test]
async fn another_orchestrator_goes_on_when_one_dies() -> Result<()> {
    let world = World::start(COFFER).await?;
    world.apply(&world.storage())?;
    let (_, first) = candidate(&world, "first").await?;
    assert_eq!(held_by(&world, "first").await?, 1);
    let (second, running) = candidate(&world, "second").await?;
    let (third, waiting) = candidate(&world, "third").await?;
    assert!(!second.readiness.is_ready() && !third.readiness.is_ready());

    // Killed: its Lease runs out, then one of the others acts, within five seconds more.
    first.abort();
    let killed = Instant::now();
    let leases: Api<Lease> = world.api();
    let heir = wait::until("somebody else acts", LEASE + Duration::from_secs(5), async || {
        let holder = leases.get("orchestrator").await?.spec.and_then(|spec| spec.holder_identity);
        Ok(holder.filter(|holder| holder != "first"))
    })
    .await?;
    assert!(killed.elapsed() < LEASE + Duration::from_secs(5));
    let (heir, other, name) =
        if heir == "second" { (second, third, "third") } else { (third, second, "second") };
    wait::until("the heir is ready", Duration::from_secs(30), async || {
        Ok(heir.readiness.is_ready().then_some(()))
    })
    .await?;
    assert!(!other.readiness.is_ready());

    // Stopped in order: the Lease is given back, and nobody waits for its end.
    heir.shutdown.trigger();
    assert_eq!(held_by(&world, name).await?, 3);
    other.shutdown.trigger();
    running.await??;
    waiting.await??;
    Ok(())
}

/// What the account of the CronJob of `orders` may do in its namespace.
async fn may(world: &World, verb: &str, group: &str, resource: &str) -> Result<bool> {
    let review: SubjectAccessReview = serde_json::from_value(serde_json::json!({
        "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
        "spec": {"user": "system:serviceaccount:demo:stash-trigger-orders", "resourceAttributes":
            {"namespace": NAMESPACE, "verb": verb, "group": group, "resource": resource}}}))?;
    let reviews: Api<SubjectAccessReview> = Api::all(world.client.clone());
    let answer = reviews.create(&PostParams::default(), &review).await?;
    Ok(answer.status.context("no answer")?.allowed)
}

#[tokio::test]
async fn a_cron_job_makes_the_sessions_of_those_who_want_one() -> Result<()> {
    let world = World::start(COFFER).await?;
    world.apply(&world.storage())?;
    world.apply(&world.app_binding("orders", &world.redis))?;
    world.apply(&configuration(
        "orders",
        "0 0 1 1 *",
        "  scheduler: cronjob\n  timeZone: Europe/Berlin",
    ))?;
    let config = world.ready("orders").await?;
    assert_eq!(config.status.context("no status")?.phase, Some(InvokerPhase::Ready));
    let shown = world.kubectl(&[
        "get",
        "cronjob",
        "stash-trigger-orders",
        "-o",
        "jsonpath={.spec.schedule} {.spec.timeZone} {.spec.suspend}",
    ])?;
    assert_eq!(shown, "0 0 1 1 * Europe/Berlin false");
    world.kubectl(&["get", "rolebinding,serviceaccount", "stash-trigger-orders"])?;

    // What its pod runs makes a session, which is taken; and the pod's account may do just that.
    let words =
        ["x", "--invoker-name=orders", "--invoker-kind=BackupConfiguration", "--namespace=demo"];
    let args = coffer_orchestrator::trigger::Args::try_parse_from(words)?;
    let clock = Runtime::new().clock;
    coffer_orchestrator::trigger::run(&args, world.client.clone(), &clock).await?;
    let sessions: Api<BackupSession> = world.api();
    let made = sessions.list(&ListParams::default()).await?.items;
    let made = made.first().and_then(|session| session.metadata.name.clone());
    let status = world.settled(&made.context("no session was made")?).await?;
    assert_eq!(status.phase, Some(SessionPhase::Succeeded), "{status:#?}");
    let group = "stash.appscode.com";
    assert!(may(&world, "create", group, "backupsessions").await?);
    assert!(may(&world, "get", group, "backupconfigurations").await?);
    assert!(!may(&world, "get", "", "secrets").await?);
    assert!(!may(&world, "delete", group, "backupsessions").await?);
    let patch = |spec: &str| {
        let patch = format!("{{\"spec\": {spec}}}");
        world.kubectl(&["patch", "backupconfiguration/orders", "--type=merge", "-p", &patch])
    };
    patch(r#"{"paused": true}"#)?;
    let api: Api<k8s_openapi::api::batch::v1::CronJob> = world.api();
    wait::until("the CronJob is suspended", Duration::from_secs(30), async || {
        let cron_job = api.get("stash-trigger-orders").await?;
        Ok(cron_job.spec.suspend.filter(|suspended| *suspended))
    })
    .await?;
    patch(r#"{"scheduler": "orchestrator"}"#)?;
    wait::until("the CronJob is gone", Duration::from_secs(30), async || {
        Ok(api.get_opt("stash-trigger-orders").await?.is_none().then_some(()))
    })
    .await?;
    Ok(())
}
