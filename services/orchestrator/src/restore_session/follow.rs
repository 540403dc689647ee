//! What becomes of a restore's Job, and its figures. Pure.

use std::time::Duration;

use chrono::{DateTime, Utc};
use coffer_api::{
    RestoreSession,
    condition::{self, SUCCEEDED},
    duration, names,
    outcome::{Outcome, Restored, Result as Ended},
    restore_session::{HostRestorePhase, HostRestoreStats, RestorePhase, RestoreSessionStatus},
    session::Target,
    time::{from_clock, to_clock},
};
use kube::ResourceExt;

use crate::{
    apply::CANCELLED_BY,
    backup_session::hooks::After,
    executor::{self, Observed},
    metrics, phase,
    plan::{Action, Answer, Call, Child, Done, Notice, Plan, Requeue},
    settings::Settings,
    summary,
};

use super::{
    decide::{age, conclude, deadline},
    gather::Facts,
    hooks,
};

/// What a worker that played the master and had no time for a last word may have left behind.
const ATTACHED: &str = "; it loaded by `load: replica`, so the target may still be set to be a replica of this Job, which is gone, \
                        and takes no writes then (INFO replication tells): make it a master with REPLICAOF NO ONE";

/// Decides about a restore with a Job.
pub(super) fn follow(
    object: &RestoreSession,
    facts: &Facts,
    now: DateTime<Utc>,
    settings: &Settings,
) -> Plan<RestoreSessionStatus> {
    let ends = deadline(object, now, settings);
    let job = names::restore_job(&object.name_any(), 0);
    let seen = executor::observe(&job, &facts.worker, now, settings.start_grace);
    // A result is a result, also when it comes at the last moment.
    if let Observed::Ended(outcome) = &seen {
        return settle(object, &HostEnd::Outcome(outcome), now);
    }
    if let Some(who) = object.annotations().get(CANCELLED_BY) {
        return settle(object, &HostEnd::Cancelled(who), now);
    }
    if now >= ends {
        return settle(object, &HostEnd::TooLate("its Job was stopped"), now);
    }
    let wait = |requeue| {
        let mut status = object.status.clone().unwrap_or_default();
        let summary = summary::running(facts.waiting.as_deref());
        let (generation, at) = (object.metadata.generation, from_clock(now));
        condition::sum_up(&mut status.conditions, SUCCEEDED, summary, generation, at);
        Plan::status(status, requeue)
    };
    match &seen {
        Observed::Dead { reason, .. } => {
            let attached = executor::may_have_begun(&facts.worker, "--load", "replica");
            let reason = format!("{reason}{}", if attached { ATTACHED } else { "" });
            settle(object, &HostEnd::Dead(&reason), now)
        }
        Observed::Starting { until: Some(until) } => wait(Requeue::At(ends.min(*until))),
        Observed::Starting { until: None } | Observed::Running | Observed::Ended(_) => {
            wait(Requeue::At(ends))
        }
    }
}

/// How a host's restore ended.
enum HostEnd<'a> {
    Outcome(&'a Outcome),
    Dead(&'a str),
    Cancelled(&'a str),
    /// What that meant for it.
    TooLate(&'static str),
}

/// A restore that somebody stopped before it had a Job.
pub(super) fn cancelled_before_start(
    object: &RestoreSession,
    who: &str,
    now: DateTime<Utc>,
) -> Plan<RestoreSessionStatus> {
    settle(object, &HostEnd::Cancelled(who), now)
}

/// A batch's restore that had to wait past the batch's deadline.
pub(super) fn too_late(object: &RestoreSession, now: DateTime<Utc>) -> Plan<RestoreSessionStatus> {
    settle(object, &HostEnd::TooLate("it had not started"), now)
}

fn settle(
    object: &RestoreSession,
    end: &HostEnd<'_>,
    now: DateTime<Utc>,
) -> Plan<RestoreSessionStatus> {
    let mut status = object.status.clone().unwrap_or_default();
    let alias = object.spec.target.as_ref().map_or("", |target| target.alias.as_str());
    let mut stats = HostRestoreStats {
        hostname: alias.to_owned(),
        phase: Some(HostRestorePhase::Failed),
        duration: Some(duration::precise(age(object, now))),
        error: None,
    };
    let mut done = None;
    match end {
        HostEnd::Outcome(outcome) => {
            stats.duration = Some(duration::precise(Duration::from_millis(outcome.duration_ms)));
            match &outcome.result {
                Ended::Restored(restored) => {
                    stats.phase = Some(HostRestorePhase::Succeeded);
                    done = Some(restored);
                }
                Ended::Failed(failed) if failed.keys_written > 0 => {
                    stats.error = Some(format!(
                        "{} (the Redis is partly restored: {} keys were written)",
                        failed.error, failed.keys_written
                    ));
                }
                Ended::Failed(failed) => stats.error = Some(failed.error.clone()),
                Ended::BackedUp(_) => {
                    stats.error = Some("the worker backed up instead of restoring: the Task's Function is one for backups".to_owned());
                }
            }
        }
        HostEnd::Dead(reason) => stats.error = Some((*reason).to_owned()),
        HostEnd::Cancelled(who) => stats.error = Some(format!("cancelled by {who}")),
        HostEnd::TooLate(what) => {
            let bound = status.session_deadline.as_ref().map_or(now, to_clock).format("%FT%TZ");
            let message =
                format!("not done by {bound}, the session's deadline (spec.timeOut): {what}");
            let exceeded = condition::DEADLINE_EXCEEDED.is_true(message.clone(), from_clock(now));
            condition::set(&mut status.conditions, exceeded);
            stats.error = Some(message);
        }
    }
    let mut notice = notice(&stats, done);
    if let HostEnd::Outcome(outcome) = end {
        for warning in &outcome.warnings {
            notice.message.push_str(&format!("; note: {warning}"));
        }
    }
    status.total_hosts.get_or_insert(1);
    status.stats = vec![stats];
    conclude(object, &mut status, now);
    let child = Child {
        namespace: object.namespace().unwrap_or_default(),
        name: names::restore_job(&object.name_any(), 0),
    };
    let mut actions = vec![];
    if !matches!(end, HostEnd::Outcome(_)) {
        actions.push(Action::DeleteJob(child.clone()));
    }
    actions.push(Action::DeleteSecret(Child { name: names::session_secret(&child.name), ..child }));
    actions.push(Action::ForgetProgress);
    actions.push(Action::Emit(notice));
    Plan { actions, ..Plan::status(status, Requeue::OnChange) }
}

fn notice(stats: &HostRestoreStats, done: Option<&Restored>) -> Notice {
    match done {
        Some(done) => {
            let keys: u64 = done.restored.values().sum();
            let skipped = match done.skipped {
                0 => String::new(),
                skipped => format!("{skipped} left out, "),
            };
            let remark = match done.remark.as_str() {
                "" => String::new(),
                remark => format!("; {remark}"),
            };
            Notice {
                warning: false,
                reason: "Host Restore Succeeded",
                message: format!(
                    "snapshot {}: {keys} keys restored, {} replaced, {skipped}{} expired meanwhile, in {}{remark}",
                    done.snapshot_id.chars().take(8).collect::<String>(),
                    done.replaced,
                    done.expired,
                    stats.duration.as_deref().unwrap_or_default()
                ),
            }
        }
        None => Notice {
            warning: true,
            reason: "Host Restore Failed",
            message: stats.error.clone().unwrap_or_default(),
        },
    }
}

/// What is left to do once the data is settled: the figures.
pub(super) fn finish(
    object: &RestoreSession,
    facts: &Facts,
    now: DateTime<Utc>,
) -> Plan<RestoreSessionStatus> {
    let mut status = object.status.clone().unwrap_or_default();
    if condition::METRICS_PUSHED.find(&status.conditions).is_some() {
        conclude(object, &mut status, now);
        return Plan::status(status, Requeue::OnChange);
    }
    match hooks::after(object, &status, now) {
        Some(After::Run(hook)) => return Plan::call(hook),
        Some(After::Not(why)) => {
            let done = condition::POST_RESTORE_HOOK.is_true(why, from_clock(now));
            condition::set(&mut status.conditions, done);
            conclude(object, &mut status, now);
            return Plan::status(status, Requeue::OnChange);
        }
        None => {}
    }
    let namespace = object.namespace().unwrap_or_default();
    let name = object.name_any();
    let target = object.spec.target.clone().unwrap_or_default();
    let app = Target {
        kind: target.reference.kind.clone(),
        namespace: target.reference.namespace_or(&namespace).to_owned(),
        name: target.reference.name.clone(),
        app_type: facts.target.found().map(|b| b.spec.kind.clone()).unwrap_or_default(),
    };
    // What the phase will be once this push has succeeded; the original asks too early and always says 0.
    let mut prospective = status.clone();
    condition::set(
        &mut prospective.conditions,
        condition::METRICS_PUSHED.is_true("", from_clock(now)),
    );
    let repository = object.spec.repository.as_ref().map_or("", |r| r.name.as_str());
    let labels = metrics::invoker("RestoreSession", &namespace, &name, repository);
    let host = status.stats.first();
    let session = metrics::Session {
        target: metrics::target(labels.clone(), &app),
        labels,
        host: &target.alias,
        succeeded: phase::restore(&prospective) == RestorePhase::Succeeded,
        transferred: host.is_some_and(|host| host.phase == Some(HostRestorePhase::Succeeded)),
        targets: 1,
        seconds: age(object, now).as_secs_f64(),
        now: seconds(now),
    };
    let taken = executor::outcome(&facts.worker)
        .map(|outcome| Duration::from_millis(outcome.duration_ms).as_secs_f64());
    Plan::call(Call::Push {
        group: metrics::group("RestoreSession", &namespace, &name),
        families: metrics::restore(&session, taken),
    })
}

/// The status after a hook or the push.
#[must_use]
pub fn record(
    object: &RestoreSession,
    call: &Call,
    answer: &Answer,
    now: DateTime<Utc>,
) -> RestoreSessionStatus {
    let mut status = object.status.clone().unwrap_or_default();
    let kind = match call {
        Call::Hook(hook) => hook.moment.condition(),
        _ => condition::METRICS_PUSHED,
    };
    let condition = match answer {
        Ok(Done::Hooked(what)) => kind.is_true(what, from_clock(now)),
        Ok(_) => kind.is_true("pushed", from_clock(now)),
        Err(why) => kind.is_false(why, from_clock(now)),
    };
    condition::set(&mut status.conditions, condition);
    conclude(object, &mut status, now);
    status
}

#[allow(clippy::cast_precision_loss, reason = "Unix seconds are exact in a double")]
fn seconds(now: DateTime<Utc>) -> f64 {
    now.timestamp() as f64
}
