//! What every cluster has from the start: namespaces, their service accounts, standard roles.

use serde_json::{Value, json};

use super::server::Server;
use super::store::{self, Change, Expect};
use super::{builtin, object, rbac};

/// Creates what is missing.
///
/// # Errors
/// When the store refuses.
pub async fn run(server: &Server) -> Result<(), store::Error> {
    for name in ["default", "kube-node-lease", "kube-public", "kube-system"] {
        let namespace =
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        ensure(server, namespace).await?;
        default_account(server, name).await?;
    }
    for role in rbac::standard_roles() {
        ensure(server, role).await?;
    }
    Ok(())
}

/// The service account that Pods of a namespace run as when they name none.
///
/// # Errors
/// When the store refuses.
pub async fn default_account(server: &Server, namespace: &str) -> Result<(), store::Error> {
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount",
        "metadata": {"name": "default", "namespace": namespace}});
    match ensure(server, account).await {
        // The namespace went away meanwhile.
        Err(store::Error::NoNamespace(_)) => Ok(()),
        other => other,
    }
}

async fn ensure(server: &Server, mut value: Value) -> Result<(), store::Error> {
    let text = |field: &str| value[field].as_str().unwrap_or_default().to_owned();
    let Some(kind) = server.kinds().by_name(&text("apiVersion"), &text("kind")) else {
        return Ok(());
    };
    let key = kind.key(object::namespace(&value), object::name(&value));
    if server.store.get(&key).is_some() {
        return Ok(());
    }
    object::set_meta(&mut value, "uid", object::new_uid());
    object::set_meta(&mut value, "creationTimestamp", object::timestamp(object::now()));
    builtin::set_defaults(&kind, &mut value);
    builtin::set_on_create(&kind, &mut value);
    match server.store.commit(Change::Put { key, value, expect: Expect::Absent }).await {
        Ok(_) | Err(store::Error::Exists) => Ok(()),
        Err(error) => Err(error),
    }
}
