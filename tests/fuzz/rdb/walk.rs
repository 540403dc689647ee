//! The walker: however a file is cut, the same figures or an error.
#![no_main]

use coffer_rdb::walk::Walk;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let (file, cut) = (data, data.len() % 251 + 1);
    let mut whole = Walk::new();
    let result = whole.feed(file);
    let mut pieces = Walk::new();
    let fed = file.chunks(cut).try_fold(0, |sum, piece| pieces.feed(piece).map(|used| sum + used));
    assert_eq!(result.is_ok(), fed.is_ok());
    assert_eq!(whole.so_far(), pieces.so_far());
    if let Ok(summary) = whole.finish() {
        assert_eq!(Some(summary.bytes), fed.ok().map(|used| used as u64));
    }
});
