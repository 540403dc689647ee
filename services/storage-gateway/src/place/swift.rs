//! A `swift` backend: restic's `swift:<container>:/<prefix>`, with the keys of all three generations of authentication.

use super::{Error, Keys, Prefix, required};
use crate::objects::swift::auth::{Access, Credential, Identity, Login, Project};
use coffer_api::backend::Swift as Spec;
use coffer_runtime::Secret;

/// A resolved container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SwiftContainer {
    /// The container.
    pub container: String,
    /// Path of the repository in it.
    pub prefix: Prefix,
    /// The way in.
    pub login: Login,
    /// The keys of the Secret that open it.
    pub keys: &'static str,
}

impl SwiftContainer {
    pub(super) fn resolve(keys: &Keys<'_>, spec: &Spec) -> Result<Self, Error> {
        let fields = ["spec.backend.swift.container", "spec.backend.swift.prefix"];
        let (container, prefix) = required(keys, fields, &spec.container, &spec.prefix)?;
        let (login, keys) = login(keys)?;
        Ok(Self { container, prefix, login, keys })
    }
}

/// In the order in which restic's library takes them: a token that is there, then what the URL says.
fn login(keys: &Keys<'_>) -> Result<(Login, &'static str), Error> {
    let text = |key| keys.text(key).map(|text| text.map(str::to_owned));
    let need = |key| text(key)?.ok_or_else(|| keys.missing(key));
    let secret = |key| need(key).map(Secret::new);
    if let (Some(storage_url), Some(token)) = (text("OS_STORAGE_URL")?, text("OS_AUTH_TOKEN")?) {
        let login = Login::Token(Access { storage_url, token: Secret::new(token) });
        return Ok((login, "OS_STORAGE_URL and OS_AUTH_TOKEN"));
    }
    if let Some(url) = text("ST_AUTH")? {
        let login = Login::V1 { url, user: need("ST_USER")?, key: secret("ST_KEY")? };
        return Ok((login, "ST_USER and ST_KEY"));
    }
    let url = need("OS_AUTH_URL")?;
    let region = text("OS_REGION_NAME")?;
    let (user, domain) = (text("OS_USERNAME")?, text("OS_USER_DOMAIN_NAME")?);
    let credential =
        match (text("OS_APPLICATION_CREDENTIAL_ID")?, text("OS_APPLICATION_CREDENTIAL_NAME")?) {
            (Some(id), _) => Some(Credential::Id(id)),
            (None, Some(name)) => {
                let user = user.clone().ok_or_else(|| keys.missing("OS_USERNAME"))?;
                Some(Credential::Name(name, user, domain.clone()))
            }
            (None, None) => None,
        };
    if let Some(name) = credential {
        let secret = secret("OS_APPLICATION_CREDENTIAL_SECRET")?;
        let keys = match name {
            Credential::Id(_) => {
                "OS_APPLICATION_CREDENTIAL_ID and OS_APPLICATION_CREDENTIAL_SECRET"
            }
            Credential::Name(..) => {
                "OS_APPLICATION_CREDENTIAL_NAME, OS_APPLICATION_CREDENTIAL_SECRET and OS_USERNAME"
            }
        };
        let identity = Identity::ApplicationCredential { name, secret };
        return Ok((Login::V3 { url, identity, region }, keys));
    }
    let user = user.ok_or_else(|| keys.missing("OS_USERNAME"))?;
    let pair = "OS_USERNAME and OS_PASSWORD";
    let (tenant_id, tenant_name) = (text("OS_TENANT_ID")?, text("OS_TENANT_NAME")?);
    let project_name = text("OS_PROJECT_NAME")?;
    let project_domain = text("OS_PROJECT_DOMAIN_NAME")?;
    let path = url.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    let has_domain = domain.is_some() || project_domain.is_some() || project_name.is_some();
    if path.starts_with("v3") || !path.starts_with("v2") && has_domain {
        let project = match (tenant_id, project_name.or(tenant_name)) {
            (Some(id), _) => Some(Project::Id(id)),
            (None, Some(name)) => Some(Project::Name(name, project_domain)),
            (None, None) => None,
        };
        let password = secret("OS_PASSWORD")?;
        let identity = Identity::Password { user, domain, password, project };
        return Ok((Login::V3 { url, identity, region }, pair));
    }
    if path.starts_with("v2") {
        let by_name = |name| ("tenantName", name);
        let tenant = tenant_id.map(|id| ("tenantId", id)).or_else(|| tenant_name.map(by_name));
        let password = secret("OS_PASSWORD")?;
        return Ok((Login::V2 { url, user, password, tenant, region }, pair));
    }
    if path.starts_with("v1") {
        return Ok((Login::V1 { url, user, key: secret("OS_PASSWORD")? }, pair));
    }
    Err(keys.bad("OS_AUTH_URL", "it tells no version: it should end in /v3, /v2.0 or /v1.0"))
}
