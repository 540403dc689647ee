//! The ways out besides the first: scans and commands, parts of the data, and what is told about them.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "tests")]

mod support;

use std::io::Write as _;
use std::process::{Command, Stdio};

use coffer_api::session::{Redis, Sensitive};
use coffer_proto::storage::v1::Manifest;
use coffer_rdb::resp::Reply;
use support::gateway::Services;
use support::job::{backed_up, backup, failed, restore, restored};
use support::{PASSWORD, TestServer, fill, line, size};

#[tokio::test]
async fn a_scan_holds_everything_in_either_order_and_redis_cli_reads_it() {
    let (source, services) = (TestServer::start(&[]), Services::default());
    fill(&mut source.client().await).await;
    let endpoint = services.serve().await;
    let scratch = tempfile::tempdir().unwrap();
    let dir = format!("--scratch-dir={}", scratch.path().display());
    let mut counts = vec![];
    for more in [
        &["--method=replication"][..],
        &["--method=scan"],
        &["--method=scan", "--pace=full"],
        &["--order=canonical", &dir],
    ] {
        let done = backed_up(backup(source.redis(), &endpoint, more).await);
        counts.push(done.keys.clone());
        if more[0] == "--method=replication" {
            continue;
        }
        assert_eq!((done.method.as_str(), done.path.as_str()), ("scan", "dumpfile.resp"));
        assert!(done.counted);
        for _ in 0..2 {
            let target = TestServer::start(&[]);
            let outcome = restore(target.redis(), &endpoint, &[]).await;
            assert_eq!(outcome.warnings, [] as [&str; 0]);
            let done = restored(outcome);
            assert_eq!((&done.restored, done.functions), (&counts[0], 1));
            assert_eq!(source.digest().await, target.digest().await);
        }
    }
    assert!(counts.iter().all(|count| *count == counts[0]), "{counts:?}");
    // Canonical: names in order within each database, whatever the server's table looks like.
    let data = services.get(|stored| stored.data.clone());
    let mut reader = coffer_rdb::resp::CommandReader::new(1 << 30);
    reader.feed(&data);
    let mut last = None;
    while let Some(command) = reader.next().unwrap() {
        match &command[0][..] {
            b"SELECT" => last = None,
            b"RESTORE" => {
                assert!(last.is_none_or(|last| last < command[1]));
                last = Some(command[1].clone());
            }
            _ => {}
        }
    }
    // Without Coffer.
    let target = TestServer::start(&[]);
    target.client().await;
    let mut cli = Command::new("redis-cli")
        .args(["-p", &target.port.to_string(), "--pipe"])
        .env("REDISCLI_AUTH", PASSWORD)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    cli.stdin.take().unwrap().write_all(&data).unwrap();
    assert!(cli.wait().unwrap().success());
    assert_eq!(source.digest().await, target.digest().await);
}

#[tokio::test]
async fn auto_goes_down_the_list_and_says_why() {
    let (source, services) = (TestServer::start(&[]), Services::default());
    let mut admin = source.client().await;
    line(&mut admin, "SET k v").await;
    line(&mut admin, "ACL SETUSER scanner on >pw %R~* +scan +dump +pexpiretime +memory|usage +info +ping +select +function|dump").await;
    line(&mut admin, "ACL SETUSER nothing on >pw +info +ping").await;
    let endpoint = services.serve().await;
    let user = |name: &str| Redis {
        username: Some(name.to_owned()),
        password: Some(Sensitive::new("pw")),
        ..source.redis()
    };
    let done = backed_up(backup(user("scanner"), &endpoint, &[]).await);
    assert_eq!(done.method, "scan");
    let why = "by scan from master 127.0.0.1:";
    assert!(done.reason.starts_with(why), "{}", done.reason);
    assert!(
        done.reason.contains("replication is not possible: run REPLCONF on Redis"),
        "{}",
        done.reason
    );
    services.get(|stored| {
        assert_eq!(stored.manifest.as_ref().unwrap().method, "scan");
        assert!(stored.header.as_ref().unwrap().tags.contains(&"coffer:method=scan".to_owned()));
    });
    line(&mut admin, "CONFIG SET repl-diskless-sync-delay 2").await;
    let done = backed_up(backup(source.redis(), &endpoint, &[]).await);
    assert!(done.reason.contains("; the server began after "), "{}", done.reason);
    line(&mut admin, "CONFIG SET repl-diskless-sync-delay 60").await;
    let failure = failed(backup(source.redis(), &endpoint, &["--wait-timeout=1"]).await);
    assert_eq!(failure.class, "Unavailable");
    assert!(failure.error.contains("after 1 s: it has not forked"), "{}", failure.error);
    // Without the moment at which a time to live ends there is what is left of it.
    line(&mut admin, "SET k v PXAT 4102444800123").await;
    line(&mut admin, "ACL SETUSER scanner -pexpiretime +pttl +time").await;
    for method in ["--method=scan", "--method=portable"] {
        let more: &[_] = if method == "--method=scan" { &[] } else { &["+@read", "+type"] };
        for right in more {
            line(&mut admin, &format!("ACL SETUSER scanner {right} -pexpiretime")).await;
        }
        let outcome = backup(user("scanner"), &endpoint, &[method]).await;
        let said = "grant +pexpiretime";
        assert!(outcome.warnings.iter().any(|text| text.contains(said)), "{outcome:?}");
        backed_up(outcome);
        let target = TestServer::start(&[]);
        restored(restore(target.redis(), &endpoint, &[]).await);
        let ends = line(&mut target.client().await, "PEXPIRETIME k").await;
        assert!(matches!(ends, Reply::Integer(4102444800121..=4102444800125)), "{ends:?}");
    }
    let failure = failed(backup(user("scanner"), &endpoint, &["--method=replication"]).await);
    assert_eq!(failure.class, "Denied");
    let failure = failed(backup(user("nothing"), &endpoint, &[]).await);
    assert_eq!(failure.class, "Denied");
    assert!(failure.error.contains("+scan +dump"), "{}", failure.error);
}

#[tokio::test]
async fn parts_of_the_data_go_out_and_in() {
    let (source, services) = (TestServer::start(&[]), Services::default());
    fill(&mut source.client().await).await;
    let endpoint = services.serve().await;
    // Out: one database and a pattern, in Stash's words and in ours.
    let done = backed_up(backup(source.redis(), &endpoint, &["--redis-args=-db 3"]).await);
    assert_eq!((done.method.as_str(), done.keys.values().sum::<u64>()), ("scan", 1));
    assert!(done.reason.contains("a part of the keys is asked for"), "{}", done.reason);
    let more = &["--include=string-1*,int", "--exclude=string-1?", "--databases=0,2-3"];
    let done = backed_up(backup(source.redis(), &endpoint, more).await);
    assert_eq!(done.keys.values().sum::<u64>(), 1 + 1 + 100 + 1000);

    // In, from everything.
    backed_up(backup(source.redis(), &endpoint, &["--method=replication"]).await);
    let target = TestServer::start(&[]);
    let more = &["--types=hash,stream", "--include=big-*,hash", "--databases=0"];
    let done = restored(restore(target.redis(), &endpoint, more).await);
    assert_eq!(
        done.restored.iter().map(|(k, v)| (k.as_str(), *v)).collect::<Vec<_>>(),
        [("hash", 2), ("stream", 1)]
    );
    assert_eq!(done.functions, 0);
    let more = &["--databases=3,4", "--database-map=3:9,4:3"];
    let done = restored(restore(target.redis(), &endpoint, more).await);
    assert_eq!(done.restored.values().sum::<u64>(), 2);
    for (database, value) in [(9, "3"), (3, "4")] {
        let mut client = target.client().await;
        line(&mut client, &format!("SELECT {database}")).await;
        assert_eq!(line(&mut client, "GET here").await, Reply::Bulk(Some(value.into())));
    }
    // Also without a manifest that could tell which databases there are, or all of them.
    let uncounted = |manifest: Option<Manifest>| {
        manifest.map(|manifest| Manifest { counted: false, databases: vec![], ..manifest })
    };
    let changes: [fn(Option<Manifest>) -> Option<Manifest>; 3] = [|same| same, uncounted, |_| None];
    for method in ["--method=replication", "--method=scan", "--method=portable"] {
        backed_up(backup(source.redis(), &endpoint, &[method]).await);
        for change in changes {
            services.set(|stored| stored.manifest = change(stored.manifest.take()));
            let more = &["--database-map=3:4", "--flush=true"];
            let failure = failed(restore(target.redis(), &endpoint, more).await);
            assert!(failure.error.contains("databases 3 and 4"), "{}", failure.error);
            assert!(size(&target).await > 0, "it was emptied");
        }
    }
    // Nothing of the other one is meant.
    let more = &["--database-map=3:4", "--databases=3"];
    restored(restore(target.redis(), &endpoint, more).await);
}

#[tokio::test]
async fn databases_that_hold_nothing_are_told() {
    let (source, services) = (TestServer::start(&[]), Services::default());
    line(&mut source.client().await, "SET a 1").await;
    let endpoint = services.serve().await;
    for method in ["--method=auto", "--method=scan", "--method=portable"] {
        for wrong in ["--redis-args=-db 300", "--databases=0,300", "--databases=300-400"] {
            let failure = failed(backup(source.redis(), &endpoint, &[method, wrong]).await);
            let said = "scan database 300 of Redis at 127.0.0.1:";
            assert!(failure.error.contains(said), "{method} {wrong}: {}", failure.error);
            assert!(failure.error.contains("out of range"), "{}", failure.error);
            assert!(failure.error.contains("databases (args -db)"), "{}", failure.error);
            assert_eq!(failure.class, "Invalid");
        }
        for (empty, keys, told) in [
            ("--redis-args=-db 3", 0, &["of database 3: the server has keys in database 0"][..]),
            ("--databases=0,3,5-6", 1, &["of databases 3, 5-6: "]),
            ("--databases=0-15", 1, &[]),
        ] {
            let outcome = backup(source.redis(), &endpoint, &[method, empty]).await;
            let warnings = outcome.warnings.concat();
            assert_eq!(outcome.warnings.is_empty(), told.is_empty(), "{empty}: {warnings}");
            assert!(told.iter().all(|told| warnings.contains(told)), "{empty}: {warnings}");
            assert_eq!(backed_up(outcome).keys.values().sum::<u64>(), keys, "{empty}");
        }
    }
}

#[tokio::test]
async fn typed_commands_hold_every_type() {
    let (source, services) = (TestServer::start(&[]), Services::default());
    let mut client = source.client().await;
    fill(&mut client).await;
    let endpoint = services.serve().await;
    let expected = backed_up(backup(source.redis(), &endpoint, &[]).await).keys;
    let scratch = tempfile::tempdir().unwrap();
    let dir = format!("--scratch-dir={}", scratch.path().display());
    for more in [&["--method=portable"][..], &["--method=portable", "--order=canonical", &dir]] {
        let done = backed_up(backup(source.redis(), &endpoint, more).await);
        assert_eq!((done.method.as_str(), &done.keys), ("portable", &expected));
        let target = TestServer::start(&[]);
        for _ in 0..2 {
            let done = restored(restore(target.redis(), &endpoint, &[]).await);
            assert_eq!((&done.restored, done.functions), (&expected, 1));
            assert_eq!(source.digest().await, target.digest().await);
        }
        let mut there = target.client().await;
        for question in ["XPENDING stream group", "XINFO CONSUMERS no-entries g", "XLEN no-entries"]
        {
            assert_eq!(line(&mut client, question).await, line(&mut there, question).await);
        }
    }
    // Managed servers that refuse DUMP, too.
    line(&mut client, "ACL SETUSER reader on >pw ~* +@read +info +ping +select -dump -function")
        .await;
    let reader = Redis {
        username: Some("reader".to_owned()),
        password: Some(Sensitive::new("pw")),
        ..source.redis()
    };
    let done = backed_up(backup(reader, &endpoint, &[]).await);
    assert_eq!((done.method.as_str(), &done.keys), ("portable", &expected));
    assert!(done.reason.contains("replication is not possible"), "{}", done.reason);
    assert!(done.reason.contains("scan is not possible: run DUMP on Redis"), "{}", done.reason);
}

#[tokio::test]
async fn functions_and_the_use_of_keys_are_kept_or_remarked_on() {
    let lfu = &["--maxmemory-policy", "allkeys-lfu", "--lfu-decay-time", "0"];
    let (source, target, services) =
        (TestServer::start(lfu), TestServer::start(lfu), Services::default());
    let endpoint = services.serve().await;
    let (mut client, mut there) = (source.client().await, target.client().await);
    client.run(&[b"FUNCTION", b"LOAD", support::LIBRARY]).await.unwrap();
    line(&mut client, "SET k v").await;
    for _ in 0..500 {
        line(&mut client, "GET k").await;
    }
    let often = line(&mut client, "OBJECT FREQ k").await;
    assert_ne!(often, Reply::Integer(5), "as a new one");
    let outcome = backup(source.redis(), &endpoint, &["--method=scan", "--exclude=cache:*"]).await;
    assert_eq!(outcome.warnings, [] as [&str; 0]);
    backed_up(outcome);
    let done = restored(restore(target.redis(), &endpoint, &["--exclude=cache:*"]).await);
    assert_eq!(done.functions, 1);
    assert_eq!(line(&mut there, "OBJECT FREQ k").await, often);

    for client in [&mut client, &mut there] {
        line(client, "CONFIG SET maxmemory-policy volatile-lru").await;
    }
    let Reply::Bulk(Some(payload)) = line(&mut client, "DUMP k").await else { panic!() };
    let idle: &[&[u8]] = &[b"RESTORE", b"k", b"0", &payload, b"REPLACE", b"IDLETIME", b"1000"];
    client.run(idle).await.unwrap();
    backed_up(backup(source.redis(), &endpoint, &["--method=scan"]).await);
    restored(restore(target.redis(), &endpoint, &[]).await);
    let Reply::Integer(1000..1100) = line(&mut there, "OBJECT IDLETIME k").await else { panic!() };

    let scratch = tempfile::tempdir().unwrap();
    let dir = format!("--scratch-dir={}", scratch.path().display());
    for (more, what) in [
        (&["--method=scan", "--include=k"][..], "function libraries are not in this backup"),
        (&["--order=canonical", &dir], "maxmemory-policy volatile-lru goes by: it changes"),
        (&["--method=portable"], "maxmemory-policy volatile-lru goes by: typed commands"),
    ] {
        let outcome = backup(source.redis(), &endpoint, more).await;
        let [warning] = &outcome.warnings[..] else { panic!("{:?}", outcome.warnings) };
        assert!(warning.contains(what), "{warning}");
        backed_up(outcome);
    }
}
