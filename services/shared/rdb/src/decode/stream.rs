//! A stream: entries in listpacks, figures about them, and consumer groups with what was delivered and
//! not yet acknowledged.

mod entries;
mod groups;

pub use entries::{StreamEntries, StreamEntry};
pub use groups::{Consumer, Group, Groups, Pending};

use crate::error::{Error, malformed};
use crate::grammar::{self, Program};
use crate::skip::{Ran, Skipper};
use crate::strings;
use bytes::{Buf, Bytes};
use std::fmt;

/// The id of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Hash)]
pub struct StreamId {
    /// Milliseconds since 1970, usually.
    pub ms: u64,
    /// Tells entries of the same millisecond apart.
    pub seq: u64,
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.ms, self.seq)
    }
}

impl StreamId {
    /// Sixteen bytes, as they stand in keys of nodes and in pending lists.
    fn take_raw(bytes: &mut Bytes) -> Option<Self> {
        Some(Self { ms: bytes.try_get_u64().ok()?, seq: bytes.try_get_u64().ok()? })
    }

    /// Two numbers, as they stand everywhere else.
    fn take(bytes: &mut Bytes) -> Result<Self, Error> {
        Ok(Self { ms: strings::take_number(bytes)?, seq: strings::take_number(bytes)? })
    }
}

/// What a file of its version says about a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Layout {
    /// Since 5.0.
    V1,
    /// Since 7.0: more figures.
    V2,
    /// Since 7.2: when consumers were active.
    V3,
    /// Since Redis 8.6: what producers repeat.
    V4,
    /// Since Redis 8.8: what consumers gave back.
    V5,
}

impl Layout {
    const fn groups(self) -> Program {
        match self {
            Self::V1 => grammar::GROUPS_1,
            Self::V2 => grammar::GROUPS_2,
            Self::V3 | Self::V4 => grammar::GROUPS_3,
            Self::V5 => grammar::GROUPS_5,
        }
    }
}

/// The figures that servers keep since 7.0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Figures {
    /// The smallest id in the stream.
    pub first_id: StreamId,
    /// The greatest id that was ever deleted by name.
    pub max_deleted_id: StreamId,
    /// How many entries were ever added.
    pub entries_added: u64,
}

/// A stream.
#[derive(Debug, Clone)]
pub struct Stream {
    /// Entries in it.
    pub len: u64,
    /// The greatest id it ever had.
    pub last_id: StreamId,
    /// Figures that older servers do not keep.
    pub figures: Option<Figures>,
    layout: Layout,
    nodes: Bytes,
    groups: Bytes,
    /// As it stands in the file; empty where servers keep none.
    idempotence: Bytes,
    largest: u64,
}

impl Stream {
    pub(crate) fn new(layout: Layout, mut body: Bytes, largest: u64) -> Result<Self, Error> {
        let nodes = take(grammar::NODES, &mut body)?;
        let len = strings::take_number(&mut body)?;
        let last_id = StreamId::take(&mut body)?;
        let figures = if layout == Layout::V1 {
            None
        } else {
            Some(Figures {
                first_id: StreamId::take(&mut body)?,
                max_deleted_id: StreamId::take(&mut body)?,
                entries_added: strings::take_number(&mut body)?,
            })
        };
        let groups = take(layout.groups(), &mut body)?;
        let idempotence = if layout >= Layout::V4 {
            take(grammar::IDEMPOTENCE, &mut body)?
        } else {
            Bytes::new()
        };
        if !body.is_empty() {
            return Err(malformed("end of a value", 0));
        }
        Ok(Self { len, last_id, figures, layout, nodes, groups, idempotence, largest })
    }

    /// Whether the server remembers ids of producers, by which it tells an entry that is sent again.
    ///
    /// # Errors
    /// When that part is malformed.
    pub fn remembers_producers(&self) -> Result<bool, Error> {
        if self.idempotence.is_empty() {
            return Ok(false);
        }
        let mut rest = self.idempotence.clone();
        let _kept_for_seconds = strings::take_number(&mut rest)?;
        let _most_ids = strings::take_number(&mut rest)?;
        Ok(strings::take_number(&mut rest)? > 0)
    }

    /// The entries in the order of their ids, without those that were deleted.
    ///
    /// # Errors
    /// When the stream is malformed at its beginning.
    pub fn entries(&self) -> Result<StreamEntries, Error> {
        StreamEntries::new(self.nodes.clone(), self.largest)
    }

    /// The consumer groups.
    ///
    /// # Errors
    /// When the list of groups is malformed at its beginning.
    pub fn groups(&self) -> Result<Groups, Error> {
        Groups::new(self.groups.clone(), self.layout, self.largest)
    }

    /// The entries as they stand in the file, to be kept as they are.
    pub(crate) const fn raw_nodes(&self) -> &Bytes {
        &self.nodes
    }

    /// The memory of producers as it stands in the file.
    pub(crate) const fn raw_idempotence(&self) -> &Bytes {
        &self.idempotence
    }
}

/// Takes the bytes of a program off the front, without looking into them.
fn take(program: Program, body: &mut Bytes) -> Result<Bytes, Error> {
    let mut skipper = Skipper::new();
    skipper.start(program);
    match skipper.run(body)? {
        Ran::Ended(len) => Ok(body.split_to(len)),
        Ran::Hungry => Err(malformed("stream", body.len())),
    }
}
