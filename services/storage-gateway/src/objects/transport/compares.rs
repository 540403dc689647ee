//! Whether a server that speaks S3 compares what it receives with the hash that the request is signed with.
//!
//! The protocol asks for it, and Amazon's servers do it; others take whatever comes. So it is tried before the first pack:
//! an object of its own is sent with another first byte than was signed, and has to be refused; and then as it was signed,
//! and has to be taken. Otherwise packs are read back. No object of a repository is ever sent but as it is: a request that
//! was given up can still arrive, after what replaced it.

use bytes::Bytes;
use http::{Method, StatusCode};
use http_body_util::BodyExt as _;
use object_store::client::{HttpClient, HttpError, HttpRequest, HttpRequestBody, HttpResponse};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _, PutOptions};
use parking_lot::Mutex;
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

/// Whose documentation promises it.
const PROMISED: [&str; 3] = [".amazonaws.com", ".amazonaws.com.cn", ".backblazeb2.com"];
/// The object that it is tried with, beside the repository's config. restic has none of this name.
const TRIAL: &str = "coffer-trial";
/// How long a server that could not be asked is left alone: one may fail at whatever differs.
const PAUSE: Duration = Duration::from_secs(600);
const CONTENT: &str = "tells whether the server compares checksums";

/// What is known of one server. Clones share it.
#[derive(Debug, Clone, Default)]
pub(super) struct Compares {
    known: Arc<OnceLock<bool>>,
    /// The store to try it with, which sends through this very transport.
    store: Arc<OnceLock<Weak<dyn ObjectStore>>>,
    /// One asks at a time; and when it last could not be told.
    asking: Arc<tokio::sync::Mutex<Option<Instant>>>,
}

/// Marks a request of the trial; keeps what it was answered.
#[derive(Debug, Clone, Default)]
struct Trial {
    forge: bool,
    status: Arc<Mutex<Option<StatusCode>>>,
}

impl Compares {
    pub(super) fn try_with(&self, store: &Arc<dyn ObjectStore>) {
        self.store.get_or_init(|| Arc::downgrade(store));
    }

    /// Finds it out, if this is a pack and nothing is known yet.
    pub(super) async fn ask(&self, request: &HttpRequest) {
        if !is_pack(request) || !is_signed(request) || self.known(request).is_some() {
            return;
        }
        let mut untold = self.asking.lock().await;
        if untold.is_some_and(|at| at.elapsed() < PAUSE) {
            return;
        }
        let store = self.store.get().and_then(Weak::upgrade);
        let Some(store) = store.filter(|_| self.known(request).is_none()) else { return };
        let compares = compares(&*store).await;
        if compares != Some(true) {
            let host = request.uri().host().unwrap_or_default();
            tracing::warn!(
                host,
                "this S3 server takes what differs from its hash, or cannot be asked: packs are read back"
            );
        }
        match compares {
            Some(compares) => drop(self.known.set(compares)),
            None => *untold = Some(Instant::now()),
        }
    }

    /// Sends a request, and tells whether the server has compared its content if it has accepted it.
    pub(super) async fn send(
        &self,
        client: &HttpClient,
        request: HttpRequest,
    ) -> Result<(HttpResponse, bool), HttpError> {
        if let Some(trial) = request.extensions().get::<Trial>().cloned() {
            let request = if trial.forge { forged(request).await? } else { request };
            let answer = client.execute(request).await?;
            *trial.status.lock() = Some(answer.status());
            return Ok((answer, false));
        }
        // Only packs are left unread if the server has attested them.
        let compares = is_pack(&request) && is_signed(&request);
        let compares = compares && self.known(&request) == Some(true);
        let answer = client.execute(request).await?;
        let attested = compares && answer.status().is_success();
        Ok((answer, attested))
    }

    fn known(&self, request: &HttpRequest) -> Option<bool> {
        let host = request.uri().host().unwrap_or_default();
        if PROMISED.iter().any(|suffix| host.ends_with(suffix)) {
            return Some(true);
        }
        self.known.get().copied()
    }
}

/// Whether the server refuses what differs from its hash, and only that; `None` if it cannot be told now.
async fn compares(store: &dyn ObjectStore) -> Option<bool> {
    let name = Path::from(TRIAL);
    let put = async |forge| {
        let trial = Trial { forge, ..Trial::default() };
        let mut options = PutOptions::default();
        options.extensions.insert(trial.clone());
        let result = store.put_opts(&name, CONTENT.into(), options).await;
        if let Err(error) = result {
            tracing::debug!(%error, forge, "the answer to a trial");
        }
        let status = *trial.status.lock();
        refused(status?)
    };
    let compares = match put(true).await? {
        // Who refuses the true one as well says nothing of the other.
        true => !put(false).await?,
        false => false,
    };
    // What stays of it harms nobody.
    if let Err(error) = store.delete(&name).await {
        tracing::debug!(%error, "a trial is left behind");
    }
    Some(compares)
}

fn is_pack(request: &HttpRequest) -> bool {
    let mut names = request.uri().path().rsplit('/');
    let (id, _, folder) = (names.next(), names.next(), names.next());
    request.method() == Method::PUT
        && folder == Some("data")
        && id.is_some_and(|id| id.len() == 64 && id.bytes().all(|c| c.is_ascii_hexdigit()))
}

fn is_signed(request: &HttpRequest) -> bool {
    request.headers().get("x-amz-content-sha256").is_some_and(|hash| hash.len() == 64)
}

/// The request with another first byte in its body.
async fn forged(request: HttpRequest) -> Result<HttpRequest, HttpError> {
    let (parts, body) = request.into_parts();
    let mut content = body.collect().await?.to_bytes().to_vec();
    if let Some(first) = content.first_mut() {
        *first ^= 1;
    }
    Ok(HttpRequest::from_parts(parts, HttpRequestBody::from(Bytes::from(content))))
}

/// Whether the content was refused; `None` if the answer says nothing of it.
fn refused(status: StatusCode) -> Option<bool> {
    let later = [StatusCode::TOO_MANY_REQUESTS, StatusCode::REQUEST_TIMEOUT];
    match status {
        status if status.is_success() => Some(false),
        status if status.is_client_error() && !later.contains(&status) => Some(true),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Checksum, Transport, Wire};
    use super::*;
    use coffer_restic::Attested;
    use object_store::aws::AmazonS3Builder;
    use object_store::client::{HttpConnector, HttpResponseBody, HttpService};
    use object_store::{ClientOptions, RetryConfig};
    use std::collections::VecDeque;

    /// Name and content.
    type Sent = (String, Vec<u8>);

    /// Gives these answers, then success, and keeps the names and the content that it was sent.
    #[derive(Debug, Clone, Default)]
    struct Script {
        answers: Arc<Mutex<VecDeque<u16>>>,
        sent: Arc<Mutex<Vec<Sent>>>,
        transport: Option<Transport>,
    }

    #[async_trait::async_trait]
    impl HttpService for Script {
        async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
            let (parts, body) = request.into_parts();
            let body = body.collect().await?.to_bytes();
            let mut answer = HttpResponse::new(HttpResponseBody::from(String::new()));
            answer.headers_mut().insert("etag", "x".parse().unwrap());
            if parts.method == Method::PUT {
                let name = parts.uri.path().rsplit('/').next().unwrap_or_default();
                self.sent.lock().push((name.to_owned(), body.to_vec()));
                let status = self.answers.lock().pop_front().unwrap_or(200);
                *answer.status_mut() = StatusCode::from_u16(status).unwrap();
            }
            Ok(answer)
        }
    }

    impl HttpConnector for Script {
        fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
            let shared = self.transport.clone().unwrap();
            Ok(HttpClient::new(Wire { client: HttpClient::new(self.clone()), shared }))
        }
    }

    /// What was attested of two writes, and what was sent.
    async fn run(host: &str, name: &str, answers: &[u16]) -> (Vec<bool>, Vec<(String, Vec<u8>)>) {
        // One connection is enough.
        let transport = Transport::new(Some(1), Checksum::Signed);
        let answers = Arc::new(Mutex::new(answers.iter().copied().collect()));
        let script = Script { answers, transport: Some(transport.clone()), ..Script::default() };
        let sent = script.sent.clone();
        let store = AmazonS3Builder::new()
            .with_bucket_name("b")
            .with_endpoint(format!("https://{host}"))
            .with_access_key_id("id")
            .with_secret_access_key("key")
            .with_retry(RetryConfig { max_retries: 0, ..RetryConfig::default() })
            .with_http_connector(script)
            .build();
        let store: Arc<dyn ObjectStore> = Arc::new(store.unwrap());
        transport.try_with(&store);
        let mut attested = Vec::new();
        for _ in 0..2 {
            let answer = store.put(&Path::from(name), "true".into()).await;
            attested.push(answer.is_ok_and(|put| put.extensions.get::<Attested>().is_some()));
        }
        let sent = sent.lock().clone();
        (attested, sent)
    }

    #[tokio::test]
    async fn a_server_is_believed_once_it_has_refused_what_differs_from_its_hash_and_only_that() {
        let id = "ab".repeat(32);
        let pack = format!("data/ab/{id}");
        let whole = (id.clone(), b"true".to_vec());
        let genuine = (TRIAL.to_owned(), CONTENT.as_bytes().to_vec());
        let mut forged = genuine.clone();
        forged.1[0] ^= 1;

        let (attested, sent) = run("minio", &pack, &[400]).await;
        assert_eq!(attested, [true, true]);
        assert_eq!(sent, [forged.clone(), genuine.clone(), whole.clone(), whole.clone()]);
        let (attested, sent) = run("moto", &pack, &[]).await;
        assert_eq!(attested, [false, false]);
        assert_eq!(sent, [forged.clone(), whole.clone(), whole.clone()]);
        // Where the true one is refused too, it cannot be told; where nobody is at home, not yet, nor for the next pack.
        assert_eq!(run("minio", &pack, &[403, 403]).await.0, [false, false]);
        let (attested, sent) = run("minio", &pack, &[503, 200, 400]).await;
        assert_eq!(attested, [false, false]);
        assert_eq!(sent, [forged, whole.clone(), whole.clone()]);
        assert_eq!(run("minio", &pack, &[400, 503, 200, 400]).await.0, [false, false]);
        // Amazon is not asked, and of other objects nothing is said.
        let amazon = "s3.eu-west-1.amazonaws.com";
        assert_eq!(run(amazon, &pack, &[]).await, (vec![true; 2], vec![whole.clone(); 2]));
        let index = format!("index/{id}");
        assert_eq!(run("minio", &index, &[]).await, (vec![false; 2], vec![whole; 2]));
    }
}
