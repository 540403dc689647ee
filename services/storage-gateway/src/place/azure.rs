//! An `azure` backend: restic's `azure:<container>:/<prefix>`.

use super::{Bytes, Error, Keys, Prefix, connections, required};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use coffer_api::backend::Azure as Spec;

const ACCOUNT: &str = "AZURE_ACCOUNT_NAME";
const KEY: &str = "AZURE_ACCOUNT_KEY";
/// restic's own, which Stash does not hand on.
const SAS: &str = "AZURE_ACCOUNT_SAS";
/// restic's own: national clouds have hosts of their own.
const SUFFIX: &str = "AZURE_ENDPOINT_SUFFIX";
const DEFAULT_SUFFIX: &str = "core.windows.net";
/// Ours: the whole URL of the account, for Azurite and for private endpoints.
const ENDPOINT: &str = "AZURE_BLOB_ENDPOINT";

/// A resolved container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AzureContainer {
    /// The storage account.
    pub account: String,
    /// The account's URL.
    pub endpoint: String,
    /// The container.
    pub container: String,
    /// Path of the repository in it.
    pub prefix: Prefix,
    /// What opens the account.
    pub credentials: AzureCredentials,
    /// Most connections at a time.
    pub connections: Option<usize>,
}

/// What opens an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AzureCredentials {
    /// `AZURE_ACCOUNT_KEY`.
    Key(Bytes),
    /// `AZURE_ACCOUNT_SAS`.
    Sas(Bytes),
    /// The machine's own identity.
    Machine,
}

impl AzureContainer {
    pub(super) fn resolve(keys: &Keys<'_>, spec: &Spec) -> Result<Self, Error> {
        let fields = ["spec.backend.azure.container", "spec.backend.azure.prefix"];
        let (container, prefix) = required(keys, fields, &spec.container, &spec.prefix)?;
        let account = keys.text(ACCOUNT)?.ok_or_else(|| keys.missing(ACCOUNT))?.to_owned();
        let host_part = |text: &str| {
            !text.is_empty()
                && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.".contains(&b))
        };
        if !host_part(&account) {
            return Err(keys.bad(ACCOUNT, "it is no account's name"));
        }
        let suffix = keys.text(SUFFIX)?.unwrap_or(DEFAULT_SUFFIX);
        if !host_part(suffix) {
            return Err(keys.bad(SUFFIX, "it is no host's name"));
        }
        let endpoint = match keys.text(ENDPOINT)? {
            Some(url) => match url::Url::parse(url) {
                Ok(parsed) if matches!(parsed.scheme(), "http" | "https") => url.to_owned(),
                _ => return Err(keys.bad(ENDPOINT, "it is no URL")),
            },
            None => format!("https://{account}.blob.{suffix}"),
        };
        let secret = |key| keys.text(key).map(|text| text.map(|text| Bytes(text.into())));
        let credentials = match (keys.text(KEY)?, secret(SAS)?) {
            (Some(key), _) => {
                // As Azure's library for Go reads it, which passes over line breaks.
                let key = key.replace(['\r', '\n'], "");
                if BASE64.decode(&key).is_err() {
                    return Err(keys.bad(KEY, "it is not base64"));
                }
                AzureCredentials::Key(Bytes(key.into()))
            }
            (None, Some(sas)) => AzureCredentials::Sas(sas),
            (None, None) => AzureCredentials::Machine,
        };
        let connections =
            connections(keys, "spec.backend.azure.maxConnections", spec.max_connections)?;
        Ok(Self { account, endpoint, container, prefix, credentials, connections })
    }
}
