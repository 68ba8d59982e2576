//! One connection: a task that reads and a task that writes. Reading never waits for writing.

use std::rc::Rc;

use selium_remote_client_protocol::limits::MAX_WRITE;
use selium_remote_server_core::ConnectionId;
use selium_remote_transport_wasm::{
    executor::{self, Notify},
    quic::{Accepted, Reader, Writer},
};

use crate::module::Module;

/// The most bytes of one read. The host allocates and clears as much for each.
const READ_BYTES: u32 = 64 * 1024;

/// Serves a connection until its client is gone.
pub(crate) fn serve(module: &Rc<Module>, accepted: Accepted) {
    let Accepted {
        reader,
        writer,
        remote_addr,
    } = accepted;
    let id = module.with(|server| server.open(module.clock.now(), &remote_addr));
    let wake = Rc::new(Notify::new());
    module.writers.borrow_mut().insert(id, Rc::clone(&wake));
    let spawned = executor::spawn(read(Rc::clone(module), id, reader))
        .and_then(|()| executor::spawn(write(Rc::clone(module), id, writer, wake)));
    if spawned.is_err() {
        tracing::warn!(peer = %remote_addr, "too many tasks; a connection was dropped");
        end(module, id);
    }
}

async fn read(module: Rc<Module>, id: ConnectionId, mut reader: Reader) {
    // After the server has closed the connection it goes on reading: the client still has to fetch the goodbye, and a
    // connection with a pending read cannot be closed by this side anyway.
    while let Ok(bytes) = reader.read(READ_BYTES).await {
        if bytes.is_empty() {
            break;
        }
        module.with(|server| server.handle_input(module.clock.now(), id, bytes));
        executor::yield_now().await;
    }
    end(&module, id);
}

async fn write(module: Rc<Module>, id: ConnectionId, mut writer: Writer, wake: Rc<Notify>) {
    loop {
        let transmit = module.with(|server| server.poll_transmit(id, MAX_WRITE));
        if let Some(transmit) = transmit {
            if writer.write(&transmit.to_vec()).await.is_err() {
                break;
            }
            continue;
        }
        if !module.writers.borrow().contains_key(&id) {
            break;
        }
        wake.notified().await;
    }
    // Freed only now that the reader has seen the end: freeing a writer takes away what its peer has not read yet.
}

/// The client is gone: the server forgets it, and the writer ends.
fn end(module: &Rc<Module>, id: ConnectionId) {
    let wake = module.writers.borrow_mut().remove(&id);
    module.with(|server| server.handle_eof(module.clock.now(), id));
    if let Some(wake) = wake {
        wake.notify();
    }
}
