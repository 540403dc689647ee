//! The length code: the one variable-width number that all of RDB is made of.

use crate::error::Error;

/// What a length code stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Length {
    /// A number.
    Plain(u64),
    /// Not a number but a specially encoded string follows; the six low bits say how.
    Special(u8),
}

/// How many bytes the code that begins with `first` takes, or `None` if no code begins so.
fn width(first: u8) -> Option<usize> {
    match first {
        0x00..=0x3f | 0xc0..=0xff => Some(1),
        0x40..=0x7f => Some(2),
        0x80 => Some(5),
        0x81 => Some(9),
        0x82..=0xbf => None,
    }
}

/// Decodes a complete code.
fn decode(code: &[u8]) -> Option<Length> {
    Some(match *code {
        [first @ 0x00..=0x3f] => Length::Plain(u64::from(first)),
        [first] if first >= 0xc0 => Length::Special(first & 0x3f),
        [first, second] => Length::Plain(u64::from(u16::from_be_bytes([first & 0x3f, second]))),
        [_, a, b, c, d] => Length::Plain(u64::from(u32::from_be_bytes([a, b, c, d]))),
        [_, a, b, c, d, e, f, g, h] => Length::Plain(u64::from_be_bytes([a, b, c, d, e, f, g, h])),
        _ => return None,
    })
}

const MALFORMED: Error = Error::Malformed { what: "length", at: 0 };

/// Takes a length code off the front of `input`; `None` if it is not all there.
pub(crate) fn take(input: &mut &[u8]) -> Result<Option<Length>, Error> {
    let Some(&first) = input.first() else { return Ok(None) };
    let width = width(first).ok_or(MALFORMED)?;
    let Some((code, rest)) = input.split_at_checked(width) else { return Ok(None) };
    *input = rest;
    decode(code).map(Some).ok_or(MALFORMED)
}

/// Puts a length code together from input that may end inside it.
#[derive(Debug, Default)]
pub(crate) struct LengthReader {
    partial: [u8; 9],
    have: usize,
}

impl LengthReader {
    /// Takes the code, or as much of it as there is and `None`.
    pub(crate) fn read(&mut self, input: &mut &[u8]) -> Result<Option<Length>, Error> {
        if self.have == 0
            && let Some(length) = take(input)?
        {
            return Ok(Some(length));
        }
        while let Some((&byte, rest)) = input.split_first() {
            *input = rest;
            let Some(slot) = self.partial.get_mut(self.have) else { return Err(MALFORMED) };
            *slot = byte;
            self.have += 1;
            let code = &self.partial[..self.have];
            if width(code[0]).ok_or(MALFORMED)? == code.len() {
                let length = decode(code).ok_or(MALFORMED)?;
                self.have = 0;
                return Ok(Some(length));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_every_width_whole_and_byte_by_byte() {
        for (code, want) in [
            (&[0x3f][..], Length::Plain(63)),
            (&[0x41, 0x02], Length::Plain(0x102)),
            (&[0x80, 0, 1, 0, 0], Length::Plain(65536)),
            (&[0x81, 1, 0, 0, 0, 0, 0, 0, 2], Length::Plain(0x0100_0000_0000_0002)),
            (&[0xc3], Length::Special(3)),
        ] {
            let mut input = code;
            assert_eq!(LengthReader::default().read(&mut input), Ok(Some(want)));
            assert!(input.is_empty());
            let mut reader = LengthReader::default();
            for (index, byte) in code.iter().enumerate() {
                let got = reader.read(&mut std::slice::from_ref(byte)).unwrap();
                assert_eq!(got, (index + 1 == code.len()).then_some(want));
            }
        }
        assert!(LengthReader::default().read(&mut &[0x82_u8][..]).is_err());
    }
}
