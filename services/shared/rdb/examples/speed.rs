//! How fast the formats are read on this machine: `cargo run --release --package coffer-rdb --example
//! speed -- [dump.rdb]`. Prints a table; with `--json`, an array of `{case, value, unit}`.
//!
//! Without a file it makes one of two million small keys of every kind, some 170 MB.

#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::cast_precision_loss, reason = "a tool")]

use bytes::{BufMut, Bytes, BytesMut};
use coffer_rdb::crc64::Crc64;
use coffer_rdb::digest::{self, Keyspace};
use coffer_rdb::entries::{Entries, Entry, Event};
use coffer_rdb::payload;
use coffer_rdb::value;
use coffer_rdb::version::Version;
use coffer_rdb::walk::Walk;
use coffer_rdb::write::Writer;
use std::hint::black_box;
use std::time::Instant;

const MIB: usize = 1 << 20;
const KEYS: u64 = 2_000_000;

struct Row {
    case: String,
    value: f64,
    unit: &'static str,
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let json = arguments.iter().any(|argument| argument == "--json");
    let file = arguments.iter().find(|argument| !argument.starts_with("--"));
    let file = file.map_or_else(made, |path| Bytes::from(std::fs::read(path).unwrap()));
    let mut rows = Vec::new();
    for len in [16, 64, 128, 512, 4096, MIB] {
        rows.push(checksum(len));
    }
    rows.extend(walk(&file));
    rows.extend(entries(&file, "entries", |_| {}));
    rows.extend(entries(&file, "entries with payload footers", |entry| {
        black_box(payload::footer(entry.value_type.code, &entry.body, 10));
    }));
    let mut keyspace = Keyspace::new();
    rows.extend(entries(&file, "entries with digest", |entry| {
        keyspace.add(&digest::of_entry(entry, u64::MAX).unwrap());
    }));
    if json {
        let rows: Vec<_> = rows
            .iter()
            .map(|Row { case, value, unit }| {
                format!(r#"{{"case":"{case}","value":{value:.2},"unit":"{unit}"}}"#)
            })
            .collect();
        println!("[{}]", rows.join(","));
    } else {
        println!("{} MB, {} keys\n", file.len() / 1_000_000, keyspace.len());
        for Row { case, value, unit } in rows {
            println!("{case:<40} {value:>10.2} {unit}");
        }
    }
}

/// The best of three, as nothing else makes code faster than it is.
fn seconds(mut work: impl FnMut()) -> f64 {
    (0..3)
        .map(|_| {
            let start = Instant::now();
            work();
            start.elapsed().as_secs_f64()
        })
        .fold(f64::INFINITY, f64::min)
}

fn checksum(len: usize) -> Row {
    let bytes = vec![7_u8; len];
    let rounds = 256 * MIB / len;
    let took = seconds(|| {
        let mut crc = Crc64::new();
        for _ in 0..rounds {
            crc.update(black_box(&bytes));
        }
        black_box(crc.value());
    });
    let case = format!("checksum, spans of {len} bytes");
    Row { case, value: (rounds * len) as f64 / took / 1e9, unit: "GB/s" }
}

fn walk(file: &Bytes) -> [Row; 2] {
    let mut keys = 0;
    let took = seconds(|| {
        let mut walk = Walk::new();
        for chunk in file.chunks(MIB) {
            walk.feed(chunk).unwrap();
        }
        keys = walk.finish().unwrap().total();
    });
    rows("walk", file, keys, took)
}

fn entries(file: &Bytes, case: &str, mut each: impl FnMut(&Entry)) -> [Row; 2] {
    let mut keys = 0;
    let start = Instant::now();
    let mut entries = Entries::new(u64::MAX);
    for at in (0..file.len()).step_by(MIB) {
        entries.feed(file.slice(at..file.len().min(at + MIB)));
        while let Some(event) = entries.next().unwrap() {
            if let Event::Entry(entry) = event {
                each(&entry);
                keys += 1;
            }
        }
    }
    rows(case, file, keys, start.elapsed().as_secs_f64())
}

fn rows(case: &str, file: &Bytes, keys: u64, took: f64) -> [Row; 2] {
    [
        Row { case: case.to_owned(), value: file.len() as f64 / took / 1e6, unit: "MB/s" },
        Row { case: case.to_owned(), value: keys as f64 / took / 1e6, unit: "million keys/s" },
    ]
}

/// A dump of small keys: strings, hashes of eight fields, sets, sorted sets and lists in their packed forms.
fn made() -> Bytes {
    let version = Version::redis(12);
    let mut writer = Writer::new(version);
    writer.size_hint(0, KEYS, 0);
    let mut file = BytesMut::new();
    for number in 0..KEYS {
        let words: Vec<Vec<u8>> =
            (0..16_u64).map(|n| (number * 31 + n * 7919).to_string().into_bytes()).collect();
        let (code, body) = match number % 4 {
            0 => (0, string(&words.concat()[..60])),
            1 => (16, string(&listpack(&words))),
            2 => (20, string(&listpack(&words[..8]))),
            _ => (18, [&[1, 2][..], &string(&listpack(&words))].concat().into()),
        };
        let entry = Entry {
            database: 0,
            key: Bytes::from(format!("key:{number}")),
            expires_at_ms: (number % 5 == 0).then_some(1_900_000_000_000),
            usage: None,
            value_type: value::lookup(code, version).unwrap(),
            body,
        };
        writer.entry(&entry).unwrap();
        while let Some(piece) = writer.take() {
            file.extend_from_slice(&piece);
        }
    }
    writer.finish();
    while let Some(piece) = writer.take() {
        file.extend_from_slice(&piece);
    }
    file.freeze()
}

fn string(text: &[u8]) -> Bytes {
    let mut out = BytesMut::new();
    out.put_u16(0x4000 | u16::try_from(text.len()).unwrap());
    out.put_slice(text);
    out.freeze()
}

fn listpack(words: &[Vec<u8>]) -> Vec<u8> {
    let mut body = Vec::new();
    for word in words {
        body.push(0x80 | u8::try_from(word.len()).unwrap());
        body.extend(word);
        body.push(u8::try_from(word.len() + 1).unwrap());
    }
    let mut out = u32::try_from(body.len() + 7).unwrap().to_le_bytes().to_vec();
    out.extend(u16::try_from(words.len()).unwrap().to_le_bytes());
    out.extend(body);
    out.push(0xff);
    out
}
