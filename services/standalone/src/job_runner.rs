//! Stands in for the Job controller and the kubelet on one machine.

mod images;

use std::path::PathBuf;

use tokio_util::sync::CancellationToken;

pub use images::{ImageMap, Program};

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
    /// When cancelled, running containers are stopped and `run` returns.
    pub shutdown: CancellationToken,
    /// At most this many Pods run at a time; the others wait as Pending.
    pub max_parallel: usize,
}

/// Runs until shutdown.
pub async fn run(options: Options) -> anyhow::Result<()> {
    options.shutdown.cancelled().await;
    Ok(())
}
