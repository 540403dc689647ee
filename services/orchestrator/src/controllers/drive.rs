//! Runs one controller: the clock wakes it, too; what is due is made first; then there is a pass, and what follows it.

use std::{sync::Arc, time::Duration};

use coffer_runtime::{Runtime, readiness::Latch};
use futures::{FutureExt as _, Stream, StreamExt as _, future::BoxFuture, stream};
use kube::runtime::{
    Controller,
    controller::{self, Action},
    reflector::{Lookup, ObjectRef},
};

use super::watch;
use crate::{
    alarm::Alarm,
    apply,
    cache::{
        Cached,
        index::{Name, name},
    },
    context::{Context, Error},
    plan::Requeue,
};

/// Every object is looked at this often, whatever happened: the recovery path.
const RESYNC: Duration = Duration::from_secs(600);
/// Pause after a pass that failed.
const AGAIN: Duration = Duration::from_secs(3);
/// Pause after somebody else wrote the object first.
const AGAIN_AFTER_CONFLICT: Duration = Duration::from_millis(200);
/// Sessions that are due and made at a time: enough to keep an API server busy, and no flood.
const MADE_AT_A_TIME: usize = 64;
/// Longest that those who are due together are waited for: an API server that is slow to one must not hold up the others.
const MADE_WITHIN: Duration = Duration::from_secs(10);

/// What is done about the objects of a kind.
pub(super) struct Work<K> {
    pass: Pass<K>,
    make_due: Option<Make<K>>,
    left: Left,
}

type Pass<K> = for<'a> fn(&'a Context, &'a K) -> BoxFuture<'a, Result<Requeue, Error>>;
/// Makes the session of an invoker that is due.
type Make<K> = for<'a> fn(&'a Context, &'a K) -> BoxFuture<'a, Result<(), Error>>;
/// What is left to do for an object that is gone.
type Left = fn(Arc<Context>, String, String) -> BoxFuture<'static, Result<(), Error>>;

impl<K> Work<K> {
    pub(super) fn of(pass: Pass<K>) -> Self {
        let left: Left = |_, _, _| std::future::ready(Ok(())).boxed();
        Self { pass, make_due: None, left }
    }

    pub(super) fn making(self, make_due: Make<K>) -> Self {
        Self { make_due: Some(make_due), ..self }
    }

    pub(super) fn leaving(self, left: Left) -> Self {
        Self { left, ..self }
    }
}

/// What every pass of a kind shares.
struct Driver<K: Cached> {
    kind: &'static str,
    ctx: Arc<Context>,
    alarm: Alarm<ObjectRef<K>>,
    pass: Pass<K>,
}

#[derive(Clone, Copy)]
pub(super) struct Drive<'a> {
    pub(super) ctx: &'a Arc<Context>,
    pub(super) runtime: &'a Runtime,
}

impl<'a> Drive<'a> {
    /// Runs a controller until the shutdown.
    pub(super) fn passes<K: Cached>(
        self,
        controller: Controller<K>,
        work: Work<K>,
    ) -> BoxFuture<'a, ()> {
        let kind = apply::kind::<K>();
        let latch = self.runtime.readiness.latch(kind);
        drive(self, kind, controller, work, latch).boxed()
    }
}

async fn drive<K: Cached>(
    Drive { ctx, runtime }: Drive<'_>,
    kind: &'static str,
    controller: Controller<K>,
    Work { pass, make_due, left }: Work<K>,
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
        .reconcile_on(made(ctx.clone(), kind, make_due, alarm.rings()))
        .graceful_shutdown_on(runtime.shutdown.token().cancelled_owned())
        .run(one_pass, failed, driver);
    let passing = async {
        let mut passes = std::pin::pin!(passes);
        while let Some(result) = passes.next().await {
            match result {
                Err(controller::Error::QueueError(error)) => watch::broke(kind, &error),
                Err(controller::Error::ObjectNotFound(object)) => {
                    let (namespace, name) = named(&object);
                    ctx.rush.end(kind, (namespace.clone(), name.clone()));
                    if let Err(error) = left(ctx.clone(), namespace.clone(), name.clone()).await {
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

/// Yields those whose instant has come. Of those that come together, first the session of each is made: a thousand are not to
/// wait for what there is to say of each other.
fn made<K: Cached>(
    ctx: Arc<Context>,
    kind: &'static str,
    make_due: Option<Make<K>>,
    rings: impl Stream<Item = Vec<ObjectRef<K>>> + Send,
) -> impl Stream<Item = ObjectRef<K>> + Send {
    let made = rings.then(move |due| {
        let ctx = ctx.clone();
        async move {
            let Some(make_due) = make_due else { return stream::iter(due) };
            ctx.rush.begin(kind, due.iter().map(named));
            let all = stream::iter(due.clone()).for_each_concurrent(MADE_AT_A_TIME, |object| {
                let ctx = ctx.clone();
                async move { make(&ctx, make_due, &object).await }
            });
            // Whoever is late is made by the pass: a name that is taken by then is the same session's.
            let _ = tokio::time::timeout(MADE_WITHIN, all).await;
            stream::iter(due)
        }
    });
    made.flatten()
}

/// By what the cache says, if that is all we wrote. Whatever cannot be made is left to the pass.
async fn make<K: Cached>(ctx: &Context, make_due: Make<K>, due: &ObjectRef<K>) {
    if let Some(object) = K::cache(&ctx.caches).latest(due)
        && let Err(error) = make_due(ctx, &object).await
    {
        let (namespace, name) = named(due);
        let (kind, error) = (apply::kind::<K>(), error.describe());
        tracing::debug!(
            kind,
            namespace,
            name,
            error,
            "the session that is due is left to the pass"
        );
    }
}

fn named<K: Lookup>(object: &ObjectRef<K>) -> Name {
    (object.namespace.clone().unwrap_or_default(), object.name.clone())
}

async fn one_pass<K: Cached>(object: Arc<K>, driver: Arc<Driver<K>>) -> Result<Action, Error> {
    let name = name(object.as_ref());
    let passed = pass(object, &driver).await;
    driver.ctx.rush.end(driver.kind, name);
    passed
}

async fn pass<K: Cached>(object: Arc<K>, driver: &Driver<K>) -> Result<Action, Error> {
    let reference = ObjectRef::from_obj(object.as_ref());
    let Some(fresh) = fresh(&driver.ctx, object.as_ref(), &reference).await? else {
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

/// The object with all that we wrote ourselves; none when it is gone. The one that the controller took may be older: the last
/// pass can have written it since.
async fn fresh<K: Cached>(
    ctx: &Context,
    taken: &K,
    at: &ObjectRef<K>,
) -> Result<Option<Arc<K>>, Error> {
    match K::cache(&ctx.caches).latest(at) {
        Some(object) => Ok(Some(object)),
        None => Ok(crate::gather::refresh(ctx, taken).await?.map(Arc::new)),
    }
}

#[allow(clippy::needless_pass_by_value, reason = "the controller calls it so")]
fn failed<K: Cached>(object: Arc<K>, error: &Error, driver: Arc<Driver<K>>) -> Action {
    if error.is_conflict() {
        return Action::requeue(AGAIN_AFTER_CONFLICT);
    }
    let (namespace, name) = name(object.as_ref());
    let error = error.describe();
    tracing::warn!(kind = driver.kind, namespace, name, error, "a pass failed and is repeated");
    Action::requeue(AGAIN)
}
