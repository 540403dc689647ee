//! The verbs, a file each: flags, what is asked of the cluster, what is printed.

pub mod apply;
pub mod backup;
pub mod check;
pub mod completion;
pub mod copy;
pub mod diff;
pub mod digest;
pub mod download;
pub mod forget;
pub mod key;
pub mod migrate;
pub mod pause;
pub mod prune;
pub mod repair;
pub mod restore;
pub mod snapshots;
pub mod stats;
pub mod status;
pub mod unlock;
#[cfg(feature = "standalone")]
pub mod up;
pub mod version;

use std::process::ExitCode;

use crate::{
    args::{GlobalArgs, Verb},
    client::Cluster,
};

/// Runs a verb that is a client.
///
/// # Errors
/// What the user gets to read.
pub async fn run(global: &GlobalArgs, verb: Verb) -> anyhow::Result<ExitCode> {
    let cluster = Cluster::open(global);
    match verb {
        Verb::Digest(args) => Box::pin(digest::run(global, args)).await,
        Verb::Diff(args) => Box::pin(diff::run(global, args)).await,
        Verb::Apply(args) => apply::run(&cluster.await?, global, args).await,
        Verb::Backup(args) => backup::run(&cluster.await?, global, args).await,
        Verb::Restore(args) => restore::run(&cluster.await?, global, args).await,
        Verb::Snapshots(args) => snapshots::run(&cluster.await?, global, args).await,
        Verb::Download(args) => Box::pin(download::run(&cluster.await?, global, args)).await,
        Verb::Forget(args) => Box::pin(forget::run(&cluster.await?, global, *args)).await,
        Verb::Prune(args) => prune::run(&cluster.await?, global, args).await,
        Verb::Check(args) => check::run(&cluster.await?, global, args).await,
        Verb::Stats(args) => stats::run(&cluster.await?, global, args).await,
        Verb::Copy(args) => copy::run(&cluster.await?, global, args).await,
        Verb::Key(args) => Box::pin(key::run(&cluster.await?, global, args)).await,
        Verb::Unlock(args) => unlock::run(&cluster.await?, global, args).await,
        Verb::Repair(args) => repair::run(&cluster.await?, global, args).await,
        Verb::Migrate(args) => migrate::run(&cluster.await?, global, args).await,
        Verb::Status(args) => status::run(&cluster.await?, global, args).await,
        Verb::Pause(args) => pause::run(&cluster.await?, global, args, pause::Wanted::Paused).await,
        Verb::Resume(args) => {
            pause::run(&cluster.await?, global, args, pause::Wanted::Running).await
        }
        Verb::Completion(args) => completion::run(&args),
        Verb::Version => version::run(global),
    }
}
