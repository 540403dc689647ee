//! The services that a worker talks to, as small as they can be: one snapshot in memory, and the faults
//! that a real storage-gateway shows when it is full, away, or damaged. (The real ones are tested with the
//! worker in the whole-system tests; this crate may not know them.)

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use coffer_proto::metrics::v1 as metrics;
use coffer_proto::orchestrator::v1 as orchestrator;
use coffer_proto::storage::v1::{self as storage, backup_request, restore_response};
use crc_fast::CrcAlgorithm;
use sha2::{Digest, Sha256};
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status, Streaming};

/// The id of the snapshot that it keeps.
const LATEST: &str = "5ab5";

/// What is to go wrong.
#[derive(Clone, Copy, Default, PartialEq)]
pub(crate) enum Fault {
    #[default]
    None,
    /// Refuses so many calls as a full gateway does.
    Full(u32),
    /// Goes away after the first chunk.
    DiesInside,
    /// Ends a download without its finish.
    NoFinish,
    /// Sends other bytes than were stored.
    OtherBytes,
    /// Stands still after the first chunk of a backup, or before the end of a restore, until it is resumed.
    StandsStill,
    /// Sends what is said of a file, and the file when it is resumed.
    HoldsBack,
    /// Says that it waits for a lock, and goes on when it is resumed.
    Locked,
}

/// What one says that waits for a lock.
pub(crate) const LOCKED: &str = "waiting for the exclusive lock of root@host, process 7";

#[derive(Default)]
pub(crate) struct Stored {
    pub(crate) fault: Fault,
    pub(crate) header: Option<storage::BackupHeader>,
    pub(crate) path: String,
    pub(crate) data: Vec<u8>,
    /// Further files: those of a cluster.
    pub(crate) more: Vec<(String, Vec<u8>)>,
    pub(crate) manifest: Option<storage::Manifest>,
    pub(crate) calls: u32,
    pub(crate) chunks: u32,
    pub(crate) tokens: Vec<String>,
    pub(crate) requests: Vec<storage::RestoreRequest>,
    pub(crate) reports: Vec<orchestrator::ReportRequest>,
    pub(crate) pushes: Vec<metrics::PushRequest>,
}

#[derive(Clone, Default)]
pub(crate) struct Services {
    stored: Arc<Mutex<Stored>>,
    resumed: Arc<Notify>,
}

impl Services {
    /// Serves all three on one port until the test ends; gives its endpoint.
    pub(crate) async fn serve(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tonic::transport::Server::builder()
            .add_service(storage::snapshots_server::SnapshotsServer::new(self.clone()))
            .add_service(orchestrator::progress_server::ProgressServer::new(self.clone()))
            .add_service(metrics::metrics_server::MetricsServer::new(self.clone()));
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        format!("http://{address}")
    }

    pub(crate) fn set(&self, change: impl FnOnce(&mut Stored)) {
        change(&mut self.stored.lock().unwrap());
    }

    pub(crate) fn get<T>(&self, read: impl FnOnce(&Stored) -> T) -> T {
        read(&self.stored.lock().unwrap())
    }

    /// Ends a standstill.
    pub(crate) fn resume(&self) {
        self.resumed.notify_one();
    }

    /// Waits until something has happened here.
    pub(crate) async fn until(&self, happened: impl Fn(&Stored) -> bool) {
        let waiting = async {
            while !self.get(&happened) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), waiting).await.expect("it never happened");
    }

    fn admit<T>(&self, request: &Request<T>) -> Result<(), Status> {
        let mut stored = self.stored.lock().unwrap();
        stored.calls += 1;
        let token =
            request.metadata().get("authorization").map(|token| token.to_str().unwrap().to_owned());
        stored.tokens.extend(token);
        if let Fault::Full(left @ 1..) = stored.fault {
            stored.fault = Fault::Full(left - 1);
            return Err(Status::resource_exhausted("too many streams"));
        }
        Ok(())
    }

    async fn store(
        &self,
        mut stream: Streaming<storage::BackupRequest>,
        answers: &mpsc::Sender<Result<storage::BackupResponse, Status>>,
    ) -> Result<storage::BackupResponse, Status> {
        let (mut header, mut files) = (None, Vec::<Vec<u8>>::new());
        while let Some(message) = stream.message().await? {
            match message.message {
                Some(backup_request::Message::Header(sent)) => {
                    assert!(sent.hears_waiting);
                    let waiting = LOCKED.to_owned();
                    let waits = storage::BackupResponse { waiting, ..Default::default() };
                    let begun = storage::BackupResponse { begun: true, ..Default::default() };
                    if self.get(|stored| stored.fault) == Fault::Locked {
                        answers.send(Ok(waits)).await.unwrap();
                        self.resumed.notified().await;
                    }
                    // Nobody may be there any more.
                    let _ = answers.send(Ok(begun)).await;
                    files.resize(sent.paths.len(), Vec::new());
                    header = Some(sent);
                }
                Some(backup_request::Message::Chunk(chunk)) => {
                    assert!(chunk.data.len() <= 1 << 20);
                    files[usize::try_from(chunk.file).unwrap()].extend_from_slice(&chunk.data);
                    self.set(|stored| stored.chunks += 1);
                    match self.get(|stored| stored.fault) {
                        Fault::DiesInside => {
                            return Err(Status::unavailable("the gateway is shutting down"));
                        }
                        Fault::StandsStill if self.get(|stored| stored.chunks == 1) => {
                            self.resumed.notified().await;
                        }
                        _ => {}
                    }
                }
                Some(backup_request::Message::Finish(finish)) => {
                    let manifest = finish.manifest.unwrap();
                    assert_eq!(manifest.files.len(), files.len());
                    for (file, data) in manifest.files.iter().zip(&files) {
                        let crc64 = crc_fast::checksum(CrcAlgorithm::Crc64Nvme, data);
                        assert_eq!(file.crc64, Some(crc64));
                        assert_eq!(file.sha256, Sha256::digest(data).to_vec());
                        assert_eq!(file.bytes, data.len() as u64);
                    }
                    let paths = header.as_ref().unwrap().paths.clone();
                    assert_eq!(
                        manifest.files.iter().map(|f| f.path.clone()).collect::<Vec<_>>(),
                        paths
                    );
                    let total_bytes = files.iter().map(|data| data.len() as u64).sum();
                    let mut files = paths.into_iter().zip(files);
                    let (path, data) = files.next().unwrap();
                    self.set(|stored| {
                        stored.path = path;
                        stored.header = header;
                        stored.data = data;
                        stored.more = files.collect();
                        stored.manifest = Some(manifest);
                    });
                    return Ok(storage::BackupResponse {
                        snapshot_id: LATEST.to_owned(),
                        total_bytes,
                        data_added: 7,
                        files_new: 2,
                        ..Default::default()
                    });
                }
                None => {}
            }
        }
        Err(Status::invalid_argument("the stream ended without finish"))
    }
}

#[tonic::async_trait]
impl storage::snapshots_server::Snapshots for Services {
    type BackupStream = ReceiverStream<Result<storage::BackupResponse, Status>>;

    async fn backup(
        &self,
        request: Request<Streaming<storage::BackupRequest>>,
    ) -> Result<Response<Self::BackupStream>, Status> {
        self.admit(&request)?;
        let services = self.clone();
        let (sender, answer) = mpsc::channel(1);
        tokio::spawn(async move {
            let stored = services.store(request.into_inner(), &sender).await;
            // Nobody may be there any more.
            let _ = sender.send(stored).await;
        });
        Ok(Response::new(ReceiverStream::new(answer)))
    }

    type RestoreStream = ReceiverStream<Result<storage::RestoreResponse, Status>>;

    async fn restore(
        &self,
        request: Request<storage::RestoreRequest>,
    ) -> Result<Response<Self::RestoreStream>, Status> {
        self.admit(&request)?;
        let request = request.into_inner();
        if !["latest", LATEST].contains(&request.snapshot.as_str()) {
            let refused =
                format!("the session grant is for snapshot latest, not for {}", request.snapshot);
            return Err(Status::permission_denied(refused));
        }
        let (fault, mut path, mut data, manifest, more) = self.get(|stored| {
            let Stored { fault, path, data, manifest, more, .. } = stored;
            (*fault, path.clone(), data.clone(), manifest.clone(), more.clone())
        });
        if request.path.is_empty() && !more.is_empty() {
            return Err(Status::invalid_argument("several files; name the file to restore"));
        }
        if request.path == "/manifest.json" {
            (path, data) = (request.path.clone(), b"{}".to_vec());
        } else if let Some((other, stored)) = more.iter().find(|(path, _)| *path == request.path) {
            (path, data) = (other.clone(), stored.clone());
        }
        self.set(|stored| stored.requests.push(request));
        let size = data.len() as u64;
        if fault == Fault::OtherBytes {
            let middle = data.len() / 2;
            data[middle] ^= 1;
        }
        let sha256 = Bytes::from(Sha256::digest(&data).to_vec());
        let snapshot = Some(storage::Snapshot { id: LATEST.to_owned(), ..Default::default() });
        let header = storage::RestoreHeader { snapshot, path, size, manifest };
        let mut messages = vec![restore_response::Message::Header(header)];
        if fault == Fault::Locked {
            messages.insert(0, restore_response::Message::Waiting(LOCKED.to_owned()));
        }
        messages.extend(
            data.chunks(1 << 20)
                .map(|c| restore_response::Message::Chunk(Bytes::copy_from_slice(c))),
        );
        if fault != Fault::NoFinish {
            messages.push(restore_response::Message::Finish(storage::RestoreFinish {
                bytes: size,
                sha256,
            }));
        }
        let stops_before = match fault {
            Fault::HoldsBack | Fault::Locked => Some(1),
            Fault::StandsStill => Some(messages.len() - 1),
            _ => None,
        };
        let (sender, stream) = mpsc::channel(1);
        let resumed = self.resumed.clone();
        tokio::spawn(async move {
            for (index, message) in messages.into_iter().enumerate() {
                if stops_before == Some(index) {
                    resumed.notified().await;
                }
                let message = storage::RestoreResponse { message: Some(message) };
                if sender.send(Ok(message)).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

#[tonic::async_trait]
impl orchestrator::progress_server::Progress for Services {
    async fn report(
        &self,
        request: Request<Streaming<orchestrator::ReportRequest>>,
    ) -> Result<Response<orchestrator::ReportResponse>, Status> {
        let mut stream = request.into_inner();
        while let Some(report) = stream.message().await? {
            self.set(|stored| stored.reports.push(report));
        }
        Ok(Response::new(orchestrator::ReportResponse {}))
    }
}

#[tonic::async_trait]
impl metrics::metrics_server::Metrics for Services {
    async fn push(
        &self,
        request: Request<metrics::PushRequest>,
    ) -> Result<Response<metrics::PushResponse>, Status> {
        self.set(|stored| stored.pushes.push(request.into_inner()));
        Ok(Response::new(metrics::PushResponse {}))
    }
}
