//! Stands in for the Job controller and the kubelet on one machine: what a cluster would run in
//! containers runs here as child processes.
//!
//! ```text
//! Job ──jobs──▶ Pod ──pods──▶ pod: volumes, environment, then one process per container
//! CronJob ──cron_jobs──▶ Job          │
//!                                     └─▶ status of the Pod, logs, termination messages
//! ```
//!
//! It works through a `kube::Client` alone and knows nothing of the API server behind it. There is
//! no isolation: an image stands for a program of this machine ([`ImageMap`]), a volume for a
//! directory, and a mount path in a command, an argument or an environment value is replaced by
//! that directory. Not supported, and refused by name: indexed Jobs, sidecar containers, network
//! and CSI volumes. Probes, hooks and resource limits are not acted upon.

mod command;
mod containers;
mod cron_jobs;
mod environment;
mod events;
mod images;
mod jobs;
mod layout;
mod log;
mod place;
mod pod;
mod pods;
mod process;
mod recovery;
mod reporter;
mod status;
#[cfg(test)]
mod tests;
mod time;
mod volumes;

use std::{path::PathBuf, sync::Arc};

use anyhow::Context;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

pub use containers::{Container, Containers, Further};
pub use images::{ImageMap, Program};
use layout::Layout;
pub use process::{Exit, Pipes};

/// The name of the one node that there is.
const NODE: &str = "localhost";

/// What the runner works with.
#[derive(Clone)]
pub struct Options {
    /// The API server.
    pub client: kube::Client,
    /// Where volumes, logs and process records live: `<data_dir>/{volumes,pods,logs}`.
    /// A container's log is `<data_dir>/logs/<namespace>/<pod>/<container>.log`.
    pub data_dir: PathBuf,
    /// Which program stands for which image.
    pub images: ImageMap,
    /// Where it tells what runs, for those who run further commands there.
    pub containers: Containers,
    /// When cancelled, running containers are stopped and `run` returns.
    pub shutdown: CancellationToken,
    /// At most this many Pods run at a time; the others wait as Pending.
    pub max_parallel: usize,
}

/// What all parts share.
struct Runner {
    client: kube::Client,
    layout: Layout,
    images: ImageMap,
    containers: Containers,
    places: Arc<Semaphore>,
    max_parallel: usize,
    shutdown: CancellationToken,
}

/// Runs until shutdown. What an earlier run left behind is settled first: its processes are
/// killed, and its running Pods fail.
///
/// # Errors
/// When the data directory cannot be used or the API server does not answer at the start.
pub async fn run(options: Options) -> anyhow::Result<()> {
    let Options { client, data_dir, images, containers, shutdown, max_parallel } = options;
    let runner = Arc::new(Runner {
        client,
        layout: Layout::create(data_dir).await?,
        images,
        containers,
        places: Arc::new(Semaphore::new(max_parallel.max(1))),
        max_parallel: max_parallel.max(1),
        shutdown,
    });
    recovery::settle(&runner).await.context("settle what the last run left behind")?;
    tokio::join!(
        jobs::run(Arc::clone(&runner)),
        cron_jobs::run(Arc::clone(&runner)),
        pods::run(Arc::clone(&runner)),
    );
    Ok(())
}
