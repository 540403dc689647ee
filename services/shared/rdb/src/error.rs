//! What can be wrong with an RDB file or a payload. One type for the crate, because every reader here
//! reads the same format and callers decide on the same question: is this unknown, or is it broken?

use crate::version::Version;

/// Why bytes could not be read as RDB.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The input does not begin with the magic of an RDB file.
    #[error("not an RDB file: it begins with {found:?}")]
    Magic {
        /// The first bytes, made printable.
        found: String,
    },
    /// An RDB version older than any server that is still to be met, or written in no known way.
    #[error("{version} is not a version this reader knows")]
    UnsupportedVersion {
        /// The version found in the magic.
        version: Version,
    },
    /// An opcode, value type or encoding that this reader has never heard of. Nothing behind it can be
    /// told apart, so a caller who only stores the bytes must find the end by other means.
    #[error("unknown {what} {code} at byte {at} of {version}")]
    Unknown {
        /// What kind of code it is.
        what: &'static str,
        /// The code itself.
        code: u64,
        /// Its offset in the file.
        at: u64,
        /// The version of the file.
        version: Version,
    },
    /// The bytes contradict themselves.
    #[error("malformed {what} at byte {at}")]
    Malformed {
        /// What was being read.
        what: &'static str,
        /// The offset in the file or in the value.
        at: u64,
    },
    /// The checksum at the end does not match what came before it.
    #[error("checksum differs: the data gives {computed:016x}, the file says {stored:016x}")]
    Checksum {
        /// Computed from the data.
        computed: u64,
        /// Read from the file.
        stored: u64,
    },
    /// An item is larger than the limit set by the caller.
    #[error("{what} {name:?} is larger than the limit of {limit} bytes")]
    TooLarge {
        /// What kind of item.
        what: &'static str,
        /// The name of the item, made printable, where one is known.
        name: String,
        /// The limit in force.
        limit: u64,
    },
    /// The input ended before the format did.
    #[error("the data ends early, at byte {at}")]
    Truncated {
        /// How many bytes there were.
        at: u64,
    },
    /// Data follows the end of the format.
    #[error("there is data behind the end of the file, from byte {at} on")]
    Trailing {
        /// Where the file ended.
        at: u64,
    },
}

/// Bytes that contradict themselves, so many bytes into the part being read.
pub(crate) const fn malformed(what: &'static str, at: usize) -> Error {
    Error::Malformed { what, at: at as u64 }
}

impl Error {
    /// Whether the bytes may well be in order, only beyond what this reader knows.
    ///
    /// A malformed structure counts: a newer format looks malformed to an older reader. The checksum of
    /// the whole, which needs no understanding, tells damage from novelty.
    #[must_use]
    pub fn may_be_newer_format(&self) -> bool {
        match self {
            Self::Magic { .. }
            | Self::UnsupportedVersion { .. }
            | Self::Unknown { .. }
            | Self::Malformed { .. } => true,
            Self::Checksum { .. }
            | Self::TooLarge { .. }
            | Self::Truncated { .. }
            | Self::Trailing { .. } => false,
        }
    }

    /// Moves the offset of a position-carrying error by `base`, for readers that count from a part.
    pub(crate) fn offset_by(mut self, base: u64) -> Self {
        match &mut self {
            Self::Unknown { at, .. } | Self::Malformed { at, .. } => *at = at.saturating_add(base),
            _ => {}
        }
        self
    }
}
