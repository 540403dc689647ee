//! Which member is restored next, what they came to, and the hooks around them. Pure.

use chrono::{DateTime, TimeDelta, Utc};
use coffer_api::{
    RestoreBatch, RestoreSession,
    condition::{self, SUCCEEDED, Status, Summary},
    duration,
    hook::{Handler, PostHandler, RestoreHooks},
    names,
    restore_batch::{RestoreBatchStatus, RestoreMemberStatus},
    restore_session::{RestorePhase, RestoreSessionSpec},
    target::TargetRef,
    time::{from_clock, to_clock},
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Resource, ResourceExt};

use crate::{
    backup_session::hooks::AFTERWARDS,
    hook::{self, Hook, Moment},
    plan::{Action, Answer, Call, Done, Plan, Requeue},
    settings::Settings,
    summary,
};

/// Name of a member's RestoreSession.
#[must_use]
pub(super) fn child(object: &RestoreBatch, at: usize) -> String {
    names::member(&object.name_any(), at)
}

/// Decides about a batch, of whose members these are the RestoreSessions.
#[must_use]
pub(super) fn decide(
    object: &RestoreBatch,
    members: &[Option<RestoreSession>],
    now: DateTime<Utc>,
    settings: &Settings,
) -> Plan<RestoreBatchStatus> {
    let mut status = object.status.clone().unwrap_or_default();
    if object.metadata.deletion_timestamp.is_some()
        || status.phase.is_some_and(|phase| phase.is_final() || phase == RestorePhase::Invalid)
    {
        return Plan::nothing();
    }
    let generation = object.metadata.generation;
    let valid = match check(object) {
        Ok(()) => condition::VALIDATION_PASSED.is_true("the spec can be executed", from_clock(now)),
        Err(why) => condition::VALIDATION_PASSED.is_false(why, from_clock(now)),
    };
    condition::set(&mut status.conditions, valid.of(generation));
    let before = &condition::GLOBAL_PRE_RESTORE_HOOK;
    let hooks = object.spec.hooks.clone().unwrap_or_default();
    if condition::VALIDATION_PASSED.holds(&status.conditions)
        && let (Some(pre), None) = (&hooks.pre_restore, before.find(&status.conditions))
    {
        return Plan::call(call(object, Moment::GlobalPreRestore, pre.clone(), &status, now));
    }
    let mut actions = vec![];
    let goes =
        condition::VALIDATION_PASSED.holds(&status.conditions) && !before.fails(&status.conditions);
    let ends = deadline(object, &mut status, now, settings);
    status.members.resize_with(members.len(), RestoreMemberStatus::default);
    let sequential = object.spec.execution_order == "Sequential";
    let mut waits = false;
    for (at, found) in members.iter().enumerate() {
        let entry = &mut status.members[at];
        entry.reference = reference(object, at);
        match found.as_ref().filter(|session| is_own(object, session)) {
            Some(session) => mirror(session, entry),
            None if !goes || waits => entry.phase = Some(RestorePhase::Pending),
            // It was there, and somebody has deleted it.
            None if entry.phase.is_some_and(|phase| phase != RestorePhase::Pending) => {
                entry.phase = Some(RestorePhase::Failed);
            }
            None if now >= ends => {
                let why = "not every member was begun by then";
                let late = condition::DEADLINE_EXCEEDED.is_true(why, from_clock(now));
                condition::set(&mut status.conditions, late);
                entry.phase = Some(RestorePhase::Failed);
            }
            None => {
                entry.phase = Some(RestorePhase::Pending);
                if let Some(session) = session(object, at, ends, now) {
                    actions.push(Action::CreateRestore(Box::new(session)));
                }
            }
        }
        waits |= sequential && !is_over(entry.phase);
    }
    let over = goes && status.members.iter().all(|member| is_over(member.phase));
    if over && let Some(post) = &hooks.post_restore {
        let after = condition::GLOBAL_POST_RESTORE_HOOK;
        if after.find(&status.conditions).is_none() {
            match hook::policy(post.execution_policy, succeeded(&status), 0) {
                Ok(()) => {
                    let handler = hook::handler(post);
                    return Plan::call(call(
                        object,
                        Moment::GlobalPostRestore,
                        handler,
                        &status,
                        now,
                    ));
                }
                Err(why) => {
                    condition::set(&mut status.conditions, after.is_true(why, from_clock(now)));
                }
            }
        }
    }
    conclude(object, &mut status, now);
    Plan { actions, ..Plan::status(status, Requeue::OnChange) }
}

/// The status after a hook.
#[must_use]
pub(super) fn record(
    object: &RestoreBatch,
    call: &Call,
    answer: &Answer,
    now: DateTime<Utc>,
) -> RestoreBatchStatus {
    let mut status = object.status.clone().unwrap_or_default();
    if let Call::Hook(hook) = call {
        let kind = hook.moment.condition();
        let at = from_clock(now);
        let said = match answer {
            Ok(Done::Hooked(what)) => kind.is_true(what, at),
            Ok(_) => kind.is_true("", at),
            Err(why) => kind.is_false(why, at),
        };
        condition::set(&mut status.conditions, said);
    }
    status
}

/// What concerns the batch as a whole.
///
/// # Errors
/// Says what is wrong.
pub(crate) fn check(object: &RestoreBatch) -> Result<(), String> {
    if object.spec.members.is_empty() {
        return Err("spec.members is empty: name the targets".to_owned());
    }
    let order = object.spec.execution_order.as_str();
    if !matches!(order, "" | "Parallel" | "Sequential") {
        return Err(format!("spec.executionOrder {order:?} is none: Parallel or Sequential"));
    }
    crate::policy::time_out(object.spec.time_out.as_deref())?;
    let RestoreHooks { pre_restore, post_restore } = object.spec.hooks.clone().unwrap_or_default();
    if let Some(pre) = pre_restore {
        hook::check_global("spec.hooks.preRestore", &pre)?;
    }
    post_restore.as_ref().map_or(Ok(()), |post: &PostHandler| {
        hook::check_global("spec.hooks.postRestore", &hook::handler(post))
    })
}

fn deadline(
    object: &RestoreBatch,
    status: &mut RestoreBatchStatus,
    now: DateTime<Utc>,
    settings: &Settings,
) -> DateTime<Utc> {
    let text = object.spec.time_out.as_deref();
    let span =
        text.and_then(|text| duration::parse(text).ok()).unwrap_or(settings.default_time_out);
    // As long as no member can be made there is no status that would remember the first pass.
    let created = object.metadata.creation_timestamp.as_ref().map_or(now, to_clock);
    let ends = created + TimeDelta::from_std(span).unwrap_or(TimeDelta::days(1));
    to_clock(status.session_deadline.get_or_insert_with(|| from_clock(ends)))
}

fn reference(object: &RestoreBatch, at: usize) -> TargetRef {
    let namespace = object.namespace().unwrap_or_default();
    let target = object.spec.members.get(at).and_then(|member| member.target.as_ref());
    let target = target.map(|target| target.reference.clone()).unwrap_or_default();
    TargetRef { namespace: target.namespace_or(&namespace).to_owned(), ..target }
}

/// The members as the RestoreSessions that they become.
pub(crate) fn members(object: &RestoreBatch) -> Vec<RestoreSession> {
    let now = DateTime::<Utc>::UNIX_EPOCH;
    let all = 0..object.spec.members.len();
    all.filter_map(|at| session(object, at, now, now)).collect()
}

/// The RestoreSession of a member: what the batch has left of its time is its own.
fn session(
    object: &RestoreBatch,
    at: usize,
    ends: DateTime<Utc>,
    now: DateTime<Utc>,
) -> Option<RestoreSession> {
    let member = object.spec.members.get(at)?.clone();
    let name = child(object, at);
    let spec = RestoreSessionSpec {
        driver: object.spec.driver,
        repository: object.spec.repository.clone(),
        task: member.task,
        target: member.target,
        runtime_settings: member.runtime_settings,
        temp_dir: member.temp_dir,
        interim_volume_template: member.interim_volume_template,
        hooks: member.hooks,
        time_out: Some(format!("{}s", (ends - now).num_seconds().max(1))),
        rules: vec![],
    };
    let mut session = RestoreSession::new(&name, spec);
    session.metadata = ObjectMeta {
        name: Some(name),
        namespace: object.namespace(),
        labels: Some(names::restore_labels(object.labels())),
        owner_references: Some(vec![object.controller_owner_ref(&())?]),
        ..ObjectMeta::default()
    };
    Some(session)
}

/// A session of that name may be somebody else's, or what a batch of the same name has left behind: what became of that one
/// says nothing about this batch.
fn is_own(object: &RestoreBatch, session: &RestoreSession) -> bool {
    let uid = object.metadata.uid.as_ref();
    session.owner_references().iter().any(|owner| Some(&owner.uid) == uid)
}

fn mirror(session: &RestoreSession, entry: &mut RestoreMemberStatus) {
    let status = session.status.clone().unwrap_or_default();
    entry.conditions = status.conditions;
    entry.total_hosts = status.total_hosts;
    entry.stats = status.stats;
    // The API knows no member that is Invalid: it failed, and its conditions say why.
    entry.phase = Some(match status.phase {
        Some(RestorePhase::Invalid | RestorePhase::Unknown) => RestorePhase::Failed,
        phase => phase.unwrap_or(RestorePhase::Pending),
    });
}

fn is_over(phase: Option<RestorePhase>) -> bool {
    phase.is_some_and(RestorePhase::is_final)
}

fn succeeded(status: &RestoreBatchStatus) -> bool {
    !condition::DEADLINE_EXCEEDED.holds(&status.conditions)
        && status.members.iter().all(|member| member.phase == Some(RestorePhase::Succeeded))
}

fn call(
    object: &RestoreBatch,
    moment: Moment,
    handler: Handler,
    status: &RestoreBatchStatus,
    now: DateTime<Utc>,
) -> Call {
    let good = moment == Moment::GlobalPreRestore || succeeded(status);
    let summary = hook::Summary {
        name: object.name_any(),
        namespace: object.namespace().unwrap_or_default(),
        invoker_kind: "RestoreBatch".to_owned(),
        invoker_name: object.name_any(),
        target: reference(object, 0),
        succeeded: good,
        duration: duration::seconds(age(object, now)),
        error: if good { String::new() } else { failure(status) },
        retry_left: 0,
    };
    let until = now + AFTERWARDS;
    Call::Hook(Box::new(Hook { moment, handler, at: None, target: None, summary, until }))
}

fn failure(status: &RestoreBatchStatus) -> String {
    let failed = |member: &&RestoreMemberStatus| member.phase == Some(RestorePhase::Failed);
    let member = status.members.iter().find(failed);
    let error = member.and_then(|member| {
        let host = member.stats.iter().find_map(|host| host.error.clone());
        let summed_up = member.conditions.iter().find(|c| c.kind == SUCCEEDED);
        host.or_else(|| summed_up.map(|condition| condition.message.clone()))
            .map(|why| format!("{}: {why}", member.reference.name))
    });
    error.unwrap_or_else(|| "a member was not restored".to_owned())
}

fn age(object: &RestoreBatch, now: DateTime<Utc>) -> std::time::Duration {
    let created = object.metadata.creation_timestamp.as_ref().map_or(now, to_clock);
    (now - created).to_std().unwrap_or_default()
}

fn conclude(object: &RestoreBatch, status: &mut RestoreBatchStatus, now: DateTime<Utc>) {
    let refusal = status.conditions.iter().find(|condition| {
        condition.status == Status::False
            && condition.kind != SUCCEEDED
            && condition.kind != condition::DEADLINE_EXCEEDED.name
    });
    let over = status.members.iter().all(|member| is_over(member.phase));
    let begun = status.members.iter().any(|m| m.phase.is_some_and(|p| p != RestorePhase::Pending));
    let (phase, summary) = if condition::VALIDATION_PASSED.fails(&status.conditions) {
        (RestorePhase::Invalid, refused(refusal))
    } else if condition::GLOBAL_PRE_RESTORE_HOOK.fails(&status.conditions) {
        (RestorePhase::Failed, refused(refusal))
    } else if !over {
        let phase = if begun { RestorePhase::Running } else { RestorePhase::Pending };
        (phase, summary::waiting("not every member is restored yet"))
    } else if !succeeded(status) {
        let message = failure(status);
        let reason = "HostRestoreFailed".to_owned();
        (RestorePhase::Failed, Summary { status: Status::False, reason, message })
    } else if condition::GLOBAL_POST_RESTORE_HOOK.fails(&status.conditions) {
        (RestorePhase::Failed, refused(refusal))
    } else {
        let message = format!("{} members were restored", status.members.len());
        let reason = "Succeeded".to_owned();
        (RestorePhase::Succeeded, Summary { status: Status::True, reason, message })
    };
    status.phase = Some(phase);
    if phase.is_final() {
        status.session_duration.get_or_insert_with(|| duration::seconds(age(object, now)));
    }
    let generation = object.metadata.generation;
    condition::sum_up(&mut status.conditions, SUCCEEDED, summary, generation, from_clock(now));
}

fn refused(condition: Option<&condition::Condition>) -> Summary {
    let (reason, message) = condition.map_or_else(
        || ("RestoreFailed".to_owned(), "no reason is known".to_owned()),
        |condition| (condition.reason.clone(), condition.message.clone()),
    );
    Summary { status: Status::False, reason, message }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
