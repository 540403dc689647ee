//! The largest resident sizes of a process and of its children, sampled while it is watched. Of a child the kernel keeps
//! the peak itself; the process's own counts only for as long as it is watched.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

/// A process that is watched.
pub struct Memory {
    stop: Arc<AtomicBool>,
    own: Arc<AtomicU64>,
    children: Arc<AtomicU64>,
    thread: std::thread::JoinHandle<()>,
}

/// What [`Memory`] saw, in bytes.
pub struct Peak {
    /// The process itself.
    pub own: u64,
    /// The largest of its children.
    pub children: u64,
}

impl Memory {
    /// Begins to watch.
    #[must_use]
    pub fn watch(pid: u32) -> Self {
        let (stop, own, children) = (
            Arc::<AtomicBool>::default(),
            Arc::<AtomicU64>::default(),
            Arc::<AtomicU64>::default(),
        );
        let (stopped, own_peak, children_peak) = (stop.clone(), own.clone(), children.clone());
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                own_peak.fetch_max(figure(pid, "VmRSS:"), Ordering::Relaxed);
                // Until it becomes its own program, a child still has its parent's memory.
                let own_program = |child: &u32| command_line(*child) != command_line(pid);
                for child in children_of(pid).into_iter().filter(own_program) {
                    children_peak.fetch_max(figure(child, "VmHWM:"), Ordering::Relaxed);
                }
                std::thread::park_timeout(Duration::from_millis(20));
            }
        });
        Self { stop, own, children, thread }
    }

    /// What was seen up to now.
    #[must_use]
    pub fn stop(self) -> Peak {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.thread().unpark();
        let _ = self.thread.join();
        Peak {
            own: self.own.load(Ordering::Relaxed),
            children: self.children.load(Ordering::Relaxed),
        }
    }
}

fn figure(pid: u32, name: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|kb| kb.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0) * 1024
}

fn command_line(pid: u32) -> Vec<u8> {
    fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default()
}

fn children_of(pid: u32) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let read =
        |task: fs::DirEntry| fs::read_to_string(task.path().join("children")).unwrap_or_default();
    tasks
        .map(read)
        .flat_map(|text| text.split_whitespace().filter_map(|p| p.parse().ok()).collect::<Vec<_>>())
        .collect()
}
