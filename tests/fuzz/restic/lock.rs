//! Lock files, and whether their holder is gone.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| coffer_restic::hostile::lock_file(data));
