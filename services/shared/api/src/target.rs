//! References: to what is backed up or restored into, to the Repository, and to the Task that does it.

use k8s_openapi::api::core::v1::VolumeMount;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The kind that Redis targets have.
pub const APP_BINDING: (&str, &str) = ("appcatalog.appscode.com/v1alpha1", "AppBinding");

/// An object that is backed up or restored into. For Redis: an AppBinding.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TargetRef {
    /// Group and version, `appcatalog.appscode.com/v1alpha1`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub api_version: String,
    /// Kind, `AppBinding`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// Name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Namespace; empty for that of the object that holds this reference.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub namespace: String,
}

impl TargetRef {
    /// True when it names an AppBinding, the only kind of target that holds a Redis.
    #[must_use]
    pub fn is_app_binding(&self) -> bool {
        self.kind == APP_BINDING.1 && self.api_version.starts_with("appcatalog.appscode.com/")
    }

    /// The namespace to look in, `own` when it names none.
    #[must_use]
    pub fn namespace_or<'a>(&'a self, own: &'a str) -> &'a str {
        if self.namespace.is_empty() { own } else { &self.namespace }
    }
}

/// The Repository of an invoker.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RepositoryRef {
    /// Name of the Repository.
    pub name: String,
    /// Its namespace; empty for the invoker's own.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub namespace: String,
}

impl RepositoryRef {
    /// The namespace to look in, `own` when it names none.
    #[must_use]
    pub fn namespace_or<'a>(&'a self, own: &'a str) -> &'a str {
        if self.namespace.is_empty() { own } else { &self.namespace }
    }
}

/// The Task to run, with parameters for its Functions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TaskRef {
    /// Name of the Task; empty for the one that the AppBinding's addon names.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Values for the variables of its Functions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub params: Vec<Param>,
}

/// A named value for a Function's variable.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Param {
    /// Name of the variable.
    pub name: String,
    /// Its value.
    pub value: String,
}

/// What a BackupConfiguration backs up.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackupTarget {
    /// restic's host for the snapshots; empty for `host-0`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub alias: String,
    /// The object.
    #[serde(rename = "ref", default)]
    pub reference: TargetRef,
    /// Paths, for targets that are files. Not used for Redis.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<String>,
    /// Patterns to leave out, for targets that are files. Not used for Redis.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<String>,
    /// Arguments of path backups. Not used for Redis.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// Mounts of the target's volumes. Not used for Redis.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volume_mounts: Vec<VolumeMount>,
    /// Replicas of a StatefulSet. Not used for Redis.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,
    /// VolumeSnapshotClass. Not used for Redis.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub snapshot_class_name: String,
}

/// What a RestoreSession restores into, and which snapshot.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RestoreTarget {
    /// The host that the rules are matched against.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub alias: String,
    /// The object.
    #[serde(rename = "ref", default)]
    pub reference: TargetRef,
    /// Mounts of the target's volumes. Not used for Redis.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volume_mounts: Vec<VolumeMount>,
    /// Replicas of a StatefulSet. Not used for Redis.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,
    /// Volumes to create. Not used for Redis.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volume_claim_templates: Vec<crate::runtime_settings::VolumeTemplate>,
    /// Which snapshot each host gets.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<Rule>,
    /// Arguments of path restores. Not used for Redis.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
}

/// Which snapshot the hosts it names get.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Rule {
    /// Aliases it applies to; empty for all that no other rule names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub target_hosts: Vec<String>,
    /// Host whose snapshots are used; empty for the target's own.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub source_host: String,
    /// `latest` or one snapshot id.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub snapshots: Vec<String>,
    /// Paths to restore. Not used for Redis.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<String>,
    /// Patterns to leave out. Not used for Redis.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<String>,
    /// Patterns to restore. Not used for Redis.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub include: Vec<String>,
}

/// How an invoker is executed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Driver {
    /// Into a restic repository.
    #[default]
    Restic,
    /// By volume snapshots. Accepted by the schema, not used for Redis.
    VolumeSnapshotter,
}

/// The order of a batch's members.
pub const PARALLEL: &str = "Parallel";

pub(crate) fn parallel() -> String {
    PARALLEL.to_owned()
}
