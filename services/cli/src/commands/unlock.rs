//! `coffer unlock`: removes locks that somebody left behind.
use std::process::ExitCode;

use anyhow::Context;
use coffer_proto::storage::v1::UnlockRequest;
use serde::Serialize;

use crate::{
    args::GlobalArgs,
    client::Cluster,
    figures, maintenance,
    maintenance::{ConfirmArgs, LockArgs},
};

const AFTER_HELP: &str = "\
Examples:
  coffer unlock orders             locks whose holder is gone
  coffer unlock orders --all       every lock, also of a backup that is running

A lock is stale when it was not refreshed for half an hour, or its process is known to be gone.";

/// Flags of `coffer unlock`.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct Args {
    /// Repository, NAME or NAMESPACE/NAME
    repository: String,
    /// Remove every lock, whoever holds it
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    confirm: ConfirmArgs,
}

/// What is printed.
#[derive(Debug, Serialize)]
struct Unlocked {
    removed: u32,
}

/// Runs the verb.
///
/// # Errors
/// When it is not confirmed, or the repository cannot be unlocked.
pub async fn run(cluster: &Cluster, global: &GlobalArgs, args: Args) -> anyhow::Result<ExitCode> {
    let Args { repository, all, confirm } = args;
    let repository = maintenance::repository(cluster, &repository, LockArgs::default());
    let shown = maintenance::shown(&repository);
    if all {
        let question = "Remove every lock, also of whoever is at work in Repository";
        confirm.confirm(&format!("{question} {shown}?"))?;
    }
    let request = UnlockRequest { repository: Some(repository), all };
    let unlocked = cluster.repositories().await?.unlock(request).await;
    let unlocked = unlocked.with_context(|| format!("unlock Repository {shown}"))?;
    let unlocked = Unlocked { removed: unlocked.into_inner().removed };
    maintenance::print(global, &unlocked, &[], || {
        format!("{} removed\n", figures::things(unlocked.removed.into(), "lock"))
    })?;
    Ok(ExitCode::SUCCESS)
}
