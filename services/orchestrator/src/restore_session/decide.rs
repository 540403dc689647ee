//! The order in which a restore is looked at. Pure.

use chrono::{DateTime, TimeDelta, Utc};
use coffer_api::{
    RestoreSession,
    condition::{self, SUCCEEDED},
    duration, names,
    restore_session::{HostRestorePhase, RestorePhase, RestoreSessionStatus},
    time::{from_clock, to_clock},
};
use kube::ResourceExt;

use crate::{
    phase,
    plan::{Action, Plan},
    settings::Settings,
    summary,
};

use super::{follow, gather::Facts, start};

/// Where a restore stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It has no Job yet.
    Waiting,
    /// It has a Job.
    Started,
    /// Nothing more will happen to the data.
    Settled,
    /// Its phase is final.
    Final,
}

/// Where a restore stands, by its status.
#[must_use]
pub fn stage(object: &RestoreSession) -> Stage {
    stage_of(object.status.as_ref())
}

/// Where a restore with this status stands.
#[must_use]
pub fn stage_of(status: Option<&RestoreSessionStatus>) -> Stage {
    let Some(status) = status else { return Stage::Waiting };
    if status.phase.is_some_and(RestorePhase::is_final) {
        return Stage::Final;
    }
    let over = status
        .stats
        .iter()
        .any(|host| host.phase.is_some_and(|phase| phase != HostRestorePhase::Running));
    if over
        || condition::DEADLINE_EXCEEDED.holds(&status.conditions)
        || condition::RESTORE_EXECUTOR_ENSURED.fails(&status.conditions)
        || condition::PRE_RESTORE_HOOK.fails(&status.conditions)
    {
        Stage::Settled
    } else if condition::RESTORE_EXECUTOR_ENSURED.holds(&status.conditions) {
        Stage::Started
    } else {
        Stage::Waiting
    }
}

/// Decides.
#[must_use]
pub fn decide(
    object: &RestoreSession,
    facts: &Facts,
    now: DateTime<Utc>,
    settings: &Settings,
) -> Plan<RestoreSessionStatus> {
    let ours = object.finalizers().iter().any(|name| name == names::FINALIZER);
    if object.metadata.deletion_timestamp.is_some() {
        let mut actions = vec![Action::ForgetProgress];
        if ours {
            actions.push(Action::RemoveFinalizer(names::FINALIZER));
        }
        return Plan { actions, ..Plan::nothing() };
    }
    if !ours {
        return Plan { actions: vec![Action::AddFinalizer(names::FINALIZER)], ..Plan::nothing() };
    }
    match stage(object) {
        Stage::Final => Plan::nothing(),
        Stage::Settled => follow::finish(object, facts, now),
        Stage::Started => follow::follow(object, facts, now, settings),
        Stage::Waiting => start::start(object, facts, now, settings),
    }
}

/// Computes the phase and, once, the duration.
pub fn conclude(object: &RestoreSession, status: &mut RestoreSessionStatus, now: DateTime<Utc>) {
    let phase = phase::restore(status);
    status.phase = Some(phase);
    if phase.is_final() && status.session_duration.is_none() {
        status.session_duration = Some(duration::seconds(age(object, now)));
    }
    let summary = summary::restore(status);
    let at = from_clock(now);
    condition::sum_up(&mut status.conditions, SUCCEEDED, summary, object.metadata.generation, at);
}

/// Time since the restore was asked for.
#[must_use]
pub fn age(object: &RestoreSession, now: DateTime<Utc>) -> std::time::Duration {
    let created = object.metadata.creation_timestamp.as_ref().map_or(now, to_clock);
    (now - created).to_std().unwrap_or_default()
}

/// True for a restore that a batch made, and gave what was left of the batch's time.
#[must_use]
pub fn is_of_batch(object: &RestoreSession) -> bool {
    let owners = object.owner_references();
    owners.iter().any(|owner| owner.kind == "RestoreBatch" && owner.controller == Some(true))
}

/// When a restore has to be done: counted from its start, since before that it may wait for what is missing. A batch has to
/// end, and its others may wait for this one: its time is counted from the beginning.
#[must_use]
pub fn deadline(object: &RestoreSession, now: DateTime<Utc>, settings: &Settings) -> DateTime<Utc> {
    if let Some(deadline) = object.status.as_ref().and_then(|s| s.session_deadline.as_ref()) {
        return to_clock(deadline);
    }
    let text = object.spec.time_out.as_deref();
    let span =
        text.and_then(|text| duration::parse(text).ok()).unwrap_or(settings.default_time_out);
    let created = object.metadata.creation_timestamp.as_ref().filter(|_| is_of_batch(object));
    created.map_or(now, to_clock) + TimeDelta::from_std(span).unwrap_or(TimeDelta::days(1))
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
