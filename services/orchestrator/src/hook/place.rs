//! Where a hook acts: in the pod behind the AppBinding's service, ready ones first; at its address; or at whatever host the
//! hook names. An AppBinding with only a url has no pod, and its own host is the default.

use coffer_api::AppBinding;
use k8s_openapi::{
    api::{
        core::v1::Pod,
        discovery::v1::{Endpoint, EndpointSlice},
    },
    apimachinery::pkg::util::intstr::IntOrString,
};
use kube::{Api, ResourceExt, api::ListParams};
use url::Url;

use super::Error;
use crate::{context, context::Context, gather};

/// Label of a service's slices.
const SERVICE: &str = "kubernetes.io/service-name";

/// Where a hook acts.
pub(super) struct Place<'a> {
    ctx: &'a Context,
    binding: Option<AppBinding>,
    namespace: String,
    container: &'a str,
}

impl<'a> Place<'a> {
    /// Reads the AppBinding, if there is one.
    pub(super) async fn find(
        ctx: &'a Context,
        target: Option<&(String, String)>,
        container: &'a str,
    ) -> Result<Self, Error> {
        let Some((namespace, name)) = target else {
            return Ok(Self { ctx, binding: None, namespace: String::new(), container });
        };
        let found: Option<AppBinding> = gather::get(ctx, namespace, name).await?;
        let binding = found.ok_or_else(|| {
            Error::Nowhere(format!("AppBinding {namespace}/{name} is not found any more"))
        })?;
        Ok(Self { ctx, binding: Some(binding), namespace: namespace.to_owned(), container })
    }

    /// Certificates to trust besides the system's: the AppBinding's.
    pub(super) fn authority(&self) -> Option<&[u8]> {
        let config = self.binding.as_ref().map(|binding| &binding.spec.client_config)?;
        config.ca_bundle.as_ref().map(|bundle| bundle.0.as_slice())
    }

    /// The pod behind the service.
    pub(super) async fn pod(&self) -> Result<Pod, Error> {
        let (namespace, service, endpoint) = self.endpoint().await?;
        let pod = endpoint.target_ref.filter(|target| target.kind.as_deref() == Some("Pod"));
        let name = pod.and_then(|pod| pod.name).ok_or_else(|| {
            Error::Nowhere(format!("what is behind Service {namespace}/{service} is no pod"))
        })?;
        let found: Option<Pod> = gather::get(self.ctx, &namespace, &name).await?;
        found.ok_or_else(|| Error::Nowhere(format!("pod {namespace}/{name} is gone")))
    }

    /// The host that is named, else the pod's address, else that of the AppBinding's url.
    pub(super) async fn host(&self, named: Option<&str>) -> Result<String, Error> {
        if let Some(host) = named.filter(|host| !host.is_empty()) {
            return Ok(host.to_owned());
        }
        let binding = self.binding()?;
        if binding.spec.client_config.service.is_some() {
            let (namespace, service, endpoint) = self.endpoint().await?;
            return endpoint.addresses.into_iter().next().ok_or_else(|| {
                Error::Nowhere(format!(
                    "Service {namespace}/{service} has an endpoint without address"
                ))
            });
        }
        let address = binding.address(&self.namespace);
        Ok(address.map_err(|error| Error::Nowhere(error.to_string()))?.host)
    }

    /// The port's number; a name is one of the container's ports.
    pub(super) async fn port(&self, port: &IntOrString) -> Result<u16, Error> {
        let name = match port {
            IntOrString::Int(number) => {
                return u16::try_from(*number)
                    .map_err(|_| Error::Nowhere(format!("port {number} is none")));
            }
            IntOrString::String(name) => name,
        };
        if let Some(number) = number(name) {
            return Ok(number);
        }
        let pod = self.pod().await?;
        let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
        let mut ports = containers
            .filter(|container| self.container.is_empty() || container.name == self.container)
            .flat_map(|container| container.ports.iter().flatten());
        let found = ports.find(|port| port.name.as_deref() == Some(name));
        found.and_then(|port| u16::try_from(port.container_port).ok()).ok_or_else(|| {
            Error::Nowhere(format!("no container of pod {} has a port {name:?}", pod.name_any()))
        })
    }

    /// The address of a request.
    pub(super) async fn url(
        &self,
        scheme_: Option<&str>,
        host: Option<&str>,
        port: &IntOrString,
        path: Option<&str>,
    ) -> Result<Url, Error> {
        let scheme = scheme(scheme_).map_err(Error::Nowhere)?;
        let (host, port) = (self.host(host).await?, self.port(port).await?);
        let host = if host.contains(':') { format!("[{host}]") } else { host };
        let path = path.unwrap_or_default();
        let text = format!("{scheme}://{host}:{port}/{}", path.strip_prefix('/').unwrap_or(path));
        Url::parse(&text).map_err(|error| Error::Nowhere(format!("{text:?} is no URL: {error}")))
    }

    fn binding(&self) -> Result<&AppBinding, Error> {
        let none = "a hook of the whole batch has no target: name a host and the number of a port";
        self.binding.as_ref().ok_or_else(|| Error::Nowhere(none.to_owned()))
    }

    async fn endpoint(&self) -> Result<(String, String, Endpoint), Error> {
        let binding = self.binding()?;
        let Some(service) = &binding.spec.client_config.service else {
            let name = binding.name_any();
            return Err(Error::Nowhere(format!(
                "AppBinding {}/{name} has only a url, and behind that is no pod that is known",
                self.namespace
            )));
        };
        let namespace = self.namespace.clone();
        // Who writes an AppBinding may have no rights where its service is.
        if !service.namespace.is_empty() && service.namespace != namespace {
            return Err(Error::Nowhere(format!(
                "hooks act in pods of the AppBinding's namespace {namespace}, and its service is in {}: name a host",
                service.namespace
            )));
        }
        let api: Api<EndpointSlice> = Api::namespaced(self.ctx.client.clone(), &namespace);
        let slices = api
            .list(&ListParams::default().labels(&format!("{SERVICE}={}", service.name)))
            .await
            .map_err(context::Error::cluster(format!(
                "list the EndpointSlices of Service {namespace}/{}",
                service.name
            )))?;
        let all = || slices.items.iter().flat_map(|slice| slice.endpoints.iter().flatten());
        let is_ready = |endpoint: &&Endpoint| {
            endpoint.conditions.as_ref().is_none_or(|c| c.ready.unwrap_or(true))
        };
        let found = all().find(is_ready).or_else(|| all().next()).cloned();
        let endpoint = found.ok_or_else(|| {
            Error::Nowhere(format!("no pod is behind Service {namespace}/{}", service.name))
        })?;
        Ok((namespace, service.name.clone(), endpoint))
    }
}

/// A port that is written as text.
pub(super) fn number(text: &str) -> Option<u16> {
    text.parse().ok().filter(|number| *number > 0)
}

/// `http` or `https`; the first when none is named.
pub(super) fn scheme(named: Option<&str>) -> Result<&'static str, String> {
    match named.unwrap_or_default().to_ascii_lowercase().as_str() {
        "" | "http" => Ok("http"),
        "https" => Ok("https"),
        other => Err(format!("scheme {other:?} is none: write HTTP or HTTPS")),
    }
}
