//! The requests and answers of `Repositories` that look after a repository.

use super::{filter, snapshot, tag_lists, timestamp};
use crate::repositories::At;
use crate::{maintain, restore};
use coffer_proto::storage::v1 as proto;
use coffer_restic as restic;
use tonic::Status;

/// What the engine refuses to read.
fn invalid(field: &str) -> impl Fn(restic::Error) -> Status {
    let field = field.to_owned();
    move |error| Status::invalid_argument(format!("{field}: {}", error.chain()))
}

/// Snapshots that are to go are named by id: what `latest` is may have changed since it was said.
pub(crate) fn named(ids: &[String]) -> Result<(), Status> {
    if ids.is_empty() || ids.iter().any(|id| id == "latest") {
        return Err(Status::invalid_argument("ids must name snapshots by id"));
    }
    Ok(())
}

pub(crate) fn forget(request: proto::ForgetRequest) -> Result<maintain::Forget, Status> {
    let proto::ForgetRequest {
        repository: _,
        keep,
        prune,
        dry_run,
        host,
        hosts,
        path,
        tags,
        group_by: by,
    } = request;
    Ok(maintain::Forget {
        filter: filter(host, hosts, path, &tags),
        group_by: group_by(&by)?,
        policy: keep_policy(keep)?,
        prune,
        dry_run,
        observer: restic::Observer::default(),
    })
}

fn group_by(names: &[String]) -> Result<restic::GroupBy, Status> {
    if names.is_empty() {
        return Ok(restic::GroupBy::default());
    }
    let mut by = restic::GroupBy { host: false, paths: false, tags: false };
    for name in names {
        match name.as_str() {
            "host" => by.host = true,
            "paths" => by.paths = true,
            "tags" => by.tags = true,
            "none" => {}
            other => {
                let problem = format!("group_by {other:?} is none of host, paths, tags and none");
                return Err(Status::invalid_argument(problem));
            }
        }
    }
    Ok(by)
}

fn keep_policy(policy: Option<proto::KeepPolicy>) -> Result<restic::KeepPolicy, Status> {
    let proto::KeepPolicy {
        last,
        hourly,
        daily,
        weekly,
        monthly,
        yearly,
        tags,
        within,
        within_hourly,
        within_daily,
        within_weekly,
        within_monthly,
        within_yearly,
    } = policy.unwrap_or_default();
    let span =
        |text: String, name: &str| text.parse::<restic::forget::Within>().map_err(invalid(name));
    let policy = restic::KeepPolicy {
        last,
        hourly,
        daily,
        weekly,
        monthly,
        yearly,
        within: span(within, "keep.within")?,
        within_hourly: span(within_hourly, "keep.within_hourly")?,
        within_daily: span(within_daily, "keep.within_daily")?,
        within_weekly: span(within_weekly, "keep.within_weekly")?,
        within_monthly: span(within_monthly, "keep.within_monthly")?,
        within_yearly: span(within_yearly, "keep.within_yearly")?,
        tags: tag_lists(&tags),
        keep_oldest: true,
    };
    if policy.is_empty() {
        return Err(Status::invalid_argument(
            "the retention policy has no keep rule; set one of keepLast, keepHourly, keepDaily, keepWeekly, keepMonthly, \
             keepYearly, keepTags, or a span to keep within",
        ));
    }
    Ok(policy)
}

pub(crate) fn forgotten(forgotten: maintain::Forgotten) -> proto::ForgetResponse {
    let maintain::Forgotten { summary, pruned } = forgotten;
    let restic::ForgetSummary { groups, removed } = summary;
    let kept = groups.iter().flat_map(|group| &group.keep);
    proto::ForgetResponse {
        kept: kept.map(|kept| kept.snapshot.id.to_string()).collect(),
        removed: removed.iter().map(ToString::to_string).collect(),
        groups: groups.into_iter().map(group).collect(),
        pruned: pruned.as_ref().map(prune_summary),
        progress: None,
    }
}

fn group(group: restic::forget::Group) -> proto::ForgetGroup {
    let restic::forget::Group { key, keep, remove } = group;
    let restic::GroupKey { host, paths, tags } = key;
    let kept = keep.into_iter().map(|kept| {
        let restic::forget::Kept { snapshot: which, reasons } = kept;
        proto::KeptSnapshot { snapshot: Some(snapshot(which, Vec::new())), reasons }
    });
    proto::ForgetGroup {
        host,
        paths: paths.unwrap_or_default(),
        tags: tags.unwrap_or_default(),
        kept: kept.collect(),
        removed: remove.into_iter().map(|which| snapshot(which, Vec::new())).collect(),
    }
}

pub(crate) fn prune(request: proto::PruneRequest) -> Result<restic::prune::Options, Status> {
    let proto::PruneRequest {
        repository: _,
        dry_run,
        max_unused_percent,
        max_repack_bytes,
        max_unused,
        repack_small,
        repack_cacheable_only,
        repack_uncompressed,
    } = request;
    let max_unused = match (max_unused.as_str(), max_unused_percent) {
        ("", None) => restic::prune::MaxUnused::default(),
        ("", Some(percent)) if (0.0..=100.0).contains(&percent) => {
            restic::prune::MaxUnused::Percent(percent)
        }
        ("", Some(_)) => {
            return Err(Status::invalid_argument("max_unused_percent is not within 0 and 100"));
        }
        (text, None) => text.parse::<restic::prune::MaxUnused>().map_err(invalid("max_unused"))?,
        (_, Some(_)) => {
            return Err(Status::invalid_argument("set max_unused or max_unused_percent, not both"));
        }
    };
    Ok(restic::prune::Options {
        max_unused,
        max_repack_bytes,
        repack_small,
        repack_cacheable_only,
        repack_uncompressed,
        dry_run,
        ..restic::prune::Options::default()
    })
}

pub(crate) fn pruned(summary: &restic::prune::Summary) -> proto::PruneResponse {
    let message = proto::prune_response::Message::Summary(prune_summary(summary));
    proto::PruneResponse { message: Some(message) }
}

fn prune_summary(summary: &restic::prune::Summary) -> proto::PruneSummary {
    let restic::prune::Summary {
        packs,
        packs_deleted,
        packs_unlisted,
        packs_repacked,
        bytes_deleted,
        bytes_repacked,
        bytes_used,
        bytes_unused,
    } = *summary;
    let bytes_freed = bytes_deleted.saturating_sub(bytes_repacked);
    proto::PruneSummary {
        packs_deleted,
        packs_repacked,
        bytes_freed,
        bytes_unused,
        packs,
        packs_unlisted,
        bytes_repacked,
        bytes_used,
    }
}

pub(crate) fn check(request: proto::CheckRequest) -> Result<restic::check::Options, Status> {
    let proto::CheckRequest { repository: _, read_data, read_data_subset } = request;
    let subset = read_data_subset.parse::<restic::check::Subset>();
    let subset = subset.map_err(invalid("read_data_subset"))?;
    // Who names a part wants it read.
    let read_data = read_data || !read_data_subset.is_empty();
    Ok(restic::check::Options { read_data, subset, observer: restic::Observer::default() })
}

pub(crate) fn checked(report: &restic::check::Report) -> proto::CheckResponse {
    let summary = proto::CheckSummary {
        errors: report.problems.iter().map(ToString::to_string).collect(),
        snapshots: report.snapshots,
        packs: report.packs,
        bytes_read: report.bytes_read,
        blobs: report.blobs,
        notes: report.notes.iter().map(ToString::to_string).collect(),
    };
    proto::CheckResponse { message: Some(proto::check_response::Message::Summary(summary)) }
}

pub(crate) fn stats(stats: maintain::Stats) -> proto::StatsResponse {
    let maintain::Stats { counted, id, version } = stats;
    let restic::Stats { snapshots, blobs, raw_size, uncompressed_size, files, restore_size, packs } =
        counted;
    proto::StatsResponse {
        snapshots,
        total_size: raw_size,
        blobs,
        packs,
        repository_id: id.to_string(),
        version: version.number(),
        uncompressed_size,
        restore_size,
        files,
        progress: None,
    }
}

pub(crate) fn deleted(ids: &[restic::Id]) -> proto::DeleteSnapshotsResponse {
    let deleted = ids.iter().map(ToString::to_string).collect();
    proto::DeleteSnapshotsResponse { deleted, progress: None }
}

pub(crate) fn new_key(
    password: String,
    username: String,
    hostname: String,
    host: &str,
) -> Result<maintain::NewKey, Status> {
    if password.is_empty() {
        return Err(Status::invalid_argument("new_password is empty"));
    }
    let or = |text: String, other: &str| if text.is_empty() { other.to_owned() } else { text };
    Ok(maintain::NewKey {
        password: restic::Password::new(password),
        username: or(username, "coffer"),
        hostname: or(hostname, host),
    })
}

pub(crate) fn key(key: restic::KeyInfo) -> proto::Key {
    let restic::KeyInfo { id, created, username, hostname, current } = key;
    let created = created.as_ref().map(timestamp);
    proto::Key { id: id.to_string(), created, username, hostname, current }
}

pub(crate) fn copied(summary: restic::CopySummary) -> proto::CopyResponse {
    let restic::CopySummary { copied, skipped, blobs, bytes } = summary;
    let summary = proto::CopySummary {
        copied: copied.iter().map(|(from, _)| from.to_string()).collect(),
        bytes,
        copies: copied.iter().map(|(_, to)| to.to_string()).collect(),
        skipped: skipped.iter().map(ToString::to_string).collect(),
        blobs,
    };
    proto::CopyResponse { message: Some(proto::copy_response::Message::Summary(summary)) }
}

pub(crate) fn repaired(summary: &restic::RepairSummary) -> proto::RepairIndexResponse {
    let summary = proto::RepairIndexSummary {
        packs: summary.packs,
        packs_added: summary.packs_added,
        packs_dropped: summary.packs_dropped,
        index_files_deleted: summary.index_files_deleted,
        unreadable: summary.unreadable.iter().map(ToString::to_string).collect(),
    };
    let message = proto::repair_index_response::Message::Summary(summary);
    proto::RepairIndexResponse { message: Some(message) }
}

pub(crate) fn migrated(migration: restic::Migration) -> proto::MigrateResponse {
    let migrated = migration == restic::Migration::Done;
    let summary = proto::MigrateSummary { version: restic::Version::V2.number(), migrated };
    proto::MigrateResponse { message: Some(proto::migrate_response::Message::Summary(summary)) }
}

pub(crate) fn download(
    request: proto::DownloadRequest,
    at: At,
) -> Result<restore::Request, Status> {
    let proto::DownloadRequest { repository: _, snapshot, host, hosts, path, offset, length } =
        request;
    let hosts = super::hosts(host, hosts);
    let host = String::new();
    let one = proto::RestoreRequest {
        repository: None,
        snapshot,
        host,
        path,
        offset,
        length,
        hears_waiting: false,
    };
    Ok(restore::Request { hosts, ..super::restore_from(at, one)? })
}

fn progress(progress: restic::Progress) -> proto::Progress {
    let restic::Progress { step, done, total, unit } = progress;
    let bytes = unit == restic::Unit::Bytes;
    proto::Progress { step: step.to_owned(), done, total, bytes }
}

/// How far an operation is, as each of the answers says it.
pub(crate) fn delete_progress(how_far: restic::Progress) -> proto::DeleteSnapshotsResponse {
    proto::DeleteSnapshotsResponse { progress: Some(progress(how_far)), ..Default::default() }
}

pub(crate) fn forget_progress(how_far: restic::Progress) -> proto::ForgetResponse {
    proto::ForgetResponse { progress: Some(progress(how_far)), ..Default::default() }
}

pub(crate) fn stats_progress(how_far: restic::Progress) -> proto::StatsResponse {
    proto::StatsResponse { progress: Some(progress(how_far)), ..Default::default() }
}

pub(crate) fn prune_progress(how_far: restic::Progress) -> proto::PruneResponse {
    let message = proto::prune_response::Message::Progress(progress(how_far));
    proto::PruneResponse { message: Some(message) }
}

pub(crate) fn check_progress(how_far: restic::Progress) -> proto::CheckResponse {
    let message = proto::check_response::Message::Progress(progress(how_far));
    proto::CheckResponse { message: Some(message) }
}

pub(crate) fn copy_progress(how_far: restic::Progress) -> proto::CopyResponse {
    let message = proto::copy_response::Message::Progress(progress(how_far));
    proto::CopyResponse { message: Some(message) }
}

pub(crate) fn repair_progress(how_far: restic::Progress) -> proto::RepairIndexResponse {
    let message = proto::repair_index_response::Message::Progress(progress(how_far));
    proto::RepairIndexResponse { message: Some(message) }
}

pub(crate) fn migrate_progress(how_far: restic::Progress) -> proto::MigrateResponse {
    let message = proto::migrate_response::Message::Progress(progress(how_far));
    proto::MigrateResponse { message: Some(message) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn to_rewrite_nothing_is_a_limit_too() {
        for max_repack_bytes in [None, Some(0), Some(7)] {
            let request = proto::PruneRequest { max_repack_bytes, ..Default::default() };
            assert_eq!(prune(request).unwrap().max_repack_bytes, max_repack_bytes);
        }
    }
}
