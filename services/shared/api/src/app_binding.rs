//! AppBinding: how to reach a Redis, and as whom.

use std::collections::BTreeMap;

use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::CustomResource;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::target::TaskRef;

/// How to reach an application.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "appcatalog.appscode.com",
    version = "v1alpha1",
    kind = "AppBinding",
    plural = "appbindings",
    singular = "appbinding",
    category = "catalog",
    category = "appscode",
    category = "all",
    namespaced,
    derive = "Default",
    derive = "PartialEq",
    printcolumn(name = "Type", type_ = "string", json_path = ".spec.type"),
    printcolumn(name = "Version", type_ = "string", json_path = ".spec.version"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct AppBindingSpec {
    /// `redis`, or `kubedb.com/redis`.
    #[serde(default, rename = "type", skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// Version of the server.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub version: String,
    /// Where it is.
    pub client_config: ClientConfig,
    /// Secret with `password` and perhaps `username`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<SecretRef>,
    /// Applied in order to a copy of the Secret.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secret_transforms: Vec<SecretTransform>,
    /// Settings of the addon: an object with apiVersion and kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "embedded")]
    pub parameters: Option<Value>,
    /// Secret with `tls.crt` and `tls.key`, the client certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls_secret: Option<SecretRef>,
    /// The object that it stands for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app_ref: Option<AppRef>,
}

fn embedded(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "nullable": true,
        "description": "Settings of the addon: an object with apiVersion and kind.",
        "x-kubernetes-embedded-resource": true,
        "x-kubernetes-preserve-unknown-fields": true,
    })
}

/// Bytes, in base64.
fn bytes(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "format": "byte", "nullable": true})
}

/// Where an application is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClientConfig {
    /// A Service; wins over `url`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceRef>,
    /// `redis://host:port`, `rediss://host:port`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// PEM of the CA that signed the server's certificate; turns TLS on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "bytes")]
    pub ca_bundle: Option<ByteString>,
    /// Accepts any certificate.
    #[serde(default, rename = "insecureSkipTLSVerify", skip_serializing_if = "std::ops::Not::not")]
    pub insecure_skip_tls_verify: bool,
    /// Name in the server's certificate, when it is not the host's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_name: Option<String>,
}

/// A Service of the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServiceRef {
    /// `redis` or `rediss`; others are taken as `redis`.
    pub scheme: String,
    /// Name.
    pub name: String,
    /// Namespace; the AppBinding's when empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// Port.
    pub port: i32,
    /// Has no meaning for Redis.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Has no meaning for Redis.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query: Option<String>,
}

/// A Secret of the same namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretRef {
    /// Empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_group: Option<String>,
    /// `Secret`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Name.
    pub name: String,
}

/// The object that an AppBinding stands for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AppRef {
    /// API group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_group: Option<String>,
    /// Kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Name.
    pub name: String,
    /// Namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
}

/// One change to a copy of a Secret.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretTransform {
    /// Renames a key; nothing happens when it is not there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rename_key: Option<RenameKey>,
    /// Adds a key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub add_key: Option<AddKey>,
    /// Adds every key of another Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub add_keys_from: Option<AddKeysFrom>,
    /// Removes a key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remove_key: Option<RemoveKey>,
}

/// Renames a key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs, reason = "the names say it")]
pub struct RenameKey {
    pub from: String,
    pub to: String,
}

/// Adds a key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AddKey {
    /// Its name.
    pub key: String,
    /// Its value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "bytes")]
    pub value: Option<ByteString>,
    /// Its value as text; wins over `value`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub string_value: Option<String>,
}

/// Adds the keys of another Secret.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AddKeysFrom {
    /// That Secret, in the AppBinding's namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretRef>,
}

/// Removes a key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs, reason = "the name says it")]
pub struct RemoveKey {
    pub key: String,
}

/// Which of an addon's tasks is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddonTask {
    /// `stash.addon.backupTask`.
    Backup,
    /// `stash.addon.restoreTask`.
    Restore,
}

/// A reason why an AppBinding names no server.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum AddressError {
    /// Neither service nor url.
    #[error("clientConfig has neither service nor url: set one of them")]
    Missing,
    /// The port is none.
    #[error("port {0} is none: ports are 1 to 65535")]
    Port(String),
    /// The url cannot be read.
    #[error("url \"{0}\" names no host and port: write redis://HOST:PORT or rediss://HOST:PORT")]
    Url(String),
}

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// Name or address; IPv6 without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Whether the scheme asks for TLS.
    pub tls: bool,
}

impl AppBinding {
    /// Where the server listens, for a binding that lives in `namespace`.
    ///
    /// # Errors
    /// When it names none.
    pub fn address(&self, namespace: &str) -> Result<Address, AddressError> {
        let config = &self.spec.client_config;
        if let Some(service) = &config.service {
            let home = if service.namespace.is_empty() { namespace } else { &service.namespace };
            let port = u16::try_from(service.port).ok().filter(|p| *p > 0);
            return Ok(Address {
                host: format!("{}.{home}.svc", service.name),
                port: port.ok_or_else(|| AddressError::Port(service.port.to_string()))?,
                tls: service.scheme == "rediss",
            });
        }
        let url = config.url.as_deref().ok_or(AddressError::Missing)?;
        let bad = || AddressError::Url(url.to_owned());
        let (scheme, rest) = url.split_once("://").ok_or_else(bad)?;
        if scheme == "unix" {
            // The socket's path stands for the host; there is no port.
            let path = rest.split('?').next().unwrap_or_default();
            return match path.starts_with('/') {
                true => Ok(Address { host: path.to_owned(), port: 0, tls: false }),
                false => Err(bad()),
            };
        }
        let authority = rest.split(['/', '?']).next().unwrap_or_default();
        let authority = authority.rsplit_once('@').map_or(authority, |(_, at)| at);
        let (host, port) = authority.rsplit_once(':').ok_or_else(bad)?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let port: u16 = port.parse().map_err(|_| bad())?;
        if host.is_empty() || port == 0 {
            return Err(bad());
        }
        Ok(Address { host: host.to_owned(), port, tls: scheme == "rediss" })
    }

    /// The task that the addon names in `parameters.stash.addon`.
    #[must_use]
    pub fn addon_task(&self, which: AddonTask) -> Option<TaskRef> {
        let key = match which {
            AddonTask::Backup => "backupTask",
            AddonTask::Restore => "restoreTask",
        };
        let task = self.spec.parameters.as_ref()?.pointer(&format!("/stash/addon/{key}"))?;
        serde_json::from_value(task.clone()).ok()
    }

    /// The Secret with the client certificate: `parameters.clientCertSecret`, else `tlsSecret`.
    #[must_use]
    pub fn client_certificate_secret(&self) -> Option<&str> {
        let named = self.spec.parameters.as_ref().and_then(|p| p.pointer("/clientCertSecret/name"));
        named
            .and_then(Value::as_str)
            .or_else(|| self.spec.tls_secret.as_ref().map(|s| s.name.as_str()))
    }
}

/// Applies `transforms` in order to the data of `secret`. `other` gives the data of another Secret by name.
#[must_use]
pub fn transform(
    secret: &Secret,
    transforms: &[SecretTransform],
    other: impl Fn(&str) -> BTreeMap<String, ByteString>,
) -> BTreeMap<String, ByteString> {
    let mut data = secret.data.clone().unwrap_or_default();
    for step in transforms {
        if let Some(rename) = &step.rename_key
            && let Some(value) = data.remove(&rename.from)
        {
            data.insert(rename.to.clone(), value);
        }
        if let Some(add) = &step.add_key {
            let text = add.string_value.as_ref().map(|s| ByteString(s.clone().into_bytes()));
            if let Some(value) = text.or_else(|| add.value.clone()) {
                data.insert(add.key.clone(), value);
            }
        }
        if let Some(from) = step.add_keys_from.as_ref().and_then(|a| a.secret_ref.as_ref()) {
            data.extend(other(&from.name));
        }
        if let Some(remove) = &step.remove_key {
            data.remove(&remove.key);
        }
    }
    data
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binding(config: Value) -> AppBinding {
        serde_json::from_value(serde_json::json!({
            "apiVersion": "appcatalog.appscode.com/v1alpha1", "kind": "AppBinding",
            "metadata": {"name": "orders"}, "spec": {"clientConfig": config},
        }))
        .unwrap()
    }

    #[test]
    fn a_service_wins_and_gets_its_namespace() {
        let orders = binding(serde_json::json!({
            "service": {"name": "orders", "port": 6379, "scheme": "redis"}, "url": "redis://x:1"}));
        let address = orders.address("demo").unwrap();
        assert_eq!(
            (address.host.as_str(), address.port, address.tls),
            ("orders.demo.svc", 6379, false)
        );
    }

    #[test]
    fn urls_need_a_port_and_may_be_ipv6() {
        let at = |url: &str| binding(serde_json::json!({ "url": url })).address("demo");
        assert_eq!(
            at("rediss://[::1]:7000/0").unwrap(),
            Address { host: "::1".into(), port: 7000, tls: true }
        );
        assert_eq!(at("redis://user:p%40ss@h:1").unwrap().host, "h");
        assert!(matches!(at("redis://h"), Err(AddressError::Url(_))));
        assert!(matches!(at("h:1"), Err(AddressError::Url(_))));
    }

    #[test]
    fn transforms_apply_in_order() {
        let secret: Secret =
            serde_json::from_value(serde_json::json!({"data": {"redis-password": "cHc="}}))
                .unwrap();
        let steps: Vec<SecretTransform> = serde_json::from_value(serde_json::json!([
            {"renameKey": {"from": "redis-password", "to": "password"}},
            {"renameKey": {"from": "missing", "to": "x"}},
            {"addKey": {"key": "username", "stringValue": "default", "value": "eA=="}},
            {"addKeysFrom": {"secretRef": {"name": "more"}}},
            {"removeKey": {"key": "username"}}]))
        .unwrap();
        let more = BTreeMap::from([("extra".to_owned(), ByteString(b"1".to_vec()))]);
        let data =
            transform(
                &secret,
                &steps,
                |name| if name == "more" { more.clone() } else { BTreeMap::new() },
            );
        let keys: Vec<_> = data.keys().cloned().collect();
        assert_eq!(keys, ["extra", "password"]);
        assert_eq!(data["password"].0, b"pw");
    }
}
