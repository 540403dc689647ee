//! Lines and counted bytes out of a growing buffer: what commands and replies are made of.

use super::Error;
use crate::strings::printable;
use bytes::{Buf, Bytes, BytesMut};

/// Longer lines than this are not RESP. Servers' errors are the longest lines there are.
const LONGEST_LINE: usize = 64 * 1024;

/// The place for a longer string is made when so much of it is there. A buffer that grows as it fills is copied again and
/// again, and ends at up to twice the string's length; one that is made when a length is announced believes anybody.
const LONG: usize = 1024 * 1024;
/// What may arrive with a string's end: a piece of a dump.
const BEHIND: usize = 256 * 1024;

#[derive(Debug, Default)]
pub(super) struct Frames {
    pub(super) buffer: BytesMut,
    /// No line end before this index of the buffer.
    searched: usize,
    taken: u64,
}

impl Frames {
    /// Takes a line, without its end.
    pub(super) fn line(&mut self) -> Result<Option<Bytes>, Error> {
        let found = self.buffer[self.searched..].iter().position(|byte| *byte == b'\n');
        let Some(end) = found.map(|index| index + self.searched) else {
            self.searched = self.buffer.len();
            if self.searched > LONGEST_LINE {
                return Err(self.unexpected("a line", &self.buffer));
            }
            return Ok(None);
        };
        self.searched = 0;
        let mut line = self.buffer.split_to(end + 1).freeze();
        if !line.ends_with(b"\r\n") {
            return Err(self.unexpected("a line", &line));
        }
        self.taken += line.len() as u64;
        line.truncate(line.len() - 2);
        Ok(Some(line))
    }

    /// Takes `len` bytes and the line end behind them.
    pub(super) fn bulk(&mut self, len: usize) -> Result<Option<Bytes>, Error> {
        if self.buffer.len() < len + 2 {
            if self.buffer.len() >= LONG && self.buffer.capacity() < len + 2 {
                let mut place = BytesMut::with_capacity(len + 2 + BEHIND);
                place.extend_from_slice(&self.buffer);
                self.buffer = place;
            }
            return Ok(None);
        }
        let bulk = self.buffer.split_to(len).freeze();
        self.taken += len as u64;
        if !self.buffer.starts_with(b"\r\n") {
            return Err(self.unexpected("the end of a string", &self.buffer));
        }
        self.buffer.advance(2);
        self.taken += 2;
        Ok(Some(bulk))
    }

    /// A number in a line's tail, at most `limit`; -1 is `None`.
    pub(super) fn length(
        &self,
        digits: &[u8],
        what: &'static str,
        limit: u64,
    ) -> Result<Option<usize>, Error> {
        if digits == b"-1" {
            return Ok(None);
        }
        let number = std::str::from_utf8(digits).ok().and_then(|text| text.parse::<u64>().ok());
        let number = number.ok_or_else(|| self.unexpected(what, digits))?;
        if number > limit {
            return Err(Error::TooLarge { what, limit, at: self.taken });
        }
        usize::try_from(number).map(Some).map_err(|_| Error::TooLarge {
            what,
            limit,
            at: self.taken,
        })
    }

    pub(super) fn unexpected(&self, expected: &'static str, found: &[u8]) -> Error {
        Error::Unexpected { expected, found: printable(found, 40), at: self.taken }
    }

    pub(super) const fn at(&self) -> u64 {
        self.taken
    }

    /// Offset behind everything received.
    pub(super) fn received(&self) -> u64 {
        self.taken + self.buffer.len() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_string_takes_its_length_and_no_more() {
        let long = vec![7; 10_000_000];
        let mut frames = Frames::default();
        let mut largest = 0;
        for piece in long.chunks(BEHIND).chain([&b"\r\n+next\r\n"[..]]) {
            assert_eq!(frames.bulk(long.len()).unwrap(), None);
            frames.buffer.extend_from_slice(piece);
            largest = largest.max(frames.buffer.capacity());
        }
        assert_eq!(frames.bulk(long.len()).unwrap().unwrap(), long);
        assert!(largest <= long.len() + 2 + BEHIND, "{largest}");
        assert_eq!(frames.line().unwrap().unwrap(), &b"+next"[..]);
        // What is only announced takes nothing.
        assert_eq!(frames.bulk(1 << 40).unwrap(), None);
        assert!(frames.buffer.capacity() <= BEHIND);
    }
}
