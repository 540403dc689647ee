//! Servers that a script holds up in mid-work, and servers that do not tell how large values are.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "tests")]

mod support;

use std::process::Command;

use coffer_api::outcome::Outcome;
use coffer_api::session::{Redis, Sensitive};
use coffer_runtime::Runtime;
use support::gateway::Services;
use support::job::{BACKUP, RESTORE, backed_up, failed, restored, run_with, session};
use support::sets::until;
use support::{PASSWORD, TestServer, line, proxy};

/// A server that soon says that a script is running.
const IMPATIENT: &[&str] = &["--busy-reply-threshold", "20"];
/// Steps that a script takes about so long for.
const HALF_A_SECOND: u64 = 100_000_000;

async fn backup(redis: Redis, endpoint: &str, more: &[&str]) -> Outcome {
    run_with(&session("BackupSession", redis, endpoint), BACKUP, more, &Runtime::new()).await
}

async fn restore(redis: Redis, endpoint: &str, more: &[&str]) -> Outcome {
    run_with(&session("RestoreSession", redis, endpoint), RESTORE, more, &Runtime::new()).await
}

/// The server through a proxy that has a script begin behind so many replies, and run for so many steps.
async fn held_up(server: &TestServer, behind: u64, steps: u64) -> Redis {
    let (begin, mut begun) = tokio::sync::mpsc::unbounded_channel();
    let mut client = server.client().await;
    tokio::spawn(async move {
        while begun.recv().await.is_some() {
            let script = format!("for i = 1, {steps} do end");
            client.run(&[b"EVAL", script.as_bytes(), b"0"]).await.unwrap();
        }
    });
    let mut replies = 0;
    proxy::through(&server.redis(), move |_| {
        replies += 1;
        if replies == behind {
            begin.send(()).unwrap();
        }
    })
    .await
}

/// Waits until the script has ended, and confirms that somebody noticed.
async fn was_busy(server: &TestServer) {
    until(&server.redis(), &["INFO", "errorstats"], "errorstat_BUSY").await;
}

#[tokio::test]
async fn a_scan_and_a_restore_wait_until_a_script_has_ended() {
    let services = Services::default();
    let endpoint = services.serve().await;
    for method in ["--method=scan", "--method=portable"] {
        let source = TestServer::start(IMPATIENT);
        let mut client = source.client().await;
        line(&mut client, "DEBUG POPULATE 20000 key 100").await;
        line(&mut client, "XADD stream 1-1 a b").await;
        for list in 0..20 {
            let script = format!("for i = 1, 3000 do redis.call('RPUSH', 'l{list}', i) end");
            client.run(&[b"EVAL", script.as_bytes(), b"0"]).await.unwrap();
        }
        let through = held_up(&source, 4000, HALF_A_SECOND).await;
        let done = backed_up(backup(through, &endpoint, &[method]).await);
        assert_eq!(done.keys.values().sum::<u64>(), 20021);
        was_busy(&source).await;

        let target = TestServer::start(IMPATIENT);
        line(&mut target.client().await, "RPUSH l0 old").await;
        let through = held_up(&target, 1000, HALF_A_SECOND).await;
        let done = restored(restore(through, &endpoint, &[]).await);
        assert_eq!(done.restored.values().sum::<u64>(), 20021);
        was_busy(&target).await;
        assert_eq!(source.digest().await, target.digest().await);

        // But not for ever.
        let patient = "--wait-timeout=1";
        let through = held_up(&source, 200, 8 * HALF_A_SECOND).await;
        let failure = failed(backup(through, &endpoint, &[method, patient]).await);
        assert!(failure.error.contains("still not ready after 1 s: BUSY"), "{}", failure.error);
    }
}

/// Asks with redis-cli, while nothing else goes on.
fn cli(server: &TestServer, words: &[&str]) -> String {
    let mut asked = Command::new("redis-cli");
    asked.args(["-p", &server.port.to_string()]).args(words).env("REDISCLI_AUTH", PASSWORD);
    String::from_utf8(asked.output().unwrap().stdout).unwrap()
}

#[tokio::test]
async fn a_scan_whose_data_are_replaced_in_its_midst_fails() {
    let services = Services::default();
    let endpoint = services.serve().await;
    for method in ["--method=scan", "--method=portable"] {
        let (source, other) =
            (TestServer::start(&["--masterauth", PASSWORD]), TestServer::start(&[]));
        line(&mut other.client().await, "SET only one").await;
        line(&mut source.client().await, "DEBUG POPULATE 20000 key 100").await;
        let redis = source.redis();
        let (port, mut replies) = (other.port.to_string(), 0);
        let through = proxy::through(&redis, move |_| {
            replies += 1;
            if replies == 4000 {
                cli(&source, &["REPLICAOF", "127.0.0.1", &port]);
                while !cli(&source, &["INFO", "replication"]).contains("master_link_status:up") {}
            }
        })
        .await;
        let failure = failed(backup(through, &endpoint, &[method]).await);
        assert_eq!(failure.class, "Unavailable");
        let expected = format!("it took over the data of 127.0.0.1:{}", other.port);
        assert!(failure.error.contains(&expected), "{method}: {}", failure.error);
    }
    services.get(|stored| assert!(stored.manifest.is_none(), "a part was committed"));
}

#[tokio::test]
async fn a_server_that_could_not_save_itself_is_backed_up() {
    let (server, services) = (TestServer::start(&[]), Services::default());
    let endpoint = services.serve().await;
    let mut client = server.client().await;
    line(&mut client, "SET k v").await;
    client.run(&[b"CONFIG", b"SET", b"save", b"9000 9000"]).await.unwrap();
    std::fs::create_dir(server.dir().join("dump.rdb")).unwrap();
    line(&mut client, "BGSAVE").await;
    until(&server.redis(), &["INFO", "persistence"], "rdb_last_bgsave_status:err").await;
    let refused = client.ask(&[b"PING"]).await.unwrap();
    assert!(format!("{refused:?}").contains("MISCONF"), "{refused:?}");
    for method in ["auto", "scan", "portable"] {
        let method = format!("--method={method}");
        assert_eq!(
            backed_up(backup(server.redis(), &endpoint, &[&method]).await).keys["string"],
            1
        );
    }
}

#[tokio::test]
async fn a_long_list_is_read_in_pieces_where_sizes_are_not_told() {
    let (source, services) = (TestServer::start(&[]), Services::default());
    let endpoint = services.serve().await;
    let mut client = source.client().await;
    let script = b"for i = 1, 1100000 do redis.call('RPUSH', 'list', i) end \
        redis.call('SADD', 'set', 'a') redis.call('SET', 'string', 'b')";
    client.run(&[b"EVAL", script, b"0"]).await.unwrap();
    line(&mut client, "ACL SETUSER reader on >pw ~* +@all -memory").await;
    let reader = Redis {
        username: Some("reader".to_owned()),
        password: Some(Sensitive::new("pw")),
        ..source.redis()
    };
    let done = backed_up(backup(reader, &endpoint, &["--method=portable"]).await);
    assert_eq!(done.keys.values().sum::<u64>(), 3);
    let target = TestServer::start(&[]);
    restored(restore(target.redis(), &endpoint, &[]).await);
    assert_eq!(source.digest().await, target.digest().await);
}
