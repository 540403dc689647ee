//! The entry reader, the writer behind it, and the digest: what is read is written, and read back the same.
#![no_main]

use bytes::{Bytes, BytesMut};
use coffer_rdb::digest;
use coffer_rdb::entries::{Entries, Entry, Event};
use coffer_rdb::version::Version;
use coffer_rdb::write::Writer;
use libfuzzer_sys::fuzz_target;

const LARGEST: u64 = 1 << 20;

fn read(file: &Bytes, cut: usize) -> (Option<Version>, Vec<Entry>) {
    let mut reader = Entries::new(LARGEST);
    let (mut version, mut entries) = (None, Vec::new());
    for at in (0..file.len()).step_by(cut) {
        reader.feed(file.slice(at..file.len().min(at + cut)));
        while let Ok(Some(event)) = reader.next() {
            match event {
                Event::Version(found) => version = Some(found),
                Event::Entry(entry) => entries.push(entry),
                _ => {}
            }
        }
    }
    (version, entries)
}

fuzz_target!(|data: &[u8]| {
    let (file, cut) = (data, data.len() % 251 + 1);
    let file = Bytes::copy_from_slice(file);
    let (version, entries) = read(&file, cut);
    let Some(version) = version else { return };
    let mut writer = Writer::new(version);
    let mut written = Vec::new();
    for entry in &entries {
        if writer.entry(entry).is_ok() {
            written.push(entry);
        }
    }
    writer.finish();
    let mut copy = BytesMut::new();
    while let Some(piece) = writer.take() {
        copy.extend_from_slice(&piece);
    }
    let (_, again) = read(&copy.freeze(), usize::MAX);
    assert_eq!(again.len(), written.len());
    for (one, other) in again.iter().zip(written) {
        assert_eq!((one.database, &one.key, &one.body), (other.database, &other.key, &other.body));
        assert_eq!(digest::of_entry(one, LARGEST), digest::of_entry(other, LARGEST));
    }
});
