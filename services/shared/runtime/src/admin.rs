//! The admin endpoint: `/live` (the process answers), `/ready` (every latch is released and no stop was asked for; else
//! 503 with what is missing) and `/metrics` (Prometheus text). Plain HTTP: it carries no secrets, and kubelets and
//! scrapers have no certificates of ours.

use crate::{Readiness, Runtime, Shutdown};
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus::{Registry, TextEncoder};
use std::net::SocketAddr;
use tokio::net::TcpListener;

/// The endpoint cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address is taken or not ours.
    #[error("listen for probes on {address}")]
    Bind {
        /// Where.
        address: SocketAddr,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// Accepting failed for good.
    #[error("serve probes")]
    Serve(#[source] std::io::Error),
}

/// A bound admin endpoint.
pub struct Endpoint {
    listener: TcpListener,
    address: SocketAddr,
    sources: Sources,
}

#[derive(Clone)]
struct Sources {
    registries: Vec<Registry>,
    readiness: Vec<Readiness>,
    shutdown: Shutdown,
}

impl Endpoint {
    /// Binds the address; port 0 takes a free one.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub async fn bind(address: SocketAddr, runtime: &Runtime) -> Result<Self, Error> {
        let bind = |source| Error::Bind { address, source };
        let listener = TcpListener::bind(address).await.map_err(bind)?;
        let address = listener.local_addr().map_err(bind)?;
        let sources = Sources {
            registries: vec![runtime.registry.clone()],
            readiness: vec![runtime.readiness.clone()],
            shutdown: runtime.shutdown.clone(),
        };
        Ok(Self { listener, address, sources })
    }

    /// Also shows the metrics and waits for the readiness of a service embedded in this process.
    #[must_use]
    pub fn with(mut self, child: &Runtime) -> Self {
        self.sources.registries.push(child.registry.clone());
        self.sources.readiness.push(child.readiness.clone());
        self
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until the future is dropped. It goes on during a drain, when `/ready` says 503.
    ///
    /// # Errors
    /// When accepting fails for good.
    pub async fn serve(self) -> Result<(), Error> {
        let router = axum::Router::new()
            .route("/live", get(|| async { "alive\n" }))
            .route("/ready", get(ready))
            .route("/metrics", get(metrics))
            .with_state(self.sources);
        axum::serve(self.listener, router).await.map_err(Error::Serve)
    }
}

async fn ready(State(sources): State<Sources>) -> Response {
    if sources.shutdown.is_triggered() {
        return (StatusCode::SERVICE_UNAVAILABLE, "stopping\n").into_response();
    }
    let pending: Vec<_> = sources.readiness.iter().flat_map(Readiness::pending).collect();
    if pending.is_empty() {
        return "ready\n".into_response();
    }
    let text = format!("waiting for {}\n", pending.join(", "));
    (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
}

async fn metrics(State(sources): State<Sources>) -> Response {
    let families: Vec<_> = sources.registries.iter().flat_map(Registry::gather).collect();
    match TextEncoder::new().encode_to_string(&families) {
        Ok(text) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    async fn get(address: SocketAddr, path: &str) -> String {
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn tells_life_readiness_and_metrics() {
        let runtime = Runtime::new();
        let counter = prometheus::IntCounter::new("things_total", "Things.").unwrap();
        runtime.registry.register(Box::new(counter.clone())).unwrap();
        counter.inc();
        let latch = runtime.readiness.latch("watch");
        let endpoint = Endpoint::bind(([127, 0, 0, 1], 0).into(), &runtime).await.unwrap();
        let address = endpoint.address();
        let serving = tokio::spawn(endpoint.serve());

        assert!(get(address, "/live").await.starts_with("HTTP/1.1 200"));
        let answer = get(address, "/ready").await;
        assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("waiting for watch"));
        latch.release();
        assert!(get(address, "/ready").await.starts_with("HTTP/1.1 200"));
        assert!(get(address, "/metrics").await.contains("things_total 1"));
        runtime.shutdown.trigger();
        assert!(get(address, "/ready").await.contains("stopping"));
        serving.abort();
    }
}
