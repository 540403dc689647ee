//! The value types: what each type byte means, since when, and where such a value ends.

use crate::error::Error;
use crate::grammar::{self, Program};
use crate::length::{self, Length};
use crate::skip::{Ran, Skipper};
use crate::version::{Vendor, Version};

/// What users call the type of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// A string, bitmap or HyperLogLog.
    String,
    /// A list.
    List,
    /// A set.
    Set,
    /// A sorted set or geo index.
    SortedSet,
    /// A hash.
    Hash,
    /// A stream.
    Stream,
    /// A value that belongs to a module.
    Module,
}

impl Kind {
    /// All kinds, in the order in which they are reported.
    pub const ALL: [Self; 7] = [
        Self::String,
        Self::List,
        Self::Set,
        Self::SortedSet,
        Self::Hash,
        Self::Stream,
        Self::Module,
    ];

    /// The word that `TYPE` answers; a module's types have words of their own there.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::List => "list",
            Self::Set => "set",
            Self::SortedSet => "zset",
            Self::Hash => "hash",
            Self::Stream => "stream",
            Self::Module => "module",
        }
    }
}

/// How the body of a value is laid out; what decoding and re-encoding go by, since a type byte alone is
/// ambiguous.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    Text,
    Strings,
    ScoredText,
    ScoredBinary,
    Pairs,
    Module,
    Zipmap,
    Ziplist,
    Intset,
    Listpack,
    QuicklistOfZiplists,
    QuicklistOfListpacks,
    Stream1,
    Stream2,
    Stream3,
    Stream4,
    Stream5,
    HashTtlPreGa,
    HashTtlListpackPreGa,
    HashTtl,
    HashTtlListpack,
    HashTtlValkey,
}

/// A type byte understood.
#[derive(Debug)]
pub struct Type {
    /// The byte itself.
    pub code: u8,
    /// What users call it.
    pub kind: Kind,
    /// What the encoding is called, for messages.
    pub name: &'static str,
    /// The first version of the Redis line that reads it, if that line does.
    redis: Option<u16>,
    /// The same for the Valkey line.
    valkey: Option<u16>,
    program: Program,
    encoding: Encoding,
}

impl Type {
    pub(crate) const fn program(&self) -> Program {
        self.program
    }

    pub(crate) const fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// Whether a server of that dialect takes this value in a payload.
    #[must_use]
    pub fn is_read_by(&self, target: Version) -> bool {
        let since = match target.vendor {
            Vendor::Redis => self.redis,
            Vendor::Valkey => self.valkey,
        };
        since.is_some_and(|since| target.number >= since)
    }
}

const fn both(
    code: u8,
    kind: Kind,
    name: &'static str,
    redis: u16,
    program: Program,
    encoding: Encoding,
) -> Type {
    Type { code, kind, name, redis: Some(redis), valkey: Some(80), program, encoding }
}

const fn redis_only(code: u8, name: &'static str, program: Program, encoding: Encoding) -> Type {
    Type { code, kind: Kind::Hash, name, redis: Some(12), valkey: None, program, encoding }
}

const fn redis_stream(
    code: u8,
    name: &'static str,
    redis: u16,
    program: Program,
    encoding: Encoding,
) -> Type {
    Type { code, kind: Kind::Stream, name, redis: Some(redis), valkey: None, program, encoding }
}

/// Type 6, a module's value before modules were released, has no findable end and is left out.
static TYPES: &[Type] = &[
    both(0, Kind::String, "string", 6, grammar::STRING, Encoding::Text),
    both(1, Kind::List, "list", 6, grammar::STRINGS, Encoding::Strings),
    both(2, Kind::Set, "set", 6, grammar::STRINGS, Encoding::Strings),
    both(3, Kind::SortedSet, "sorted set", 6, grammar::SCORED_TEXT, Encoding::ScoredText),
    both(4, Kind::Hash, "hash", 6, grammar::PAIRS, Encoding::Pairs),
    both(
        5,
        Kind::SortedSet,
        "sorted set with binary scores",
        8,
        grammar::SCORED_BINARY,
        Encoding::ScoredBinary,
    ),
    both(7, Kind::Module, "module value", 8, grammar::MODULE, Encoding::Module),
    both(9, Kind::Hash, "zipmap hash", 6, grammar::STRING, Encoding::Zipmap),
    both(10, Kind::List, "ziplist list", 6, grammar::STRING, Encoding::Ziplist),
    both(11, Kind::Set, "intset set", 6, grammar::STRING, Encoding::Intset),
    both(12, Kind::SortedSet, "ziplist sorted set", 6, grammar::STRING, Encoding::Ziplist),
    both(13, Kind::Hash, "ziplist hash", 6, grammar::STRING, Encoding::Ziplist),
    both(14, Kind::List, "quicklist", 7, grammar::STRINGS, Encoding::QuicklistOfZiplists),
    both(15, Kind::Stream, "stream", 9, grammar::STREAM_1, Encoding::Stream1),
    both(16, Kind::Hash, "listpack hash", 10, grammar::STRING, Encoding::Listpack),
    both(17, Kind::SortedSet, "listpack sorted set", 10, grammar::STRING, Encoding::Listpack),
    both(
        18,
        Kind::List,
        "quicklist of listpacks",
        10,
        grammar::QUICKLIST_2,
        Encoding::QuicklistOfListpacks,
    ),
    both(19, Kind::Stream, "stream (7.0)", 10, grammar::STREAM_2, Encoding::Stream2),
    both(20, Kind::Set, "listpack set", 11, grammar::STRING, Encoding::Listpack),
    both(21, Kind::Stream, "stream (7.2)", 11, grammar::STREAM_3, Encoding::Stream3),
    redis_stream(26, "stream (8.6)", 13, grammar::STREAM_4, Encoding::Stream4),
    // Of 8.8, from its description: no such server was at hand.
    redis_stream(27, "stream (8.8)", 14, grammar::STREAM_5, Encoding::Stream5),
    redis_only(
        22,
        "hash with field TTLs (7.4 candidate)",
        grammar::HASH_TTL_PRE_GA,
        Encoding::HashTtlPreGa,
    ),
    redis_only(
        23,
        "listpack hash with field TTLs (7.4 candidate)",
        grammar::STRING,
        Encoding::HashTtlListpackPreGa,
    ),
    redis_only(24, "hash with field TTLs", grammar::HASH_TTL, Encoding::HashTtl),
    redis_only(
        25,
        "listpack hash with field TTLs",
        grammar::HASH_TTL_LISTPACK,
        Encoding::HashTtlListpack,
    ),
    Type {
        code: 22,
        kind: Kind::Hash,
        name: "hash with field TTLs (Valkey)",
        redis: None,
        valkey: Some(80),
        program: grammar::HASH_TTL_VALKEY,
        encoding: Encoding::HashTtlValkey,
    },
];

/// From this code on, the vendors went separate ways and a code means nothing without its version.
const AMBIGUOUS_FROM: u8 = 22;

/// The type that a byte stands for in a file of that version, if it is known.
///
/// Codes that have only ever meant one thing are known in any version.
#[must_use]
pub fn lookup(code: u8, version: Version) -> Option<&'static Type> {
    TYPES
        .iter()
        .find(|known| known.code == code && (code < AMBIGUOUS_FROM || known.is_read_by(version)))
}

/// Where the value at the start of `bytes` ends; `None` if that is behind the end of `bytes`.
///
/// # Errors
/// When the type is unknown or the bytes contradict themselves.
pub fn end_of(code: u8, version: Version, bytes: &[u8]) -> Result<Option<usize>, Error> {
    let known = lookup(code, version).ok_or_else(|| Error::Unknown {
        what: "value type",
        code: u64::from(code),
        at: 0,
        version,
    })?;
    let mut skipper = Skipper::new();
    skipper.start(known.program());
    Ok(match skipper.run(bytes)? {
        Ran::Ended(len) => Some(len),
        Ran::Hungry => None,
    })
}

/// The module that a module value belongs to, as its nine-letter name, from the start of its body.
#[must_use]
pub fn module_name(body: &[u8]) -> Option<String> {
    match length::take(&mut &body[..]).ok()?? {
        Length::Plain(id) => Some(module_name_of_id(id)),
        Length::Special(_) => None,
    }
}

/// Nine letters of six bits, behind them ten bits of the module's own version.
pub(crate) fn module_name_of_id(id: u64) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    (0..9_u32)
        .map(|place| {
            let letter = usize::try_from((id >> (58 - 6 * place)) & 0x3f).unwrap_or_default();
            char::from(LETTERS[letter])
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_means_what_its_vendor_says() {
        let name = |code, version| lookup(code, version).map(|known| known.name);
        assert_eq!(name(22, Version::redis(12)), Some("hash with field TTLs (7.4 candidate)"));
        assert_eq!(name(22, Version::valkey(80)), Some("hash with field TTLs (Valkey)"));
        assert_eq!(name(22, Version::redis(11)), None);
        assert_eq!(name(24, Version::valkey(80)), None);
        assert_eq!(name(6, Version::redis(10)), None);
        assert_eq!(name(26, Version::redis(12)), None);
    }

    #[test]
    fn an_older_target_lacks_newer_types() {
        let reads = |code, version, target| lookup(code, version).unwrap().is_read_by(target);
        assert!(reads(18, Version::redis(10), Version::redis(10)));
        assert!(!reads(20, Version::redis(11), Version::redis(10)));
        assert!(!reads(21, Version::redis(12), Version::redis(10)));
        assert!(reads(21, Version::redis(12), Version::valkey(80)));
        assert!(!reads(24, Version::redis(12), Version::valkey(80)));
        assert!(!reads(22, Version::valkey(80), Version::redis(12)));
        assert!(!reads(15, Version::redis(9), Version::redis(8)));
    }

    #[test]
    fn finds_the_end_of_hand_written_values() {
        let end = |code, version, bytes: &[u8]| end_of(code, version, bytes);
        // Field TTLs: smallest time, two fields, one without and one with a time.
        let mut hash = 5_i64.to_le_bytes().to_vec();
        hash.extend(b"\x02\x00\x01a\x01b\x03\x01c\x01d");
        assert_eq!(end(24, Version::redis(12), &hash), Ok(Some(hash.len())));
        let mut valkey = b"\x01\x01a\x01b".to_vec();
        valkey.extend((-1_i64).to_le_bytes());
        assert_eq!(end(22, Version::valkey(80), &valkey), Ok(Some(valkey.len())));
        // A module: id, one number, one float, one double, one string, end.
        let module =
            b"\x81\x00\x00\x00\x00\x00\x00\x04\x01\x02\x07\x03abcd\x04abcdefgh\x05\x02hi\x00";
        assert_eq!(end(7, Version::redis(10), module), Ok(Some(module.len())));
        assert_eq!(module_name(module).as_deref(), Some("AAAAAAAAB"));
        // Old scores: "1.5", infinity, not a number.
        let scores = b"\x03\x01a\x031.5\x01b\xfe\x01c\xfd";
        assert_eq!(end(3, Version::redis(6), scores), Ok(Some(scores.len())));
        // An empty list, a packed string, and one byte too few.
        assert_eq!(end(1, Version::redis(6), b"\x00rest"), Ok(Some(1)));
        assert_eq!(end(0, Version::redis(6), b"\xc3\x04\x08\x00a\xa0\x00rest"), Ok(Some(7)));
        assert_eq!(end(0, Version::redis(6), b"\x04abc"), Ok(None));
        assert!(end(7, Version::redis(10), b"\x01\x06").is_err());
        assert!(end(0, Version::redis(6), b"\xc4").is_err());
    }
}
