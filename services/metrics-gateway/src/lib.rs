//! The metrics-gateway keeps the last figures of Jobs that are gone, so that Prometheus can scrape them: a drop-in for
//! the Prometheus Pushgateway, with a gRPC service beside its HTTP API.
//!
//! ```text
//!  PUT, POST, DELETE /metrics/job/… ─▶ routes ─▶ path, exposition::parse ─┐
//!  coffer.metrics.v1.Metrics/Push ───▶ server ─▶ convert ─────────────────┴▶ groups::Store ◀─▶ persist
//!  GET /metrics ◀── scrape, own ◀─────────────────────────────────────────────────┘
//! ```
//!
//! Read [`groups`] first (the store and its rules), then [`consistency`] (what a push must not do), [`routes`], and
//! [`exposition`]. Not here yet: the protobuf format, compressed bodies, the web pages, the admin API.
//!
//! It differs from the original where the original breaks: a label value that is not UTF-8, pushed `push_*` gauges and
//! groups that differ only in an empty `instance` are dealt with before the store, where the original stores them and
//! fails every later scrape; groups, series and bodies are limited.

pub mod api;
pub mod args;
pub mod consistency;
mod convert;
pub mod exposition;
pub mod family;
pub mod groups;
pub mod own;
pub mod path;
pub mod persist;
pub mod routes;
pub mod scrape;
pub mod server;

use std::{
    collections::BTreeMap, future::IntoFuture, io, net::SocketAddr, path::PathBuf, sync::Arc,
    time::Duration,
};

use coffer_runtime::{Listen, Runtime, auth::Gate, fault, grant::Verifier, grpc, tls::TlsOptions};
use parking_lot::Mutex;
use tokio::net::TcpListener;

use crate::{
    groups::{Limits, Store},
    routes::Gateway,
};

/// How long HTTP requests may go on after the stop.
const DRAIN: Duration = Duration::from_secs(25);

/// What the gateway needs to know.
#[derive(Clone)]
pub struct Config {
    /// Where to serve the Pushgateway HTTP API; port 0 takes a free one.
    pub http_listen: Listen,
    /// Where to serve gRPC; port 0 takes a free one.
    pub grpc_listen: Listen,
    /// For gRPC; plain HTTP/2 without.
    pub tls: Option<TlsOptions>,
    /// Verifies workers' grants; without, only services may push over gRPC.
    pub grants: Option<Verifier>,
    /// Where groups survive a restart; they do not without.
    pub persistence_file: Option<PathBuf>,
    /// How often that file is written while groups change.
    pub persistence_interval: Duration,
    /// How much is stored.
    pub limits: Limits,
    /// Largest body of a push over HTTP.
    pub max_body_bytes: usize,
    /// What `/api/v1/status` shows.
    pub flags: BTreeMap<String, String>,
}

impl Config {
    /// The default limits, on free ports of the loopback interface, without a file.
    #[must_use]
    pub fn local() -> Self {
        let loopback = Listen::from(SocketAddr::from(([127, 0, 0, 1], 0)));
        Self {
            http_listen: loopback.clone(),
            grpc_listen: loopback,
            tls: None,
            grants: None,
            persistence_file: None,
            persistence_interval: Duration::from_secs(300),
            limits: Limits { groups: 100_000, series: 1_000_000 },
            max_body_bytes: 16 * 1024 * 1024,
            flags: BTreeMap::new(),
        }
    }
}

/// Why the gateway cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address is taken or not ours.
    #[error("listen for pushes and scrapes on {address}")]
    Bind {
        /// Where.
        address: SocketAddr,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The HTTP side failed for good.
    #[error("serve pushes and scrapes on {address}")]
    Http {
        /// Where.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The gRPC side failed.
    #[error("serve metrics over gRPC")]
    Grpc(#[from] grpc::Error),
    /// The groups' file.
    #[error("keep the pushed groups")]
    Persist(#[from] persist::Error),
    /// A thread of ours panicked.
    #[error("wait for the groups' file to be written")]
    Join(#[source] tokio::task::JoinError),
}

/// A gateway that is bound and has its groups, but does not serve yet.
pub struct App {
    /// Where the Pushgateway HTTP API is.
    pub http_addr: SocketAddr,
    /// Where gRPC is.
    pub grpc_addr: SocketAddr,
    listener: TcpListener,
    grpc: grpc::Server,
    gateway: Arc<Gateway>,
    file: Option<PathBuf>,
    interval: Duration,
    runtime: Runtime,
}

/// Loads the groups and binds both addresses.
///
/// # Errors
/// When the file is there and cannot be read, an address is taken, or the certificates are unusable.
pub async fn build(config: Config, runtime: &Runtime) -> Result<App, Error> {
    let Config {
        http_listen,
        grpc_listen,
        tls,
        grants,
        persistence_file: file,
        persistence_interval: interval,
        limits,
        max_body_bytes,
        flags,
    } = config;
    let store = Arc::new(Store::new(limits, own::kind));
    if let Some(file) = file.clone() {
        let store = Arc::clone(&store);
        let load = tokio::task::spawn_blocking(move || persist::load(&file, &store));
        load.await.map_err(Error::Join)??;
    }
    let bind = |source| Error::Bind { address: http_listen.address(), source };
    let listener = http_listen.listener().await.map_err(bind)?;
    let http_addr = listener.local_addr().map_err(bind)?;

    let gate = Gate::builder(runtime.clock.clone());
    let gate = match grants {
        Some(verifier) => gate.grants(verifier).build(),
        None => gate.build(),
    };
    let service = server::Server::service(Arc::clone(&store), runtime.clock.clone(), gate);
    let grpc = grpc::Server::bind(grpc_listen, tls.as_ref(), grpc::Limits::default())
        .await?
        .reflection(coffer_proto::DESCRIPTORS)
        .add_service(service);
    let grpc_addr = grpc.address();
    let gateway = Arc::new(Gateway::new(store, runtime.clock.clone(), max_body_bytes, flags));
    let runtime = runtime.clone();
    Ok(App { http_addr, grpc_addr, listener, grpc, gateway, file, interval, runtime })
}

impl App {
    /// Serves until the runtime's shutdown, then finishes what runs and writes the groups' file once more.
    ///
    /// # Errors
    /// When a server fails for good, or the last write does: then what came since the one before is lost.
    pub async fn run(self) -> Result<(), Error> {
        let Self { http_addr, grpc_addr: _, listener, grpc, gateway, file, interval, runtime } =
            self;
        let keeper = file.map(|file| Keeper::new(file, Arc::clone(&gateway.store)));
        let http = serve_http(listener, http_addr, Arc::clone(&gateway), &runtime);
        let serving = async {
            let grpc = async { Ok(grpc.serve(&runtime).await?) };
            tokio::try_join!(http, grpc).map(|((), ())| ())
        };
        let served = tokio::select! {
            served = serving => served,
            never = keep(keeper.as_ref(), interval, &runtime) => match never {},
        };
        if let Some(keeper) = &keeper {
            keeper.save().await?;
        }
        served
    }
}

async fn serve_http(
    listener: TcpListener,
    address: SocketAddr,
    gateway: Arc<Gateway>,
    runtime: &Runtime,
) -> Result<(), Error> {
    let shutdown = runtime.shutdown.clone();
    let stop = shutdown.clone();
    let serve = axum::serve(listener, routes::router(gateway))
        .with_graceful_shutdown(async move { stop.triggered().await })
        .into_future();
    let late = async {
        shutdown.triggered().await;
        tokio::time::sleep(DRAIN).await;
    };
    tokio::select! {
        served = serve => served.map_err(|source| Error::Http { address, source }),
        () = late => {
            tracing::warn!(limit = ?DRAIN, "requests still running after the stop are dropped");
            Ok(())
        }
    }
}

/// Writes the file whenever an interval has passed and something changed. A failure is logged and tried again: the
/// groups are still in memory.
async fn keep(
    keeper: Option<&Keeper>,
    interval: Duration,
    runtime: &Runtime,
) -> std::convert::Infallible {
    let Some(keeper) = keeper else { return std::future::pending().await };
    loop {
        runtime.clock.sleep(interval).await;
        if let Err(error) = keeper.save().await {
            tracing::error!(
                error = fault::chain(&error),
                "pushed groups are not saved, will try again"
            );
        }
    }
}

/// The one that writes the file.
struct Keeper {
    file: PathBuf,
    store: Arc<Store>,
    /// The version in the file. Locked while writing, since a write that nobody waits for any more goes on.
    saved: Arc<Mutex<u64>>,
}

impl Keeper {
    fn new(file: PathBuf, store: Arc<Store>) -> Self {
        let saved = Arc::new(Mutex::new(store.version()));
        Self { file, store, saved }
    }

    /// Writes the file if there is something new.
    async fn save(&self) -> Result<(), Error> {
        let Self { file, store, saved } = self;
        let (file, store, saved) = (file.clone(), Arc::clone(store), Arc::clone(saved));
        let write = tokio::task::spawn_blocking(move || {
            let mut saved = saved.lock();
            let (groups, version) = store.groups();
            if version != *saved {
                persist::save(&file, &groups)?;
                *saved = version;
            }
            Ok::<_, persist::Error>(())
        });
        Ok(write.await.map_err(Error::Join)??)
    }
}
