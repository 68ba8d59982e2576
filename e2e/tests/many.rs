//! Many connections, one after the other and at once.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

use std::thread;

use selium_remote_client_protocol::ops::{InfoRequest, ServerInfo};
use selium_remote_e2e::{Peer, Shared, block_on, soon};

static SERVER: Shared = Shared::new();

#[test]
fn fifty_connections_come_and_go() {
    let Some(server) = SERVER.get() else { return };
    block_on(async {
        for n in 0..50 {
            let client = server
                .config()
                .connect()
                .await
                .unwrap_or_else(|error| panic!("connection {n}: {error}"));
            client
                .info()
                .await
                .unwrap_or_else(|error| panic!("request {n}: {error}"));
            client.close().await;
        }
        // All of them are gone; other tests' connections come and go.
        let mut peer = Peer::connect(&server).await;
        soon("the connections are forgotten", async {
            loop {
                let info = peer.ask(&InfoRequest).await.expect("the server answers");
                if ServerInfo::decode(&info).expect("counters").connections <= 25 {
                    break;
                }
            }
        })
        .await;
    });
}

#[test]
fn twenty_commands_at_once_all_succeed() {
    let Some(server) = SERVER.get() else { return };
    let id = server.launch(&["hello.wasm", "hello"]);
    thread::scope(|scope| {
        let commands: Vec<_> = (0..20)
            .map(|_| scope.spawn(|| server.selium(&["ps", "-q"])))
            .collect();
        for command in commands {
            command.join().unwrap().printed(&format!("{id}\n"));
        }
    });
}
