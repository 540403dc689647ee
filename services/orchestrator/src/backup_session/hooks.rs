//! The hooks of a session's target: which is to run now, and with what to tell. Pure; they are run by [`crate::hook`].

use chrono::{DateTime, TimeDelta, Utc};
use coffer_api::{
    BackupConfiguration, BackupSession,
    backup_session::{BackupSessionStatus, BackupTargetStatus, SessionPhase},
    condition,
    condition::Kind,
    duration,
    hook::Handler,
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
    decide::{age, deadline},
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

/// True when a target's hook was run, and its Job is still to come.
#[must_use]
pub fn begun(status: Option<&BackupSessionStatus>) -> bool {
    let waits = |target: &BackupTargetStatus| {
        condition::PRE_BACKUP_HOOK.holds(&target.conditions)
            && condition::BACKUP_EXECUTOR_ENSURED.find(&target.conditions).is_none()
    };
    status.is_some_and(|status| status.targets.iter().any(waits))
}

/// The hook to run before the Job is made.
pub(super) fn before(
    object: &BackupSession,
    facts: &Facts,
    config: &BackupConfiguration,
    now: DateTime<Utc>,
    settings: &Settings,
) -> Option<Call> {
    let handler = config.spec.hooks.as_ref()?.pre_backup.as_ref()?;
    if was_run(object.status.as_ref(), condition::PRE_BACKUP_HOOK) {
        return None;
    }
    let until = deadline(object, facts, now, settings);
    let summary = summarize(object, &BackupSessionStatus::default(), config, now);
    // So far nothing went wrong, which is what the original says at this point.
    let summary = Summary { succeeded: true, error: String::new(), ..summary };
    Some(call(Moment::PreBackup, handler.clone(), summary, until))
}

/// The hook to run once the data is settled, unless the one before it failed.
pub(super) fn after(
    object: &BackupSession,
    status: &BackupSessionStatus,
    config: &BackupConfiguration,
    now: DateTime<Utc>,
) -> Option<After> {
    let post = config.spec.hooks.as_ref()?.post_backup.as_ref()?;
    let failed_before =
        |target: &BackupTargetStatus| condition::PRE_BACKUP_HOOK.fails(&target.conditions);
    if was_run(Some(status), condition::POST_BACKUP_HOOK)
        || status.targets.iter().any(failed_before)
    {
        return None;
    }
    let summary = summarize(object, status, config, now);
    // Whether it may reach into another namespace is known once it has started.
    let started =
        |target: &BackupTargetStatus| condition::BACKUP_EXECUTOR_ENSURED.holds(&target.conditions);
    if summary.target.namespace != summary.namespace && !status.targets.iter().any(started) {
        return Some(After::Not(
            "not run: the target is in another namespace, and was not reached",
        ));
    }
    Some(match hook::policy(post.execution_policy, summary.succeeded, summary.retry_left) {
        Ok(()) => {
            let until = now + AFTERWARDS;
            After::Run(call(Moment::PostBackup, hook::handler(post), summary, until))
        }
        Err(why) => After::Not(why),
    })
}

fn was_run(status: Option<&BackupSessionStatus>, kind: Kind) -> bool {
    let run = |target: &BackupTargetStatus| kind.find(&target.conditions).is_some();
    status.is_some_and(|status| status.targets.iter().any(run))
}

fn call(moment: Moment, handler: Handler, summary: Summary, until: DateTime<Utc>) -> Call {
    let target = (summary.target.namespace.clone(), summary.target.name.clone());
    Call::Hook(Box::new(Hook { moment, handler, target, summary, until }))
}

fn summarize(
    object: &BackupSession,
    status: &BackupSessionStatus,
    config: &BackupConfiguration,
    now: DateTime<Utc>,
) -> Summary {
    let namespace = object.namespace().unwrap_or_default();
    let target = config.spec.target.as_ref().map(|t| t.reference.clone()).unwrap_or_default();
    // How it ends if nothing more goes wrong.
    let mut prospective = status.clone();
    let pushed = condition::METRICS_PUSHED.is_true("", from_clock(now));
    condition::set(&mut prospective.conditions, pushed);
    let phase = phase::backup(&prospective);
    prospective.phase = Some(phase);
    let succeeded = phase == SessionPhase::Succeeded;
    let retry_left = if was_cancelled(status) { 0 } else { object.spec.retry_left.unwrap_or(0) };
    Summary {
        name: object.name_any(),
        invoker_kind: "BackupConfiguration".to_owned(),
        invoker_name: config.name_any(),
        target: TargetRef { namespace: target.namespace_or(&namespace).to_owned(), ..target },
        namespace,
        succeeded,
        duration: duration::seconds(age(object, now)),
        error: if succeeded { String::new() } else { summary::backup(&prospective).message },
        retry_left,
    }
}
