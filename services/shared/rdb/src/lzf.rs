//! Unpacks LZF, which Redis uses for strings longer than 20 bytes. Only keys, functions and notes need
//! it here: values travel packed.

/// One packed byte can stand for at most this many: a three-byte reference copies up to 264.
const MOST_PER_BYTE: usize = 264;

/// Unpacks to exactly `plain_len` bytes; `None` if the input is not that.
pub(crate) fn unpack(packed: &[u8], plain_len: usize) -> Option<Vec<u8>> {
    // Checked before anything is allocated, so a lie about the length costs nothing.
    if plain_len > packed.len().saturating_mul(MOST_PER_BYTE) {
        return None;
    }
    let mut plain = Vec::with_capacity(plain_len);
    let mut rest = packed.iter().copied();
    while let Some(control) = rest.next() {
        if control < 32 {
            for _ in 0..=control {
                plain.push(rest.next()?);
            }
        } else {
            let mut count = usize::from(control >> 5) + 2;
            if count == 9 {
                count += usize::from(rest.next()?);
            }
            let back = (usize::from(control & 0x1f) << 8) + usize::from(rest.next()?) + 1;
            let from = plain.len().checked_sub(back)?;
            // Source and target may overlap: that is how runs are written.
            for index in from..from + count {
                plain.push(*plain.get(index)?);
            }
        }
        if plain.len() > plain_len {
            return None;
        }
    }
    (plain.len() == plain_len).then_some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn unpacks_literals_and_overlapping_runs() {
        assert_eq!(unpack(&[2, b'a', b'b', b'c'], 3).unwrap(), b"abc");
        // "a", then copy seven from one back.
        assert_eq!(unpack(&[0, b'a', 5 << 5, 0], 8).unwrap(), b"aaaaaaaa");
        // A long run: 9 + 91 from one back.
        assert_eq!(unpack(&[0, b'a', 7 << 5, 91, 0], 101).unwrap(), vec![b'a'; 101]);
    }

    #[test]
    fn refuses_what_does_not_fit() {
        assert_eq!(unpack(&[2, b'a', b'b'], 3), None);
        assert_eq!(unpack(&[0, b'a', 5 << 5, 1], 8), None);
        assert_eq!(unpack(&[0, b'a'], usize::MAX), None);
        assert_eq!(unpack(&[0, b'a'], 2), None);
    }

    proptest! {
        #[test]
        fn survives_anything(packed in proptest::collection::vec(any::<u8>(), 0..200), len in 0_usize..4000) {
            if let Some(plain) = unpack(&packed, len) {
                prop_assert_eq!(plain.len(), len);
            }
        }
    }
}
