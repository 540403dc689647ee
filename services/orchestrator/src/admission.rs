//! The validating webhook: what CEL in the kinds cannot say is refused where it is written, by `kubectl apply`, and not
//! found out later.
//!
//! ```text
//!  API server ──AdmissionReview──▶ serve ──▶ review ──▶ judge: the reconcilers' own rules, on what is there now
//!                    ▲
//!                 caBundle ◀── keep ──▶ certificate: made, kept in a Secret, made anew before it ends
//! ```
//!
//! It is a courtesy, not a wall: every rule is a condition of the object too, since what an object refers to may change
//! after it was admitted. So the API server goes on without us (`failurePolicy: Ignore`), and nobody's cluster stands
//! still because Coffer does. All replicas serve it, the one that leads and those that wait.

mod certificate;
mod judge;
mod keep;
mod review;
mod serve;

use std::{net::SocketAddr, sync::Arc};

use coffer_runtime::{Listen, Runtime};
use tokio::net::TcpListener;

use crate::context::Context;

/// Name of the ValidatingWebhookConfiguration, and of the Secret that holds the certificate.
pub const NAME: &str = "coffer-admission";
/// Where the API server posts to.
pub const PATH: &str = "/validate";

/// What an administrator chose.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where to serve HTTPS.
    pub listen: Listen,
    /// Namespace of the Secret.
    pub namespace: String,
    /// Names and addresses by which the API server reaches us.
    pub names: Vec<String>,
}

/// The webhook, bound and with a certificate if one could be had.
pub(crate) struct Admission {
    listener: TcpListener,
    keeper: keep::Keeper,
}

impl Admission {
    /// Binds the address and makes the first attempt at a certificate.
    ///
    /// # Errors
    /// When the address is taken.
    pub(crate) async fn open(ctx: &Arc<Context>, options: Options) -> Result<Self, crate::Error> {
        let address = options.listen.address();
        let listener = options.listen.listener().await;
        let listener = listener.map_err(|source| crate::Error::Admission { address, source })?;
        let keeper = keep::Keeper::new(ctx.clone(), options);
        keeper.attempt().await;
        Ok(Self { listener, keeper })
    }

    /// Serves until the shutdown.
    pub(crate) async fn run(self, runtime: &Runtime) {
        let Self { listener, keeper } = self;
        let address: Option<SocketAddr> = listener.local_addr().ok();
        tracing::info!(?address, "the admission webhook is serving");
        let stop = runtime.shutdown.token();
        let serving = serve::run(keeper.context(), listener, keeper.certificate(), stop.clone());
        let keeping = stop.run_until_cancelled(keeper.keep());
        futures::future::join(serving, keeping).await;
    }
}
