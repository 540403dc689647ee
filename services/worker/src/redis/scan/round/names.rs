//! The names that wait for their turn. They are numbered, since what is asked about one may be answered when others have
//! gone.

use std::collections::VecDeque;

use bytes::Bytes;
use coffer_rdb::value::Kind;

/// Typed values of more than this are read in pieces.
const LARGE: u64 = 64 * 1024;

/// A key to be read.
pub(super) struct Name {
    pub(super) key: Bytes,
    /// In the server's memory, or about; `None` until it is known.
    pub(super) bytes: Option<u64>,
    /// What `TYPE` says, where that is needed. A key without one is gone.
    pub(super) kind: Option<Kind>,
    /// `TYPE` has been answered.
    pub(super) typed: bool,
    /// `TYPE` has been asked.
    pub(super) asks_type: bool,
    /// `MEMORY USAGE`, or else the length, has been asked.
    pub(super) asks_size: bool,
    pub(super) reads: u8,
}

impl Name {
    pub(super) fn new(key: Bytes, reads: u8) -> Self {
        let (typed, asks_type, asks_size) = (false, false, false);
        Self { key, bytes: None, kind: None, typed, asks_type, asks_size, reads }
    }

    /// A value of typed commands that is not read by one command.
    pub(super) fn takes_several(&self, field_ttls: bool) -> bool {
        self.kind == Some(Kind::Stream)
            || (self.kind == Some(Kind::Hash) && field_ttls)
            || self.bytes.is_some_and(|bytes| bytes > LARGE)
    }
}

/// All that wait.
#[derive(Default)]
pub(super) struct Names {
    queue: VecDeque<Name>,
    /// Number of the first.
    first: u64,
}

impl Names {
    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    pub(super) fn push(&mut self, name: Name) {
        self.queue.push_back(name);
    }

    pub(super) fn take(&mut self) -> Option<Name> {
        let name = self.queue.pop_front()?;
        self.first += 1;
        Some(name)
    }

    /// Undoes [`Self::take`].
    pub(super) fn put_back(&mut self, name: Name) {
        self.first -= 1;
        self.queue.push_front(name);
    }

    /// The one with this number, if it still waits.
    pub(super) fn get(&mut self, number: u64) -> Option<&mut Name> {
        self.queue.get_mut(usize::try_from(number.checked_sub(self.first)?).ok()?)
    }

    pub(super) fn numbered(&mut self) -> impl Iterator<Item = (u64, &mut Name)> {
        (self.first..).zip(&mut self.queue)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_stays_with_its_name() {
        let mut names = Names::default();
        let name = |text: &'static str| Name::new(Bytes::from_static(text.as_bytes()), 0);
        ["a", "b", "c"].into_iter().for_each(|text| names.push(name(text)));
        let numbers: Vec<u64> = names.numbered().map(|(number, _)| number).collect();
        let taken = [names.take().unwrap(), names.take().unwrap()];
        assert!(names.get(numbers[1]).is_none());
        assert_eq!(names.get(numbers[2]).unwrap().key, "c");
        taken.into_iter().rev().for_each(|name| names.put_back(name));
        names.push(name("d"));
        assert_eq!(names.get(numbers[1]).unwrap().key, "b");
        assert_eq!((names.len(), names.get(numbers[2] + 1).unwrap().key.as_ref()), (4, &b"d"[..]));
    }
}
