//! What becomes of a restore during which another server takes the place of its target.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "tests")]

mod support;

use std::time::Duration;

use coffer_api::outcome::Outcome;
use coffer_api::session::Redis;
use coffer_rdb::resp::Reply;
use coffer_runtime::Runtime;
use coffer_runtime::fault::{Class, Fault as _};
use coffer_worker::options::Prefer;
use coffer_worker::redis::find;
use support::gateway::{Fault, Services};
use support::job::{BACKUP, RESTORE, backed_up, failed, restored, run, run_with, session};
use support::makes::Make;
use support::sets::{Cluster, Watched, until};
use support::{PASSWORD, TestServer, WAIT, line};

const KEYS: i64 = 1000;

/// Services with a snapshot, and where.
async fn with_snapshot() -> (Services, String) {
    let (source, services) = (TestServer::start(&[]), Services::default());
    let script = format!("for i = 1, {KEYS} do redis.call('SET', 'key-' .. i, i) end");
    source.client().await.run(&[b"EVAL", script.as_bytes(), b"0"]).await.unwrap();
    let endpoint = services.serve().await;
    backed_up(run(&session("BackupSession", source.redis(), &endpoint), BACKUP).await);
    services.set(|stored| stored.calls = 0);
    (services, endpoint)
}

/// Restores, and does something while the target is found and no key was sent (`HoldsBack`), or all were (`StandsStill`).
async fn restore_while(
    (services, endpoint): &(Services, String),
    (target, fault): (Redis, Fault),
    options: &[&str],
    act: impl Future<Output = ()>,
) -> Outcome {
    services.set(|stored| (stored.fault, stored.calls) = (fault, 0));
    let restore = session("RestoreSession", target, endpoint);
    let runtime = Runtime::new();
    let acting = async {
        services.until(|stored| stored.calls > 0).await;
        act.await;
        services.resume();
    };
    tokio::join!(Box::pin(run_with(&restore, RESTORE, options, &runtime)), acting).0
}

async fn fail_over(watched: &Watched) {
    let sentinel = watched.redis();
    line(&mut support::client(&sentinel).await, "SENTINEL FAILOVER mymaster").await;
    until(&watched.replica.redis(), &["INFO", "replication"], "role:master").await;
}

#[tokio::test]
async fn a_failover_before_the_first_key_fails_the_restore() {
    for make in Make::of_sets() {
        let (snapshot, watched) = (with_snapshot().await, Watched::start(make).await);
        // The old master goes on saying OK.
        let target = (watched.redis(), Fault::HoldsBack);
        let outcome = restore_while(&snapshot, target, &[], fail_over(&watched)).await;
        let failure = failed(outcome);
        let expected = format!(
            "restore into Redis at 127.0.0.1:{}: 127.0.0.1:{} took its place in a failover",
            watched.master.port, watched.replica.port
        );
        assert!(failure.error.contains(&expected), "{}", failure.error);
        assert_eq!(failure.class, "Unavailable");
    }
}

#[tokio::test]
async fn a_master_that_may_be_about_to_be_replaced_is_waited_for() {
    let watched = Watched::start(Make::MACHINE).await;
    let (sentinel, short) = (watched.redis(), Duration::from_millis(10));
    let find = async |wait, prefer| find(&sentinel, wait, "", prefer).await.map(drop);
    find(short, Prefer::ToWrite).await.unwrap();
    let mut client = support::client(&sentinel).await;
    line(&mut client, "SENTINEL SET mymaster auth-pass wrong").await;
    until(&sentinel, &["SENTINEL", "MASTER", "mymaster"], "s_down").await;
    let error = find(short, Prefer::ToWrite).await.unwrap_err();
    assert_eq!(error.class(), Class::Unavailable);
    assert!(error.to_string().contains("may be about to replace it (s_down"), "{error}");
    // What is read of it is what it has.
    find(short, Prefer::Master).await.unwrap();
    let mended = async {
        let right: [&[u8]; 5] =
            [b"SENTINEL", b"SET", b"mymaster", b"auth-pass", PASSWORD.as_bytes()];
        client.run(&right).await.unwrap();
    };
    let (found, ()) = tokio::join!(find(WAIT, Prefer::ToWrite), mended);
    found.unwrap();
}

#[tokio::test]
async fn a_failover_behind_the_last_key_takes_all_of_them_along() {
    for make in Make::of_sets() {
        let (snapshot, watched) = (with_snapshot().await, Watched::start(make).await);
        let replica = watched.replica.redis();
        let behind = async {
            until(&replica, &["DBSIZE"], &format!("Integer({KEYS})")).await;
            fail_over(&watched).await;
        };
        let target = (watched.redis(), Fault::StandsStill);
        let outcome = restore_while(&snapshot, target, &[], behind).await;
        assert_eq!(outcome.warnings, [] as [&str; 0]);
        assert_eq!(restored(outcome).restored["string"], KEYS.unsigned_abs());
        let kept = line(&mut watched.replica.client().await, "DBSIZE").await;
        assert_eq!(kept, Reply::Integer(KEYS));
    }
}

#[tokio::test]
async fn another_master_by_the_end_fails_the_restore() {
    let (snapshot, watched) = (with_snapshot().await, Watched::start(Make::MACHINE).await);
    let other = TestServer::start(&[]);
    let elsewhere = async {
        let mut sentinel = support::client(&watched.redis()).await;
        line(&mut sentinel, "SENTINEL REMOVE mymaster").await;
        let monitor = format!("SENTINEL MONITOR mymaster 127.0.0.1 {} 2", other.port);
        line(&mut sentinel, &monitor).await;
    };
    let target = (watched.redis(), Fault::StandsStill);
    let failure = failed(restore_while(&snapshot, target, &[], elsewhere).await);
    let expected = format!("127.0.0.1:{} took its place in a failover", other.port);
    assert!(failure.error.contains(&expected), "{}", failure.error);
}

#[tokio::test]
async fn another_master_by_the_end_fails_a_load_by_replication_too() {
    let (snapshot, watched) = (with_snapshot().await, Watched::start(Make::MACHINE).await);
    // A target must not have replicas.
    let (target, other) = (TestServer::start(&[]), TestServer::start(&[]));
    let names = async |server: &TestServer| {
        let mut sentinel = support::client(&watched.redis()).await;
        line(&mut sentinel, "SENTINEL REMOVE mymaster").await;
        let monitor = format!("SENTINEL MONITOR mymaster 127.0.0.1 {} 2", server.port);
        line(&mut sentinel, &monitor).await;
    };
    names(&target).await;
    let options = ["--load=replica"];
    let stands_still = || (watched.redis(), Fault::StandsStill);
    let outcome = restore_while(&snapshot, stands_still(), &options, async {}).await;
    assert_eq!(restored(outcome).restored["string"], KEYS.unsigned_abs());
    line(&mut target.client().await, "FLUSHALL").await;
    let outcome = restore_while(&snapshot, stands_still(), &options, names(&other)).await;
    let failure = failed(outcome);
    let expected = format!(
        "restore into Redis at 127.0.0.1:{}: 127.0.0.1:{} took its place in a failover",
        target.port, other.port
    );
    assert!(failure.error.contains(&expected), "{}", failure.error);
}

#[tokio::test]
async fn a_master_that_was_a_replica_meanwhile_fails_the_restore() {
    let (snapshot, target) = (with_snapshot().await, TestServer::start(&[]));
    let other = TestServer::start(&[]);
    let both_ways = async {
        until(&target.redis(), &["DBSIZE"], &format!("Integer({KEYS})")).await;
        let mut client = target.client().await;
        client.run(&[b"CONFIG", b"SET", b"masterauth", PASSWORD.as_bytes()]).await.unwrap();
        line(&mut client, &format!("REPLICAOF 127.0.0.1 {}", other.port)).await;
        until(&target.redis(), &["INFO", "replication"], "master_link_status:up").await;
        line(&mut client, "REPLICAOF NO ONE").await;
    };
    let redis = (target.redis(), Fault::StandsStill);
    let failure = failed(restore_while(&snapshot, redis, &[], both_ways).await);
    let expected = "it was a replica of another server meanwhile";
    assert!(failure.error.contains(expected), "{}", failure.error);
    let for_good = async {
        until(&target.redis(), &["DBSIZE"], &format!("Integer({KEYS})")).await;
        let mut client = target.client().await;
        line(&mut client, &format!("REPLICAOF 127.0.0.1 {}", other.port)).await;
    };
    let redis = (target.redis(), Fault::StandsStill);
    let failure = failed(restore_while(&snapshot, redis, &[], for_good).await);
    let expected = format!("it is a replica of 127.0.0.1:{} since", other.port);
    assert!(failure.error.contains(&expected), "{}", failure.error);
}

#[tokio::test]
async fn a_replica_that_is_behind_or_gone_is_a_warning() {
    let (snapshot, master) = (with_snapshot().await, TestServer::start(&[]));
    let of_master =
        ["--masterauth", PASSWORD, "--replicaof", &format!("127.0.0.1 {}", master.port)];
    let mut replica = TestServer::start(&of_master);
    until(&replica.redis(), &["INFO", "replication"], "master_link_status:up").await;
    until(&master.redis(), &["INFO", "replication"], "state=online").await;
    let redis = || (master.redis(), Fault::HoldsBack);
    let outcome = restore_while(&snapshot, redis(), &[], async {}).await;
    assert_eq!(outcome.warnings, [] as [&str; 0]);
    let kept = line(&mut replica.client().await, "DBSIZE").await;
    assert_eq!(kept, Reply::Integer(KEYS), "it is waited for");

    let stopped = async { replica.stop() };
    let short = &["--wait-timeout=1"];
    let outcome = restore_while(&snapshot, redis(), short, stopped).await;
    let warning = format!(
        "replica 127.0.0.1:{} of 127.0.0.1:{} does not have all",
        replica.port, master.port
    );
    assert!(outcome.warnings[0].starts_with(&warning), "{:?}", outcome.warnings);
    restored(outcome);
    replica.resume();
    let killed = async {
        replica.kill();
        until(&master.redis(), &["INFO", "replication"], "connected_slaves:0").await;
    };
    let outcome = restore_while(&snapshot, redis(), &[], killed).await;
    let warning = format!("127.0.0.1:{} is no longer a replica", replica.port);
    assert!(outcome.warnings[0].starts_with(&warning), "{:?}", outcome.warnings);
    restored(outcome);
}

#[tokio::test]
async fn a_replica_that_takes_over_in_a_cluster_fails_the_restore() {
    for make in Make::of_sets() {
        let (snapshot, cluster) = (with_snapshot().await, Cluster::start(make).await);
        let replica = cluster.replica_of(2, make).await;
        let master = cluster.servers[2].redis();
        let take_over = async {
            cluster.until_it_holds(KEYS).await;
            // Its master does not learn of it for as long as it hears nothing.
            line(&mut replica.client().await, "CLUSTER FAILOVER TAKEOVER").await;
            until(&replica.redis(), &["INFO", "replication"], "role:master").await;
            until(&master, &["INFO", "replication"], "role:slave").await;
        };
        let target = (cluster.redis(), Fault::StandsStill);
        let failure = failed(restore_while(&snapshot, target, &[], take_over).await);
        let expected = format!("it is a replica of 127.0.0.1:{} since", replica.port);
        assert!(failure.error.contains(&expected), "{}", failure.error);
    }
}
