//! Strings as RDB writes them (plain, as a small integer, packed), and bytes as people can read them.

use crate::error::Error;
use crate::length::{self, Length};
use crate::lzf;
use bytes::{Buf, Bytes};

/// Takes one encoded string off the front of `input` and decodes it, to at most `largest` bytes.
pub(crate) fn take(input: &mut Bytes, largest: u64) -> Result<Bytes, Error> {
    const MALFORMED: Error = Error::Malformed { what: "string", at: 0 };
    match number_or_special(input)? {
        Length::Plain(len) => split(input, len).ok_or(MALFORMED),
        Length::Special(encoding @ 0..=2) => {
            let raw = split(input, 1 << encoding).ok_or(MALFORMED)?;
            let number = match *raw {
                [a] => i32::from(i8::from_le_bytes([a])),
                [a, b] => i32::from(i16::from_le_bytes([a, b])),
                [a, b, c, d] => i32::from_le_bytes([a, b, c, d]),
                _ => return Err(MALFORMED),
            };
            Ok(Bytes::from(number.to_string()))
        }
        Length::Special(3) => {
            let packed_len = take_number(input)?;
            let plain_len = take_number(input)?;
            if plain_len > largest {
                let name = format!("of {plain_len} bytes");
                return Err(Error::TooLarge { what: "a packed string", name, limit: largest });
            }
            let plain_len = usize::try_from(plain_len).map_err(|_| MALFORMED)?;
            let packed = split(input, packed_len).ok_or(MALFORMED)?;
            lzf::unpack(&packed, plain_len)
                .map(Bytes::from)
                .ok_or(Error::Malformed { what: "packed string", at: 0 })
        }
        Length::Special(_) => Err(Error::Malformed { what: "string encoding", at: 0 }),
    }
}

/// The bytes of an encoded string, where they stand in it as they are: no number, not packed, nothing behind it.
#[must_use]
pub fn plain(encoded: &Bytes) -> Option<Bytes> {
    let mut rest = encoded.clone();
    let Ok(Length::Plain(len)) = number_or_special(&mut rest) else { return None };
    (rest.len() as u64 == len).then_some(rest)
}

/// Takes one number off the front of `input`.
pub(crate) fn take_number(input: &mut Bytes) -> Result<u64, Error> {
    match number_or_special(input)? {
        Length::Plain(number) => Ok(number),
        Length::Special(_) => Err(Error::Malformed { what: "number", at: 0 }),
    }
}

fn number_or_special(input: &mut Bytes) -> Result<Length, Error> {
    let mut rest = &input[..];
    let length = length::take(&mut rest)?.ok_or(Error::Malformed { what: "length", at: 0 })?;
    let used = input.len() - rest.len();
    input.advance(used);
    Ok(length)
}

fn split(input: &mut Bytes, len: u64) -> Option<Bytes> {
    let len = usize::try_from(len).ok().filter(|len| *len <= input.len())?;
    Some(input.split_to(len))
}

/// Bytes as `redis-cli` would show them, cut after `most` characters: for messages, never for data.
#[must_use]
pub fn printable(bytes: &[u8], most: usize) -> String {
    let mut shown = String::new();
    for (count, &byte) in bytes.iter().enumerate() {
        if count >= most {
            shown.push_str("...");
            break;
        }
        match byte {
            b'\\' => shown.push_str("\\\\"),
            0x20..=0x7e => shown.push(char::from(byte)),
            _ => shown.push_str(&format!("\\x{byte:02x}")),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decodes_every_encoding() {
        for (encoded, want) in [
            (&b"\x03abc"[..], &b"abc"[..]),
            (b"\xc0\xfe", b"-2"),
            (b"\xc1\x00\x80", b"-32768"),
            (b"\xc2\xff\xff\xff\x7f", b"2147483647"),
            (b"\xc3\x04\x08\x00a\xa0\x00", b"aaaaaaaa"),
        ] {
            let mut input = Bytes::from([encoded, b"rest"].concat());
            assert_eq!(take(&mut input, 100).unwrap(), want);
            assert_eq!(input, &b"rest"[..]);
        }
    }

    #[test]
    fn finds_what_stands_there_as_it_is() {
        let plain = |encoded: &'static [u8]| plain(&Bytes::from_static(encoded));
        assert_eq!(plain(b"\x03abc").unwrap(), "abc");
        assert_eq!(plain(b"\x00").unwrap(), "");
        for other in [&b"\xc0\x07"[..], b"\xc3\x04\x08\x00a\xa0\x00", b"\x03abcd", b"\x03ab", b""] {
            assert_eq!(plain(other), None);
        }
    }

    #[test]
    fn shows_bytes_to_people() {
        assert_eq!(printable(b"a\x00\\ \xff", 99), r"a\x00\\ \xff");
        assert_eq!(printable(b"abcdef", 3), "abc...");
    }
}
