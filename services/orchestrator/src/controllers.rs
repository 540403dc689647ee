//! Starts a controller for each kind: what it watches, who else wakes it, how many passes run at a time, and what happens
//! to a pass that fails.
//!
//! Secrets are not watched: that takes the right to list every Secret of the cluster. One that is missing is looked for
//! again after [`crate::Settings::missing_retry`], and one that changes is read when the next session starts.

mod woken;

use std::{fmt::Debug, sync::Arc, time::Duration};

use coffer_api::{
    AppBinding, BackupBatch, BackupBlueprint, BackupConfiguration, BackupSession, Repository,
    RestoreSession,
};
use coffer_runtime::{Runtime, readiness::Latch};
use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _, future::BoxFuture};
use k8s_openapi::api::{batch::v1::Job, core::v1::Pod};
use kube::{
    Api, Resource, ResourceExt,
    runtime::{
        Config, Controller, WatchStreamExt as _,
        controller::{self, Action},
        reflector::{self, ObjectRef},
        watcher,
    },
};
use serde::de::DeserializeOwned;

use self::woken::{
    configs_by, name_of, points_to, repository_ref, restores_of, select, session_of, uses,
};
use crate::{
    alarm::Alarm,
    auto_backup, backup_batch, backup_configuration, backup_session,
    context::{Context, Error},
    index::Key,
    news,
    plan::Requeue,
    queue::Kind,
    repository, restore_batch, restore_session, turns,
};

/// Passes of one kind at a time. A pass may wait long for a check of a repository, so there are more than cores.
const PASSES: u16 = 64;
/// Every object is looked at this often, whatever happened: the recovery path.
const RESYNC: Duration = Duration::from_secs(600);
/// A Repository is looked at so long after the last change of those who use it.
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
    // Called once for many changes that come together, and when the cache of the others has them.
    let repositories = kind_controller::<Repository>(ctx)
        .with_config(Config::default().concurrency(PASSES).debounce(SETTLE));
    let configs = configs_controller(ctx);
    // Set once: a process leads once.
    let _ = ctx.configs.set(configs.store());
    let restores = kind_controller::<RestoreSession>(ctx);
    let restore_store = restores.store();

    let restores = restores.reconcile_on(ctx.turns.woken(Kind::Restore));
    let configs = configs
        .watches_stream(news::of(Api::<Repository>::all(ctx.client.clone())), {
            let ctx = ctx.clone();
            move |repository: Repository| configs_by(&ctx, &Key::Repository(name_of(&repository)))
        })
        .watches_stream(news::of(Api::<AppBinding>::all(ctx.client.clone())), {
            let ctx = ctx.clone();
            move |binding: AppBinding| configs_by(&ctx, &Key::Target(name_of(&binding)))
        });
    let batches = kind_controller::<BackupBatch>(ctx);
    let batch_store = batches.store();
    let batches = batches
        .watches_stream(news::of(Api::<Repository>::all(ctx.client.clone())), {
            let store = batch_store.clone();
            move |repository: Repository| {
                select(&store, |batch: &BackupBatch| {
                    uses(batch.spec.repository.as_ref(), batch.meta(), &repository)
                })
            }
        })
        .watches_stream(
            news::of(Api::<AppBinding>::all(ctx.client.clone())),
            move |binding: AppBinding| {
                select(&batch_store, |batch: &BackupBatch| {
                    let mut members = batch.spec.members.iter();
                    members.any(|member| {
                        member.target.as_ref().is_some_and(|target| {
                            points_to(&target.reference, batch.meta(), &binding)
                        })
                    })
                })
            },
        );
    let restores = restores
        .watches_stream(news::of(Api::<Repository>::all(ctx.client.clone())), {
            let store = restore_store.clone();
            move |repository: Repository| restores_of(&store, &repository)
        })
        .watches_stream(news::of(Api::<AppBinding>::all(ctx.client.clone())), {
            let store = restore_store.clone();
            move |binding: AppBinding| {
                select(&store, |session: &RestoreSession| {
                    session.spec.target.as_ref().is_some_and(|target| {
                        points_to(&target.reference, session.meta(), &binding)
                    })
                })
            }
        })
        .owns(Api::<Job>::all(ctx.client.clone()), watcher::Config::default())
        .watches(
            Api::<Pod>::all(ctx.client.clone()),
            watcher::Config::default().labels(OURS),
            |pod: Pod| session_of::<RestoreSession>(&pod, "stash-restore"),
        );
    let repositories = repositories
        .watches_stream(
            news::of(Api::<BackupBatch>::all(ctx.client.clone())),
            |batch: BackupBatch| repository_ref(batch.spec.repository.as_ref(), batch.namespace()),
        )
        .watches_stream(
            news::of(Api::<BackupConfiguration>::all(ctx.client.clone())),
            |config: BackupConfiguration| {
                repository_ref(config.spec.repository.as_ref(), config.namespace())
            },
        )
        .watches_stream(
            news::of(Api::<RestoreSession>::all(ctx.client.clone())),
            |session: RestoreSession| {
                repository_ref(session.spec.repository.as_ref(), session.namespace())
            },
        );
    let sessions = kind_controller::<BackupSession>(ctx)
        .reconcile_on(ctx.turns.woken(Kind::Backup))
        .owns(Api::<Job>::all(ctx.client.clone()), watcher::Config::default())
        .watches(
            Api::<Pod>::all(ctx.client.clone()),
            watcher::Config::default().labels(OURS),
            |pod: Pod| session_of::<BackupSession>(&pod, "stash-backup"),
        );

    let bindings = kind_controller::<AppBinding>(ctx);
    let binding_store = bindings.store();
    let bindings = bindings
        .owns(Api::<BackupConfiguration>::all(ctx.client.clone()), watcher::Config::default())
        .watches_stream(
            news::of(Api::<BackupBlueprint>::all(ctx.client.clone())),
            move |blueprint: BackupBlueprint| {
                let name = blueprint.name_any();
                select(&binding_store, |binding: &AppBinding| {
                    auto_backup::decide::wanted(binding).contains(&name)
                })
            },
        );

    let drivers: Vec<BoxFuture<'_, ()>> = vec![
        drive(
            "BackupConfiguration",
            configs,
            alarm(ctx),
            ctx,
            runtime,
            |ctx, object| backup_configuration::reconcile(ctx, object).boxed(),
            nothing_left,
        )
        .boxed(),
        drive(
            "BackupSession",
            sessions,
            alarm(ctx),
            ctx,
            runtime,
            |ctx, object| backup_session::reconcile(ctx, object).boxed(),
            backup_left,
        )
        .boxed(),
        drive(
            "RestoreSession",
            restores,
            alarm(ctx),
            ctx,
            runtime,
            |ctx, object| restore_session::reconcile(ctx, object).boxed(),
            restore_left,
        )
        .boxed(),
        drive(
            "Repository",
            repositories,
            alarm(ctx),
            ctx,
            runtime,
            |ctx, object| repository::reconcile(ctx, object).boxed(),
            nothing_left,
        )
        .boxed(),
        drive(
            "BackupBatch",
            batches,
            alarm(ctx),
            ctx,
            runtime,
            |ctx, object| backup_batch::reconcile(ctx, object).boxed(),
            nothing_left,
        )
        .boxed(),
        drive(
            "RestoreBatch",
            kind_controller(ctx)
                .owns(Api::<RestoreSession>::all(ctx.client.clone()), watcher::Config::default()),
            alarm(ctx),
            ctx,
            runtime,
            |ctx, object| restore_batch::reconcile(ctx, object).boxed(),
            nothing_left,
        )
        .boxed(),
        drive(
            "AppBinding",
            bindings,
            alarm(ctx),
            ctx,
            runtime,
            |ctx, object| auto_backup::reconcile(ctx, object).boxed(),
            binding_left,
        )
        .boxed(),
    ];
    // Polled after the drivers, which take latches of their own.
    let ready = async move { latch.release() };
    futures::future::join(futures::future::join_all(drivers), ready).await;
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

fn kind_controller<K>(ctx: &Context) -> Controller<K>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    Controller::new(Api::<K>::all(ctx.client.clone()), watcher::Config::default())
        .with_config(Config::default().concurrency(PASSES))
}

/// The index hears of a change before the controller is woken.
fn configs_controller(ctx: &Arc<Context>) -> Controller<BackupConfiguration> {
    let (reader, writer) = reflector::store();
    let events = watcher::watcher(Api::all(ctx.client.clone()), watcher::Config::default());
    let events = events.inspect_ok({
        let ctx = ctx.clone();
        move |event| ctx.index.learn(event)
    });
    let changed = reflector::reflector(writer, events).applied_objects();
    Controller::for_stream(changed, reader).with_config(Config::default().concurrency(PASSES))
}

fn alarm<K: Resource<DynamicType = ()> + 'static>(ctx: &Context) -> Alarm<ObjectRef<K>> {
    Alarm::new(ctx.clock.clone())
}

/// What is left to do for an object that is gone.
type Gone = fn(Arc<Context>, String, String) -> BoxFuture<'static, Result<(), Error>>;
type Pass<K> = for<'a> fn(&'a Context, &'a K) -> BoxFuture<'a, Result<Requeue, Error>>;

/// What every pass of a kind shares.
struct Driver<K: Resource<DynamicType = ()>> {
    kind: &'static str,
    ctx: Arc<Context>,
    alarm: Alarm<ObjectRef<K>>,
    pass: Pass<K>,
}

async fn drive<K>(
    kind: &'static str,
    controller: Controller<K>,
    alarm: Alarm<ObjectRef<K>>,
    ctx: &Arc<Context>,
    runtime: &Runtime,
    pass: Pass<K>,
    gone: Gone,
) where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    let latch = runtime.readiness.latch(kind);
    let store = controller.store();
    let ready = async move {
        if store.wait_until_ready().await.is_ok() {
            latch.release();
        }
    };
    let driver = Arc::new(Driver { kind, ctx: ctx.clone(), alarm: alarm.clone(), pass });
    let passes = controller
        .reconcile_on(alarm.rings())
        .graceful_shutdown_on(runtime.shutdown.token().cancelled_owned())
        .run(one_pass, failed, driver);
    let passing = async {
        let mut passes = std::pin::pin!(passes);
        while let Some(result) = passes.next().await {
            match result {
                Err(controller::Error::QueueError(error)) => {
                    let error = coffer_runtime::fault::chain(&error);
                    tracing::warn!(kind, error, "a watch broke and is restarted");
                }
                Err(controller::Error::ObjectNotFound(object)) => {
                    let namespace = object.namespace.clone().unwrap_or_default();
                    let name = object.name.clone();
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

async fn one_pass<K>(object: Arc<K>, driver: Arc<Driver<K>>) -> Result<Action, Error>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    let reference = ObjectRef::from_obj(object.as_ref());
    // The cache may be behind our own last write, and then a step would be taken twice.
    let Some(fresh) = crate::gather::refresh(&driver.ctx, object.as_ref()).await? else {
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

#[allow(clippy::needless_pass_by_value, reason = "the controller calls it so")]
fn failed<K>(object: Arc<K>, error: &Error, driver: Arc<Driver<K>>) -> Action
where
    K: Resource<DynamicType = ()>,
{
    if error.is_conflict() {
        return Action::requeue(AGAIN_AFTER_CONFLICT);
    }
    let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
    let error = error.describe();
    tracing::warn!(kind = driver.kind, namespace, name, error, "a pass failed and is repeated");
    Action::requeue(AGAIN)
}
