//! The conditions of a BackupConfiguration in their order, its phase, and the session that is due. Pure.

use chrono::{DateTime, Utc};
use coffer_api::{
    BackupConfiguration,
    backup_configuration::BackupConfigurationStatus,
    condition::{self, Condition, READY, Status},
    names,
    time::from_clock,
};
use kube::ResourceExt;

use crate::{
    plan::{Action, Lookup, Notice, Plan, Requeue},
    policy,
    settings::Settings,
    summary, variables,
};

use super::{
    KIND,
    gather::{self, Facts, Neighbour},
    run,
};

/// Decides.
#[must_use]
pub fn decide(
    object: &BackupConfiguration,
    facts: &Facts,
    now: DateTime<Utc>,
    settings: &Settings,
) -> Plan<BackupConfigurationStatus> {
    let ours = object.finalizers().iter().any(|name| name == names::FINALIZER);
    if object.metadata.deletion_timestamp.is_some() {
        // Sessions, their Jobs and the ServiceAccount go by owner references, the Repository's reference by itself.
        let mut plan = Plan::nothing();
        if ours {
            plan.actions.push(Action::RemoveFinalizer(names::FINALIZER));
        }
        return plan;
    }
    if !ours {
        let mut plan = Plan::nothing();
        plan.actions.push(Action::AddFinalizer(names::FINALIZER));
        return plan;
    }
    let mut status = object.status.clone().unwrap_or_default();
    let again = Requeue::At(now + settings.missing_retry);
    let mut requeue = if conditions(object, facts, now, &mut status.conditions) {
        Requeue::OnChange
    } else {
        again
    };
    let mut actions = vec![];
    let failed_before = condition::CRON_JOB_CREATED.fails(&status.conditions);
    let run = run::decide(object, facts.seen(), now, settings, &mut status.conditions);
    let refused = condition::CRON_JOB_CREATED.find(&status.conditions);
    if let Some(refused) = refused.filter(|c| c.status == Status::False && !failed_before) {
        let message = refused.message.clone();
        let notice = Notice { warning: true, reason: "CronJob Creation Failed", message };
        actions.push(Action::Emit(notice));
    }
    let made = run.actions(KIND, object);
    actions.extend(run.trigger.into_iter().chain(made));
    if let Some(next) = run.next {
        requeue = requeue.or_at(next);
    }
    conclude(&mut status, object.metadata.generation, now);
    Plan { actions, status: Some(status), call: None, requeue }
}

/// Sets the conditions up to the target's; false when something is missing.
pub(crate) fn conditions(
    object: &BackupConfiguration,
    facts: &Facts,
    now: DateTime<Utc>,
    all: &mut Vec<Condition>,
) -> bool {
    let at = from_clock(now);
    let generation = object.metadata.generation;
    let mut set = |new: Condition| condition::set(all, new.of(generation));
    let namespace = object.namespace().unwrap_or_default();
    let reference = object.spec.repository.clone().unwrap_or_default();
    let repository_name = format!("{}/{}", reference.namespace_or(&namespace), reference.name);
    let found = match &facts.repository {
        Lookup::Found(_) => condition::REPOSITORY_FOUND
            .is_true(format!("Repository {repository_name} exists"), at.clone()),
        Lookup::Missing if reference.name.is_empty() => condition::REPOSITORY_FOUND
            .is_false("spec.repository is missing: name a Repository", at.clone()),
        Lookup::Missing => condition::REPOSITORY_FOUND.is_false(
            format!(
                "Repository {repository_name} is not found: create it, or change spec.repository"
            ),
            at.clone(),
        ),
        Lookup::Unknown(why) => condition::REPOSITORY_FOUND.is_unknown(why, at.clone()),
    };
    set(found);
    let Lookup::Found(repository) = &facts.repository else { return false };
    let secret_name = format!(
        "{}/{}",
        repository.namespace().unwrap_or_default(),
        repository.spec.backend.storage_secret_name
    );
    let secret = match &facts.secret {
        Lookup::Found(()) => condition::BACKEND_SECRET_FOUND.is_true(format!("Secret {secret_name} exists"), at.clone()),
        Lookup::Missing => condition::BACKEND_SECRET_FOUND.is_false(
            format!("Secret {secret_name} is not found: create it, or change spec.backend.storageSecretName of Repository {repository_name}"),
            at.clone(),
        ),
        Lookup::Unknown(why) => condition::BACKEND_SECRET_FOUND.is_unknown(why, at.clone()),
    };
    set(secret);
    if facts.secret.found().is_none() {
        return false;
    }
    let valid = validate(object, facts, &namespace);
    set(match &valid {
        Ok(notes) => condition::VALIDATION_PASSED
            .is_true(format!("the spec can be executed{notes}"), at.clone()),
        Err(why) => condition::VALIDATION_PASSED.is_false(why, at.clone()),
    });
    let target = object.spec.target.as_ref().map(|t| t.reference.clone()).unwrap_or_default();
    let target_name = format!("{}/{}", target.namespace_or(&namespace), target.name);
    set(match &facts.target {
        Lookup::Found(_) => {
            condition::BACKUP_TARGET_FOUND.is_true(format!("AppBinding {target_name} exists"), at)
        }
        Lookup::Missing => condition::BACKUP_TARGET_FOUND.is_false(
            format!("AppBinding {target_name} is not found: create it, or change spec.target.ref"),
            at,
        ),
        Lookup::Unknown(why) => condition::BACKUP_TARGET_FOUND.is_unknown(why, at),
    });
    // What cannot be executed waits for somebody to change it, not for time to pass, but for a neighbour that may go.
    (valid.is_err() && facts.neighbours.is_empty())
        || (valid.is_ok() && facts.target.found().is_some())
}

/// What can be said without executing it; notes on what is accepted but has no effect.
pub(crate) fn validate(
    object: &BackupConfiguration,
    facts: &Facts,
    namespace: &str,
) -> Result<String, String> {
    let spec = &object.spec;
    let repository = facts.repository.found();
    let task = match (spec.task.as_ref().is_some_and(|task| !task.name.is_empty()), &facts.target) {
        (false, Lookup::Found(binding)) => crate::variables::task(
            spec.task.as_ref(),
            binding,
            coffer_api::app_binding::AddonTask::Backup,
        )
        .map(|_| ()),
        _ => Ok(()),
    };
    let delay = spec.retry_config.as_ref().and_then(|retry| retry.delay.as_deref());
    policy::all([
        repository.map_or(Ok(()), |r| policy::may_use(r, namespace, &facts.namespace_labels)),
        repository.map_or(Ok(()), policy::one_backend),
        policy::driver(spec.driver),
        policy::target(spec.target.as_ref().map(|target| &target.reference)),
        own_host(object, facts),
        task,
        run::check(object),
        policy::starting_deadline(spec.starting_deadline_seconds),
        policy::history(spec.backup_history_limit),
        policy::retention(&spec.retention_policy),
        policy::time_out(spec.time_out.as_deref()),
        delay.map_or(Ok(()), |text| {
            coffer_api::duration::parse(text)
                .map(|_| ())
                .map_err(|error| format!("spec.retryConfig.delay: {error}"))
        }),
        policy::backup_hooks(spec.hooks.as_ref(), facts.target.found()),
    ])?;
    let mut notes = String::new();
    if spec.retention_policy.is_empty() {
        notes.push_str("; retentionPolicy has no keep rule, so every snapshot is kept");
    }
    Ok(notes)
}

/// Snapshots are told apart by their host. Two targets under one would be each other's `latest`, and one's retention would
/// forget the other's snapshots. Who was there first goes on.
fn own_host(object: &BackupConfiguration, facts: &Facts) -> Result<(), String> {
    let (own, at) = (gather::order(object), gather::target(object));
    let clash = facts.neighbours.iter().find(|other| other.target != at && other.order < own);
    let Some(Neighbour { order: (_, namespace, name), target }) = clash else { return Ok(()) };
    let alias = object.spec.target.as_ref().map_or("", |target| target.alias.as_str());
    Err(format!(
        "host {} of the Repository is that of AppBinding {}/{}, which BackupConfiguration {namespace}/{name} backs up: give spec.target.alias another name",
        variables::host(alias),
        target.0,
        target.1,
    ))
}

/// The status when the API server refuses the CronJob.
#[must_use]
pub fn refused(
    object: &BackupConfiguration,
    mut status: BackupConfigurationStatus,
    why: &str,
    now: DateTime<Utc>,
) -> BackupConfigurationStatus {
    let generation = object.metadata.generation;
    let refused = condition::CRON_JOB_CREATED.is_false(why, from_clock(now)).of(generation);
    condition::set(&mut status.conditions, refused);
    conclude(&mut status, generation, now);
    status
}

/// Computes the phase, and what it all adds up to.
pub(crate) fn conclude(
    status: &mut BackupConfigurationStatus,
    generation: Option<i64>,
    now: DateTime<Utc>,
) {
    let phase = crate::phase::invoker(&status.conditions);
    status.phase = Some(phase);
    status.observed_generation = generation;
    let summary = summary::ready(&status.conditions, phase);
    condition::sum_up(&mut status.conditions, READY, summary, generation, from_clock(now));
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
