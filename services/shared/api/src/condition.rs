//! Conditions: every type and reason of the API, and the merge that keeps transition times.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One aspect of an object's state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// What it is about, in CamelCase.
    #[serde(rename = "type")]
    pub kind: String,
    /// `True`, `False` or `Unknown`.
    pub status: Status,
    /// Why, in one CamelCase word.
    pub reason: String,
    /// Why, for people.
    pub message: String,
    /// When status, reason or message last changed.
    pub last_transition_time: Time,
    /// Generation of the spec it was set for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
}

/// The status of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs, reason = "the words of the Kubernetes API")]
pub enum Status {
    True,
    False,
    Unknown,
}

impl From<bool> for Status {
    fn from(value: bool) -> Self {
        if value { Self::True } else { Self::False }
    }
}

/// A condition type with its reasons.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    /// The `type`.
    pub name: &'static str,
    /// Reason when True.
    pub ok: &'static str,
    /// Reason when False; empty where it is never False.
    pub failed: &'static str,
    /// Reason when Unknown; empty where it is never Unknown.
    pub unknown: &'static str,
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $id:ident = $name:literal, $ok:literal, $failed:literal, $unknown:literal;)*) => {
        $($(#[$doc])* pub const $id: Kind = Kind { name: $name, ok: $ok, failed: $failed, unknown: $unknown };)*
    };
}

kinds! {
    /// The hook before all targets of a batch succeeded.
    GLOBAL_PRE_BACKUP_HOOK = "GlobalPreBackupHookSucceeded", "GlobalPreBackupHookExecutedSuccessfully", "GlobalPreBackupHookExecutionFailed", "";
    /// The hook after them succeeded, or was not to run.
    GLOBAL_POST_BACKUP_HOOK = "GlobalPostBackupHookSucceeded", "GlobalPostBackupHookExecutedSuccessfully", "GlobalPostBackupHookExecutionFailed", "";
    /// The hook before all members of a RestoreBatch succeeded.
    GLOBAL_PRE_RESTORE_HOOK = "GlobalPreRestoreHookSucceeded", "GlobalPreRestoreHookExecutedSuccessfully", "GlobalPreRestoreHookExecutionFailed", "";
    /// The hook after them succeeded, or was not to run.
    GLOBAL_POST_RESTORE_HOOK = "GlobalPostRestoreHookSucceeded", "GlobalPostRestoreHookExecutedSuccessfully", "GlobalPostRestoreHookExecutionFailed", "";
    /// The Repository exists.
    REPOSITORY_FOUND = "RepositoryFound", "RepositoryAvailable", "RepositoryNotAvailable", "UnableToCheckRepositoryAvailability";
    /// The storage Secret exists.
    BACKEND_SECRET_FOUND = "BackendSecretFound", "BackendSecretAvailable", "BackendSecretNotAvailable", "UnableToCheckBackendSecretAvailability";
    /// The spec is one that can be executed.
    VALIDATION_PASSED = "ValidationPassed", "ResourceValidationPassed", "ResourceValidationFailed", "";
    /// The target of a backup exists.
    BACKUP_TARGET_FOUND = "BackupTargetFound", "TargetAvailable", "TargetNotAvailable", "UnableToCheckTargetAvailability";
    /// The schedule is in force.
    CRON_JOB_CREATED = "CronJobCreated", "CronJobCreationSucceeded", "CronJobCreationFailed", "";
    /// The session was not executed.
    BACKUP_SKIPPED = "BackupSkipped", "SkippedTakingNewBackup", "", "";
    /// The repository exists in the backend.
    BACKEND_REPOSITORY_INITIALIZED = "BackendRepositoryInitialized", "BackendRepositoryFound", "FailedToInitializeBackendRepository", "";
    /// The keep rules were applied.
    RETENTION_POLICY_APPLIED = "RetentionPolicyApplied", "SuccessfullyAppliedRetentionPolicy", "FailedToApplyRetentionPolicy", "";
    /// The repository was checked.
    REPOSITORY_INTEGRITY_VERIFIED = "RepositoryIntegrityVerified", "SuccessfullyVerifiedRepositoryIntegrity", "FailedToVerifyRepositoryIntegrity", "";
    /// The repository's figures are at the metrics-gateway.
    REPOSITORY_METRICS_PUSHED = "RepositoryMetricsPushed", "SuccessfullyPushedRepositoryMetrics", "FailedToPushRepositoryMetrics", "";
    /// The session ran into its `timeOut`.
    DEADLINE_EXCEEDED = "DeadlineExceeded", "FailedToCompleteWithinDeadline", "", "";
    /// Old sessions were removed.
    BACKUP_HISTORY_CLEANED = "BackupHistoryCleaned", "SuccessfullyCleanedBackupHistory", "FailedToCleanBackupHistory", "";
    /// The session's figures are at the metrics-gateway.
    METRICS_PUSHED = "MetricsPushed", "SuccessfullyPushedMetrics", "FailedToPushMetrics", "";
    /// The backup's Job was created.
    BACKUP_EXECUTOR_ENSURED = "BackupExecutorEnsured", "SuccessfullyEnsuredBackupExecutor", "FailedToEnsureBackupExecutor", "UnableToEnsureBackupExecutor";
    /// The backup's Job went away or was stopped before it was done. True is bad.
    BACKUP_DISRUPTED = "BackupDisrupted", "FailedToCompleteDueToDisruption", "", "";
    /// The hook before the dump succeeded.
    PRE_BACKUP_HOOK = "PreBackupHookExecutionSucceeded", "SuccessfullyExecutedPreBackupHook", "FailedToExecutePreBackupHook", "";
    /// The hook after the dump succeeded, or was not to run.
    POST_BACKUP_HOOK = "PostBackupHookExecutionSucceeded", "SuccessfullyExecutedPostBackupHook", "FailedToExecutePostBackupHook", "";
    /// The target of a restore exists.
    RESTORE_TARGET_FOUND = "RestoreTargetFound", "TargetAvailable", "TargetNotAvailable", "UnableToCheckTargetAvailability";
    /// The restore's Job was created.
    RESTORE_EXECUTOR_ENSURED = "RestoreExecutorEnsured", "SuccessfullyEnsuredRestoreExecutor", "FailedToEnsureRestoreExecutor", "UnableToEnsureRestoreExecutor";
    /// The hook before the load succeeded.
    PRE_RESTORE_HOOK = "PreRestoreHookExecutionSucceeded", "SuccessfullyExecutedPreRestoreHook", "FailedToExecutePreRestoreHook", "";
    /// The hook after the load succeeded, or was not to run.
    POST_RESTORE_HOOK = "PostRestoreHookExecutionSucceeded", "SuccessfullyExecutedPostRestoreHook", "FailedToExecutePostRestoreHook", "";
}

impl Kind {
    /// It is so.
    #[must_use]
    pub fn is_true(self, message: impl Into<String>, now: Time) -> Condition {
        self.with(Status::True, self.ok, message, now)
    }

    /// It is not so.
    #[must_use]
    pub fn is_false(self, message: impl Into<String>, now: Time) -> Condition {
        self.with(Status::False, self.failed, message, now)
    }

    /// Nobody could find out.
    #[must_use]
    pub fn is_unknown(self, message: impl Into<String>, now: Time) -> Condition {
        self.with(Status::Unknown, self.unknown, message, now)
    }

    /// Its reason for a status.
    #[must_use]
    pub fn reason(self, status: Status) -> &'static str {
        match status {
            Status::True => self.ok,
            Status::False => self.failed,
            Status::Unknown => self.unknown,
        }
    }

    fn with(
        self,
        status: Status,
        reason: &str,
        message: impl Into<String>,
        now: Time,
    ) -> Condition {
        Condition {
            kind: self.name.to_owned(),
            status,
            reason: reason.to_owned(),
            message: message.into(),
            last_transition_time: now,
            observed_generation: None,
        }
    }

    /// Its status among `conditions`, when it is there.
    #[must_use]
    pub fn status(self, conditions: &[Condition]) -> Option<Status> {
        self.find(conditions).map(|c| c.status)
    }

    /// True when it is there and True.
    #[must_use]
    pub fn holds(self, conditions: &[Condition]) -> bool {
        self.status(conditions) == Some(Status::True)
    }

    /// True when it is there and False.
    #[must_use]
    pub fn fails(self, conditions: &[Condition]) -> bool {
        self.status(conditions) == Some(Status::False)
    }

    /// The condition of this type.
    #[must_use]
    pub fn find(self, conditions: &[Condition]) -> Option<&Condition> {
        conditions.iter().find(|c| c.kind == self.name)
    }
}

impl Condition {
    /// The same, said of this generation of the spec.
    #[must_use]
    pub fn of(mut self, generation: Option<i64>) -> Self {
        self.observed_generation = generation;
        self
    }
}

/// Sets `new` among `conditions`: nothing happens when only the time differs, else it replaces the one of its type in
/// place, or is appended. The order is that of first appearance.
pub fn set(conditions: &mut Vec<Condition>, new: Condition) {
    match conditions.iter_mut().find(|c| c.kind == new.kind) {
        Some(old) => {
            let same = old.status == new.status
                && old.reason == new.reason
                && old.message == new.message
                && old.observed_generation == new.observed_generation;
            if !same {
                *old = new;
            }
        }
        None => conditions.push(new),
    }
}

/// Type of the condition that says whether an invoker or a Repository can be used; what `kubectl wait` waits for.
pub const READY: &str = "Ready";
/// Type of the condition that says how a session ended: `Unknown` until it has.
pub const SUCCEEDED: &str = "Succeeded";

/// What all conditions of an object add up to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// `Unknown` while nobody can say.
    pub status: Status,
    /// Why, in one CamelCase word.
    pub reason: String,
    /// Why, for people.
    pub message: String,
}

/// Sets the condition that sums the others up, behind them all. As the conventions of Kubernetes have it, its time is that
/// of the last change of its status, whatever the message says meanwhile.
pub fn sum_up(
    conditions: &mut Vec<Condition>,
    kind: &str,
    summary: Summary,
    generation: Option<i64>,
    now: Time,
) {
    let Summary { status, reason, message } = summary;
    let at = conditions.iter().position(|condition| condition.kind == kind);
    let old = at.map(|at| conditions.remove(at));
    let since = old.filter(|old| old.status == status).map(|old| old.last_transition_time);
    conditions.push(Condition {
        kind: kind.to_owned(),
        status,
        reason,
        message,
        last_transition_time: since.unwrap_or(now),
        observed_generation: generation,
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::DateTime;

    fn at(seconds: i64) -> Time {
        crate::time::from_clock(DateTime::from_timestamp(seconds, 0).unwrap())
    }

    #[test]
    fn an_unchanged_condition_keeps_its_time() {
        let mut conditions = vec![];
        set(&mut conditions, REPOSITORY_FOUND.is_false("no repository", at(1)));
        set(&mut conditions, METRICS_PUSHED.is_true("pushed", at(2)));
        set(&mut conditions, REPOSITORY_FOUND.is_false("no repository", at(3)));
        assert_eq!(conditions[0].last_transition_time, at(1));
        set(&mut conditions, REPOSITORY_FOUND.is_true("found", at(4)));
        assert_eq!(conditions.len(), 2);
        assert_eq!(conditions[0].last_transition_time, at(4));
        assert!(REPOSITORY_FOUND.holds(&conditions));
    }

    #[test]
    fn a_summary_is_last_and_keeps_the_time_of_its_status() {
        let mut conditions = vec![];
        let summary = |status, message: &str| Summary {
            status,
            reason: "Because".to_owned(),
            message: message.to_owned(),
        };
        sum_up(&mut conditions, READY, summary(Status::False, "a"), Some(1), at(1));
        set(&mut conditions, REPOSITORY_FOUND.is_true("found", at(2)));
        sum_up(&mut conditions, READY, summary(Status::False, "b"), Some(2), at(2));
        let last = conditions.last().unwrap();
        assert_eq!((last.kind.as_str(), last.message.as_str()), ("Ready", "b"));
        assert_eq!((&last.last_transition_time, last.observed_generation), (&at(1), Some(2)));
        sum_up(&mut conditions, READY, summary(Status::True, ""), Some(2), at(3));
        assert_eq!(conditions.last().unwrap().last_transition_time, at(3));
        assert_eq!(conditions.len(), 2);
    }
}
