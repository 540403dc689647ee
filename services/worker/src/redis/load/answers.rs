//! Reads the answers of a load, in the order of the commands, and counts.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use coffer_rdb::entries::Entry;
use coffer_rdb::resp::{Reply, ReplyReader};
use coffer_rdb::strings::printable;
use coffer_rdb::value::Kind;
use tokio::io::{AsyncReadExt, ReadHalf};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot, watch};
use tokio::time::timeout;

use super::access::is_about_key;
use super::{Holder, LOADING};
use crate::redis::Error;
use crate::redis::client::Socket;
use crate::redis::error::first_word;
use crate::redis::patience::is_held_up;

/// The longest answer to a command of a load is that to INFO.
const LARGEST_REPLY_BYTES: u64 = 1024 * 1024;
/// What is said of a key one of whose commands was carried out while one before it came back.
const OVERTAKEN: &[u8] = b"its commands came out of order, as the server was held up or the key's slot moved in between; \
    restore once more";
/// How much of a key is shown.
const SHOWN: usize = 80;

/// What a load did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// Keys written, by type.
    pub restored: BTreeMap<Kind, u64>,
    /// Keys among them that were there before.
    pub replaced: u64,
    /// Whether `replaced` could be counted: the user may lack the right to ask.
    pub replaced_known: bool,
    /// Keys left out since their time had passed.
    pub expired: u64,
    /// Keys left out since one of their name was there.
    pub skipped: u64,
    /// Keys and functions left out since the server cannot hold them.
    pub lost: u64,
    /// Function libraries.
    pub functions: u64,
    /// Keys in the dump, those included that were not meant.
    pub read: u64,
    /// The servers that took them, when the last was answered; none if nothing was to be written.
    pub holders: Vec<Holder>,
    /// What a user should know about them.
    pub remarks: Vec<String>,
}

impl Tally {
    /// All keys written.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.restored.values().sum()
    }

    /// Takes keys out that were counted as written.
    pub(super) fn take_out(&mut self, gone: &BTreeMap<Kind, u64>) {
        for (kind, count) in gone {
            if let Some(written) = self.restored.get_mut(kind) {
                *written = written.saturating_sub(*count);
            }
        }
        self.restored.retain(|_, written| *written > 0);
    }

    /// Adds what another connection did.
    pub(super) fn add(&mut self, more: Self) {
        let Self {
            restored,
            replaced,
            replaced_known: _,
            expired,
            skipped,
            lost,
            functions,
            read,
            holders,
            remarks,
        } = more;
        for (kind, count) in restored {
            *self.restored.entry(kind).or_default() += count;
        }
        self.replaced += replaced;
        self.expired += expired;
        self.skipped += skipped;
        self.lost += lost;
        self.functions += functions;
        self.read += read;
        self.holders.extend(holders);
        self.remarks.extend(remarks);
    }
}

/// What is to be sent once more.
pub(super) struct Again {
    pub(super) what: What,
    pub(super) to: To,
    /// How often it was sent on.
    pub(super) hops: u8,
}

/// A whole key, or one of the commands that write it.
pub(super) enum What {
    Key(Entry),
    Command(Command),
}

/// A typed command, kept whole until it is answered.
pub(super) struct Command {
    pub(super) arguments: Vec<Bytes>,
    pub(super) key: Bytes,
    pub(super) database: u64,
    pub(super) counts: Counts,
    /// What it writes, for messages.
    pub(super) what: Cow<'static, str>,
    /// How often it was sent on.
    pub(super) hops: u8,
}

/// What is counted by a typed command.
#[derive(Clone, Copy)]
pub(super) enum Counts {
    /// A key is written.
    Key(Kind),
    /// A key that is counted already gets more.
    More,
    /// How many were there: 1.
    Existed,
}

/// Where to.
pub(super) enum To {
    /// To the same server, when it is no longer held up.
    Later,
    /// To the same server, where one of its name is after all: to replace that.
    Replace,
    /// To another server of the cluster, for this once (`ASK`) or from now on (`MOVED`).
    Elsewhere { address: (String, u16), ask: bool },
}

/// A key that is kept until it is answered, since it may have to be sent once more.
pub(super) struct Kept {
    pub(super) entry: Entry,
    pub(super) hops: u8,
    /// Whether one that is there is to be replaced.
    pub(super) replaces: bool,
}

impl Kept {
    fn again(self, reply: &[u8], from: &str) -> Option<Again> {
        let Self { entry, hops, replaces } = self;
        let to = match first_word(reply) {
            "BUSYKEY" if replaces => To::Replace,
            _ => To::of(reply, from)?,
        };
        Some(Again { what: What::Key(entry), to, hops: hops + 1 })
    }
}

impl To {
    /// `BUSY …`, or `MOVED 3999 127.0.0.1:6381`.
    fn of(reply: &[u8], from: &str) -> Option<Self> {
        if is_held_up(reply) {
            return Some(Self::Later);
        }
        let (address, ask) = elsewhere(reply, from)?;
        Some(Self::Elsewhere { address, ask })
    }
}

/// Where an error reply of a server at `from` sends the question, and whether for this once.
pub(in crate::redis) fn elsewhere(reply: &[u8], from: &str) -> Option<((String, u16), bool)> {
    let text = std::str::from_utf8(reply).ok()?;
    let mut words = text.split_ascii_whitespace();
    let ask = match words.next()? {
        "MOVED" => false,
        "ASK" => true,
        _ => return None,
    };
    let (host, port) = words.nth(1)?.rsplit_once(':')?;
    // A server that does not know its own address means the one that was asked.
    let host = if host.is_empty() { from.rsplit_once(':')?.0 } else { host };
    Some(((host.trim_matches(['[', ']']).to_owned(), port.parse().ok()?), ask))
}

/// A command on its way.
pub(super) struct Sent {
    pub(super) expect: Expect,
    /// Given back with the answer.
    pub(super) room: OwnedSemaphorePermit,
}

/// What an answer is for.
pub(super) enum Expect {
    /// A key is written.
    Key {
        key: Bytes,
        database: u64,
        kind: Kind,
        what: Cow<'static, str>,
        /// Whether one that is there may stay.
        skip: bool,
        /// The key, which may have to be sent once more.
        kept: Box<Kept>,
    },
    /// A key, or a part of one, is written by a command of its type.
    Command(Box<Command>),
    /// Whether a key was there: 1.
    Existed,
    /// Any refusal but one that is about the key.
    Access { key: Bytes, database: u64 },
    /// Nothing but OK.
    Nothing,
    /// Somebody waits for it.
    Reply(oneshot::Sender<Reply>),
    /// The same, of whoever sends on what came back before it sends anything else.
    Settled(oneshot::Sender<()>),
}

/// How long a server may be silent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Silence {
    /// For ever when absent.
    limit: Option<Duration>,
    /// What is being done, for the error.
    act: &'static str,
}

impl Silence {
    /// While commands are sent.
    pub(super) const fn during(idle: Duration) -> Self {
        Self { limit: Some(idle), act: LOADING }
    }

    /// At the end of the pipe, as redis-cli has it: 0 is for ever.
    pub(super) const fn at_the_end(pipe_timeout: Duration) -> Self {
        let limit = if pipe_timeout.is_zero() { None } else { Some(pipe_timeout) };
        Self { limit, act: "wait for the last answers (args --pipe-timeout) of" }
    }

    /// Either what comes of it, or that it was too long.
    async fn wait<T>(self, work: impl Future<Output = T>, address: &str) -> Result<T, Error> {
        let Self { limit, act } = self;
        let Some(idle) = limit else { return Ok(work.await) };
        let stalled = |_| Error::Stalled { address: address.to_owned(), act, idle };
        timeout(idle, work).await.map_err(stalled)
    }
}

pub(super) struct Answers {
    socket: ReadHalf<Box<dyn Socket>>,
    replies: ReplyReader,
    sent: mpsc::Receiver<Sent>,
    address: String,
    silence: watch::Receiver<Silence>,
    written: Arc<AtomicU64>,
    again: mpsc::UnboundedSender<Again>,
    /// Keys of commands that came back, by database. What is behind must not overtake them.
    held: HashSet<(u64, Bytes)>,
}

impl Answers {
    pub(super) fn new(
        socket: ReadHalf<Box<dyn Socket>>,
        rest: BytesMut,
        sent: mpsc::Receiver<Sent>,
        address: String,
        silence: watch::Receiver<Silence>,
        written: Arc<AtomicU64>,
        again: mpsc::UnboundedSender<Again>,
    ) -> Self {
        let mut replies = ReplyReader::new(LARGEST_REPLY_BYTES);
        replies.buffer().extend_from_slice(&rest);
        let held = HashSet::new();
        Self { socket, replies, sent, address, silence, written, again, held }
    }

    /// Reads until every command is answered, or one is refused.
    pub(super) async fn read_all(mut self) -> Result<Tally, Error> {
        let mut tally = Tally::default();
        while let Some(Sent { expect, room }) = self.sent.recv().await {
            let reply = self.reply().await?;
            drop(room);
            match (expect, reply) {
                (Expect::Reply(waiting), reply) => {
                    // Nobody waits any more when the load was given up.
                    let _ = waiting.send(reply);
                }
                (Expect::Key { key, database, what, skip, kept, .. }, Reply::Error(reply)) => {
                    if skip && first_word(&reply) == "BUSYKEY" {
                        tally.skipped += 1;
                    } else {
                        match kept.again(&reply, &self.address) {
                            // Nobody takes it any more when the load was given up.
                            Some(again) => drop(self.again.send(again)),
                            None => return Err(self.key_refused(&key, database, what, &reply)),
                        }
                    }
                }
                (Expect::Settled(waiting), _) => {
                    self.held.clear();
                    let _ = waiting.send(());
                }
                (Expect::Access { key, database }, Reply::Error(reply)) if is_about_key(&reply) => {
                    return Err(Error::NoAccess {
                        address: self.address,
                        key: printable(&key, SHOWN),
                        database,
                        reply: printable(&reply, 300),
                    });
                }
                (Expect::Access { .. }, _) => {}
                (Expect::Command(command), reply) => self.command(*command, reply, &mut tally)?,
                // What it is about comes back, too, and may be answered otherwise then.
                (Expect::Existed | Expect::Nothing, Reply::Error(reply))
                    if To::of(&reply, &self.address).is_some() => {}
                (Expect::Existed | Expect::Nothing, Reply::Error(reply)) => {
                    return Err(Error::from_reply(&self.address, "EXISTS or DEL", &reply));
                }
                (Expect::Key { kind, .. }, _) => {
                    *tally.restored.entry(kind).or_default() += 1;
                    self.written.fetch_add(1, Ordering::Relaxed);
                }
                (Expect::Existed, Reply::Integer(existed)) => {
                    tally.replaced += u64::try_from(existed).unwrap_or(0);
                }
                (Expect::Existed | Expect::Nothing, _) => {}
            }
        }
        Ok(tally)
    }

    fn command(&mut self, command: Command, reply: Reply, tally: &mut Tally) -> Result<(), Error> {
        let place = (command.database, command.key.clone());
        match reply {
            Reply::Error(reply) => {
                let Some(to) = To::of(&reply, &self.address) else {
                    let Command { key, database, what, .. } = command;
                    return Err(self.key_refused(&key, database, what, &reply));
                };
                self.held.insert(place);
                let hops = command.hops + 1;
                // Nobody takes it any more when the load was given up.
                drop(self.again.send(Again { what: What::Command(command), to, hops }));
            }
            _ if self.held.contains(&place) => {
                let Command { key, database, what, .. } = command;
                return Err(self.key_refused(&key, database, what, OVERTAKEN));
            }
            reply => match (command.counts, reply) {
                (Counts::Key(kind), _) => {
                    *tally.restored.entry(kind).or_default() += 1;
                    self.written.fetch_add(1, Ordering::Relaxed);
                }
                (Counts::Existed, Reply::Integer(existed)) => {
                    tally.replaced += u64::try_from(existed).unwrap_or(0);
                }
                (Counts::More | Counts::Existed, _) => {}
            },
        }
        Ok(())
    }

    async fn reply(&mut self) -> Result<Reply, Error> {
        let lost = |source| Error::Lost { address: self.address.clone(), act: LOADING, source };
        loop {
            let reply = self.replies.next();
            let not_redis = |source| Error::NotRedis { address: self.address.clone(), source };
            if let Some(reply) = reply.map_err(not_redis)? {
                return Ok(reply);
            }
            let silence = *self.silence.borrow_and_update();
            let read = self.socket.read_buf(self.replies.buffer());
            let read = tokio::select! {
                read = silence.wait(read, &self.address) => read?,
                // All is sent, and the wait begins anew.
                Ok(()) = self.silence.changed() => continue,
            };
            match read {
                Ok(0) => return Err(lost(io::ErrorKind::UnexpectedEof.into())),
                Ok(_) => {}
                Err(source) => return Err(lost(source)),
            }
        }
    }

    fn key_refused(
        &self,
        key: &[u8],
        database: u64,
        what: Cow<'static, str>,
        reply: &[u8],
    ) -> Error {
        let text = printable(reply, 300);
        let remedy = match first_word(reply) {
            "NOPERM" => return Error::from_reply(&self.address, "RESTORE or SET", reply),
            "OOM" => "; raise maxmemory or restore into a larger server",
            "READONLY" => "; point the AppBinding at the master",
            "BUSYKEY" => "; it was not there when the restore began: onConflict is fail",
            "MISCONF" => "; the server refuses writes until it can save again",
            _ if text.contains("Bad data format") => {
                "; a module or a newer server is needed to hold it"
            }
            _ if text.contains("version or checksum") => "; the server is older than the snapshot",
            _ => "",
        };
        let (address, key) = (self.address.clone(), printable(key, SHOWN));
        Error::Key { address, key, what: what.into_owned(), database, reply: text, remedy }
    }
}
