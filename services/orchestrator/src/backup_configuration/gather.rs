//! Every read about a BackupConfiguration.

use std::collections::BTreeMap;

use coffer_api::{AppBinding, BackupConfiguration, BackupSession, Repository, names};
use kube::{Api, ResourceExt, api::ListParams};

use crate::{
    cache::index::{self, Key},
    context::{Context, Error},
    gather::{self, Source},
    plan::Lookup,
};

use super::{KIND, run::Seen};

/// What was found.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The Repository.
    pub repository: Lookup<Repository>,
    /// Its Secret.
    pub secret: Lookup<()>,
    /// Labels of the BackupConfiguration's namespace.
    pub namespace_labels: BTreeMap<String, String>,
    /// The target.
    pub target: Lookup<AppBinding>,
    /// Other BackupConfigurations that write to the same repository under the same host.
    pub neighbours: Vec<Neighbour>,
    /// Names of the sessions that it has.
    pub sessions: Vec<String>,
}

impl Facts {
    /// What the schedule depends on.
    pub(crate) fn seen(&self) -> Seen<'_> {
        let complete = self.repository.found().is_some()
            && self.secret.found().is_some()
            && self.target.found().is_some();
        Seen { complete, sessions: &self.sessions }
    }
}

/// Reads.
pub async fn gather(
    ctx: &Context,
    source: Source,
    object: &BackupConfiguration,
) -> Result<Facts, Error> {
    let namespace = object.namespace().unwrap_or_default();
    let reference = object.spec.repository.as_ref();
    let repository = gather::repository(ctx, source, &namespace, reference).await;
    let secret = match repository.found() {
        Some(repository) => gather::storage_secret(ctx, repository).await,
        None => Lookup::Missing,
    };
    let target = match object.spec.target.as_ref().map(|target| &target.reference) {
        Some(target) if target.is_app_binding() => {
            let home = target.namespace_or(&namespace);
            gather::look_up_in(ctx, source, home, &target.name).await
        }
        Some(_) | None => Lookup::Missing,
    };
    Ok(Facts {
        neighbours: neighbours(ctx, object),
        namespace_labels: gather::namespace_labels(ctx, repository.found(), &namespace).await?,
        repository,
        secret,
        target,
        sessions: session_names(ctx, source, KIND, &namespace, &object.name_any()).await?,
    })
}

/// Names of the sessions that an invoker has. One that the cache does not know yet, since somebody else made it, is made
/// again under the same name, which changes nothing.
pub(crate) async fn session_names(
    ctx: &Context,
    source: Source,
    kind: &str,
    namespace: &str,
    name: &str,
) -> Result<Vec<String>, Error> {
    if source == Source::Caches {
        let invoker = (namespace.to_owned(), crate::backup_session::label(name).to_owned());
        let found = ctx.caches.backups.names(&Key::Invoker(kind.to_owned(), invoker));
        return Ok(found.into_iter().map(|(_, name)| name).collect());
    }
    let found = sessions(ctx, kind, namespace, name).await?;
    Ok(found.into_iter().map(|session| session.name_any()).collect())
}

/// Another BackupConfiguration with the same repository and host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// When it was made, its namespace and its name: who was there first.
    pub order: Order,
    /// Namespace and name of its target.
    pub target: (String, String),
}

/// When an object was made, its namespace and its name.
pub type Order = (Option<chrono::DateTime<chrono::Utc>>, String, String);

/// Who was there first.
#[must_use]
pub fn order(object: &BackupConfiguration) -> Order {
    let created = object.metadata.creation_timestamp.as_ref().map(coffer_api::time::to_clock);
    (created, object.namespace().unwrap_or_default(), object.name_any())
}

/// Namespace and name of the target.
#[must_use]
pub fn target(object: &BackupConfiguration) -> (String, String) {
    let own = object.namespace().unwrap_or_default();
    let target = object.spec.target.as_ref().map(|t| t.reference.clone()).unwrap_or_default();
    (target.namespace_or(&own).to_owned(), target.name)
}

/// From the cache: what is a moment old is refused a moment later.
pub(crate) fn neighbours(ctx: &Context, object: &BackupConfiguration) -> Vec<Neighbour> {
    let own = object.metadata.uid.as_deref();
    let all = ctx.caches.configs.find(&index::host(object));
    all.iter()
        .filter(|config| {
            config.metadata.uid.as_deref() != own && config.metadata.deletion_timestamp.is_none()
        })
        .map(|config| Neighbour { order: order(config), target: target(config) })
        .collect()
}

/// The sessions that carry an invoker's labels. A session made by hand without them is left alone by skip rules and
/// history, as in the original.
pub async fn sessions(
    ctx: &Context,
    kind: &str,
    namespace: &str,
    name: &str,
) -> Result<Vec<BackupSession>, Error> {
    let api: Api<BackupSession> = Api::namespaced(ctx.client.clone(), namespace);
    let labels = format!(
        "{}={kind},{}={}",
        names::INVOKER_TYPE,
        names::INVOKER_NAME,
        crate::backup_session::label(name)
    );
    let found = api
        .list(&ListParams::default().labels(&labels))
        .await
        .map_err(Error::cluster(format!("list the sessions of {kind} {namespace}/{name}")))?;
    Ok(found.items)
}
