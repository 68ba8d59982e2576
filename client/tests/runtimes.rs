//! Which runtime a client uses, and that there has to be one.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![cfg(feature = "tokio")]

mod common;

#[cfg(not(any(feature = "async-std", feature = "smol")))]
#[test]
fn outside_of_tokio_there_is_an_error() {
    use futures_util::FutureExt as _;
    use selium_remote_client::{Client, ClientError, ErrorKind};

    let error = Client::connect()
        .now_or_never()
        .expect("it is told at once")
        .unwrap_err();
    assert!(matches!(error, ClientError::NoRuntime), "{error:?}");
    assert_eq!(error.kind(), ErrorKind::Local);
    assert!(!error.is_retryable());
}

/// Cargo adds features up: that some other part of a program enables tokio takes nothing from one that runs on smol.
#[cfg(any(feature = "async-std", feature = "smol"))]
#[test]
fn outside_of_tokio_another_runtime_is_used() {
    use common::{Server, runtime, soon};

    let (tell, config) = std::sync::mpsc::channel();
    let (end, ended) = futures_channel::oneshot::channel::<()>();
    // The server's side is on tokio, in a thread of its own.
    let served = std::thread::spawn(move || {
        runtime::block_on(async move {
            let server = Server::new();
            tell.send(server.config()).unwrap();
            let _peer = soon(server.peer(Default::default())).await;
            let _ = soon(ended).await;
        });
    });
    let config = config.recv().unwrap();
    smol::block_on(async {
        let client = config.connect().await.unwrap();
        client.ping().await.unwrap();
        client.close().await;
    });
    end.send(()).unwrap();
    served.join().unwrap();
}
