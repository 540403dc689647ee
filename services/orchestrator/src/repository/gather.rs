//! Every read about a Repository: the objects that use it.

use coffer_api::{
    BackupBatch, BackupConfiguration, Repository, RestoreSession, repository::Reference,
    target::RepositoryRef,
};
use kube::ResourceExt;

use crate::{
    apply::Kept,
    cache::{Cached, index::Key},
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

/// From the cache, since there may be very many. Not when the Repository is to go: its data may go with it.
async fn users<K: Kept + Cached>(
    ctx: &Context,
    object: &Repository,
    repository: impl Fn(&K) -> Option<&RepositoryRef>,
) -> Result<Vec<Reference>, Error> {
    let cache = K::cache(&ctx.caches);
    if object.metadata.deletion_timestamp.is_none() {
        let here = Key::Repository((object.namespace().unwrap_or_default(), object.name_any()));
        let found = cache.find(&here);
        return Ok(using(object, found.iter().map(|user| (user.as_ref(), repository(user)))));
    }
    let found = gather::all::<K>(ctx, |_| true).await?;
    Ok(using(object, found.iter().map(|user| (user, repository(user)))))
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
