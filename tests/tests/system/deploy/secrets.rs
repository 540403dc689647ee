//! `deploy/install/secrets`: what it makes is what the services take.

use std::{
    fs,
    process::{Command, Stdio},
};

use coffer_runtime::{
    Secret,
    grant::{Signer, Verifier},
    tls::{Identity, TlsOptions},
};

use super::objects::{documents, root};

/// Everything of deploy/install/secrets but the cluster: kubectl renders the objects, and its applies are kept.
#[test]
fn the_script_makes_certificates_and_keys_that_the_services_take() {
    let folder = tempfile::tempdir().unwrap();
    let kubectl = String::from_utf8(
        Command::new("sh").args(["-c", "command -v kubectl"]).output().unwrap().stdout,
    )
    .unwrap();
    assert!(!kubectl.trim().is_empty(), "kubectl is not installed");
    let shim = format!(
        "#!/bin/sh\ncase \"$*\" in\n*apply*) cat >>'{0}/applied'; echo --- >>'{0}/applied';;\n*'get secret'*) exit 1;;\n*) exec '{1}' \"$@\";;\nesac\n",
        folder.path().display(),
        kubectl.trim(),
    );
    let bin = folder.path().join("bin");
    fs::create_dir(&bin).unwrap();
    fs::write(bin.join("kubectl"), shim).unwrap();
    let chmod = Command::new("chmod").arg("+x").arg(bin.join("kubectl")).status().unwrap();
    assert!(chmod.success());
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let output = Command::new(root().join("deploy/install/secrets"))
        .env("PATH", path)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    let objects = documents(&folder.path().join("applied"));
    let find =
        |name: &str| objects.iter().find(|object| object["metadata"]["name"] == name).unwrap();
    let secret = |name: &str, key: &str| {
        let secret: k8s_openapi::api::core::v1::Secret =
            serde_json::from_value(find(name).clone()).unwrap();
        String::from_utf8(secret.data.unwrap()[key].0.clone()).unwrap()
    };
    let endpoints = &find("coffer-endpoints")["data"];
    for service in ["orchestrator", "catalog", "storage-gateway", "metrics-gateway"] {
        let name = format!("coffer-tls-{service}");
        let (certificate, ca) = (secret(&name, "tls.crt"), secret(&name, "ca.crt"));
        assert_eq!(endpoints["ca.crt"], ca.as_str());
        let identity = Identity {
            certificates: certificate.clone(),
            key: Secret::new(secret(&name, "tls.key")),
        };
        let tls = TlsOptions::new(Some(identity), Some(ca.clone()));
        tls.server().unwrap();
        tls.client().unwrap();
        fs::write(folder.path().join("ca"), &ca).unwrap();
        fs::write(folder.path().join("certificate"), &certificate).unwrap();
        let host = endpoints[service].as_str().unwrap().strip_prefix("https://").unwrap();
        let host = host.split(':').next().unwrap();
        for host in [host, &format!("{service}.service.coffer")] {
            let verified = Command::new("openssl")
                .args(["verify", "-verify_hostname", host, "-purpose", "sslclient", "-CAfile"])
                .arg(folder.path().join("ca"))
                .arg(folder.path().join("certificate"))
                .output()
                .unwrap();
            assert!(
                verified.status.success(),
                "{host}: {}",
                String::from_utf8_lossy(&verified.stderr)
            );
        }
    }
    let signer = Signer::from_pem(&Secret::new(secret("coffer-grants", "private.pem"))).unwrap();
    let verifier = Verifier::from_pem(&secret("coffer-grants", "public.pem")).unwrap();
    let now = coffer_runtime::Clock::real().now();
    let grant = coffer_runtime::grant::Grant {
        session: coffer_runtime::grant::SessionRef {
            kind: "BackupSession".into(),
            namespace: "n".into(),
            name: "s".into(),
        },
        repository: coffer_runtime::grant::RepositoryRef {
            namespace: "n".into(),
            name: "r".into(),
        },
        operation: coffer_runtime::grant::Operation::Backup,
        snapshot: None,
        issued: now,
        expires: now + std::time::Duration::from_secs(60),
    };
    let token = signer.sign(&grant).unwrap();
    verifier.verify(token.reveal(), now).unwrap();
}
