//! Flags and environment, and the configuration they become.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use anyhow::Context as _;
use clap::Parser;
use coffer_api::session::Endpoints;
use coffer_runtime::{
    Listen,
    args::{CommonArgs, ListenArgs, TlsArgs},
    grant::Signer,
    tls::TlsOptions,
};

use crate::{
    admission,
    lease::Rules,
    queue::Limits,
    settings::{Settings, TRIGGER_IMAGE},
};

/// A shorter Lease is lost to every hiccup of the API server.
const SHORTEST_LEASE: Duration = Duration::from_secs(5);

/// Runs backups and restores: watches the custom resources, schedules, makes Jobs, reports.
#[derive(Clone, Debug, Parser)]
#[command(name = "coffer-orchestrator", version)]
pub struct Args {
    /// What every process takes.
    #[command(flatten)]
    pub common: CommonArgs,
    /// Where to serve.
    #[command(flatten)]
    pub listen: ListenArgs,
    /// Certificates.
    #[command(flatten)]
    pub tls: TlsArgs,
    /// The catalog, https://host:port
    #[arg(long, env = "COFFER_CATALOG", value_name = "URL")]
    pub catalog: String,
    /// The storage-gateway, https://host:port
    #[arg(long, env = "COFFER_STORAGE_GATEWAY", value_name = "URL")]
    pub storage_gateway: String,
    /// The metrics-gateway, https://host:port
    #[arg(long, env = "COFFER_METRICS_GATEWAY", value_name = "URL")]
    pub metrics_gateway: String,
    /// Key that signs session grants, Ed25519, PEM; made when it is not there
    #[arg(long, env = "COFFER_GRANT_KEY", value_name = "FILE")]
    pub grant_key: PathBuf,
    /// The storage-gateway as a Job's pod sees it; as above when absent
    #[arg(long, env = "COFFER_WORKER_STORAGE_GATEWAY", value_name = "URL")]
    pub worker_storage_gateway: Option<String>,
    /// The metrics-gateway as a Job's pod sees it; as above when absent
    #[arg(long, env = "COFFER_WORKER_METRICS_GATEWAY", value_name = "URL")]
    pub worker_metrics_gateway: Option<String>,
    /// This process as a Job's pod sees it
    #[arg(long, env = "COFFER_WORKER_ORCHESTRATOR", value_name = "URL")]
    pub worker_orchestrator: String,
    /// CA that workers verify the services with, PEM; that of --tls-ca when absent
    #[arg(long, env = "COFFER_WORKER_CA", value_name = "FILE")]
    pub worker_ca: Option<PathBuf>,
    /// How soon to look again for a Repository, Secret or AppBinding that is missing
    #[arg(long, env = "COFFER_MISSING_RETRY", value_parser = humantime::parse_duration, default_value = "5s")]
    pub missing_retry: Duration,
    /// How long an image that cannot be pulled, a missing volume or an unschedulable pod may hold a session up
    #[arg(long, env = "COFFER_START_GRACE", value_parser = humantime::parse_duration, default_value = "5m")]
    pub start_grace: Duration,
    /// Longest time of a session whose invoker has no timeOut
    #[arg(long, env = "COFFER_DEFAULT_TIME_OUT", value_parser = humantime::parse_duration, default_value = "24h")]
    pub default_time_out: Duration,
    /// How late a scheduled session may start after down time
    #[arg(long, env = "COFFER_STARTING_DEADLINE", value_parser = humantime::parse_duration, default_value = "24h")]
    pub starting_deadline: Duration,
    /// How many Jobs at a time in the whole cluster; 0 for no limit. The rest waits in line
    #[arg(long, env = "COFFER_MAX_JOBS", value_name = "N", default_value_t = Limits::default().cluster)]
    pub max_jobs: usize,
    /// How many Jobs at a time in each namespace; 0 for no limit
    #[arg(long, env = "COFFER_MAX_JOBS_PER_NAMESPACE", value_name = "N", default_value_t = Limits::default().namespace)]
    pub max_jobs_per_namespace: usize,
    /// How many Jobs at a time for each Repository; 0 for no limit
    #[arg(long, env = "COFFER_MAX_JOBS_PER_REPOSITORY", value_name = "N", default_value_t = Limits::default().repository)]
    pub max_jobs_per_repository: usize,
    /// Namespace of the Lease that chooses which of several orchestrators acts; without it this is the only one
    #[arg(long, env = "COFFER_LEASE_NAMESPACE", value_name = "NAME")]
    pub lease_namespace: Option<String>,
    /// Name of that Lease
    #[arg(
        long,
        env = "COFFER_LEASE_NAME",
        value_name = "NAME",
        default_value = "coffer-orchestrator"
    )]
    pub lease_name: String,
    /// Who this process is to the Lease, such as the name of its pod; made up when absent
    #[arg(long, env = "COFFER_LEASE_IDENTITY", value_name = "NAME")]
    pub lease_identity: Option<String>,
    /// How long another orchestrator waits for one that has fallen silent
    #[arg(long, env = "COFFER_LEASE_DURATION", value_parser = humantime::parse_duration, default_value = "15s")]
    pub lease_duration: Duration,
    /// Where to serve the admission webhook, HTTPS; none when absent
    #[arg(long, env = "COFFER_ADMISSION_LISTEN", value_name = "HOST:PORT", requires_all = ["admission_namespace", "admission_names"])]
    pub admission_listen: Option<SocketAddr>,
    /// Namespace of the Secret with its certificate
    #[arg(long, env = "COFFER_ADMISSION_NAMESPACE", value_name = "NAME")]
    pub admission_namespace: Option<String>,
    /// Name by which the API server reaches it; several are separated by commas
    #[arg(
        long = "admission-name",
        env = "COFFER_ADMISSION_NAMES",
        value_name = "HOST",
        value_delimiter = ','
    )]
    pub admission_names: Vec<String>,
    /// Pull policy of containers that name none: Always, IfNotPresent or Never
    #[arg(long, env = "COFFER_IMAGE_PULL_POLICY", default_value = "IfNotPresent", value_parser = ["Always", "IfNotPresent", "Never"])]
    pub image_pull_policy: String,
    /// Image of the CronJobs of `scheduler: cronjob`; one with this program in it
    #[arg(long, env = "COFFER_TRIGGER_IMAGE", value_name = "IMAGE", default_value = TRIGGER_IMAGE)]
    pub trigger_image: String,
    /// Value of PROMETHEUS_PUSHGATEWAY_URL for Functions
    #[arg(long, env = "COFFER_PUSHGATEWAY_URL", value_name = "URL", default_value = "")]
    pub pushgateway_url: String,
}

impl AsRef<CommonArgs> for Args {
    fn as_ref(&self) -> &CommonArgs {
        &self.common
    }
}

/// What [`crate::build`] takes: validated, nothing of it a path that is still to be read.
#[derive(Clone)]
pub struct Config {
    /// Where to serve gRPC; port 0 takes a free one.
    pub listen: Listen,
    /// Who we are to the other services, and whom we trust; plain text on loopback when absent.
    pub tls: Option<TlsOptions>,
    /// The catalog.
    pub catalog: String,
    /// The storage-gateway.
    pub storage_gateway: String,
    /// The metrics-gateway.
    pub metrics_gateway: String,
    /// Signs grants.
    pub signer: Signer,
    /// The admission webhook, where there is to be one.
    pub admission: Option<admission::Options>,
    /// What decisions depend on.
    pub settings: Settings,
}

impl Args {
    /// Reads the files.
    ///
    /// # Errors
    /// When one cannot be read or holds the wrong thing.
    pub fn config(self) -> anyhow::Result<Config> {
        let ca = self.worker_ca.as_ref().or(self.tls.tls_ca.as_ref());
        let ca = ca
            .map(|path| {
                std::fs::read_to_string(path)
                    .with_context(|| format!("read the CA for workers from {}", path.display()))
            })
            .transpose()?;
        let signer = Signer::load_or_create(&self.grant_key)?;
        let lease = self.lease_namespace.map(|namespace| Rules {
            namespace,
            name: self.lease_name,
            // A pid alone is the same in every pod.
            identity: self.lease_identity.unwrap_or_else(|| {
                format!("{}-{:016x}", std::process::id(), rand::random::<u64>())
            }),
            duration: self.lease_duration.max(SHORTEST_LEASE),
        });
        let tls = self.tls.options();
        let admission =
            self.admission_listen.zip(self.admission_namespace).map(|(listen, namespace)| {
                admission::Options { listen: listen.into(), namespace, names: self.admission_names }
            });
        Ok(Config {
            listen: self.listen.listen.into(),
            tls,
            signer,
            admission,
            settings: Settings {
                missing_retry: self.missing_retry,
                start_grace: self.start_grace,
                default_time_out: self.default_time_out,
                starting_deadline: self.starting_deadline,
                limits: Limits {
                    cluster: self.max_jobs,
                    namespace: self.max_jobs_per_namespace,
                    repository: self.max_jobs_per_repository,
                },
                lease,
                endpoints: Endpoints {
                    storage_gateway: self
                        .worker_storage_gateway
                        .unwrap_or_else(|| self.storage_gateway.clone()),
                    orchestrator: self.worker_orchestrator,
                    metrics_gateway: self
                        .worker_metrics_gateway
                        .unwrap_or_else(|| self.metrics_gateway.clone()),
                    ca,
                },
                image_pull_policy: self.image_pull_policy,
                trigger_image: self.trigger_image,
                pushgateway_url: self.pushgateway_url,
            },
            catalog: self.catalog,
            storage_gateway: self.storage_gateway,
            metrics_gateway: self.metrics_gateway,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_get_the_same_addresses_unless_told_otherwise() {
        let dir = std::env::temp_dir().join(format!("coffer-args-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let key = dir.join("grant.key");
        let args = Args::try_parse_from([
            "coffer-orchestrator",
            "--catalog=http://c:1",
            "--storage-gateway=http://s:1",
            "--metrics-gateway=http://m:1",
            "--worker-metrics-gateway=http://m:2",
            "--worker-orchestrator=http://o:1",
            "--start-grace=20s",
            "--max-jobs=7",
            "--lease-namespace=coffer-system",
            &format!("--grant-key={}", key.display()),
        ])
        .unwrap();
        let config = args.config().unwrap();
        std::fs::remove_dir_all(&dir).unwrap();
        let endpoints = config.settings.endpoints;
        assert_eq!(endpoints.storage_gateway, "http://s:1");
        assert_eq!(endpoints.metrics_gateway, "http://m:2");
        assert_eq!(config.settings.start_grace, Duration::from_secs(20));
        assert_eq!(config.settings.limits, Limits { cluster: 7, ..Limits::default() });
        let lease = config.settings.lease.unwrap();
        assert_eq!(lease.name, "coffer-orchestrator");
        assert!(!lease.identity.is_empty());
        assert!(config.tls.is_none() && endpoints.ca.is_none());
    }
}
