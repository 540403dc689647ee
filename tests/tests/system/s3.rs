//! A repository in a bucket: the whole way there and back, and what is said when the bucket or its keys are wrong.

#[path = "../../../services/storage-gateway/tests/gateway/support/s3.rs"]
#[allow(
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a server for tests, shared with the storage-gateway's"
)]
mod server;

use std::process::Command;

use anyhow::{Result, ensure};
use coffer_api::{backup_session::SessionPhase, restore_session::RestorePhase};
use coffer_tests::{
    compare, dataset,
    world::{NAMESPACE, RESTIC_PASSWORD, World, configuration},
};

use crate::COFFER;

const BUCKET: &str = "backups";

/// Namespace, Secret and the Repository `repo` in `bucket` of the S3 server at `endpoint`.
fn storage(endpoint: &str, bucket: &str, secret_key: &str) -> String {
    format!(
        r#"apiVersion: v1
kind: Namespace
metadata: {{name: {NAMESPACE}}}
---
apiVersion: v1
kind: Secret
metadata: {{name: storage, namespace: {NAMESPACE}}}
stringData: {{RESTIC_PASSWORD: {RESTIC_PASSWORD}, AWS_ACCESS_KEY_ID: {}, AWS_SECRET_ACCESS_KEY: {secret_key}}}
---
apiVersion: stash.appscode.com/v1alpha1
kind: Repository
metadata: {{name: repo, namespace: {NAMESPACE}}}
spec:
  backend:
    storageSecretName: storage
    s3: {{endpoint: "{endpoint}", bucket: {bucket}, prefix: /demo/orders}}
"#,
        server::ACCESS_KEY
    )
}

/// A world whose Repository is in [`BUCKET`].
async fn world(endpoint: &str) -> Result<World> {
    let world = World::start(COFFER).await?;
    world.apply(&storage(endpoint, BUCKET, server::SECRET_KEY))?;
    world.apply(&world.app_binding("orders", &world.redis))?;
    world.apply(&configuration("orders", "0 0 1 1 *", ""))?;
    Ok(world)
}

/// Runs restic on the place that it derives from the same backend.
async fn restic(endpoint: &str, words: &'static [&'static str]) -> Result<String> {
    let repository = format!("s3:{endpoint}/{BUCKET}/demo/orders");
    let output = tokio::task::spawn_blocking(move || {
        Command::new("restic")
            .args(["--no-cache", "-r", &repository])
            .args(words)
            .env("RESTIC_PASSWORD", RESTIC_PASSWORD)
            .env("AWS_ACCESS_KEY_ID", server::ACCESS_KEY)
            .env("AWS_SECRET_ACCESS_KEY", server::SECRET_KEY)
            .output()
    });
    let output = output.await??;
    ensure!(output.status.success(), "restic: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

#[tokio::test(flavor = "multi_thread")]
async fn there_and_back() -> Result<()> {
    let folder = tempfile::tempdir()?;
    std::fs::create_dir(folder.path().join(BUCKET))?;
    let endpoint = server::serve(folder.path()).await;
    let world = world(&endpoint).await?;
    dataset::load(&world.redis.client()?, &dataset::Spec::small()).await?;
    let before = compare::fingerprint(&world.redis.client()?).await?;
    let status = world.back_up("orders-1", "orders").await?;
    assert_eq!(status.phase, Some(SessionPhase::Succeeded), "{status:#?}");

    restic(&endpoint, &["check", "--read-data"]).await?;

    world.redis.command::<()>(&["FLUSHALL"]).await?;
    let status = world.restore("back", "orders", "latest").await?;
    assert_eq!(status.phase, Some(RestorePhase::Succeeded), "{status:#?}");
    let differences =
        compare::compare(&before, &compare::fingerprint(&world.redis.client()?).await?);
    assert!(differences.is_empty(), "{differences}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_is_not_there_or_keys_that_do_not_fit_are_named() -> Result<()> {
    let folder = tempfile::tempdir()?;
    std::fs::create_dir(folder.path().join(BUCKET))?;
    let endpoint = server::serve(folder.path()).await;
    let world = world(&endpoint).await?;
    world.redis.command::<()>(&["SET", "a", "1"]).await?;
    let status = world.back_up("good", "orders").await?;
    assert_eq!(status.phase, Some(SessionPhase::Succeeded), "{status:#?}");
    let good = restic(&endpoint, &["snapshots", "--json", "latest"]).await?;
    for (session, bucket, secret_key, texts) in [
        ("no-bucket", "elsewhere", server::SECRET_KEY, ["elsewhere", "bucket", "repo"]),
        ("no-key", BUCKET, "wrong", [BUCKET, "AWS_", "repo"]),
    ] {
        world.apply(&storage(&endpoint, bucket, secret_key))?;
        let status = world.back_up(session, "orders").await?;
        assert_eq!(status.phase, Some(SessionPhase::Failed), "{status:#?}");
        let restore = format!("{session}-restore");
        let status = world.restore(&restore, "orders", "latest").await?;
        assert_eq!(status.phase, Some(RestorePhase::Failed), "{status:#?}");
        for (kind, name) in [("backupsession", session), ("restoresession", restore.as_str())] {
            let described = world.describe(kind, name)?;
            for text in texts {
                assert!(described.contains(text), "\"{text}\" is not in\n{described}");
            }
            assert!(!described.contains(server::SECRET_KEY), "{described}");
        }
    }
    assert!(!folder.path().join("elsewhere").exists(), "no bucket was made");
    restic(&endpoint, &["check"]).await?;
    assert_eq!(restic(&endpoint, &["snapshots", "--json", "latest"]).await?, good);
    Ok(())
}
