//! The Pushgateway's HTTP API. Open to whoever reaches the port, as the original is: bind it to an address that only
//! the cluster sees, or put a proxy in front.
//!
//! One handler looks at the decoded path itself, since the original does: `%2F` separates path parts, empty parts are
//! redirected away, and no router's pattern would yield the same answers.
use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    response::Response,
};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use coffer_runtime::Clock;
use http::{HeaderMap, Method, StatusCode, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use tokio::sync::Semaphore;

use crate::{
    api,
    exposition::{CONTENT_TYPE, parse},
    family::Labels,
    groups::{Mode, Push, Rejected, Store},
    own::Own,
    path::{self, Place},
    scrape,
};

const PUSH_METHODS: &str = "DELETE, OPTIONS, POST, PUT";
const READ_METHODS: &str = "GET, OPTIONS";

/// Bodies read at a time; with their size limit, a bound on memory. Further pushes wait for their turn.
const BODIES: usize = 16;
/// A client that takes longer to send its body makes way for the next.
const BODY_LIMIT: Duration = Duration::from_secs(30);

/// What the routes share, and the gRPC service with them.
pub struct Gateway {
    /// The groups.
    pub store: Arc<Store>,
    /// What the gateway counts about itself.
    pub own: Own,
    /// The time of pushes.
    pub clock: Clock,
    /// Larger bodies are refused before they are read.
    pub max_body_bytes: usize,
    /// Since when it runs, for `/api/v1/status`.
    pub started: DateTime<Utc>,
    /// How it was started, for the same.
    pub flags: BTreeMap<String, String>,
    bodies: Semaphore,
}

/// The API as a service.
pub fn router(gateway: Arc<Gateway>) -> Router {
    Router::new().fallback(answer).with_state(gateway)
}

async fn answer(State(gateway): State<Arc<Gateway>>, request: Request) -> Response {
    let Some(path) = path::decode(request.uri().path()) else {
        return plain(
            StatusCode::BAD_REQUEST,
            "400 Bad Request: malformed percent-encoding in path",
        );
    };
    let clean = path::clean(&path);
    if clean != path {
        return redirect(StatusCode::MOVED_PERMANENTLY, &clean);
    }
    match path::place(&path) {
        Place::Group { encoded, job, labels } => {
            let grouping = path::grouping(encoded, job, labels);
            gateway.group(grouping, request).await
        }
        Place::Other(path) => gateway.other(path, request.method()),
    }
}

impl Gateway {
    /// A gateway that starts now.
    pub fn new(
        store: Arc<Store>,
        clock: Clock,
        max_body_bytes: usize,
        flags: BTreeMap<String, String>,
    ) -> Self {
        let (own, started, bodies) = (Own::default(), clock.now(), Semaphore::new(BODIES));
        Self { store, own, clock, max_body_bytes, started, flags, bodies }
    }

    async fn group(&self, grouping: Result<Labels, path::Error>, request: Request) -> Response {
        let method = request.method().clone();
        let mode = match method {
            Method::PUT => Mode::Replace,
            Method::POST => Mode::Merge,
            Method::DELETE => {
                let response = match grouping {
                    Ok(grouping) => {
                        self.store.delete(&grouping);
                        empty(StatusCode::ACCEPTED)
                    }
                    Err(error) => plain(StatusCode::BAD_REQUEST, &error.to_string()),
                };
                return self.counted("delete", &method, response);
            }
            method => return other_method(&method, PUSH_METHODS),
        };
        let start = Instant::now();
        let head = head_bytes(&request);
        let (response, body_bytes) = match grouping {
            Ok(grouping) => self.push(grouping, mode, request).await,
            Err(error) => (plain(StatusCode::BAD_REQUEST, &error.to_string()), 0),
        };
        #[allow(clippy::cast_precision_loss, reason = "a request's size, far below 2^53")]
        let bytes = (head + body_bytes) as f64;
        self.own.push(method.as_str(), start.elapsed().as_secs_f64(), bytes, self.clock.now());
        self.counted("push", &method, response)
    }

    async fn push(&self, grouping: Labels, mode: Mode, request: Request) -> (Response, usize) {
        if let Some(refusal) = unsupported(request.headers()) {
            return (plain(StatusCode::UNSUPPORTED_MEDIA_TYPE, &refusal), 0);
        }
        let body = match self.body(request.into_body()).await {
            Ok(body) => body,
            Err(response) => return (response, 0),
        };
        let response = match parse::parse(&body) {
            Err(error) => plain(StatusCode::BAD_REQUEST, &error.to_string()),
            Ok(parse::Parsed { families, timestamps }) => {
                let push = Push { grouping, families, timestamps, mode };
                match self.store.push(push, self.clock.now()) {
                    Ok(()) => empty(StatusCode::OK),
                    Err(rejected) => {
                        tracing::warn!(?mode, error = %rejected, "push rejected");
                        plain(status_of(&rejected), &rejected.to_string())
                    }
                }
            }
        };
        (response, body.len())
    }

    async fn body(&self, body: Body) -> Result<Bytes, Response> {
        let limit = self.max_body_bytes;
        let _turn = self.bodies.acquire().await;
        match tokio::time::timeout(BODY_LIMIT, Limited::new(body, limit).collect()).await {
            Err(_) => {
                let text = format!("the body did not arrive within {} s", BODY_LIMIT.as_secs());
                Err(plain(StatusCode::REQUEST_TIMEOUT, &text))
            }
            Ok(Ok(body)) => Ok(body.to_bytes()),
            Ok(Err(error)) if error.is::<LengthLimitError>() => {
                let text =
                    format!("the body is larger than {limit} bytes, see --push.max-body-bytes");
                Err(plain(StatusCode::PAYLOAD_TOO_LARGE, &text))
            }
            Ok(Err(error)) => Err(plain(StatusCode::BAD_REQUEST, &format!("read body: {error}"))),
        }
    }

    fn other(&self, path: &[u8], method: &Method) -> Response {
        let read = method == Method::GET;
        match path {
            b"/metrics" if read => {
                let (groups, _) = self.store.groups();
                let text = scrape::text(&groups, self.own.families(self.clock.now()));
                respond(StatusCode::OK, CONTENT_TYPE, text)
            }
            b"/-/healthy" if read => self.counted("healthy", method, ok()),
            b"/-/ready" if read => self.counted("ready", method, ok()),
            b"/api/v1/metrics" if read => {
                let (groups, _) = self.store.groups();
                let answer = respond(StatusCode::OK, JSON, api::metrics(&groups).to_string());
                self.counted("api/v1/metrics", method, allow_origins(answer))
            }
            b"/api/v1/status" if read => {
                let status = api::status(self.started, &self.flags);
                let answer = respond(StatusCode::OK, JSON, status.to_string());
                self.counted("api/v1/status", method, allow_origins(answer))
            }
            b"/api/v1/metrics" | b"/api/v1/status" if method == Method::OPTIONS => {
                self.counted("api/v1/options", method, allow_origins(empty(StatusCode::OK)))
            }
            b"/metrics" | b"/-/healthy" | b"/-/ready" | b"/api/v1/metrics" | b"/api/v1/status" => {
                other_method(method, READ_METHODS)
            }
            b"/-/quit" if method == Method::PUT || method == Method::POST => {
                respond(StatusCode::FORBIDDEN, TEXT, "Lifecycle API is not enabled.".to_owned())
            }
            b"/-/quit" => {
                let text = "Only POST or PUT requests allowed.".to_owned();
                respond(StatusCode::METHOD_NOT_ALLOWED, TEXT, text)
            }
            b"/metrics/" | b"/metrics/job/" | b"/-/healthy/" | b"/-/ready/" => {
                let code = if read {
                    StatusCode::MOVED_PERMANENTLY
                } else {
                    StatusCode::TEMPORARY_REDIRECT
                };
                redirect(code, &path[..path.len() - 1])
            }
            _ => plain(StatusCode::NOT_FOUND, "404 page not found"),
        }
    }

    fn counted(&self, handler: &'static str, method: &Method, response: Response) -> Response {
        self.own.request(handler, method.as_str(), response.status().as_u16());
        response
    }
}

fn status_of(rejected: &Rejected) -> StatusCode {
    match rejected {
        Rejected::Inconsistent(_) => StatusCode::BAD_REQUEST,
        Rejected::TooManyGroups(_) | Rejected::TooManySeries { .. } => {
            StatusCode::TOO_MANY_REQUESTS
        }
    }
}

/// Bodies that are not plain text, and that reading as text would only turn into a puzzling error. Other content
/// encodings pass as if they were none, which is what the original does.
fn unsupported(headers: &HeaderMap) -> Option<String> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let encoding = text(header::CONTENT_ENCODING);
    if ["gzip", "snappy"].iter().any(|unknown| encoding.eq_ignore_ascii_case(unknown)) {
        return Some(format!("content encoding {encoding} is not supported: push uncompressed"));
    }
    let content = text(header::CONTENT_TYPE);
    content
        .starts_with("application/vnd.google.protobuf")
        .then(|| "the protobuf format is not supported: push the text format 0.0.4".to_owned())
}

/// The size of a request without its body, near enough, as the Go client library counts it.
fn head_bytes(request: &Request) -> usize {
    let headers = request.headers().iter();
    let headers: usize = headers.map(|(name, value)| name.as_str().len() + value.len()).sum();
    headers + request.method().as_str().len() + request.uri().path().len() + "HTTP/1.1".len()
}

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json; charset=utf-8";

fn respond(code: StatusCode, content_type: &'static str, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = code;
    let content_type = header::HeaderValue::from_static(content_type);
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    response
}

fn ok() -> Response {
    respond(StatusCode::OK, TEXT, "OK")
}

fn empty(code: StatusCode) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = code;
    response
}

/// A short text and a line feed, as Go's `http.Error` makes them.
fn plain(code: StatusCode, text: &str) -> Response {
    let mut response = respond(code, TEXT, format!("{text}\n"));
    let nosniff = header::HeaderValue::from_static("nosniff");
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, nosniff);
    response
}

fn other_method(method: &Method, allowed: &'static str) -> Response {
    let mut response = if method == Method::OPTIONS {
        empty(StatusCode::OK)
    } else {
        plain(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed")
    };
    response.headers_mut().insert(header::ALLOW, header::HeaderValue::from_static(allowed));
    response
}

fn redirect(code: StatusCode, path: &[u8]) -> Response {
    let mut response = empty(code);
    if let Ok(location) = header::HeaderValue::from_str(&path::encode(path)) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response
}

/// Lets pages of any origin read the answer, as the original does under `/api`.
fn allow_origins(mut response: Response) -> Response {
    let headers = [
        (header::ACCESS_CONTROL_ALLOW_HEADERS, "Accept, Authorization, Content-Type, Origin"),
        (header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST, DELETE, OPTIONS"),
        (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
        (header::ACCESS_CONTROL_EXPOSE_HEADERS, "Date"),
        (header::CACHE_CONTROL, "no-cache, no-store, must-revalidate"),
    ];
    for (name, value) in headers {
        response.headers_mut().insert(name, header::HeaderValue::from_static(value));
    }
    response
}
