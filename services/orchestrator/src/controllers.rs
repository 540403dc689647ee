//! Starts a controller for each kind: what it watches, who else wakes it, and how many passes run at a time.
//!
//! Secrets are not watched: that takes the right to list every Secret of the cluster. One that is missing is looked for
//! again after [`crate::Settings::missing_retry`], and one that changes is read when the next session starts.

mod drive;
mod watch;
mod woken;

use std::{sync::Arc, time::Duration};

use coffer_api::{
    AppBinding, BackupBatch, BackupConfiguration, BackupSession, Repository, RestoreBatch,
    RestoreSession,
};
use coffer_runtime::{Runtime, readiness::Latch};
use futures::{FutureExt as _, future::BoxFuture};
use k8s_openapi::api::{batch::v1::Job, core::v1::Pod};
use kube::{
    Api,
    runtime::{Config, Controller, watcher},
};

use self::{
    drive::{Drive, Work},
    woken::{Woken, session_of},
};
use crate::{
    auto_backup, backup_batch, backup_configuration, backup_session,
    cache::{Cached, Caches},
    context::{Context, Error},
    queue::Kind,
    repository, restore_batch, restore_session, turns,
    wake::Wake,
};

/// Passes of one kind at a time. A pass may wait long for a check of a repository, so there are more than cores.
const PASSES: u16 = 64;
/// A Repository is looked at so long after the last change of those who use it: once for many that come together.
const SETTLE: Duration = Duration::from_millis(300);
/// Pause before the sessions are listed again, when they could not be.
const AGAIN: Duration = Duration::from_secs(3);
/// Labels of pods of ours.
const OURS: &str = "app.kubernetes.io/managed-by=stash.appscode.com";

/// Runs all controllers until the shutdown.
pub async fn run(ctx: &Arc<Context>, runtime: &Runtime, latch: Latch) {
    let stop = runtime.shutdown.token();
    if stop.run_until_cancelled(load(ctx)).await.is_none() {
        return;
    }
    let woken = Woken::default();
    let drivers = controllers(ctx, &woken, runtime);
    let watches = futures::future::join_all(watch::all(ctx, &woken));
    // Polled after the drivers, which take latches of their own.
    let ready = async move { latch.release() };
    let passing = async {
        if stop.run_until_cancelled(ctx.caches.ready()).await.is_some() {
            futures::future::join_all(drivers).await;
        }
    };
    let watching = stop.run_until_cancelled(watches);
    futures::future::join3(passing, watching, ready).await;
}

fn controllers<'a>(
    ctx: &'a Arc<Context>,
    woken: &Woken,
    runtime: &'a Runtime,
) -> Vec<BoxFuture<'a, ()>> {
    let Caches { configs, backups, restores, repositories, batches, restore_batches, .. } =
        &ctx.caches;
    let drive = Drive { ctx, runtime };
    let configs = controller(configs, &woken.configs);
    let repositories = controller(repositories, &woken.repositories)
        .with_config(Config::default().concurrency(PASSES).debounce(SETTLE));
    let batches = controller(batches, &woken.batches);
    let restore_batches = controller(restore_batches, &woken.restore_batches);
    let bindings = controller(&ctx.caches.bindings, &woken.bindings);
    let backups = controller(backups, &woken.backups)
        .reconcile_on(ctx.turns.backups.calls())
        .owns(Api::<Job>::all(ctx.client.clone()), watcher::Config::default())
        .watches(
            Api::<Pod>::all(ctx.client.clone()),
            watcher::Config::default().labels(OURS),
            |pod: Pod| session_of::<BackupSession>(&pod, "stash-backup"),
        );
    let restores = controller(restores, &woken.restores)
        .reconcile_on(ctx.turns.restores.calls())
        .owns(Api::<Job>::all(ctx.client.clone()), watcher::Config::default())
        .watches(
            Api::<Pod>::all(ctx.client.clone()),
            watcher::Config::default().labels(OURS),
            |pod: Pod| session_of::<RestoreSession>(&pod, "stash-restore"),
        );
    vec![
        drive.passes(
            configs,
            Work::of(|ctx, object: &BackupConfiguration| {
                backup_configuration::reconcile(ctx, object).boxed()
            })
            .making(|ctx, object| backup_configuration::make_due(ctx, object).boxed()),
        ),
        drive.passes(
            batches,
            Work::of(|ctx, object: &BackupBatch| backup_batch::reconcile(ctx, object).boxed())
                .making(|ctx, object| backup_batch::make_due(ctx, object).boxed()),
        ),
        drive.passes(
            backups,
            Work::of(|ctx, object: &BackupSession| backup_session::reconcile(ctx, object).boxed())
                .leaving(backup_left),
        ),
        drive.passes(
            restores,
            Work::of(|ctx, object: &RestoreSession| {
                restore_session::reconcile(ctx, object).boxed()
            })
            .leaving(restore_left),
        ),
        drive.passes(
            repositories,
            Work::of(|ctx, object: &Repository| repository::reconcile(ctx, object).boxed()),
        ),
        drive.passes(
            restore_batches,
            Work::of(|ctx, object: &RestoreBatch| restore_batch::reconcile(ctx, object).boxed()),
        ),
        drive.passes(
            bindings,
            Work::of(|ctx, object: &AppBinding| auto_backup::reconcile(ctx, object).boxed())
                .leaving(binding_left),
        ),
    ]
}

/// A controller that is woken by us, and not by a watch of its own.
fn controller<K: Cached>(cache: &crate::cache::Cache<K>, woken: &Wake<K>) -> Controller<K> {
    Controller::for_stream(futures::stream::pending(), cache.store())
        .with_config(Config::default().concurrency(PASSES))
        .reconcile_on(woken.calls())
}

/// Counts the Jobs that there are; tried until it succeeds, since nothing may start before.
async fn load(ctx: &Context) {
    while let Err(error) = turns::load(ctx).await {
        let error = error.describe();
        tracing::warn!(error, "the sessions cannot be listed yet");
        ctx.clock.sleep(AGAIN).await;
    }
}

fn backup_left(
    ctx: Arc<Context>,
    ns: String,
    name: String,
) -> BoxFuture<'static, Result<(), Error>> {
    ctx.turns.forget(Kind::Backup, &ns, &name);
    std::future::ready(Ok(())).boxed()
}

fn restore_left(
    ctx: Arc<Context>,
    ns: String,
    name: String,
) -> BoxFuture<'static, Result<(), Error>> {
    ctx.turns.forget(Kind::Restore, &ns, &name);
    std::future::ready(Ok(())).boxed()
}

fn binding_left(
    ctx: Arc<Context>,
    ns: String,
    name: String,
) -> BoxFuture<'static, Result<(), Error>> {
    async move { auto_backup::gone(&ctx, &ns, &name).await }.boxed()
}
