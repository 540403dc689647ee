//! What follows each opcode and type byte, as data. `skip.rs` interprets it.
//!
//! Only what is needed to find the end is stated: a listpack, a ziplist, an intset, a zipmap are each
//! one string here, since their length stands in front of them.

/// One thing to skip.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Step {
    /// So many bytes.
    Raw(u64),
    /// A number written as a length code.
    Len,
    /// A string in any of its encodings.
    Str,
    /// A number n, then the inner program n times.
    Count(&'static [Self]),
    /// A score of the old sorted sets: a length byte and that many digits, or 253 to 255 alone.
    Score,
    /// Fields of a module's value, each with its own opcode, up to the one that says "end".
    ModuleFields,
}

use Step::{Count, Len, ModuleFields, Raw, Score, Str};

/// A program: steps in order. Nested at most [`DEPTH`] deep.
pub(crate) type Program = &'static [Step];

/// How deep programs nest: a stream's groups hold consumers, which hold pending entries.
pub(crate) const DEPTH: usize = 4;

pub(crate) const STRING: Program = &[Str];
pub(crate) const STRINGS: Program = &[Count(&[Str])];
pub(crate) const PAIRS: Program = &[Count(&[Str, Str])];
pub(crate) const SCORED_TEXT: Program = &[Count(&[Str, Score])];
pub(crate) const SCORED_BINARY: Program = &[Count(&[Str, Raw(8)])];
pub(crate) const QUICKLIST_2: Program = &[Count(&[Len, Str])];
pub(crate) const MODULE: Program = &[Len, ModuleFields];
/// Field TTLs as Redis 7.4's release candidates wrote them: time, field, value.
pub(crate) const HASH_TTL_PRE_GA: Program = &[Count(&[Len, Str, Str])];
/// The same since 7.4, behind the smallest time.
pub(crate) const HASH_TTL: Program = &[Raw(8), Count(&[Len, Str, Str])];
pub(crate) const HASH_TTL_LISTPACK: Program = &[Raw(8), Str];
/// Valkey's way: field, value, absolute time or -1.
pub(crate) const HASH_TTL_VALKEY: Program = &[Count(&[Str, Str, Raw(8)])];

/// Entry of a pending list: id, delivery time, delivery count.
const PENDING: Step = Count(&[Raw(24), Len]);
const IDS: Step = Count(&[Raw(16)]);
/// The entries of a stream: nodes by their first id.
pub(crate) const NODES: Program = &[Count(&[Str, Str])];
/// A consumer group: name, last id, what is pending, and of each consumer when it was seen.
pub(crate) const GROUPS_1: Program =
    &[Count(&[Str, Len, Len, PENDING, Count(&[Str, Raw(8), IDS])])];
/// Adds how many entries the group has read.
pub(crate) const GROUPS_2: Program =
    &[Count(&[Str, Len, Len, Len, PENDING, Count(&[Str, Raw(8), IDS])])];
/// Adds when each consumer was active.
pub(crate) const GROUPS_3: Program =
    &[Count(&[Str, Len, Len, Len, PENDING, Count(&[Str, Raw(16), IDS])])];
/// Adds what consumers gave back, which is pending without one.
pub(crate) const GROUPS_5: Program =
    &[Count(&[Str, Len, Len, Len, PENDING, Count(&[Str, Raw(16), IDS]), IDS])];
/// What tells an entry that a producer repeats: for how long and how many ids are kept, and of each
/// producer its ids with those of the entries; how many came, and how many again.
pub(crate) const IDEMPOTENCE: Program = &[Len, Len, PRODUCERS, Len, Len];
const PRODUCERS: Step = Count(&[Str, Count(&[Str, Len, Len])]);

pub(crate) const STREAM_1: Program = &[NODES[0], Len, Len, Len, GROUPS_1[0]];
/// Adds first id, greatest deleted id, entries added.
pub(crate) const STREAM_2: Program =
    &[NODES[0], Len, Len, Len, Len, Len, Len, Len, Len, GROUPS_2[0]];
pub(crate) const STREAM_3: Program =
    &[NODES[0], Len, Len, Len, Len, Len, Len, Len, Len, GROUPS_3[0]];
pub(crate) const STREAM_4: Program =
    &[NODES[0], Len, Len, Len, Len, Len, Len, Len, Len, GROUPS_3[0], Len, Len, PRODUCERS, Len, Len];
pub(crate) const STREAM_5: Program =
    &[NODES[0], Len, Len, Len, Len, Len, Len, Len, Len, GROUPS_5[0], Len, Len, PRODUCERS, Len, Len];

pub(crate) const MAGIC: Program = &[Raw(9)];
pub(crate) const NUMBER: Program = &[Len];
pub(crate) const TWO_NUMBERS: Program = &[Len, Len];
pub(crate) const THREE_NUMBERS: Program = &[Len, Len, Len];
pub(crate) const TWO_STRINGS: Program = &[Str, Str];
pub(crate) const BYTE: Program = &[Raw(1)];
pub(crate) const FOUR_BYTES: Program = &[Raw(4)];
pub(crate) const EIGHT_BYTES: Program = &[Raw(8)];
/// Valkey 9: a slot migration under way: its name, and slot ranges.
pub(crate) const SLOT_IMPORT: Program = &[Str, Count(&[Len, Len])];
