//! The entries of a stream. A node is a listpack whose head names the fields that its first entry had;
//! entries with the same fields hold values only, and ids are differences to the node's own.

use super::StreamId;
use crate::decode::listpack::Listpack;
use crate::decode::packed::Packed;
use crate::decode::pull;
use crate::error::{Error, malformed};
use crate::strings;
use bytes::Bytes;

const WHAT: &str = "stream node";
const DELETED: i64 = 1;
const SAME_FIELDS: i64 = 2;
/// More fields are refused: no server takes more arguments in one command, and a field takes many times
/// the memory of its packed form.
const MOST_FIELDS: i64 = 1 << 20;

/// An entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamEntry {
    /// Its id.
    pub id: StreamId,
    /// Names and values in their order; a name may come twice.
    pub fields: Vec<(Bytes, Bytes)>,
}

/// The entries of a stream. After an error there is nothing more.
#[derive(Debug, Clone)]
pub struct StreamEntries(Option<Nodes>);

impl StreamEntries {
    pub(super) fn new(mut nodes: Bytes, largest: u64) -> Result<Self, Error> {
        let left = strings::take_number(&mut nodes)?;
        Ok(Self(Some(Nodes { rest: nodes, left, node: None, largest })))
    }
}

impl Iterator for StreamEntries {
    type Item = Result<StreamEntry, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        pull(&mut self.0, Nodes::next)
    }
}

#[derive(Debug, Clone)]
struct Nodes {
    rest: Bytes,
    left: u64,
    node: Option<Node>,
    largest: u64,
}

impl Nodes {
    fn next(&mut self) -> Result<Option<StreamEntry>, Error> {
        loop {
            if let Some(node) = &mut self.node {
                if let Some(entry) = node.next()? {
                    return Ok(Some(entry));
                }
                self.node = None;
            }
            let Some(fewer) = self.left.checked_sub(1) else { return Ok(None) };
            self.left = fewer;
            let mut key = strings::take(&mut self.rest, self.largest)?;
            let id = StreamId::take_raw(&mut key)
                .filter(|_| key.is_empty())
                .ok_or_else(|| malformed("stream node id", 0))?;
            let list = strings::take(&mut self.rest, self.largest)?;
            self.node = Some(Node::new(id, Listpack::new(list)?)?);
        }
    }
}

#[derive(Debug, Clone)]
struct Node {
    id: StreamId,
    list: Listpack,
    names: Vec<Bytes>,
}

impl Node {
    /// Reads the head: entries, deleted entries, fields of the first entry, zero.
    fn new(id: StreamId, list: Listpack) -> Result<Self, Error> {
        let mut node = Self { id, list, names: Vec::new() };
        let _entries = node.number()?;
        let _deleted = node.number()?;
        for _ in 0..node.count()? {
            let name = node.text()?;
            node.names.push(name);
        }
        if node.number()? == 0 { Ok(node) } else { Err(malformed(WHAT, 0)) }
    }

    fn next(&mut self) -> Result<Option<StreamEntry>, Error> {
        loop {
            let Some(flags) = self.list.next()? else { return Ok(None) };
            let flags = flags.number().ok_or_else(|| malformed(WHAT, 0))?;
            // Differences may wrap: a server adds them without a check.
            let id = StreamId {
                ms: self.id.ms.wrapping_add_signed(self.number()?),
                seq: self.id.seq.wrapping_add_signed(self.number()?),
            };
            let mut fields = Vec::new();
            if flags & SAME_FIELDS == 0 {
                for _ in 0..self.count()? {
                    let name = self.text()?;
                    fields.push((name, self.text()?));
                }
            } else {
                for index in 0..self.names.len() {
                    let value = self.text()?;
                    fields.push((self.names[index].clone(), value));
                }
            }
            // How many parts the entry has, for reading backwards.
            let _parts = self.number()?;
            if flags & DELETED == 0 {
                return Ok(Some(StreamEntry { id, fields }));
            }
        }
    }

    fn part(&mut self) -> Result<Packed, Error> {
        self.list.next()?.ok_or_else(|| malformed(WHAT, 0))
    }

    fn text(&mut self) -> Result<Bytes, Error> {
        self.part().map(Packed::into_text)
    }

    fn number(&mut self) -> Result<i64, Error> {
        self.part()?.number().ok_or_else(|| malformed(WHAT, 0))
    }

    fn count(&mut self) -> Result<i64, Error> {
        let count = self.number()?;
        if (0..=MOST_FIELDS).contains(&count) { Ok(count) } else { Err(malformed(WHAT, 0)) }
    }
}
