//! The gRPC contracts from outside: triggering, watching, cancelling, and who is let in.

use std::time::Duration;

use anyhow::{Context as _, Result};
use coffer_proto::{
    catalog::v1::{ListTasksRequest, catalog_client::CatalogClient},
    orchestrator::v1::{
        CancelRequest, SessionKind, SessionRef, TriggerBackupRequest, WatchRequest,
        sessions_client::SessionsClient,
    },
    storage::v1::{
        BackupHeader, BackupRequest, ListSnapshotsRequest, RepositoryRef, RestoreRequest,
        backup_request::Message, repositories_client::RepositoriesClient,
        snapshots_client::SnapshotsClient,
    },
};
use coffer_runtime::{Secret, grpc, tls::TlsOptions};
use coffer_tests::{
    dataset, wait,
    world::{NAMESPACE, World},
};
use k8s_openapi::api::{
    authentication::v1::TokenRequest,
    core::v1::{ConfigMap, ServiceAccount},
};
use kube::{
    Api,
    api::{ListParams, PostParams},
};
use tonic::{Code, transport::Channel};

use crate::COFFER;

/// A channel to a service, with a token when one is given.
async fn channel(world: &World, service: &str) -> Result<Channel> {
    let endpoints: Api<ConfigMap> = Api::namespaced(world.client.clone(), "coffer-system");
    let endpoints = endpoints.get("coffer-endpoints").await?.data.unwrap_or_default();
    let tls = TlsOptions::new(None, Some(endpoints["ca.crt"].clone()));
    Ok(grpc::connect(&endpoints[service], Some(&tls))?)
}

/// The token of the kubeconfig.
fn token(world: &World) -> Result<Secret> {
    let text = std::fs::read_to_string(world.coffer.kubeconfig())?;
    let config: serde_json::Value = serde_yaml::from_str(&text)?;
    let token = config["users"][0]["user"]["token"].as_str().context("no token")?;
    Ok(Secret::new(token))
}

fn repository() -> Option<RepositoryRef> {
    Some(RepositoryRef { namespace: NAMESPACE.into(), name: "repo".into(), lock_wait: None })
}

#[tokio::test]
async fn a_client_triggers_a_backup_and_watches_it() -> Result<()> {
    let world = World::start(COFFER).await?;
    dataset::load(&world.redis.client()?, &dataset::Spec::small()).await?;
    world.apply_basics()?;
    world.ready("orders").await?;
    let channel = grpc::with_token(channel(&world, "orchestrator").await?, Some(&token(&world)?))?;
    let mut sessions = SessionsClient::new(channel);
    let request = TriggerBackupRequest {
        namespace: NAMESPACE.into(),
        backup_configuration: "orders".into(),
        backup_batch: String::new(),
        request_id: "once".into(),
    };
    let first = sessions
        .trigger_backup(request.clone())
        .await?
        .into_inner()
        .session
        .context("no session")?;
    let second =
        sessions.trigger_backup(request).await?.into_inner().session.context("no session")?;
    assert_eq!(first.r#ref, second.r#ref, "a repeated request makes no second session");

    let mut watch = sessions.watch(WatchRequest { r#ref: first.r#ref.clone() }).await?.into_inner();
    let mut phases = vec![];
    let mut last = None;
    while let Some(answer) = watch.message().await? {
        let session = answer.session.context("no session")?;
        if phases.last() != Some(&session.phase) {
            phases.push(session.phase.clone());
        }
        last = Some(session);
    }
    let last = last.context("nothing was watched")?;
    assert_eq!(
        phases.last().map(String::as_str),
        Some("Succeeded"),
        "{phases:?}: {}",
        last.message
    );
    let result = last.result.context("no result")?;
    assert!(result.keys > 0 && result.bytes > 0);
    assert_eq!(last.target, "orders");
    assert!(!last.snapshot_id.is_empty());
    Ok(())
}

#[tokio::test]
async fn a_session_can_be_cancelled() -> Result<()> {
    let world = World::start(COFFER).await?;
    dataset::load(&world.redis.client()?, &dataset::Spec::small()).await?;
    world.redis.command::<()>(&["CONFIG", "SET", "rdb-key-save-delay", "5000"]).await?;
    world.apply_basics()?;
    world.create_backup_session("long", "orders").await?;
    wait::until("the server dumps", Duration::from_secs(30), async || {
        let info: String = world.redis.command(&["INFO", "persistence"]).await?;
        Ok(info.contains("rdb_bgsave_in_progress:1").then_some(()))
    })
    .await?;
    let channel = grpc::with_token(channel(&world, "orchestrator").await?, Some(&token(&world)?))?;
    let session = SessionRef {
        kind: SessionKind::Backup.into(),
        namespace: NAMESPACE.into(),
        name: "long".into(),
    };
    SessionsClient::new(channel).cancel(CancelRequest { r#ref: Some(session) }).await?;
    let status = world.settled("long").await?;
    assert_eq!(status.phase.map(|p| p.as_str()), Some("Failed"));
    assert!(world.describe("backupsession", "long")?.to_lowercase().contains("cancel"));
    assert!(world.restic().snapshots().map_or(0, |s| s.len()) == 0);
    Ok(())
}

#[tokio::test]
async fn nobody_comes_in_without_a_token_and_nobody_goes_further_than_his_rights() -> Result<()> {
    let world = World::start(COFFER).await?;
    world.apply_basics()?;
    world.ready("orders").await?;
    let trigger = TriggerBackupRequest {
        namespace: NAMESPACE.into(),
        backup_configuration: "orders".into(),
        backup_batch: String::new(),
        request_id: String::new(),
    };
    let orchestrator = channel(&world, "orchestrator").await?;
    let storage = channel(&world, "storage-gateway").await?;
    let list = ListSnapshotsRequest { repository: repository(), ..Default::default() };

    let bare = SessionsClient::new(orchestrator.clone())
        .trigger_backup(trigger.clone())
        .await
        .unwrap_err();
    assert_eq!(bare.code(), Code::Unauthenticated, "{bare}");
    let bare =
        RepositoriesClient::new(storage.clone()).list_snapshots(list.clone()).await.unwrap_err();
    assert_eq!(bare.code(), Code::Unauthenticated, "{bare}");

    let wrong = grpc::with_token(orchestrator.clone(), Some(&Secret::new("no-such-token")))?;
    let wrong = SessionsClient::new(wrong).trigger_backup(trigger.clone()).await.unwrap_err();
    assert_eq!(wrong.code(), Code::Unauthenticated, "{wrong}");

    // A service account without any role is known, and may nothing.
    world.kubectl(&["create", "serviceaccount", "nobody"])?;
    let accounts = world.api::<ServiceAccount>();
    let request = accounts
        .create_token_request("nobody", &PostParams::default(), &TokenRequest::default())
        .await?;
    let nobody = Secret::new(request.status.and_then(|s| s.token).context("no token")?);
    let denied = grpc::with_token(orchestrator, Some(&nobody))?;
    let denied = SessionsClient::new(denied).trigger_backup(trigger).await.unwrap_err();
    assert_eq!(denied.code(), Code::PermissionDenied, "{denied}");
    assert!(
        denied.message().contains("backupsessions") && denied.message().contains(NAMESPACE),
        "{denied}"
    );
    let denied = grpc::with_token(storage.clone(), Some(&nobody))?;
    let denied = RepositoriesClient::new(denied).list_snapshots(list).await.unwrap_err();
    assert_eq!(denied.code(), Code::PermissionDenied, "{denied}");

    // Not even the administrator writes a snapshot: that takes a session's grant.
    let admin = grpc::with_token(storage, Some(&token(&world)?))?;
    let header = BackupHeader {
        repository: repository(),
        paths: vec!["/dump.rdb".into()],
        ..Default::default()
    };
    let stream = tokio_stream::iter([BackupRequest { message: Some(Message::Header(header)) }]);
    let refused = SnapshotsClient::new(admin.clone()).backup(stream).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
    let restore = RestoreRequest {
        repository: repository(),
        snapshot: "latest".into(),
        ..Default::default()
    };
    let refused = SnapshotsClient::new(admin).restore(restore).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
    assert_eq!(
        world.api::<coffer_api::BackupSession>().list(&ListParams::default()).await?.items.len(),
        0
    );
    Ok(())
}

#[tokio::test]
async fn the_catalog_lists_its_tasks() -> Result<()> {
    let world = World::start(COFFER).await?;
    world.apply_basics()?;
    let token = token(&world)?;
    let catalog = grpc::with_token(channel(&world, "catalog").await?, Some(&token))?;
    let tasks =
        CatalogClient::new(catalog).list_tasks(ListTasksRequest {}).await?.into_inner().tasks;
    let names: Vec<_> = tasks.iter().map(|t| t.name.as_str()).collect();
    for version in ["5.0.13", "6.2.5", "7.0.5"] {
        for way in ["backup", "restore"] {
            let task = format!("redis-{way}-{version}");
            assert!(names.contains(&task.as_str()), "{task} is not in {names:?}");
        }
    }
    Ok(())
}
