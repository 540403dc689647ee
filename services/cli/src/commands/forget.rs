//! `coffer forget`: lets go of snapshots, by rules as `restic forget` has them, or by name.
use std::process::ExitCode;

use anyhow::Context;
use chrono::{DateTime, Utc};
use clap::builder::PossibleValue;
use coffer_proto::storage::v1::{
    DeleteSnapshotsRequest, DeleteSnapshotsResponse, ForgetGroup, ForgetRequest, ForgetResponse,
    KeepPolicy, PruneSummary, RepositoryRef, Snapshot,
};
use serde::Serialize;

use super::prune;
use crate::{
    args::GlobalArgs,
    client::Cluster,
    figures, maintenance,
    maintenance::{Answer, ConfirmArgs, LockArgs, follow},
    output::{Column, Listing},
};

const AFTER_HELP: &str = "\
Examples:
  coffer forget orders --keep-last 7 --dry-run
                                          what would go, and why the others stay
  coffer forget orders --keep-daily 7 --keep-weekly 5 --keep-yearly unlimited --prune
  coffer forget orders --keep-within 2y5m7d3h --host db-1
  coffer forget orders 1a2b3c4d 5e6f7a8b --yes
                                          these two

Rules count in each group by itself: snapshots of one host with the same paths, unless --group-by says otherwise.
What is forgotten still takes its space until it is pruned.";

/// Flags of `coffer forget`.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct Args {
    /// Repository, NAME or NAMESPACE/NAME
    repository: String,
    /// Snapshots to forget, by id or its beginning; rules otherwise
    #[arg(value_name = "SNAPSHOT", conflicts_with = "rules", required_unless_present = "rules")]
    snapshots: Vec<String>,
    /// Only snapshots of this host count; may be repeated for others
    #[arg(long = "host", value_name = "HOST", conflicts_with = "snapshots")]
    hosts: Vec<String>,
    /// Only snapshots with this path count
    #[arg(long, conflicts_with = "snapshots")]
    path: Option<String>,
    /// Only snapshots with all tags of TAG,TAG count, "" for those without any; may be repeated for others
    #[arg(long = "tag", value_name = "TAG,TAG", conflicts_with = "snapshots")]
    tags: Vec<String>,
    /// What makes a group
    #[arg(long, value_delimiter = ',', value_parser = group_names(), conflicts_with = "snapshots",
          value_name = "HOST,PATHS,TAGS")]
    group_by: Vec<String>,
    /// Free the space, too
    #[arg(long)]
    prune: bool,
    /// Show what would be done, and do nothing
    #[arg(long, conflicts_with = "snapshots")]
    dry_run: bool,
    #[command(flatten)]
    lock: LockArgs,
    #[command(flatten)]
    confirm: ConfirmArgs,
    // The last, since its heading holds for all that follows.
    #[command(flatten)]
    keep: Keep,
}

/// The keep rules.
#[derive(Clone, Debug, Default, clap::Args)]
#[group(id = "rules", multiple = true)]
#[command(next_help_heading = "Rules")]
struct Keep {
    /// Keep the newest N
    #[arg(long, value_name = "N", value_parser = count)]
    keep_last: Option<u32>,
    /// Keep the newest of each of the last N hours that have one; unlimited for all
    #[arg(long, value_name = "N", value_parser = count)]
    keep_hourly: Option<u32>,
    /// The same for days
    #[arg(long, value_name = "N", value_parser = count)]
    keep_daily: Option<u32>,
    /// The same for weeks
    #[arg(long, value_name = "N", value_parser = count)]
    keep_weekly: Option<u32>,
    /// The same for months
    #[arg(long, value_name = "N", value_parser = count)]
    keep_monthly: Option<u32>,
    /// The same for years
    #[arg(long, value_name = "N", value_parser = count)]
    keep_yearly: Option<u32>,
    /// Keep all within a span before the newest: 2y5m7d3h
    #[arg(long, value_name = "SPAN")]
    keep_within: Option<String>,
    /// Keep the newest of each hour within that span
    #[arg(long, value_name = "SPAN")]
    keep_within_hourly: Option<String>,
    /// The same for days
    #[arg(long, value_name = "SPAN")]
    keep_within_daily: Option<String>,
    /// The same for weeks
    #[arg(long, value_name = "SPAN")]
    keep_within_weekly: Option<String>,
    /// The same for months
    #[arg(long, value_name = "SPAN")]
    keep_within_monthly: Option<String>,
    /// The same for years
    #[arg(long, value_name = "SPAN")]
    keep_within_yearly: Option<String>,
    /// Keep those with all tags of TAG,TAG, "" for those without any; may be repeated for others
    #[arg(long = "keep-tag", value_name = "TAG,TAG")]
    keep_tags: Vec<String>,
}

fn count(text: &str) -> Result<u32, String> {
    match text {
        "unlimited" => Ok(u32::MAX),
        text => text.parse().map_err(|_| "write a number, or unlimited".to_owned()),
    }
}

impl From<Keep> for KeepPolicy {
    fn from(keep: Keep) -> Self {
        let Keep {
            keep_last,
            keep_hourly,
            keep_daily,
            keep_weekly,
            keep_monthly,
            keep_yearly,
            keep_within,
            keep_within_hourly,
            keep_within_daily,
            keep_within_weekly,
            keep_within_monthly,
            keep_within_yearly,
            keep_tags,
        } = keep;
        Self {
            last: keep_last.unwrap_or_default(),
            hourly: keep_hourly.unwrap_or_default(),
            daily: keep_daily.unwrap_or_default(),
            weekly: keep_weekly.unwrap_or_default(),
            monthly: keep_monthly.unwrap_or_default(),
            yearly: keep_yearly.unwrap_or_default(),
            tags: keep_tags,
            within: keep_within.unwrap_or_default(),
            within_hourly: keep_within_hourly.unwrap_or_default(),
            within_daily: keep_within_daily.unwrap_or_default(),
            within_weekly: keep_within_weekly.unwrap_or_default(),
            within_monthly: keep_within_monthly.unwrap_or_default(),
            within_yearly: keep_within_yearly.unwrap_or_default(),
        }
    }
}

/// A snapshot and what becomes of it.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    action: &'static str,
    id: String,
    time: Option<DateTime<Utc>>,
    host: String,
    paths: Vec<String>,
    tags: Vec<String>,
    reasons: Vec<String>,
}

const COLUMNS: &[Column<Row>] = &[
    Column { header: "ACTION", wide: false, cell: |row| row.action.to_owned() },
    Column { header: "ID", wide: false, cell: |row| row.id.get(..8).unwrap_or(&row.id).to_owned() },
    Column {
        header: "TIME",
        wide: false,
        cell: |row| row.time.map(figures::instant).unwrap_or_default(),
    },
    Column { header: "HOST", wide: false, cell: |row| row.host.clone() },
    Column { header: "PATHS", wide: false, cell: |row| row.paths.join(",") },
    Column { header: "TAGS", wide: true, cell: |row| row.tags.join(",") },
    Column { header: "REASONS", wide: false, cell: |row| row.reasons.join(", ") },
    Column { header: "FULL-ID", wide: true, cell: |row| row.id.clone() },
];

/// Empty is how restic writes `none`.
fn group_names() -> [PossibleValue; 5] {
    let names = ["host", "paths", "tags", "none", ""].map(PossibleValue::new);
    names.map(|name| if name.get_name().is_empty() { name.hide(true) } else { name })
}

/// Runs the verb.
///
/// # Errors
/// When it is not confirmed, or the repository cannot be changed.
pub async fn run(cluster: &Cluster, global: &GlobalArgs, args: Args) -> anyhow::Result<ExitCode> {
    let repository = maintenance::repository(cluster, &args.repository, args.lock);
    if !args.snapshots.is_empty() {
        return delete(cluster, global, repository, args).await;
    }
    let Args { keep, hosts, path, tags, group_by, prune, dry_run, confirm, .. } = args;
    let subject = format!("forget snapshots of Repository {}", maintenance::shown(&repository));
    let (host, hosts) = maintenance::hosts(hosts);
    // As restic has it, "" is one group of all.
    let named = |name: String| if name.is_empty() { "none".to_owned() } else { name };
    let group_by = group_by.into_iter().map(named).collect();
    let request = ForgetRequest {
        repository: Some(repository),
        keep: Some(keep.into()),
        prune,
        dry_run: true,
        host,
        hosts,
        path: path.unwrap_or_default(),
        tags,
        group_by,
    };
    let plan = forget(cluster, global, request.clone()).await.with_context(|| subject.clone())?;
    let (going, staying) = (plan.removed.len(), plan.kept.len());
    let done = if dry_run || going == 0 {
        plan
    } else {
        let going = figures::things(going as u64, "snapshot");
        confirm.confirm_or_try(&format!("Forget {going} and keep {staying}?"))?;
        let request = ForgetRequest { dry_run: false, ..request };
        forget(cluster, global, request).await.with_context(|| subject)?
    };
    let ForgetResponse { groups, pruned, .. } = done;
    let rows = rows(groups);
    let name = |row: &Row| format!("snapshot/{}", row.id);
    Listing { rows: &rows, columns: COLUMNS, name, empty: "No snapshots." }.print(global.output)?;
    if !global.quiet {
        let word = if dry_run { "Would forget" } else { "Forgot" };
        let all = figures::things((going + staying) as u64, "snapshot");
        eprintln!("{word} {going} of {all}.");
        if let Some(PruneSummary { bytes_freed, .. }) = pruned {
            eprintln!("Pruning freed {}.", figures::bytes(bytes_freed));
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn forget(
    cluster: &Cluster,
    global: &GlobalArgs,
    request: ForgetRequest,
) -> anyhow::Result<ForgetResponse> {
    let answers = cluster.repositories().await?.forget(request).await?.into_inner();
    let read = |mut answer: ForgetResponse| Some(Answer::new(answer.progress.take(), answer));
    follow(answers, global.quiet, read).await
}

async fn delete(
    cluster: &Cluster,
    global: &GlobalArgs,
    repository: RepositoryRef,
    args: Args,
) -> anyhow::Result<ExitCode> {
    let Args { snapshots: ids, prune, confirm, .. } = args;
    let shown = maintenance::shown(&repository);
    confirm.confirm(&format!("Forget {} of Repository {shown}?", ids.join(", ")))?;
    let subject = format!("forget snapshots of Repository {shown}");
    let request = DeleteSnapshotsRequest { repository: Some(repository.clone()), ids };
    let answers = cluster.repositories().await?.delete_snapshots(request).await;
    let answers = answers.with_context(|| subject.clone())?.into_inner();
    let read =
        |mut answer: DeleteSnapshotsResponse| Some(Answer::new(answer.progress.take(), answer));
    let deleted = follow(answers, global.quiet, read).await.with_context(|| subject)?.deleted;
    let names: Vec<String> = deleted.iter().map(|id| format!("snapshot/{id}")).collect();
    let text = || deleted.iter().map(|id| format!("snapshot {id} forgotten\n")).collect();
    maintenance::print(global, &deleted, &names, text)?;
    if prune {
        prune::prune(cluster, global, prune::request(repository)).await?;
    }
    Ok(ExitCode::SUCCESS)
}

fn rows(groups: Vec<ForgetGroup>) -> Vec<Row> {
    let row = |action, snapshot: Snapshot, reasons| {
        let Snapshot { id, time, paths, hostname: host, tags, .. } = snapshot;
        let time = time.and_then(|time| {
            DateTime::from_timestamp(time.seconds, u32::try_from(time.nanos).ok()?)
        });
        Row { action, id, time, host, paths, tags, reasons }
    };
    let groups = groups.into_iter().map(|group| {
        let kept = group.kept.into_iter().filter_map(|kept| Some((kept.snapshot?, kept.reasons)));
        let kept = kept.map(|(snapshot, reasons)| row("keep", snapshot, reasons));
        let removed = group.removed.into_iter();
        let removed = removed.map(|snapshot| row("forget", snapshot, Vec::new()));
        let mut rows: Vec<Row> = kept.chain(removed).collect();
        rows.sort_by(|a, b| (b.time, &a.id).cmp(&(a.time, &b.id)));
        rows
    });
    groups.flatten().collect()
}

#[cfg(test)]
mod tests {
    use coffer_proto::storage::v1::KeptSnapshot;

    use super::*;
    use crate::args::Format;

    #[test]
    fn the_table() {
        let snapshot = |id: &str, seconds| Snapshot {
            id: id.to_owned(),
            time: Some(prost_types::Timestamp { seconds, nanos: 0 }),
            hostname: "host-0".to_owned(),
            paths: vec!["/dump.rdb".to_owned()],
            ..Snapshot::default()
        };
        let kept = |id, seconds, reason: &str| KeptSnapshot {
            snapshot: Some(snapshot(id, seconds)),
            reasons: vec![reason.to_owned()],
        };
        let group = ForgetGroup {
            kept: vec![
                kept("1a2b3c4d5e", 1_700_000_000, "last snapshot"),
                kept("0f0f0f0f0f", 1_600_000_000, "oldest yearly snapshot"),
            ],
            removed: vec![snapshot("99aa99aa99", 1_650_000_000)],
            ..ForgetGroup::default()
        };
        let rows = rows(vec![group]);
        let name = |row: &Row| row.id.clone();
        let listing = Listing { rows: &rows, columns: COLUMNS, name, empty: "" };
        insta::assert_snapshot!(listing.render(Format::Table).unwrap());
        insta::assert_snapshot!(listing.render(Format::Yaml).unwrap());
    }
}
