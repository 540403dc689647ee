//! The verbs, a file each: flags, what is asked of the cluster, what is printed.

pub mod apply;
pub mod backup;
pub mod completion;
pub mod pause;
pub mod restore;
pub mod snapshots;
pub mod status;
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
        Verb::Apply(args) => apply::run(&cluster.await?, global, args).await,
        Verb::Backup(args) => backup::run(&cluster.await?, global, args).await,
        Verb::Restore(args) => restore::run(&cluster.await?, global, args).await,
        Verb::Snapshots(args) => snapshots::run(&cluster.await?, global, args).await,
        Verb::Status(args) => status::run(&cluster.await?, global, args).await,
        Verb::Pause(args) => pause::run(&cluster.await?, global, args, pause::Wanted::Paused).await,
        Verb::Resume(args) => {
            pause::run(&cluster.await?, global, args, pause::Wanted::Running).await
        }
        Verb::Completion(args) => completion::run(&args),
        Verb::Version => version::run(global),
    }
}
