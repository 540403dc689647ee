//! `coffer`: back up and restore Redis from a shell. Also a kubectl plugin: call the binary `kubectl-coffer`, and
//! `kubectl coffer …` works.
//!
//! ```text
//!  args ─▶ commands::<verb> ─▶ client ─┬─ Kubernetes API (apply, status, pause)
//!                                      ├─ Sessions, orchestrator (backup, restore) ─▶ session ─▶ progress
//!                                      └─ Repositories, storage-gateway (snapshots, forget, prune …) ─▶ maintenance
//!                              └─▶ output, errors
//! ```
//!
//! A verb is a file under [`commands`], with its flags and what it does. What is printed is made by pure functions
//! ([`output`], [`figures`], the rows of each verb), so that tests need no cluster.

pub mod args;
pub mod client;
pub mod commands;
pub mod endpoints;
pub mod errors;
pub mod figures;
pub mod keyspace;
pub mod maintenance;
pub mod manifests;
pub mod output;
pub mod progress;
pub mod session;

use std::{ffi::OsString, path::Path, process::ExitCode};

use clap::{CommandFactory, FromArgMatches};

use crate::args::{Cli, Command};

/// Runs the program with the process's arguments.
pub fn main() -> ExitCode {
    run(std::env::args_os())
}

/// Runs the program with these arguments, the first of which is its name. Usage errors exit with 2, others with 1.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.into_iter().collect();
    // Not a verb for people: what the Jobs of `coffer up` run, so that one file is all there is to install. The arguments
    // are a Function's, and none of them may be taken for one of ours.
    #[cfg(feature = "standalone")]
    if args.get(1).is_some_and(|verb| verb == commands::up::WORKER) {
        return coffer_standalone::worker(args.into_iter().skip(1));
    }
    let mut definition = Cli::command();
    if is_plugin(args.first()) {
        definition = definition.bin_name("kubectl coffer");
    }
    let cli =
        definition.try_get_matches_from(args).and_then(|matches| Cli::from_arg_matches(&matches));
    match cli {
        Ok(cli) => dispatch(cli),
        // Help and version arrive here too, to be printed on stdout with code 0.
        Err(error) => {
            let _ = error.print();
            u8::try_from(error.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from)
        }
    }
}

/// kubectl finds plugins by their file's name, and calls them by it.
fn is_plugin(program: Option<&OsString>) -> bool {
    let name = program.and_then(|program| Path::new(program).file_name()?.to_str());
    name.is_some_and(|name| name.starts_with("kubectl-"))
}

fn dispatch(cli: Cli) -> ExitCode {
    let Cli { global, command } = cli;
    match command {
        // A server: it sets up logs, signals and the async runtime itself.
        #[cfg(feature = "standalone")]
        Command::Up(args) => commands::up::run(args),
        Command::Client(verb) => {
            coffer_runtime::process::install_crypto_provider();
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
            let outcome = runtime
                .map_err(|error| anyhow::Error::new(error).context("start the async runtime"))
                .and_then(|runtime| runtime.block_on(commands::run(&global, verb)));
            outcome.unwrap_or_else(|error| {
                eprint!("{}", errors::report(&error));
                ExitCode::FAILURE
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plugin_is_known_by_its_name() {
        assert!(is_plugin(Some(&"/usr/local/bin/kubectl-coffer".into())));
        assert!(!is_plugin(Some(&"coffer".into())));
        assert!(!is_plugin(None));
    }
}
