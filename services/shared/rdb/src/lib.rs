//! The formats in which Redis and Valkey hand out their data, and nothing else: bytes in, structs out.
//!
//! No sockets, no clocks, no async: whoever reads a socket or a snapshot pushes the bytes in here and is
//! told what they are. Every reader is incremental, keeps a constant amount of memory (the entry reader:
//! one value), and treats its input as hostile: no input may panic, loop for ever or make it allocate
//! more than its stated limit.
//!
//! ```text
//!   replication stream ─▶ walk::Walk ───────▶ where the file ends, keys by database and type, checksum
//!   a stored dump.rdb ──▶ entries::Entries ─▶ key, expiry, type, body ─┬▶ travel ─▶ payload ─▶ RESTORE
//!   a stored .resp ─────▶ resp::CommandReader ─▶ commands              ├▶ travel ─▶ write ──▶ a file
//!                                                                      ├▶ commands ─▶ typed commands
//!                                                                      └▶ digest ──▶ what users stored
//!      both RDB readers share: file::Parser (opcodes) ▶ skip::Skipper ▶ grammar (what each type looks like)
//!      what looks into values shares: decode (elements of every encoding)
//! ```
//!
//! Start with `grammar.rs`: it states, as data, what follows each type byte. The
//! interpreter in `skip.rs` finds where a value ends by following it, without decoding anything: the
//! bodies are passed on as they are, which is what makes module values, streams and whatever encoding a
//! server chose survive unharmed. Only what must be looked into is decoded: values that a server does not
//! know in this form ([`travel`] decides, for a [`target`]), values that go as [`commands`], and digests.
//!
//! A type or opcode that is not known here is an error that says so, and never skipped or guessed: whoever
//! only stores the bytes finds their end by other means.

pub mod commands;
pub mod crc64;
pub mod decode;
pub mod digest;
mod encode;
pub mod entries;
mod error;
mod file;
mod grammar;
mod length;
mod lzf;
pub mod payload;
pub mod resp;
mod skip;
mod spare;
pub mod strings;
pub mod target;
pub mod travel;
pub mod value;
pub mod version;
pub mod walk;
pub mod write;

pub use error::Error;
