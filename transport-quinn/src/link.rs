//! The machine, shared between its users and the task that drives it.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use quinn::ConnectionError;
use selium_remote_client_protocol::{Time, Transmit, limits::MAX_WRITE};

use crate::{
    Machine,
    wait::{Bell, Moment},
};

/// A driven connection: the way to its machine. Cheap to clone.
///
/// Dropping all links does not end the connection: the machine has to be told to close.
#[derive(Debug)]
pub struct Link<M>(Arc<Shared<M>>);

#[derive(Debug)]
struct Shared<M> {
    machine: Mutex<M>,
    origin: Instant,
    address: SocketAddr,
    /// There may be something to write.
    work: Bell,
    /// The next time may have changed.
    time: Bell,
    /// The machine is over; what it left is being sent.
    closing: Moment,
    /// The connection is closed and the task has ended.
    over: Moment,
    loss: Mutex<Option<ConnectionError>>,
}

/// What the writer does next.
pub(crate) enum Next {
    Write(Transmit),
    Wait,
    Finish,
}

impl<M> Clone for Link<M> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

/// A lock whose holder panicked is used on: the machine's calls do not panic, and users' closures change it only
/// through them.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<M: Machine> Link<M> {
    pub(crate) fn new(machine: M, origin: Instant, address: SocketAddr) -> Self {
        Self(Arc::new(Shared {
            machine: Mutex::new(machine),
            origin,
            address,
            work: Bell::default(),
            time: Bell::default(),
            closing: Moment::new(),
            over: Moment::new(),
            loss: Mutex::new(None),
        }))
    }

    /// The time on the machine's clock: since the origin that was given to [`crate::Wire::drive`].
    #[must_use]
    pub fn now(&self) -> Time {
        Time::from_origin(self.0.origin.elapsed())
    }

    /// Where the other side is.
    #[must_use]
    pub fn remote_address(&self) -> SocketAddr {
        self.0.address
    }

    /// Runs `change` on the machine, and wakes the task for what came of it. `change` must not block.
    pub fn with<T>(&self, change: impl FnOnce(&mut M, Time) -> T) -> T {
        let result = self.run(change);
        self.0.time.ring();
        result
    }

    /// Why the QUIC connection was lost, once it was. It is known before the machine hears of the end.
    #[must_use]
    pub fn loss(&self) -> Option<ConnectionError> {
        lock(&self.0.loss).clone()
    }

    /// Waits until the machine is over, what it left was sent (for at most 1 s) and the connection is closed.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn over(&self) {
        self.0.over.happened().await;
    }

    /// As [`Link::with`], from the reader: it looks at the time by itself.
    pub(crate) fn run<T>(&self, change: impl FnOnce(&mut M, Time) -> T) -> T {
        let mut machine = lock(&self.0.machine);
        let result = change(&mut machine, self.now());
        let closed = machine.is_closed();
        drop(machine);
        if closed {
            self.0.closing.happen();
        }
        self.0.work.ring();
        result
    }

    /// Tells the machine the time when that is due; answers when it is due next.
    pub(crate) fn elapse(&self) -> Option<Instant> {
        let mut next = lock(&self.0.machine).poll_timeout();
        if next.is_some_and(|next| next <= self.now()) {
            next = self.run(|machine, now| {
                machine.handle_timeout(now);
                machine.poll_timeout()
            });
        }
        next.and_then(|next| self.0.origin.checked_add(next.since_origin()))
    }

    pub(crate) fn next(&self) -> Next {
        let mut machine = lock(&self.0.machine);
        match machine.poll_transmit(MAX_WRITE) {
            Some(transmit) => Next::Write(transmit),
            None if machine.is_closed() => Next::Finish,
            None => Next::Wait,
        }
    }

    /// Waits until [`Link::next`] may have something new.
    pub(crate) async fn work(&self) {
        self.0.work.heard().await;
    }

    /// Waits until the next time may have changed.
    pub(crate) async fn time_changed(&self) {
        self.0.time.heard().await;
    }

    /// Keeps the first reason; closing it ourselves is none.
    pub(crate) fn lost(&self, error: ConnectionError) {
        if error != ConnectionError::LocallyClosed {
            lock(&self.0.loss).get_or_insert(error);
        }
    }

    pub(crate) async fn closing(&self) {
        self.0.closing.happened().await;
    }

    pub(crate) fn ended(&self) {
        self.run(M::handle_eof);
        self.0.closing.happen();
        self.0.over.happen();
    }
}
