//! Servers that cannot be run on the systems this is tested on, by the files they wrote, which are kept in
//! `tests/data`; and the making of those files.

use bytes::{Bytes, BytesMut};
use coffer_rdb::entries::Entry;
use coffer_rdb::resp::Reply;
use coffer_rdb::travel::{Travel, Way, reencode, travel};
use coffer_rdb::write::Writer;

use crate::support::dataset::{self, PACKED, UNPACKED};
use crate::support::{Make, Server};
use crate::versions::{
    AVAILABLE, NO_LIMIT, assert_same, digests, entries, expected, saved, send, target_of,
};

/// The longest element in the files that are kept in `tests/data`.
const KEPT_LONGEST: usize = 300;
/// Servers that nothing but their sources can be had of any more; their files are kept.
const KEPT: [(Make, &str, &[&str]); 4] = [
    (Make("redis-2.8"), "packed", PACKED),
    (Make("redis-2.8"), "unpacked", UNPACKED),
    (Make("redis-3.2"), "packed", PACKED),
    (Make("redis-3.2"), "unpacked", UNPACKED),
];

/// What each of them says of its data by `DEBUG DIGEST`.
const DIGEST_OF_KEPT: &[u8] = b"7e6f3592ae6a4384e4e4ac7b724d925f7c48c4b8";

fn kept(make: Make, form: &str) -> std::path::PathBuf {
    let folder = std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data"));
    folder.join(format!("{}-{form}.rdb", make.0))
}

#[test]
fn files_of_servers_that_are_no_longer_to_be_had_are_read_and_restored() {
    let mut today = Server::start(&[]);
    dataset::fill_edges(&mut today, KEPT_LONGEST);
    let want = digests(&entries(&saved(&mut today)));
    let oracle = Reply::Status(Bytes::from_static(DIGEST_OF_KEPT));
    assert_eq!(today.digest(), oracle);
    for (make, form, _) in KEPT {
        let what = format!("{} {form}", make.0);
        let file = Bytes::from(std::fs::read(kept(make, form)).unwrap());
        let old = entries(&file);
        assert_same(&digests(&old), &want, &what);
        today.line("FLUSHALL");
        let made = target_of(&mut today);
        send(&old, &mut today, &made);
        assert_eq!(today.digest(), oracle, "{what}");
    }
}

/// What Redis 8.6.2 says of the data in `tests/data/redis-8.6-streams.rdb`: it runs on newer systems than
/// this is tested on, so a file of it is kept.
const DIGEST_OF_8_6: &[u8] = b"7750726ac09d944466a2922999458e3ab657d466";

#[test]
fn streams_of_redis_8_6_go_to_every_server() {
    if !AVAILABLE {
        return;
    }
    let file = kept(Make("redis-8.6"), "streams");
    let all = entries(&Bytes::from(std::fs::read(file).unwrap()));
    let streams = all.iter().filter(|entry| entry.value_type.code == 26).count();
    assert_eq!(streams, 2);
    for target in Make::ALL {
        let mut server = Server::of(target, &[]);
        let mut made = target_of(&mut server);
        for restore in [true, false] {
            made.restore = restore;
            let what = format!("{} restore {restore}", target.0);
            let sent = send(&all, &mut server, &made);
            assert!(sent.lost.is_empty() && sent.shortened.len() == 1, "{what}: {sent:?}");
            let arrived = entries(&saved(&mut server));
            assert_same(&digests(&arrived), &expected(&all, &sent), &what);
            if sent.stripped.is_empty() && !target.is_valkey() {
                let oracle = Reply::Status(Bytes::from_static(DIGEST_OF_8_6));
                assert_eq!(server.digest(), oracle, "{what}");
            }
        }
    }
}

#[test]
#[ignore = "writes tests/data; needs `tests/tools/servers --old`"]
fn writes_the_files_of_old_servers() {
    for (make, form, options) in KEPT {
        let mut server = Server::of(make, options);
        dataset::fill_edges(&mut server, KEPT_LONGEST);
        std::fs::create_dir_all(kept(make, form).parent().unwrap()).unwrap();
        std::fs::write(kept(make, form), saved(&mut server)).unwrap();
    }
}

/// Type, version, a byte to choose a target by, body: what `tests/fuzz/rdb/travel.rs` takes apart.
#[test]
#[ignore = "writes the corpus of the fuzz targets"]
fn writes_a_value_of_each_type() {
    let folder = std::path::Path::new(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../../tests/fuzz/corpus/rdb-values"
    ));
    std::fs::create_dir_all(folder).unwrap();
    for make in Make::ALL {
        for options in [PACKED, UNPACKED] {
            let mut server = Server::of(make, options);
            let reads = target_of(&mut server).reads;
            dataset::fill_edges(&mut server, 70);
            dataset::fill_streams(&mut server, make);
            if make.has_field_ttls() {
                dataset::fill_field_ttls(&mut server);
            }
            for entry in entries(&saved(&mut server)) {
                let key = String::from_utf8_lossy(&entry.key).into_owned();
                let known = ["list", "set", "hash:values", "zset:scores", "intset", "stream"];
                let named = known.contains(&key.as_str()) || key.starts_with("ttl:");
                if named && entry.body.len() < 3000 {
                    let number = u8::try_from(reads.number).unwrap();
                    let code = entry.value_type.code;
                    let value = [&[code, number, 0][..], &entry.body].concat();
                    let name = format!("{code}-{}", key.replace(':', "-"));
                    std::fs::write(folder.join(name), value).unwrap();
                }
            }
        }
    }
}

#[test]
#[ignore = "needs `tests/tools/servers --old`"]
fn values_of_today_go_to_old_servers() {
    for source in Make::ALL {
        let mut server = Server::of(source, PACKED);
        dataset::fill_edges(&mut server, 16_384);
        let sent_entries = entries(&saved(&mut server));
        for target in [Make("redis-2.8"), Make("redis-3.2")] {
            let made = target_of(&mut Server::of(target, &[]));
            // Neither knows ABSTTL: a file is the way into them.
            let mut writer = Writer::new(made.reads);
            for entry in &sent_entries {
                match travel(entry.value_type, &entry.body, &made, NO_LIMIT).unwrap() {
                    Travel::Whole(Way::AsIs) => writer.entry(entry).unwrap(),
                    Travel::Whole(Way::Reencode(to)) => {
                        let body = reencode(entry.value_type, &entry.body, to, NO_LIMIT).unwrap();
                        writer.entry(&Entry { value_type: to, body, ..entry.clone() }).unwrap();
                    }
                    other => panic!("{other:?}"),
                }
            }
            writer.finish();
            let mut file = BytesMut::new();
            while let Some(piece) = writer.take() {
                file.extend_from_slice(&piece);
            }
            let dir = tempfile::tempdir().unwrap();
            std::fs::write(dir.path().join("dump.rdb"), &file).unwrap();
            let mut old = Server::in_folder(target, dir, &[]);
            let what = format!("{} to {}", source.0, target.0);
            assert_same(&digests(&entries(&saved(&mut old))), &digests(&sent_entries), &what);
        }
    }
}
