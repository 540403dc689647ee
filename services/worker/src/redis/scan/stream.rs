//! Streams by commands: entries, last id, groups, consumers and what is pending for each, as a server
//! writes them when it rewrites its append-only file.

use std::collections::HashMap;

use bytes::{Bytes, BytesMut};
use coffer_rdb::resp::{self, Reply};

use super::typed::odd;
use crate::redis::{Client, Error};

/// Entries asked for at a time.
const PAGE: &[u8] = b"1000";

/// Appends the commands that write a stream; nothing when it is gone.
pub(super) async fn read(client: &mut Client, key: &[u8], out: &mut BytesMut) -> Result<(), Error> {
    let info = match client.ask(&[b"XINFO", b"STREAM", key]).await? {
        Reply::Error(reply) if reply.starts_with(b"ERR no such key") => return Ok(()),
        Reply::Error(reply) => return Err(client.refused(&[b"XINFO"], &reply)),
        info => info,
    };
    let info = fields(&info);
    let last =
        bulk(info.get(&b"last-generated-id"[..])).unwrap_or_else(|| Bytes::from_static(b"0-0"));
    let mut start = Bytes::from_static(b"-");
    let mut entries = 0_u64;
    loop {
        let reply = client.run(&[b"XRANGE", key, &start, b"+", b"COUNT", PAGE]).await?;
        let Reply::Array(Some(page)) = reply else { return Err(odd(client, "XRANGE", &reply)) };
        for entry in &page {
            let Reply::Array(Some(parts)) = entry else { return Err(odd(client, "XRANGE", entry)) };
            let [Reply::Bulk(Some(id)), Reply::Array(Some(values))] = parts.as_slice() else {
                return Err(odd(client, "XRANGE", entry));
            };
            resp::write_array(out, values.len() + 3);
            resp::write_bulk(out, b"XADD");
            resp::write_bulk(out, key);
            resp::write_bulk(out, id);
            for value in values {
                let Reply::Bulk(Some(value)) = value else {
                    return Err(odd(client, "XRANGE", value));
                };
                resp::write_bulk(out, value);
            }
            entries += 1;
            start = behind(id);
        }
        if page.is_empty() {
            break;
        }
    }
    if entries == 0 {
        // An empty stream is made by an entry that is trimmed at once.
        let id: &[u8] = if last == "0-0" { b"0-1" } else { &last };
        resp::write_command(out, &[b"XADD", key, b"MAXLEN", b"0", id, b"x", b"y"]);
    }
    resp::write_command(out, &[b"XSETID", key, &last]);
    groups(client, key, out).await
}

async fn groups(client: &mut Client, key: &[u8], out: &mut BytesMut) -> Result<(), Error> {
    let reply = client.run(&[b"XINFO", b"GROUPS", key]).await?;
    let Reply::Array(Some(groups)) = reply else { return Err(odd(client, "XINFO GROUPS", &reply)) };
    for group in &groups {
        let group = fields(group);
        let (name, delivered) =
            (bulk(group.get(&b"name"[..])), bulk(group.get(&b"last-delivered-id"[..])));
        let (Some(name), Some(delivered)) = (name, delivered) else {
            return Err(odd(client, "XINFO GROUPS", &reply_of(&groups)));
        };
        resp::write_command(out, &[b"XGROUP", b"CREATE", key, &name, &delivered]);
        let reply = client.run(&[b"XINFO", b"CONSUMERS", key, &name]).await?;
        let Reply::Array(Some(consumers)) = reply else {
            return Err(odd(client, "XINFO CONSUMERS", &reply));
        };
        for consumer in &consumers {
            let consumer = fields(consumer);
            // Those with something pending come into being by it; the command is of 6.2.
            let idle = matches!(consumer.get(&b"pending"[..]), Some(Reply::Integer(0)));
            if let (true, Some(consumer)) = (idle, bulk(consumer.get(&b"name"[..]))) {
                resp::write_command(out, &[b"XGROUP", b"CREATECONSUMER", key, &name, &consumer]);
            }
        }
        pending(client, key, &name, out).await?;
    }
    Ok(())
}

async fn pending(
    client: &mut Client,
    key: &[u8],
    group: &[u8],
    out: &mut BytesMut,
) -> Result<(), Error> {
    let mut start = Bytes::from_static(b"-");
    loop {
        let reply = client.run(&[b"XPENDING", key, group, &start, b"+", PAGE]).await?;
        let Reply::Array(Some(page)) = reply else { return Err(odd(client, "XPENDING", &reply)) };
        let now_ms = chrono::Utc::now().timestamp_millis();
        for entry in &page {
            let Reply::Array(Some(parts)) = entry else {
                return Err(odd(client, "XPENDING", entry));
            };
            let [
                Reply::Bulk(Some(id)),
                Reply::Bulk(Some(consumer)),
                Reply::Integer(idle),
                Reply::Integer(deliveries),
            ] = parts.as_slice()
            else {
                return Err(odd(client, "XPENDING", entry));
            };
            let (time, deliveries) = ((now_ms - idle).to_string(), deliveries.to_string());
            resp::write_command(
                out,
                &[
                    b"XCLAIM",
                    key,
                    group,
                    consumer,
                    b"0",
                    id,
                    b"TIME",
                    time.as_bytes(),
                    b"RETRYCOUNT",
                    deliveries.as_bytes(),
                    b"JUSTID",
                    b"FORCE",
                ],
            );
            start = behind(id);
        }
        if page.is_empty() {
            return Ok(());
        }
    }
}

/// The next possible id. (`(` before an id means the same, since 6.2.)
fn behind(id: &[u8]) -> Bytes {
    let text = String::from_utf8_lossy(id);
    let (ms, sequence) = text.split_once('-').unwrap_or((&text, "0"));
    match (ms.parse::<u64>(), sequence.parse::<u64>()) {
        (Ok(ms), Ok(u64::MAX)) => format!("{}-0", ms.saturating_add(1)).into(),
        (Ok(ms), Ok(sequence)) => format!("{ms}-{}", sequence + 1).into(),
        _ => Bytes::copy_from_slice(id),
    }
}

/// A flat list of names and values as a map.
fn fields(reply: &Reply) -> HashMap<&[u8], &Reply> {
    let Reply::Array(Some(flat)) = reply else { return HashMap::new() };
    flat.chunks_exact(2)
        .filter_map(|pair| match &pair[0] {
            Reply::Bulk(Some(name)) => Some((&name[..], &pair[1])),
            _ => None,
        })
        .collect()
}

fn bulk(reply: Option<&&Reply>) -> Option<Bytes> {
    match reply {
        Some(Reply::Bulk(Some(bytes))) => Some(bytes.clone()),
        _ => None,
    }
}

fn reply_of(replies: &[Reply]) -> Reply {
    Reply::Array(Some(replies.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_id_follows() {
        assert_eq!(behind(b"5-3"), "5-4");
        assert_eq!(behind(format!("5-{}", u64::MAX).as_bytes()), "6-0");
    }
}
