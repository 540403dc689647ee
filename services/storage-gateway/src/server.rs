//! The gRPC side: who calls, may they, and then the work. No rule about repositories lives here.

mod progress;
mod repositories;
mod snapshots;
mod waiting;

use crate::admission::{Admission, Admitted};
use crate::metrics::{self, Metrics};
use crate::repositories::Repositories;
use coffer_proto::storage::v1::repositories_server::RepositoriesServer;
use coffer_proto::storage::v1::snapshots_server::SnapshotsServer;
use coffer_runtime::Clock;
use coffer_runtime::auth::{Caller, Gate};
use coffer_runtime::fault::{self, Fault};
use coffer_runtime::grant::{Grant, Operation, RepositoryRef};
use coffer_runtime::grpc;
use std::sync::Arc;
use tonic::{Request, Status};

/// What the handlers share.
pub(crate) struct Services {
    pub(crate) gate: Gate,
    pub(crate) repositories: Repositories,
    pub(crate) metrics: Metrics,
    pub(crate) admission: Admission,
    pub(crate) clock: Clock,
    /// The name of this machine or pod.
    pub(crate) host: String,
}

/// Both contracts on one state.
#[derive(Clone)]
struct Server(Arc<Services>);

/// Adds the contracts to a gRPC server.
pub(crate) fn register(server: grpc::Server, services: Arc<Services>) -> grpc::Server {
    let handlers = Server(services);
    server
        .add_service(SnapshotsServer::new(handlers.clone()))
        .add_service(RepositoriesServer::new(handlers))
}

impl Services {
    /// The grant of a worker; nobody else may stream.
    fn worker<T>(
        &self,
        request: &Request<T>,
    ) -> impl Future<Output = Result<Grant, Status>> + use<T> {
        let caller = self.gate.caller(request);
        async { worker_grant(caller.await?) }
    }

    fn covered(
        &self,
        grant: &Grant,
        at: &RepositoryRef,
        operation: Operation,
    ) -> Result<(), Status> {
        grant
            .covers(at, operation)
            .map_err(|refused| Status::permission_denied(refused.to_string()))
    }

    /// Room for one more stream.
    fn admit(
        &self,
        operation: &'static str,
        namespace: &str,
    ) -> Result<(Admitted, metrics::Stream), Status> {
        let admitted = self.admission.admit(namespace);
        let admitted = admitted.map_err(|full| Status::resource_exhausted(full.to_string()))?;
        Ok((admitted, self.metrics.stream(operation)))
    }

    /// The status of a failure, which is counted.
    fn refuse(&self, operation: &'static str, fault: &impl Fault) -> Status {
        self.metrics.failed(operation, fault.class());
        fault::to_status(fault)
    }
}

fn worker_grant(caller: Caller) -> Result<Grant, Status> {
    match caller {
        Caller::Worker(grant) => Ok(grant),
        Caller::Service(_) | Caller::User(_) => Err(Status::permission_denied(
            "only a session's worker may stream a snapshot; start a session (coffer backup, coffer restore)",
        )),
    }
}
