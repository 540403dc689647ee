//! A repository in a bucket: the whole way there and back, and what is said when the bucket or its keys are wrong.

#[path = "../../services/storage-gateway/tests/support/s3.rs"]
#[allow(
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a server for tests, shared with the storage-gateway's"
)]
mod s3;

use std::process::Command;

use anyhow::{Result, ensure};
use coffer_api::{backup_session::SessionPhase, restore_session::RestorePhase};
use coffer_tests::{
    compare, dataset,
    world::{NAMESPACE, RESTIC_PASSWORD, World, configuration},
};

const COFFER: &str = env!("CARGO_BIN_EXE_coffer-under-test");
const BUCKET: &str = "backups";

/// A world whose Repository `repo` is in `bucket` of the S3 server at `endpoint`.
async fn world(endpoint: &str, bucket: &str, secret_key: &str) -> Result<World> {
    let world = World::start(COFFER).await?;
    world.apply(&format!(
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
        s3::ACCESS_KEY
    ))?;
    world.apply(&world.app_binding("orders", &world.redis))?;
    world.apply(&configuration("orders", "0 0 1 1 *", ""))?;
    Ok(world)
}

#[tokio::test(flavor = "multi_thread")]
async fn there_and_back() -> Result<()> {
    let folder = tempfile::tempdir()?;
    std::fs::create_dir(folder.path().join(BUCKET))?;
    let endpoint = s3::serve(folder.path()).await;
    let world = world(&endpoint, BUCKET, s3::SECRET_KEY).await?;
    dataset::load(&world.redis.client()?, &dataset::Spec::small()).await?;
    let before = compare::fingerprint(&world.redis.client()?).await?;
    let status = world.back_up("orders-1", "orders").await?;
    assert_eq!(status.phase, Some(SessionPhase::Succeeded), "{status:#?}");

    // The restic program finds it at the place that it derives from the same backend.
    let repository = format!("s3:{endpoint}/{BUCKET}/demo/orders");
    let check = tokio::task::spawn_blocking(move || {
        Command::new("restic")
            .args(["--no-cache", "-r", &repository, "check", "--read-data"])
            .env("RESTIC_PASSWORD", RESTIC_PASSWORD)
            .env("AWS_ACCESS_KEY_ID", s3::ACCESS_KEY)
            .env("AWS_SECRET_ACCESS_KEY", s3::SECRET_KEY)
            .output()
    });
    let check = check.await??;
    ensure!(check.status.success(), "restic: {}", String::from_utf8_lossy(&check.stderr));

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
    let endpoint = s3::serve(folder.path()).await;
    for (bucket, secret_key, texts) in [
        ("elsewhere", s3::SECRET_KEY, ["elsewhere", "bucket", "repo"]),
        (BUCKET, "wrong", [BUCKET, "AWS_", "repo"]),
    ] {
        let world = world(&endpoint, bucket, secret_key).await?;
        let status = world.back_up("bad", "orders").await?;
        assert_eq!(status.phase, Some(SessionPhase::Failed), "{status:#?}");
        let described = world.describe("backupsession", "bad")?;
        for text in texts {
            assert!(described.contains(text), "\"{text}\" is not in\n{described}");
        }
        assert!(!described.contains(s3::SECRET_KEY), "{described}");
    }
    assert_eq!(std::fs::read_dir(folder.path().join(BUCKET))?.count(), 0, "nothing was written");
    Ok(())
}
