//! Where the RDB ends in what a master sends, as bytes in, bytes out.
//!
//! The master frames it by a length, or by a marker of 40 random bytes at the end. Searching for the
//! marker is what others do, and it fails when servers put stray bytes behind it or a read cuts it; the
//! walk knows the end by itself, and then the frame must agree. Only data that the walk does not
//! understand is framed by length or marker alone: it is kept whole, uncounted, and its checksum, which
//! needs no understanding, still proves that it is whole.

use bytes::{Buf, BytesMut};
use coffer_rdb::Error as RdbError;
use coffer_rdb::crc64::Crc64;
use coffer_rdb::walk::{Summary, Walk};

/// Bytes of the marker.
pub(crate) const MARKER_LEN: usize = 40;
/// The opcode that ends a file, in front of the checksum.
const EOF_OPCODE: u8 = 0xff;

/// How the master said the data would end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// After so many bytes (`$<len>`, from a file).
    Length(u64),
    /// With this marker (`$EOF:<marker>`, diskless).
    Marker([u8; MARKER_LEN]),
}

/// What is wrong with the data.
#[derive(Debug)]
pub(crate) struct Damage {
    pub(crate) what: String,
    pub(crate) source: Option<RdbError>,
}

/// What the data turned out to be.
#[derive(Debug)]
pub(crate) enum Content {
    /// Walked from end to end.
    Counted(Summary),
    /// Whole, but with something in it that is unknown here.
    Opaque {
        /// What was unknown.
        reason: RdbError,
    },
}

#[derive(Debug)]
enum Reading {
    Walking(Box<Walk>),
    Opaque { reason: RdbError, tail: Tail },
}

/// The frame.
#[derive(Debug)]
pub(crate) struct Frame {
    ending: Ending,
    reading: Reading,
    bytes: u64,
    complete: bool,
}

impl Frame {
    pub(crate) fn new(ending: Ending) -> Self {
        Self { ending, reading: Reading::Walking(Box::default()), bytes: 0, complete: false }
    }

    /// Takes off `received` what belongs to the file. What is left behind waits for more, or, once
    /// [`Self::is_complete`], does not belong to the file.
    pub(crate) fn take(&mut self, received: &mut BytesMut) -> Result<BytesMut, Damage> {
        if self.complete {
            return Ok(BytesMut::new());
        }
        let data = match self.ending {
            Ending::Length(whole) => {
                let left = usize::try_from(whole - self.bytes).unwrap_or(usize::MAX);
                let mut data = received.split_to(left.min(received.len()));
                let used = self.read(&data);
                if used < data.len() {
                    let at = self.bytes + used as u64;
                    data.clear();
                    return Err(damage(format!(
                        "it ends after {at} of the {whole} bytes announced"
                    )));
                }
                self.complete = used == left;
                data
            }
            Ending::Marker(marker) => {
                let mut used = self.read(received);
                match &self.reading {
                    Reading::Walking(walk) => {
                        let behind = &received[used..];
                        if walk.has_ended() && behind.len() >= MARKER_LEN {
                            if behind[..MARKER_LEN] != marker {
                                return Err(damage(
                                    "its end is not where the server says".to_owned(),
                                ));
                            }
                            self.complete = true;
                        }
                    }
                    Reading::Opaque { .. } => {
                        let found =
                            received.windows(MARKER_LEN).position(|window| window == marker);
                        self.complete = found.is_some();
                        used = found
                            .unwrap_or_else(|| (received.len() + 1).saturating_sub(MARKER_LEN));
                    }
                }
                let data = received.split_to(used);
                if self.complete {
                    received.advance(MARKER_LEN);
                }
                data
            }
        };
        if let Reading::Opaque { tail, .. } = &mut self.reading {
            // What the walk had read of this piece is in its checksum.
            tail.update(&data);
        }
        self.bytes += data.len() as u64;
        Ok(data)
    }

    /// Walks over new bytes; says how many belong to the file as far as the walk knows.
    fn read(&mut self, input: &[u8]) -> usize {
        let Reading::Walking(walk) = &mut self.reading else { return input.len() };
        let before = walk.position();
        match walk.feed(input) {
            Ok(used) => used,
            Err(reason) => {
                // Damage goes on as opaque, too: whether it is one is the checksum's to say.
                let walked = usize::try_from(walk.position() - before).unwrap_or(usize::MAX);
                let tail = Tail { crc: walk.checksum(), held: Vec::new(), passed: walked };
                self.reading = Reading::Opaque { reason, tail };
                input.len()
            }
        }
    }

    /// Whether the last byte was seen.
    pub(crate) const fn is_complete(&self) -> bool {
        self.complete
    }

    /// Bytes of the file so far.
    pub(crate) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Keys so far.
    pub(crate) fn keys(&self) -> u64 {
        match &self.reading {
            Reading::Walking(walk) => walk.so_far().total(),
            Reading::Opaque { .. } => 0,
        }
    }

    /// What it was.
    pub(crate) fn finish(self) -> Result<Content, Damage> {
        if !self.complete {
            return Err(damage(format!("it is cut off after {} bytes", self.bytes)));
        }
        match self.reading {
            Reading::Walking(walk) => {
                walk.finish().map(Content::Counted).map_err(|source| Damage {
                    what: format!("it is not whole after all {} bytes announced", self.bytes),
                    source: Some(source),
                })
            }
            Reading::Opaque { reason, .. } if !reason.may_be_newer_format() => {
                Err(Damage { what: "it is damaged".to_owned(), source: Some(reason) })
            }
            Reading::Opaque { reason: reason @ RdbError::Magic { .. }, .. } => {
                Err(Damage { what: "it is no RDB".to_owned(), source: Some(reason) })
            }
            Reading::Opaque { reason, tail } => match tail.finish() {
                Ok(()) => Ok(Content::Opaque { reason }),
                Err(found) => Err(Damage {
                    what: "it is damaged, or written in no known way".to_owned(),
                    source: Some(found.unwrap_or(reason)),
                }),
            },
        }
    }
}

const fn damage(what: String) -> Damage {
    Damage { what, source: None }
}

/// The checksum of what cannot be walked: of all but the last eight bytes, which are to equal it.
#[derive(Debug)]
struct Tail {
    crc: Crc64,
    /// The last nine bytes at most: the opcode that ends a file, and its checksum.
    held: Vec<u8>,
    /// Leading bytes of the next piece that are in `crc` already.
    passed: usize,
}

impl Tail {
    const HELD: usize = 9;

    fn update(&mut self, data: &[u8]) {
        let passed = self.passed.min(data.len());
        self.passed -= passed;
        let data = &data[passed..];
        if data.len() >= Self::HELD {
            self.crc.update(&self.held);
            let (sure, last) = data.split_at(data.len() - Self::HELD);
            self.crc.update(sure);
            self.held.clear();
            self.held.extend_from_slice(last);
        } else {
            self.held.extend_from_slice(data);
            let sure = self.held.len().saturating_sub(Self::HELD);
            self.crc.update(&self.held[..sure]);
            self.held.drain(..sure);
        }
    }

    /// `Err(None)`: the end does not look like one.
    fn finish(mut self) -> Result<(), Option<RdbError>> {
        let Ok([EOF_OPCODE, stored @ ..]) = <[u8; Self::HELD]>::try_from(&self.held[..]) else {
            return Err(None);
        };
        let stored = u64::from_le_bytes(stored);
        self.crc.update(&[EOF_OPCODE]);
        let computed = self.crc.value();
        if stored != 0 && stored != computed {
            return Err(Some(RdbError::Checksum { computed, stored }));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
