//! Where a repository is and what opens it: a Repository's backend and its Secret, resolved. Pure, apart from
//! [`Place::connect`]; what messages say of a place is in `words.rs`, why there is none in `error.rs`.

mod azure;
mod b2;
mod certificates;
mod connect;
mod error;
mod gcs;
mod local;
mod machine;
mod prefix;
mod rest;
mod s3;
mod swift;
mod words;

pub use azure::{AzureContainer, AzureCredentials};
pub use b2::B2Bucket;
pub use connect::Connection;
pub use error::Error;
pub use gcs::GcsBucket;
pub use local::{Directory, LocalVolumes};
pub use machine::{Machine, VARIABLES};
pub use prefix::Prefix;
pub use rest::RestRepository;
pub use s3::Bucket;
pub use swift::SwiftContainer;

use coffer_api::backend::Backend as BackendSpec;
use coffer_api::names;
use coffer_runtime::grant::RepositoryRef;
use k8s_openapi::ByteString;
use rustls_pki_types::CertificateDer;
use std::collections::BTreeMap;
use std::fmt;

const PASSWORD: &str = "RESTIC_PASSWORD";
const CA: &str = "CA_CERT_DATA";

/// A resolved Repository.
#[derive(Debug, Clone)]
pub struct Place {
    /// The Repository.
    pub repository: RepositoryRef,
    /// Its Secret, `namespace/name`, for messages.
    pub secret: String,
    /// restic's password, byte for byte as it is in the Secret.
    pub password: Bytes,
    /// Where it is.
    pub backend: Backend,
    /// Certificates to trust beside the system's.
    pub ca: Option<Vec<CertificateDer<'static>>>,
    /// Nothing is ever taken from it.
    pub append_only: bool,
    /// Who this process is where the Secret does not say it.
    pub machine: Machine,
}

/// A backend, resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Backend {
    /// A directory.
    Local(Directory),
    /// A bucket of S3, or of what speaks it.
    S3(Bucket),
    /// A bucket of Google Cloud Storage.
    Gcs(GcsBucket),
    /// A container of Azure Blob Storage.
    Azure(AzureContainer),
    /// A container of OpenStack Swift.
    Swift(SwiftContainer),
    /// A bucket of Backblaze B2.
    B2(B2Bucket),
    /// A repository on restic's REST server.
    Rest(RestRepository),
}

impl Backend {
    /// The path in its bucket, where there is one.
    fn prefix(&self) -> Option<&Prefix> {
        match self {
            Self::Local(_) | Self::Rest(_) => None,
            Self::S3(bucket) => Some(&bucket.prefix),
            Self::Gcs(bucket) => Some(&bucket.prefix),
            Self::Azure(container) => Some(&container.prefix),
            Self::Swift(container) => Some(&container.prefix),
            Self::B2(bucket) => Some(&bucket.prefix),
        }
    }
}

/// Secret bytes: never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Bytes(Vec<u8>);

impl Bytes {
    /// The bytes themselves.
    #[must_use]
    pub fn reveal(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// The name of the Secret that a backend needs.
///
/// # Errors
/// When it names none.
pub(crate) fn secret_name<'a>(
    repository: &RepositoryRef,
    backend: &'a BackendSpec,
) -> Result<&'a str, Error> {
    if backend.storage_secret_name.is_empty() {
        return Err(Error::NoSecretName { repository: repository.clone() });
    }
    if !names::is_subdomain(&backend.storage_secret_name) {
        let problem = format!("{:?} is no DNS-1123 subdomain", backend.storage_secret_name);
        let field = "spec.backend.storageSecretName";
        return Err(Error::BadField { repository: repository.clone(), field, problem });
    }
    Ok(&backend.storage_secret_name)
}

impl Place {
    /// Makes sense of a backend and its Secret's data.
    ///
    /// # Errors
    /// Names the field or key that is missing or wrong, and what to do.
    pub fn resolve(
        repository: &RepositoryRef,
        spec: &BackendSpec,
        data: &BTreeMap<String, ByteString>,
        volumes: &LocalVolumes,
    ) -> Result<Self, Error> {
        let secret = format!("{}/{}", repository.namespace, secret_name(repository, spec)?);
        let keys = Keys { repository, secret: &secret, data };
        match spec.places().as_slice() {
            [_] => {}
            [] => return Err(not_one(repository, "nothing".to_owned())),
            several => return Err(not_one(repository, several.join(" and "))),
        }
        let BackendSpec { storage_secret_name: _, local, s3, gcs, azure, swift, b2, rest } = spec;
        let backend = if let Some(local) = local {
            Backend::Local(Directory::resolve(repository, local, volumes)?)
        } else if let Some(s3) = s3 {
            Backend::S3(Bucket::resolve(&keys, s3)?)
        } else if let Some(gcs) = gcs {
            Backend::Gcs(GcsBucket::resolve(&keys, gcs)?)
        } else if let Some(azure) = azure {
            Backend::Azure(AzureContainer::resolve(&keys, azure)?)
        } else if let Some(swift) = swift {
            Backend::Swift(SwiftContainer::resolve(&keys, swift)?)
        } else if let Some(b2) = b2 {
            Backend::B2(B2Bucket::resolve(&keys, b2)?)
        } else if let Some(rest) = rest {
            Backend::Rest(RestRepository::resolve(&keys, rest)?)
        } else {
            return Err(not_one(repository, "nothing".to_owned()));
        };
        let ca = keys.text(CA)?.map(certificates::parse).transpose();
        let ca = ca.map_err(|problem| keys.bad(CA, problem))?;
        // As restic gets it from Stash: not trimmed, so that a line break at the end is part of it.
        let password = keys.get(PASSWORD).ok_or_else(|| keys.missing(PASSWORD))?;
        let password = Bytes(password.to_vec());
        Ok(Self {
            repository: repository.clone(),
            secret,
            password,
            backend,
            ca,
            append_only: false,
            machine: Machine::default(),
        })
    }

    /// Whether both are the same repository, opened in the same way. What the Repositories and Secrets are called that say so
    /// is for messages only.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        let Self { repository: _, secret: _, password, backend, ca, append_only, machine } = self;
        (password, backend, ca, append_only, machine)
            == (&other.password, &other.backend, &other.ca, &other.append_only, &other.machine)
    }
}

fn not_one(repository: &RepositoryRef, found: String) -> Error {
    Error::NotOneBackend { repository: repository.clone(), found }
}

/// Bucket or container, and the prefix as restic cleans it.
fn required(
    keys: &Keys<'_>,
    [field, prefix_field]: [&'static str; 2],
    container: &str,
    prefix: &str,
) -> Result<(String, Prefix), Error> {
    let bad = |field, problem: &str| {
        let (repository, problem) = (keys.repository.clone(), problem.to_owned());
        Error::BadField { repository, field, problem }
    };
    let container = container.trim_matches('/');
    if container.is_empty() || container.contains('/') {
        let problem = if container.is_empty() { "it is empty" } else { "it contains a slash" };
        return Err(bad(field, problem));
    }
    let prefix = s3::clean(prefix).join("/");
    let prefix = Prefix::new(&prefix, &prefix).map_err(|problem| bad(prefix_field, problem))?;
    Ok((container.to_owned(), prefix))
}

/// `maxConnections`; none and zero mean any number.
fn connections(
    keys: &Keys<'_>,
    field: &'static str,
    most: Option<i64>,
) -> Result<Option<usize>, Error> {
    let most = most.unwrap_or_default();
    let most = usize::try_from(most).map_err(|_| Error::BadField {
        repository: keys.repository.clone(),
        field,
        problem: format!("{most} is no number of connections"),
    })?;
    Ok((most > 0).then_some(most))
}

/// A Secret's data, with the words to complain about it.
struct Keys<'a> {
    repository: &'a RepositoryRef,
    secret: &'a str,
    data: &'a BTreeMap<String, ByteString>,
}

impl Keys<'_> {
    /// The value; an empty one counts as missing.
    fn get(&self, key: &str) -> Option<&[u8]> {
        self.data.get(key).map(|value| value.0.as_slice()).filter(|value| !value.is_empty())
    }

    fn text(&self, key: &'static str) -> Result<Option<&str>, Error> {
        let text = self.get(key).map(std::str::from_utf8).transpose();
        text.map_err(|_| self.bad(key, "it is not UTF-8 text"))
    }

    fn missing(&self, key: &'static str) -> Error {
        Error::NoKey { repository: self.repository.clone(), secret: self.secret.to_owned(), key }
    }

    fn bad(&self, key: &'static str, problem: impl Into<String>) -> Error {
        Error::BadKey {
            repository: self.repository.clone(),
            secret: self.secret.to_owned(),
            key,
            problem: problem.into(),
        }
    }
}

#[cfg(test)]
mod tests;
