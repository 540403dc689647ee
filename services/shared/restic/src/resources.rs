//! What the streams of a process share: processors, memory, and the buffers and codecs that are used again.
//!
//! Nothing here waits for another stream's memory, so nothing can stand still for good: a stream's share
//! follows from how many there are, and each keeps to its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use crate::buffers::Buffers;
use crate::codec::Codec;
use crate::error::Result;

mod crew;
mod share;
use crew::Crew;
pub(crate) use share::{FILE_BUFFER, OVERSHOOT, Packs, Share};
use share::{MOST_FOR_ONE, reads};

const MIB: usize = 1024 * 1024;

/// Computations beyond one for each processor: some write a part of a pack to a file, and wait for the disk now and then.
const WAITING: usize = 1;
/// The memory of all streams of a process together, unless [`Resources::with_memory`] says otherwise:
/// 32 streams get 12 MiB each.
const MEMORY: usize = 384 * MIB;
/// Buffers of a stream beside its share, while there is memory for it: the chunk in the making, and what is lost to
/// rounding. Many streams are seldom all at their most.
const BESIDE: usize = 5 * MIB;
/// What stays idle for the next stream when the last one has left.
const KEPT: usize = 12 * MIB;

/// The processors and the memory that all streams share.
///
/// Hashing, compression and encryption run on few threads, in the order they asked: a hundred streams are as fair
/// to each other as two. Cutting chunks has threads of its own. Give every repository of a process the same value.
#[derive(Clone, Debug)]
pub struct Resources {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    crew: Crew,
    /// For short work that long work waits for.
    brief: Crew,
    parallelism: usize,
    memory: usize,
    streams: AtomicUsize,
    /// Bytes that all of them would take if there were enough for all.
    wanted: AtomicUsize,
    buffers: Buffers,
    /// Codecs that no computation uses at the moment; never more than there are threads.
    codecs: Mutex<Vec<Codec>>,
}

impl Shared {
    /// Bounds the buffers for the streams that there are.
    fn bound_buffers(&self) {
        let streams = self.streams.load(Ordering::Relaxed);
        let wanted = self.wanted.load(Ordering::Relaxed) + streams * BESIDE;
        self.buffers.limit(self.memory.min(wanted).max(KEPT));
    }
}

/// A stream that counts in the shares of all others, until dropped.
#[derive(Debug)]
pub(crate) struct Stream {
    resources: Resources,
    wants: usize,
}

impl Resources {
    /// Computations for as many processors (at least one).
    #[must_use]
    pub fn new(parallelism: usize) -> Self {
        Self::with_memory(parallelism, MEMORY)
    }

    /// The same with a bound, in bytes, on what all streams together hold: chunks, packs and reads
    /// ahead. The index comes on top, and 12 MiB a stream are never denied.
    #[must_use]
    pub fn with_memory(parallelism: usize, memory: usize) -> Self {
        let parallelism = parallelism.max(1);
        Self {
            shared: Arc::new(Shared {
                crew: Crew::new(parallelism + WAITING),
                brief: Crew::new(parallelism),
                parallelism,
                memory,
                streams: AtomicUsize::new(0),
                wanted: AtomicUsize::new(0),
                buffers: Buffers::default(),
                codecs: Mutex::default(),
            }),
        }
    }

    /// Buffers for content, packs and reads.
    pub(crate) fn buffers(&self) -> &Buffers {
        &self.shared.buffers
    }

    /// Counts a stream in that fills packs.
    pub(crate) fn enter(&self, packs: Packs) -> Stream {
        self.count_in(packs.most_for_one())
    }

    /// Counts a stream in that reads.
    pub(crate) fn enter_reading(&self) -> Stream {
        self.count_in(MOST_FOR_ONE)
    }

    fn count_in(&self, wants: usize) -> Stream {
        self.shared.streams.fetch_add(1, Ordering::Relaxed);
        self.shared.wanted.fetch_add(wants, Ordering::Relaxed);
        self.shared.bound_buffers();
        Stream { resources: self.clone(), wants }
    }

    /// What a stream may hold as of now.
    pub(crate) fn share(&self, packs: Packs) -> Share {
        let Shared { parallelism, memory, streams, .. } = &*self.shared;
        Share::of(*memory, *parallelism, streams.load(Ordering::Relaxed), packs)
    }

    /// Bytes that a stream may read ahead, as of now.
    pub(crate) fn reads(&self) -> usize {
        let Shared { memory, streams, .. } = &*self.shared;
        reads(*memory, streams.load(Ordering::Relaxed))
    }

    /// Whether somebody waits for a processor, so that long work should make room.
    pub(crate) fn are_wanted(&self) -> bool {
        self.shared.crew.is_wanted()
    }

    /// Runs `work` as soon as a processor is free.
    ///
    /// Dropping the future before the work began prevents it; once begun it runs to its end, which
    /// is a matter of milliseconds.
    pub(crate) async fn compute<T: Send + 'static>(
        &self,
        operation: &'static str,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T> {
        self.shared.crew.run(operation, work).await
    }

    /// The same for work of less than a millisecond that brings work for others. In the queue of the
    /// long work it would wait for a turn each time, and the processors for what it brings.
    pub(crate) async fn compute_briefly<T: Send + 'static>(
        &self,
        operation: &'static str,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T> {
        self.shared.brief.run(operation, work).await
    }

    /// The same for work that compresses or decompresses.
    pub(crate) async fn compute_with_codec<T: Send + 'static>(
        &self,
        operation: &'static str,
        work: impl FnOnce(&mut Codec) -> T + Send + 'static,
    ) -> Result<T> {
        let shared = Arc::clone(&self.shared);
        let work = move || {
            let idle = shared.codecs.lock().pop();
            let mut codec = idle.unwrap_or_default();
            let result = work(&mut codec);
            shared.codecs.lock().push(codec);
            result
        };
        self.compute(operation, work).await
    }
}

impl Default for Resources {
    /// One computation per processor.
    fn default() -> Self {
        Self::new(std::thread::available_parallelism().map_or(2, usize::from))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let shared = &self.resources.shared;
        shared.streams.fetch_sub(1, Ordering::Relaxed);
        shared.wanted.fetch_sub(self.wants, Ordering::Relaxed);
        shared.bound_buffers();
    }
}

#[cfg(test)]
mod tests {
    use super::share::{LEAST_FOR_ONE, MOST_WITH_FILES};
    use super::*;

    #[test]
    fn a_stream_counts_until_it_is_dropped() {
        let resources = Resources::new(2);
        let now = || (resources.share(Packs::InMemory), resources.reads());
        let alone = now();
        let streams: Vec<_> = (0..32).map(|_| resources.clone().enter(Packs::InFiles)).collect();
        assert_eq!(now(), (Share::of(MEMORY, 2, 32, Packs::InMemory), LEAST_FOR_ONE));
        assert_eq!(resources.shared.wanted.load(Ordering::Relaxed), 32 * MOST_WITH_FILES);
        drop(streams);
        assert_eq!(now(), alone);
        assert_eq!(resources.shared.wanted.load(Ordering::Relaxed), 0);
    }
}
