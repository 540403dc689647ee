//! The worker as a process. Its arguments come from a Function that a user may have written, so that they are refused is a
//! result like any other: it is left where the session's owner reads it, and not only in a log.

use std::{ffi::OsString, path::PathBuf, process::ExitCode};

use clap::{CommandFactory as _, Parser as _};
use coffer_api::outcome::{Failed, Outcome, Result as Ended};

use crate::Args;

/// The variable by which the orchestrator passes the setting on.
const NICE: &str = "NICE_ADJUSTMENT";

/// Runs the worker with these arguments, the first of which is its name.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.into_iter().collect();
    match Args::try_parse_from(&args) {
        Ok(args) => {
            give_way();
            coffer_runtime::process::run(args, async |args, runtime| {
                Ok(crate::run(args, &runtime).await)
            })
        }
        Err(error) => {
            let _ = error.print();
            // Help and version are asked for by people, not by Jobs.
            if error.use_stderr()
                && let Some(path) = termination_log(&args)
                && let Err(error) = std::fs::write(&path, refused(&error).to_message())
            {
                eprintln!("the result cannot be written to {}: {error}", path.display());
            }
            u8::try_from(error.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from)
        }
    }
}

/// What `runtimeSettings.container.nice` asks for. A backup is not worth less for being done at another priority.
fn give_way() {
    let Ok(text) = std::env::var(NICE) else { return };
    let done = text.parse().map_err(|_| format!("{text:?} is no number")).and_then(|adjustment| {
        coffer_runtime::process::give_way(adjustment).map_err(|error| error.to_string())
    });
    if let Err(error) = done {
        eprintln!("warning: {NICE}: {error}; going on at the usual priority");
    }
}

/// Where the result belongs, as far as the arguments can be read.
fn termination_log(args: &[OsString]) -> Option<PathBuf> {
    let readable = Args::command().ignore_errors(true).try_get_matches_from(args).ok()?;
    readable.get_one::<PathBuf>("termination_log").cloned()
}

fn refused(error: &clap::Error) -> Outcome {
    let text = error.render().to_string();
    // What follows is a usage that knows only flags, and the remedy here is elsewhere.
    let problem = text.split("\n\n").next().unwrap_or_default();
    let problem = problem.trim_start_matches("error: ").split_whitespace();
    let problem = problem.collect::<Vec<_>>().join(" ");
    let error = format!(
        "the worker does not take its arguments: {problem}; correct the args of the Function, or the Task's params"
    );
    let failed = Failed { class: "Invalid".to_owned(), error, keys_written: 0 };
    Outcome { version: 1, result: Ended::Failed(failed), duration_ms: 0, warnings: vec![] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_that_are_refused_are_a_result() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let flag = format!("--termination-log={}", log.display());
        for (words, part) in [
            (&["backup-redis", "--no-such-flag=1"][..], "'--no-such-flag' found"),
            (&["back-up"][..], "subcommand 'back-up'"),
            (&[][..], "subcommand"),
        ] {
            let args = [&["coffer-worker", flag.as_str()][..], words].concat();
            assert_ne!(main(args.into_iter().map(OsString::from)), ExitCode::SUCCESS);
            let left = std::fs::read_to_string(&log).unwrap();
            let Ended::Failed(failed) = Outcome::from_message(&left).unwrap().result else {
                panic!("{left}")
            };
            assert!(failed.error.contains(part), "{words:?}: {}", failed.error);
            assert!(failed.error.contains("args of the Function"), "{}", failed.error);
        }
    }
}
