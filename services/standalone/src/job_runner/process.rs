//! One container as a process group of its own: started, recorded, waited for, killed as a whole.

use std::{io, path::Path, process::Stdio, time::Duration};

use rustix::process::{Pid, Signal, kill_process_group};
use serde::{Deserialize, Serialize};
use tokio::{
    fs,
    process::{Child, ChildStderr, ChildStdin, ChildStdout, Command},
    task::JoinSet,
};

use super::{command::Launch, log::Log};

/// What identifies a process group beyond its number, which the system reuses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    pid: i32,
    /// When its leader started, in clock ticks since boot.
    started: u64,
    /// Of which boot that number is.
    boot: String,
}

/// A running container.
pub(super) struct Process {
    child: Child,
    pid: Option<Pid>,
    copies: JoinSet<io::Result<()>>,
}

/// Input, output and error output of a process.
pub type Pipes = (Option<ChildStdin>, Option<ChildStdout>, Option<ChildStderr>);

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit {
    /// 128 and the signal for a process that a signal ended, as shells and container runtimes say.
    pub code: i32,
    /// The signal that ended it.
    pub signal: Option<i32>,
}

impl Process {
    /// Starts a process, its output going to `log`, and writes a record of it.
    pub(super) async fn start(launch: &Launch, log: &Log, record: &Path) -> io::Result<Self> {
        let mut process = Self::spawn(launch, Stdio::null(), record).await?;
        let (output, errors) = (process.child.stdout.take(), process.child.stderr.take());
        if let Some(output) = output {
            process.copies.spawn(log.clone().copy(output));
        }
        if let Some(errors) = errors {
            process.copies.spawn(log.clone().copy(errors));
        }
        Ok(process)
    }

    /// Starts a process whose output waits in [`Self::pipes`], and writes a record of it.
    pub(super) async fn spawn(launch: &Launch, input: Stdio, record: &Path) -> io::Result<Self> {
        let child = Command::new(&launch.program)
            .args(&launch.args)
            .env_clear()
            .envs(launch.env.iter().map(|(name, value)| (name, value)))
            .current_dir(&launch.dir)
            .stdin(input)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let pid = child.id().and_then(|id| i32::try_from(id).ok());
        if let Some(pid) = pid
            && let Some(identity) = Record::of(pid).await
        {
            identity.write(record).await?;
        }
        Ok(Self { child, pid: pid.and_then(Pid::from_raw), copies: JoinSet::new() })
    }

    /// What is left of its input, output and error output: each is there once.
    pub(super) fn pipes(&mut self) -> Pipes {
        let Child { stdin, stdout, stderr, .. } = &mut self.child;
        (stdin.take(), stdout.take(), stderr.take())
    }

    /// The process number, for people.
    pub(super) fn id(&self) -> Option<i32> {
        self.pid.map(|pid| pid.as_raw_nonzero().get())
    }

    /// Waits for the process, then ends what it left running in its group and its output.
    /// Cancel-safe: can be waited for again.
    pub(super) async fn wait(&mut self) -> io::Result<Exit> {
        let status = self.child.wait().await?;
        self.signal(Signal::KILL);
        // A process that left the group may hold the pipes open; its output is not waited for.
        let copied = async { while self.copies.join_next().await.is_some() {} };
        if tokio::time::timeout(Duration::from_secs(2), copied).await.is_err() {
            self.copies.abort_all();
        }
        let signal = std::os::unix::process::ExitStatusExt::signal(&status);
        let code = status.code().unwrap_or_else(|| 128 + signal.unwrap_or(0));
        Ok(Exit { code, signal })
    }

    /// Sends a signal to the whole group.
    pub(super) fn signal(&self, signal: Signal) {
        if let Some(pid) = self.pid {
            // A group that is gone needs no signal.
            let _ = kill_process_group(pid, signal);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.child.id().is_some() {
            self.signal(Signal::KILL);
        }
    }
}

impl Record {
    async fn of(pid: i32) -> Option<Self> {
        let (_, started) = stat(pid).await?;
        Some(Self { pid, started, boot: boot().await })
    }

    async fn write(&self, path: &Path) -> io::Result<()> {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).await?;
        }
        fs::write(path, serde_json::to_vec(self)?).await
    }

    /// Reads a record; `None` when it is not one.
    pub(super) async fn read(path: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(path).await.ok()?).ok()
    }

    /// Kills what is left of the group. The number is not trusted: while any process of the group
    /// lives, the system gives its number to nobody else, so it is ours if its leader is the one we
    /// started or has ended.
    pub(super) async fn kill(&self) -> bool {
        if self.boot != boot().await {
            return false;
        }
        let leader_is_other =
            stat(self.pid).await.is_some_and(|(_, started)| started != self.started);
        if leader_is_other || !group_lives(self.pid).await {
            return false;
        }
        Pid::from_raw(self.pid).is_some_and(|pid| kill_process_group(pid, Signal::KILL).is_ok())
    }
}

async fn boot() -> String {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").await;
    id.unwrap_or_default().trim().to_owned()
}

/// Process group and start time of a process.
async fn stat(pid: i32) -> Option<(i32, u64)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).await.ok()?;
    // The name, in parentheses, may hold blanks and parentheses itself.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    Some((fields.get(2)?.parse().ok()?, fields.get(19)?.parse().ok()?))
}

async fn group_lives(group: i32) -> bool {
    let Ok(mut entries) = fs::read_dir("/proc").await else { return false };
    while let Ok(Some(entry)) = entries.next_entry().await {
        let pid = entry.file_name().to_str().and_then(|name| name.parse().ok());
        if let Some(pid) = pid
            && stat(pid).await.is_some_and(|(found, _)| found == group)
        {
            return true;
        }
    }
    false
}
