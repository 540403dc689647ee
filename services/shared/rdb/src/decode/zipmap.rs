//! The zipmap, which small hashes were before Redis 2.6: field, value, unused bytes; 0xff at the end.

use super::packed::Packed;
use crate::error::{Error, malformed};
use bytes::{Buf, Bytes};

const WHAT: &str = "zipmap";
const END: u8 = 0xff;
/// A length that takes five bytes begins so; as a count of pairs it says: count them yourself.
const WIDE: u8 = 0xfe;

/// Reads fields and values in turn.
#[derive(Debug, Clone)]
pub(crate) struct Zipmap {
    rest: Bytes,
    len: usize,
    /// Pairs still to come, where the header says how many there are.
    left: Option<u8>,
    at_value: bool,
}

impl Zipmap {
    pub(crate) fn new(bytes: Bytes) -> Result<Self, Error> {
        let len = bytes.len();
        let [count, .., END] = *bytes else { return Err(malformed(WHAT, 0)) };
        let left = (count < WIDE).then_some(count);
        Ok(Self { rest: bytes.slice(1..), len, left, at_value: false })
    }

    /// The next field or value; `None` behind the last.
    pub(crate) fn next(&mut self) -> Result<Option<Packed>, Error> {
        let broken = malformed(WHAT, self.len - self.rest.len());
        if *self.rest == [END] {
            let over = !self.at_value && self.left.unwrap_or(0) == 0;
            return if over { Ok(None) } else { Err(broken) };
        }
        self.part().map(Some).ok_or(broken)
    }

    fn part(&mut self) -> Option<Packed> {
        let (head, len) = match *self.rest {
            [first @ 0..WIDE, ..] => (1, usize::from(first)),
            [WIDE, a, b, c, d, ..] => (5, u32::from_le_bytes([a, b, c, d]) as usize),
            _ => return None,
        };
        let (head, unused) = if self.at_value {
            (head + 1, usize::from(*self.rest.get(head)?))
        } else {
            if let Some(left) = &mut self.left {
                *left = left.checked_sub(1)?;
            }
            (head, 0)
        };
        // The last byte is the end of the zipmap and no part's.
        if head + len + unused >= self.rest.len() {
            return None;
        }
        let text = self.rest.slice(head..head + len);
        self.rest.advance(head + len + unused);
        self.at_value = !self.at_value;
        Some(Packed::Text(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &'static [u8]) -> Result<Vec<Bytes>, Error> {
        let mut map = Zipmap::new(Bytes::from_static(bytes))?;
        let mut all = Vec::new();
        while let Some(part) = map.next()? {
            all.push(part.into_text());
        }
        Ok(all)
    }

    #[test]
    fn reads_short_long_and_padded_parts() {
        let got =
            read(b"\x02\x03foo\x03\x00bar\xfe\x05\x00\x00\x00hello\x05\x02world??\xff").unwrap();
        assert_eq!(got, ["foo", "bar", "hello", "world"]);
        assert_eq!(read(b"\x00\xff").unwrap().len(), 0);
        assert_eq!(read(b"\xfe\x01a\x01\x00b\xff").unwrap(), ["a", "b"]);
    }

    #[test]
    fn refuses_what_contradicts_itself() {
        for bad in [
            &b""[..],
            b"\xff",
            b"\x01\xff",
            b"\x01\x01a\xff",
            b"\x01\x01a\x01\x00\xff",
            b"\x02\x01a\x01\x00b\xff",
            b"\x00\x01a\x01\x00b\xff",
            b"\x01\xfe\x01\x00\x00\xff",
        ] {
            assert!(read(bad).is_err(), "{bad:?}");
        }
    }
}
