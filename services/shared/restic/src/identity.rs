//! Who we are in lock files, and whether another lock's holder is certainly gone.
//!
//! restic calls a lock stale when its process is gone on the same host name. Two machines or containers
//! can share a host name and not see each other's processes, so our name in lock files says more: the
//! boot and the process namespace it was written in, when its process began, and a random part. A restic
//! elsewhere never mistakes a lock of ours for one of its own, and we only judge processes that we would
//! see if they lived.
//!
//! A container that was restarted is in another namespace and cannot judge its predecessor's processes.
//! An [`Instance`] closes that gap: a name that the platform gives to one living process at a time.

use std::{fs, io};

use chrono::{DateTime, Utc};
use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};

use crate::crypto;
use crate::error::Result;

/// A name that at most one living process bears at a time, and when this process took it.
///
/// A StatefulSet's pod name is such a name together with the cluster's id, since pods of other clusters that
/// use the same repository have the same names; and so is a directory that is locked by its process. The pod
/// name of a Deployment is not needed twice, and a host name is not unique. Whoever bears the name knows
/// that all earlier bearers are gone, and may remove their locks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// The name.
    pub name: String,
    /// When this process began, the same for all repositories that it opens.
    pub started: DateTime<Utc>,
}

/// The name, user and process our locks are written under.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    /// What the names of all locks begin with whose holders we can judge.
    kin: String,
    began: u64,
    by_instance: bool,
    pub(crate) hostname: String,
    pub(crate) username: String,
    pub(crate) pid: u32,
}

impl Identity {
    pub(crate) fn new(host: &str, username: &str, instance: Option<&Instance>) -> Result<Self> {
        let mut random = [0; 4];
        crypto::random(&mut random)?;
        let pid = std::process::id();
        let (kin, began) = match instance {
            Some(Instance { name, started }) => {
                (format!("{name}@"), u64::try_from(started.timestamp_millis()).unwrap_or(0))
            }
            None => {
                let began = look_for(pid).since().unwrap_or(0);
                (format!("{host}-{}.{}-", boot(), process_namespace()), began)
            }
        };
        let hostname = format!("{kin}{began}-{}", hex::encode(random));
        let by_instance = instance.is_some();
        Ok(Self { kin, began, by_instance, hostname, username: username.into(), pid })
    }

    /// Whether the process that wrote a lock under this name and number is certainly gone.
    pub(crate) fn is_gone(&self, hostname: &str, pid: u32) -> bool {
        let rest = hostname.strip_prefix(&self.kin).and_then(|rest| rest.split_once('-'));
        let Some(Ok(theirs)) = rest.map(|(began, _)| began.parse::<u64>()) else { return false };
        if self.by_instance {
            theirs < self.began
        } else {
            // Without a process file system nothing can be told; a number that was given away again
            // belongs to a process that began at another time.
            self.began > 0 && theirs > 0 && look_for(pid).is_another_than(theirs)
        }
    }
}

/// What can be seen of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    /// It began at this time, in clock ticks since the boot.
    Since(u64),
    /// The kernel says that there is none of this number.
    Gone,
    /// Nothing that would prove anything: the process file system may hide the processes of other users.
    Nothing,
}

impl Seen {
    fn since(self) -> Option<u64> {
        if let Self::Since(began) = self { Some(began) } else { None }
    }

    /// Whether the process that began at this time is certainly not there any more.
    fn is_another_than(self, began: u64) -> bool {
        match self {
            Self::Since(other) => other != began,
            Self::Gone => true,
            Self::Nothing => false,
        }
    }
}

fn look_for(pid: u32) -> Seen {
    judge(fs::read_to_string(format!("/proc/{pid}/stat")), || is_unknown_to_kernel(pid))
}

/// By the process's status, or by whether the kernel knows it where there is none: that may be hidden, too.
fn judge(stat: io::Result<String>, is_unknown: impl FnOnce() -> bool) -> Seen {
    match stat {
        Ok(stat) => since(&stat).map_or(Seen::Nothing, Seen::Since),
        Err(_) if is_unknown() => Seen::Gone,
        Err(_) => Seen::Nothing,
    }
}

fn since(stat: &str) -> Option<u64> {
    // The name of the program, in parentheses, may hold anything; 19 fields after it is the time.
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(19)?.parse().ok()
}

/// Asks with a signal that is none. Of a process of another user the answer is that it is not ours to signal.
fn is_unknown_to_kernel(pid: u32) -> bool {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    pid.is_some_and(|pid| test_kill_process(pid) == Err(Errno::SRCH))
}

/// Tells this running kernel from every other, as far as eight hexadecimal digits can.
fn boot() -> String {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    id.chars().filter(char::is_ascii_hexdigit).take(8).collect()
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
        let us = Identity::new("pod-1", "u", None).unwrap();
        let other = Identity::new("pod-1", "u", None).unwrap();
        let of = |began: u64| format!("{}{began}-0a0b0c0d", us.kin);
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let living = look_for(child.id()).since().unwrap();
        assert!(!us.is_gone(&of(living), child.id()));
        assert!(us.is_gone(&of(living + 1), child.id()), "its number was given away again");
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(us.is_gone(&of(living), child.id()));
        assert!(!us.is_gone(&other.hostname, us.pid), "another handle of this process");
        for elsewhere in ["pod-1", "other-pod", "pod-1-ffffffff.4026531836-17-0a0b0c0d"] {
            assert!(!us.is_gone(elsewhere, child.id()), "{elsewhere}");
        }
    }

    #[test]
    fn a_process_that_is_hidden_is_not_taken_for_dead() {
        let stat = "17 (a) b) S 1 17 17 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4711 9 9";
        let seen = |stat: Result<&str, io::ErrorKind>, is_unknown| {
            judge(stat.map(str::to_owned).map_err(io::Error::from), || is_unknown)
        };
        assert_eq!(seen(Ok(stat), true), Seen::Since(4711));
        assert_eq!(seen(Ok("nonsense"), true), Seen::Nothing);
        // As with hidepid=1 and hidepid=2.
        for hidden in [io::ErrorKind::PermissionDenied, io::ErrorKind::NotFound] {
            assert_eq!(seen(Err(hidden), false), Seen::Nothing);
            assert_eq!(seen(Err(hidden), true), Seen::Gone);
        }
        let judged = |seen: Seen| [4711, 4712].map(|began| seen.is_another_than(began));
        assert_eq!(judged(Seen::Since(4711)), [false, true]);
        assert_eq!(judged(Seen::Gone), [true, true]);
        assert_eq!(judged(Seen::Nothing), [false, false]);
        // The kernel knows the first process, whoever asks.
        assert!(!is_unknown_to_kernel(1) && !is_unknown_to_kernel(std::process::id()));
        assert!(!is_unknown_to_kernel(0) && !is_unknown_to_kernel(u32::MAX));
    }

    #[test]
    fn who_bears_the_name_outlived_all_who_bore_it() {
        let at = |millis: i64| Instance {
            name: "gateway-0".into(),
            started: DateTime::from_timestamp_millis(millis).unwrap(),
        };
        let identity = |millis| Identity::new("pod", "u", Some(&at(millis))).unwrap();
        let (before, now, twin) = (identity(1000), identity(2000), identity(2000));
        assert!(now.is_gone(&before.hostname, 1));
        assert!(!before.is_gone(&now.hostname, 1));
        assert!(!now.is_gone(&twin.hostname, 1), "another handle of this process");
        let stranger = Identity::new("gateway-0", "u", None).unwrap();
        assert!(!now.is_gone(&stranger.hostname, 1));
    }
}
