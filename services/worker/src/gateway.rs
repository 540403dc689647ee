//! The storage-gateway as the worker uses it: one snapshot up, or one down. The only file, with `convert`,
//! that knows the messages of its contract.

mod gate;

use bytes::Bytes;
use coffer_api::session::Session;
use coffer_proto::storage::v1 as proto;
use coffer_proto::storage::v1::snapshots_client::SnapshotsClient;
use coffer_runtime::fault::{Class, class_of};
use coffer_runtime::grpc::{self, Authorized, MAX_MESSAGE_BYTES};
use coffer_runtime::tls::TlsOptions;
use coffer_runtime::{Clock, Secret};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::task::AbortOnDropHandle;
use tonic::{Status, Streaming};

use self::gate::Gate;
pub(crate) use self::gate::Late;
use crate::error::Error;
use crate::progress::State;

/// Messages on their way to the gateway beside those in HTTP/2's window: 4 MiB of dump.
const QUEUE: usize = 16;

const UPLOAD: &str = "write a snapshot to";
const DOWNLOAD: &str = "read the snapshot from";

/// A channel with the session's grant to one of the services.
pub(crate) fn channel(
    session: &Session,
    service: &'static str,
    endpoint: &str,
) -> Result<Authorized, Error> {
    let unusable = |source| Error::Channel { service, source };
    let tls = session.endpoints.ca.as_ref().map(|ca| TlsOptions::new(None, Some(ca.clone())));
    let channel = grpc::connect(endpoint, tls.as_ref()).map_err(unusable)?;
    grpc::with_token(channel, Some(&Secret::new(session.grant.reveal()))).map_err(unusable)
}

/// The gateway, and the repository that is meant.
#[derive(Clone)]
pub(crate) struct Gateway {
    snapshots: SnapshotsClient<Authorized>,
    repository: proto::RepositoryRef,
    address: String,
    clock: Clock,
    meter: watch::Sender<State>,
}

impl Gateway {
    /// What the gateway waits for is told by the meter.
    pub(crate) fn new(
        session: &Session,
        clock: &Clock,
        meter: watch::Sender<State>,
    ) -> Result<Self, Error> {
        let channel = channel(session, "storage-gateway", &session.endpoints.storage_gateway)?;
        Ok(Self {
            snapshots: SnapshotsClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES),
            repository: proto::RepositoryRef {
                namespace: session.repository.namespace.clone(),
                name: session.repository.name.clone(),
                lock_wait: None,
            },
            address: session.endpoints.storage_gateway.clone(),
            clock: clock.clone(),
            meter,
        })
    }

    /// Opens an upload, and waits until the gateway takes it.
    pub(crate) async fn upload(&self, header: proto::BackupHeader) -> Result<Upload, Error> {
        let repository = Some(self.repository.clone());
        let header = proto::BackupHeader { repository, hears_waiting: true, ..header };
        let (messages, queue) = mpsc::channel(QUEUE);
        let mut client = self.snapshots.clone();
        let (tells, gate) = watch::channel(Gate::Silent);
        let clock = self.clock.clone();
        let call = async move {
            let mut answers = client.backup(ReceiverStream::new(queue)).await?.into_inner();
            loop {
                let waits = matches!(*tells.borrow(), Gate::Waits(_));
                let answer = match waits {
                    true => grpc::heard(&clock, answers.message()).await?,
                    false => answers.message().await?,
                };
                match answer {
                    Some(answer) if answer.begun => tells.send_replace(Gate::Begun),
                    Some(answer) if !answer.waiting.is_empty() => {
                        tells.send_replace(Gate::Waits(answer.waiting))
                    }
                    answer => return Ok(answer),
                };
            }
        };
        let mut upload = Upload {
            messages: Some(messages),
            response: Some(AbortOnDropHandle::new(tokio::spawn(call))),
            subject: self.subject(),
            late: None,
        };
        upload.send(proto::backup_request::Message::Header(header)).await?;
        let repository = upload.subject.repository.clone();
        upload.late =
            upload.watch(gate::opened(&repository, gate, &self.meter, &self.clock)).await?;
        Ok(upload)
    }

    /// Opens a download; the first message is there when this returns.
    pub(crate) async fn download(&self, request: proto::RestoreRequest) -> Result<Download, Error> {
        use proto::restore_response::Message;
        let repository = Some(self.repository.clone());
        let request = proto::RestoreRequest { repository, hears_waiting: true, ..request };
        let subject = self.subject();
        let failed = |status| failed(DOWNLOAD, &subject, status);
        let mut client = self.snapshots.clone();
        let mut stream = client.restore(request).await.map_err(&failed)?.into_inner();
        let mut first = stream.message().await.map_err(&failed)?;
        while let Some(proto::RestoreResponse { message: Some(Message::Waiting(words)) }) = first {
            tracing::info!(repository = self.repository.name, words);
            self.meter.send_modify(|state| state.waiting = words);
            first = grpc::heard(&self.clock, stream.message()).await.map_err(&failed)?;
        }
        self.meter.send_if_modified(|state| !std::mem::take(&mut state.waiting).is_empty());
        match first.and_then(|first| first.message) {
            Some(Message::Header(header)) => Ok(Download { stream, header, subject }),
            _ => Err(Error::Contract {
                act: DOWNLOAD,
                repository: subject.repository,
                problem: "the storage-gateway did not begin with the header".to_owned(),
            }),
        }
    }

    fn subject(&self) -> Subject {
        let proto::RepositoryRef { namespace, name, .. } = &self.repository;
        Subject { repository: format!("{namespace}/{name}"), address: self.address.clone() }
    }
}

/// What an error is about.
#[derive(Clone)]
struct Subject {
    repository: String,
    address: String,
}

fn failed(act: &'static str, subject: &Subject, source: Status) -> Error {
    let Subject { repository, address } = subject.clone();
    // What the gateway itself says has no cause on this side of the connection.
    match std::error::Error::source(&source) {
        Some(_) => Error::Lost { act, repository, address, source },
        None => Error::Gateway { act, repository, source },
    }
}

/// Whether the gateway may take the same call later, provided that it has received no data.
pub(crate) fn may_be_repeated(error: &Error) -> bool {
    match error {
        Error::Gateway { source, .. } | Error::Lost { source, .. } => {
            matches!(class_of(source), Class::Unavailable | Class::Exhausted)
        }
        _ => false,
    }
}

/// A snapshot on its way up. Dropped before [`Upload::finish`], it commits nothing.
pub(crate) struct Upload {
    messages: Option<mpsc::Sender<proto::BackupRequest>>,
    response: Option<Call>,
    subject: Subject,
    late: Option<Late>,
}

type Call = AbortOnDropHandle<Answer>;
type Answer = Result<Option<proto::BackupResponse>, Status>;

/// Where the pieces of one file go.
pub(crate) struct Pieces {
    messages: mpsc::Sender<proto::BackupRequest>,
    file: u32,
}

/// The gateway does not take any more; [`Upload::ended`] says why.
pub(crate) struct Closed;

impl Pieces {
    /// Sends a piece, at most [`grpc::PIECE_BYTES`].
    pub(crate) async fn send(&self, data: Bytes) -> Result<(), Closed> {
        let chunk = proto::Chunk { file: self.file, data };
        let message = Some(proto::backup_request::Message::Chunk(chunk));
        self.messages.send(proto::BackupRequest { message }).await.map_err(|_| Closed)
    }
}

impl Upload {
    /// Where the pieces of a file go, by its place in the header. All of these must be dropped before
    /// [`Self::finish`].
    pub(crate) fn pieces(&self, file: usize) -> Result<Pieces, Closed> {
        let messages = self.messages.clone().ok_or(Closed)?;
        Ok(Pieces { messages, file: u32::try_from(file).map_err(|_| Closed)? })
    }

    async fn send(&mut self, message: proto::backup_request::Message) -> Result<(), Error> {
        let request = proto::BackupRequest { message: Some(message) };
        let sent = match &self.messages {
            Some(messages) => messages.send(request).await.is_ok(),
            None => false,
        };
        if sent { Ok(()) } else { Err(self.ended().await) }
    }

    /// Fails if the gateway answers before that: it can only be a refusal.
    async fn watch<T>(&mut self, until: impl Future<Output = T>) -> Result<T, Error> {
        let Some(response) = &mut self.response else { return Err(self.ended().await) };
        let answer = tokio::select! {
            biased;
            answer = response => answer,
            done = until => return Ok(done),
        };
        self.response = None;
        Err(self.refusal(answer))
    }

    /// Why it could not begin at once, if it could not.
    pub(crate) const fn late(&self) -> Option<&Late> {
        self.late.as_ref()
    }

    /// Fails if the gateway has answered already.
    pub(crate) async fn check(&mut self) -> Result<(), Error> {
        self.watch(std::future::ready(())).await
    }

    /// Why the gateway does not take any more.
    pub(crate) async fn ended(&mut self) -> Error {
        self.messages = None;
        match self.response.take() {
            Some(response) => {
                let answer = response.await;
                self.refusal(answer)
            }
            None => self.contract("the storage-gateway ended the call"),
        }
    }

    fn refusal(&self, answer: Result<Answer, tokio::task::JoinError>) -> Error {
        match answer {
            Ok(Err(status)) => failed(UPLOAD, &self.subject, status),
            Ok(Ok(Some(_))) => {
                self.contract("the storage-gateway answered before the end of the data")
            }
            Ok(Ok(None)) => self.contract("the storage-gateway ended the call without an answer"),
            Err(_) => self.contract("the call was aborted"),
        }
    }

    fn contract(&self, problem: &str) -> Error {
        Error::Contract {
            act: UPLOAD,
            repository: self.subject.repository.clone(),
            problem: problem.to_owned(),
        }
    }

    /// Says that the data is complete, and waits for the commit.
    pub(crate) async fn finish(
        mut self,
        finish: proto::BackupFinish,
    ) -> Result<proto::BackupResponse, Error> {
        self.send(proto::backup_request::Message::Finish(finish)).await?;
        self.messages = None;
        let Some(response) = self.response.take() else { return Err(self.ended().await) };
        match response.await {
            Ok(Ok(Some(response))) => Ok(response),
            answer => Err(self.refusal(answer)),
        }
    }
}

/// A file of a snapshot on its way down.
pub(crate) struct Download {
    stream: Streaming<proto::RestoreResponse>,
    pub(crate) header: proto::RestoreHeader,
    subject: Subject,
}

/// A part of a download behind its header.
pub(crate) enum Part {
    Chunk(Bytes),
    Finish(proto::RestoreFinish),
}

impl Download {
    /// The next part. A stream that ends without its `finish` is an error.
    pub(crate) async fn next(&mut self) -> Result<Part, Error> {
        let message = self.stream.message().await;
        let message = message.map_err(|status| failed(DOWNLOAD, &self.subject, status))?;
        match message.and_then(|message| message.message) {
            Some(proto::restore_response::Message::Chunk(data)) => Ok(Part::Chunk(data)),
            Some(proto::restore_response::Message::Finish(finish)) => Ok(Part::Finish(finish)),
            Some(proto::restore_response::Message::Header(_)) => {
                Err(self.contract("the storage-gateway sent a second header"))
            }
            Some(proto::restore_response::Message::Waiting(_)) => {
                Err(self.contract("the storage-gateway waits behind its header"))
            }
            None => Err(self.contract("the storage-gateway ended the data without its finish")),
        }
    }

    fn contract(&self, problem: &str) -> Error {
        Error::Contract {
            act: DOWNLOAD,
            repository: self.subject.repository.clone(),
            problem: problem.to_owned(),
        }
    }
}
