//! Who calls, and may they.
//!
//! Three kinds of callers: a service of ours (a verified client certificate that names it), a worker (a session grant as
//! bearer token), and a user (any other bearer token, which the cluster reviews). A token wins over the certificate of
//! its connection: it is what the caller chose to act as. Users are authorised as if they had made the matching API
//! call; services are those the server was told to trust; a worker's grant is checked by the handler, which knows what
//! it must cover.

mod cache;
#[cfg(feature = "kube")]
mod cluster;

use crate::fault;
use crate::grant::{Grant, Verifier, is_grant};
use crate::grpc::Peer;
use crate::{Clock, Secret};
use cache::Cache;
use futures::future::BoxFuture;
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::Arc;
use tonic::{Request, Status};

/// Somebody who is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Caller {
    /// One of our services, by the name in its certificate.
    Service(String),
    /// A session's worker.
    Worker(Grant),
    /// A person or program with a Kubernetes token.
    User(User),
}

/// A user as the cluster knows them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct User {
    /// For example `system:serviceaccount:demo:deployer`.
    pub name: String,
    /// The cluster's id for them, may be empty.
    pub uid: String,
    /// Their groups.
    pub groups: Vec<String>,
    /// What else the authenticator said.
    pub extra: BTreeMap<String, Vec<String>>,
}

/// The API call that a call of ours stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// API group.
    pub group: &'static str,
    /// Plural resource.
    pub resource: &'static str,
    /// Verb.
    pub verb: &'static str,
    /// Namespace.
    pub namespace: String,
    /// Object; none for all of them.
    pub name: Option<String>,
}

impl std::fmt::Display for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { group, resource, verb, namespace, name } = self;
        write!(f, "{verb} {resource}.{group}")?;
        if let Some(name) = name {
            write!(f, " {name:?}")?;
        }
        write!(f, " in namespace {namespace:?}")
    }
}

/// The cluster could not be asked.
#[derive(Debug, thiserror::Error)]
#[error("{act}")]
pub struct ReviewError {
    /// What was tried.
    pub act: &'static str,
    /// Why it failed.
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

/// Answers the two questions that only the cluster can answer.
pub trait Reviewer: Send + Sync + 'static {
    /// Whose token is this? None: nobody's.
    fn review<'a>(&'a self, token: &'a Secret) -> BoxFuture<'a, Result<Option<User>, ReviewError>>;
    /// May they? The error of the inner result is the cluster's reason, may be empty.
    fn allows<'a>(
        &'a self,
        user: &'a User,
        access: &'a Access,
    ) -> BoxFuture<'a, Result<Result<(), String>, ReviewError>>;
}

/// Decides who comes in. Clones share the cache.
#[derive(Clone)]
pub struct Gate(Arc<Inner>);

struct Inner {
    clock: Clock,
    verifier: Option<Verifier>,
    services: BTreeSet<String>,
    reviewer: Option<Box<dyn Reviewer>>,
    cache: Cache,
}

/// Collects what a [`Gate`] trusts.
pub struct GateBuilder {
    clock: Clock,
    verifier: Option<Verifier>,
    services: BTreeSet<String>,
    reviewer: Option<Box<dyn Reviewer>>,
}

impl GateBuilder {
    /// Accepts workers with grants that this verifies.
    #[must_use]
    pub fn grants(mut self, verifier: Verifier) -> Self {
        self.verifier = Some(verifier);
        self
    }

    /// Lets this service do whatever a user would need rights for.
    #[must_use]
    pub fn service(mut self, name: &str) -> Self {
        self.services.insert(name.to_owned());
        self
    }

    /// Accepts users whom the cluster knows.
    #[cfg(feature = "kube")]
    #[must_use]
    pub fn cluster(self, client: kube::Client) -> Self {
        self.reviewer(cluster::Cluster::new(client))
    }

    /// Accepts users whom the reviewer knows.
    #[must_use]
    pub fn reviewer(mut self, reviewer: impl Reviewer) -> Self {
        self.reviewer = Some(Box::new(reviewer));
        self
    }

    /// The gate.
    #[must_use]
    pub fn build(self) -> Gate {
        let Self { clock, verifier, services, reviewer } = self;
        Gate(Arc::new(Inner { clock, verifier, services, reviewer, cache: Cache::default() }))
    }
}

impl Gate {
    /// A gate that lets nobody in until it is told whom to trust.
    #[must_use]
    pub fn builder(clock: Clock) -> GateBuilder {
        GateBuilder { clock, verifier: None, services: BTreeSet::new(), reviewer: None }
    }

    /// Who makes this request. Takes what it needs from the request at once, so the future borrows nothing.
    ///
    /// # Errors
    /// `UNAUTHENTICATED`, saying what to show; `UNAVAILABLE` when the cluster cannot be asked.
    pub fn caller<T>(
        &self,
        request: &Request<T>,
    ) -> impl Future<Output = Result<Caller, Status>> + Send + 'static + use<T> {
        let token = bearer(request);
        let service = request.extensions().get::<Peer>().and_then(|peer| peer.service.clone());
        let inner = self.0.clone();
        async move {
            match (token?, service) {
                (Some(token), _) => inner.caller_by_token(token).await,
                (None, Some(service)) => Ok(Caller::Service(service.to_string())),
                (None, None) => Err(Status::unauthenticated(
                    "who calls? send `authorization: Bearer <token>` with a session grant or a Kubernetes token \
                     (kubectl create token), or connect with a service's client certificate",
                )),
            }
        }
    }

    /// Whether the caller may do what `access` says. Workers never: their grants say what they may do.
    ///
    /// # Errors
    /// `PERMISSION_DENIED`, naming the right that is missing; `UNAVAILABLE` when the cluster cannot be asked.
    pub async fn authorize(&self, caller: &Caller, access: &Access) -> Result<(), Status> {
        match caller {
            Caller::Service(name) if self.0.services.contains(name) => Ok(()),
            Caller::Service(name) => {
                Err(Status::permission_denied(format!("service {name:?} may not {access}")))
            }
            Caller::Worker(grant) => Err(Status::permission_denied(format!(
                "the session grant of {} does not allow to {access}",
                grant.session
            ))),
            Caller::User(user) => {
                let Some(reviewer) = &self.0.reviewer else { return Err(no_users()) };
                let decision = reviewer.allows(user, access).await.map_err(unavailable)?;
                decision.map_err(|reason| {
                    let mut message = format!("user {:?} may not {access}", user.name);
                    if !reason.is_empty() {
                        message.push_str(": ");
                        message.push_str(&reason);
                    }
                    Status::permission_denied(message)
                })
            }
        }
    }
}

impl Inner {
    async fn caller_by_token(&self, token: Secret) -> Result<Caller, Status> {
        if is_grant(token.reveal()) {
            let Some(verifier) = &self.verifier else {
                return Err(Status::unauthenticated("this server takes no session grants"));
            };
            return verifier
                .verify(token.reveal(), self.clock.now())
                .map(Caller::Worker)
                .map_err(|refused| Status::unauthenticated(fault::chain(&refused)));
        }
        let Some(reviewer) = &self.reviewer else { return Err(no_users()) };
        let now = self.clock.now();
        let user = match self.cache.get(&token, now) {
            Some(user) => user,
            None => {
                let user = reviewer.review(&token).await.map_err(unavailable)?;
                self.cache.put(token, user.clone(), now);
                user
            }
        };
        user.map(Caller::User).ok_or_else(|| {
            Status::unauthenticated(
                "the cluster does not know this token; it may have expired (kubectl create token makes a new one)",
            )
        })
    }
}

fn bearer<T>(request: &Request<T>) -> Result<Option<Secret>, Status> {
    let Some(header) = request.metadata().get("authorization") else { return Ok(None) };
    let token = header.to_str().ok().and_then(|header| {
        let (scheme, token) = header.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
    });
    match token {
        Some(token) if !token.is_empty() => Ok(Some(Secret::new(token))),
        Some(_) | None => {
            Err(Status::unauthenticated("the authorization header is not `Bearer <token>`"))
        }
    }
}

fn no_users() -> Status {
    Status::unauthenticated("this server takes no user tokens, only session grants")
}

fn unavailable(error: ReviewError) -> Status {
    Status::unavailable(fault::chain(&error))
}

#[cfg(test)]
mod tests;
