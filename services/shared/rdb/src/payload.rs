//! The payload of `DUMP` and `RESTORE`: type byte, body, RDB version, checksum.
//!
//! A body is the same bytes in an RDB file and in a payload. Only the footer differs, and it names the
//! version of whoever reads it: a server refuses a payload from a newer one even when the value in it
//! has not changed for ten years. So the footer is written for the target, here.

use crate::crc64::Crc64;
use crate::error::{Error, malformed};
use crate::strings;
use bytes::{Buf, Bytes};

/// Bytes of the footer: version and checksum.
pub const FOOTER_LEN: usize = 10;

/// The footer that makes type byte and body a payload for a server that reads `rdb_version`.
#[must_use]
pub fn footer(type_code: u8, body: &[u8], rdb_version: u16) -> [u8; FOOTER_LEN] {
    let version = rdb_version.to_le_bytes();
    let mut crc = Crc64::new();
    crc.update(&[type_code]);
    crc.update(body);
    crc.update(&version);
    let mut footer = [0; FOOTER_LEN];
    footer[..2].copy_from_slice(&version);
    footer[2..].copy_from_slice(&crc.value().to_le_bytes());
    footer
}

/// A payload taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payload {
    /// The type byte.
    pub type_code: u8,
    /// The value as RDB writes it.
    pub body: Bytes,
    /// The version in the footer.
    pub rdb_version: u16,
}

/// Takes a payload apart and verifies its checksum.
///
/// # Errors
/// When it is too short or the checksum differs.
pub fn parse(mut payload: Bytes) -> Result<Payload, Error> {
    let len = payload.len();
    let Some(body_end) = len.checked_sub(FOOTER_LEN).filter(|end| *end >= 1) else {
        return Err(Error::Truncated { at: len as u64 });
    };
    let mut footer = payload.split_off(body_end);
    let mut crc = Crc64::new();
    crc.update(&payload);
    crc.update(&footer[..2]);
    let rdb_version = footer.get_u16_le();
    let stored = footer.get_u64_le();
    if stored != crc.value() {
        return Err(Error::Checksum { computed: crc.value(), stored });
    }
    let type_code = payload.get_u8();
    Ok(Payload { type_code, body: payload, rdb_version })
}

/// The opcode in front of each library in what `FUNCTION DUMP` gives.
const FUNCTION: u8 = 245;
/// No library is larger.
const LARGEST_LIBRARY_BYTES: u64 = 64 * 1024 * 1024;

/// The sources of the function libraries in what `FUNCTION DUMP` gave.
///
/// # Errors
/// When it is no such payload.
pub fn libraries(payload: Bytes) -> Result<Vec<Bytes>, Error> {
    let Payload { mut type_code, mut body, .. } = parse(payload)?;
    let mut sources = Vec::new();
    loop {
        if type_code != FUNCTION {
            return Err(malformed("opcode of a function library", 0));
        }
        sources.push(strings::take(&mut body, LARGEST_LIBRARY_BYTES)?);
        if body.is_empty() {
            return Ok(sources);
        }
        type_code = body.get_u8();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `SET a 1`, `DUMP a` on Redis 7.0.15.
    const ONE: &[u8] = b"\x00\xc0\x01\n\x00&x\xe7\xb6\xd1\x01\x11\xfc";

    #[test]
    fn takes_apart_and_writes_what_redis_wrote() {
        let payload = parse(Bytes::from_static(ONE)).unwrap();
        assert_eq!((payload.type_code, payload.rdb_version), (0, 10));
        assert_eq!(payload.body, &b"\xc0\x01"[..]);
        assert_eq!(footer(0, b"\xc0\x01", 10), ONE[3..]);
    }

    #[test]
    fn finds_each_function_library() {
        let body = b"\x03one\xf5\x03two";
        let payload = [&[FUNCTION], &body[..], &footer(FUNCTION, body, 10)].concat();
        assert_eq!(libraries(Bytes::from(payload)).unwrap(), ["one", "two"]);
        assert!(libraries(Bytes::from_static(ONE)).is_err());
    }

    #[test]
    fn notices_every_flipped_bit() {
        for bit in 0..ONE.len() * 8 {
            let mut damaged = ONE.to_vec();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(parse(Bytes::from(damaged)).is_err(), "bit {bit}");
        }
        assert!(parse(Bytes::from_static(&ONE[..10])).is_err());
    }
}
