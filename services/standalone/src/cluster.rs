//! `coffer up`: the API server, the Job runner and the five services in one process, on one data directory.
//!
//! ```text
//!  data dir ─▶ API server ─▶ CRDs, Functions, Tasks, roles ─▶ services (as their service accounts) ─▶ Job runner ─▶ ready
//! ```
//!
//! Nothing here is special to one machine but the addresses: every service is built by the same two functions as in its own
//! process, speaks TLS with certificates of one authority, and has the rights that the installation's roles give it.
//! What a crash leaves behind (a Job whose process is gone) the Job runner and the orchestrator settle after the restart.

mod addresses;
mod layout;
mod objects;

use std::{
    future::Future,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use coffer_runtime::{
    Runtime, Shutdown,
    authority::Authority,
    grant::{Signer, Verifier},
    tls::TlsOptions,
};
use coffer_storage_gateway::place::LocalVolumes;
use tokio::task::JoinSet;

use crate::{
    apiserver::{self, ApiServer},
    job_runner::{self, Containers, ImageMap, Program},
};
use addresses::Addresses;
use layout::Layout;
pub use {addresses::Endpoints, layout::Ports};

/// How long the services may take to finish what they are doing.
const DRAIN: Duration = Duration::from_secs(20);
/// Images that the worker program stands for.
const WORKER_IMAGES: &str = "ghcr.io/coffer-backup/*";

/// What `coffer up` is told.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where everything is kept.
    pub data_dir: PathBuf,
    /// Where everything listens.
    pub ip: IpAddr,
    /// On which ports; 0 for the one of the last run, or any.
    pub ports: Ports,
    /// A storage-gateway that somebody else runs, `https://…`, instead of one in this process.
    pub storage_gateway: Option<String>,
    /// An orchestrator that somebody else runs, `https://…`, instead of one in this process.
    pub orchestrator: Option<String>,
    /// The program that runs as worker, with the arguments that make it one.
    pub worker: Program,
    /// Further images and the programs that stand for them.
    pub images: Vec<(String, Program)>,
    /// Jobs at a time; the others wait.
    pub max_jobs: usize,
    /// How long an image without a program may keep a session waiting.
    pub start_grace: Duration,
}

impl Options {
    /// On loopback, any ports, with this program as worker.
    #[must_use]
    pub fn new(data_dir: PathBuf, worker: Program) -> Self {
        Self {
            data_dir,
            ip: IpAddr::V4(Ipv4Addr::LOCALHOST),
            ports: Ports::default(),
            storage_gateway: None,
            orchestrator: None,
            worker,
            images: vec![],
            max_jobs: 4,
            start_grace: Duration::from_secs(5),
        }
    }
}

/// Why the system does not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The data directory.
    #[error("use the data directory {}", path.display())]
    DataDir {
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// An address.
    #[error("listen on {address}")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The API server.
    #[error("start the API server")]
    ApiServer(#[from] apiserver::Error),
    /// The certificates.
    #[error("make the services' certificates")]
    Certificates(#[from] coffer_runtime::authority::Error),
    /// The key of the grants.
    #[error("make the key of session grants")]
    Grants(#[from] coffer_runtime::grant::KeyError),
    /// An object that we ship is broken.
    #[error("read an object that Coffer ships")]
    Shipped {
        /// How.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The API server does not say what it knows.
    #[error("ask the API server for its kinds")]
    Discover {
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// An object that we ship is refused.
    #[error("apply {kind} {name}")]
    Apply {
        /// Its kind.
        kind: String,
        /// Its name.
        name: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A service does not start, or ended with an error.
    #[error("run the {service}")]
    Service {
        /// Which.
        service: &'static str,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// A running system.
pub struct Cluster {
    /// Where everything listens.
    pub endpoints: Endpoints,
    layout: Layout,
    api: ApiServer,
    shutdown: Shutdown,
    tasks: JoinSet<Result<(), Error>>,
}

/// Runs until `stop`, telling `ready` where everything listens.
///
/// # Errors
/// When it does not start, or a service ends by itself.
pub async fn run(
    options: Options,
    stop: impl Future<Output = ()>,
    ready: impl FnOnce(&Endpoints),
) -> Result<(), Error> {
    let mut cluster = Cluster::start(options).await?;
    ready(&cluster.endpoints);
    let ended = tokio::select! {
        () = stop => Ok(()),
        ended = cluster.failed() => Err(ended),
    };
    cluster.stop().await;
    ended
}

impl Cluster {
    /// Starts everything; it is ready when this returns.
    ///
    /// # Errors
    /// When any part does not start.
    pub async fn start(options: Options) -> Result<Self, Error> {
        let on_dir = |source| Error::DataDir { path: options.data_dir.clone(), source };
        let layout = Layout::create(&options.data_dir).map_err(on_dir)?;
        let _ = std::fs::remove_file(layout.ready());
        let addresses = Addresses::choose(options.ip, options.ports.or(layout.remembered_ports()))?;
        layout.remember_ports(&addresses.ports()).map_err(on_dir)?;

        let names = vec![options.ip.to_string(), "localhost".to_owned()];
        let containers = Containers::default();
        let known = apiserver::Options { names: names.clone(), containers: containers.clone() };
        let api = ApiServer::open(&layout.root, known).await?;
        let at = addresses.api.address();
        let listener = addresses.api.listener().await;
        let listener = listener.map_err(|source| Error::Listen { address: at, source })?;
        let kubeconfig = api.write_kubeconfig(at)?;

        let authority = Authority::load_or_create(&layout.authority())?;
        let mut endpoints = addresses.endpoints(kubeconfig);
        if let Some(url) = &options.storage_gateway {
            endpoints.storage_gateway.clone_from(url);
        }
        if let Some(url) = &options.orchestrator {
            endpoints.orchestrator.clone_from(url);
        }
        let published = endpoints.published(authority.certificate());
        objects::apply(&api.client(), published, &addresses.webhook()).await?;

        let shutdown = Shutdown::new();
        let mut tasks = JoinSet::new();
        let serving = (api.clone(), shutdown.clone());
        tasks.spawn(async move { Ok(serving.0.serve(listener, serving.1.triggered()).await?) });
        let services = Services {
            options: &options,
            layout: &layout,
            api: &api,
            authority: &authority,
            names: &names,
        };
        services.spawn(&addresses, &endpoints, &shutdown, &mut tasks).await?;

        let runner = job_runner::Options {
            client: api.client(),
            data_dir: layout.root.clone(),
            images: images(&options),
            containers,
            shutdown: shutdown.token(),
            max_parallel: options.max_jobs,
        };
        tasks.spawn(async move {
            job_runner::run(runner).await.map_err(|source| service("Job runner", source))
        });
        std::fs::write(layout.ready(), "").map_err(on_dir)?;
        Ok(Self { endpoints, layout, api, shutdown, tasks })
    }

    /// A client of the API server, as administrator.
    #[must_use]
    pub fn client(&self) -> kube::Client {
        self.api.client()
    }

    /// Waits until a part ends, which none does by itself unless something is wrong.
    async fn failed(&mut self) -> Error {
        match self.tasks.join_next().await {
            Some(Ok(Err(error))) => error,
            Some(Ok(Ok(()))) => service("system", "a part ended by itself"),
            Some(Err(panic)) => service("system", panic),
            None => service("system", "nothing runs"),
        }
    }

    /// Stops everything: the services finish what they are doing, workers are stopped, the data directory is closed.
    pub async fn stop(mut self) {
        let _ = std::fs::remove_file(self.layout.ready());
        self.shutdown.trigger();
        let all = async {
            while let Some(ended) = self.tasks.join_next().await {
                match ended {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => tracing::error!(
                        error = coffer_runtime::fault::chain(&error),
                        "ended with an error"
                    ),
                    Err(panic) => tracing::error!(%panic, "a part panicked"),
                }
            }
        };
        if tokio::time::timeout(DRAIN, all).await.is_err() {
            tracing::warn!("some parts did not end in time and are cut off");
            self.tasks.abort_all();
        }
        self.api.close().await;
    }
}

/// The services, about to be started.
struct Services<'a> {
    options: &'a Options,
    layout: &'a Layout,
    api: &'a ApiServer,
    authority: &'a Authority,
    names: &'a [String],
}

impl Services<'_> {
    /// Certificates of a service.
    fn tls(&self, name: &str) -> Result<TlsOptions, Error> {
        let names: Vec<_> = self.names.iter().map(String::as_str).collect();
        Ok(self.authority.options(name, &names)?)
    }

    /// A client with the service's own rights.
    fn client(&self, service: &str) -> kube::Client {
        self.api.client_as(objects::NAMESPACE, &format!("coffer-{service}"))
    }

    async fn spawn(
        &self,
        addresses: &Addresses,
        endpoints: &Endpoints,
        shutdown: &Shutdown,
        tasks: &mut JoinSet<Result<(), Error>>,
    ) -> Result<(), Error> {
        let signer = Signer::load_or_create(&self.layout.grant_key())?;
        let verifier = Verifier::from_pem(signer.public_key())?;
        // Each has its own metrics and readiness, and all end together.
        let runtime = || Runtime { shutdown: shutdown.clone(), ..Runtime::new() };

        let config = coffer_catalog::Config {
            listen: addresses.catalog.clone(),
            tls: Some(self.tls("catalog")?),
        };
        let app = coffer_catalog::build(config, self.client("catalog"), &runtime()).await;
        let app = app.map_err(|source| service("catalog", source))?;
        tasks.spawn(async move { app.run().await.map_err(|source| service("catalog", source)) });

        let config = coffer_metrics_gateway::Config {
            http_listen: addresses.pushgateway.clone(),
            grpc_listen: addresses.metrics_gateway.clone(),
            tls: Some(self.tls("metrics-gateway")?),
            grants: Some(verifier.clone()),
            persistence_file: Some(self.layout.metrics()),
            ..coffer_metrics_gateway::Config::local()
        };
        let app = coffer_metrics_gateway::build(config, &runtime()).await;
        let app = app.map_err(|source| service("metrics-gateway", source))?;
        tasks.spawn(
            async move { app.run().await.map_err(|source| service("metrics-gateway", source)) },
        );

        if self.options.storage_gateway.is_none() {
            self.storage_gateway(addresses, verifier, &runtime(), tasks).await?;
        }

        if self.options.orchestrator.is_none() {
            self.orchestrator(addresses, endpoints, signer, &runtime(), tasks).await?;
        }
        Ok(())
    }

    async fn orchestrator(
        &self,
        addresses: &Addresses,
        endpoints: &Endpoints,
        signer: Signer,
        runtime: &Runtime,
        tasks: &mut JoinSet<Result<(), Error>>,
    ) -> Result<(), Error> {
        let config = coffer_orchestrator::Config {
            listen: addresses.orchestrator.clone(),
            tls: Some(self.tls("orchestrator")?),
            signer,
            admission: Some(coffer_orchestrator::admission::Options {
                listen: addresses.admission.clone(),
                namespace: objects::NAMESPACE.to_owned(),
                names: self.names.to_vec(),
            }),
            catalog: endpoints.catalog.clone(),
            storage_gateway: endpoints.storage_gateway.clone(),
            metrics_gateway: endpoints.metrics_gateway.clone(),
            settings: coffer_orchestrator::Settings {
                start_grace: self.options.start_grace,
                endpoints: coffer_api::session::Endpoints {
                    storage_gateway: endpoints.storage_gateway.clone(),
                    orchestrator: endpoints.orchestrator.clone(),
                    metrics_gateway: endpoints.metrics_gateway.clone(),
                    ca: Some(self.authority.certificate().to_owned()),
                },
                pushgateway_url: endpoints.pushgateway.clone(),
                ..coffer_orchestrator::Settings::default()
            },
        };
        let app = coffer_orchestrator::build(config, self.client("orchestrator"), runtime).await;
        let app = app.map_err(|source| service("orchestrator", source))?;
        tasks.spawn(
            async move { app.run().await.map_err(|source| service("orchestrator", source)) },
        );
        Ok(())
    }

    async fn storage_gateway(
        &self,
        addresses: &Addresses,
        verifier: Verifier,
        runtime: &Runtime,
        tasks: &mut JoinSet<Result<(), Error>>,
    ) -> Result<(), Error> {
        let client = self.client("storage-gateway");
        let config = coffer_storage_gateway::Config {
            tls: Some(self.tls("storage-gateway")?),
            volumes: LocalVolumes::Under(self.layout.volumes()),
            instance: Some(instance(self.authority)),
            ..coffer_storage_gateway::Config::new(
                addresses.storage_gateway.clone(),
                verifier,
                client,
            )
        };
        let app = coffer_storage_gateway::build(config, runtime).await;
        let app = app.map_err(|source| service("storage-gateway", source))?;
        tasks.spawn(
            async move { app.run().await.map_err(|source| service("storage-gateway", source)) },
        );
        Ok(())
    }
}

fn images(options: &Options) -> ImageMap {
    let mut images = ImageMap::default();
    for (pattern, program) in &options.images {
        images = images.with(pattern.clone(), program.clone());
    }
    images.with(WORKER_IMAGES, options.worker.clone())
}

fn service(
    service: &'static str,
    source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> Error {
    Error::Service { service, source: source.into() }
}

/// A name that only this data directory has: its certificate authority was made here, and the directory is locked by the
/// one system that runs on it.
fn instance(authority: &Authority) -> String {
    use sha2::{Digest as _, Sha256};
    let digest = Sha256::digest(authority.certificate());
    let digits: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    format!("coffer-up-{digits}")
}
