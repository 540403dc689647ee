//! Snapshots and the policy on them: each is kept or removed, and the last one of a group stays.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| coffer_restic::hostile::snapshots(data));
