//! Content in the pieces in which it came: to cut it, name it and encrypt it, nobody needs it in one.
//!
//! A chunk is of any length between half a megabyte and eight, which is known when it ends. In one piece it would have
//! to be moved each time it outgrew its buffer, and a buffer of another's length seldom fits the next.

use std::ops::Range;

use bytes::Bytes;

/// Bytes in pieces, in their order.
#[derive(Debug, Default)]
pub(crate) struct Pieces {
    pieces: Vec<Bytes>,
    len: usize,
}

impl Pieces {
    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn push(&mut self, piece: Bytes) {
        self.len += piece.len();
        if !piece.is_empty() {
            self.pieces.push(piece);
        }
    }

    /// Ends them at that byte, and gives what follows.
    pub(crate) fn split_off(&mut self, at: usize) -> Self {
        let (mut before, mut rest) = (0, Self::default());
        let mut whole = 0;
        for piece in &mut self.pieces {
            let end = before + piece.len();
            if before < at {
                whole += 1;
            }
            if end > at {
                rest.push(piece.split_off(at.saturating_sub(before)));
            }
            before = end;
        }
        self.pieces.truncate(whole);
        self.len = self.len.min(at);
        rest
    }

    /// The pieces as they lie.
    pub(crate) fn slices(&self) -> Vec<&[u8]> {
        self.pieces.iter().map(Bytes::as_ref).collect()
    }

    /// A part of the bytes: where it lies if it is within a piece, else copied into `room`.
    pub(crate) fn part<'a>(&'a self, range: Range<usize>, room: &'a mut Vec<u8>) -> &'a [u8] {
        let slices = || within(self.pieces.iter().map(Bytes::as_ref), range.clone());
        let mut few = slices();
        match (few.next(), few.next()) {
            (first, None) => first.unwrap_or_default(),
            (_, Some(_)) => {
                room.clear();
                slices().for_each(|slice| room.extend_from_slice(slice));
                room
            }
        }
    }
}

impl From<Vec<u8>> for Pieces {
    fn from(bytes: Vec<u8>) -> Self {
        let mut pieces = Self::default();
        pieces.push(bytes.into());
        pieces
    }
}

/// What of these pieces lies in the range.
pub(crate) fn within<'a>(
    pieces: impl Iterator<Item = &'a [u8]>,
    range: Range<usize>,
) -> impl Iterator<Item = &'a [u8]> {
    let mut before = 0;
    let parts = pieces.map(move |piece| {
        let start = range.start.saturating_sub(before).min(piece.len());
        let end = range.end.saturating_sub(before).min(piece.len());
        before += piece.len();
        &piece[start..end.max(start)]
    });
    parts.filter(|part| !part.is_empty())
}

/// How many bytes they are together.
pub(crate) fn length(pieces: &[&[u8]]) -> usize {
    pieces.iter().map(|piece| piece.len()).sum()
}

/// What is to come, compared with what comes in pieces of its own.
pub(crate) struct Expected<'a> {
    pieces: std::slice::Iter<'a, &'a [u8]>,
    rest: &'a [u8],
    same: bool,
}

impl<'a> Expected<'a> {
    pub(crate) fn new(pieces: &'a [&'a [u8]]) -> Self {
        Self { pieces: pieces.iter(), rest: &[], same: true }
    }

    /// Whether this is what comes next, and all was before.
    pub(crate) fn take(&mut self, mut bytes: &[u8]) -> bool {
        while self.same && !bytes.is_empty() {
            if self.rest.is_empty() {
                match self.pieces.next() {
                    Some(piece) => self.rest = piece,
                    None => self.same = false,
                }
                continue;
            }
            let (now, later) = bytes.split_at(bytes.len().min(self.rest.len()));
            match self.rest.strip_prefix(now) {
                Some(rest) => (self.rest, bytes) = (rest, later),
                None => self.same = false,
            }
        }
        self.same
    }

    /// Whether all came.
    pub(crate) fn came(mut self) -> bool {
        self.same && self.rest.is_empty() && self.pieces.all(|piece| piece.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    prop_compose! {
        fn cut_up()(pieces in proptest::collection::vec(
            proptest::collection::vec(any::<u8>(), 0..20), 0..8)) -> Vec<Vec<u8>> {
            pieces
        }
    }

    proptest! {
        #[test]
        fn where_they_are_cut_changes_nothing(
            cut in cut_up(),
            at in 0_usize..150,
            (start, end) in (0_usize..150, 0_usize..150),
        ) {
            let whole = cut.concat();
            let mut pieces = Pieces::default();
            cut.iter().for_each(|piece| pieces.push(Bytes::copy_from_slice(piece)));
            prop_assert_eq!(pieces.len(), whole.len());
            prop_assert_eq!(pieces.slices().concat(), whole.clone());
            let (start, end) = (start.min(whole.len()), end.min(whole.len()));
            let mut room = vec![7];
            let part = whole.get(start..end).unwrap_or_default();
            prop_assert_eq!(pieces.part(start..end, &mut room), part);

            let rest = pieces.split_off(at);
            let (head, tail) = whole.split_at(at.min(whole.len()));
            prop_assert_eq!((pieces.len(), rest.len()), (head.len(), tail.len()));
            prop_assert_eq!(pieces.slices().concat(), head);
            prop_assert_eq!(rest.slices().concat(), tail);
        }

        #[test]
        fn what_comes_is_compared_to_the_last_byte(
            cut in cut_up(),
            step in 1_usize..30,
            wrong in any::<prop::sample::Index>(),
        ) {
            let whole = cut.concat();
            let slices: Vec<&[u8]> = cut.iter().map(Vec::as_slice).collect();
            let comes = |bytes: &[u8]| {
                let mut expected = Expected::new(&slices);
                let same = bytes.chunks(step).fold(true, |_, piece| expected.take(piece));
                same && expected.came()
            };
            prop_assert!(comes(&whole));
            prop_assert!(!comes(&[&whole[..], b"x"].concat()));
            if !whole.is_empty() {
                prop_assert!(!comes(&whole[1..]));
                prop_assert!(!comes(&whole[..whole.len() - 1]));
                let mut other = whole.clone();
                other[wrong.index(whole.len())] ^= 1;
                prop_assert!(!comes(&other));
            }
        }
    }
}
