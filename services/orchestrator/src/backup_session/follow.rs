//! What becomes of a Job: its outcome, its death, the deadline, a cancel. Pure.

use std::time::Duration;

use chrono::{DateTime, Utc};
use coffer_api::{
    BackupSession,
    backup_session::{
        BackupSessionStatus, FileStats, HostBackupPhase, HostBackupStats, SnapshotStats,
    },
    condition::{self, SUCCEEDED, Status},
    duration, names,
    outcome::{BackedUp, Outcome, Result as Ended},
    size,
    time::{from_clock, to_clock},
};
use kube::ResourceExt;

use crate::{
    apply::CANCELLED_BY,
    executor::{self, Observed},
    plan::{Action, Child, Notice, Plan, Requeue},
    settings::Settings,
    summary, variables,
};

use super::{
    decide::{conclude, deadline},
    gather::Facts,
    start::target_of,
};

/// Reason of a session that somebody stopped.
pub const CANCELLED: &str = "Cancelled";
/// A snapshot of ours has its data file and `/manifest.json`.
const FILES: i64 = 2;

/// Decides about a session with a Job.
pub(super) fn follow(
    object: &BackupSession,
    facts: &Facts,
    now: DateTime<Utc>,
    settings: &Settings,
) -> Plan<BackupSessionStatus> {
    let ends = deadline(object, facts, now, settings);
    let job = names::backup_job(&object.name_any(), facts.at);
    let seen = executor::observe(&job, &facts.worker, now, settings.start_grace);
    // A result is a result, also when it comes at the last moment.
    if let Observed::Ended(outcome) = &seen {
        return settle(object, facts, &HostEnd::Outcome(outcome), now);
    }
    if let Some(who) = object.annotations().get(CANCELLED_BY) {
        return settle(object, facts, &HostEnd::Cancelled(who), now);
    }
    if now >= ends {
        return settle(object, facts, &HostEnd::TooLate("its Job was stopped"), now);
    }
    let wait = |requeue| {
        let mut status = object.status.clone().unwrap_or_default();
        let summary = summary::running(facts.waiting.as_deref());
        let (generation, at) = (object.metadata.generation, from_clock(now));
        condition::sum_up(&mut status.conditions, SUCCEEDED, summary, generation, at);
        Plan::status(status, requeue)
    };
    match &seen {
        Observed::Dead { reason, disrupted } => {
            settle(object, facts, &HostEnd::Dead { reason, disrupted: *disrupted }, now)
        }
        Observed::Starting { until: Some(until) } => wait(Requeue::At(ends.min(*until))),
        Observed::Starting { until: None } | Observed::Running | Observed::Ended(_) => {
            wait(Requeue::At(ends))
        }
    }
}

/// How a host's backup ended.
enum HostEnd<'a> {
    Outcome(&'a Outcome),
    Dead {
        reason: &'a str,
        disrupted: bool,
    },
    Cancelled(&'a str),
    /// What that meant for it.
    TooLate(&'static str),
}

/// A session that somebody stopped before it had a Job.
pub(super) fn cancelled_before_start(
    object: &BackupSession,
    facts: &Facts,
    who: &str,
    now: DateTime<Utc>,
) -> Plan<BackupSessionStatus> {
    settle(object, facts, &HostEnd::Cancelled(who), now)
}

/// A session that had to wait past its deadline.
pub(super) fn too_late(
    object: &BackupSession,
    facts: &Facts,
    now: DateTime<Utc>,
) -> Plan<BackupSessionStatus> {
    settle(object, facts, &HostEnd::TooLate("it had not started"), now)
}

/// True when somebody stopped it; then it is not tried again.
#[must_use]
pub fn was_cancelled(status: &BackupSessionStatus) -> bool {
    status.targets.iter().any(|target| {
        condition::BACKUP_DISRUPTED.find(&target.conditions).is_some_and(|c| c.reason == CANCELLED)
    })
}

fn settle(
    object: &BackupSession,
    facts: &Facts,
    end: &HostEnd<'_>,
    now: DateTime<Utc>,
) -> Plan<BackupSessionStatus> {
    let mut status = object.status.clone().unwrap_or_default();
    let at = from_clock(now);
    let target = facts.invoker.as_ref().and_then(|config| config.spec.target.as_ref());
    let host = variables::host(target.map_or("", |target| &target.alias)).to_owned();
    let started = object.metadata.creation_timestamp.as_ref().map_or(now, to_clock);
    let lived = (now - started).to_std().unwrap_or_default();
    let mut stats = HostBackupStats {
        hostname: host.clone(),
        phase: Some(HostBackupPhase::Failed),
        duration: Some(duration::precise(lived)),
        ..HostBackupStats::default()
    };
    let mut disruption = None;
    match end {
        HostEnd::Outcome(outcome) => {
            stats.duration = Some(duration::precise(Duration::from_millis(outcome.duration_ms)));
            match &outcome.result {
                Ended::BackedUp(backed_up) => {
                    stats.phase = Some(HostBackupPhase::Succeeded);
                    stats.snapshots = vec![snapshot(backed_up, outcome.duration_ms)];
                    let message = if backed_up.repository_created {
                        "the repository was created by this backup"
                    } else {
                        "the repository exists"
                    };
                    let found =
                        condition::BACKEND_REPOSITORY_INITIALIZED.is_true(message, at.clone());
                    condition::set(&mut status.conditions, found);
                }
                Ended::Failed(failed) => stats.error = Some(failed.error.clone()),
                Ended::Restored(_) => {
                    stats.error = Some("the worker restored instead of backing up: the Task's Function is one for restores".to_owned());
                }
            }
        }
        HostEnd::Dead { reason, disrupted } => {
            stats.error = Some((*reason).to_owned());
            if *disrupted {
                disruption = Some(condition::BACKUP_DISRUPTED.is_true(*reason, at.clone()));
            }
        }
        HostEnd::Cancelled(who) => {
            let message = format!("cancelled by {who}");
            let mut condition = condition::BACKUP_DISRUPTED.is_true(message.clone(), at.clone());
            condition.reason = CANCELLED.to_owned();
            stats.error = Some(message);
            disruption = Some(condition);
        }
        HostEnd::TooLate(what) => {
            let bound = status.session_deadline.as_ref().map_or(now, to_clock).format("%FT%TZ");
            let message =
                format!("not done by {bound}, the session's deadline (spec.timeOut): {what}");
            let exceeded = condition::DEADLINE_EXCEEDED.is_true(message.clone(), at);
            condition::set(&mut status.conditions, exceeded);
            stats.error = Some(message);
        }
    }
    let mut notice = notice(&host, &stats);
    if let HostEnd::Outcome(outcome) = end {
        // How it was done and why so is not the same every time, and nowhere else to be seen.
        if let Ended::BackedUp(BackedUp { reason, digest, .. }) = &outcome.result {
            for (before, said) in [(", ", reason), (", digest ", digest)] {
                if !said.is_empty() {
                    notice.message.push_str(&format!("{before}{said}"));
                }
            }
        }
        for warning in &outcome.warnings {
            notice.message.push_str(&format!("; note: {warning}"));
        }
    }
    let target = target_of(&mut status, object, facts);
    if let Some(disruption) = disruption {
        debug_assert_eq!(disruption.status, Status::True);
        condition::set(&mut target.conditions, disruption);
    }
    target.total_hosts.get_or_insert(1);
    target.stats = vec![stats];
    conclude(object, &mut status, now);
    let child = Child {
        namespace: object.namespace().unwrap_or_default(),
        name: names::backup_job(&object.name_any(), facts.at),
    };
    let mut actions = vec![];
    // The Job of a worker that left its outcome stays, with its log, as long as the session does.
    if !matches!(end, HostEnd::Outcome(_)) {
        actions.push(Action::DeleteJob(child.clone()));
    }
    actions.push(Action::DeleteSecret(Child { name: names::session_secret(&child.name), ..child }));
    actions.push(Action::ForgetProgress);
    actions.push(Action::Emit(notice));
    Plan { actions, ..Plan::status(status, Requeue::OnChange) }
}

fn notice(host: &str, stats: &HostBackupStats) -> Notice {
    match (stats.phase, stats.snapshots.first()) {
        (Some(HostBackupPhase::Succeeded), Some(snapshot)) => Notice {
            warning: false,
            reason: "Host Backup Succeeded",
            message: format!(
                "host {host}: snapshot {} of {}, {} new, in {}",
                snapshot.name,
                snapshot.total_size,
                snapshot.uploaded,
                stats.duration.as_deref().unwrap_or_default()
            ),
        },
        _ => Notice {
            warning: true,
            reason: "Host Backup Failed",
            message: format!("host {host}: {}", stats.error.as_deref().unwrap_or_default()),
        },
    }
}

fn snapshot(backed_up: &BackedUp, millis: u64) -> SnapshotStats {
    let seconds = millis / 1000;
    let (h, m, s) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let new = i64::try_from(backed_up.files_new).unwrap_or(i64::MAX);
    let total = FILES.max(new);
    SnapshotStats {
        name: backed_up.snapshot_id.chars().take(8).collect(),
        path: backed_up.path.trim_start_matches('/').to_owned(),
        total_size: size::format(backed_up.bytes),
        uploaded: size::format(backed_up.data_added),
        processing_time: if h > 0 { format!("{h}:{m:02}:{s:02}") } else { format!("{m}:{s:02}") },
        file_stats: FileStats {
            total_files: Some(total),
            new_files: Some(new),
            modified_files: Some(0),
            unmodified_files: Some(total - new),
        },
    }
}
