//! The consumer groups of a stream. A file lists what is pending twice: once for the group, with when and
//! how often it was delivered, and once for each consumer, by id alone. Here the two are one.

use super::{Layout, StreamId};
use crate::decode::pull;
use crate::error::{Error, malformed};
use crate::strings;
use bytes::{Buf, Bytes};

const WHAT: &str = "consumer group";

/// An entry that was delivered and not acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pending {
    /// Its id. The entry itself may have been deleted since.
    pub id: StreamId,
    /// When it was last delivered, in milliseconds since 1970.
    pub delivered_at_ms: i64,
    /// How often it was delivered.
    pub deliveries: u64,
}

/// A consumer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Consumer {
    /// Its name.
    pub name: Bytes,
    /// When it last tried something, in milliseconds since 1970.
    pub seen_at_ms: i64,
    /// When it last got something; servers before 7.2 do not keep it.
    pub active_at_ms: Option<i64>,
    /// What was delivered to it and not acknowledged, by ascending id.
    pub pending: Vec<Pending>,
}

/// A consumer group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Its name.
    pub name: Bytes,
    /// The last id that was delivered.
    pub last_id: StreamId,
    /// How many entries it has read, where the server knows.
    pub entries_read: Option<u64>,
    /// Its consumers.
    pub consumers: Vec<Consumer>,
    /// What consumers gave back (`XNACK`): pending, and nobody's. By ascending id.
    pub unowned: Vec<Pending>,
}

/// The groups of a stream. After an error there is nothing more.
#[derive(Debug, Clone)]
pub struct Groups(Option<Rest>);

#[derive(Debug, Clone)]
struct Rest {
    rest: Bytes,
    left: u64,
    layout: Layout,
    largest: u64,
}

impl Groups {
    pub(super) fn new(mut rest: Bytes, layout: Layout, largest: u64) -> Result<Self, Error> {
        let left = strings::take_number(&mut rest)?;
        Ok(Self(Some(Rest { rest, left, layout, largest })))
    }
}

impl Iterator for Groups {
    type Item = Result<Group, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        pull(&mut self.0, Rest::next)
    }
}

/// A pending entry until its consumer is known.
type Unowned = (Pending, bool);

impl Rest {
    fn next(&mut self) -> Result<Option<Group>, Error> {
        let Some(fewer) = self.left.checked_sub(1) else {
            let over = self.rest.is_empty();
            return if over { Ok(None) } else { Err(malformed("end of a value", 0)) };
        };
        self.left = fewer;
        let rest = &mut self.rest;
        let name = strings::take(rest, self.largest)?;
        let last_id = StreamId::take(rest)?;
        let entries_read = if self.layout == Layout::V1 {
            None
        } else {
            // All ones is -1: the server lost count.
            Some(strings::take_number(rest)?).filter(|read| *read != u64::MAX)
        };
        let mut pending = self.pending()?;
        let mut consumers = Vec::new();
        for _ in 0..strings::take_number(&mut self.rest)? {
            consumers.push(self.consumer(&mut pending)?);
        }
        let unowned = if self.layout == Layout::V5 { self.ids(&mut pending)? } else { Vec::new() };
        if pending.iter().any(|(_, owned)| !owned) {
            return Err(malformed("pending entry without a consumer", 0));
        }
        Ok(Some(Group { name, last_id, entries_read, consumers, unowned }))
    }

    fn pending(&mut self) -> Result<Vec<Unowned>, Error> {
        let rest = &mut self.rest;
        let mut pending = Vec::new();
        for _ in 0..strings::take_number(rest)? {
            let id = StreamId::take_raw(rest).ok_or_else(|| malformed(WHAT, 0))?;
            let delivered_at_ms = rest.try_get_i64_le().map_err(|_| malformed(WHAT, 0))?;
            let deliveries = strings::take_number(rest)?;
            pending.push((Pending { id, delivered_at_ms, deliveries }, false));
        }
        // It is in this order in every file a server wrote; to search it, it must be.
        pending.sort_unstable_by_key(|(entry, _)| entry.id);
        Ok(pending)
    }

    fn consumer(&mut self, group: &mut [Unowned]) -> Result<Consumer, Error> {
        let rest = &mut self.rest;
        let name = strings::take(rest, self.largest)?;
        let seen_at_ms = rest.try_get_i64_le().map_err(|_| malformed(WHAT, 0))?;
        let active_at_ms = if self.layout >= Layout::V3 {
            Some(rest.try_get_i64_le().map_err(|_| malformed(WHAT, 0))?)
        } else {
            None
        };
        let pending = self.ids(group)?;
        Ok(Consumer { name, seen_at_ms, active_at_ms, pending })
    }

    /// Reads whose the entries of a group are: each is one consumer's, or was given back.
    fn ids(&mut self, group: &mut [Unowned]) -> Result<Vec<Pending>, Error> {
        let rest = &mut self.rest;
        let mut pending = Vec::new();
        for _ in 0..strings::take_number(rest)? {
            let id = StreamId::take_raw(rest).ok_or_else(|| malformed(WHAT, 0))?;
            let (entry, owned) = group
                .binary_search_by_key(&id, |(entry, _)| entry.id)
                .ok()
                .and_then(|index| group.get_mut(index))
                .filter(|(_, owned)| !owned)
                .ok_or_else(|| malformed("pending entry of a consumer", 0))?;
            *owned = true;
            pending.push(*entry);
        }
        pending.sort_unstable_by_key(|entry| entry.id);
        Ok(pending)
    }
}
