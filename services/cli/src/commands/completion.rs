//! `coffer completion`: a script that makes a shell complete verbs and flags.
use std::process::ExitCode;

use clap::CommandFactory;
use clap_complete::Shell;

use crate::{args::Cli, output};

const AFTER_HELP: &str = "\
Examples:
  source <(coffer completion bash)
  coffer completion zsh > \"${fpath[1]}/_coffer\"
  coffer completion fish > ~/.config/fish/completions/coffer.fish";

/// Flags of `coffer completion`.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct Args {
    /// Shell to make it for
    shell: Shell,
}

/// Runs the verb.
///
/// # Errors
/// When stdout cannot be written to.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    output::print(&script(args.shell))?;
    Ok(ExitCode::SUCCESS)
}

fn script(shell: Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "coffer", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;

    #[test]
    fn every_shell_completes_every_verb() {
        for shell in Shell::value_variants() {
            let script = script(*shell);
            for verb in ["apply", "backup", "restore", "snapshots", "status", "pause", "resume"] {
                assert!(script.contains(verb), "{shell} does not complete {verb}");
            }
        }
    }
}
