//! The gRPC services: who may, and then one call each.

use std::{pin::Pin, sync::Arc};

use coffer_proto::orchestrator::v1::{
    CancelRequest, CancelResponse, GetRequest, GetResponse, ListRequest, ListResponse,
    ReportRequest, ReportResponse, SessionKind, TriggerBackupRequest, TriggerBackupResponse,
    TriggerRestoreRequest, TriggerRestoreResponse, WatchRequest, WatchResponse,
    progress_server::Progress, sessions_server::Sessions,
};
use coffer_runtime::{
    auth::{Access, Caller, Gate},
    fault::to_status,
    grant::SessionRef,
};
use futures::{Stream, StreamExt as _};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use crate::{context::Context, convert, sessions};

const GROUP: &str = "stash.appscode.com";

/// Both services of the orchestrator.
#[derive(Clone)]
pub struct Service {
    ctx: Arc<Context>,
    gate: Gate,
    stop: CancellationToken,
}

impl Service {
    /// Serves until `stop`.
    #[must_use]
    pub fn new(ctx: Arc<Context>, gate: Gate, stop: CancellationToken) -> Self {
        Self { ctx, gate, stop }
    }

    /// Checks that the caller may do `verb` to `resource`; tells who it is.
    async fn allow<T>(
        &self,
        request: &Request<T>,
        resource: &'static str,
        verb: &'static str,
        namespace: &str,
        name: Option<&str>,
    ) -> Result<String, Status> {
        let caller = self.gate.caller(request);
        let namespace = namespace.to_owned();
        let name = name.map(str::to_owned);
        let caller = caller.await?;
        let access = Access { group: GROUP, resource, verb, namespace, name };
        self.gate.authorize(&caller, &access).await?;
        Ok(match caller {
            Caller::User(user) => user.name,
            Caller::Service(name) => name,
            Caller::Worker(grant) => grant.session.to_string(),
        })
    }

    async fn allow_on<T>(
        &self,
        request: &Request<T>,
        verb: &'static str,
        session: &SessionRef,
    ) -> Result<String, Status> {
        let resource =
            if session.kind == "RestoreSession" { "restoresessions" } else { "backupsessions" };
        self.allow(request, resource, verb, &session.namespace, Some(&session.name)).await
    }
}

fn required(what: &str, value: &str) -> Result<(), Status> {
    if value.is_empty() {
        return Err(Status::invalid_argument(format!("{what} is missing")));
    }
    Ok(())
}

#[tonic::async_trait]
impl Sessions for Service {
    async fn trigger_backup(
        &self,
        request: Request<TriggerBackupRequest>,
    ) -> Result<Response<TriggerBackupResponse>, Status> {
        let wanted = request.get_ref().clone();
        required("namespace", &wanted.namespace)?;
        self.allow(&request, "backupsessions", "create", &wanted.namespace, None).await?;
        let invoker = convert::triggered(&wanted)?;
        let TriggerBackupRequest { namespace, request_id, .. } = wanted;
        let view = sessions::trigger_backup(&self.ctx, &namespace, &invoker, &request_id)
            .await
            .map_err(|error| to_status(&error))?;
        Ok(Response::new(TriggerBackupResponse { session: Some(convert::session(view)) }))
    }

    async fn trigger_restore(
        &self,
        request: Request<TriggerRestoreRequest>,
    ) -> Result<Response<TriggerRestoreResponse>, Status> {
        required("namespace", &request.get_ref().namespace)?;
        let namespace = request.get_ref().namespace.clone();
        self.allow(&request, "restoresessions", "create", &namespace, None).await?;
        let view = sessions::trigger_restore(&self.ctx, convert::restore(request.into_inner()))
            .await
            .map_err(|error| to_status(&error))?;
        Ok(Response::new(TriggerRestoreResponse { session: Some(convert::session(view)) }))
    }

    async fn get(&self, request: Request<GetRequest>) -> Result<Response<GetResponse>, Status> {
        let session = convert::reference(request.get_ref().r#ref.clone())?;
        self.allow_on(&request, "get", &session).await?;
        let view = sessions::get(&self.ctx, &session).await.map_err(|error| to_status(&error))?;
        Ok(Response::new(GetResponse { session: Some(convert::session(view)) }))
    }

    async fn list(&self, request: Request<ListRequest>) -> Result<Response<ListResponse>, Status> {
        let wanted = request.get_ref().clone();
        let (backups, restores) = match wanted.kind() {
            SessionKind::Unspecified => (true, true),
            SessionKind::Backup => (true, false),
            SessionKind::Restore => (false, true),
        };
        for (asked, resource) in [(backups, "backupsessions"), (restores, "restoresessions")] {
            if asked {
                self.allow(&request, resource, "list", &wanted.namespace, None).await?;
            }
        }
        let config = &wanted.backup_configuration;
        let found = sessions::list(&self.ctx, &wanted.namespace, backups, restores, config)
            .await
            .map_err(|error| to_status(&error))?;
        let sessions = found.into_iter().map(convert::session).collect();
        Ok(Response::new(ListResponse { sessions }))
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<WatchResponse, Status>> + Send>>;

    async fn watch(
        &self,
        request: Request<WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let session = convert::reference(request.get_ref().r#ref.clone())?;
        self.allow_on(&request, "watch", &session).await?;
        // What is not there is said at once, not in the stream.
        sessions::get(&self.ctx, &session).await.map_err(|error| to_status(&error))?;
        let views = sessions::follow(self.ctx.clone(), session, self.stop.clone());
        let messages = views.map(|view| match view {
            Ok(view) => Ok(WatchResponse { session: Some(convert::session(view)) }),
            Err(error) => Err(to_status(&error)),
        });
        Ok(Response::new(messages.boxed()))
    }

    async fn cancel(
        &self,
        request: Request<CancelRequest>,
    ) -> Result<Response<CancelResponse>, Status> {
        let session = convert::reference(request.get_ref().r#ref.clone())?;
        let who = self.allow_on(&request, "update", &session).await?;
        let view =
            sessions::cancel(&self.ctx, &session, &who).await.map_err(|error| to_status(&error))?;
        Ok(Response::new(CancelResponse { session: Some(convert::session(view)) }))
    }
}

#[tonic::async_trait]
impl Progress for Service {
    async fn report(
        &self,
        request: Request<Streaming<ReportRequest>>,
    ) -> Result<Response<ReportResponse>, Status> {
        let Caller::Worker(grant) = self.gate.caller(&request).await? else {
            return Err(Status::permission_denied(
                "only the worker of a session reports its progress, with the session's grant",
            ));
        };
        let mut reports = request.into_inner();
        loop {
            let report = tokio::select! {
                // A worker that is killed breaks its stream; what became of it is read from its pod, not here.
                report = reports.message() => {
                    report.map_err(|_| Status::cancelled("the worker went away"))?
                }
                () = self.stop.cancelled() => {
                    return Err(Status::unavailable("the orchestrator is stopping: report again"));
                }
            };
            let Some(report) = report else { return Ok(Response::new(ReportResponse {})) };
            let session = convert::reference(report.session.clone())?;
            grant
                .covers_session(&session)
                .map_err(|error| Status::permission_denied(error.to_string()))?;
            let (report, now) = (convert::report(report), self.ctx.clock.now());
            if self.ctx.progress.report(session.clone(), report, now) {
                // Its status is to say so.
                self.ctx.turns.wake(&session);
            }
        }
    }
}
