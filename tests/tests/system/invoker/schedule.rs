//! A schedule makes sessions until it is paused, and again once it is resumed.

use anyhow::{Context as _, Result};
use coffer_api::{
    BackupConfiguration, BackupSession, backup_configuration::InvokerPhase,
    backup_session::SessionPhase,
};
use coffer_tests::{
    coffer::Output,
    wait,
    world::{NAMESPACE, SESSION_LIMIT, World, configuration},
};
use kube::api::ListParams;

use crate::COFFER;

fn phase(session: &BackupSession) -> Option<SessionPhase> {
    session.status.as_ref().and_then(|status| status.phase)
}

#[tokio::test]
async fn it_makes_sessions_until_it_is_paused() -> Result<()> {
    let world = World::start(COFFER).await?;
    world.redis.command::<()>(&["SET", "a", "1"]).await?;
    world.apply_basics()?;
    world.apply(&configuration("often", "@every 1s", ""))?;
    let sessions = world.api::<BackupSession>();
    let of_often = ListParams::default().labels("stash.appscode.com/invoker-name=often");
    let first = wait::until("a session succeeded", SESSION_LIMIT, async || {
        let list = sessions.list(&of_often).await?;
        Ok(list.iter().find(|s| phase(s) == Some(SessionPhase::Succeeded)).cloned())
    })
    .await?;
    let name = first.metadata.name.clone().unwrap();
    assert!(name.starts_with("often-"), "{name}");
    let owner = &first.metadata.owner_references.as_ref().context("no owner")?[0];
    assert_eq!((owner.kind.as_str(), owner.name.as_str()), ("BackupConfiguration", "often"));

    world.coffer.run(&["pause", "often", "-n", NAMESPACE], Output::Captured)?;
    let paused = world
        .until("often", "is looked at", |c: &BackupConfiguration| {
            c.spec.paused
                && c.status.as_ref().and_then(|s| s.observed_generation) == c.metadata.generation
        })
        .await?;
    assert_eq!(paused.status.unwrap().phase, Some(InvokerPhase::Ready));
    // What was under way at the pause ends, and is the last of its kind.
    let at_pause = wait::until("every session is final", SESSION_LIMIT, async || {
        let list = sessions.list(&of_often).await?.items;
        let done = |s: &BackupSession| phase(s).is_some_and(SessionPhase::is_final);
        Ok(list
            .iter()
            .all(done)
            .then(|| list.iter().filter_map(|s| s.metadata.name.clone()).max())
            .flatten())
    })
    .await?;
    // Firings pass by meanwhile; that the session by hand runs shows that the controller lives.
    let manual = world.back_up("often-by-hand", "often").await?;
    assert_eq!(manual.phase, Some(SessionPhase::Succeeded), "{manual:#?}");
    let scheduled_since: Vec<_> = sessions
        .list(&of_often)
        .await?
        .iter()
        .filter_map(|s| s.metadata.name.clone())
        .filter(|name| name != "often-by-hand" && *name > at_pause)
        .collect();
    assert!(scheduled_since.is_empty(), "{scheduled_since:?}");

    world.coffer.run(&["resume", "often", "-n", NAMESPACE], Output::Captured)?;
    wait::until("another session succeeded", SESSION_LIMIT, async || {
        let list = sessions.list(&of_often).await?;
        let later = |s: &&BackupSession| {
            s.metadata.name.as_ref().is_some_and(|n| n != "often-by-hand" && *n > at_pause)
                && phase(s) == Some(SessionPhase::Succeeded)
        };
        Ok(list.iter().find(later).map(|_| ()))
    })
    .await
}
