//! Writes what RDB is made of: numbers as length codes, and strings. Plainly: strings are neither packed
//! nor turned into numbers, which every version reads; a server chooses its own encoding when it loads.

use bytes::{BufMut, BytesMut};

/// Appends a number in the shortest form there is.
pub(crate) fn number(out: &mut BytesMut, number: u64) {
    match number {
        0..0x40 => out.put_u8(u8::try_from(number).unwrap_or_default()),
        0x40..0x4000 => out.put_u16(0x4000 | u16::try_from(number).unwrap_or_default()),
        0x4000..=0xffff_ffff => {
            out.put_u8(0x80);
            out.put_u32(u32::try_from(number).unwrap_or_default());
        }
        _ => {
            out.put_u8(0x81);
            out.put_u64(number);
        }
    }
}

/// Appends a string.
pub(crate) fn string(out: &mut BytesMut, text: &[u8]) {
    number(out, text.len() as u64);
    out.put_slice(text);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::strings;

    #[test]
    fn writes_what_is_read() {
        for wanted in [0, 0x3f, 0x40, 0x3fff, 0x4000, 0xffff_ffff, 0x1_0000_0000, u64::MAX] {
            let mut out = BytesMut::new();
            number(&mut out, wanted);
            let mut input = out.freeze();
            assert_eq!(strings::take_number(&mut input), Ok(wanted));
            assert!(input.is_empty());
        }
        for len in [0, 63, 64, 16_383, 16_384, 70_000] {
            let mut out = BytesMut::new();
            string(&mut out, &vec![b'x'; len]);
            let mut input = out.freeze();
            assert_eq!(strings::take(&mut input, 0).unwrap().len(), len);
            assert!(input.is_empty());
        }
    }
}
