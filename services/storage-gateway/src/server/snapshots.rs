//! `coffer.storage.v1.Snapshots`: the workers' streams.

use super::{Server, waiting};
use crate::{backup, convert, restore};
use coffer_proto::storage::v1::snapshots_server::Snapshots;
use coffer_proto::storage::v1::{BackupRequest, BackupResponse, RestoreRequest, RestoreResponse};
use coffer_runtime::fault;
use coffer_runtime::grant::Operation;
use futures::stream::{self, BoxStream};
use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _};
use tonic::{Request, Response, Status, Streaming, async_trait};

const BACKUP: &str = "backup";
const RESTORE: &str = "restore";

#[async_trait]
impl Snapshots for Server {
    type BackupStream = BoxStream<'static, Result<BackupResponse, Status>>;
    type RestoreStream = BoxStream<'static, Result<RestoreResponse, Status>>;

    async fn backup(
        &self,
        request: Request<Streaming<BackupRequest>>,
    ) -> Result<Response<Self::BackupStream>, Status> {
        let services = self.0.clone();
        let grant = services.worker(&request).await?;
        let (admitted, figures) = services.admit(BACKUP, &grant.repository.namespace)?;
        let mut messages = request.into_inner();
        let header = convert::backup_header(messages.message().await?)
            .map_err(|error| services.refuse(BACKUP, &error))?;
        services.covered(&grant, &header.at.repository, Operation::Backup)?;
        let messages = messages.map(convert::backup_message);
        let hears = header.hears_waiting;
        let (hear, waits) = waiting::pair();
        let begin = async move {
            let begun = backup::begin(&services.repositories, header, services.clock.now(), hear);
            let begun = begun.boxed().await.map_err(|error| services.refuse(BACKUP, &error))?;
            let stored = async move {
                // Given back when this ends or is dropped.
                let _admitted = admitted;
                let stored = begun.run(messages, &services.clock, &figures).await;
                let stored = stored.map(convert::backup_response);
                stored.map_err(|error| services.refuse(BACKUP, &error))
            };
            let begun = stream::iter(hears.then(|| Ok(convert::backup_begun())));
            Ok(begun.chain(stream::once(stored)).boxed())
        };
        Ok(Response::new(match hears {
            true => waiting::told(begin, waits, convert::backup_waiting),
            false => begin.await?,
        }))
    }

    async fn restore(
        &self,
        request: Request<RestoreRequest>,
    ) -> Result<Response<Self::RestoreStream>, Status> {
        let services = self.0.clone();
        let grant = services.worker(&request).await?;
        let mut request = convert::restore_request(request.into_inner())?;
        services.covered(&grant, &request.at.repository, Operation::Restore)?;
        request.latest_since = grant
            .covers_snapshot(&request.snapshot)
            .map_err(|refused| Status::permission_denied(refused.to_string()))?;
        let (admitted, figures) = services.admit(RESTORE, &grant.repository.namespace)?;
        let hears = request.hears_waiting;
        let (hear, waits) = waiting::pair();
        let begin = async move {
            let run = restore::run(&services.repositories, request, figures, hear);
            let (header, messages) =
                run.boxed().await.map_err(|error| services.refuse(RESTORE, &error))?;
            let header = stream::once(async { Ok(convert::restore_header(header)) });
            let messages = messages.map_ok(convert::restore_message).map_err(move |error| {
                // Given back when the stream ends, and the closure with it.
                let _ = &admitted;
                fault::to_status(&error)
            });
            Ok(header.chain(messages).boxed())
        };
        Ok(Response::new(match hears {
            true => waiting::told(begin, waits, convert::restore_waiting),
            false => begin.await?,
        }))
    }
}
