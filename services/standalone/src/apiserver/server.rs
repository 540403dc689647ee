//! What every request works with.

use std::path::PathBuf;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::auth::Tokens;
use super::discovery::Documents;
use super::kinds::{Kind, Kinds, Registry, Version};
use super::represent::{Accept, View};
use super::request::{Params, Target};
use super::store::Store;
use super::user::User;
use crate::job_runner::Containers;

/// The server's parts.
#[derive(Debug)]
pub struct Server {
    /// The objects.
    pub store: Store,
    /// The kinds.
    pub registry: Registry,
    /// The tokens.
    pub tokens: Tokens,
    /// The OpenAPI documents.
    pub documents: Documents,
    /// Where everything is kept; logs of Pods are in `logs/`.
    pub data_dir: PathBuf,
    /// What runs, for `exec`.
    pub containers: Containers,
    /// Commands under way, and the pipes of clients in this process.
    pub sessions: TaskTracker,
    /// Cancelled when the server closes.
    pub closing: CancellationToken,
}

impl Server {
    /// The kinds as of now.
    pub fn kinds(&self) -> Arc<Kinds> {
        self.registry.current(&self.store)
    }
}

/// A request about a resource, understood and allowed.
pub struct Call<'a> {
    /// The server.
    pub server: &'a Arc<Server>,
    /// Who asks.
    pub user: User,
    /// About what.
    pub target: Target,
    /// The kind of the target.
    pub kind: Arc<Kind>,
    /// The version of the target.
    pub version: Arc<Version>,
    /// The query.
    pub params: Params,
    /// What the client takes.
    pub accept: Accept,
    /// Who owns the fields that are written.
    pub manager: String,
    /// The `Content-Type`, without parameters.
    pub content_type: String,
    /// Cancelled when this connection's listener stops.
    pub stop: CancellationToken,
}

impl Call<'_> {
    /// The namespace of the path; empty for objects of the cluster.
    pub fn namespace(&self) -> &str {
        self.target.namespace.as_deref().unwrap_or_default()
    }

    /// The name of the path.
    pub fn name(&self) -> &str {
        self.target.name.as_deref().unwrap_or_default()
    }

    /// Whether the request is about `<object>/status`.
    pub fn is_status(&self) -> bool {
        self.target.subresource.as_deref() == Some("status")
    }

    /// How objects are shown to this client.
    pub fn view(&self) -> View<'_> {
        View {
            kind: &self.kind,
            version: &self.version,
            accept: self.accept,
            include_object: &self.params.include_object,
        }
    }
}
