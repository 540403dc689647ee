//! Asks a Sentinel for the master, and does not believe it before the master says so itself: in a failover
//! the two disagree for some seconds.

use std::time::Duration;

use coffer_api::session::Redis;
use coffer_rdb::resp::Reply;
use tokio::time::{Instant, sleep_until};

use super::at;
use crate::redis::{Client, Error, Server, connect};

/// Between two questions during a failover.
const PAUSE: Duration = Duration::from_millis(500);
/// One attempt to reach the master that a Sentinel names: it may just have died.
const ATTEMPT: Duration = Duration::from_secs(2);

/// A master found.
pub(super) struct Master {
    pub(super) name: String,
    pub(super) redis: Redis,
    pub(super) client: Client,
    pub(super) server: Server,
}

/// Finds the master of that name, or of the only one that the Sentinel watches.
pub(super) async fn master(
    sentinel: &mut Client,
    redis: &Redis,
    name: &str,
    wait: Duration,
) -> Result<Master, Error> {
    let name = choose(sentinel, name).await?;
    let deadline = Instant::now() + wait;
    loop {
        let address = address_of(sentinel, &name).await?;
        let why = match address {
            None => "the Sentinel knows no address for it".to_owned(),
            Some((host, port)) => {
                let there = at(redis, &host, port);
                match reach(&there).await {
                    Ok((client, server)) if server.master.is_none() => {
                        return Ok(Master { name, redis: there, client, server });
                    }
                    Ok(_) => format!("{host}:{port} is a replica: a failover is under way"),
                    Err(
                        error @ (Error::Unreachable { .. }
                        | Error::NotReady { .. }
                        | Error::Lost { .. }),
                    ) => error.to_string(),
                    Err(error) => return Err(error),
                }
            }
        };
        let next = Instant::now() + PAUSE;
        if next >= deadline {
            let address = sentinel.address().to_owned();
            return Err(Error::NoMaster { address, name, waited: wait, why });
        }
        tracing::info!(master = name, why, "the Sentinel's master is not there yet");
        sleep_until(next).await;
    }
}

/// A Sentinel that did not take the user of the Redis and takes its own, or whoever comes; anything else is `refused` as it
/// was.
pub(super) async fn as_its_user(
    redis: &Redis,
    wait: Duration,
    refused: Error,
) -> Result<Client, Error> {
    let its = Redis {
        username: redis.sentinel_username.clone(),
        password: redis.sentinel_password.clone(),
        ..redis.clone()
    };
    let Ok(mut client) = connect(&its, wait).await else { return Err(refused) };
    match Server::ask(&mut client).await {
        Ok(server) if server.is_sentinel => Ok(client),
        _ => Err(refused),
    }
}

async fn reach(redis: &Redis) -> Result<(Client, Server), Error> {
    let mut client = connect(redis, ATTEMPT).await?;
    let server = Server::ask(&mut client).await?;
    Ok((client, server))
}

async fn choose(sentinel: &mut Client, name: &str) -> Result<String, Error> {
    let reply = sentinel.run(&[b"SENTINEL", b"MASTERS"]).await?;
    let names: Vec<String> = masters(&reply);
    if !name.is_empty() {
        return match names.iter().any(|known| known == name) {
            true => Ok(name.to_owned()),
            false => Err(Error::WhichMaster { address: sentinel.address().to_owned(), names }),
        };
    }
    match <[String; 1]>::try_from(names) {
        Ok([only]) => Ok(only),
        Err(names) => Err(Error::WhichMaster { address: sentinel.address().to_owned(), names }),
    }
}

/// The names in the answer to `SENTINEL MASTERS`: for each a flat list of fields and values.
fn masters(reply: &Reply) -> Vec<String> {
    let Reply::Array(Some(masters)) = reply else { return Vec::new() };
    let name = |fields: &Reply| {
        let Reply::Array(Some(fields)) = fields else { return None };
        let place = fields.iter().position(|field| *field == Reply::Bulk(Some("name".into())))?;
        text(fields.get(place + 1)?)
    };
    masters.iter().filter_map(name).collect()
}

async fn address_of(sentinel: &mut Client, name: &str) -> Result<Option<(String, u16)>, Error> {
    let command: [&[u8]; 3] = [b"SENTINEL", b"GET-MASTER-ADDR-BY-NAME", name.as_bytes()];
    let Reply::Array(Some(pair)) = sentinel.run(&command).await? else { return Ok(None) };
    let host = pair.first().and_then(text);
    let port = pair.get(1).and_then(text).and_then(|port| port.parse().ok());
    Ok(host.zip(port))
}

fn text(reply: &Reply) -> Option<String> {
    match reply {
        Reply::Bulk(Some(text)) | Reply::Status(text) => {
            std::str::from_utf8(text).ok().map(str::to_owned)
        }
        _ => None,
    }
}
