//! From an AppBinding and the Secrets it names to what a worker needs to reach the Redis. Pure: the data comes in.

use std::collections::BTreeMap;

use coffer_api::{
    AppBinding,
    app_binding::transform,
    session::{Redis, RedisTls, Sensitive},
};
use k8s_openapi::{ByteString, api::core::v1::Secret};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};

/// The data of the Secrets that an AppBinding names; a Secret that is not there has no entry.
#[derive(Clone, Debug, Default)]
pub struct Secrets {
    /// Of the AppBinding's namespace, by name.
    pub own: BTreeMap<String, BTreeMap<String, ByteString>>,
    /// The client certificate, wherever it was found.
    pub certificate: Option<BTreeMap<String, ByteString>>,
}

/// The names of the Secrets of the AppBinding's namespace that [`connect`] needs.
#[must_use]
pub fn names(binding: &AppBinding) -> Vec<&str> {
    let spec = &binding.spec;
    let added = spec.secret_transforms.iter().filter_map(|step| {
        step.add_keys_from.as_ref()?.secret_ref.as_ref().map(|secret| secret.name.as_str())
    });
    spec.secret.iter().map(|secret| secret.name.as_str()).chain(added).collect()
}

/// How to reach the Redis, and as whom.
///
/// # Errors
/// Names the object, what is wrong with it, and what to do.
pub fn connect(binding: &AppBinding, namespace: &str, secrets: &Secrets) -> Result<Redis, String> {
    let name = binding.metadata.name.as_deref().unwrap_or_default();
    let subject = format!("AppBinding {namespace}/{name}");
    let address = binding.address(namespace).map_err(|error| format!("{subject}: {error}"))?;
    Ok(Redis {
        host: address.host,
        port: address.port,
        tls: tls(binding, address.tls, secrets, &subject)?,
        ..credentials(binding, namespace, secrets, &subject)?
    })
}

/// Users and passwords, and nothing else.
fn credentials(
    binding: &AppBinding,
    namespace: &str,
    secrets: &Secrets,
    subject: &str,
) -> Result<Redis, String> {
    let Some(reference) = &binding.spec.secret else { return Ok(Redis::default()) };
    for name in names(binding) {
        if !secrets.own.contains_key(name) {
            return Err(format!(
                "{subject}: Secret {namespace}/{name} is not found: create it, or change the AppBinding's secret"
            ));
        }
    }
    let secret = Secret { data: secrets.own.get(&reference.name).cloned(), ..Secret::default() };
    let data = transform(&secret, &binding.spec.secret_transforms, |other| {
        secrets.own.get(other).cloned().unwrap_or_default()
    });
    let text = |key: &str| match data.get(key) {
        None => Ok(None),
        Some(value) => String::from_utf8(value.0.clone()).map(Some).map_err(|_| {
            format!(
                "{subject}: key {key} of Secret {namespace}/{} is no UTF-8 text",
                reference.name
            )
        }),
    };
    let Some(password) = text("password")? else {
        let keys: Vec<&str> = data.keys().map(String::as_str).collect();
        return Err(format!(
            "{subject}: Secret {namespace}/{} has no key password (it has: {}): add it, or a renameKey to secretTransforms",
            reference.name,
            if keys.is_empty() { "none".to_owned() } else { keys.join(", ") },
        ));
    };
    let user = |key: &str| Ok::<_, String>(text(key)?.filter(|name| !name.is_empty()));
    Ok(Redis {
        username: user("username")?,
        password: Some(Sensitive::new(password)),
        sentinel_username: user("sentinelUsername")?,
        sentinel_password: user("sentinelPassword")?.map(Sensitive::new),
        ..Redis::default()
    })
}

fn tls(
    binding: &AppBinding,
    wanted: bool,
    secrets: &Secrets,
    subject: &str,
) -> Result<Option<RedisTls>, String> {
    let config = &binding.spec.client_config;
    let bundle = config.ca_bundle.as_ref().filter(|ca| !ca.0.is_empty());
    if bundle.is_none() && !wanted {
        return Ok(None);
    }
    let ca = bundle
        .map(|ca| {
            certificates(&ca.0).ok_or_else(|| {
                format!("{subject}: clientConfig.caBundle holds no readable PEM certificate")
            })
        })
        .transpose()?;
    let mut tls = RedisTls {
        ca,
        server_name: config.server_name.clone().filter(|name| !name.is_empty()),
        insecure_skip_verify: config.insecure_skip_tls_verify,
        ..RedisTls::default()
    };
    if let Some(name) = binding.client_certificate_secret() {
        let unusable =
            |what: &str| format!("{subject}: Secret {name} with the client certificate {what}");
        let data = secrets.certificate.as_ref().ok_or_else(|| unusable("is not found"))?;
        let certificate = data.get("tls.crt").and_then(|crt| certificates(&crt.0));
        tls.certificate =
            Some(certificate.ok_or_else(|| unusable("has no readable certificate in tls.crt"))?);
        let key = data.get("tls.key").and_then(|key| private_key(&key.0));
        tls.key = Some(Sensitive::new(
            key.ok_or_else(|| unusable("has no readable private key in tls.key"))?,
        ));
    }
    Ok(Some(tls))
}

/// The text, when it holds at least one certificate and nothing broken.
fn certificates(pem: &[u8]) -> Option<String> {
    let mut parsed = CertificateDer::pem_slice_iter(pem).peekable();
    parsed.peek()?;
    parsed.all(|certificate| certificate.is_ok()).then_some(())?;
    String::from_utf8(pem.to_vec()).ok()
}

fn private_key(pem: &[u8]) -> Option<String> {
    PrivateKeyDer::from_pem_slice(pem).ok()?;
    String::from_utf8(pem.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn binding(spec: Value) -> AppBinding {
        serde_json::from_value(
            json!({"apiVersion": "appcatalog.appscode.com/v1alpha1", "kind": "AppBinding",
            "metadata": {"name": "orders", "namespace": "demo"}, "spec": spec}),
        )
        .unwrap()
    }

    fn data(pairs: &[(&str, &str)]) -> BTreeMap<String, ByteString> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), ByteString(v.as_bytes().to_vec()))).collect()
    }

    fn own(name: &str, pairs: &[(&str, &str)]) -> Secrets {
        Secrets { own: [(name.to_owned(), data(pairs))].into(), certificate: None }
    }

    fn url() -> Value {
        json!({"url": "redis://orders:6379"})
    }

    #[test]
    fn credentials_come_from_the_transformed_secret() {
        let spec = json!({"clientConfig": url(), "secret": {"name": "auth"},
            "secretTransforms": [{"renameKey": {"from": "redis-password", "to": "password"}}]});
        let redis =
            connect(&binding(spec.clone()), "demo", &own("auth", &[("redis-password", "s3cret")]))
                .unwrap();
        assert_eq!(redis.password.unwrap().reveal(), "s3cret");
        assert_eq!((redis.username, redis.tls), (None, None));
        let redis = connect(
            &binding(spec),
            "demo",
            &own("auth", &[("password", "p"), ("username", "backup"), ("sentinelPassword", "s")]),
        )
        .unwrap();
        assert_eq!(redis.username.as_deref(), Some("backup"));
        assert_eq!(redis.sentinel_password.unwrap().reveal(), "s");
        let none = connect(&binding(json!({"clientConfig": url()})), "demo", &Secrets::default());
        assert_eq!(none.unwrap().password, None);
    }

    #[test]
    fn what_is_missing_is_named() {
        let spec = json!({"clientConfig": url(), "secret": {"name": "auth"}});
        let error = connect(&binding(spec.clone()), "demo", &Secrets::default()).unwrap_err();
        assert!(error.contains("Secret demo/auth is not found"), "{error}");
        let error = connect(&binding(spec), "demo", &own("auth", &[("pass", "x")])).unwrap_err();
        assert!(error.contains("has no key password (it has: pass)"), "{error}");
        let error = connect(&binding(json!({"clientConfig": {}})), "demo", &Secrets::default());
        assert!(error.unwrap_err().contains("neither service nor url"));
    }

    #[test]
    fn tls_needs_readable_certificates() {
        let authority = coffer_runtime::authority::Authority::generate().unwrap();
        let identity = authority.issue_plain("client", &["client"]).unwrap();
        let bundle = ByteString(authority.certificate().as_bytes().to_vec());
        let spec = json!({"clientConfig": {"url": "redis://orders:6379", "caBundle": bundle, "serverName": "redis"},
            "tlsSecret": {"name": "client"}});
        let mut secrets = Secrets {
            certificate: Some(data(&[
                ("tls.crt", identity.certificates.as_str()),
                ("tls.key", identity.key.reveal()),
            ])),
            ..Secrets::default()
        };
        let tls = connect(&binding(spec.clone()), "demo", &secrets).unwrap().tls.unwrap();
        assert!(tls.ca.unwrap().contains("CERTIFICATE") && tls.certificate.is_some());
        assert_eq!(tls.server_name.as_deref(), Some("redis"));
        secrets.certificate = Some(data(&[("tls.crt", "no"), ("tls.key", "no")]));
        let error = connect(&binding(spec.clone()), "demo", &secrets).unwrap_err();
        assert!(error.contains("no readable certificate in tls.crt"), "{error}");
        secrets.certificate = None;
        assert!(connect(&binding(spec), "demo", &secrets).unwrap_err().contains("is not found"));
        let broken = json!({"clientConfig": {"url": "redis://o:1", "caBundle": "bm8="}});
        let error = connect(&binding(broken), "demo", &Secrets::default()).unwrap_err();
        assert!(error.contains("caBundle holds no readable"), "{error}");
        let rediss =
            json!({"clientConfig": {"url": "rediss://o:1", "insecureSkipTLSVerify": true}});
        let tls = connect(&binding(rediss), "demo", &Secrets::default()).unwrap().tls.unwrap();
        assert!(tls.insecure_skip_verify && tls.ca.is_none());
    }
}
