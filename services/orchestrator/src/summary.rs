//! What the conditions of an object add up to, as the one condition that `kubectl wait` knows: `Ready` of what makes
//! sessions, `Succeeded` of sessions. Pure.

use coffer_api::{
    backup_configuration::InvokerPhase,
    backup_session::{BackupSessionStatus, HostBackupPhase, SessionPhase},
    condition::{self, Condition, READY, SUCCEEDED, Status, Summary},
    restore_session::{HostRestorePhase, RestorePhase, RestoreSessionStatus},
};

/// Reason of a session that waits for something.
pub const PENDING: &str = "Pending";
/// Reason of a session that is at work.
pub const RUNNING: &str = "Running";

/// Of an invoker in this phase.
#[must_use]
pub fn ready(conditions: &[Condition], phase: InvokerPhase) -> Summary {
    let status = Status::from(phase == InvokerPhase::Ready);
    match first_refusal(conditions) {
        Some(refusal) if status == Status::False => {
            summary(status, &refusal.reason, &refusal.message)
        }
        Some(_) | None if status == Status::False => {
            summary(status, "NotReady", "not everything it needs was looked at yet")
        }
        Some(_) | None => {
            let schedule = condition::CRON_JOB_CREATED.find(conditions);
            summary(status, "Ready", schedule.map_or("", |condition| &condition.message))
        }
    }
}

/// Of a Repository.
#[must_use]
pub fn usable(conditions: &[Condition]) -> Summary {
    match first_refusal(conditions) {
        Some(refusal) => summary(Status::False, &refusal.reason, &refusal.message),
        None => summary(Status::True, "Ready", "backups may be written to it"),
    }
}

/// Of a BackupSession.
#[must_use]
pub fn backup(status: &BackupSessionStatus) -> Summary {
    match status.phase {
        None | Some(SessionPhase::Pending) => summary(Status::Unknown, PENDING, "not started yet"),
        Some(SessionPhase::Running) => running(None),
        Some(SessionPhase::Succeeded) => {
            let snapshots = status
                .targets
                .iter()
                .flat_map(|target| &target.stats)
                .flat_map(|host| host.snapshots.iter().map(move |s| (&host.hostname, &s.name)));
            let told: Vec<String> =
                snapshots.map(|(host, id)| format!("snapshot {id} of host {host}")).collect();
            summary(Status::True, "Succeeded", &told.join(", "))
        }
        Some(SessionPhase::Skipped) => {
            let skipped = condition::BACKUP_SKIPPED.find(&status.conditions);
            summary(Status::False, "Skipped", skipped.map_or("", |condition| &condition.message))
        }
        Some(SessionPhase::Failed | SessionPhase::Unknown) => failed_backup(status),
    }
}

fn failed_backup(status: &BackupSessionStatus) -> Summary {
    let of_targets = || status.targets.iter().flat_map(|target| &target.conditions);
    if let Some(exceeded) = condition::DEADLINE_EXCEEDED.find(&status.conditions) {
        return summary(Status::False, "DeadlineExceeded", &exceeded.message);
    }
    if let Some(why) = of_targets().find(|c| c.kind == condition::BACKUP_DISRUPTED.name) {
        return summary(Status::False, &why.reason, &why.message);
    }
    let error = status.targets.iter().flat_map(|target| &target.stats).find_map(|host| {
        host.error.as_deref().filter(|_| host.phase == Some(HostBackupPhase::Failed))
    });
    if let Some(error) = error {
        return summary(Status::False, "HostBackupFailed", error);
    }
    let refusal = of_targets().chain(&status.conditions).find(|c| refuses(c));
    refusal.map_or_else(
        || summary(Status::False, "BackupFailed", "no reason is known"),
        |why| summary(Status::False, &why.reason, &why.message),
    )
}

/// Of a RestoreSession.
#[must_use]
pub fn restore(status: &RestoreSessionStatus) -> Summary {
    let refusal = first_refusal(&status.conditions);
    match (status.phase, refusal) {
        (None | Some(RestorePhase::Pending), Some(why)) => {
            summary(Status::Unknown, &why.reason, &why.message)
        }
        (None | Some(RestorePhase::Pending), None) => {
            summary(Status::Unknown, PENDING, "not started yet")
        }
        (Some(RestorePhase::Running), _) => running(None),
        (Some(RestorePhase::Succeeded), _) => {
            summary(Status::True, "Succeeded", "the snapshot was restored")
        }
        (Some(RestorePhase::Failed | RestorePhase::Unknown | RestorePhase::Invalid), refusal) => {
            if let Some(exceeded) = condition::DEADLINE_EXCEEDED.find(&status.conditions) {
                return summary(Status::False, "DeadlineExceeded", &exceeded.message);
            }
            let error = status.stats.iter().find_map(|host| {
                host.error.as_deref().filter(|_| host.phase == Some(HostRestorePhase::Failed))
            });
            match (error, refusal) {
                (Some(error), _) => summary(Status::False, "HostRestoreFailed", error),
                (None, Some(why)) => summary(Status::False, &why.reason, &why.message),
                (None, None) => summary(Status::False, "RestoreFailed", "no reason is known"),
            }
        }
    }
}

/// Of a session that waits, and for what.
#[must_use]
pub fn waiting(why: &str) -> Summary {
    summary(Status::Unknown, PENDING, why)
}

/// Of a session that is at work and waits, and for what; at work without a word of it.
#[must_use]
pub fn running(waiting: Option<&str>) -> Summary {
    summary(Status::Unknown, RUNNING, waiting.unwrap_or("at work"))
}

/// The first condition, in their order, that says no or does not know.
#[must_use]
pub fn first_refusal(conditions: &[Condition]) -> Option<&Condition> {
    conditions.iter().find(|condition| refuses(condition))
}

fn refuses(condition: &Condition) -> bool {
    condition.status != Status::True && condition.kind != READY && condition.kind != SUCCEEDED
}

fn summary(status: Status, reason: &str, message: &str) -> Summary {
    Summary { status, reason: reason.to_owned(), message: message.to_owned() }
}
