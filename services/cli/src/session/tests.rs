//! Following is tested with a real gRPC server whose sessions are a script.
use std::sync::Mutex;

use coffer_proto::orchestrator::v1::{self as proto, sessions_server};
use tonic::{Request, Response, Status};

use super::*;

fn session(kind: SessionKind, phase: &str) -> Session {
    let reference =
        SessionRef { kind: kind.into(), namespace: "demo".to_owned(), name: "orders-1".to_owned() };
    Session { r#ref: Some(reference), phase: phase.to_owned(), ..Session::default() }
}

fn result() -> proto::Result {
    proto::Result {
        bytes: 3 << 30,
        uploaded_bytes: 1 << 20,
        keys: 200_000,
        duration_ms: 12_300,
        ..Default::default()
    }
}

#[test]
fn the_last_line() {
    let mut backup = session(SessionKind::Backup, "Succeeded");
    backup.snapshot_id = "1a2b3c4d5e6f".to_owned();
    backup.result = Some(result());
    assert_eq!(
        summary(&backup),
        "backupsession.stash.appscode.com/orders-1 succeeded:\n  snapshot 1a2b3c4d, 200,000 keys, 3.0 GiB (1.0 MiB \
         uploaded), 12.3 s, 249.8 MiB/s"
    );
    let mut restore = session(SessionKind::Restore, "Succeeded");
    restore.result =
        Some(proto::Result { keys_skipped: 3, keys_expired: 4, keys_replaced: 12, ..result() });
    assert_eq!(
        summary(&restore),
        "restoresession.stash.appscode.com/orders-1 succeeded:\n  200,000 keys, 3 left out, 4 expired meanwhile, \
         12 replaced, 3.0 GiB, 12.3 s, 249.8 MiB/s"
    );
    let mut failed = session(SessionKind::Backup, "Failed");
    assert!(failure(&failed).ends_with("see `kubectl -n demo describe backupsession orders-1`"));
    failed.message = "connect to redis: WRONGPASS".to_owned();
    assert_eq!(
        failure(&failed),
        "backupsession.stash.appscode.com/orders-1 failed: connect to redis: WRONGPASS"
    );
    let mut invalid = session(SessionKind::Restore, "Invalid");
    invalid.message = "no rule is for host a".to_owned();
    assert!(is_final(&invalid) && !is_final(&session(SessionKind::Restore, "Pending")));
    assert_eq!(
        failure(&invalid),
        "restoresession.stash.appscode.com/orders-1 is invalid: no rule is for host a"
    );
}

#[test]
fn json() {
    let mut backup = session(SessionKind::Backup, "Succeeded");
    backup.created = Some(prost_types::Timestamp { seconds: 1_700_000_000, nanos: 0 });
    backup.result = Some(result());
    let json = serde_json::to_value(shown(&backup)).unwrap();
    assert_eq!(json["kind"], "BackupSession");
    assert_eq!(json["created"], "2023-11-14T22:13:20Z");
    assert_eq!(json["result"]["uploadedBytes"], 1 << 20);
    assert_eq!(json.get("message"), None);
}

#[test]
fn request_ids_differ() {
    assert_ne!(request_id(), request_id());
}

/// What one call of Watch sends, and how it ends.
type Watch = (Vec<Session>, Option<Status>);

struct Script(Mutex<Vec<Watch>>);

#[tonic::async_trait]
impl sessions_server::Sessions for Script {
    type WatchStream =
        std::pin::Pin<Box<dyn futures::Stream<Item = Result<proto::WatchResponse, Status>> + Send>>;

    async fn watch(&self, _: Request<WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let mut script = self.0.lock().unwrap();
        assert!(!script.is_empty(), "watched more often than the script says");
        let (sessions, end) = script.remove(0);
        let sessions =
            sessions.into_iter().map(|session| Ok(proto::WatchResponse { session: Some(session) }));
        Ok(Response::new(Box::pin(futures::stream::iter(
            sessions.chain(end.map(Err)).collect::<Vec<_>>(),
        ))))
    }

    async fn trigger_backup(
        &self,
        _: Request<proto::TriggerBackupRequest>,
    ) -> Result<Response<proto::TriggerBackupResponse>, Status> {
        Err(Status::unimplemented("not in the script"))
    }

    async fn trigger_restore(
        &self,
        _: Request<proto::TriggerRestoreRequest>,
    ) -> Result<Response<proto::TriggerRestoreResponse>, Status> {
        Err(Status::unimplemented("not in the script"))
    }

    async fn get(
        &self,
        _: Request<proto::GetRequest>,
    ) -> Result<Response<proto::GetResponse>, Status> {
        Err(Status::unimplemented("not in the script"))
    }

    async fn list(
        &self,
        _: Request<proto::ListRequest>,
    ) -> Result<Response<proto::ListResponse>, Status> {
        Err(Status::unimplemented("not in the script"))
    }

    async fn cancel(
        &self,
        _: Request<proto::CancelRequest>,
    ) -> Result<Response<proto::CancelResponse>, Status> {
        Err(Status::unimplemented("not in the script"))
    }
}

async fn followed(script: Vec<Watch>) -> anyhow::Result<Session> {
    let runtime = coffer_runtime::Runtime::new();
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    let service = sessions_server::SessionsServer::new(Script(Mutex::new(script)));
    let server =
        coffer_runtime::grpc::Server::bind(address, None, Default::default()).await.unwrap();
    let server = server.add_service(service);
    let channel = coffer_runtime::grpc::connect(&server.endpoint(), None).unwrap();
    let mut client = SessionsClient::new(coffer_runtime::grpc::with_token(channel, None).unwrap());
    let serving = runtime.clone();
    let server = tokio::spawn(async move { server.serve(&serving).await });
    let start = session(SessionKind::Backup, "");
    let followed = follow(&mut client, start, &mut Progress::Quiet).await;
    drop(client);
    runtime.shutdown.abort();
    server.await.unwrap().unwrap();
    followed
}

#[tokio::test]
async fn follows_over_broken_and_ended_watches() {
    let state = |phase| session(SessionKind::Backup, phase);
    let script = vec![
        (vec![state("Pending"), state("Running")], Some(Status::unavailable("restarting"))),
        (vec![state("Running")], None),
        (vec![state("Running"), state("Failed"), state("Running")], None),
    ];
    assert_eq!(followed(script).await.unwrap().phase, "Failed");
}

#[tokio::test]
async fn gives_up_where_trying_again_does_not_help() {
    let denied =
        vec![(vec![], Some(Status::permission_denied("user \"u\" may not get backupsessions")))];
    let error = followed(denied).await.unwrap_err();
    assert!(
        error
            .downcast_ref::<Status>()
            .is_some_and(|status| status.code() == tonic::Code::PermissionDenied)
    );
}
