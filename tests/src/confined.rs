//! A program on a disk that is full, or that must not be written: the faults of storage, made without the rights of root. And
//! one that knows names which only a cluster has.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Result, ensure};

/// A namespace of mounts for who is not root, where the machine allows it.
const UNPRIVILEGED: [&str; 4] = ["unshare", "--user", "--map-root-user", "--mount"];

/// What a command is put behind, so that it meets the fault.
#[derive(Clone, Debug, Default)]
pub struct Confinement(Vec<String>);

impl Confinement {
    /// None.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    fn of(words: &[&str]) -> Self {
        Self(words.iter().map(|word| (*word).to_owned()).collect())
    }

    /// A disk of its own at `directory`, of so many megabytes. It is seen by the program alone: look at it through
    /// `/proc/PID/root`. Where this machine allows no mounts to anybody but root, a limit on the size of files takes its
    /// place, which says so and is the next best: the write fails as well, with another word of the system's.
    ///
    /// # Errors
    /// When the directory cannot be made.
    pub fn small_disk(directory: &Path, megabytes: u32) -> Result<Self> {
        std::fs::create_dir_all(directory)?;
        let directory = directory.display();
        let mount = format!("mount -t tmpfs -o size={megabytes}m tmpfs \"{directory}\"");
        if let Some(mounted) = Self::mounted(&mount) {
            return Ok(mounted);
        }
        eprintln!(
            "NOTE: this machine lets nobody but root mount a file system, so that the disk is not really full: \
             files have a limit of {megabytes} MB instead"
        );
        let limit = format!("trap '' XFSZ; exec prlimit --fsize={} \"$@\"", megabytes << 20);
        Ok(Self::of(&["sh", "-c", &limit, "sh"]))
    }

    /// With names of its own for 127.0.0.1, as the DNS of a cluster has them for Services; `hosts` is the file to write them
    /// to. None where this machine allows no mounts to anybody but root.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn names(hosts: &Path, names: &[&str]) -> Result<Option<Self>> {
        std::fs::write(hosts, format!("127.0.0.1 localhost {}\n", names.join(" ")))?;
        Ok(Self::mounted(&format!("mount --bind \"{}\" /etc/hosts", hosts.display())))
    }

    /// In a namespace of mounts where this one was made.
    fn mounted(mount: &str) -> Option<Self> {
        let script = format!("{mount} && exec \"$@\"");
        [&["unshare", "--mount"][..], &UNPRIVILEGED].into_iter().find_map(|namespace| {
            let words = [namespace, &["sh", "-c", &script, "sh"]].concat();
            let mut probe = Command::new(words[0]);
            probe.args(&words[1..]).arg("true").stderr(Stdio::null());
            probe.status().is_ok_and(|status| status.success()).then(|| Self::of(&words))
        })
    }

    /// Obeys the permissions of files, also as root.
    #[must_use]
    pub fn no_override() -> Self {
        let words = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"];
        let probed =
            Command::new(words[0]).args(&words[1..]).arg("true").stderr(Stdio::null()).status();
        // Who is not root has nothing to give up.
        if probed.is_ok_and(|status| status.success()) { Self::of(&words) } else { Self::none() }
    }

    /// The command that runs `program`.
    #[must_use]
    pub fn command(&self, program: &Path) -> Command {
        match self.0.as_slice() {
            [] => Command::new(program),
            [first, rest @ ..] => {
                let mut command = Command::new(first);
                command.args(rest).arg(program);
                command
            }
        }
    }
}

/// A directory without the permission to write, anywhere below, until the value goes.
pub struct Sealed(PathBuf);

impl Sealed {
    /// Takes the permission away.
    ///
    /// # Errors
    /// When it cannot be.
    pub fn new(directory: &Path) -> Result<Self> {
        let sealed = Self(directory.to_owned());
        chmod("a-w", directory)?;
        Ok(sealed)
    }
}

impl Drop for Sealed {
    fn drop(&mut self) {
        let _ = chmod("u+w", &self.0);
    }
}

fn chmod(mode: &str, directory: &Path) -> Result<()> {
    let status = Command::new("chmod").args(["-R", mode]).arg(directory).status()?;
    ensure!(status.success(), "chmod -R {mode} {}", directory.display());
    Ok(())
}
