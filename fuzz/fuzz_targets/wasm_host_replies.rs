#![no_main]
use selium_remote_transport_wasm::fuzzing;

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzzing::wasm_host_replies(data));
