//! `coffer status`: what is backed up, when, and how it went. Every read is here; what is shown of it, in `rows`.
mod rows;

use std::{collections::BTreeMap, process::ExitCode};

use anyhow::Context;
use chrono::Utc;
use coffer_api::{BackupConfiguration, BackupSession, Repository};
use kube::{Api, Resource, ResourceExt, api::ListParams};
use serde::de::DeserializeOwned;

use self::rows::{COLUMNS, Facts, Row, WITH_NAMESPACE};
use crate::{
    args::{Format, GlobalArgs},
    client::Cluster,
    errors::Advice,
    output::{self, Listing},
};

const AFTER_HELP: &str = "\
Examples:
  coffer status              all BackupConfigurations of the namespace
  coffer status -A           of all namespaces
  coffer status orders       one, with its conditions and sessions
  coffer status -o json      for programs

Next runs are reckoned in UTC from the schedule.";

/// Flags of `coffer status`.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct Args {
    /// BackupConfiguration; all of them when absent
    name: Option<String>,
    /// In all namespaces
    #[arg(short = 'A', long, conflicts_with = "name")]
    all_namespaces: bool,
}

/// Runs the verb.
///
/// # Errors
/// When the cluster cannot be asked, or there is no BackupConfiguration of that name.
pub async fn run(cluster: &Cluster, global: &GlobalArgs, args: Args) -> anyhow::Result<ExitCode> {
    let namespace = (!args.all_namespaces).then_some(cluster.namespace.as_str());
    let configurations = match &args.name {
        Some(name) => {
            let api: Api<BackupConfiguration> =
                Api::namespaced(cluster.client.clone(), &cluster.namespace);
            let found = api.get_opt(name).await;
            let found = found.with_context(|| {
                format!("read BackupConfiguration {}/{name}", cluster.namespace)
            })?;
            let missing = || {
                let text = format!(
                    "there is no BackupConfiguration {name:?} in namespace {:?}",
                    cluster.namespace
                );
                Advice::new(text, "`coffer status -A` lists them all")
            };
            vec![found.ok_or_else(missing)?]
        }
        None => list(cluster, namespace, "BackupConfigurations").await?,
    };
    let sessions: Vec<BackupSession> = list(cluster, namespace, "BackupSessions").await?;
    let repositories = repositories(cluster, &configurations).await?;
    let facts = Facts { configurations, sessions, repositories };
    let rows = rows::rows(&facts, Utc::now());

    if let (Some(row), Format::Table | Format::Wide, true) =
        (rows.first(), global.output, args.name.is_some())
    {
        output::print(&rows::detail(&facts, row, Utc::now()))?;
        return Ok(ExitCode::SUCCESS);
    }
    let empty = match namespace {
        Some(namespace) => format!("No BackupConfigurations in namespace {namespace}."),
        None => "No BackupConfigurations.".to_owned(),
    };
    let columns = if args.all_namespaces { WITH_NAMESPACE } else { COLUMNS };
    let name = |row: &Row| format!("backupconfiguration.stash.appscode.com/{}", row.name);
    Listing { rows: &rows, columns, name, empty: &empty }.print(global.output)?;
    Ok(ExitCode::SUCCESS)
}

async fn list<K>(cluster: &Cluster, namespace: Option<&str>, what: &str) -> anyhow::Result<Vec<K>>
where
    K: Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>
        + Clone
        + DeserializeOwned
        + std::fmt::Debug,
{
    let client = cluster.client.clone();
    let api: Api<K> = match namespace {
        Some(namespace) => Api::namespaced(client, namespace),
        None => Api::all(client),
    };
    let listed = api.list(&ListParams::default()).await.with_context(|| match namespace {
        Some(namespace) => format!("list the {what} of namespace {namespace}"),
        None => format!("list the {what} of all namespaces"),
    })?;
    Ok(listed.items)
}

/// Those that are named, by namespace and name. One that is not there, or that this user may not read, is left out.
async fn repositories(
    cluster: &Cluster,
    configurations: &[BackupConfiguration],
) -> anyhow::Result<BTreeMap<(String, String), Repository>> {
    let mut found = BTreeMap::new();
    for configuration in configurations {
        let Some(key) = rows::repository_of(configuration) else { continue };
        if found.contains_key(&key) {
            continue;
        }
        let api: Api<Repository> = Api::namespaced(cluster.client.clone(), &key.0);
        match api.get_opt(&key.1).await {
            Ok(Some(repository)) => {
                found.insert(key, repository);
            }
            Ok(None) => {}
            Err(kube::Error::Api(status)) if status.code == 403 => {}
            Err(error) => {
                let of = configuration.name_any();
                return Err(error)
                    .with_context(|| format!("read Repository {}/{} of {of}", key.0, key.1));
            }
        }
    }
    Ok(found)
}
