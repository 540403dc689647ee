//! Two BackupConfigurations under one host of a Repository: the elder goes on, the younger is refused and told what to change.

use anyhow::Result;
use coffer_api::{
    BackupConfiguration, backup_configuration::InvokerPhase, backup_session::SessionPhase,
};
use coffer_tests::{
    redis_server::{Options, RedisServer},
    world::{World, configuration},
};

use crate::COFFER;

const CLASH: &str = "host host-0 of the Repository is that of AppBinding demo/orders, which BackupConfiguration demo/elder backs up: give spec.target.alias another name";

fn says(config: &BackupConfiguration, phase: InvokerPhase, why: &str) -> bool {
    config.status.as_ref().is_some_and(|status| {
        status.phase == Some(phase) && status.conditions.iter().any(|c| c.message.contains(why))
    })
}

#[tokio::test]
async fn the_younger_of_two_under_one_host_is_refused() -> Result<()> {
    let world = World::start(COFFER).await?;
    let carts = RedisServer::start(Options::default()).await?;
    world.redis.command::<()>(&["SET", "a", "1"]).await?;
    carts.command::<()>(&["SET", "b", "2"]).await?;
    world.apply(&world.storage())?;
    world.apply(&world.app_binding("orders", &world.redis))?;
    world.apply(&world.app_binding("carts", &carts))?;
    world.apply(&configuration("elder", "0 0 1 1 *", ""))?;
    world.ready("elder").await?;
    let younger = configuration("younger", "0 0 1 1 *", "")
        .replace("AppBinding, name: orders}", "AppBinding, name: carts}");

    // At the door, and where nobody minds the door.
    let refused = world.apply(&younger).expect_err("it is admitted").to_string();
    assert!(refused.contains(CLASH), "{refused}");
    world.without_admission()?;
    world.apply(&younger)?;
    let invalid = |config: &BackupConfiguration| says(config, InvokerPhase::Invalid, CLASH);
    world.until("younger", "is Invalid", invalid).await?;
    world.create_backup_session("refused", "younger").await?;
    assert_ne!(world.settled("refused").await?.phase, Some(SessionPhase::Succeeded));

    // The elder goes on, and its host has its own snapshots only.
    assert!(says(&world.ready("elder").await?, InvokerPhase::Ready, ""));
    let status = world.back_up("good", "elder").await?;
    assert_eq!(status.phase, Some(SessionPhase::Succeeded), "{status:#?}");
    assert_eq!(world.restic().snapshots()?.len(), 1);

    // Another name is enough; and so is that the elder goes.
    let alias = younger.replace("  target:\n", "  target:\n    alias: carts\n");
    world.apply(&alias)?;
    let status = world.back_up("apart", "younger").await?;
    assert_eq!(status.phase, Some(SessionPhase::Succeeded), "{status:#?}");
    world.apply(&younger.replace("name: younger", "name: third"))?;
    world.until("third", "is Invalid", invalid).await?;
    world.kubectl(&["delete", "backupconfiguration/elder"])?;
    world.ready("third").await?;
    Ok(())
}
