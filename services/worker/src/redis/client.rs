//! One connection that speaks RESP2: a question, an answer.
//!
//! Who asks may be dropped before the answer is there, as a job is that is told to stop. What was asked is asked, and
//! the next question goes behind it: its answer is not taken for that to the one before.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::BytesMut;
use coffer_rdb::resp::{self, Reply, ReplyReader};
use coffer_rdb::strings::printable;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::patience::{Patience, is_held_up};
use super::{Error, tls};

/// No answer to a question of this worker is larger: `INFO` is a few kilobytes.
const LARGEST_REPLY_BYTES: u64 = 16 * 1024 * 1024;

/// A socket, with or without TLS.
pub(crate) trait Socket: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Socket for T {}

/// A connection to a Redis.
pub struct Client {
    socket: Box<dyn Socket>,
    replies: ReplyReader,
    /// Of the questions, what is still to be sent.
    unsent: BytesMut,
    /// Questions whose answers have not come.
    open: usize,
    address: String,
    /// How long nothing may move before the server counts as hung.
    idle: Duration,
    /// How long it may be held up, once it was reached.
    wait: Duration,
    /// Whether that is waited for here.
    patient: bool,
    /// Nothing was read yet: what the first bytes look like tells which protocol is spoken.
    fresh: bool,
    /// Both ends, when it is a connection over IP.
    ends: Option<(SocketAddr, SocketAddr)>,
}

impl Client {
    pub(crate) fn new(socket: Box<dyn Socket>, address: String, idle: Duration) -> Self {
        let replies = ReplyReader::new(LARGEST_REPLY_BYTES);
        let unsent = BytesMut::new();
        let wait = Duration::ZERO;
        let (open, patient, fresh, ends) = (0, false, true, None);
        Self { socket, replies, unsent, open, address, idle, wait, patient, fresh, ends }
    }

    /// Says how long to wait for the server when it is held up.
    pub(crate) fn waiting(self, wait: Duration) -> Self {
        Self { wait, ..self }
    }

    /// From now on asks again for as long as the server is held up.
    pub(crate) const fn be_patient(&mut self) {
        self.patient = true;
    }

    /// How long to wait for the server when it is held up.
    pub(crate) const fn wait(&self) -> Duration {
        self.wait
    }

    pub(crate) fn between(self, ends: Option<(SocketAddr, SocketAddr)>) -> Self {
        Self { ends, ..self }
    }

    /// Our end of the connection and the server's, if it goes over IP.
    pub(crate) const fn addresses(&self) -> Option<(SocketAddr, SocketAddr)> {
        self.ends
    }

    /// Host and port, for messages.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Sends a command and waits for the answer, which may be an error reply. When this is dropped, the command may be
    /// carried out all the same.
    ///
    /// # Errors
    /// When the connection fails or what answers is no Redis.
    pub async fn ask(&mut self, arguments: &[&[u8]]) -> Result<Reply, Error> {
        let mut patience = Patience::new(self.wait);
        loop {
            match self.ask_once(arguments).await? {
                Reply::Error(reply) if self.patient && is_held_up(&reply) => {
                    patience.pause(&self.address, &reply).await?;
                }
                reply => return Ok(reply),
            }
        }
    }

    async fn ask_once(&mut self, arguments: &[&[u8]]) -> Result<Reply, Error> {
        resp::write_command(&mut self.unsent, arguments);
        self.open += 1;
        let sent = async {
            self.socket.write_all_buf(&mut self.unsent).await?;
            self.socket.flush().await
        };
        let sent = tokio::time::timeout(self.idle, sent).await;
        match sent {
            Err(_) => return Err(self.stalled()),
            // The answer that explains a refused write may be there to read.
            Ok(Err(failure)) if !self.fresh => return Err(self.lost(failure)),
            Ok(_) => {}
        }
        loop {
            let answer = self.answer().await?;
            self.open -= 1;
            if self.open == 0 {
                return Ok(answer);
            }
        }
    }

    /// Sends commands whose answers are then read one by one.
    pub(crate) async fn send(&mut self, commands: &[u8]) -> Result<(), Error> {
        let sent = async {
            self.socket.write_all(commands).await?;
            self.socket.flush().await
        };
        match tokio::time::timeout(self.idle, sent).await {
            Err(_) => Err(self.stalled()),
            Ok(Err(failure)) => Err(self.lost(failure)),
            Ok(Ok(())) => Ok(()),
        }
    }

    /// From now on takes replies of that size. Only between two questions.
    pub(crate) fn take_replies_of(&mut self, largest: u64) {
        self.replies = ReplyReader::new(largest);
    }

    /// The next answer to what was sent.
    pub(crate) async fn answer(&mut self) -> Result<Reply, Error> {
        loop {
            let next = self.replies.next();
            if let Some(reply) =
                next.map_err(|source| Error::NotRedis { address: self.address.clone(), source })?
            {
                self.fresh = false;
                return Ok(reply);
            }
            let read = self.socket.read_buf(self.replies.buffer());
            match tokio::time::timeout(self.idle, read).await {
                Err(_) => return Err(self.stalled()),
                Ok(Err(failure)) => return Err(self.lost(failure)),
                Ok(Ok(0)) => return Err(self.lost(io::ErrorKind::UnexpectedEof.into())),
                Ok(Ok(_)) => {}
            }
            // 21 opens a TLS alert, which is how a TLS server answers plain text.
            if self.fresh && self.replies.buffer().first() == Some(&21) {
                return Err(Error::ExpectsTls { address: self.address.clone() });
            }
        }
    }

    /// Like [`Self::ask`], but an error reply is an error.
    ///
    /// # Errors
    /// Also when the server refuses the command.
    pub async fn run(&mut self, arguments: &[&[u8]]) -> Result<Reply, Error> {
        match self.ask(arguments).await? {
            Reply::Error(reply) => Err(self.refused(arguments, &reply)),
            reply => Ok(reply),
        }
    }

    /// Like [`Self::run`] for commands that answer with text.
    ///
    /// # Errors
    /// Also when the answer is none.
    pub async fn text(&mut self, arguments: &[&[u8]]) -> Result<String, Error> {
        match self.run(arguments).await? {
            Reply::Bulk(Some(text)) | Reply::Status(text) => {
                Ok(String::from_utf8_lossy(&text).into_owned())
            }
            other => Err(Error::Answer {
                address: self.address.clone(),
                command: name_of(arguments),
                reply: printable(format!("{other:?}").as_bytes(), 100),
            }),
        }
    }

    pub(crate) fn refused(&self, arguments: &[&[u8]], reply: &[u8]) -> Error {
        Error::from_reply(&self.address, &name_of(arguments), reply)
    }

    fn lost(&self, failure: io::Error) -> Error {
        let address = self.address.clone();
        let mut failure = failure;
        if failure.get_ref().is_some() {
            // Formatting is the only way to keep the text: an io::Error cannot be cloned.
            let text = failure.to_string();
            let kind = failure.kind();
            match tls::explain(&address, failure) {
                Some(explained) => return explained,
                None => failure = io::Error::new(kind, text),
            }
        }
        Error::Lost { address, act: "talk to", source: failure }
    }

    fn stalled(&self) -> Error {
        Error::Stalled { address: self.address.clone(), act: "talk to", idle: self.idle }
    }

    /// Leaves the protocol: the socket, what was received and not read, the address, the idle limit.
    pub(crate) fn into_parts(self) -> (Box<dyn Socket>, BytesMut, String, Duration) {
        (self.socket, self.replies.into_rest(), self.address, self.idle)
    }
}

/// The command's name for messages, never its arguments: they may hold a password or data.
fn name_of(arguments: &[&[u8]]) -> String {
    arguments.first().map(|name| printable(name, 40)).unwrap_or_default()
}
