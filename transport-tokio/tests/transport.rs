//! The transport's tests on tokio, with one thread as `#[tokio::test]` has it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use selium_remote_transport_quinn::Runtime;

#[path = "../../transport-quinn/tests/suite/mod.rs"]
mod suite;

fn runtime() -> Runtime {
    selium_remote_transport_tokio::runtime().expect("within tokio")
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

#[test]
fn outside_of_tokio_there_is_no_runtime() {
    assert!(selium_remote_transport_tokio::runtime().is_none());
}

#[test]
fn nobody_waits_for_a_connection_that_went_with_its_runtime() {
    let (link, handles) = block_on(async {
        let (link, send, recv, endpoint) = suite::driven(suite::Probe::default()).await;
        (link, (send, recv, endpoint))
    });
    block_on(suite::soon(link.over()));
    drop(handles);
}
