//! Keeps the certificate: reads its Secret, makes a new one when it is due, and tells the API server whom to trust. The
//! third file that writes to the cluster: the Secret and the ValidatingWebhookConfiguration, and nothing else.

use std::{sync::Arc, time::Duration};

use chrono::TimeDelta;
use coffer_runtime::{authority, fault, tls, tls::TlsOptions};
use k8s_openapi::{
    ByteString, api::admissionregistration::v1::ValidatingWebhookConfiguration,
    api::core::v1::Secret,
};
use kube::{Api, api::PostParams};
use rustls::ServerConfig;
use tokio::sync::watch;

use super::{
    NAME, Options,
    certificate::{self, Material},
};
use crate::context::Context;

/// How often the Secret is looked at: another replica may have replaced it.
const LOOK: TimeDelta = TimeDelta::minutes(1);
/// How long an attempt may take: the start of the process waits for the first.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("{act}")]
    Cluster {
        act: &'static str,
        #[source]
        source: kube::Error,
    },
    #[error("make a certificate for the admission webhook")]
    Make(#[from] authority::Error),
    #[error(
        "use the certificate of the admission webhook; delete Secret coffer-admission for a new one"
    )]
    Use(#[from] tls::Error),
    #[error("the API server does not answer in time")]
    Late,
}

fn on(act: &'static str) -> impl FnOnce(kube::Error) -> Error {
    move |source| Error::Cluster { act, source }
}

/// Keeps the certificate of one replica.
pub(super) struct Keeper {
    ctx: Arc<Context>,
    options: Options,
    shown: watch::Sender<Option<Arc<ServerConfig>>>,
}

impl Keeper {
    pub(super) fn new(ctx: Arc<Context>, options: Options) -> Self {
        Self { ctx, options, shown: watch::Sender::new(None) }
    }

    pub(super) fn context(&self) -> Arc<Context> {
        self.ctx.clone()
    }

    /// What to show to the API server; none until there is one.
    pub(super) fn certificate(&self) -> watch::Receiver<Option<Arc<ServerConfig>>> {
        self.shown.subscribe()
    }

    /// Looks after it for ever.
    pub(super) async fn keep(&self) {
        loop {
            self.ctx.clock.sleep_until(self.ctx.clock.now() + LOOK).await;
            self.attempt().await;
        }
    }

    /// One look; what goes wrong is logged, and tried again at the next.
    pub(super) async fn attempt(&self) {
        let looked = tokio::time::timeout(PATIENCE, Box::pin(self.look())).await;
        if let Err(error) = looked.unwrap_or(Err(Error::Late)) {
            let error = fault::chain(&error);
            tracing::warn!(
                error,
                "the admission webhook's certificate is not renewed; tried again in a minute"
            );
        }
    }

    async fn look(&self) -> Result<(), Error> {
        let material = self.material().await?;
        // First the trust, then the certificate: nobody is shown one that is not believed.
        self.publish(&material.authorities).await?;
        let config = TlsOptions::new(Some(material.identity), None).server()?.current();
        self.shown.send_replace(Some(config));
        Ok(())
    }

    /// The certificate that holds, made if there is none.
    async fn material(&self) -> Result<Material, Error> {
        const READ: &str = "read Secret coffer-admission";
        let api: Api<Secret> = Api::namespaced(self.ctx.client.clone(), &self.options.namespace);
        let now = self.ctx.clock.now();
        let names = &self.options.names;
        loop {
            let found = api.get_opt(NAME).await.map_err(on(READ))?;
            let holds = found.as_ref().and_then(|secret| certificate::current(secret, names, now));
            if let Some(material) = holds {
                return Ok(material);
            }
            let place = (self.options.namespace.as_str(), NAME);
            let new = certificate::make(place, found.as_ref(), names, now)?;
            let written = match found {
                None => api.create(&PostParams::default(), &new).await,
                Some(_) => api.replace(NAME, &PostParams::default(), &new).await,
            };
            match written {
                Ok(_) => tracing::info!("the admission webhook has a new certificate"),
                // Another replica was faster: its certificate is as good.
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                Err(source) => return Err(on("write Secret coffer-admission")(source)),
            }
        }
    }

    /// Tells the API server whom to trust; where there is no webhook configuration, nobody asks us.
    async fn publish(&self, authorities: &str) -> Result<(), Error> {
        const ACT: &str = "write ValidatingWebhookConfiguration coffer-admission";
        let api: Api<ValidatingWebhookConfiguration> = Api::all(self.ctx.client.clone());
        loop {
            let Some(mut found) = api.get_opt(NAME).await.map_err(on(ACT))? else { return Ok(()) };
            if !trust(&mut found, authorities) {
                return Ok(());
            }
            match api.replace(NAME, &PostParams::default(), &found).await {
                Ok(_) => return Ok(()),
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                Err(source) => return Err(on(ACT)(source)),
            }
        }
    }
}

/// Sets the bundle of all webhooks; false when they all have it.
fn trust(configuration: &mut ValidatingWebhookConfiguration, authorities: &str) -> bool {
    let bundle = ByteString(authorities.as_bytes().to_vec());
    let mut changed = false;
    for webhook in configuration.webhooks.iter_mut().flatten() {
        let known = webhook.client_config.ca_bundle.replace(bundle.clone());
        changed |= known.as_ref() != Some(&bundle);
    }
    changed
}
