//! `coffer worker`, hidden: what the standalone system's Jobs run. The same program as the `coffer-worker` image, in this
//! binary, so that one file is all there is to install.
use std::{ffi::OsString, process::ExitCode};

/// The worker's own arguments.
#[derive(Debug, clap::Args)]
#[command(disable_help_flag = true)]
pub struct Args {
    /// Passed on as they are
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGS")]
    args: Vec<OsString>,
}

/// Runs the worker.
pub fn run(args: Args) -> ExitCode {
    coffer_standalone::worker(args.args)
}
