//! Why a Repository and its Secret make no usable place, and what to do about it.

use coffer_runtime::fault::{Class, Fault};
use coffer_runtime::grant::RepositoryRef;

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
    #[error(
        "Repository {repository} sets {found} as its backend; set exactly one of local, s3, gcs, azure, swift, b2 and rest"
    )]
    NotOneBackend {
        /// Which.
        repository: RepositoryRef,
        /// What is set.
        found: String,
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
    /// Backblaze does not tell where the account's buckets are.
    #[error("ask Backblaze for the account of Repository {repository}: {problem}")]
    Account {
        /// Which.
        repository: RepositoryRef,
        /// What it said, and the remedy.
        problem: String,
        /// The class.
        class: Class,
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
            Self::Directory { class, .. } | Self::Account { class, .. } => *class,
        }
    }
}
