//! Where the runner keeps things below its data directory.

use std::{
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use anyhow::Context;
use tokio::fs;

/// The directories of the runner.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    root: PathBuf,
}

impl Layout {
    /// Makes the directories. The path becomes absolute, since containers work elsewhere.
    pub(super) async fn create(root: PathBuf) -> anyhow::Result<Self> {
        let root = std::path::absolute(&root)
            .with_context(|| format!("find the data directory {}", root.display()))?;
        let layout = Self { root };
        for name in ["pods", "volumes", "logs"] {
            private(&layout.root.join(name)).await?;
        }
        Ok(layout)
    }

    /// Everything that belongs to one Pod and goes with it.
    pub(super) fn pod(&self, uid: &str) -> PathBuf {
        self.root.join("pods").join(uid)
    }

    /// The directory of a Pod's own volume.
    pub(super) fn volume(&self, uid: &str, volume: &str) -> PathBuf {
        self.pod(uid).join("volumes").join(volume)
    }

    /// The file of a container's last words.
    pub(super) fn termination(&self, uid: &str, container: &str) -> PathBuf {
        self.pod(uid).join("termination").join(container)
    }

    /// The records of processes, one file a process group.
    pub(super) fn processes(&self) -> PathBuf {
        self.root.join("pods")
    }

    /// The record of a container's process group.
    pub(super) fn process(&self, uid: &str, container: &str) -> PathBuf {
        self.pod(uid).join("processes").join(container)
    }

    /// The directory that stands for a PersistentVolumeClaim; it outlives every Pod.
    pub(super) fn claim(&self, namespace: &str, claim: &str) -> PathBuf {
        self.root.join("volumes").join(namespace).join(claim)
    }

    /// The logs of a Pod.
    pub(super) fn logs(&self, namespace: &str, pod: &str) -> PathBuf {
        self.root.join("logs").join(namespace).join(pod)
    }

    /// Removes what belongs to a Pod that is gone.
    pub(super) async fn forget(&self, uid: &str, namespace: &str, pod: &str) {
        for path in [self.pod(uid), self.logs(namespace, pod)] {
            match fs::remove_dir_all(&path).await {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    tracing::warn!(path = %path.display(), %error, "cannot remove what a Pod left");
                }
                _ => {}
            }
        }
    }
}

/// Makes a directory that only its owner can enter.
pub(super) async fn private(path: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(path).await.with_context(|| format!("make directory {}", path.display()))?;
    fs::set_permissions(path, std::fs::Permissions::from_mode(0o700))
        .await
        .with_context(|| format!("protect directory {}", path.display()))
}
