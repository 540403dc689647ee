//! The `coffer` program as users run it: `coffer up` in the background, and its verbs against it.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};

use crate::{confined::Confinement, wait};

/// How long a start or a stop may take. On a machine that builds something meanwhile, seconds become tens of seconds.
pub const START_LIMIT: Duration = Duration::from_secs(90);

/// A running `coffer up`.
pub struct Coffer {
    child: Child,
    program: PathBuf,
    data_dir: PathBuf,
}

/// Where a verb's output goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// To the caller.
    Captured,
    /// To the terminal.
    Shown,
}

impl Coffer {
    /// Starts the `coffer` that lies beside this program, with its data below `folder`.
    ///
    /// # Errors
    /// When it is not ready within [`START_LIMIT`], with its log.
    pub async fn up(folder: &Path) -> Result<Self> {
        let program = std::env::current_exe()?.with_file_name("coffer");
        Self::up_with(&program, folder, &Confinement::none(), &[]).await
    }

    /// Starts that program, with its data below `folder` and further flags.
    ///
    /// # Errors
    /// When it is not ready within [`START_LIMIT`], with its log.
    pub async fn up_with(
        program: &Path,
        folder: &Path,
        confinement: &Confinement,
        flags: &[String],
    ) -> Result<Self> {
        let data_dir = folder.join("coffer");
        let log = folder.join("coffer.log");
        let ready = data_dir.join("ready");
        let _ = std::fs::remove_file(&ready);
        let file = std::fs::OpenOptions::new().create(true).append(true).open(&log)?;
        let child = confinement
            .command(program)
            .args(["up", "--data-dir"])
            .arg(&data_dir)
            .args(flags)
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("start {}", program.display()))?;
        let mut coffer = Self { child, program: program.to_owned(), data_dir };
        wait::until("coffer up is ready", START_LIMIT, async || {
            if let Some(status) = coffer.child.try_wait()? {
                bail!(
                    "coffer up ended ({status}):\n{}",
                    std::fs::read_to_string(&log).unwrap_or_default()
                );
            }
            Ok(ready.exists().then_some(()))
        })
        .await?;
        Ok(coffer)
    }

    /// The kubeconfig that it wrote.
    #[must_use]
    pub fn kubeconfig(&self) -> PathBuf {
        self.data_dir.join("kubeconfig")
    }

    /// Runs a verb and returns its standard output when that is captured.
    ///
    /// # Errors
    /// When it ends with another code than 0, with its standard error when that is captured.
    pub fn run(&self, args: &[&str], output: Output) -> Result<String> {
        let mut command = Command::new(&self.program);
        command.args(args).arg("--kubeconfig").arg(self.kubeconfig()).stdin(Stdio::null());
        if output == Output::Shown {
            command.stdout(Stdio::inherit()).stderr(Stdio::inherit());
            let status = command.status()?;
            if !status.success() {
                bail!("coffer {} ended with {status}", args.join(" "));
            }
            return Ok(String::new());
        }
        let done = command.output()?;
        if !done.status.success() {
            bail!("coffer {}: {}", args.join(" "), String::from_utf8_lossy(&done.stderr));
        }
        Ok(String::from_utf8_lossy(&done.stdout).into_owned())
    }

    /// Where its data is.
    #[must_use]
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// Stops it as Ctrl-C would.
    ///
    /// # Errors
    /// When it has not ended within [`START_LIMIT`], or failed.
    pub async fn down(mut self) -> Result<()> {
        let status = Command::new("kill").args(["-INT", &self.child.id().to_string()]).status()?;
        anyhow::ensure!(status.success(), "signal coffer up");
        wait::until("coffer up has ended", START_LIMIT, async || Ok(self.child.try_wait()?))
            .await?;
        Ok(())
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Kills it with SIGKILL.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Coffer {
    fn drop(&mut self) {
        self.kill();
    }
}
