//! Coffer killed at random steps of a session while a session is due every two seconds: every session settles, none runs twice, and
//! there is one snapshot for each that succeeded.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, ensure};
use coffer_api::{BackupSession, backup_session::SessionPhase};
use coffer_tests::{
    confined::Confinement,
    wait,
    world::{SESSION_LIMIT, World, configuration},
};
use kube::api::ListParams;
use rand::{Rng as _, SeedableRng as _};

use crate::COFFER;

/// How often it is killed.
const KILLS: usize = 3;
/// About as many conditions as a session has at its end.
pub(crate) const STEPS: usize = 9;

#[tokio::test]
async fn no_session_is_doubled_by_an_orchestrator_that_is_killed() -> Result<()> {
    let seed: u64 = rand::rng().random();
    check(seed).await.with_context(|| format!("with seed {seed}"))
}

async fn check(seed: u64) -> Result<()> {
    let mut world = World::start(COFFER).await?;
    world.redis.command::<()>(&["SET", "a", "1"]).await?;
    world.apply(&world.storage())?;
    world.apply(&world.app_binding("orders", &world.redis))?;
    let kept = "  backupHistoryLimit: 1000";
    let often =
        configuration("orders", "*/2 * * * * *", kept).replace("keepLast: 5", "keepLast: 1000");
    world.apply(&often)?;
    world.ready("orders").await?;
    let mut random = rand::rngs::StdRng::seed_from_u64(seed);
    for _ in 0..KILLS {
        let before: BTreeSet<String> = sessions(&world).await?.iter().map(name).collect();
        let steps = random.random_range(0..=STEPS);
        wait::until("another session is so far", SESSION_LIMIT, async || {
            let all = sessions(&world).await?;
            let mut new = all.iter().filter(|session| !before.contains(&name(session)));
            Ok(new.any(|session| is_so_far(session, steps)).then_some(()))
        })
        .await?;
        world.restart_coffer(&Confinement::none()).await?;
    }
    // The one that is left alone gets something done.
    wait::until("a session succeeds", SESSION_LIMIT, async || {
        Ok(sessions(&world).await?.iter().any(has_succeeded).then_some(()))
    })
    .await?;
    settled_once(&world).await
}

/// Makes no further sessions of `orders`, waits until all are final, and checks that none was run twice.
pub(crate) async fn settled_once(world: &World) -> Result<()> {
    let pause = r#"{"spec": {"paused": true}}"#;
    world.kubectl(&["patch", "backupconfiguration/orders", "--type=merge", "-p", pause])?;
    let all = wait::until("all sessions are final", SESSION_LIMIT, async || {
        let all = sessions(world).await?;
        let phase = |s: &BackupSession| s.status.as_ref().and_then(|status| status.phase);
        Ok(all.iter().all(|s| phase(s).is_some_and(SessionPhase::is_final)).then_some(all))
    })
    .await?;

    let mut instants = BTreeSet::new();
    let mut succeeded = BTreeSet::new();
    for session in &all {
        let name = name(session);
        let instant = name.rsplit('-').next().unwrap_or_default().to_owned();
        ensure!(instants.insert(instant), "two sessions for one instant: {name}");
        let targets = session.status.as_ref().map_or(0, |status| status.targets.len());
        ensure!(targets <= 1, "{name} has {targets} targets");
        if has_succeeded(session) {
            succeeded.insert(name);
        }
    }
    let mut snapshots: BTreeMap<String, usize> = BTreeMap::new();
    for snapshot in world.restic().snapshots()? {
        let tags = snapshot["tags"].as_array().cloned().unwrap_or_default();
        let session =
            tags.iter().filter_map(|tag| tag.as_str()?.strip_prefix("session=demo/")).next();
        *snapshots.entry(session.context("a snapshot of no session")?.to_owned()).or_default() += 1;
    }
    for (session, count) in &snapshots {
        ensure!(*count == 1, "{session} was run {count} times");
    }
    for session in &succeeded {
        ensure!(snapshots.contains_key(session), "{session} succeeded without a snapshot");
    }
    world.restic().check()
}

pub(crate) fn name(session: &BackupSession) -> String {
    session.metadata.name.clone().unwrap_or_default()
}

pub(crate) fn has_succeeded(session: &BackupSession) -> bool {
    session.status.as_ref().is_some_and(|s| s.phase == Some(SessionPhase::Succeeded))
}

/// Whether a session has taken so many steps, each of which left a condition, or all that it takes.
pub(crate) fn is_so_far(session: &BackupSession, steps: usize) -> bool {
    let Some(status) = &session.status else { return steps == 0 };
    let of_targets: usize = status.targets.iter().map(|target| target.conditions.len()).sum();
    status.phase.is_some_and(SessionPhase::is_final)
        || status.conditions.len() + of_targets >= steps
}

pub(crate) async fn sessions(world: &World) -> Result<Vec<BackupSession>> {
    Ok(world.api::<BackupSession>().list(&ListParams::default()).await?.items)
}
