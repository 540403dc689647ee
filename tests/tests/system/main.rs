//! Whole-system tests: Coffer with everything on, real Redis servers, real repositories. One program holds them all, since
//! each has the whole system in it.

mod admission;
mod backup;
mod bad_input;
mod batch;
mod control;
mod deploy;
mod digest;
mod doubled;
mod exec;
mod grpc;
mod hooks;
mod invoker;
mod keyspace;
mod killed;
mod limits;
mod maintenance;
mod readme;
mod restore;
mod restore_batch;
mod s3;
mod takeover;

/// `coffer`, as it was built beside the tests.
const COFFER: &str = env!("CARGO_BIN_EXE_coffer-under-test");

/// An orchestrator of its own.
const ORCHESTRATOR: &str = env!("CARGO_BIN_EXE_orchestrator-under-test");
