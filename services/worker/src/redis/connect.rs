//! Reaches a Redis and logs in.
//!
//! What may get better by itself (nobody listens yet, the name does not resolve yet, the server loads its
//! data) is waited for; what a person has to mend (password, rights, certificates) is told at once.

use std::io;
use std::time::Duration;

use coffer_api::session::Redis;
use coffer_rdb::resp::Reply;
use coffer_rdb::strings::printable;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_rustls::TlsConnector;

use super::Error;
use super::client::{Client, Socket};
use super::error::first_word;
use super::tls::{self, Tls};

/// One attempt to reach the server. A lost SYN is sent again after 1, 3 and 7 s.
const ATTEMPT_LIMIT: Duration = Duration::from_secs(10);
/// After that, a server that says nothing to a TLS greeting is asked in plain text.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(4);
/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(250);
/// However short the wait: so long a server that has accepted the connection may take to answer its first command.
const LEAST_GREETING: Duration = Duration::from_secs(1);
/// However short the wait: a server may be silent for so long in mid-work before it counts as hung.
const LEAST_IDLE: Duration = Duration::from_secs(60);

/// Connects, logs in, and waits up to `wait` for the server to be there and ready.
///
/// # Errors
/// When it is not in time, or at once when waiting cannot help.
pub async fn connect(redis: &Redis, wait: Duration) -> Result<Client, Error> {
    let host = redis.host.trim_start_matches('[').trim_end_matches(']');
    let address = if host.starts_with('/') {
        host.to_owned()
    } else if host.contains(':') {
        format!("[{host}]:{}", redis.port)
    } else {
        format!("{host}:{}", redis.port)
    };
    let tls = redis.tls.as_ref().map(|tls| Tls::new(tls, host)).transpose()?;
    let deadline = Instant::now() + wait;
    loop {
        let limit =
            ATTEMPT_LIMIT.min(deadline.saturating_duration_since(Instant::now())).max(PAUSE);
        let attempt = attempt(redis, host, &address, tls.as_ref(), wait, limit).await;
        let next = Instant::now() + PAUSE;
        match attempt {
            Ok(client) => return Ok(client.waiting(wait)),
            Err(Attempt::Final(error)) => return Err(error),
            Err(Attempt::NotThere(source)) if next >= deadline => {
                return Err(Error::Unreachable { address, waited: wait, source });
            }
            Err(Attempt::NotReady(reply)) if next >= deadline => {
                return Err(Error::NotReady { address, waited: wait, reply });
            }
            Err(Attempt::NotThere(cause)) => {
                tracing::debug!(%address, %cause, "Redis does not answer yet");
            }
            Err(Attempt::NotReady(reply)) => {
                tracing::debug!(%address, reply, "Redis is not ready yet")
            }
        }
        sleep_until(next).await;
    }
}

/// Why an attempt failed.
enum Attempt {
    /// Waiting cannot help.
    Final(Error),
    /// Nobody there.
    NotThere(io::Error),
    /// Somebody, with something else to do.
    NotReady(String),
}

async fn attempt(
    redis: &Redis,
    host: &str,
    address: &str,
    tls: Option<&Tls>,
    idle: Duration,
    limit: Duration,
) -> Result<Client, Attempt> {
    let (socket, ends): (Box<dyn Socket>, _) = if host.starts_with('/') {
        let socket = timeout(limit, UnixStream::connect(host)).await;
        let socket = socket.map_err(|_| Attempt::NotThere(not_in_time()))?;
        (Box::new(socket.map_err(Attempt::NotThere)?), None)
    } else {
        let socket = timeout(limit, TcpStream::connect((host, redis.port)))
            .await
            .map_err(|_| Attempt::NotThere(not_in_time()))?
            .map_err(Attempt::NotThere)?;
        socket.set_nodelay(true).map_err(Attempt::NotThere)?;
        let ends = socket.local_addr().and_then(|here| Ok((here, socket.peer_addr()?))).ok();
        (secured(socket, redis, host, address, tls, limit).await?, ends)
    };
    let mut client = Client::new(socket, address.to_owned(), idle.max(LEAST_IDLE)).between(ends);
    let greeted = timeout(limit.max(LEAST_GREETING), log_in(&mut client, redis)).await;
    match greeted.unwrap_or_else(|_| Err(Attempt::NotThere(silent()))) {
        Ok(()) => Ok(client),
        Err(Attempt::NotThere(_))
            if tls.is_none() && tls::is_spoken_by(host, redis.port, limit).await =>
        {
            Err(Attempt::Final(Error::ExpectsTls { address: address.to_owned() }))
        }
        Err(failed) => Err(failed),
    }
}

/// The socket, behind TLS where that is asked for.
async fn secured(
    socket: TcpStream,
    redis: &Redis,
    host: &str,
    address: &str,
    tls: Option<&Tls>,
    limit: Duration,
) -> Result<Box<dyn Socket>, Attempt> {
    let Some(Tls { config, name }) = tls else { return Ok(Box::new(socket)) };
    let handshake = TlsConnector::from(config.clone()).connect(name.clone(), socket);
    match timeout(limit.min(HANDSHAKE_LIMIT), handshake).await {
        Ok(Ok(socket)) => Ok(Box::new(socket)),
        Ok(Err(failure)) => Err(handshake_failed(address, failure)),
        // A plain Redis takes the greeting for the start of a long line and waits for its end. A
        // busy one is silent, too, so it is asked.
        Err(_) if plain_is_spoken_by(host, redis.port, limit).await => {
            Err(Attempt::Final(Error::SpeaksPlain { address: address.to_owned() }))
        }
        Err(_) => Err(Attempt::NotThere(not_in_time())),
    }
}

fn not_in_time() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "no answer to a connection attempt")
}

fn silent() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "the connection was accepted, but nothing answers")
}

/// Whether a server that is silent to a TLS greeting answers in plain RESP.
async fn plain_is_spoken_by(host: &str, port: u16, limit: Duration) -> bool {
    let question = async {
        let mut socket = TcpStream::connect((host, port)).await?;
        socket.write_all(b"PING\r\n").await?;
        let first = socket.read_u8().await?;
        io::Result::Ok(matches!(first, b'+' | b'-'))
    };
    matches!(timeout(limit, question).await, Ok(Ok(true)))
}

fn handshake_failed(address: &str, failure: io::Error) -> Attempt {
    let (kind, text) = (failure.kind(), failure.to_string());
    match tls::explain(address, failure) {
        Some(explained) => Attempt::Final(explained),
        None if kind == io::ErrorKind::UnexpectedEof => {
            Attempt::Final(Error::SpeaksPlain { address: address.to_owned() })
        }
        None => Attempt::NotThere(io::Error::new(kind, text)),
    }
}

async fn log_in(client: &mut Client, redis: &Redis) -> Result<(), Attempt> {
    // KubeDB's Secrets name the default user, whom servers before 6.0 know without a name only.
    let user = redis.username.as_deref().filter(|user| !matches!(*user, "" | "default"));
    if let Some(password) = &redis.password {
        let password = password.reveal().as_bytes();
        let reply = match user {
            Some(user) => client.ask(&[b"AUTH", user.as_bytes(), password]).await,
            None => client.ask(&[b"AUTH", password]).await,
        };
        sort_reply(reply, client, user, "AUTH")?;
    }
    let reply = client.ask(&[b"PING"]).await;
    sort_reply(reply, client, user, "PING")
}

fn sort_reply(
    reply: Result<Reply, Error>,
    client: &Client,
    user: Option<&str>,
    command: &str,
) -> Result<(), Attempt> {
    let address = client.address().to_owned();
    let reply = match reply {
        Ok(Reply::Error(reply)) => reply,
        Ok(_) => return Ok(()),
        // A proxy without a server behind it, or a server that starts or stops.
        Err(Error::Lost { source, .. }) => {
            let text = format!("the connection was closed without an answer: {source}");
            return Err(Attempt::NotThere(io::Error::new(source.kind(), text)));
        }
        Err(error) => return Err(Attempt::Final(error)),
    };
    let text = printable(&reply, 300);
    let denied = text.contains("without any password configured");
    Err(match first_word(&reply) {
        "LOADING" | "BUSY" => Attempt::NotReady(text),
        // A stale replica answers everything but a few commands so; INFO and PSYNC say more.
        "MASTERDOWN" => return Ok(()),
        // The server has no password and so takes anyone: redis-cli warns here, and goes on.
        "ERR" if denied && user.is_none() => return Ok(()),
        // PING is not needed for anything else, and a server whose own dump failed refuses it as if it wrote.
        "NOPERM" | "MISCONF" if command == "PING" => return Ok(()),
        "WRONGPASS" | "NOAUTH" => Attempt::Final(Error::Password {
            address,
            user: user.map_or_else(|| "the default user".to_owned(), |user| format!("user {user}")),
            reply: text,
        }),
        "ERR" if text.contains("invalid password") => Attempt::Final(Error::Password {
            address,
            user: "the default user".to_owned(),
            reply: text,
        }),
        // DENIED is protected mode; the text says what to do.
        _ => Attempt::Final(Error::Refused { address, command: command.to_owned(), reply: text }),
    })
}
