//! Values between real servers of every version at hand, each to each: by payloads written for the target
//! and by typed commands, and as whole files. What arrived is read from what the target itself saves.

use crate::support::dataset::{self, PACKED, UNPACKED};
use crate::support::{Make, Server};
use bytes::{Bytes, BytesMut};
use coffer_rdb::commands::{Pages, commands};
use coffer_rdb::digest::{self, Digest, Keyspace};
use coffer_rdb::entries::{Entries, Entry, Event};
use coffer_rdb::payload;
use coffer_rdb::resp::Reply;
use coffer_rdb::target::{Feature, Target};
use coffer_rdb::travel::{Loss, Travel, Way, reencode, travel};
use coffer_rdb::value::Kind;
use coffer_rdb::walk::Walk;
use coffer_rdb::write::Writer;
use std::collections::BTreeMap;

pub(crate) const NO_LIMIT: u64 = 1 << 30;

/// Whether the servers of other versions exist for this machine; `tests/tools/servers` says so too.
pub(crate) const AVAILABLE: bool = cfg!(all(target_os = "linux", target_arch = "x86_64"));

/// By database and key.
pub(crate) type Keys = BTreeMap<(u64, Bytes), Digest>;

pub(crate) fn events(file: &Bytes) -> Vec<Event> {
    let mut walk = Walk::new();
    assert_eq!(walk.feed(file).unwrap(), file.len());
    let mut entries = Entries::new(NO_LIMIT);
    entries.feed(file.clone());
    let mut events = Vec::new();
    while let Some(event) = entries.next().unwrap() {
        events.push(event);
    }
    entries.finish().unwrap();
    events
}

pub(crate) fn entries(file: &Bytes) -> Vec<Entry> {
    let events = events(file).into_iter();
    events
        .filter_map(|event| match event {
            Event::Entry(entry) => Some(entry),
            _ => None,
        })
        .collect()
}

pub(crate) fn saved(server: &mut Server) -> Bytes {
    server.line("SAVE");
    Bytes::from(std::fs::read(server.dump_file()).unwrap())
}

pub(crate) fn digests(entries: &[Entry]) -> Keys {
    entries
        .iter()
        .map(|entry| {
            let digest = digest::of_entry(entry, NO_LIMIT).unwrap();
            ((entry.database, entry.key.clone()), digest)
        })
        .collect()
}

pub(crate) fn target_of(server: &mut Server) -> Target {
    let info = server.bulk(&[b"INFO"]).unwrap();
    let info = String::from_utf8(info.to_vec()).unwrap();
    let field = |name: &str| {
        info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::to_owned)
    };
    Target::from_info(&field("redis_version").unwrap(), field("valkey_version").as_deref())
}

/// Says where two keyspaces differ; digests of all keys would fill the screen.
pub(crate) fn assert_same(got: &Keys, want: &Keys, what: &str) {
    let differ: Vec<_> = want
        .iter()
        .filter(|(key, digest)| got.get(*key) != Some(digest))
        .map(|(key, _)| key)
        .chain(got.keys().filter(|key| !want.contains_key(*key)))
        .take(20)
        .collect();
    assert!(differ.is_empty(), "{what}: {differ:?}");
}

/// How entries went.
#[derive(Debug, Default)]
pub(crate) struct Sent {
    pub(crate) as_is: usize,
    pub(crate) reencoded: usize,
    pub(crate) commands: usize,
    /// Those that lost the times of their fields.
    pub(crate) stripped: Vec<(u64, Bytes)>,
    /// Streams that lost the memory of their producers.
    pub(crate) shortened: Vec<(u64, Bytes)>,
    pub(crate) lost: Vec<(u64, Bytes)>,
}

pub(crate) fn send(entries: &[Entry], server: &mut Server, target: &Target) -> Sent {
    let mut sent = Sent::default();
    let mut database = u64::MAX;
    for entry in entries {
        if entry.database != database {
            database = entry.database;
            server.line(&format!("SELECT {database}"));
        }
        let id = (entry.database, entry.key.clone());
        let way = match travel(entry.value_type, &entry.body, target, NO_LIMIT).unwrap() {
            Travel::Whole(way) => way,
            Travel::Partly(way, Loss::FieldTtls { .. }) => {
                sent.stripped.push(id);
                way
            }
            Travel::Partly(way, Loss::StreamParts { .. }) => {
                sent.shortened.push(id);
                way
            }
            Travel::Partly(_, loss) => panic!("{loss}"),
            Travel::Lost(_) => {
                sent.lost.push(id);
                continue;
            }
        };
        match way {
            Way::AsIs => {
                sent.as_is += 1;
                restore(server, entry, entry.value_type.code, &entry.body, target);
            }
            Way::Reencode(to) => {
                sent.reencoded += 1;
                let body = reencode(entry.value_type, &entry.body, to, NO_LIMIT).unwrap();
                restore(server, entry, to.code, &body, target);
            }
            Way::Commands => {
                sent.commands += 1;
                let pages = Pages { elements: 100, bytes: 10_000, string_bytes: 300_000 };
                for command in commands(entry, target, pages, NO_LIMIT).unwrap() {
                    let command = command.unwrap();
                    server.run(&command.iter().map(|word| &word[..]).collect::<Vec<_>>());
                }
            }
        }
    }
    sent
}

fn restore(server: &mut Server, entry: &Entry, code: u8, body: &Bytes, target: &Target) {
    let mut made = vec![code];
    made.extend_from_slice(body);
    made.extend(payload::footer(code, body, target.reads.number));
    let at = entry.expires_at_ms.unwrap_or(0).to_string();
    let reply = server.ask(&[b"RESTORE", &entry.key, at.as_bytes(), &made, b"REPLACE", b"ABSTTL"]);
    let name = entry.value_type.name;
    assert_eq!(reply, Reply::Status(Bytes::from_static(b"OK")), "{name} to {target}");
}

/// What should have arrived of `entries`: all but what was lost, hashes without the times they lost.
pub(crate) fn expected(entries: &[Entry], sent: &Sent) -> Keys {
    let mut want = digests(entries);
    for lost in &sent.lost {
        want.remove(lost);
    }
    let pairs = coffer_rdb::value::lookup(4, coffer_rdb::version::Version::redis(6)).unwrap();
    for entry in
        entries.iter().filter(|entry| sent.stripped.contains(&(entry.database, entry.key.clone())))
    {
        let body = reencode(entry.value_type, &entry.body, pairs, NO_LIMIT).unwrap();
        let plain = Entry { value_type: pairs, body, ..entry.clone() };
        want.insert(
            (entry.database, entry.key.clone()),
            digest::of_entry(&plain, NO_LIMIT).unwrap(),
        );
    }
    want
}

fn filled(make: Make, options: &[&str]) -> (Server, Bytes) {
    let mut server = Server::of(make, options);
    dataset::fill_all(&mut server, make);
    let file = saved(&mut server);
    (server, file)
}

fn same_data_each_to_each(options: &[&str]) {
    for source in Make::ALL {
        let (mut server, file) = filled(source, options);
        let sent_entries = entries(&file);
        let oracle = server.digest();
        for target in Make::ALL {
            let mut receiver = Server::of(target, &[]);
            let mut made = target_of(&mut receiver);
            for restore in [true, false] {
                made.restore = restore;
                if source == Make::MACHINE {
                    // A repeat must give the same.
                    send(&sent_entries, &mut receiver, &made);
                }
                let sent = send(&sent_entries, &mut receiver, &made);
                let what = format!("{} to {}, restore {restore}", source.0, target.0);
                assert!(sent.lost.is_empty(), "{what}: lost {:?}", sent.lost);
                let loses = source.has_field_ttls() && !target.has_field_ttls();
                assert_eq!(sent.stripped.len(), if loses { 2 } else { 0 }, "{what}: {sent:?}");
                if !restore {
                    assert_eq!(sent.commands, sent_entries.len());
                }
                let arrived = entries(&saved(&mut receiver));
                assert_same(&digests(&arrived), &expected(&sent_entries, &sent), &what);
                // The servers' own opinion, which knows nothing of ours. Since 8.0 they have another one of
                // scores with a fraction, and of times of fields each make has its own.
                let of_scores = |make: Make| make.release() >= (8, 0);
                let agree = of_scores(source) == of_scores(target)
                    && (!source.has_field_ttls() || source.is_valkey() == target.is_valkey());
                if agree && !loses {
                    assert_eq!(receiver.digest(), oracle, "{what}: DEBUG DIGEST");
                }
                receiver.line("FLUSHALL");
            }
        }
    }
}

#[test]
fn packed_values_go_from_each_version_to_each() {
    if AVAILABLE {
        same_data_each_to_each(PACKED);
    }
}

#[test]
fn unpacked_values_go_from_each_version_to_each() {
    if AVAILABLE {
        same_data_each_to_each(UNPACKED);
    }
}

#[test]
fn the_digest_is_the_same_for_the_same_data_in_every_encoding_of_every_version() {
    if !AVAILABLE {
        return;
    }
    let mut seen: Option<(Keys, Digest)> = None;
    for make in Make::ALL {
        for options in [PACKED, UNPACKED, &[]] {
            let mut server = Server::of(make, options);
            dataset::fill(&mut server);
            let keys = digests(&entries(&saved(&mut server)));
            let mut keyspace = Keyspace::new();
            keys.values().for_each(|digest| keyspace.add(digest));
            match &seen {
                None => seen = Some((keys, keyspace.digest())),
                Some((want, whole)) => {
                    assert_same(&keys, want, &format!("{} {options:?}", make.0));
                    assert_eq!(keyspace.digest(), *whole);
                }
            }
        }
    }
}

#[test]
fn a_file_written_for_another_version_is_loaded_by_it() {
    if !AVAILABLE {
        return;
    }
    for source in Make::ALL {
        let (_server, file) = filled(source, &[]);
        for target in Make::ALL {
            let made = target_of(&mut Server::of(target, &[]));
            let mut writer = Writer::new(made.reads);
            let mut kept = Vec::new();
            let mut sent = Sent::default();
            for entry in entries(&file) {
                let id = (entry.database, entry.key.clone());
                let travels = travel(entry.value_type, &entry.body, &made, NO_LIMIT).unwrap();
                if matches!(travels, Travel::Partly(..)) {
                    sent.stripped.push(id);
                }
                let way = match travels {
                    Travel::Whole(way) | Travel::Partly(way, _) => way,
                    Travel::Lost(loss) => panic!("{loss}"),
                };
                match way {
                    Way::AsIs => writer.entry(&entry).unwrap(),
                    Way::Reencode(to) => {
                        let body = reencode(entry.value_type, &entry.body, to, NO_LIMIT).unwrap();
                        writer.entry(&Entry { value_type: to, body, ..entry.clone() }).unwrap();
                    }
                    Way::Commands => panic!("a file holds no commands"),
                }
                kept.push(entry);
            }
            writer.finish();
            let mut rewritten = BytesMut::new();
            while let Some(piece) = writer.take() {
                rewritten.extend_from_slice(&piece);
            }
            let dir = tempfile::tempdir().unwrap();
            std::fs::write(dir.path().join("dump.rdb"), &rewritten).unwrap();
            let mut server = Server::in_folder(target, dir, &[]);
            let what = format!("a file of {} for {}", source.0, target.0);
            assert_same(&digests(&entries(&saved(&mut server))), &expected(&kept, &sent), &what);
        }
    }
}

#[test]
fn the_figures_and_pending_entries_of_a_stream_survive_typed_commands() {
    if !AVAILABLE {
        return;
    }
    for make in Make::ALL {
        let mut source = Server::of(make, &[]);
        dataset::fill_streams(&mut source, make);
        let sent = entries(&saved(&mut source));
        let mut target = Server::of(make, &[]);
        let mut made = target_of(&mut target);
        made.restore = false;
        assert_eq!(send(&sent, &mut target, &made).commands, sent.len());
        for entry in sent.iter().filter(|entry| entry.value_type.kind == Kind::Stream) {
            // What the server shows of it, the times of consumers apart, which commands cannot set.
            for arguments in [&[&b"XINFO"[..], b"STREAM"][..], &[b"XINFO", b"GROUPS"], &[b"XRANGE"]]
            {
                let tail: &[&[u8]] =
                    if arguments.len() == 1 { &[&entry.key, b"-", b"+"] } else { &[&entry.key] };
                let command = [arguments, tail].concat();
                let shown = |server: &mut Server| {
                    // Nodes of the tree depend on how entries came, not on what they are.
                    format!(
                        "{:?}",
                        fields_but(server.run(&command), &["radix-tree-keys", "radix-tree-nodes"])
                    )
                };
                let (ours, theirs) = (shown(&mut target), shown(&mut source));
                assert_eq!(ours, theirs, "{} {:?}", make.0, entry.key);
            }
        }
        assert!(!made.can(Feature::FieldTtls) || make.has_field_ttls());
    }
}

/// A reply of names and values without some of them.
fn fields_but(reply: Reply, names: &[&str]) -> Reply {
    let Reply::Array(Some(all)) = reply else { return reply };
    let named = |reply: &Reply| matches!(reply, Reply::Bulk(Some(name)) if names.iter().any(|one| name == one.as_bytes()));
    let mut kept = Vec::new();
    let mut all = all.into_iter();
    while let Some(part) = all.next() {
        if named(&part) {
            all.next();
        } else {
            kept.push(part);
        }
    }
    Reply::Array(Some(kept))
}
