//! Two orchestrators that share a Lease, of which the one that acts is killed, or frozen and thawed, at random steps of sessions
//! that are due by schedule and by hand: the other one goes on in time, every session settles, none is run twice.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use coffer_tests::{
    orchestrator::Orchestrator,
    wait,
    world::{NAMESPACE, SESSION_LIMIT, World, configuration},
};
use k8s_openapi::api::{batch::v1::Job, coordination::v1::Lease};
use kube::runtime::{WatchStreamExt as _, watcher};
use rand::{Rng as _, SeedableRng as _};
use tokio::sync::Mutex;
use tokio_stream::StreamExt as _;

use crate::{
    COFFER, ORCHESTRATOR,
    doubled::{STEPS, has_succeeded, is_so_far, name, sessions, settled_once},
};

/// The shortest that there is.
const LEASE: Duration = Duration::from_secs(5);
/// What is done to the one that acts, a round each.
const FATES: [&str; 3] = ["STOP", "KILL", "STOP"];
/// The uids under each name of a Job that was ever there.
type Jobs = Arc<Mutex<BTreeMap<String, BTreeSet<String>>>>;

async fn candidate(world: &World, identity: &str) -> Result<Orchestrator> {
    let flags = [
        format!("--lease-namespace={NAMESPACE}"),
        format!("--lease-identity={identity}"),
        format!("--lease-duration={}s", LEASE.as_secs()),
    ];
    Orchestrator::start(ORCHESTRATOR, world, &flags).await
}

async fn holder(world: &World) -> Result<Option<String>> {
    let lease = world.api::<Lease>().get_opt("coffer-orchestrator").await?;
    Ok(lease.and_then(|lease| lease.spec).and_then(|spec| spec.holder_identity))
}

/// Notes every Job for as long as it is polled.
async fn note(world: &World, jobs: Jobs) -> Result<()> {
    let mut seen =
        std::pin::pin!(watcher(world.api::<Job>(), watcher::Config::default()).applied_objects());
    while let Some(job) = seen.next().await {
        let meta = job.context("watch the Jobs")?.metadata;
        let (name, uid) = meta.name.zip(meta.uid).context("a Job without name")?;
        jobs.lock().await.entry(name).or_default().insert(uid);
    }
    Ok(())
}

#[tokio::test]
async fn no_session_is_doubled_by_a_takeover() -> Result<()> {
    let seed: u64 = rand::rng().random();
    let flags = ["--orchestrator", "https://127.0.0.1:1"].map(str::to_owned);
    let world = World::with_flags(COFFER, &flags).await?;
    world.without_admission()?;
    world.redis.command::<()>(&["SET", "a", "1"]).await?;
    world.apply(&world.storage())?;
    let jobs = Jobs::default();
    tokio::select! {
        ended = note(&world, Arc::clone(&jobs)) => ended?,
        done = rounds(&world, seed) => done.with_context(|| format!("with seed {seed}"))?,
    }
    for (name, uids) in jobs.lock().await.iter() {
        ensure!(uids.len() == 1, "Job {name} was made {} times", uids.len());
    }
    Ok(())
}

async fn rounds(world: &World, seed: u64) -> Result<()> {
    let mut pair = [
        ("a".to_owned(), candidate(world, "a").await?),
        ("b".to_owned(), candidate(world, "b").await?),
    ];
    world.apply(&world.app_binding("orders", &world.redis))?;
    let kept = "  backupHistoryLimit: 1000";
    for (name, schedule) in [("orders", "*/3 * * * * *"), ("by-hand", "0 0 1 1 *")] {
        let config = configuration(name, schedule, kept);
        world.apply(&config.replace("keepLast: 5", "keepLast: 1000"))?;
        world.ready(name).await?;
    }
    let mut random = rand::rngs::StdRng::seed_from_u64(seed);
    for (round, fate) in FATES.into_iter().enumerate() {
        let before: BTreeSet<String> = sessions(world).await?.iter().map(name).collect();
        world.create_backup_session(&format!("hand-{round}"), "by-hand").await?;
        let steps = random.random_range(0..=STEPS);
        wait::until("another session is so far", SESSION_LIMIT, async || {
            let all = sessions(world).await?;
            let mut new = all.iter().filter(|session| !before.contains(&name(session)));
            Ok(new.any(|session| is_so_far(session, steps)).then_some(()))
        })
        .await?;
        let acts = holder(world).await?.context("nobody holds the Lease")?;
        if pair[0].0 != acts {
            pair.swap(0, 1);
        }
        let [(_, acting), (heir, _)] = &mut pair;
        acting.signal(fate)?;
        let since = Instant::now();
        let limit = LEASE + Duration::from_secs(5);
        wait::until(&format!("{heir} acts"), limit, async || {
            Ok((holder(world).await?.as_deref() == Some(heir.as_str())).then_some(()))
        })
        .await
        .with_context(|| format!("{:?} after SIG{fate}", since.elapsed()))?;
        let known = sessions(world).await?.len();
        wait::until("the heir makes a session", SESSION_LIMIT, async || {
            Ok((sessions(world).await?.len() > known).then_some(()))
        })
        .await?;
        if fate == "STOP" {
            // It wakes in the middle of what it was about to do, and its time is over.
            acting.signal("CONT")?;
            acting.ended().await?;
            ensure!(acting.log().contains("the Lease was lost"), "{}", acting.log());
        }
        let name = format!("heir-of-{acts}");
        pair[0] = (name.clone(), candidate(world, &name).await?);
    }
    wait::until("a session succeeds", SESSION_LIMIT, async || {
        Ok(sessions(world).await?.iter().any(has_succeeded).then_some(()))
    })
    .await?;
    settled_once(world).await
}
