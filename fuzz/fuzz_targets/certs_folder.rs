#![no_main]
use selium_remote_certs::fuzzing;

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzzing::certs_folder(data));
