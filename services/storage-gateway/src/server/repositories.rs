//! `coffer.storage.v1.Repositories`: for the orchestrator, and for users with rights to the Repository object. Reading
//! needs `get`, changing `update`, wiping `delete`. Long operations stream, so that dropping the call stops them.

use super::Server;
use crate::{convert, maintain};
use coffer_proto::storage::v1::repositories_server::Repositories;
use coffer_proto::storage::v1::*;
use coffer_restic as restic;
use coffer_runtime::grant::RepositoryRef;
use futures::stream::BoxStream;
use futures::{FutureExt as _, StreamExt as _};
use std::future::Future;
use tonic::{Request, Response, Status, async_trait};

const READ: &str = "get";
const CHANGE: &str = "update";
const WIPE: &str = "delete";

type Answers<T> = BoxStream<'static, Result<T, Status>>;

impl Server {
    /// Finds out which Repository it is, and whether the caller may.
    async fn admit<T>(
        &self,
        request: Request<T>,
        verb: &'static str,
        which: impl FnOnce(&mut T) -> Option<RepositoryRefMessage>,
    ) -> Result<(RepositoryRef, T), Status> {
        let caller = self.0.gate.caller(&request).await?;
        let mut request = request.into_inner();
        let at = convert::repository(which(&mut request))?;
        self.0.authorize(&caller, verb, &at).await?;
        Ok((at, request))
    }
}

type RepositoryRefMessage = coffer_proto::storage::v1::RepositoryRef;

/// The one answer of an operation that runs while the stream is polled.
fn answer<T: Send + 'static>(
    work: impl Future<Output = Result<T, Status>> + Send + 'static,
) -> Response<Answers<T>> {
    Response::new(futures::stream::once(work).boxed())
}

fn absent<T>(what: &str) -> Result<T, Status> {
    Err(Status::unimplemented(format!("{what} is not part of this version")))
}

#[async_trait]
impl Repositories for Server {
    type PruneStream = Answers<PruneResponse>;
    type CheckStream = Answers<CheckResponse>;
    type CopyStream = Answers<CopyResponse>;
    type RepairIndexStream = Answers<RepairIndexResponse>;
    type MigrateStream = Answers<MigrateResponse>;

    async fn init(&self, request: Request<InitRequest>) -> Result<Response<InitResponse>, Status> {
        let (at, _) = self.admit(request, CHANGE, |request| request.repository.take()).await?;
        let opened = maintain::init(&self.0.repositories, &at).boxed().await;
        let opened = opened.map_err(|error| self.0.refuse("init", &error))?;
        Ok(Response::new(InitResponse {
            repository_id: opened.repository.id().to_string(),
            version: opened.repository.version().number(),
            created: opened.created,
        }))
    }

    async fn list_snapshots(
        &self,
        request: Request<ListSnapshotsRequest>,
    ) -> Result<Response<ListSnapshotsResponse>, Status> {
        let (at, request) = self.admit(request, READ, |request| request.repository.take()).await?;
        let ListSnapshotsRequest { repository: _, host, path, tags, with_files } = request;
        let filter = convert::filter(host, path, tags);
        let listed = maintain::list(&self.0.repositories, &at, &filter, with_files).boxed().await;
        let listed = listed.map_err(|error| self.0.refuse("list", &error))?;
        let snapshots =
            listed.into_iter().map(|(snapshot, files)| convert::snapshot(snapshot, files));
        Ok(Response::new(ListSnapshotsResponse { snapshots: snapshots.collect() }))
    }

    async fn delete_snapshots(
        &self,
        request: Request<DeleteSnapshotsRequest>,
    ) -> Result<Response<DeleteSnapshotsResponse>, Status> {
        let (at, request) =
            self.admit(request, CHANGE, |request| request.repository.take()).await?;
        if request.ids.is_empty() || request.ids.iter().any(|id| id == "latest") {
            return Err(Status::invalid_argument("ids must name snapshots by id"));
        }
        let deleted = maintain::delete(&self.0.repositories, &at, &request.ids).boxed().await;
        let deleted = deleted.map_err(|error| self.0.refuse("delete", &error))?;
        let deleted = deleted.iter().map(ToString::to_string).collect();
        Ok(Response::new(DeleteSnapshotsResponse { deleted }))
    }

    async fn forget(
        &self,
        request: Request<ForgetRequest>,
    ) -> Result<Response<ForgetResponse>, Status> {
        let (at, request) =
            self.admit(request, CHANGE, |request| request.repository.take()).await?;
        let ForgetRequest { repository: _, keep, prune, dry_run } = request;
        let policy = convert::keep_policy(keep)?;
        let work = maintain::forget(&self.0.repositories, &at, &policy, prune, dry_run);
        let summary = work.boxed().await.map_err(|error| self.0.refuse("forget", &error))?;
        Ok(Response::new(convert::forget_response(summary)))
    }

    async fn prune(
        &self,
        request: Request<PruneRequest>,
    ) -> Result<Response<Self::PruneStream>, Status> {
        let (at, request) =
            self.admit(request, CHANGE, |request| request.repository.take()).await?;
        let PruneRequest { repository: _, dry_run, max_unused_percent, max_repack_bytes } = request;
        if max_repack_bytes > 0 {
            return absent("a limit on repacked bytes");
        }
        let mut options = restic::prune::Options { dry_run, ..Default::default() };
        if let Some(percent) = max_unused_percent {
            if !(0.0..=100.0).contains(&percent) {
                return Err(Status::invalid_argument("max_unused_percent is not within 0 and 100"));
            }
            options.max_unused_percent = percent;
        }
        let services = self.0.clone();
        Ok(answer(async move {
            let summary = maintain::prune(&services.repositories, &at, &options).await;
            let summary = summary.map_err(|error| services.refuse("prune", &error))?;
            Ok(convert::prune_response(&summary))
        }))
    }

    async fn check(
        &self,
        request: Request<CheckRequest>,
    ) -> Result<Response<Self::CheckStream>, Status> {
        let (at, request) = self.admit(request, READ, |request| request.repository.take()).await?;
        let CheckRequest { repository: _, read_data, read_data_subset } = request;
        if !read_data_subset.is_empty() {
            return absent("checking a part of the data");
        }
        let options = restic::check::Options { read_data };
        let services = self.0.clone();
        Ok(answer(async move {
            let report = maintain::check(&services.repositories, &at, &options).await;
            let report = report.map_err(|error| services.refuse("check", &error))?;
            Ok(convert::check_response(&report))
        }))
    }

    async fn stats(
        &self,
        request: Request<StatsRequest>,
    ) -> Result<Response<StatsResponse>, Status> {
        let (at, _) = self.admit(request, READ, |request| request.repository.take()).await?;
        let stats = maintain::stats(&self.0.repositories, &at).boxed().await;
        let stats = stats.map_err(|error| self.0.refuse("stats", &error))?;
        Ok(Response::new(convert::stats_response(stats)))
    }

    async fn unlock(
        &self,
        request: Request<UnlockRequest>,
    ) -> Result<Response<UnlockResponse>, Status> {
        let (at, request) =
            self.admit(request, CHANGE, |request| request.repository.take()).await?;
        let scope = if request.all { restic::UnlockScope::All } else { restic::UnlockScope::Stale };
        let removed = maintain::unlock(&self.0.repositories, &at, scope).boxed().await;
        let removed = removed.map_err(|error| self.0.refuse("unlock", &error))?;
        Ok(Response::new(UnlockResponse { removed: u32::try_from(removed).unwrap_or(u32::MAX) }))
    }

    async fn wipe(&self, request: Request<WipeRequest>) -> Result<Response<WipeResponse>, Status> {
        let (at, _) = self.admit(request, WIPE, |request| request.repository.take()).await?;
        let deleted = maintain::wipe(&self.0.repositories, &at).boxed().await;
        let deleted = deleted.map_err(|error| self.0.refuse("wipe", &error))?;
        Ok(Response::new(WipeResponse { objects_deleted: deleted as u64 }))
    }

    async fn list_keys(
        &self,
        request: Request<ListKeysRequest>,
    ) -> Result<Response<ListKeysResponse>, Status> {
        self.admit(request, READ, |request| request.repository.take()).await?;
        absent("listing keys")
    }

    async fn add_key(
        &self,
        request: Request<AddKeyRequest>,
    ) -> Result<Response<AddKeyResponse>, Status> {
        self.admit(request, CHANGE, |request| request.repository.take()).await?;
        absent("adding a key")
    }

    async fn remove_key(
        &self,
        request: Request<RemoveKeyRequest>,
    ) -> Result<Response<RemoveKeyResponse>, Status> {
        self.admit(request, CHANGE, |request| request.repository.take()).await?;
        absent("removing a key")
    }

    async fn change_key(
        &self,
        request: Request<ChangeKeyRequest>,
    ) -> Result<Response<ChangeKeyResponse>, Status> {
        self.admit(request, CHANGE, |request| request.repository.take()).await?;
        absent("changing the key")
    }

    async fn copy(
        &self,
        request: Request<CopyRequest>,
    ) -> Result<Response<Self::CopyStream>, Status> {
        self.admit(request, READ, |request| request.from.take()).await?;
        absent("copying snapshots")
    }

    async fn repair_index(
        &self,
        request: Request<RepairIndexRequest>,
    ) -> Result<Response<Self::RepairIndexStream>, Status> {
        self.admit(request, CHANGE, |request| request.repository.take()).await?;
        absent("repairing the index")
    }

    async fn migrate(
        &self,
        request: Request<MigrateRequest>,
    ) -> Result<Response<Self::MigrateStream>, Status> {
        self.admit(request, CHANGE, |request| request.repository.take()).await?;
        absent("migrating to format 2")
    }
}
