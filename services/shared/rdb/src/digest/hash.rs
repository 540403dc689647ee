//! SHA-256 of parts that cannot run into each other: numbers have one width, texts their length in front.

use super::Digest;
use super::unordered::Unordered;
use crate::error::Error;
use sha2::{Digest as _, Sha256};

/// Takes parts.
pub(super) trait Sink {
    /// Takes bytes as they are.
    fn bytes(&mut self, bytes: &[u8]);

    fn number(&mut self, number: u64) {
        self.bytes(&number.to_le_bytes());
    }

    fn text(&mut self, text: &[u8]) {
        self.number(text.len() as u64);
        self.bytes(text);
    }

    fn optional(&mut self, number: Option<i64>) {
        self.number(u64::from(number.is_some()));
        self.number(number.unwrap_or_default().cast_unsigned());
    }

    fn float(&mut self, number: f64) {
        // Zero has two signs, of which servers keep one or not; what is not a number has many patterns.
        let plain = if number.is_nan() { f64::NAN } else { number + 0.0 };
        self.number(plain.to_bits());
    }
}

/// Parts on their way to one digest.
pub(super) struct Hash(Sha256);

impl Sink for Hash {
    fn bytes(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }
}

impl Hash {
    pub(super) fn new() -> Self {
        Self(Sha256::new())
    }

    /// Behind the name of what is hashed, so that two kinds of things never have one digest.
    pub(super) fn of(domain: &[u8]) -> Self {
        let mut hash = Self::new();
        hash.text(domain);
        hash
    }

    /// Takes items whose order means nothing.
    pub(super) fn unordered<T>(
        &mut self,
        items: impl Iterator<Item = Result<T, Error>>,
        write: impl Fn(&mut dyn Sink, &T),
    ) -> Result<(), Error> {
        let mut all = Unordered::new();
        for item in items {
            let item = item?;
            all.add(|sink| write(sink, &item));
        }
        all.write(self);
        Ok(())
    }

    pub(super) fn finish(self) -> Digest {
        Digest(self.0.finalize().into())
    }
}
