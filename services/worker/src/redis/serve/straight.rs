//! Has the target load the file while it comes, instead of writing it to its disk first and reading it from there.
//!
//! A target that gets only a part of it throws the part away, and one that meets damage in it lives on (a damaged file
//! on its disk makes a Redis end). It is asked only while it is empty: one that holds data keeps them until the whole
//! file is there. What the other way leaves behind is that file, which the server would start on after a crash, so
//! that one that relies on such files is told to save.

use bytes::Bytes;
use coffer_rdb::resp::Reply;
use coffer_rdb::strings::printable;
use coffer_runtime::fault::chain;

use super::{ask_when_loaded, value_of};
use crate::redis::{Client, Error};

const SETTING: &[u8] = b"repl-diskless-load";
/// What servers come with.
const DISABLED: &[u8] = b"disabled";
/// Should somebody write to the target at the last moment, it decides by itself for its disk.
const WANTED: &[u8] = b"on-empty-db";

/// How a target loads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Straight {
    /// From its disk: it holds data, is older than Redis 6.0, or may not be configured by us.
    No,
    /// From the socket, as it is set to.
    Always,
    /// From the socket, since we have set it so.
    ForOnce,
}

impl Straight {
    /// Asks an empty target to.
    pub(super) async fn ask(&mut self, client: &mut Client) -> Result<(), Error> {
        match config(client, SETTING).await?.as_deref() {
            None => *self = Self::No,
            Some(DISABLED) => {
                // Before the answer, without which nobody knows that it was not done.
                *self = Self::ForOnce;
                let reply = client.ask(&[b"CONFIG", b"SET", SETTING, WANTED]).await?;
                if refusal(&reply).is_some() {
                    *self = Self::No;
                }
            }
            Some(_) => *self = Self::Always,
        }
        Ok(())
    }

    /// Sets the target back to how it was. Gives back what a user should know.
    pub(super) async fn put_back(&mut self, client: &mut Client) -> Option<String> {
        if *self != Self::ForOnce {
            return None;
        }
        let why = match ask_when_loaded(client, &[b"CONFIG", b"SET", SETTING, DISABLED]).await {
            Ok(reply) => refusal(&reply),
            Err(error) => Some(chain(&error)),
        };
        let left = why.and_then(|why| self.left(client.address(), &why));
        *self = Self::Always;
        left
    }

    /// What a user should know who finds the target as it is.
    pub(super) fn left(self, address: &str, why: &str) -> Option<String> {
        (self == Self::ForOnce).then(|| {
            format!(
                "repl-diskless-load of {address} was disabled and may be on-empty-db now; set it back with CONFIG SET: \
                 {why}"
            )
        })
    }

    /// Has what was loaded saved, where the server has only its memory and would rely on a file. Gives back what a user
    /// should know.
    pub(super) async fn save(self, client: &mut Client) -> Result<Option<String>, Error> {
        if self == Self::No || !relies_on_file(client).await? {
            return Ok(None);
        }
        let reply = client.ask(&[b"BGSAVE"]).await?;
        Ok(refusal(&reply).map(|why| {
            format!(
                "{} did not begin to save what it loaded, and would lose it in a crash; let it with BGSAVE: {why}",
                client.address()
            )
        }))
    }
}

/// Whether it has save points and no append-only file, which it would write anew by itself.
async fn relies_on_file(client: &mut Client) -> Result<bool, Error> {
    let points = config(client, b"save").await?;
    let appends = config(client, b"appendonly").await?;
    Ok(points.is_none_or(|points| !points.is_empty()) && appends.as_deref() != Some(b"yes"))
}

pub(super) async fn config(client: &mut Client, name: &[u8]) -> Result<Option<Bytes>, Error> {
    Ok(value_of(&client.ask(&[b"CONFIG", b"GET", name]).await?))
}

pub(super) fn refusal(reply: &Reply) -> Option<String> {
    match reply {
        Reply::Error(why) => Some(printable(why, 200)),
        _ => None,
    }
}
