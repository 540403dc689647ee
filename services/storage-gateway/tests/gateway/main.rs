//! A real gateway over TLS, from outside: streams, whole repositories, places, every backend, and its sudden death. One
//! program holds all of it, since each would link the whole gateway.

#![allow(
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test, or its support, may panic anywhere"
)]

mod backends;
mod killed;
mod places;
mod repositories;
mod rights;
mod snapshots;
mod support;
