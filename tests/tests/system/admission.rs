//! What `kubectl apply` refuses: what CEL in the kinds cannot say, by the orchestrator's webhook, with the object's rule and
//! the remedy in the message.

use anyhow::{Context as _, Result};
use coffer_api::BackupConfiguration;
use coffer_tests::world::{NAMESPACE, World, configuration, restore_session};

use crate::COFFER;

/// Applies with kubectl and gives the message of the refusal.
fn refusal(world: &World, yaml: &str) -> Result<String> {
    let file = world.path("refused.yaml");
    std::fs::write(&file, yaml)?;
    match world.kubectl_anywhere(&["apply", "-f", &file.display().to_string()]) {
        Ok(said) => anyhow::bail!("it was admitted: {said}\n{yaml}"),
        Err(error) => Ok(format!("{error:#}")),
    }
}

async fn world() -> Result<World> {
    let world = World::start(COFFER).await?;
    world.apply_basics()?;
    world.ready("orders").await?;
    Ok(world)
}

#[tokio::test]
async fn a_configuration_that_cannot_work_is_refused_where_it_is_written() -> Result<()> {
    let world = world().await?;
    world.apply(&world.app_binding("other", &world.redis))?;
    let good = configuration("new", "@daily", "").replace("name: orders}", "name: other}");
    let own = |yaml: &str| yaml.replace("  target:\n", "  target:\n    alias: other\n");
    let other = "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: elsewhere}\n";
    world.apply(other)?;
    for (yaml, texts) in [
        (own(&good.replace("@daily", "every tuesday")), &["every tuesday", "schedule"][..]),
        (
            own(&good.replace("redis-backup-7.0.5", "redis-bakcup")),
            &["redis-bakcup", "redis-backup-7.0.5"],
        ),
        (own(&good.replace("keepLast: 5, ", "")), &["keep rule", "keepLast"]),
        (
            own(&good).replace("prune: true}", "prune: true}\n  timeOut: soon"),
            &["spec.timeOut", "soon"],
        ),
        // The Redis of another AppBinding under the host of the first.
        (good.clone(), &["host-0", "BackupConfiguration demo/orders", "alias"]),
        (
            own(&good).replace(&format!("namespace: {NAMESPACE}"), "namespace: elsewhere").replace(
                "repository: {name: repo}",
                &format!("repository: {{name: repo, namespace: {NAMESPACE}}}"),
            ),
            &["may not be used from namespace elsewhere", "usagePolicy"],
        ),
    ] {
        let texts: Vec<String> = texts.iter().map(|text| text.replace("demo", NAMESPACE)).collect();
        let said = refusal(&world, &yaml)?;
        assert!(said.contains("denied the request"), "{said}");
        for text in &texts {
            assert!(said.contains(text.as_str()), "\"{text}\" is not in\n{said}");
        }
    }
    world.apply(&own(&good))?;
    world.ready("new").await?;
    // What was admitted may be labelled and deleted, and not be made wrong.
    let said = refusal(&world, &own(&good.replace("@daily", "61 * * * *")))?;
    assert!(said.contains("61 * * * *"), "{said}");
    world.kubectl(&["label", "backupconfiguration", "new", "team=shop"])?;
    world.kubectl(&["delete", "backupconfiguration", "new"])?;
    Ok(())
}

#[tokio::test]
async fn restores_and_batches_are_judged_too() -> Result<()> {
    let world = world().await?;
    let torn = restore_session("torn", "orders", "latest", "")
        .replace("snapshots: [\"latest\"]", "snapshots: [latest, 0123abcd]");
    let said = refusal(&world, &torn)?;
    assert!(said.contains("2 snapshots"), "{said}");
    let binding =
        "ref: {apiVersion: appcatalog.appscode.com/v1alpha1, kind: AppBinding, name: orders}";
    let member = |task: &str| format!("  - {{task: {{name: {task}}}, target: {{{binding}}}}}\n");
    let batch = |kind: &str, head: &str, tasks: [&str; 2]| {
        format!(
            "apiVersion: stash.appscode.com/v1beta1\nkind: {kind}\nmetadata: {{name: all, namespace: {NAMESPACE}}}\n\
             spec:\n{head}  repository: {{name: repo}}\n  members:\n{}",
            tasks.map(member).concat()
        )
    };
    let head = "  schedule: \"@daily\"\n  retentionPolicy: {name: k, keepLast: 1, prune: true}\n";
    let said = refusal(&world, &batch("BackupBatch", head, ["redis-backup-7.0.5", "nothing"]))?;
    assert!(said.contains("both host host-0") && said.contains("no Task nothing"), "{said}");
    let said = refusal(&world, &batch("RestoreBatch", "", ["redis-restore-7.0.5", "nothing"]))?;
    assert!(said.contains("member 1: ") && said.contains("no Task nothing"), "{said}");
    Ok(())
}

#[tokio::test]
async fn what_is_gone_does_not_stand_in_the_way() -> Result<()> {
    let world = world().await?;
    let shown = world.kubectl_anywhere(&[
        "get",
        "validatingwebhookconfiguration",
        "coffer-admission",
        "-o",
        "go-template={{(index .webhooks 0).clientConfig.caBundle | base64decode}}",
    ])?;
    assert_eq!(shown.matches("BEGIN CERTIFICATE").count(), 1, "{shown}");
    // Of somebody else: the webhook cannot be believed, and is not waited for.
    let kubeconfig = std::fs::read_to_string(world.coffer.kubeconfig())?;
    let wrong = kubeconfig
        .lines()
        .find_map(|line| line.trim().strip_prefix("certificate-authority-data: "));
    let wrong = wrong.context("no CA in the kubeconfig")?;
    let patch = serde_json::json!([{"op": "replace", "path": "/webhooks/0/clientConfig/caBundle", "value": wrong}]);
    world.kubectl_anywhere(&[
        "patch",
        "validatingwebhookconfiguration",
        "coffer-admission",
        "--type=json",
        "-p",
        &patch.to_string(),
    ])?;
    world.apply(&configuration("late", "every tuesday", ""))?;
    world
        .until("late", "is told what is wrong", |c: &BackupConfiguration| {
            format!("{:?}", c.status).contains("every tuesday")
        })
        .await?;
    Ok(())
}
