//! The allocator of every program.
//!
//! Chunks, packs and messages of a megabyte come and go between many threads. The system's allocator keeps several times
//! what is in use then: each thread's heap grows to its own largest moment, and little of it is ever given back. This one
//! gives back what is large at once and the rest within half a second; `.cargo/config.toml` has the settings, since they
//! are built in.

use tikv_jemallocator::Jemalloc;

#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;
