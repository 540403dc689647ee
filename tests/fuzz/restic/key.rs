//! Key files: no cost is paid that is not bounded, and no wrong password opens one.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| coffer_restic::hostile::key_file(data));
