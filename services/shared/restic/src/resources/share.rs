//! What a stream may hold: a decision from how many there are.

use super::MIB;
use crate::pack::TARGET_LEN;

/// However few streams there are, one takes no more than this. A chunk in the making, input on its way
/// and codecs come on top, some 15 MiB.
pub(super) const MOST_FOR_ONE: usize = 37 * MIB;
/// The same for one whose packs are written to files while they are filled.
pub(super) const MOST_WITH_FILES: usize = 34 * MIB;
/// However many streams there are, one needs this: two packs of 4 MiB, and a little content.
pub(super) const LEAST_FOR_ONE: usize = 12 * MIB;
/// A typical chunk in its buffers, and a small one. A larger one takes all, so that it always finds a place.
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

/// Where packs are while they are filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Packs {
    InMemory,
    /// All but their ends.
    InFiles,
}

impl Packs {
    pub(super) const fn most_for_one(self) -> usize {
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
    /// Whether a stream waits so long for its turns that others should have the buffers of its packs meanwhile.
    pub(crate) crowded: bool,
}

impl Share {
    pub(super) fn of(memory: usize, parallelism: usize, streams: usize, packs: Packs) -> Self {
        let streams = streams.max(1);
        let all = (memory / streams).clamp(LEAST_FOR_ONE, packs.most_for_one());
        let lanes = parallelism.div_ceil(streams).clamp(1, MOST_LANES);
        if packs == Packs::InFiles {
            let lanes = lanes.min((all - 2 * LEAST_CONTENT) / FILE_BUFFER);
            // The rest is room for buffers that lie idle for a moment: fresh ones are dear.
            let content = (all - lanes * FILE_BUFFER) / 3 * 2;
            let packs = lanes + FILES_UNDER_WAY;
            let crowded = streams > 2 * parallelism;
            return Self { content, lanes, packs, pack_target: TARGET_LEN, crowded };
        }
        let content = (all / 4).max(LEAST_CONTENT);
        let for_packs = all - content;
        let packs = (for_packs / (LEAST_PACK + OVERSHOOT)).clamp(2, lanes + 3);
        let lanes = lanes.min(packs - 1);
        let pack_buffer = for_packs / packs / PACK_STEP * PACK_STEP;
        let pack_target = pack_buffer.saturating_sub(OVERSHOOT);
        let pack_target = pack_target.clamp(LEAST_PACK, TARGET_LEN);
        // Packs in memory stay where they are.
        Self { content, lanes, packs, pack_target, crowded: false }
    }
}

/// Bytes that one of so many streams may read ahead.
pub(super) fn reads(memory: usize, streams: usize) -> usize {
    let all = memory / streams.max(1);
    // What is read ahead was allocated by others, who are not as thrifty with it.
    (all.min(MOST_FOR_ONE) / 4 * 3).max(LEAST_FOR_ONE)
}

#[cfg(test)]
mod tests {
    use super::super::MEMORY;
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
        assert_eq!((crowded.lanes, crowded.pack_target, crowded.crowded), (1, TARGET_LEN, true));
        assert!(!Share::of(MEMORY, 2, 4, Packs::InFiles).crowded);
    }
}
