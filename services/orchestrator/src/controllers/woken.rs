//! Who is woken by a change of an object. Those who depend on it are woken by its spec and by its end only: with ten
//! thousand BackupConfigurations that use a Repository, each backup would wake them all.

use coffer_api::{
    AppBinding, BackupBatch, BackupBlueprint, BackupConfiguration, BackupSession, Repository,
    RestoreBatch, RestoreSession, names, target::RepositoryRef,
};
use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{Resource, ResourceExt, runtime::reflector::ObjectRef};

use crate::{
    auto_backup::decide::wanted,
    cache::{
        Cache, Cached, Caches, Change, Changed,
        index::{Key, name},
    },
    job::SESSION,
    wake::Wake,
};

/// Who is to be looked at, of each kind that has a controller.
#[derive(Default)]
pub(super) struct Woken {
    pub(super) configs: Wake<BackupConfiguration>,
    pub(super) backups: Wake<BackupSession>,
    pub(super) restores: Wake<RestoreSession>,
    pub(super) repositories: Wake<Repository>,
    pub(super) batches: Wake<BackupBatch>,
    pub(super) restore_batches: Wake<RestoreBatch>,
    pub(super) bindings: Wake<AppBinding>,
}

impl<K> Changed<K> {
    const fn concerns_others(&self) -> bool {
        matches!(self.change, Change::Spec | Change::Gone)
    }
}

/// A kind whose changes wake somebody.
pub(super) trait Wakes: Cached {
    /// Names everybody whom this change concerns.
    fn wake(changed: &Changed<Self>, caches: &Caches, woken: &Woken);
}

impl Wakes for BackupConfiguration {
    fn wake(changed: &Changed<Self>, _: &Caches, woken: &Woken) {
        // Nobody but its own pass writes its status.
        if changed.change == Change::Status {
            return;
        }
        woken.configs.add(ObjectRef::from_obj(changed.object.as_ref()));
        woken.bindings.extend(owners(changed.object.meta()));
        if changed.concerns_others() {
            woken.repositories.extend(repositories(changed, |it| it.spec.repository.as_ref()));
        }
    }
}

impl Wakes for BackupSession {
    fn wake(changed: &Changed<Self>, _: &Caches, woken: &Woken) {
        woken.backups.add(ObjectRef::from_obj(changed.object.as_ref()));
    }
}

impl Wakes for RestoreSession {
    fn wake(changed: &Changed<Self>, _: &Caches, woken: &Woken) {
        woken.restores.add(ObjectRef::from_obj(changed.object.as_ref()));
        woken.restore_batches.extend(owners(changed.object.meta()));
        if changed.concerns_others() {
            woken.repositories.extend(repositories(changed, |it| it.spec.repository.as_ref()));
        }
    }
}

impl Wakes for Repository {
    fn wake(changed: &Changed<Self>, caches: &Caches, woken: &Woken) {
        woken.repositories.add(ObjectRef::from_obj(changed.object.as_ref()));
        if changed.concerns_others() {
            let key = Key::Repository(name(changed.object.as_ref()));
            woken.configs.extend(found(&caches.configs, &key));
            woken.batches.extend(found(&caches.batches, &key));
            woken.restores.extend(found(&caches.restores, &key));
        }
    }
}

impl Wakes for BackupBatch {
    fn wake(changed: &Changed<Self>, _: &Caches, woken: &Woken) {
        woken.batches.add(ObjectRef::from_obj(changed.object.as_ref()));
        if changed.concerns_others() {
            woken.repositories.extend(repositories(changed, |it| it.spec.repository.as_ref()));
        }
    }
}

impl Wakes for RestoreBatch {
    fn wake(changed: &Changed<Self>, _: &Caches, woken: &Woken) {
        woken.restore_batches.add(ObjectRef::from_obj(changed.object.as_ref()));
    }
}

impl Wakes for AppBinding {
    fn wake(changed: &Changed<Self>, caches: &Caches, woken: &Woken) {
        woken.bindings.add(ObjectRef::from_obj(changed.object.as_ref()));
        if changed.concerns_others() {
            let key = Key::Target(name(changed.object.as_ref()));
            woken.configs.extend(found(&caches.configs, &key));
            woken.batches.extend(found(&caches.batches, &key));
            woken.restores.extend(found(&caches.restores, &key));
        }
    }
}

impl Wakes for BackupBlueprint {
    fn wake(changed: &Changed<Self>, caches: &Caches, woken: &Woken) {
        if !changed.concerns_others() {
            return;
        }
        let name = changed.object.name_any();
        let users = caches.bindings.all().into_iter();
        let users = users.filter(|binding| wanted(binding).contains(&name));
        woken.bindings.extend(users.map(|binding| ObjectRef::from_obj(binding.as_ref())));
    }
}

fn found<K: Cached>(cache: &Cache<K>, key: &Key) -> impl Iterator<Item = ObjectRef<K>> {
    let names = cache.names(key).into_iter();
    names.map(|(namespace, name)| ObjectRef::new(&name).within(&namespace))
}

/// The Repository that an object uses, and the one that it used before.
fn repositories<K: Cached>(
    changed: &Changed<K>,
    reference: impl Fn(&K) -> Option<&RepositoryRef>,
) -> impl Iterator<Item = ObjectRef<Repository>> {
    changed.both().filter_map(move |user| {
        let own = user.meta().namespace.as_deref().unwrap_or_default();
        let reference = reference(user)?;
        Some(ObjectRef::new(&reference.name).within(reference.namespace_or(own)))
    })
}

/// The owners that are of a kind.
fn owners<K: Cached>(meta: &ObjectMeta) -> impl Iterator<Item = ObjectRef<K>> {
    let owners = meta.owner_references.iter().flatten();
    owners.filter_map(|owner| ObjectRef::from_owner_ref(meta.namespace.as_deref(), owner, ()))
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

#[cfg(test)]
mod tests {
    use super::*;
    use futures::{FutureExt as _, StreamExt as _};
    use serde_json::{Value, json};
    use std::sync::Arc;

    fn user<K: Cached>(kind: &str, repository: &Value, more: &Value) -> Arc<K> {
        let mut value = json!({"apiVersion": "stash.appscode.com/v1beta1", "kind": kind,
            "metadata": {"name": "a", "namespace": "shop"}, "spec": {"repository": repository}});
        for (field, given) in more.as_object().into_iter().flatten() {
            value["spec"][field] = given.clone();
        }
        Arc::new(serde_json::from_value(value).unwrap())
    }

    /// The Repositories that are woken when an object of the kind turns from one Repository to another.
    fn woken<K: Wakes>(kind: &str, change: Change, more: &Value) -> Vec<String> {
        let woken = Woken::default();
        let turned = Changed {
            object: user::<K>(kind, &json!({"name": "new"}), more),
            before: Some(user(kind, &json!({"name": "old", "namespace": "backups"}), more)),
            change,
        };
        K::wake(&turned, &Caches::default(), &woken);
        let calls = woken.repositories.calls().ready_chunks(9);
        let called = Box::pin(calls).next().now_or_never().flatten().unwrap_or_default();
        let mut called: Vec<_> = called.iter().map(ToString::to_string).collect();
        called.sort();
        called.iter().map(|name| name.rsplit('/').next().unwrap().to_owned()).collect()
    }

    #[test]
    fn the_repository_that_was_left_is_woken_too() {
        let keep = json!({"retentionPolicy": {"name": "x", "keepLast": 1, "prune": true}});
        let batch = json!({"retentionPolicy": keep["retentionPolicy"], "members": []});
        for (change, expected) in [
            (Change::Spec, vec!["new.shop", "old.backups"]),
            (Change::Metadata, vec![]),
            (Change::Status, vec![]),
        ] {
            let config = woken::<BackupConfiguration>("BackupConfiguration", change, &keep);
            assert_eq!(config, expected);
            assert_eq!(woken::<BackupBatch>("BackupBatch", change, &batch), expected);
            assert_eq!(woken::<RestoreSession>("RestoreSession", change, &json!({})), expected);
        }
    }
}
