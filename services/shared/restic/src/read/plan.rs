//! Which blobs a part of a file needs, and which of them are fetched together.

use std::sync::Arc;

use crate::error::Result;
use crate::id::Id;
use crate::index::Location;
use crate::pack::BlobKind;
use crate::read::ReadOptions;
use crate::repository::Inner;

const MIB: u64 = 1024 * 1024;
/// One ranged read covers blobs of this much content, as memory allows, unless a single one is larger.
const LEAST_READ: u64 = 4 * MIB;
const MOST_READ: u64 = 8 * MIB;
/// Blobs of one pack that lie no further apart than this are fetched in one read.
const MAX_GAP: u32 = 64 * 1024;

/// A part of a file, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part {
    start: u64,
    end: u64,
}

/// Neighbouring blobs of one pack, fetched at once.
#[derive(Debug)]
pub(super) struct Read {
    pub(super) pack: Id,
    pub(super) offset: u32,
    pub(super) length: u32,
    pub(super) content: u64,
    pub(super) blobs: Vec<Wanted>,
}

#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) id: Id,
    pub(super) location: Location,
    /// Bytes of the content to leave out at either end.
    pub(super) skip_front: u64,
    pub(super) keep: u64,
}

/// The reads of a part, in order, each planned when it is due: a large file has more blobs than one
/// would want to hold the places of.
#[derive(Debug)]
pub(super) struct Reads {
    inner: Arc<Inner>,
    blobs: std::vec::IntoIter<Id>,
    /// Where the next blob begins in the file.
    position: u64,
    part: Part,
    needed_by: String,
    most: u64,
    /// The blob that did not fit into the read before.
    next: Option<Wanted>,
}

/// The length of a file: what its blobs have together, whatever its node says. All of them are looked up, so that a missing
/// one is known before anything is given out.
pub(super) fn length_of(inner: &Inner, blobs: &[Id], needed_by: &str) -> Result<u64> {
    let length = |id: &Id| Ok(inner.locate(BlobKind::Data, *id, needed_by)?.content_length());
    blobs.iter().map(length).sum()
}

impl Part {
    /// What of a file of this size is asked for.
    pub(super) fn of(size: u64, options: &ReadOptions) -> Self {
        let start = options.offset.min(size);
        let end = options.length.map_or(size, |length| start.saturating_add(length).min(size));
        Self { start, end }
    }

    pub(super) fn length(self) -> u64 {
        self.end - self.start
    }
}

impl Reads {
    /// Of blobs that were looked up all together: see [`length_of`].
    pub(super) fn new(inner: &Arc<Inner>, blobs: Vec<Id>, needed_by: String, part: Part) -> Self {
        let share = inner.resources.reads() as u64;
        Self {
            inner: Arc::clone(inner),
            blobs: blobs.into_iter(),
            position: 0,
            part,
            needed_by,
            // A stream that is alone reads a pack that one wrote at once.
            most: (share / 4).clamp(LEAST_READ, MOST_READ),
            next: None,
        }
    }

    /// The next blob of the part.
    fn wanted(&mut self) -> Result<Option<Wanted>> {
        let Part { start, end } = self.part;
        while self.position < end {
            let Some(id) = self.blobs.next() else { return Ok(None) };
            let location = self.inner.locate(BlobKind::Data, id, &self.needed_by)?;
            let blob_start = self.position;
            self.position += location.content_length();
            if self.position > start {
                let skip_front = start.saturating_sub(blob_start);
                let keep = self.position.min(end) - blob_start - skip_front;
                return Ok(Some(Wanted { id, location, skip_front, keep }));
            }
        }
        Ok(None)
    }

    fn read(&mut self) -> Result<Option<Read>> {
        let first = match self.next.take() {
            Some(next) => next,
            None => match self.wanted()? {
                Some(wanted) => wanted,
                None => return Ok(None),
            },
        };
        let mut read = Read::of(first);
        while let Some(wanted) = self.wanted()? {
            if !read.can_take(&wanted, self.most) {
                self.next = Some(wanted);
                break;
            }
            read.take(wanted);
        }
        Ok(Some(read))
    }
}

impl Iterator for Reads {
    type Item = Result<Read>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read().transpose()
    }
}

impl Read {
    fn of(wanted: Wanted) -> Self {
        let Location { pack, offset, length, .. } = wanted.location;
        let content = wanted.location.content_length();
        Self { pack, offset, length, content, blobs: vec![wanted] }
    }

    fn end(&self) -> u32 {
        self.offset.saturating_add(self.length)
    }

    fn can_take(&self, wanted: &Wanted, most: u64) -> bool {
        let gap = wanted.location.offset.checked_sub(self.end());
        wanted.location.pack == self.pack
            && gap.is_some_and(|gap| gap <= MAX_GAP)
            && self.content + wanted.location.content_length() <= most
    }

    fn take(&mut self, wanted: Wanted) {
        let end = wanted.location.offset.saturating_add(wanted.location.length);
        self.length = end - self.offset;
        self.content += wanted.location.content_length();
        self.blobs.push(wanted);
    }

    /// The bytes that are held meanwhile: what is fetched, and what it becomes if it is compressed.
    pub(super) fn memory(&self) -> u64 {
        let compressed = self.blobs.iter().filter(|blob| blob.location.raw_length.is_some());
        let decoded: u64 = compressed.map(|blob| blob.location.content_length()).sum();
        u64::from(self.length) + decoded
    }
}
