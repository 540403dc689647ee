//! The client's side: a channel that connects when it is first used, and again after it was lost.

use super::{
    CONNECTION_WINDOW_BYTES, Error, FRAME_BYTES, KEEPALIVE_INTERVAL, KEEPALIVE_TIMEOUT,
    STREAM_WINDOW_BYTES,
};
use crate::secret::Secret;
use crate::tls::{Reloading, TlsOptions};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};

const CONNECT_LIMIT: Duration = Duration::from_secs(10);
const DEFAULT_PORT: u16 = 443;

/// A channel that carries a bearer token, or none.
pub type Authorized = InterceptedService<Channel, Bearer>;

/// A channel to `endpoint`: `https://host:port`, `http://host:port`, or `host:port`, which is TLS when options are given.
/// It connects on first use and reconnects by itself; a call on a channel that cannot connect fails with `UNAVAILABLE`,
/// naming the address and the cause. Certificates from files are read anew for each connection.
///
/// # Errors
/// When the endpoint cannot be parsed, or it and the TLS options do not fit together.
pub fn connect(endpoint: &str, tls: Option<&TlsOptions>) -> Result<Channel, Error> {
    let unusable = || Error::Endpoint { endpoint: endpoint.to_owned() };
    let (secure, authority) = match endpoint.split_once("://") {
        Some(("https", rest)) => (true, rest),
        Some(("http", rest)) => (false, rest),
        Some(_) => return Err(unusable()),
        None => (tls.is_some(), endpoint),
    };
    let authority: http::uri::Authority =
        authority.trim_end_matches('/').parse().map_err(|_| unusable())?;
    let tls = match (secure, tls) {
        (true, Some(options)) => Some(Arc::new(options.client()?)),
        (false, None) => None,
        (true, None) => return Err(Error::NeedsTls { endpoint: endpoint.to_owned() }),
        (false, Some(_)) => return Err(Error::Downgrade { endpoint: endpoint.to_owned() }),
    };
    let target = Arc::new(Target {
        host: authority.host().trim_start_matches('[').trim_end_matches(']').to_owned(),
        port: authority.port_u16().unwrap_or(DEFAULT_PORT),
        tls,
    });
    let scheme = if secure { "https" } else { "http" };
    // tonic must not wrap our connection in a TLS of its own, hence http as the address and the true scheme as origin.
    let address = Endpoint::from_shared(format!("http://{authority}")).map_err(|_| unusable())?;
    let origin = format!("{scheme}://{authority}").parse().map_err(|_| unusable())?;
    let channel = address
        .origin(origin)
        .connect_timeout(CONNECT_LIMIT)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_frame_size(FRAME_BYTES)
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        .connect_with_connector_lazy(tower::service_fn(move |_: http::Uri| {
            let target = target.clone();
            async move { target.open().await.map(TokioIo::new) }
        }));
    Ok(channel)
}

/// Adds a token to every call on the channel; without one the channel stays as it is, but of the same type.
///
/// # Errors
/// When the token has characters that cannot be sent.
pub fn with_token(channel: Channel, token: Option<&Secret>) -> Result<Authorized, Error> {
    Ok(InterceptedService::new(channel, Bearer::new(token)?))
}

/// Sets `authorization: Bearer …` on each call.
#[derive(Clone)]
pub struct Bearer(Option<MetadataValue<Ascii>>);

impl Bearer {
    /// For generated clients' `with_interceptor`.
    ///
    /// # Errors
    /// When the token has characters that cannot be sent.
    pub fn new(token: Option<&Secret>) -> Result<Self, Error> {
        let header = token.map(|token| {
            let mut header: MetadataValue<Ascii> =
                format!("Bearer {}", token.reveal()).parse().map_err(|_| Error::Token)?;
            header.set_sensitive(true);
            Ok(header)
        });
        header.transpose().map(Self)
    }
}

impl Interceptor for Bearer {
    fn call(
        &mut self,
        mut request: tonic::Request<()>,
    ) -> Result<tonic::Request<()>, tonic::Status> {
        if let Some(header) = &self.0 {
            request.metadata_mut().insert("authorization", header.clone());
        }
        Ok(request)
    }
}

struct Target {
    host: String,
    port: u16,
    tls: Option<Arc<Reloading<ClientConfig>>>,
}

/// Said in full, since tonic shows only this error's own text.
#[derive(Debug, thiserror::Error)]
#[error("cannot connect to {host}:{port}: {cause}")]
struct Unreachable {
    host: String,
    port: u16,
    cause: String,
}

trait Io: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

impl Target {
    async fn open(&self) -> Result<Box<dyn Io>, Unreachable> {
        self.try_open().await.map_err(|error| Unreachable {
            host: self.host.clone(),
            port: self.port,
            cause: crate::fault::chain(&error),
        })
    }

    async fn try_open(&self) -> io::Result<Box<dyn Io>> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
        stream.set_nodelay(true)?;
        let Some(tls) = &self.tls else { return Ok(Box::new(stream)) };
        let name = ServerName::try_from(self.host.clone()).map_err(io::Error::other)?;
        let stream = TlsConnector::from(tls.current()).connect(name, stream).await?;
        if stream.get_ref().1.alpn_protocol() != Some(b"h2") {
            return Err(io::Error::other("the server does not speak HTTP/2"));
        }
        Ok(Box::new(stream))
    }
}
