//! What all tasks of the module share: the server, and whom to wake.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    rc::Rc,
};

use selium_remote_server_core::{
    AuditEvent, Completion, ConnectionId, HostCounters, LogId, Server,
};
use selium_remote_transport_wasm::{channel::SharedId, executor::Notify, log, orphan};

use crate::{
    audit::{AuditLog, Moment},
    changes::Changes,
    channels::{Channels, Events},
    clock::Clock,
    connection::{Control, Lingering},
    runtime::Runtime,
};

/// The module's shared state.
pub(crate) struct Module {
    server: RefCell<Server>,
    pub(crate) clock: Clock,
    /// The tasks of open connections.
    pub(crate) connections: RefCell<BTreeMap<ConnectionId, Rc<Control>>>,
    /// Readers that are kept a little longer than their connections.
    pub(crate) lingering: Lingering,
    /// The tasks that read logs.
    pub(crate) logs: RefCell<BTreeMap<LogId, Rc<LogControl>>>,
    /// The channels, their readers and what waits to be written to them.
    pub(crate) channels: Rc<Channels>,
    audit: RefCell<AuditLog>,
    incarnation: Cell<Option<[u8; 16]>>,
    /// Changes that are to be told in the log.
    pub(crate) changes: Changes,
}

/// What the server wants of the tasks that look after a log.
#[derive(Debug, Default)]
pub(crate) struct LogControl {
    /// Whether it is to end.
    pub(crate) closing: Cell<bool>,
    /// Whether its reader is to look once more.
    pub(crate) nudging: Cell<bool>,
    /// Told when one of these is set.
    pub(crate) changed: Notify,
    /// The channel, once it was found.
    pub(crate) channel: Cell<Option<SharedId>>,
    /// Records read so far (wrapping), by which one sees whether more come.
    pub(crate) reads: Cell<u32>,
}

impl Module {
    pub(crate) fn new(server: Server, clock: Clock, audit: AuditLog) -> Rc<Self> {
        Rc::new(Self {
            server: RefCell::new(server),
            clock,
            connections: RefCell::new(BTreeMap::new()),
            lingering: Lingering::default(),
            logs: RefCell::new(BTreeMap::new()),
            channels: Rc::default(),
            audit: RefCell::new(audit),
            incarnation: Cell::new(None),
            changes: Changes::new(),
        })
    }

    /// Uses the server, then begins what it asks for and wakes the writers that have something to write.
    pub(crate) fn with<R>(self: &Rc<Self>, work: impl FnOnce(&mut Server) -> R) -> R {
        let mut server = self.server.borrow_mut();
        server.set_counters(HostCounters {
            suppressed_records: log::suppressed(),
            orphans: orphan::in_flight() as u64,
        });
        let result = work(&mut server);
        self.incarnation.set(server.incarnation());
        server.run_host(&mut Runtime::new(self));
        let connections = self.connections.borrow();
        while let Some(id) = server.poll_ready() {
            if let Some(connection) = connections.get(&id) {
                connection.wake.notify();
            }
        }
        result
    }

    /// Begins the audit log.
    pub(crate) fn begin_audit(&self) {
        self.audit.borrow_mut().begin(self.moment());
    }

    /// Writes down who did what.
    pub(crate) fn audit(&self, event: &AuditEvent) {
        self.audit.borrow_mut().record(self.moment(), event);
    }

    fn moment(&self) -> Moment {
        let since = self.clock.now().since_origin().as_millis();
        let since = u64::try_from(since).unwrap_or(u64::MAX);
        let origin_ms = self.clock.unix_origin_ms();
        Moment {
            origin_ms,
            now_ms: origin_ms.map(|origin| origin.saturating_add(since)),
            incarnation: self.incarnation.get(),
        }
    }

    /// Tells the server what came of a host call.
    pub(crate) fn complete(self: &Rc<Self>, completion: Completion) {
        self.with(|server| server.handle_host(self.clock.now(), completion));
    }
}

impl Events for Module {
    fn complete(self: Rc<Self>, completion: Completion) {
        Module::complete(&self, completion);
    }
}
