//! Ways into Swift: the three generations of its authentication, as the Secret's keys choose them.
//!
//! | | asks | answers |
//! |---|---|---|
//! | v1 | `GET <ST_AUTH>` with user and key in headers | storage URL and token in headers |
//! | v2 | `POST <OS_AUTH_URL>/tokens` | both in the service catalogue |
//! | v3 | `POST <OS_AUTH_URL>/auth/tokens` | token in a header, URL in the catalogue |
//!
//! A storage URL and a token that the Secret holds itself are used as they are.

use super::super::request::{Draft, Failure, send};
use coffer_runtime::Secret;
use http::header::{CONTENT_TYPE, HeaderName};
use http::{Method, StatusCode};
use object_store::RetryConfig;
use object_store::client::HttpClient;
use serde_json::{Value, json};

/// How to get in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Login {
    /// No login: both are known.
    Token(Access),
    /// TempAuth and the like.
    V1 {
        /// `ST_AUTH`.
        url: String,
        /// `ST_USER`.
        user: String,
        /// `ST_KEY`.
        key: Secret,
    },
    /// Keystone before 2018.
    V2 {
        /// `OS_AUTH_URL`.
        url: String,
        /// `OS_USERNAME`.
        user: String,
        /// `OS_PASSWORD`.
        password: Secret,
        /// `OS_TENANT_ID` or `OS_TENANT_NAME`, by the name that the request has for it.
        tenant: Option<(&'static str, String)>,
        /// `OS_REGION_NAME`.
        region: Option<String>,
    },
    /// Keystone.
    V3 {
        /// `OS_AUTH_URL`.
        url: String,
        /// Who.
        identity: Identity,
        /// `OS_REGION_NAME`.
        region: Option<String>,
    },
}

/// Who asks Keystone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// `OS_USERNAME` and `OS_PASSWORD`.
    Password {
        /// The user.
        user: String,
        /// `OS_USER_DOMAIN_NAME`.
        domain: Option<String>,
        /// The password.
        password: Secret,
        /// The project.
        project: Option<Project>,
    },
    /// `OS_APPLICATION_CREDENTIAL_ID` or `_NAME`, and `_SECRET`. It belongs to a project already.
    ApplicationCredential {
        /// Its id; or its name and the user it belongs to with their domain.
        name: Credential,
        /// `OS_APPLICATION_CREDENTIAL_SECRET`.
        secret: Secret,
    },
}

/// An application credential's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credential {
    /// By id.
    Id(String),
    /// By name, user and the user's domain.
    Name(String, String, Option<String>),
}

/// A project, by id or by name and domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Project {
    /// `OS_TENANT_ID`.
    Id(String),
    /// `OS_PROJECT_NAME` (or `OS_TENANT_NAME`) and `OS_PROJECT_DOMAIN_NAME`.
    Name(String, Option<String>),
}

/// What a login yields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// The account's URL.
    pub storage_url: String,
    /// The token.
    pub token: Secret,
}

/// The login failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// The server refuses, or is not there.
    #[error("log in to Swift at {url}: {failure}")]
    Refused { url: String, failure: Failure },
    /// The answer has no token or no object store.
    #[error("log in to Swift at {url}: {problem}")]
    Incomplete { url: String, problem: String },
}

impl Error {
    pub(super) fn into_error(self, path: String) -> object_store::Error {
        use object_store::Error as E;
        let status = match &self {
            Self::Refused { failure, .. } => failure.status(),
            Self::Incomplete { .. } => None,
        };
        let source: Box<dyn std::error::Error + Send + Sync> = Box::new(self);
        match status {
            Some(StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => {
                E::Unauthenticated { path, source }
            }
            // A wrong URL must not look like an object that is not there.
            _ => E::Generic { store: super::STORE, source },
        }
    }
}

impl Login {
    /// Where to log in, or the account's URL.
    #[must_use]
    pub fn url(&self) -> &str {
        match self {
            Self::Token(access) => &access.storage_url,
            Self::V1 { url, .. } | Self::V2 { url, .. } | Self::V3 { url, .. } => url,
        }
    }

    /// Logs in.
    pub(super) async fn enter(
        &self,
        client: &HttpClient,
        patience: &RetryConfig,
    ) -> Result<Access, Error> {
        let (draft, url) = match self {
            Self::Token(access) => return Ok(access.clone()),
            Self::V1 { url, user, key } => (
                Draft::new(Method::GET, url)
                    .header(HeaderName::from_static("x-auth-user"), user)
                    .header(HeaderName::from_static("x-auth-key"), key.reveal()),
                url,
            ),
            Self::V2 { url, user, password, tenant, .. } => {
                let credentials = json!({"username": user, "password": password.reveal()});
                let mut auth = json!({"passwordCredentials": credentials});
                if let Some((name, tenant)) = tenant {
                    auth[*name] = json!(tenant);
                }
                (post(url, "tokens", &json!({"auth": auth})), url)
            }
            Self::V3 { url, identity, .. } => {
                (post(url, "auth/tokens", &json!({"auth": identity.document()})), url)
            }
        };
        let answer = send(client, patience, &draft).await;
        let answer = answer.map_err(|failure| Error::Refused { url: url.clone(), failure })?;
        let incomplete =
            |problem: &str| Error::Incomplete { url: url.clone(), problem: problem.to_owned() };
        let header = |name| answer.header(name).map(str::to_owned);
        let json = || serde_json::from_slice::<Value>(&answer.body).unwrap_or_default();
        let (token, storage_url) = match self {
            Self::Token(_) | Self::V1 { .. } => (header("x-auth-token"), header("x-storage-url")),
            Self::V2 { region, .. } => {
                let access = &json()["access"];
                let token = access["token"]["id"].as_str().map(str::to_owned);
                (token, v2_endpoint(&access["serviceCatalog"], region.as_deref()))
            }
            Self::V3 { region, .. } => {
                let url = v3_endpoint(&json()["token"]["catalog"], region.as_deref());
                (header("x-subject-token"), url)
            }
        };
        let token = token.ok_or_else(|| incomplete("the answer holds no token"))?;
        let storage_url = storage_url.ok_or_else(|| {
            incomplete(
                "the account has no public object-store in this region; check OS_REGION_NAME and the project",
            )
        })?;
        Ok(Access { storage_url, token: Secret::new(token) })
    }
}

fn post(url: &str, path: &str, document: &Value) -> Draft {
    Draft::new(Method::POST, format!("{}/{path}", url.trim_end_matches('/')))
        .header(CONTENT_TYPE, "application/json")
        .body(document.to_string().into())
}

impl Identity {
    fn document(&self) -> Value {
        let named = |name: &str, domain: &Option<String>| {
            let domain = domain.as_deref().unwrap_or("Default");
            json!({"name": name, "domain": {"name": domain}})
        };
        match self {
            Self::Password { user, domain, password, project } => {
                let mut user = named(user, domain);
                user["password"] = json!(password.reveal());
                let mut auth =
                    json!({"identity": {"methods": ["password"], "password": {"user": user}}});
                match project {
                    Some(Project::Id(id)) => auth["scope"] = json!({"project": {"id": id}}),
                    Some(Project::Name(name, project_domain)) => {
                        let domain = project_domain.clone().or_else(|| domain.clone());
                        auth["scope"] = json!({"project": named(name, &domain)});
                    }
                    None => {}
                }
                auth
            }
            Self::ApplicationCredential { name, secret } => {
                let mut credential = match name {
                    Credential::Id(id) => json!({"id": id}),
                    Credential::Name(name, user, domain) => {
                        json!({"name": name, "user": named(user, domain)})
                    }
                };
                credential["secret"] = json!(secret.reveal());
                json!({"identity": {
                    "methods": ["application_credential"],
                    "application_credential": credential,
                }})
            }
        }
    }
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn object_stores(catalog: &Value) -> impl Iterator<Item = &Value> {
    list(catalog)
        .filter(|service| service["type"] == "object-store")
        .flat_map(|service| list(&service["endpoints"]))
}

fn v2_endpoint(catalog: &Value, region: Option<&str>) -> Option<String> {
    object_stores(catalog)
        .find(|endpoint| region.is_none_or(|region| endpoint["region"] == region))
        .and_then(|endpoint| endpoint["publicURL"].as_str())
        .map(str::to_owned)
}

fn v3_endpoint(catalog: &Value, region: Option<&str>) -> Option<String> {
    let in_region = |endpoint: &Value| {
        region.is_none_or(|region| endpoint["region"] == region || endpoint["region_id"] == region)
    };
    object_stores(catalog)
        .find(|endpoint| endpoint["interface"] == "public" && in_region(endpoint))
        .and_then(|endpoint| endpoint["url"].as_str())
        .map(str::to_owned)
}
