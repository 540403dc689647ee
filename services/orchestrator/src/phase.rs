//! What conditions add up to. The rules of the API, in their order. Pure.

use coffer_api::{
    backup_configuration::InvokerPhase,
    backup_session::{
        BackupSessionStatus, BackupTargetStatus, HostBackupPhase, SessionPhase, TargetPhase,
    },
    condition::{self, Condition, Status},
    restore_session::{HostRestorePhase, RestorePhase, RestoreSessionStatus},
};

/// Of a BackupConfiguration.
#[must_use]
pub fn invoker(conditions: &[Condition]) -> InvokerPhase {
    let found = [condition::REPOSITORY_FOUND, condition::BACKEND_SECRET_FOUND];
    let missing = found
        .iter()
        .any(|kind| matches!(kind.status(conditions), Some(Status::False | Status::Unknown)));
    if missing {
        InvokerPhase::NotReady
    } else if condition::VALIDATION_PASSED.fails(conditions) {
        InvokerPhase::Invalid
    } else if found
        .iter()
        .chain(&[condition::VALIDATION_PASSED, condition::CRON_JOB_CREATED])
        .all(|kind| kind.holds(conditions))
    {
        InvokerPhase::Ready
    } else {
        InvokerPhase::NotReady
    }
}

/// Of a target in a BackupSession.
#[must_use]
pub fn target(target: &BackupTargetStatus) -> TargetPhase {
    if condition::BACKUP_EXECUTOR_ENSURED.fails(&target.conditions)
        || condition::PRE_BACKUP_HOOK.fails(&target.conditions)
        || condition::POST_BACKUP_HOOK.fails(&target.conditions)
        || condition::BACKUP_DISRUPTED.holds(&target.conditions)
    {
        return TargetPhase::Failed;
    }
    let Some(hosts) = target.total_hosts else { return TargetPhase::Pending };
    let ended: Vec<HostBackupPhase> = target.stats.iter().filter_map(|host| host.phase).collect();
    if i32::try_from(ended.len()) != Ok(hosts) {
        TargetPhase::Running
    } else if ended.contains(&HostBackupPhase::Failed) {
        TargetPhase::Failed
    } else {
        TargetPhase::Succeeded
    }
}

/// True when a target will not change again.
#[must_use]
pub fn is_over(phase: TargetPhase) -> bool {
    matches!(phase, TargetPhase::Succeeded | TargetPhase::Failed)
}

/// Of a BackupSession.
#[must_use]
pub fn backup(status: &BackupSessionStatus) -> SessionPhase {
    let conditions = &status.conditions;
    let pushed = condition::METRICS_PUSHED.status(conditions);
    if pushed == Some(Status::False) {
        return SessionPhase::Failed;
    }
    if condition::BACKUP_SKIPPED.holds(conditions) {
        return SessionPhase::Skipped;
    }
    let settled = pushed == Some(Status::True);
    if settled
        && (condition::DEADLINE_EXCEEDED.holds(conditions)
            || condition::BACKUP_HISTORY_CLEANED.fails(conditions)
            || condition::GLOBAL_PRE_BACKUP_HOOK.fails(conditions)
            || condition::GLOBAL_POST_BACKUP_HOOK.fails(conditions))
    {
        return SessionPhase::Failed;
    }
    let phases: Vec<TargetPhase> = status.targets.iter().map(target).collect();
    if phases.iter().all(|phase| *phase == TargetPhase::Pending) {
        return SessionPhase::Pending;
    }
    if settled && phases.iter().all(|phase| is_over(*phase)) {
        let after = [
            condition::RETENTION_POLICY_APPLIED,
            condition::REPOSITORY_INTEGRITY_VERIFIED,
            condition::REPOSITORY_METRICS_PUSHED,
        ];
        let failed = phases.contains(&TargetPhase::Failed)
            || after.iter().any(|kind| kind.fails(conditions));
        return if failed { SessionPhase::Failed } else { SessionPhase::Succeeded };
    }
    SessionPhase::Running
}

/// Of a RestoreSession. A spec that is refused is `Invalid` at once; the original computes that too late to show it.
#[must_use]
pub fn restore(status: &RestoreSessionStatus) -> RestorePhase {
    let conditions = &status.conditions;
    let pushed = condition::METRICS_PUSHED.status(conditions);
    let settled = pushed == Some(Status::True);
    if pushed == Some(Status::False)
        || (settled && condition::DEADLINE_EXCEEDED.holds(conditions))
        || (settled && condition::RESTORE_EXECUTOR_ENSURED.fails(conditions))
        || (settled && condition::PRE_RESTORE_HOOK.fails(conditions))
        || (settled && condition::POST_RESTORE_HOOK.fails(conditions))
    {
        return RestorePhase::Failed;
    }
    let hosts: Vec<HostRestorePhase> = status.stats.iter().filter_map(|host| host.phase).collect();
    let over = !hosts.is_empty()
        && i32::try_from(hosts.len()) == Ok(status.total_hosts.unwrap_or(1))
        && !hosts.contains(&HostRestorePhase::Running);
    if over && settled {
        return if hosts.contains(&HostRestorePhase::Unknown) {
            RestorePhase::Unknown
        } else if hosts.contains(&HostRestorePhase::Failed) {
            RestorePhase::Failed
        } else {
            RestorePhase::Succeeded
        };
    }
    if over || status.total_hosts.is_some() {
        return RestorePhase::Running;
    }
    if condition::VALIDATION_PASSED.fails(conditions) {
        return RestorePhase::Invalid;
    }
    RestorePhase::Pending
}

#[cfg(test)]
mod tests {
    use super::*;
    use coffer_api::{
        backup_session::HostBackupStats,
        condition::{Kind, set},
        restore_session::HostRestoreStats,
        time::from_clock,
    };

    fn conditions(all: &[(Kind, bool)]) -> Vec<Condition> {
        let now = from_clock(chrono::DateTime::UNIX_EPOCH);
        let mut conditions = vec![];
        for (kind, holds) in all {
            let make = if *holds { Kind::is_true } else { Kind::is_false };
            set(&mut conditions, make(*kind, "", now.clone()));
        }
        conditions
    }

    const FOUND: (Kind, bool) = (condition::REPOSITORY_FOUND, true);
    const SECRET: (Kind, bool) = (condition::BACKEND_SECRET_FOUND, true);
    const VALID: (Kind, bool) = (condition::VALIDATION_PASSED, true);
    const CRON: (Kind, bool) = (condition::CRON_JOB_CREATED, true);
    const PUSHED: (Kind, bool) = (condition::METRICS_PUSHED, true);

    #[test]
    fn invokers() {
        for (given, expected) in [
            (vec![], InvokerPhase::NotReady),
            (vec![(FOUND.0, false), SECRET, VALID, CRON], InvokerPhase::NotReady),
            (vec![FOUND, SECRET, (VALID.0, false), CRON], InvokerPhase::Invalid),
            (vec![FOUND, SECRET, VALID], InvokerPhase::NotReady),
            (vec![FOUND, SECRET, VALID, CRON], InvokerPhase::Ready),
            (
                vec![FOUND, SECRET, VALID, (condition::BACKUP_TARGET_FOUND, false), CRON],
                InvokerPhase::Ready,
            ),
        ] {
            assert_eq!(invoker(&conditions(&given)), expected, "{given:?}");
        }
    }

    fn session(all: &[(Kind, bool)], host: Option<HostBackupPhase>) -> BackupSessionStatus {
        let stats =
            host.map(|phase| HostBackupStats { phase: Some(phase), ..HostBackupStats::default() });
        BackupSessionStatus {
            conditions: conditions(all),
            targets: vec![BackupTargetStatus {
                total_hosts: Some(1),
                stats: stats.into_iter().collect(),
                ..BackupTargetStatus::default()
            }],
            ..BackupSessionStatus::default()
        }
    }

    #[test]
    fn backups() {
        let ok = Some(HostBackupPhase::Succeeded);
        let bad = Some(HostBackupPhase::Failed);
        let after = |kind| vec![(kind, false), PUSHED];
        for (given, host, expected) in [
            (vec![], None, SessionPhase::Running),
            (vec![], ok, SessionPhase::Running),
            (vec![PUSHED], ok, SessionPhase::Succeeded),
            (vec![PUSHED], bad, SessionPhase::Failed),
            (vec![(PUSHED.0, false)], ok, SessionPhase::Failed),
            (vec![(condition::BACKUP_SKIPPED, true)], None, SessionPhase::Skipped),
            (vec![(condition::DEADLINE_EXCEEDED, true)], bad, SessionPhase::Running),
            (vec![(condition::DEADLINE_EXCEEDED, true), PUSHED], None, SessionPhase::Failed),
            (after(condition::BACKUP_HISTORY_CLEANED), ok, SessionPhase::Failed),
            (after(condition::RETENTION_POLICY_APPLIED), ok, SessionPhase::Failed),
            (after(condition::REPOSITORY_INTEGRITY_VERIFIED), ok, SessionPhase::Failed),
            (after(condition::REPOSITORY_METRICS_PUSHED), ok, SessionPhase::Failed),
        ] {
            assert_eq!(backup(&session(&given, host)), expected, "{given:?} {host:?}");
        }
        assert_eq!(backup(&BackupSessionStatus::default()), SessionPhase::Pending);
    }

    #[test]
    fn restores() {
        let status = |all: &[(Kind, bool)], hosts: Option<i32>, host: Option<HostRestorePhase>| {
            let stats = host.map(|phase| HostRestoreStats {
                phase: Some(phase),
                ..HostRestoreStats::default()
            });
            RestoreSessionStatus {
                conditions: conditions(all),
                total_hosts: hosts,
                stats: stats.into_iter().collect(),
                ..RestoreSessionStatus::default()
            }
        };
        let ok = Some(HostRestorePhase::Succeeded);
        let bad = Some(HostRestorePhase::Failed);
        let executor = (condition::RESTORE_EXECUTOR_ENSURED, false);
        for (given, hosts, host, expected) in [
            (vec![], None, None, RestorePhase::Pending),
            (vec![(FOUND.0, false)], None, None, RestorePhase::Pending),
            (vec![FOUND, SECRET, (VALID.0, false)], None, None, RestorePhase::Invalid),
            (vec![FOUND, SECRET, VALID], Some(1), None, RestorePhase::Running),
            (vec![], Some(1), ok, RestorePhase::Running),
            (vec![PUSHED], Some(1), ok, RestorePhase::Succeeded),
            (vec![PUSHED], Some(1), bad, RestorePhase::Failed),
            (vec![(PUSHED.0, false)], Some(1), ok, RestorePhase::Failed),
            (vec![executor, PUSHED], None, None, RestorePhase::Failed),
            (
                vec![(condition::DEADLINE_EXCEEDED, true), PUSHED],
                Some(1),
                bad,
                RestorePhase::Failed,
            ),
        ] {
            assert_eq!(restore(&status(&given, hosts, host)), expected, "{given:?} {host:?}");
        }
    }
}
