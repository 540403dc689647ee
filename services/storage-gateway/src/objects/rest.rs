//! restic's REST server, protocol version 2: the server of the restic project, `rclone serve restic` and others.
//!
//! The protocol is the repository's layout over HTTP, but for packs, which lie in one flat folder. It has no conditional
//! write; and no checksum in its answers, so the engine reads back what it wrote.

use super::answer::Answer;
use super::request::{Draft, Failure, send};
use async_trait::async_trait;
use bytes::Bytes;
use chrono::DateTime;
use futures::stream::{BoxStream, StreamExt as _, TryStreamExt as _};
use http::Method;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, RANGE};
use object_store::client::HttpClient;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
    RetryConfig,
};
use serde::Deserialize;
use std::sync::Arc;

const STORE: &str = "REST server";
const VERSION_2: &str = "application/vnd.x.restic.rest.v2";
/// Deletions at a time.
const DELETIONS: usize = 8;

/// A repository on a REST server.
#[derive(Debug, Clone)]
pub struct RestServer(Arc<Server>);

#[derive(Debug)]
struct Server {
    client: HttpClient,
    patience: RetryConfig,
    /// Without a slash at its end, without credentials.
    url: String,
    authorization: Option<String>,
}

#[derive(Deserialize)]
struct Listed {
    name: String,
    size: u64,
}

impl RestServer {
    /// The repository at this URL. `authorization` is the whole header, if the server wants one.
    #[must_use]
    pub fn new(
        client: HttpClient,
        patience: RetryConfig,
        url: &str,
        authorization: Option<String>,
    ) -> Self {
        let url = url.trim_end_matches('/').to_owned();
        Self(Arc::new(Server { client, patience, url, authorization }))
    }
}

impl std::fmt::Display for RestServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RestServer({})", self.0.url)
    }
}

impl Server {
    /// The URL of an object: a pack's folder of two digits is not part of it.
    fn url_of(&self, location: &Path) -> String {
        let name = location.as_ref();
        match name.strip_prefix("data/").and_then(|rest| rest.split_once('/')) {
            Some((_, id)) => format!("{}/data/{id}", self.url),
            None => format!("{}/{name}", self.url),
        }
    }

    async fn send(&self, draft: Draft) -> std::result::Result<Answer, Failure> {
        let draft = match &self.authorization {
            Some(value) => draft.header(AUTHORIZATION, value),
            None => draft,
        };
        send(&self.client, &self.patience, &draft).await
    }

    async fn put(&self, location: &Path, content: Bytes) -> Result<Answer> {
        let draft = Draft::new(Method::POST, self.url_of(location))
            .header(CONTENT_TYPE, "application/octet-stream")
            .body(content);
        let failed = |failure: Failure| failure.into_error(STORE, location.to_string());
        match self.send(draft.clone()).await {
            // A server has no folders before it is told to make them. Only the first object of a repository, its key, may
            // have it told: anything else that finds no folder finds no repository.
            Err(Failure::Status { status, .. })
                if status.as_u16() == 404 && location.as_ref().starts_with("keys/") =>
            {
                let create = Draft::new(Method::POST, format!("{}/?create=true", self.url));
                self.send(create.body(Bytes::new())).await.map_err(failed)?;
                self.send(draft).await.map_err(failed)
            }
            answer => answer.map_err(failed),
        }
    }

    /// Whether a listing failed because there is nothing yet. rclone says so of each folder before something is in it; of
    /// others it is believed only where there is no repository at all. Elsewhere it is a proxy's page, or a disk that is not
    /// mounted, and whoever takes snapshots for gone would delete their data.
    async fn has_no_such_folder(&self, failure: &Failure) -> Result<bool> {
        if matches!(failure, Failure::Status { server, .. } if server.starts_with("rclone/")) {
            return Ok(true);
        }
        let config = Draft::new(Method::HEAD, format!("{}/config", self.url));
        match self.send(config).await {
            Ok(_) => Ok(false),
            Err(failure) if failure.status().is_some_and(|status| status == 404) => Ok(true),
            Err(failure) => Err(failure.into_error(STORE, "config".to_owned())),
        }
    }

    async fn list(&self, folder: &str) -> Result<Vec<ObjectMeta>> {
        let draft = Draft::new(Method::GET, format!("{}/{folder}/", self.url));
        let answer = match self.send(draft.header(ACCEPT, VERSION_2)).await {
            Ok(answer) => answer,
            Err(failure) if failure.status().is_some_and(|status| status == 404) => {
                if self.has_no_such_folder(&failure).await? {
                    return Ok(Vec::new());
                }
                let problem = format!("there is a repository, but {failure}");
                return Err(strange(folder, problem.into()));
            }
            Err(failure) => return Err(failure.into_error(STORE, folder.to_owned())),
        };
        if answer.header("content-type") != Some(VERSION_2) && !answer.body.starts_with(b"[{") {
            let empty = [b"[]".as_slice(), b"null"].contains(&answer.body.trim_ascii());
            if !empty {
                // Version 1 tells no sizes, and a proxy's page tells nothing.
                return Err(strange(folder, "it is not restic's protocol, version 2".into()));
            }
        }
        // An empty answer is no empty list: it comes from a server, or a proxy, in trouble.
        let listed: Option<Vec<Listed>> = serde_json::from_slice(&answer.body)
            .map_err(|error| strange(folder, Box::new(error)))?;
        let meta = |Listed { name, size }| {
            let name = match (folder, name.get(..2)) {
                ("data", Some(digits)) => format!("data/{digits}/{name}"),
                _ => format!("{folder}/{name}"),
            };
            ObjectMeta {
                location: Path::from(name),
                last_modified: DateTime::UNIX_EPOCH,
                size,
                e_tag: None,
                version: None,
            }
        };
        Ok(listed.unwrap_or_default().into_iter().map(meta).collect())
    }
}

fn strange(folder: &str, source: Box<dyn std::error::Error + Send + Sync>) -> Error {
    let source = format!("the listing of {folder} cannot be understood: {source}").into();
    Error::Generic { store: STORE, source }
}

#[async_trait]
impl ObjectStore for RestServer {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        if options.mode != PutMode::Overwrite {
            return Err(unsupported("conditional writes"));
        }
        let answer = self.0.put(location, payload.into()).await?;
        Ok(PutResult { e_tag: None, version: None, extensions: answer.extensions })
    }

    async fn put_multipart_opts(
        &self,
        _: &Path,
        _: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        Err(unsupported("uploads in parts"))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let method = if options.head { Method::HEAD } else { Method::GET };
        let mut draft = Draft::new(method, self.0.url_of(location));
        if let Some(range) = &options.range {
            draft = draft.header(RANGE, range.to_string());
        }
        let answer = self.0.send(draft).await;
        let answer = answer.map_err(|failure| failure.into_error(STORE, location.to_string()))?;
        answer.into_result(STORE, location, &options)
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let server = self.0.clone();
        locations
            .map(move |location| {
                let server = server.clone();
                async move {
                    let location = location?;
                    let draft = Draft::new(Method::DELETE, server.url_of(&location));
                    match server.send(draft).await {
                        Ok(_) => Ok(location),
                        Err(failure) => Err(failure.into_error(STORE, location.to_string())),
                    }
                }
            })
            .buffered(DELETIONS)
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let folders: Vec<String> = match prefix {
            Some(prefix) => vec![prefix.to_string()],
            None => ["data", "index", "snapshots", "keys", "locks"].map(str::to_owned).into(),
        };
        let server = self.0.clone();
        futures::stream::iter(folders)
            .then(move |folder| {
                let server = server.clone();
                async move { server.list(&folder).await }
            })
            .map_ok(|metas| futures::stream::iter(metas.into_iter().map(Ok)))
            .try_flatten()
            .boxed()
    }

    async fn list_with_delimiter(&self, _: Option<&Path>) -> Result<ListResult> {
        Err(unsupported("listing level by level"))
    }

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> Result<()> {
        Err(unsupported("copying"))
    }
}

fn unsupported(what: &str) -> Error {
    Error::NotSupported { source: format!("restic's REST protocol has no {what}").into() }
}

#[cfg(test)]
mod tests;
