//! What became of an object between two words of a watch. Pure.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// A change of an object.
#[derive(Clone, Debug)]
pub struct Changed<K> {
    /// The object now; of one that is gone, its last state.
    pub object: Arc<K>,
    /// What it was before, if it was there and still is.
    pub before: Option<Arc<K>>,
    /// What became of it.
    pub change: Change,
}

impl<K> Changed<K> {
    /// The object as it was and as it is: whom it named concerns the change as much as whom it names.
    pub fn both(&self) -> impl Iterator<Item = &K> {
        self.before.as_deref().into_iter().chain([self.object.as_ref()])
    }
}

/// What became of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is new, its spec changed, or it is about to go.
    Spec,
    /// Something of its metadata changed that somebody may have a reason to change.
    Metadata,
    /// Only its status changed.
    Status,
    /// It is gone.
    Gone,
}

impl Change {
    /// What became of an object that is still there.
    pub(super) fn between(before: &ObjectMeta, now: &ObjectMeta) -> Self {
        // The generation follows the spec.
        let spec = now.generation.is_some()
            && before.generation == now.generation
            && before.uid == now.uid
            && before.deletion_timestamp == now.deletion_timestamp;
        let metadata = before.labels == now.labels
            && before.annotations == now.annotations
            && before.finalizers == now.finalizers
            && before.owner_references == now.owner_references;
        match (spec, metadata) {
            (false, _) => Self::Spec,
            (true, false) => Self::Metadata,
            (true, true) => Self::Status,
        }
    }
}
