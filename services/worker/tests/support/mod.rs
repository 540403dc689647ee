//! Real redis-servers, and questions to them through the worker's own client.

#![allow(dead_code, reason = "each test file uses a part")]

pub(crate) mod gateway;
pub(crate) mod job;
pub(crate) mod makes;
pub(crate) mod proxy;
pub(crate) mod sets;

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use bytes::Bytes;
use coffer_api::session::{Redis, RedisTls, Sensitive};
use coffer_rdb::entries::{Entries, Event};
use coffer_rdb::resp::Reply;
use coffer_worker::options::Prefer;
use coffer_worker::redis::{
    Client, Error, LoadOptions, Loader, Received, Replication, Server, Tally, Topology, connect,
    find,
};

pub(crate) const PASSWORD: &str = "correct horse";
pub(crate) const WAIT: Duration = Duration::from_secs(20);
/// Allows `DEBUG DIGEST`, since 7.0.
const DEBUG: &[&str] = &["--enable-debug-command", "local"];

/// A redis-server of its own, gone when dropped.
pub(crate) struct TestServer {
    child: Child,
    dir: tempfile::TempDir,
    pub(crate) host: &'static str,
    pub(crate) port: u16,
    pub(crate) tls: Option<RedisTls>,
}

impl TestServer {
    /// Starts one with a password; `options` override what tests usually want.
    pub(crate) fn start(options: &[&str]) -> Self {
        let port = free_port();
        Self::start_on(port, &["--port", &port.to_string()], options)
    }

    /// Starts one that speaks only TLS, with these files.
    pub(crate) fn start_tls(certificates: &Certificates, options: &[&str]) -> Self {
        let port = free_port();
        let path = |name: &str| certificates.dir.path().join(name).to_str().unwrap().to_owned();
        let (cert, key, ca) = (path("server.crt"), path("server.key"), path("ca.crt"));
        let port_text = port.to_string();
        let listen = [
            "--port",
            "0",
            "--tls-port",
            &port_text,
            "--tls-cert-file",
            &cert,
            "--tls-key-file",
            &key,
            "--tls-ca-cert-file",
            &ca,
        ];
        let mut server = Self::start_on(port, &listen, options);
        server.tls = Some(RedisTls {
            ca: Some(certificates.ca.clone()),
            certificate: Some(certificates.client.0.clone()),
            key: Some(Sensitive::new(certificates.client.1.clone())),
            ..RedisTls::default()
        });
        server
    }

    fn start_on(port: u16, listen: &[&str], options: &[&str]) -> Self {
        Self::start_program(Path::new("redis-server"), port, listen, &[DEBUG, options].concat())
    }

    fn start_program(program: &Path, port: u16, listen: &[&str], options: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let child = Command::new(program)
            .args(listen)
            .args(["--bind", "127.0.0.1", "::1", "--save", "", "--requirepass", PASSWORD])
            .args(["--repl-diskless-sync-delay", "0"])
            .args(["--dir", dir.path().to_str().unwrap()])
            .args(options)
            .stdout(Stdio::null())
            .spawn()
            .expect("the server is installed, see tests/tools/servers");
        Self { child, dir, host: "127.0.0.1", port, tls: None }
    }

    pub(crate) fn redis(&self) -> Redis {
        Redis {
            host: self.host.to_owned(),
            port: self.port,
            password: Some(Sensitive::new(PASSWORD)),
            tls: self.tls.clone(),
            ..Redis::default()
        }
    }

    pub(crate) async fn client(&self) -> Client {
        connect(&self.redis(), WAIT).await.unwrap()
    }

    pub(crate) fn dir(&self) -> PathBuf {
        self.dir.path().to_owned()
    }

    /// Has it do nothing until it is resumed.
    pub(crate) fn stop(&self) {
        self.signal("-STOP");
    }

    pub(crate) fn resume(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
    }

    pub(crate) async fn digest(&self) -> Reply {
        self.client().await.run(&[b"DEBUG", b"DIGEST"]).await.unwrap()
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A connection to a server that is no test server of its own, as a Sentinel.
pub(crate) async fn client(redis: &Redis) -> Client {
    connect(redis, WAIT).await.unwrap()
}

/// Words of a line as a command that must succeed.
pub(crate) async fn line(client: &mut Client, line: &str) -> Reply {
    client.run(&line.split(' ').map(str::as_bytes).collect::<Vec<_>>()).await.unwrap()
}

/// Keys in database 0.
pub(crate) async fn size(server: &TestServer) -> i64 {
    match line(&mut server.client().await, "DBSIZE").await {
        Reply::Integer(size) => size,
        other => panic!("{other:?}"),
    }
}

/// Every type, all sixteen databases, times to the millisecond, binary names, large values, a function.
pub(crate) async fn fill(client: &mut Client) {
    for command in [
        "SET int 12345",
        "SET small hello",
        "HSET hash f v g w",
        "SADD intset 1 2 3",
        "SADD set a b c",
        "ZADD zset 1.5 a -inf b +inf c 1e300 d",
        "RPUSH list a b c",
        "PFADD hll a b c d e f",
        "SETBIT bits 1000 1",
        "GEOADD geo 13.361389 38.115556 Palermo",
        "XADD stream 1-1 a 1 b 2",
        "XADD stream 2-1 a 1",
        "XADD stream 3-1 c 1 d 3",
        "XGROUP CREATE stream group 0",
        "XREADGROUP GROUP group alice COUNT 2 STREAMS stream >",
        "XACK stream group 1-1",
        "XREADGROUP GROUP group bob COUNT 1 STREAMS stream >",
        "XDEL stream 2-1",
        "XGROUP CREATE no-entries g $ MKSTREAM",
        "SET later x PXAT 4102444800123",
        "HSET expiring f v",
        "PEXPIREAT expiring 4102444800777",
    ] {
        line(client, command).await;
    }
    client.run(&[b"SET", b"", b"empty key"]).await.unwrap();
    let all: Vec<u8> = (0..=255).collect();
    client.run(&[b"SET", b"\x00\xff\r\n\x80", &all]).await.unwrap();
    client.run(&[b"SET", "k".repeat(300).as_bytes(), &[b'p'; 5000]]).await.unwrap();
    client.run(&[b"SET", b"large", &noise(24 << 20)]).await.unwrap();
    client.run(&[b"RPUSH", b"plain-nodes", &noise(20_000), b"x", &noise(9_000)]).await.unwrap();
    let script = b"for i = 1, 3000 do local m = 'member-' .. i .. string.rep('y', 70) \
        redis.call('HSET', 'big-hash', m, i) redis.call('SADD', 'big-set', m) \
        redis.call('ZADD', 'big-zset', i / 3, m) redis.call('RPUSH', 'big-list', m) \
        redis.call('XADD', 'big-stream', i .. '-1', 'f', m) redis.call('SET', 'string-' .. i, m) end";
    client.run(&[b"EVAL", script, b"0"]).await.unwrap();
    client.run(&[b"FUNCTION", b"LOAD", LIBRARY]).await.unwrap();
    for database in 1..16 {
        line(client, &format!("SELECT {database}")).await;
        line(client, &format!("SET here {database}")).await;
    }
    line(client, "SELECT 0").await;
}

pub(crate) const LIBRARY: &[u8] =
    b"#!lua name=mylib\nredis.register_function('f', function() return 1 end)";

/// Bytes that do not compress, the same each time.
pub(crate) fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    (0..len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[3]
        })
        .collect()
}

/// Dumps a server as the backup does.
pub(crate) async fn dump(redis: &Redis) -> Result<(Vec<Bytes>, Received), Error> {
    let mut client = connect(redis, WAIT).await?;
    let server = Server::ask(&mut client).await?;
    let mut replication = Replication::start(client, &server, WAIT).await?;
    let mut chunks = Vec::new();
    while let Some(chunk) = replication.next().await? {
        assert!(!chunk.is_empty() && chunk.len() <= 1 << 20);
        chunks.push(chunk);
    }
    Ok((chunks, replication.finish()?))
}

/// Loads an RDB into a server as the restore does.
pub(crate) async fn load(redis: &Redis, chunks: &[Bytes], now_ms: i64) -> Result<Tally, Error> {
    let mut loader = loader(redis).await?;
    let mut entries = Entries::new(loader.largest_argument());
    for chunk in chunks {
        entries.feed(chunk.clone());
        while let Some(event) = entries.next().unwrap() {
            match event {
                Event::Entry(entry) => loader.restore(entry, now_ms).await?,
                Event::Function(source) => loader.function(&source).await?,
                _ => {}
            }
        }
        loader.flush().await?;
    }
    entries.finish().unwrap();
    loader.finish(now_ms).await
}

pub(crate) async fn loader(redis: &Redis) -> Result<Loader, Error> {
    loader_with(redis, LoadOptions::default()).await
}

pub(crate) async fn loader_with(redis: &Redis, options: LoadOptions) -> Result<Loader, Error> {
    let Topology { nodes, slots, .. } = find(redis, WAIT, "", Prefer::ToWrite).await?;
    Loader::start(nodes, slots.as_ref(), options, WAIT, std::sync::Arc::default()).await
}

/// A CA, a server's certificate for localhost and 127.0.0.1, a client's, and another CA.
pub(crate) struct Certificates {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) ca: String,
    pub(crate) other_ca: String,
    pub(crate) client: (String, String),
}

impl Certificates {
    pub(crate) fn new() -> Self {
        use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
        // Names of their own: OpenSSL takes a certificate whose issuer has its name for self-signed.
        let authority = |name: &str| {
            let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
            params.distinguished_name.push(DnType::CommonName, name);
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
        };
        let (ca, other) = (authority("test CA"), authority("other CA"));
        let issue = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            let key = KeyPair::generate().unwrap();
            let mut params = CertificateParams::new(names).unwrap();
            params.distinguished_name.push(DnType::CommonName, "a leaf");
            let certificate = params.signed_by(&key, &ca).unwrap();
            (certificate.pem(), key.serialize_pem())
        };
        let server = issue(&["localhost", "127.0.0.1"]);
        let client = issue(&["worker"]);
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("ca.crt"), ca.pem()).unwrap();
        std::fs::write(dir.path().join("server.crt"), &server.0).unwrap();
        std::fs::write(dir.path().join("server.key"), &server.1).unwrap();
        Self { dir, ca: ca.pem(), other_ca: other.pem(), client }
    }
}
