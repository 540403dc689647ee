//! An address for each thing that listens, and what clients are told of them.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use coffer_runtime::Listen;

use super::{Error, Ports, layout};

/// Where everything listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoints {
    /// The Kubernetes API, `https://…`.
    pub api: String,
    /// gRPC of the orchestrator.
    pub orchestrator: String,
    /// gRPC of the catalog.
    pub catalog: String,
    /// gRPC of the storage-gateway.
    pub storage_gateway: String,
    /// gRPC of the metrics-gateway.
    pub metrics_gateway: String,
    /// Pushes and scrapes, `http://…`.
    pub pushgateway: String,
    /// The kubeconfig.
    pub kubeconfig: PathBuf,
}

/// A socket for each thing that listens. The services have to know each other's addresses before they are built, so all
/// sockets are bound first: nobody else can take a port in between.
#[derive(Clone, Debug)]
pub(super) struct Addresses {
    pub(super) api: Listen,
    pub(super) orchestrator: Listen,
    pub(super) catalog: Listen,
    pub(super) storage_gateway: Listen,
    pub(super) metrics_gateway: Listen,
    pub(super) pushgateway: Listen,
    pub(super) admission: Listen,
}

impl Addresses {
    /// Takes the ports that are wanted where they are free.
    pub(super) fn choose(ip: IpAddr, ports: Ports) -> Result<Self, Error> {
        let at = |port| {
            layout::listen(ip, port)
                .map_err(|source| Error::Listen { address: SocketAddr::new(ip, port), source })
        };
        let Ports {
            api,
            orchestrator,
            catalog,
            storage_gateway,
            metrics_gateway,
            pushgateway,
            admission,
        } = ports;
        Ok(Self {
            api: at(api)?,
            orchestrator: at(orchestrator)?,
            catalog: at(catalog)?,
            storage_gateway: at(storage_gateway)?,
            metrics_gateway: at(metrics_gateway)?,
            pushgateway: at(pushgateway)?,
            admission: at(admission)?,
        })
    }

    pub(super) fn ports(&self) -> Ports {
        Ports {
            api: self.api.address().port(),
            orchestrator: self.orchestrator.address().port(),
            catalog: self.catalog.address().port(),
            storage_gateway: self.storage_gateway.address().port(),
            metrics_gateway: self.metrics_gateway.address().port(),
            pushgateway: self.pushgateway.address().port(),
            admission: self.admission.address().port(),
        }
    }

    /// Where the API server asks whether an object may be written.
    pub(super) fn webhook(&self) -> String {
        format!("https://{}{}", self.admission.address(), coffer_orchestrator::admission::PATH)
    }

    pub(super) fn endpoints(&self, kubeconfig: PathBuf) -> Endpoints {
        let https = |at: &Listen| format!("https://{}", at.address());
        Endpoints {
            api: https(&self.api),
            orchestrator: https(&self.orchestrator),
            catalog: https(&self.catalog),
            storage_gateway: https(&self.storage_gateway),
            metrics_gateway: https(&self.metrics_gateway),
            pushgateway: format!("http://{}", self.pushgateway.address()),
            kubeconfig,
        }
    }
}

impl Endpoints {
    /// As the ConfigMap has them that clients read.
    pub(super) fn published(&self, ca: &str) -> BTreeMap<String, String> {
        let Self {
            api: _,
            orchestrator,
            catalog,
            storage_gateway,
            metrics_gateway,
            pushgateway,
            kubeconfig: _,
        } = self;
        [
            ("orchestrator", orchestrator.as_str()),
            ("catalog", catalog),
            ("storage-gateway", storage_gateway),
            ("metrics-gateway", metrics_gateway),
            ("pushgateway", pushgateway),
            ("ca.crt", ca),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into()
    }
}
