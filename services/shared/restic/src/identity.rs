//! Who we are in lock files, and whether another lock's holder is gone.
//!
//! restic calls a lock stale when its process is gone on the same host name. Two containers can share
//! a host name but not see each other's processes, so our name also carries the number of the
//! process namespace, and a random part per process: a restic elsewhere never mistakes a lock of
//! ours for one of its own, and we only judge processes that we would see if they lived.

use std::fs;
use std::path::Path;

use crate::crypto;
use crate::error::Result;

/// The name, user and process our locks are written under.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    /// `<host>-<process namespace>-`, what all our processes on this machine share.
    machine: String,
    pub(crate) hostname: String,
    pub(crate) username: String,
    pub(crate) pid: u32,
}

impl Identity {
    pub(crate) fn new(host: &str, username: &str) -> Result<Self> {
        let mut random = [0; 4];
        crypto::random(&mut random)?;
        let machine = format!("{host}-{}-", process_namespace());
        let hostname = format!("{machine}{}", hex::encode(random));
        Ok(Self { machine, hostname, username: username.into(), pid: std::process::id() })
    }

    /// Whether the process that wrote a lock under this name and number is certainly gone.
    pub(crate) fn is_gone(&self, hostname: &str, pid: u32) -> bool {
        if hostname == self.hostname || !hostname.starts_with(&self.machine) {
            return false;
        }
        // The same number under another random part: we have inherited a dead process's number,
        // or it is another handle in our own process. Only age can tell.
        pid != self.pid && Path::new("/proc/self").exists() && !process_exists(pid)
    }
}

fn process_exists(pid: u32) -> bool {
    Path::new("/proc").join(pid.to_string()).exists()
}

/// The inode of our process namespace, or 0 where there is none to be read.
fn process_namespace() -> String {
    fs::read_link("/proc/self/ns/pid")
        .ok()
        .map(|link| link.to_string_lossy().chars().filter(char::is_ascii_digit).collect())
        .filter(|digits: &String| !digits.is_empty())
        .unwrap_or_else(|| "0".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_dead_processes_of_this_machine_are_gone() {
        let us = Identity::new("pod-1", "u").unwrap();
        let sibling = format!("{}0a0b0c0d", us.machine);
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let dead = child.id();
        child.wait().unwrap();
        assert!(us.is_gone(&sibling, dead));
        assert!(!us.is_gone(&sibling, 1));
        assert!(!us.is_gone(&sibling, us.pid));
        assert!(!us.is_gone(&us.hostname, dead));
        assert!(!us.is_gone("pod-1", dead));
        assert!(!us.is_gone("other-pod", dead));
    }
}
