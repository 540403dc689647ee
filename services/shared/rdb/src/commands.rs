//! A value as typed commands, for servers that cannot take it as a payload: of another make, much older,
//! or managed by somebody who forbids `RESTORE`.
//!
//! The key is deleted first and its expiry set last, so a repeat gives the same result and a key that is
//! only partly written never outlives its time. Commands come in pages, lazily: beside the value, one page
//! is in memory. What a server older than the value's own cannot hold (times to live of fields, figures
//! of streams) is left out; [`crate::travel`] tells beforehand what is lost that way.

mod stream;

use crate::decode::{self, Elements, Field, Fields, Members, Value};
use crate::entries::Entry;
use crate::error::{Error, malformed};
use crate::target::Target;
use bytes::Bytes;
use std::collections::VecDeque;
use stream::StreamCommands;

/// How much goes into one command at most; a single element is never cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pages {
    /// Elements, members, fields or ids.
    pub elements: usize,
    /// Their bytes.
    pub bytes: usize,
    /// Bytes of a string; a longer one is set in parts. Kept apart because a server copies the whole
    /// string for each part that is appended.
    pub string_bytes: usize,
}

impl Default for Pages {
    /// A thousand elements, one megabyte, strings in parts of 64.
    fn default() -> Self {
        Self { elements: 1000, bytes: 1 << 20, string_bytes: 64 << 20 }
    }
}

/// A command: its name and arguments, the key being the first of them where there is one, else (in
/// `XGROUP` and `XREADGROUP`) a later one.
pub type Command = Vec<Bytes>;

/// The commands that write a key with its value. After an error there is nothing more, and what was
/// written so far is not the value.
#[derive(Debug)]
pub struct Commands {
    key: Bytes,
    pages: Pages,
    /// Written before the next part of the value.
    queue: VecDeque<Command>,
    body: Option<Body>,
    /// Written last.
    expiry: Option<Command>,
}

#[derive(Debug)]
enum Body {
    Text { rest: Bytes, first: bool },
    Elements { name: &'static [u8], elements: Elements },
    Members(Members),
    Fields { fields: Fields, latest: Option<i64> },
    Stream(Box<StreamCommands>),
}

/// The commands that write `entry` to `target`. No string may be larger than `largest` bytes when
/// unpacked.
///
/// # Errors
/// When the value cannot be decoded, or is a module's, for which there are no commands.
pub fn commands(
    entry: &Entry,
    target: &Target,
    pages: Pages,
    largest: u64,
) -> Result<Commands, Error> {
    let key = entry.key.clone();
    let value = decode::decode(entry.value_type, entry.body.clone(), largest)?;
    let mut queue = VecDeque::new();
    // SET replaces whatever is there, its expiry included.
    if !matches!(value, Value::String(_)) {
        queue.push_back(vec![word(b"UNLINK"), key.clone()]);
    }
    let body = match value {
        Value::String(text) => Body::Text { rest: text, first: true },
        Value::List(elements) => Body::Elements { name: b"RPUSH", elements },
        Value::Set(elements) => Body::Elements { name: b"SADD", elements },
        Value::SortedSet(members) => Body::Members(members),
        Value::Hash(fields) => Body::Fields { fields, latest: target.latest_field_time() },
        Value::Stream(stream) => {
            Body::Stream(Box::new(StreamCommands::new(key.clone(), &stream, target, pages)?))
        }
        Value::Module(_) => return Err(malformed("value to write as commands", 0)),
    };
    let expiry =
        entry.expires_at_ms.map(|at_ms| vec![word(b"PEXPIREAT"), key.clone(), digits(at_ms)]);
    Ok(Commands { key, pages, queue, body: Some(body), expiry })
}

impl Iterator for Commands {
    type Item = Result<Command, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(command) = self.queue.pop_front() {
            return Some(Ok(command));
        }
        match self.page().transpose() {
            Some(Ok(command)) => Some(Ok(command)),
            Some(Err(error)) => {
                self.body = None;
                self.expiry = None;
                Some(Err(error))
            }
            None => {
                self.body = None;
                self.expiry.take().map(Ok)
            }
        }
    }
}

impl Commands {
    fn page(&mut self) -> Result<Option<Command>, Error> {
        let Some(body) = &mut self.body else { return Ok(None) };
        let pages = self.pages;
        match body {
            Body::Text { rest, first } => {
                let name: &[u8] = if *first { b"SET" } else { b"APPEND" };
                if rest.is_empty() && !*first {
                    return Ok(None);
                }
                *first = false;
                let part = rest.split_to(rest.len().min(pages.string_bytes.max(1)));
                Ok(Some(vec![Bytes::from_static(name), self.key.clone(), part]))
            }
            Body::Elements { name, elements } => {
                let mut page = Page::begin(name, &self.key, pages);
                for element in elements {
                    if page.add([element?]) {
                        break;
                    }
                }
                Ok(page.end())
            }
            Body::Members(members) => {
                let mut page = Page::begin(b"ZADD", &self.key, pages);
                for member in members {
                    let member = member?;
                    if member.score.is_nan() {
                        return Err(malformed("score, which is not a number,", 0));
                    }
                    if page.add([score(member.score), member.member]) {
                        break;
                    }
                }
                Ok(page.end())
            }
            Body::Fields { fields, latest } => {
                let mut page = Page::begin(b"HSET", &self.key, pages);
                let mut timed = Vec::new();
                for field in fields {
                    let Field { name, value, expires_at_ms } = field?;
                    if let Some(at_ms) = expires_at_ms.filter(|at| Some(*at) <= *latest) {
                        timed.push((at_ms, name.clone()));
                    }
                    if page.add([name, value]) {
                        break;
                    }
                }
                self.queue = expiries(&self.key, timed);
                Ok(page.end())
            }
            Body::Stream(stream) => stream.next(),
        }
    }
}

/// One command for all fields of a page that expire at the same time.
fn expiries(key: &Bytes, mut timed: Vec<(i64, Bytes)>) -> VecDeque<Command> {
    timed.sort_by_key(|(at_ms, _)| *at_ms);
    let same_time = |a: &(i64, Bytes), b: &(i64, Bytes)| a.0 == b.0;
    timed
        .chunk_by(same_time)
        .filter_map(|group| {
            let (at_ms, _) = group.first()?;
            let head = [word(b"HPEXPIREAT"), key.clone(), digits(*at_ms), word(b"FIELDS")];
            let names = group.iter().map(|(_, name)| name.clone());
            Some(head.into_iter().chain([digits(group.len())]).chain(names).collect())
        })
        .collect()
}

/// A command that is being filled.
struct Page {
    command: Command,
    head: usize,
    left: usize,
    bytes_left: usize,
}

impl Page {
    fn begin(name: &'static [u8], key: &Bytes, pages: Pages) -> Self {
        Self::with_head(vec![Bytes::from_static(name), key.clone()], pages)
    }

    fn with_head(command: Command, pages: Pages) -> Self {
        Self { head: command.len(), command, left: pages.elements, bytes_left: pages.bytes }
    }

    /// Adds the arguments of one element, and says whether the page is full.
    fn add<const N: usize>(&mut self, arguments: [Bytes; N]) -> bool {
        let bytes: usize = arguments.iter().map(Bytes::len).sum();
        self.command.extend(arguments);
        self.left = self.left.saturating_sub(1);
        self.bytes_left = self.bytes_left.saturating_sub(bytes);
        self.left == 0 || self.bytes_left == 0
    }

    /// The command, unless nothing was added.
    fn end(self) -> Option<Command> {
        (self.command.len() > self.head).then_some(self.command)
    }
}

const fn word(text: &'static [u8]) -> Bytes {
    Bytes::from_static(text)
}

fn digits(number: impl ToString) -> Bytes {
    Bytes::from(number.to_string())
}

/// The shortest digits that a server reads back as the same number.
fn score(score: f64) -> Bytes {
    Bytes::from(format!("{score:e}"))
}

#[cfg(test)]
mod tests;
