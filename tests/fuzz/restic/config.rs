//! The config: a format that is known and a polynomial that can cut, or an error.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| coffer_restic::hostile::config(data));
