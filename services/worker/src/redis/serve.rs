//! Plays the master: the empty target attaches to us, loads the RDB at its own loading speed, and is made a
//! master again. Nothing is faster, and nothing is closer to the original: the server reads the file itself.
//!
//! The target must reach us. We listen at the address by which we reach it, and serve one connection only, since
//! what we hand out is all of the data: to the address that was dialled, or to who knows what the target alone was
//! told ([`password`]).
//!
//! From [`Serving::attach`] on the target is not as it was, and [`Serving::give_up`] sets it back. Each step may be
//! dropped in its midst, as when the job is told to stop: what may have been done counts as done.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use coffer_rdb::resp::Reply;
use coffer_runtime::fault::chain;
use coffer_runtime::shutdown::Shutdown;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};

use self::greeting::greet;
use self::password::Password;
use self::straight::Straight;
use super::error::first_word;
use super::{Client, Error, Node, Server};

mod greeting;
mod password;
mod straight;

/// A replica attaches once a second; this long it may take until it comes.
const ATTACH_LIMIT: Duration = Duration::from_secs(30);
/// A replica says all that it has to say at once.
const GREETING_LIMIT: Duration = Duration::from_secs(10);
/// Between two looks at whether the target is done.
const PAUSE: Duration = Duration::from_millis(20);
/// A target that loads tells nothing else; how long it may take after the last byte without an answer.
const LOAD_LIMIT: Duration = Duration::from_secs(3600);
/// What was sent before may have to be loaded before a target notices that nothing more comes.
const LET_GO_LIMIT: Duration = Duration::from_secs(60);
/// A Pod that is told to stop has 30 s, and the result is to be written, too.
const STOP_LIMIT: Duration = Duration::from_secs(20);
const SERVING: &str = "serve the dump to";

/// A target that is to attach.
pub struct Serving {
    client: Client,
    address: String,
    listener: TcpListener,
    /// Where the target comes from: the address that was dialled, or from where it came that was told the password.
    peer: IpAddr,
    password: Password,
    replica: Option<TcpStream>,
    /// Whether the target was told to attach, and has to be told to let go.
    attached: bool,
    /// It has nothing that it should keep until the file is there.
    empty: bool,
    straight: Straight,
}

/// What a target says about itself that has loaded the file.
pub struct Loaded {
    /// Before it was a master again: a replica leaves it to its master to remove keys, also those whose time has passed
    /// and those that it has no room for.
    pub attached: Server,
    /// Right afterwards.
    pub promoted: Server,
}

impl Serving {
    /// Makes sure that the target may be loaded this way, and listens for it. Changes nothing.
    ///
    /// # Errors
    /// Says what does not fit.
    pub async fn prepare(node: Node, flush: bool) -> Result<Self, Error> {
        let Node { mut client, server, .. } = node;
        let address = client.address().to_owned();
        let refuse =
            |why: &str| Error::Replication { address: address.clone(), why: why.to_owned() };
        if server.cluster {
            return Err(refuse("it is in cluster mode, where REPLICAOF is not allowed"));
        }
        if let Some(master) = server.master {
            return Err(Error::Replica { address, master });
        }
        let held = if server.keys > 0 { "keys" } else { "function libraries" };
        let empty = server.keys == 0 && server.libraries == 0;
        if !empty && !flush {
            return Err(refuse(&format!(
                "it holds {held}, and attaching would delete them; set `flush: true` to allow that"
            )));
        }
        if !server.replicas.is_empty() {
            return Err(refuse(
                "it has replicas, which a new history would make copy everything again",
            ));
        }
        let Some((here, there)) = client.addresses() else {
            return Err(refuse("it is reached through a Unix socket, so that it has no way back"));
        };
        let tls = client.ask(&[b"CONFIG", b"GET", b"tls-replication"]).await?;
        if matches!(value_of(&tls).as_deref(), Some(b"yes")) {
            return Err(refuse("it attaches to masters by TLS only (tls-replication yes)"));
        }
        let listener = TcpListener::bind(SocketAddr::new(here.ip(), 0)).await;
        let listener =
            listener.map_err(|source| Error::Listen { address: here.ip().to_string(), source })?;
        Ok(Self {
            client,
            address,
            listener,
            peer: there.ip(),
            password: Password::default(),
            replica: None,
            attached: false,
            empty,
            straight: Straight::No,
        })
    }

    /// Tells the target to attach, and answers its greeting up to where the file is due.
    ///
    /// # Errors
    /// When it refuses, or does not come.
    pub async fn attach(&mut self, bytes: u64) -> Result<(), Error> {
        let here = self.listener.local_addr().map_err(|source| self.lost(source))?;
        if self.empty {
            self.straight.ask(&mut self.client).await?;
        }
        let (host, port) = (here.ip().to_string(), here.port().to_string());
        self.attached = true;
        // Known to Redis as REPLICAOF since 5.0; the old name still works everywhere.
        let attach: [&[u8]; 3] = [b"SLAVEOF", host.as_bytes(), port.as_bytes()];
        if let Reply::Error(reply) = self.client.ask(&attach).await? {
            self.attached = false;
            return Err(self.client.refused(&attach, &reply));
        }
        let deadline = Instant::now() + ATTACH_LIMIT;
        let mut refused = None;
        loop {
            let Ok(accepted) = timeout_at(deadline, self.listener.accept()).await else {
                return Err(self.no_way_back(here, refused));
            };
            let (mut socket, from) = accepted.map_err(|source| self.lost(source))?;
            match self.recognise(&mut socket, from.ip(), bytes).await? {
                None => {
                    (self.peer, self.replica) = (from.ip(), Some(socket));
                    break;
                }
                Some(why) => {
                    tracing::warn!(%from, why, "refused to serve somebody");
                    refused = Some((from, why));
                }
            }
        }
        // It is not loading yet, and answers. What does not work now is tried again, and told, at the end.
        drop(self.password.put_back(&mut self.client).await);
        Ok(())
    }

    /// Greets who came, if it is the target. Gives back why it was not served, if so.
    async fn recognise(
        &mut self,
        socket: &mut TcpStream,
        from: IpAddr,
        bytes: u64,
    ) -> Result<Option<String>, Error> {
        let word = self.password.word().filter(|_| from != self.peer);
        if from != self.peer && word.is_none() {
            let why = self.password.tell(&mut self.client).await?;
            let peer = self.peer;
            return Ok(Some(match why {
                None => format!("it is not {peer}, and the target has yet to come with a password"),
                Some(why) => format!(
                    "it is not {peer}, and the target cannot be told a password to be known by: {why}"
                ),
            }));
        }
        Ok(match timeout(GREETING_LIMIT, greet(socket, bytes, word)).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                Some("it does not know the password that the target was told".to_owned())
            }
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some("it did not ask for the data".to_owned()),
        })
    }

    fn no_way_back(&self, here: SocketAddr, refused: Option<(SocketAddr, String)>) -> Error {
        let why = match refused {
            None => {
                "there is no way from it to this Job; use `load: keys`, or open the network policies"
                    .to_owned()
            }
            Some((from, why)) => {
                format!("who came from {from} was not served, since {why}; use `load: keys`")
            }
        };
        Error::Replication {
            address: self.address.clone(),
            why: format!("it did not attach to {here} within {} s: {why}", ATTACH_LIMIT.as_secs()),
        }
    }

    /// Sends a piece of the file.
    ///
    /// # Errors
    /// When the target hangs up: it has met something that it cannot load.
    pub async fn send(&mut self, piece: &Bytes) -> Result<(), Error> {
        let Some(replica) = &mut self.replica else { return Err(self.broken()) };
        match replica.write_all(piece).await {
            Ok(()) => Ok(()),
            Err(source) => Err(self.lost(source)),
        }
    }

    /// Waits until the target has loaded everything, and makes it a master again.
    ///
    /// # Errors
    /// When it did not load the file.
    pub async fn finish(&mut self, warnings: &mut Vec<String>) -> Result<Loaded, Error> {
        let deadline = Instant::now() + LOAD_LIMIT;
        let attached = loop {
            let server = Server::ask(&mut self.client).await?;
            if server.link_is_up {
                break server;
            }
            // A file that it cannot read makes it hang up and attach anew.
            if self.has_come_again().await {
                return Err(Error::Replication {
                    address: self.address.clone(),
                    why: "it hung up and came again: it could not load the file; its log says why"
                        .to_owned(),
                });
            }
            if Instant::now() > deadline {
                return Err(Error::Stalled {
                    address: self.address.clone(),
                    act: SERVING,
                    idle: LOAD_LIMIT,
                });
            }
            sleep_until(Instant::now() + PAUSE).await;
        };
        self.client.run(&[b"SLAVEOF", b"NO", b"ONE"]).await?;
        self.attached = false;
        let promoted = Server::ask(&mut self.client).await?;
        warnings.extend(self.password.put_back(&mut self.client).await);
        warnings.extend(self.straight.put_back(&mut self.client).await);
        warnings.extend(self.straight.save(&mut self.client).await?);
        Ok(Loaded { attached, promoted })
    }

    async fn has_come_again(&self) -> bool {
        let come = timeout(Duration::ZERO, self.listener.accept()).await;
        matches!(come, Ok(Ok((_, from))) if from.ip() == self.peer)
    }

    /// Lets a target go that did not load everything: without that it would try to attach for ever. What cannot be
    /// undone, or not in time, is told.
    pub async fn give_up(mut self, stop: &Shutdown, warnings: &mut Vec<String>) {
        // One that loads waits for more, and hears nothing before it sees that there is none.
        self.replica = None;
        let limit = tokio::select! {
            () = self.undo(warnings) => return,
            limit = too_long(stop) => limit,
        };
        let why = format!("it still loads or does not answer after {} s", limit.as_secs());
        warnings.extend(self.attached.then(|| self.left(&why)));
        warnings.extend(self.password.left(&self.address, &why));
        warnings.extend(self.straight.left(&self.address, &why));
    }

    async fn undo(&mut self, warnings: &mut Vec<String>) {
        if self.attached {
            let let_go = self.let_go().await;
            warnings.extend(let_go.err().map(|error| self.left(&chain(&error))));
            self.attached = false;
        }
        warnings.extend(self.password.put_back(&mut self.client).await);
        warnings.extend(self.straight.put_back(&mut self.client).await);
    }

    /// What a user should know who finds the target attached.
    fn left(&self, why: &str) -> String {
        format!(
            "{} is still set to be a replica of this Job, which is gone, and takes no writes; make it a master with \
             REPLICAOF NO ONE: {why}",
            self.address
        )
    }

    async fn let_go(&mut self) -> Result<(), Error> {
        const LET_GO: [&[u8]; 3] = [b"SLAVEOF", b"NO", b"ONE"];
        match ask_when_loaded(&mut self.client, &LET_GO).await? {
            Reply::Error(reply) => Err(self.client.refused(&LET_GO, &reply)),
            _ => Ok(()),
        }
    }

    fn lost(&self, source: std::io::Error) -> Error {
        Error::Lost { address: self.address.clone(), act: SERVING, source }
    }

    fn broken(&self) -> Error {
        self.lost(std::io::ErrorKind::NotConnected.into())
    }
}

/// Asks a target, again for as long as it answers that it is loading.
async fn ask_when_loaded(client: &mut Client, arguments: &[&[u8]]) -> Result<Reply, Error> {
    loop {
        match client.ask(arguments).await? {
            Reply::Error(reply) if first_word(&reply) == "LOADING" => {
                sleep_until(Instant::now() + PAUSE).await;
            }
            reply => return Ok(reply),
        }
    }
}

/// Waits for as long as may be waited for a target that is to let go, which is less from when we are told to stop.
async fn too_long(stop: &Shutdown) -> Duration {
    let stopped = async {
        stop.triggered().await;
        sleep(STOP_LIMIT).await;
    };
    tokio::select! {
        () = sleep(LET_GO_LIMIT) => LET_GO_LIMIT,
        () = stopped => STOP_LIMIT,
    }
}

fn value_of(reply: &Reply) -> Option<Bytes> {
    match reply {
        Reply::Array(Some(pair)) => match pair.get(1) {
            Some(Reply::Bulk(Some(value))) => Some(value.clone()),
            _ => None,
        },
        _ => None,
    }
}
