//! The transport's tests on smol.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use selium_remote_transport_quinn::Runtime;

#[path = "../../transport-quinn/tests/suite/mod.rs"]
mod suite;

fn runtime() -> Runtime {
    selium_remote_transport_async_std::smol()
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    smol::block_on(future)
}
