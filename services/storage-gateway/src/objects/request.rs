//! Requests of the thin stores: tried again as `object_store` tries its own, answers read whole.
//!
//! Every request that the engine makes can be repeated: objects are named by their content, and deleting twice is
//! deleting. An answer is read inside the attempt, so that a connection that breaks in mid-body costs one more attempt.
//! Nothing is larger than a pack.

use super::answer::Answer;
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HeaderName, SERVER};
use http::{Method, Request, StatusCode};
use object_store::RetryConfig;
use object_store::client::{HttpClient, HttpErrorKind, HttpRequest, HttpRequestBody};
use std::time::Duration;
use tokio::time::Instant;

/// As much of an answer's text as an error repeats.
const MOST_TEXT: usize = 300;

/// A request that can be sent any number of times.
#[derive(Debug, Clone)]
pub(super) struct Draft {
    pub(super) method: Method,
    pub(super) url: String,
    pub(super) headers: Vec<(HeaderName, String)>,
    pub(super) body: Option<Bytes>,
}

impl Draft {
    pub(super) fn new(method: Method, url: impl Into<String>) -> Self {
        Self { method, url: url.into(), headers: Vec::new(), body: None }
    }

    pub(super) fn header(mut self, name: HeaderName, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub(super) fn body(self, body: Bytes) -> Self {
        Self { body: Some(body), ..self }
    }

    fn build(&self) -> Result<HttpRequest, http::Error> {
        let mut builder = Request::builder().method(self.method.clone()).uri(&self.url);
        for (name, value) in &self.headers {
            builder = builder.header(name, value);
        }
        let body = match &self.body {
            Some(body) => {
                builder = builder.header(CONTENT_LENGTH, body.len());
                HttpRequestBody::from(body.clone())
            }
            None => HttpRequestBody::empty(),
        };
        builder.body(body)
    }
}

/// No success.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// The server said no.
    #[error("the server answered {status}{text}")]
    Status { status: StatusCode, text: String, server: String },
    /// The server cannot be reached, or broke off.
    #[error("{0}")]
    Transport(#[source] object_store::client::HttpError),
    /// The request itself is impossible.
    #[error("the request cannot be made: {0}")]
    Unusable(#[from] http::Error),
}

impl Failure {
    pub(super) fn status(&self) -> Option<StatusCode> {
        match self {
            Self::Status { status, .. } => Some(*status),
            Self::Transport(_) | Self::Unusable(_) => None,
        }
    }

    fn may_pass(&self) -> bool {
        match self {
            Self::Status { status, .. } => {
                let for_good = [
                    StatusCode::NOT_IMPLEMENTED,
                    StatusCode::HTTP_VERSION_NOT_SUPPORTED,
                    StatusCode::INSUFFICIENT_STORAGE,
                ];
                status.is_server_error() && !for_good.contains(status)
                    || matches!(
                        *status,
                        StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT
                    )
            }
            Self::Transport(error) => {
                !matches!(error.kind(), HttpErrorKind::Unknown | HttpErrorKind::Decode)
            }
            Self::Unusable(_) => false,
        }
    }

    /// In the words of `object_store`, from which the engine's follow.
    pub(super) fn into_error(self, store: &'static str, path: String) -> object_store::Error {
        use object_store::Error as E;
        let status = self.status();
        let source: Box<dyn std::error::Error + Send + Sync> = Box::new(self);
        match status {
            Some(StatusCode::NOT_FOUND | StatusCode::GONE) => E::NotFound { path, source },
            Some(StatusCode::UNAUTHORIZED) => E::Unauthenticated { path, source },
            Some(StatusCode::FORBIDDEN) => E::PermissionDenied { path, source },
            Some(StatusCode::PRECONDITION_FAILED | StatusCode::CONFLICT) => {
                E::AlreadyExists { path, source }
            }
            Some(StatusCode::INSUFFICIENT_STORAGE | StatusCode::PAYLOAD_TOO_LARGE) => {
                let full = std::io::Error::new(std::io::ErrorKind::StorageFull, source);
                E::Generic { store, source: Box::new(full) }
            }
            _ => E::Generic { store, source },
        }
    }
}

/// Sends until it succeeds, fails for good, or patience ends.
pub(super) async fn send(
    client: &HttpClient,
    patience: &RetryConfig,
    draft: &Draft,
) -> Result<Answer, Failure> {
    let began = Instant::now();
    let mut tries = 0;
    loop {
        let failure = match once(client, draft).await {
            Ok(answer) => return Ok(answer),
            Err(failure) => failure,
        };
        let over = tries >= patience.max_retries || began.elapsed() >= patience.retry_timeout;
        if over || !failure.may_pass() {
            return Err(failure);
        }
        let pause = pause(patience, tries);
        tries += 1;
        tracing::info!(%failure, tries, seconds = pause.as_secs_f32(), "trying again");
        tokio::time::sleep(pause).await;
    }
}

/// Exponential, and somewhere between the last pause and the next: clients that failed together do not come back together.
fn pause(patience: &RetryConfig, tries: usize) -> Duration {
    let backoff = &patience.backoff;
    let growth = backoff.base.powi(i32::try_from(tries).unwrap_or(i32::MAX));
    let most = backoff.max_backoff.as_secs_f64();
    let upper = (backoff.init_backoff.as_secs_f64() * growth).min(most);
    Duration::from_secs_f64(upper * rand::random_range(0.5..1.0))
}

async fn once(client: &HttpClient, draft: &Draft) -> Result<Answer, Failure> {
    let response = client.execute(draft.build()?).await.map_err(Failure::Transport)?;
    let (parts, body) = response.into_parts();
    let body = body.bytes().await;
    if parts.status.is_success() {
        let body = body.map_err(Failure::Transport)?;
        let (status, extensions) = (parts.status, parts.extensions);
        return Ok(Answer { status, headers: parts.headers, extensions, body });
    }
    // An answer to HEAD has no text, and a text that cannot be read is none.
    let text = String::from_utf8_lossy(&body.unwrap_or_default()).trim().to_owned();
    let text: String = text.chars().take(MOST_TEXT).filter(|c| !c.is_control()).collect();
    let text = if text.is_empty() { text } else { format!(": {text}") };
    let server = parts.headers.get(SERVER).and_then(|server| server.to_str().ok());
    let server = server.unwrap_or_default().to_owned();
    Err(Failure::Status { status: parts.status, text, server })
}

#[cfg(test)]
mod tests {
    use super::*;
    use object_store::BackoffConfig;
    use object_store::client::{HttpError, HttpResponse, HttpResponseBody, HttpService};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// Answers with one status after the other, the last one for good.
    #[derive(Debug)]
    struct Script(&'static [u16], Arc<AtomicUsize>);

    #[async_trait::async_trait]
    impl HttpService for Script {
        async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
            let Self(script, calls) = self;
            assert_eq!(request.body().content_length(), 4, "each attempt sends the body");
            let n = calls.fetch_add(1, Ordering::SeqCst).min(script.len() - 1);
            let mut response = HttpResponse::new(HttpResponseBody::from("why\n".to_owned()));
            *response.status_mut() = StatusCode::from_u16(script[n]).unwrap();
            Ok(response)
        }
    }

    async fn run(script: &'static [u16]) -> (Result<Answer, Failure>, usize) {
        let calls = Arc::new(AtomicUsize::new(0));
        let client = HttpClient::new(Script(script, calls.clone()));
        let quick = Duration::from_millis(1);
        let backoff = BackoffConfig { init_backoff: quick, max_backoff: quick, base: 2.0 };
        let retry_timeout = Duration::from_secs(60);
        let patience = RetryConfig { backoff, max_retries: 4, retry_timeout };
        let draft = Draft::new(Method::PUT, "http://store/x").body(Bytes::from_static(b"four"));
        let result = send(&client, &patience, &draft).await;
        (result, calls.load(Ordering::SeqCst))
    }

    #[tokio::test]
    async fn what_may_pass_is_tried_again_and_what_stays_is_not() {
        let (answer, calls) = run(&[503, 429, 500, 200]).await;
        assert_eq!((answer.unwrap().body.as_ref(), calls), (&b"why\n"[..], 4));
        let (failure, calls) = run(&[500]).await;
        assert_eq!((failure.unwrap_err().status().unwrap().as_u16(), calls), (500, 5));
        for status in [[403], [404], [501], [507]] {
            let (failure, calls) = run(Box::leak(Box::new(status))).await;
            let text = failure.unwrap_err().to_string();
            assert_eq!(calls, 1, "{text}");
            assert!(text.contains(": why"), "{text}");
        }
    }
}
