//! A Kubernetes-compatible API server for one machine.
//!
//! ```text
//! kube::Client ──▶ service ─┐                          ┌─▶ discovery, OpenAPI
//! kubectl ──TLS──▶ serve ───┴─▶ routes: who, what, may ┼─▶ verbs: read · create · update · patch · delete ─▶ store
//!                                                      ├─▶ watch ◀── events ── store ──▶ gc
//!                                                      └─▶ logs, exec ──▶ containers of the Job runner
//! ```
//!
//! Reading order: [`store`] (versioned objects), [`kinds`] (what is served: [`builtin`] and
//! [`crd`]), [`routes`], [`verbs`], [`watch`], [`gc`]. The rules on JSON values are pure: [`patch`],
//! [`apply`], [`schema`], [`openapi`], [`table`].
//!
//! What it does not do: mutating and conversion webhooks, aggregated API servers, admission policies in
//! CEL, client certificates, protobuf answers, terminals, attaching and port forwarding. `exec` speaks
//! WebSockets only.

pub mod admission;
pub mod apply;
pub mod auth;
pub mod bootstrap;
pub mod builtin;
pub mod certificates;
pub mod crd;
pub mod discovery;
pub mod events;
mod exec;
pub mod expiry;
pub mod gc;
pub mod kinds;
mod kubeconfig;
pub mod logs;
pub mod object;
pub mod openapi;
pub mod patch;
mod pipe;
mod private_file;
pub mod protobuf;
pub mod rbac;
pub mod represent;
pub mod request;
pub mod reviews;
pub mod routes;
pub mod schema;
pub mod selector;
mod serve;
pub mod server;
pub mod service;
pub mod status;
pub mod store;
pub mod table;
pub mod user;
pub mod verbs;
pub mod watch;
mod webhooks;

use std::future::Future;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use certificates::Authority;
use server::Server;
pub use service::Service;
pub use user::User;

use crate::job_runner::Containers;

/// Why the API server did not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The objects cannot be opened.
    #[error(transparent)]
    Open(#[from] store::OpenError),
    /// What every cluster has could not be written.
    #[error("write the first objects")]
    Bootstrap(#[source] store::Error),
    /// The administrator's token is not to be had.
    #[error(transparent)]
    Token(#[from] auth::Error),
    /// There is no certificate to serve with.
    #[error(transparent)]
    Certificate(#[from] certificates::Error),
    /// The kubeconfig could not be written.
    #[error("write {path}")]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// What may be chosen.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Further names and addresses for the server's certificate.
    pub names: Vec<String>,
    /// Where the Job runner tells what runs; `exec` finds nothing without it.
    pub containers: Containers,
}

/// A running API server; clones share it.
#[derive(Debug, Clone)]
pub struct ApiServer {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    server: Arc<Server>,
    authority: Authority,
    names: Vec<String>,
    /// Garbage collection and expiry.
    background: Mutex<Vec<JoinHandle<()>>>,
}

impl ApiServer {
    /// Opens the server on a data directory, which only one process at a time can use:
    /// `state.redb` holds the objects, `pki/` the certificate authority and the administrator's
    /// token, `logs/` the logs of Pods.
    ///
    /// # Errors
    /// When the directory is in use, cannot be written, or holds damaged data.
    pub async fn open(data_dir: &Path, options: Options) -> Result<Self, Error> {
        let pki = data_dir.join("pki");
        let server = Arc::new(Server {
            store: store::Store::open(&data_dir.join("state.redb"))?,
            registry: kinds::Registry::new(),
            tokens: auth::Tokens::open(&pki.join("admin.token"))?,
            documents: discovery::Documents::default(),
            data_dir: data_dir.to_owned(),
            containers: options.containers,
            sessions: TaskTracker::new(),
            closing: CancellationToken::new(),
        });
        let authority = Authority::open(&pki)?;
        bootstrap::run(&server).await.map_err(Error::Bootstrap)?;
        server.tokens.sweep(&server.store).await;
        let background = Mutex::new(vec![
            tokio::spawn(gc::run(Arc::clone(&server))),
            tokio::spawn(expiry::run(Arc::clone(&server))),
        ]);
        let shared = Shared { server, authority, names: options.names, background };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// The server as the transport of a [`kube::Client`]. Requests without a token are the
    /// administrator's.
    pub fn service(&self) -> Service {
        self.service_as(Some(User::admin()))
    }

    /// The same for another user, or for nobody: then a request needs a token.
    pub fn service_as(&self, user: Option<User>) -> Service {
        let server = Arc::clone(&self.shared.server);
        let stop = server.closing.child_token();
        Service { server, user, stop }
    }

    /// A client of this server, as the administrator.
    pub fn client(&self) -> kube::Client {
        kube::Client::new(self.service(), "default")
    }

    /// A client of this server as a service account, with the rights that its roles give it.
    pub fn client_as(&self, namespace: &str, service_account: &str) -> kube::Client {
        let user = User::service_account(namespace, service_account, "");
        kube::Client::new(self.service_as(Some(user)), namespace)
    }

    /// Serves over TLS until `shutdown`; then watches end and other requests finish.
    ///
    /// # Errors
    /// When there is no certificate.
    pub async fn serve(
        &self,
        listener: TcpListener,
        shutdown: impl Future<Output = ()>,
    ) -> Result<(), Error> {
        let tls = self.shared.authority.server(&self.shared.names)?;
        serve::run(self.service_as(None), listener, tls, shutdown).await;
        Ok(())
    }

    /// A kubeconfig for the administrator.
    pub fn kubeconfig(&self, address: SocketAddr) -> String {
        let token = self.shared.server.tokens.admin();
        kubeconfig::render(address, self.shared.authority.pem(), token)
    }

    /// Writes the kubeconfig (0600) to `kubeconfig` in the data directory.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write_kubeconfig(&self, address: SocketAddr) -> Result<PathBuf, Error> {
        let path = self.shared.server.data_dir.join("kubeconfig");
        match private_file::write(&path, self.kubeconfig(address).as_bytes()) {
            Ok(()) => Ok(path),
            Err(source) => Err(Error::Kubeconfig { path, source }),
        }
    }

    /// The certificate that clients of [`ApiServer::serve`] trust, as PEM.
    pub fn authority_pem(&self) -> &str {
        self.shared.authority.pem()
    }

    /// The administrator's bearer token.
    pub fn admin_token(&self) -> &str {
        self.shared.server.tokens.admin()
    }

    /// A bearer token of a service account, valid as long as this process lives and the account
    /// exists.
    pub fn token_for_service_account(&self, namespace: &str, name: &str) -> String {
        self.shared.server.tokens.fleeting(namespace, name)
    }

    /// The file that `kubectl logs` shows for a container; whoever runs the container appends to it.
    pub fn log_file(&self, namespace: &str, pod: &str, container: &str) -> PathBuf {
        logs::path(&self.shared.server.data_dir, namespace, pod, container)
    }

    /// Ends watches, commands and background work, writes what is queued and closes the file, which another
    /// process can open afterwards. Later requests that write are refused.
    pub async fn close(&self) {
        self.shared.server.closing.cancel();
        self.shared.server.sessions.close();
        self.shared.server.sessions.wait().await;
        let background = std::mem::take(&mut *self.shared.background.lock());
        for task in background {
            if let Err(error) = task.await {
                tracing::error!(%error, "a background task of the API server failed");
            }
        }
        let Some(writer) = self.shared.server.store.close() else { return };
        match tokio::task::spawn_blocking(move || writer.join()).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => tracing::error!("the object store's thread failed"),
        }
    }
}
