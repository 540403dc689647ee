//! `coffer snapshots`: what is in the repositories.
use std::process::ExitCode;

use anyhow::Context;
use chrono::{DateTime, Utc};
use coffer_api::Repository;
use coffer_proto::storage::v1::{ListSnapshotsRequest, RepositoryRef, Snapshot};
use coffer_runtime::fault::{Class, class_of};
use kube::{Api, ResourceExt, api::ListParams};
use serde::Serialize;

use crate::{
    args::GlobalArgs,
    client::Cluster,
    errors, figures,
    maintenance::{self, LockArgs},
    output::{Column, Listing},
};

const AFTER_HELP: &str = "\
Examples:
  coffer snapshots                    of all Repositories in the namespace
  coffer snapshots orders             of one
  coffer snapshots orders --host db-1 --tag nightly
  coffer snapshots orders -o json";

/// Flags of `coffer snapshots`.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct Args {
    /// Repository, NAME or NAMESPACE/NAME; all in the namespace when absent
    repository: Option<String>,
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

/// A snapshot, as it is shown.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    repository: String,
    id: String,
    time: Option<DateTime<Utc>>,
    host: String,
    paths: Vec<String>,
    tags: Vec<String>,
    /// Of its files, each once whatever its names; absent when the gateway names none.
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    #[serde(skip_serializing_if = "String::is_empty")]
    program: String,
    #[serde(skip)]
    age: String,
}

const ID: fn(&Row) -> String = |row| row.id.get(..8).unwrap_or(&row.id).to_owned();

const COLUMNS: &[Column<Row>] = &[
    Column { header: "ID", wide: false, cell: ID },
    Column {
        header: "TIME",
        wide: false,
        cell: |row| row.time.map(figures::instant).unwrap_or_default(),
    },
    Column { header: "AGE", wide: true, cell: |row| row.age.clone() },
    Column { header: "REPOSITORY", wide: false, cell: |row| row.repository.clone() },
    Column { header: "HOST", wide: false, cell: |row| row.host.clone() },
    Column { header: "PATHS", wide: false, cell: |row| row.paths.join(",") },
    Column { header: "TAGS", wide: true, cell: |row| row.tags.join(",") },
    Column {
        header: "SIZE",
        wide: false,
        cell: |row| row.size.map(figures::bytes).unwrap_or_default(),
    },
    Column { header: "PROGRAM", wide: true, cell: |row| row.program.clone() },
    Column { header: "FULL-ID", wide: true, cell: |row| row.id.clone() },
];

/// Runs the verb. A Repository that cannot be read does not hide the others.
///
/// # Errors
/// When no Repository could be read.
pub async fn run(cluster: &Cluster, global: &GlobalArgs, args: Args) -> anyhow::Result<ExitCode> {
    let Args { repository, hosts, path, tags, lock } = args;
    let (host, hosts) = maintenance::hosts(hosts);
    let namespace = &cluster.namespace;
    let repositories = match repository {
        Some(repository) => vec![maintenance::repository(cluster, &repository, lock)],
        None => {
            let api: Api<Repository> = Api::namespaced(cluster.client.clone(), namespace);
            let list = api.list(&ListParams::default()).await;
            let list =
                list.with_context(|| format!("list the Repositories of namespace {namespace}"))?;
            let found = |one: &Repository| RepositoryRef {
                namespace: namespace.clone(),
                name: one.name_any(),
                lock_wait: lock.wait(),
            };
            list.iter().map(found).collect()
        }
    };
    let now = Utc::now();
    let (mut rows, mut failed) = (Vec::new(), 0);
    // Asked for only when there is something to ask.
    let mut client =
        if repositories.is_empty() { None } else { Some(cluster.repositories().await?) };
    for repository in &repositories {
        let Some(client) = &mut client else { break };
        let request = ListSnapshotsRequest {
            repository: Some(repository.clone()),
            host: host.clone(),
            hosts: hosts.clone(),
            path: path.clone().unwrap_or_default(),
            tags: tags.clone(),
            with_files: true,
        };
        match client.list_snapshots(request).await {
            Ok(response) => {
                let snapshots = response.into_inner().snapshots;
                rows.extend(
                    snapshots.into_iter().map(|snapshot| row(&repository.name, snapshot, now)),
                );
            }
            Err(status) => {
                // Nobody there: asking for the next would only say so again.
                let gone = class_of(&status) == Class::Unavailable;
                let shown = maintenance::shown(repository);
                let context = format!("list the snapshots of Repository {shown}");
                let error = anyhow::Error::new(status).context(context);
                if gone || repositories.len() == 1 {
                    return Err(error);
                }
                eprint!("{}", errors::report(&error));
                failed += 1;
            }
        }
    }
    rows.sort_by(|a, b| (&a.repository, a.time, &a.id).cmp(&(&b.repository, b.time, &b.id)));
    let empty = match repositories.as_slice() {
        [one] => format!("No snapshots in Repository {}.", maintenance::shown(one)),
        _ => format!("No snapshots in namespace {namespace}."),
    };
    let name = |row: &Row| format!("snapshot/{}", row.id);
    Listing { rows: &rows, columns: COLUMNS, name, empty: &empty }.print(global.output)?;
    if failed > 0 {
        anyhow::bail!("{failed} of {} Repositories could not be read", repositories.len());
    }
    Ok(ExitCode::SUCCESS)
}

fn row(repository: &str, snapshot: Snapshot, now: DateTime<Utc>) -> Row {
    let Snapshot { id, time, paths, hostname, tags, program_version, files, .. } = snapshot;
    let time = time
        .and_then(|time| DateTime::from_timestamp(time.seconds, u32::try_from(time.nanos).ok()?));
    let own = files.iter().filter(|file| !file.linked);
    let size = (!files.is_empty()).then(|| own.map(|file| file.size).sum());
    Row {
        repository: repository.to_owned(),
        id,
        age: figures::ago(time, now),
        time,
        host: hostname,
        paths,
        tags,
        size,
        program: program_version,
    }
}

#[cfg(test)]
mod tests {
    use coffer_proto::storage::v1::SnapshotFile;

    use super::*;
    use crate::args::Format;

    #[test]
    fn the_table() {
        let now = DateTime::from_timestamp(1_700_003_600, 0).unwrap();
        let file = |path: &str, size| SnapshotFile { path: path.to_owned(), size, linked: false };
        let snapshot = Snapshot {
            id: "1a2b3c4d5e6f7890".to_owned(),
            time: Some(prost_types::Timestamp { seconds: 1_700_000_000, nanos: 0 }),
            paths: vec!["/dump.rdb".to_owned(), "/manifest.json".to_owned()],
            hostname: "host-0".to_owned(),
            tags: vec!["nightly".to_owned()],
            files: vec![
                file("/dump.rdb", 3 << 20),
                SnapshotFile { linked: true, ..file("/link.rdb", 3 << 20) },
                file("/manifest.json", 1 << 10),
            ],
            ..Snapshot::default()
        };
        let bare = Snapshot { id: "ff".to_owned(), ..Snapshot::default() };
        let rows = [row("orders", snapshot, now), row("orders", bare, now)];
        let listing = Listing {
            rows: &rows,
            columns: COLUMNS,
            name: |row| format!("snapshot/{}", row.id),
            empty: "",
        };
        insta::assert_snapshot!(listing.render(Format::Table).unwrap());
        assert!(listing.render(Format::Wide).unwrap().contains("TAGS"));
        insta::assert_snapshot!(listing.render(Format::Yaml).unwrap());
    }
}
