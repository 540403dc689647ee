//! Starts a controller for each kind: what it watches, who else wakes it, how many passes run at a time, and what happens
//! to a pass that fails.
//!
//! Secrets are not watched: that takes the right to list every Secret of the cluster. One that is missing is looked for
//! again after [`crate::Settings::missing_retry`], and one that changes is read when the next session starts.

use std::{fmt::Debug, sync::Arc, time::Duration};

use coffer_api::{
    AppBinding, BackupBlueprint, BackupConfiguration, BackupSession, Repository, RestoreSession,
    names, target::RepositoryRef,
};
use coffer_runtime::Runtime;
use futures::{FutureExt as _, StreamExt as _, future::BoxFuture};
use k8s_openapi::api::{batch::v1::Job, core::v1::Pod};
use kube::{
    Api, Resource, ResourceExt,
    runtime::{
        Config, Controller,
        controller::Action,
        reflector::{ObjectRef, Store},
        watcher,
    },
};
use serde::de::DeserializeOwned;

use crate::{
    alarm::Alarm,
    backup_configuration, backup_session,
    context::{Context, Error},
    job::SESSION,
    plan::Requeue,
    repository, restore_session, unsupported,
};

/// Passes of one kind at a time. A pass may wait long for a check of a repository, so there are more than cores.
const PASSES: u16 = 64;
/// Every object is looked at this often, whatever happened: the recovery path.
const RESYNC: Duration = Duration::from_secs(600);
/// Pause after a pass that failed.
const AGAIN: Duration = Duration::from_secs(3);
/// Pause after somebody else wrote the object first.
const AGAIN_AFTER_CONFLICT: Duration = Duration::from_millis(200);
/// Labels of pods of ours.
const OURS: &str = "app.kubernetes.io/managed-by=stash.appscode.com";

/// Runs all controllers until the shutdown.
pub async fn run(ctx: Arc<Context>, runtime: &Runtime) {
    let repositories = controller::<Repository>(&ctx);
    let configs = controller::<BackupConfiguration>(&ctx);
    let config_store = configs.store();
    let restores = controller::<RestoreSession>(&ctx);
    let restore_store = restores.store();

    let configs = configs
        .watches(Api::<Repository>::all(ctx.client.clone()), watcher::Config::default(), {
            let store = config_store.clone();
            move |repository: Repository| configs_of(&store, &repository)
        })
        .watches(Api::<AppBinding>::all(ctx.client.clone()), watcher::Config::default(), {
            let store = config_store.clone();
            move |binding: AppBinding| {
                let at = (binding.namespace(), binding.name_any());
                select(&store, |config: &BackupConfiguration| {
                    config.spec.target.as_ref().is_some_and(|target| {
                        let own = config.namespace().unwrap_or_default();
                        Some(target.reference.namespace_or(&own)) == at.0.as_deref()
                            && target.reference.name == at.1
                    })
                })
            }
        });
    let restores = restores
        .watches(Api::<Repository>::all(ctx.client.clone()), watcher::Config::default(), {
            let store = restore_store.clone();
            move |repository: Repository| restores_of(&store, &repository)
        })
        .watches(Api::<AppBinding>::all(ctx.client.clone()), watcher::Config::default(), {
            let store = restore_store.clone();
            move |binding: AppBinding| {
                let at = (binding.namespace(), binding.name_any());
                select(&store, |session: &RestoreSession| {
                    session.spec.target.as_ref().is_some_and(|target| {
                        let own = session.namespace().unwrap_or_default();
                        Some(target.reference.namespace_or(&own)) == at.0.as_deref()
                            && target.reference.name == at.1
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
        .watches(
            Api::<BackupConfiguration>::all(ctx.client.clone()),
            watcher::Config::default(),
            |config: BackupConfiguration| {
                repository_ref(config.spec.repository.as_ref(), config.namespace())
            },
        )
        .watches(
            Api::<RestoreSession>::all(ctx.client.clone()),
            watcher::Config::default(),
            |session: RestoreSession| {
                repository_ref(session.spec.repository.as_ref(), session.namespace())
            },
        );
    let sessions = controller::<BackupSession>(&ctx)
        .owns(Api::<Job>::all(ctx.client.clone()), watcher::Config::default())
        .watches(
            Api::<Pod>::all(ctx.client.clone()),
            watcher::Config::default().labels(OURS),
            |pod: Pod| session_of::<BackupSession>(&pod, "stash-backup"),
        );

    let drivers: Vec<BoxFuture<'_, ()>> = vec![
        drive("BackupConfiguration", configs, alarm(&ctx), &ctx, runtime, |ctx, object| {
            backup_configuration::reconcile(ctx, object).boxed()
        })
        .boxed(),
        drive("BackupSession", sessions, alarm(&ctx), &ctx, runtime, |ctx, object| {
            backup_session::reconcile(ctx, object).boxed()
        })
        .boxed(),
        drive("RestoreSession", restores, alarm(&ctx), &ctx, runtime, |ctx, object| {
            restore_session::reconcile(ctx, object).boxed()
        })
        .boxed(),
        drive("Repository", repositories, alarm(&ctx), &ctx, runtime, |ctx, object| {
            repository::reconcile(ctx, object).boxed()
        })
        .boxed(),
        drive("BackupBatch", controller(&ctx), alarm(&ctx), &ctx, runtime, |ctx, object| {
            unsupported::backup_batch(ctx, object).boxed()
        })
        .boxed(),
        drive("RestoreBatch", controller(&ctx), alarm(&ctx), &ctx, runtime, |ctx, object| {
            unsupported::restore_batch(ctx, object).boxed()
        })
        .boxed(),
        drive(
            "BackupBlueprint",
            controller::<BackupBlueprint>(&ctx),
            alarm(&ctx),
            &ctx,
            runtime,
            |ctx, object| unsupported::backup_blueprint(ctx, object).boxed(),
        )
        .boxed(),
    ];
    futures::future::join_all(drivers).await;
}

fn controller<K>(ctx: &Context) -> Controller<K>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    Controller::new(Api::<K>::all(ctx.client.clone()), watcher::Config::default())
        .with_config(Config::default().concurrency(PASSES))
}

fn alarm<K: Resource<DynamicType = ()> + 'static>(ctx: &Context) -> Alarm<ObjectRef<K>> {
    Alarm::new(ctx.clock.clone())
}

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
        .run(one_pass, failed, driver)
        .for_each(move |result| {
            // A pass that failed was logged where it failed; what is left are watches that broke and are restarted.
            if let Err(kube::runtime::controller::Error::QueueError(error)) = result {
                let error = coffer_runtime::fault::chain(&error);
                tracing::warn!(kind, error, "a watch broke and is restarted");
            }
            std::future::ready(())
        });
    let stopped = runtime.shutdown.token();
    futures::future::join(passes, stopped.run_until_cancelled(ready)).await;
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

fn select<K>(store: &Store<K>, wanted: impl Fn(&K) -> bool) -> Vec<ObjectRef<K>>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    let found = store.state().into_iter().filter(|object| wanted(object));
    found.map(|object| ObjectRef::from_obj(object.as_ref())).collect()
}

fn configs_of(
    store: &Store<BackupConfiguration>,
    repository: &Repository,
) -> Vec<ObjectRef<BackupConfiguration>> {
    select(store, |config| uses(config.spec.repository.as_ref(), config.namespace(), repository))
}

fn restores_of(
    store: &Store<RestoreSession>,
    repository: &Repository,
) -> Vec<ObjectRef<RestoreSession>> {
    select(store, |session| uses(session.spec.repository.as_ref(), session.namespace(), repository))
}

fn uses(reference: Option<&RepositoryRef>, own: Option<String>, repository: &Repository) -> bool {
    repository_ref(reference, own).is_some_and(|found| found == ObjectRef::from_obj(repository))
}

fn repository_ref(
    reference: Option<&RepositoryRef>,
    own: Option<String>,
) -> Option<ObjectRef<Repository>> {
    let reference = reference?;
    let own = own.unwrap_or_default();
    Some(ObjectRef::new(&reference.name).within(reference.namespace_or(&own)))
}

/// The session that a pod of a Job of ours belongs to.
fn session_of<K: Resource<DynamicType = ()>>(pod: &Pod, component: &str) -> Option<ObjectRef<K>> {
    let ours = pod.labels().get(names::COMPONENT).is_some_and(|label| label == component);
    let session = pod.annotations().get(SESSION).filter(|_| ours)?;
    Some(ObjectRef::new(session).within(&pod.namespace()?))
}
