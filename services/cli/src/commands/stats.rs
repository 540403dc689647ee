//! `coffer stats`: how much is in a repository, and how much room it takes.
use std::process::ExitCode;

use anyhow::Context;
use coffer_proto::storage::v1::{StatsRequest, StatsResponse};
use serde::Serialize;

use crate::{
    args::GlobalArgs,
    client::Cluster,
    figures, maintenance,
    maintenance::{Answer, LockArgs, follow},
};

const AFTER_HELP: &str = "\
Examples:
  coffer stats orders
  coffer stats orders --host db-1 -o json

The restore size is what restoring every snapshot would write; the raw size, what their data takes in the repository.";

/// Flags of `coffer stats`.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct Args {
    /// Repository, NAME or NAMESPACE/NAME
    repository: String,
    /// Only snapshots of this host; may be repeated for others
    #[arg(long = "host", value_name = "HOST")]
    hosts: Vec<String>,
    /// Only snapshots with this path
    #[arg(long)]
    path: Option<String>,
    /// Only snapshots with all tags of TAG,TAG, "" for those without any; may be repeated for others
    #[arg(long = "tag", value_name = "TAG,TAG")]
    tags: Vec<String>,
    #[command(flatten)]
    lock: LockArgs,
}

/// What is printed.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Stats {
    repository_id: String,
    version: u32,
    snapshots: u64,
    files: u64,
    restore_size: u64,
    blobs: u64,
    uncompressed_size: u64,
    raw_size: u64,
    packs: u64,
}

/// Runs the verb.
///
/// # Errors
/// When the repository cannot be read.
pub async fn run(cluster: &Cluster, global: &GlobalArgs, args: Args) -> anyhow::Result<ExitCode> {
    let Args { repository, hosts, path, tags, lock } = args;
    let (host, hosts) = maintenance::hosts(hosts);
    let repository = maintenance::repository(cluster, &repository, lock);
    let subject = format!("measure Repository {}", maintenance::shown(&repository));
    let request = StatsRequest {
        repository: Some(repository),
        host,
        hosts,
        path: path.unwrap_or_default(),
        tags,
    };
    let answers = cluster.repositories().await?.stats(request).await;
    let answers = answers.with_context(|| subject.clone())?.into_inner();
    let stats = follow(answers, global.quiet, |mut answer: StatsResponse| {
        Some(Answer::new(answer.progress.take(), answer))
    });
    let StatsResponse {
        snapshots,
        total_size,
        blobs,
        packs,
        repository_id,
        version,
        uncompressed_size,
        restore_size,
        files,
        progress: _,
    } = stats.await.with_context(|| subject)?;
    let stats = Stats {
        repository_id,
        version,
        snapshots,
        files,
        restore_size,
        blobs,
        uncompressed_size,
        raw_size: total_size,
        packs,
    };
    maintenance::print(global, &stats, &[], || text(&stats))?;
    Ok(ExitCode::SUCCESS)
}

#[allow(clippy::cast_precision_loss, reason = "two digits are shown")]
fn text(stats: &Stats) -> String {
    let ratio = |of: u64, over: u64| {
        if over == 0 { String::new() } else { format!(" ({:.2}x)", of as f64 / over as f64) }
    };
    let rows = [
        ("repository", format!("{}, format {}", stats.repository_id, stats.version)),
        (
            "snapshots",
            format!(
                "{} with {}",
                figures::count(stats.snapshots),
                figures::things(stats.files, "file")
            ),
        ),
        ("restore size", figures::bytes(stats.restore_size)),
        (
            "deduplicated",
            format!(
                "{} in {}{}",
                figures::bytes(stats.uncompressed_size),
                figures::things(stats.blobs, "blob"),
                ratio(stats.restore_size, stats.uncompressed_size)
            ),
        ),
        (
            "raw size",
            format!(
                "{}{}; {} in all",
                figures::bytes(stats.raw_size),
                ratio(stats.uncompressed_size, stats.raw_size),
                figures::things(stats.packs, "pack")
            ),
        ),
    ];
    rows.iter().map(|(name, value)| format!("{name:<14}{value}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_for_people() {
        let stats = Stats {
            repository_id: "1a2b".to_owned(),
            version: 2,
            snapshots: 1200,
            files: 2400,
            restore_size: 9 << 30,
            blobs: 4321,
            uncompressed_size: 3 << 30,
            raw_size: 1 << 30,
            packs: 70,
        };
        insta::assert_snapshot!(text(&stats));
    }
}
