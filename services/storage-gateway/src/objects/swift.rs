//! OpenStack Swift: a container as an object store.
//!
//! Every upload carries the MD5 of its content, which the server compares before it accepts it and sends back: so uploads
//! are attested. A token that has expired is replaced once for each request.

pub mod auth;

use super::answer::Answer;
use super::request::{Draft, Failure, send};
use async_trait::async_trait;
use auth::{Access, Login};
use bytes::Bytes;
use chrono::{DateTime, NaiveDateTime, Utc};
use coffer_restic::Attested;
use futures::stream::{BoxStream, StreamExt as _, TryStreamExt as _};
use http::header::{ETAG, HeaderName, IF_NONE_MATCH, RANGE};
use http::{Method, StatusCode};
use md5::{Digest as _, Md5};
use object_store::client::HttpClient;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
    RetryConfig,
};
use parking_lot::Mutex;
use serde::Deserialize;
use std::sync::Arc;
use url::form_urlencoded;

const STORE: &str = "Swift";
const TOKEN: HeaderName = HeaderName::from_static("x-auth-token");
/// Objects in one page of a listing; more than servers hand out at once.
const PAGE: usize = 10_000;
/// Deletions at a time.
const DELETIONS: usize = 8;

/// A container.
#[derive(Debug, Clone)]
pub struct Swift(Arc<Container>);

#[derive(Debug)]
struct Container {
    client: HttpClient,
    patience: RetryConfig,
    login: Login,
    name: String,
    access: Mutex<Option<Access>>,
    /// One login at a time.
    entering: tokio::sync::Mutex<()>,
}

#[derive(Deserialize)]
struct Listed {
    name: String,
    bytes: u64,
    hash: String,
    last_modified: String,
}

impl Swift {
    /// The container of this name, reached by this login.
    #[must_use]
    pub fn new(client: HttpClient, patience: RetryConfig, login: Login, container: &str) -> Self {
        Self(Arc::new(Container {
            client,
            patience,
            login,
            name: container.to_owned(),
            access: Mutex::default(),
            entering: tokio::sync::Mutex::default(),
        }))
    }
}

impl std::fmt::Display for Swift {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Swift({})", self.0.name)
    }
}

impl Container {
    /// The access in use, or a new one instead of `expired`.
    async fn access(&self, expired: Option<&Access>) -> std::result::Result<Access, auth::Error> {
        let current = || self.access.lock().clone().filter(|access| Some(access) != expired);
        if let Some(access) = current() {
            return Ok(access);
        }
        let _turn = self.entering.lock().await;
        if let Some(access) = current() {
            return Ok(access);
        }
        let access = self.login.enter(&self.client, &self.patience).await?;
        *self.access.lock() = Some(access.clone());
        Ok(access)
    }

    /// Sends a request to `<storage url>/<container><path>`.
    async fn send(
        &self,
        path: &str,
        draft: impl Fn(String) -> Draft,
    ) -> std::result::Result<Answer, Refusal> {
        let mut access = self.access(None).await.map_err(Refusal::Login)?;
        let mut renewed = false;
        loop {
            let container = encode(&self.name);
            let url = format!("{}/{container}{path}", access.storage_url.trim_end_matches('/'));
            let draft = draft(url).header(TOKEN, access.token.reveal());
            let failure = match send(&self.client, &self.patience, &draft).await {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            if renewed || failure.status() != Some(StatusCode::UNAUTHORIZED) {
                return Err(Refusal::Request(failure));
            }
            renewed = true;
            access = self.access(Some(&access)).await.map_err(Refusal::Login)?;
        }
    }

    async fn page(&self, prefix: &str, marker: &str) -> Result<Vec<ObjectMeta>> {
        let query = form_urlencoded::Serializer::new(String::new())
            .append_pair("format", "json")
            .append_pair("limit", &PAGE.to_string())
            .append_pair("prefix", prefix)
            .append_pair("marker", marker)
            .finish();
        let path = format!("?{query}");
        let answer = self.send(&path, |url| Draft::new(Method::GET, url)).await;
        let answer = answer.map_err(|refusal| refusal.into_error(prefix.to_owned()))?;
        // Only so is an empty answer an empty page, and the end of the listing; else it is a server, or a proxy, in trouble.
        let nothing = answer.status == StatusCode::NO_CONTENT;
        let body = if nothing { b"[]" } else { answer.body.as_ref() };
        let strange = |problem: String| Error::Generic { store: STORE, source: problem.into() };
        let listed: Vec<Listed> = serde_json::from_slice(body)
            .map_err(|error| strange(format!("the listing cannot be understood: {error}")))?;
        let meta = |Listed { name, bytes, hash, last_modified }: Listed| -> Result<ObjectMeta> {
            let time = NaiveDateTime::parse_from_str(&last_modified, "%Y-%m-%dT%H:%M:%S%.f");
            Ok(ObjectMeta {
                location: Path::parse(&name)?,
                last_modified: time.map_or(DateTime::<Utc>::UNIX_EPOCH, |time| time.and_utc()),
                size: bytes,
                e_tag: Some(hash),
                version: None,
            })
        };
        listed.into_iter().map(meta).collect()
    }
}

/// Why a request did not succeed.
enum Refusal {
    Login(auth::Error),
    Request(Failure),
}

impl Refusal {
    fn into_error(self, path: String) -> Error {
        match self {
            Self::Request(failure) => failure.into_error(STORE, path),
            Self::Login(error) => error.into_error(path),
        }
    }
}

fn path_of(location: &Path) -> String {
    location.parts().map(|part| format!("/{}", encode(part.as_ref()))).collect()
}

fn encode(part: &str) -> String {
    form_urlencoded::byte_serialize(part.as_bytes()).collect::<String>().replace('+', "%20")
}

#[async_trait]
impl ObjectStore for Swift {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        let create = match options.mode {
            PutMode::Overwrite => false,
            PutMode::Create => true,
            PutMode::Update(_) => return Err(unsupported("conditional replacement")),
        };
        let content: Bytes = payload.into();
        let hashed = content.clone();
        // A pack takes some 25 ms.
        let md5 = tokio::task::spawn_blocking(move || hex::encode(Md5::digest(&hashed)));
        let md5 = md5.await.map_err(|source| Error::JoinError { source })?;
        let draft = |url| {
            let draft = Draft::new(Method::PUT, url).header(ETAG, &md5).body(content.clone());
            if create { draft.header(IF_NONE_MATCH, "*") } else { draft }
        };
        let answer = self.0.send(&path_of(location), draft).await;
        let mut answer = answer.map_err(|refusal| refusal.into_error(location.to_string()))?;
        let e_tag = answer.header("etag").map(|tag| tag.trim_matches('"').to_owned());
        if e_tag.as_ref() == Some(&md5) {
            answer.extensions.insert(Attested);
        }
        Ok(PutResult { e_tag, version: None, extensions: answer.extensions })
    }

    async fn put_multipart_opts(
        &self,
        _: &Path,
        _: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        Err(unsupported("uploads in parts"))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let draft = |url| {
            let method = if options.head { Method::HEAD } else { Method::GET };
            let draft = Draft::new(method, url);
            match &options.range {
                Some(range) => draft.header(RANGE, range.to_string()),
                None => draft,
            }
        };
        let answer = self.0.send(&path_of(location), draft).await;
        let answer = answer.map_err(|refusal| refusal.into_error(location.to_string()))?;
        answer.into_result(STORE, location, &options)
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let container = self.0.clone();
        locations
            .map(move |location| {
                let container = container.clone();
                async move {
                    let location = location?;
                    let delete = |url| Draft::new(Method::DELETE, url);
                    match container.send(&path_of(&location), delete).await {
                        Ok(_) => Ok(location),
                        Err(refusal) => Err(refusal.into_error(location.to_string())),
                    }
                }
            })
            .buffered(DELETIONS)
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let prefix = prefix.map(Path::as_ref).filter(|prefix| !prefix.is_empty());
        let prefix = prefix.map(|prefix| format!("{prefix}/")).unwrap_or_default();
        let container = self.0.clone();
        futures::stream::try_unfold(Some(String::new()), move |marker| {
            let (container, prefix) = (container.clone(), prefix.clone());
            async move {
                let Some(marker) = marker else { return Ok::<_, Error>(None) };
                let page = container.page(&prefix, &marker).await?;
                // The end is an empty page, however short the one before was.
                let next = page.last().map(|meta| meta.location.to_string());
                Ok(Some((futures::stream::iter(page.into_iter().map(Ok)), next)))
            }
        })
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
    Error::NotSupported { source: format!("{what} is not used with Swift").into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use coffer_runtime::Secret;
    use object_store::client::{
        HttpError, HttpRequest, HttpResponse, HttpResponseBody, HttpService,
    };

    /// Answers each listing so.
    #[derive(Debug)]
    struct Says(u16, &'static str);

    #[async_trait]
    impl HttpService for Says {
        async fn call(&self, _: HttpRequest) -> std::result::Result<HttpResponse, HttpError> {
            let mut answer = HttpResponse::new(HttpResponseBody::from(self.1.to_owned()));
            *answer.status_mut() = StatusCode::from_u16(self.0).unwrap();
            Ok(answer)
        }
    }

    #[tokio::test]
    async fn a_listing_is_empty_only_if_it_says_so() {
        let list = async |status, body| {
            let (storage_url, token) = ("http://store/v1/x".to_owned(), Secret::new("t"));
            let login = Login::Token(Access { storage_url, token });
            let client = HttpClient::new(Says(status, body));
            let swift = Swift::new(client, RetryConfig::default(), login, "c");
            let listed = swift.list(None).try_collect::<Vec<_>>().await;
            listed.map_err(|error| error.to_string())
        };
        assert_eq!(list(200, "[]").await, Ok(vec![]));
        assert_eq!(list(204, "").await, Ok(vec![]));
        let refused = list(200, "").await.unwrap_err();
        assert!(refused.contains("the listing cannot be understood"), "{refused}");
    }
}
