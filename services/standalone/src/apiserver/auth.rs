//! Bearer tokens: which ones there are, and whom they stand for.
//!
//! Tokens are random; the store keeps their SHA-256, never the token. The administrator's token
//! lives in a file of its own (0600), since the kubeconfig must hold the same one after a restart.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Duration, Utc};
use http::{HeaderMap, header};
use parking_lot::RwLock;
use rand::RngCore;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::object;
use super::private_file;
use super::status::Failure;
use super::store::{Change, Expect, Key, Store};
use super::user::User;

/// The `resource` of tokens in the store; no kind serves it.
const RESOURCE: &str = "internal/tokens";

/// How long a requested token may live at most.
const LONGEST: i64 = 365 * 24 * 3600;
/// The least that the API lets a client ask for.
const SHORTEST: i64 = 600;
/// What a client gets that asks for nothing.
const USUAL: i64 = 3600;

/// Why the administrator's token could not be prepared.
#[derive(Debug, thiserror::Error)]
#[error("keep the administrator's token in {path}")]
pub struct Error {
    path: PathBuf,
    #[source]
    source: std::io::Error,
}

/// The tokens that are known without the store.
#[derive(Debug)]
pub struct Tokens {
    admin: String,
    /// Tokens of service accounts that live as long as this process, by digest.
    fleeting: RwLock<HashMap<String, (String, String)>>,
}

/// A token that was given out.
#[derive(Debug, Clone)]
pub struct Issued {
    /// The token.
    pub token: String,
    /// When it stops being accepted.
    pub expires: DateTime<Utc>,
}

impl Tokens {
    /// Reads the administrator's token, or makes one.
    ///
    /// # Errors
    /// When the file cannot be read or written.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let failed = |source| Error { path: path.to_owned(), source };
        let admin = match std::fs::read_to_string(path) {
            Ok(token) if !token.trim().is_empty() => token.trim().to_owned(),
            Ok(_) => Self::write_new(path).map_err(failed)?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Self::write_new(path).map_err(failed)?
            }
            Err(error) => return Err(failed(error)),
        };
        Ok(Self { admin, fleeting: RwLock::default() })
    }

    fn write_new(path: &Path) -> std::io::Result<String> {
        let token = random_token();
        private_file::write(path, token.as_bytes())?;
        Ok(token)
    }

    /// The administrator's token.
    pub fn admin(&self) -> &str {
        &self.admin
    }

    /// A token for a service account, valid until the process ends; the account need not be there
    /// yet, and the token opens nothing while it is not.
    pub fn fleeting(&self, namespace: &str, name: &str) -> String {
        let token = random_token();
        let account = (namespace.to_owned(), name.to_owned());
        self.fleeting.write().insert(digest(&token), account);
        token
    }

    /// A token for a service account, kept in the store.
    ///
    /// # Errors
    /// When the store refuses.
    pub async fn issue(
        &self,
        store: &Store,
        account: (&str, &str, &str),
        audiences: &[&str],
        seconds: Option<i64>,
    ) -> Result<Issued, Failure> {
        let (namespace, name, uid) = account;
        let seconds = seconds.unwrap_or(USUAL).min(LONGEST);
        if seconds < SHORTEST {
            return Err(Failure::new(
                422,
                "Invalid",
                format!(
                    "TokenRequest.authentication.k8s.io \"{name}\" is invalid: \
                     spec.expirationSeconds: Invalid value: {seconds}: may not specify a duration \
                     less than 10 minutes"
                ),
            ));
        }
        let token = random_token();
        let expires = object::now() + Duration::seconds(seconds);
        let value = json!({
            "metadata": {"name": digest(&token)}, "namespace": namespace, "name": name, "uid": uid,
            "audiences": audiences, "expires": expires.to_rfc3339(),
        });
        let key = Key::new(&RESOURCE.into(), "", &digest(&token));
        let put = Change::Put { key, value, expect: Expect::Absent };
        store.commit(put).await.map_err(Failure::internal)?;
        Ok(Issued { token, expires })
    }

    /// Forgets tokens that are no longer valid.
    pub async fn sweep(&self, store: &Store) {
        let (_, tokens) = store.list(RESOURCE, None);
        for token in tokens.iter().filter(|token| expired(&token.value)) {
            let key = token.key.clone();
            let gone = Change::Remove { key, last: None, version: token.version };
            if let Err(error) = store.commit(gone).await {
                tracing::warn!(%error, "an expired token stays in the store");
            }
        }
    }

    /// Whom a token stands for, and its audiences.
    pub fn user(&self, store: &Store, token: &str) -> Option<(User, Vec<String>)> {
        let digest = digest(token);
        // Digests are compared, so that the time the comparison takes tells nothing of the token.
        if digest == self::digest(&self.admin) {
            return Some((User::admin(), Vec::new()));
        }
        if let Some((namespace, name)) = self.fleeting.read().get(&digest) {
            return Some((account(store, namespace, name, None)?, Vec::new()));
        }
        let kept = store.get(&Key::new(&RESOURCE.into(), "", &digest))?;
        let kept = &kept.value;
        if expired(kept) {
            return None;
        }
        let text = |field: &str| kept[field].as_str();
        let user = account(store, text("namespace")?, text("name")?, text("uid"))?;
        let audiences =
            object::strings(&kept["audiences"]).into_iter().map(str::to_owned).collect();
        Some((user, audiences))
    }
}

/// The user of a service account that is still there, and is still the same one.
fn account(store: &Store, namespace: &str, name: &str, uid: Option<&str>) -> Option<User> {
    let found = store.get(&Key::new(&"core/serviceaccounts".into(), namespace, name))?;
    let found_uid = object::uid(&found.value);
    if uid.is_some_and(|uid| uid != found_uid) {
        return None;
    }
    Some(User::service_account(namespace, name, found_uid))
}

fn expired(token: &Value) -> bool {
    let expires = token["expires"].as_str().and_then(|t| DateTime::parse_from_rfc3339(t).ok());
    expires.is_none_or(|expires| expires < object::now())
}

/// The token of an `Authorization: Bearer` header.
pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn random_token() -> String {
    use base64::Engine;
    let mut bytes = [0_u8; 32];
    rand::rng().fill_bytes(&mut bytes);
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes)
}

fn digest(token: &str) -> String {
    Sha256::digest(token.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}
