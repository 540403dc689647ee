//! Starts a controller for each kind: what it watches, who else wakes it, how many passes run at a time, and what happens
//! to a pass that fails.
//!
//! Secrets are not watched: that takes the right to list every Secret of the cluster. One that is missing is looked for
//! again after [`crate::Settings::missing_retry`], and one that changes is read when the next session starts.

mod watch;
mod woken;

use std::{sync::Arc, time::Duration};

use coffer_api::{
    AppBinding, BackupBatch, BackupConfiguration, BackupSession, Repository, RestoreBatch,
    RestoreSession,
};
use coffer_runtime::{Runtime, readiness::Latch};
use futures::{FutureExt as _, StreamExt as _, future::BoxFuture};
use k8s_openapi::api::{batch::v1::Job, core::v1::Pod};
use kube::{
    Api, ResourceExt,
    runtime::{
        Config, Controller,
        controller::{self, Action},
        reflector::ObjectRef,
        watcher,
    },
};

use self::woken::{Woken, session_of};
use crate::{
    alarm::Alarm,
    apply, auto_backup, backup_batch, backup_configuration, backup_session,
    cache::{Cached, Caches, index::name},
    context::{Context, Error},
    plan::Requeue,
    queue::Kind,
    repository, restore_batch, restore_session, turns,
    wake::Wake,
};

/// Passes of one kind at a time. A pass may wait long for a check of a repository, so there are more than cores.
const PASSES: u16 = 64;
/// Every object is looked at this often, whatever happened: the recovery path.
const RESYNC: Duration = Duration::from_secs(600);
/// A Repository is looked at so long after the last change of those who use it: once for many that come together.
const SETTLE: Duration = Duration::from_millis(300);
/// Pause after a pass that failed.
const AGAIN: Duration = Duration::from_secs(3);
/// Pause after somebody else wrote the object first.
const AGAIN_AFTER_CONFLICT: Duration = Duration::from_millis(200);
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
            |ctx, object: &BackupConfiguration| {
                backup_configuration::reconcile(ctx, object).boxed()
            },
            nothing_left,
        ),
        drive.passes(
            backups,
            |ctx, object: &BackupSession| backup_session::reconcile(ctx, object).boxed(),
            backup_left,
        ),
        drive.passes(
            restores,
            |ctx, object: &RestoreSession| restore_session::reconcile(ctx, object).boxed(),
            restore_left,
        ),
        drive.passes(
            repositories,
            |ctx, object: &Repository| repository::reconcile(ctx, object).boxed(),
            nothing_left,
        ),
        drive.passes(
            batches,
            |ctx, object: &BackupBatch| backup_batch::reconcile(ctx, object).boxed(),
            nothing_left,
        ),
        drive.passes(
            restore_batches,
            |ctx, object: &RestoreBatch| restore_batch::reconcile(ctx, object).boxed(),
            nothing_left,
        ),
        drive.passes(
            bindings,
            |ctx, object: &AppBinding| auto_backup::reconcile(ctx, object).boxed(),
            binding_left,
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

fn nothing_left(_: Arc<Context>, _: String, _: String) -> BoxFuture<'static, Result<(), Error>> {
    std::future::ready(Ok(())).boxed()
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

/// What is left to do for an object that is gone.
type Gone = fn(Arc<Context>, String, String) -> BoxFuture<'static, Result<(), Error>>;
type Pass<K> = for<'a> fn(&'a Context, &'a K) -> BoxFuture<'a, Result<Requeue, Error>>;

/// What every pass of a kind shares.
struct Driver<K: Cached> {
    kind: &'static str,
    ctx: Arc<Context>,
    alarm: Alarm<ObjectRef<K>>,
    pass: Pass<K>,
}

#[derive(Clone, Copy)]
struct Drive<'a> {
    ctx: &'a Arc<Context>,
    runtime: &'a Runtime,
}

impl<'a> Drive<'a> {
    /// Runs a controller until the shutdown.
    fn passes<K: Cached>(
        self,
        controller: Controller<K>,
        pass: Pass<K>,
        gone: Gone,
    ) -> BoxFuture<'a, ()> {
        let kind = apply::kind::<K>();
        let latch = self.runtime.readiness.latch(kind);
        drive(self, kind, controller, pass, gone, latch).boxed()
    }
}

async fn drive<K: Cached>(
    Drive { ctx, runtime }: Drive<'_>,
    kind: &'static str,
    controller: Controller<K>,
    pass: Pass<K>,
    gone: Gone,
    latch: Latch,
) {
    let store = controller.store();
    let ready = async move {
        if store.wait_until_ready().await.is_ok() {
            latch.release();
        }
    };
    let alarm = Alarm::new(ctx.clock.clone());
    let driver = Arc::new(Driver { kind, ctx: ctx.clone(), alarm: alarm.clone(), pass });
    let passes = controller
        .reconcile_on(alarm.rings().inspect({
            let ctx = ctx.clone();
            move |due| {
                ctx.rush.begin(kind, (due.namespace.clone().unwrap_or_default(), due.name.clone()))
            }
        }))
        .graceful_shutdown_on(runtime.shutdown.token().cancelled_owned())
        .run(one_pass, failed, driver);
    let passing = async {
        let mut passes = std::pin::pin!(passes);
        while let Some(result) = passes.next().await {
            match result {
                Err(controller::Error::QueueError(error)) => watch::broke(kind, &error),
                Err(controller::Error::ObjectNotFound(object)) => {
                    let namespace = object.namespace.clone().unwrap_or_default();
                    let name = object.name.clone();
                    ctx.rush.end(kind, (namespace.clone(), name.clone()));
                    if let Err(error) = gone(ctx.clone(), namespace.clone(), name.clone()).await {
                        let error = error.describe();
                        tracing::warn!(kind, namespace, name, error, "clean up after a deletion");
                    }
                }
                // A pass that failed was logged where it failed.
                Ok(_) | Err(_) => {}
            }
        }
    };
    let stopped = runtime.shutdown.token();
    futures::future::join(passing, stopped.run_until_cancelled(ready)).await;
}

async fn one_pass<K: Cached>(object: Arc<K>, driver: Arc<Driver<K>>) -> Result<Action, Error> {
    let name = name(object.as_ref());
    let passed = pass(object, &driver).await;
    driver.ctx.rush.end(driver.kind, name);
    passed
}

async fn pass<K: Cached>(object: Arc<K>, driver: &Driver<K>) -> Result<Action, Error> {
    let reference = ObjectRef::from_obj(object.as_ref());
    let Some(fresh) = fresh(&driver.ctx, object).await? else {
        driver.alarm.set(reference, None);
        return Ok(Action::await_change());
    };
    let requeue = (driver.pass)(&driver.ctx, &fresh).await?;
    driver.alarm.set(
        reference,
        match requeue {
            Requeue::OnChange => None,
            Requeue::At(instant) => Some(instant),
        },
    );
    Ok(Action::requeue(RESYNC))
}

/// The object with all that we wrote ourselves; none when it is gone.
async fn fresh<K: Cached>(ctx: &Context, object: Arc<K>) -> Result<Option<Arc<K>>, Error> {
    if K::cache(&ctx.caches).is_behind(&object) {
        return Ok(crate::gather::refresh(ctx, object.as_ref()).await?.map(Arc::new));
    }
    Ok(Some(object))
}

#[allow(clippy::needless_pass_by_value, reason = "the controller calls it so")]
fn failed<K: Cached>(object: Arc<K>, error: &Error, driver: Arc<Driver<K>>) -> Action {
    if error.is_conflict() {
        return Action::requeue(AGAIN_AFTER_CONFLICT);
    }
    let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
    let error = error.describe();
    tracing::warn!(kind = driver.kind, namespace, name, error, "a pass failed and is repeated");
    Action::requeue(AGAIN)
}
