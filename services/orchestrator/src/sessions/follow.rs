//! A session now and at every change, of its object or of its progress, until it is final.

use std::sync::Arc;

use coffer_api::{BackupSession, RestoreSession};
use coffer_runtime::{fault::Class, grant::SessionRef};
use futures::{Stream, StreamExt as _, stream, stream::BoxStream};
use kube::{
    Api,
    runtime::{WatchStreamExt as _, watcher},
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{context::Context, progress::Transfer};

use super::{Error, Record, View, view};

type Objects = BoxStream<'static, Result<Option<Record>, watcher::Error>>;

struct State {
    ctx: Arc<Context>,
    reference: SessionRef,
    objects: Objects,
    reports: watch::Receiver<u64>,
    stop: CancellationToken,
    last: Option<Record>,
    shown: Option<Transfer>,
}

/// Follows a session. The stream ends after the message that shows its final phase; it fails when the session is deleted
/// or this process stops.
pub fn follow(
    ctx: Arc<Context>,
    reference: SessionRef,
    stop: CancellationToken,
) -> impl Stream<Item = Result<View, Error>> + Send + 'static {
    let state = State {
        objects: objects(&ctx, &reference),
        reports: ctx.progress.changes(),
        reference,
        stop,
        last: None,
        shown: None,
        ctx,
    };
    stream::try_unfold(Some(state), |state| async move {
        let Some(mut state) = state else { return Ok(None) };
        let view = state.next().await?;
        let over = view.record.is_final();
        Ok(Some((view, (!over).then_some(state))))
    })
}

fn objects(ctx: &Context, reference: &SessionRef) -> Objects {
    let SessionRef { kind, namespace, name } = reference;
    if kind == "RestoreSession" {
        let api: Api<RestoreSession> = Api::namespaced(ctx.client.clone(), namespace);
        let found = watcher::watch_object(api, name).default_backoff();
        return found.map(|o| o.map(|o| o.map(|o| Record::Restore(Box::new(o))))).boxed();
    }
    let api: Api<BackupSession> = Api::namespaced(ctx.client.clone(), namespace);
    let found = watcher::watch_object(api, name).default_backoff();
    found.map(|o| o.map(|o| o.map(|o| Record::Backup(Box::new(o))))).boxed()
}

impl State {
    async fn next(&mut self) -> Result<View, Error> {
        loop {
            tokio::select! {
                object = self.objects.next() => match object {
                    Some(Ok(Some(record))) => {
                        if self.last.as_ref() == Some(&record) {
                            continue;
                        }
                        self.last = Some(record.clone());
                        let view = view(&self.ctx, record).await?;
                        self.shown.clone_from(&view.transfer);
                        return Ok(view);
                    }
                    Some(Ok(None)) => {
                        return Err(Error::Conflict(format!("{} was deleted", self.reference)));
                    }
                    // The watch restarts itself.
                    Some(Err(_)) => {}
                    None => return Err(gone()),
                },
                changed = self.reports.changed(), if self.last.is_some() => {
                    let transfer = self.ctx.progress.get(&self.reference);
                    if changed.is_err() {
                        return Err(gone());
                    }
                    if transfer.is_some() && transfer != self.shown {
                        self.shown.clone_from(&transfer);
                        if let Some(record) = self.last.clone() {
                            return view(&self.ctx, record).await;
                        }
                    }
                }
                () = self.stop.cancelled() => return Err(gone()),
            }
        }
    }
}

fn gone() -> Error {
    Error::Cluster {
        message: "the orchestrator is stopping: watch again".to_owned(),
        class: Class::Unavailable,
    }
}
