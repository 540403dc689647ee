//! What the streams of a process share: processors, memory, and the buffers and codecs that are used again.
//!
//! Nothing here waits for another stream's memory, so nothing can stand still for good: a stream's share
//! follows from how many there are, and each keeps to its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::sync::Semaphore;

use crate::buffers::Buffers;
use crate::codec::Codec;
use crate::error::{Error, Result};
use crate::pack::TARGET_LEN;

const MIB: usize = 1024 * 1024;

/// The memory of all streams of a process together, unless [`Resources::with_memory`] says otherwise:
/// 32 streams get 12 MiB each.
const MEMORY: usize = 384 * MIB;
/// However few streams there are, one takes no more than this. A chunk in the making, input on its way
/// and codecs come on top, some 15 MiB.
const MOST_FOR_ONE: usize = 37 * MIB;
/// The same for one whose packs are written to files while they are filled.
const MOST_WITH_FILES: usize = 34 * MIB;
/// However many streams there are, one needs this: two packs of 4 MiB, and a little content.
const LEAST_FOR_ONE: usize = 12 * MIB;
/// A typical chunk in its buffer, and a small one. A larger one takes all, so that it always finds a place.
const LEAST_CONTENT: usize = 3 * MIB;
/// No pack is closed while it is smaller, except at the end.
const LEAST_PACK: usize = 4 * MIB;
/// Buffers of packs are a multiple of this, for whatever is between is lost (`buffers.rs`).
const PACK_STEP: usize = MIB / 2;
/// A pack is closed by the blob that takes it over its target: half a typical chunk more.
pub(crate) const OVERSHOOT: usize = 3 * MIB / 4;
/// Of a pack in a file, what may be in memory: two chunks, and what was not worth writing.
pub(crate) const FILE_BUFFER: usize = 5 * MIB;
/// Packs in files that are on their way to the disk, for each stream.
const FILES_UNDER_WAY: usize = 3;
/// Packs of a stream that are filled at a time.
const MOST_LANES: usize = 3;
/// Buffers of a stream beside its share: the chunk in the making, and what is lost to rounding.
const BESIDE: usize = 5 * MIB;
/// The same for all streams together: many are seldom all at their most.
const MOST_BESIDE: usize = 24 * MIB;
/// What stays idle for the next stream when the last one has left.
const KEPT: usize = 12 * MIB;

/// The processors and the memory that all streams share.
///
/// Hashing, compression and encryption run on blocking threads, but never more of them at once than
/// there are permits, and in the order they asked: a hundred streams are as fair to each other as
/// two. Cutting chunks has permits of its own. Give every repository of a process the same value.
#[derive(Clone, Debug)]
pub struct Resources {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    cpu: Arc<Semaphore>,
    /// For short work that long work waits for.
    brief: Arc<Semaphore>,
    parallelism: usize,
    memory: usize,
    streams: AtomicUsize,
    /// Bytes that all of them would take if there were enough for all.
    wanted: AtomicUsize,
    buffers: Buffers,
    /// Codecs that no computation uses at the moment; never more than there are permits.
    codecs: Mutex<Vec<Codec>>,
}

impl Shared {
    /// Bounds the buffers for the streams that there are.
    fn bound_buffers(&self) {
        let streams = self.streams.load(Ordering::Relaxed);
        let shares = self.memory.min(self.wanted.load(Ordering::Relaxed));
        let beside = MOST_BESIDE.min(streams * BESIDE);
        self.buffers.limit((shares + beside).max(KEPT));
    }
}

/// A stream that counts in the shares of all others, until dropped.
#[derive(Debug)]
pub(crate) struct Stream {
    resources: Resources,
    wants: usize,
}

/// Where packs are while they are filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Packs {
    InMemory,
    /// All but their ends.
    InFiles,
}

impl Packs {
    const fn most_for_one(self) -> usize {
        match self {
            Self::InMemory => MOST_FOR_ONE,
            Self::InFiles => MOST_WITH_FILES,
        }
    }
}

/// What a stream may hold at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Share {
    /// Bytes of buffers with content that is not yet in packs.
    pub(crate) content: usize,
    /// Packs that are filled at a time.
    pub(crate) lanes: usize,
    /// Packs in all: open ones, and those on their way to the store.
    pub(crate) packs: usize,
    /// The size at which a pack is closed.
    pub(crate) pack_target: usize,
}

impl Share {
    fn of(memory: usize, parallelism: usize, streams: usize, packs: Packs) -> Self {
        let streams = streams.max(1);
        let all = (memory / streams).clamp(LEAST_FOR_ONE, packs.most_for_one());
        let lanes = parallelism.div_ceil(streams).clamp(1, MOST_LANES);
        if packs == Packs::InFiles {
            let lanes = lanes.min((all - 2 * LEAST_CONTENT) / FILE_BUFFER);
            // The rest is room for buffers that lie idle for a moment: fresh ones are dear.
            let content = (all - lanes * FILE_BUFFER) / 3 * 2;
            let packs = lanes + FILES_UNDER_WAY;
            return Self { content, lanes, packs, pack_target: TARGET_LEN };
        }
        let content = (all / 4).max(LEAST_CONTENT);
        let for_packs = all - content;
        let packs = (for_packs / (LEAST_PACK + OVERSHOOT)).clamp(2, lanes + 3);
        let lanes = lanes.min(packs - 1);
        let pack_buffer = for_packs / packs / PACK_STEP * PACK_STEP;
        let pack_target = pack_buffer.saturating_sub(OVERSHOOT);
        let pack_target = pack_target.clamp(LEAST_PACK, TARGET_LEN);
        Self { content, lanes, packs, pack_target }
    }
}

impl Resources {
    /// Room for `parallelism` computations at a time (at least one).
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
                cpu: Arc::new(Semaphore::new(parallelism)),
                brief: Arc::new(Semaphore::new(parallelism)),
                parallelism,
                memory,
                streams: AtomicUsize::new(0),
                wanted: AtomicUsize::new(0),
                buffers: Buffers::default(),
                codecs: Mutex::default(),
            }),
        }
    }

    /// Buffers for chunks, packs and reads.
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
        let all = memory / streams.load(Ordering::Relaxed).max(1);
        // What is read ahead was allocated by others, who are not as thrifty with it.
        (all.min(MOST_FOR_ONE) / 4 * 3).max(LEAST_FOR_ONE)
    }

    /// Runs `work` on a blocking thread as soon as a processor is free.
    ///
    /// Dropping the future before the work began prevents it; once begun it runs to its end, which
    /// is a matter of milliseconds.
    pub(crate) async fn compute<T: Send + 'static>(
        &self,
        operation: &'static str,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T> {
        run(&self.shared.cpu, operation, work).await
    }

    /// The same for work of less than a millisecond that brings work for others. In the queue of the
    /// long work it would wait for a turn each time, and the processors for what it brings.
    pub(crate) async fn compute_briefly<T: Send + 'static>(
        &self,
        operation: &'static str,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T> {
        run(&self.shared.brief, operation, work).await
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

async fn run<T: Send + 'static>(
    permits: &Arc<Semaphore>,
    operation: &'static str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T> {
    let permit = Arc::clone(permits).acquire_owned().await;
    let permit = permit.map_err(|closed| Error::internal(operation, closed))?;
    tokio::task::spawn_blocking(move || {
        let result = work();
        drop(permit);
        result
    })
    .await
    .map_err(|died| Error::internal(operation, died))
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
    use super::*;

    /// All of a share at once, each pack with what may go over.
    fn most(share: &Share, packs: Packs) -> usize {
        let for_packs = match packs {
            Packs::InMemory => share.packs * (share.pack_target + OVERSHOOT),
            Packs::InFiles => share.lanes * FILE_BUFFER,
        };
        share.content + for_packs
    }

    #[test]
    fn shares_keep_within_the_bounds() {
        for packs in [Packs::InMemory, Packs::InFiles] {
            for (parallelism, streams) in
                [1, 2, 8, 64].into_iter().flat_map(|cores| (1..=32).map(move |s| (cores, s)))
            {
                let share = Share::of(MEMORY, parallelism, streams, packs);
                assert!(most(&share, packs) <= packs.most_for_one(), "{streams}: {share:?}");
                let all = streams * most(&share, packs);
                // A little more than their part is what many streams need for two packs each.
                assert!(all <= MEMORY + MEMORY / 20, "{streams}: {all} {share:?}");
                assert!(share.lanes >= 1 && share.packs > share.lanes, "{share:?}");
                assert!(share.content >= LEAST_CONTENT, "{share:?}");
                assert!((LEAST_PACK..=TARGET_LEN).contains(&share.pack_target));
            }
        }
        let alone = Share::of(MEMORY, 2, 1, Packs::InMemory);
        assert_eq!((alone.lanes, alone.packs), (2, 5));
        assert!(alone.pack_target > 4 * MIB);
        let crowded = Share::of(MEMORY, 2, 32, Packs::InMemory);
        assert_eq!((crowded.lanes, crowded.packs, crowded.pack_target), (1, 2, LEAST_PACK));
        let crowded = Share::of(MEMORY, 2, 32, Packs::InFiles);
        assert_eq!((crowded.lanes, crowded.pack_target), (1, TARGET_LEN));
    }

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
