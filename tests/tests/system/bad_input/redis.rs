//! What is wrong with the Redis: credentials, rights, address, TLS, topology, room.

use anyhow::Result;
use coffer_api::backup_session::SessionPhase;
use coffer_runtime::authority::Authority;
use coffer_tests::{
    redis_server::{self, RedisServer},
    world::{NAMESPACE, World, configuration},
};
use k8s_openapi::ByteString;

use super::{
    COFFER, backup_shows, latest, restore_shows, secret, still, with_snapshot, with_snapshot_of,
};

#[tokio::test]
async fn a_wrong_password() -> Result<()> {
    let (world, id) = with_snapshot().await?;
    world.apply(&secret("orders-auth", "password", "wrong"))?;
    let port = world.redis.port.to_string();
    backup_shows(&world, "bad", &["127.0.0.1", &port, "password"]).await?;
    restore_shows(&world, "bad-restore", "orders", &["127.0.0.1", "password"]).await?;
    still(&world, &id)
}

#[tokio::test]
async fn a_user_without_rights() -> Result<()> {
    let (world, id) = with_snapshot().await?;
    world
        .redis
        .command::<()>(&["ACL", "SETUSER", "poor", "on", ">pw", "+ping", "+info", "~*"])
        .await?;
    let auth = format!(
        "{{apiVersion: v1, kind: Secret, metadata: {{name: orders-auth, namespace: {NAMESPACE}}}, stringData: {{username: poor, password: pw}}}}"
    );
    world.apply(&auth)?;
    backup_shows(&world, "bad", &["NOPERM", "+psync", "+scan", "127.0.0.1"]).await?;
    restore_shows(&world, "bad-restore", "orders", &["NOPERM", "127.0.0.1"]).await?;
    still(&world, &id)
}

/// The configuration of the others, which waits a second for its Redis instead of five minutes.
fn impatient() -> String {
    let quick = "task: {name: redis-backup-7.0.5, params: [{name: waitTimeout, value: \"1\"}]}";
    configuration("orders", "0 0 1 1 *", "").replace("task: {name: redis-backup-7.0.5}", quick)
}

/// Nobody listens; somebody listens who hangs up without a word; and one who says nothing at all.
#[tokio::test]
async fn a_host_that_does_not_answer() -> Result<()> {
    let (mut world, id) = with_snapshot().await?;
    world.apply(&impatient())?;
    world.redis.kill();
    let port = world.redis.port.to_string();
    backup_shows(&world, "refused", &["127.0.0.1", &port, "refused"]).await?;

    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let silent_port = silent.local_addr()?.port().to_string();
    world.apply(&world.app_binding("orders", &world.redis).replace(&port, &silent_port))?;
    let hang_up = async { while silent.accept().await.is_ok() {} };
    let texts = ["127.0.0.1", &silent_port, "closed without an answer"];
    tokio::select! {
        shown = backup_shows(&world, "hangs-up", &texts) => shown?,
        () = hang_up => {}
    }
    // Now nobody takes the connections that the system accepts.
    let texts = ["127.0.0.1", &silent_port, "accepted, but nothing answers"];
    backup_shows(&world, "silent", &texts).await?;
    still(&world, &id)
}

#[tokio::test]
async fn tls_that_is_expected_or_not() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let authority = Authority::generate()?;
    let identity = authority.issue_plain("redis", &["127.0.0.1"])?;
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).map(|()| path.display().to_string())
    };
    let certificate = file("tls.crt", &identity.certificates)?;
    let key = file("tls.key", identity.key.reveal())?;
    let ca = file("ca.crt", authority.certificate())?;
    let tls_port = redis_server::free_port()?;
    let config = vec![
        format!("tls-port {tls_port}"),
        format!("tls-cert-file {certificate}"),
        format!("tls-key-file {key}"),
        format!("tls-ca-cert-file {ca}"),
        "tls-auth-clients no".to_owned(),
    ];
    let options = redis_server::Options { config, ..Default::default() };
    let (world, _) = with_snapshot_of(options).await?;
    let plain = format!("\"redis://127.0.0.1:{}\"", world.redis.port);
    let reach = |url: &str, more: &str| {
        let url = format!("\"{url}\"{more}");
        world.apply(&world.app_binding("orders", &world.redis).replace(&plain, &url))
    };
    let bundle = |authority: &Authority| {
        let bytes = ByteString(authority.certificate().as_bytes().to_vec());
        serde_json::to_string(&bytes).map(|text| format!(", caBundle: {text}"))
    };
    let rediss = format!("rediss://127.0.0.1:{tls_port}");
    // With the right authority it works, which shows that the others fail for their reason.
    reach(&rediss, &bundle(&authority)?)?;
    let status = world.back_up("good-tls", "orders").await?;
    assert_eq!(status.phase, Some(SessionPhase::Succeeded), "{status:#?}");
    let id = latest(&world.restic())?;

    let port = tls_port.to_string();
    reach(&format!("redis://127.0.0.1:{tls_port}"), "")?;
    backup_shows(&world, "plain-to-tls", &["TLS", "127.0.0.1", &port]).await?;
    reach(&format!("rediss://127.0.0.1:{}", world.redis.port), "")?;
    backup_shows(&world, "tls-to-plain", &["TLS", "127.0.0.1"]).await?;
    reach(&rediss, &bundle(&Authority::generate()?)?)?;
    backup_shows(&world, "wrong-authority", &["TLS", "certificate", "127.0.0.1", &port]).await?;
    restore_shows(&world, "bad-restore", "orders", &["TLS", "certificate", &port]).await?;
    still(&world, &id)
}

#[tokio::test]
async fn without_its_secret_or_its_app_binding() -> Result<()> {
    let (world, id) = with_snapshot().await?;
    world.kubectl(&["delete", "secret", "orders-auth"])?;
    backup_shows(&world, "no-secret", &["orders-auth"]).await?;
    restore_shows(&world, "no-secret-restore", "orders", &["orders-auth"]).await?;
    still(&world, &id)
}

#[tokio::test]
async fn a_cluster_is_not_backed_up_by_halves() -> Result<()> {
    let options = redis_server::Options {
        config: vec!["cluster-enabled yes".into()],
        databases: 1,
        ..Default::default()
    };
    let world = World::with_redis(COFFER, options).await?;
    world.apply_basics()?;
    world.apply(&impatient())?;
    backup_shows(&world, "bad", &["cluster", "slot 0 has no master", "127.0.0.1"]).await
}

#[tokio::test]
async fn a_server_that_lacks_memory_for_the_restore() -> Result<()> {
    let (world, _) = with_snapshot().await?;
    let small = RedisServer::start(redis_server::Options {
        config: vec!["maxmemory 1mb".into(), "maxmemory-policy noeviction".into()],
        ..Default::default()
    })
    .await?;
    let value = "x".repeat(4 << 20);
    world.redis.command::<()>(&["SET", "large", &value]).await?;
    world.back_up("large", "orders").await?;
    let id = latest(&world.restic())?;
    world.apply(&world.app_binding("small", &small))?;
    restore_shows(&world, "bad", "small", &["OOM"]).await?;
    still(&world, &id)
}
