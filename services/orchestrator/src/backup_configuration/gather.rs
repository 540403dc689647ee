//! Every read about a BackupConfiguration.

use std::collections::BTreeMap;

use coffer_api::{AppBinding, BackupConfiguration, BackupSession, Repository, names};
use kube::{Api, ResourceExt, api::ListParams};

use crate::{
    context::{Context, Error},
    gather,
    plan::Lookup,
};

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
    /// Names of the sessions that it has.
    pub sessions: Vec<String>,
}

/// Reads.
pub async fn gather(ctx: &Context, object: &BackupConfiguration) -> Result<Facts, Error> {
    let namespace = object.namespace().unwrap_or_default();
    let repository = gather::repository(ctx, &namespace, object.spec.repository.as_ref()).await;
    let secret = match repository.found() {
        Some(repository) => gather::storage_secret(ctx, repository).await,
        None => Lookup::Missing,
    };
    let target = match object.spec.target.as_ref().map(|target| &target.reference) {
        Some(target) if target.is_app_binding() => {
            gather::look_up(ctx, target.namespace_or(&namespace), &target.name).await
        }
        Some(_) | None => Lookup::Missing,
    };
    Ok(Facts {
        repository,
        secret,
        namespace_labels: gather::namespace_labels(ctx, &namespace).await?,
        target,
        sessions: sessions(ctx, &namespace, &object.name_any())
            .await?
            .into_iter()
            .map(|session| session.name_any())
            .collect(),
    })
}

/// The sessions that carry an invoker's labels. A session made by hand without them is left alone by skip rules and
/// history, as in the original.
pub async fn sessions(
    ctx: &Context,
    namespace: &str,
    name: &str,
) -> Result<Vec<BackupSession>, Error> {
    let api: Api<BackupSession> = Api::namespaced(ctx.client.clone(), namespace);
    let labels = format!(
        "{}=BackupConfiguration,{}={}",
        names::INVOKER_TYPE,
        names::INVOKER_NAME,
        crate::backup_session::label(name)
    );
    let found = api.list(&ListParams::default().labels(&labels)).await.map_err(Error::cluster(
        format!("list the sessions of BackupConfiguration {namespace}/{name}"),
    ))?;
    Ok(found.items)
}
