//! `coffer migrate`: from restic's format 1 to format 2.
use std::process::ExitCode;

use anyhow::Context;
use coffer_proto::storage::v1::{MigrateRequest, MigrateSummary, migrate_response::Message};
use serde::Serialize;

use crate::{
    args::GlobalArgs,
    client::Cluster,
    maintenance,
    maintenance::{Answer, ConfirmArgs, LockArgs, follow},
};

const AFTER_HELP: &str = "\
Examples:
  coffer migrate orders
  coffer migrate orders --yes

The repository is checked first, and stays as it is if anything is wrong. New data is compressed;
what is in it is not rewritten, until `coffer prune --repack-uncompressed` does. There is no way back: restic before 0.14
cannot read the repository any more.";

/// Flags of `coffer migrate`.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct Args {
    /// Repository, NAME or NAMESPACE/NAME
    repository: String,
    #[command(flatten)]
    lock: LockArgs,
    #[command(flatten)]
    confirm: ConfirmArgs,
}

/// What is printed.
#[derive(Debug, Serialize)]
struct Migrated {
    version: u32,
    migrated: bool,
}

/// Runs the verb.
///
/// # Errors
/// When it is not confirmed, or the repository cannot be migrated.
pub async fn run(cluster: &Cluster, global: &GlobalArgs, args: Args) -> anyhow::Result<ExitCode> {
    let Args { repository, lock, confirm } = args;
    let repository = maintenance::repository(cluster, &repository, lock);
    let shown = maintenance::shown(&repository);
    confirm.confirm(&format!("Upgrade Repository {shown} to format 2? There is no way back."))?;
    let subject = format!("migrate Repository {shown}");
    let request = MigrateRequest { repository: Some(repository) };
    let answers = cluster.repositories().await?.migrate(request).await;
    let answers = answers.with_context(|| subject.clone())?.into_inner();
    let summary = follow(answers, global.quiet, |answer| match answer.message? {
        Message::Progress(progress) => Some(Answer::Progress(progress)),
        Message::Summary(summary) => Some(Answer::Summary(summary)),
    });
    let MigrateSummary { version, migrated } = summary.await.with_context(|| subject)?;
    let done = Migrated { version, migrated };
    maintenance::print(global, &done, &[], || {
        let word = if migrated { "has format" } else { "had format" };
        let when = if migrated { "now" } else { "before" };
        format!("Repository {shown} {word} {version} {when}\n")
    })?;
    Ok(ExitCode::SUCCESS)
}
