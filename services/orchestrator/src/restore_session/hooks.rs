//! The hooks of a restore: which is to run now, and with what to tell. Pure.

use chrono::{DateTime, Utc};
use coffer_api::{
    RestoreSession,
    condition::{self, Status},
    duration,
    hook::Handler,
    restore_session::{RestorePhase, RestoreSessionStatus},
    target::TargetRef,
    time::from_clock,
};
use kube::ResourceExt;

use crate::{
    backup_session::hooks::{AFTERWARDS, After},
    hook::{self, Hook, Moment, Summary},
    phase,
    plan::Call,
    settings::Settings,
    summary,
};

use super::decide::{age, deadline};

/// True when the hook before it was run, and its Job is still to come.
pub(super) fn begun(status: Option<&RestoreSessionStatus>) -> bool {
    status.is_some_and(|status| {
        let ensured = condition::RESTORE_EXECUTOR_ENSURED.status(&status.conditions);
        condition::PRE_RESTORE_HOOK.holds(&status.conditions)
            && matches!(ensured, None | Some(Status::Unknown))
    })
}

/// The hook to run before the Job is made.
pub(super) fn before(
    object: &RestoreSession,
    now: DateTime<Utc>,
    settings: &Settings,
) -> Option<Call> {
    let handler = object.spec.hooks.as_ref()?.pre_restore.as_ref()?;
    let status = object.status.clone().unwrap_or_default();
    if condition::PRE_RESTORE_HOOK.find(&status.conditions).is_some() {
        return None;
    }
    let summary = summarize(object, &status, now);
    let summary = Summary { succeeded: true, error: String::new(), ..summary };
    let until = deadline(object, now, settings);
    Some(call(Moment::PreRestore, handler.clone(), summary, until))
}

/// The hook to run once the data is settled, unless the one before it failed.
pub(super) fn after(
    object: &RestoreSession,
    status: &RestoreSessionStatus,
    now: DateTime<Utc>,
) -> Option<After> {
    let post = object.spec.hooks.as_ref()?.post_restore.as_ref()?;
    if condition::POST_RESTORE_HOOK.find(&status.conditions).is_some()
        || condition::PRE_RESTORE_HOOK.fails(&status.conditions)
    {
        return None;
    }
    let summary = summarize(object, status, now);
    // Whether it may reach into another namespace is known once it has started.
    if summary.target.namespace != summary.namespace
        && !condition::RESTORE_EXECUTOR_ENSURED.holds(&status.conditions)
    {
        return Some(After::Not(
            "not run: the target is in another namespace, and was not reached",
        ));
    }
    Some(match hook::policy(post.execution_policy, summary.succeeded, summary.retry_left) {
        Ok(()) => {
            let until = now + AFTERWARDS;
            After::Run(call(Moment::PostRestore, hook::handler(post), summary, until))
        }
        Err(why) => After::Not(why),
    })
}

fn call(moment: Moment, handler: Handler, summary: Summary, until: DateTime<Utc>) -> Call {
    let target = (summary.target.namespace.clone(), summary.target.name.clone());
    let target = Some(target);
    Call::Hook(Box::new(Hook { moment, handler, at: Some(0), target, summary, until }))
}

fn summarize(
    object: &RestoreSession,
    status: &RestoreSessionStatus,
    now: DateTime<Utc>,
) -> Summary {
    let namespace = object.namespace().unwrap_or_default();
    let target = object.spec.target.as_ref().map(|t| t.reference.clone()).unwrap_or_default();
    // How it ends if nothing more goes wrong.
    let mut prospective = status.clone();
    let pushed = condition::METRICS_PUSHED.is_true("", from_clock(now));
    condition::set(&mut prospective.conditions, pushed);
    let phase = phase::restore(&prospective);
    prospective.phase = Some(phase);
    let succeeded = phase == RestorePhase::Succeeded;
    Summary {
        name: object.name_any(),
        invoker_kind: "RestoreSession".to_owned(),
        invoker_name: object.name_any(),
        target: TargetRef { namespace: target.namespace_or(&namespace).to_owned(), ..target },
        namespace,
        succeeded,
        duration: duration::seconds(age(object, now)),
        error: if succeeded { String::new() } else { summary::restore(&prospective).message },
        // A restore runs once.
        retry_left: 0,
    }
}
