//! The formats against real servers: what they write is read, what is written they load, and their own
//! `DEBUG DIGEST` says whether it is the same.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "tests")]

mod kept;
mod modules;
mod real_redis;
mod support;
mod versions;
