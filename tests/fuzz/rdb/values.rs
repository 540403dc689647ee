//! Values of every type: skipped and decoded. The first byte is the type, the second the version; the third
//! is for the target that shares this corpus.
#![no_main]

use bytes::Bytes;
use coffer_rdb::decode::{Value, decode};
use coffer_rdb::version::Version;
use coffer_rdb::{payload, value};
use libfuzzer_sys::fuzz_target;

const LARGEST: u64 = 1 << 20;

fuzz_target!(|data: &[u8]| {
    let _ = payload::parse(Bytes::copy_from_slice(data));
    let [code, version, _, body @ ..] = data else { return };
    let version = Version::from_footer(u16::from(*version));
    let _ = value::module_name(body);
    let _ = value::end_of(*code, version, body);
    let Some(known) = value::lookup(*code, version) else { return };
    // Counts are bounded by the input: every element takes a byte of what its bytes unpack to.
    let most = body.len() * 264;
    match decode(known, Bytes::copy_from_slice(body), LARGEST) {
        Ok(Value::String(text)) => assert!(text.len() <= most),
        Ok(Value::List(elements) | Value::Set(elements)) => assert!(elements.count() <= most),
        Ok(Value::SortedSet(members)) => assert!(members.count() <= most),
        Ok(Value::Hash(fields)) => assert!(fields.count() <= most),
        Ok(Value::Stream(stream)) => {
            let _ = stream.entries().map(Iterator::count);
            let _ = stream.groups().map(Iterator::count);
        }
        Ok(Value::Module(module)) => assert!(module.count() <= most),
        Err(_) => {}
    }
});
