//! One question over HTTPS, and the answer to it.

use std::sync::Arc;

use base64::Engine as _;
use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::TokioIo;
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use tokio::net::TcpStream;
use url::Url;

/// No answer is longer.
const LARGEST_BYTES: usize = 1 << 20;

/// A webhook cannot be asked.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// It says nothing.
    #[error("no answer within {seconds} s")]
    Late {
        /// Its `timeoutSeconds`.
        seconds: u64,
    },
    /// It is not an address that can be reached from here.
    #[error("clientConfig has no https url")]
    NoUrl,
    /// Whom it is to be trusted by cannot be read.
    #[error("clientConfig.caBundle holds no certificate")]
    NoAuthority,
    /// TLS cannot be set up.
    #[error("TLS")]
    Tls(#[source] rustls::Error),
    /// Nobody listens, or not who it should be.
    #[error("connect to {url}")]
    Connect {
        /// Where to.
        url: Url,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The connection broke.
    #[error("HTTP")]
    Http(#[source] hyper::Error),
    /// It has an error itself.
    #[error("it answers {status}: {text}")]
    Status {
        /// The code.
        status: StatusCode,
        /// The beginning of what it says.
        text: String,
    },
    /// It is no AdmissionReview.
    #[error("its answer is no AdmissionReview")]
    Answer,
}

/// The `response` of the AdmissionReview that comes back.
pub(super) async fn post(client: &Value, question: &Value) -> Result<Value, Error> {
    let url = client["url"].as_str().and_then(|url| Url::parse(url).ok()).ok_or(Error::NoUrl)?;
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    let port =
        url.port_or_known_default().filter(|_| url.scheme() == "https").ok_or(Error::NoUrl)?;
    let config = trust(client["caBundle"].as_str().unwrap_or_default())?;
    let on = |source| Error::Connect { url: url.clone(), source };
    let name = ServerName::try_from(host.clone()).map_err(|_| Error::NoUrl)?;
    let stream = TcpStream::connect((host.as_str(), port)).await.map_err(on)?;
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let stream = connector.connect(name, stream).await.map_err(on)?;
    let request = Request::post(&url[url::Position::BeforePath..url::Position::AfterQuery])
        .header(header::HOST, &url[url::Position::BeforeHost..url::Position::AfterPort])
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::CONNECTION, "close")
        .body(Full::new(Bytes::from(question.to_string())))
        .map_err(|_| Error::NoUrl)?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(Error::Http)?;
    let asking = std::pin::pin!(async {
        let answer = sender.send_request(request).await.map_err(Error::Http)?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), LARGEST_BYTES).collect().await;
        let body = body.map_err(|_| Error::Answer)?.to_bytes();
        if status != StatusCode::OK {
            let text = String::from_utf8_lossy(&body).trim().chars().take(512).collect();
            return Err(Error::Status { status, text });
        }
        let mut review: Value = serde_json::from_slice(&body).map_err(|_| Error::Answer)?;
        let response = review["response"].take();
        // An answer to another question is none.
        let answers = response["uid"] == question["request"]["uid"];
        if answers { Ok(response) } else { Err(Error::Answer) }
    });
    match futures::future::select(asking, std::pin::pin!(connection)).await {
        futures::future::Either::Left((answer, _)) => answer,
        futures::future::Either::Right((Err(error), _)) => Err(Error::Http(error)),
        futures::future::Either::Right((Ok(()), asking)) => asking.await,
    }
}

/// Only the bundle is trusted.
fn trust(bundle: &str) -> Result<ClientConfig, Error> {
    let pem = base64::engine::general_purpose::STANDARD.decode(bundle).unwrap_or_default();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(CertificateDer::pem_slice_iter(&pem).filter_map(Result::ok));
    if roots.is_empty() {
        return Err(Error::NoAuthority);
    }
    let builder = ClientConfig::builder_with_provider(coffer_runtime::tls::provider())
        .with_safe_default_protocol_versions()
        .map_err(Error::Tls)?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}
