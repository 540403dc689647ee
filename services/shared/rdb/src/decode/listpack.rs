//! The listpack: total length, count, elements with their own length behind them, 0xff.

use super::packed::Packed;
use crate::error::{Error, malformed};
use bytes::{Buf, Bytes};

const WHAT: &str = "listpack";
/// Length of the whole in four bytes, count in two.
const HEADER: usize = 6;
const END: u8 = 0xff;
/// This count says: count them yourself.
const UNCOUNTED: u16 = u16::MAX;

/// Reads a listpack's elements.
#[derive(Debug, Clone)]
pub(crate) struct Listpack {
    rest: Bytes,
    len: usize,
    /// Elements still to come, where the header says how many there are.
    left: Option<u16>,
}

impl Listpack {
    pub(crate) fn new(bytes: Bytes) -> Result<Self, Error> {
        let len = bytes.len();
        let [a, b, c, d, e, f, .., END] = *bytes else { return Err(malformed(WHAT, 0)) };
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
        let (head, text_len, number) = match *self.rest {
            [first @ 0..=0x7f, ..] => (1, 0, Some(i64::from(first))),
            [first @ 0x80..=0xbf, ..] => (1, usize::from(first & 0x3f), None),
            [first @ 0xc0..=0xdf, low, ..] => {
                // Thirteen bits with a sign.
                let raw = i64::from(u16::from_be_bytes([first & 0x1f, low]));
                (2, 0, Some(if raw >= 1 << 12 { raw - (1 << 13) } else { raw }))
            }
            [first @ 0xe0..=0xef, low, ..] => {
                (2, usize::from(u16::from_be_bytes([first & 0x0f, low])), None)
            }
            [0xf0, a, b, c, d, ..] => (5, u32::from_le_bytes([a, b, c, d]) as usize, None),
            [0xf1, a, b, ..] => (3, 0, Some(i64::from(i16::from_le_bytes([a, b])))),
            [0xf2, a, b, c, ..] => (4, 0, Some(i64::from(i32::from_le_bytes([0, a, b, c]) >> 8))),
            [0xf3, a, b, c, d, ..] => (5, 0, Some(i64::from(i32::from_le_bytes([a, b, c, d])))),
            [0xf4, a, b, c, d, e, f, g, h, ..] => {
                (9, 0, Some(i64::from_le_bytes([a, b, c, d, e, f, g, h])))
            }
            _ => return None,
        };
        let whole = head + text_len;
        // The last byte is the end of the listpack and no element's.
        if whole + back_len(whole) >= self.rest.len() {
            return None;
        }
        let packed =
            number.map_or_else(|| Packed::Text(self.rest.slice(head..whole)), Packed::Number);
        self.rest.advance(whole + back_len(whole));
        Some(packed)
    }
}

/// Bytes of the length that stands behind an element of so many bytes.
const fn back_len(len: usize) -> usize {
    match len {
        0..=127 => 1,
        128..=16_382 => 2,
        16_383..=2_097_150 => 3,
        2_097_151..=268_435_454 => 4,
        _ => 5,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listpack(elements: &[&[u8]]) -> Bytes {
        let body: Vec<u8> = elements.concat();
        let mut bytes = u32::try_from(body.len() + 7).unwrap().to_le_bytes().to_vec();
        bytes.extend(u16::try_from(elements.len()).unwrap().to_le_bytes());
        bytes.extend(body);
        bytes.push(END);
        Bytes::from(bytes)
    }

    fn read(bytes: Bytes) -> Result<Vec<Packed>, Error> {
        let mut list = Listpack::new(bytes)?;
        let mut all = Vec::new();
        while let Some(element) = list.next()? {
            all.push(element);
        }
        Ok(all)
    }

    #[test]
    fn reads_every_form_of_number_and_text() {
        let long = [&[0xe1, 0x00][..], &[b'x'; 256], &[0x82, 0x02]].concat();
        let longer = [&[0xf0, 0, 0x40, 0, 0][..], &[b'y'; 16_384], &[0, 0, 0]].concat();
        let list = listpack(&[
            &[0x7f, 1],
            &[0xdf, 0xff, 2],
            &[0xcf, 0xff, 2],
            &[0xd0, 0x00, 2],
            &[0xf1, 0x00, 0x80, 3],
            &[0xf2, 0xff, 0xff, 0x7f, 4],
            &[0xf2, 0x00, 0x00, 0x80, 4],
            &[0xf3, 0, 0, 0, 0x80, 5],
            &[0xf4, 0, 0, 0, 0, 0, 0, 0, 0x80, 9],
            &[0x80, 1],
            &[0x82, b'h', b'i', 3],
            &long,
            &longer,
        ]);
        let got = read(list).unwrap();
        let numbers: Vec<_> = got.iter().take(9).map(|one| one.number().unwrap()).collect();
        let want = [127, -1, 4095, -4096, -32_768, 8_388_607, -8_388_608, -2_147_483_648, i64::MIN];
        assert_eq!(numbers, want);
        let lens: Vec<_> = got[9..].iter().map(|one| one.clone().into_text().len()).collect();
        assert_eq!(lens, [0, 2, 256, 16_384]);
    }

    #[test]
    fn refuses_what_contradicts_itself() {
        let good = listpack(&[&[1, 1], &[0x82, b'h', b'i', 3]]);
        assert!(read(good.clone()).is_ok());
        for (at, byte) in [(0, 1), (4, 1), (4, 3), (8, 0x83), (8, 0xf0), (12, 0)] {
            let mut bad = good.to_vec();
            bad[at] = byte;
            assert!(read(Bytes::from(bad)).is_err(), "{byte:#x} at {at}");
        }
        for len in 0..good.len() {
            assert!(read(good.slice(..len)).is_err(), "{len}");
        }
    }
}
