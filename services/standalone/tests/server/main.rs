//! The API server and the Job runner, over HTTP as clients have them. kubectl has a program of its own, which runs once more
//! with other versions of it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "the helpers of tests may fail")]

mod access;
mod api;
mod exec;
mod job_runner;
#[path = "../support/runner.rs"]
mod runner;
#[path = "../support/mod.rs"]
mod support;
