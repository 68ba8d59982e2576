//! A crate that forbids `unsafe` can export an entrypoint, and the exported function runs the server.
#![forbid(unsafe_code)]

use std::cell::RefCell;

use selium_remote_transport_wasm::{
    entry::{ArgumentError, StartArguments},
    entrypoint, fake,
};

thread_local! {
    static SEEN: RefCell<Option<Result<StartArguments, ArgumentError>>> = const { RefCell::new(None) };
}

async fn serve(arguments: Result<StartArguments, ArgumentError>) {
    SEEN.with(|seen| *seen.borrow_mut() = Some(arguments));
}

entrypoint!(start_of_the_test_module, serve);

#[test]
fn exported_entrypoint_gets_its_arguments() {
    fake::reset();
    fake::set_memory(1040, b"localhost");
    start_of_the_test_module(0, 0, 1040, 9, 7000);
    let expected = StartArguments {
        log_uri: String::new(),
        domain: "localhost".to_owned(),
        port: 7000,
    };
    assert_eq!(SEEN.take(), Some(Ok(expected)));
}
