//! What an invoker needs may come after it, and what belongs to it goes with it.

use anyhow::Result;
use coffer_api::{
    BackupConfiguration, BackupSession, Repository, RestoreSession,
    backup_configuration::InvokerPhase, condition, restore_session::RestorePhase,
};
use coffer_tests::{
    coffer::Output,
    confined::{Confinement, Sealed},
    wait,
    world::{NAMESPACE, SESSION_LIMIT, World, configuration, restore_session},
};
use k8s_openapi::api::{
    batch::v1::Job,
    core::v1::{Event, Pod, Secret},
};
use kube::api::{DeleteParams, ListParams};

use crate::COFFER;

#[tokio::test]
async fn what_is_missing_is_named_and_waited_for() -> Result<()> {
    let world = World::start(COFFER).await?;
    world.apply("{apiVersion: v1, kind: Namespace, metadata: {name: demo}}")?;
    world.apply(&configuration("orders", "0 0 1 1 *", ""))?;
    let says = |kind: condition::Kind, text: &'static str| {
        move |c: &BackupConfiguration| {
            let conditions = c.status.as_ref().map(|s| s.conditions.as_slice()).unwrap_or_default();
            kind.find(conditions)
                .is_some_and(|c| c.status == condition::Status::False && c.message.contains(text))
        }
    };
    let not_ready =
        world.until("orders", "misses repo", says(condition::REPOSITORY_FOUND, "repo")).await?;
    assert_eq!(not_ready.status.unwrap().phase, Some(InvokerPhase::NotReady));

    let (namespace_and_secret, repository) = split_storage(&world.storage());
    world.apply(&repository)?;
    world
        .until("orders", "misses the Secret", says(condition::BACKEND_SECRET_FOUND, "storage"))
        .await?;
    world.apply(&namespace_and_secret)?;
    world
        .until("orders", "misses the target", says(condition::BACKUP_TARGET_FOUND, "orders"))
        .await?;
    world.apply(&world.app_binding("orders", &world.redis))?;
    world.ready("orders").await?;
    Ok(())
}

#[tokio::test]
async fn a_restore_waits_for_what_it_needs() -> Result<()> {
    let world = World::start(COFFER).await?;
    world.redis.command::<()>(&["SET", "a", "1"]).await?;
    world.apply_basics()?;
    world.back_up("good", "orders").await?;
    world.redis.command::<()>(&["FLUSHALL"]).await?;
    for kind in ["bc/orders", "repo/repo", "secret/storage", "appbinding/orders"] {
        world.kubectl(&["delete", kind])?;
    }
    world.apply(&restore_session("back", "orders", "latest", ""))?;
    let waits = |kind: condition::Kind, text: &'static str| {
        move |s: &RestoreSession| {
            let status = s.status.clone().unwrap_or_default();
            status.phase == Some(RestorePhase::Pending)
                && kind.find(&status.conditions).is_some_and(|c| {
                    c.status == condition::Status::False && c.message.contains(text)
                })
        }
    };
    let (namespace_and_secret, repository) = split_storage(&world.storage());
    world.until("back", "misses repo", waits(condition::REPOSITORY_FOUND, "demo/repo")).await?;
    world.apply(&repository)?;
    let secret = waits(condition::BACKEND_SECRET_FOUND, "demo/storage");
    world.until("back", "misses the Secret", secret).await?;
    world.apply(&namespace_and_secret)?;
    let target = waits(condition::RESTORE_TARGET_FOUND, "AppBinding demo/orders");
    world.until("back", "misses the target", target).await?;
    world.apply(&world.app_binding("orders", &world.redis))?;
    let done = |s: &RestoreSession| {
        s.status.as_ref().and_then(|s| s.phase) == Some(RestorePhase::Succeeded)
    };
    let session = world.until("back", "succeeded", done).await?;
    assert_eq!(world.redis.command::<String>(&["GET", "a"]).await?, "1");

    assert_eq!(session.metadata.finalizers.unwrap_or_default(), ["stash.appscode.com"]);
    world.kubectl(&["delete", "restoresession", "back", "--timeout=60s"])?;
    wait::until("its Job, pod and Secret are gone", SESSION_LIMIT, async || {
        let everything = ListParams::default();
        let jobs = world.api::<Job>().list(&everything).await?.items;
        let pods = world.api::<Pod>().list(&everything).await?.items;
        let secrets = world.api::<Secret>().list(&everything).await?.items;
        let named =
            |name: &Option<String>| name.as_ref().is_some_and(|n| n.contains("restore-back"));
        let left = jobs.iter().any(|j| named(&j.metadata.name))
            || pods.iter().any(|p| named(&p.metadata.name))
            || secrets.iter().any(|s| named(&s.metadata.name));
        Ok((!left).then_some(()))
    })
    .await
}

#[tokio::test]
async fn deleting_takes_the_children_and_leaves_the_data() -> Result<()> {
    let world = World::start(COFFER).await?;
    world.redis.command::<()>(&["SET", "a", "1"]).await?;
    world.apply_basics()?;
    world.back_up("orders-manual-1", "orders").await?;
    // A session by hand has no owner unless it is given one; this one is of the orchestrator's making.
    world.coffer.run(&["backup", "orders", "-n", NAMESPACE], Output::Captured)?;
    let configurations = world.api::<BackupConfiguration>();
    let finalizers = configurations.get("orders").await?.metadata.finalizers.unwrap_or_default();
    assert_eq!(finalizers, ["stash.appscode.com"]);
    assert_eq!(
        world.api::<Repository>().get("repo").await?.metadata.finalizers.unwrap_or_default(),
        ["stash"]
    );

    configurations.delete("orders", &DeleteParams::default()).await?;
    wait::until("the configuration and its children are gone", SESSION_LIMIT, async || {
        let owned = |refs: Option<
            &Vec<k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference>,
        >| { refs.is_some_and(|refs| refs.iter().any(|r| r.name == "orders")) };
        let sessions = world.api::<BackupSession>().list(&ListParams::default()).await?;
        let left = sessions.iter().filter(|s| owned(s.metadata.owner_references.as_ref())).count();
        let gone = configurations.get_opt("orders").await?.is_none();
        Ok((gone && left == 0).then_some(()))
    })
    .await?;
    let unused = |repository: &Repository| {
        repository.status.as_ref().is_some_and(|status| status.references.is_empty())
    };
    world.until("repo", "is used by nobody", unused).await?;
    assert_eq!(world.restic().snapshots()?.len(), 2);
    world.api::<Repository>().delete("repo", &DeleteParams::default()).await?;
    wait::until("the Repository is gone", SESSION_LIMIT, async || {
        Ok(world.api::<Repository>().get_opt("repo").await?.is_none().then_some(()))
    })
    .await?;
    world.restic().check()?;
    Ok(())
}

#[tokio::test]
async fn the_data_goes_with_a_repository_that_says_so() -> Result<()> {
    let world = World::confined(COFFER, |_| Ok(Confinement::no_override())).await?;
    world.redis.command::<()>(&["SET", "a", "1"]).await?;
    world.apply_basics()?;
    world.back_up("good", "orders").await?;
    let wipe = world.storage().replace("spec:\n  backend:", "spec:\n  wipeOut: true\n  backend:");
    world.apply(&wipe)?;

    // What cannot be deleted is not left behind silently: the Repository stays, and says why.
    let sealed = Sealed::new(&world.path("repository"))?;
    world.api::<Repository>().delete("repo", &DeleteParams::default()).await?;
    wait::until("the failure is told", SESSION_LIMIT, async || {
        let events = world.api::<Event>().list(&ListParams::default()).await?;
        let told = |e: &Event| e.reason.as_deref() == Some("Wipe Out Failed");
        Ok(events.iter().any(told).then_some(()))
    })
    .await?;
    let described = world.describe("repo", "repo")?;
    assert!(described.contains("set spec.wipeOut to false"), "{described}");
    assert_eq!(world.restic().snapshots()?.len(), 1);
    drop(sealed);
    wait::until("the Repository is gone", SESSION_LIMIT, async || {
        Ok(world.api::<Repository>().get_opt("repo").await?.is_none().then_some(()))
    })
    .await?;
    assert!(!world.path("repository").join("config").exists(), "the data is still there");
    Ok(())
}

fn split_storage(yaml: &str) -> (String, String) {
    let (first, last) = yaml.rsplit_once("---\n").expect("several documents");
    (first.to_owned(), last.to_owned())
}
