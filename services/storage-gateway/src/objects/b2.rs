//! Backblaze B2: where an account's buckets are. All else goes through its S3-compatible API.

use super::request::{Draft, Failure, send};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use coffer_runtime::fault::Class;
use http::Method;
use http::header::AUTHORIZATION;
use object_store::RetryConfig;
use object_store::client::HttpClient;
use serde_json::Value;

/// The endpoint is not known.
#[derive(Debug, thiserror::Error)]
#[error("{problem}")]
pub(crate) struct Refusal {
    problem: String,
    class: Class,
}

impl Refusal {
    pub(crate) fn class(&self) -> Class {
        self.class
    }
}

/// The S3 endpoint of the account that the application key belongs to.
pub(crate) async fn endpoint(
    client: &HttpClient,
    patience: &RetryConfig,
    api: &str,
    key_id: &str,
    key: &[u8],
) -> Result<String, Refusal> {
    let pair = [key_id.as_bytes(), b":", key].concat();
    let draft = Draft::new(Method::GET, format!("{api}/b2api/v3/b2_authorize_account"))
        .header(AUTHORIZATION, format!("Basic {}", BASE64.encode(pair)));
    let refusal = |problem: String, class| Refusal { problem, class };
    let answer = send(client, patience, &draft).await.map_err(|failure| {
        let class = match &failure {
            Failure::Status { status, .. } if status.is_client_error() => Class::Denied,
            _ => Class::Unavailable,
        };
        refusal(failure.to_string(), class)
    })?;
    let account: Value = serde_json::from_slice(&answer.body)
        .map_err(|error| refusal(format!("its answer is no JSON: {error}"), Class::Unavailable))?;
    if account["accountId"].as_str() == Some(key_id) {
        let problem = "the account's master key does not open the S3-compatible API, which this program uses; make an \
                       application key for the bucket";
        return Err(refusal(problem.to_owned(), Class::Invalid));
    }
    account["apiInfo"]["storageApi"]["s3ApiUrl"]
        .as_str()
        .map(|url| url.trim_end_matches('/').to_owned())
        .ok_or_else(|| refusal("its answer names no S3 endpoint".to_owned(), Class::Unavailable))
}
