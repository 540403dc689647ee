//! A real gateway over TLS, with what it needs around it: an API server's answers, a certificate authority, a signer of
//! grants, the restic program.

pub mod answers;
pub mod cluster;
pub mod restic;
pub mod s3;
pub mod stores;

use bytes::Bytes;
use chrono::{TimeDelta, Utc};
use cluster::Cluster;
use coffer_proto::storage::v1::repositories_client::RepositoriesClient;
use coffer_proto::storage::v1::snapshots_client::SnapshotsClient;
use coffer_proto::storage::v1::*;
use coffer_runtime::authority::Authority;
use coffer_runtime::grant::{self, Grant, Operation, SessionRef, Signer, Verifier};
use coffer_runtime::grpc::{self, Authorized, CHUNK_BYTES, PIECE_BYTES};
use coffer_runtime::{Runtime, Secret};
use coffer_storage_gateway::place::LocalVolumes;
use coffer_storage_gateway::{Config, build};
use crc_fast::CrcAlgorithm;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use tokio::task::JoinHandle;
use tonic::{Code, Status, Streaming};

pub const PASSWORD: &str = "not-a-real-password";

/// A gateway, its cluster, and a directory for everything.
pub struct Gateway {
    pub cluster: Cluster,
    pub dir: tempfile::TempDir,
    pub runtime: Runtime,
    pub authority: Authority,
    pub signer: Signer,
    pub endpoint: String,
    serving: JoinHandle<Result<(), grpc::Error>>,
}

/// Starts a gateway that serves local Repositories of this machine, with one such in the cluster: `demo/repo`.
pub async fn start() -> Gateway {
    start_with(|_| {}).await
}

pub async fn start_with(change: impl FnOnce(&mut Config)) -> Gateway {
    coffer_runtime::process::install_crypto_provider();
    let dir = tempfile::tempdir().unwrap();
    let cluster = Cluster::default();
    cluster.secret("store", &[("RESTIC_PASSWORD", PASSWORD)]);
    let path = dir.path().join("repo");
    let volume = json!({"mountPath": "/backup", "hostPath": {"path": path}});
    cluster.repository("repo", json!({"storageSecretName": "store", "local": volume}));

    let authority = Authority::generate().unwrap();
    let signer = Signer::generate().unwrap();
    let verifier = Verifier::from_pem(signer.public_key()).unwrap();
    let mut config = Config::new(SocketAddr::from(([127, 0, 0, 1], 0)), verifier, cluster.client());
    config.tls = Some(authority.options("storage-gateway", &["127.0.0.1"]).unwrap());
    config.volumes = LocalVolumes::Under(dir.path().join("volumes"));
    change(&mut config);
    let runtime = Runtime::new();
    let app = build(config, &runtime).await.unwrap();
    let endpoint = app.endpoint();
    let serving = tokio::spawn(app.run());
    Gateway { cluster, dir, runtime, authority, signer, endpoint, serving }
}

impl Gateway {
    /// The directory of `demo/repo`.
    pub fn repo(&self) -> PathBuf {
        self.dir.path().join("repo")
    }

    /// Ends the gateway as a killed process would end, and waits for it.
    pub async fn kill(self) -> tempfile::TempDir {
        self.runtime.shutdown.abort();
        self.serving.await.unwrap().unwrap();
        self.dir
    }

    fn channel(&self, token: Option<&str>) -> Authorized {
        let tls = self.authority.client_options();
        let channel = grpc::connect(&self.endpoint, Some(&tls)).unwrap();
        grpc::with_token(channel, token.map(Secret::new).as_ref()).unwrap()
    }

    pub fn grant(&self, repository: &str, operation: Operation) -> Grant {
        Grant {
            session: SessionRef {
                kind: "BackupSession".to_owned(),
                namespace: "demo".to_owned(),
                name: "session".to_owned(),
            },
            repository: grant::RepositoryRef {
                namespace: "demo".to_owned(),
                name: repository.to_owned(),
            },
            operation,
            snapshot: None,
            issued: Utc::now(),
            expires: Utc::now() + TimeDelta::hours(1),
        }
    }

    /// A worker's client with this grant.
    pub fn worker(&self, grant: &Grant) -> SnapshotsClient<Authorized> {
        let token = self.signer.sign(grant).unwrap();
        SnapshotsClient::new(self.channel(Some(token.reveal())))
    }

    /// A client that shows this token, or none.
    pub fn snapshots(&self, token: Option<&str>) -> SnapshotsClient<Authorized> {
        SnapshotsClient::new(self.channel(token))
    }

    /// A user's client.
    pub fn user(&self, token: Option<&str>) -> RepositoriesClient<Authorized> {
        RepositoriesClient::new(self.channel(token))
    }

    /// The client of a service, by its certificate.
    pub fn service(&self, name: &str) -> RepositoriesClient<Authorized> {
        let tls = self.authority.options(name, &[]).unwrap();
        let channel = grpc::connect(&self.endpoint, Some(&tls)).unwrap();
        RepositoriesClient::new(grpc::with_token(channel, None).unwrap())
    }

    /// Backs one file up, as a worker does.
    pub async fn backup(&self, repository: &str, data: &[u8]) -> Result<BackupResponse, Status> {
        self.send(repository, messages(repository, data)).await
    }

    pub async fn send(
        &self,
        repository: &str,
        messages: Vec<BackupRequest>,
    ) -> Result<BackupResponse, Status> {
        let mut worker = self.worker(&self.grant(repository, Operation::Backup));
        stored(worker.backup(futures::stream::iter(messages)).await?.into_inner()).await
    }

    /// Restores a file whole.
    pub async fn restore(&self, repository: &str, snapshot: &str) -> Result<Restored, Status> {
        self.receive(restore_request(repository, snapshot)).await
    }

    pub async fn receive(&self, request: RestoreRequest) -> Result<Restored, Status> {
        let name = &request.repository.as_ref().unwrap().name;
        let mut worker = self.worker(&self.grant(name, Operation::Restore));
        collect(worker.restore(request).await?.into_inner()).await
    }

    pub async fn snapshot_count(&self, repository: &str) -> usize {
        let request =
            ListSnapshotsRequest { repository: Some(at(repository)), ..Default::default() };
        let answer = self.service("orchestrator").list_snapshots(request).await.unwrap();
        answer.into_inner().snapshots.len()
    }
}

pub fn at(name: &str) -> RepositoryRef {
    RepositoryRef { namespace: "demo".to_owned(), name: name.to_owned(), lock_wait: None }
}

pub fn restore_request(repository: &str, snapshot: &str) -> RestoreRequest {
    RestoreRequest {
        repository: Some(at(repository)),
        snapshot: snapshot.to_owned(),
        ..Default::default()
    }
}

/// A restored file.
pub struct Restored {
    pub header: RestoreHeader,
    pub data: Vec<u8>,
    pub chunks: usize,
    pub finish: RestoreFinish,
}

pub async fn collect(mut stream: tonic::Streaming<RestoreResponse>) -> Result<Restored, Status> {
    use restore_response::Message;
    let (mut header, mut data, mut chunks) = (None, Vec::new(), 0);
    while let Some(message) = stream.message().await? {
        match message.message.unwrap() {
            Message::Header(first) => header = Some(first),
            Message::Chunk(chunk) => {
                assert!(chunk.len() <= PIECE_BYTES);
                data.extend_from_slice(&chunk);
                chunks += 1;
            }
            Message::Waiting(words) => panic!("nobody asked: {words}"),
            Message::Finish(finish) => {
                assert!(stream.message().await?.is_none());
                return Ok(Restored { header: header.unwrap(), data, chunks, finish });
            }
        }
    }
    Err(Status::data_loss("no finish"))
}

/// A whole, correct backup of `/dump.rdb`.
pub fn messages(repository: &str, data: &[u8]) -> Vec<BackupRequest> {
    let mut messages = vec![header(repository)];
    messages.extend(data.chunks(CHUNK_BYTES).map(chunk));
    messages.push(finish(data));
    messages
}

pub fn header(repository: &str) -> BackupRequest {
    request(backup_request::Message::Header(BackupHeader {
        repository: Some(at(repository)),
        host: "host-0".to_owned(),
        paths: vec!["/dump.rdb".to_owned()],
        tags: vec!["session=demo.session".to_owned()],
        time: None,
        no_verify: false,
        hears_waiting: false,
    }))
}

pub fn chunk(data: &[u8]) -> BackupRequest {
    let data = Bytes::copy_from_slice(data);
    request(backup_request::Message::Chunk(Chunk { file: 0, data }))
}

pub fn finish(data: &[u8]) -> BackupRequest {
    let crc64 = crc_fast::checksum(CrcAlgorithm::Crc64Nvme, data);
    finish_with(data.len() as u64, Some(crc64), &Sha256::digest(data))
}

pub fn finish_with(bytes: u64, crc64: Option<u64>, sha256: &[u8]) -> BackupRequest {
    let path = "/dump.rdb".to_owned();
    let now = prost_types::Timestamp { seconds: 1_800_000_000, nanos: 5 };
    let keys = HashMap::from([("string".to_owned(), 7)]);
    let manifest = Manifest {
        method: "replication".to_owned(),
        files: vec![FileSum { path, bytes, sha256: sha256.to_vec().into(), crc64 }],
        databases: vec![Database { index: 0, keys, expiring: 1 }],
        server: Some(Server { software: "redis".to_owned(), ..Default::default() }),
        started: Some(now),
        finished: Some(now),
        counted: true,
        rdb_version: 10,
        ..Manifest::default()
    };
    request(backup_request::Message::Finish(BackupFinish { manifest: Some(manifest) }))
}

fn request(message: backup_request::Message) -> BackupRequest {
    BackupRequest { message: Some(message) }
}

/// Bytes that neither compress nor repeat.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = 2 * seed + 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    let mut data = Vec::with_capacity(length + 8);
    while data.len() < length {
        data.extend_from_slice(&next());
    }
    data.truncate(length);
    data
}

#[track_caller]
pub fn assert_refused<T>(result: Result<T, Status>, code: Code, parts: &[&str]) {
    let Err(status) = result else { panic!("it was not refused") };
    assert_eq!(status.code(), code, "{}", status.message());
    for part in parts {
        assert!(status.message().contains(part), "{part:?} is not in {:?}", status.message());
    }
    assert!(!status.message().contains(PASSWORD), "{}", status.message());
}

pub fn files_below(dir: &Path) -> usize {
    let Ok(entries) = std::fs::read_dir(dir) else { return 0 };
    entries
        .map(|entry| {
            let path = entry.unwrap().path();
            if path.is_dir() { files_below(&path) } else { 1 }
        })
        .sum()
}

/// The only message of an answer to a backup.
pub async fn stored(mut answer: Streaming<BackupResponse>) -> Result<BackupResponse, Status> {
    let only = answer.message().await?.expect("a backup is answered");
    assert!(answer.message().await?.is_none());
    Ok(only)
}
