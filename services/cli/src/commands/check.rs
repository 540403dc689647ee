//! `coffer check`: looks for damage in a repository.
use std::process::ExitCode;

use anyhow::Context;
use coffer_proto::storage::v1::{CheckRequest, CheckSummary, check_response::Message};
use serde::Serialize;

use crate::{
    args::GlobalArgs,
    client::Cluster,
    figures, maintenance,
    maintenance::{Answer, LockArgs, follow},
};

const AFTER_HELP: &str = "\
Examples:
  coffer check orders                             structure: is everything there?
  coffer check orders --read-data                 and is every byte what it was?
  coffer check orders --read-data-subset 1/7      a seventh of it, and the next one tomorrow
  coffer check orders --read-data-subset 2.5%     so much, chosen at random
  coffer check orders --read-data-subset 10G

Ends with 0 only when nothing is damaged. Backups may go on meanwhile.";

/// Flags of `coffer check`.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct Args {
    /// Repository, NAME or NAMESPACE/NAME
    repository: String,
    /// Read and verify all data
    #[arg(long, conflicts_with = "read_data_subset")]
    read_data: bool,
    /// Read and verify a part of the data: N/M, a percentage or a size
    #[arg(long, value_name = "PART")]
    read_data_subset: Option<String>,
    #[command(flatten)]
    lock: LockArgs,
}

/// What is printed.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Checked {
    ok: bool,
    errors: Vec<String>,
    notes: Vec<String>,
    snapshots: u64,
    packs: u64,
    blobs: u64,
    bytes_read: u64,
}

/// Runs the verb.
///
/// # Errors
/// When the repository cannot be looked at. Damage is code 1.
pub async fn run(cluster: &Cluster, global: &GlobalArgs, args: Args) -> anyhow::Result<ExitCode> {
    let Args { repository, read_data, read_data_subset, lock } = args;
    let repository = maintenance::repository(cluster, &repository, lock);
    let subject = format!("check Repository {}", maintenance::shown(&repository));
    let request = CheckRequest {
        repository: Some(repository),
        read_data,
        read_data_subset: read_data_subset.unwrap_or_default(),
    };
    let answers = cluster.repositories().await?.check(request).await;
    let answers = answers.with_context(|| subject.clone())?.into_inner();
    let summary = follow(answers, global.quiet, |answer| match answer.message? {
        Message::Progress(progress) => Some(Answer::Progress(progress)),
        Message::Summary(summary) => Some(Answer::Summary(summary)),
    });
    let CheckSummary { errors, snapshots, packs, bytes_read, blobs, notes } =
        summary.await.with_context(|| subject)?;
    let ok = errors.is_empty();
    let checked = Checked { ok, errors, notes, snapshots, packs, blobs, bytes_read };
    maintenance::print(global, &checked, &checked.errors, || text(&checked))?;
    Ok(if ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn text(checked: &Checked) -> String {
    let Checked { ok, errors, notes, snapshots, packs, blobs, bytes_read } = checked;
    let mut text = String::new();
    for error in errors {
        text.push_str(&format!("error: {error}\n"));
    }
    for note in notes {
        text.push_str(&format!("note: {note}\n"));
    }
    text.push_str(&format!(
        "{}, {}, {}, {} read: ",
        figures::things(*snapshots, "snapshot"),
        figures::things(*packs, "pack"),
        figures::things(*blobs, "blob"),
        figures::bytes(*bytes_read),
    ));
    match errors.len() {
        _ if *ok => text.push_str("no errors were found\n"),
        1 => text.push_str("1 error was found\n"),
        count => text.push_str(&format!("{count} errors were found\n")),
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_found() {
        let sound = Checked {
            ok: true,
            errors: Vec::new(),
            notes: vec!["data/00/ff: no index lists it; prune will remove it".to_owned()],
            snapshots: 3,
            packs: 1234,
            blobs: 56_789,
            bytes_read: 0,
        };
        insta::assert_snapshot!(text(&sound));
        let errors = vec!["index/ff: it cannot be opened".to_owned()];
        insta::assert_snapshot!(text(&Checked { ok: false, errors, ..sound }));
    }
}
