//! Every read about a Repository: the objects that use it.

use coffer_api::{
    BackupConfiguration, Repository, RestoreSession, repository::Reference, target::RepositoryRef,
};
use kube::{Api, ResourceExt, api::ListParams};

use crate::{
    apply::Kept,
    context::{Context, Error},
    gather,
    plan::{Lookup, reference},
};

/// What was found.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The objects that use it, in order.
    pub references: Vec<Reference>,
    /// Its Secret.
    pub secret: Lookup<()>,
}

impl Default for Facts {
    fn default() -> Self {
        Self { references: vec![], secret: Lookup::Missing }
    }
}

/// Reads.
pub async fn gather(ctx: &Context, object: &Repository) -> Result<Facts, Error> {
    let mut references =
        users::<BackupConfiguration>(ctx, object, |config| config.spec.repository.as_ref()).await?;
    references.extend(
        users::<RestoreSession>(ctx, object, |session| session.spec.repository.as_ref()).await?,
    );
    references
        .sort_by(|a, b| (&a.kind, &a.namespace, &a.name).cmp(&(&b.kind, &b.namespace, &b.name)));
    let secret = gather::storage_secret(ctx, object).await;
    Ok(Facts { references, secret })
}

async fn users<K: Kept>(
    ctx: &Context,
    object: &Repository,
    repository: impl Fn(&K) -> Option<&RepositoryRef>,
) -> Result<Vec<Reference>, Error> {
    let api: Api<K> = Api::all(ctx.client.clone());
    let kind = K::kind(&());
    let found = api
        .list(&ListParams::default())
        .await
        .map_err(Error::cluster(format!("list the {kind}s that use a Repository")))?;
    let uses = |user: &&K| {
        let own = user.namespace().unwrap_or_default();
        user.meta().deletion_timestamp.is_none()
            && repository(user).is_some_and(|reference| {
                reference.name == object.name_any()
                    && Some(reference.namespace_or(&own)) == object.namespace().as_deref()
            })
    };
    Ok(found
        .items
        .iter()
        .filter(uses)
        .map(|user| reference(&kind, &user.namespace().unwrap_or_default(), &user.name_any()))
        .collect())
}
