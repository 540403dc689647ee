//! The rules for Repositories. Pure.

use coffer_api::{Repository, names, repository::RepositoryStatus, session};
use kube::ResourceExt;

use crate::plan::{Action, Call, Plan, Requeue};

use super::gather::Facts;

/// Decides. A call, if any, comes before the actions: with `wipeOut` the finalizer goes after the data.
#[must_use]
pub fn decide(object: &Repository, facts: &Facts) -> Plan<RepositoryStatus> {
    let ours = object.finalizers().iter().any(|name| name == names::REPOSITORY_FINALIZER);
    if object.metadata.deletion_timestamp.is_some() {
        if !ours {
            return Plan::nothing();
        }
        // A backend that names no place, or several, holds nothing that could be told apart.
        let wipe = object.spec.wipe_out && object.spec.backend.places().len() == 1;
        let repository = session::Repository {
            namespace: object.namespace().unwrap_or_default(),
            name: object.name_any(),
        };
        return Plan {
            actions: vec![Action::RemoveFinalizer(names::REPOSITORY_FINALIZER)],
            call: wipe.then_some(Call::Wipe { repository }),
            ..Plan::nothing()
        };
    }
    if !ours {
        return Plan {
            actions: vec![Action::AddFinalizer(names::REPOSITORY_FINALIZER)],
            ..Plan::nothing()
        };
    }
    let mut status = object.status.clone().unwrap_or_default();
    status.observed_generation = object.metadata.generation;
    status.references.clone_from(&facts.references);
    Plan::status(status, Requeue::OnChange)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::reference;
    use serde_json::json;

    fn repository() -> Repository {
        serde_json::from_value(json!({"apiVersion": "stash.appscode.com/v1alpha1", "kind": "Repository",
            "metadata": {"name": "repo", "namespace": "demo", "generation": 3, "finalizers": ["stash"]},
            "spec": {"backend": {"s3": {"endpoint": "e", "bucket": "b"}}, "wipeOut": true}}))
        .unwrap()
    }

    fn deleted(mut repository: Repository) -> Repository {
        repository.metadata.deletion_timestamp =
            Some(coffer_api::time::from_clock(chrono::DateTime::UNIX_EPOCH));
        repository
    }

    #[test]
    fn references_are_those_who_use_it() {
        let facts = Facts { references: vec![reference("BackupConfiguration", "demo", "orders")] };
        let status = decide(&repository(), &facts).status.unwrap();
        assert_eq!(status.observed_generation, Some(3));
        assert_eq!(status.references, facts.references);
        let mut fresh = repository();
        fresh.metadata.finalizers = None;
        assert!(matches!(decide(&fresh, &facts).actions[..], [Action::AddFinalizer("stash")]));
    }

    #[test]
    fn data_goes_only_when_it_was_asked_for() {
        let plan = decide(&deleted(repository()), &Facts::default());
        assert!(matches!(plan.call, Some(Call::Wipe { .. })));
        assert!(matches!(plan.actions[..], [Action::RemoveFinalizer("stash")]));
        let mut kept = deleted(repository());
        kept.spec.wipe_out = false;
        assert_eq!(decide(&kept, &Facts::default()).call, None);
    }
}
