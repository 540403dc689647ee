//! Values by the commands of their types, which any Redis or Valkey since 4.0 answers and any other takes:
//! for servers that refuse `DUMP`, and for moving to older or other ones.
//!
//! What is small is read by one command. What is large is read in pieces, and may change in between as the
//! parts of such a dump may anyway. Values of modules have no such commands and are refused by name.

use bytes::{Bytes, BytesMut};
use coffer_rdb::resp::{self, Reply};
use coffer_rdb::strings::printable;
use coffer_rdb::value::Kind;

use super::stream;
use crate::redis::{Client, Error};

/// Elements in one command, so that no server is blocked by it for long.
const ELEMENTS: usize = 500;
/// Elements asked for at a time of a large value.
const PAGE: &[u8] = b"1000";
/// What `HPEXPIRETIME` says of a field that there is not.
const GONE: i64 = -2;

/// The kind that `TYPE` names; `None` for a key that is gone.
pub(super) fn kind_of(client: &Client, key: &[u8], answer: &Reply) -> Result<Option<Kind>, Error> {
    let Reply::Status(word) = answer else {
        return match answer {
            Reply::Error(reply) => Err(Error::from_reply(client.address(), "TYPE", reply)),
            other => Err(odd(client, "TYPE", other)),
        };
    };
    if word == "none" {
        return Ok(None);
    }
    let known = Kind::ALL.into_iter().find(|kind| word == kind.name().as_bytes());
    known.map(Some).ok_or_else(|| Error::Unsupported {
        address: client.address().to_owned(),
        what: format!("key {}, of the module type {},", printable(key, 80), printable(word, 40)),
        why: "no command reads such a value in a way that another server takes; use `method: replication` or \
              `scan`, or leave such keys out with exclude"
            .to_owned(),
    })
}

/// The command that tells how much is in a value; streams are read in pieces anyway.
pub(super) const fn length_command(kind: Kind) -> Option<&'static [u8]> {
    match kind {
        Kind::String => Some(b"STRLEN"),
        Kind::List => Some(b"LLEN"),
        Kind::Set => Some(b"SCARD"),
        Kind::SortedSet => Some(b"ZCARD"),
        Kind::Hash => Some(b"HLEN"),
        Kind::Stream | Kind::Module => None,
    }
}

/// The command that reads all of a small value; streams take several.
pub(super) fn ask_small(out: &mut BytesMut, kind: Kind, key: &[u8]) {
    match kind {
        Kind::String => resp::write_command(out, &[b"GET", key]),
        Kind::List => resp::write_command(out, &[b"LRANGE", key, b"0", b"-1"]),
        Kind::Set => resp::write_command(out, &[b"SMEMBERS", key]),
        Kind::SortedSet => resp::write_command(out, &[b"ZRANGE", key, b"0", b"-1", b"WITHSCORES"]),
        Kind::Hash => resp::write_command(out, &[b"HGETALL", key]),
        Kind::Stream | Kind::Module => {}
    }
}

/// The commands that write what a command has read. Empty when nothing was there.
pub(super) fn write_small(
    client: &Client,
    kind: Kind,
    key: &[u8],
    reply: Reply,
) -> Result<Bytes, Error> {
    let mut out = BytesMut::new();
    match (kind, reply) {
        (Kind::String, Reply::Bulk(None)) => {}
        (Kind::String, Reply::Bulk(Some(value))) => {
            resp::write_command(&mut out, &[b"SET", key, &value])
        }
        (_, Reply::Array(Some(elements))) => {
            let elements = bulks(client, elements)?;
            write_elements(&mut out, kind, key, &elements);
        }
        (_, Reply::Error(reply)) => {
            return Err(Error::from_reply(
                client.address(),
                "a command that reads a value",
                &reply,
            ));
        }
        (_, other) => return Err(odd(client, "a command that reads a value", &other)),
    }
    Ok(out.freeze())
}

/// Reads a large value piece by piece; gives the commands that write it.
pub(super) async fn read_large(
    client: &mut Client,
    kind: Kind,
    key: &[u8],
    field_ttls: bool,
) -> Result<Bytes, Error> {
    let mut out = BytesMut::new();
    match kind {
        Kind::Stream => stream::read(client, key, &mut out).await?,
        Kind::List => {
            let mut first: u64 = 0;
            loop {
                let (from, to) = (first.to_string(), (first + 999).to_string());
                let page = ask(client, &[b"LRANGE", key, from.as_bytes(), to.as_bytes()]).await?;
                if page.is_empty() {
                    break;
                }
                first += page.len() as u64;
                write_elements(&mut out, kind, key, &page);
            }
        }
        Kind::Set | Kind::SortedSet | Kind::Hash => {
            let command: &[u8] = match kind {
                Kind::Set => b"SSCAN",
                Kind::Hash => b"HSCAN",
                _ => b"ZSCAN",
            };
            let mut cursor = Bytes::from_static(b"0");
            loop {
                let reply = client.run(&[command, key, &cursor, b"COUNT", PAGE]).await?;
                let Reply::Array(Some(pair)) = reply else {
                    return Err(odd(client, "SSCAN", &reply));
                };
                let Ok([Reply::Bulk(Some(next)), Reply::Array(Some(page))]) =
                    <[Reply; 2]>::try_from(pair)
                else {
                    return Err(odd(client, "SSCAN", &Reply::Array(None)));
                };
                let page = bulks(client, page)?;
                if kind == Kind::Hash && field_ttls {
                    write_fields(client, &mut out, key, &page).await?;
                } else {
                    write_elements(&mut out, kind, key, &page);
                }
                if next == "0" {
                    break;
                }
                cursor = next;
            }
        }
        Kind::String | Kind::Module => {
            ask_small(&mut out, kind, key);
            client.send(&out.split()).await?;
            let reply = client.answer().await?;
            return write_small(client, kind, key, reply);
        }
    }
    Ok(out.freeze())
}

/// Writes the fields of a page with their times to live. A field whose time came since it was read is left
/// out: without its time it would stay for ever.
async fn write_fields(
    client: &mut Client,
    out: &mut BytesMut,
    key: &[u8],
    page: &[Bytes],
) -> Result<(), Error> {
    let fields: Vec<&Bytes> = page.iter().step_by(2).collect();
    if fields.is_empty() {
        return Ok(());
    }
    let count = fields.len().to_string();
    let mut command: Vec<&[u8]> = vec![b"HPEXPIRETIME", key, b"FIELDS", count.as_bytes()];
    command.extend(fields.iter().map(|field| &field[..]));
    let reply = client.run(&command).await?;
    let Reply::Array(Some(times)) = &reply else {
        return Err(odd(client, "HPEXPIRETIME", &reply));
    };
    let (mut kept, mut timed) = (Vec::with_capacity(page.len()), Vec::new());
    for (pair, time) in page.chunks(2).zip(times) {
        match time {
            Reply::Integer(GONE) => continue,
            Reply::Integer(..0) => {}
            Reply::Integer(at) => timed.push((at.to_string(), &pair[0])),
            other => return Err(odd(client, "HPEXPIRETIME", other)),
        }
        kept.extend_from_slice(pair);
    }
    write_elements(out, Kind::Hash, key, &kept);
    for (at, field) in timed {
        let command: [&[u8]; 3] = [b"HPEXPIREAT", key, at.as_bytes()];
        resp::write_command(out, &[&command[..], &[b"FIELDS", b"1", field]].concat());
    }
    Ok(())
}

fn write_elements(out: &mut BytesMut, kind: Kind, key: &[u8], elements: &[Bytes]) {
    let command: &[u8] = match kind {
        Kind::List => b"RPUSH",
        Kind::Set => b"SADD",
        Kind::SortedSet => b"ZADD",
        _ => b"HSET",
    };
    for piece in elements.chunks(ELEMENTS * 2) {
        // HSET of several fields is of 4.0; HMSET is older and understood everywhere.
        let command = if kind == Kind::Hash { b"HMSET" } else { command };
        resp::write_array(out, piece.len() + 2);
        resp::write_bulk(out, command);
        resp::write_bulk(out, key);
        for pair in piece.chunks(2) {
            match (kind, pair) {
                // Read as member and score, written as score and member.
                (Kind::SortedSet, [member, score]) => {
                    resp::write_bulk(out, score);
                    resp::write_bulk(out, member);
                }
                (_, pair) => pair.iter().for_each(|element| resp::write_bulk(out, element)),
            }
        }
    }
}

/// Runs a command whose answer is a list of strings.
pub(super) async fn ask(client: &mut Client, command: &[&[u8]]) -> Result<Vec<Bytes>, Error> {
    match client.run(command).await? {
        Reply::Array(Some(elements)) => bulks(client, elements),
        other => Err(odd(client, "a command that reads a part of a value", &other)),
    }
}

fn bulks(client: &Client, elements: Vec<Reply>) -> Result<Vec<Bytes>, Error> {
    let bulk = |element| match element {
        Reply::Bulk(Some(bytes)) | Reply::Status(bytes) => Ok(bytes),
        Reply::Integer(number) => Ok(number.to_string().into()),
        other => Err(odd(client, "a command that reads a value", &other)),
    };
    elements.into_iter().map(bulk).collect()
}

pub(super) fn odd(client: &Client, command: &str, reply: &Reply) -> Error {
    Error::Answer {
        address: client.address().to_owned(),
        command: command.to_owned(),
        reply: printable(format!("{reply:?}").as_bytes(), 100),
    }
}
