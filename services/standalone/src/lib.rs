//! Coffer on one machine without a cluster: a Kubernetes-compatible API server, a Job runner, and
//! the services.
//!
//! Reading order: [`cluster`] (what starts what), [`apiserver`] (objects, watches, kubectl), [`job_runner`] (Jobs and Pods
//! as child processes).

pub mod apiserver;
pub mod cluster;
pub mod job_runner;

use std::{ffi::OsString, process::ExitCode};

/// The worker as a process, so that one program can be the whole system and the worker of its Jobs. `args` begin with the
/// program's name, as those of every process.
pub fn worker(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    coffer_worker::main(args)
}
