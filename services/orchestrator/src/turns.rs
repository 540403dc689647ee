//! The [`Queue`] as all reconcilers share it, and the calls that wake whoever is let through.
//!
//! It is no state of its own: who has a Job is in the status of the sessions, from which it is filled at the start and
//! corrected by every pass.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use coffer_api::{
    BackupBatch, BackupConfiguration, BackupSession, RestoreSession, target::RepositoryRef,
    time::to_clock,
};
use coffer_runtime::grant::SessionRef;
use kube::{Resource, ResourceExt, runtime::reflector::ObjectRef};
use parking_lot::Mutex;

use crate::{
    backup_session::{self, decide::Stage},
    context::Context,
    context::Error,
    gather,
    queue::{Kind, Limits, Queue, Repository, Session, Turn},
    restore_session,
    wake::Wake,
};

/// The queue, and whom it let through.
pub struct Turns {
    queue: Mutex<Queue>,
    /// BackupSessions that are let through, or whose worker waits.
    pub backups: Wake<BackupSession>,
    /// RestoreSessions of which the same is true.
    pub restores: Wake<RestoreSession>,
}

impl Turns {
    /// Nobody has a Job yet.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        let queue = Mutex::new(Queue::new(limits));
        Self { queue, backups: Wake::default(), restores: Wake::default() }
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
        self.queue.lock().ask(session(kind, object, target), created, repository)
    }

    /// It has its Job.
    pub fn hold<K: Resource<DynamicType = ()>>(
        &self,
        kind: Kind,
        object: &K,
        target: usize,
        repository: Repository,
    ) {
        self.queue.lock().hold(session(kind, object, target), repository);
    }

    /// It has no Job, and wants none.
    pub fn leave<K: Resource<DynamicType = ()>>(&self, kind: Kind, object: &K, target: usize) {
        let next = self.queue.lock().leave(&session(kind, object, target));
        self.call(next);
    }

    /// The same for one that is gone.
    pub fn forget(&self, kind: Kind, namespace: &str, name: &str) {
        let next = self.queue.lock().leave_all(kind, namespace, name);
        self.call(next);
    }

    /// Has a session looked at.
    pub fn wake(&self, session: &SessionRef) {
        let kind = if session.kind == "RestoreSession" { Kind::Restore } else { Kind::Backup };
        self.call_one(kind, &session.namespace, &session.name);
    }

    fn call(&self, next: Vec<Session>) {
        for Session { kind, namespace, name, target: _ } in next {
            self.call_one(kind, &namespace, &name);
        }
    }

    fn call_one(&self, kind: Kind, namespace: &str, name: &str) {
        match kind {
            Kind::Backup => self.backups.add(ObjectRef::new(name).within(namespace)),
            Kind::Restore => self.restores.add(ObjectRef::new(name).within(namespace)),
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
