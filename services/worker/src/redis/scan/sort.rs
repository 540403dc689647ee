//! Keys in canonical order: by database, then by name. A merge sort whose runs are kept in files, since the
//! data are larger than the memory of a worker.
//!
//! The order of a scan depends on a number that each server process draws by lot, so two backups of the
//! same data share no chunk. Sorted, what did not change stands beside the same neighbours again.

mod run;

use std::collections::VecDeque;
use std::path::PathBuf;

use self::run::{Merge, Run};
use super::round::Value;
use crate::redis::Error;

/// Values held before they are written out as a run.
const HELD_BYTES: usize = 16 * 1024 * 1024;
/// What a value takes in memory beside its own bytes.
const OVERHEAD: usize = 128;
/// So many runs of about one length are merged into a longer one.
const MOST_RUNS: usize = 32;
/// Values read from the runs at a time; one that is larger comes alone, so that only one such is in memory.
const BATCH_BYTES: usize = 1024 * 1024;

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
        let merge = blocking(move || Merge::new(runs)).await?;
        Ok(Sorted { merge: Some(merge), batch: VecDeque::new() })
    }
}

/// Values in order.
pub(super) struct Sorted {
    /// None at the end.
    merge: Option<Merge>,
    batch: VecDeque<Value>,
}

impl Sorted {
    pub(super) async fn next(&mut self) -> Result<Option<Value>, Error> {
        if self.batch.is_empty()
            && let Some(merge) = self.merge.take()
        {
            (self.merge, self.batch) = blocking(move || read_batch(merge)).await?;
        }
        Ok(self.batch.pop_front())
    }
}

/// The next values, and the rest if there may be one.
fn read_batch(mut merge: Merge) -> std::io::Result<(Option<Merge>, VecDeque<Value>)> {
    let (mut batch, mut bytes) = (VecDeque::new(), 0);
    while let Some(size) = merge.size_of_next() {
        bytes += size + OVERHEAD;
        if bytes > BATCH_BYTES && !batch.is_empty() {
            return Ok((Some(merge), batch));
        }
        batch.extend(merge.next()?);
    }
    Ok((None, batch))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> Result<T, Error> {
    let done = tokio::task::spawn_blocking(work).await;
    let done = done.unwrap_or_else(|_| Err(std::io::Error::other("the work was given up")));
    done.map_err(|source| Error::Scratch { act: "sort in", source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(key: u8, bytes: usize) -> Value {
        let (key, payload) = (vec![key].into(), vec![b'x'; bytes].into());
        Value { database: 0, key, expires_at_ms: None, payload, kind: None, usage: None }
    }

    #[tokio::test]
    async fn of_large_values_one_is_in_memory_and_all_come() {
        let dir = tempfile::tempdir().unwrap();
        let mut sorter = Sorter::new(dir.path().to_owned());
        let (large, small) = (BATCH_BYTES * 3, 1000);
        for key in (0..40).rev() {
            sorter.add(value(key, if key % 4 == 3 { small } else { large })).await.unwrap();
        }
        let mut sorted = sorter.finish().await.unwrap();
        let mut keys = 0;
        while let Some(Value { key, payload, .. }) = sorted.next().await.unwrap() {
            assert_eq!(key[0], keys);
            let waiting: usize = sorted.batch.iter().map(|value| value.payload.len()).sum();
            assert!(waiting + payload.len() <= large, "{waiting} beside {}", payload.len());
            keys += 1;
        }
        assert_eq!(keys, 40);
    }
}
