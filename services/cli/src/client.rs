//! The way to a cluster: its API, and Coffer's services in it.
//!
//! Which services there are is read from the cluster (see [`crate::endpoints`]), unless flags name them. The caller is
//! known to them by the same Kubernetes token that the kubeconfig shows to the API server, also when a login program
//! makes it.
use anyhow::{Context, anyhow};
use coffer_proto::{
    orchestrator::v1::sessions_client::SessionsClient,
    storage::v1::repositories_client::RepositoriesClient,
};
use coffer_runtime::{
    Secret,
    grpc::{self, Authorized},
    tls::TlsOptions,
};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, Client, Config,
    client::{Body, ConfigExt},
    config::{KubeConfigOptions, Kubeconfig},
};
use tokio::sync::OnceCell;
use tower::{BoxError, Layer, ServiceExt};

use crate::{
    args::GlobalArgs,
    endpoints::{self, Endpoints},
    errors::Advice,
};

/// A cluster, reached as the flags say.
pub struct Cluster {
    /// Its API.
    pub client: Client,
    /// Where verbs work when they do not say otherwise.
    pub namespace: String,
    config: Config,
    global: GlobalArgs,
    endpoints: OnceCell<Endpoints>,
}

#[derive(Clone, Copy)]
enum Service {
    Orchestrator,
    StorageGateway,
}

impl Cluster {
    /// Reads the kubeconfig. Nothing is sent yet.
    ///
    /// # Errors
    /// When there is no usable kubeconfig.
    pub async fn open(global: &GlobalArgs) -> anyhow::Result<Self> {
        let options = KubeConfigOptions { context: global.context.clone(), ..Default::default() };
        let config = match &global.kubeconfig {
            Some(file) => {
                let shown = file.display();
                let kubeconfig =
                    Kubeconfig::read_from(file).with_context(|| format!("read kubeconfig {shown}"))?;
                let config = Config::from_custom_kubeconfig(kubeconfig, &options).await;
                config.with_context(|| format!("use kubeconfig {shown}"))?
            }
            None if global.context.is_some() => {
                Config::from_kubeconfig(&options).await.context("use the kubeconfig")?
            }
            // Also finds the cluster that this runs in, when there is no kubeconfig.
            None => Config::infer().await.map_err(|error| {
                Advice::new(
                    format!("find a cluster: {}", coffer_runtime::fault::chain(&error)),
                    "name it with --kubeconfig or $KUBECONFIG; `coffer up` starts one on this machine and writes \
                     DATA_DIR/kubeconfig",
                )
            })?,
        };
        let client = Client::try_from(config.clone()).context("set up the Kubernetes client")?;
        let namespace =
            global.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
        Ok(Self { client, namespace, config, global: global.clone(), endpoints: OnceCell::new() })
    }

    /// Sessions of the orchestrator.
    ///
    /// # Errors
    /// When its endpoint is not known or not usable.
    pub async fn sessions(&self) -> anyhow::Result<SessionsClient<Authorized>> {
        Ok(SessionsClient::new(self.channel(Service::Orchestrator).await?))
    }

    /// Repositories of the storage-gateway.
    ///
    /// # Errors
    /// When its endpoint is not known or not usable.
    pub async fn repositories(&self) -> anyhow::Result<RepositoriesClient<Authorized>> {
        Ok(RepositoriesClient::new(self.channel(Service::StorageGateway).await?))
    }

    async fn channel(&self, service: Service) -> anyhow::Result<Authorized> {
        let named = match service {
            Service::Orchestrator => &self.global.orchestrator,
            Service::StorageGateway => &self.global.storage_gateway,
        };
        let endpoint = match (named, service) {
            (Some(named), _) => named.clone(),
            (None, Service::Orchestrator) => self.endpoints().await?.orchestrator.clone(),
            (None, Service::StorageGateway) => self.endpoints().await?.storage_gateway.clone(),
        };
        let tls = if endpoint.starts_with("http://") {
            None
        } else {
            Some(TlsOptions::new(None, Some(self.authority().await?)))
        };
        let channel = grpc::connect(&endpoint, tls.as_ref()).context("connect to Coffer")?;
        let token = self.token().await?;
        grpc::with_token(channel, token.as_ref()).context("connect to Coffer")
    }

    /// The CA's certificate.
    async fn authority(&self) -> anyhow::Result<String> {
        match &self.global.ca_file {
            Some(file) => {
                let text = tokio::fs::read_to_string(file).await;
                text.with_context(|| format!("read the CA's certificate from {}", file.display()))
            }
            None => Ok(self.endpoints().await?.ca.clone()),
        }
    }

    async fn endpoints(&self) -> anyhow::Result<&Endpoints> {
        let read = async {
            let maps: Api<ConfigMap> = Api::namespaced(self.client.clone(), endpoints::NAMESPACE);
            let map = maps.get_opt(endpoints::NAME).await.with_context(|| {
                format!(
                    "read where Coffer is from ConfigMap {}/{}",
                    endpoints::NAMESPACE,
                    endpoints::NAME
                )
            })?;
            let map = map.ok_or_else(|| {
                Advice::new(
                    format!(
                        "the cluster does not say where Coffer is: it has no ConfigMap {}/{}",
                        endpoints::NAMESPACE,
                        endpoints::NAME
                    ),
                    "name the services with --orchestrator or --storage-gateway, and their CA with --ca-file; \
                     `coffer --help` shows how to forward their ports",
                )
            })?;
            Ok::<_, anyhow::Error>(Endpoints::try_from(&map)?)
        };
        self.endpoints.get_or_try_init(|| read).await
    }

    /// The bearer token that the Kubernetes client would send, if any.
    async fn token(&self) -> anyhow::Result<Option<Secret>> {
        if let Some(token) = &self.global.token {
            return Ok(Some(Secret::new(token.trim())));
        }
        let layer = self.config.auth_layer().context("use the kubeconfig's credentials")?;
        let Some(layer) = layer else {
            return Err(Advice::new(
                "the kubeconfig has no token, only a client certificate, which Coffer's services do not take",
                "pass a token with --token, e.g. \"$(kubectl create token NAME)\"",
            )
            .into());
        };
        // The layer adds the header to a request, which is sent to nobody but ourselves.
        let echo = tower::service_fn(|request: http::Request<Body>| {
            let mut response = http::Response::new(Body::empty());
            *response.headers_mut() = request.headers().clone();
            futures::future::ok::<_, BoxError>(response)
        });
        let response = layer.layer(echo).oneshot(http::Request::new(Body::empty())).await;
        let response = response
            .map_err(|error| anyhow!(error).context("get a token as the kubeconfig says"))?;
        let header = response.headers().get(http::header::AUTHORIZATION);
        let token = header.and_then(|header| header.to_str().ok()?.strip_prefix("Bearer "));
        Ok(token.map(Secret::new))
    }
}
