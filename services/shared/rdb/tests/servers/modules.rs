//! Values of real modules, of which nothing is known here but where they end: vector sets, which are part
//! of Redis 8, and graphs of FalkorDB, which keep data outside any key as well.

use bytes::{Bytes, BytesMut};
use coffer_rdb::digest;
use coffer_rdb::entries::Event;
use coffer_rdb::payload;
use coffer_rdb::target::{Modules, Target};
use coffer_rdb::travel::{Loss, Travel, Way, travel};
use coffer_rdb::value::{self, Kind};
use coffer_rdb::version::Version;
use coffer_rdb::write::Writer;
use std::collections::BTreeSet;

use crate::support::{Make, Server};
use crate::versions::{AVAILABLE, NO_LIMIT, entries, events, saved};

const REDIS_8: Make = Make("redis-8.2");

#[test]
fn a_vector_set_goes_where_its_module_is_and_is_refused_where_it_is_not() {
    if !AVAILABLE {
        return;
    }
    let mut source = Server::of(REDIS_8, &[]);
    for index in 0..50_u32 {
        let (x, y) = (f64::from(index).sin(), f64::from(index).cos());
        source.line(&format!("VADD vectors VALUES 3 {x} {y} 0.5 element-{index}"));
    }
    let file = saved(&mut source);
    let all = entries(&file);
    let [entry] = &all[..] else { panic!("{all:?}") };
    assert_eq!(entry.value_type.kind, Kind::Module);
    assert_eq!(value::module_name(&entry.body).as_deref(), Some("vectorset"));

    let mut target = Target::from_info("8.2.3", None);
    let decide = |target: &Target| travel(entry.value_type, &entry.body, target, NO_LIMIT).unwrap();
    assert!(matches!(decide(&target), Travel::Whole(Way::AsIs)));
    target.modules = Modules::Known(BTreeSet::from(["vectorset".to_owned()]));
    assert!(matches!(decide(&target), Travel::Whole(Way::AsIs)));
    target.modules = Modules::Known(BTreeSet::new());
    assert!(matches!(decide(&target), Travel::Lost(Loss::Module { .. })));

    let mut made = vec![entry.value_type.code];
    made.extend_from_slice(&entry.body);
    made.extend(payload::footer(entry.value_type.code, &entry.body, 12));
    let mut receiver = Server::of(REDIS_8, &[]);
    receiver.run(&[b"RESTORE", b"vectors", b"0", &made]);
    for line in ["VCARD vectors", "VDIM vectors", "VEMB vectors element-7"] {
        assert_eq!(source.line(line), receiver.line(line), "{line}");
    }
    let mut old = Server::start(&[]);
    let old_footer = payload::footer(entry.value_type.code, &entry.body, 10);
    made.truncate(made.len() - old_footer.len());
    made.extend(old_footer);
    let reply = format!("{:?}", old.ask(&[b"RESTORE", b"vectors", b"0", &made]));
    assert!(reply.contains("Bad data format"), "{reply}");
}

#[test]
fn graphs_and_what_their_module_keeps_beside_them_are_read_and_written() {
    if !AVAILABLE {
        return;
    }
    let module = REDIS_8.folder().join("falkordb.so");
    let options = ["--loadmodule", module.to_str().unwrap()];
    let query = |server: &mut Server, text: &[u8]| {
        // The last part of a reply says how long it took.
        let coffer_rdb::resp::Reply::Array(Some(mut parts)) =
            server.run(&[b"GRAPH.QUERY", b"graph", text])
        else {
            panic!("no reply of a graph")
        };
        parts.pop();
        parts
    };
    let mut source = Server::of(REDIS_8, &options);
    query(&mut source, b"UNWIND range(1, 200) AS x CREATE (:Place {number: x, name: 'n' + x})");
    query(
        &mut source,
        b"MATCH (a:Place), (b:Place) WHERE b.number = a.number + 1 CREATE (a)-[:NEXT]->(b)",
    );
    let file = saved(&mut source);

    let mut writer = Writer::new(Version::redis(12));
    let (mut graphs, mut beside) = (0, 0);
    for event in events(&file) {
        match event {
            Event::ModuleAux { body, .. } => {
                writer.module_aux(&body).unwrap();
                beside += 1;
            }
            Event::Entry(entry) => {
                assert_eq!(entry.value_type.kind, Kind::Module);
                digest::of_entry(&entry, NO_LIMIT).unwrap();
                writer.entry(&entry).unwrap();
                graphs += 1;
            }
            _ => {}
        }
    }
    assert!(graphs > 0, "no graph in the file");
    assert!(beside > 0, "nothing beside the graph in the file");
    writer.finish();
    let mut copy = BytesMut::new();
    while let Some(piece) = writer.take() {
        copy.extend_from_slice(&piece);
    }
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("dump.rdb"), Bytes::from(copy)).unwrap();
    let mut loaded = Server::in_folder(REDIS_8, dir, &options);
    let count = b"MATCH (a)-[r]->(b) RETURN count(r), min(a.number), max(b.number)";
    assert_eq!(query(&mut source, count), query(&mut loaded, count));
}
