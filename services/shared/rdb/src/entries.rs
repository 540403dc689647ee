//! Reads an RDB file key by key, for a restore: one value in memory at a time, its body untouched.
//!
//! A body that lies within one chunk of input is a slice of that chunk; only what was cut is copied.

use crate::error::Error;
use crate::file::{Item, Parsed, Parser};
use crate::spare::Spares;
use crate::strings::{self, printable};
use crate::value::{self, Type};
use crate::version::Version;
use bytes::{Buf, Bytes, BytesMut};

/// How much of a key is shown in messages.
const SHOWN: usize = 80;

/// How long a server said the key had not been used, or how often it had been.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Usage {
    /// Seconds since it was last used (`maxmemory-policy` of the LRU family).
    IdleSeconds(u64),
    /// The logarithmic counter of the LFU family.
    Frequency(u8),
}

/// One key with its value.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The database it is in.
    pub database: u64,
    /// Its name.
    pub key: Bytes,
    /// When it expires, in milliseconds since 1970.
    pub expires_at_ms: Option<i64>,
    /// How it was used, where the server kept that.
    pub usage: Option<Usage>,
    /// The type of the value.
    pub value_type: &'static Type,
    /// The value as RDB writes it; with the type byte before it and a footer behind it, a payload.
    pub body: Bytes,
}

/// What is in a file, in its order.
#[derive(Debug, Clone)]
pub enum Event {
    /// The dialect; always first.
    Version(Version),
    /// A note of the server about itself.
    Note {
        /// For example `redis-ver`.
        name: Bytes,
        /// Its text.
        value: Bytes,
    },
    /// How many keys, and how many with an expiry, the next database has, as announced.
    SizeHint {
        /// The database.
        database: u64,
        /// Keys.
        keys: u64,
        /// Keys with an expiry.
        expiring: u64,
    },
    /// The source of a function library.
    Function(Bytes),
    /// Data that a module keeps outside any key. No command can restore it.
    ModuleAux {
        /// The module's nine-letter type name.
        module: String,
        /// The data as it stands in the file, behind its opcode.
        body: Bytes,
    },
    /// A key.
    Entry(Entry),
    /// The end, behind a right checksum, or none if the server wrote none.
    End {
        /// Whether there was a checksum.
        checksummed: bool,
    },
}

/// The reader.
#[derive(Debug)]
pub struct Entries {
    parser: Parser,
    input: Bytes,
    /// What has yet to go into the checksum: so many bytes from here on.
    unsummed: (Bytes, usize),
    /// The part of the item under way that came with earlier input.
    kept: Vec<u8>,
    spares: Spares,
    largest: u64,
    database: u64,
    key: Bytes,
    expires_at_ms: Option<i64>,
    usage: Option<Usage>,
    failed: bool,
}

impl Entries {
    /// Begins in front of the magic. No key, value, function or note may be larger than `largest` bytes.
    #[must_use]
    pub fn new(largest: u64) -> Self {
        Self {
            parser: Parser::new(),
            input: Bytes::new(),
            unsummed: (Bytes::new(), 0),
            kept: Vec::new(),
            spares: Spares::default(),
            largest,
            database: 0,
            key: Bytes::new(),
            expires_at_ms: None,
            usage: None,
            failed: false,
        }
    }

    /// Adds input, to be called when [`Self::next`] has asked for it.
    pub fn feed(&mut self, chunk: Bytes) {
        self.sum();
        if self.input.is_empty() {
            self.input = chunk;
        } else {
            let mut joined = BytesMut::with_capacity(self.input.len() + chunk.len());
            joined.extend_from_slice(&self.input);
            joined.extend_from_slice(&chunk);
            self.input = joined.freeze();
        }
        self.unsummed = (self.input.clone(), 0);
    }

    /// Many items at once, since a checksum of long spans is much faster.
    fn sum(&mut self) {
        let (from, len) = &mut self.unsummed;
        self.parser.sum(&from[..*len]);
        from.advance(std::mem::take(len));
    }

    /// Goes on in the input, all of which but the checksum at the end is summed.
    fn advance(&mut self, used: usize) -> Bytes {
        if !self.parser.is_in_checksum() {
            self.unsummed.1 += used;
        }
        self.input.split_to(used)
    }

    /// The next thing in the file, or `None` when more input is needed. After [`Event::End`], and after
    /// an error, there is nothing more.
    ///
    /// # Errors
    /// When the bytes are not RDB, are damaged, hold what this reader does not know, or an item is too
    /// large.
    #[expect(clippy::should_implement_trait, reason = "None means hungry, not over")]
    pub fn next(&mut self) -> Result<Option<Event>, Error> {
        if self.failed {
            return Ok(None);
        }
        let event = self.read();
        self.failed = event.is_err();
        event
    }

    fn read(&mut self) -> Result<Option<Event>, Error> {
        loop {
            match self.parser.parse(&self.input)? {
                Parsed::Hungry(used) => {
                    let due = self.parser.due();
                    self.check_size((used as u64).saturating_add(due))?;
                    let part = self.advance(used);
                    // Checked just now: no more than the largest item.
                    self.keep(&part, usize::try_from(due).unwrap_or(0));
                    return Ok(None);
                }
                Parsed::Next(used) => {
                    // The opcode in front of the checksum still counts.
                    self.unsummed.1 += used;
                    self.input.advance(used);
                    if self.parser.is_in_checksum() {
                        self.sum();
                    }
                }
                Parsed::Item(used, item) => {
                    self.check_item_size(used as u64, item)?;
                    let tail = self.advance(used);
                    let whole = if self.kept.is_empty() {
                        tail
                    } else {
                        self.keep(&tail, 0);
                        // A buffer of its own, which is free again when the value has been sent.
                        self.spares.lend(std::mem::take(&mut self.kept))
                    };
                    if let Some(event) = self.event(item, whole)? {
                        return Ok(Some(event));
                    }
                }
                Parsed::Ended if self.input.is_empty() => return Ok(None),
                Parsed::Ended => return Err(Error::Trailing { at: self.parser.at() }),
            }
        }
    }

    /// Keeps a part, behind which so many bytes are due.
    ///
    /// Makes room for those at once, and else for an eighth and not, as a vector would, for as much again: the largest
    /// value may take all the memory that there is.
    fn keep(&mut self, part: &[u8], due: usize) {
        if self.kept.len() + part.len() > self.kept.capacity() {
            let least = part.len().max(self.kept.len() / 8);
            let all = least.max(part.len().saturating_add(due));
            let spare = if self.kept.is_empty() { self.spares.take(all) } else { None };
            match spare {
                Some(spare) => self.kept = spare,
                // What is due may never come: no reason to die of it.
                None if self.kept.try_reserve_exact(all).is_ok() => {}
                None => self.kept.reserve_exact(least),
            }
        }
        self.kept.extend_from_slice(part);
    }

    fn check_size(&self, more: u64) -> Result<(), Error> {
        self.parser.item().map_or(Ok(()), |item| self.check_item_size(more, item))
    }

    fn check_item_size(&self, more: u64, item: Item) -> Result<(), Error> {
        if (self.kept.len() as u64).saturating_add(more) <= self.largest {
            return Ok(());
        }
        let (what, name) = match item {
            Item::Value(_) => ("the value of key", printable(&self.key, SHOWN)),
            Item::Key => ("a key", printable(&self.kept, SHOWN)),
            Item::Function => ("a function library", printable(&self.kept, SHOWN)),
            _ => ("a note", printable(&self.kept, SHOWN)),
        };
        Err(Error::TooLarge { what, name, limit: self.largest })
    }

    fn event(&mut self, item: Item, mut bytes: Bytes) -> Result<Option<Event>, Error> {
        let event = match item {
            Item::Magic => Event::Version(self.parser.magic(&bytes)?),
            Item::Aux => Event::Note {
                name: strings::take(&mut bytes, self.largest)?,
                value: strings::take(&mut bytes, self.largest)?,
            },
            Item::SelectDb => {
                self.database = strings::take_number(&mut bytes)?;
                return Ok(None);
            }
            Item::SizeHint => Event::SizeHint {
                database: self.database,
                keys: strings::take_number(&mut bytes)?,
                expiring: strings::take_number(&mut bytes)?,
            },
            Item::ExpirySeconds => {
                self.expires_at_ms = Some(i64::from(bytes.get_i32_le()).saturating_mul(1000));
                return Ok(None);
            }
            Item::ExpiryMillis => {
                self.expires_at_ms = Some(bytes.get_i64_le());
                return Ok(None);
            }
            Item::Idle => {
                self.usage = Some(Usage::IdleSeconds(strings::take_number(&mut bytes)?));
                return Ok(None);
            }
            Item::Freq => {
                self.usage = Some(Usage::Frequency(bytes.get_u8()));
                return Ok(None);
            }
            Item::Function => Event::Function(strings::take(&mut bytes, self.largest)?),
            Item::ModuleAux => {
                let body = bytes.clone();
                let id = strings::take_number(&mut bytes)?;
                Event::ModuleAux { module: value::module_name_of_id(id), body }
            }
            Item::Passing => return Ok(None),
            Item::Key => {
                self.key = strings::take(&mut bytes, self.largest)?;
                return Ok(None);
            }
            Item::Value(value_type) => Event::Entry(Entry {
                database: self.database,
                key: std::mem::take(&mut self.key),
                expires_at_ms: self.expires_at_ms.take(),
                usage: self.usage.take(),
                value_type,
                body: bytes,
            }),
            Item::Checksum => Event::End { checksummed: self.parser.checksum(&bytes)? },
        };
        Ok(Some(event))
    }

    /// Bytes read so far.
    #[must_use]
    pub const fn position(&self) -> u64 {
        self.parser.at()
    }

    /// Confirms that the file was read to its end.
    ///
    /// # Errors
    /// When it was not, or more data followed.
    pub fn finish(self) -> Result<(), Error> {
        let at = self.parser.at();
        if self.parser.has_ended() && !self.input.is_empty() {
            Err(Error::Trailing { at })
        } else if self.failed || !self.parser.has_ended() {
            Err(self.parser.cut(&self.kept))
        } else {
            Ok(())
        }
    }
}
