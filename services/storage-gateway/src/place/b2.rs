//! A `b2` backend: restic's `b2:<bucket>:/<prefix>`, through Backblaze's S3-compatible API.
//!
//! restic itself recommends that API over B2's own. An application key opens both; the master key of the account opens
//! only B2's own, so it is refused with that reason. Which endpoint the account has is asked when connecting.

use super::{Bytes, Error, Keys, Prefix, connections, required};
use coffer_api::backend::Bucket as Spec;

const ID: &str = "B2_ACCOUNT_ID";
const KEY: &str = "B2_ACCOUNT_KEY";
/// Where Backblaze tells accounts their endpoints.
const API: &str = "https://api.backblazeb2.com";

/// A resolved bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct B2Bucket {
    /// Where the account's endpoint is asked for.
    pub api: String,
    /// The bucket.
    pub bucket: String,
    /// Path of the repository in it.
    pub prefix: Prefix,
    /// Id of the application key.
    pub key_id: String,
    /// The application key.
    pub key: Bytes,
    /// Most connections at a time.
    pub connections: Option<usize>,
}

impl B2Bucket {
    pub(super) fn resolve(keys: &Keys<'_>, spec: &Spec) -> Result<Self, Error> {
        let fields = ["spec.backend.b2.bucket", "spec.backend.b2.prefix"];
        let (bucket, prefix) = required(keys, fields, &spec.bucket, &spec.prefix)?;
        let key_id = keys.text(ID)?.ok_or_else(|| keys.missing(ID))?.to_owned();
        let key = keys.text(KEY)?.ok_or_else(|| keys.missing(KEY))?;
        let connections =
            connections(keys, "spec.backend.b2.maxConnections", spec.max_connections)?;
        let key = Bytes(key.into());
        Ok(Self { api: API.to_owned(), bucket, prefix, key_id, key, connections })
    }
}
