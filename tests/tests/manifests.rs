//! Manifests as users of Stash have them apply unchanged, and what the schemas refuse is refused in the API server's words.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use coffer_tests::world::World;

const COFFER: &str = env!("CARGO_BIN_EXE_coffer-under-test");

fn manifests() -> Result<Vec<PathBuf>> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/manifests");
    let mut files: Vec<_> = std::fs::read_dir(folder)?.flatten().map(|e| e.path()).collect();
    files.sort();
    Ok(files)
}

fn name(path: &std::path::Path) -> &str {
    path.file_name().and_then(|n| n.to_str()).unwrap_or_default()
}

#[tokio::test]
async fn they_apply_unchanged_with_kubectl_in_both_ways() -> Result<()> {
    // The manifests bring Functions under the names of ours: server-side, that has to be asked for.
    for how in [vec![], vec!["--server-side", "--force-conflicts"]] {
        let world = World::start(COFFER).await?;
        for file in manifests()?.iter().filter(|f| !name(f).starts_with('9')) {
            let file = file.display().to_string();
            let applied = world
                .kubectl_anywhere(&[&["apply", "-f", file.as_str()], how.as_slice()].concat())?;
            assert!(!applied.contains("warning"), "{applied}");
            let again = world
                .kubectl_anywhere(&[&["apply", "-f", file.as_str()], how.as_slice()].concat())?;
            let settled = if how.is_empty() { "unchanged" } else { "serverside-applied" };
            // The orchestrator adds finalizers and status meanwhile; that must not make a second apply a change. Secrets are
            // apart: kubectl sends a stringData again each time, since no server ever shows it one.
            let as_it_was = |line: &str| line.ends_with(settled) || line.starts_with("secret/");
            assert!(again.lines().all(as_it_was), "{file}: {again}");
        }
        let batch = world.kubectl(&["get", "backupbatches,restorebatches,backupblueprints"])?;
        assert!(batch.contains("shop") && batch.contains("redis-standard"), "{batch}");
    }
    Ok(())
}

#[tokio::test]
async fn each_that_breaks_the_schema_is_refused_and_says_where() -> Result<()> {
    let world = World::start(COFFER).await?;
    world.kubectl(&["create", "namespace", "demo"])?;
    let file = manifests()?.into_iter().find(|f| name(f).starts_with("91")).context("no 91-")?;
    let text = std::fs::read_to_string(file)?;
    let expected = [
        ("bad-no-retention", "spec.retentionPolicy: Required value"),
        ("bad-no-prune", "spec.retentionPolicy.prune: Required value"),
        ("bad-driver", "Unsupported value: \"Rsync\""),
        ("bad-s3", "spec.backend.s3.endpoint: Required value"),
        ("bad-policy", "Unsupported value: \"Sometimes\""),
    ];
    for (document, (name, message)) in text.split("\n---\n").zip(expected) {
        let one = world.path("one.yaml");
        std::fs::write(&one, document)?;
        let one = one.display().to_string();
        // Without the client's own validation, which old versions do first.
        for flag in ["--server-side=true", "--server-side=false"] {
            let refused = world
                .kubectl(&["apply", "-f", &one, flag, "--validate=false"])
                .expect_err("the schema must refuse it");
            let refused = format!("{refused:#}");
            assert!(
                refused.contains(message) && refused.contains(name),
                "{name} {flag}: {refused}"
            );
        }
    }
    Ok(())
}
