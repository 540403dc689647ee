//! Runs a process, and tells its time, its processor seconds and the most memory it had.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

use crate::Result;

/// The kernel counts processor time in hundredths of a second (`USER_HZ`, the same on every Linux).
const TICKS: f64 = 100.0;

/// What a process took.
#[derive(Clone, Debug)]
pub(crate) struct Usage {
    pub(crate) wall: Duration,
    /// Seconds, over all its threads.
    pub(crate) cpu: f64,
    /// The largest resident size, in bytes.
    pub(crate) peak: u64,
    /// What it printed.
    pub(crate) output: String,
}

/// Where the process reads from, and whether what it prints is kept.
pub(crate) enum Output {
    Kept,
    Discarded,
}

/// Runs a command to its end; it must succeed.
pub(crate) fn run(command: &mut Command, input: Option<&Path>, output: Output) -> Result<Usage> {
    let input = match input {
        Some(path) => Stdio::from(File::open(path)?),
        None => Stdio::null(),
    };
    let output = match output {
        Output::Kept => Stdio::piped(),
        Output::Discarded => Stdio::null(),
    };
    let clock = Instant::now();
    let mut child = command.stdin(input).stdout(output).stderr(Stdio::piped()).spawn()?;
    let memory = Memory::watch(child.id());
    let pid = Pid::from_raw(i32::try_from(child.id())?).ok_or("the child has no pid")?;
    // It stays a zombie, so that its times can still be read.
    waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT)?;
    let wall = clock.elapsed();
    let cpu = cpu_seconds(child.id())?;
    let peak = memory.stop();
    let mut printed = String::new();
    if let Some(mut stdout) = child.stdout.take() {
        std::io::Read::read_to_string(&mut stdout, &mut printed)?;
    }
    let ended = child.wait_with_output()?;
    if !ended.status.success() {
        let said = String::from_utf8_lossy(&ended.stderr);
        return Err(format!("{command:?}: {}: {said}", ended.status).into());
    }
    Ok(Usage { wall, cpu, peak, output: printed })
}

fn cpu_seconds(pid: u32) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name in parentheses may hold spaces; utime and stime are the 12th and 13th field after it.
    let (_, fields) = stat.rsplit_once(')').ok_or("/proc/*/stat without a name")?;
    let ticks = fields.split_whitespace().skip(11).take(2).map(str::parse::<f64>);
    Ok(ticks.sum::<Result<f64, _>>()? / TICKS)
}

/// Watches the high-water mark, which is gone from /proc once a process has ended.
struct Memory {
    stop: Arc<AtomicBool>,
    peak: Arc<AtomicU64>,
    thread: std::thread::JoinHandle<()>,
}

impl Memory {
    fn watch(pid: u32) -> Self {
        let (stop, peak) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let (stopped, highest) = (Arc::clone(&stop), Arc::clone(&peak));
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                highest.fetch_max(high_water(pid), Ordering::Relaxed);
                std::thread::park_timeout(Duration::from_millis(5));
            }
        });
        Self { stop, peak, thread }
    }

    fn stop(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.thread().unpark();
        let _ = self.thread.join();
        self.peak.load(Ordering::Relaxed)
    }
}

fn high_water(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|kb| kb.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0) * 1024
}
