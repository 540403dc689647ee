//! A Repository in one namespace, a Redis in another, and the invoker in a third: who allows what, and what is said when
//! nobody has.

use anyhow::{Context as _, Result};
use coffer_api::{
    BackupConfiguration, backup_configuration::InvokerPhase, backup_session::SessionPhase,
    condition, restore_session::RestorePhase,
};
use coffer_tests::world::{NAMESPACE, World, configuration, restore_session};

use crate::COFFER;

/// The rights that an administrator of `data` gives to a ServiceAccount of the invoker's namespace.
const RIGHTS: &str = r#"apiVersion: v1
kind: ServiceAccount
metadata: {name: backup, namespace: demo}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: backup, namespace: data}
rules:
- {apiGroups: [""], resources: [secrets], verbs: [get]}
- {apiGroups: [appcatalog.appscode.com], resources: [appbindings], verbs: [get]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: backup, namespace: data}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: backup}
subjects: [{kind: ServiceAccount, name: backup, namespace: demo}]
"#;

const ACCOUNT: &str = "  runtimeSettings: {pod: {serviceAccountName: backup}}";

#[tokio::test]
async fn each_owner_is_asked() -> Result<()> {
    let world = World::start(COFFER).await?;
    world.redis.command::<()>(&["SET", "a", "1"]).await?;
    for namespace in ["demo", "vault", "data"] {
        world.kubectl_anywhere(&["create", "namespace", namespace])?;
    }
    let in_namespace = |yaml: &str, namespace: &str| {
        let own = format!("namespace: {NAMESPACE}");
        yaml.replace(&own, &format!("namespace: {namespace}"))
    };
    let storage = world.storage();
    let (_, storage) = storage.split_once("---\n").context("several documents")?;
    world.apply(&in_namespace(storage, "vault"))?;
    world.apply(&in_namespace(&world.app_binding("orders", &world.redis), "data"))?;
    let far = |yaml: &str| {
        yaml.replace("repository: {name: repo}", "repository: {name: repo, namespace: vault}")
            .replace(
                "kind: AppBinding, name: orders}",
                "kind: AppBinding, name: orders, namespace: data}",
            )
    };
    let configure = |more: &str| world.apply(&far(&configuration("orders", "0 0 1 1 *", more)));

    // The Repository's owner has allowed nobody.
    world.without_admission()?;
    configure("")?;
    let refused = |c: &BackupConfiguration| {
        c.status.as_ref().is_some_and(|s| s.phase == Some(InvokerPhase::Invalid))
    };
    world.until("orders", "is Invalid", refused).await?;
    let described = world.describe("backupconfiguration", "orders")?;
    assert!(described.contains("vault/repo may not be used from namespace demo"), "{described}");
    world.apply(&far(&restore_session("early", "orders", "latest", "")))?;
    let status = world.restored("early").await?;
    assert_eq!(status.phase, Some(RestorePhase::Invalid), "{status:#?}");

    // Those with a label are allowed; the invoker's namespace gets it afterwards.
    let policy = "spec:\n  usagePolicy: {allowedNamespaces: {from: Selector, selector: {matchLabels: {team: shop}}}}\n";
    world.apply(&in_namespace(storage, "vault").replace("spec:\n", policy))?;
    world.kubectl_anywhere(&["label", "namespace", "demo", "team=shop"])?;
    configure("  backupHistoryLimit: 2")?;
    world.ready("orders").await?;

    // The Redis's owner has allowed nobody.
    let status = world.back_up("no-account", "orders").await?;
    assert_eq!(status.phase, Some(SessionPhase::Failed), "{status:#?}");
    let described = world.describe("backupsession", "no-account")?;
    assert!(described.contains("runtimeSettings.pod.serviceAccountName"), "{described}");
    configure(ACCOUNT)?;
    let status = world.back_up("no-rights", "orders").await?;
    assert_eq!(status.phase, Some(SessionPhase::Failed), "{status:#?}");
    let described = world.describe("backupsession", "no-rights")?;
    assert!(
        described.contains("system:serviceaccount:demo:backup may not get secrets"),
        "{described}"
    );

    world.apply(RIGHTS)?;
    let status = world.back_up("allowed", "orders").await?;
    assert_eq!(status.phase, Some(SessionPhase::Succeeded), "{status:#?}");
    world.restic().check()?;
    world.redis.command::<()>(&["FLUSHALL"]).await?;
    world.apply(&far(&restore_session("back", "orders", "latest", ACCOUNT)))?;
    let status = world.restored("back").await?;
    assert_eq!(status.phase, Some(RestorePhase::Succeeded), "{status:#?}");
    assert!(condition::VALIDATION_PASSED.holds(&status.conditions));
    assert_eq!(world.redis.command::<String>(&["GET", "a"]).await?, "1");
    let references = world.kubectl_anywhere(&[
        "-n",
        "vault",
        "get",
        "repo",
        "repo",
        "-o",
        "jsonpath={.status.references[*].namespace}",
    ])?;
    assert!(references.contains("demo"), "{references}");
    Ok(())
}
