use super::*;
use crate::value;
use crate::version::Version;
use bytes::Bytes;

const NO_LIMIT: u64 = 1 << 30;

fn entry(code: u8, body: &[u8]) -> Entry {
    Entry {
        database: 0,
        key: Bytes::from_static(b"k"),
        expires_at_ms: None,
        usage: None,
        value_type: value::lookup(code, Version::redis(12)).unwrap(),
        body: Bytes::copy_from_slice(body),
    }
}

fn digest(code: u8, body: &[u8]) -> Digest {
    of_entry(&entry(code, body), NO_LIMIT).unwrap()
}

#[test]
fn encodings_and_order_make_no_difference() {
    // 7 as a small integer, as text, packed.
    assert_eq!(digest(0, b"\xc0\x07"), digest(0, b"\x017"));
    // A set of 1, 2: as an intset, as a listpack, as a row in the other order.
    let intset = digest(11, b"\x0c\x02\x00\x00\x00\x02\x00\x00\x00\x01\x00\x02\x00");
    assert_eq!(intset, digest(20, b"\x0b\x0b\x00\x00\x00\x02\x00\x02\x01\x01\x01\xff"));
    assert_eq!(intset, digest(2, b"\x02\x011\xc0\x02"));
    // A hash as a row and as a ziplist.
    let row = digest(4, b"\x01\x01f\x01v");
    assert_eq!(
        row,
        digest(13, b"\x11\x11\x00\x00\x00\x0d\x00\x00\x00\x02\x00\x00\x01f\x03\x01v\xff")
    );
    // Scores: text, binary, with a zero of either sign.
    let mut binary = b"\x01\x01m".to_vec();
    binary.extend((-0.0_f64).to_le_bytes());
    assert_eq!(digest(3, b"\x01\x01m\x010"), digest(5, &binary));
    // A list is ordered.
    assert_ne!(digest(1, b"\x02\x01a\x01b"), digest(1, b"\x02\x01b\x01a"));
}

#[test]
fn everything_that_users_stored_makes_a_difference() {
    let plain = entry(2, b"\x02\x01a\x01b");
    let of = |entry: &Entry| of_entry(entry, NO_LIMIT).unwrap();
    let mut others = vec![
        of(&plain),
        digest(1, b"\x02\x01a\x01b"),
        digest(2, b"\x02\x01a\x01c"),
        digest(2, b"\x02\x01a\x01a"),
        digest(2, b"\x01\x01a"),
        digest(2, b"\x00"),
        digest(2, b"\x01\x02ab"),
        digest(4, b"\x01\x01a\x01b"),
    ];
    others.push(of(&Entry { database: 1, ..plain.clone() }));
    others.push(of(&Entry { key: Bytes::from_static(b"l"), ..plain.clone() }));
    others.push(of(&Entry { expires_at_ms: Some(0), ..plain.clone() }));
    others.push(of(&Entry { expires_at_ms: Some(1), ..plain }));
    let mut different = others.clone();
    different.sort();
    different.dedup();
    assert_eq!(different.len(), others.len());
}

/// A hash as Redis 8.2 dumps it: the field `a` = 1 expires at [`OVER_MS`], `b` = 2 never, as `left` says.
fn with_times(left: bool) -> Entry {
    let mut body = OVER_MS.to_le_bytes().to_vec();
    body.extend_from_slice(if left {
        b"\x1d\x1d\x00\x00\x00\x06\x00\x81a\x02\x01\x01\xf4"
    } else {
        b"\x16\x16\x00\x00\x00\x03\x00\x81a\x02\x01\x01\xf4"
    });
    body.extend_from_slice(&OVER_MS.to_le_bytes());
    body.extend_from_slice(if left { b"\x09\x81b\x02\x02\x01\x00\x01\xff" } else { b"\x09\xff" });
    entry(25, &body)
}

const OVER_MS: i64 = 0x01a2_296e_96f1;

#[test]
fn what_has_expired_by_then_makes_no_difference() {
    let at = |entry: &Entry, now_ms| of_entry_at(entry, now_ms, NO_LIMIT).unwrap();
    let (both, alone) = (with_times(true), with_times(false));
    let rest = digest(4, b"\x01\x01b\x012");
    assert_eq!(at(&both, OVER_MS), Some(rest));
    assert_eq!(at(&both, OVER_MS - 1), Some(of_entry(&both, NO_LIMIT).unwrap()));
    assert_ne!(at(&both, OVER_MS - 1), Some(rest));
    assert_eq!(at(&alone, OVER_MS), None);
    assert_eq!(at(&alone, OVER_MS - 1), Some(of_entry(&alone, NO_LIMIT).unwrap()));
    let key = Entry { expires_at_ms: Some(OVER_MS), ..entry(0, b"\x01x") };
    assert_eq!(at(&key, OVER_MS), None);
    assert_eq!(at(&key, OVER_MS - 1), Some(of_entry(&key, NO_LIMIT).unwrap()));
}

#[test]
fn a_keyspace_is_the_sum_of_its_keys_in_any_order_and_division() {
    let keys: Vec<_> = (0..10_u8).map(|n| digest(0, &[1, b'a' + n])).collect();
    let sum = |keys: &[Digest]| {
        let mut sum = Keyspace::new();
        keys.iter().for_each(|key| sum.add(key));
        sum
    };
    let whole = sum(&keys);
    let mut parts = sum(&keys[7..]);
    parts.merge(&sum(&keys[..7]));
    assert_eq!(parts, whole);
    assert_eq!(parts.digest(), whole.digest());
    assert_eq!(whole.len(), 10);
    assert_ne!(sum(&keys[1..]).digest(), whole.digest());
    // What comes twice is not what does not come at all.
    let twice = sum(&[keys[0], keys[0]]);
    assert_ne!(twice.digest(), Keyspace::new().digest());
    assert_ne!(twice.digest(), sum(&keys[..1]).digest());
    let mut functions = Keyspace::new();
    functions.add_function(b"#!lua name=a");
    assert_ne!(functions.digest(), Keyspace::new().digest());
}

#[test]
fn many_or_large_elements_are_summed_and_their_order_makes_no_difference_either() {
    for (count, len) in [(3000_u64, 10_usize), (5, 100_000), (1024, 1), (1025, 1)] {
        let element = |index: u64| {
            let mut element = index.to_string().into_bytes();
            element.resize(element.len().max(len), b'x');
            let mut out = bytes::BytesMut::new();
            crate::encode::string(&mut out, &element);
            out.to_vec()
        };
        let set = |order: &mut dyn Iterator<Item = u64>| {
            let mut body = bytes::BytesMut::new();
            crate::encode::number(&mut body, count);
            order.for_each(|index| body.extend_from_slice(&element(index)));
            digest(2, &body)
        };
        let forward = set(&mut (0..count));
        assert_eq!(forward, set(&mut (0..count).rev()), "{count} of {len}");
        assert_ne!(forward, set(&mut (1..=count)), "{count} of {len}");
    }
}

/// Digests are kept beside snapshots: what they are must never change unseen. The values are from a second
/// implementation of the definition, in another language.
#[test]
fn the_definition_stays() {
    let key = digest(2, b"\x02\x01a\x01b");
    assert_eq!(key.to_string(), "6f8022e762ce5790644c7913efad85e87582d25a095a72f94eb8477e2c3c9ab5");
    let mut keyspace = Keyspace::new();
    keyspace.add(&key);
    assert_eq!(
        keyspace.digest().to_string(),
        "621afb63d462a4391c74e52666015da1738d0c5f4c543dab37223f36c5a2a42f"
    );
}
