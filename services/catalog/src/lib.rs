//! The catalog: knows the Functions and Tasks of the cluster, and turns a Task into the containers of a pod.
//!
//! ```text
//!  Functions, Tasks ──watch──▶ library ─┐
//!                                       ▼
//!  orchestrator ──Resolve──▶ server ─▶ resolve      (the last one is pure)
//! ```
//!
//! It holds no state but the cache, writes nothing, and decides nothing about sessions: names in, containers out. Read
//! [`coffer_api::template`] for the `${VAR:=default}` language, [`resolve`] for who overrides whom, [`library`] for the cache.

pub mod args;
mod convert;
pub mod library;
pub mod resolve;
mod server;

pub use args::Config;
use coffer_proto::catalog::v1::catalog_server::CatalogServer;
use coffer_runtime::auth::Gate;
use coffer_runtime::{Runtime, grpc};
use futures::future::BoxFuture;
use std::net::SocketAddr;

/// The service that may resolve whatever it wants.
const ORCHESTRATOR: &str = "orchestrator";

/// A bound catalog that does not serve yet.
pub struct Catalog {
    server: grpc::Server,
    watches: BoxFuture<'static, ()>,
    runtime: Runtime,
}

/// Binds the catalog and prepares its watches; `client` is whatever stands for the Kubernetes API.
///
/// # Errors
/// When the address cannot be bound or the certificates are unusable.
pub async fn build(
    config: Config,
    client: kube::Client,
    runtime: &Runtime,
) -> Result<Catalog, grpc::Error> {
    let Config { listen, tls } = config;
    let (library, watches) = library::Library::new(&client, &runtime.readiness);
    let gate = Gate::builder(runtime.clock.clone()).service(ORCHESTRATOR).cluster(client).build();
    let server = grpc::Server::bind(listen, tls.as_ref(), grpc::Limits::default())
        .await?
        .reflection(coffer_proto::DESCRIPTORS)
        .add_service(CatalogServer::new(server::Server { gate, library }));
    Ok(Catalog { server, watches: Box::pin(watches), runtime: runtime.clone() })
}

impl Catalog {
    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// The endpoint for clients, with its scheme.
    #[must_use]
    pub fn endpoint(&self) -> String {
        self.server.endpoint()
    }

    /// Watches and serves until the runtime's shutdown, then drains.
    ///
    /// # Errors
    /// When serving fails for good.
    pub async fn run(self) -> Result<(), grpc::Error> {
        let Self { server, watches, runtime } = self;
        tokio::select! {
            served = server.serve(&runtime) => served,
            // A watch goes on for ever: it retries, and calls in flight still need it during the drain.
            () = watches => Ok(()),
        }
    }
}
