//! A server's replies (RESP2), incrementally.

use super::Error;
use super::frame::Frames;
use bytes::{Bytes, BytesMut};

/// Replies nest three deep at most in the commands used here.
const DEEPEST: usize = 16;
/// More elements than this are not expected of any reply.
const MOST_ELEMENTS: u64 = 1024 * 1024;

/// Room for what is read at a time.
const READ_BYTES: usize = 16 * 1024;

/// A reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// `+OK` and the like.
    Status(Bytes),
    /// `-ERR …`, without the dash.
    Error(Bytes),
    /// A number.
    Integer(i64),
    /// A string, or nil.
    Bulk(Option<Bytes>),
    /// An array, or nil.
    Array(Option<Vec<Self>>),
}

/// Reads replies from input that arrives in pieces.
#[derive(Debug)]
pub struct ReplyReader {
    frames: Frames,
    largest: u64,
    bulk: Option<usize>,
    /// Arrays begun: what is there, how many are missing.
    open: Vec<(Vec<Reply>, usize)>,
}

impl ReplyReader {
    /// A reader for replies of which no string is larger than `largest` bytes.
    #[must_use]
    pub fn new(largest: u64) -> Self {
        Self { frames: Frames::default(), largest, bulk: None, open: Vec::new() }
    }

    /// Where input is to be appended. It has room for 16 KiB: a buffer that is left to grow by itself does so by a few
    /// bytes at a time, and each time takes a read from the socket.
    pub fn buffer(&mut self) -> &mut BytesMut {
        self.frames.buffer.reserve(READ_BYTES);
        &mut self.frames.buffer
    }

    /// Input that was not read, when the connection goes on with something else than replies.
    #[must_use]
    pub fn into_rest(self) -> BytesMut {
        self.frames.buffer
    }

    /// The next reply, or `None` when more input is needed.
    ///
    /// # Errors
    /// When the input is not RESP2, or too large.
    #[expect(clippy::should_implement_trait, reason = "None means hungry, not over")]
    pub fn next(&mut self) -> Result<Option<Reply>, Error> {
        loop {
            let Some(mut reply) = self.element()? else { return Ok(None) };
            loop {
                let Some((mut elements, missing)) = self.open.pop() else { return Ok(Some(reply)) };
                elements.push(reply);
                if missing > 1 {
                    self.open.push((elements, missing - 1));
                    break;
                }
                reply = Reply::Array(Some(elements));
            }
        }
    }

    /// The next reply that is not an array with elements; opens those.
    fn element(&mut self) -> Result<Option<Reply>, Error> {
        loop {
            if let Some(len) = self.bulk {
                let Some(bulk) = self.frames.bulk(len)? else { return Ok(None) };
                self.bulk = None;
                return Ok(Some(Reply::Bulk(Some(bulk))));
            }
            let Some(line) = self.frames.line()? else { return Ok(None) };
            let Some(sigil) = line.first() else {
                return Err(self.frames.unexpected("a reply", &line));
            };
            let rest = line.slice(1..);
            return Ok(Some(match sigil {
                b'+' => Reply::Status(rest),
                b'-' => Reply::Error(rest),
                b':' => {
                    let number = std::str::from_utf8(&rest).ok().and_then(|text| text.parse().ok());
                    Reply::Integer(number.ok_or_else(|| self.frames.unexpected("a number", &line))?)
                }
                b'$' => match self.frames.length(&rest, "a string", self.largest)? {
                    None => Reply::Bulk(None),
                    Some(len) => {
                        self.bulk = Some(len);
                        continue;
                    }
                },
                b'*' => match self.frames.length(&rest, "an array", MOST_ELEMENTS)? {
                    None => Reply::Array(None),
                    Some(0) => Reply::Array(Some(Vec::new())),
                    Some(len) => {
                        if self.open.len() == DEEPEST {
                            let at = self.frames.at();
                            return Err(Error::TooLarge {
                                what: "nesting",
                                limit: DEEPEST as u64,
                                at,
                            });
                        }
                        self.open.push((Vec::new(), len));
                        continue;
                    }
                },
                _ => return Err(self.frames.unexpected("a reply", &line)),
            }));
        }
    }
}
