use super::*;
use crate::value;
use crate::version::Version;
use bytes::{BufMut, BytesMut};

const NO_LIMIT: u64 = 1 << 30;

fn entry(code: u8, version: Version, body: Vec<u8>, expires_at_ms: Option<i64>) -> Entry {
    Entry {
        database: 0,
        key: Bytes::from_static(b"k"),
        expires_at_ms,
        usage: None,
        value_type: value::lookup(code, version).unwrap(),
        body: Bytes::from(body),
    }
}

/// The commands as lines.
fn lines(entry: &Entry, target: &Target, pages: Pages) -> Vec<String> {
    commands(entry, target, pages, NO_LIMIT)
        .unwrap()
        .map(|command| {
            let words: Vec<_> = command
                .unwrap()
                .iter()
                .map(|word| String::from_utf8_lossy(word).into_owned())
                .collect();
            words.join(" ")
        })
        .collect()
}

fn pages(elements: usize, bytes: usize) -> Pages {
    Pages { elements, bytes, string_bytes: bytes }
}

#[test]
fn a_value_is_deleted_first_written_in_pages_and_expires_last() {
    let redis = Target::from_info("7.0.15", None);
    let list = entry(1, Version::redis(6), b"\x03\x01a\x01b\xc0\x07".to_vec(), Some(99));
    assert_eq!(
        lines(&list, &redis, pages(2, 100)),
        ["UNLINK k", "RPUSH k a b", "RPUSH k 7", "PEXPIREAT k 99"]
    );
    assert_eq!(lines(&list, &redis, pages(100, 1)).len(), 5);
    let text = entry(0, Version::redis(6), b"\x05hello".to_vec(), None);
    assert_eq!(lines(&text, &redis, pages(1, 2)), ["SET k he", "APPEND k ll", "APPEND k o"]);
    let nothing = entry(0, Version::redis(6), b"\x00".to_vec(), None);
    assert_eq!(lines(&nothing, &redis, Pages::default()), ["SET k "]);
}

#[test]
fn scores_keep_every_bit() {
    let mut body = BytesMut::new();
    body.put_slice(b"\x04");
    let scores = [0.1 + 0.2, f64::NEG_INFINITY, 1e300, f64::MIN_POSITIVE / 2.0];
    for score in scores {
        body.put_slice(b"\x01m");
        body.put_f64_le(score);
    }
    let set = entry(5, Version::redis(8), body.to_vec(), None);
    let redis = Target::from_info("7.0.15", None);
    let written = lines(&set, &redis, Pages::default());
    let words: Vec<_> = written[1].split(' ').skip(2).step_by(2).collect();
    assert_eq!(words.iter().map(|word| word.parse::<f64>().unwrap()).collect::<Vec<_>>(), scores);
}

#[test]
fn fields_get_their_times_page_by_page_where_the_server_knows_such_times() {
    let mut body = b"\x03\x01a\x011".to_vec();
    body.extend(5_000_i64.to_le_bytes());
    body.extend(b"\x01b\x012");
    body.extend((-1_i64).to_le_bytes());
    body.extend(b"\x01c\x013");
    body.extend(5_000_i64.to_le_bytes());
    let hash = entry(22, Version::valkey(80), body, None);
    let with = |target: &Target, elements| lines(&hash, target, pages(elements, 1 << 20));
    let redis = Target::from_info("8.2.3", None);
    assert_eq!(
        with(&redis, 1000),
        ["UNLINK k", "HSET k a 1 b 2 c 3", "HPEXPIREAT k 5000 FIELDS 2 a c"]
    );
    assert_eq!(
        with(&redis, 2),
        [
            "UNLINK k",
            "HSET k a 1 b 2",
            "HPEXPIREAT k 5000 FIELDS 1 a",
            "HSET k c 3",
            "HPEXPIREAT k 5000 FIELDS 1 c"
        ]
    );
    // Later than Redis takes any.
    let mut far = b"\x01\x01f\x01v".to_vec();
    far.extend((1_i64 << 46).to_le_bytes());
    let far = entry(22, Version::valkey(80), far, None);
    let valkey = Target::from_info("7.2.4", Some("9.1.2"));
    assert_eq!(lines(&far, &redis, Pages::default()), ["UNLINK k", "HSET k f v"]);
    assert_eq!(lines(&far, &valkey, Pages::default()).len(), 3);
    let old = Target::from_info("7.0.15", None);
    assert_eq!(with(&old, 1000), ["UNLINK k", "HSET k a 1 b 2 c 3"]);
}

#[test]
fn what_is_not_a_value_for_commands_is_an_error() {
    let module = entry(7, Version::redis(10), vec![1, 0], None);
    let redis = Target::from_info("7.0.15", None);
    assert!(commands(&module, &redis, Pages::default(), NO_LIMIT).is_err());
    let mut nan = b"\x01\x01m".to_vec();
    nan.extend(f64::NAN.to_le_bytes());
    let set = entry(5, Version::redis(8), nan, Some(1));
    let mut all = commands(&set, &redis, Pages::default(), NO_LIMIT).unwrap();
    assert!(all.next().unwrap().is_ok());
    assert!(all.next().unwrap().is_err());
    assert!(all.next().is_none());
}
