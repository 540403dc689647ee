//! The orchestrator: reconciles the custom resources, makes sessions when they are due, runs each as a Job, follows it to
//! its end, and is the only writer of status.
//!
//! ```text
//!              watches                        gRPC Sessions, Progress
//!                 │                                  │
//!  controllers ───┴──▶ <kind>::reconcile         sessions, progress
//!                        │
//!                        ├─ gather   every read, as owned Facts
//!                        ├─ decide   pure: (object, facts, now) -> Plan
//!                        └─ apply    every write, in the plan's order; calls to the gateways
//! ```
//!
//! Read [`plan`], the vocabulary; then [`backup_session`], the longest story; `coffer_api::schedule` for when sessions are due,
//! [`executor`] for how a Job's end is read, [`job`] for what is made. Two rules carry the rest: nothing is remembered in
//! the process that is not in the cluster (progress apart, which is no result), and everything may be repeated.
//! Several may run: [`leader`] sees to it that one of them acts.

pub mod admission;
pub mod alarm;
pub mod apply;
pub mod args;
pub mod auto_backup;
pub mod backup_batch;
pub mod backup_configuration;
pub mod backup_session;
pub mod cache;
pub mod calls;
pub mod connection;
pub mod context;
pub mod controllers;
pub mod convert;
pub mod executor;
pub mod gather;
pub mod hook;
pub mod interim;
pub mod job;
pub mod leader;
pub mod lease;
pub mod metrics;
pub mod patience;
pub mod phase;
pub mod plan;
pub mod policy;
pub mod progress;
pub mod queue;
pub mod rbac;
pub mod repository;
pub mod restore_batch;
pub mod restore_session;
pub mod rules;
pub mod rush;
pub mod server;
pub mod sessions;
pub mod settings;
pub mod summary;
pub mod trigger;
pub mod turns;
pub mod variables;
pub mod wake;

use std::{net::SocketAddr, sync::Arc};

use coffer_proto::{
    catalog::v1::catalog_client::CatalogClient,
    metrics::v1::metrics_client::MetricsClient,
    orchestrator::v1::{progress_server::ProgressServer, sessions_server::SessionsServer},
    storage::v1::repositories_client::RepositoriesClient,
};
use coffer_runtime::{
    Runtime,
    auth::Gate,
    grant::{KeyError, Verifier},
    grpc::{self, Limits, Server},
    readiness::Latch,
};

pub use args::{Args, Config};
pub use settings::Settings;

use context::Context;

/// The orchestrator cannot be built or served.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The server cannot listen.
    #[error("serve the orchestrator")]
    Serve(#[source] grpc::Error),
    /// Another service's address cannot be used.
    #[error("connect to the {service}")]
    Connect {
        /// Which.
        service: &'static str,
        /// Why not.
        #[source]
        source: grpc::Error,
    },
    /// The admission webhook cannot listen.
    #[error("serve the admission webhook at {address}")]
    Admission {
        /// Where.
        address: SocketAddr,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// Another orchestrator acts now.
    #[error("the Lease was lost: start again, and wait for it")]
    Lease,
    /// The grants that we sign cannot be verified.
    #[error("verify session grants")]
    Key(#[source] KeyError),
}

/// An orchestrator that has bound its address.
pub struct App {
    /// Where it serves gRPC.
    pub grpc_addr: SocketAddr,
    server: Server,
    ctx: Arc<Context>,
    admission: Option<admission::Admission>,
    runtime: Runtime,
    /// Held until the controllers run: callers reach the one that acts.
    latch: Latch,
}

/// Binds the address and sets up the clients, which connect when they are first used.
///
/// # Errors
/// When the address is taken, or an endpoint or certificate is unusable.
pub async fn build(config: Config, client: kube::Client, runtime: &Runtime) -> Result<App, Error> {
    let Config {
        listen,
        tls,
        catalog,
        storage_gateway,
        metrics_gateway,
        signer,
        admission,
        settings,
    } = config;
    let connect = |service, endpoint: &str| {
        grpc::connect(endpoint, tls.as_ref()).map_err(|source| Error::Connect { service, source })
    };
    let verifier = Verifier::from_pem(signer.public_key()).map_err(Error::Key)?;
    let ctx = Arc::new(Context {
        catalog: CatalogClient::new(connect("catalog", &catalog)?),
        storage: RepositoriesClient::new(connect("storage-gateway", &storage_gateway)?),
        metrics: MetricsClient::new(connect("metrics-gateway", &metrics_gateway)?),
        client: client.clone(),
        signer,
        clock: runtime.clock.clone(),
        progress: progress::Board::default(),
        caches: cache::Caches::default(),
        rush: rush::Rush::new(runtime.clock.clone()),
        turns: turns::Turns::new(settings.limits),
        leadership: leader::Leadership::new(settings.lease.as_ref()),
        settings,
    });
    let admission = match admission {
        Some(options) => Some(Box::pin(admission::Admission::open(&ctx, options)).await?),
        None => None,
    };
    let gate = Gate::builder(runtime.clock.clone()).grants(verifier).cluster(client).build();
    let service = server::Service::new(ctx.clone(), gate, runtime.shutdown.token());
    let server = Server::bind(listen, tls.as_ref(), Limits::default())
        .await
        .map_err(Error::Serve)?
        .reflection(coffer_proto::DESCRIPTORS)
        .add_service(SessionsServer::new(service.clone()))
        .add_service(ProgressServer::new(service));
    let latch = runtime.readiness.latch("the Lease is held");
    Ok(App { grpc_addr: server.address(), server, ctx, admission, runtime: runtime.clone(), latch })
}

impl App {
    /// Reconciles and serves until the runtime's shutdown; then running passes and calls are finished.
    ///
    /// # Errors
    /// When serving fails for good.
    pub async fn run(self) -> Result<(), Error> {
        let Self { grpc_addr, server, ctx, admission, runtime, latch } = self;
        tracing::info!(address = %grpc_addr, "the orchestrator is serving");
        let reconciling = async {
            let controllers = Box::pin(controllers::run(&ctx, &runtime, latch));
            let end = Box::pin(leader::lead(&ctx, &runtime, controllers)).await;
            if end == leader::End::Lost {
                runtime.shutdown.abort();
            }
            end
        };
        let serving = async {
            let served = server.serve(&runtime).await;
            // Without its server it would be half an orchestrator.
            runtime.shutdown.trigger();
            served
        };
        let admitting = async {
            if let Some(admission) = admission {
                admission.run(&runtime).await;
            }
        };
        let (end, served, ()) =
            futures::future::join3(reconciling, Box::pin(serving), Box::pin(admitting)).await;
        match end {
            leader::End::Lost => Err(Error::Lease),
            leader::End::Done => served.map_err(Error::Serve),
        }
    }
}
