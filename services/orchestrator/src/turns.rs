//! The [`Queue`] as all reconcilers share it, and the calls that wake whoever is let through.
//!
//! It is no state of its own: who has a Job is in the status of the sessions, from which it is filled at the start and
//! corrected by every pass.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use chrono::{DateTime, Utc};
use coffer_api::{
    BackupBatch, BackupConfiguration, BackupSession, RestoreSession, target::RepositoryRef,
    time::to_clock,
};
use futures::Stream;
use kube::{Resource, ResourceExt, runtime::reflector::ObjectRef};
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::{
    backup_session::{self, decide::Stage},
    context::Context,
    context::Error,
    gather,
    queue::{Kind, Limits, Queue, Repository, Session, Turn},
    restore_session,
};

/// Clones are the same queue.
#[derive(Clone)]
pub struct Turns(Arc<Shared>);

struct Shared {
    queue: Mutex<Queue>,
    /// Let through and not woken yet; at most all who wait.
    due: Mutex<BTreeSet<Session>>,
    backups: Notify,
    restores: Notify,
}

impl Turns {
    /// Nobody has a Job yet.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self(Arc::new(Shared {
            queue: Mutex::new(Queue::new(limits)),
            due: Mutex::default(),
            backups: Notify::new(),
            restores: Notify::new(),
        }))
    }

    /// May this session have its Job now?
    pub fn ask<K: Resource<DynamicType = ()>>(
        &self,
        kind: Kind,
        object: &K,
        target: usize,
        repository: Repository,
        now: DateTime<Utc>,
    ) -> Turn {
        let created = object.meta().creation_timestamp.as_ref().map_or(now, to_clock);
        self.0.queue.lock().ask(session(kind, object, target), created, repository)
    }

    /// It has its Job.
    pub fn hold<K: Resource<DynamicType = ()>>(
        &self,
        kind: Kind,
        object: &K,
        target: usize,
        repository: Repository,
    ) {
        self.0.queue.lock().hold(session(kind, object, target), repository);
    }

    /// It has no Job, and wants none.
    pub fn leave<K: Resource<DynamicType = ()>>(&self, kind: Kind, object: &K, target: usize) {
        let next = self.0.queue.lock().leave(&session(kind, object, target));
        self.call(next);
    }

    /// The same for one that is gone.
    pub fn forget(&self, kind: Kind, namespace: &str, name: &str) {
        let next = self.0.queue.lock().leave_all(kind, namespace, name);
        self.call(next);
    }

    fn call(&self, next: Vec<Session>) {
        if next.is_empty() {
            return;
        }
        self.0.due.lock().extend(next);
        self.0.backups.notify_one();
        self.0.restores.notify_one();
    }

    /// Yields the sessions of a kind that are let through. For one reader.
    pub fn woken<K>(&self, kind: Kind) -> impl Stream<Item = ObjectRef<K>> + Send + use<K>
    where
        K: Resource<DynamicType = ()> + 'static,
    {
        futures::stream::unfold(self.clone(), move |turns| async move {
            let Session { kind: _, namespace, name, target: _ } = turns.next(kind).await;
            Some((ObjectRef::new(&name).within(&namespace), turns))
        })
    }

    async fn next(&self, kind: Kind) -> Session {
        let called = match kind {
            Kind::Backup => &self.0.backups,
            Kind::Restore => &self.0.restores,
        };
        loop {
            {
                let mut due = self.0.due.lock();
                if let Some(session) = due.iter().find(|session| session.kind == kind).cloned() {
                    due.remove(&session);
                    return session;
                }
            }
            called.notified().await;
        }
    }
}

fn session<K: Resource<DynamicType = ()>>(kind: Kind, object: &K, target: usize) -> Session {
    let namespace = object.namespace().unwrap_or_default();
    Session { kind, namespace, name: object.name_any(), target }
}

/// A reference to a Repository, made out in full.
#[must_use]
pub fn repository(reference: Option<&RepositoryRef>, namespace: &str) -> Repository {
    let reference = reference.cloned().unwrap_or_default();
    (reference.namespace_or(namespace).to_owned(), reference.name)
}

/// Counts the Jobs that there are, before anybody asks for another one.
///
/// # Errors
/// When the sessions cannot be listed.
pub async fn load(ctx: &Context) -> Result<(), Error> {
    let mut repositories: HashMap<Invoker, Repository> = HashMap::new();
    let started = |object: &BackupSession| !jobs(object).is_empty();
    for object in gather::all(ctx, started).await? {
        let namespace = object.namespace().unwrap_or_default();
        let invoker =
            (namespace, object.spec.invoker.kind.clone(), object.spec.invoker.name.clone());
        let at = match repositories.get(&invoker) {
            Some(at) => at.clone(),
            None => repository_of(ctx, &invoker).await?,
        };
        repositories.insert(invoker, at.clone());
        for target in jobs(&object) {
            ctx.turns.hold(Kind::Backup, &object, target, at.clone());
        }
    }
    let started = |object: &RestoreSession| {
        restore_session::decide::stage(object) == restore_session::decide::Stage::Started
    };
    for object in gather::all(ctx, started).await? {
        let namespace = object.namespace().unwrap_or_default();
        let at = repository(object.spec.repository.as_ref(), &namespace);
        ctx.turns.hold(Kind::Restore, &object, 0, at);
    }
    Ok(())
}

/// Namespace, kind and name.
type Invoker = (String, String, String);

/// The targets of a session that have a Job.
fn jobs(object: &BackupSession) -> Vec<usize> {
    let targets = object.status.iter().flat_map(|status| &status.targets).enumerate();
    let started = |status| backup_session::decide::target_stage(Some(status)) == Stage::Started;
    targets.filter(|(_, status)| started(status)).map(|(at, _)| at).collect()
}

async fn repository_of(
    ctx: &Context,
    (namespace, kind, name): &Invoker,
) -> Result<Repository, Error> {
    let reference = if kind == "BackupBatch" {
        let batch: Option<BackupBatch> = gather::get(ctx, namespace, name).await?;
        batch.and_then(|batch| batch.spec.repository)
    } else {
        let config: Option<BackupConfiguration> = gather::get(ctx, namespace, name).await?;
        config.and_then(|config| config.spec.repository)
    };
    Ok(repository(reference.as_ref(), namespace))
}
