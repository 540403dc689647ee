//! The verbs that look after a repository, from the shell to the disk, with restic to confirm what they did.

use std::{io::Write as _, process::Stdio};

use anyhow::{Context as _, Result};
use coffer_tests::{
    coffer::Output,
    dataset,
    restic_program::ResticProgram,
    wait,
    world::{NAMESPACE, SESSION_LIMIT, World},
};
use serde_json::Value;

use crate::COFFER;

/// Runs a verb in the test's namespace.
fn coffer(world: &World, args: &[&str]) -> Result<String> {
    world.coffer.run(&[args, &["-n", NAMESPACE]].concat(), Output::Captured)
}

/// The same, read as JSON.
fn json(world: &World, args: &[&str]) -> Result<Value> {
    let text = coffer(world, &[args, &["-o", "json"]].concat())?;
    serde_json::from_str(&text).with_context(|| format!("read {text}"))
}

/// A Secret and a Repository `name` in a folder of that name.
fn repository(world: &World, name: &str) -> String {
    format!(
        r#"apiVersion: v1
kind: Secret
metadata: {{name: {name}-storage, namespace: {NAMESPACE}}}
stringData: {{RESTIC_PASSWORD: {name}-secret}}
---
apiVersion: stash.appscode.com/v1alpha1
kind: Repository
metadata: {{name: {name}, namespace: {NAMESPACE}}}
spec:
  backend:
    storageSecretName: {name}-storage
    local: {{mountPath: /backup, hostPath: {{path: "{}"}}}}
"#,
        world.path(name).display()
    )
}

/// A snapshot by the restic program.
fn back_up(restic: &ResticProgram, host: &str, content: &[u8]) -> Result<()> {
    let mut child = restic
        .command()
        .args(["backup", "-q", "--stdin", "--stdin-filename", "dump.rdb", "--host", host])
        .stdin(Stdio::piped())
        .spawn()?;
    child.stdin.take().context("no stdin")?.write_all(content)?;
    anyhow::ensure!(child.wait()?.success(), "restic backup failed");
    Ok(())
}

/// Bytes that do not compress, other ones for each seed.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

#[tokio::test]
async fn a_repository_is_looked_after_from_the_shell() -> Result<()> {
    let world = World::start(COFFER).await?;
    world.apply(&world.storage())?;
    let restic = world.restic();
    restic.run(&["init"])?;
    for seed in 0..4 {
        back_up(&restic, "host-0", &noise(seed, 1_500_000))?;
    }
    back_up(&restic, "host-1", b"another host's")?;

    // Figures.
    let stats = json(&world, &["stats", "repo"])?;
    assert_eq!((&stats["snapshots"], &stats["version"]), (&5.into(), &2.into()));
    let theirs: Value =
        serde_json::from_slice(&restic.run(&["stats", "--mode", "raw-data", "--json"])?)?;
    assert_eq!(stats["rawSize"], theirs["total_size"]);
    assert!(coffer(&world, &["stats", "repo", "--host", "host-1"])?.contains("1 with 1 file\n"));
    let elsewhere = ["snapshots", &format!("{NAMESPACE}/repo"), "-n", "default", "-o", "name"];
    let listed = world.coffer.run(&elsewhere, Output::Captured)?;
    assert_eq!(listed.lines().count(), 5, "{listed}");

    // Forget: shown first, refused without a yes, done with one.
    let rules = ["forget", "repo", "--keep-last", "2"];
    let plan = json(&world, &[&rules[..], &["--dry-run"]].concat())?;
    let actions = |action: &str| {
        plan.as_array().into_iter().flatten().filter(|row| row["action"] == action).count()
    };
    assert_eq!((actions("keep"), actions("forget")), (3, 2), "{plan}");
    assert_eq!(restic.snapshots()?.len(), 5);
    let refused = coffer(&world, &rules).unwrap_err().to_string();
    assert!(refused.contains("hint: pass --yes"), "{refused}");
    let table = coffer(&world, &[&rules[..], &["--yes"]].concat())?;
    assert!(table.contains("last snapshot"), "{table}");
    assert_eq!(restic.snapshots()?.len(), 3);
    let id = restic.snapshots()?[0]["id"].as_str().context("no id")?.to_owned();
    coffer(&world, &["forget", "repo", &id[..8], "-y"])?;
    assert_eq!(restic.snapshots()?.len(), 2);

    // Prune.
    let planned = json(&world, &["prune", "repo", "--max-unused", "0", "--dry-run"])?;
    assert!(planned["bytesFreed"].as_u64() > Some(4_000_000), "{planned}");
    let pruned = json(&world, &["prune", "repo", "--max-unused", "0", "--yes"])?;
    assert_eq!(pruned["bytesFreed"], planned["bytesFreed"]);
    restic.check()?;

    // Check, whole and in parts; a damaged pack is named and ends with 1.
    assert!(coffer(&world, &["check", "repo", "--read-data"])?.contains("no errors were found"));
    coffer(&world, &["check", "repo", "--read-data-subset", "1/2"])?;
    let wrong = coffer(&world, &["check", "repo", "--read-data-subset", "3/2"]).unwrap_err();
    assert!(wrong.to_string().contains("3/2"), "{wrong}");

    // An index that is lost comes back.
    let index = world.path("repository").join("index");
    for file in std::fs::read_dir(&index)? {
        std::fs::remove_file(file?.path())?;
    }
    coffer(&world, &["check", "repo"]).unwrap_err();
    let repaired = json(&world, &["repair", "index", "repo"])?;
    assert!(repaired["packsAdded"].as_u64() > Some(0), "{repaired}");
    restic.check()?;
    coffer(&world, &["check", "repo", "--read-data"])?;

    // The lock of a program that was killed.
    let mut killed = restic
        .command()
        .args(["backup", "--stdin"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()?;
    let locks = world.path("repository").join("locks");
    wait::until("restic's lock", SESSION_LIMIT, async || {
        Ok(std::fs::read_dir(&locks)?.next().is_some().then_some(()))
    })
    .await?;
    killed.kill()?;
    killed.wait()?;
    let locked = coffer(&world, &["prune", "repo", "--yes", "--retry-lock", "0"]).unwrap_err();
    let locked = locked.to_string();
    assert!(locked.contains("waited 0 s") && locked.contains("--retry-lock"), "{locked}");
    let endless = coffer(&world, &["stats", "repo", "--retry-lock", "25h"]).unwrap_err();
    assert!(endless.to_string().contains("24h is the longest"), "{endless}");
    assert_eq!(json(&world, &["unlock", "repo", "--all", "--yes"])?["removed"], 1);

    // Copies elsewhere.
    world.apply(&repository(&world, "offsite"))?;
    let missing = coffer(&world, &["copy", "repo", "offsite"]).unwrap_err().to_string();
    assert!(missing.contains("offsite"), "{missing}");
    let copied = json(&world, &["copy", "repo", "offsite", "--init"])?;
    assert_eq!(copied["copied"].as_array().map(Vec::len), Some(2));
    let again = json(&world, &["copy", "repo", "offsite"])?;
    assert_eq!(again["skipped"].as_array().map(Vec::len), Some(2));
    let offsite = ResticProgram::new(&world.path("offsite"), "offsite-secret");
    offsite.check()?;
    assert_eq!(offsite.snapshots()?.len(), 2);

    // From format 1 to 2.
    world.apply(&repository(&world, "old"))?;
    let old = ResticProgram::new(&world.path("old"), "old-secret");
    old.run(&["init", "--repository-version", "1"])?;
    let text = b"written in format 1; ".repeat(50_000);
    back_up(&old, "host-0", &text)?;
    let early = coffer(&world, &["prune", "old", "--repack-uncompressed", "-y"]).unwrap_err();
    assert!(early.to_string().contains("`coffer migrate`"), "{early}");
    let migrated = json(&world, &["migrate", "old", "--yes"])?;
    assert_eq!((&migrated["version"], &migrated["migrated"]), (&2.into(), &true.into()));
    old.check()?;
    assert_eq!(json(&world, &["stats", "old"])?["version"], 2);
    let pruned = json(&world, &["prune", "old", "--repack-uncompressed", "-y"])?;
    assert!(pruned["bytesFreed"].as_u64() > Some(100_000), "{pruned}");
    old.check()?;
    assert!(old.dump("latest", "/dump.rdb")? == text, "the data differs");
    Ok(())
}

#[tokio::test]
async fn keys_change_and_files_come_down() -> Result<()> {
    let world = World::start(COFFER).await?;
    dataset::load(&world.redis.client()?, &dataset::Spec::small()).await?;
    world.apply_basics()?;
    world.back_up("orders-manual-1", "orders").await?;
    let restic = world.restic();

    // Down to the disk; what a first attempt left is not fetched again, and a wrong beginning is noticed.
    let to = world.path("down.rdb");
    let file = to.to_str().context("a path")?;
    let done = json(&world, &["download", "repo", "--to", file])?;
    let dump = restic.dump("latest", "/dump.rdb")?;
    assert!(std::fs::read(&to)? == dump, "the download differs");
    assert_eq!((&done["verified"], &done["bytes"]), (&true.into(), &dump.len().into()));
    let taken = coffer(&world, &["download", "repo", "--to", file]).unwrap_err().to_string();
    assert!(taken.contains("is there already"), "{taken}");
    let snapshot = done["snapshot"].as_str().context("no snapshot")?;
    // The beginning of the SHA-256 of /dump.rdb and of /manifest.json.
    let part_of = |path| world.path(&format!("down.rdb.{}.{path}.part", &snapshot[..16]));
    let (part, part_of_manifest) = (part_of("e38043e9"), part_of("d5ead976"));
    std::fs::remove_file(&to)?;
    std::fs::write(&part, &dump[..dump.len() / 2])?;
    coffer(&world, &["download", "repo", snapshot, "--to", file])?;
    assert!(std::fs::read(&to)? == dump && !part.exists(), "the second half differs");
    std::fs::remove_file(&to)?;
    std::fs::write(&part, vec![0; dump.len() / 2])?;
    let wrong = coffer(&world, &["download", "repo", snapshot, "--to", file]).unwrap_err();
    assert!(wrong.to_string().contains("discarded"), "{wrong}");
    assert!(!to.exists() && !part.exists());
    std::fs::write(&part, [&dump[..], b"and more"].concat())?;
    coffer(&world, &["download", "repo", snapshot, "--to", file])?;
    assert!(std::fs::read(&to)? == dump, "what was too long counted");
    std::fs::remove_file(&to)?;
    // Of the manifest nothing tells whether its beginning is right: it is fetched whole, and that is said.
    std::fs::write(&part_of_manifest, "{\"not\": ")?;
    let said = coffer(&world, &["download", "repo", "--path", "/manifest.json", "--to", file])?;
    assert!(said.contains("not verified against a sum"), "{said}");
    assert!(std::fs::read(&to)? == restic.dump("latest", "/manifest.json")?, "another manifest");
    assert!(!part_of_manifest.exists());
    let manifest = coffer(&world, &["download", "repo", "--path", "/manifest.json", "--to", "-"])?;
    let manifest: Value = serde_json::from_str(&manifest)?;
    assert_eq!(manifest["method"], "replication");

    // Another key, for somebody else.
    let new = world.path("new-password");
    std::fs::write(&new, "alice's own\n")?;
    let new = new.to_str().context("a path")?;
    let added =
        json(&world, &["key", "add", "repo", "--new-password-file", new, "--user", "alice"])?;
    let added = added[0]["id"].as_str().context("no id")?.to_owned();
    ResticProgram::new(&world.path("repository"), "alice's own").check()?;
    let keys = json(&world, &["key", "list", "repo"])?;
    let current = keys.as_array().into_iter().flatten().find(|key| key["current"] == true);
    let current = current.and_then(|key| key["id"].as_str()).context("no current key")?.to_owned();
    let refused = coffer(&world, &["key", "remove", "repo", &current[..8], "--yes"]).unwrap_err();
    assert!(refused.to_string().contains("in use"), "{refused}");
    coffer(&world, &["key", "remove", "repo", &added[..8], "--yes"])?;
    ResticProgram::new(&world.path("repository"), "alice's own").check().unwrap_err();

    // Another password, in the repository and in the Secret; backups go on.
    std::fs::write(new, "changed\n")?;
    coffer(&world, &["key", "change", "repo", "--new-password-file", new, "--yes"])?;
    restic.check().unwrap_err();
    ResticProgram::new(&world.path("repository"), "changed").check()?;
    world.back_up("orders-manual-2", "orders").await?;
    assert_eq!(json(&world, &["snapshots", "repo"])?.as_array().map(Vec::len), Some(2));
    let log = std::fs::read_to_string(world.path("coffer.log"))?;
    assert!(!log.contains("alice's own") && !log.contains("\"changed\""), "a password in the log");
    Ok(())
}
