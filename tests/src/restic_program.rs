//! The restic program, the oracle for every repository that Coffer writes.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

/// A repository as the restic program sees it.
#[derive(Clone, Debug)]
pub struct ResticProgram {
    repository: PathBuf,
    password: String,
}

impl ResticProgram {
    /// Looks at the repository in a directory.
    #[must_use]
    pub fn new(repository: &Path, password: &str) -> Self {
        Self { repository: repository.to_owned(), password: password.to_owned() }
    }

    /// The command, ready for arguments.
    #[must_use]
    pub fn command(&self) -> Command {
        let mut command = Command::new("restic");
        command
            .env("RESTIC_PASSWORD", &self.password)
            .env("RESTIC_REPOSITORY", &self.repository)
            .arg("--no-cache");
        command.stdin(Stdio::null());
        command
    }

    /// Runs it and returns what it wrote to standard output.
    ///
    /// # Errors
    /// When it fails, with what it wrote to standard error.
    pub fn run(&self, args: &[&str]) -> Result<Vec<u8>> {
        let output = self.command().args(args).output().context("run restic: is it installed?")?;
        if !output.status.success() {
            bail!("restic {}: {}", args.join(" "), String::from_utf8_lossy(&output.stderr));
        }
        Ok(output.stdout)
    }

    /// `restic check --read-data`.
    ///
    /// # Errors
    /// When it finds anything.
    pub fn check(&self) -> Result<()> {
        self.run(&["check", "--read-data"]).map(|_| ())
    }

    /// The snapshots, oldest first.
    ///
    /// # Errors
    /// When restic cannot list them.
    pub fn snapshots(&self) -> Result<Vec<Value>> {
        Ok(serde_json::from_slice(&self.run(&["snapshots", "--json"])?)?)
    }

    /// The size of a file, in bytes.
    ///
    /// # Errors
    /// When the snapshot does not hold it.
    pub fn file_size(&self, snapshot: &str, path: &str) -> Result<u64> {
        let listing = self.run(&["ls", "--json", snapshot])?;
        let lines = listing.split(|b| *b == b'\n').filter(|line| !line.is_empty());
        for line in lines {
            let node: Value = serde_json::from_slice(line)?;
            if node["path"] == path {
                return node["size"].as_u64().with_context(|| format!("{path} has no size"));
            }
        }
        bail!("snapshot {snapshot} holds no {path}")
    }

    /// The bytes of a file.
    ///
    /// # Errors
    /// When restic cannot read it.
    pub fn dump(&self, snapshot: &str, path: &str) -> Result<Vec<u8>> {
        self.run(&["dump", snapshot, path])
    }
}
