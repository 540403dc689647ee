//! The dataset and the comparison, against real servers.

use std::time::Duration;

use super::*;
use crate::{
    compare::{compare, fingerprint},
    redis_server::{Options, RedisServer},
};

async fn server() -> RedisServer {
    RedisServer::start(Options::default()).await.unwrap()
}

#[tokio::test]
async fn every_type_is_there_in_every_database() {
    let redis = server().await;
    let spec = Spec { functions: true, largest_bytes: 300_000, ..Spec::small() };
    let summary = load(&redis.client().unwrap(), &spec).await.unwrap();
    assert_eq!(summary.total(), spec.keys);
    assert!(summary.expiring > 100, "{summary:?}");

    let held = fingerprint(&redis.client().unwrap()).await.unwrap();
    assert_eq!(held.len(), spec.keys);
    assert_eq!(held.databases(), spec.databases.len());
    let counted: Vec<_> = held.by_type().into_iter().collect();
    let loaded: Vec<_> = summary.keys.iter().map(|(kind, count)| (*kind, *count)).collect();
    assert_eq!(counted, loaded);
    assert_eq!(counted.len(), 6, "{counted:?}");
    assert_eq!(held.get(0, b"edge:largest").unwrap().size, 300_000);
    assert_eq!(held.get(0, b"edge:stream").unwrap().size, 295);
    assert_eq!(held.get(0, b"").unwrap().size, 0);
    assert!(held.get(0, b"\xff\xfe\x00\r\n").is_some());
    let encodings = [
        ("edge:set:many", "hashtable"),
        ("edge:intset:64", "intset"),
        ("edge:zset:many", "skiplist"),
        ("edge:zset:scores", "listpack"),
        ("edge:hash:many", "hashtable"),
        ("edge:int:127", "int"),
    ];
    for (key, encoding) in encodings {
        assert_eq!(
            redis.command::<String>(&["OBJECT", "ENCODING", key]).await.unwrap(),
            encoding,
            "{key}"
        );
    }
    // Loading it again is refused, not counted twice.
    assert!(load(&redis.client().unwrap(), &spec).await.is_err());
}

#[tokio::test]
async fn a_copy_is_equal_and_the_same_seed_makes_the_same_values() {
    let (one, two) = (server().await, server().await);
    let spec = Spec { functions: true, ..Spec::small() };
    load(&one.client().unwrap(), &spec).await.unwrap();
    let before = fingerprint(&one.client().unwrap()).await.unwrap();

    // A replica has what its master has, delivery times and all.
    two.command::<()>(&["CONFIG", "SET", "masterauth", one.password()]).await.unwrap();
    two.command::<()>(&["REPLICAOF", "127.0.0.1", &one.port.to_string()]).await.unwrap();
    crate::wait::until("the replica is in sync", Duration::from_secs(20), async || {
        let info: String = two.command(&["INFO", "replication"]).await?;
        Ok(info.contains("master_link_status:up").then_some(()))
    })
    .await
    .unwrap();
    two.command::<()>(&["REPLICAOF", "NO", "ONE"]).await.unwrap();
    let copy = fingerprint(&two.client().unwrap()).await.unwrap();
    let differences = compare(&before, &copy);
    assert!(differences.is_empty(), "{differences}");
    assert_eq!(before, copy);

    // Encoded otherwise, and still equal.
    for setting in
        ["hash-max-listpack-entries", "zset-max-listpack-entries", "set-max-intset-entries"]
    {
        two.command::<()>(&["CONFIG", "SET", setting, "0"]).await.unwrap();
    }
    two.command::<()>(&["DEBUG", "RELOAD"]).await.unwrap();
    assert_eq!(
        two.command::<String>(&["OBJECT", "ENCODING", "edge:zset:scores"]).await.unwrap(),
        "skiplist"
    );
    let differences = compare(&before, &fingerprint(&two.client().unwrap()).await.unwrap());
    assert!(differences.is_empty(), "{differences}");

    // Another load differs in times (to live, of delivery), and in nothing else.
    let again = server().await;
    load(&again.client().unwrap(), &spec).await.unwrap();
    let again = fingerprint(&again.client().unwrap()).await.unwrap();
    let differences = compare(&before, &again);
    assert!(differences.lost.is_empty() && differences.added.is_empty(), "{differences}");
    let only_times = |line: &String| line.contains("expire") || line.contains("pending entries");
    assert!(differences.changed.iter().all(only_times), "{differences}");
}

#[tokio::test]
async fn each_loss_is_seen_and_named() {
    let spec = Spec { keys: 0, databases: vec![0, 3], ..Spec::small() };
    let redis = server().await;
    let client = redis.client().unwrap();
    load(&client, &spec).await.unwrap();
    redis.command::<()>(&["SET", "plain", "value"]).await.unwrap();
    let before = fingerprint(&client).await.unwrap();
    assert_eq!(before, fingerprint(&client).await.unwrap(), "reading changes nothing");

    let cases: &[(&[&str], &str)] = &[
        (&["DEL", "plain"], "lost: db0 \"plain\" (string)"),
        (&["SET", "new", "x"], "added: db0 \"new\" (string)"),
        (&["SET", "plain", "VALUE"], "changed: db0 \"plain\": another string"),
        (&["APPEND", "plain", "!"], "changed: db0 \"plain\": had 5 bytes, has 6"),
        (&["PEXPIREAT", "plain", "4000000000001"], "expired never, expires at 4000000000001"),
        (&["RPOPLPUSH", "edge:list:odd", "edge:list:odd"], "\"edge:list:odd\": another list"),
        (&["RPUSH", "edge:list:many", "x"], "had 5000 elements, has 5001"),
        (&["SREM", "edge:set:odd", "007"], "\"edge:set:odd\": had 8 elements, has 7"),
        (&["HSET", "edge:hash:odd", "007", "7"], "\"edge:hash:odd\": another hash"),
        (&["ZADD", "edge:zset:scores", "1e-9", "m2"], "\"edge:zset:scores\": another zset"),
        (&["PERSIST", "edge:zset:scores"], "expires never"),
        (&["PFADD", "edge:hll:sparse", "d"], "\"edge:hll:sparse\""),
        (&["XADD", "edge:stream", "400-0", "f", "v"], "\"edge:stream\": had 295 elements, has 296"),
        (&["XACK", "edge:stream", "readers", "10-0"], "other groups, consumers, pending"),
        (&["XGROUP", "DELCONSUMER", "edge:stream", "readers", "idle"], "other groups, consumers"),
        (&["XGROUP", "DESTROY", "edge:stream", "late"], "other groups, consumers"),
        (&["XSETID", "edge:stream:empty", "99-9"], "\"edge:stream:empty\": other groups"),
        (&["MOVE", "plain", "3"], "added: db3 \"plain\""),
    ];
    for (words, expected) in cases {
        let key = if words[0] == "XGROUP" { words[2] } else { words[1] };
        let held = Held::take(&redis, key).await;
        redis.command::<redis::Value>(words).await.unwrap();
        let differences = compare(&before, &fingerprint(&client).await.unwrap()).to_string();
        assert!(
            differences.contains(expected),
            "{words:?} should say {expected:?}:\n{differences}"
        );
        if words[0] == "MOVE" {
            let mut connection = redis.connect().await.unwrap();
            redis::cmd("SELECT").arg(3).exec_async(&mut connection).await.unwrap();
            redis::cmd("DEL").arg(key).exec_async(&mut connection).await.unwrap();
        }
        held.put_back(&redis).await;
        let differences = compare(&before, &fingerprint(&client).await.unwrap());
        assert!(differences.is_empty(), "after undoing {words:?}:\n{differences}");
    }
    redis
        .command::<()>(&[
            "FUNCTION",
            "LOAD",
            "#!lua name=l\nredis.register_function('f', function() end)",
        ])
        .await
        .unwrap();
    let differences = compare(&before, &fingerprint(&client).await.unwrap());
    assert_eq!(differences.added, ["function library \"l\""]);
}

/// A key as it was.
struct Held {
    key: String,
    dump: Option<Vec<u8>>,
    expires: i64,
}

impl Held {
    async fn take(redis: &RedisServer, key: &str) -> Self {
        let mut connection = redis.connect().await.unwrap();
        let dump = redis::cmd("DUMP").arg(key).query_async(&mut connection).await.unwrap();
        let expires =
            redis::cmd("PEXPIRETIME").arg(key).query_async(&mut connection).await.unwrap();
        Self { key: key.to_owned(), dump, expires }
    }

    async fn put_back(self, redis: &RedisServer) {
        let mut connection = redis.connect().await.unwrap();
        redis::cmd("DEL").arg(&self.key).exec_async(&mut connection).await.unwrap();
        if let Some(dump) = self.dump {
            let mut restore = redis::cmd("RESTORE");
            restore.arg(&self.key).arg(self.expires.max(0)).arg(dump).arg("ABSTTL");
            restore.exec_async(&mut connection).await.unwrap();
        }
    }
}
