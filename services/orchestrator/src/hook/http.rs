//! One HTTP request. No proxy, no redirects followed: an answer of 200 to 399 is a success, as it is for a kubelet. The
//! server's certificate is verified, against the system's roots and the AppBinding's CA.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::HTTPHeader;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use url::Url;

use super::body::Body;

/// Of an answer that says no, so much is told, in bytes.
const TOLD: usize = 512;

/// A request.
#[derive(Debug)]
pub(super) struct Request {
    /// `GET` or `POST`.
    pub method: Method,
    /// Where to.
    pub url: Url,
    /// The user's headers.
    pub headers: Vec<HTTPHeader>,
    /// What is sent.
    pub body: Option<Body>,
}

/// A request failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be written.
    #[error("the request cannot be written: {0}")]
    Request(String),
    /// Nobody listens.
    #[error("connect")]
    Connect(#[source] std::io::Error),
    /// The server is not who it should be, or does not speak TLS.
    #[error(
        "TLS: the server's certificate is verified, with the system's CAs and the AppBinding's caBundle"
    )]
    Tls(#[source] std::io::Error),
    /// There is nothing to verify a server with.
    #[error("the CA certificates cannot be used")]
    Roots(#[source] rustls::Error),
    /// The connection broke.
    #[error("HTTP")]
    Http(#[source] hyper::Error),
    /// The server says no.
    #[error("the answer is {status}{text}")]
    Status {
        /// What it answers.
        status: StatusCode,
        /// And how it goes on.
        text: String,
    },
}

/// Sends a request. Dropping the future gives it up.
pub(super) async fn send(request: Request, authority: Option<&[u8]>) -> Result<StatusCode, Error> {
    let (host, port) = (
        request.url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned(),
        request.url.port_or_known_default().unwrap_or(80),
    );
    let tls = request.url.scheme() == "https";
    let request = write(request)?;
    let stream = TcpStream::connect((host.as_str(), port)).await.map_err(Error::Connect)?;
    if !tls {
        return talk(stream, request).await;
    }
    let name = ServerName::try_from(host)
        .map_err(|_| Error::Request("the host is no name that a certificate can have".into()))?;
    let connector = tokio_rustls::TlsConnector::from(Arc::new(trust(authority)?));
    talk(connector.connect(name, stream).await.map_err(Error::Tls)?, request).await
}

fn write(request: Request) -> Result<http::Request<Full<Bytes>>, Error> {
    let Request { method, url, headers, body } = request;
    let wrong = |error: http::Error| Error::Request(error.to_string());
    let target = &url[url::Position::BeforePath..url::Position::AfterQuery];
    let mut written = http::Request::builder()
        .method(method)
        .uri(target)
        .header(header::HOST, &url[url::Position::BeforeHost..url::Position::AfterPort])
        .header(header::USER_AGENT, concat!("coffer/", env!("CARGO_PKG_VERSION")))
        .header(header::CONNECTION, "close");
    if let Some(body) = &body {
        written = written.header(header::CONTENT_TYPE, body.kind);
    }
    let bytes = body.map_or_else(Bytes::new, |body| body.bytes.into());
    let mut written = written.body(Full::new(bytes)).map_err(wrong)?;
    for HTTPHeader { name, value } in headers {
        let name = HeaderName::try_from(name).map_err(|error| wrong(error.into()))?;
        let value = HeaderValue::try_from(value).map_err(|error| wrong(error.into()))?;
        // The user's own replaces ours.
        written.headers_mut().insert(name, value);
    }
    Ok(written)
}

fn trust(authority: Option<&[u8]>) -> Result<ClientConfig, Error> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let own = authority.map(CertificateDer::pem_slice_iter).into_iter().flatten();
    roots.add_parsable_certificates(own.filter_map(Result::ok));
    let provider = coffer_runtime::tls::provider();
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(Error::Roots)?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

async fn talk<S>(stream: S, request: http::Request<Full<Bytes>>) -> Result<StatusCode, Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(Error::Http)?;
    let asking = std::pin::pin!(async {
        let answer = sender.send_request(request).await.map_err(Error::Http)?;
        let status = answer.status();
        if status.is_success() || status.is_redirection() {
            return Ok(status);
        }
        // What is told of the answer is a help, and may be missing.
        let body = Limited::new(answer.into_body(), TOLD).collect().await;
        let text = body.map(|body| body.to_bytes()).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).trim().to_owned();
        let text = if text.is_empty() { text } else { format!(": {text}") };
        Err(Error::Status { status, text })
    });
    match futures::future::select(asking, std::pin::pin!(connection)).await {
        futures::future::Either::Left((answer, _)) => answer,
        futures::future::Either::Right((Err(error), _)) => Err(Error::Http(error)),
        futures::future::Either::Right((Ok(()), asking)) => asking.await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use coffer_runtime::authority::Authority;
    use coffer_runtime::tls::{Identity, TlsOptions};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    /// Answers one request over TLS; gives its URL.
    async fn server(identity: Identity, answer: &'static str) -> Url {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let config = TlsOptions::new(Some(identity), None).server().unwrap().current();
        // Ends with the runtime of the test.
        tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let acceptor = tokio_rustls::TlsAcceptor::from(config);
            // A client that does not trust us leaves.
            let Ok(mut stream) = acceptor.accept(stream).await else { return };
            let mut buffer = [0; 1024];
            let _ = stream.read(&mut buffer).await.unwrap();
            stream.write_all(answer.as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
        });
        Url::parse(&format!("https://localhost:{port}/x?y=1")).unwrap()
    }

    fn get(url: Url) -> Request {
        Request { method: Method::GET, url, headers: vec![], body: None }
    }

    #[tokio::test]
    async fn the_server_is_verified() {
        let authority = Authority::generate().unwrap();
        let identity = || authority.issue_plain("hook", &["localhost"]).unwrap();
        let ok = "HTTP/1.1 302 Found\r\ncontent-length: 0\r\n\r\n";
        let url = server(identity(), ok).await;
        let error = send(get(url), None).await.unwrap_err();
        assert!(coffer_runtime::fault::chain(&error).contains("UnknownIssuer"), "{error:?}");
        let pem = authority.certificate().as_bytes();
        let url = server(identity(), ok).await;
        assert_eq!(send(get(url), Some(pem)).await.unwrap(), 302);
        // Of this CA, but somebody else.
        let other = authority.issue_plain("hook", &["elsewhere"]).unwrap();
        let url = server(other, ok).await;
        assert!(matches!(send(get(url), Some(pem)).await, Err(Error::Tls(_))));
        let no = "HTTP/1.1 503 No\r\ncontent-length: 4\r\n\r\nbusy";
        let url = server(identity(), no).await;
        let error = send(get(url), Some(pem)).await.unwrap_err();
        assert_eq!(error.to_string(), "the answer is 503 Service Unavailable: busy");
    }
}
