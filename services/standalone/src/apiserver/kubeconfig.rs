//! The file that lets kubectl in.

use std::net::SocketAddr;

use base64::Engine;
use serde_json::json;

/// A kubeconfig for the administrator of the server at `address`.
pub(super) fn render(address: SocketAddr, authority_pem: &str, token: &str) -> String {
    let authority = base64::engine::general_purpose::STANDARD.encode(authority_pem);
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "coffer", "cluster": {
            "certificate-authority-data": authority, "server": format!("https://{address}"),
        }}],
        "users": [{"name": "admin", "user": {"token": token}}],
        "contexts": [{"name": "coffer", "context": {
            "cluster": "coffer", "user": "admin", "namespace": "default",
        }}],
        "current-context": "coffer",
        "preferences": {},
    });
    serde_yaml::to_string(&config).unwrap_or_else(|_| config.to_string())
}
