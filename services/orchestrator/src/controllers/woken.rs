//! Who is woken by a change of an object that others depend on.

use coffer_api::{
    AppBinding, BackupConfiguration, Repository, RestoreSession, names,
    target::{RepositoryRef, TargetRef},
};
use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{
    Resource, ResourceExt,
    runtime::reflector::{ObjectRef, Store},
};

use crate::{
    context::Context,
    index::{self, Key},
    job::SESSION,
};

pub(super) fn select<K>(store: &Store<K>, wanted: impl Fn(&K) -> bool) -> Vec<ObjectRef<K>>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    let found = store.state().into_iter().filter(|object| wanted(object));
    found.map(|object| ObjectRef::from_obj(object.as_ref())).collect()
}

pub(super) fn configs_by(ctx: &Context, key: &Key) -> Vec<ObjectRef<BackupConfiguration>> {
    let found = ctx.index.find(key).into_iter();
    found.map(|(namespace, name)| ObjectRef::new(&name).within(&namespace)).collect()
}

pub(super) fn name_of<K: Resource>(object: &K) -> index::Name {
    (object.namespace().unwrap_or_default(), object.name_any())
}

pub(super) fn restores_of(
    store: &Store<RestoreSession>,
    repository: &Repository,
) -> Vec<ObjectRef<RestoreSession>> {
    select(store, |session| uses(session.spec.repository.as_ref(), session.meta(), repository))
}

pub(super) fn uses(
    reference: Option<&RepositoryRef>,
    user: &ObjectMeta,
    repository: &Repository,
) -> bool {
    let own = user.namespace.as_deref().unwrap_or_default();
    reference.is_some_and(|reference| {
        Some(reference.name.as_str()) == repository.metadata.name.as_deref()
            && Some(reference.namespace_or(own)) == repository.metadata.namespace.as_deref()
    })
}

pub(super) fn points_to(reference: &TargetRef, user: &ObjectMeta, binding: &AppBinding) -> bool {
    let own = user.namespace.as_deref().unwrap_or_default();
    Some(reference.name.as_str()) == binding.metadata.name.as_deref()
        && Some(reference.namespace_or(own)) == binding.metadata.namespace.as_deref()
}

pub(super) fn repository_ref(
    reference: Option<&RepositoryRef>,
    own: Option<String>,
) -> Option<ObjectRef<Repository>> {
    let reference = reference?;
    let own = own.unwrap_or_default();
    Some(ObjectRef::new(&reference.name).within(reference.namespace_or(&own)))
}

/// The session that a pod of a Job of ours belongs to.
pub(super) fn session_of<K: Resource<DynamicType = ()>>(
    pod: &Pod,
    component: &str,
) -> Option<ObjectRef<K>> {
    let ours = pod.labels().get(names::COMPONENT).is_some_and(|label| label == component);
    let session = pod.annotations().get(SESSION).filter(|_| ours)?;
    Some(ObjectRef::new(session).within(&pod.namespace()?))
}
