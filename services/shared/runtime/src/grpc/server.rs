//! A server from bind to drain.

use super::call::{CallLayer, Calls};
use super::incoming::incoming;
use super::{
    CONNECTION_WINDOW_BYTES, Error, FRAME_BYTES, KEEPALIVE_INTERVAL, KEEPALIVE_TIMEOUT, Limits,
    STREAM_WINDOW_BYTES,
};
use crate::tls::{Reloading, TlsOptions};
use crate::{Listen, Runtime};
use rustls::ServerConfig;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpListener;
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::service::RoutesBuilder;
use tonic_health::ServingStatus;
use tower::Service;

/// After connections are cut, their tasks end within moments.
const CUT_LIMIT: Duration = Duration::from_secs(5);

/// A bound server to which services are added before it serves.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    tls: Option<Reloading<ServerConfig>>,
    limits: Limits,
    routes: RoutesBuilder,
    names: Vec<&'static str>,
    descriptors: Option<&'static [u8]>,
}

impl Server {
    /// Binds the address where it is not bound yet; port 0 takes a free one. Without TLS options the server speaks plain HTTP/2, for loopback.
    ///
    /// # Errors
    /// When the address cannot be bound or the certificates are unusable.
    pub async fn bind(
        listen: impl Into<Listen>,
        tls: Option<&TlsOptions>,
        limits: Limits,
    ) -> Result<Self, Error> {
        let tls = tls.map(TlsOptions::server).transpose()?;
        let listen = listen.into();
        let bind = |source| Error::Bind { address: listen.address(), source };
        let listener = listen.listener().await.map_err(bind)?;
        let address = listener.local_addr().map_err(bind)?;
        let routes = RoutesBuilder::default();
        Ok(Self { listener, address, tls, limits, routes, names: Vec::new(), descriptors: None })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The endpoint as [`super::connect`] takes it, with the scheme that fits.
    #[must_use]
    pub fn endpoint(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// Describes the services to grpcurl and the like; the encoded `FileDescriptorSet` of all of them.
    #[must_use]
    pub fn reflection(mut self, descriptors: &'static [u8]) -> Self {
        self.descriptors = Some(descriptors);
        self
    }

    /// Adds a generated service. Health says SERVING for it until the stop.
    #[must_use]
    pub fn add_service<S>(mut self, service: S) -> Self
    where
        S: Service<http::Request<Body>, Error = Infallible>
            + NamedService
            + Clone
            + Send
            + Sync
            + 'static,
        S::Response: axum::response::IntoResponse,
        S::Future: Send + 'static,
    {
        self.names.push(S::NAME);
        self.routes.add_service(service);
        self
    }

    /// Serves until the runtime's shutdown, then drains: no new connections or calls, running calls have
    /// [`Limits::drain`] to end, then their connections are cut. Dropping the future stops accepting at once.
    ///
    /// # Errors
    /// When the descriptors are broken or serving fails for good.
    pub async fn serve(self, runtime: &Runtime) -> Result<(), Error> {
        let Self { listener, address, tls, limits, mut routes, names, descriptors } = self;
        let (health, health_service) = tonic_health::server::health_reporter();
        for name in &names {
            health.set_service_status(*name, ServingStatus::Serving).await;
        }
        routes.add_service(health_service);
        if let Some(descriptors) = descriptors {
            let builder = || {
                tonic_reflection::server::Builder::configure()
                    .register_encoded_file_descriptor_set(descriptors)
                    .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            };
            routes.add_service(builder().build_v1().map_err(Error::Reflect)?);
            routes.add_service(builder().build_v1alpha().map_err(Error::Reflect)?);
        }

        let shutdown = runtime.shutdown.clone();
        let cut = shutdown.abort_token().child_token();
        let calls = Calls::new(limits.calls, &runtime.registry);
        let stop = async {
            shutdown.triggered().await;
            health.set_service_status("", ServingStatus::NotServing).await;
            for name in &names {
                health.set_service_status(*name, ServingStatus::NotServing).await;
            }
        };
        let serving = tonic::transport::Server::builder()
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_frame_size(FRAME_BYTES)
            .max_concurrent_streams(limits.streams_per_connection)
            .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
            .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
            .layer(CallLayer::new(calls))
            .serve_with_incoming_shutdown(
                routes.routes().prepare(),
                incoming(listener, tls, cut.clone()),
                stop,
            );
        tokio::pin!(serving);
        let late = async {
            shutdown.triggered().await;
            tokio::time::sleep(limits.drain).await;
        };
        let served = tokio::select! {
            served = &mut serving => served,
            () = late => {
                tracing::warn!(limit = ?limits.drain, "calls still running after the stop are cut");
                cut.cancel();
                tokio::time::timeout(CUT_LIMIT, &mut serving).await.unwrap_or(Ok(()))
            }
        };
        // Connections outlive this future in tasks of tonic's; an error must not leave them behind.
        cut.cancel();
        served.map_err(|source| Error::Serve { address, source })
    }
}
