//! An orchestrator in a process of its own: one of several, which can be killed and frozen while everything else goes on, or
//! one with flags that `coffer up` has not.

use std::{
    path::Path,
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, Result, bail, ensure};
use tokio::net::TcpStream;

use crate::{coffer::START_LIMIT, gateway::certify, redis_server::free_port, wait, world::World};

/// A running orchestrator.
pub struct Orchestrator {
    child: Child,
    folder: tempfile::TempDir,
}

impl Orchestrator {
    /// Starts `program` with further flags beside a Coffer that was told that its orchestrator is elsewhere.
    ///
    /// # Errors
    /// When it does not listen within [`START_LIMIT`], with its log.
    pub async fn start(program: &str, world: &World, flags: &[String]) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let port = free_port()?;
        certify(&world.coffer, "orchestrator", folder.path())?;
        let file = |flag: &str, path: &Path| format!("--{flag}={}", path.display());
        let own = |flag: &str, name: &str| file(flag, &folder.path().join(name));
        let log = std::fs::File::create(folder.path().join("log"))?;
        let child = Command::new(program)
            .arg(format!("--listen=127.0.0.1:{port}"))
            .arg(format!("--worker-orchestrator=https://127.0.0.1:{port}"))
            .arg(format!("--catalog={}", world.endpoint("catalog").await?))
            .arg(format!("--storage-gateway={}", world.endpoint("storage-gateway").await?))
            .arg(format!("--metrics-gateway={}", world.endpoint("metrics-gateway").await?))
            .args([own("tls-cert", "tls.crt"), own("tls-key", "tls.key"), own("tls-ca", "ca.crt")])
            .arg(file("grant-key", &world.coffer.data_dir().join("services/grants.key")))
            .args(flags)
            .env("KUBECONFIG", world.coffer.kubeconfig())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("start {program}"))?;
        let mut orchestrator = Self { child, folder };
        wait::until("the orchestrator listens", START_LIMIT, async || {
            if let Some(status) = orchestrator.child.try_wait()? {
                bail!("the orchestrator ended ({status}):\n{}", orchestrator.log());
            }
            Ok(TcpStream::connect(("127.0.0.1", port)).await.ok().map(|_| ()))
        })
        .await?;
        Ok(orchestrator)
    }

    /// What it wrote.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Sends it a signal: `KILL`, `STOP` or `CONT`.
    ///
    /// # Errors
    /// When it is gone.
    pub fn signal(&self, signal: &str) -> Result<()> {
        let pid = self.child.id().to_string();
        let status = Command::new("kill").args([&format!("-{signal}"), &pid]).status()?;
        ensure!(status.success(), "kill -{signal} {pid}");
        Ok(())
    }

    /// Waits until it ends by itself.
    ///
    /// # Errors
    /// When it has not within [`START_LIMIT`].
    pub async fn ended(&mut self) -> Result<()> {
        wait::until("the orchestrator ends", START_LIMIT, async || {
            Ok(self.child.try_wait()?.map(|_| ()))
        })
        .await
    }
}

impl Drop for Orchestrator {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
