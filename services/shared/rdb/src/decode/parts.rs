//! The elements of a collection one by one, whatever holds them: a counted row of strings, one packed
//! string, or a row of packed strings (a quicklist).

use super::packed::{Packed, PackedList};
use super::{intset::Intset, listpack::Listpack, ziplist::Ziplist, zipmap::Zipmap};
use crate::error::{Error, malformed};
use crate::strings;
use crate::value::Encoding;
use bytes::Bytes;

/// A node of a quicklist that is one large element.
const PLAIN: u64 = 1;
/// A node that is a listpack.
const PACKED: u64 = 2;

/// The parts of a value's body, in its order.
#[derive(Debug, Clone)]
pub(crate) struct Parts {
    source: Source,
    largest: u64,
}

#[derive(Debug, Clone)]
enum Source {
    /// Strings in a row.
    Row { rest: Bytes, left: u64 },
    /// One packed string.
    Packed(PackedList),
    /// Packed strings in a row.
    Nodes { rest: Bytes, left: u64, encoding: Encoding, node: Option<PackedList> },
}

impl Parts {
    /// Begins. Of a row, `per_entry` strings belong to each of the counted entries. No packed string may
    /// be larger than `largest` bytes when unpacked.
    pub(crate) fn new(
        encoding: Encoding,
        mut body: Bytes,
        per_entry: u64,
        largest: u64,
    ) -> Result<Self, Error> {
        let source = match encoding {
            Encoding::QuicklistOfZiplists | Encoding::QuicklistOfListpacks => {
                let left = strings::take_number(&mut body)?;
                Source::Nodes { rest: body, left, encoding, node: None }
            }
            Encoding::Ziplist
            | Encoding::Listpack
            | Encoding::HashTtlListpack
            | Encoding::HashTtlListpackPreGa
            | Encoding::Intset
            | Encoding::Zipmap => {
                let packed = strings::take(&mut body, largest)?;
                if !body.is_empty() {
                    return Err(malformed("end of a value", 0));
                }
                Source::Packed(match encoding {
                    Encoding::Ziplist => PackedList::Ziplist(Ziplist::new(packed)?),
                    Encoding::Intset => PackedList::Intset(Intset::new(packed)?),
                    Encoding::Zipmap => PackedList::Zipmap(Zipmap::new(packed)?),
                    _ => PackedList::Listpack(Listpack::new(packed)?),
                })
            }
            _ => {
                let entries = strings::take_number(&mut body)?;
                let left =
                    entries.checked_mul(per_entry).ok_or_else(|| malformed("element count", 0))?;
                Source::Row { rest: body, left }
            }
        };
        Ok(Self { source, largest })
    }

    /// The next part; `None` behind the last, when the body was used to its end.
    pub(crate) fn next(&mut self) -> Result<Option<Packed>, Error> {
        let largest = self.largest;
        match &mut self.source {
            Source::Packed(list) => list.next(),
            Source::Row { rest, left } => match left.checked_sub(1) {
                None => at_end(rest),
                Some(fewer) => {
                    *left = fewer;
                    strings::take(rest, largest).map(|text| Some(Packed::Text(text)))
                }
            },
            Source::Nodes { rest, left, encoding, node } => loop {
                if let Some(list) = node {
                    if let Some(part) = list.next()? {
                        return Ok(Some(part));
                    }
                    *node = None;
                }
                let Some(fewer) = left.checked_sub(1) else { return at_end(rest) };
                *left = fewer;
                if *encoding == Encoding::QuicklistOfZiplists {
                    *node = Some(PackedList::Ziplist(Ziplist::new(strings::take(rest, largest)?)?));
                    continue;
                }
                let container = strings::take_number(rest)?;
                let bytes = strings::take(rest, largest)?;
                match container {
                    PLAIN => return Ok(Some(Packed::Text(bytes))),
                    PACKED => *node = Some(PackedList::Listpack(Listpack::new(bytes)?)),
                    _ => return Err(malformed("quicklist node", 0)),
                }
            },
        }
    }

    /// The next part where there must be one.
    pub(crate) fn require(&mut self) -> Result<Packed, Error> {
        self.next()?.ok_or_else(|| malformed("pair without its second half", 0))
    }
}

fn at_end(rest: &Bytes) -> Result<Option<Packed>, Error> {
    if rest.is_empty() { Ok(None) } else { Err(malformed("end of a value", 0)) }
}
