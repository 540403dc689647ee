//! What people and programs do with sessions: trigger, look, follow, cancel. The gRPC service is a thin layer over this.

mod follow;

use std::collections::BTreeMap;

use coffer_api::{
    BackupConfiguration, BackupSession, RestoreSession,
    backup_session::SessionPhase,
    names,
    outcome::Outcome,
    restore_session::{RestorePhase, RestoreSessionSpec},
    target::{APP_BINDING, Param, RepositoryRef, RestoreTarget, Rule, TargetRef, TaskRef},
};
use coffer_runtime::{
    fault::{Class, Fault},
    grant::SessionRef,
};
use kube::{Api, ResourceExt, api::ListParams};
use sha2::{Digest as _, Sha256};

use crate::{
    apply::{self, Created, Kept},
    backup_session::draft,
    context::{self, Context},
    executor, gather,
    progress::Transfer,
};

pub use follow::follow;

/// Annotation of a session that a gRPC client made: its `request_id`.
const REQUEST_ID: &str = "coffer.appscode.com/request-id";
/// Sessions that one invoker can be given within a second.
const SAME_SECOND: i64 = 10;

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

/// Makes a backup now.
///
/// # Errors
/// When the BackupConfiguration is not found, or the session cannot be made.
pub async fn trigger_backup(
    ctx: &Context,
    namespace: &str,
    name: &str,
    request_id: &str,
) -> Result<View, Error> {
    let config: BackupConfiguration = gather::get(ctx, namespace, name)
        .await?
        .ok_or_else(|| not_found("BackupConfiguration", namespace, name))?;
    let attempts = draft::attempts(&config);
    if !request_id.is_empty() {
        let mut session = draft::named(&config, derived(name, request_id), attempts);
        session.annotations_mut().insert(REQUEST_ID.to_owned(), request_id.to_owned());
        let (session, _) = apply::create_backup_session(ctx, &session).await?;
        return view(ctx, Record::Backup(Box::new(session))).await;
    }
    let now = ctx.clock.now();
    for later in 0..SAME_SECOND {
        let at = now + chrono::TimeDelta::seconds(later);
        let session = draft::named(&config, names::session(name, at), attempts);
        let (session, created) = apply::create_backup_session(ctx, &session).await?;
        if created == Created::New {
            return view(ctx, Record::Backup(Box::new(session))).await;
        }
    }
    Err(Error::Conflict(format!(
        "BackupConfiguration {namespace}/{name} was triggered too often within a second: try again"
    )))
}

/// What to restore.
#[derive(Clone, Debug, Default)]
pub struct Restore {
    /// Namespace of the session.
    pub namespace: String,
    /// Name; empty for a derived one.
    pub name: String,
    /// The Repository.
    pub repository: RepositoryRef,
    /// AppBinding to load into.
    pub target: String,
    /// Its namespace; empty for the session's.
    pub target_namespace: String,
    /// Alias of the target.
    pub alias: String,
    /// `latest`, or an id; empty for latest.
    pub snapshot: String,
    /// With `latest`: snapshots of this host only.
    pub source_host: String,
    /// Task; empty for the addon's.
    pub task: String,
    /// Its parameters.
    pub params: BTreeMap<String, String>,
    /// Makes the call safe to repeat.
    pub request_id: String,
}

/// Restores now.
///
/// # Errors
/// When something is not named, the name is taken, or the session cannot be made.
pub async fn trigger_restore(ctx: &Context, wanted: Restore) -> Result<View, Error> {
    for (what, value) in [
        ("namespace", &wanted.namespace),
        ("repository", &wanted.repository.name),
        ("target", &wanted.target),
    ] {
        if value.is_empty() {
            return Err(Error::Invalid(format!("{what} is missing")));
        }
    }
    let name = match (wanted.name.as_str(), wanted.request_id.as_str()) {
        ("", "") => names::session(&wanted.target, ctx.clock.now()),
        ("", id) => derived(&wanted.target, id),
        (name, _) => name.to_owned(),
    };
    let request_id = wanted.request_id.clone();
    let mut session = RestoreSession::new(&name, spec(&wanted));
    session.metadata.namespace = Some(wanted.namespace);
    if !request_id.is_empty() {
        session.annotations_mut().insert(REQUEST_ID.to_owned(), request_id.clone());
    }
    let (found, created) = apply::create_restore_session(ctx, &session).await?;
    let repeated =
        !request_id.is_empty() && found.annotations().get(REQUEST_ID) == Some(&request_id);
    if created == Created::Before && !repeated {
        return Err(Error::Conflict(format!(
            "RestoreSession {}/{name} exists: a restore runs once, so choose another name",
            found.namespace().unwrap_or_default()
        )));
    }
    view(ctx, Record::Restore(Box::new(found))).await
}

fn spec(wanted: &Restore) -> RestoreSessionSpec {
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let rule = Rule {
        snapshots: some(&wanted.snapshot).into_iter().collect(),
        source_host: wanted.source_host.clone(),
        ..Rule::default()
    };
    let params: Vec<Param> = wanted
        .params
        .iter()
        .map(|(name, value)| Param { name: name.clone(), value: value.clone() })
        .collect();
    let task = TaskRef { name: wanted.task.clone(), params };
    RestoreSessionSpec {
        repository: Some(wanted.repository.clone()),
        task: (task != TaskRef::default()).then_some(task),
        target: Some(RestoreTarget {
            alias: wanted.alias.clone(),
            reference: TargetRef {
                api_version: APP_BINDING.0.to_owned(),
                kind: APP_BINDING.1.to_owned(),
                name: wanted.target.clone(),
                namespace: wanted.target_namespace.clone(),
            },
            rules: vec![rule],
            ..RestoreTarget::default()
        }),
        ..RestoreSessionSpec::default()
    }
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
    let repositories: BTreeMap<(Option<String>, String), String> =
        all::<BackupConfiguration>(ctx, namespace)
            .await?
            .into_iter()
            .map(|config| ((config.namespace(), config.name_any()), repository_of(&config)))
            .collect();
    let view = |record: Record| View {
        repository: match &record {
            Record::Backup(session) => repositories
                .get(&(session.namespace(), session.spec.invoker.name.clone()))
                .cloned()
                .unwrap_or_default(),
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
            let config: Option<BackupConfiguration> =
                gather::get(ctx, &reference.namespace, &session.spec.invoker.name).await?;
            let repository = config.as_ref().map(repository_of).unwrap_or_default();
            (names::backup_job(&reference.name, 0), settled, repository)
        }
        Record::Restore(session) => {
            let settled = session.status.as_ref().is_some_and(|status| !status.stats.is_empty());
            (names::restore_job(&reference.name, 0), settled, String::new())
        }
    };
    let mut outcome = None;
    if settled {
        let (_, pods) = gather::job(ctx, &reference.namespace, &job).await?;
        outcome = executor::outcome(&pods);
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

fn repository_of(config: &BackupConfiguration) -> String {
    config.spec.repository.as_ref().map(|r| r.name.clone()).unwrap_or_default()
}

fn not_found(kind: &'static str, namespace: &str, name: &str) -> Error {
    Error::NotFound { kind, namespace: namespace.to_owned(), name: name.to_owned() }
}

/// A name that the same request always gives. The letter keeps it from looking like an instant.
fn derived(base: &str, request_id: &str) -> String {
    let digest = hex::encode(Sha256::digest(request_id.as_bytes()));
    let base = base.get(..50).unwrap_or(base).trim_end_matches(['-', '.']);
    format!("{base}-r{}", &digest[..11])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_gives_one_name() {
        assert_eq!(derived("orders", "a"), derived("orders", "a"));
        assert_ne!(derived("orders", "a"), derived("orders", "b"));
        assert!(derived(&"x".repeat(80), "a").len() <= 63);
    }

    #[test]
    fn a_restore_asks_for_what_was_wanted() {
        let wanted = Restore {
            target: "orders".into(),
            snapshot: "4bc21d6f".into(),
            params: BTreeMap::from([("waitTimeout".to_owned(), "9".to_owned())]),
            ..Restore::default()
        };
        let spec = spec(&wanted);
        let target = spec.target.unwrap();
        assert!(target.reference.is_app_binding());
        assert_eq!(target.rules[0].snapshots, ["4bc21d6f"]);
        assert_eq!(spec.task.unwrap().params[0].name, "waitTimeout");
    }
}
