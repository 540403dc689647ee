//! What people and programs do with sessions: trigger, look, follow, cancel. The gRPC service is a thin layer over this.

mod follow;
mod trigger;

use std::collections::BTreeMap;

use coffer_api::{
    BackupBatch, BackupConfiguration, BackupSession, RestoreSession,
    backup_session::{Invoker, SessionPhase},
    names,
    outcome::Outcome,
    restore_session::RestorePhase,
    target::RepositoryRef,
};
use coffer_runtime::{
    fault::{Class, Fault},
    grant::SessionRef,
};
use kube::{Api, ResourceExt, api::ListParams};

use crate::{
    apply::{self, Kept},
    backup_session::batch,
    context::{self, Context},
    executor, gather,
    progress::Transfer,
};

pub use {
    follow::follow,
    trigger::{Invoker as Triggered, Restore, trigger_backup, trigger_restore},
};

/// A request cannot be met.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A field is missing or wrong.
    #[error("{0}")]
    Invalid(String),
    /// The object does not exist.
    #[error("{kind} {namespace}/{name} is not found")]
    NotFound {
        /// Kind.
        kind: &'static str,
        /// Namespace.
        namespace: String,
        /// Name.
        name: String,
    },
    /// The state of things forbids it.
    #[error("{0}")]
    Conflict(String),
    /// The cluster refuses, or does not answer.
    #[error("{message}")]
    Cluster {
        /// What it said.
        message: String,
        /// Its kind.
        class: Class,
    },
}

impl Fault for Error {
    fn class(&self) -> Class {
        match self {
            Self::Invalid(_) => Class::Invalid,
            Self::NotFound { .. } => Class::NotFound,
            Self::Conflict(_) => Class::Conflict,
            Self::Cluster { class, .. } => *class,
        }
    }
}

impl From<context::Error> for Error {
    fn from(error: context::Error) -> Self {
        let class = if error.is_refusal() { Class::Invalid } else { Class::Unavailable };
        Self::Cluster { message: error.describe(), class }
    }
}

/// A session of either kind.
#[derive(Clone, Debug, PartialEq)]
pub enum Record {
    /// A backup.
    Backup(Box<BackupSession>),
    /// A restore.
    Restore(Box<RestoreSession>),
}

impl Record {
    /// What it is called.
    #[must_use]
    pub fn reference(&self) -> SessionRef {
        let (kind, namespace, name) = match self {
            Self::Backup(session) => ("BackupSession", session.namespace(), session.name_any()),
            Self::Restore(session) => ("RestoreSession", session.namespace(), session.name_any()),
        };
        SessionRef { kind: kind.to_owned(), namespace: namespace.unwrap_or_default(), name }
    }

    /// True when its phase is final.
    #[must_use]
    pub fn is_final(&self) -> bool {
        match self {
            Self::Backup(session) => {
                session.status.as_ref().and_then(|s| s.phase).is_some_and(SessionPhase::is_final)
            }
            Self::Restore(session) => {
                session.status.as_ref().and_then(|s| s.phase).is_some_and(RestorePhase::is_final)
            }
        }
    }

    fn created(&self) -> Option<chrono::DateTime<chrono::Utc>> {
        let meta = match self {
            Self::Backup(session) => &session.metadata,
            Self::Restore(session) => &session.metadata,
        };
        meta.creation_timestamp.as_ref().map(coffer_api::time::to_clock)
    }
}

/// All that is known of a session.
#[derive(Clone, Debug, PartialEq)]
pub struct View {
    /// The session.
    pub record: Record,
    /// The Repository of a backup.
    pub repository: String,
    /// How far it is.
    pub transfer: Option<Transfer>,
    /// What its worker left.
    pub outcome: Option<Outcome>,
}

/// A session as it is.
///
/// # Errors
/// When it is not found.
pub async fn get(ctx: &Context, reference: &SessionRef) -> Result<View, Error> {
    let record = read(ctx, reference).await?;
    view(ctx, record).await
}

/// Sessions of a namespace, or of all when it is empty; newest first.
///
/// # Errors
/// When the cluster cannot be read.
pub async fn list(
    ctx: &Context,
    namespace: &str,
    backups: bool,
    restores: bool,
    config: &str,
) -> Result<Vec<View>, Error> {
    let mut records = vec![];
    if backups {
        let all = all::<BackupSession>(ctx, namespace).await?.into_iter();
        let wanted = all.filter(|session| config.is_empty() || session.spec.invoker.name == config);
        records.extend(wanted.map(|session| Record::Backup(Box::new(session))));
    }
    if restores && config.is_empty() {
        let all = all::<RestoreSession>(ctx, namespace).await?.into_iter();
        records.extend(all.map(|session| Record::Restore(Box::new(session))));
    }
    records.sort_by_key(|record| std::cmp::Reverse((record.created(), record.reference().name)));
    let configs = all::<BackupConfiguration>(ctx, namespace).await?.into_iter().map(|config| {
        let repository = named(config.spec.repository.as_ref());
        (("BackupConfiguration", config.namespace(), config.name_any()), repository)
    });
    let batches = all::<BackupBatch>(ctx, namespace).await?.into_iter().map(|batch| {
        let repository = named(batch.spec.repository.as_ref());
        ((batch::KIND, batch.namespace(), batch.name_any()), repository)
    });
    let repositories: BTreeMap<_, String> = configs.chain(batches).collect();
    let view = |record: Record| View {
        repository: match &record {
            Record::Backup(session) => {
                let Invoker { kind, name, .. } = &session.spec.invoker;
                let at = (kind.as_str(), session.namespace(), name.clone());
                repositories.get(&at).cloned().unwrap_or_default()
            }
            Record::Restore(_) => String::new(),
        },
        transfer: ctx.progress.get(&record.reference()),
        outcome: None,
        record,
    };
    Ok(records.into_iter().map(view).collect())
}

/// Asks for a session to be stopped; the next pass over it does so.
///
/// # Errors
/// When it is not found, or is over.
pub async fn cancel(ctx: &Context, reference: &SessionRef, who: &str) -> Result<View, Error> {
    let record = read(ctx, reference).await?;
    if record.is_final() {
        return Err(Error::Conflict(format!("{reference} is over: there is nothing to cancel")));
    }
    let SessionRef { kind: _, namespace, name } = reference;
    let record = match record {
        Record::Backup(_) => {
            Record::Backup(Box::new(apply::cancel(ctx, namespace, name, who).await?))
        }
        Record::Restore(_) => {
            Record::Restore(Box::new(apply::cancel(ctx, namespace, name, who).await?))
        }
    };
    view(ctx, record).await
}

async fn read(ctx: &Context, reference: &SessionRef) -> Result<Record, Error> {
    let SessionRef { kind, namespace, name } = reference;
    if kind == "RestoreSession" {
        let found: Option<RestoreSession> = gather::get(ctx, namespace, name).await?;
        let found = found.ok_or_else(|| not_found("RestoreSession", namespace, name))?;
        return Ok(Record::Restore(Box::new(found)));
    }
    let found: Option<BackupSession> = gather::get(ctx, namespace, name).await?;
    let found = found.ok_or_else(|| not_found("BackupSession", namespace, name))?;
    Ok(Record::Backup(Box::new(found)))
}

/// Adds what is not in the session itself.
async fn view(ctx: &Context, record: Record) -> Result<View, Error> {
    let reference = record.reference();
    let (job, settled, repository) = match &record {
        Record::Backup(session) => {
            let targets = session.status.iter().flat_map(|status| &status.targets);
            let settled = targets.clone().any(|target| !target.stats.is_empty());
            let repository = repository(ctx, &reference.namespace, &session.spec.invoker).await?;
            (names::backup_job(&reference.name, 0), settled, repository)
        }
        Record::Restore(session) => {
            let settled = session.status.as_ref().is_some_and(|status| !status.stats.is_empty());
            (names::restore_job(&reference.name, 0), settled, String::new())
        }
    };
    let mut outcome = None;
    if settled {
        // Boxed: with it, every call of the service would carry room for a list of pods.
        let worker = Box::pin(gather::worker(ctx, &reference.namespace, &job)).await?;
        outcome = executor::outcome(&worker);
    }
    Ok(View { transfer: ctx.progress.get(&reference), record, repository, outcome })
}

async fn all<K: Kept>(ctx: &Context, namespace: &str) -> Result<Vec<K>, Error> {
    let api: Api<K> = if namespace.is_empty() {
        Api::all(ctx.client.clone())
    } else {
        Api::namespaced(ctx.client.clone(), namespace)
    };
    let found = api.list(&ListParams::default()).await;
    Ok(found.map_err(context::Error::cluster(format!("list {}s", K::kind(&()))))?.items)
}

async fn repository(ctx: &Context, namespace: &str, invoker: &Invoker) -> Result<String, Error> {
    let reference = if invoker.kind == batch::KIND {
        let found: Option<BackupBatch> = gather::get(ctx, namespace, &invoker.name).await?;
        found.and_then(|batch| batch.spec.repository)
    } else {
        let found: Option<BackupConfiguration> = gather::get(ctx, namespace, &invoker.name).await?;
        found.and_then(|config| config.spec.repository)
    };
    Ok(named(reference.as_ref()))
}

fn named(repository: Option<&RepositoryRef>) -> String {
    repository.map(|repository| repository.name.clone()).unwrap_or_default()
}

fn not_found(kind: &'static str, namespace: &str, name: &str) -> Error {
    Error::NotFound { kind, namespace: namespace.to_owned(), name: name.to_owned() }
}
