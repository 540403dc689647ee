//! `watch`: a stream of changes, one JSON object a line, until the client or a timeout ends it.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use futures::stream;
use http::{HeaderValue, Response, header};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::kinds::{Kind, Version};
use super::represent::{Accept, Form, View};
use super::selector::Selector;
use super::server::{Call, Server};
use super::service::Body;
use super::status::Failure;
use super::store::{Event, EventKind, Object};
use super::verbs::read::{parse_version, selected};

/// How often an idle watch that takes bookmarks is told how far it has come.
const BOOKMARK_EVERY: Duration = Duration::from_secs(30);
/// How long a watch lasts that names no timeout; then clients resume where they were.
const LONGEST: Duration = Duration::from_secs(30 * 60);
/// A chunk ends with the event that reaches this size.
const CHUNK: usize = 256 * 1024;

/// Starts a watch.
///
/// # Errors
/// When a selector or a version makes no sense. A version that is too old is told in the stream.
pub fn start(call: &Call<'_>) -> Result<Response<Body>, Failure> {
    let params = &call.params;
    let selector = Selector::parse(&call.kind, &params.label_selector, &params.field_selector)?;
    let from = parse_version(&params.resource_version)?.filter(|version| *version > 0);
    if params.send_initial_events.is_some() && params.resource_version_match != "NotOlderThan" {
        let message = "ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch: Forbidden: \
                       sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
        return Err(Failure::new(422, "Invalid", message));
    }
    let initial = params.send_initial_events.unwrap_or_else(|| from.is_none());
    let latest = call.server.store.subscribe();
    let (version, objects) = match (initial, from) {
        (true, _) => selected(call, &selector),
        (false, Some(from)) => (from, Vec::new()),
        (false, None) => (call.server.store.read(|state| state.version()), Vec::new()),
    };
    let asked = params.timeout_seconds.map_or(LONGEST, Duration::from_secs);
    let now = Instant::now();
    let watcher = Watcher {
        server: Arc::clone(call.server),
        kind: Arc::clone(&call.kind),
        version: Arc::clone(&call.version),
        accept: call.accept,
        include_object: params.include_object.clone(),
        namespace: call.target.namespace.clone(),
        selector,
        initial: objects.into(),
        tell_initial_end: params.send_initial_events == Some(true),
        columns_sent: false,
        cursor: version,
        latest,
        ends: now + asked.min(LONGEST),
        bookmarks: params.allow_watch_bookmarks,
        next_bookmark: now + BOOKMARK_EVERY,
        stop: call.stop.clone(),
        over: false,
    };
    let chunks = stream::unfold(watcher, |mut watcher| async move {
        let chunk = watcher.next().await?;
        Some((Ok::<_, Infallible>(Frame::data(chunk)), watcher))
    });
    let mut response = Response::new(StreamBody::new(chunks).boxed_unsync());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    Ok(response)
}

struct Watcher {
    server: Arc<Server>,
    kind: Arc<Kind>,
    version: Arc<Version>,
    accept: Accept,
    include_object: String,
    namespace: Option<String>,
    selector: Selector,
    initial: VecDeque<Arc<Object>>,
    tell_initial_end: bool,
    columns_sent: bool,
    cursor: u64,
    latest: watch::Receiver<u64>,
    ends: Instant,
    bookmarks: bool,
    next_bookmark: Instant,
    stop: CancellationToken,
    over: bool,
}

impl Watcher {
    /// The next chunk; `None` at the end.
    async fn next(&mut self) -> Option<Bytes> {
        let mut out = BytesMut::new();
        while !self.over {
            while out.len() < CHUNK
                && let Some(object) = self.initial.pop_front()
            {
                self.line(&mut out, "ADDED", &object.value);
            }
            if self.initial.is_empty() && std::mem::take(&mut self.tell_initial_end) {
                self.bookmark(&mut out, true);
            }
            if self.initial.is_empty() {
                // Marked as seen before the events are read, so that one that arrives in between
                // wakes us again.
                self.latest.borrow_and_update();
                self.catch_up(&mut out);
            }
            if !out.is_empty() {
                return Some(out.freeze());
            }
            tokio::select! {
                () = self.stop.cancelled() => self.over = true,
                () = self.server.closing.cancelled() => self.over = true,
                changed = self.latest.changed() => self.over = changed.is_err(),
                () = tokio::time::sleep_until(self.ends) => {
                    self.over = true;
                    if self.bookmarks {
                        self.bookmark(&mut out, false);
                        return Some(out.freeze());
                    }
                }
                () = tokio::time::sleep_until(self.next_bookmark), if self.bookmarks => {
                    self.bookmark(&mut out, false);
                    return Some(out.freeze());
                }
            }
        }
        None
    }

    /// Appends the events after the cursor.
    fn catch_up(&mut self, out: &mut BytesMut) {
        let server = Arc::clone(&self.server);
        let resource = Arc::clone(&self.kind.resource);
        let found = server.store.read(|state| {
            if self.cursor > state.version() {
                return Err((state.version(), true));
            }
            let Some(events) = state.events_after(self.cursor) else {
                return Err((state.oldest(), false));
            };
            let mine: Vec<Arc<Event>> = events
                .filter(|event| {
                    let key = &event.object.key;
                    key.resource == resource
                        && self.namespace.as_ref().is_none_or(|wanted| *wanted == key.namespace)
                })
                .cloned()
                .collect();
            Ok((state.version(), mine))
        });
        match found {
            Ok((version, events)) => {
                for event in events {
                    self.event(out, &event);
                    self.cursor = event.version;
                    if out.len() >= CHUNK {
                        return;
                    }
                }
                self.cursor = version;
            }
            Err((bound, ahead)) => {
                let cursor = self.cursor;
                let what = if ahead { "unknown" } else { "too old" };
                let gone = Failure::expired(format!("{what} resource version: {cursor} ({bound})"));
                put_line(out, "ERROR", &gone.status);
                self.over = true;
                // The chunk is still to be sent; `next` returns it before it looks at `over`.
            }
        }
    }

    /// A change as this watcher sees it: an object may enter or leave its selection.
    fn event(&mut self, out: &mut BytesMut, event: &Event) {
        let selector = &self.selector;
        let now = event.kind != EventKind::Deleted && selector.matches(&event.object.value);
        let before = event.previous.as_ref().is_some_and(|old| selector.matches(&old.value));
        let kind = match (before, now) {
            (false, true) => "ADDED",
            (true, true) => "MODIFIED",
            (true, false) => "DELETED",
            (false, false) => return,
        };
        self.line(out, kind, &event.object.value);
    }

    fn line(&mut self, out: &mut BytesMut, kind: &str, stored: &Value) {
        let mut object = self.view().object(stored);
        if self.accept.form == Form::Table {
            // kubectl prints the heading again whenever it gets columns.
            if self.columns_sent {
                object.to_mut()["columnDefinitions"] = Value::Null;
            }
            self.columns_sent = true;
        }
        put_line(out, kind, object.as_ref());
    }

    fn bookmark(&mut self, out: &mut BytesMut, initial_end: bool) {
        self.next_bookmark = Instant::now() + BOOKMARK_EVERY;
        let mut metadata = json!({"resourceVersion": self.cursor.to_string()});
        if initial_end {
            metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        let object = match self.accept.form {
            Form::Table => {
                let nothing = self.view().list(std::iter::empty(), &metadata);
                return put_line(out, "BOOKMARK", &nothing);
            }
            Form::Metadata => json!({"kind": "PartialObjectMetadata",
                "apiVersion": "meta.k8s.io/v1", "metadata": metadata}),
            Form::Whole => json!({"kind": self.kind.name,
                "apiVersion": self.kind.api_version(&self.version.name), "metadata": metadata}),
        };
        put_line(out, "BOOKMARK", &object);
    }

    fn view(&self) -> View<'_> {
        View {
            kind: &self.kind,
            version: &self.version,
            accept: self.accept,
            include_object: &self.include_object,
        }
    }
}

#[derive(Serialize)]
struct Line<'a, T> {
    #[serde(rename = "type")]
    kind: &'a str,
    object: &'a T,
}

fn put_line<T: Serialize>(out: &mut BytesMut, kind: &str, object: &T) {
    let line = serde_json::to_writer((&mut *out).writer(), &Line { kind, object });
    debug_assert!(line.is_ok(), "memory takes every JSON value");
    out.put_u8(b'\n');
}
