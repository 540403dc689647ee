//! `coffer restore`: loads a snapshot into a Redis, watched to its end; or follows a RestoreSession that is there.
use std::{collections::HashMap, process::ExitCode};

use anyhow::Context;
use coffer_proto::orchestrator::v1::{GetRequest, SessionKind, SessionRef, TriggerRestoreRequest};

use crate::{
    args::GlobalArgs,
    client::Cluster,
    session::{self, WaitArgs},
};

const AFTER_HELP: &str = "\
Examples:
  coffer restore --repository orders --target orders-redis
                                              load the latest snapshot into that AppBinding
  coffer restore --repository backups/orders --target orders-redis --snapshot 1a2b3c4d
                                              a certain one, from another namespace's Repository
  coffer apply -f restore.yaml && coffer restore orders-restore
                                              follow a RestoreSession made from a manifest

Keys of the snapshot replace those of the same name; other keys stay.
Ends with 0 only when the restore succeeded. Ctrl-C stops watching; the restore goes on.";

/// Flags of `coffer restore`.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct Args {
    /// RestoreSession to follow; to start one, name --repository and --target instead
    #[arg(conflicts_with_all = ["repository", "target", "snapshot", "task", "params", "source_host", "alias", "name"])]
    restore_session: Option<String>,
    /// Repository to restore from, NAME or NAMESPACE/NAME
    #[arg(long, required_unless_present = "restore_session", value_name = "REPOSITORY")]
    repository: Option<String>,
    /// AppBinding to load into
    #[arg(long, required_unless_present = "restore_session", value_name = "APPBINDING")]
    target: Option<String>,
    /// Snapshot: its id, or latest
    #[arg(long, value_name = "ID")]
    snapshot: Option<String>,
    /// With the latest snapshot: only those of this host
    #[arg(long, value_name = "HOST")]
    source_host: Option<String>,
    /// Task that restores; that of the AppBinding when absent
    #[arg(long, value_name = "TASK")]
    task: Option<String>,
    /// Parameter of the Task; may be repeated
    #[arg(long = "param", value_name = "NAME=VALUE", value_parser = param)]
    params: Vec<(String, String)>,
    /// Alias of the target: the host whose snapshots are its own
    #[arg(long)]
    alias: Option<String>,
    /// Name of the new RestoreSession; made from the target's when absent
    #[arg(long)]
    name: Option<String>,
    #[command(flatten)]
    wait: WaitArgs,
}

fn param(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write NAME=VALUE".to_owned()),
    }
}

/// Runs the verb.
///
/// # Errors
/// When the restore cannot be started or watched, or did not succeed.
pub async fn run(cluster: &Cluster, global: &GlobalArgs, args: Args) -> anyhow::Result<ExitCode> {
    let mut client = cluster.sessions().await?;
    let wait = args.wait.clone();
    let (subject, found) = match &args.restore_session {
        Some(name) => {
            let subject = format!("find RestoreSession {}/{name}", cluster.namespace);
            let reference = SessionRef {
                kind: SessionKind::Restore.into(),
                namespace: cluster.namespace.clone(),
                name: name.clone(),
            };
            let request = GetRequest { r#ref: Some(reference) };
            let response = client.get(request).await.with_context(|| subject.clone())?;
            (subject, response.into_inner().session)
        }
        None => {
            let request = request(args, &cluster.namespace, session::request_id());
            let subject =
                format!("start a restore of {} into {}", request.repository, request.target);
            let response =
                client.trigger_restore(request).await.with_context(|| subject.clone())?;
            (subject, response.into_inner().session)
        }
    };
    let found = found.with_context(|| format!("{subject}: the orchestrator names no session"))?;
    session::conclude(&mut client, found, &wait, global.output, global.quiet).await
}

fn request(args: Args, namespace: &str, request_id: String) -> TriggerRestoreRequest {
    let Args {
        restore_session: _,
        repository,
        target,
        snapshot,
        source_host,
        task,
        params,
        alias,
        name,
        wait: _,
    } = args;
    let repository = repository.unwrap_or_default();
    let (repository_namespace, repository) = match repository.split_once('/') {
        Some((namespace, name)) => (namespace.to_owned(), name.to_owned()),
        None => (namespace.to_owned(), repository),
    };
    TriggerRestoreRequest {
        namespace: namespace.to_owned(),
        name: name.unwrap_or_default(),
        repository,
        repository_namespace,
        target: target.unwrap_or_default(),
        target_namespace: namespace.to_owned(),
        alias: alias.unwrap_or_default(),
        snapshot: snapshot.unwrap_or_else(|| "latest".to_owned()),
        source_host: source_host.unwrap_or_default(),
        task: task.unwrap_or_default(),
        params: params.into_iter().collect::<HashMap<_, _>>(),
        request_id,
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        args: Args,
    }

    fn asked(line: &str) -> TriggerRestoreRequest {
        let program = Program::parse_from(line.split_whitespace());
        request(program.args, "demo", "id".to_owned())
    }

    #[test]
    fn requests() {
        let plain = asked("restore --repository orders --target redis");
        assert_eq!(
            (plain.repository_namespace.as_str(), plain.repository.as_str()),
            ("demo", "orders")
        );
        assert_eq!((plain.target_namespace.as_str(), plain.target.as_str()), ("demo", "redis"));
        assert_eq!((plain.snapshot.as_str(), plain.task.as_str()), ("latest", ""));

        let full = asked(
            "restore --repository backups/orders --target redis --snapshot 1a --task t --param a=b=c --param d= \
             --source-host h --alias x --name n",
        );
        assert_eq!(
            (full.repository_namespace.as_str(), full.repository.as_str()),
            ("backups", "orders")
        );
        assert_eq!(
            (full.snapshot.as_str(), full.task.as_str(), full.name.as_str()),
            ("1a", "t", "n")
        );
        assert_eq!(full.params["a"], "b=c");
        assert_eq!(full.params["d"], "");
    }
}
