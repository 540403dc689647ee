//! BackupBatch: several targets, one schedule and one repository.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    backup_configuration::InvokerPhase,
    condition::Condition,
    hook::BackupHooks,
    retention::{RetentionPolicy, RetryConfig},
    runtime_settings::{EmptyDirSettings, RuntimeSettings, VolumeTemplate},
    target::{BackupTarget, Driver, RepositoryRef, TargetRef, TaskRef, parallel},
};

/// Several targets that are backed up together.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "stash.appscode.com",
    version = "v1beta1",
    kind = "BackupBatch",
    plural = "backupbatches",
    singular = "backupbatch",
    category = "stash",
    category = "appscode",
    category = "all",
    namespaced,
    status = "BackupBatchStatus",
    derive = "Default",
    derive = "PartialEq",
    printcolumn(name = "Schedule", type_ = "string", json_path = ".spec.schedule"),
    printcolumn(name = "Paused", type_ = "boolean", json_path = ".spec.paused"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct BackupBatchSpec {
    /// The targets.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<BackupBatchMember>,
    /// Cron expression.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub schedule: String,
    /// Only `Restic` has a meaning for Redis.
    #[serde(default)]
    pub driver: Driver,
    /// Where to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository: Option<RepositoryRef>,
    /// What is kept.
    pub retention_policy: RetentionPolicy,
    /// Takes no scheduled backups.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub paused: bool,
    /// BackupSessions that are kept; 1 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub backup_history_limit: Option<i32>,
    /// Around all members.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hooks: Option<BackupHooks>,
    /// `Parallel` or `Sequential`.
    #[serde(default = "parallel")]
    pub execution_order: String,
    /// Longest time of a session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_out: Option<String>,
    /// Tries failed sessions again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_config: Option<RetryConfig>,
    /// Settings of the trigger's pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime_settings: Option<RuntimeSettings>,
}

/// One target of a batch.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackupBatchMember {
    /// What.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<BackupTarget>,
    /// How.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<TaskRef>,
    /// Settings of the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime_settings: Option<RuntimeSettings>,
    /// Scratch directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temp_dir: Option<EmptyDirSettings>,
    /// A volume for the session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interim_volume_template: Option<VolumeTemplate>,
    /// Around this member.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hooks: Option<BackupHooks>,
}

/// What the orchestrator made of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackupBatchStatus {
    /// Generation of the spec that was looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// What the conditions add up to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<InvokerPhase>,
    /// Of the batch.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// Of its members.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub member_conditions: Vec<MemberConditions>,
}

/// Conditions of one member.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MemberConditions {
    /// The member.
    pub target: TargetRef,
    /// Its conditions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}
