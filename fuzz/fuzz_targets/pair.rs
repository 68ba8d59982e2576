#![no_main]
use selium_remote_client_protocol::fuzzing;

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzzing::pair(data));
