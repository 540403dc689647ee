//! Asks a Sentinel for the master, and does not believe it before the master says so itself: in a failover
//! the two disagree for some seconds.

use std::time::Duration;

use coffer_api::session::Redis;
use coffer_rdb::resp::Reply;
use tokio::time::{Instant, sleep_until};

use super::at;
use crate::options::Prefer;
use crate::redis::{Client, Error, Server, connect};

/// Between two questions during a failover.
const PAUSE: Duration = Duration::from_millis(500);
/// One attempt to reach the master that a Sentinel names: it may just have died.
const ATTEMPT: Duration = Duration::from_secs(2);

/// What a Sentinel says of a master whose place another may be taking.
const UNSETTLED: [&str; 3] = ["s_down", "o_down", "failover_in_progress"];

/// A master found.
pub(super) struct Master {
    pub(super) name: String,
    pub(super) redis: Redis,
    pub(super) client: Client,
    pub(super) server: Server,
}

/// Finds the master of that name, or of the only one that the Sentinel watches. One that is to be written to must be no
/// master whose place another may be taking.
pub(super) async fn master(
    sentinel: &mut Client,
    redis: &Redis,
    name: &str,
    wait: Duration,
    prefer: Prefer,
) -> Result<Master, Error> {
    let name = choose(sentinel, name).await?;
    let deadline = Instant::now() + wait;
    loop {
        let why = match attempt(sentinel, redis, &name, prefer).await? {
            Ok(master) => return Ok(master),
            Err(why) => why,
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

/// One attempt; what is in its way may pass.
async fn attempt(
    sentinel: &mut Client,
    redis: &Redis,
    name: &str,
    prefer: Prefer,
) -> Result<Result<Master, String>, Error> {
    if prefer == Prefer::ToWrite {
        // The old master goes on saying OK until it is told, and drops then what it took.
        let masters = sentinel.run(&[b"SENTINEL", b"MASTERS"]).await?;
        if let Some(flags) = unsettled(&masters, name) {
            return Ok(Err(format!(
                "the Sentinel may be about to replace it ({flags} in SENTINEL MASTERS); if that does not pass, look \
                 whether the Sentinel reaches its masters and may log in there (sentinel auth-pass)"
            )));
        }
    }
    let Some((host, port)) = address_of(sentinel, name).await? else {
        return Ok(Err("the Sentinel knows no address for it".to_owned()));
    };
    let redis = at(redis, &host, port);
    match reach(&redis).await {
        Ok((client, server)) if server.master.is_none() => {
            Ok(Ok(Master { name: name.to_owned(), redis, client, server }))
        }
        Ok(_) => Ok(Err(format!("{host}:{port} is a replica: a failover is under way"))),
        Err(error @ (Error::Unreachable { .. } | Error::NotReady { .. } | Error::Lost { .. })) => {
            Ok(Err(error.to_string()))
        }
        Err(error) => Err(error),
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
    let names: Vec<String> = masters(&reply).filter_map(|master| field(master, "name")).collect();
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

/// The masters in the answer to `SENTINEL MASTERS`, each a flat list of fields and values.
fn masters(reply: &Reply) -> impl Iterator<Item = &[Reply]> {
    let Reply::Array(Some(masters)) = reply else { return [].iter().filter_map(fields) };
    masters.iter().filter_map(fields)
}

fn fields(master: &Reply) -> Option<&[Reply]> {
    match master {
        Reply::Array(Some(fields)) => Some(fields),
        _ => None,
    }
}

fn field(fields: &[Reply], name: &str) -> Option<String> {
    let place = fields.iter().position(|field| text(field).as_deref() == Some(name))?;
    text(fields.get(place + 1)?)
}

/// Which of the flags a master has that tell of a failover, if it has any.
fn unsettled(reply: &Reply, name: &str) -> Option<String> {
    let is_meant = |master: &&[Reply]| field(master, "name").as_deref() == Some(name);
    let flags = field(masters(reply).find(is_meant)?, "flags")?;
    let told: Vec<&str> = flags.split(',').filter(|flag| UNSETTLED.contains(flag)).collect();
    (!told.is_empty()).then(|| told.join(", "))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_master_in_a_failover_is_told_by_its_flags() {
        let words = |words: &[&str]| {
            let word = |word: &&str| Reply::Bulk(Some((*word).to_owned().into()));
            Reply::Array(Some(words.iter().map(word).collect()))
        };
        let with = |flags: &str| {
            let other = words(&["name", "other", "ip", "a", "flags", "master,o_down"]);
            Reply::Array(Some(vec![other, words(&["name", "mine", "ip", "a", "flags", flags])]))
        };
        for (flags, want) in [
            ("master", None),
            ("master,disconnected", None),
            ("master,failover_in_progress", Some("failover_in_progress")),
            ("s_down,master,o_down", Some("s_down, o_down")),
        ] {
            assert_eq!(unsettled(&with(flags), "mine").as_deref(), want, "{flags}");
        }
        assert_eq!(unsettled(&with("s_down"), "none"), None);
    }
}
