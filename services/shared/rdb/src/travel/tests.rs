use super::*;
use crate::target::{Modules, Software};
use crate::version::Version;
use bytes::{BufMut, BytesMut};
use std::collections::BTreeSet;

const NO_LIMIT: u64 = 1 << 30;

fn redis(version: &str) -> Target {
    Target::from_info(version, None)
}

fn valkey(version: &str) -> Target {
    Target::from_info("7.2.4", Some(version))
}

/// The decision, in a few letters: as it is, to another type, as commands, lost.
fn way(code: u8, source: Version, body: &[u8], target: &Target) -> String {
    let value_type = value::lookup(code, source).unwrap();
    let way = |way| match way {
        Way::AsIs => "as is".to_owned(),
        Way::Reencode(to) => format!("to {}", to.code),
        Way::Commands => "commands".to_owned(),
    };
    match travel(value_type, &Bytes::copy_from_slice(body), target, NO_LIMIT).unwrap() {
        Travel::Whole(by) => way(by),
        Travel::Partly(by, loss) => format!("{} without {loss}", way(by)),
        Travel::Lost(loss) => format!("lost: {loss}"),
    }
}

/// A hash of one field, in Redis' layout with times.
fn hash_24(time: u8) -> Vec<u8> {
    let mut body = BytesMut::new();
    body.put_i64_le(1000);
    body.put_slice(&[1, time, 1, b'f', 1, b'v']);
    body.to_vec()
}

/// A hash of fields in Valkey's layout, each with that time.
fn hash_22(times: &[i64]) -> Vec<u8> {
    let mut body = vec![u8::try_from(times.len()).unwrap()];
    for (name, time) in (b'a'..).zip(times) {
        body.extend([1, name, 1, b'v']);
        body.extend(time.to_le_bytes());
    }
    body
}

#[test]
fn a_type_that_the_target_knows_goes_as_it_is() {
    for (code, target) in [
        (0, redis("2.8.17")),
        (14, redis("3.2.6")),
        (5, redis("4.0.0")),
        (15, redis("5.0.6")),
        (19, redis("7.0.15")),
        (21, redis("8.2.3")),
        (21, valkey("8.1.8")),
        (20, valkey("9.1.2")),
    ] {
        assert_eq!(way(code, Version::redis(12), b"", &target), "as is", "{code} to {target}");
    }
}

#[test]
fn a_type_that_the_target_does_not_know_is_written_as_one_that_it_does() {
    for (code, target, want) in [
        (20, redis("7.0.15"), "to 2"),
        (21, redis("7.0.15"), "to 19"),
        (21, redis("6.2.5"), "to 15"),
        (19, redis("5.0.6"), "to 15"),
        (18, redis("6.2.5"), "to 1"),
        (14, redis("2.8.17"), "to 1"),
        (16, redis("6.2.5"), "to 4"),
        (17, redis("6.2.5"), "to 5"),
        (17, redis("3.2.6"), "to 3"),
        (5, redis("3.2.6"), "to 3"),
    ] {
        assert_eq!(way(code, Version::redis(12), b"", &target), want, "{code} to {target}");
    }
}

/// A stream as Redis 8.6 writes it; its tail says how many producers it remembers.
fn stream_26(producers: &[u8]) -> Vec<u8> {
    let mut body = b"\x00\x00\x05\x00\x00\x00\x00\x00\x00\x00\x40\x64\x40\x64".to_vec();
    body.extend(producers);
    body.extend(b"\x01\x00");
    body
}

#[test]
fn a_stream_of_8_6_loses_its_memory_of_producers_and_nothing_unseen() {
    let version = Version::redis(13);
    let plain = stream_26(b"\x00");
    let remembers = stream_26(b"\x01\x01p\x01\x03iid\x05\x00");
    assert_eq!(way(26, version, &plain, &redis("8.6.2")), "as is");
    assert_eq!(way(26, version, &plain, &redis("8.2.3")), "to 21");
    assert_eq!(way(26, version, &plain, &valkey("9.1.2")), "to 21");
    assert_eq!(way(26, version, &plain, &redis("6.2.5")), "to 15");
    let partly = way(26, version, &remembers, &redis("8.2.3"));
    assert!(partly.starts_with("to 21 without the ids by which"), "{partly}");
    // Servers that would keep it, but take commands alone, or no value of this size.
    let managed = Target { restore: false, ..redis("8.6.2") };
    let small = Target { largest_argument: 32, ..redis("8.6.2") };
    for target in [managed, small] {
        let partly = way(26, version, &remembers, &target);
        let told = "commands without the ids by which repeated entries of producers are told, which no command writes";
        assert!(partly.starts_with(told), "{partly}");
    }
}

#[test]
fn what_consumers_of_8_8_gave_back_is_pending_and_nobodys() {
    let mut body = b"\x00\x00\x05\x00\x00\x00\x00\x00\x00\x01\x01g\x05\x00\x00".to_vec();
    let ids: Vec<Vec<u8>> =
        [4_u64, 5].map(|ms| [ms.to_be_bytes(), 0_u64.to_be_bytes()].concat()).into();
    body.push(2);
    for id in &ids {
        body.extend(id);
        body.extend(1_000_i64.to_le_bytes());
        body.push(1);
    }
    body.extend(b"\x01\x01c");
    body.extend([0; 16]);
    body.push(1);
    body.extend(&ids[0]);
    body.push(1);
    body.extend(&ids[1]);
    body.extend(b"\x40\x64\x40\x64\x00\x00\x00");
    let version = Version::redis(14);
    let known = value::lookup(27, version).unwrap();
    assert_eq!(value::end_of(27, version, &body), Ok(Some(body.len())));
    let Value::Stream(stream) = decode::decode(known, body.clone().into(), NO_LIMIT).unwrap()
    else {
        panic!("no stream")
    };
    let groups: Vec<_> = stream.groups().unwrap().collect::<Result<_, _>>().unwrap();
    assert_eq!(groups[0].consumers[0].pending[0].id.ms, 4);
    assert_eq!(groups[0].unowned[0].id.ms, 5);
    let partly = way(27, version, &body, &redis("8.2.3"));
    assert!(
        partly.starts_with("to 21 without pending entries that consumers gave back"),
        "{partly}"
    );
}

#[test]
fn times_of_fields_go_where_there_are_such_times_and_are_never_lost_unseen() {
    let timed = hash_24(1);
    let untimed = hash_24(0);
    let version = Version::redis(12);
    assert_eq!(way(24, version, &timed, &redis("8.2.3")), "as is");
    assert_eq!(way(24, version, &timed, &valkey("9.1.2")), "to 22");
    assert_eq!(way(24, version, &untimed, &redis("7.0.15")), "to 4");
    let stripped = "to 4 without the times to live of its fields, which Valkey 8.1 does not know";
    assert_eq!(way(24, version, &timed, &valkey("8.1.8")), stripped);
    let body = hash_22(&[5]);
    assert_eq!(way(22, Version::valkey(80), &body, &redis("8.2.3")), "to 24");
    assert_eq!(way(22, Version::valkey(80), &body, &valkey("9.0.0")), "as is");
    assert!(way(22, Version::valkey(80), &body, &redis("7.2.0")).starts_with("to 4 without"));
    let far = hash_22(&[5, 1 << 46]);
    let told = "to 24 without the times to live of those of its fields that expire later than Redis 8.2 lets any field";
    let told_of = way(22, Version::valkey(80), &far, &redis("8.2.3"));
    assert!(told_of.starts_with(told), "{told_of}");
    assert_eq!(way(22, Version::valkey(80), &far, &valkey("9.1.2")), "as is");
    assert!(way(22, Version::valkey(80), &far, &redis("7.2.0")).starts_with("to 4 without"));
    let last = hash_22(&[(1 << 46) - 1, -1]);
    assert_eq!(way(22, Version::valkey(80), &last, &redis("8.2.3")), "to 24");
}

#[test]
fn what_cannot_go_is_named() {
    let json = b"\x81\x44\x5e\x89\x10\xe3\xed\x48\x00\x00";
    let mut target = redis("8.2.3");
    assert_eq!(way(7, Version::redis(12), json, &target), "as is");
    target.modules = Modules::Known(BTreeSet::new());
    assert!(way(7, Version::redis(12), json, &target).starts_with("lost: a value of module type "));
    let mut managed = redis("7.0.15");
    managed.restore = false;
    assert!(way(7, Version::redis(12), json, &managed).contains("needs RESTORE"));
    assert_eq!(way(0, Version::redis(12), b"\x01a", &managed), "commands");
    let old = "lost: a stream, which Redis 4.0 does not know";
    assert_eq!(way(15, Version::redis(9), b"", &redis("4.0.0")), old);
    assert_eq!(managed.software, Software::Redis);
}

#[test]
fn re_encoding_keeps_every_time_of_a_field() {
    let source = value::lookup(22, Version::valkey(80)).unwrap();
    let fields = |value_type: &Type, body: &Bytes| match decode::decode(
        value_type,
        body.clone(),
        NO_LIMIT,
    ) {
        Ok(Value::Hash(fields)) => fields.collect::<Result<Vec<_>, _>>().unwrap(),
        other => panic!("{other:?}"),
    };
    let body = Bytes::from(hash_22(&[5_000, -1, 4_000]));
    let want = fields(source, &body);
    assert_eq!(
        want.iter().map(|one| one.expires_at_ms).collect::<Vec<_>>(),
        [Some(5_000), None, Some(4_000)]
    );
    let redis = value::lookup(24, Version::redis(12)).unwrap();
    let there = reencode(source, &body, redis, NO_LIMIT).unwrap();
    assert_eq!(fields(redis, &there), want);
    let back = reencode(redis, &there, source, NO_LIMIT).unwrap();
    assert_eq!(fields(source, &back), want);
    // But one that no server of that type would take.
    let far = Bytes::from(hash_22(&[i64::MAX, (1 << 46) - 1]));
    let there = reencode(source, &far, redis, NO_LIMIT).unwrap();
    let times: Vec<_> = fields(redis, &there).into_iter().map(|one| one.expires_at_ms).collect();
    assert_eq!(times, [None, Some((1 << 46) - 1)]);
}

#[test]
fn what_is_too_large_for_one_argument_goes_in_parts_if_it_has_some() {
    let target = Target { largest_argument: 100, ..redis("7.0.15") };
    let string = |len: u8| [vec![0x40, len], vec![b'x'; len.into()]].concat();
    let list = |lens: &[u8]| {
        let count = u8::try_from(lens.len()).unwrap();
        [vec![count], lens.iter().flat_map(|len| string(*len)).collect()].concat()
    };
    let too_large = "lost: a value with a part of more than 100 bytes, which is what Redis 7.0 takes in one argument \
                     (proto-max-bulk-len)";
    for (code, body, want) in [
        (0, string(87), "as is"),
        (0, string(88), too_large),
        (1, list(&[40, 44]), "as is"),
        (1, list(&[40, 45]), "commands"),
        (1, list(&[100, 100]), "commands"),
        (1, list(&[1, 101]), too_large),
        // In the listpack of a set: what is written is larger than what is read.
        (20, b"\x0a\x0a\0\0\0\x01\0\x81a\x02\xff".to_vec(), "to 2"),
    ] {
        let named = (code, body.len());
        assert_eq!(way(code, Version::redis(12), &body, &target), want, "{named:?}");
    }
    let small = Target { largest_argument: 10, ..target };
    let set = b"\x0a\x0a\0\0\0\x01\0\x81a\x02\xff";
    assert_eq!(way(20, Version::redis(12), set, &small), "commands");
}
