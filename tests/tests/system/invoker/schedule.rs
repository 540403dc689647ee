//! A schedule makes sessions until it is paused, and again once it is resumed; several that are due together make all
//! sessions before the first is started.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use coffer_api::{
    BackupConfiguration, BackupSession, backup_configuration::InvokerPhase,
    backup_session::SessionPhase,
};
use coffer_runtime::Clock;
use coffer_tests::{
    coffer::Output,
    wait,
    world::{NAMESPACE, SESSION_LIMIT, World, configuration},
};
use kube::api::{ListParams, WatchEvent, WatchParams};
use tokio_stream::StreamExt as _;

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

/// Those that are due together.
const TOGETHER: [&str; 4] = ["one", "two", "three", "four"];

#[tokio::test]
async fn all_that_are_due_together_are_made_before_the_first_is_started() -> Result<()> {
    let world = World::start(COFFER).await?;
    world.redis.command::<()>(&["SET", "a", "1"]).await?;
    world.apply(&world.storage())?;
    world.apply(&world.app_binding("orders", &world.redis))?;
    for name in TOGETHER {
        world.apply(&configuration(name, "*/5 * * * * *", ""))?;
    }
    for name in TOGETHER {
        world.ready(name).await?;
    }
    // Of an instant before, some may not have known in time.
    let from = Clock::real().now().timestamp() + 1;
    let sessions = world.api::<BackupSession>();
    let events = sessions.watch(&WatchParams::default(), "0").await?;
    let mut events = std::pin::pin!(events);
    let mut made: BTreeMap<i64, Vec<String>> = BTreeMap::new();
    let started = async {
        loop {
            match events.next().await.context("the watch ended")?? {
                WatchEvent::Added(session) => {
                    let (name, instant) = named(&session)?;
                    made.entry(instant).or_default().push(name);
                }
                WatchEvent::Modified(session) => {
                    let (name, instant) = named(&session)?;
                    if instant > from {
                        let made = made.remove(&instant).unwrap_or_default();
                        return anyhow::Ok((name, made));
                    }
                }
                WatchEvent::Deleted(_) | WatchEvent::Bookmark(_) => {}
                WatchEvent::Error(error) => anyhow::bail!("the watch broke: {error:?}"),
            }
        }
    };
    let (first, made) = tokio::time::timeout(SESSION_LIMIT, started).await??;
    ensure!(made.len() == TOGETHER.len(), "when {first} was started, there were only {made:?}");
    Ok(())
}

/// Its name, and the instant that it was made for.
fn named(session: &BackupSession) -> Result<(String, i64)> {
    let name = session.metadata.name.clone().unwrap_or_default();
    let instant = name.rsplit('-').next().unwrap_or_default().parse();
    Ok((name.clone(), instant.with_context(|| format!("{name} names no instant"))?))
}
