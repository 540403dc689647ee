//! A cluster of three masters, and a master with a replica and three Sentinels.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "tests")]

mod support;

use coffer_api::session::{Redis, Sensitive};
use coffer_runtime::Runtime;
use coffer_worker::redis::{Client, connect};
use support::gateway::Services;
use support::job::{BACKUP, RESTORE, backed_up, failed, restored, run, run_with, session};
use support::makes::Make;
use support::sets::{Cluster, Watched, id_of, until};
use support::{PASSWORD, TestServer, WAIT, line};

#[tokio::test]
async fn a_cluster_becomes_one_snapshot_and_goes_into_any_number_of_shards() {
    for make in Make::of_sets() {
        into_any_number_of_shards(make).await;
    }
}

async fn into_any_number_of_shards(make: Make) {
    let (cluster, services) = (Cluster::start(make).await, Services::default());
    let endpoint = services.serve().await;
    for server in &cluster.servers {
        let mut client = server.client().await;
        // Those of other masters are refused, which is how the keys find their place.
        for index in 0..3000 {
            let (key, list) = (format!("key-{index}"), format!("list-{index}"));
            client.ask(&[b"SET", key.as_bytes(), b"v"]).await.unwrap();
            client.ask(&[b"RPUSH", list.as_bytes(), b"a", b"b"]).await.unwrap();
        }
    }
    let keys = u64::try_from(cluster.sum("DBSIZE").await).unwrap();
    assert_eq!(keys, 6000);
    for (method, first) in [("--method=scan", "dumpfile-0.resp"), ("--method=auto", "dump-0.rdb")] {
        let backup = session("BackupSession", cluster.redis(), &endpoint);
        let done = backed_up(run_with(&backup, BACKUP, &[method], &Runtime::new()).await);
        assert_eq!((done.path.as_str(), done.keys.values().sum::<u64>()), (first, keys));
        assert!(done.reason.contains("of a cluster of 3 masters"), "{}", done.reason);
        services.get(|stored| {
            let manifest = stored.manifest.as_ref().unwrap();
            assert_eq!((manifest.files.len(), manifest.shards.len()), (3, 3));
            let slots = manifest.shards.iter().flat_map(|shard| &shard.slots);
            assert_eq!(slots.map(|range| range.last - range.first + 1).sum::<u32>(), 16_384);
        });

        let alone = make.start(&[]);
        let restore = session("RestoreSession", alone.redis(), &endpoint);
        let done = restored(run(&restore, RESTORE).await);
        assert_eq!(done.restored.values().sum::<u64>(), keys);
        let into_cluster = session("RestoreSession", cluster.redis(), &endpoint);
        let flush = &["--flush=true"];
        let done = restored(run_with(&into_cluster, RESTORE, flush, &Runtime::new()).await);
        assert_eq!((done.restored.values().sum::<u64>(), done.replaced), (keys, 0));
        assert_eq!(cluster.sum("DBSIZE").await, i64::try_from(keys).unwrap());

        // What was alone goes into the shards.
        let backup = session("BackupSession", alone.redis(), &endpoint);
        backed_up(run_with(&backup, BACKUP, &[method], &Runtime::new()).await);
        let done = restored(run(&into_cluster, RESTORE).await);
        assert_eq!((done.restored.values().sum::<u64>(), done.replaced), (keys, keys));
        assert_eq!(cluster.sum("DBSIZE").await, i64::try_from(keys).unwrap());
    }
}

#[tokio::test]
async fn a_slot_on_its_way_is_followed_by_a_restore_and_refused_by_a_backup() {
    for make in Make::of_sets() {
        while_a_slot_is_on_its_way(make).await;
    }
}

async fn while_a_slot_is_on_its_way(make: Make) {
    let (cluster, services) = (Cluster::start(make).await, Services::default());
    let endpoint = services.serve().await;
    let alone = make.start(&[]);
    let mut client = alone.client().await;
    // foo is in slot 12182, which the third master holds.
    for index in 0..100 {
        line(&mut client, &format!("SET {{foo}}{index} v")).await;
    }
    backed_up(run(&session("BackupSession", alone.redis(), &endpoint), BACKUP).await);
    let (_, mut to) = move_slot(&cluster).await;
    let restore = session("RestoreSession", cluster.redis(), &endpoint);
    let verify = &["--verify=true"];
    let done = restored(run_with(&restore, RESTORE, verify, &Runtime::new()).await);
    assert_eq!(done.restored.values().sum::<u64>(), 100);
    let verified = done.verified.unwrap();
    assert_eq!((verified.keys, verified.lost, verified.added), (100, 0, 0));
    // ASK led them all to the new master.
    assert_eq!(line(&mut to, "DBSIZE").await, coffer_rdb::resp::Reply::Integer(100));
    let backup = session("BackupSession", cluster.servers[2].redis(), &endpoint);
    let failure = failed(run_with(&backup, BACKUP, &["--wait-timeout=1"], &Runtime::new()).await);
    assert!(failure.error.contains("it is being resharded ([12182-"), "{}", failure.error);
}

#[tokio::test]
async fn commands_of_a_dump_follow_a_slot_and_delete_what_is_there() {
    for make in Make::of_sets() {
        commands_follow_a_slot(make).await;
    }
}

async fn commands_follow_a_slot(make: Make) {
    let (cluster, services) = (Cluster::start(make).await, Services::default());
    let endpoint = services.serve().await;
    let alone = make.start(&[]);
    let mut client = alone.client().await;
    for index in 0..100 {
        line(&mut client, &format!("RPUSH {{foo}}{index} a b")).await;
        line(&mut client, &format!("PEXPIREAT {{foo}}{index} 4102444800000")).await;
    }
    let backup = session("BackupSession", alone.redis(), &endpoint);
    backed_up(run_with(&backup, BACKUP, &["--method=portable"], &Runtime::new()).await);
    let (mut from, mut to) = move_slot(&cluster).await;
    for asking in [true, false] {
        // Lists of these names are there, on the one server or the other.
        for index in 0..50 {
            line(&mut to, "ASKING").await;
            line(&mut to, &format!("RPUSH {{foo}}{index} old")).await;
        }
        let restore = session("RestoreSession", cluster.redis(), &endpoint);
        let done = restored(run(&restore, RESTORE).await);
        assert_eq!(done.restored.values().sum::<u64>(), 100);
        assert_eq!(done.replaced, if asking { 50 } else { 100 });
        for index in 0..100 {
            line(&mut to, "ASKING").await;
            let length = line(&mut to, &format!("LLEN {{foo}}{index}")).await;
            assert_eq!(length, coffer_rdb::resp::Reply::Integer(2));
        }
        assert_eq!(line(&mut from, "DBSIZE").await, coffer_rdb::resp::Reply::Integer(0));
    }
}

#[tokio::test]
async fn masters_that_share_a_port_and_tell_no_host_are_all_read_and_written() {
    for make in Make::of_sets() {
        for kind in ["hostname", "unknown-endpoint"] {
            without_hosts(make, kind).await;
        }
    }
}

async fn without_hosts(make: Make, kind: &str) {
    let cluster = Cluster::of(make.start_for_cluster_on_one_port()).await;
    let services = Services::default();
    let endpoint = services.serve().await;
    for server in &cluster.servers {
        let mut client = server.client().await;
        line(&mut client, &format!("CONFIG SET cluster-preferred-endpoint-type {kind}")).await;
        for index in 0..300 {
            client.ask(&[b"SET", format!("key-{index}").as_bytes(), b"v"]).await.unwrap();
        }
    }
    let backup = session("BackupSession", cluster.redis(), &endpoint);
    let done = backed_up(run(&backup, BACKUP).await);
    assert_eq!(done.keys.values().sum::<u64>(), 300, "{}", done.reason);
    let restore = session("RestoreSession", cluster.redis(), &endpoint);
    let done = restored(run_with(&restore, RESTORE, &["--flush=true"], &Runtime::new()).await);
    assert_eq!(done.restored.values().sum::<u64>(), 300);
    assert_eq!(cluster.sum("DBSIZE").await, 300);
}

#[tokio::test]
async fn a_sentinel_has_users_of_its_own() {
    let (watched, services) = (Watched::start(Make::MACHINE).await, Services::default());
    let endpoint = services.serve().await;
    for server in [&watched.master, &watched.replica] {
        line(&mut server.client().await, "ACL SETUSER backup on >pw ~* +@all").await;
    }
    let redis = Redis {
        username: Some("backup".to_owned()),
        password: Some(Sensitive::new("pw")),
        ..watched.redis()
    };
    backed_up(run(&session("BackupSession", redis.clone(), &endpoint), BACKUP).await);

    let open = Redis { password: None, ..watched.redis() };
    let mut sentinel = connect(&open, WAIT).await.unwrap();
    line(&mut sentinel, "ACL SETUSER default resetpass >own").await;
    let failure = failed(run(&session("BackupSession", redis.clone(), &endpoint), BACKUP).await);
    assert_eq!(failure.class, "Unauthenticated");
    assert!(failure.error.contains("`sentinelPassword`"), "{}", failure.error);
    let redis = Redis { sentinel_password: Some(Sensitive::new("own")), ..redis };
    let done = backed_up(run(&session("BackupSession", redis, &endpoint), BACKUP).await);
    assert!(done.reason.contains("as master of mymaster"), "{}", done.reason);
}

#[tokio::test]
async fn a_node_that_answers_for_another_is_not_read() {
    // Both of them announce the address of the first.
    let cluster = Cluster::start(Make::MACHINE).await;
    let (first, second) = (&cluster.servers[0], &cluster.servers[1]);
    let mut client = second.client().await;
    for (name, value) in [("port", first.port), ("bus-port", second.port + 10_000)] {
        line(&mut client, &format!("CONFIG SET cluster-announce-{name} {value}")).await;
    }
    let id = id_of(second).await;
    let wrong = format!("{id} 127.0.0.1:{}", first.port);
    until(&first.redis(), &["CLUSTER", "NODES"], &wrong).await;
    let services = Services::default();
    let endpoint = services.serve().await;
    let backup = session("BackupSession", cluster.redis(), &endpoint);
    let failure = failed(run(&backup, BACKUP).await);
    let expected = format!("has node {id} at 127.0.0.1:{}, and node ", first.port);
    assert!(failure.error.contains(&expected), "{}", failure.error);
}

#[tokio::test]
async fn a_replica_without_its_masters_data_is_not_read() {
    let (services, nobody) = (Services::default(), support::free_port());
    let endpoint = services.serve().await;
    let replica = TestServer::start(&["--replicaof", &format!("127.0.0.1 {nobody}")]);
    let backup = session("BackupSession", replica.redis(), &endpoint);
    for method in ["auto", "replication", "scan", "portable"] {
        let options = [&format!("--method={method}"), "--wait-timeout=1"];
        let failure = failed(run_with(&backup, BACKUP, &options, &Runtime::new()).await);
        let expected = format!("a replica that is not in sync with its master 127.0.0.1:{nobody}");
        assert!(failure.error.contains(&expected), "{method}: {}", failure.error);
    }
}

#[tokio::test]
async fn a_replica_of_another_is_not_read() {
    let auth = ["--masterauth", PASSWORD];
    let (master, other) = (TestServer::start(&[]), TestServer::start(&[]));
    let of = |server: &TestServer| format!("127.0.0.1 {}", server.port);
    let others = TestServer::start(&[&["--replicaof", &of(&other)], &auth[..]].concat());
    let port = others.port.to_string();
    // Its address leads to the other's replica.
    let announced = ["--replicaof", &of(&master), "--replica-announce-port", &port];
    let replica = TestServer::start(&[&announced, &auth[..]].concat());
    line(&mut master.client().await, "SET k v").await;
    for server in [&replica, &others] {
        until(&server.redis(), &["INFO", "replication"], "master_link_status:up").await;
    }
    until(&master.redis(), &["INFO", "replication"], "state=online").await;
    let services = Services::default();
    let endpoint = services.serve().await;
    let backup = session("BackupSession", master.redis(), &endpoint);
    let outcome = run_with(&backup, BACKUP, &["--prefer=replica"], &Runtime::new()).await;
    let expected = format!("127.0.0.1:{port} is not a replica of it");
    assert!(outcome.warnings.iter().any(|text| text.contains(&expected)), "{outcome:?}");
    assert_eq!(backed_up(outcome).keys["string"], 1);
}

#[tokio::test]
async fn a_scan_reads_the_replicas_of_a_cluster() {
    for make in Make::of_sets() {
        scan_replicas(make).await;
    }
}

async fn scan_replicas(make: Make) {
    let (cluster, services) = (Cluster::start(make).await, Services::default());
    let endpoint = services.serve().await;
    line(&mut cluster.servers[2].client().await, "SET foo bar").await;
    let replica = cluster.replica_of(2, make).await;
    let backup = session("BackupSession", cluster.redis(), &endpoint);
    let more = &["--method=scan", "--prefer=replica"];
    let done = backed_up(run_with(&backup, BACKUP, more, &Runtime::new()).await);
    assert_eq!(done.keys.values().sum::<u64>(), 1);
    let read = format!("replica 127.0.0.1:{}", replica.port);
    assert!(done.reason.contains(&read), "{}", done.reason);
}

/// Begins to move the slot of foo, 12182, from the third master to the first.
async fn move_slot(cluster: &Cluster) -> (Client, Client) {
    let (from, to) = (&cluster.servers[2], &cluster.servers[0]);
    let (from_id, to_id) = (id_of(from).await, id_of(to).await);
    let (mut from, mut to) = (from.client().await, to.client().await);
    line(&mut to, &format!("CLUSTER SETSLOT 12182 IMPORTING {from_id}")).await;
    line(&mut from, &format!("CLUSTER SETSLOT 12182 MIGRATING {to_id}")).await;
    (from, to)
}

#[tokio::test]
async fn through_a_sentinel_a_replica_is_read_and_the_master_is_found_again() {
    for make in Make::of_sets() {
        through_a_sentinel(make).await;
    }
}

async fn through_a_sentinel(make: Make) {
    let (mut watched, services) = (Watched::start(make).await, Services::default());
    let endpoint = services.serve().await;
    line(&mut watched.master.client().await, "SET k v").await;
    until(&watched.replica.redis(), &["GET", "k"], "v").await;
    let backup = session("BackupSession", watched.redis(), &endpoint);
    let done = backed_up(run(&backup, BACKUP).await);
    let replica = format!("by replication from replica 127.0.0.1:{}", watched.replica.port);
    assert!(done.reason.starts_with(&replica), "{}", done.reason);
    assert!(done.reason.contains("as master of mymaster"), "{}", done.reason);
    let more = &["--prefer=master"];
    let done = backed_up(run_with(&backup, BACKUP, more, &Runtime::new()).await);
    let master = format!("by replication from master 127.0.0.1:{}", watched.master.port);
    assert!(done.reason.starts_with(&master), "{}", done.reason);
    let failure =
        failed(run_with(&backup, BACKUP, &["--sentinel-master=other"], &Runtime::new()).await);
    assert!(failure.error.contains("watches the masters [mymaster]"), "{}", failure.error);

    // It dies, and while the Sentinels have not noticed a restore waits for the next.
    watched.master.kill();
    let restore = session("RestoreSession", watched.redis(), &endpoint);
    let done = restored(run(&restore, RESTORE).await);
    assert_eq!(done.replaced, 1);
    until(&watched.replica.redis(), &["INFO", "replication"], "role:master").await;
    let done = backed_up(run(&backup, BACKUP).await);
    let promoted = format!("by replication from master 127.0.0.1:{}", watched.replica.port);
    assert!(done.reason.starts_with(&promoted), "{}", done.reason);
}
