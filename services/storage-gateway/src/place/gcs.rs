//! A `gcs` backend: restic's `gs:<bucket>:/<prefix>`.

use super::{Bytes, Error, Keys, Prefix, connections, required};
use coffer_api::backend::Bucket as Spec;

const KEY: &str = "GOOGLE_SERVICE_ACCOUNT_JSON_KEY";
const GOOGLE: &str = "https://storage.googleapis.com";

/// A resolved bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GcsBucket {
    /// Google's, or what the key names as `gcs_base_url`.
    pub endpoint: String,
    /// The bucket.
    pub bucket: String,
    /// Path of the repository in it.
    pub prefix: Prefix,
    /// The service account's key, JSON; without one the machine's own identity is used. `GOOGLE_PROJECT_ID` is accepted
    /// and not needed: restic uses it to make buckets.
    pub key: Option<Bytes>,
    /// Most connections at a time.
    pub connections: Option<usize>,
}

impl GcsBucket {
    pub(super) fn resolve(keys: &Keys<'_>, spec: &Spec) -> Result<Self, Error> {
        let fields = ["spec.backend.gcs.bucket", "spec.backend.gcs.prefix"];
        let (bucket, prefix) = required(keys, fields, &spec.bucket, &spec.prefix)?;
        let key = keys.text(KEY)?;
        let parsed = key.map(serde_json::from_str::<serde_json::Map<String, serde_json::Value>>);
        let parsed = parsed.transpose().map_err(|_| keys.bad(KEY, "it is not a JSON object"))?;
        let named = parsed.as_ref().and_then(|key| key.get("gcs_base_url")?.as_str());
        let endpoint = named.unwrap_or(GOOGLE).to_owned();
        let key = key.map(|key| Bytes(key.into()));
        let connections =
            connections(keys, "spec.backend.gcs.maxConnections", spec.max_connections)?;
        Ok(Self { endpoint, bucket, prefix, key, connections })
    }
}
