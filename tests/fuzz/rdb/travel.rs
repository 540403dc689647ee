//! Values on their way to other servers: whatever is re-encoded reads back as the same value.
#![no_main]

use bytes::Bytes;
use coffer_rdb::commands::{Pages, commands};
use coffer_rdb::digest;
use coffer_rdb::entries::Entry;
use coffer_rdb::target::Target;
use coffer_rdb::travel::{Travel, Way, reencode, travel};
use coffer_rdb::value;
use coffer_rdb::version::Version;
use libfuzzer_sys::fuzz_target;

const LARGEST: u64 = 1 << 20;

fuzz_target!(|data: &[u8]| {
    let [code, version, chosen, body @ ..] = data else { return };
    let Some(known) = value::lookup(*code, Version::from_footer(u16::from(*version))) else { return };
    let target = match chosen % 6 {
        0 => Target::from_info("3.2.6", None),
        1 => Target::from_info("5.0.6", None),
        2 => Target::from_info("7.0.15", None),
        3 => Target::from_info("8.2.3", None),
        4 => Target::from_info("7.2.4", Some("8.1.8")),
        _ => Target::from_info("7.2.4", Some("9.1.2")),
    };
    let entry = Entry {
        database: 0,
        key: Bytes::from_static(b"k"),
        expires_at_ms: None,
        usage: None,
        value_type: known,
        body: Bytes::copy_from_slice(body),
    };
    let pages = Pages { elements: 3, bytes: 100, string_bytes: 100 };
    let written = commands(&entry, &target, pages, LARGEST).map(|all| all.take(10_000).count());
    let whole = digest::of_entry(&entry, LARGEST);
    if whole.is_ok() {
        assert!(written.is_ok() || known.kind == value::Kind::Module);
    }
    if let Ok(Travel::Whole(Way::Reencode(to))) = travel(known, &entry.body, &target, LARGEST)
        && let Ok(body) = reencode(known, &entry.body, to, LARGEST)
        && let Ok(whole) = whole
    {
        let there = Entry { value_type: to, body, ..entry };
        assert_eq!(digest::of_entry(&there, LARGEST), Ok(whole));
    }
});
