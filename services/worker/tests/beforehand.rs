//! What can be known to go wrong with a restore is told before a key is written or the target is emptied.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "tests")]

mod support;

use coffer_api::outcome::Outcome;
use coffer_api::session::{Redis, Sensitive};
use coffer_proto::storage::v1::Manifest;
use coffer_rdb::resp::Reply;
use coffer_runtime::Runtime;
use support::gateway::Services;
use support::job::{BACKUP, RESTORE, backed_up, failed, restored, run_with, session};
use support::makes::Make;
use support::sets::Cluster;
use support::{TestServer, line};

const METHODS: [&str; 3] = ["--method=replication", "--method=scan", "--method=portable"];

/// Keeps, or takes away, what the manifest tells.
type Change = fn(Option<Manifest>) -> Option<Manifest>;

const CHANGES: [Change; 3] = [
    |same| same,
    |manifest| manifest.map(|m| Manifest { counted: false, databases: vec![], ..m }),
    |_| None,
];

/// A server with keys in databases 0 and 3.
async fn source() -> TestServer {
    let source = TestServer::start(&[]);
    let mut client = source.client().await;
    for command in ["SET a 1", "SELECT 3", "SET b 2"] {
        line(&mut client, command).await;
    }
    source
}

/// A server with a key in databases 0 and 1.
async fn target(options: &[&str]) -> TestServer {
    let target = TestServer::start(options);
    let mut client = target.client().await;
    for command in ["SET production 1", "SELECT 1", "SET production 1"] {
        line(&mut client, command).await;
    }
    target
}

async fn keys(target: &TestServer) -> Vec<Reply> {
    let mut client = target.client().await;
    let mut keys = Vec::new();
    for database in ["SELECT 0", "SELECT 1"] {
        line(&mut client, database).await;
        keys.push(line(&mut client, "KEYS *").await);
    }
    keys
}

async fn restore(redis: Redis, endpoint: &str, more: &[&str]) -> Outcome {
    let restore = session("RestoreSession", redis, endpoint);
    Box::pin(run_with(&restore, RESTORE, more, &Runtime::new())).await
}

async fn backup(redis: Redis, endpoint: &str, method: &str) {
    let backup = session("BackupSession", redis, endpoint);
    backed_up(run_with(&backup, BACKUP, &[method], &Runtime::new()).await);
}

#[tokio::test]
async fn a_target_is_left_as_it_is_where_it_cannot_take_the_snapshot() {
    let (source, services) = (source().await, Services::default());
    let endpoint = services.serve().await;
    let two = target(&["--databases", "2"]).await;
    let without = target(&["--rename-command", "RESTORE", ""]).await;
    let limited = target(&[]).await;
    let rules = "ACL SETUSER limited on >pw ~* +@all -restore";
    line(&mut limited.client().await, rules).await;
    let user = Redis {
        username: Some("limited".to_owned()),
        password: Some(Sensitive::new("pw")),
        ..limited.redis()
    };
    let flush = "--flush=true";
    for method in METHODS {
        backup(source.redis(), &endpoint, method).await;
        for change in CHANGES {
            services.set(|stored| stored.manifest = change(stored.manifest.take()));
            let (told, typed) = services.get(|stored| {
                let ours = stored.manifest.as_ref().is_some_and(|m| m.method != "portable");
                let told = stored.manifest.as_ref().is_some_and(|m| m.counted);
                (told, stored.path.ends_with(".resp") && !ours)
            });
            for (target, redis, more, said) in [
                (&two, two.redis(), &[flush][..], "out of range; raise `databases`"),
                (&two, two.redis(), &[], "out of range; raise `databases`"),
                (&limited, limited.redis(), &[flush, "--database-map=0:99"], "out of range"),
                (&limited, limited.redis(), &[flush, "--databases=1"], "names: database 1"),
                (&limited, limited.redis(), &[flush, "--databases=0,1"], "in databases 0, 3"),
                (&limited, limited.redis(), &[flush, "--databases=0,1-2"], "names: databases 1-2"),
                (&without, without.redis(), &[flush], "take RESTORE back from"),
                (&limited, user.clone(), &[flush], "NOPERM"),
            ] {
                let about_restore = said.contains("RESTORE") || said == "NOPERM";
                // Commands need no RESTORE; and nobody looks through a dump for what a second attempt mends.
                if typed && about_restore || more.is_empty() && !told {
                    continue;
                }
                let before = keys(target).await;
                let failure = failed(restore(redis, &endpoint, more).await);
                let case = format!("{method} {more:?}: {}", failure.error);
                assert!(failure.error.contains(said), "{case}");
                assert_eq!(failure.keys_written, 0, "{case}");
                assert_eq!(keys(target).await, before, "{case}");
            }
        }
    }
}

#[tokio::test]
async fn a_cluster_is_left_as_it_is_where_it_cannot_take_the_databases() {
    let (source, services) = (source().await, Services::default());
    let endpoint = services.serve().await;
    let cluster = Cluster::start(Make::MACHINE).await;
    line(&mut cluster.servers[2].client().await, "SET foo bar").await;
    backup(source.redis(), &endpoint, "--method=auto").await;
    for more in [&["--flush=true"][..], &[]] {
        let failure = failed(restore(cluster.redis(), &endpoint, more).await);
        assert!(failure.error.contains("a cluster has database 0 alone"), "{}", failure.error);
        assert_eq!(cluster.sum("DBSIZE").await, 1);
    }
    // As the message says.
    let more = ["--databases=3", "--database-map=3:0"];
    assert_eq!(restored(restore(cluster.redis(), &endpoint, &more).await).restored["string"], 1);
    assert_eq!(cluster.sum("DBSIZE").await, 2);
}

#[tokio::test]
async fn a_range_may_be_wider_than_the_snapshot() {
    let (source, services) = (source().await, Services::default());
    let endpoint = services.serve().await;
    for method in METHODS {
        backup(source.redis(), &endpoint, method).await;
        let target = target(&["--databases", "4"]).await;
        let more = ["--flush=true", "--databases=0-15"];
        let outcome = restore(target.redis(), &endpoint, &more).await;
        let said = "nothing is restored into databases 1, 2, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15 (which flush empties): \
                    the snapshot has no keys there, but in databases 0, 3";
        assert_eq!(outcome.warnings, [said], "{method}");
        assert_eq!(restored(outcome).restored["string"], 2, "{method}");
        let held =
            [vec![Reply::Bulk(Some("a".into()))], vec![]].map(|keys| Reply::Array(Some(keys)));
        assert_eq!(keys(&target).await, held, "{method}");
        let outcome = restore(target.redis(), &endpoint, &["--databases=0-15"]).await;
        assert_eq!(outcome.warnings, [] as [&str; 0], "{method}");
    }
}

#[tokio::test]
async fn keys_that_the_user_may_not_write_are_told_beforehand() {
    let (source, services) = (source().await, Services::default());
    let endpoint = services.serve().await;
    let makes = Make::ALL
        .into_iter()
        .filter(|make| make.name != "redis-5.0" && (Make::AVAILABLE || *make == Make::MACHINE));
    for make in makes {
        let target = make.start(&[]);
        let mut client = target.client().await;
        line(&mut client, "SET production 1").await;
        line(&mut client, "ACL SETUSER some on >pw ~a* +@all").await;
        let user = Redis {
            username: Some("some".to_owned()),
            password: Some(Sensitive::new("pw")),
            ..target.redis()
        };
        for method in METHODS {
            backup(source.redis(), &endpoint, method).await;
            for more in [&["--flush=true"][..], &[]] {
                let before = keys(&target).await;
                let failure = failed(restore(user.clone(), &endpoint, more).await);
                let case = format!("{} {method} {more:?}: {}", make.name, failure.error);
                assert!(failure.error.contains("restore key b of database 3 into"), "{case}");
                assert!(failure.error.contains("NOPERM"), "{case}");
                assert_eq!((failure.class.as_str(), failure.keys_written), ("Denied", 0), "{case}");
                assert_eq!(keys(&target).await, before, "{case}");
            }
            for more in ["--databases=0", "--include=a"] {
                let done = restored(restore(user.clone(), &endpoint, &[more]).await);
                assert_eq!(done.restored.values().sum::<u64>(), 1, "{method} {more}");
            }
        }
    }
}

#[tokio::test]
async fn databases_that_are_not_there_are_remarked_on() {
    let (source, target, services) = (source().await, TestServer::start(&[]), Services::default());
    let endpoint = services.serve().await;
    backup(source.redis(), &endpoint, "--method=auto").await;
    for (more, restores, said) in [
        (
            &["--databases=99"][..],
            0,
            "nothing is restored of database 99: the snapshot has no keys there, but in databases 0, 3",
        ),
        (&["--databases=0,1"], 1, "nothing is restored of database 1: "),
        (&["--databases=0-2,5-7"], 1, "nothing is restored of databases 5-7: "),
        (
            &["--database-map=7:8"],
            2,
            "databaseMap names database 7, of which nothing is restored: ",
        ),
        (&["--databases=0", "--database-map=3:8"], 1, "databaseMap names database 3, of which"),
    ] {
        let outcome = restore(target.redis(), &endpoint, more).await;
        assert!(outcome.warnings[0].starts_with(said), "{more:?}: {:?}", outcome.warnings);
        let restored = restored(outcome).restored;
        assert_eq!(restored.values().sum::<u64>(), restores, "{more:?}");
    }
}

#[tokio::test]
async fn a_failure_behind_the_first_key_says_that_it_was_written() {
    let (target, services) = (TestServer::start(&[]), Services::default());
    let endpoint = services.serve().await;
    services.set(|stored| {
        stored.path = "/dumpfile.resp".to_owned();
        stored.data = b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\ngarbage\r\n".to_vec();
    });
    let failure = failed(restore(target.redis(), &endpoint, &[]).await);
    assert!(failure.error.contains("dumpfile.resp"), "{}", failure.error);
    assert_eq!(failure.keys_written, 1);
    assert_eq!(line(&mut target.client().await, "DBSIZE").await, Reply::Integer(1));
}
