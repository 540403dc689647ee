//! The conditions of a batch and of its members, its phase, and the session that is due. Pure.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use coffer_api::{
    BackupBatch, BackupConfiguration,
    backup_batch::{BackupBatchStatus, MemberConditions},
    backup_configuration::BackupConfigurationStatus,
    condition::{self, Condition},
    hook::Handler,
    target::TargetRef,
    time::from_clock,
};
use kube::ResourceExt;

use crate::{
    backup_configuration::{
        decide::{conclude, conditions, validate},
        gather::Facts,
        run,
    },
    backup_session::batch::{self, Batch},
    hook,
    plan::{Lookup, Plan, Requeue},
    policy,
    settings::Settings,
    variables,
};

/// Decides about a batch, of whose members these are the facts, in their order.
#[must_use]
pub(super) fn decide(
    object: &BackupBatch,
    facts: &[Facts],
    now: DateTime<Utc>,
    settings: &Settings,
) -> Plan<BackupBatchStatus> {
    let batch = batch::parts(object);
    let generation = object.metadata.generation;
    let at = from_clock(now);
    let old = object.status.clone().unwrap_or_default();
    let mut all = old.conditions.clone();
    let mut members = vec![];
    let mut wrong: Vec<String> = whole(object, &batch).err().into_iter().collect();
    let mut complete = !batch.members.is_empty();
    for (number, (member, facts)) in batch.members.iter().zip(facts).enumerate() {
        let target = reference(member);
        let before = old.member_conditions.iter().find(|known| known.target == target);
        let mut own = before.map(|known| known.conditions.clone()).unwrap_or_default();
        // Said of the member: whatever the last member's pass said of the batch is said of it.
        let mut said: Vec<Condition> = own.clone();
        complete &= conditions(member, facts, now, &mut said);
        for new in said {
            if new.kind == condition::BACKUP_TARGET_FOUND.name {
                condition::set(&mut own, new);
            } else if new.kind == condition::VALIDATION_PASSED.name {
                if condition::VALIDATION_PASSED.fails(std::slice::from_ref(&new)) {
                    wrong.push(format!("member {number} ({}): {}", target.name, new.message));
                }
            } else if number == 0 {
                condition::set(&mut all, new);
            }
        }
        members.push(MemberConditions { target, conditions: own });
    }
    if let (Some(_), true) = (facts.first(), known(facts)) {
        let valid = if wrong.is_empty() {
            condition::VALIDATION_PASSED.is_true("the spec can be executed", at)
        } else {
            condition::VALIDATION_PASSED.is_false(wrong.join("; "), at)
        };
        condition::set(&mut all, valid.of(generation));
    } else if batch.members.is_empty() {
        let none = condition::VALIDATION_PASSED.is_false(wrong.join("; "), at).of(generation);
        condition::set(&mut all, none);
    }
    let mut actions = vec![];
    let mut requeue =
        if complete { Requeue::OnChange } else { Requeue::At(now + settings.missing_retry) };
    if let Some((member, facts)) = batch.members.first().zip(together(facts)) {
        let run = run::decide(member, facts.seen(), now, settings, &mut all);
        actions.extend(run.actions(batch::KIND, member));
        if let Some(next) = run.next {
            requeue = requeue.or_at(next);
        }
    }
    let mut status = BackupConfigurationStatus { conditions: all, ..Default::default() };
    conclude(&mut status, generation, now);
    let BackupConfigurationStatus { observed_generation, phase, conditions } = status;
    let status =
        BackupBatchStatus { observed_generation, phase, conditions, member_conditions: members };
    Plan { actions, ..Plan::status(status, requeue) }
}

/// The target as it is written down, with its namespace.
fn reference(member: &BackupConfiguration) -> TargetRef {
    let namespace = member.namespace().unwrap_or_default();
    let target = member.spec.target.as_ref().map(|t| t.reference.clone()).unwrap_or_default();
    TargetRef { namespace: target.namespace_or(&namespace).to_owned(), ..target }
}

fn known(facts: &[Facts]) -> bool {
    facts.iter().all(|f| f.repository.found().is_some() && f.secret.found().is_some())
}

/// What was found for all members: a schedule comes into force once every target was found.
fn together(facts: &[Facts]) -> Option<Facts> {
    let missing = facts.iter().find(|facts| !matches!(facts.target, Lookup::Found(_)));
    missing.or_else(|| facts.first()).cloned()
}

/// All that can be said without executing it, of members of whom these are the facts.
///
/// # Errors
/// Names what is wrong, and with which member.
pub(crate) fn wrong(object: &BackupBatch, facts: &[Facts]) -> Result<(), String> {
    let batch = batch::parts(object);
    let namespace = object.namespace().unwrap_or_default();
    let members = batch.members.iter().zip(facts).enumerate().map(|(number, (member, facts))| {
        let said = validate(member, facts, &namespace).map(|_| ());
        said.map_err(|why| format!("member {number} ({}): {why}", reference(member).name))
    });
    policy::all(std::iter::once(whole(object, &batch)).chain(members))
}

/// What concerns more than one member.
fn whole(object: &BackupBatch, batch: &Batch) -> Result<(), String> {
    let mut wrong = vec![];
    if batch.members.is_empty() {
        wrong.push("spec.members is empty: name the targets".to_owned());
    }
    let order = object.spec.execution_order.as_str();
    if !matches!(order, "" | "Parallel" | "Sequential") {
        wrong.push(format!("spec.executionOrder {order:?} is none: Parallel or Sequential"));
    }
    let mut hosts = BTreeMap::new();
    for (number, member) in batch.members.iter().enumerate() {
        let alias = member.spec.target.as_ref().map_or("", |target| target.alias.as_str());
        let host = variables::host(alias);
        if let Some(other) = hosts.insert(host.to_owned(), number) {
            wrong.push(format!(
                "members {other} and {number} are both host {host} of the Repository: give each a target.alias of its own"
            ));
        }
    }
    for (at, handler) in global(batch) {
        if let Err(why) = hook::check_global(at, &handler) {
            wrong.push(why);
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("; ")) }
}

fn global(batch: &Batch) -> Vec<(&'static str, Handler)> {
    let hooks = batch.hooks.clone().unwrap_or_default();
    let pre = hooks.pre_backup.map(|pre| ("spec.hooks.preBackup", pre));
    let post = hooks.post_backup.map(|post| ("spec.hooks.postBackup", hook::handler(&post)));
    pre.into_iter().chain(post).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Action;
    use coffer_api::{Repository, backup_configuration::InvokerPhase};
    use serde_json::json;

    fn batch() -> BackupBatch {
        let member = |name: &str| {
            json!({"task": {"name": "t"}, "target": {"alias": name, "ref": {
            "apiVersion": "appcatalog.appscode.com/v1alpha1", "kind": "AppBinding", "name": name}}})
        };
        serde_json::from_value(json!({
            "apiVersion": "stash.appscode.com/v1beta1", "kind": "BackupBatch",
            "metadata": {"name": "shop", "namespace": "demo", "uid": "u", "generation": 2,
                "finalizers": ["stash.appscode.com"],
                "creationTimestamp": "2026-11-23T09:30:00Z"},
            "spec": {"schedule": "@hourly", "repository": {"name": "repo"}, "members": [member("a"), member("b")],
                "retentionPolicy": {"name": "x", "keepLast": 1, "prune": true}}}))
        .unwrap()
    }

    fn facts(found: [bool; 2]) -> Vec<Facts> {
        let repository: Repository = serde_json::from_value(json!({
            "apiVersion": "stash.appscode.com/v1alpha1", "kind": "Repository",
            "metadata": {"name": "repo", "namespace": "demo"},
            "spec": {"backend": {"s3": {"endpoint": "e", "bucket": "b"}}}}))
        .unwrap();
        let binding = serde_json::from_value(json!({"apiVersion": "appcatalog.appscode.com/v1alpha1",
            "kind": "AppBinding", "metadata": {"name": "a"}, "spec": {"clientConfig": {"url": "redis://a:1"}}}))
        .unwrap();
        let target = Lookup::Found(binding);
        let one = |found: bool| Facts {
            repository: Lookup::Found(repository.clone()),
            secret: Lookup::Found(()),
            namespace_labels: BTreeMap::new(),
            target: if found { target.clone() } else { Lookup::Missing },
            neighbours: vec![],
            sessions: vec![],
        };
        found.map(one).to_vec()
    }

    fn pass(object: &mut BackupBatch, facts: &[Facts], now: &str) -> Plan<BackupBatchStatus> {
        let plan = decide(object, facts, now.parse().unwrap(), &Settings::default());
        object.status.clone_from(&plan.status);
        plan
    }

    #[test]
    fn a_batch_is_ready_when_all_its_members_are() {
        let mut object = batch();
        pass(&mut object, &facts([true, false]), "2026-11-23T09:40:00Z");
        let status = object.status.clone().unwrap();
        assert_eq!(status.phase, Some(InvokerPhase::NotReady));
        let found = |n: usize| {
            condition::BACKUP_TARGET_FOUND.status(&status.member_conditions[n].conditions)
        };
        assert_eq!(found(0), Some(condition::Status::True));
        assert_eq!(found(1), Some(condition::Status::False));
        pass(&mut object, &facts([true, true]), "2026-11-23T09:41:00Z");
        assert_eq!(object.status.as_ref().unwrap().phase, Some(InvokerPhase::Ready));
        let session = |actions: Vec<Action>| {
            let found = actions.into_iter().find_map(|action| match action {
                Action::CreateSession(session) => Some(*session),
                _ => None,
            });
            found.expect("a session is due")
        };
        let now = "2026-11-23T10:00:00Z";
        let member = &batch::parts(&object).members[0];
        let first = run::due(batch::KIND, member, &[], now.parse().unwrap(), &Settings::default());
        let session_of_pass = session(pass(&mut object, &facts([true, true]), now).actions);
        let session = session(first);
        assert_eq!(session, session_of_pass);
        assert_eq!(session.spec.invoker.kind, "BackupBatch");
        assert_eq!(session.owner_references()[0].kind, "BackupBatch");
    }

    #[test]
    fn members_that_get_in_each_others_way_are_refused() {
        type Change = fn(&mut BackupBatch);
        let cases: [(Change, &str); 4] = [
            (|b| b.spec.members.clear(), "spec.members is empty"),
            (|b| b.spec.execution_order = "Random".into(), "is none: Parallel or Sequential"),
            (
                |b| b.spec.members[1].target.as_mut().unwrap().alias = "a".into(),
                "members 0 and 1 are both host a",
            ),
            (
                |b| {
                    b.spec.hooks =
                        serde_json::from_value(json!({"preBackup": {"exec": {"command": ["x"]}}}))
                            .unwrap()
                },
                "spec.hooks.preBackup: exec",
            ),
        ];
        for (change, why) in cases {
            let mut object = batch();
            change(&mut object);
            let count = object.spec.members.len();
            let status = pass(&mut object, &facts([true, true])[..count], "2026-11-23T09:40:00Z")
                .status
                .unwrap();
            let valid = condition::VALIDATION_PASSED.find(&status.conditions).unwrap();
            assert!(valid.message.contains(why), "{}", valid.message);
        }
    }
}
