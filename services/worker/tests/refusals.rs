//! What a user is told when a Redis cannot be reached, entered or used.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "tests")]

mod support;

use std::time::{Duration, Instant};

use coffer_api::session::{Redis, RedisTls, Sensitive};
use coffer_runtime::fault::{Class, Fault as _, chain};
use coffer_worker::options::Prefer;
use coffer_worker::redis::{Error, Server, connect, find};
use support::makes::Make;
use support::{Certificates, PASSWORD, TestServer, WAIT, dump, fill, free_port, line, load};

/// Expects a failure to connect, well before the wait is over; gives class and chain.
async fn refused(redis: &Redis) -> (Class, String) {
    let begun = Instant::now();
    let error = connect(redis, Duration::from_secs(60)).await.map(drop).unwrap_err();
    assert!(begun.elapsed() < Duration::from_secs(30), "waited for what waiting cannot mend");
    let text = chain(&error);
    assert!(!text.contains(PASSWORD), "{text}");
    (error.class(), text)
}

#[tokio::test]
async fn passwords_and_users() {
    let server = TestServer::start(&[]);
    server.client().await;
    let with = |username: Option<&str>, password: Option<&str>| Redis {
        username: username.map(str::to_owned),
        password: password.map(Sensitive::new),
        ..server.redis()
    };
    for (redis, said) in [
        (with(None, Some("wrong")), "as the default user: WRONGPASS"),
        (with(None, None), "as the default user: NOAUTH"),
        (with(Some("nobody"), Some(PASSWORD)), "as user nobody: WRONGPASS"),
    ] {
        let (class, text) = refused(&redis).await;
        assert_eq!(class, Class::Unauthenticated);
        assert!(text.starts_with("log in to Redis at 127.0.0.1:") && text.contains(said), "{text}");
        assert!(text.contains("check the keys `password` and `username`"), "{text}");
    }
    connect(&with(Some("default"), Some(PASSWORD)), WAIT).await.unwrap();
    // A server without a password takes whoever brings one, as with redis-cli.
    let open = TestServer::start(&["--requirepass", ""]);
    connect(&Redis { port: open.port, ..server.redis() }, WAIT).await.unwrap();
    // A socket in the file system.
    let path = server.dir().join("redis.sock");
    let local = TestServer::start(&["--unixsocket", path.to_str().unwrap()]);
    local.client().await;
    let socket = Redis { host: path.to_str().unwrap().to_owned(), port: 0, ..local.redis() };
    connect(&socket, WAIT).await.unwrap();
    // Both address families.
    for host in ["::1", "[::1]", "localhost"] {
        connect(&Redis { host: host.to_owned(), ..server.redis() }, WAIT).await.unwrap();
    }
}

#[tokio::test]
async fn rights_are_named_with_the_rule_that_grants_them() {
    let server = TestServer::start(&[]);
    let mut admin = server.client().await;
    line(&mut admin, "ACL SETUSER reader on >pw ~* +@read +info +ping").await;
    line(&mut admin, "ACL SETUSER backup on >pw +psync +replconf +ping +info").await;
    line(
        &mut admin,
        "ACL SETUSER restore on >pw ~* +restore +select +ping +info +dbsize +function|load",
    )
    .await;
    line(&mut admin, "SET k v").await;
    admin.run(&[b"FUNCTION", b"LOAD", support::LIBRARY]).await.unwrap();
    let user = |name: &str| Redis {
        username: Some(name.to_owned()),
        password: Some(Sensitive::new("pw")),
        ..server.redis()
    };
    let error = dump(&user("reader")).await.map(drop).unwrap_err();
    assert_eq!(error.class(), Class::Denied);
    let text = error.to_string();
    assert!(text.contains("run REPLCONF on Redis at") && text.contains("NOPERM"), "{text}");
    assert!(text.contains("grant the AppBinding's user `+psync +replconf +ping +info`"), "{text}");

    // The documented rules are enough, and no right to any key is needed for a backup.
    let (chunks, _) = dump(&user("backup")).await.unwrap();
    let tally = load(&user("restore"), &chunks, 0).await.unwrap();
    assert_eq!((tally.total(), tally.replaced_known), (1, false));
    let error = load(&user("backup"), &chunks, 0).await.unwrap_err();
    assert_eq!(error.class(), Class::Denied, "{error}");
    assert!(error.to_string().contains("NOPERM"), "{error}");
}

#[tokio::test]
async fn nobody_there() {
    let redis = Redis { host: "127.0.0.1".to_owned(), port: free_port(), ..Redis::default() };
    let error = connect(&redis, Duration::from_secs(1)).await.map(drop).unwrap_err();
    assert_eq!(error.class(), Class::Unavailable);
    let text = chain(&error);
    assert!(text.contains("no answer within 1 s") && text.contains("Connection refused"), "{text}");
    let redis = Redis { host: "redis.does-not-exist.invalid".to_owned(), ..redis };
    let error = connect(&redis, Duration::from_secs(1)).await.map(drop).unwrap_err();
    let text = chain(&error);
    assert!(text.contains("reach Redis at redis.does-not-exist.invalid:"), "{text}");
}

#[tokio::test]
async fn a_server_that_comes_up_late_is_waited_for() {
    let port = free_port();
    let redis = Redis {
        host: "127.0.0.1".to_owned(),
        port,
        password: Some(Sensitive::new(PASSWORD)),
        ..Redis::default()
    };
    let connecting = tokio::spawn(async move { connect(&redis, WAIT).await.map(drop) });
    // Nobody listens while the first attempts are made.
    tokio::task::yield_now().await;
    let _server = TestServer::start(&["--port", &port.to_string()]);
    connecting.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_server_that_loads_its_data_is_waited_for() {
    let source = TestServer::start(&[]);
    fill(&mut source.client().await).await;
    let mut client = source.client().await;
    line(&mut client, "SAVE").await;
    let dir = source.dir();
    let args = [
        "--dir",
        dir.to_str().unwrap(),
        "--key-load-delay",
        "200",
        "--loading-process-events-interval-bytes",
        "1024",
    ];
    let loading = TestServer::start(&args);
    let error = connect(&loading.redis(), Duration::from_millis(300)).await.map(drop).unwrap_err();
    assert!(matches!(error, Error::NotReady { .. } | Error::Unreachable { .. }), "{error}");
    let mut client = connect(&loading.redis(), WAIT).await.unwrap();
    assert!(Server::ask(&mut client).await.unwrap().keys > 1000);
}

#[tokio::test]
async fn a_cluster_that_is_not_in_order_is_refused() {
    let server = Make::MACHINE.start_for_cluster();
    let wait = Duration::from_secs(1);
    server.client().await;
    let error = find(&server.redis(), wait, "", Prefer::ToWrite).await.map(drop).unwrap_err();
    assert_eq!(error.class(), Class::Unavailable);
    assert!(error.to_string().contains("slot 0 has no master"), "{error}");
}

#[tokio::test]
async fn a_master_that_no_sentinel_was_asked_for_is_refused() {
    let server = TestServer::start(&[]);
    for prefer in [Prefer::Any, Prefer::ToWrite] {
        let error = find(&server.redis(), WAIT, "mymaster", prefer).await.map(drop).unwrap_err();
        assert_eq!(error.class(), Class::Invalid);
        let said = "is no Sentinel, and the Task's param sentinelMaster names mymaster";
        assert!(error.to_string().contains(said), "{error}");
    }
}

#[tokio::test]
async fn tls_and_its_mistakes() {
    let certificates = Certificates::new();
    let server = TestServer::start_tls(&certificates, &[]);
    fill(&mut server.client().await).await;
    let (chunks, received) = dump(&server.redis()).await.unwrap();
    let target = TestServer::start(&[]);
    load(&target.redis(), &chunks, 0).await.unwrap();
    assert_eq!(server.digest().await, target.digest().await);
    assert!(received.bytes > 20 << 20);

    let given = server.tls.clone().unwrap();
    let with = |tls: RedisTls| Redis { tls: Some(tls), ..server.redis() };
    let anonymous = RedisTls { certificate: None, key: None, ..given.clone() };
    let other = RedisTls { ca: Some(certificates.other_ca.clone()), ..given.clone() };
    let named = |name: &str| Some(name.to_owned());
    for (redis, said) in [
        (
            with(anonymous),
            "the server asks for a client certificate; name its Secret in the AppBinding's spec.tlsSecret",
        ),
        (with(other.clone()), "is not signed by the CA in clientConfig.caBundle"),
        (
            with(RedisTls { server_name: named("redis.example"), ..given.clone() }),
            "is for another name; set clientConfig.serverName",
        ),
        (
            Redis { tls: None, ..server.redis() },
            "the server expects TLS; set clientConfig.caBundle",
        ),
        (
            Redis { tls: Some(given.clone()), ..target.redis() },
            "the server does not speak TLS on this port",
        ),
        (
            with(RedisTls { ca: named("nonsense"), ..given.clone() }),
            "the CA bundle holds no certificate",
        ),
        (with(RedisTls { key: None, ..given.clone() }), "the client certificate has no key"),
    ] {
        let (class, text) = refused(&redis).await;
        assert_eq!(class, Class::Invalid, "{text}");
        assert!(text.contains(said), "{text}");
    }
    connect(&with(RedisTls { insecure_skip_verify: true, ..other }), WAIT).await.unwrap();
    let by_name = RedisTls { server_name: named("localhost"), ..given.clone() };
    connect(&with(by_name), WAIT).await.unwrap();

    // A server that another names: its certificate is for itself, or for the service.
    let at = |host: &str, also: &str| Redis {
        host: host.to_owned(),
        tls: Some(RedisTls { also_named: named(also), ..given.clone() }),
        ..server.redis()
    };
    connect(&at("127.0.0.1", "redis.example"), WAIT).await.unwrap();
    connect(&at("::1", "localhost"), WAIT).await.unwrap();
    let (_, text) = refused(&at("::1", "redis.example")).await;
    assert!(text.contains("is for another name"), "{text}");
}
