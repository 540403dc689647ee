//! Every read about a Repository: the objects that use it.

use coffer_api::{
    BackupBatch, BackupConfiguration, Repository, RestoreSession, repository::Reference,
    target::RepositoryRef,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;

use crate::{
    apply::Kept,
    cache::{
        Cached,
        index::{Key, Name},
    },
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
    let here = (object.namespace().unwrap_or_default(), object.name_any());
    let wanted = |user: &K| uses(&here, user.meta(), repository(user));
    if object.metadata.deletion_timestamp.is_none() {
        let found = K::cache(&ctx.caches).find(&Key::Repository(here.clone()));
        return Ok(found
            .iter()
            .map(AsRef::as_ref)
            .filter(|user| wanted(user))
            .map(named)
            .collect());
    }
    Ok(gather::all::<K>(ctx, wanted).await?.iter().map(named).collect())
}

fn uses(here: &Name, user: &ObjectMeta, repository: Option<&RepositoryRef>) -> bool {
    let own = user.namespace.as_deref().unwrap_or_default();
    user.deletion_timestamp.is_none()
        && repository.is_some_and(|reference| {
            (reference.namespace_or(own), &reference.name) == (&here.0, &here.1)
        })
}

fn named<K: Kept>(user: &K) -> Reference {
    reference(&K::kind(&()), &user.namespace().unwrap_or_default(), &user.name_any())
}
