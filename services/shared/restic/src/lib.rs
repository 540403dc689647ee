//! The restic repository format over an object store.
//!
//! This crate writes, reads and tends repositories that the restic program made or can open: format
//! version 1 (read, and appended to) and version 2 (zstd). It knows nothing of gRPC, of Kubernetes
//! or of Redis: bytes in, snapshots out.
//!
//! ```text
//!  backup:  bytes ─▶ chunker ─▶ SHA-256 ─▶ known? ─▶ zstd ─▶ AES+MAC ─▶ pack ─▶ object store
//!                                            │ yes: only the id is kept
//!           packs ─▶ index ─▶ tree ─▶ (is our lock still there?) ─▶ snapshot file: the commit
//!  restore: snapshot ─▶ tree ─▶ blob ids ─▶ index ─▶ ranged reads ─▶ MAC, zstd, SHA-256 ─▶ bytes
//! ```
//!
//! Reading order: [`Repository`] (open it), [`SnapshotWriter`] (write), [`FileReader`] (read),
//! [`forget`](forget::plan) and [`prune`] (let go), [`check`] (verify), `repair`, `copy`, `keys`,
//! `migrate`. Below them lie the pure parts: `chunker`, `pack`, `index`, `crypto`; and `resources`,
//! which all streams share.
//!
//! Three rules hold everywhere:
//! 1. The snapshot file is written last. Without it nothing exists; what is left is prune's job.
//! 2. A listing or a document that cannot be read is an error, never a shorter answer.
//! 3. Locks are restic's: written, refreshed, honoured. Other programs may share the repository.

mod buffers;
mod catalog;
pub mod check;
mod chunker;
mod codec;
mod config;
pub mod conformance;
mod copy;
mod crypto;
mod encode;
mod error;
mod fetch;
pub mod forget;
#[doc(hidden)]
pub mod hostile;
mod id;
mod identity;
mod index;
mod index_file;
mod init;
mod key;
mod keys;
mod lock;
mod maintain;
mod migrate;
mod options;
mod pack;
mod packer;
mod pieces;
mod polynomial;
mod progress;
pub mod prune;
mod read;
mod repair;
mod repository;
mod resources;
mod sha256;
mod shared_index;
mod size;
mod snapshot;
#[doc(hidden)]
pub mod speed;
mod stats;
mod store;
mod tree;
mod used;
mod vault;
mod write;

pub use config::Version;
pub use copy::{CopyOptions, CopySummary};
pub use error::{Error, Kind, Result};
pub use forget::{GroupBy, GroupKey, KeepPolicy};
pub use id::Id;
pub use identity::Instance;
pub use key::{Kdf, Password};
pub use keys::KeyInfo;
pub use lock::LockInfo;
pub use maintain::{ForgetSummary, UnlockScope};
pub use migrate::Migration;
pub use options::{BackupOptions, Compression, InitOptions, OpenOptions};
pub use progress::{Observer, Progress, Unit};
pub use read::{FileEntry, FileReader, HeldSnapshot, ReadOptions};
pub use repair::{RepairOptions, RepairSummary};
pub use repository::Repository;
pub use resources::Resources;
pub use snapshot::{Snapshot, SnapshotFilter, SnapshotRef, SnapshotSummary, TagList};
pub use stats::Stats;
pub use store::{Attested, Store};
pub use write::{BackupSummary, FileSummary, FileWriter, SnapshotWriter};
