//! Keys in canonical order: by database, then by name. A merge sort whose runs are kept in files, since the
//! data are larger than the memory of a worker.
//!
//! The order of a scan depends on a number that each server process draws by lot, so two backups of the
//! same data share no chunk. Sorted, what did not change stands beside the same neighbours again.

mod run;

use std::path::PathBuf;

use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use self::run::{Merge, Run};
use super::round::Value;
use crate::redis::Error;

/// Values held before they are written out as a run.
const HELD_BYTES: usize = 16 * 1024 * 1024;
/// What a value takes in memory beside its own bytes.
const OVERHEAD: usize = 128;
/// So many runs of about one length are merged into a longer one.
const MOST_RUNS: usize = 32;
/// Values on their way out of the merge.
const QUEUE: usize = 64;

/// Takes values in any order.
pub(super) struct Sorter {
    scratch: PathBuf,
    held: Vec<Value>,
    bytes: usize,
    /// Short ones first; in each list by the time when they were written.
    runs: Vec<Vec<Run>>,
}

impl Sorter {
    pub(super) const fn new(scratch: PathBuf) -> Self {
        Self { scratch, held: Vec::new(), bytes: 0, runs: Vec::new() }
    }

    pub(super) async fn add(&mut self, value: Value) -> Result<(), Error> {
        self.bytes += value.key.len() + value.payload.len() + OVERHEAD;
        // A slice would keep the whole of the buffer that it was received in.
        let (key, payload) = (bytes::Bytes::copy_from_slice(&value.key), value.payload);
        let payload = match payload.len() {
            len if len < HELD_BYTES => bytes::Bytes::copy_from_slice(&payload),
            _ => payload,
        };
        self.held.push(Value { key, payload, ..value });
        if self.bytes >= HELD_BYTES { self.spill().await } else { Ok(()) }
    }

    async fn spill(&mut self) -> Result<(), Error> {
        let values = std::mem::take(&mut self.held);
        self.bytes = 0;
        let scratch = self.scratch.clone();
        let mut run = blocking(move || Run::write(&scratch, values)).await?;
        for level in 0.. {
            if self.runs.len() == level {
                self.runs.push(Vec::new());
            }
            self.runs[level].push(run);
            if self.runs[level].len() < MOST_RUNS {
                break;
            }
            let (runs, scratch) = (std::mem::take(&mut self.runs[level]), self.scratch.clone());
            run = blocking(move || Merge::new(runs)?.into_run(&scratch)).await?;
        }
        Ok(())
    }

    /// All of them in order, each key once.
    pub(super) async fn finish(mut self) -> Result<Sorted, Error> {
        self.spill().await?;
        // The longest are the oldest.
        let runs = self.runs.into_iter().rev().flatten().collect();
        let mut merge = blocking(move || Merge::new(runs)).await?;
        let (sender, values) = mpsc::channel(QUEUE);
        let task = tokio::task::spawn_blocking(move || {
            while let Some(value) = merge.next().transpose() {
                if sender.blocking_send(value).is_err() {
                    return;
                }
            }
        });
        Ok(Sorted { values, _task: AbortOnDropHandle::new(task) })
    }
}

/// Values in order.
pub(super) struct Sorted {
    values: mpsc::Receiver<std::io::Result<Value>>,
    _task: AbortOnDropHandle<()>,
}

impl Sorted {
    pub(super) async fn next(&mut self) -> Result<Option<Value>, Error> {
        self.values
            .recv()
            .await
            .transpose()
            .map_err(|source| Error::Scratch { act: "sort in", source })
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> Result<T, Error> {
    let done = tokio::task::spawn_blocking(work).await;
    let done = done.unwrap_or_else(|_| Err(std::io::Error::other("the work was given up")));
    done.map_err(|source| Error::Scratch { act: "sort in", source })
}
