//! A failed session is tried again as often as was asked for, and as many sessions are kept as was asked for.

use anyhow::{Context as _, Result};
use coffer_api::{BackupSession, backup_session::SessionPhase};
use coffer_tests::{
    coffer::Output,
    wait,
    world::{NAMESPACE, SESSION_LIMIT, World, configuration},
};
use kube::api::ListParams;

use crate::COFFER;

/// The sessions, oldest first.
async fn sessions(world: &World) -> Result<Vec<BackupSession>> {
    let mut all = world.api::<BackupSession>().list(&ListParams::default()).await?.items;
    // A retry may have been made within the same second, and has fewer attempts left.
    all.sort_by_key(|session| {
        let created = session.metadata.creation_timestamp.as_ref().map(|time| time.0);
        (created, std::cmp::Reverse(session.spec.retry_left))
    });
    Ok(all)
}

fn phase(session: &BackupSession) -> Option<SessionPhase> {
    session.status.as_ref().and_then(|status| status.phase)
}

async fn until_sessions(
    world: &World,
    what: &str,
    done: impl Fn(&[BackupSession]) -> bool,
) -> Result<Vec<BackupSession>> {
    wait::until(what, SESSION_LIMIT, async || {
        Ok(Some(sessions(world).await?).filter(|all| done(all)))
    })
    .await
}

fn password(world: &World, password: &str) -> Result<String> {
    world.apply(&format!(
        "{{apiVersion: v1, kind: Secret, metadata: {{name: orders-auth, namespace: {NAMESPACE}}}, stringData: {{password: \"{password}\"}}}}"
    ))
}

#[tokio::test]
async fn a_failed_session_is_tried_again_until_one_succeeds_or_none_is_left() -> Result<()> {
    let world = World::start(COFFER).await?;
    world.apply_basics()?;
    let retry = |times: u32, delay: &str| {
        let more = format!(
            "  backupHistoryLimit: 20\n  retryConfig: {{maxRetry: {times}, delay: {delay}}}"
        );
        world.apply(&configuration("orders", "0 0 1 1 *", &more))
    };
    retry(9, "1s")?;
    world.ready("orders").await?;
    password(&world, "wrong")?;
    world.coffer.run(&["backup", "orders", "-n", NAMESPACE, "--no-wait"], Output::Captured)?;
    let failed = |all: &[BackupSession]| all.iter().any(|s| phase(s) == Some(SessionPhase::Failed));
    until_sessions(&world, "the first one failed", failed).await?;
    password(&world, world.redis.password())?;
    let succeeded =
        |all: &[BackupSession]| all.iter().any(|s| phase(s) == Some(SessionPhase::Succeeded));
    let all = until_sessions(&world, "one succeeded", succeeded).await?;
    for (attempt, session) in (0..).zip(&all) {
        let last = attempt + 1 == all.len();
        let status = session.status.as_ref().context("no status")?;
        assert_eq!(session.spec.retry_left, Some(9 - i32::try_from(attempt)?), "{session:#?}");
        let expected = if last { SessionPhase::Succeeded } else { SessionPhase::Failed };
        assert_eq!(status.phase, Some(expected), "{session:#?}");
        assert_eq!(status.retried, (!last).then_some(true), "{session:#?}");
        let owner = &session.metadata.owner_references.as_ref().context("no owner")?[0];
        assert_eq!((owner.kind.as_str(), owner.name.as_str()), ("BackupConfiguration", "orders"));
    }
    assert_eq!(world.restic().snapshots()?.len(), 1);

    // Two attempts and no more.
    retry(1, "0s")?;
    world.ready("orders").await?;
    password(&world, "wrong")?;
    world.coffer.run(&["backup", "orders", "-n", NAMESPACE, "--no-wait"], Output::Captured)?;
    let before = all.len();
    let over = |all: &[BackupSession]| {
        all.len() == before + 2 && all.iter().all(|s| phase(s).is_some_and(SessionPhase::is_final))
    };
    until_sessions(&world, "both attempts are over", over).await?;
    // That this one is made and settled shows that the controller has had its time.
    password(&world, world.redis.password())?;
    let status = world.back_up("by-hand", "orders").await?;
    assert_eq!(status.phase, Some(SessionPhase::Succeeded), "{status:#?}");
    let all = sessions(&world).await?;
    assert_eq!(all.len(), before + 3, "{all:#?}");
    let given_up =
        all.iter().find(|s| s.spec.retry_left == Some(0) && phase(s) == Some(SessionPhase::Failed));
    let given_up = given_up.and_then(|s| s.status.as_ref()).context("no last attempt")?;
    assert_eq!((given_up.retried, given_up.next_retry.as_ref()), (None, None));
    Ok(())
}

#[tokio::test]
async fn as_many_sessions_are_kept_as_the_limit_says() -> Result<()> {
    let world = World::start(COFFER).await?;
    world.redis.command::<()>(&["SET", "a", "1"]).await?;
    world.apply_basics()?;
    let limit = |limit: &str| world.apply(&configuration("orders", "0 0 1 1 *", limit));
    // Sessions of one second have no order but their names.
    let after = async |names: &[&str]| -> Result<Vec<String>> {
        for name in names {
            let status = world.back_up(name, "orders").await?;
            assert_eq!(status.phase, Some(SessionPhase::Succeeded), "{status:#?}");
        }
        let kept = world.api::<BackupSession>().list(&ListParams::default()).await?;
        Ok(kept.into_iter().filter_map(|s| s.metadata.name).collect())
    };
    limit("  backupHistoryLimit: 2")?;
    assert_eq!(after(&["run-1", "run-2", "run-3", "run-4"]).await?, ["run-3", "run-4"]);
    // The default is one.
    limit("")?;
    assert_eq!(after(&["run-5"]).await?, ["run-5"]);
    limit("  backupHistoryLimit: 0")?;
    assert_eq!(after(&["run-6", "run-7"]).await?, ["run-7"]);
    // What is kept of sessions says nothing about snapshots; those are the retention policy's.
    assert_eq!(world.restic().snapshots()?.len(), 5);
    Ok(())
}
