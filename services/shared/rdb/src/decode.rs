//! Values as their elements, whatever encoding a server chose for them.
//!
//! A body is decoded lazily, one element at a time: what is in memory is the body itself, and of a packed
//! one (LZF) its unpacked form, within the limit given. Nothing is assumed about the order or the
//! uniqueness of elements; every container must end where it says it ends, or decoding fails.
//!
//! ```text
//!   Value::List ──▶ Elements ─┐
//!   Value::Set  ──▶ Elements ─┤
//!   Value::Hash ──▶ Fields ───┼─▶ parts (rows, packed strings, quicklists) ─▶ packed (listpack, ziplist,
//!   Value::SortedSet ▶ Members┘                                                intset, zipmap)
//!   Value::Stream ─▶ stream: entries, groups          Value::Module ─▶ module: its own fields
//! ```

mod fields;
mod intset;
mod listpack;
mod module;
mod packed;
mod parts;
mod scored;
mod stream;
mod ziplist;
mod zipmap;

pub use fields::Field;
pub use module::{Module, ModuleField};
pub use scored::Member;
pub(crate) use stream::Layout;
pub use stream::{
    Consumer, Figures, Group, Groups, Pending, Stream, StreamEntries, StreamEntry, StreamId,
};

use crate::error::{Error, malformed};
use crate::strings;
use crate::value::{Encoding, Kind, Type};
use bytes::Bytes;
use fields::FieldSource;
use packed::Packed;
use parts::Parts;
use scored::MemberSource;

/// A value, ready to be taken apart.
#[derive(Debug, Clone)]
pub enum Value {
    /// A string.
    String(Bytes),
    /// A list, from its head.
    List(Elements),
    /// A set, in no particular order.
    Set(Elements),
    /// A sorted set, in no particular order.
    SortedSet(Members),
    /// A hash, in no particular order.
    Hash(Fields),
    /// A stream.
    Stream(Stream),
    /// A module's value.
    Module(Module),
}

/// Begins to decode a value. No string in it may be larger than `largest` bytes when unpacked.
///
/// # Errors
/// When the body is not one of that type, or too large. What lies further in is found by the iterators.
pub fn decode(value_type: &Type, mut body: Bytes, largest: u64) -> Result<Value, Error> {
    let encoding = value_type.encoding();
    Ok(match value_type.kind {
        Kind::String => {
            let text = strings::take(&mut body, largest)?;
            if !body.is_empty() {
                return Err(malformed("end of a value", 0));
            }
            Value::String(text)
        }
        Kind::List => Value::List(Elements(Some(Parts::new(encoding, body, 1, largest)?))),
        Kind::Set => Value::Set(Elements(Some(Parts::new(encoding, body, 1, largest)?))),
        Kind::SortedSet => {
            Value::SortedSet(Members(Some(MemberSource::new(encoding, body, largest)?)))
        }
        Kind::Hash => Value::Hash(Fields(Some(FieldSource::new(encoding, body, largest)?))),
        Kind::Stream => Value::Stream(Stream::new(layout(encoding)?, body, largest)?),
        Kind::Module => Value::Module(Module::new(body, largest)?),
    })
}

fn layout(encoding: Encoding) -> Result<Layout, Error> {
    match encoding {
        Encoding::Stream1 => Ok(Layout::V1),
        Encoding::Stream2 => Ok(Layout::V2),
        Encoding::Stream3 => Ok(Layout::V3),
        Encoding::Stream4 => Ok(Layout::V4),
        Encoding::Stream5 => Ok(Layout::V5),
        _ => Err(malformed("stream", 0)),
    }
}

/// The elements of a list or a set. After an error there is nothing more.
#[derive(Debug, Clone)]
pub struct Elements(Option<Parts>);

impl Iterator for Elements {
    type Item = Result<Bytes, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        pull(&mut self.0, |parts| Ok(parts.next()?.map(Packed::into_text)))
    }
}

/// The members of a sorted set. After an error there is nothing more.
#[derive(Debug, Clone)]
pub struct Members(Option<MemberSource>);

impl Iterator for Members {
    type Item = Result<Member, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        pull(&mut self.0, MemberSource::next)
    }
}

/// The fields of a hash. After an error there is nothing more.
#[derive(Debug, Clone)]
pub struct Fields(Option<FieldSource>);

impl Iterator for Fields {
    type Item = Result<Field, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        pull(&mut self.0, FieldSource::next)
    }
}

/// The next item of a source that is given up when it is over or broken, so that nobody reads on in the
/// middle of what could not be read.
fn pull<S, T>(
    source: &mut Option<S>,
    next: impl FnOnce(&mut S) -> Result<Option<T>, Error>,
) -> Option<Result<T, Error>> {
    let item = next(source.as_mut()?).transpose();
    if !matches!(item, Some(Ok(_))) {
        *source = None;
    }
    item
}
