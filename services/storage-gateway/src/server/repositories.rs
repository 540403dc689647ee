//! `coffer.storage.v1.Repositories`: for the orchestrator, and for users with the rights that [`Operation::right`] names.
//! Long operations stream, so that dropping the call stops them.

use super::Server;
use super::progress::{Answers, watched};
use crate::convert::{self, maintenance};
use crate::operation::{Operation, Right};
use crate::repositories::At;
use crate::{maintain, restore};
use coffer_proto::storage::v1::repositories_server::Repositories;
use coffer_proto::storage::v1::*;
use coffer_restic as restic;
use coffer_runtime::auth::{Access, Caller};
use coffer_runtime::fault::{self, Fault};
use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _};
use tonic::{Request, Response, Status, async_trait};

impl Server {
    /// Checks that the caller may do this to the Repository that is named.
    async fn may(
        &self,
        caller: &Caller,
        operation: Operation,
        which: Option<RepositoryRef>,
    ) -> Result<At, Status> {
        let at = convert::repository(which)?;
        let (resource, verb, name) = match operation.right() {
            Right::Repository(verb) => ("repositories", verb, Some(at.repository.name.clone())),
            Right::Restore => ("restoresessions", "create", None),
        };
        let namespace = at.repository.namespace.clone();
        let access = Access { group: "stash.appscode.com", resource, verb, namespace, name };
        self.0.gate.authorize(caller, &access).await?;
        Ok(at)
    }

    /// Finds out which Repository it is, and whether the caller may.
    async fn admit<T>(
        &self,
        request: Request<T>,
        operation: impl FnOnce(&T) -> Operation,
        which: impl FnOnce(&mut T) -> Option<RepositoryRef>,
    ) -> Result<(At, T), Status> {
        let caller = self.0.gate.caller(&request).await?;
        let mut request = request.into_inner();
        let operation = operation(&request);
        let at = self.may(&caller, operation, which(&mut request)).await?;
        Ok((at, request))
    }

    fn refused<E: Fault>(&self, operation: Operation) -> impl FnOnce(E) -> Status + use<E> {
        let services = self.0.clone();
        move |error| services.refuse(operation.name(), &error)
    }
}

#[async_trait]
impl Repositories for Server {
    type DeleteSnapshotsStream = Answers<DeleteSnapshotsResponse>;
    type ForgetStream = Answers<ForgetResponse>;
    type StatsStream = Answers<StatsResponse>;
    type PruneStream = Answers<PruneResponse>;
    type CheckStream = Answers<CheckResponse>;
    type CopyStream = Answers<CopyResponse>;
    type RepairIndexStream = Answers<RepairIndexResponse>;
    type MigrateStream = Answers<MigrateResponse>;
    type DownloadStream = Answers<RestoreResponse>;

    async fn init(&self, request: Request<InitRequest>) -> Result<Response<InitResponse>, Status> {
        let (at, _) = self.admit(request, |_| Operation::Init, |r| r.repository.take()).await?;
        let opened = maintain::init(&self.0.repositories, &at).boxed().await;
        let opened = opened.map_err(self.refused(Operation::Init))?;
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
        let (at, request) =
            self.admit(request, |_| Operation::List, |r| r.repository.take()).await?;
        let ListSnapshotsRequest { repository: _, host, hosts, path, tags, with_files } = request;
        let filter = convert::filter(host, hosts, path, &tags);
        let listed = maintain::list(&self.0.repositories, &at, &filter, with_files).boxed().await;
        let listed = listed.map_err(self.refused(Operation::List))?;
        let snapshots =
            listed.into_iter().map(|(snapshot, files)| convert::snapshot(snapshot, files));
        Ok(Response::new(ListSnapshotsResponse { snapshots: snapshots.collect() }))
    }

    async fn delete_snapshots(
        &self,
        request: Request<DeleteSnapshotsRequest>,
    ) -> Result<Response<Self::DeleteSnapshotsStream>, Status> {
        let (at, request) =
            self.admit(request, |_| Operation::DeleteSnapshots, |r| r.repository.take()).await?;
        maintenance::named(&request.ids)?;
        let (services, refused) = (self.0.clone(), self.refused(Operation::DeleteSnapshots));
        let work = |observer| async move {
            let ids = &request.ids;
            let deleted = maintain::delete(&services.repositories, &at, ids, &observer).await;
            deleted.map(|ids| maintenance::deleted(&ids)).map_err(refused)
        };
        Ok(watched(work, maintenance::delete_progress))
    }

    async fn forget(
        &self,
        request: Request<ForgetRequest>,
    ) -> Result<Response<Self::ForgetStream>, Status> {
        let operation = |request: &ForgetRequest| {
            if request.dry_run { Operation::PlanForget } else { Operation::Forget }
        };
        let (at, request) = self.admit(request, operation, |r| r.repository.take()).await?;
        let request = maintenance::forget(request)?;
        let (services, refused) = (self.0.clone(), self.refused(Operation::Forget));
        let work = |observer| async move {
            let request = maintain::Forget { observer, ..request };
            let forgotten = maintain::forget(&services.repositories, &at, &request).await;
            forgotten.map(maintenance::forgotten).map_err(refused)
        };
        Ok(watched(work, maintenance::forget_progress))
    }

    async fn prune(
        &self,
        request: Request<PruneRequest>,
    ) -> Result<Response<Self::PruneStream>, Status> {
        let operation = |request: &PruneRequest| {
            if request.dry_run { Operation::PlanPrune } else { Operation::Prune }
        };
        let (at, request) = self.admit(request, operation, |r| r.repository.take()).await?;
        let options = maintenance::prune(request)?;
        let (services, refused) = (self.0.clone(), self.refused(Operation::Prune));
        let work = |observer| async move {
            let options = restic::prune::Options { observer, ..options };
            let pruned = maintain::prune(&services.repositories, &at, options).await;
            pruned.map(|summary| maintenance::pruned(&summary)).map_err(refused)
        };
        Ok(watched(work, maintenance::prune_progress))
    }

    async fn check(
        &self,
        request: Request<CheckRequest>,
    ) -> Result<Response<Self::CheckStream>, Status> {
        let (at, request) =
            self.admit(request, |_| Operation::Check, |r| r.repository.take()).await?;
        let options = maintenance::check(request)?;
        let (services, refused) = (self.0.clone(), self.refused(Operation::Check));
        let work = |observer| async move {
            let options = restic::check::Options { observer, ..options };
            let report = maintain::check(&services.repositories, &at, &options).await;
            report.map(|report| maintenance::checked(&report)).map_err(refused)
        };
        Ok(watched(work, maintenance::check_progress))
    }

    async fn stats(
        &self,
        request: Request<StatsRequest>,
    ) -> Result<Response<Self::StatsStream>, Status> {
        let (at, request) =
            self.admit(request, |_| Operation::Stats, |r| r.repository.take()).await?;
        let StatsRequest { repository: _, host, hosts, path, tags } = request;
        let filter = convert::filter(host, hosts, path, &tags);
        let (services, refused) = (self.0.clone(), self.refused(Operation::Stats));
        let work = |observer| async move {
            let stats = maintain::stats(&services.repositories, &at, &filter, &observer).await;
            stats.map(maintenance::stats).map_err(refused)
        };
        Ok(watched(work, maintenance::stats_progress))
    }

    async fn unlock(
        &self,
        request: Request<UnlockRequest>,
    ) -> Result<Response<UnlockResponse>, Status> {
        let (at, request) =
            self.admit(request, |_| Operation::Unlock, |r| r.repository.take()).await?;
        let scope = if request.all { restic::UnlockScope::All } else { restic::UnlockScope::Stale };
        let removed = maintain::unlock(&self.0.repositories, &at, scope).boxed().await;
        let removed = removed.map_err(self.refused(Operation::Unlock))?;
        Ok(Response::new(UnlockResponse { removed: u32::try_from(removed).unwrap_or(u32::MAX) }))
    }

    async fn wipe(&self, request: Request<WipeRequest>) -> Result<Response<WipeResponse>, Status> {
        let (at, _) = self.admit(request, |_| Operation::Wipe, |r| r.repository.take()).await?;
        let deleted = maintain::wipe(&self.0.repositories, &at).boxed().await;
        let deleted = deleted.map_err(self.refused(Operation::Wipe))?;
        Ok(Response::new(WipeResponse { objects_deleted: deleted as u64 }))
    }

    async fn list_keys(
        &self,
        request: Request<ListKeysRequest>,
    ) -> Result<Response<ListKeysResponse>, Status> {
        let (at, _) = self.admit(request, |_| Operation::ListKeys, |r| r.repository.take()).await?;
        let keys = maintain::list_keys(&self.0.repositories, &at).boxed().await;
        let keys = keys.map_err(self.refused(Operation::ListKeys))?;
        let keys = keys.into_iter().map(maintenance::key).collect();
        Ok(Response::new(ListKeysResponse { keys }))
    }

    async fn add_key(
        &self,
        request: Request<AddKeyRequest>,
    ) -> Result<Response<AddKeyResponse>, Status> {
        let (at, request) =
            self.admit(request, |_| Operation::AddKey, |r| r.repository.take()).await?;
        let AddKeyRequest { repository: _, new_password, username, hostname } = request;
        let new = maintenance::new_key(new_password, username, hostname, &self.0.host)?;
        let key = maintain::add_key(&self.0.repositories, &at, &new).boxed().await;
        let key = key.map_err(self.refused(Operation::AddKey))?;
        Ok(Response::new(AddKeyResponse { key: Some(maintenance::key(key)) }))
    }

    async fn remove_key(
        &self,
        request: Request<RemoveKeyRequest>,
    ) -> Result<Response<RemoveKeyResponse>, Status> {
        let (at, request) =
            self.admit(request, |_| Operation::RemoveKey, |r| r.repository.take()).await?;
        let removed = maintain::remove_key(&self.0.repositories, &at, &request.id).boxed().await;
        removed.map_err(self.refused(Operation::RemoveKey))?;
        Ok(Response::new(RemoveKeyResponse {}))
    }

    async fn change_key(
        &self,
        request: Request<ChangeKeyRequest>,
    ) -> Result<Response<ChangeKeyResponse>, Status> {
        let (at, request) =
            self.admit(request, |_| Operation::ChangeKey, |r| r.repository.take()).await?;
        let none = String::new;
        let new = maintenance::new_key(request.new_password, none(), none(), &self.0.host)?;
        let key = maintain::change_key(&self.0.repositories, &at, &new).boxed().await;
        let key = key.map_err(self.refused(Operation::ChangeKey))?;
        Ok(Response::new(ChangeKeyResponse { key: Some(maintenance::key(key)) }))
    }

    async fn copy(
        &self,
        request: Request<CopyRequest>,
    ) -> Result<Response<Self::CopyStream>, Status> {
        let caller = self.0.gate.caller(&request).await?;
        let CopyRequest { from, to, ids } = request.into_inner();
        let from = self.may(&caller, Operation::CopyFrom, from).await?;
        let to = self.may(&caller, Operation::CopyTo, to).await?;
        let (services, refused) = (self.0.clone(), self.refused(Operation::CopyTo));
        let work = |observer| async move {
            let copied = maintain::copy(&services.repositories, &from, &to, &ids, observer).await;
            copied.map(maintenance::copied).map_err(refused)
        };
        Ok(watched(work, maintenance::copy_progress))
    }

    async fn repair_index(
        &self,
        request: Request<RepairIndexRequest>,
    ) -> Result<Response<Self::RepairIndexStream>, Status> {
        let (at, request) =
            self.admit(request, |_| Operation::RepairIndex, |r| r.repository.take()).await?;
        let read_all_packs = request.read_all_packs;
        let (services, refused) = (self.0.clone(), self.refused(Operation::RepairIndex));
        let work = |observer| async move {
            let options = restic::RepairOptions { read_all_packs, observer };
            let repaired = maintain::repair_index(&services.repositories, &at, &options).await;
            repaired.map(|summary| maintenance::repaired(&summary)).map_err(refused)
        };
        Ok(watched(work, maintenance::repair_progress))
    }

    async fn migrate(
        &self,
        request: Request<MigrateRequest>,
    ) -> Result<Response<Self::MigrateStream>, Status> {
        let (at, _) = self.admit(request, |_| Operation::Migrate, |r| r.repository.take()).await?;
        let (services, refused) = (self.0.clone(), self.refused(Operation::Migrate));
        let work = |observer| async move {
            let migrated = maintain::migrate(&services.repositories, &at, &observer).await;
            migrated.map(maintenance::migrated).map_err(refused)
        };
        Ok(watched(work, maintenance::migrate_progress))
    }

    async fn download(
        &self,
        request: Request<DownloadRequest>,
    ) -> Result<Response<Self::DownloadStream>, Status> {
        let operation = Operation::Download;
        let (at, request) = self.admit(request, |_| operation, |r| r.repository.take()).await?;
        let (admitted, figures) = self.0.admit(operation.name(), &at.repository.namespace)?;
        let request = maintenance::download(request, at)?;
        let run = restore::run(&self.0.repositories, request, figures, |_| {}).boxed();
        let (header, messages) = run.await.map_err(self.refused(operation))?;
        let header = futures::stream::once(async { Ok(convert::restore_header(header)) });
        let messages = messages.map_ok(convert::restore_message).map_err(move |error| {
            // Given back when the stream ends, and the closure with it.
            let _ = &admitted;
            fault::to_status(&error)
        });
        Ok(Response::new(header.chain(messages).boxed()))
    }
}
