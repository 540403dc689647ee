//! The Redis side of the worker: reach a server, receive its dump, load one into it.
//!
//! Everything speaks RESP2 over one socket through [`Client`]; only `replicate` leaves the protocol, once
//! the server starts sending its RDB. No Redis client crate: the bulk paths need the raw socket, and the
//! messages about TLS, rights and passwords need to know what exactly the server said first.

mod client;
mod connect;
mod error;
mod frame;
mod load;
mod patience;
mod read_back;
mod recent;
mod replay;
mod replicate;
mod scan;
mod seen;
mod serve;
mod server;
mod tls;
mod topology;

/// The largest value that is taken, which is in memory as a whole: hardly a Job is given more.
pub(crate) const LARGEST_VALUE_BYTES: u64 = 16 * 1024 * 1024 * 1024;

pub use client::Client;
pub use connect::connect;
pub use error::Error;
pub(crate) use load::By;
pub use load::{Holder, LoadOptions, Loader, Tally, are_kept};
pub use read_back::ReadBack;
pub(crate) use recent::Recent;
pub use replay::Replay;
pub use replicate::{Received, Replication};
pub use scan::{Scan, ScanOptions, Scanned};
pub use serve::{Loaded, Serving};
pub use server::{Replica, Server};
pub use topology::{Master, Node, Slots, Topology, find, is_unchanged, slot_of};
