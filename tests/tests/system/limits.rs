//! At most so many Jobs at a time in the cluster, in a namespace and for a Repository: the rest waits, and sees for what and how
//! long its line is.

use anyhow::{Context as _, Result, ensure};
use coffer_api::{BackupConfiguration, BackupSession, backup_session::SessionPhase};
use coffer_tests::{
    orchestrator::Orchestrator,
    wait,
    world::{SESSION_LIMIT, World, configuration},
};
use k8s_openapi::api::batch::v1::Job;
use kube::{
    Api,
    api::{ListParams, PostParams},
};

use crate::{COFFER, ORCHESTRATOR};

/// Namespace, name and Repository of the BackupConfigurations, in the order in which they are run.
const ALL: [(&str, &str, &str); 6] = [
    ("demo", "one", "a"),
    ("demo", "two", "a"),
    ("demo", "three", "b"),
    ("demo", "four", "c"),
    ("more", "five", "d"),
    ("more", "six", "e"),
];

/// Everything there is to back up the one server under that name.
fn objects(world: &World, (namespace, name, repository): (&str, &str, &str)) -> String {
    let storage = world
        .storage()
        .replace("name: repo,", &format!("name: {repository},"))
        .replace("/repository\"", &format!("/repository-{repository}\""));
    let config = configuration(name, "0 0 1 1 *", "")
        .replace("repository: {name: repo}", &format!("repository: {{name: {repository}}}"));
    let all = format!("{storage}---\n{}---\n{config}", world.app_binding("orders", &world.redis));
    all.replace("namespace: demo", &format!("namespace: {namespace}"))
        .replace("{name: demo}", &format!("{{name: {namespace}}}"))
}

async fn make(world: &World, (namespace, name, _): (&str, &str, &str)) -> Result<()> {
    let session: BackupSession = serde_json::from_value(serde_json::json!({
        "apiVersion": "stash.appscode.com/v1beta1", "kind": "BackupSession", "metadata": {"name": name},
        "spec": {"invoker": {"apiGroup": "stash.appscode.com", "kind": "BackupConfiguration", "name": name}},
    }))?;
    let api: Api<BackupSession> = Api::namespaced(world.client.clone(), namespace);
    api.create(&PostParams::default(), &session).await?;
    Ok(())
}

/// Phase of a session, and what its summary says.
async fn told(
    world: &World,
    (namespace, name, _): (&str, &str, &str),
) -> Result<(Option<SessionPhase>, String)> {
    let api: Api<BackupSession> = Api::namespaced(world.client.clone(), namespace);
    let status = api.get(name).await?.status.unwrap_or_default();
    let summary = status.conditions.iter().find(|c| c.kind == "Succeeded");
    Ok((status.phase, summary.map(|c| c.message.clone()).unwrap_or_default()))
}

async fn waits(world: &World, at: usize, why: &str) -> Result<()> {
    let mut last = String::new();
    wait::until(&format!("session {} waits", ALL[at].1), SESSION_LIMIT, async || {
        let (phase, message) = told(world, ALL[at]).await?;
        last = format!("{phase:?}: {message}");
        Ok((phase == Some(SessionPhase::Pending) && message.contains(why)).then_some(()))
    })
    .await
    .with_context(|| format!("not for {why:?}, but {last}"))
}

async fn runs(world: &World, at: usize) -> Result<()> {
    wait::until(&format!("session {} runs", ALL[at].1), SESSION_LIMIT, async || {
        Ok((told(world, ALL[at]).await?.0 == Some(SessionPhase::Running)).then_some(()))
    })
    .await
}

#[tokio::test]
async fn the_rest_waits_in_line() -> Result<()> {
    let flags = ["--orchestrator", "https://127.0.0.1:1", "--max-jobs", "6"].map(str::to_owned);
    let world = World::with_flags(COFFER, &flags).await?;
    world.without_admission()?;
    world.redis.command::<()>(&["SET", "a", "1"]).await?;
    let limits = ["--max-jobs=3", "--max-jobs-per-namespace=2", "--max-jobs-per-repository=1"];
    let _orchestrator =
        Orchestrator::start(ORCHESTRATOR, &world, &limits.map(str::to_owned)).await?;
    for config in ALL {
        world.apply(&objects(&world, config))?;
    }
    for (namespace, name, _) in ALL {
        let api: Api<BackupConfiguration> = Api::namespaced(world.client.clone(), namespace);
        wait::until(&format!("{name} is Ready"), SESSION_LIMIT, async || {
            let phase = api.get(name).await?.status.and_then(|status| status.phase);
            Ok((phase == Some(coffer_api::backup_configuration::InvokerPhase::Ready)).then_some(()))
        })
        .await?;
    }

    // A server that does not answer keeps its Jobs at work.
    let redis = world.redis.pid().to_string();
    let signal = |name: &str| -> Result<()> {
        let status = std::process::Command::new("kill").args([name, &redis]).status()?;
        ensure!(status.success(), "kill {name} {redis}");
        Ok(())
    };
    signal("-STOP")?;
    make(&world, ALL[0]).await?;
    runs(&world, 0).await?;
    make(&world, ALL[1]).await?;
    let of_repository = "all 1 Jobs of Repository demo/a are taken, and it is number 1 in line";
    waits(&world, 1, of_repository).await?;
    // It holds nobody up who waits for something else.
    make(&world, ALL[2]).await?;
    runs(&world, 2).await?;
    make(&world, ALL[3]).await?;
    waits(&world, 3, "all 2 Jobs of namespace demo are taken, and it is number").await?;
    make(&world, ALL[4]).await?;
    runs(&world, 4).await?;
    make(&world, ALL[5]).await?;
    waits(&world, 5, "all 3 Jobs of the cluster are taken, and it is number").await?;
    let jobs: Api<Job> = Api::all(world.client.clone());
    assert_eq!(jobs.list(&ListParams::default()).await?.items.len(), 3);

    // All have their turn.
    signal("-CONT")?;
    for config in ALL {
        wait::until(&format!("{} is over", config.1), SESSION_LIMIT, async || {
            let (phase, _) = told(&world, config).await?;
            Ok(phase.filter(|phase| phase.is_final()))
        })
        .await
        .map(|phase| assert_eq!(phase, SessionPhase::Succeeded, "{config:?}"))?;
    }
    Ok(())
}
