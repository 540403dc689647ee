//! A container's environment: literal values, Secrets, ConfigMaps and the Pod's own fields.

use k8s_openapi::api::core::v1::{ConfigMap, Container, EnvVar, EnvVarSource, Pod, Secret};
use kube::{Api, Client, ResourceExt};

use super::{command::expand, place::Unready};

/// Every image has these, and no process here inherits anything else.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Reads Secrets and ConfigMaps of one namespace.
pub(super) struct Sources {
    secrets: Api<Secret>,
    config_maps: Api<ConfigMap>,
}

impl Sources {
    pub(super) fn new(client: Client, namespace: &str) -> Self {
        Self {
            secrets: Api::namespaced(client.clone(), namespace),
            config_maps: Api::namespaced(client, namespace),
        }
    }

    /// A Secret's entries; `None` when it is optional and not there.
    pub(super) async fn secret(
        &self,
        name: &str,
        optional: bool,
    ) -> Result<Option<Entries>, Unready> {
        match self.secrets.get_opt(name).await {
            Ok(Some(secret)) => {
                let data = secret.data.unwrap_or_default();
                Ok(Some(data.into_iter().map(|(key, value)| (key, value.0)).collect()))
            }
            Ok(None) if optional => Ok(None),
            Ok(None) => Err(Unready::config(format!("secret {name:?} not found"))),
            Err(error) => Err(Unready::config(format!("read secret {name:?}: {error}"))),
        }
    }

    /// A ConfigMap's entries; `None` when it is optional and not there.
    pub(super) async fn config_map(
        &self,
        name: &str,
        optional: bool,
    ) -> Result<Option<Entries>, Unready> {
        match self.config_maps.get_opt(name).await {
            Ok(Some(map)) => {
                let text = map.data.unwrap_or_default();
                let binary = map.binary_data.unwrap_or_default();
                let text = text.into_iter().map(|(key, value)| (key, value.into_bytes()));
                let binary = binary.into_iter().map(|(key, value)| (key, value.0));
                Ok(Some(text.chain(binary).collect()))
            }
            Ok(None) if optional => Ok(None),
            Ok(None) => Err(Unready::config(format!("configmap {name:?} not found"))),
            Err(error) => Err(Unready::config(format!("read configmap {name:?}: {error}"))),
        }
    }
}

/// Entries of a Secret or a ConfigMap.
pub(super) type Entries = Vec<(String, Vec<u8>)>;

/// The environment of a container, in order; later entries win.
pub(super) async fn resolve(
    container: &Container,
    pod: &Pod,
    sources: &Sources,
    home: &str,
) -> Result<Vec<(String, String)>, Unready> {
    let mut env = vec![
        ("PATH".to_owned(), PATH.to_owned()),
        ("HOME".to_owned(), home.to_owned()),
        ("HOSTNAME".to_owned(), pod.name_any()),
    ];
    for from in container.env_from.iter().flatten() {
        let (entries, owner) = if let Some(secret) = &from.secret_ref {
            let optional = secret.optional.unwrap_or(false);
            (sources.secret(&secret.name, optional).await?, format!("secret {:?}", secret.name))
        } else if let Some(map) = &from.config_map_ref {
            let optional = map.optional.unwrap_or(false);
            (sources.config_map(&map.name, optional).await?, format!("configmap {:?}", map.name))
        } else {
            continue;
        };
        let prefix = from.prefix.as_deref().unwrap_or_default();
        for (key, value) in entries.into_iter().flatten() {
            env.push((format!("{prefix}{key}"), text(value, &key, &owner)?));
        }
    }
    for variable in container.env.iter().flatten() {
        if let Some(value) = value(variable, &env, pod, sources).await? {
            env.push((variable.name.clone(), value));
        }
    }
    // The environment of a process holds a name once.
    let names: Vec<String> = env.iter().map(|(name, _)| name.clone()).collect();
    let mut at = 0;
    env.retain(|(name, _)| {
        at += 1;
        !names[at..].contains(name)
    });
    Ok(env)
}

async fn value(
    variable: &EnvVar,
    env: &[(String, String)],
    pod: &Pod,
    sources: &Sources,
) -> Result<Option<String>, Unready> {
    let Some(from) = &variable.value_from else {
        return Ok(Some(expand(variable.value.as_deref().unwrap_or_default(), env)));
    };
    let EnvVarSource { config_map_key_ref, secret_key_ref, field_ref, .. } = from;
    let (entries, key, optional, owner) = if let Some(at) = secret_key_ref {
        let optional = at.optional.unwrap_or(false);
        (
            sources.secret(&at.name, optional).await?,
            &at.key,
            optional,
            format!("secret {:?}", at.name),
        )
    } else if let Some(at) = config_map_key_ref {
        let optional = at.optional.unwrap_or(false);
        let owner = format!("configmap {:?}", at.name);
        (sources.config_map(&at.name, optional).await?, &at.key, optional, owner)
    } else if let Some(at) = field_ref {
        return field(pod, &at.field_path).map(Some);
    } else {
        return Err(Unready::refused(format!(
            "variable {:?}: only secretKeyRef, configMapKeyRef and fieldRef are supported here",
            variable.name
        )));
    };
    let found = entries.into_iter().flatten().find(|(name, _)| name == key);
    match found {
        Some((_, value)) => text(value, key, &owner).map(Some),
        None if optional => Ok(None),
        None => Err(Unready::config(format!("couldn't find key {key} in {owner}"))),
    }
}

fn text(value: Vec<u8>, key: &str, owner: &str) -> Result<String, Unready> {
    String::from_utf8(value)
        .ok()
        .filter(|text| !text.contains('\0'))
        .ok_or_else(|| Unready::config(format!("key {key} of {owner} is not text")))
}

/// A field of the Pod, as `fieldRef` and the downward API name it.
pub(super) fn field(pod: &Pod, path: &str) -> Result<String, Unready> {
    let quoted = |prefix: &str| {
        let inside = path.strip_prefix(prefix)?.strip_prefix("['")?.strip_suffix("']")?;
        Some(inside.to_owned())
    };
    if let Some(key) = quoted("metadata.labels") {
        return Ok(pod.labels().get(&key).cloned().unwrap_or_default());
    }
    if let Some(key) = quoted("metadata.annotations") {
        return Ok(pod.annotations().get(&key).cloned().unwrap_or_default());
    }
    let lines = |map: &std::collections::BTreeMap<String, String>| {
        map.iter().map(|(key, value)| format!("{key}={value:?}\n")).collect::<String>()
    };
    let account = pod.spec.as_ref().and_then(|spec| spec.service_account_name.clone());
    Ok(match path {
        "metadata.name" => pod.name_any(),
        "metadata.namespace" => pod.namespace().unwrap_or_default(),
        "metadata.uid" => pod.uid().unwrap_or_default(),
        "metadata.labels" => lines(pod.labels()),
        "metadata.annotations" => lines(pod.annotations()),
        "spec.nodeName" => super::NODE.to_owned(),
        "spec.serviceAccountName" => account.unwrap_or_else(|| "default".to_owned()),
        "status.hostIP" | "status.podIP" | "status.hostIPs" | "status.podIPs" => {
            "127.0.0.1".to_owned()
        }
        other => {
            return Err(Unready::refused(format!("field {other:?} of the Pod is not known here")));
        }
    })
}
