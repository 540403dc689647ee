//! A storage-gateway in a process of its own, so that it can be killed while everything else goes on.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, Result, bail};
use coffer_runtime::{authority::Authority, grant::Signer};
use tokio::net::TcpStream;

use crate::{
    coffer::{Coffer, START_LIMIT},
    wait,
};

/// A running storage-gateway.
pub struct Gateway {
    child: Child,
    program: PathBuf,
    folder: tempfile::TempDir,
    port: u16,
    kubeconfig: PathBuf,
}

impl Gateway {
    /// Starts `program` for a Coffer that was told of `https://127.0.0.1:PORT`.
    ///
    /// # Errors
    /// When it does not answer within [`START_LIMIT`].
    pub async fn start(program: &Path, coffer: &Coffer, port: u16) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        certify(coffer, "storage-gateway", folder.path())?;
        let kubeconfig = coffer.kubeconfig();
        let child = spawn(program, folder.path(), port, &kubeconfig)?;
        let mut gateway = Self { child, program: program.to_owned(), folder, port, kubeconfig };
        gateway.ready().await?;
        Ok(gateway)
    }

    async fn ready(&mut self) -> Result<()> {
        wait::until("the storage-gateway listens", START_LIMIT, async || {
            if let Some(status) = self.child.try_wait()? {
                let log = std::fs::read_to_string(self.folder.path().join("log"));
                bail!("the storage-gateway ended ({status}):\n{}", log.unwrap_or_default());
            }
            Ok(TcpStream::connect(("127.0.0.1", self.port)).await.ok().map(|_| ()))
        })
        .await
    }

    /// Kills it with SIGKILL.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Starts it again in the same place.
    ///
    /// # Errors
    /// When it does not answer within [`START_LIMIT`].
    pub async fn restart(&mut self) -> Result<()> {
        self.kill();
        self.child = spawn(&self.program, self.folder.path(), self.port, &self.kubeconfig)?;
        self.ready().await
    }
}

/// Puts what a service of this Coffer identifies itself with into a folder: `tls.crt`, `tls.key`, `ca.crt`, and the key that
/// checks grants, `grants.pub`.
///
/// # Errors
/// When it cannot be made.
pub fn certify(coffer: &Coffer, service: &str, folder: &Path) -> Result<()> {
    let services = coffer.data_dir().join("services");
    let authority = Authority::load_or_create(&services)?;
    let identity = authority.issue(service, &["127.0.0.1"])?;
    let signer = Signer::load_or_create(&services.join("grants.key"))?;
    for (file, text) in [
        ("tls.crt", identity.certificates.as_str()),
        ("tls.key", identity.key.reveal()),
        ("ca.crt", authority.certificate()),
        ("grants.pub", signer.public_key()),
    ] {
        std::fs::write(folder.join(file), text)?;
    }
    Ok(())
}

fn spawn(program: &Path, folder: &Path, port: u16, kubeconfig: &Path) -> Result<Child> {
    let log = std::fs::OpenOptions::new().create(true).append(true).open(folder.join("log"))?;
    let file = |flag: &str, name: &str| format!("--{flag}={}", folder.join(name).display());
    Command::new(program)
        .arg(format!("--listen=127.0.0.1:{port}"))
        .arg(format!("--local-root={}", folder.join("volumes").display()))
        .args([file("tls-cert", "tls.crt"), file("tls-key", "tls.key"), file("tls-ca", "ca.crt")])
        .arg(file("grant-public-key", "grants.pub"))
        .arg("--instance=gateway-under-test")
        .env("KUBECONFIG", kubeconfig)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .with_context(|| format!("start {}", program.display()))
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.kill();
    }
}
