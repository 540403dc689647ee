//! A real Redis dumped by replication and loaded into another: DEBUG DIGEST says whether anything is lost.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "tests")]

mod support;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use coffer_rdb::resp::Reply;
use coffer_rdb::value::Kind;
use coffer_rdb::version::Version;
use coffer_worker::redis::{LoadOptions, Replay, Replication, Server, connect};
use support::{LIBRARY, TestServer, WAIT, dump, fill, line, load, loader, loader_with, noise};

const LONG_AGO: i64 = 1_600_000_000_000;

#[tokio::test]
async fn everything_survives_diskless_and_from_disk() {
    for diskless in ["yes", "no"] {
        let source = TestServer::start(&["--repl-diskless-sync", diskless]);
        fill(&mut source.client().await).await;
        let (chunks, received) = dump(&source.redis()).await.unwrap();
        assert_eq!(received.bytes, chunks.iter().map(|chunk| chunk.len() as u64).sum::<u64>());
        assert_eq!(received.replication_id.len(), 40);
        assert!(received.opaque.is_none());
        let summary = received.summary.unwrap();
        assert_eq!(summary.version, Some(Version::redis(10)));
        assert_eq!((summary.databases.len(), summary.functions), (16, 1));
        assert_eq!(summary.databases[&0].expiring, 2);
        assert_eq!(summary.databases[&0].keys[&Kind::Stream], 3);

        let target = TestServer::start(&[]);
        let mut client = target.client().await;
        line(&mut client, "RPUSH list old old").await;
        line(&mut client, "SELECT 7").await;
        line(&mut client, "SADD here old").await;
        for round in 0..2 {
            let tally = load(&target.redis(), &chunks, LONG_AGO).await.unwrap();
            assert_eq!(tally.total(), summary.total());
            let expected = if round == 0 { 2 } else { summary.total() };
            assert!(tally.replaced_known);
            assert_eq!(tally.replaced, expected, "round {round}");
            let by_kind = summary.databases.values().flat_map(|database| &database.keys);
            let by_kind = by_kind.fold(BTreeMap::new(), |mut sums, (kind, count)| {
                *sums.entry(*kind).or_insert(0) += count;
                sums
            });
            assert_eq!(tally.restored, by_kind);
            assert_eq!(source.digest().await, target.digest().await, "round {round}");
        }
        // DEBUG DIGEST knows no functions and no pending entries.
        for question in ["XINFO STREAM stream FULL", "PEXPIRETIME later", "XPENDING stream group"] {
            let answers = [&source, &target]
                .map(async |server| line(&mut server.client().await, question).await);
            let [one, two] = answers;
            assert_eq!(one.await, two.await, "{question}");
        }
        let functions = line(&mut target.client().await, "FUNCTION LIST WITHCODE").await;
        assert!(format!("{functions:?}").contains(&format!("{:?}", bytes::Bytes::from(LIBRARY))));
    }
}

#[tokio::test]
async fn a_key_whose_time_has_passed_is_counted_and_not_written() {
    let (source, target) = (TestServer::start(&[]), TestServer::start(&[]));
    let mut client = source.client().await;
    line(&mut client, "SET gone x PXAT 4102444800000").await;
    line(&mut client, "SET stays x PXAT 4102444800001").await;
    let (chunks, _) = dump(&source.redis()).await.unwrap();
    let tally = load(&target.redis(), &chunks, 4_102_444_800_000).await.unwrap();
    assert_eq!((tally.total(), tally.expired), (1, 1));
    assert_eq!(
        line(&mut target.client().await, "KEYS *").await,
        Reply::Array(Some(vec![Reply::Bulk(Some("stays".into()))]))
    );
}

#[tokio::test]
async fn a_server_killed_in_mid_dump_is_an_error() {
    for diskless in ["yes", "no"] {
        let mut source =
            TestServer::start(&["--repl-diskless-sync", diskless, "--rdbcompression", "no"]);
        let mut client = source.client().await;
        for index in 0..8 {
            let key = format!("large-{index}");
            client.run(&[b"SET", key.as_bytes(), &noise(8 << 20)]).await.unwrap();
        }
        let mut client = connect(&source.redis(), WAIT).await.unwrap();
        let server = Server::ask(&mut client).await.unwrap();
        let mut replication = Replication::start(client, &server, WAIT).await.unwrap();
        let mut arrived = 0;
        let error = loop {
            match replication.next().await {
                Ok(Some(chunk)) => arrived += chunk.len(),
                Ok(None) => panic!("the dump ended well after {arrived} bytes"),
                Err(error) => break error,
            }
            // Socket buffers hold far less than the rest of the dump.
            if arrived > 4 << 20 {
                source.kill();
            }
        };
        assert!(
            error.to_string().starts_with("receive the dump from Redis at 127.0.0.1:"),
            "{error}"
        );
        assert!(arrived < 60 << 20);
        assert!(replication.finish().is_err(), "a cut dump was taken for a whole one");
    }
}

#[tokio::test]
async fn what_the_target_cannot_hold_is_refused_by_name() {
    let source = TestServer::start(&[]);
    let mut client = source.client().await;
    line(&mut client, "SELECT 9").await;
    line(&mut client, "SET here 1").await;
    let (chunks, _) = dump(&source.redis()).await.unwrap();
    let small = TestServer::start(&["--databases", "4"]);
    let error = load(&small.redis(), &chunks, LONG_AGO).await.unwrap_err().to_string();
    assert!(error.contains("restore database 9 into Redis at 127.0.0.1:"), "{error}");
    assert!(error.contains("raise `databases`"), "{error}");

    let full = TestServer::start(&[]);
    line(&mut full.client().await, "CONFIG SET maxmemory 1000").await;
    let error = load(&full.redis(), &chunks, LONG_AGO).await.unwrap_err().to_string();
    assert!(
        error.contains("restore key here (string) of database 9") && error.contains("OOM"),
        "{error}"
    );
    assert!(error.contains("raise maxmemory"), "{error}");

    // It evicts what was just restored, and says OK to everything.
    client
        .run(&[b"EVAL", b"for i=1,20000 do redis.call('SET', 'k'..i, i) end", b"0"])
        .await
        .unwrap();
    let (chunks, _) = dump(&source.redis()).await.unwrap();
    let evicting = TestServer::start(&["--maxmemory-policy", "allkeys-lru"]);
    let mut admin = evicting.client().await;
    let used = Server::ask(&mut admin).await.unwrap().used_memory + (1 << 20);
    line(&mut admin, &format!("CONFIG SET maxmemory {used}")).await;
    let error = load(&evicting.redis(), &chunks, LONG_AGO).await.unwrap_err().to_string();
    assert!(error.contains("it evicted ") && error.contains("raise maxmemory"), "{error}");

    let replica = TestServer::start(&["--replicaof", "127.0.0.1 1"]);
    let error = load(&replica.redis(), &chunks, LONG_AGO).await.unwrap_err().to_string();
    assert!(error.contains("it is a read-only replica of 127.0.0.1:1"), "{error}");
    assert!(error.contains("REPLICAOF NO ONE"), "{error}");
}

#[tokio::test]
async fn a_target_killed_in_mid_load_is_an_error() {
    let source = TestServer::start(&[]);
    let mut client = source.client().await;
    client
        .run(&[b"EVAL", b"for i=1,50000 do redis.call('SET', 'k'..i, i) end", b"0"])
        .await
        .unwrap();
    let (chunks, _) = dump(&source.redis()).await.unwrap();
    let mut target = TestServer::start(&[]);
    let mut loader = loader(&target.redis()).await.unwrap();
    let mut entries = coffer_rdb::entries::Entries::new(1 << 30);
    chunks.iter().for_each(|chunk| entries.feed(chunk.clone()));
    let mut sent = 0;
    let result = loop {
        let Some(event) = entries.next().unwrap() else { break loader.finish(LONG_AGO).await };
        let coffer_rdb::entries::Event::Entry(entry) = event else { continue };
        if let Err(error) = loader.restore(entry, LONG_AGO).await {
            break Err(error);
        }
        sent += 1;
        if sent == 20_000 {
            target.kill();
        }
    };
    let error = result.unwrap_err().to_string();
    assert!(error.starts_with("restore into Redis at 127.0.0.1:"), "{error}");
    assert!(error.ends_with("the connection was lost"), "{error}");
}

#[tokio::test]
async fn a_key_that_is_there_after_all_is_replaced() {
    let source = TestServer::start(&[]);
    let mut from = source.client().await;
    let target = TestServer::start(&[]);
    let mut client = target.client().await;
    // As a scan may name it: twice, the second time as it is by then. Its answer comes when another database is entered.
    let mut stream = bytes::BytesMut::new();
    for (database, key, value) in
        [("2", "key", "first"), ("2", "key", "second"), ("3", "other", "x"), ("2", "more", "y")]
    {
        line(&mut from, &format!("SET {key} {value}")).await;
        let Reply::Bulk(Some(payload)) = line(&mut from, &format!("DUMP {key}")).await else {
            panic!("no payload")
        };
        coffer_rdb::resp::write_command(&mut stream, &[b"SELECT", database.as_bytes()]);
        let restore: &[&[u8]] = &[b"RESTORE", key.as_bytes(), b"0", &payload, b"REPLACE"];
        coffer_rdb::resp::write_command(&mut stream, restore);
    }
    let mut loader = loader(&target.redis()).await.unwrap();
    let mut replay = Replay::new("/dumpfile.resp", 1 << 20);
    replay.feed(&stream, &mut loader, LONG_AGO).await.unwrap();
    replay.finish().unwrap();
    loader.finish(LONG_AGO).await.unwrap();
    line(&mut client, "SELECT 2").await;
    let value = |text: &'static str| Reply::Bulk(Some(bytes::Bytes::from_static(text.as_bytes())));
    assert_eq!(line(&mut client, "GET key").await, value("second"));
    assert_eq!(line(&mut client, "GET more").await, value("y"));
    assert_eq!(line(&mut client, "DBSIZE").await, Reply::Integer(2));
}

#[tokio::test]
async fn the_last_of_several_values_of_a_key_stays_though_it_is_large() {
    let source = TestServer::start(&[]);
    let mut from = source.client().await;
    let large = noise(100_000);
    let mut stream = bytes::BytesMut::new();
    for value in [b"first", b"other", &large[..]] {
        from.run(&[b"SET", b"key", value]).await.unwrap();
        let Reply::Bulk(Some(payload)) = line(&mut from, "DUMP key").await else {
            panic!("no payload")
        };
        coffer_rdb::resp::write_command(&mut stream, &[b"RESTORE", b"key", b"0", &payload]);
    }
    let target = TestServer::start(&[]);
    let mut loader = loader(&target.redis()).await.unwrap();
    Replay::new("/dumpfile.resp", 1 << 20).feed(&stream, &mut loader, LONG_AGO).await.unwrap();
    loader.finish(LONG_AGO).await.unwrap();
    assert_eq!(line(&mut target.client().await, "GET key").await, Reply::Bulk(Some(large.into())));
}

/// How often SET and RESTORE were called and did something.
async fn calls(server: &TestServer) -> (u64, u64) {
    let Reply::Bulk(Some(stats)) = line(&mut server.client().await, "INFO commandstats").await
    else {
        panic!("no statistics")
    };
    let stats = String::from_utf8(stats.to_vec()).unwrap();
    let of = |command: &str| {
        let Some(line) = stats.lines().find_map(|line| line.strip_prefix(command)) else {
            return 0;
        };
        let count = |name: &str| {
            let fields = line.split(',').filter_map(|field| field.split_once('='));
            let count = fields.into_iter().find(|(field, _)| *field == name).unwrap().1;
            count.trim().parse::<u64>().unwrap()
        };
        count("calls") - count("failed_calls")
    };
    (of("cmdstat_set:"), of("cmdstat_restore:"))
}

#[tokio::test]
async fn large_strings_go_by_set_where_it_comes_to_the_same() {
    let source = TestServer::start(&[]);
    let mut client = source.client().await;
    let large = noise(3_000_000);
    client.run(&[b"SET", b"plain", &large]).await.unwrap();
    client.run(&[b"SET", b"expires", &large, b"PXAT", b"4102444800000"]).await.unwrap();
    client.run(&[b"SET", b"packed", &[b'a'; 3_000_000]]).await.unwrap();
    client.run(&[b"RPUSH", b"list", &large, &large]).await.unwrap();
    line(&mut client, "SET small text").await;
    let (chunks, _) = dump(&source.redis()).await.unwrap();

    let target = TestServer::start(&[]);
    line(&mut target.client().await, "RPUSH plain old").await;
    for round in 1..=2 {
        let tally = load(&target.redis(), &chunks, LONG_AGO).await.unwrap();
        assert_eq!((tally.total(), tally.replaced), (5, if round == 1 { 1 } else { 5 }));
        assert_eq!(calls(&target).await, (2 * round, 3 * round));
        assert_eq!(source.digest().await, target.digest().await);
        let expiry = line(&mut target.client().await, "PEXPIRETIME expires").await;
        assert_eq!(expiry, Reply::Integer(4_102_444_800_000));
    }
    // Whoever may not SET can still restore.
    let target = TestServer::start(&[]);
    line(&mut target.client().await, "ACL SETUSER default -set").await;
    load(&target.redis(), &chunks, LONG_AGO).await.unwrap();
    assert_eq!(calls(&target).await, (0, 5));
    assert_eq!(source.digest().await, target.digest().await);
    // SET says nothing of how long a key was not used.
    line(&mut client, "CONFIG SET maxmemory-policy allkeys-lru").await;
    let (chunks, _) = dump(&source.redis()).await.unwrap();
    let target = TestServer::start(&[]);
    load(&target.redis(), &chunks, LONG_AGO).await.unwrap();
    assert_eq!(calls(&target).await, (0, 5));
    assert_eq!(source.digest().await, target.digest().await);
}

#[tokio::test]
async fn a_stash_dump_is_replayed_and_a_repeat_does_no_harm() {
    let target = TestServer::start(&[]);
    let mut client = target.client().await;
    line(&mut client, "RPUSH list old").await;
    line(&mut client, "SET hash text").await;
    let mut stream = bytes::BytesMut::new();
    let commands: &[&[&[u8]]] = &[
        &[b"SELECT", b"0"],
        &[b"RPUSH", b"list", b"a", b"b"],
        &[b"SET", b"bin\x00", b"\r\n\xff"],
        &[b"RPUSH", b"list", b"c"],
        &[b"HSET", b"hash", b"f", b"v"],
        &[b"EXPIREAT", b"hash", b"4102444800"],
        &[b"SELECT", b"3"],
        &[b"ZADD", b"zset", b"1.5", b"a", b"inf", b"b"],
        &[b"SADD", b"set", b"x"],
        &[b"SET", b"__redisdump_total_keys", b"8"],
    ];
    for command in commands {
        coffer_rdb::resp::write_command(&mut stream, command);
    }
    // Of two keys at a time, whose expiries come later: one was over when it was written.
    coffer_rdb::resp::write_command(&mut stream, &[b"SADD", b"gone", b"x"]);
    coffer_rdb::resp::write_command(&mut stream, &[b"SET", b"between", b"x"]);
    coffer_rdb::resp::write_command(&mut stream, &[b"PEXPIREAT", b"gone", b"1000"]);
    for replaced in [2, 6] {
        let mut loader = loader(&target.redis()).await.unwrap();
        let mut replay = Replay::new("/dumpfile.resp", 1 << 20);
        for piece in stream.chunks(7) {
            replay.feed(piece, &mut loader, LONG_AGO).await.unwrap();
        }
        assert_eq!(replay.finish().unwrap(), None);
        let tally = loader.finish(LONG_AGO).await.unwrap();
        assert_eq!((tally.total(), tally.replaced), (6, replaced));
        assert_eq!((tally.restored[&Kind::List], tally.restored[&Kind::Set]), (1, 1));
        assert_eq!((tally.expired, tally.read), (1, 7));
        assert_eq!(line(&mut client, "LLEN list").await, Reply::Integer(3));
        assert_eq!(line(&mut client, "PEXPIRETIME hash").await, Reply::Integer(4_102_444_800_000));
    }
    line(&mut client, "SELECT 3").await;
    assert_eq!(line(&mut client, "DBSIZE").await, Reply::Integer(3));

    // One key fewer than announced is said; a command that no dump holds is refused.
    let mut loader = loader(&target.redis()).await.unwrap();
    let mut replay = Replay::new("/dumpfile.resp", 1 << 20);
    let short = b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n*3\r\n$3\r\nSET\r\n$22\r\n__redisdump_total_keys\r\n$1\r\n9\r\n";
    replay.feed(short, &mut loader, LONG_AGO).await.unwrap();
    assert!(replay.finish().unwrap().unwrap().contains("announces 8 keys and holds 1"));
    let mut replay = Replay::new("/dumpfile.resp", 1 << 20);
    let error = replay.feed(b"*1\r\n$8\r\nFLUSHALL\r\n", &mut loader, LONG_AGO).await.unwrap_err();
    assert!(error.to_string().contains("refuse to replay the command FLUSHALL"), "{error}");
    let mut replay = Replay::new("/dumpfile.resp", 1 << 20);
    replay.feed(b"*3\r\n$3\r\nSET\r\n", &mut loader, LONG_AGO).await.unwrap();
    assert!(replay.finish().is_err(), "a cut dump passed");
}

/// `args: --pipe-timeout` as redis-cli has it: how long the last answers may take, 0 for ever.
#[tokio::test]
async fn the_last_answers_are_waited_for_as_long_as_is_said() {
    for (seconds, pause_ms) in [(1, "60000"), (0, "1500")] {
        let server = TestServer::start(&[]);
        let pipe_timeout = Some(Duration::from_secs(seconds));
        let options = LoadOptions { pipe_timeout, ..LoadOptions::default() };
        let loader = loader_with(&server.redis(), options).await.unwrap();
        line(&mut server.client().await, &format!("CLIENT PAUSE {pause_ms} ALL")).await;
        let begun = Instant::now();
        let ended = loader.finish(LONG_AGO).await.map(|tally| tally.total());
        assert!(begun.elapsed() < Duration::from_secs(20));
        match ended {
            Ok(keys) => assert_eq!((seconds, keys), (0, 0)),
            Err(error) => {
                let text = error.to_string();
                assert!(seconds == 1 && text.contains("--pipe-timeout"), "{seconds}: {text}");
            }
        }
    }
}
