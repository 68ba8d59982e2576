//! Echoes what it reads from QUIC connections, for benches: no server in a guest can answer faster than this.
//!
//! Entrypoint `start`, arguments `utf8:DOMAIN,u16:PORT`. Needs `NetQuicBind`, `NetQuicAccept`, `NetQuicRead` and
//! `NetQuicWrite`. It has no log.

use selium_remote_transport_wasm::{
    entry::{ArgumentError, StartArguments},
    executor,
    quic::{Accepted, Listener},
};

/// Accepts that wait side by side: enough for clients that come one after another.
const ACCEPTS: usize = 4;

/// The most bytes of one read, as the server module reads.
const READ_BYTES: u32 = 64 * 1024;

/// Handshakes that may fail in a row before an accept is given up.
const MAX_FAILURES: u32 = 1_000;

selium_remote_transport_wasm::entrypoint!(start, serve);

async fn serve(arguments: Result<StartArguments, ArgumentError>) {
    let Ok(StartArguments { domain, port, .. }) = arguments else {
        return;
    };
    for _ in 0..ACCEPTS {
        // One bind has to have finished before the next is sent.
        let Ok(listener) = Listener::bind(&domain, port, None).await else {
            break;
        };
        if executor::spawn(accept(listener)).is_err() {
            break;
        }
    }
    core::future::pending::<()>().await;
}

async fn accept(mut listener: Listener) {
    let mut failures = 0;
    while failures < MAX_FAILURES {
        match listener.accept().await {
            // Past the limit of tasks the connection is dropped, which its client sees.
            Ok(accepted) => {
                failures = 0;
                let _ = executor::spawn(echo(accepted));
            }
            Err(_) => failures += 1,
        }
    }
}

async fn echo(accepted: Accepted) {
    let Accepted {
        mut reader,
        mut writer,
        ..
    } = accepted;
    while let Ok(bytes) = reader.read(READ_BYTES).await {
        if bytes.is_empty() || writer.write(&bytes).await.is_err() {
            return;
        }
    }
}
