//! Streams by commands: entries, last id, groups, consumers and what is pending for each.
//!
//! The plain commands come first, and every server with streams takes them. What only servers since 7.0 keep
//! (entries added, the greatest deleted id, entries read by a group) is written behind them, by commands of
//! its own, which a restore into an older server leaves out.
//!
//! An entry may be pending that is no longer in the stream. Servers since 7.0 let nobody claim such a one, so
//! another is added in its place, claimed, and taken away at the end.

use std::collections::{BTreeSet, HashMap};

use bytes::{Bytes, BytesMut};
use coffer_rdb::resp::{self, Reply};

use super::pace;
use super::typed::odd;
use crate::redis::{Client, Error};

/// Entries asked for at a time.
const PAGE: usize = 1000;
/// Pending ones: few, so that the clock mostly stands still meanwhile.
const PENDING_PAGE: usize = 100;
/// How often is tried to read when entries were delivered while the clock stands still.
const MOST_READS: u8 = 20;

type Id = (u64, u64);

struct Group {
    name: Bytes,
    delivered: Bytes,
    read: Option<i64>,
    idle: Vec<Bytes>,
    pending: Vec<Pending>,
}

struct Pending {
    id: Id,
    consumer: Bytes,
    delivered_at_ms: i64,
    deliveries: i64,
}

/// Appends the commands that write a stream; nothing when it is gone.
pub(super) async fn read(client: &mut Client, key: &[u8], out: &mut BytesMut) -> Result<(), Error> {
    // Groups first: what is delivered and added afterwards is beyond the last id, and left out.
    let Some(mut groups) = groups(client, key).await? else { return Ok(()) };
    let Some(info) = info(client, &[b"XINFO", b"STREAM", key]).await? else { return Ok(()) };
    let info = fields(&info);
    let last_text = bulk(info.get(&b"last-generated-id"[..])).unwrap_or_else(|| "0-0".into());
    let last = id(&last_text);
    for group in &mut groups {
        group.pending.retain(|pending| pending.id <= last);
    }
    let mut missing: BTreeSet<Id> =
        groups.iter().flat_map(|group| &group.pending).map(|pending| pending.id).collect();
    let mut added = Added::default();
    let (mut start, most) = (Bytes::from_static(b"-"), PAGE.to_string());
    loop {
        let command: [&[u8]; 4] = [b"XRANGE", key, &start, &last_text];
        let reply = client.run(&[&command[..], &[b"COUNT", most.as_bytes()]].concat()).await?;
        let Reply::Array(Some(page)) = reply else { return Err(odd(client, "XRANGE", &reply)) };
        for entry in &page {
            let Reply::Array(Some(parts)) = entry else { return Err(odd(client, "XRANGE", entry)) };
            let [Reply::Bulk(Some(name)), Reply::Array(Some(values))] = parts.as_slice() else {
                return Err(odd(client, "XRANGE", entry));
            };
            added.before(out, key, &mut missing, Some(id(name)));
            resp::write_array(out, values.len() + 3);
            resp::write_bulk(out, b"XADD");
            resp::write_bulk(out, key);
            resp::write_bulk(out, name);
            for value in values {
                let Reply::Bulk(Some(value)) = value else {
                    return Err(odd(client, "XRANGE", value));
                };
                resp::write_bulk(out, value);
            }
            added.entries += 1;
            start = behind(name);
        }
        if page.len() < PAGE {
            break;
        }
    }
    added.before(out, key, &mut missing, None);
    if added.all() == 0 {
        // An empty stream is made by an entry that is trimmed at once.
        let first: &[u8] = if last == (0, 0) { b"0-1" } else { &last_text };
        resp::write_command(out, &[b"XADD", key, b"MAXLEN", b"0", first, b"x", b"y"]);
    }
    for group in &groups {
        write_group(out, key, group);
    }
    added.take_away(out, key);
    resp::write_command(out, &[b"XSETID", key, &last_text]);
    // Servers that kept no figures are taken to have deleted nothing, as servers do themselves.
    let entries = i64::try_from(added.entries).unwrap_or(i64::MAX);
    let total = number(info.get(&b"entries-added"[..])).unwrap_or(entries);
    let deleted = bulk(info.get(&b"max-deleted-entry-id"[..])).unwrap_or_else(|| "0-0".into());
    if total != entries || id(&deleted) != (0, 0) || added.all() != added.entries || entries == 0 {
        let total = total.to_string().into_bytes();
        let more: [&[u8]; 4] = [b"ENTRIESADDED", &total, b"MAXDELETEDID", &deleted];
        let command = [&[&b"XSETID"[..], key, &last_text], &more[..]].concat();
        resp::write_command(out, &command);
    }
    Ok(())
}

/// The entries that were written.
#[derive(Default)]
struct Added {
    /// Those of the stream.
    entries: u64,
    /// Before the first of them, only to be claimed.
    head: u64,
    /// Behind it, only to be claimed.
    others: Vec<Id>,
}

impl Added {
    const fn all(&self) -> u64 {
        self.entries + self.head + self.others.len() as u64
    }

    /// Adds what is pending and has no entry before the next one.
    fn before(
        &mut self,
        out: &mut BytesMut,
        key: &[u8],
        missing: &mut BTreeSet<Id>,
        next: Option<Id>,
    ) {
        while let Some(first) = missing.first().copied()
            && next.is_none_or(|next| first <= next)
        {
            missing.pop_first();
            if next == Some(first) {
                return;
            }
            resp::write_command(out, &[b"XADD", key, text(first).as_bytes(), b"x", b"x"]);
            if self.entries == 0 {
                self.head += 1;
            } else {
                self.others.push(first);
            }
        }
    }

    /// Trimming leaves no trace in the greatest deleted id, as it left none in the stream that was read.
    fn take_away(&self, out: &mut BytesMut, key: &[u8]) {
        for ids in self.others.chunks(500) {
            let ids: Vec<String> = ids.iter().copied().map(text).collect();
            let mut command: Vec<&[u8]> = vec![b"XDEL", key];
            command.extend(ids.iter().map(|id| id.as_bytes()));
            resp::write_command(out, &command);
        }
        if self.head > 0 {
            let rest = self.entries.to_string();
            resp::write_command(out, &[b"XTRIM", key, b"MAXLEN", rest.as_bytes()]);
        }
    }
}

fn write_group(out: &mut BytesMut, key: &[u8], group: &Group) {
    let Group { name, delivered, read, idle, pending } = group;
    resp::write_command(out, &[b"XGROUP", b"CREATE", key, name, delivered]);
    for consumer in idle {
        // Whoever asks for a history that is empty comes into being; the command for it is of 6.2.
        let read: [&[u8]; 4] = [b"XREADGROUP", b"GROUP", name, consumer];
        let command = [&read[..], &[b"COUNT", b"1", b"STREAMS", key, b"0"]].concat();
        resp::write_command(out, &command);
    }
    let mut rest = pending.as_slice();
    while let Some(first) = rest.first() {
        let alike = |one: &&Pending| {
            one.consumer == first.consumer
                && one.delivered_at_ms == first.delivered_at_ms
                && one.deliveries == first.deliveries
        };
        let count = rest.iter().take(500).take_while(alike).count();
        let (these, others) = rest.split_at(count);
        rest = others;
        let ids: Vec<String> = these.iter().map(|pending| text(pending.id)).collect();
        let (time, count) = (first.delivered_at_ms.to_string(), first.deliveries.to_string());
        let mut command: Vec<&[u8]> = vec![b"XCLAIM", key, name, &first.consumer, b"0"];
        command.extend(ids.iter().map(|id| id.as_bytes()));
        command.extend([&b"TIME"[..], time.as_bytes(), b"RETRYCOUNT", count.as_bytes()]);
        command.extend([&b"FORCE"[..], b"JUSTID"]);
        resp::write_command(out, &command);
    }
    if let Some(read) = read {
        let read = read.to_string();
        let set: [&[u8]; 5] = [b"XGROUP", b"SETID", key, name, delivered];
        resp::write_command(out, &[&set[..], &[b"ENTRIESREAD", read.as_bytes()]].concat());
    }
}

/// `None` when the key is gone.
async fn groups(client: &mut Client, key: &[u8]) -> Result<Option<Vec<Group>>, Error> {
    let Some(reply) = info(client, &[b"XINFO", b"GROUPS", key]).await? else { return Ok(None) };
    let Reply::Array(Some(replies)) = reply else {
        return Err(odd(client, "XINFO GROUPS", &reply));
    };
    let mut groups = Vec::new();
    for reply in &replies {
        let known = fields(reply);
        let (name, delivered) =
            (bulk(known.get(&b"name"[..])), bulk(known.get(&b"last-delivered-id"[..])));
        let (Some(name), Some(delivered)) = (name, delivered) else {
            return Err(odd(client, "XINFO GROUPS", reply));
        };
        let command: [&[u8]; 4] = [b"XINFO", b"CONSUMERS", key, &name];
        let Some(consumers) = info(client, &command).await? else { return Ok(None) };
        let Reply::Array(Some(consumers)) = consumers else {
            return Err(odd(client, "XINFO CONSUMERS", &consumers));
        };
        let pending = pending(client, key, &name).await?;
        // Those with something pending come into being by it.
        let named = consumers.iter().filter_map(|one| bulk(fields(one).get(&b"name"[..])));
        let idle = named.filter(|one| pending.iter().all(|pending| pending.consumer != *one));
        let idle = idle.collect();
        let read = number(known.get(&b"entries-read"[..]));
        groups.push(Group { name, delivered, read, idle, pending });
    }
    Ok(Some(groups))
}

/// The answer, unless there is no such key or no such group any more.
async fn info(client: &mut Client, command: &[&[u8]]) -> Result<Option<Reply>, Error> {
    match client.ask(command).await? {
        Reply::Error(reply)
            if reply.starts_with(b"ERR no such key") || reply.starts_with(b"NOGROUP") =>
        {
            Ok(None)
        }
        Reply::Error(reply) => Err(client.refused(command, &reply)),
        reply => Ok(Some(reply)),
    }
}

async fn pending(client: &mut Client, key: &[u8], group: &[u8]) -> Result<Vec<Pending>, Error> {
    let mut all = Vec::new();
    let (mut start, most) = (Bytes::from_static(b"-"), PENDING_PAGE.to_string());
    loop {
        let command: [&[u8]; 6] = [b"XPENDING", key, group, &start, b"+", most.as_bytes()];
        let (now_ms, page) = at_one_time(client, &command).await?;
        let Reply::Array(Some(page)) = page else { return Err(odd(client, "XPENDING", &page)) };
        for entry in &page {
            let Reply::Array(Some(parts)) = entry else {
                return Err(odd(client, "XPENDING", entry));
            };
            let [
                Reply::Bulk(Some(name)),
                Reply::Bulk(Some(consumer)),
                Reply::Integer(idle),
                Reply::Integer(deliveries),
            ] = parts.as_slice()
            else {
                return Err(odd(client, "XPENDING", entry));
            };
            start = behind(name);
            all.push(Pending {
                id: id(name),
                consumer: consumer.clone(),
                delivered_at_ms: now_ms - idle,
                deliveries: *deliveries,
            });
        }
        if page.len() < PENDING_PAGE {
            return Ok(all);
        }
    }
}

/// An answer and the server's time, in milliseconds, at which it was given: `XPENDING` says only how long ago
/// something was. Where the server does not tell the time, ours has to do.
async fn at_one_time(client: &mut Client, command: &[&[u8]]) -> Result<(i64, Reply), Error> {
    let mut out = BytesMut::new();
    resp::write_command(&mut out, &[b"TIME"]);
    resp::write_command(&mut out, command);
    resp::write_command(&mut out, &[b"TIME"]);
    let mut reads = 0;
    loop {
        reads += 1;
        client.send(&out).await?;
        let (before, reply, after) =
            (client.answer().await?, client.answer().await?, client.answer().await?);
        if let Reply::Error(reply) = &reply {
            return Err(client.refused(command, reply));
        }
        let (before, after) = (milliseconds(&before), milliseconds(&after));
        let Some(now) = after else { return Ok((chrono::Utc::now().timestamp_millis(), reply)) };
        if before == after || reads == MOST_READS {
            return Ok((now, reply));
        }
    }
}

/// The answer to `TIME`: seconds, and microseconds of the second.
pub(super) fn milliseconds(reply: &Reply) -> Option<i64> {
    i64::try_from(pace::time(reply)?.as_millis()).ok()
}

/// What no server says is no id: it counts as the first.
fn id(text: &[u8]) -> Id {
    let text = String::from_utf8_lossy(text);
    let (ms, sequence) = text.split_once('-').unwrap_or((&text, "0"));
    (ms.parse().unwrap_or(0), sequence.parse().unwrap_or(0))
}

fn text((ms, sequence): Id) -> String {
    format!("{ms}-{sequence}")
}

/// The next possible id. (`(` before an id means the same, since 6.2.)
fn behind(name: &[u8]) -> Bytes {
    let (ms, sequence) = id(name);
    match sequence.checked_add(1) {
        Some(next) => text((ms, next)).into(),
        None => text((ms.saturating_add(1), 0)).into(),
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

fn number(reply: Option<&&Reply>) -> Option<i64> {
    match reply {
        Some(Reply::Integer(number)) => Some(*number),
        _ => None,
    }
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
