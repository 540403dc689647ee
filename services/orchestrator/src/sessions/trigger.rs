//! New sessions, made for a gRPC client. A request that is repeated gives the session that it gave before.

use std::collections::BTreeMap;

use coffer_api::{
    BackupBatch, BackupConfiguration, RestoreSession, names,
    restore_session::RestoreSessionSpec,
    target::{APP_BINDING, Param, RepositoryRef, RestoreTarget, Rule, TargetRef, TaskRef},
};
use kube::ResourceExt;
use sha2::{Digest as _, Sha256};

use super::{Error, Record, View, not_found, view};
use crate::{
    apply::{self, Created},
    backup_session::{batch, draft},
    context::Context,
    gather,
};

/// Annotation of a session that a gRPC client made: its `request_id`.
const REQUEST_ID: &str = "coffer.appscode.com/request-id";
/// Sessions that one invoker can be given within a second.
const SAME_SECOND: i64 = 10;

/// What is to be backed up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Invoker {
    /// The target of the BackupConfiguration of this name.
    Configuration(String),
    /// All members of the BackupBatch of this name.
    Batch(String),
}

impl Invoker {
    const fn kind(&self) -> &'static str {
        match self {
            Self::Configuration(_) => "BackupConfiguration",
            Self::Batch(_) => batch::KIND,
        }
    }

    fn name(&self) -> &str {
        match self {
            Self::Configuration(name) | Self::Batch(name) => name,
        }
    }

    /// The invoker as drafts of sessions need it.
    async fn read(&self, ctx: &Context, namespace: &str) -> Result<BackupConfiguration, Error> {
        let name = self.name();
        let missing = || not_found(self.kind(), namespace, name);
        let found: Option<BackupBatch> = match self {
            Self::Configuration(name) => {
                let found: Option<BackupConfiguration> = gather::get(ctx, namespace, name).await?;
                return match found {
                    Some(config) => Ok(config),
                    None => Err(match gather::get::<BackupBatch>(ctx, namespace, name).await? {
                        Some(_) => Error::Invalid(format!(
                            "{namespace}/{name} is a BackupBatch: say so (--batch, backup_batch in gRPC)"
                        )),
                        None => missing(),
                    }),
                };
            }
            Self::Batch(name) => gather::get(ctx, namespace, name).await?,
        };
        let first = batch::parts(&found.ok_or_else(missing)?).members.into_iter().next();
        first.ok_or_else(|| {
            Error::Invalid(format!(
                "BackupBatch {namespace}/{name} has no members: there is nothing to back up"
            ))
        })
    }
}

/// Makes a backup now.
///
/// # Errors
/// When the invoker is not found, or the session cannot be made.
pub async fn trigger_backup(
    ctx: &Context,
    namespace: &str,
    invoker: &Invoker,
    request_id: &str,
) -> Result<View, Error> {
    let config = invoker.read(ctx, namespace).await?;
    let (kind, name) = (invoker.kind(), invoker.name());
    let attempts = draft::attempts(&config);
    if !request_id.is_empty() {
        let mut session = draft::named(kind, &config, derived(name, request_id), attempts);
        session.annotations_mut().insert(REQUEST_ID.to_owned(), request_id.to_owned());
        let (session, _) = apply::create_backup_session(ctx, &session).await?;
        return view(ctx, Record::Backup(Box::new(session))).await;
    }
    let now = ctx.clock.now();
    for later in 0..SAME_SECOND {
        let at = now + chrono::TimeDelta::seconds(later);
        let session = draft::named(kind, &config, names::session(name, at), attempts);
        let (session, created) = apply::create_backup_session(ctx, &session).await?;
        if created == Created::New {
            return view(ctx, Record::Backup(Box::new(session))).await;
        }
    }
    Err(Error::Conflict(format!(
        "{kind} {namespace}/{name} was triggered too often within a second: try again"
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
