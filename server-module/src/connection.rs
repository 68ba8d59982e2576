//! One connection: a task that reads and a task that writes. Reading never waits for writing.
//!
//! ```text
//!   Open ---- the client's half ends ----> Ended: what is left to say is written, then the reader lingers
//!     \---- the connection is lost -----> Lost:  everything is freed at once
//! ```

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    rc::Rc,
};

use selium_remote_client_protocol::{Time, limits::MAX_WRITE};
use selium_remote_server_core::{ConnectionId, policy::RoleId};
use selium_remote_transport_wasm::{
    executor::{self, Notify},
    quic::{Accepted, Reader, Writer},
};

use crate::module::Module;

/// The most bytes of one read. The host allocates and clears as much for each.
const READ_BYTES: u32 = 64 * 1024;

/// A read that brings so many bytes has more behind it, probably: the next one is begun before these are handed over. (Beginning
/// one takes a little, for which the answer to a small request would have to wait.)
const READ_AHEAD: usize = 4 * 1024;

/// The most readers that linger. Past it the oldest is freed.
const MAX_LINGERING: usize = 64;

/// How long a reader lingers, in milliseconds; needs a clock.
const LINGER_MS: u64 = 3_000;

/// How far a connection's reader has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Reading {
    #[default]
    Open,
    Ended,
    Lost,
}

/// What a connection's two tasks and the module know of each other.
#[derive(Default)]
pub(crate) struct Control {
    /// There is something to write, or the reader has come to an end.
    pub(crate) wake: Notify,
    reading: Cell<Reading>,
    /// The reader, once the client's half has ended.
    reader: Cell<Option<Reader>>,
}

/// Readers of connections that are over but for what their clients have not read yet.
///
/// When a connection's last handle is freed, the runtime closes it at once, and what is still on its way is lost. Freeing the
/// writer alone ends its stream in order, so that the client gets everything and then the end; the reader keeps the
/// connection up meanwhile. Nobody tells when the client has read it all.
#[derive(Debug, Default)]
pub(crate) struct Lingering(RefCell<VecDeque<(Time, Reader)>>);

impl Lingering {
    fn push(&self, now: Time, reader: Reader) {
        let mut readers = self.0.borrow_mut();
        readers.push_back((now, reader));
        while readers.len() > MAX_LINGERING {
            readers.pop_front();
        }
    }

    /// Frees those that lingered long enough.
    pub(crate) fn expire(&self, now: Time) {
        let mut readers = self.0.borrow_mut();
        let over = |since: Time| now.saturating_since(since).as_millis() >= u128::from(LINGER_MS);
        while readers.front().is_some_and(|(since, _)| over(*since)) {
            readers.pop_front();
        }
    }
}

/// Serves a connection, which has the role of the port where it came in, until its client is gone.
pub(crate) fn serve(module: &Rc<Module>, role: RoleId, accepted: Accepted) {
    let Accepted {
        reader,
        writer,
        remote_addr,
    } = accepted;
    let opened = module.with(|server| {
        let now = module.clock.now();
        if server.is_full_for(role) {
            server.dropped(now, &remote_addr, role);
            return None;
        }
        Some(server.open_as(now, &remote_addr, role))
    });
    let Some(id) = opened else {
        return; // Both handles are freed, and with them the connection.
    };
    let control = Rc::new(Control::default());
    module
        .connections
        .borrow_mut()
        .insert(id, Rc::clone(&control));
    let spawned = executor::spawn(read(Rc::clone(module), id, Rc::clone(&control), reader))
        .and_then(|()| executor::spawn(write(Rc::clone(module), id, control, writer)));
    if spawned.is_err() {
        tracing::warn!(peer = %remote_addr, "too many tasks; a connection was dropped");
        forget(module, id);
    }
}

async fn read(module: Rc<Module>, id: ConnectionId, control: Rc<Control>, mut reader: Reader) {
    // After the server has closed the connection it goes on reading: the client still has to fetch the goodbye, and a
    // connection with a pending read cannot be closed by this side anyway.
    let end = loop {
        match reader.read(READ_BYTES).await {
            Ok(bytes) if bytes.is_empty() => break Reading::Ended,
            Ok(bytes) => {
                if bytes.len() >= READ_AHEAD {
                    reader.begin_read(READ_BYTES);
                }
                module.channels.report();
                module.with(|server| server.handle_input(module.clock.now(), id, bytes));
                executor::yield_now().await;
            }
            Err(_) => break Reading::Lost,
        }
    };
    control.reading.set(end);
    if end == Reading::Ended {
        control.reader.set(Some(reader));
    }
    module.with(|server| server.handle_eof(module.clock.now(), id));
    control.wake.notify();
}

async fn write(module: Rc<Module>, id: ConnectionId, control: Rc<Control>, mut writer: Writer) {
    while control.reading.get() != Reading::Lost {
        let transmit = module.with(|server| server.poll_transmit(id, MAX_WRITE));
        if let Some(transmit) = transmit {
            if writer.write_parts(&transmit.parts).await.is_err()
                && control.reading.get() != Reading::Open
            {
                break;
            }
            continue;
        }
        if control.reading.get() == Reading::Ended {
            break;
        }
        control.wake.notified().await;
    }
    forget(&module, id);
    drop(writer);
    if let Some(reader) = control.reader.take() {
        module.lingering.push(module.clock.now(), reader);
    }
}

fn forget(module: &Rc<Module>, id: ConnectionId) {
    module.connections.borrow_mut().remove(&id);
    module.with(|server| server.forget_connection(module.clock.now(), id));
}
