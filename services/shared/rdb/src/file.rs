//! The opcodes of an RDB file, as an incremental parser that both readers of the crate share.
//!
//! Push style: it is given bytes and says how many it used and which item they completed. Whether the
//! bytes of an item are kept is the caller's decision; the parser itself
//! holds a few dozen bytes. The checksum is kept here, but fed by the caller, who can do so over spans as
//! long as its input and not item by item.

use crate::crc64::Crc64;
use crate::error::Error;
use crate::grammar::{self, Program};
use crate::skip::{Ran, Skipper};
use crate::strings::printable;
use crate::value::{self, Type};
use crate::version::{Vendor, Version};

/// The oldest version whose files end in a checksum.
const OLDEST: u16 = 6;

/// An item of the file, named when its last byte has been seen.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Item {
    Magic,
    Aux,
    SelectDb,
    SizeHint,
    ExpirySeconds,
    ExpiryMillis,
    Idle,
    Freq,
    Function,
    ModuleAux,
    /// Something that concerns only the server that wrote it.
    Passing,
    Key,
    Value(&'static Type),
    Checksum,
}

/// What a call brought.
#[derive(Debug)]
pub(crate) enum Parsed {
    /// So many bytes belong to the item under way, and there must be more.
    Hungry(usize),
    /// So many bytes, the last of this item.
    Item(usize, Item),
    /// So many bytes were needed to learn what comes next.
    Next(usize),
    /// The file ended before this input.
    Ended,
}

#[derive(Debug)]
enum State {
    Opcode,
    Reading(Item),
    Ended,
}

/// The parser.
#[derive(Debug)]
pub(crate) struct Parser {
    state: State,
    skipper: Skipper,
    version: Version,
    /// The type byte, while its key is being read.
    value_type: Option<&'static Type>,
    crc: Crc64,
    /// Bytes parsed so far.
    at: u64,
}

impl Parser {
    pub(crate) fn new() -> Self {
        let mut skipper = Skipper::new();
        skipper.start(grammar::MAGIC);
        Self {
            state: State::Reading(Item::Magic),
            skipper,
            version: Version::redis(0),
            value_type: None,
            crc: Crc64::new(),
            at: 0,
        }
    }

    pub(crate) const fn at(&self) -> u64 {
        self.at
    }

    /// Adds bytes to the checksum: each once and in order, up to where [`Self::is_in_checksum`] says that
    /// the file's own begins.
    pub(crate) fn sum(&mut self, bytes: &[u8]) {
        self.crc.update(bytes);
    }

    /// Whether what was parsed last is the checksum at the end, which is not a part of itself.
    pub(crate) const fn is_in_checksum(&self) -> bool {
        matches!(self.state, State::Reading(Item::Checksum) | State::Ended)
    }

    /// The checksum of everything that was added.
    pub(crate) const fn crc(&self) -> Crc64 {
        self.crc
    }

    pub(crate) const fn has_ended(&self) -> bool {
        matches!(self.state, State::Ended)
    }

    /// The item under way, for the caller to decide whether to keep its bytes. Those of `Magic` and
    /// `Checksum` must be handed back through [`Self::magic`] and [`Self::checksum`].
    pub(crate) const fn item(&self) -> Option<Item> {
        match self.state {
            State::Reading(item) => Some(item),
            State::Opcode | State::Ended => None,
        }
    }

    /// Bytes that the item under way must have yet, at least.
    pub(crate) const fn due(&self) -> u64 {
        self.skipper.due()
    }

    /// Goes on. The caller must pass every byte exactly once, and in order.
    pub(crate) fn parse(&mut self, input: &[u8]) -> Result<Parsed, Error> {
        match self.state {
            State::Ended => Ok(Parsed::Ended),
            State::Opcode => {
                let Some(&code) = input.first() else { return Ok(Parsed::Hungry(0)) };
                let (item, program) = self.opcode(code)?;
                self.skipper.start(program);
                self.state = State::Reading(item);
                self.at += 1;
                Ok(Parsed::Next(1))
            }
            State::Reading(item) => {
                let base = self.at;
                let ran = self.skipper.run(input).map_err(|error| error.offset_by(base))?;
                let used = match ran {
                    Ran::Hungry => input.len(),
                    Ran::Ended(used) => used,
                };
                self.at += used as u64;
                if ran == Ran::Hungry {
                    return Ok(Parsed::Hungry(used));
                }
                self.state = match (item, self.value_type) {
                    (Item::Key, Some(known)) => {
                        self.skipper.start(known.program());
                        State::Reading(Item::Value(known))
                    }
                    (Item::Checksum, _) => State::Ended,
                    _ => State::Opcode,
                };
                Ok(Parsed::Item(used, item))
            }
        }
    }

    fn opcode(&mut self, code: u8) -> Result<(Item, Program), Error> {
        let valkey = self.version.vendor == Vendor::Valkey;
        Ok(match code {
            255 => (Item::Checksum, grammar::EIGHT_BYTES),
            254 => (Item::SelectDb, grammar::NUMBER),
            253 => (Item::ExpirySeconds, grammar::FOUR_BYTES),
            252 => (Item::ExpiryMillis, grammar::EIGHT_BYTES),
            251 => (Item::SizeHint, grammar::TWO_NUMBERS),
            250 => (Item::Aux, grammar::TWO_STRINGS),
            249 => (Item::Freq, grammar::BYTE),
            248 => (Item::Idle, grammar::NUMBER),
            247 => (Item::ModuleAux, grammar::MODULE),
            245 => (Item::Function, grammar::STRING),
            244 => (Item::Passing, grammar::THREE_NUMBERS),
            // Redis uses the same opcode for something else.
            243 if valkey => (Item::Passing, grammar::SLOT_IMPORT),
            _ => {
                let what = if code >= 240 { "opcode" } else { "value type" };
                self.value_type = value::lookup(code, self.version);
                if self.value_type.is_none() {
                    return Err(Error::Unknown {
                        what,
                        code: u64::from(code),
                        at: self.at,
                        version: self.version,
                    });
                }
                (Item::Key, grammar::STRING)
            }
        })
    }

    /// Takes the bytes of [`Item::Magic`].
    pub(crate) fn magic(&mut self, magic: &[u8]) -> Result<Version, Error> {
        let version = Version::from_magic(magic)
            .ok_or_else(|| Error::Magic { found: printable(magic, 16) })?;
        let known = match version.vendor {
            Vendor::Redis => version.number >= OLDEST,
            Vendor::Valkey => version.number >= 80,
        };
        if !known {
            return Err(Error::UnsupportedVersion { version });
        }
        self.version = version;
        Ok(version)
    }

    /// What a file is that ends too early, whose item under way began with `kept`: cut off, or no such file at all.
    pub(crate) fn cut(&self, kept: &[u8]) -> Error {
        let begins = |magic: &[u8]| magic.iter().zip(kept).all(|(magic, kept)| magic == kept);
        match self.state {
            State::Reading(Item::Magic) if !begins(b"REDIS") && !begins(b"VALKEY") => {
                Error::Magic { found: printable(kept, 16) }
            }
            _ => Error::Truncated { at: self.at },
        }
    }

    /// Takes the bytes of [`Item::Checksum`] and compares; `false` if the server wrote none.
    pub(crate) fn checksum(&self, stored: &[u8]) -> Result<bool, Error> {
        let stored = <[u8; 8]>::try_from(stored)
            .map(u64::from_le_bytes)
            .map_err(|_| Error::Malformed { what: "checksum", at: self.at })?;
        let computed = self.crc.value();
        if stored != 0 && stored != computed {
            return Err(Error::Checksum { computed, stored });
        }
        Ok(stored != 0)
    }
}
