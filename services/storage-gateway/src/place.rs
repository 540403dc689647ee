//! Where a repository is and what opens it: a Repository's backend and its Secret, resolved. Pure, apart from
//! [`Place::connect`] at the end.

mod connect;
mod local;
mod s3;

pub use connect::Connection;
pub use local::{Directory, LocalVolumes};
pub use s3::Bucket;

use coffer_api::backend::Backend as BackendSpec;
use coffer_runtime::fault::{Class, Fault};
use coffer_runtime::grant::RepositoryRef;
use k8s_openapi::ByteString;
use std::collections::BTreeMap;
use std::fmt;

const PASSWORD: &str = "RESTIC_PASSWORD";

/// A Repository and its Secret make no usable place.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No Secret is named.
    #[error("Repository {repository} names no storage Secret; set spec.backend.storageSecretName")]
    NoSecretName {
        /// Which.
        repository: RepositoryRef,
    },
    /// The Secret lacks a key that is needed.
    #[error(
        "the storage Secret {secret} of Repository {repository} has no {key}, or an empty one; set it"
    )]
    NoKey {
        /// Which.
        repository: RepositoryRef,
        /// Its Secret.
        secret: String,
        /// What is missing.
        key: &'static str,
    },
    /// A key of the Secret is no text, or no certificate.
    #[error(
        "{key} in the storage Secret {secret} of Repository {repository} is not valid: {problem}"
    )]
    BadKey {
        /// Which.
        repository: RepositoryRef,
        /// Its Secret.
        secret: String,
        /// Which key.
        key: &'static str,
        /// What is wrong. Never the value.
        problem: String,
    },
    /// None of the backends is set, or several.
    #[error("Repository {repository} sets {found} as its backend; set exactly one of local and s3")]
    NotOneBackend {
        /// Which.
        repository: RepositoryRef,
        /// What is set.
        found: String,
    },
    /// A backend that this version does not have.
    #[error(
        "backend {backend} of Repository {repository} is not supported by this version; local and s3 are"
    )]
    Unsupported {
        /// Which.
        repository: RepositoryRef,
        /// Its backend.
        backend: &'static str,
    },
    /// A field of the backend makes no sense.
    #[error("{field} of Repository {repository} is not valid: {problem}")]
    BadField {
        /// Which.
        repository: RepositoryRef,
        /// The field, from `spec.backend`.
        field: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// A `local` Repository at a gateway without volumes.
    #[error(
        "Repository {repository} is local, and this storage-gateway has no volumes mounted; a local Repository is served by a \
         gateway of its own (--local-mounted), or without a cluster by --local-root"
    )]
    NoVolumes {
        /// Which.
        repository: RepositoryRef,
    },
    /// The directory is missing, no directory, read-only or full.
    #[error("the directory {path} of Repository {repository} {problem}")]
    Directory {
        /// Which.
        repository: RepositoryRef,
        /// The directory.
        path: String,
        /// What is wrong, and the remedy.
        problem: String,
        /// The class.
        class: Class,
    },
    /// The client for the object store cannot be made.
    #[error("set up the object store of Repository {repository}")]
    Client {
        /// Which.
        repository: RepositoryRef,
        /// Why not.
        #[source]
        source: object_store::Error,
    },
}

impl Fault for Error {
    fn class(&self) -> Class {
        match self {
            Self::NoSecretName { .. }
            | Self::NoKey { .. }
            | Self::BadKey { .. }
            | Self::NotOneBackend { .. }
            | Self::BadField { .. }
            | Self::NoVolumes { .. }
            | Self::Client { .. } => Class::Invalid,
            Self::Unsupported { .. } => Class::Unimplemented,
            Self::Directory { class, .. } => *class,
        }
    }
}

/// A resolved Repository. Equal places are the same repository opened with the same credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The Repository.
    pub repository: RepositoryRef,
    /// Its Secret, `namespace/name`, for messages.
    pub secret: String,
    /// restic's password, byte for byte as it is in the Secret.
    pub password: Bytes,
    /// Where it is.
    pub backend: Backend,
}

/// A backend that this version has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Backend {
    /// A directory.
    Local(Directory),
    /// A bucket.
    S3(Bucket),
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
        let backend = match spec.places().as_slice() {
            ["local"] => {
                let local = spec.local.as_ref().expect("places() says that local is set");
                Backend::Local(Directory::resolve(repository, local, volumes)?)
            }
            ["s3"] => {
                let s3 = spec.s3.as_ref().expect("places() says that s3 is set");
                Backend::S3(Bucket::resolve(&keys, s3)?)
            }
            [other] => {
                let repository = repository.clone();
                return Err(Error::Unsupported { repository, backend: other });
            }
            [] => return Err(not_one(repository, "nothing".to_owned())),
            several => return Err(not_one(repository, several.join(" and "))),
        };
        // As restic gets it from Stash: not trimmed, so that a line break at the end is part of it.
        let password = keys.get(PASSWORD).ok_or_else(|| keys.missing(PASSWORD))?;
        let password = Bytes(password.to_vec());
        Ok(Self { repository: repository.clone(), secret, password, backend })
    }

    /// The place as restic would name it. Holds no credentials.
    #[must_use]
    pub fn location(&self) -> String {
        match &self.backend {
            Backend::Local(directory) => directory.path.display().to_string(),
            Backend::S3(bucket) => bucket.location(),
        }
    }

    /// A hint for somebody whose password does not open the repository.
    pub(crate) fn password_ends_in_line_break(&self) -> bool {
        self.password.reveal().last() == Some(&b'\n')
    }
}

fn not_one(repository: &RepositoryRef, found: String) -> Error {
    Error::NotOneBackend { repository: repository.clone(), found }
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
