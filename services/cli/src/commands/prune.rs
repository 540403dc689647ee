//! `coffer prune`: frees the space of what no snapshot uses.
use std::process::ExitCode;

use anyhow::Context;
use coffer_proto::storage::v1::{
    PruneRequest, PruneSummary, RepositoryRef, prune_response::Message,
};
use serde::Serialize;

use crate::{
    args::GlobalArgs,
    client::Cluster,
    figures, maintenance,
    maintenance::{Answer, ConfirmArgs, LockArgs, follow},
};

const AFTER_HELP: &str = "\
Examples:
  coffer prune orders --dry-run             what would be freed
  coffer prune orders
  coffer prune orders --max-unused 0 --yes  free everything that is unused, whatever it costs
  coffer prune orders --max-repack-size 2G  and rewrite no more than that
  coffer prune orders --repack-uncompressed compress what `coffer migrate` left as it was

With --repack-uncompressed, data that does not shrink stays as it is, and is tried again each time.
Ctrl-C stops it: what was done is done, nothing is harmed, and the next one goes on.";

/// Flags of `coffer prune`.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct Args {
    /// Repository, NAME or NAMESPACE/NAME
    repository: String,
    /// What may stay unused: 5%, 200M or unlimited
    #[arg(long, value_name = "LIMIT", default_value = "5%")]
    max_unused: String,
    /// Rewrite at most so many bytes of packs: 500M, 2G; 0 for none, on a full disk
    #[arg(long, value_name = "SIZE", value_parser = size)]
    max_repack_size: Option<u64>,
    /// Rewrite small packs, too
    #[arg(long)]
    repack_small: bool,
    /// Rewrite packs of trees only
    #[arg(long)]
    repack_cacheable_only: bool,
    /// Rewrite packs with data that is not compressed, as a migrated repository has them
    #[arg(long)]
    repack_uncompressed: bool,
    /// Show what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    lock: LockArgs,
    #[command(flatten)]
    confirm: ConfirmArgs,
}

/// A number of bytes, or of KiB, MiB, GiB or TiB with that letter behind it.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kib" => 10,
        "m" | "mib" => 20,
        "g" | "gib" => 30,
        "t" | "tib" => 40,
        _ => return Err("write a size like 500M or 2G".to_owned()),
    };
    let number: Option<u64> = digits.parse().ok();
    number
        .and_then(|number| number.checked_mul(1 << shift))
        .ok_or_else(|| "write a size like 500M or 2G".to_owned())
}

/// What is printed.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Pruned {
    dry_run: bool,
    packs: u64,
    packs_deleted: u64,
    packs_unlisted: u64,
    packs_repacked: u64,
    bytes_freed: u64,
    bytes_repacked: u64,
    bytes_used: u64,
    bytes_unused: u64,
}

/// Runs the verb.
///
/// # Errors
/// When it is not confirmed, or the repository cannot be pruned.
pub async fn run(cluster: &Cluster, global: &GlobalArgs, args: Args) -> anyhow::Result<ExitCode> {
    let Args {
        repository,
        max_unused,
        max_repack_size,
        repack_small,
        repack_cacheable_only,
        repack_uncompressed,
        dry_run,
        lock,
        confirm,
    } = args;
    let repository = maintenance::repository(cluster, &repository, lock);
    if !dry_run {
        let shown = maintenance::shown(&repository);
        confirm
            .confirm_or_try(&format!("Delete all that no snapshot of Repository {shown} uses?"))?;
    }
    let request = PruneRequest {
        dry_run,
        max_unused,
        max_repack_bytes: max_repack_size,
        repack_small,
        repack_cacheable_only,
        repack_uncompressed,
        ..request(repository)
    };
    prune(cluster, global, request).await?;
    Ok(ExitCode::SUCCESS)
}

/// A prune with restic's defaults.
pub(crate) fn request(repository: RepositoryRef) -> PruneRequest {
    PruneRequest { repository: Some(repository), ..PruneRequest::default() }
}

/// Prunes and prints what came of it.
pub(crate) async fn prune(
    cluster: &Cluster,
    global: &GlobalArgs,
    request: PruneRequest,
) -> anyhow::Result<()> {
    let shown = request.repository.as_ref().map(maintenance::shown).unwrap_or_default();
    let subject = format!("prune Repository {shown}");
    let dry_run = request.dry_run;
    let answers = cluster.repositories().await?.prune(request).await;
    let answers = answers.with_context(|| subject.clone())?.into_inner();
    let summary = follow(answers, global.quiet, |answer| match answer.message? {
        Message::Progress(progress) => Some(Answer::Progress(progress)),
        Message::Summary(summary) => Some(Answer::Summary(summary)),
    });
    let pruned = pruned(dry_run, &summary.await.with_context(|| subject)?);
    maintenance::print(global, &pruned, &[], || text(&pruned))
}

fn pruned(dry_run: bool, summary: &PruneSummary) -> Pruned {
    let PruneSummary {
        packs_deleted,
        packs_repacked,
        bytes_freed,
        bytes_unused,
        packs,
        packs_unlisted,
        bytes_repacked,
        bytes_used,
    } = *summary;
    Pruned {
        dry_run,
        packs,
        packs_deleted,
        packs_unlisted,
        packs_repacked,
        bytes_freed,
        bytes_repacked,
        bytes_used,
        bytes_unused,
    }
}

fn text(pruned: &Pruned) -> String {
    let (delete, rewrite, free) = if pruned.dry_run {
        ("would delete", "would rewrite", "would free")
    } else {
        ("deleted", "rewrote", "freed")
    };
    let count = figures::count;
    let (bytes, things) = (figures::bytes, figures::things);
    let mut text =
        format!("{delete} {} of {}", count(pruned.packs_deleted), things(pruned.packs, "pack"));
    if pruned.packs_unlisted > 0 {
        text.push_str(&format!(" ({} that no index listed)", count(pruned.packs_unlisted)));
    }
    format!(
        "{text}\n{rewrite} {}, {} of them in use\n{free} {}; {} in use, {} unused stay\n",
        things(pruned.packs_repacked, "pack"),
        bytes(pruned.bytes_repacked),
        bytes(pruned.bytes_freed),
        bytes(pruned.bytes_used),
        bytes(pruned.bytes_unused),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(size("500M"), Ok(500 << 20));
        assert_eq!(size("2gib"), Ok(2 << 30));
        assert_eq!(size("7"), Ok(7));
        assert_eq!(size("0"), Ok(0));
        for junk in ["", "M", "-1", "5x", "1.5G", "99999999999T"] {
            assert!(size(junk).is_err(), "{junk}");
        }
    }

    #[test]
    fn what_was_pruned() {
        let summary = PruneSummary {
            packs: 1200,
            packs_deleted: 3,
            packs_unlisted: 1,
            packs_repacked: 2,
            bytes_freed: 5 << 20,
            bytes_repacked: 1 << 20,
            bytes_used: 7 << 30,
            bytes_unused: 0,
        };
        insta::assert_snapshot!(text(&pruned(false, &summary)));
        insta::assert_snapshot!(text(&pruned(true, &summary)));
    }
}
