//! What another client of the server notices.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

/// Another client of the server: a GET every half millisecond, and how long each took.
pub(crate) struct Latency {
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<Result<Vec<Duration>>>,
}

impl Latency {
    pub(crate) fn watch(port: u16) -> Self {
        let stop = Arc::<AtomicBool>::default();
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let client = redis::Client::open(format!("redis://127.0.0.1:{port}"))?;
            let mut connection = client.get_connection()?;
            let mut took = vec![];
            while !stopped.load(Ordering::Relaxed) {
                let clock = Instant::now();
                redis::cmd("GET")
                    .arg("string:00000012")
                    .query::<Option<String>>(&mut connection)?;
                took.push(clock.elapsed());
                std::thread::park_timeout(Duration::from_micros(500));
            }
            Ok(took)
        });
        Self { stop, thread }
    }

    pub(crate) fn stop_after(self, span: Duration) -> Result<f64> {
        std::thread::park_timeout(span);
        self.stop()
    }

    /// The 99th percentile, in milliseconds.
    pub(crate) fn stop(self) -> Result<f64> {
        self.stop.store(true, Ordering::Relaxed);
        let mut took = self.thread.join().map_err(|_| anyhow::anyhow!("the client panicked"))??;
        took.sort();
        let p99 = took.get(took.len() * 99 / 100).context("nothing was measured")?;
        Ok(p99.as_secs_f64() * 1000.0)
    }
}
