//! The connection of a load: commands go in, their answers are read meanwhile, and what is on its way is
//! bounded in bytes and in number.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use bytes::BytesMut;
use coffer_rdb::resp::{self, Reply};
use coffer_rdb::strings::printable;
use tokio::io::{AsyncWriteExt, WriteHalf};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use super::LOADING;
use super::answers::{Again, Answers, Expect, Sent, Silence, Tally};
use crate::redis::client::Socket;
use crate::redis::patience::{Patience, is_held_up};
use crate::redis::{Client, Error, Server};

/// Bytes sent and not answered, at most, on all connections; one value that is larger goes alone. Values of a few
/// megabytes do not: the server would be idle between two.
const WINDOW_BYTES: usize = 32 * 1024 * 1024;
/// The same on one connection of many.
const LEAST_WINDOW_BYTES: usize = 1024 * 1024;
/// Commands sent and not answered, at most.
const WINDOW_COMMANDS: usize = 4096;
/// Commands are written to the socket in pieces of about this size.
const WRITE_BYTES: usize = 64 * 1024;
/// What is as large is sent from where it lies. Servers read an argument in place from 32 KiB on.
pub(super) const LARGE_BYTES: usize = WRITE_BYTES;
/// What is larger is written in pieces, so that a slow network is told from one that hangs.
const LARGEST_WRITE: usize = 1024 * 1024;
/// Bytes that a command takes beside key and value, roughly.
const COMMAND_OVERHEAD: usize = 100;

pub(super) struct Pipe {
    socket: WriteHalf<Box<dyn Socket>>,
    /// Commands that are not written to the socket yet.
    pub(super) buffer: BytesMut,
    window: Arc<Semaphore>,
    window_bytes: usize,
    in_flight: mpsc::Sender<Sent>,
    answers: Option<AbortOnDropHandle<Result<Tally, Error>>>,
    silence: watch::Sender<Silence>,
    pub(super) address: String,
    idle: Duration,
    /// How long the server may be held up.
    wait: Duration,
}

impl Pipe {
    /// One of so many connections.
    pub(super) fn new(
        client: Client,
        of: usize,
        written: Arc<AtomicU64>,
        again: mpsc::UnboundedSender<Again>,
    ) -> Self {
        let wait = client.wait();
        let (socket, rest, address, idle) = client.into_parts();
        let (read, socket) = tokio::io::split(socket);
        let window_bytes = (WINDOW_BYTES / of.max(1)).max(LEAST_WINDOW_BYTES);
        let window = Arc::new(Semaphore::new(window_bytes));
        let (in_flight, sent) = mpsc::channel(WINDOW_COMMANDS);
        let (silence, allowed) = watch::channel(Silence::during(idle));
        let answers = Answers::new(read, rest, sent, address.clone(), allowed, written, again);
        let closing = window.clone();
        let answers = AbortOnDropHandle::new(tokio::spawn(async move {
            let tally = answers.read_all().await;
            // Wakes a sender that waits for room.
            closing.close();
            tally
        }));
        let buffer = BytesMut::with_capacity(WRITE_BYTES * 2);
        let answers = Some(answers);
        Self {
            socket,
            buffer,
            window,
            window_bytes,
            in_flight,
            answers,
            silence,
            address,
            idle,
            wait,
        }
    }

    /// From now on the server may be silent for that long, 0 for ever.
    pub(super) fn all_is_sent(&self, pipe_timeout: Duration) {
        self.silence.send_replace(Silence::at_the_end(pipe_timeout));
    }

    /// Waits for room for a command of so many bytes, and says what its answer is to be. The caller then
    /// appends the command to the buffer.
    pub(super) async fn admit(&mut self, bytes: usize, expect: Expect) -> Result<(), Error> {
        let cost = (bytes + COMMAND_OVERHEAD).min(self.window_bytes);
        let cost = u32::try_from(cost).unwrap_or(u32::MAX);
        let window = self.window.clone();
        let room = match window.clone().try_acquire_many_owned(cost) {
            Ok(room) => room,
            Err(_) => {
                // What is to be answered must have been sent.
                self.flush().await?;
                match window.acquire_many_owned(cost).await {
                    Ok(room) => room,
                    Err(_) => return Err(self.ended().await),
                }
            }
        };
        match self.in_flight.try_send(Sent { expect, room }) {
            Ok(()) => Ok(()),
            Err(TrySendError::Closed(_)) => Err(self.ended().await),
            Err(TrySendError::Full(sent)) => {
                self.flush().await?;
                match self.in_flight.send(sent).await {
                    Ok(()) => Ok(()),
                    Err(_) => Err(self.ended().await),
                }
            }
        }
    }

    /// Writes out the buffer.
    pub(super) async fn flush(&mut self) -> Result<(), Error> {
        let buffer = self.buffer.split();
        self.send(&buffer).await
    }

    pub(super) async fn flush_if_full(&mut self) -> Result<(), Error> {
        if self.buffer.len() < WRITE_BYTES { Ok(()) } else { self.flush().await }
    }

    /// Adds the body of a command; a large one is sent from where it lies.
    pub(super) async fn body(&mut self, bytes: &[u8]) -> Result<(), Error> {
        if bytes.len() < LARGE_BYTES {
            self.buffer.extend_from_slice(bytes);
            return Ok(());
        }
        self.flush().await?;
        self.send(bytes).await
    }

    /// Writes bytes past the buffer, which must be empty.
    async fn send(&mut self, bytes: &[u8]) -> Result<(), Error> {
        for piece in bytes.chunks(LARGEST_WRITE) {
            self.write(piece).await?;
        }
        Ok(())
    }

    async fn write(&mut self, piece: &[u8]) -> Result<(), Error> {
        let sent = async {
            self.socket.write_all(piece).await?;
            self.socket.flush().await
        };
        match timeout(self.idle, sent).await {
            Ok(Ok(())) => Ok(()),
            // The answers know better: the error reply before the server hung up is theirs to read.
            Ok(Err(source)) => {
                let lost = self.lost(source);
                Err(self.failure().await.unwrap_or(lost))
            }
            Err(_) => {
                Err(Error::Stalled { address: self.address.clone(), act: LOADING, idle: self.idle })
            }
        }
    }

    /// Waits, after a command of so many bytes, until all are answered if it filled the window: it is kept until then,
    /// and no other shall come to lie beside it.
    pub(super) async fn let_pass(&mut self, bytes: usize) -> Result<(), Error> {
        if bytes < self.window_bytes {
            return self.flush_if_full().await;
        }
        self.flush().await?;
        let all = u32::try_from(self.window_bytes).unwrap_or(u32::MAX);
        match self.window.clone().acquire_many_owned(all).await {
            Ok(_) => Ok(()),
            Err(_) => Err(self.ended().await),
        }
    }

    /// Waits until everything that was sent is answered.
    pub(super) async fn settle(&mut self) -> Result<(), Error> {
        let (settled, answer) = oneshot::channel();
        self.admit(0, Expect::Settled(settled)).await?;
        resp::write_command(&mut self.buffer, &[b"PING"]);
        self.flush().await?;
        match answer.await {
            Ok(()) => Ok(()),
            Err(_) => Err(self.ended().await),
        }
    }

    /// Sends a command and waits for its answer, behind all those in flight; again for as long as the server is held up.
    pub(super) async fn ask(&mut self, arguments: &[&[u8]]) -> Result<Reply, Error> {
        let mut patience = Patience::new(self.wait);
        loop {
            match self.ask_once(arguments).await? {
                Reply::Error(reply) if is_held_up(&reply) => {
                    patience.pause(&self.address, &reply).await?;
                }
                reply => return Ok(reply),
            }
        }
    }

    async fn ask_once(&mut self, arguments: &[&[u8]]) -> Result<Reply, Error> {
        let (reply, answer) = oneshot::channel();
        let bytes = arguments.iter().map(|argument| argument.len()).sum();
        self.admit(bytes, Expect::Reply(reply)).await?;
        resp::write_command(&mut self.buffer, arguments);
        self.flush().await?;
        match answer.await {
            Ok(reply) => Ok(reply),
            Err(_) => Err(self.ended().await),
        }
    }

    /// Like [`Self::ask`], but an error reply is an error.
    pub(super) async fn run(&mut self, arguments: &[&[u8]]) -> Result<Reply, Error> {
        match self.ask(arguments).await? {
            Reply::Error(reply) => {
                let name = printable(arguments.first().copied().unwrap_or_default(), 40);
                Err(Error::from_reply(&self.address, &name, &reply))
            }
            reply => Ok(reply),
        }
    }

    /// What the server says about itself, behind all that is in flight.
    pub(super) async fn info(&mut self) -> Result<Server, Error> {
        match self.run(&[b"INFO"]).await? {
            Reply::Bulk(Some(info)) => Ok(Server::parse(&String::from_utf8_lossy(&info))),
            _ => Ok(Server::default()),
        }
    }

    /// How long the server may be held up.
    pub(super) const fn wait(&self) -> Duration {
        self.wait
    }

    /// Why the answers ended.
    async fn failure(&mut self) -> Option<Error> {
        match self.answers.take()?.await {
            Ok(Err(error)) => Some(error),
            Ok(Ok(_)) | Err(_) => None,
        }
    }

    async fn ended(&mut self) -> Error {
        let lost = self.lost(io::ErrorKind::BrokenPipe.into());
        self.failure().await.unwrap_or(lost)
    }

    fn lost(&self, source: io::Error) -> Error {
        Error::Lost { address: self.address.clone(), act: LOADING, source }
    }

    /// Waits for the last answer.
    pub(super) async fn finish(mut self) -> Result<Tally, Error> {
        self.flush().await?;
        let broken = self.lost(io::ErrorKind::BrokenPipe.into());
        let Self { in_flight, answers, .. } = self;
        drop(in_flight);
        match answers {
            Some(answers) => answers.await.unwrap_or(Err(broken)),
            None => Err(broken),
        }
    }
}
