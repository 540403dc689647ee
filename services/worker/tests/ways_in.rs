//! The ways in besides the first: conflicts, an emptied target, a dry run, comparison, and what is left out.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "tests")]

mod support;

use coffer_api::outcome::Verified;
use coffer_api::session::Redis;
use coffer_rdb::resp::Reply;
use coffer_worker::redis::Client;
use support::gateway::Services;
use support::job::{backed_up, backup, failed, restore, restored};
use support::makes::{Make, digests, entries};
use support::sets::until;
use support::{TestServer, fill, line, proxy, size};

#[tokio::test]
async fn conflicts_flush_and_a_dry_run() {
    let (source, services) = (TestServer::start(&[]), Services::default());
    let mut client = source.client().await;
    for command in ["SET a new", "RPUSH l 1 2", "SET only-here 1", "SELECT 2", "SET b new"] {
        line(&mut client, command).await;
    }
    let endpoint = services.serve().await;
    for method in ["--method=replication", "--method=scan"] {
        backed_up(backup(source.redis(), &endpoint, &[method]).await);
        let target = TestServer::start(&[]);
        let mut there = target.client().await;
        line(&mut there, "SET a old").await;
        line(&mut there, "SET stranger 1").await;

        let done = restored(restore(target.redis(), &endpoint, &["--dry-run=true"]).await);
        assert_eq!((done.restored.values().sum::<u64>(), done.replaced), (4, 1));
        assert!(done.remark.starts_with("a dry run"), "{}", done.remark);
        assert_eq!(size(&target).await, 2);

        let failure = failed(restore(target.redis(), &endpoint, &["--on-conflict=fail"]).await);
        if method == "--method=replication" {
            assert!(
                failure.error.contains("key a of database 0 is in the target already"),
                "{}",
                failure.error
            );
        }
        assert_eq!((size(&target).await, failure.keys_written), (2, 0));

        let done = restored(restore(target.redis(), &endpoint, &["--on-conflict=skip"]).await);
        assert_eq!((done.restored.values().sum::<u64>(), done.skipped), (3, 1));
        assert_eq!(line(&mut there, "GET a").await, Reply::Bulk(Some("old".into())));

        let done = restored(restore(target.redis(), &endpoint, &[]).await);
        assert_eq!((done.replaced, size(&target).await), (4, 4));

        let slow =
            &["--flush=true", "--max-keys-per-second=100000", "--max-bytes-per-second=1000000"];
        let done = restored(restore(target.redis(), &endpoint, slow).await);
        assert_eq!((done.replaced, size(&target).await), (0, 3));
        assert_eq!(source.digest().await, target.digest().await);
    }
    let failure =
        failed(restore(source.redis(), &endpoint, &["--flush=true", "--on-conflict=skip"]).await);
    assert!(failure.error.contains("flag --flush=true"), "{}", failure.error);
}

#[tokio::test]
async fn function_libraries_are_in_conflict_as_keys_are() {
    let (source, services) = (TestServer::start(&[]), Services::default());
    let library = |name: &str, function: &str, value: u8| {
        format!(
            "#!lua name={name}\nredis.register_function('{function}', function() return {value} end)"
        )
    };
    let load = async |server: &TestServer, source: String| {
        let mut client = server.client().await;
        client.run(&[b"FUNCTION", b"LOAD", source.as_bytes()]).await.unwrap();
    };
    line(&mut source.client().await, "SET k v").await;
    load(&source, library("same", "f", 1)).await;
    load(&source, library("new", "g", 1)).await;
    let endpoint = services.serve().await;
    for method in ["--method=replication", "--method=scan"] {
        backed_up(backup(source.redis(), &endpoint, &[method]).await);
        let target = TestServer::start(&[]);
        load(&target, library("same", "f", 2)).await;
        let mut there = target.client().await;

        let failure = failed(restore(target.redis(), &endpoint, &["--on-conflict=fail"]).await);
        assert!(
            failure.error.contains("function library same is in the target already"),
            "{}",
            failure.error
        );
        assert_eq!((size(&target).await, failure.keys_written), (0, 0));

        let done = restored(restore(target.redis(), &endpoint, &["--on-conflict=skip"]).await);
        assert_eq!((done.functions, done.skipped, size(&target).await), (1, 1, 1));
        assert_eq!(line(&mut there, "FCALL f 0").await, Reply::Integer(2));
        assert_eq!(line(&mut there, "FCALL g 0").await, Reply::Integer(1));

        let done = restored(restore(target.redis(), &endpoint, &[]).await);
        assert_eq!((done.functions, done.skipped), (2, 0));
        assert_eq!(line(&mut there, "FCALL f 0").await, Reply::Integer(1));

        line(&mut there, "FLUSHALL").await;
        line(&mut there, "FUNCTION FLUSH").await;
        let done = restored(restore(target.redis(), &endpoint, &["--on-conflict=fail"]).await);
        assert_eq!((done.functions, done.replaced), (2, 0));
    }
}

#[tokio::test]
async fn a_memory_limit_that_is_too_small_is_told_before_anything_is_written() {
    let (source, services) = (TestServer::start(&["--rdbcompression", "no"]), Services::default());
    let mut client = source.client().await;
    client.run(&[b"SET", b"large", &support::noise(8 << 20)]).await.unwrap();
    let endpoint = services.serve().await;
    backed_up(backup(source.redis(), &endpoint, &[]).await);
    let target = TestServer::start(&["--maxmemory", "6mb"]);
    let failure = failed(restore(target.redis(), &endpoint, &[]).await);
    assert!(failure.error.contains("maxmemory is 6 MiB"), "{}", failure.error);
    assert_eq!(failure.keys_written, 0);
}

#[tokio::test]
async fn a_restore_is_verified_on_request() {
    let (source, services) = (TestServer::start(&[]), Services::default());
    fill(&mut source.client().await).await;
    let endpoint = services.serve().await;
    for method in ["--method=replication", "--method=scan"] {
        let done = backed_up(backup(source.redis(), &endpoint, &[method]).await);
        let keys = done.keys.values().sum::<u64>();
        let target = TestServer::start(&[]);
        line(&mut target.client().await, "SET stranger 1").await;
        let done = restored(restore(target.redis(), &endpoint, &["--verify=true"]).await);
        let same = Verified { keys, added: 1, ..Verified::default() };
        assert_eq!(done.verified, Some(same));
        assert!(done.remark.contains("0 lost, 0 changed, 1 added"), "{}", done.remark);
        if method == "--method=replication" {
            let more = &["--load=replica", "--flush=true", "--verify=true"];
            let done = restored(restore(target.redis(), &endpoint, more).await);
            assert_eq!(done.verified, Some(Verified { keys, ..Verified::default() }));
        }
        // Somebody who writes all the time: what was restored does not stay.
        let mut other = target.client().await;
        let writing = tokio::spawn(async move {
            loop {
                line(&mut other, "SET int overwritten").await;
                line(&mut other, "DEL small").await;
            }
        });
        let failure = failed(restore(target.redis(), &endpoint, &["--verify=true"]).await);
        writing.abort();
        assert_eq!(failure.class, "Corrupt");
        for named in [
            "1 are lost",
            "1 are not as",
            "int of database 0 (changed)",
            "small of database 0 (lost)",
        ] {
            assert!(failure.error.contains(named), "{}", failure.error);
        }
    }
    backed_up(backup(source.redis(), &endpoint, &["--method=portable"]).await);
    let failure = failed(restore(source.redis(), &endpoint, &["--verify=true"]).await);
    assert!(failure.error.contains("typed commands"), "{}", failure.error);
}

#[tokio::test]
async fn what_is_read_twice_is_the_same_snapshot_whatever_latest_is_by_then() {
    let (source, services) = (TestServer::start(&[]), Services::default());
    fill(&mut source.client().await).await;
    let endpoint = services.serve().await;
    let done = backed_up(backup(source.redis(), &endpoint, &[]).await);
    let target = TestServer::start(&[]);
    restored(restore(target.redis(), &endpoint, &["--verify=true"]).await);
    let asked = services.get(|stored| {
        stored.requests.iter().map(|request| request.snapshot.clone()).collect::<Vec<_>>()
    });
    assert_eq!(asked, ["latest", &done.snapshot_id]);
}

#[tokio::test]
async fn parts_of_a_portable_dump_and_stashs_marker_are_restored() {
    let (source, services) = (TestServer::start(&[]), Services::default());
    let mut client = source.client().await;
    // As a restore of Stash's leaves it behind.
    for command in ["SET __redisdump_total_keys 4", "SET a 1", "RPUSH b 1 2", "RPUSH a2 1 2"] {
        line(&mut client, command).await;
    }
    let endpoint = services.serve().await;
    backed_up(backup(source.redis(), &endpoint, &["--method=portable"]).await);
    let target = TestServer::start(&[]);
    let done = restored(restore(target.redis(), &endpoint, &["--include=a*"]).await);
    assert_eq!(done.restored.values().sum::<u64>(), 2);
    assert_eq!(line(&mut target.client().await, "DBSIZE").await, Reply::Integer(2));
    restored(restore(target.redis(), &endpoint, &[]).await);
    assert_eq!(source.digest().await, target.digest().await);
}

/// A server that says that it is older than streams.
async fn without_streams(server: &TestServer) -> Redis {
    proxy::through(&server.redis(), |reply| {
        if let Reply::Bulk(Some(bytes)) = reply
            && let Ok(text) = std::str::from_utf8(bytes)
            && let Some((before, after)) = text.split_once("redis_version:")
            && let Some((_, after)) = after.split_once("\r\n")
        {
            *bytes = format!("{before}redis_version:4.0.14\r\n{after}").into();
        }
    })
    .await
}

#[tokio::test]
async fn what_is_said_of_a_key_that_is_left_out_is_left_out() {
    let (source, services) = (TestServer::start(&[]), Services::default());
    let mut client = source.client().await;
    for command in ["XADD events 1-1 f v", "SET later v"] {
        line(&mut client, command).await;
    }
    for key in ["events", "later"] {
        line(&mut client, &format!("PEXPIREAT {key} 4102444800000")).await;
    }
    let endpoint = services.serve().await;
    backed_up(backup(source.redis(), &endpoint, &["--method=portable"]).await);
    for ours in [true, false] {
        if !ours {
            services.set(|stored| stored.manifest = None);
        }
        let target = TestServer::start(&[]);
        let mut there = target.client().await;
        // It shares no more than the name with what is in the dump.
        line(&mut there, "SET events own").await;
        let redis = without_streams(&target).await;
        let outcome = restore(redis, &endpoint, &["--on-loss=report"]).await;
        let told = "key events of database 0 lost a stream, which Redis 4.0 does not know";
        assert!(outcome.warnings.concat().contains(told), "{:?}", outcome.warnings);
        assert_eq!(restored(outcome).restored.values().sum::<u64>(), 1, "{ours}");
        assert_eq!(line(&mut there, "GET events").await, Reply::Bulk(Some("own".into())));
        assert_eq!(line(&mut there, "PEXPIRETIME events").await, Reply::Integer(-1), "{ours}");
        let later = line(&mut there, "PEXPIRETIME later").await;
        assert_eq!(later, Reply::Integer(4_102_444_800_000), "{ours}");
    }
}

#[tokio::test]
async fn a_time_of_a_field_that_the_target_takes_none_of_is_a_loss() {
    if !Make::AVAILABLE {
        return;
    }
    let (source, target) = (Make::VALKEY_9.start(&[]), Make::REDIS_8.start(&[]));
    let (mut client, mut there) = (source.client().await, target.client().await);
    for command in [
        "SET a 1",
        "HSET hash near 1 last 2 far 3 none 4",
        "HPEXPIREAT hash 4102444800123 FIELDS 1 near",
        "HPEXPIREAT hash 70368744177663 FIELDS 1 last",
        "HPEXPIREAT hash 70368744177664 FIELDS 1 far",
    ] {
        line(&mut client, command).await;
    }
    let services = Services::default();
    let endpoint = services.serve().await;
    let times = async |there: &mut Client| {
        line(there, "HPEXPIRETIME hash FIELDS 4 near last far none").await
    };
    for method in ["--method=replication", "--method=scan", "--method=portable"] {
        backed_up(backup(source.redis(), &endpoint, &[method]).await);
        line(&mut there, "FLUSHALL").await;
        let failure = failed(restore(target.redis(), &endpoint, &[]).await);
        let told = "key hash of database 0 would lose the times to live of those of its fields that expire later";
        assert!(failure.error.contains(told), "{method}: {}", failure.error);
        assert_eq!((failure.keys_written, size(&target).await), (0, 0), "{method}");
        let mut more = vec!["--on-loss=report"];
        more.extend((method != "--method=portable").then_some("--verify=true"));
        let outcome = restore(target.redis(), &endpoint, &more).await;
        let warnings = outcome.warnings.concat();
        assert!(warnings.contains("hash of database 0 lost the times"), "{method}: {warnings}");
        assert_eq!(restored(outcome).restored.values().sum::<u64>(), 2, "{method}");
        let kept = [4_102_444_800_123, 70_368_744_177_663, -1, -1].map(Reply::Integer);
        assert_eq!(times(&mut there).await, Reply::Array(Some(kept.into())), "{method}");
        // Where it came from it is kept.
        restored(restore(source.redis(), &endpoint, &["--flush=true"]).await);
        let kept = [4_102_444_800_123, 70_368_744_177_663, 70_368_744_177_664, -1];
        let kept = Reply::Array(Some(kept.map(Reply::Integer).into()));
        assert_eq!(times(&mut client).await, kept, "{method}");
    }
}

/// What a server's append-only file holds after it was rewritten.
async fn rewritten(server: &TestServer) -> Vec<u8> {
    let mut client = server.client().await;
    line(&mut client, "BGREWRITEAOF").await;
    until(&server.redis(), &["INFO", "persistence"], "aof_rewrite_in_progress:0").await;
    let folder = server.dir().join("appendonlydir");
    let files = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    let file = files.into_iter().find(|path| path.to_string_lossy().ends_with("2.base.aof"));
    std::fs::read(file.unwrap()).unwrap()
}

#[tokio::test]
async fn a_rewritten_append_only_file_is_replayed() {
    let options = &["--appendonly", "yes", "--aof-use-rdb-preamble", "no"];
    for make in [Make::REDIS_8, Make::VALKEY_9].into_iter().filter(|_| Make::AVAILABLE) {
        let (source, services) = (make.start(options), Services::default());
        let mut client = source.client().await;
        for command in [
            "SET text 1",
            "HSET hash a 1 b 2 c 3",
            "HPEXPIREAT hash 4102444800123 FIELDS 1 a",
            "HSETEX hash EXAT 4102444800 FIELDS 2 b 2 d 4",
            "PEXPIREAT hash 4102444900123",
        ] {
            line(&mut client, command).await;
        }
        let data = rewritten(&source).await;
        let held_so = data.windows(6).any(|word| word == b"HSETEX");
        assert_eq!(held_so, make == Make::VALKEY_9, "{}", make.name);
        services.set(|stored| (stored.path, stored.data) = ("/appendonly.resp".to_owned(), data));
        let endpoint = services.serve().await;
        let held = entries(&source).await;
        for to in [Make::REDIS_8, Make::VALKEY_9, Make::MACHINE] {
            let target = to.start(&[]);
            let outcome = restore(target.redis(), &endpoint, &["--on-loss=report"]).await;
            let told = outcome.warnings.concat();
            let loses = told.contains("hash of database 0 lost the times to live of its fields");
            assert_eq!(loses, to == Make::MACHINE, "{told}");
            assert_eq!(restored(outcome).restored.values().sum::<u64>(), 2);
            let (want, got) = (digests(&held, to), digests(&entries(&target).await, to));
            assert_eq!(want, got, "{} to {}", make.name, to.name);
        }
    }
}
