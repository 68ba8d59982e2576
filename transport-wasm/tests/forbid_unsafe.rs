//! A crate that forbids `unsafe` can export an entrypoint, and the exported function runs the server.
#![forbid(unsafe_code)]

use std::cell::{Cell, RefCell};

use selium_remote_transport_wasm::{
    entry::{ArgumentError, StartArguments, wide},
    entrypoint, fake, numbers_entrypoint,
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

thread_local! {
    static COUNTED: Cell<(i32, u64)> = const { Cell::new((0, 0)) };
}

async fn count([size, low, high]: [i32; 3]) {
    COUNTED.set((size, wide(low, high)));
}

numbers_entrypoint!(count_of_the_test_module, count, size, low, high);

#[test]
fn exported_entrypoint_gets_its_numbers() {
    fake::reset();
    count_of_the_test_module(0, 0, 7, -2, 1);
    assert_eq!(COUNTED.get(), (7, 0x1_ffff_fffe));
}
