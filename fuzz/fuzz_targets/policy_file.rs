#![no_main]
use selium_remote_provision::fuzzing;

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzzing::policy_file(data));
