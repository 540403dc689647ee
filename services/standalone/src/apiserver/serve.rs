//! The service over TLS, for kubectl and everybody else on this machine.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tower::Service as _;

use super::service::Service;

/// How many connections are open at a time; the next one waits. It bounds memory, since a request
/// body may be 3 MiB.
const CONNECTIONS: usize = 512;
/// How many requests one HTTP/2 connection may have open, watches included.
const STREAMS: u32 = 250;
/// How long a client may take to shake hands and to send its headers.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long open requests may take to end at shutdown.
const DRAIN: Duration = Duration::from_secs(5);

/// Accepts connections until `shutdown`; then ends watches, lets other requests finish, and returns.
pub(super) async fn run(
    service: Service,
    listener: TcpListener,
    tls: ServerConfig,
    shutdown: impl Future<Output = ()>,
) {
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    let permits = Arc::new(Semaphore::new(CONNECTIONS));
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    tokio::pin!(shutdown);
    loop {
        while connections.try_join_next().is_some() {}
        let accepted = tokio::select! {
            () = &mut shutdown => break,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of file descriptors, mostly: those that end will free some.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { break };
        let (acceptor, service, watcher) = (acceptor.clone(), service.clone(), graceful.watcher());
        connections.spawn(async move {
            connection(acceptor, stream, service, watcher).await;
            drop(permit);
        });
    }
    drop(listener);
    service.stop.cancel();
    if tokio::time::timeout(DRAIN, graceful.shutdown()).await.is_err() {
        tracing::warn!("connections are cut that did not end in time");
    }
    connections.shutdown().await;
}

async fn connection(
    acceptor: TlsAcceptor,
    stream: TcpStream,
    service: Service,
    watcher: hyper_util::server::graceful::Watcher,
) {
    drop(stream.set_nodelay(true));
    let stream = match tokio::time::timeout(PATIENCE, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            tracing::debug!(%error, "a TLS handshake failed");
            return;
        }
        Err(_) => return,
    };
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(PATIENCE);
    builder.http2().timer(TokioTimer::new()).max_concurrent_streams(STREAMS);
    let serve = service_fn(move |request| service.clone().call(request));
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), serve);
    let connection = connection.into_owned();
    if let Err(error) = watcher.watch(connection).await {
        tracing::debug!(%error, "a connection ended");
    }
}
