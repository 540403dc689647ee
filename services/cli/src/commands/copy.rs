//! `coffer copy`: copies snapshots from one repository to another.
use std::process::ExitCode;

use anyhow::Context;
use coffer_proto::storage::v1::{CopyRequest, CopySummary, InitRequest, copy_response::Message};
use serde::Serialize;

use crate::{
    args::GlobalArgs,
    client::Cluster,
    figures, maintenance,
    maintenance::{Answer, LockArgs, follow},
};

const AFTER_HELP: &str = "\
Examples:
  coffer copy orders offsite/orders             all snapshots that are not there yet
  coffer copy orders offsite/orders 1a2b3c4d    one of them
  coffer copy orders offsite/orders --init      and make the target where there is none

Data that the target has is not sent again, and a snapshot that was copied is skipped. Ctrl-C stops it; snapshots whose
copy is complete stay.";

/// Flags of `coffer copy`.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct Args {
    /// Repository to copy from, NAME or NAMESPACE/NAME
    from: String,
    /// Repository to copy to, NAME or NAMESPACE/NAME
    to: String,
    /// Snapshots, by id or its beginning; all when absent
    #[arg(value_name = "SNAPSHOT")]
    snapshots: Vec<String>,
    /// Make the target's repository if there is none
    #[arg(long)]
    init: bool,
    #[command(flatten)]
    lock: LockArgs,
}

/// What is printed.
#[derive(Debug, Serialize)]
struct Done {
    copied: Vec<Pair>,
    skipped: Vec<String>,
    blobs: u64,
    bytes: u64,
}

#[derive(Debug, Serialize)]
struct Pair {
    from: String,
    to: String,
}

/// Runs the verb.
///
/// # Errors
/// When a snapshot cannot be copied.
pub async fn run(cluster: &Cluster, global: &GlobalArgs, args: Args) -> anyhow::Result<ExitCode> {
    let Args { from, to, snapshots: ids, init, lock } = args;
    let (from, to) = (
        maintenance::repository(cluster, &from, lock),
        maintenance::repository(cluster, &to, lock),
    );
    let mut client = cluster.repositories().await?;
    if init {
        let request = InitRequest { repository: Some(to.clone()) };
        let made = client.init(request).await;
        made.with_context(|| format!("initialise Repository {}", maintenance::shown(&to)))?;
    }
    let (source, target) = (maintenance::shown(&from), maintenance::shown(&to));
    let subject = format!("copy Repository {source} to {target}");
    let request = CopyRequest { from: Some(from), to: Some(to), ids };
    let answers = client.copy(request).await.with_context(|| subject.clone())?.into_inner();
    let summary = follow(answers, global.quiet, |answer| match answer.message? {
        Message::Progress(progress) => Some(Answer::Progress(progress)),
        Message::Summary(summary) => Some(Answer::Summary(summary)),
    });
    let CopySummary { copied, bytes, copies, skipped, blobs } =
        summary.await.with_context(|| subject)?;
    let copied = copied.into_iter().zip(copies).map(|(from, to)| Pair { from, to }).collect();
    let done = Done { copied, skipped, blobs, bytes };
    let names: Vec<String> =
        done.copied.iter().map(|pair| format!("snapshot/{}", pair.to)).collect();
    maintenance::print(global, &done, &names, || text(&done))?;
    Ok(ExitCode::SUCCESS)
}

fn text(done: &Done) -> String {
    let short = |id: &str| id.get(..8).unwrap_or(id).to_owned();
    let mut text = String::new();
    for Pair { from, to } in &done.copied {
        text.push_str(&format!("{} copied as {}\n", short(from), short(to)));
    }
    text.push_str(&format!(
        "{} copied, {} there before; {} {} {}\n",
        figures::things(done.copied.len() as u64, "snapshot"),
        figures::count(done.skipped.len() as u64),
        figures::things(done.blobs, "new blob"),
        if done.blobs == 1 { "takes" } else { "take" },
        figures::bytes(done.bytes),
    ));
    text
}
