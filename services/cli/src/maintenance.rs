//! What the verbs that look after a repository share: naming one, asking before something is destroyed, following a long
//! operation, and showing its result.
use std::{
    io::{IsTerminal, stderr, stdin},
    time::{Duration, Instant},
};

use anyhow::Context;
use coffer_proto::storage::v1::{Progress, RepositoryRef};
use coffer_runtime::{Clock, grpc};
use console::Term;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use tonic::Streaming;

use crate::{
    args::{Format, GlobalArgs},
    client::Cluster,
    errors::Advice,
    figures, output,
};

/// A line at least this often, so that a log shows that something moves.
const LINE_EVERY: Duration = Duration::from_secs(10);
const TICK: Duration = Duration::from_millis(120);

/// How long to wait for a lock of somebody else on a repository.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub struct LockArgs {
    /// Wait so long for a lock of somebody else, 24h at most: 5m, 1h30m; 0 for not at all; as long as the storage-gateway
    /// does (2m, or its --lock-wait) when absent
    #[arg(long, value_name = "DURATION", value_parser = coffer_api::duration::parse)]
    pub retry_lock: Option<Duration>,
}

impl LockArgs {
    /// As the contract has it. What does not fit is too long for the storage-gateway anyway.
    pub fn wait(self) -> Option<prost_types::Duration> {
        let longest = prost_types::Duration { seconds: i64::MAX, nanos: 0 };
        self.retry_lock.map(|wait| wait.try_into().unwrap_or(longest))
    }
}

/// The Repository that is named, `NAME` or `NAMESPACE/NAME`.
pub fn repository(cluster: &Cluster, name: &str, lock: LockArgs) -> RepositoryRef {
    let (namespace, name) = name.split_once('/').unwrap_or((&cluster.namespace, name));
    RepositoryRef { namespace: namespace.to_owned(), name: name.to_owned(), lock_wait: lock.wait() }
}

/// `NAMESPACE/NAME`
pub fn shown(repository: &RepositoryRef) -> String {
    format!("{}/{}", repository.namespace, repository.name)
}

/// Hosts as a request takes them: one and the further ones. A gateway that knows of none but the one then counts too few
/// snapshots; without it, all.
pub fn hosts(hosts: Vec<String>) -> (String, Vec<String>) {
    let mut hosts = hosts.into_iter();
    (hosts.next().unwrap_or_default(), hosts.collect())
}

/// Whether to ask before something is destroyed.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub struct ConfirmArgs {
    /// Do not ask before something is deleted
    #[arg(short, long)]
    pub yes: bool,
}

impl ConfirmArgs {
    /// Asks on the terminal; without one, only `--yes` will do.
    ///
    /// # Errors
    /// When the answer is no, or there is nobody to ask.
    pub fn confirm(self, question: &str) -> anyhow::Result<()> {
        self.ask(question, "pass --yes to go ahead without being asked")
    }

    /// The same for a verb that has `--dry-run`.
    ///
    /// # Errors
    /// As [`Self::confirm`].
    pub fn confirm_or_try(self, question: &str) -> anyhow::Result<()> {
        let hint = "pass --yes to go ahead without being asked; --dry-run shows what would be done";
        self.ask(question, hint)
    }

    fn ask(self, question: &str, hint: &'static str) -> anyhow::Result<()> {
        if self.yes {
            return Ok(());
        }
        if !stdin().is_terminal() || !stderr().is_terminal() {
            return Err(Advice::new(format!("{question} Nobody is there to answer"), hint).into());
        }
        eprint!("{question} [y/N] ");
        let mut answer = String::new();
        stdin().read_line(&mut answer).context("read the answer")?;
        match answer.trim().to_ascii_lowercase().as_str() {
            "y" | "yes" => Ok(()),
            _ => anyhow::bail!("not confirmed; nothing was changed"),
        }
    }
}

/// A password from a file, from standard input (`-`) or from the terminal, asked for twice. Line ends at its end do not
/// count, as restic has it.
///
/// # Errors
/// When it cannot be read, is empty, or the two differ.
pub fn new_password(file: Option<&str>) -> anyhow::Result<String> {
    let text = match file {
        Some("-") => {
            std::io::read_to_string(stdin()).context("read the new password from stdin")?
        }
        Some(file) => std::fs::read_to_string(file)
            .with_context(|| format!("read the new password from {file}"))?,
        None => {
            let terminal = Term::stderr();
            if !terminal.is_term() || !stdin().is_terminal() {
                let hint =
                    "name a file that holds it with --new-password-file, or - for standard input";
                return Err(
                    Advice::new("there is no terminal to ask for the new password", hint).into()
                );
            }
            let ask = |what: &str| {
                terminal.write_str(what)?;
                terminal.read_secure_line()
            };
            let first = ask("New password: ").context("read the new password")?;
            let second = ask("The same again: ").context("read the new password")?;
            anyhow::ensure!(first == second, "the two passwords differ; nothing was changed");
            first
        }
    };
    let password = text.trim_end_matches(['\n', '\r']);
    anyhow::ensure!(!password.is_empty(), "the new password is empty; nothing was changed");
    Ok(password.to_owned())
}

/// A part of what a long operation answers.
pub enum Answer<S> {
    /// How far it is.
    Progress(Progress),
    /// The end.
    Summary(S),
}

impl<S> Answer<S> {
    /// Of an answer that has a field for the progress, and is the result when that is empty.
    pub fn new(progress: Option<Progress>, summary: S) -> Self {
        progress.map_or(Self::Summary(summary), Self::Progress)
    }
}

/// Reads the answers of a long operation to their end, and shows how far it is. Dropping the future stops the operation.
///
/// # Errors
/// When the operation fails, ends without a result, or is not heard of for long.
pub async fn follow<T, S>(
    answers: Streaming<T>,
    quiet: bool,
    read: impl Fn(T) -> Option<Answer<S>>,
) -> anyhow::Result<S> {
    let mut meter = Meter::new(quiet);
    let result = |answer| match read(answer)? {
        Answer::Progress(progress) => {
            meter.update(&progress);
            None
        }
        Answer::Summary(summary) => Some(summary),
    };
    let end = grpc::last(&Clock::real(), answers, result).await;
    meter.finish();
    Ok(end?)
}

/// Shows how far a long operation is: a bar on a terminal, plain lines elsewhere, nothing when quiet.
pub enum Meter {
    /// Nothing.
    Quiet,
    /// Lines: when the last was, and of which step.
    Lines(Option<(Instant, String)>),
    /// A bar.
    Bar(ProgressBar),
}

impl Meter {
    /// As the terminal and `--quiet` ask for.
    pub fn new(quiet: bool) -> Self {
        if quiet {
            return Self::Quiet;
        }
        if !stderr().is_terminal() {
            return Self::Lines(None);
        }
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        bar.enable_steady_tick(TICK);
        Self::Bar(bar)
    }

    /// Shows this.
    pub fn update(&mut self, progress: &Progress) {
        match self {
            Self::Quiet => {}
            Self::Lines(last) => {
                let now = Instant::now();
                let due = last.as_ref().is_none_or(|(at, step)| {
                    *step != progress.step || now.duration_since(*at) >= LINE_EVERY
                });
                if due {
                    eprintln!("{}", line(progress));
                    *last = Some((now, progress.step.clone()));
                }
            }
            Self::Bar(bar) => {
                let known = progress.total > 0;
                let template = if known {
                    "{spinner:.cyan} {msg} [{bar:28.cyan/blue}] {percent:>3}%"
                } else {
                    "{spinner:.cyan} {msg}"
                };
                let style = ProgressStyle::with_template(template);
                let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
                bar.set_style(style.progress_chars("━╸─"));
                if known {
                    bar.set_length(progress.total);
                    bar.set_position(progress.done.min(progress.total));
                }
                bar.set_message(line(progress));
            }
        }
    }

    /// Removes the bar.
    pub fn finish(&self) {
        if let Self::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
}

/// `repack: 12.0 MiB of 96.0 MiB`
fn line(progress: &Progress) -> String {
    let Progress { step, done, total, bytes } = progress;
    let number = |n: u64| if *bytes { figures::bytes(n) } else { figures::count(n) };
    match total {
        0 if *done == 0 => step.clone(),
        0 => format!("{step}: {}", number(*done)),
        total => format!("{step}: {} of {}", number(*done), number(*total)),
    }
}

/// Prints the result of an operation: for programs as it is, for people as `text`, by name as `names`.
///
/// # Errors
/// As [`output::print`].
pub fn print<T: Serialize>(
    global: &GlobalArgs,
    result: &T,
    names: &[String],
    text: impl FnOnce() -> String,
) -> anyhow::Result<()> {
    output::print(&match global.output {
        Format::Table | Format::Wide => text(),
        Format::Json => output::json(result)?,
        Format::Yaml => output::yaml(result)?,
        Format::Name => names.iter().map(|name| format!("{name}\n")).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let progress =
            |done, total, bytes| line(&Progress { step: "repack".to_owned(), done, total, bytes });
        assert_eq!(progress(0, 0, false), "repack");
        assert_eq!(progress(5, 0, false), "repack: 5");
        assert_eq!(progress(1234, 5678, false), "repack: 1,234 of 5,678");
        assert_eq!(progress(3 << 20, 6 << 20, true), "repack: 3.0 MiB of 6.0 MiB");
    }

    #[test]
    fn without_a_terminal_only_yes_will_do() {
        ConfirmArgs { yes: true }.confirm("Delete?").unwrap();
        if !stdin().is_terminal() {
            let ask = ConfirmArgs::default();
            for (answer, can_try) in
                [(ask.confirm("Delete?"), false), (ask.confirm_or_try("Delete?"), true)]
            {
                let report = crate::errors::report(&answer.unwrap_err());
                assert!(report.contains("--yes"), "{report}");
                assert_eq!(report.contains("--dry-run"), can_try, "{report}");
            }
        }
    }

    #[test]
    fn line_ends_are_no_part_of_a_password() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("password");
        let path = file.to_str().unwrap();
        std::fs::write(&file, "  se cret \r\n").unwrap();
        assert_eq!(new_password(Some(path)).unwrap(), "  se cret ");
        std::fs::write(&file, "\n").unwrap();
        assert!(new_password(Some(path)).unwrap_err().to_string().contains("empty"));
        assert!(new_password(Some("/nowhere")).is_err());
    }
}
