//! The command line: what applies to every verb, and the list of verbs. A verb's own flags are in its file.
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

#[cfg(feature = "standalone")]
use crate::commands::up;
use crate::commands::{
    apply, backup, check, completion, copy, diff, digest, download, forget, key, migrate, pause,
    prune, repair, restore, snapshots, stats, status, unlock,
};

const AFTER_HELP: &str = "\
Examples:
  coffer up --data-dir ./coffer-data            run everything on this machine
  export KUBECONFIG=./coffer-data/kubeconfig    and talk to it
  coffer apply -f manifests/                    say what to back up, and where to
  coffer backup orders                          back up now, and watch
  coffer snapshots                              what is there
  coffer restore --repository orders --target orders-redis
                                                load the latest snapshot

In a cluster, gRPC is reached through a port-forward:
  kubectl -n coffer-system port-forward service/coffer-orchestrator 7443 &
  coffer backup orders --orchestrator https://localhost:7443 --ca-file ca.crt";

/// Back up and restore Redis on Kubernetes, or on this machine.
#[derive(Debug, Parser)]
#[command(
    name = "coffer", version, propagate_version = false, after_help = AFTER_HELP, max_term_width = 100,
    arg_required_else_help = true, disable_help_subcommand = true
)]
pub struct Cli {
    /// What applies to every verb.
    #[command(flatten)]
    pub global: GlobalArgs,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What applies to every verb.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Global options")]
pub struct GlobalArgs {
    /// Kubeconfig to use instead of $KUBECONFIG or ~/.kube/config
    #[arg(long, global = true, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig
    #[arg(long, global = true, value_name = "NAME")]
    pub context: Option<String>,
    /// Namespace; that of the context when absent
    #[arg(short, long, global = true, value_name = "NAME")]
    pub namespace: Option<String>,
    /// How to print the result
    #[arg(short, long, global = true, value_enum, default_value_t, value_name = "FORMAT")]
    pub output: Format,
    /// Print nothing but the result and errors
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// Endpoint of the orchestrator (https://host:port), instead of the one the cluster names
    #[arg(
        long,
        global = true,
        env = "COFFER_ORCHESTRATOR",
        hide_env_values = true,
        value_name = "URL"
    )]
    pub orchestrator: Option<String>,
    /// Endpoint of the storage-gateway (https://host:port), instead of the one the cluster names
    #[arg(
        long,
        global = true,
        env = "COFFER_STORAGE_GATEWAY",
        hide_env_values = true,
        value_name = "URL"
    )]
    pub storage_gateway: Option<String>,
    /// Certificate of the CA to verify those endpoints with, PEM
    #[arg(
        long,
        global = true,
        env = "COFFER_CA_FILE",
        hide_env_values = true,
        value_name = "FILE"
    )]
    pub ca_file: Option<PathBuf>,
    /// Kubernetes token to show to those endpoints, instead of the kubeconfig's
    #[arg(long, global = true, env = "COFFER_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    pub token: Option<String>,
}

/// How to print a result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Columns for people
    #[default]
    Table,
    /// More columns
    Wide,
    /// For programs
    Json,
    /// For programs and people
    Yaml,
    /// Names only, one a line
    Name,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the whole system on this machine, without a cluster
    #[cfg(feature = "standalone")]
    Up(up::Args),
    /// Verbs that are clients.
    #[command(flatten)]
    Client(Verb),
}

/// What a client of a cluster can do.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Apply manifests: create what is not there, change what differs
    ///
    /// Namespaces and CustomResourceDefinitions go first, and the kinds of the latter are waited for. Nothing is applied
    /// when a file cannot be read; when the server refuses an object, the others are applied all the same.
    Apply(apply::Args),
    /// Back up now what a BackupConfiguration names, and watch
    Backup(backup::Args),
    /// Load a snapshot into a Redis, or follow a RestoreSession
    Restore(restore::Args),
    /// List the snapshots of a Repository, or of all in the namespace
    Snapshots(snapshots::Args),
    /// Write a file of a snapshot to the disk or to standard output
    Download(download::Args),
    /// One number for all keys of a server, a snapshot or a file
    Digest(digest::Args),
    /// Which keys differ between two servers, snapshots or files
    Diff(diff::Args),
    /// Let go of snapshots, by rules or by name
    Forget(Box<forget::Args>),
    /// Free the space of what no snapshot uses
    Prune(prune::Args),
    /// Look for damage in a repository
    Check(check::Args),
    /// Show how much is in a repository
    Stats(stats::Args),
    /// Copy snapshots to another repository
    Copy(copy::Args),
    /// List, add, remove and change the keys of a repository
    Key(key::Args),
    /// Remove locks that somebody left behind
    Unlock(unlock::Args),
    /// Put right what can be: a lost or damaged index
    Repair(repair::Args),
    /// Upgrade a repository of format 1 to format 2
    Migrate(migrate::Args),
    /// Show what is backed up, when, and how it went
    Status(status::Args),
    /// Stop triggering backups by schedule
    Pause(pause::Args),
    /// Trigger backups by schedule again
    Resume(pause::Args),
    /// Print a completion script for a shell
    Completion(completion::Args),
    /// Print the version
    Version,
}

#[cfg(test)]
mod tests;
