//! `coffer digest` and `coffer diff`: the same number for a server, its snapshot and its file, and a difference by name.

use std::process::{Command, Output};

use anyhow::Result;
use coffer_api::backup_session::SessionPhase;
use coffer_tests::{
    dataset,
    world::{NAMESPACE, World, configuration},
};
use serde_json::Value;

use crate::COFFER;

fn coffer(world: &World, args: &[&str]) -> Result<Output> {
    Ok(Command::new(COFFER)
        .args(args)
        .args(["-o", "json", "-n", NAMESPACE, "--kubeconfig"])
        .arg(world.coffer.kubeconfig())
        .env("REDISCLI_AUTH", world.redis.password())
        .output()?)
}

fn digest(world: &World, source: &str) -> Result<String> {
    let done = coffer(world, &["digest", source])?;
    anyhow::ensure!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let shown: Value = serde_json::from_slice(&done.stdout)?;
    assert!(shown["keys"].as_u64() > Some(0), "{shown}");
    Ok(shown["digest"].to_string())
}

#[tokio::test]
async fn a_server_its_snapshot_and_its_file_have_one_digest() -> Result<()> {
    let world = World::start(COFFER).await?;
    dataset::load(&world.redis.client()?, &dataset::Spec::small()).await?;
    world.redis.command::<()>(&["SET", "counter", "1"]).await?;
    world.apply_basics()?;
    let asks = "name: redis-backup-7.0.5, params: [{name: digest, value: \"true\"}]";
    world.apply(
        &configuration("orders", "0 0 1 1 *", "").replace("name: redis-backup-7.0.5", asks),
    )?;
    let status = world.back_up("orders-1", "orders").await?;
    assert_eq!(status.phase, Some(SessionPhase::Succeeded), "{status:#?}");
    world.redis.command::<()>(&["SAVE"]).await?;
    let dir: Vec<String> = world.redis.command(&["CONFIG", "GET", "dir"]).await?;
    let file = format!("{}/dump.rdb", dir[1]);
    let server = format!("redis://127.0.0.1:{}", world.redis.port);

    let expected = digest(&world, &server)?;
    assert_eq!(digest(&world, "repo")?, expected);
    let manifest = world.restic().dump("latest", "/manifest.json")?;
    let manifest: Value = serde_json::from_slice(&manifest)?;
    assert_eq!(manifest["digest"].to_string(), expected);
    let described = world.describe("backupsession", "orders-1")?;
    assert!(described.contains(expected.trim_matches('"')), "{described}");
    assert_eq!(digest(&world, &file)?, expected);
    let same = coffer(&world, &["diff", "repo@latest", &server])?;
    let said = String::from_utf8_lossy(&same.stderr);
    assert_eq!(same.status.code(), Some(0), "{said}");
    assert!(said.contains("read snapshot latest of Repository repo: "), "{said}");

    world.redis.command::<()>(&["SET", "counter", "2"]).await?;
    world.redis.command::<()>(&["SET", "newcomer", "x"]).await?;
    let differ = coffer(&world, &["diff", &file, &server])?;
    assert_eq!(differ.status.code(), Some(3), "{}", String::from_utf8_lossy(&differ.stderr));
    let shown: Value = serde_json::from_slice(&differ.stdout)?;
    let listed: Vec<_> = shown["differences"].as_array().into_iter().flatten().collect();
    let listed: Vec<_> =
        listed.iter().map(|one| (one["how"].as_str(), one["key"].as_str())).collect();
    assert_eq!(listed, [(Some("changed"), Some("counter")), (Some("added"), Some("newcomer"))]);
    let wrong = coffer(&world, &["digest", "redis://user:secret@127.0.0.1"])?;
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("REDISCLI_AUTH"));
    Ok(())
}
