//! Sets of servers: a cluster, and a master with replicas and Sentinels.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use coffer_api::session::Redis;
use coffer_rdb::resp::Reply;
use coffer_worker::redis::{Client, Error, connect};

use super::makes::Make;
use super::{PASSWORD, TestServer, WAIT, free_port, line};

/// A cluster of three masters.
pub(crate) struct Cluster {
    pub(crate) servers: Vec<TestServer>,
}

impl Cluster {
    /// Starts one and waits until all of its servers agree.
    pub(crate) async fn start(make: Make) -> Self {
        Self::of((0..3).map(|_| make.start_for_cluster()).collect()).await
    }

    /// Makes one of three servers.
    pub(crate) async fn of(servers: Vec<TestServer>) -> Self {
        let mut addresses = Vec::new();
        for server in &servers {
            server.client().await;
            addresses.push(format!("{}:{}", server.host, server.port));
        }
        let made = Command::new("redis-cli")
            .args(["--cluster", "create"])
            .args(&addresses)
            .arg("--cluster-yes")
            .env("REDISCLI_AUTH", PASSWORD)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .unwrap();
        assert!(made.success());
        let cluster = Self { servers };
        for server in &cluster.servers {
            until(&server.redis(), &["CLUSTER", "INFO"], "cluster_state:ok").await;
        }
        cluster
    }

    pub(crate) fn redis(&self) -> Redis {
        self.servers[0].redis()
    }

    /// Adds a replica of one of the masters and waits until it has its data.
    pub(crate) async fn replica_of(&self, index: usize, make: Make) -> TestServer {
        let (master, replica) = (&self.servers[index], make.start_for_cluster());
        let mut client = replica.client().await;
        client.run(&[b"CONFIG", b"SET", b"masterauth", PASSWORD.as_bytes()]).await.unwrap();
        line(&mut client, &format!("CLUSTER MEET 127.0.0.1 {}", master.port)).await;
        let id = id_of(master).await;
        until(&replica.redis(), &["CLUSTER", "NODES"], &id).await;
        line(&mut client, &format!("CLUSTER REPLICATE {id}")).await;
        until(&replica.redis(), &["INFO", "replication"], "master_link_status:up").await;
        until(&master.redis(), &["INFO", "replication"], "state=online").await;
        until(&replica.redis(), &["CLUSTER", "INFO"], "cluster_state:ok").await;
        replica
    }

    /// Runs a command on all masters and gives the sum of their answers.
    pub(crate) async fn sum(&self, command: &str) -> i64 {
        let mut sum = 0;
        for server in &self.servers {
            match line(&mut server.client().await, command).await {
                Reply::Integer(number) => sum += number,
                other => panic!("{other:?}"),
            }
        }
        sum
    }

    /// Waits until its masters hold so many keys.
    pub(crate) async fn until_it_holds(&self, keys: i64) {
        let waiting = async {
            while self.sum("DBSIZE").await != keys {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(WAIT, waiting).await.expect("the keys never came");
    }
}

/// A master, a replica and a Sentinel that watches them as `mymaster`.
pub(crate) struct Watched {
    pub(crate) master: TestServer,
    pub(crate) replica: TestServer,
    pub(crate) sentinel: u16,
    sentinels: Vec<Child>,
    _dir: tempfile::TempDir,
}

impl Watched {
    pub(crate) async fn start(make: Make) -> Self {
        let auth = ["--masterauth", PASSWORD];
        let master = make.start(&auth);
        master.client().await;
        let replicaof = format!("127.0.0.1 {}", master.port);
        let replica = make.start(&[&auth[..], &["--replicaof", replicaof.as_str()]].concat());
        until(&replica.redis(), &["INFO", "replication"], "master_link_status:up").await;
        until(&master.redis(), &["INFO", "replication"], "state=online").await;
        let dir = tempfile::tempdir().unwrap();
        let (mut sentinels, mut ports) = (Vec::new(), Vec::new());
        for index in 0..3 {
            let port = free_port();
            let path = dir.path().join(format!("sentinel-{index}.conf"));
            let config = format!(
                "port {port}\nbind 127.0.0.1\ndir {}\nsentinel monitor mymaster 127.0.0.1 {} 2\n\
                 sentinel auth-pass mymaster \"{PASSWORD}\"\nsentinel down-after-milliseconds mymaster 1000\n\
                 sentinel failover-timeout mymaster 5000\n",
                dir.path().display(),
                master.port
            );
            std::fs::write(&path, config).unwrap();
            let child = Command::new(make.program())
                .arg(&path)
                .arg("--sentinel")
                .stdout(Stdio::null())
                .spawn()
                .unwrap();
            sentinels.push(child);
            ports.push(port);
        }
        let watched = Self { master, replica, sentinel: ports[0], sentinels, _dir: dir };
        for port in ports {
            let redis = Redis { port, ..watched.redis() };
            until(&redis, &["SENTINEL", "MASTER", "mymaster"], "num-other-sentinels 2").await;
            until(&redis, &["SENTINEL", "MASTER", "mymaster"], "num-slaves 1").await;
        }
        watched
    }

    /// The Sentinel's address; as with any AppBinding, with the password of the Redis.
    pub(crate) fn redis(&self) -> Redis {
        Redis { port: self.sentinel, ..self.master.redis() }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        for sentinel in &mut self.sentinels {
            let _ = sentinel.kill();
            let _ = sentinel.wait();
        }
    }
}

/// The id of a server of a cluster.
pub(crate) async fn id_of(server: &TestServer) -> String {
    match line(&mut server.client().await, "CLUSTER MYID").await {
        Reply::Bulk(Some(id)) => String::from_utf8(id.to_vec()).unwrap(),
        other => panic!("{other:?}"),
    }
}

/// Waits until the answer to a command, its parts joined by spaces, holds a text.
pub(crate) async fn until(redis: &Redis, command: &[&str], text: &str) {
    let waiting = async {
        loop {
            if let Ok(answer) = ask(redis, command).await
                && answer.contains(text)
            {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(30), waiting).await;
    waited.unwrap_or_else(|_| panic!("{command:?} never said {text}"));
}

async fn ask(redis: &Redis, command: &[&str]) -> Result<String, Error> {
    let mut client: Client = connect(redis, WAIT).await?;
    let command: Vec<&[u8]> = command.iter().map(|word| word.as_bytes()).collect();
    Ok(flat(&client.run(&command).await?))
}

fn flat(reply: &Reply) -> String {
    match reply {
        Reply::Bulk(Some(text)) | Reply::Status(text) => String::from_utf8_lossy(text).into_owned(),
        Reply::Array(Some(parts)) => parts.iter().map(flat).collect::<Vec<_>>().join(" "),
        other => format!("{other:?}"),
    }
}
