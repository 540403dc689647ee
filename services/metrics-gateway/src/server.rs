//! The gRPC face: `coffer.metrics.v1.Metrics`. It takes pushes from our services (by client certificate) and from
//! workers (by grant); the HTTP API beside it is for everybody else.
use std::sync::Arc;

use coffer_proto::metrics::v1::{
    PushRequest, PushResponse,
    metrics_server::{Metrics, MetricsServer},
};
use coffer_runtime::{
    Clock,
    auth::{Caller, Gate},
    fault::{Class, Fault, to_status},
    grant::SessionRef,
};
use tonic::{Request, Response, Status};

use crate::groups::{Push, Store};

/// A worker pushes to a group that is not its session's.
#[derive(Debug, thiserror::Error)]
#[error("the session grant of {session} allows pushes to job {allowed}, not to job {job:?}")]
struct OtherGroup {
    session: SessionRef,
    allowed: String,
    job: String,
}

impl Fault for OtherGroup {
    fn class(&self) -> Class {
        Class::Denied
    }
}

/// The service, on the same store as the routes.
pub struct Server {
    store: Arc<Store>,
    clock: Clock,
    gate: Gate,
}

impl Server {
    /// Ready to be added to a gRPC server.
    pub fn service(store: Arc<Store>, clock: Clock, gate: Gate) -> MetricsServer<Self> {
        MetricsServer::new(Self { store, clock, gate })
    }
}

#[tonic::async_trait]
impl Metrics for Server {
    async fn push(&self, request: Request<PushRequest>) -> Result<Response<PushResponse>, Status> {
        let caller = self.gate.caller(&request).await?;
        let push = Push::try_from(request.into_inner()).map_err(|error| to_status(&error))?;
        match caller {
            Caller::Service(_) => {}
            Caller::Worker(grant) => {
                let job = push.grouping.get("job").unwrap_or_default();
                covers(grant.session, job).map_err(|error| to_status(&error))?;
            }
            Caller::User(user) => {
                return Err(Status::permission_denied(format!(
                    "user {:?} may not push over gRPC: use the Pushgateway HTTP API",
                    user.name
                )));
            }
        }
        self.store.push(push, self.clock.now()).map_err(|rejected| {
            tracing::warn!(error = %rejected, "push rejected");
            to_status(&rejected)
        })?;
        Ok(Response::new(PushResponse {}))
    }
}

/// A worker's figures go to its invoker's group, `<kind>-<namespace>-<name>` as Stash names it. The grant does not name
/// the invoker of a BackupSession, so what is compared is its kind and the namespace.
fn covers(session: SessionRef, job: &str) -> Result<(), OtherGroup> {
    let kinds: &[&str] = match session.kind.as_str() {
        "BackupSession" => &["backupconfiguration", "backupbatch"],
        "RestoreSession" => &["restoresession", "restorebatch"],
        "RestoreBatch" => &["restorebatch"],
        _ => &[],
    };
    let prefixes: Vec<String> =
        kinds.iter().map(|kind| format!("{kind}-{}-", session.namespace)).collect();
    if prefixes.iter().any(|prefix| job.len() > prefix.len() && job.starts_with(prefix)) {
        return Ok(());
    }
    let allowed: Vec<String> = prefixes.iter().map(|prefix| format!("\"{prefix}…\"")).collect();
    Err(OtherGroup { session, allowed: allowed.join(" or "), job: job.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(kind: &str) -> SessionRef {
        SessionRef { kind: kind.to_owned(), namespace: "demo".to_owned(), name: "s-1".to_owned() }
    }

    #[test]
    fn a_grant_covers_groups_of_its_namespace_and_kind() {
        covers(session("BackupSession"), "backupconfiguration-demo-redis").unwrap();
        covers(session("RestoreSession"), "restoresession-demo-s-1").unwrap();
        for job in [
            "backupconfiguration-prod-redis",
            "restoresession-demo-x",
            "backupconfiguration-demo-",
            "",
        ] {
            covers(session("BackupSession"), job).unwrap_err();
        }
        let error = covers(session("BackupSession"), "x").unwrap_err();
        assert_eq!(
            error.to_string(),
            "the session grant of BackupSession demo/s-1 allows pushes to job \"backupconfiguration-demo-…\" or \
             \"backupbatch-demo-…\", not to job \"x\""
        );
    }
}
