//! The hooks of a session's target: which is to run now, and with what to tell. Pure; they are run by [`crate::hook`].

use chrono::{DateTime, TimeDelta, Utc};
use coffer_api::{
    BackupConfiguration, BackupSession,
    backup_session::{BackupSessionStatus, BackupTargetStatus, SessionPhase},
    condition,
    condition::Kind,
    duration,
    hook::{Handler, PostHandler},
    target::TargetRef,
    time::from_clock,
};
use kube::ResourceExt;

use crate::{
    hook::{self, Hook, Moment, Summary},
    phase,
    plan::Call,
    settings::Settings,
    summary,
};

use super::{
    decide::{Stage, age, deadline, stage_of},
    follow::was_cancelled,
    gather::Facts,
};

/// How long a hook may take when the session's time is up.
pub const AFTERWARDS: TimeDelta = TimeDelta::seconds(300);

/// What is to be done about a post hook.
pub enum After {
    /// Run it.
    Run(Call),
    /// Its policy says no.
    Not(&'static str),
}

/// True when a hook was run and its Job is still to come, or a target has its Job: then no session is skipped any more.
#[must_use]
pub fn begun(status: Option<&BackupSessionStatus>) -> bool {
    let begun = |target: &BackupTargetStatus| {
        condition::PRE_BACKUP_HOOK.holds(&target.conditions)
            || condition::BACKUP_EXECUTOR_ENSURED.find(&target.conditions).is_some()
    };
    status.is_some_and(|status| {
        condition::GLOBAL_PRE_BACKUP_HOOK.holds(&status.conditions)
            || status.targets.iter().any(begun)
    })
}

/// The hook to run before the first Job of a batch is made.
pub(super) fn before_all(
    object: &BackupSession,
    facts: &Facts,
    now: DateTime<Utc>,
    settings: &Settings,
) -> Option<Call> {
    let handler = facts.batch.as_ref()?.hooks.as_ref()?.pre_backup.as_ref()?;
    let status = object.status.clone().unwrap_or_default();
    if condition::GLOBAL_PRE_BACKUP_HOOK.find(&status.conditions).is_some() {
        return None;
    }
    let until = deadline(object, facts, now, settings);
    let summary = Summary {
        succeeded: true,
        error: String::new(),
        ..summarize(object, &status, facts, 0, now)
    };
    Some(call(Moment::GlobalPreBackup, None, handler.clone(), summary, until))
}

/// The hook to run before the Job of the target is made.
pub(super) fn before(
    object: &BackupSession,
    facts: &Facts,
    config: &BackupConfiguration,
    now: DateTime<Utc>,
    settings: &Settings,
) -> Option<Call> {
    let handler = config.spec.hooks.as_ref()?.pre_backup.as_ref()?;
    let status = object.status.clone().unwrap_or_default();
    if was_run(&status, facts.at, condition::PRE_BACKUP_HOOK) {
        return None;
    }
    let until = deadline(object, facts, now, settings);
    let summary = summarize(object, &status, facts, facts.at, now);
    // So far nothing went wrong, which is what the original says at this point.
    let summary = Summary { succeeded: true, error: String::new(), ..summary };
    Some(call(Moment::PreBackup, Some(facts.at), handler.clone(), summary, until))
}

/// The hook to run once the data of a target is settled, unless the one before it failed.
pub(super) fn after(
    object: &BackupSession,
    status: &BackupSessionStatus,
    facts: &Facts,
    at: usize,
    now: DateTime<Utc>,
) -> Option<After> {
    let config = facts.members().get(at)?;
    let post = config.spec.hooks.as_ref()?.post_backup.as_ref()?;
    let target = status.targets.get(at)?;
    if was_run(status, at, condition::POST_BACKUP_HOOK)
        || condition::PRE_BACKUP_HOOK.fails(&target.conditions)
    {
        return None;
    }
    let summary = summarize(object, status, facts, at, now);
    // Whether it may reach into another namespace is known once it has started.
    if summary.target.namespace != summary.namespace
        && !condition::BACKUP_EXECUTOR_ENSURED.holds(&target.conditions)
    {
        return Some(After::Not(
            "not run: the target is in another namespace, and was not reached",
        ));
    }
    Some(decided(Moment::PostBackup, Some(at), post, summary, now))
}

/// The hook to run once all targets of a batch are settled, unless the one before them failed.
pub(super) fn after_all(
    object: &BackupSession,
    status: &BackupSessionStatus,
    facts: &Facts,
    now: DateTime<Utc>,
) -> Option<After> {
    let post = facts.batch.as_ref()?.hooks.as_ref()?.post_backup.as_ref()?;
    if condition::GLOBAL_POST_BACKUP_HOOK.find(&status.conditions).is_some()
        || condition::GLOBAL_PRE_BACKUP_HOOK.fails(&status.conditions)
    {
        return None;
    }
    let summary = summarize(object, status, facts, 0, now);
    Some(decided(Moment::GlobalPostBackup, None, post, summary, now))
}

fn decided(
    moment: Moment,
    at: Option<usize>,
    post: &PostHandler,
    summary: Summary,
    now: DateTime<Utc>,
) -> After {
    match hook::policy(post.execution_policy, summary.succeeded, summary.retry_left) {
        Ok(()) => After::Run(call(moment, at, hook::handler(post), summary, now + AFTERWARDS)),
        Err(why) => After::Not(why),
    }
}

fn was_run(status: &BackupSessionStatus, at: usize, kind: Kind) -> bool {
    status.targets.get(at).is_some_and(|target| kind.find(&target.conditions).is_some())
}

fn call(
    moment: Moment,
    at: Option<usize>,
    handler: Handler,
    summary: Summary,
    until: DateTime<Utc>,
) -> Call {
    let target = at.map(|_| (summary.target.namespace.clone(), summary.target.name.clone()));
    Call::Hook(Box::new(Hook { moment, handler, at, target, summary, until }))
}

/// What a hook may tell: of a target that is done while others are at work, how it is done itself.
fn summarize(
    object: &BackupSession,
    status: &BackupSessionStatus,
    facts: &Facts,
    at: usize,
    now: DateTime<Utc>,
) -> Summary {
    let namespace = object.namespace().unwrap_or_default();
    let member = facts.members().get(at).and_then(|member| member.spec.target.as_ref());
    let target = member.map(|target| target.reference.clone()).unwrap_or_default();
    // How it ends if nothing more goes wrong.
    let mut prospective = status.clone();
    if stage_of(Some(status)) != Stage::Settled {
        prospective.targets = status.targets.get(at).cloned().into_iter().collect();
    }
    let pushed = condition::METRICS_PUSHED.is_true("", from_clock(now));
    condition::set(&mut prospective.conditions, pushed);
    let phase = phase::backup(&prospective);
    prospective.phase = Some(phase);
    let succeeded = phase == SessionPhase::Succeeded;
    let retry_left = if was_cancelled(status) { 0 } else { object.spec.retry_left.unwrap_or(0) };
    Summary {
        name: object.name_any(),
        invoker_kind: facts.kind().to_owned(),
        invoker_name: object.spec.invoker.name.clone(),
        target: TargetRef { namespace: target.namespace_or(&namespace).to_owned(), ..target },
        namespace,
        succeeded,
        duration: duration::seconds(age(object, now)),
        error: if succeeded { String::new() } else { summary::backup(&prospective).message },
        retry_left,
    }
}
