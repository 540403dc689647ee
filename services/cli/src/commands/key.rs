//! `coffer key`: who opens a repository, with which password. Passwords come from a file, from standard input or from the
//! terminal, never from the command line, which other users of the machine can see.
use std::process::ExitCode;

use anyhow::Context;
use chrono::{DateTime, Utc};
use coffer_api::Repository;
use coffer_proto::storage::v1::{
    AddKeyRequest, Key, ListKeysRequest, RemoveKeyRequest, RepositoryRef,
};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, ResourceExt,
    api::{ListParams, Patch, PatchParams},
};
use serde::Serialize;
use serde_json::json;

use crate::{
    args::GlobalArgs,
    client::Cluster,
    errors::Advice,
    figures, maintenance,
    maintenance::{ConfirmArgs, LockArgs},
    output::{Column, Listing},
};

const AFTER_HELP: &str = "\
Examples:
  coffer key list orders
  coffer key add orders                                asks for the new password
  coffer key add orders --new-password-file pw.txt --user alice
  coffer key remove orders 1a2b3c4d
  coffer key change orders                             and the Repository's Secret with it

The key in use, which the password in the Repository's Secret opens, cannot be removed.";

/// What to do with keys.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// List the keys
    List(RepositoryArgs),
    /// Let another password open the repository, too
    Add(AddArgs),
    /// Remove a key, other than the one in use
    Remove(RemoveArgs),
    /// Change the password, in the repository and in the Repository's Secret
    ///
    /// First the new key is added, then the Secret gets the new password, then the old key is removed: whenever it is cut
    /// off, the password in the Secret opens the repository.
    Change(ChangeArgs),
}

#[derive(Debug, clap::Args)]
struct RepositoryArgs {
    /// Repository, NAME or NAMESPACE/NAME
    repository: String,
    #[command(flatten)]
    lock: LockArgs,
}

#[derive(Debug, clap::Args)]
struct AddArgs {
    /// Repository, NAME or NAMESPACE/NAME
    repository: String,
    /// File with the new password; - for standard input; asked for when absent
    #[arg(long, value_name = "FILE")]
    new_password_file: Option<String>,
    /// For whom the key is, as `key list` shows it
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// Where it is used, as `key list` shows it
    #[arg(long, value_name = "NAME")]
    host: Option<String>,
    #[command(flatten)]
    lock: LockArgs,
}

#[derive(Debug, clap::Args)]
struct RemoveArgs {
    /// Repository, NAME or NAMESPACE/NAME
    repository: String,
    /// Key, by id or its beginning
    #[arg(value_parser = clap::builder::NonEmptyStringValueParser::new())]
    key: String,
    #[command(flatten)]
    lock: LockArgs,
    #[command(flatten)]
    confirm: ConfirmArgs,
}

#[derive(Debug, clap::Args)]
struct ChangeArgs {
    /// Repository, NAME or NAMESPACE/NAME
    repository: String,
    /// File with the new password; - for standard input; asked for when absent
    #[arg(long, value_name = "FILE")]
    new_password_file: Option<String>,
    /// Do not remove the old key
    #[arg(long)]
    keep_old: bool,
    #[command(flatten)]
    lock: LockArgs,
    #[command(flatten)]
    confirm: ConfirmArgs,
}

/// A key, as it is shown.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    id: String,
    current: bool,
    created: Option<DateTime<Utc>>,
    user: String,
    host: String,
}

const COLUMNS: &[Column<Row>] = &[
    Column { header: "ID", wide: false, cell: |row| row.id.get(..8).unwrap_or(&row.id).to_owned() },
    Column {
        header: "IN-USE",
        wide: false,
        cell: |row| if row.current { "yes" } else { "" }.to_owned(),
    },
    Column {
        header: "CREATED",
        wide: false,
        cell: |row| row.created.map(figures::instant).unwrap_or_default(),
    },
    Column { header: "USER", wide: false, cell: |row| row.user.clone() },
    Column { header: "HOST", wide: false, cell: |row| row.host.clone() },
    Column { header: "FULL-ID", wide: true, cell: |row| row.id.clone() },
];

/// Runs the verb.
///
/// # Errors
/// When it is not confirmed, or the keys cannot be read or changed.
pub async fn run(cluster: &Cluster, global: &GlobalArgs, args: Args) -> anyhow::Result<ExitCode> {
    match args.what {
        What::List(args) => list(cluster, global, args).await?,
        What::Add(args) => add(cluster, global, args).await?,
        What::Remove(args) => remove(cluster, global, args).await?,
        What::Change(args) => change(cluster, global, args).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn list(cluster: &Cluster, global: &GlobalArgs, args: RepositoryArgs) -> anyhow::Result<()> {
    let repository = maintenance::repository(cluster, &args.repository, args.lock);
    let rows: Vec<Row> = keys(cluster, &repository).await?.into_iter().map(row).collect();
    print(global, &rows)
}

fn print(global: &GlobalArgs, rows: &[Row]) -> anyhow::Result<()> {
    let name = |row: &Row| format!("key/{}", row.id);
    Listing { rows, columns: COLUMNS, name, empty: "No keys." }.print(global.output)
}

async fn keys(cluster: &Cluster, repository: &RepositoryRef) -> anyhow::Result<Vec<Key>> {
    let request = ListKeysRequest { repository: Some(repository.clone()) };
    let keys = cluster.repositories().await?.list_keys(request).await;
    let subject = || format!("list the keys of Repository {}", maintenance::shown(repository));
    Ok(keys.with_context(subject)?.into_inner().keys)
}

async fn add(cluster: &Cluster, global: &GlobalArgs, args: AddArgs) -> anyhow::Result<()> {
    let AddArgs { repository, new_password_file, user, host, lock } = args;
    let repository = maintenance::repository(cluster, &repository, lock);
    let new_password = maintenance::new_password(new_password_file.as_deref())?;
    let request = AddKeyRequest {
        repository: Some(repository.clone()),
        new_password,
        username: user.unwrap_or_default(),
        hostname: host.unwrap_or_default(),
    };
    let key = add_key(cluster, &repository, request).await?;
    print(global, &[row(key)])
}

async fn add_key(
    cluster: &Cluster,
    repository: &RepositoryRef,
    request: AddKeyRequest,
) -> anyhow::Result<Key> {
    let added = cluster.repositories().await?.add_key(request).await;
    let subject = || format!("add a key to Repository {}", maintenance::shown(repository));
    let key = added.with_context(subject)?.into_inner().key;
    key.with_context(|| format!("{}: the storage-gateway names no key", subject()))
}

async fn remove(cluster: &Cluster, global: &GlobalArgs, args: RemoveArgs) -> anyhow::Result<()> {
    let RemoveArgs { repository, key, lock, confirm } = args;
    let repository = maintenance::repository(cluster, &repository, lock);
    let shown = maintenance::shown(&repository);
    confirm.confirm(&format!("Remove key {key} of Repository {shown}?"))?;
    remove_key(cluster, &repository, &key).await?;
    maintenance::print(global, &json!({"removed": key}), &[], || format!("key {key} removed\n"))
}

async fn remove_key(cluster: &Cluster, repository: &RepositoryRef, id: &str) -> anyhow::Result<()> {
    let request = RemoveKeyRequest { repository: Some(repository.clone()), id: id.to_owned() };
    let removed = cluster.repositories().await?.remove_key(request).await;
    let shown = maintenance::shown(repository);
    removed.map(drop).with_context(|| format!("remove key {id} of Repository {shown}"))
}

async fn change(cluster: &Cluster, global: &GlobalArgs, args: ChangeArgs) -> anyhow::Result<()> {
    let ChangeArgs { repository, new_password_file, keep_old, lock, confirm } = args;
    let repository = maintenance::repository(cluster, &repository, lock);
    let shown = maintenance::shown(&repository);
    let secret = own_secret(cluster, &repository).await?;
    let new_password = maintenance::new_password(new_password_file.as_deref())?;
    let old = keys(cluster, &repository).await?.into_iter().find(|key| key.current);
    let old = old.with_context(|| format!("Repository {shown} names no key in use"))?;
    if !keep_old {
        let question = format!("Change the password of Repository {shown} and of Secret {secret}?");
        confirm.confirm(&question)?;
    }
    let request = AddKeyRequest {
        repository: Some(repository.clone()),
        new_password: new_password.clone(),
        username: old.username.clone(),
        hostname: old.hostname.clone(),
    };
    let new = add_key(cluster, &repository, request).await?;
    let secrets: Api<Secret> = Api::namespaced(cluster.client.clone(), &repository.namespace);
    let patch = json!({"stringData": {"RESTIC_PASSWORD": new_password}});
    let patched = secrets.patch(&secret, &PatchParams::default(), &Patch::Merge(patch)).await;
    patched.with_context(|| {
        let short = |id: &str| id.get(..8).unwrap_or(id).to_owned();
        let (new, old) = (short(&new.id), short(&old.id));
        format!("change RESTIC_PASSWORD in Secret {secret} (key {new} was added, key {old} is still in use)")
    })?;
    if !keep_old {
        remove_key(cluster, &repository, &old.id).await?;
    }
    print(global, &[row(Key { current: true, ..new })])
}

/// The Repository's Secret, which no other Repository may use: its repository would not open any more.
async fn own_secret(cluster: &Cluster, repository: &RepositoryRef) -> anyhow::Result<String> {
    let RepositoryRef { namespace, name, .. } = repository;
    let api: Api<Repository> = Api::namespaced(cluster.client.clone(), namespace);
    let all = api.list(&ListParams::default()).await;
    let all = all.with_context(|| format!("list the Repositories of namespace {namespace}"))?;
    let ours = all.iter().find(|other| other.name_any() == *name);
    let ours = ours.with_context(|| format!("there is no Repository {namespace}/{name}"))?;
    let secret = ours.spec.backend.storage_secret_name.clone();
    let others: Vec<String> = all
        .iter()
        .filter(|other| other.spec.backend.storage_secret_name == secret)
        .map(ResourceExt::name_any)
        .filter(|other| other != name)
        .collect();
    if others.is_empty() {
        return Ok(secret);
    }
    Err(Advice::new(
        format!("Secret {namespace}/{secret} is also that of Repository {}", others.join(", ")),
        "add the new password to each with `coffer key add`, change RESTIC_PASSWORD in the Secret, then remove the old keys",
    )
    .into())
}

fn row(key: Key) -> Row {
    let Key { id, created, username, hostname, current } = key;
    let created = created
        .and_then(|time| DateTime::from_timestamp(time.seconds, u32::try_from(time.nanos).ok()?));
    Row { id, current, created, user: username, host: hostname }
}
