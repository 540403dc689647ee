//! The rules for Repositories. Pure.

use chrono::{DateTime, Utc};
use coffer_api::{
    Repository,
    condition::{self, Condition, READY},
    names,
    repository::RepositoryStatus,
    session,
    time::from_clock,
};
use kube::ResourceExt;

use crate::{
    plan::{Action, Call, Lookup, Plan, Requeue},
    policy,
    settings::Settings,
    summary,
};

use super::gather::Facts;

/// Decides. A call, if any, comes before the actions: with `wipeOut` the finalizer goes after the data.
#[must_use]
pub fn decide(
    object: &Repository,
    facts: &Facts,
    now: DateTime<Utc>,
    settings: &Settings,
) -> Plan<RepositoryStatus> {
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
    let complete = conditions(object, facts, now, &mut status.conditions);
    let again = Requeue::At(now + settings.missing_retry);
    Plan::status(status, if complete { Requeue::OnChange } else { again })
}

/// Whether it can be used; false when something is missing that may appear.
fn conditions(
    object: &Repository,
    facts: &Facts,
    now: DateTime<Utc>,
    all: &mut Vec<Condition>,
) -> bool {
    let (at, generation) = (from_clock(now), object.metadata.generation);
    let mut set = |new: Condition| condition::set(all, new.of(generation));
    let home = object.namespace().unwrap_or_default();
    let secret = format!("{home}/{}", object.spec.backend.storage_secret_name);
    set(match &facts.secret {
        Lookup::Found(()) => {
            condition::BACKEND_SECRET_FOUND.is_true(format!("Secret {secret} exists"), at.clone())
        }
        Lookup::Missing => condition::BACKEND_SECRET_FOUND.is_false(
            format!(
                "Secret {secret} is not found: create it, or change spec.backend.storageSecretName"
            ),
            at.clone(),
        ),
        Lookup::Unknown(why) => condition::BACKEND_SECRET_FOUND.is_unknown(why, at.clone()),
    });
    set(match policy::one_backend(object) {
        Ok(()) => condition::VALIDATION_PASSED.is_true("the spec can be used", at.clone()),
        Err(why) => condition::VALIDATION_PASSED.is_false(why, at.clone()),
    });
    let summary = summary::usable(all);
    condition::sum_up(all, READY, summary, generation, at);
    facts.secret.found().is_some()
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

    fn look(object: &Repository, facts: &Facts) -> Plan<RepositoryStatus> {
        decide(object, facts, DateTime::UNIX_EPOCH, &Settings::default())
    }

    #[test]
    fn it_is_ready_when_it_can_be_used() {
        let ready = |object: &Repository, secret| {
            let plan = look(object, &Facts { references: vec![], secret });
            let conditions = plan.status.unwrap().conditions;
            let last = conditions.last().unwrap().clone();
            assert_eq!((last.kind.as_str(), last.observed_generation), ("Ready", Some(3)));
            (last.status, last.reason, plan.requeue)
        };
        let (status, reason, requeue) = ready(&repository(), Lookup::Found(()));
        assert_eq!((status, reason.as_str()), (condition::Status::True, "Ready"));
        assert_eq!(requeue, Requeue::OnChange);
        let (status, reason, requeue) = ready(&repository(), Lookup::Missing);
        assert_eq!(
            (status, reason.as_str()),
            (condition::Status::False, "BackendSecretNotAvailable")
        );
        assert!(matches!(requeue, Requeue::At(_)));
        let mut nowhere = repository();
        nowhere.spec.backend.s3 = None;
        let (status, reason, _) = ready(&nowhere, Lookup::Found(()));
        assert_eq!(
            (status, reason.as_str()),
            (condition::Status::False, "ResourceValidationFailed")
        );
    }

    fn deleted(mut repository: Repository) -> Repository {
        repository.metadata.deletion_timestamp =
            Some(coffer_api::time::from_clock(chrono::DateTime::UNIX_EPOCH));
        repository
    }

    #[test]
    fn references_are_those_who_use_it() {
        let facts = Facts {
            references: vec![reference("BackupConfiguration", "demo", "orders")],
            secret: Lookup::Found(()),
        };
        let status = look(&repository(), &facts).status.unwrap();
        assert_eq!(status.observed_generation, Some(3));
        assert_eq!(status.references, facts.references);
        let mut fresh = repository();
        fresh.metadata.finalizers = None;
        assert!(matches!(look(&fresh, &facts).actions[..], [Action::AddFinalizer("stash")]));
    }

    #[test]
    fn data_goes_only_when_it_was_asked_for() {
        let plan = look(&deleted(repository()), &Facts::default());
        assert!(matches!(plan.call, Some(Call::Wipe { .. })));
        assert!(matches!(plan.actions[..], [Action::RemoveFinalizer("stash")]));
        let mut kept = deleted(repository());
        kept.spec.wipe_out = false;
        assert_eq!(look(&kept, &Facts::default()).call, None);
    }
}
