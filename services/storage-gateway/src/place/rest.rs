//! A `rest` backend: restic's `rest:<url>`.

use super::{Bytes, Error, Keys};
use coffer_api::backend::Rest as Spec;
use url::Url;

const USER: &str = "REST_SERVER_USERNAME";
const PASSWORD: &str = "REST_SERVER_PASSWORD";

/// A resolved repository on a REST server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestRepository {
    /// Its URL, without credentials and without a slash at its end.
    pub url: String,
    /// User and password, if the server asks for them.
    pub credentials: Option<(String, Bytes)>,
}

impl RestRepository {
    pub(super) fn resolve(keys: &Keys<'_>, spec: &Spec) -> Result<Self, Error> {
        let bad = |problem: &str| Error::BadField {
            repository: keys.repository.clone(),
            field: "spec.backend.rest.url",
            problem: problem.to_owned(),
        };
        let url = Url::parse(spec.url.trim()).map_err(|_| bad("it is no URL"))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(bad("its scheme is neither http nor https"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(bad("credentials belong in the storage Secret"));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(bad("it must end with its path"));
        }
        let credentials = match (keys.text(USER)?, keys.text(PASSWORD)?) {
            (Some(user), password) => {
                Some((user.to_owned(), Bytes(password.unwrap_or_default().into())))
            }
            (None, None) => None,
            (None, Some(_)) => return Err(keys.missing(USER)),
        };
        let url = url.as_str().trim_end_matches('/').to_owned();
        Ok(Self { url, credentials })
    }
}
