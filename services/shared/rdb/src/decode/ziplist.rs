//! The ziplist, which listpacks replaced in 7.0: length, offset of the last element, count, elements
//! behind the length of the one before, 0xff.

use super::packed::Packed;
use crate::error::{Error, malformed};
use bytes::{Buf, Bytes};

const WHAT: &str = "ziplist";
/// Length and offset of the last element in four bytes each, count in two.
const HEADER: usize = 10;
const END: u8 = 0xff;
/// A length of the element before that takes five bytes begins so.
const WIDE: u8 = 0xfe;
/// This count says: count them yourself.
const UNCOUNTED: u16 = u16::MAX;

/// Reads a ziplist's elements.
#[derive(Debug, Clone)]
pub(crate) struct Ziplist {
    rest: Bytes,
    len: usize,
    /// Elements still to come, where the header says how many there are.
    left: Option<u16>,
}

impl Ziplist {
    pub(crate) fn new(bytes: Bytes) -> Result<Self, Error> {
        let len = bytes.len();
        let [a, b, c, d, _, _, _, _, e, f, .., END] = *bytes else {
            return Err(malformed(WHAT, 0));
        };
        if u32::from_le_bytes([a, b, c, d]) as usize != len {
            return Err(malformed(WHAT, 0));
        }
        let count = u16::from_le_bytes([e, f]);
        let left = (count != UNCOUNTED).then_some(count);
        Ok(Self { rest: bytes.slice(HEADER..), len, left })
    }

    /// The next element; `None` behind the last.
    pub(crate) fn next(&mut self) -> Result<Option<Packed>, Error> {
        let broken = malformed(WHAT, self.len - self.rest.len());
        if *self.rest == [END] {
            return if self.left.unwrap_or(0) == 0 { Ok(None) } else { Err(broken) };
        }
        self.element().map(Some).ok_or(broken)
    }

    fn element(&mut self) -> Option<Packed> {
        if let Some(left) = &mut self.left {
            *left = left.checked_sub(1)?;
        }
        let before = if *self.rest.first()? == WIDE { 5 } else { 1 };
        let (head, text_len, number) = match *self.rest.get(before..)? {
            [first @ 0..0x40, ..] => (1, usize::from(first), None),
            [first @ 0x40..0x80, low, ..] => {
                (2, usize::from(u16::from_be_bytes([first & 0x3f, low])), None)
            }
            // The six low bits are unused; servers write zeros.
            [0x80..0xc0, a, b, c, d, ..] => (5, u32::from_be_bytes([a, b, c, d]) as usize, None),
            [0xc0, a, b, ..] => (3, 0, Some(i64::from(i16::from_le_bytes([a, b])))),
            [0xd0, a, b, c, d, ..] => (5, 0, Some(i64::from(i32::from_le_bytes([a, b, c, d])))),
            [0xe0, a, b, c, d, e, f, g, h, ..] => {
                (9, 0, Some(i64::from_le_bytes([a, b, c, d, e, f, g, h])))
            }
            [0xf0, a, b, c, ..] => (4, 0, Some(i64::from(i32::from_le_bytes([0, a, b, c]) >> 8))),
            [0xfe, a, ..] => (2, 0, Some(i64::from(i8::from_le_bytes([a])))),
            [first @ 0xf1..=0xfd, ..] => (1, 0, Some(i64::from(first & 0x0f) - 1)),
            _ => return None,
        };
        let text_at = before + head;
        // The last byte is the end of the ziplist and no element's.
        if text_at + text_len >= self.rest.len() {
            return None;
        }
        let packed = number.map_or_else(
            || Packed::Text(self.rest.slice(text_at..text_at + text_len)),
            Packed::Number,
        );
        self.rest.advance(text_at + text_len);
        Some(packed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ziplist(elements: &[&[u8]]) -> Bytes {
        let body: Vec<u8> = elements.concat();
        let mut bytes = u32::try_from(body.len() + 11).unwrap().to_le_bytes().to_vec();
        bytes.extend([0; 4]);
        bytes.extend(u16::try_from(elements.len()).unwrap().to_le_bytes());
        bytes.extend(body);
        bytes.push(END);
        Bytes::from(bytes)
    }

    fn read(bytes: Bytes) -> Result<Vec<Packed>, Error> {
        let mut list = Ziplist::new(bytes)?;
        let mut all = Vec::new();
        while let Some(element) = list.next()? {
            all.push(element);
        }
        Ok(all)
    }

    #[test]
    fn reads_every_form_of_number_and_text() {
        let long = [&[2, 0x41, 0x00][..], &[b'x'; 256]].concat();
        let longer = [&[0xfe, 2, 1, 0, 0, 0x80, 0, 0, 0x40, 0][..], &[b'y'; 16_384]].concat();
        let list = ziplist(&[
            &[0, 0xf1],
            &[2, 0xfd],
            &[2, 0xfe, 0x80],
            &[3, 0xc0, 0x00, 0x80],
            &[4, 0xf0, 0x00, 0x00, 0x80],
            &[5, 0xf0, 0xff, 0xff, 0x7f],
            &[5, 0xd0, 0, 0, 0, 0x80],
            &[6, 0xe0, 0, 0, 0, 0, 0, 0, 0, 0x80],
            &[10, 0],
            &[2, 2, b'h', b'i'],
            &long,
            &longer,
        ]);
        let got = read(list).unwrap();
        let numbers: Vec<_> = got.iter().take(8).map(|one| one.number().unwrap()).collect();
        let want = [0, 12, -128, -32_768, -8_388_608, 8_388_607, -2_147_483_648, i64::MIN];
        assert_eq!(numbers, want);
        let lens: Vec<_> = got[8..].iter().map(|one| one.clone().into_text().len()).collect();
        assert_eq!(lens, [0, 2, 256, 16_384]);
    }

    #[test]
    fn refuses_what_contradicts_itself() {
        let good = ziplist(&[&[0, 0xf1], &[2, 2, b'h', b'i']]);
        assert!(read(good.clone()).is_ok());
        for (at, byte) in [(0, 1), (8, 1), (8, 3), (13, 3), (13, 0xff), (16, 0)] {
            let mut bad = good.to_vec();
            bad[at] = byte;
            assert!(read(Bytes::from(bad)).is_err(), "{byte:#x} at {at}");
        }
        for len in 0..good.len() {
            assert!(read(good.slice(..len)).is_err(), "{len}");
        }
    }
}
