//! The intset: width of a number, count, the numbers in ascending order.

use super::packed::Packed;
use crate::error::{Error, malformed};
use bytes::{Buf, Bytes};

const WHAT: &str = "intset";

/// Reads an intset's numbers.
#[derive(Debug, Clone)]
pub(crate) struct Intset {
    rest: Bytes,
    width: usize,
}

impl Intset {
    pub(crate) fn new(mut bytes: Bytes) -> Result<Self, Error> {
        if bytes.len() < 8 {
            return Err(malformed(WHAT, 0));
        }
        let width = bytes.get_u32_le() as usize;
        let count = bytes.get_u32_le() as usize;
        if !matches!(width, 2 | 4 | 8) || count.checked_mul(width) != Some(bytes.len()) {
            return Err(malformed(WHAT, 0));
        }
        Ok(Self { rest: bytes, width })
    }

    /// The next number; `None` behind the last.
    pub(crate) fn next(&mut self) -> Result<Option<Packed>, Error> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        // The length is a multiple of the width.
        Ok(Some(Packed::Number(self.rest.get_int_le(self.width))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_every_width() {
        for (width, number) in
            [(2, -32_768), (4, i64::from(i32::MIN)), (8, i64::MIN), (2, 7), (8, i64::MAX)]
        {
            let mut bytes = vec![width, 0, 0, 0, 1, 0, 0, 0];
            bytes.extend(&i64::to_le_bytes(number)[..usize::from(width)]);
            let mut set = Intset::new(Bytes::from(bytes.clone())).unwrap();
            assert_eq!(set.next(), Ok(Some(Packed::Number(number))));
            assert_eq!(set.next(), Ok(None));
            bytes.push(0);
            assert!(Intset::new(Bytes::from(bytes)).is_err());
        }
        assert!(Intset::new(Bytes::from_static(&[3, 0, 0, 0, 1, 0, 0, 0, 1, 2, 3])).is_err());
        assert!(Intset::new(Bytes::from_static(&[2, 0, 0])).is_err());
    }
}
