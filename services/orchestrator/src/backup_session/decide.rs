//! The order in which a session is looked at. Pure.

use chrono::{DateTime, TimeDelta, Utc};
use coffer_api::{
    BackupSession,
    backup_session::{BackupSessionStatus, BackupTargetStatus, SessionPhase},
    condition::{self, SUCCEEDED},
    duration,
    time::{from_clock, to_clock},
};
use kube::ResourceExt;

use crate::{
    phase,
    plan::{Action, Plan, Requeue},
    settings::Settings,
    summary,
};

use super::{draft, finish, follow, gather::Facts, start};

/// Where a session stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It has no Job yet.
    Waiting,
    /// It has a Job.
    Started,
    /// Nothing more will happen to its data.
    Settled,
    /// Its phase is final.
    Final,
}

/// Where a session stands, by its status.
#[must_use]
pub fn stage(object: &BackupSession) -> Stage {
    stage_of(object.status.as_ref())
}

/// Where a session with this status stands.
#[must_use]
pub fn stage_of(status: Option<&BackupSessionStatus>) -> Stage {
    let Some(status) = status else { return Stage::Waiting };
    if status.phase.is_some_and(SessionPhase::is_final) {
        return Stage::Final;
    }
    let at = |stage: Stage| move |target: &BackupTargetStatus| target_stage(Some(target)) == stage;
    if condition::GLOBAL_PRE_BACKUP_HOOK.fails(&status.conditions)
        || (!status.targets.is_empty() && status.targets.iter().all(at(Stage::Settled)))
    {
        return Stage::Settled;
    }
    if status.targets.iter().any(at(Stage::Started)) { Stage::Started } else { Stage::Waiting }
}

/// Where one target of a session stands; none when it is not written down yet.
#[must_use]
pub fn target_stage(target: Option<&BackupTargetStatus>) -> Stage {
    let Some(target) = target else { return Stage::Waiting };
    if phase::is_over(phase::target(target)) {
        Stage::Settled
    } else if condition::BACKUP_EXECUTOR_ENSURED.holds(&target.conditions) {
        Stage::Started
    } else {
        Stage::Waiting
    }
}

/// True for an action that only the start of a session has.
#[must_use]
pub fn is_start(action: &Action) -> bool {
    matches!(
        action,
        Action::CreateJob(_)
            | Action::CreateClaim(_)
            | Action::CreateSessionSecret(_)
            | Action::ApplyServiceAccount(_)
    )
}

/// Decides.
#[must_use]
pub fn decide(
    object: &BackupSession,
    facts: &Facts,
    now: DateTime<Utc>,
    settings: &Settings,
) -> Plan<BackupSessionStatus> {
    if object.metadata.deletion_timestamp.is_some() {
        // Its Job and Secret go by owner references.
        return Plan { actions: vec![Action::ForgetProgress], ..Plan::nothing() };
    }
    match stage(object) {
        Stage::Final => after(object, facts, now),
        Stage::Settled => finish::finish(object, facts, now),
        Stage::Started | Stage::Waiting => {
            let targets = object.status.as_ref().map(|status| status.targets.as_slice());
            match target_stage(targets.unwrap_or_default().get(facts.at)) {
                Stage::Started => follow::follow(object, facts, now, settings),
                Stage::Waiting => start::start(object, facts, now, settings),
                // Others are still at work.
                Stage::Settled | Stage::Final => finish::one_is_over(object, facts, now),
            }
        }
    }
}

/// What is left to do for a session that is final: history after a skip, another attempt after a failure.
fn after(object: &BackupSession, facts: &Facts, now: DateTime<Utc>) -> Plan<BackupSessionStatus> {
    let status = object.status.clone().unwrap_or_default();
    let Some(config) = &facts.invoker else { return Plan::nothing() };
    match status.phase {
        Some(SessionPhase::Skipped)
            if condition::BACKUP_HISTORY_CLEANED.find(&status.conditions).is_none() =>
        {
            Plan::call(finish::clean_history(object, facts))
        }
        Some(SessionPhase::Failed) => {
            let left = object.spec.retry_left.unwrap_or(0);
            let retry = config.spec.retry_config.as_ref();
            let (Some(retry), true, true) =
                (retry, left > 0, status.retried.is_none() && !follow::was_cancelled(&status))
            else {
                return Plan::nothing();
            };
            let Some(next) = status.next_retry.as_ref().map(to_clock) else {
                let delay = retry.delay.as_deref().and_then(|text| duration::parse(text).ok());
                let delay = TimeDelta::from_std(delay.unwrap_or_default()).unwrap_or_default();
                let mut status = status;
                status.next_retry = Some(from_clock(now + delay));
                return Plan::status(status, Requeue::At(now + delay));
            };
            if now < next {
                return Plan { requeue: Requeue::At(next), ..Plan::nothing() };
            }
            // Named by the instant that was written down, so that a repeat makes the same one.
            let name = coffer_api::names::session(&config.name_any(), next);
            let name = if name == object.name_any() { format!("{name}-r{left}") } else { name };
            let session = draft::named(facts.kind(), config, name, left - 1);
            let mut status = status;
            status.retried = Some(true);
            Plan {
                actions: vec![Action::CreateSession(Box::new(session))],
                ..Plan::status(status, Requeue::OnChange)
            }
        }
        Some(_) | None => Plan::nothing(),
    }
}

/// Computes phases and, once, the duration.
pub fn conclude(object: &BackupSession, status: &mut BackupSessionStatus, now: DateTime<Utc>) {
    for target in &mut status.targets {
        target.phase = Some(phase::target(target));
    }
    let phase = phase::backup(status);
    status.phase = Some(phase);
    if phase.is_final() && status.session_duration.is_none() {
        status.session_duration = Some(duration::seconds(age(object, now)));
    }
    let summary = summary::backup(status);
    let at = from_clock(now);
    condition::sum_up(&mut status.conditions, SUCCEEDED, summary, object.metadata.generation, at);
}

/// Time since the session was asked for.
#[must_use]
pub fn age(object: &BackupSession, now: DateTime<Utc>) -> std::time::Duration {
    let created = object.metadata.creation_timestamp.as_ref().map_or(now, to_clock);
    (now - created).to_std().unwrap_or_default()
}

/// When a session has to be done: what its status says, else its invoker's `timeOut`, else the default.
#[must_use]
pub fn deadline(
    object: &BackupSession,
    facts: &Facts,
    now: DateTime<Utc>,
    settings: &Settings,
) -> DateTime<Utc> {
    if let Some(deadline) = object.status.as_ref().and_then(|s| s.session_deadline.as_ref()) {
        return to_clock(deadline);
    }
    let text = facts.invoker.as_ref().and_then(|config| config.spec.time_out.as_deref());
    let span =
        text.and_then(|text| duration::parse(text).ok()).unwrap_or(settings.default_time_out);
    let created = object.metadata.creation_timestamp.as_ref().map_or(now, to_clock);
    created + TimeDelta::from_std(span).unwrap_or(TimeDelta::days(1))
}

#[cfg(test)]
mod tests;
