//! What every request to an object store goes through, whoever makes it.
//!
//! - **Connections.** At most as many requests at a time as the Repository's `maxConnections` allows; a request lasts until
//!   the last byte of its answer.
//! - **Throttling.** A store that answers 429 or 503 with `Retry-After` gets silence for so long, from all requests to it.
//!   Retrying, with backoff and jitter, is done above: by `object_store`, or by `request`.
//! - **Attestation.** If the store has verified or answered with a checksum of what it received, the engine is told, and
//!   need not read the object back.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use coffer_restic::Attested;
use crc_fast::CrcAlgorithm;
use http::header::RETRY_AFTER;
use http::{HeaderMap, Method, StatusCode};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpRequest, HttpResponse, HttpResponseBody, HttpService,
    ReqwestConnector,
};
use object_store::{ClientOptions, ObjectStore};
use parking_lot::Mutex;
use rustls_pki_types::CertificateDer;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

mod compares;
mod trust;
use compares::Compares;

/// Longer silence than this is not kept: a store that asks for an hour is tried again, and says it again.
const LONGEST_SILENCE: Duration = Duration::from_secs(60);

/// How a store shows that it received what was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checksum {
    /// It does not, or the store above looks itself.
    None,
    /// The request is signed with the SHA-256 of its body (`x-amz-content-sha256`), which the server should compare before
    /// it accepts it (`transport/compares.rs`).
    Signed,
    /// `x-ms-content-crc64`: CRC-64/NVME, little endian.
    Azure,
    /// `x-goog-hash: crc32c=`: CRC-32C, big endian.
    Google,
}

/// Makes the HTTP clients of one Repository. Clones share their connections and silence.
#[derive(Debug, Clone)]
pub struct Transport {
    permits: Option<Arc<Semaphore>>,
    silence: Arc<Mutex<Option<Instant>>>,
    checksum: Checksum,
    compares: Compares,
    trusted: Vec<CertificateDer<'static>>,
}

impl Transport {
    /// With this many connections at most, or any number.
    #[must_use]
    pub fn new(connections: Option<usize>, checksum: Checksum) -> Self {
        let permits = connections.map(|most| Arc::new(Semaphore::new(most)));
        Self {
            permits,
            silence: Arc::default(),
            checksum,
            compares: Compares::default(),
            trusted: Vec::new(),
        }
    }

    /// The same, but these certificates are trusted as well (`transport/trust.rs`).
    #[must_use]
    pub fn trusting(self, certificates: &[CertificateDer<'static>]) -> Self {
        Self { trusted: certificates.to_vec(), ..self }
    }

    /// Names a store that was made with this transport, for [`Checksum::Signed`] to be tried with.
    pub fn try_with(&self, store: &Arc<dyn ObjectStore>) {
        self.compares.try_with(store);
    }
}

impl HttpConnector for Transport {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let client = if self.trusted.is_empty() {
            ReqwestConnector::default().connect(options)?
        } else {
            trust::client(options, &self.trusted)?
        };
        Ok(HttpClient::new(Wire { client, shared: self.clone() }))
    }
}

#[derive(Debug)]
struct Wire {
    client: HttpClient,
    shared: Transport,
}

#[async_trait::async_trait]
impl HttpService for Wire {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        if self.shared.checksum == Checksum::Signed {
            // Before there is a permit, which the trial needs as well.
            self.shared.compares.ask(&request).await;
        }
        let permit = match &self.shared.permits {
            // Never closed; and without a permit there is no limit, not a failure.
            Some(permits) => permits.clone().acquire_owned().await.ok(),
            None => None,
        };
        let until = *self.shared.silence.lock();
        if let Some(until) = until {
            tokio::time::sleep_until(until).await;
        }
        let (mut response, is_attested) = self.send(request).await?;
        if let Some(pause) = silence(response.status(), response.headers(), Utc::now()) {
            tracing::info!(seconds = pause.as_secs_f32(), "the store asks for silence");
            *self.shared.silence.lock() = Some(Instant::now() + pause);
        }
        if is_attested {
            response.extensions_mut().insert(Attested);
        }
        Ok(match permit {
            None => response,
            Some(permit) => {
                response.map(|body| HttpResponseBody::new(Held { body, _permit: permit }))
            }
        })
    }
}

impl Wire {
    /// The answer, and whether the server has shown that it received what was sent.
    async fn send(&self, request: HttpRequest) -> Result<(HttpResponse, bool), HttpError> {
        let Transport { checksum, compares, .. } = &self.shared;
        if *checksum == Checksum::Signed {
            return compares.send(&self.client, request).await;
        }
        let writes = *request.method() == Method::PUT;
        let sent = if writes { Some(request.clone()) } else { None };
        let response = self.client.execute(request).await?;
        let is_attested = match sent {
            Some(sent) if response.status().is_success() => {
                attested(*checksum, sent, response.headers()).await
            }
            _ => false,
        };
        Ok((response, is_attested))
    }
}

/// How long a throttled client is told to wait, if it is.
fn silence(status: StatusCode, headers: &HeaderMap, now: DateTime<Utc>) -> Option<Duration> {
    if !matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
        return None;
    }
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = match text.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => (DateTime::parse_from_rfc2822(text).ok()?.to_utc() - now).to_std().ok()?,
    };
    Some(wait.min(LONGEST_SILENCE))
}

async fn attested(checksum: Checksum, sent: HttpRequest, answer: &HeaderMap) -> bool {
    let (algorithm, answered) = match checksum {
        Checksum::None | Checksum::Signed => return false,
        Checksum::Azure => (CrcAlgorithm::Crc64Nvme, answer.get("x-ms-content-crc64")),
        Checksum::Google => (CrcAlgorithm::Crc32Iscsi, answer.get("x-goog-hash")),
    };
    let Some(answered) = answered.and_then(|value| value.to_str().ok()) else { return false };
    let mut digest = crc_fast::Digest::new(algorithm);
    let mut body = sent.into_body();
    while let Some(frame) = body.frame().await {
        match frame.map(Frame::into_data) {
            Ok(Ok(data)) => digest.update(&data),
            _ => return false,
        }
    }
    let sum = digest.finalize();
    match checksum {
        Checksum::Azure => BASE64.encode(sum.to_le_bytes()) == answered.trim(),
        _ => {
            let expected = format!("crc32c={}", BASE64.encode(&sum.to_be_bytes()[4..]));
            answered.split(',').any(|part| part.trim() == expected)
        }
    }
}

/// An answer that holds its connection until it is read or dropped.
struct Held {
    body: HttpResponseBody,
    _permit: OwnedSemaphorePermit,
}

impl Body for Held {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests;
