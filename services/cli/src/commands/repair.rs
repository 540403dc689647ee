//! `coffer repair`: what can be put right without the data that is lost.
use std::process::ExitCode;

use anyhow::Context;
use coffer_proto::storage::v1::{
    RepairIndexRequest, RepairIndexSummary, repair_index_response::Message,
};
use serde::Serialize;

use crate::{
    args::GlobalArgs,
    client::Cluster,
    figures, maintenance,
    maintenance::{Answer, LockArgs, follow},
};

const AFTER_HELP: &str = "\
Examples:
  coffer repair index orders                    from the headers of the packs that the index does not list rightly
  coffer repair index orders --read-all-packs   from those of all packs

It deletes no data. Check afterwards; the next backups store again what is missing.";

/// What to repair.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Make the index agree with the packs that are there
    #[command(after_help = AFTER_HELP)]
    Index(IndexArgs),
}

#[derive(Debug, clap::Args)]
struct IndexArgs {
    /// Repository, NAME or NAMESPACE/NAME
    repository: String,
    /// Believe no index file, and read the headers of all packs
    #[arg(long)]
    read_all_packs: bool,
    #[command(flatten)]
    lock: LockArgs,
}

/// What is printed.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Repaired {
    packs: u64,
    packs_added: u64,
    packs_dropped: u64,
    index_files_deleted: u64,
    unreadable: Vec<String>,
}

/// Runs the verb.
///
/// # Errors
/// When the repository cannot be repaired.
pub async fn run(cluster: &Cluster, global: &GlobalArgs, args: Args) -> anyhow::Result<ExitCode> {
    let What::Index(IndexArgs { repository, read_all_packs, lock }) = args.what;
    let repository = maintenance::repository(cluster, &repository, lock);
    let subject = format!("repair the index of Repository {}", maintenance::shown(&repository));
    let request = RepairIndexRequest { repository: Some(repository), read_all_packs };
    let answers = cluster.repositories().await?.repair_index(request).await;
    let answers = answers.with_context(|| subject.clone())?.into_inner();
    let summary = follow(answers, global.quiet, |answer| match answer.message? {
        Message::Progress(progress) => Some(Answer::Progress(progress)),
        Message::Summary(summary) => Some(Answer::Summary(summary)),
    });
    let RepairIndexSummary { packs, packs_added, packs_dropped, index_files_deleted, unreadable } =
        summary.await.with_context(|| subject)?;
    let repaired = Repaired { packs, packs_added, packs_dropped, index_files_deleted, unreadable };
    maintenance::print(global, &repaired, &repaired.unreadable, || text(&repaired))?;
    Ok(ExitCode::SUCCESS)
}

fn text(repaired: &Repaired) -> String {
    let mut text = String::new();
    for pack in &repaired.unreadable {
        text.push_str(&format!("unreadable: {pack}\n"));
    }
    text.push_str(&format!(
        "the index lists {} now: {} added, {} dropped, {} deleted\n",
        figures::things(repaired.packs, "pack"),
        figures::count(repaired.packs_added),
        figures::count(repaired.packs_dropped),
        figures::things(repaired.index_files_deleted, "old index file"),
    ));
    text
}
