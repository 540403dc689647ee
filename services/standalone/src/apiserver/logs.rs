//! `pods/<name>/log`. Whoever runs a container appends to `logs/<namespace>/<pod>/<container>.log`
//! in the data directory; this file only reads.

use std::convert::Infallible;
use std::io::SeekFrom;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream;
use http::{HeaderValue, Response, header};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use serde_json::Value;
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio_util::sync::CancellationToken;

use super::represent::raw;
use super::server::{Call, Server};
use super::service::Body;
use super::status::Failure;
use super::store::Key;
use super::verbs::update::live;

/// How often a followed file is looked at.
const POLL: Duration = Duration::from_millis(200);
/// How much of a file is read at a time.
const CHUNK: usize = 64 * 1024;

/// Where a container's log is.
pub fn path(data_dir: &Path, namespace: &str, pod: &str, container: &str) -> PathBuf {
    data_dir.join("logs").join(namespace).join(pod).join(format!("{container}.log"))
}

/// Shows a container's log, or follows it until the container ends.
///
/// # Errors
/// When the container is unknown or has not started, or a parameter asks for what is not recorded.
pub fn read(call: &Call<'_>) -> Result<Response<Body>, Failure> {
    let pod = live(call)?;
    let params = &call.params;
    if params.timestamps || params.since {
        let message = "the times of log lines are not recorded: timestamps, sinceSeconds and \
                       sinceTime cannot be used";
        return Err(Failure::bad_request(message));
    }
    let container = container(call, &pod.value)?;
    if params.previous {
        return Err(Failure::bad_request(format!(
            "previous terminated container {container:?} in pod {:?} not found",
            call.name()
        )));
    }
    let path = path(&call.server.data_dir, call.namespace(), call.name(), &container);
    let reader = Reader {
        server: Arc::clone(call.server),
        pod: pod.key.clone(),
        container,
        path,
        file: None,
        tail: params.tail_lines,
        left: params.limit_bytes.unwrap_or(u64::MAX),
        follow: params.follow,
        stop: call.stop.clone(),
        over: false,
    };
    if !reader.path.exists() {
        if started(&pod.value, &reader.container) {
            // It ran and printed nothing.
            return Ok(raw(200, "text/plain", Bytes::new()));
        }
        return Err(Failure::bad_request(format!(
            "container {:?} in pod {:?} is waiting to start: ContainerCreating",
            reader.container,
            call.name()
        )));
    }
    let chunks = stream::unfold(reader, |mut reader| async move {
        let chunk = reader.next().await?;
        Some((Ok::<_, Infallible>(Frame::data(chunk)), reader))
    });
    let mut response = Response::new(StreamBody::new(chunks).boxed_unsync());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    Ok(response)
}

/// The container that the request names; the only one when it names none.
///
/// # Errors
/// When the Pod has no such container, or several and none is named.
pub(super) fn container(call: &Call<'_>, pod: &Value) -> Result<String, Failure> {
    let spec = &pod["spec"];
    let names = |list: &str| -> Vec<&str> {
        spec[list].as_array().into_iter().flatten().filter_map(|c| c["name"].as_str()).collect()
    };
    let (init, main) = (names("initContainers"), names("containers"));
    let asked = call.params.container.as_str();
    if !asked.is_empty() {
        return if init.contains(&asked) || main.contains(&asked) {
            Ok(asked.to_owned())
        } else {
            let pod = call.name();
            let message = format!("container {asked} is not valid for pod {pod}");
            Err(Failure::bad_request(message))
        };
    }
    match main[..] {
        [only] => Ok(only.to_owned()),
        _ => Err(Failure::bad_request(format!(
            "a container name must be specified for pod {}, choose one of: {main:?}",
            call.name()
        ))),
    }
}

fn status<'a>(pod: &'a Value, container: &str) -> Option<&'a Value> {
    ["containerStatuses", "initContainerStatuses"]
        .iter()
        .filter_map(|list| pod["status"][list].as_array())
        .flatten()
        .find(|status| status["name"] == container)
}

fn started(pod: &Value, container: &str) -> bool {
    status(pod, container)
        .is_some_and(|s| s["state"]["running"].is_object() || s["state"]["terminated"].is_object())
}

struct Reader {
    server: Arc<Server>,
    pod: Key,
    container: String,
    path: PathBuf,
    file: Option<File>,
    tail: Option<usize>,
    left: u64,
    follow: bool,
    stop: CancellationToken,
    over: bool,
}

impl Reader {
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if self.left == 0 {
                return None;
            }
            // Asked before the file is read: what is written before the end is then read.
            let ended = !self.follow || self.container_ended();
            match self.chunk().await {
                Ok(chunk) if !chunk.is_empty() => return Some(chunk),
                Ok(_) if ended || self.over => return None,
                Ok(_) => {}
                Err(error) => {
                    self.left = 0;
                    return Some(format!("read the log: {error}\n").into());
                }
            }
            tokio::select! {
                () = tokio::time::sleep(POLL) => {}
                () = self.stop.cancelled() => self.over = true,
                () = self.server.closing.cancelled() => self.over = true,
            }
        }
    }

    fn container_ended(&self) -> bool {
        let Some(pod) = self.server.store.get(&self.pod) else { return true };
        let phase = pod.value["status"]["phase"].as_str();
        matches!(phase, Some("Succeeded" | "Failed"))
            || status(&pod.value, &self.container)
                .is_some_and(|status| status["state"]["terminated"].is_object())
    }

    async fn chunk(&mut self) -> std::io::Result<Bytes> {
        if self.file.is_none() {
            let mut file = File::open(&self.path).await?;
            if let Some(lines) = self.tail {
                seek_to_last(&mut file, lines).await?;
            }
            self.file = Some(file);
        }
        let Some(file) = &mut self.file else { return Ok(Bytes::new()) };
        let wanted = CHUNK.min(usize::try_from(self.left).unwrap_or(CHUNK));
        let mut chunk = vec![0; wanted];
        let length = file.read(&mut chunk).await?;
        chunk.truncate(length);
        self.left -= u64::try_from(length).unwrap_or(self.left);
        Ok(chunk.into())
    }
}

/// Leaves the file where its last `lines` lines begin, reading it backwards.
async fn seek_to_last(file: &mut File, lines: usize) -> std::io::Result<()> {
    let step = u64::try_from(CHUNK).unwrap_or(u64::MAX);
    let end = file.seek(SeekFrom::End(0)).await?;
    let (mut at, mut seen) = (end, 0);
    while at > 0 {
        let start = at.saturating_sub(step);
        let mut block = vec![0; usize::try_from(at - start).unwrap_or(CHUNK)];
        file.seek(SeekFrom::Start(start)).await?;
        file.read_exact(&mut block).await?;
        for byte in block.iter().rev() {
            // The newline that ends the last line begins none.
            if *byte == b'\n' && at < end {
                seen += 1;
                if seen == lines {
                    file.seek(SeekFrom::Start(at)).await?;
                    return Ok(());
                }
            }
            at -= 1;
        }
    }
    file.seek(SeekFrom::Start(if lines == 0 { end } else { 0 })).await?;
    Ok(())
}
