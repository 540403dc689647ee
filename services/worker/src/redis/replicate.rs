//! Attaches as a replica and receives the RDB: the one dump that is of one instant and complete.
//!
//! The server forks, and its child writes the data as it stood; nothing is read key by key, no type needs
//! to be understood, and the user needs no right to any key. With `rdb-only` (Redis 7.0) the server queues
//! no writes for us meanwhile; older servers do, within their `client-output-buffer-limit replica`, and
//! cut us when it overflows, which fails the backup loudly.

use std::io;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use coffer_rdb::Error as RdbError;
use coffer_rdb::resp::Reply;
use coffer_rdb::strings::printable;
use coffer_rdb::walk::Summary;
use coffer_runtime::grpc::PIECE_BYTES;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use super::client::Socket;
use super::error::first_word;
use super::frame::{Content, Damage, Ending, Frame, MARKER_LEN};
use super::{Client, Error, Server};

/// A piece is handed out when less than this is free in its memory.
const LEAST_READ: usize = 16 * 1024;
/// A line of the handshake is never longer: the longest is FULLRESYNC with id and offset.
const LONGEST_LINE: usize = 1024;
/// Between two attempts when the server cannot sync yet.
const PAUSE: Duration = Duration::from_secs(1);
/// However short the wait: a server may take so long to fork.
const LEAST_WAIT: Duration = Duration::from_secs(1);
/// Valkey from 9 on sends its own dialect only to whoever names a version that has it; without, its
/// child dies at the first hash with field TTLs.
const OUR_VALKEY_VERSION: &[u8] = b"9.0.0";

const RECEIVING: &str = "receive the dump from";

/// A dump on its way.
pub struct Replication {
    socket: Box<dyn Socket>,
    address: String,
    idle: Duration,
    received: BytesMut,
    pending: BytesMut,
    frame: Frame,
    replication_id: String,
    offset: i64,
    announced: Option<u64>,
    began_after: Duration,
}

/// A dump that arrived whole.
#[derive(Debug)]
pub struct Received {
    /// What it holds; `None` when something in it is unknown to this version.
    pub summary: Option<Summary>,
    /// The unknown, when there is any.
    pub opaque: Option<RdbError>,
    /// Bytes.
    pub bytes: u64,
    /// The replication id of its instant.
    pub replication_id: String,
    /// The replication offset of its instant.
    pub offset: i64,
}

impl Replication {
    /// Attaches and returns when the first byte of the RDB is due. That can take some seconds: servers
    /// wait `repl-diskless-sync-delay` (5 s) before they fork, and for any other child to end.
    ///
    /// # Errors
    /// When the server refuses, or is not ready within `wait`.
    pub async fn start(mut client: Client, server: &Server, wait: Duration) -> Result<Self, Error> {
        require(&mut client, &[b"REPLCONF", b"capa", b"eof", b"capa", b"psync2"]).await?;
        if server.is_at_least(7, 0) {
            offer(&mut client, &[b"REPLCONF", b"rdb-only", b"1"]).await?;
        }
        if server.valkey_version.is_some() {
            offer(&mut client, &[b"REPLCONF", b"version", OUR_VALKEY_VERSION]).await?;
        }
        let (socket, received, address, idle) = client.into_parts();
        let mut replication = Self {
            socket,
            address,
            idle,
            received,
            pending: BytesMut::new(),
            frame: Frame::new(Ending::Length(0)),
            replication_id: String::new(),
            offset: 0,
            announced: None,
            began_after: Duration::ZERO,
        };
        let asked = Instant::now();
        replication.attach(wait).await?;
        let ending = replication.ending().await?;
        if let Ending::Length(bytes) = ending {
            replication.announced = Some(bytes);
        }
        replication.frame = Frame::new(ending);
        replication.began_after = asked.elapsed();
        Ok(replication)
    }

    /// Asks until the server agrees.
    async fn attach(&mut self, wait: Duration) -> Result<(), Error> {
        let deadline = Instant::now() + wait.max(LEAST_WAIT);
        loop {
            let sent = async {
                self.socket.write_all(b"*3\r\n$5\r\nPSYNC\r\n$1\r\n?\r\n$2\r\n-1\r\n").await?;
                self.socket.flush().await
            };
            sent.await.map_err(|source| self.lost(source))?;
            // The server agrees when it forks; until then it says that it is alive, and nothing else.
            let Ok(line) = timeout_at(deadline, self.line()).await else {
                return Err(Error::NotReady {
                    address: self.address.clone(),
                    waited: wait,
                    reply: "it has not forked: repl-diskless-sync-delay is longer, or another child is at work"
                        .to_owned(),
                });
            };
            let line = line?;
            if let Some(rest) = line.strip_prefix(b"+FULLRESYNC ") {
                let text = String::from_utf8_lossy(rest);
                let mut words = text.split_ascii_whitespace();
                words.next().unwrap_or_default().clone_into(&mut self.replication_id);
                self.offset = words.next().and_then(|word| word.parse().ok()).unwrap_or(-1);
                return Ok(());
            }
            let Some(reply) = line.strip_prefix(b"-") else {
                return Err(Error::Answer {
                    address: self.address.clone(),
                    command: "PSYNC".to_owned(),
                    reply: printable(&line, 100),
                });
            };
            let next = Instant::now() + PAUSE;
            match first_word(reply) {
                "LOADING" | "NOMASTERLINK" | "BUSY" | "MASTERDOWN" if next < deadline => {
                    tracing::info!(reply = printable(reply, 200), "the server cannot sync yet");
                    sleep_until(next).await;
                }
                "LOADING" | "NOMASTERLINK" | "BUSY" | "MASTERDOWN" => {
                    return Err(Error::NotReady {
                        address: self.address.clone(),
                        waited: wait,
                        reply: printable(reply, 300),
                    });
                }
                _ => return Err(Error::from_reply(&self.address, "PSYNC", reply)),
            }
        }
    }

    /// Reads the line that opens the RDB.
    async fn ending(&mut self) -> Result<Ending, Error> {
        let line = self.line().await?;
        let unexpected = || Error::Answer {
            address: self.address.clone(),
            command: "PSYNC".to_owned(),
            reply: printable(&line, 100),
        };
        if let Some(reply) = line.strip_prefix(b"-") {
            return Err(Error::from_reply(&self.address, "PSYNC", reply));
        }
        if let Some(marker) = line.strip_prefix(b"$EOF:") {
            let marker: [u8; MARKER_LEN] = marker.try_into().map_err(|_| unexpected())?;
            return Ok(Ending::Marker(marker));
        }
        let digits = line.strip_prefix(b"$").and_then(|digits| std::str::from_utf8(digits).ok());
        let len = digits.and_then(|digits| digits.parse().ok()).ok_or_else(unexpected)?;
        Ok(Ending::Length(len))
    }

    /// Reads a line, past the empty ones by which the server says that it is alive.
    async fn line(&mut self) -> Result<Bytes, Error> {
        loop {
            while self.received.first() == Some(&b'\n') {
                self.received.advance(1);
            }
            if let Some(end) = self.received.iter().position(|byte| *byte == b'\n') {
                let mut line = self.received.split_to(end + 1).freeze();
                line.truncate(end);
                if line.ends_with(b"\r") {
                    line.truncate(end - 1);
                }
                return Ok(line);
            }
            if self.received.len() > LONGEST_LINE {
                return Err(Error::Answer {
                    address: self.address.clone(),
                    command: "PSYNC".to_owned(),
                    reply: printable(&self.received, 100),
                });
            }
            self.read().await?;
        }
    }

    async fn read(&mut self) -> Result<(), Error> {
        match timeout(self.idle, self.socket.read_buf(&mut self.received)).await {
            Ok(Ok(0)) => Err(self.lost(io::ErrorKind::UnexpectedEof.into())),
            Ok(Ok(_)) => Ok(()),
            Ok(Err(source)) => Err(self.lost(source)),
            Err(_) => Err(Error::Stalled {
                address: self.address.clone(),
                act: RECEIVING,
                idle: self.idle,
            }),
        }
    }

    /// The next piece of the RDB, at most [`PIECE_BYTES`]; `None` after the last one.
    ///
    /// # Errors
    /// When the connection is lost, or what arrives is damaged.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            let data = self.frame.take(&mut self.received).map_err(|found| self.damaged(found))?;
            // Pieces of one allocation join without a copy.
            self.pending.unsplit(data);
            let full = self.received.capacity() - self.received.len() < LEAST_READ;
            if self.frame.is_complete() || full || self.pending.len() >= PIECE_BYTES {
                if !self.pending.is_empty() {
                    let len = self.pending.len().min(PIECE_BYTES);
                    return Ok(Some(self.pending.split_to(len).freeze()));
                }
                if self.frame.is_complete() {
                    return Ok(None);
                }
                self.received.reserve(PIECE_BYTES);
            }
            self.read().await?;
        }
    }

    /// Bytes of the RDB so far.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.frame.bytes()
    }

    /// Keys so far.
    #[must_use]
    pub fn keys(&self) -> u64 {
        self.frame.keys()
    }

    /// How long after it was asked the server began: it waits `repl-diskless-sync-delay` for more replicas, or for another
    /// child to end, or writes to its disk first.
    #[must_use]
    pub const fn began_after(&self) -> Duration {
        self.began_after
    }

    /// The length of the RDB, where the server knows it.
    #[must_use]
    pub const fn announced(&self) -> Option<u64> {
        self.announced
    }

    /// Confirms that the dump arrived whole, and says what it holds.
    ///
    /// # Errors
    /// When it is not whole.
    pub fn finish(self) -> Result<Received, Error> {
        let Self { address, frame, replication_id, offset, .. } = self;
        let bytes = frame.bytes();
        let (summary, opaque) = match frame.finish() {
            Ok(Content::Counted(summary)) => (Some(summary), None),
            Ok(Content::Opaque { reason }) => (None, Some(reason)),
            Err(Damage { what, source }) => return Err(Error::Dump { address, what, source }),
        };
        Ok(Received { summary, opaque, bytes, replication_id, offset })
    }

    fn lost(&self, source: io::Error) -> Error {
        Error::Lost { address: self.address.clone(), act: RECEIVING, source }
    }

    fn damaged(&self, Damage { what, source }: Damage) -> Error {
        Error::Dump { address: self.address.clone(), what, source }
    }
}

/// Sends what the server must accept.
async fn require(client: &mut Client, arguments: &[&[u8]]) -> Result<(), Error> {
    client.run(arguments).await.map(drop)
}

/// Sends what a server may not know; only missing rights are an error.
async fn offer(client: &mut Client, arguments: &[&[u8]]) -> Result<(), Error> {
    match client.ask(arguments).await? {
        Reply::Error(reply) if first_word(&reply) == "NOPERM" => {
            Err(client.refused(arguments, &reply))
        }
        _ => Ok(()),
    }
}
