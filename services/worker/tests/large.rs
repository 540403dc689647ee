//! Values that are larger than what a target takes in one argument.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "tests")]

mod support;

use coffer_api::outcome::Outcome;
use coffer_api::session::Redis;
use coffer_rdb::resp::Reply;
use coffer_runtime::Runtime;
use support::gateway::Services;
use support::job::{BACKUP, RESTORE, backed_up, failed, restored, run_with, session};
use support::{TestServer, line, noise};

const METHODS: [&str; 2] = ["--method=replication", "--method=scan"];

async fn backup(redis: Redis, endpoint: &str, more: &[&str]) -> Outcome {
    run_with(&session("BackupSession", redis, endpoint), BACKUP, more, &Runtime::new()).await
}

async fn restore(redis: Redis, endpoint: &str, more: &[&str]) -> Outcome {
    run_with(&session("RestoreSession", redis, endpoint), RESTORE, more, &Runtime::new()).await
}

/// A server with a key that takes a megabyte at once.
async fn target() -> TestServer {
    let target = TestServer::start(&["--proto-max-bulk-len", "1mb"]);
    line(&mut target.client().await, "SET precious 1").await;
    target
}

async fn size(server: &TestServer) -> Reply {
    line(&mut server.client().await, "DBSIZE").await
}

#[tokio::test]
async fn a_large_collection_is_written_in_parts() {
    let (source, services) = (TestServer::start(&["--rdbcompression", "no"]), Services::default());
    let script = b"for i = 1, 30000 do local m = 'member-' .. i .. string.rep('y', 70) \
        redis.call('HSET', 'hash', m, i) redis.call('SADD', 'set', m) redis.call('ZADD', 'zset', i / 3, m) \
        redis.call('RPUSH', 'list', m) redis.call('XADD', 'stream', i .. '-1', 'f', m) end";
    let mut client = source.client().await;
    client.run(&[b"EVAL", script, b"0"]).await.unwrap();
    line(&mut client, "PEXPIREAT set 4102444800123").await;
    let endpoint = services.serve().await;
    for method in METHODS {
        backed_up(backup(source.redis(), &endpoint, &[method]).await);
        let target = target().await;
        let more = &["--flush=true", "--verify=true"];
        let done = restored(restore(target.redis(), &endpoint, more).await);
        assert_eq!(done.restored.values().sum::<u64>(), 5);
        assert_eq!(source.digest().await, target.digest().await);
    }
}

#[tokio::test]
async fn what_cannot_be_cut_is_named_before_anything_is_flushed() {
    let (source, services) = (TestServer::start(&["--rdbcompression", "no"]), Services::default());
    let mut client = source.client().await;
    client.run(&[b"SET", b"text", &noise(2 << 20)]).await.unwrap();
    client.run(&[b"RPUSH", b"list", b"a", &noise(2 << 20)]).await.unwrap();
    line(&mut client, "SET small v").await;
    let endpoint = services.serve().await;
    for method in METHODS {
        backed_up(backup(source.redis(), &endpoint, &[method]).await);
        let target = target().await;
        // As the manifest says, or when it does not say.
        for known in [true, false] {
            if !known {
                services.set(|stored| stored.manifest.as_mut().unwrap().largest_value_bytes = 0);
            }
            let failure = failed(restore(target.redis(), &endpoint, &["--flush=true"]).await);
            for key in ["text", "list"] {
                let named = format!(
                    "key {key} of database 0 would lose a value with a part of more than 1048576"
                );
                assert!(failure.error.contains(&named), "{}", failure.error);
            }
            line(&mut target.client().await, "GET precious").await;
            assert_eq!((size(&target).await, failure.keys_written), (Reply::Integer(1), 0));
        }
        let more = &["--flush=true", "--on-loss=report", "--verify=true"];
        let done = restored(restore(target.redis(), &endpoint, more).await);
        assert_eq!((done.restored.values().sum::<u64>(), done.skipped), (1, 2));
        assert_eq!(size(&target).await, Reply::Integer(1));
    }
}

#[tokio::test]
async fn a_snapshot_of_small_values_is_read_once() {
    let (source, services) = (TestServer::start(&["--rdbcompression", "no"]), Services::default());
    line(&mut source.client().await, "DEBUG POPULATE 3000 key 1000").await;
    let endpoint = services.serve().await;
    for method in METHODS {
        backed_up(backup(source.redis(), &endpoint, &[method]).await);
        services.set(|stored| stored.requests.clear());
        restored(restore(target().await.redis(), &endpoint, &[]).await);
        assert_eq!(services.get(|stored| stored.requests.len()), 1);
    }
}
