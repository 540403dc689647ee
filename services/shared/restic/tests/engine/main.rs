//! The engine from outside: beside the restic program, on stores that fail and lie, damaged, crowded, locked. One program
//! holds all of it, since each would link the whole engine.

#![allow(clippy::unwrap_used, clippy::panic, reason = "the helpers of tests may fail")]

mod damage;
mod directory;
mod faults;
mod init;
mod interrupted;
mod locks;
mod lost;
mod maintenance;
mod pruned;
mod restic_compat;
mod streams;
mod support;
mod untrusted;
