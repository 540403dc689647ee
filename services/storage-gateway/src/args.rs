//! Flags and environment, and the configuration made of them.

use crate::Config;
use crate::place::{LocalVolumes, Machine};
use anyhow::Context as _;
use clap::Parser;
use coffer_restic::Compression;
use coffer_runtime::args::{CommonArgs, GrantArgs, ListenArgs, TlsArgs};
use k8s_openapi::api::core::v1::Namespace;
use kube::Api;
use std::path::PathBuf;
use std::time::Duration;

/// So many share [`MEMORY_MIB`] with 12 MiB each, the least that a stream needs.
pub(crate) const MAX_STREAMS: usize = 32;
/// Half of all, so that one namespace never takes every place.
pub(crate) const MAX_NAMESPACE_STREAMS: usize = 16;
/// With windows of HTTP/2, codecs and the program itself this keeps a gateway with 32 streams below 512 MiB.
pub(crate) const MEMORY_MIB: usize = 384;
/// A prune of a large repository takes minutes; its callers set deadlines of their own.
pub(crate) const LOCK_WAIT: Duration = Duration::from_secs(120);

/// Writes and reads restic repositories for Coffer.
#[derive(Debug, Parser)]
#[command(name = "coffer-storage-gateway", version)]
pub struct Args {
    /// Logs and probes.
    #[command(flatten)]
    pub common: CommonArgs,
    /// Where to serve.
    #[command(flatten)]
    pub listen: ListenArgs,
    /// Certificates.
    #[command(flatten)]
    pub tls: TlsArgs,
    /// Grants.
    #[command(flatten)]
    pub grants: GrantArgs,
    /// The volumes of `local` Repositories are mounted here at their mountPath
    #[arg(long, env = "COFFER_LOCAL_MOUNTED", conflicts_with = "local_root")]
    pub local_mounted: bool,
    /// Directory of volumes for `local` Repositories without a cluster, `<DIR>/<namespace>/<claim>`; a hostPath is used as is
    #[arg(long, env = "COFFER_LOCAL_ROOT", value_name = "DIR")]
    pub local_root: Option<PathBuf>,
    /// Backups and restores at a time
    #[arg(long, env = "COFFER_MAX_STREAMS", default_value_t = MAX_STREAMS)]
    pub max_streams: usize,
    /// Backups and restores at a time for the Repositories of one namespace
    #[arg(long, env = "COFFER_MAX_STREAMS_PER_NAMESPACE", default_value_t = MAX_NAMESPACE_STREAMS)]
    pub max_streams_per_namespace: usize,
    /// Memory of all backups and restores together, beside the indexes, in MiB; each is given 12 to 44 of it
    #[arg(long, env = "COFFER_STREAM_MEMORY", value_name = "MIB", default_value_t = MEMORY_MIB)]
    pub stream_memory: usize,
    /// zstd level of new data, 1 to 22, or `off`; a Repository's annotation coffer.appscode.com/compression goes before it
    #[arg(long, env = "COFFER_COMPRESSION", value_name = "LEVEL", default_value = "1")]
    pub compression: Compression,
    /// How long an operation waits for another program's lock on the repository
    #[arg(long, env = "COFFER_LOCK_WAIT", default_value = "2m", value_parser = humantime::parse_duration)]
    pub lock_wait: Duration,
    /// Name of this machine in the repositories' lock files
    #[arg(long, env = "HOSTNAME", default_value = "coffer")]
    pub host: String,
    /// A name that at most one living gateway of this cluster bears, like the pod's in a StatefulSet: locks that an earlier
    /// bearer left are removed at once, instead of half an hour later
    #[arg(long, env = "COFFER_INSTANCE", value_name = "NAME")]
    pub instance: Option<String>,
}

impl AsRef<CommonArgs> for Args {
    fn as_ref(&self) -> &CommonArgs {
        &self.common
    }
}

impl Args {
    /// The configuration, with a client for the cluster that the environment names.
    ///
    /// # Errors
    /// When there is no cluster, or the public key of the grants is unusable.
    pub async fn into_config(self) -> anyhow::Result<Config> {
        let client = kube::Client::try_default().await.context("connect to the Kubernetes API")?;
        let volumes = match (self.local_root, self.local_mounted) {
            (Some(root), _) => LocalVolumes::Under(root),
            (None, true) => LocalVolumes::Mounted,
            (None, false) => LocalVolumes::None,
        };
        let instance = match self.instance.filter(|name| !name.is_empty()) {
            Some(name) => Some(format!("{name}.{}", cluster(&client).await?)),
            None => None,
        };
        Ok(Config {
            listen: self.listen.listen.into(),
            tls: self.tls.options(),
            verifier: self.grants.verifier()?,
            client,
            volumes,
            max_streams: self.max_streams,
            max_namespace_streams: self.max_streams_per_namespace,
            memory: self.stream_memory.saturating_mul(1 << 20),
            compression: self.compression,
            lock_wait: self.lock_wait,
            host: self.host,
            instance,
            machine: Machine::read(|name| std::env::var(name).ok()),
        })
    }
}

/// What no other cluster has: pods have the same names everywhere, and a gateway that takes the living one of another cluster
/// for its own predecessor would remove its locks.
async fn cluster(client: &kube::Client) -> anyhow::Result<String> {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let system = namespaces.get("kube-system").await.context(
        "read the namespace kube-system, whose UID tells this cluster from others (--instance needs it; the ClusterRole \
         coffer-storage-gateway allows it)",
    )?;
    system.metadata.uid.context("the namespace kube-system has no UID")
}
