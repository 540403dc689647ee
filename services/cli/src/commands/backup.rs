//! `coffer backup`: an instant backup, watched to its end.
use std::process::ExitCode;

use anyhow::Context;
use coffer_proto::orchestrator::v1::TriggerBackupRequest;

use crate::{
    args::GlobalArgs,
    client::Cluster,
    session::{self, WaitArgs},
};

const AFTER_HELP: &str = "\
Examples:
  coffer backup orders                      back up now, and watch
  coffer backup orders -n demo --no-wait    only start it
  coffer backup orders -q -o json           for scripts: nothing but the outcome
  coffer backup shop --batch                all members of a BackupBatch

Ends with 0 only when the backup succeeded. Ctrl-C stops watching; the backup goes on.";

/// Flags of `coffer backup`.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct Args {
    /// BackupConfiguration, or with --batch a BackupBatch
    name: String,
    /// The name is that of a BackupBatch
    #[arg(long)]
    batch: bool,
    #[command(flatten)]
    wait: WaitArgs,
}

/// Runs the verb.
///
/// # Errors
/// When the backup cannot be started or watched, or did not succeed.
pub async fn run(cluster: &Cluster, global: &GlobalArgs, args: Args) -> anyhow::Result<ExitCode> {
    let Args { name, batch, wait } = args;
    let mut client = cluster.sessions().await?;
    let subject = format!("start a backup of {}/{name}", cluster.namespace);
    let (backup_configuration, backup_batch) =
        if batch { (String::new(), name) } else { (name, String::new()) };
    let request = TriggerBackupRequest {
        namespace: cluster.namespace.clone(),
        backup_configuration,
        backup_batch,
        request_id: session::request_id(),
    };
    let response = client.trigger_backup(request).await.with_context(|| subject.clone())?;
    let started = response.into_inner().session;
    let started =
        started.with_context(|| format!("{subject}: the orchestrator names no session"))?;
    session::conclude(&mut client, started, &wait, global.output, global.quiet).await
}
