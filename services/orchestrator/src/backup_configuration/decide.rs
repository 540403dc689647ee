//! The conditions of a BackupConfiguration in their order, its phase, and the session that is due. Pure.
//!
//! `CronJobCreated` keeps its name and means that the schedule is in force; its message names the next run. The message
//! changes with every run, with the schedule and with a pause, so its transition time is the instant since when the
//! present schedule is in force: whatever was due between then and now was missed.

use chrono::{DateTime, Utc};
use coffer_api::{
    BackupConfiguration,
    backup_configuration::BackupConfigurationStatus,
    condition::{self, Condition},
    names,
    schedule::Schedule,
    time::{from_clock, to_clock},
};
use kube::ResourceExt;

use crate::{
    backup_session::draft,
    plan::{Action, Lookup, Plan, Requeue},
    policy,
    settings::Settings,
};

use super::gather::Facts;

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
    let due = run_schedule(object, facts, now, settings, &mut status.conditions);
    if let Some(instant) = due.now {
        let session = draft::scheduled(object, instant);
        tracing::info!(session = session.name_any(), %instant, "a session is due");
        actions.push(Action::CreateSession(Box::new(session)));
    }
    if let Some(next) = due.next {
        requeue = requeue.or_at(next);
    }
    status.phase = Some(crate::phase::invoker(&status.conditions));
    status.observed_generation = object.metadata.generation;
    Plan { actions, status: Some(status), call: None, requeue }
}

/// Sets the conditions up to the target's; false when something is missing.
fn conditions(
    object: &BackupConfiguration,
    facts: &Facts,
    now: DateTime<Utc>,
    all: &mut Vec<Condition>,
) -> bool {
    let at = from_clock(now);
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
    condition::set(all, found);
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
    condition::set(all, secret);
    if facts.secret.found().is_none() {
        return false;
    }
    let valid = validate(object, facts, &namespace);
    condition::set(
        all,
        match &valid {
            Ok(notes) => condition::VALIDATION_PASSED
                .is_true(format!("the spec can be executed{notes}"), at.clone()),
            Err(why) => condition::VALIDATION_PASSED.is_false(why, at.clone()),
        },
    );
    let target = object.spec.target.as_ref().map(|t| t.reference.clone()).unwrap_or_default();
    let target_name = format!("{}/{}", target.namespace_or(&namespace), target.name);
    condition::set(
        all,
        match &facts.target {
            Lookup::Found(_) => condition::BACKUP_TARGET_FOUND
                .is_true(format!("AppBinding {target_name} exists"), at),
            Lookup::Missing => condition::BACKUP_TARGET_FOUND.is_false(
                format!(
                    "AppBinding {target_name} is not found: create it, or change spec.target.ref"
                ),
                at,
            ),
            Lookup::Unknown(why) => condition::BACKUP_TARGET_FOUND.is_unknown(why, at),
        },
    );
    // What cannot be executed waits for somebody to change it, not for time to pass.
    valid.is_err() || facts.target.found().is_some()
}

/// What can be said without executing it; notes on what is accepted but has no effect.
fn validate(
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
    let hooks = spec
        .hooks
        .as_ref()
        .is_some_and(|hooks| hooks.pre_backup.is_some() || hooks.post_backup.is_some());
    let delay = spec.retry_config.as_ref().and_then(|retry| retry.delay.as_deref());
    policy::all([
        repository.map_or(Ok(()), |r| policy::may_use(r, namespace, &facts.namespace_labels)),
        repository.map_or(Ok(()), policy::one_backend),
        policy::driver(spec.driver),
        policy::target(spec.target.as_ref().map(|target| &target.reference)),
        task,
        Schedule::parse(&spec.schedule).map(|_| ()).map_err(|error| error.to_string()),
        policy::time_out(spec.time_out.as_deref()),
        delay.map_or(Ok(()), |text| {
            coffer_api::duration::parse(text)
                .map(|_| ())
                .map_err(|error| format!("spec.retryConfig.delay: {error}"))
        }),
        policy::hooks(hooks),
    ])?;
    let mut notes = String::new();
    if spec.retention_policy.is_empty() {
        notes.push_str("; retentionPolicy has no keep rule, so every snapshot is kept");
    }
    if spec.interim_volume_template.is_some() {
        notes.push_str("; interimVolumeTemplate has no use for a Redis and is not created");
    }
    Ok(notes)
}

/// What the schedule says.
#[derive(Default)]
struct Due {
    /// The instant that a session is to be made for.
    now: Option<DateTime<Utc>>,
    /// When to look again.
    next: Option<DateTime<Utc>>,
}

/// Sets the schedule's condition once the target was found, and tells what is due. A schedule that came into force stays
/// so when something goes missing later, as a CronJob would: its sessions then say what is missing.
fn run_schedule(
    object: &BackupConfiguration,
    facts: &Facts,
    now: DateTime<Utc>,
    settings: &Settings,
    all: &mut Vec<Condition>,
) -> Due {
    let kind = condition::CRON_JOB_CREATED;
    let text = object.spec.schedule.trim();
    let schedule = match Schedule::parse(text) {
        Ok(schedule) => schedule,
        Err(error) => {
            condition::set(all, kind.is_false(error.to_string(), from_clock(now)));
            return Due::default();
        }
    };
    let complete = facts.repository.found().is_some()
        && facts.secret.found().is_some()
        && facts.target.found().is_some();
    if !kind.holds(all) && !complete {
        return Due::default();
    }
    if object.spec.paused {
        let message = format!("schedule \"{text}\" is paused: set spec.paused to false to resume");
        condition::set(all, kind.is_true(message, from_clock(now)));
        return Due::default();
    }
    let in_force = format!("schedule \"{text}\" is in force, in UTC; next run ");
    let since = kind
        .find(all)
        .filter(|condition| condition.message.starts_with(&in_force))
        .map_or(now, |condition| to_clock(&condition.last_transition_time));
    let created = object.metadata.creation_timestamp.as_ref().map_or(since, to_clock);
    let last = facts.sessions.iter().filter_map(|name| instant(name)).filter(|at| *at <= now).max();
    let since = since.max(created).max(last.unwrap_or(since));
    let due = schedule.due(since, now, settings.starting_deadline);
    let next = schedule.next(now);
    let run = next.map_or_else(|| "never".to_owned(), |next| next.format("%FT%TZ").to_string());
    condition::set(all, kind.is_true(format!("{in_force}{run}"), from_clock(now)));
    Due { now: due, next }
}

/// The instant that a session was made for, from its name.
fn instant(session: &str) -> Option<DateTime<Utc>> {
    let (_, seconds) = session.rsplit_once('-')?;
    DateTime::from_timestamp(seconds.parse().ok()?, 0)
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
