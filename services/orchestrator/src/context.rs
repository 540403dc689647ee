//! All that a reconciler may touch, and how its reads and writes fail.

use coffer_proto::{
    catalog::v1::catalog_client::CatalogClient, metrics::v1::metrics_client::MetricsClient,
    storage::v1::repositories_client::RepositoriesClient,
};
use coffer_runtime::{Clock, fault, grant::KeyError, grant::Signer};
use tonic::transport::Channel;

use crate::{
    cache::Caches, leader::Leadership, progress::Board, rush::Rush, settings::Settings,
    turns::Turns,
};

/// Shared by all controllers and gRPC services.
pub struct Context {
    /// The cluster.
    pub client: kube::Client,
    /// Resolves Tasks.
    pub catalog: CatalogClient<Channel>,
    /// Maintains repositories.
    pub storage: RepositoriesClient<Channel>,
    /// Keeps figures.
    pub metrics: MetricsClient<Channel>,
    /// Signs grants.
    pub signer: Signer,
    /// The time.
    pub clock: Clock,
    /// What an administrator chose.
    pub settings: Settings,
    /// How far running sessions are.
    pub progress: Board,
    /// What the watches said; empty until this process leads.
    pub caches: Caches,
    /// Who is due.
    pub rush: Rush,
    /// Who may have a Job.
    pub turns: Turns,
    /// Whether this process may write.
    pub leadership: Leadership,
}

/// A pass over an object fails; it is tried again.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server refused, or did not answer.
    #[error("{act}")]
    Cluster {
        /// What was tried, with its object.
        act: String,
        /// Why it failed.
        #[source]
        source: Box<kube::Error>,
    },
    /// Another orchestrator acts.
    #[error("this orchestrator does not hold the Lease (any more): another one acts")]
    NotLeader,
    /// The API server did not say whether an object exists.
    #[error("{why}")]
    Unsure {
        /// What it said.
        why: String,
    },
    /// An object of that name belongs to somebody else.
    #[error(
        "{kind} {namespace}/{name} exists and belongs to another object: it may be about to be deleted"
    )]
    Foreign {
        /// Its kind.
        kind: &'static str,
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// The grant cannot be signed.
    #[error("sign the grant of {session}")]
    Sign {
        /// The session.
        session: String,
        /// Why not.
        #[source]
        source: KeyError,
    },
    /// A document cannot be written as JSON.
    #[error("write {what} as JSON")]
    Json {
        /// Which document.
        what: &'static str,
        /// Why not.
        #[source]
        source: serde_json::Error,
    },
}

impl Error {
    /// For `map_err` on calls to the API server.
    pub fn cluster(act: impl Into<String>) -> impl FnOnce(kube::Error) -> Self {
        let act = act.into();
        move |source| Self::Cluster { act, source: Box::new(source) }
    }

    /// The error and its causes, for people.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Self::Cluster { act, source } => format!("{act}: {}", describe(source)),
            Self::NotLeader
            | Self::Unsure { .. }
            | Self::Foreign { .. }
            | Self::Sign { .. }
            | Self::Json { .. } => fault::chain(self),
        }
    }

    /// True when somebody else wrote the object first: look again.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        self.code() == Some(409)
    }

    /// True when the API server will refuse this again: the object is invalid, or forbidden.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        matches!(self.code(), Some(400 | 403 | 422))
    }

    fn code(&self) -> Option<u16> {
        match self {
            Self::Cluster { source, .. } => match source.as_ref() {
                kube::Error::Api(status) => Some(status.code),
                _ => None,
            },
            Self::NotLeader
            | Self::Unsure { .. }
            | Self::Foreign { .. }
            | Self::Sign { .. }
            | Self::Json { .. } => None,
        }
    }
}

/// What the API server said; `kube`'s own text repeats itself with all fields.
#[must_use]
pub fn describe(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => fault::chain(other),
    }
}
