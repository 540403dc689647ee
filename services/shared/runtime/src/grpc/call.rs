//! What happens around every call: admission, the deadline, the log line and the metrics.
//!
//! tonic applies `grpc-timeout` only until the response's headers; here it also ends a response stream. The permit, the
//! deadline and the figures end with the response's body, wherever it ends: at its trailers, at the deadline, or because
//! the caller went away.

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{HeaderMap, Request, Response};
use http_body::{Frame, SizeHint};
use prometheus::{HistogramVec, IntCounterVec, IntGauge, Opts, Registry};
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep};
use tonic::body::Body;
use tonic::{Code, Status};
use tower::{Layer, Service};

/// The limit and the figures of one server.
pub(super) struct Calls {
    limit: usize,
    permits: Arc<Semaphore>,
    ended: IntCounterVec,
    seconds: HistogramVec,
    running: IntGauge,
}

impl Calls {
    pub(super) fn new(limit: usize, registry: &Registry) -> Arc<Self> {
        let ended = IntCounterVec::new(
            Opts::new("coffer_grpc_calls_total", "Calls that have ended, by method and gRPC code."),
            &["method", "code"],
        );
        let seconds = HistogramVec::new(
            prometheus::HistogramOpts::new("coffer_grpc_call_seconds", "How long calls took.")
                .buckets(vec![0.005, 0.05, 0.5, 5.0, 50.0, 500.0, 5000.0]),
            &["method"],
        );
        let running = IntGauge::new("coffer_grpc_calls_running", "Calls that are running.");
        let (ended, seconds, running) = (
            ended.expect("the metric's name and labels are valid"),
            seconds.expect("the metric's name and labels are valid"),
            running.expect("the metric's name is valid"),
        );
        let metrics: [Box<dyn prometheus::core::Collector>; 3] =
            [Box::new(ended.clone()), Box::new(seconds.clone()), Box::new(running.clone())];
        for metric in metrics {
            if let Err(error) = registry.register(metric) {
                tracing::warn!(%error, "two servers share a metrics registry, one is not counted");
            }
        }
        Arc::new(Self { limit, permits: Arc::new(Semaphore::new(limit)), ended, seconds, running })
    }
}

#[derive(Clone)]
pub(super) struct CallLayer(Arc<Calls>);

impl CallLayer {
    pub(super) fn new(calls: Arc<Calls>) -> Self {
        Self(calls)
    }
}

impl<S> Layer<S> for CallLayer {
    type Service = CallService<S>;

    fn layer(&self, inner: S) -> CallService<S> {
        CallService { inner, calls: self.0.clone() }
    }
}

#[derive(Clone)]
pub(super) struct CallService<S> {
    inner: S,
    calls: Arc<Calls>,
}

impl<S> Service<Request<Body>> for CallService<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let method = request.uri().path().trim_start_matches('/').to_owned();
        // Probes must get through when everything else is refused.
        let counted = !method.starts_with("grpc.");
        let permit = counted.then(|| self.calls.permits.clone().try_acquire_owned()).transpose();
        let permit = match permit {
            Ok(permit) => permit,
            Err(_) => {
                let limit = self.calls.limit;
                let status = Status::resource_exhausted(format!(
                    "{limit} calls are running, which is this server's limit; try again later"
                ));
                let mut record = Record::new(self.calls.clone(), method, None);
                record.end(status.code(), status.message());
                return Box::pin(std::future::ready(Ok(status.into_http())));
            }
        };
        let record = Record::new(self.calls.clone(), method, permit);
        let timeout = request.headers().get("grpc-timeout").and_then(parse_timeout);
        let deadline = timeout.map(|timeout| (timeout, Box::pin(tokio::time::sleep(timeout))));
        let response = self.inner.call(request);
        Box::pin(admit(response, record, deadline))
    }
}

type Deadline = (Duration, Pin<Box<Sleep>>);

async fn admit<F>(
    response: F,
    mut record: Record,
    mut deadline: Option<Deadline>,
) -> Result<Response<Body>, Infallible>
where
    F: Future<Output = Result<Response<Body>, Infallible>>,
{
    let response = match &mut deadline {
        None => response.await?,
        Some((timeout, sleep)) => tokio::select! {
            biased;
            response = response => response?,
            () = sleep => {
                let status = too_late(*timeout);
                record.end(status.code(), status.message());
                return Ok(status.into_http());
            }
        },
    };
    // A call that fails before its first message says so in the headers.
    record.end_by(response.headers());
    Ok(response.map(|inner| Body::new(CallBody { inner, record, deadline, over: false })))
}

fn too_late(timeout: Duration) -> Status {
    Status::deadline_exceeded(format!(
        "the call took longer than the {timeout:?} its caller allowed"
    ))
}

struct CallBody {
    inner: Body,
    record: Record,
    deadline: Option<Deadline>,
    over: bool,
}

impl http_body::Body for CallBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        if this.over {
            return Poll::Ready(None);
        }
        if let Some((timeout, sleep)) = &mut this.deadline
            && sleep.as_mut().poll(cx).is_ready()
        {
            let status = too_late(*timeout);
            this.record.end(status.code(), status.message());
            this.over = true;
            // Frees what the stream holds (tasks, permits further down) now, not when the caller has read the trailers.
            this.inner = Body::empty();
            let mut trailers = HeaderMap::new();
            return Poll::Ready(match status.add_header(&mut trailers) {
                Ok(()) => Some(Ok(Frame::trailers(trailers))),
                Err(status) => Some(Err(status)),
            });
        }
        let frame = futures::ready!(Pin::new(&mut this.inner).poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => {
                if let Some(trailers) = frame.trailers_ref() {
                    this.record.end_by(trailers);
                }
            }
            Some(Err(status)) => this.record.end(status.code(), status.message()),
            None => this.over = true,
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.over || self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// The figures of one call; one that is dropped before it ended was given up by its caller.
struct Record {
    calls: Arc<Calls>,
    method: String,
    started: Instant,
    ended: bool,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Record {
    fn new(calls: Arc<Calls>, method: String, permit: Option<OwnedSemaphorePermit>) -> Self {
        calls.running.inc();
        Self { calls, method, started: Instant::now(), ended: false, _permit: permit }
    }

    fn end_by(&mut self, headers: &HeaderMap) {
        if let Some(status) = Status::from_header_map(headers) {
            self.end(status.code(), status.message());
        }
    }

    fn end(&mut self, code: Code, message: &str) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        let took = self.started.elapsed();
        let method = self.method.as_str();
        match code {
            Code::Internal | Code::DataLoss | Code::Unknown => {
                tracing::error!(method, ?code, message, ?took, "call failed");
            }
            Code::Ok => tracing::debug!(method, ?took, "call done"),
            _ => tracing::info!(method, ?code, message, ?took, "call refused"),
        }
        // A path that no service knows must not become a label, or anyone could fill the registry.
        let label = if code == Code::Unimplemented { "unknown" } else { method };
        self.calls.ended.with_label_values(&[label, code_label(code)]).inc();
        self.calls.seconds.with_label_values(&[label]).observe(took.as_secs_f64());
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        self.end(Code::Cancelled, "the caller went away");
        self.calls.running.dec();
    }
}

fn code_label(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

/// At most eight digits and a unit, as the gRPC protocol has it; anything else is no deadline.
fn parse_timeout(value: &http::HeaderValue) -> Option<Duration> {
    let text = value.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.len() > 8 {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(count * 3600),
        "M" => Duration::from_secs(count * 60),
        "S" => Duration::from_secs(count),
        "m" => Duration::from_millis(count),
        "u" => Duration::from_micros(count),
        "n" => Duration::from_nanos(count),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_deadlines() {
        let parse = |text: &'static str| parse_timeout(&http::HeaderValue::from_static(text));
        assert_eq!(parse("5S"), Some(Duration::from_secs(5)));
        assert_eq!(parse("2H"), Some(Duration::from_secs(7200)));
        assert_eq!(parse("99999999n"), Some(Duration::from_nanos(99_999_999)));
        for bad in ["", "S", "5", "5X", "123456789S", "-1S"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
