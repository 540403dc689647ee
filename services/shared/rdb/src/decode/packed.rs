//! The packed forms of small collections: one string that holds all elements, each behind a header that
//! says whether it is text or a number. Three layouts with one iterator.
//!
//! Numbers come out as decimal text, which is what they were before the server packed them.

use super::{intset::Intset, listpack::Listpack, ziplist::Ziplist, zipmap::Zipmap};
use crate::error::Error;
use bytes::Bytes;

/// An element as it was packed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Packed {
    Text(Bytes),
    Number(i64),
}

impl Packed {
    /// What the user stored.
    pub(crate) fn into_text(self) -> Bytes {
        match self {
            Self::Text(text) => text,
            Self::Number(number) => Bytes::from(number.to_string()),
        }
    }

    /// The number it is, also when it was packed as text.
    pub(crate) fn number(&self) -> Option<i64> {
        match self {
            Self::Number(number) => Some(*number),
            Self::Text(text) => std::str::from_utf8(text).ok()?.parse().ok(),
        }
    }
}

/// The elements of a packed string, in order.
#[derive(Debug, Clone)]
pub(crate) enum PackedList {
    Listpack(Listpack),
    Ziplist(Ziplist),
    Intset(Intset),
    Zipmap(Zipmap),
}

impl PackedList {
    /// The next element; `None` behind the last, whose end has then been verified.
    pub(crate) fn next(&mut self) -> Result<Option<Packed>, Error> {
        match self {
            Self::Listpack(list) => list.next(),
            Self::Ziplist(list) => list.next(),
            Self::Intset(set) => set.next(),
            Self::Zipmap(map) => map.next(),
        }
    }
}
