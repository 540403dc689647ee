//! Accepted connections: TCP, then TLS, many handshakes at a time, so that a peer that is slow to shake hands holds up
//! nobody else. tonic's own acceptor would take one certificate for good.

use crate::authority::SERVICE_DOMAIN;
use crate::fault;
use crate::tls::Reloading;
use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, Stream, StreamExt as _, future::BoxFuture};
use rustls::ServerConfig;
use rustls_pki_types::CertificateDer;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::server::Connected;

/// A handshake takes two round trips; ten seconds are a peer that will not answer.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);
/// Handshakes at a time; further connections wait in the kernel's queue.
const MOST_HANDSHAKES: usize = 256;
/// Out of file descriptors, most likely: trying again at once would only spin.
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(100);

/// Who is at the other end of a connection; found among a request's extensions.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Its address.
    pub address: SocketAddr,
    /// The service that its verified certificate names, if it showed one that names any.
    pub service: Option<Arc<str>>,
}

/// A connection that can be cut from outside.
pub(super) struct Connection {
    io: Io,
    peer: Peer,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
}

enum Io {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

type Handshake = BoxFuture<'static, Option<Connection>>;

struct Acceptor {
    listener: TcpListener,
    tls: Option<Reloading<ServerConfig>>,
    cut: CancellationToken,
    handshakes: FuturesUnordered<Handshake>,
}

/// The connections of a listener. Failures concern one peer and are logged here; the stream has no end and no errors.
pub(super) fn incoming(
    listener: TcpListener,
    tls: Option<Reloading<ServerConfig>>,
    cut: CancellationToken,
) -> impl Stream<Item = io::Result<Connection>> {
    let acceptor = Acceptor { listener, tls, cut, handshakes: FuturesUnordered::new() };
    futures::stream::unfold(acceptor, |mut acceptor| async move {
        let connection = acceptor.next().await;
        Some((Ok(connection), acceptor))
    })
}

impl Acceptor {
    async fn next(&mut self) -> Connection {
        loop {
            let room = self.handshakes.len() < MOST_HANDSHAKES;
            tokio::select! {
                Some(done) = self.handshakes.next() => {
                    if let Some(connection) = done {
                        return connection;
                    }
                }
                accepted = self.listener.accept(), if room => match accepted {
                    Ok((stream, address)) => self.handshakes.push(self.shake_hands(stream, address)),
                    Err(error) => {
                        tracing::warn!(%error, "cannot accept a connection");
                        tokio::time::sleep(PAUSE_AFTER_ERROR).await;
                    }
                },
            }
        }
    }

    fn shake_hands(&self, stream: TcpStream, address: SocketAddr) -> Handshake {
        // Fails only on a socket that is gone, which the next read will tell.
        let _ = stream.set_nodelay(true);
        let cut = Box::pin(self.cut.clone().cancelled_owned());
        let Some(tls) = &self.tls else {
            let peer = Peer { address, service: None };
            return futures::future::ready(Some(Connection { io: Io::Plain(stream), peer, cut }))
                .boxed();
        };
        let acceptor = TlsAcceptor::from(tls.current());
        async move {
            match tokio::time::timeout(HANDSHAKE_LIMIT, acceptor.accept(stream)).await {
                Ok(Ok(stream)) => {
                    let certificates = stream.get_ref().1.peer_certificates();
                    let service = certificates.and_then(<[_]>::first).and_then(service_name);
                    let peer = Peer { address, service };
                    Some(Connection { io: Io::Tls(Box::new(stream)), peer, cut })
                }
                Ok(Err(error)) => {
                    let error = fault::chain(&error);
                    tracing::info!(peer = %address, error, "TLS handshake failed");
                    None
                }
                Err(_) => {
                    tracing::info!(peer = %address, "TLS handshake took too long");
                    None
                }
            }
        }
        .boxed()
    }
}

/// The service that a certificate names. The certificate has been verified by the handshake.
fn service_name(certificate: &CertificateDer<'_>) -> Option<Arc<str>> {
    let certificate = webpki::EndEntityCert::try_from(certificate).ok()?;
    let suffix = format!(".{SERVICE_DOMAIN}");
    certificate
        .valid_dns_names()
        .filter_map(|name| name.strip_suffix(suffix.as_str()))
        .find(|name| !name.is_empty() && !name.contains(['.', '*']))
        .map(Arc::from)
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // HTTP/2 always reads, so this one place is enough to end a connection.
        if self.cut.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        match &mut self.io {
            Io::Plain(io) => Pin::new(io).poll_read(cx, buffer),
            Io::Tls(io) => Pin::new(io).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.io {
            Io::Plain(io) => Pin::new(io).poll_write(cx, bytes),
            Io::Tls(io) => Pin::new(io).poll_write(cx, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.io {
            Io::Plain(io) => Pin::new(io).poll_flush(cx),
            Io::Tls(io) => Pin::new(io).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.io {
            Io::Plain(io) => Pin::new(io).poll_shutdown(cx),
            Io::Tls(io) => Pin::new(io).poll_shutdown(cx),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.io {
            Io::Plain(io) => Pin::new(io).poll_write_vectored(cx, slices),
            Io::Tls(io) => Pin::new(io).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.io {
            Io::Plain(io) => io.is_write_vectored(),
            Io::Tls(io) => io.is_write_vectored(),
        }
    }
}
