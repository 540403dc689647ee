//! From `Pending` to a Job: skip, wait, refuse, or start. Pure.

use chrono::{DateTime, TimeDelta, Utc};
use coffer_api::{
    BackupConfiguration, BackupSession,
    backup_configuration::InvokerPhase,
    backup_session::{BackupSessionStatus, BackupTargetStatus, SessionPhase},
    condition::{self, SUCCEEDED},
    target::TargetRef,
    time::{from_clock, to_clock},
};
use kube::ResourceExt;

use crate::{
    apply::CANCELLED_BY,
    gather::Prepared,
    patience,
    plan::{Action, Notice, Plan, Requeue},
    queue::Turn,
    settings::Settings,
    summary,
};

use super::{
    batch,
    decide::{age, conclude, deadline},
    follow,
    gather::Facts,
    hooks,
    launch::{launch, started},
};

/// A session of several invokers waits this long, so that one made at the same moment is seen.
const YOUNG: std::time::Duration = std::time::Duration::from_secs(2);

/// How often a session that waits for its turn says which number it is.
pub const LINE: TimeDelta = TimeDelta::seconds(60);

/// Decides about a session without a Job.
pub(super) fn start(
    object: &BackupSession,
    facts: &Facts,
    now: DateTime<Utc>,
    settings: &Settings,
) -> Plan<BackupSessionStatus> {
    let again = Requeue::At(now + settings.missing_retry);
    let wait = |why: &str| pending(object, facts, now, settings, again, why);
    if facts.worker.job.is_some() {
        // It was made, and we were stopped before that was written down. Whatever has changed since: the Job runs.
        let ends = deadline(object, facts, now, settings);
        return Plan::status(started(object, facts, ends, now), Requeue::At(ends));
    }
    let Some(config) = &facts.invoker else {
        let invoker = &object.spec.invoker;
        if facts.batch.is_some() {
            let why = format!("BackupBatch {} has no member for this target", invoker.name);
            return Plan::status(refused(object, facts, &why, now), Requeue::OnChange);
        }
        // Applied together with its invoker, it may be first.
        if age(object, now) < settings.missing_retry * 2 {
            return wait(&format!("{} {} is not found yet", invoker.kind, invoker.name));
        }
        let why = match invoker.kind.as_str() {
            kind @ ("BackupConfiguration" | batch::KIND) => format!(
                "{kind} {}/{} is not found: create it, then a new BackupSession",
                object.namespace().unwrap_or_default(),
                invoker.name
            ),
            other => {
                format!("invoker kind {other:?} is none: use BackupConfiguration or BackupBatch")
            }
        };
        return Plan::status(refused(object, facts, &why, now), Requeue::OnChange);
    };
    if let Some(who) = object.annotations().get(CANCELLED_BY) {
        return follow::cancelled_before_start(object, facts, who, now);
    }
    if now >= deadline(object, facts, now, settings) {
        return follow::too_late(object, facts, now);
    }
    let namespace = object.namespace().unwrap_or_default();
    let planned = object.status.as_ref().and_then(|status| status.targets.get(facts.at));
    if planned.is_some_and(|planned| planned.reference != reference(Some(config), &namespace)) {
        let why = format!(
            "the members of {} {} were changed while this session ran: make another BackupSession",
            facts.kind(),
            config.name_any()
        );
        return Plan::status(refused(object, facts, &why, now), Requeue::OnChange);
    }
    // A hook that was run is followed by what it was run for.
    if hooks::begun(object.status.as_ref()) {
        return prepared(object, facts, config, now, settings);
    }
    let observed = config.status.clone().unwrap_or_default();
    if observed.observed_generation != config.metadata.generation || observed.phase.is_none() {
        // Nobody has looked at the invoker's present spec; skipping now would be unfair.
        let soon = Requeue::At(now + TimeDelta::seconds(1));
        let why = format!(
            "the present spec of {} {} was not looked at yet",
            facts.kind(),
            config.name_any()
        );
        return pending(object, facts, now, settings, soon, &why);
    }
    if observed.phase != Some(InvokerPhase::Ready) {
        let phase = match observed.phase {
            Some(InvokerPhase::Invalid) => "Invalid",
            Some(InvokerPhase::NotReady | InvokerPhase::Ready) | None => "NotReady",
        };
        let why = observed
            .conditions
            .iter()
            .find(|condition| condition.status != condition::Status::True)
            .map_or_else(String::new, |condition| format!(": {}", condition.message));
        return skip(
            object,
            format!("{} {} is {phase}{why}", facts.kind(), config.name_any()),
            now,
        );
    }
    let running = facts.siblings.iter().find(|session| {
        session.name_any() != object.name_any() && phase_of(session) == Some(SessionPhase::Running)
    });
    if let Some(running) = running {
        return skip(object, format!("BackupSession {} is still running", running.name_any()), now);
    }
    if let Some(why) = rival(object, facts, now).or_else(|| older_sibling(object, facts)) {
        return wait(&why);
    }
    prepared(object, facts, config, now, settings)
}

/// Decides about a session that nothing but its turn and what it needs keeps from having a Job.
fn prepared(
    object: &BackupSession,
    facts: &Facts,
    config: &BackupConfiguration,
    now: DateTime<Utc>,
    settings: &Settings,
) -> Plan<BackupSessionStatus> {
    let again = Requeue::At(now + settings.missing_retry);
    let wait = |why: &str| pending(object, facts, now, settings, again, why);
    if let Some(Turn::Wait(why)) = &facts.turn {
        // It is woken; this is to show how far it has come.
        let later = Requeue::At(now + LINE);
        return pending(object, facts, now, settings, later, why);
    }
    let Some(repository) = &facts.repository else {
        let why = "the Repository is not found: it was deleted a moment ago";
        return Plan::status(refused(object, facts, why, now), Requeue::OnChange);
    };
    if let Some(hook) = hooks::before_all(object, facts, now, settings) {
        return Plan::call(hook);
    }
    match &facts.prepared {
        Some(Prepared::Ready(preparation)) => {
            match hooks::before(object, facts, config, now, settings) {
                Some(hook) => Plan::call(hook),
                None => launch(object, facts, config, repository, preparation, now, settings),
            }
        }
        Some(Prepared::Refused(why)) => {
            Plan::status(refused(object, facts, why, now), Requeue::OnChange)
        }
        Some(Prepared::NotYet(why)) => {
            let mut status = object.status.clone().unwrap_or_default();
            let since = patience::take(&mut status.conditions, condition::BACKUP_EXECUTOR_ENSURED);
            let since = since.unwrap_or(now);
            if now >= since + TimeDelta::from_std(settings.start_grace).unwrap_or_default() {
                return Plan::status(refused(object, facts, why, now), Requeue::OnChange);
            }
            patience::note(&mut status.conditions, condition::BACKUP_EXECUTOR_ENSURED, since);
            waiting(object, status, facts, now, settings, again, why)
        }
        None => wait("not everything it needs was read yet"),
    }
}

/// The status of a session whose Job cannot be made.
#[must_use]
pub fn refused(
    object: &BackupSession,
    facts: &Facts,
    why: &str,
    now: DateTime<Utc>,
) -> BackupSessionStatus {
    let mut status = answered(object);
    let target = target_of(&mut status, object, facts);
    let failed = condition::BACKUP_EXECUTOR_ENSURED.is_false(why, from_clock(now));
    condition::set(&mut target.conditions, failed);
    conclude(object, &mut status, now);
    status
}

/// The target that a pass is about. All targets of the session are written down if they are not there yet.
pub(super) fn target_of<'a>(
    status: &'a mut BackupSessionStatus,
    object: &BackupSession,
    facts: &Facts,
) -> &'a mut BackupTargetStatus {
    let namespace = object.namespace().unwrap_or_default();
    let members = facts.members();
    while status.targets.len() < members.len().max(facts.at + 1) {
        let reference = reference(members.get(status.targets.len()), &namespace);
        status.targets.push(BackupTargetStatus { reference, ..BackupTargetStatus::default() });
    }
    &mut status.targets[facts.at]
}

/// The target of a member, with its namespace.
fn reference(member: Option<&BackupConfiguration>, namespace: &str) -> TargetRef {
    member.and_then(|member| member.spec.target.as_ref()).map_or_else(
        || TargetRef {
            api_version: "na".to_owned(),
            kind: "EmptyTarget".to_owned(),
            name: "na".to_owned(),
            namespace: String::new(),
        },
        |target| TargetRef {
            namespace: target.reference.namespace_or(namespace).to_owned(),
            ..target.reference.clone()
        },
    )
}

fn pending(
    object: &BackupSession,
    facts: &Facts,
    now: DateTime<Utc>,
    settings: &Settings,
    requeue: Requeue,
    why: &str,
) -> Plan<BackupSessionStatus> {
    waiting(object, answered(object), facts, now, settings, requeue, why)
}

/// The status without a word of who did not answer.
pub(super) fn answered(object: &BackupSession) -> BackupSessionStatus {
    let mut status = object.status.clone().unwrap_or_default();
    let _ = patience::take(&mut status.conditions, condition::BACKUP_EXECUTOR_ENSURED);
    status
}

fn waiting(
    object: &BackupSession,
    mut status: BackupSessionStatus,
    facts: &Facts,
    now: DateTime<Utc>,
    settings: &Settings,
    requeue: Requeue,
    why: &str,
) -> Plan<BackupSessionStatus> {
    conclude(object, &mut status, now);
    let (summary, at) = (summary::waiting(why), from_clock(now));
    condition::sum_up(&mut status.conditions, SUCCEEDED, summary, object.metadata.generation, at);
    Plan::status(status, requeue.or_at(deadline(object, facts, now, settings)))
}

fn skip(object: &BackupSession, why: String, now: DateTime<Utc>) -> Plan<BackupSessionStatus> {
    let mut status = answered(object);
    let skipped = condition::BACKUP_SKIPPED.is_true(&why, from_clock(now));
    condition::set(&mut status.conditions, skipped);
    conclude(object, &mut status, now);
    let notice = Notice { warning: true, reason: "Backup Skipped", message: why };
    Plan { actions: vec![Action::Emit(notice)], ..Plan::status(status, Requeue::OnChange) }
}

fn phase_of(session: &BackupSession) -> Option<SessionPhase> {
    session.status.as_ref().and_then(|status| status.phase)
}

/// Invokers that share a target take turns: whoever runs goes on, else the oldest session is next.
fn rival(object: &BackupSession, facts: &Facts, now: DateTime<Utc>) -> Option<String> {
    let any = facts.rivals.first()?;
    let order = |session: &BackupSession| {
        let created = session.metadata.creation_timestamp.as_ref().map(to_clock);
        (created, session.name_any(), session.namespace())
    };
    let first = |rival: &BackupSession| {
        phase_of(rival) == Some(SessionPhase::Running) || order(rival) < order(object)
    };
    let young = (age(object, now) < YOUNG).then_some(any);
    let next = facts.rivals.iter().find(|rival| first(rival)).or(young)?;
    let (namespace, name) = (next.namespace().unwrap_or_default(), next.name_any());
    Some(format!("waits for BackupSession {namespace}/{name}, which has the same target"))
}

/// Two sessions of one invoker that are both pending: the older one starts, and then the other one is skipped.
fn older_sibling(object: &BackupSession, facts: &Facts) -> Option<String> {
    let order = |session: &BackupSession| {
        (session.metadata.creation_timestamp.as_ref().map(to_clock), session.name_any())
    };
    let older = facts.siblings.iter().find(|session| {
        matches!(phase_of(session), Some(SessionPhase::Pending) | None)
            && session.metadata.deletion_timestamp.is_none()
            && order(session) < order(object)
    })?;
    Some(format!("waits for BackupSession {}, which is older", older.name_any()))
}
