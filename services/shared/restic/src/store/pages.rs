//! The system's cache of files, which a repository should pass through and not fill.

use std::fs::File;
use std::num::NonZeroU64;
use std::ops::Range;

use rustix::fs::{Advice, fadvise};

/// What is shorter may be needed again, and is no matter.
const LEAST: u64 = 1 << 20;

/// Tells the system that nobody needs this part of a file soon. The next megabytes then get the same pages, which are
/// at hand (new ones were measured to cost more than all of a pack's encryption), and whatever else runs here keeps its
/// own. It is advice: pages that are not on the disk yet stay, and the system may decline it altogether.
pub(super) fn let_go(file: &File, part: Range<u64>) {
    let length = part.end.saturating_sub(part.start);
    if length >= LEAST {
        let _ = fadvise(file, part.start, NonZeroU64::new(length), Advice::DontNeed);
    }
}
