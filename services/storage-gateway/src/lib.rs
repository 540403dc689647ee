//! The storage-gateway: writes and reads restic repositories for the workers, and looks after them for the orchestrator.
//! It is the only process that holds storage credentials, and it holds them only as long as it uses them.
//!
//! ```text
//!  server ── who calls, may they ──▶ backup    bytes ─▶ snapshot, committed by `finish` alone
//!    │                               restore   snapshot ─▶ bytes, verified
//!    │                               maintain  forget, prune, check, copy, keys …
//!  operation (rights, what destroys)   │
//!    │                            repositories  open handles, one per location
//!    │                                  │
//!  convert (proto ↔ domain)          place      a Repository and its Secret, resolved (pure)
//!                                       │
//!                    objects ◀────── backend    reads both from the cluster
//!                 (over HTTP)
//! ```
//!
//! Reading order: [`place`], [`repositories`], [`backup`], [`restore`], then `server`.

mod admission;
pub mod args;
pub mod backend;
pub mod backup;
mod convert;
pub mod maintain;
pub mod metrics;
pub mod objects;
pub mod operation;
pub mod place;
pub mod repositories;
pub mod restore;
mod server;

use coffer_runtime::auth::Gate;
use coffer_runtime::grant::Verifier;
use coffer_runtime::tls::TlsOptions;
use coffer_runtime::{Listen, Runtime, grpc};
use place::{LocalVolumes, Machine};
use repositories::Repositories;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// The service, by its certificate, that may call `Repositories` without a user's rights.
pub const TRUSTED_SERVICE: &str = "orchestrator";

/// What the service works with.
pub struct Config {
    /// Where to listen; port 0 takes a free one.
    pub listen: Listen,
    /// Certificates; plain HTTP/2 without.
    pub tls: Option<TlsOptions>,
    /// Verifies the workers' grants.
    pub verifier: Verifier,
    /// Reads Repositories and Secrets, reviews tokens.
    pub client: kube::Client,
    /// What `local` backends mean here.
    pub volumes: LocalVolumes,
    /// Backups and restores at a time.
    pub max_streams: usize,
    /// The same for the Repositories of one namespace.
    pub max_namespace_streams: usize,
    /// What all streams together may hold beside the indexes, in bytes. Each is given 12 to 44 MiB of it.
    pub memory: usize,
    /// How data is compressed, unless its Repository says otherwise.
    pub compression: coffer_restic::Compression,
    /// How long an operation waits for another's lock on the repository.
    pub lock_wait: Duration,
    /// The name of this machine or pod in lock files.
    pub host: String,
    /// A name that outlives this process and that no other living one bears: by it a successor knows that its
    /// predecessor's locks are nobody's.
    pub instance: Option<String>,
    /// Who this process is to the clouds, for Repositories without credentials.
    pub machine: Machine,
}

impl Config {
    /// The defaults of the program's flags.
    #[must_use]
    pub fn new(listen: impl Into<Listen>, verifier: Verifier, client: kube::Client) -> Self {
        Self {
            listen: listen.into(),
            tls: None,
            verifier,
            client,
            volumes: LocalVolumes::None,
            max_streams: args::MAX_STREAMS,
            max_namespace_streams: args::MAX_NAMESPACE_STREAMS,
            memory: args::MEMORY_MIB << 20,
            compression: coffer_restic::Compression::default(),
            lock_wait: args::LOCK_WAIT,
            host: "coffer".to_owned(),
            instance: None,
            machine: Machine::default(),
        }
    }
}

/// The service, bound to its address.
pub struct App {
    server: grpc::Server,
    runtime: Runtime,
}

/// Binds the service.
///
/// # Errors
/// When the address cannot be bound or the certificates are unusable.
pub async fn build(config: Config, runtime: &Runtime) -> Result<App, grpc::Error> {
    let Config {
        listen,
        tls,
        verifier,
        client,
        volumes,
        max_streams,
        max_namespace_streams,
        memory,
        compression,
        lock_wait,
        host,
        instance,
        machine,
    } = config;
    let gate = Gate::builder(runtime.clock.clone())
        .grants(verifier)
        .service(TRUSTED_SERVICE)
        .cluster(client.clone())
        .build();
    let parallelism = std::thread::available_parallelism().map_or(2, usize::from);
    let started = runtime.clock.now();
    let options = coffer_restic::OpenOptions {
        host: host.clone(),
        instance: instance.map(|name| coffer_restic::Instance { name, started }),
        lock_wait,
        resources: coffer_restic::Resources::with_memory(parallelism, memory),
        ..coffer_restic::OpenOptions::default()
    };
    let reader = backend::Reader::new(client, volumes, machine);
    let repositories = Repositories::new(reader, options, compression);
    let metrics = metrics::Metrics::new(&runtime.registry);
    let services = Arc::new(server::Services {
        gate,
        repositories,
        metrics,
        admission: admission::Admission::new(max_streams, max_namespace_streams),
        clock: runtime.clock.clone(),
        host,
    });
    let server = grpc::Server::bind(listen, tls.as_ref(), grpc::Limits::default())
        .await?
        .reflection(coffer_proto::DESCRIPTORS);
    Ok(App { server: server::register(server, services), runtime: runtime.clone() })
}

impl App {
    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// Its address as `coffer_runtime::grpc::connect` takes it.
    #[must_use]
    pub fn endpoint(&self) -> String {
        self.server.endpoint()
    }

    /// Serves until the runtime's shutdown, then drains.
    ///
    /// # Errors
    /// When serving fails for good.
    pub async fn run(self) -> Result<(), grpc::Error> {
        tracing::info!(address = %self.address(), "the storage-gateway listens");
        self.server.serve(&self.runtime).await
    }
}
