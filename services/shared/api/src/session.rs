//! What the orchestrator tells a worker: the document in the session Secret, mounted into every container of the Job.
//!
//! A worker has no Kubernetes rights and asks nobody; everything it needs is here.

use serde::{Deserialize, Serialize};

/// Key of the document in the Secret.
pub const KEY: &str = "session.json";
/// Where the Secret is mounted.
pub const MOUNT_PATH: &str = "/coffer/session";
/// Environment variable that holds the directory of the mounted Secret.
pub const DIR_ENV: &str = "COFFER_SESSION_DIR";
/// Name of the Secret's volume in the pod.
pub const VOLUME: &str = "coffer-session";

/// Everything that a worker needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Session {
    /// Version of this document: 1.
    pub version: u32,
    /// `BackupSession` or `RestoreSession`.
    pub kind: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The invoker: `BackupConfiguration` or `RestoreSession`, and its name.
    pub invoker_kind: String,
    /// Name of the invoker.
    pub invoker_name: String,
    /// Kind and name of the target, and its `type`, for metric labels.
    pub target: Target,
    /// The Redis.
    pub redis: Redis,
    /// The repository.
    pub repository: Repository,
    /// restic's host of the snapshot to write; the alias, possibly empty, in a restore.
    pub host: String,
    /// For a backup: tags of the snapshot.
    #[serde(default)]
    pub tags: Vec<String>,
    /// For a restore: which snapshot.
    #[serde(default)]
    pub restore: Option<Restore>,
    /// Where the services are.
    pub endpoints: Endpoints,
    /// The session's grant: a bearer token that opens only this session, repository and operation.
    pub grant: Sensitive,
    /// Seconds to wait for the Redis to answer.
    pub wait_timeout_seconds: u64,
}

/// The target, for metric labels.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Target {
    /// Kind of the object, `AppBinding`.
    pub kind: String,
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// `spec.type` of the AppBinding, `redis`.
    pub app_type: String,
}

/// How to reach the Redis, and as whom.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Redis {
    /// Name or address, or the path of a Unix socket, which begins with a slash.
    pub host: String,
    /// Port; 0 for a Unix socket.
    pub port: u16,
    /// ACL user; the default one when absent.
    #[serde(default)]
    pub username: Option<String>,
    /// Password; none when absent.
    #[serde(default)]
    pub password: Option<Sensitive>,
    /// ACL user of the Sentinel that the address leads to, where it does not know the other.
    #[serde(default)]
    pub sentinel_username: Option<String>,
    /// Its password.
    #[serde(default)]
    pub sentinel_password: Option<Sensitive>,
    /// TLS; plain when absent.
    #[serde(default)]
    pub tls: Option<RedisTls>,
}

/// TLS to the Redis.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RedisTls {
    /// PEM of the CA; the system's roots when absent.
    #[serde(default)]
    pub ca: Option<String>,
    /// PEM of the client certificate.
    #[serde(default)]
    pub certificate: Option<String>,
    /// PEM of its key.
    #[serde(default)]
    pub key: Option<Sensitive>,
    /// Name in the server's certificate, when it is not the host's.
    #[serde(default)]
    pub server_name: Option<String>,
    /// Another name that the certificate may bear instead. Not of a session: of servers that others name.
    #[serde(skip)]
    pub also_named: Option<String>,
    /// Accepts any certificate.
    #[serde(default)]
    pub insecure_skip_verify: bool,
}

/// A Repository of the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Repository {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
}

/// Which snapshot to restore.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Restore {
    /// `latest` or an id.
    pub snapshot: String,
    /// With `latest`: only snapshots of this host; empty for any.
    pub source_host: String,
}

/// Where the services are: `https://host:port`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Endpoints {
    /// Snapshots.
    pub storage_gateway: String,
    /// Progress.
    pub orchestrator: String,
    /// Metrics.
    pub metrics_gateway: String,
    /// PEM of the CA that signed their certificates; they speak plain text when absent.
    #[serde(default)]
    pub ca: Option<String>,
}

/// A text that is never printed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Sensitive(String);

impl Sensitive {
    /// Hides a text.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text, for the one place that needs it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Sensitive {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sensitive_text_is_not_printed() {
        let text = format!("{:?}", Sensitive::new("hunter2"));
        assert_eq!(text, "***");
    }
}
