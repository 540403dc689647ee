//! Reads an RDB file for its end, its checksum and its figures; keeps no keys and no values.
//!
//! This is what watches over a dump while the bytes go elsewhere: a value of half a gigabyte passes
//! through it in a few dozen bytes of memory.

use crate::crc64::Crc64;
use crate::error::Error;
use crate::file::{Item, Parsed, Parser};
use crate::strings;
use crate::value::Kind;
use crate::version::Version;
use bytes::{Bytes, BytesMut};
use std::collections::BTreeMap;

/// Notes larger than this are not kept. Servers write a few words; old ones wrote whole scripts.
const LARGEST_NOTE: usize = 4096;
/// More notes than this are not kept.
const MOST_NOTES: usize = 64;
/// More databases than this are no longer told apart: their keys are counted with the last one's.
const MOST_DATABASES: usize = 65_536;

/// What one database holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Database {
    /// Keys by kind.
    pub keys: BTreeMap<Kind, u64>,
    /// Keys that have an expiry.
    pub expiring: u64,
    /// How many keys, and how many with an expiry, the server announced.
    pub announced: Option<(u64, u64)>,
}

impl Database {
    /// All keys.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.keys.values().sum()
    }
}

/// What a whole file holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    /// The dialect; `None` until the first nine bytes are read.
    pub version: Option<Version>,
    /// By database number; only those that hold keys or were announced.
    pub databases: BTreeMap<u64, Database>,
    /// Function libraries.
    pub functions: u64,
    /// Data of modules outside any key.
    pub module_aux: u64,
    /// The notes the server wrote: `redis-ver`, `repl-id` and so on.
    pub notes: BTreeMap<String, String>,
    /// Whether the server wrote a checksum (`rdbchecksum yes`). If so, it was right.
    pub checksummed: bool,
    /// Length of the file.
    pub bytes: u64,
    /// Length of the largest value in it.
    pub largest_value: u64,
}

impl Summary {
    /// All keys of all databases.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.databases.values().map(Database::total).sum()
    }
}

/// How much of an input has gone into the checksum.
struct Summed {
    /// Where in the file the input begins.
    from: u64,
    bytes: usize,
}

/// Keys of one database, to be put to its figures: a search for each key would take longer than the key.
#[derive(Debug, Default)]
struct Counted {
    keys: [u64; Kind::ALL.len()],
    expiring: u64,
}

/// The walker.
#[derive(Debug)]
pub struct Walk {
    parser: Parser,
    kept: BytesMut,
    database: u64,
    expiry_seen: bool,
    /// Where the value under way begins.
    value_at: u64,
    counted: Counted,
    /// Whether the end was seen and found right.
    whole: bool,
    summary: Summary,
}

impl Default for Walk {
    fn default() -> Self {
        Self::new()
    }
}

impl Walk {
    /// Begins in front of the magic.
    #[must_use]
    pub fn new() -> Self {
        Self {
            parser: Parser::new(),
            kept: BytesMut::new(),
            database: 0,
            expiry_seen: false,
            value_at: 0,
            counted: Counted::default(),
            whole: false,
            summary: Summary::default(),
        }
    }

    /// Reads on, and says how many bytes of `input` belong to the file: all of them, unless the file
    /// ends within. After an error the walk is over.
    ///
    /// # Errors
    /// When the bytes are not RDB, are damaged, or hold what this reader does not know; see
    /// [`Error::may_be_newer_format`].
    pub fn feed(&mut self, input: &[u8]) -> Result<usize, Error> {
        let mut summed = Summed { from: self.parser.at(), bytes: 0 };
        let result = self.read(input, &mut summed);
        // Also after an error: up to there the checksum and the figures hold.
        self.sum(input, &mut summed);
        self.count();
        result
    }

    /// Adds what was parsed to the checksum, unless it is the checksum.
    fn sum(&mut self, input: &[u8], summed: &mut Summed) {
        let parsed = usize::try_from(self.parser.at() - summed.from).unwrap_or(input.len());
        if !self.parser.is_in_checksum() && parsed > summed.bytes {
            self.parser.sum(&input[summed.bytes..parsed]);
            summed.bytes = parsed;
        }
    }

    fn read(&mut self, input: &[u8], summed: &mut Summed) -> Result<usize, Error> {
        let mut rest = input;
        while !self.parser.has_ended() {
            let limit = self.parser.item().map_or(0, limit_of);
            match self.parser.parse(rest)? {
                Parsed::Hungry(used) => {
                    self.keep(&rest[..used], limit);
                    return Ok(input.len());
                }
                Parsed::Next(used) => {
                    rest = &rest[used..];
                    if self.parser.is_in_checksum() {
                        let opcode_end = input.len() - rest.len();
                        self.parser.sum(&input[summed.bytes..opcode_end]);
                    }
                }
                Parsed::Item(used, item) => {
                    self.keep(&rest[..used], limit);
                    rest = &rest[used..];
                    let kept = if limit == 0 { Bytes::new() } else { self.kept.split().freeze() };
                    self.note(item, kept)?;
                }
                Parsed::Ended => break,
            }
        }
        Ok(input.len() - rest.len())
    }

    /// Keeps the bytes of small items. One byte over the limit is kept as the sign that it was crossed.
    fn keep(&mut self, bytes: &[u8], limit: usize) {
        let room = (limit + 1).saturating_sub(self.kept.len());
        if limit > 0 {
            self.kept.extend_from_slice(&bytes[..bytes.len().min(room)]);
        }
    }

    fn note(&mut self, item: Item, mut kept: Bytes) -> Result<(), Error> {
        match item {
            Item::Magic => self.summary.version = Some(self.parser.magic(&kept)?),
            Item::Aux => {
                if kept.len() <= LARGEST_NOTE && self.summary.notes.len() < MOST_NOTES {
                    let name = strings::take(&mut kept, LARGEST_NOTE as u64 * 16)?;
                    let value = strings::take(&mut kept, LARGEST_NOTE as u64 * 16)?;
                    let shown = |bytes: &[u8]| strings::printable(bytes, LARGEST_NOTE);
                    self.summary.notes.insert(shown(&name), shown(&value));
                }
            }
            Item::SelectDb => {
                self.count();
                let chosen = strings::take_number(&mut kept)?;
                if self.summary.databases.len() < MOST_DATABASES
                    || self.summary.databases.contains_key(&chosen)
                {
                    self.database = chosen;
                }
            }
            Item::SizeHint => {
                let keys = strings::take_number(&mut kept)?;
                let expiring = strings::take_number(&mut kept)?;
                self.here().announced = Some((keys, expiring));
            }
            Item::ExpirySeconds | Item::ExpiryMillis => self.expiry_seen = true,
            Item::Key => self.value_at = self.parser.at(),
            Item::Value(known) => {
                let bytes = self.parser.at() - self.value_at;
                self.summary.largest_value = self.summary.largest_value.max(bytes);
                self.counted.expiring += u64::from(std::mem::take(&mut self.expiry_seen));
                self.counted.keys[known.kind as usize] += 1;
            }
            Item::Function => self.summary.functions += 1,
            Item::ModuleAux => self.summary.module_aux += 1,
            Item::Checksum => {
                self.summary.checksummed = self.parser.checksum(&kept)?;
                self.summary.bytes = self.parser.at();
                self.whole = true;
            }
            Item::Idle | Item::Freq | Item::Passing => {}
        }
        Ok(())
    }

    /// Puts what was counted in a piece of the file to the figures of its database.
    fn count(&mut self) {
        let Counted { keys, expiring } = std::mem::take(&mut self.counted);
        if keys.iter().all(|count| *count == 0) {
            return;
        }
        let here = self.here();
        here.expiring += expiring;
        for kind in Kind::ALL {
            let count = keys[kind as usize];
            if count > 0 {
                *here.keys.entry(kind).or_default() += count;
            }
        }
    }

    fn here(&mut self) -> &mut Database {
        self.summary.databases.entry(self.database).or_default()
    }

    /// Whether the last byte of the file has been seen, and its checksum was right.
    #[must_use]
    pub const fn has_ended(&self) -> bool {
        self.whole
    }

    /// The checksum of the bytes up to [`Self::position`], also after an error: with it, whoever cannot
    /// walk on can still tell at the end whether the bytes are whole.
    #[must_use]
    pub const fn checksum(&self) -> Crc64 {
        self.parser.crc()
    }

    /// Bytes read so far; after an error, those before what could not be read.
    #[must_use]
    pub const fn position(&self) -> u64 {
        self.parser.at()
    }

    /// The figures so far.
    #[must_use]
    pub const fn so_far(&self) -> &Summary {
        &self.summary
    }

    /// The figures of the whole file.
    ///
    /// # Errors
    /// When its end has not been seen.
    pub fn finish(self) -> Result<Summary, Error> {
        if self.has_ended() {
            Ok(self.summary)
        } else {
            Err(Error::Truncated { at: self.parser.at() })
        }
    }
}

/// How many bytes of an item are kept at most; none of those that are only counted.
const fn limit_of(item: Item) -> usize {
    match item {
        Item::Magic | Item::SelectDb | Item::SizeHint | Item::Checksum => 32,
        Item::Aux => LARGEST_NOTE,
        Item::ExpirySeconds
        | Item::ExpiryMillis
        | Item::Idle
        | Item::Freq
        | Item::Function
        | Item::ModuleAux
        | Item::Passing
        | Item::Key
        | Item::Value(_) => 0,
    }
}
