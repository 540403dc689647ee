//! The readers against what a real redis-server writes: its own DUMP, its own loader and its own
//! DEBUG DIGEST say whether they are right.

use crate::support::{LIBRARY, Server};
use bytes::Bytes;
use coffer_rdb::entries::{Entries, Entry, Event, Usage};
use coffer_rdb::resp::Reply;
use coffer_rdb::value::{self, Kind};
use coffer_rdb::version::Version;
use coffer_rdb::walk::{Summary, Walk};
use coffer_rdb::{Error, payload};

const NO_LIMIT: u64 = 1 << 32;

fn walk(file: &[u8], piece: usize) -> Result<Summary, Error> {
    let mut walk = Walk::new();
    for chunk in file.chunks(piece) {
        assert_eq!(walk.feed(chunk)?, chunk.len(), "bytes left over");
    }
    walk.finish()
}

fn read(file: &Bytes, piece: usize) -> Result<Vec<Event>, Error> {
    let mut entries = Entries::new(NO_LIMIT);
    let mut events = Vec::new();
    for start in (0..file.len()).step_by(piece) {
        entries.feed(file.slice(start..file.len().min(start + piece)));
        while let Some(event) = entries.next()? {
            events.push(event);
        }
    }
    entries.finish()?;
    Ok(events)
}

fn entries_of(events: &[Event]) -> Vec<&Entry> {
    events
        .iter()
        .filter_map(|event| match event {
            Event::Entry(entry) => Some(entry),
            _ => None,
        })
        .collect()
}

fn filled(options: &[&str]) -> (Server, Bytes) {
    let mut server = Server::start(options);
    server.fill();
    server.line("SAVE");
    let file = Bytes::from(std::fs::read(server.dump_file()).unwrap());
    (server, file)
}

#[test]
fn every_value_gives_the_payload_that_dump_gives_and_restores_to_the_same_digest() {
    // Each set of options brings other encodings of the same values.
    for options in [
        &[][..],
        &["--rdbcompression", "no", "--list-max-listpack-size", "1"],
        &["--set-max-intset-entries", "0", "--hash-max-listpack-entries", "0"],
        &["--zset-max-listpack-entries", "0", "--maxmemory-policy", "allkeys-lfu"],
        &["--maxmemory-policy", "allkeys-lru", "--rdbchecksum", "no"],
    ] {
        let (mut source, file) = filled(options);
        let events = read(&file, 1 << 20).unwrap();
        assert!(matches!(events[0], Event::Version(version) if version == Version::redis(10)));
        let mut target = Server::start(&[]);
        let mut database = u64::MAX;
        for entry in entries_of(&events) {
            if entry.database != database {
                database = entry.database;
                for server in [&mut source, &mut target] {
                    server.line(&format!("SELECT {database}"));
                }
            }
            let code = entry.value_type.code;
            let mut made = vec![code];
            made.extend_from_slice(&entry.body);
            made.extend(payload::footer(code, &entry.body, 10));
            let dumped = source.bulk(&[b"DUMP", &entry.key]).unwrap();
            assert!(dumped == made, "{} differs from DUMP", String::from_utf8_lossy(&entry.key));
            assert_eq!(payload::parse(dumped).unwrap().body, entry.body);
            let end = value::end_of(code, Version::redis(10), &entry.body).unwrap();
            assert_eq!(end, Some(entry.body.len()));

            let ttl = entry.expires_at_ms.unwrap_or(0).to_string();
            let seen = source.run(&[b"PEXPIRETIME", &entry.key]);
            assert_eq!(seen, Reply::Integer(entry.expires_at_ms.unwrap_or(-1)));
            target.run(&[b"RESTORE", &entry.key, ttl.as_bytes(), &made, b"ABSTTL"]);
            let lfu = options.contains(&"allkeys-lfu");
            let lru = options.contains(&"allkeys-lru");
            match entry.usage {
                None => assert!(!lfu && !lru),
                Some(Usage::Frequency(_)) => assert!(lfu),
                Some(Usage::IdleSeconds(seconds)) => assert!(lru && seconds < 60),
            }
        }
        assert_eq!(source.digest(), target.digest());
        let functions = events.iter().filter(|e| matches!(e, Event::Function(f) if f == LIBRARY));
        assert_eq!(functions.count(), 1);
        let checksummed = !options.contains(&"--rdbchecksum");
        assert!(matches!(events.last(), Some(Event::End { checksummed: c }) if *c == checksummed));
    }
}

#[test]
fn the_walk_counts_what_the_server_holds() {
    let (mut server, file) = filled(&[]);
    let summary = walk(&file, 1 << 16).unwrap();
    assert_eq!(summary.bytes, file.len() as u64);
    assert!(summary.checksummed);
    assert_eq!(summary.version, Some(Version::redis(10)));
    assert_eq!(summary.functions, 1);
    assert_eq!(summary.notes["redis-ver"], "7.0.15");
    assert!(summary.notes.contains_key("ctime"));
    assert_eq!(summary.databases.keys().copied().collect::<Vec<_>>(), [0, 3, 15]);
    for (database, found) in &summary.databases {
        server.line(&format!("SELECT {database}"));
        let Reply::Integer(size) = server.line("DBSIZE") else { panic!() };
        assert_eq!(found.total(), u64::try_from(size).unwrap());
        assert_eq!(found.announced, Some((found.total(), found.expiring)));
        for kind in Kind::ALL.into_iter().filter(|kind| *kind != Kind::Module) {
            let scan = format!("SCAN 0 COUNT 100000 TYPE {}", kind.name());
            let Reply::Array(Some(parts)) = server.line(&scan) else { panic!() };
            let Reply::Array(Some(keys)) = &parts[1] else { panic!() };
            let counted = found.keys.get(&kind).copied().unwrap_or(0);
            assert_eq!(counted, keys.len() as u64, "{kind:?} in {database}");
        }
    }
    assert_eq!(summary.databases[&0].expiring, 3);
}

#[test]
fn how_the_input_is_cut_makes_no_difference() {
    let (_server, file) = filled(&[]);
    let whole = walk(&file, file.len()).unwrap();
    let events = format!("{:?}", read(&file, file.len()).unwrap());
    for piece in [1, 2, 3, 7, 4096, 65_537] {
        assert_eq!(walk(&file, piece).unwrap(), whole, "pieces of {piece}");
        assert!(format!("{:?}", read(&file, piece).unwrap()) == events, "pieces of {piece}");
    }
    // What follows the file is not the file's.
    let mut stream = file.to_vec();
    stream.extend(b"0123456789012345678901234567890123456789");
    let mut walker = Walk::new();
    assert_eq!(walker.feed(&stream).unwrap(), file.len());
    assert!(walker.has_ended());
    assert_eq!(walker.feed(b"more").unwrap(), 0);
}

#[test]
fn a_cut_or_a_damaged_file_is_never_taken_for_a_whole_one() {
    let mut server = Server::start(&[]);
    for line in ["SET a 1", "RPUSH l a b c", "XADD s 1-1 f v", "HSET h f v", "SET t x EX 1000"] {
        server.line(line);
    }
    server.line("SAVE");
    let file = std::fs::read(server.dump_file()).unwrap();
    for len in 0..file.len() {
        let error = walk(&file[..len], 64).unwrap_err();
        assert!(matches!(error, Error::Truncated { .. }), "{len}: {error}");
        assert!(read(&Bytes::copy_from_slice(&file[..len]), 64).is_err(), "{len}");
    }
    for bit in 0..file.len() * 8 {
        let mut damaged = file.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        let mut walker = Walk::new();
        let noticed = match walker.feed(&damaged) {
            Err(_) => true,
            Ok(used) => used < damaged.len() || walker.finish().is_err(),
        };
        assert!(noticed, "bit {bit} of {}", file.len());
    }
}

#[test]
fn a_value_over_the_limit_is_refused_by_name() {
    let (_server, file) = filled(&[]);
    let mut entries = Entries::new(1 << 20);
    entries.feed(file);
    let error = loop {
        match entries.next() {
            Ok(Some(_)) => {}
            Ok(None) => panic!("the large value passed"),
            Err(error) => break error,
        }
    };
    assert_eq!(
        error.to_string(),
        "the value of key \"large\" is larger than the limit of 1048576 bytes"
    );
}
