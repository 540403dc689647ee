//! The worker as a process of its own.

use std::process::ExitCode;

use clap::Parser as _;
use coffer_worker::Args;

fn main() -> ExitCode {
    coffer_runtime::process::run(Args::parse(), async |args, runtime| {
        Ok(coffer_worker::run(args, &runtime).await)
    })
}
