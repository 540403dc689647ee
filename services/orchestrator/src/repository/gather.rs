//! Every read about a Repository: the objects that use it.

use coffer_api::{
    BackupBatch, Repository, RestoreSession, repository::Reference, target::RepositoryRef,
};
use kube::{Api, ResourceExt, api::ListParams};

use crate::{
    apply::Kept,
    context::{Context, Error},
    gather,
    index::Key,
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
    // From the cache, since there may be very many; this controller is called a moment after a change for that reason.
    let here = Key::Repository((object.namespace().unwrap_or_default(), object.name_any()));
    let configs = ctx.configs_by(&here);
    let mut references = using(
        object,
        configs.iter().map(|config| (config.as_ref(), config.spec.repository.as_ref())),
    );
    references
        .extend(users::<BackupBatch>(ctx, object, |batch| batch.spec.repository.as_ref()).await?);
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
    Ok(using(object, found.items.iter().map(|user| (user, repository(user)))))
}

fn using<'a, K: Kept>(
    object: &Repository,
    all: impl Iterator<Item = (&'a K, Option<&'a RepositoryRef>)>,
) -> Vec<Reference> {
    let (home, name) = (object.metadata.namespace.as_deref(), object.metadata.name.as_deref());
    let uses = |(user, repository): &(&K, Option<&RepositoryRef>)| {
        let own = user.meta().namespace.as_deref().unwrap_or_default();
        user.meta().deletion_timestamp.is_none()
            && repository.is_some_and(|reference| {
                Some(reference.name.as_str()) == name && Some(reference.namespace_or(own)) == home
            })
    };
    let kind = K::kind(&());
    all.filter(uses)
        .map(|(user, _)| reference(&kind, &user.namespace().unwrap_or_default(), &user.name_any()))
        .collect()
}
