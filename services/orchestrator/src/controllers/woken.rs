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
        Cache, Cached, Caches, Change,
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

impl Change {
    const fn concerns_others(self) -> bool {
        matches!(self, Self::Spec | Self::Gone)
    }
}

/// A kind whose changes wake somebody.
pub(super) trait Wakes: Cached {
    /// Names everybody whom this change concerns.
    fn wake(&self, change: Change, caches: &Caches, woken: &Woken);
}

impl Wakes for BackupConfiguration {
    fn wake(&self, change: Change, _: &Caches, woken: &Woken) {
        // Nobody but its own pass writes its status.
        if change == Change::Status {
            return;
        }
        woken.configs.add(ObjectRef::from_obj(self));
        woken.bindings.extend(owners(self.meta()));
        if change.concerns_others() {
            woken.repositories.extend(repository(self.spec.repository.as_ref(), self.meta()));
        }
    }
}

impl Wakes for BackupSession {
    fn wake(&self, _: Change, _: &Caches, woken: &Woken) {
        woken.backups.add(ObjectRef::from_obj(self));
    }
}

impl Wakes for RestoreSession {
    fn wake(&self, change: Change, _: &Caches, woken: &Woken) {
        woken.restores.add(ObjectRef::from_obj(self));
        woken.restore_batches.extend(owners(self.meta()));
        if change.concerns_others() {
            woken.repositories.extend(repository(self.spec.repository.as_ref(), self.meta()));
        }
    }
}

impl Wakes for Repository {
    fn wake(&self, change: Change, caches: &Caches, woken: &Woken) {
        woken.repositories.add(ObjectRef::from_obj(self));
        if change.concerns_others() {
            let key = Key::Repository(name(self));
            woken.configs.extend(found(&caches.configs, &key));
            woken.batches.extend(found(&caches.batches, &key));
            woken.restores.extend(found(&caches.restores, &key));
        }
    }
}

impl Wakes for BackupBatch {
    fn wake(&self, change: Change, _: &Caches, woken: &Woken) {
        woken.batches.add(ObjectRef::from_obj(self));
        if change.concerns_others() {
            woken.repositories.extend(repository(self.spec.repository.as_ref(), self.meta()));
        }
    }
}

impl Wakes for RestoreBatch {
    fn wake(&self, _: Change, _: &Caches, woken: &Woken) {
        woken.restore_batches.add(ObjectRef::from_obj(self));
    }
}

impl Wakes for AppBinding {
    fn wake(&self, change: Change, caches: &Caches, woken: &Woken) {
        woken.bindings.add(ObjectRef::from_obj(self));
        if change.concerns_others() {
            let key = Key::Target(name(self));
            woken.configs.extend(found(&caches.configs, &key));
            woken.batches.extend(found(&caches.batches, &key));
            woken.restores.extend(found(&caches.restores, &key));
        }
    }
}

impl Wakes for BackupBlueprint {
    fn wake(&self, change: Change, caches: &Caches, woken: &Woken) {
        if !change.concerns_others() {
            return;
        }
        let name = self.name_any();
        let users = caches.bindings.all().into_iter();
        let users = users.filter(|binding| wanted(binding).contains(&name));
        woken.bindings.extend(users.map(|binding| ObjectRef::from_obj(binding.as_ref())));
    }
}

fn found<K: Cached>(cache: &Cache<K>, key: &Key) -> impl Iterator<Item = ObjectRef<K>> {
    let names = cache.names(key).into_iter();
    names.map(|(namespace, name)| ObjectRef::new(&name).within(&namespace))
}

fn repository(
    reference: Option<&RepositoryRef>,
    user: &ObjectMeta,
) -> Option<ObjectRef<Repository>> {
    let own = user.namespace.as_deref().unwrap_or_default();
    let reference = reference?;
    Some(ObjectRef::new(&reference.name).within(reference.namespace_or(own)))
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
