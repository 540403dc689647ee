//! Input that nobody sane would write: nothing may panic, hang or allocate beyond the limit.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "tests")]

use bytes::Bytes;
use coffer_rdb::commands::{Pages, commands};
use coffer_rdb::entries::{Entries, Entry, Event};
use coffer_rdb::target::Target;
use coffer_rdb::travel::{Travel, Way, reencode, travel};
use coffer_rdb::version::Version;
use coffer_rdb::walk::Walk;
use coffer_rdb::{Error, digest, value};
use proptest::prelude::*;

/// Bytes that get deep into the grammar more often than chance would.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let interesting = prop_oneof![
        4 => 0_u8..32,
        1 => Just(0x80_u8),
        1 => Just(0x81_u8),
        1 => 0xc0_u8..0xc5,
        2 => 243_u8..=255,
        2 => any::<u8>(),
    ];
    proptest::collection::vec(interesting, 0..300)
}

fn file() -> impl Strategy<Value = Vec<u8>> {
    (
        prop_oneof![Just(&b"REDIS0010"[..]), Just(&b"REDIS0012"[..]), Just(&b"VALKEY080"[..])],
        bytes(),
    )
        .prop_map(|(magic, rest)| [magic, &rest].concat())
}

#[test]
fn what_ends_within_the_magic_is_cut_off_or_no_file_at_all() {
    let told = |bytes: &'static [u8]| {
        let mut entries = Entries::new(100);
        entries.feed(Bytes::from_static(bytes));
        assert!(matches!(entries.next(), Ok(None)));
        entries.finish().unwrap_err()
    };
    for begun in [&b""[..], b"RED", b"REDIS001", b"VALKEY08"] {
        assert_eq!(told(begun), Error::Truncated { at: begun.len() as u64 });
    }
    for other in [&b"garbage!"[..], b"x", b"VALUE"] {
        assert!(matches!(told(other), Error::Magic { .. }), "{other:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn readers_survive_and_agree_however_the_input_is_cut(file in file(), cut in 1_usize..40) {
        let mut whole = Walk::new();
        let whole_result = whole.feed(&file);
        let mut cut_up = Walk::new();
        let cut_result = file.chunks(cut).try_fold(0, |sum, piece| cut_up.feed(piece).map(|n| sum + n));
        // Errors may be placed a few bytes apart: a number that was cut is placed at its last piece.
        let kind = |result: &Result<usize, Error>| result.as_ref().map_err(std::mem::discriminant).copied();
        prop_assert_eq!(kind(&whole_result), kind(&cut_result));
        prop_assert_eq!(whole.so_far(), cut_up.so_far());

        let mut entries = Entries::new(100);
        let mut counted = 0_u64;
        'file: for piece in file.chunks(cut) {
            entries.feed(Bytes::copy_from_slice(piece));
            loop {
                match entries.next() {
                    Ok(Some(Event::Entry(_))) => counted += 1,
                    Ok(Some(_)) => {}
                    Ok(None) => break,
                    Err(_) => break 'file,
                }
            }
        }
        prop_assert!(counted <= whole.so_far().total());
    }

    #[test]
    fn values_survive(code in 0_u8..40, body in bytes(), version in 6_u16..100) {
        if let Ok(Some(end)) = value::end_of(code, Version::from_footer(version), &body) {
            prop_assert!(end <= body.len());
            let shorter = value::end_of(code, Version::from_footer(version), &body[..end]);
            prop_assert_eq!(shorter, Ok(Some(end)));
        }
    }
}

#[test]
fn promises_of_size_cost_nothing() {
    // A string and a list that claim 2^64 - 1 bytes and elements.
    for code in [0_u8, 1, 4, 15, 18, 21] {
        let mut file = b"REDIS0011".to_vec();
        file.extend([code, 1, b'k', 0x81]);
        file.extend([0xff; 8]);
        file.extend([1; 1000]);
        let mut walk = Walk::new();
        assert_eq!(walk.feed(&file), Ok(file.len()));
        assert!(matches!(walk.finish(), Err(Error::Truncated { .. })));
        let mut entries = Entries::new(100);
        entries.feed(Bytes::from(file));
        let error = loop {
            match entries.next() {
                Ok(Some(_)) => {}
                Ok(None) => panic!("not refused"),
                Err(error) => break error,
            }
        };
        assert!(matches!(error, Error::TooLarge { limit: 100, .. }), "{error}");
    }
}

#[test]
fn a_module_value_of_many_fields_takes_no_more_memory_than_one_of_few() {
    let mut body = vec![1];
    for _ in 0..200_000 {
        body.extend([2, 5]);
    }
    body.push(0);
    assert_eq!(value::end_of(7, Version::redis(10), &body), Ok(Some(body.len())));
}

#[test]
fn what_is_unknown_is_told_from_what_is_damaged() {
    for (tail, unknown) in [(&b"\xf3"[..], true), (b"\x1e\x01k", true), (b"\xf6", true)] {
        let mut walk = Walk::new();
        let error = walk.feed(&[b"REDIS0013", tail].concat()).unwrap_err();
        assert_eq!(error.may_be_newer_format(), unknown, "{error}");
    }
    let mut walk = Walk::new();
    let error = walk.feed(b"REDIS0010\xff\x01\x02\x03\x04\x05\x06\x07\x08").unwrap_err();
    assert!(matches!(error, Error::Checksum { .. }) && !error.may_be_newer_format());
    let error = Walk::new().feed(b"GIF89a000").unwrap_err();
    assert_eq!(error.to_string(), "not an RDB file: it begins with \"GIF89a000\"");
    let error = Walk::new().feed(b"REDIS0013\x1e\x01k").unwrap_err();
    assert_eq!(error.to_string(), "unknown value type 30 at byte 9 of RDB version 13");
}

#[test]
fn a_value_of_half_a_gigabyte_is_read_like_any_other() {
    const MIB: usize = 1 << 20;
    let head = [&b"REDIS0011\x00\x01k\x80"[..], &(512_u32 << 20).to_be_bytes()].concat();
    let piece = Bytes::from(vec![b'x'; MIB]);
    // No checksum, as with `rdbchecksum no`.
    let tail = b"\xff\x00\x00\x00\x00\x00\x00\x00\x00";
    let mut walk = Walk::new();
    let mut entries = Entries::new(513 << 20);
    walk.feed(&head).unwrap();
    entries.feed(Bytes::from(head));
    assert!(matches!(entries.next(), Ok(Some(Event::Version(_)))));
    for _ in 0..512 {
        walk.feed(&piece).unwrap();
        assert!(matches!(entries.next(), Ok(None)));
        entries.feed(piece.clone());
    }
    walk.feed(tail).unwrap();
    assert_eq!(walk.finish().unwrap().total(), 1);
    let Ok(Some(Event::Entry(entry))) = entries.next() else { panic!("no entry") };
    assert_eq!(entry.body.len(), 5 + 512 * MIB);
    entries.feed(Bytes::from_static(tail));
    assert!(matches!(entries.next(), Ok(Some(Event::End { checksummed: false }))));
    entries.finish().unwrap();
}

#[test]
fn what_is_announced_and_never_comes_takes_nothing() {
    for length in [1 << 40, u64::MAX / 2, u64::MAX] {
        let file = [&b"REDIS0011\x00\x01k\x81"[..], &length.to_be_bytes(), b"some"].concat();
        let mut entries = Entries::new(u64::MAX);
        entries.feed(Bytes::from(file.clone()));
        assert!(matches!(entries.next(), Ok(Some(Event::Version(_)))));
        assert!(matches!(entries.next(), Ok(None)));
        assert!(matches!(entries.finish(), Err(Error::Truncated { .. })));
        // One that would be too large is told before it comes.
        let mut entries = Entries::new(100);
        entries.feed(Bytes::from(file));
        assert!(matches!(entries.next(), Ok(Some(Event::Version(_)))));
        assert!(matches!(entries.next(), Err(Error::TooLarge { .. })));
    }
}

#[test]
fn what_failed_once_is_never_whole() {
    let wrong = b"REDIS0010\x00\x01k\x01v\xff\x01\x02\x03\x04\x05\x06\x07\x08";
    let mut walk = Walk::new();
    assert!(matches!(walk.feed(wrong), Err(Error::Checksum { .. })));
    assert!(!walk.has_ended());
    assert!(walk.finish().is_err());
    let mut entries = Entries::new(100);
    entries.feed(Bytes::from_static(wrong));
    assert!(matches!(entries.next(), Ok(Some(Event::Version(_)))));
    assert!(matches!(entries.next(), Ok(Some(Event::Entry(_)))));
    assert!(matches!(entries.next(), Err(Error::Checksum { .. })));
    assert!(matches!(entries.next(), Ok(None)));
    assert!(entries.finish().is_err());
}

/// Everything that can be done with a value, and how much of it there was.
fn exercise(entry: &Entry) -> usize {
    const LARGEST: u64 = 1 << 20;
    let mut done = usize::from(digest::of_entry(entry, LARGEST).is_ok());
    for target in [
        Target::from_info("3.2.6", None),
        Target::from_info("6.2.5", None),
        Target::from_info("8.2.3", None),
        Target::from_info("7.2.4", Some("9.1.2")),
    ] {
        if let Ok(commands) = commands(entry, &target, Pages::default(), LARGEST) {
            done += commands.take(1000).count();
        }
        let travels = travel(entry.value_type, &entry.body, &target, LARGEST);
        if let Ok(Travel::Whole(Way::Reencode(to)) | Travel::Partly(Way::Reencode(to), _)) = travels
        {
            let body = reencode(entry.value_type, &entry.body, to, LARGEST);
            done += body.map_or(0, |body| {
                let end = value::end_of(to.code, target.reads, &body);
                assert_eq!(end, Ok(Some(body.len())), "what is written has an end");
                1
            });
        }
    }
    done
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn values_of_chance_are_taken_apart_or_refused(
        code in 0_u8..30, body in bytes(), valkey in any::<bool>(),
    ) {
        let version = if valkey { Version::valkey(80) } else { Version::redis(12) };
        let Some(value_type) = value::lookup(code, version) else { return Ok(()) };
        let entry = Entry {
            database: 0,
            key: Bytes::from_static(b"k"),
            expires_at_ms: None,
            usage: None,
            value_type,
            body: Bytes::from(body),
        };
        exercise(&entry);
    }
}

/// Real files with a few bytes changed get further into the readers than chance does. The same changes
/// each time: a failure is one to be repeated.
#[test]
fn real_files_with_changed_bytes_are_taken_apart_or_refused() {
    let folder = std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data"));
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state >> 33).unwrap() % below
    };
    let mut exercised = 0;
    for file in std::fs::read_dir(folder).unwrap() {
        let file = std::fs::read(file.unwrap().path()).unwrap();
        for _ in 0..60 {
            let mut changed = file.clone();
            for _ in 0..=random(12) {
                let at = random(changed.len());
                match random(4) {
                    0 => changed[at] ^= 1 << random(8),
                    1 => {
                        changed[at] =
                            [0, 1, 0x3f, 0x40, 0x7f, 0x80, 0x81, 0xc0, 0xfe, 0xff][random(10)]
                    }
                    2 => changed.truncate(at.max(20)),
                    _ => {
                        let from = random(changed.len());
                        changed[at] = changed[from];
                    }
                }
            }
            let mut walk = Walk::new();
            let _ = walk.feed(&changed);
            let mut entries = Entries::new(1 << 20);
            entries.feed(Bytes::from(changed));
            while let Ok(Some(event)) = entries.next() {
                if let Event::Entry(entry) = event {
                    exercised += exercise(&entry);
                }
            }
        }
    }
    assert!(exercised > 10_000, "{exercised}");
}
