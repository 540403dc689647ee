//! The header of a pack, plain and sealed.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| coffer_restic::hostile::pack_header(data));
