//! Operations whose owner is gone.
//!
//! The host cannot cancel. Dropping its handle on an operation only discards the result, and that is not harmless: a discarded `accept` leaves
//! a connection that nobody can free, a discarded `start` a process that nobody can ever stop, a discarded read data that nobody
//! gets. And a slot must not be freed while an operation on it runs. So whatever is dropped half-way is moved into a task of its own, driven
//! to its end, and then undone: new handles are freed, the slot is freed, a started process is reported
//! ([`crate::process::on_orphan`]).
//!
//! Some never end: a read from a peer that only sends keep-alives stays in the host as long as the peer likes, together with its
//! connection. [`in_flight`] counts these; a server should include them in its limits.

use core::{
    cell::Cell,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use crate::{
    executor,
    host::{HostError, HostFuture, Op},
};

pub use crate::executor::MAX_ORPHANS;

thread_local! {
    static FORGOTTEN: Cell<u64> = const { Cell::new(0) };
}

/// Number of operations that the host has not finished and nobody waits for.
pub fn in_flight() -> usize {
    executor::orphan_count()
}

/// Number of operations that could not be taken in, because there were [`MAX_ORPHANS`] already or the executor had ended. Each may have
/// leaked a slot in the host.
pub fn forgotten() -> u64 {
    FORGOTTEN.with(Cell::get)
}

/// Takes an operation in; `false` (after counting) when there is no room, and the caller must leak instead of free.
pub(crate) fn adopt(make: impl FnOnce() -> Pin<Box<dyn Future<Output = ()>>>) -> bool {
    if executor::has_orphan_room() && executor::spawn_orphan(make()).is_ok() {
        return true;
    }
    let _ = FORGOTTEN.try_with(|count| count.set(count.get().saturating_add(1)));
    false
}

/// An operation with a result that must not be lost. Dropped half-way, it is driven to its end and its result handed to `undo`.
pub(crate) struct Driven<O: Op, U: FnOnce(Result<O::Out, HostError>) + 'static> {
    parts: Option<(HostFuture<O>, U)>,
}

impl<O: Op, U: FnOnce(Result<O::Out, HostError>) + 'static> Driven<O, U> {
    pub(crate) fn new(future: HostFuture<O>, undo: U) -> Self {
        Self {
            parts: Some((future, undo)),
        }
    }
}

// Nothing in it points into itself; `undo` is only moved.
impl<O: Op, U: FnOnce(Result<O::Out, HostError>) + 'static> Unpin for Driven<O, U> {}

impl<O: Op, U: FnOnce(Result<O::Out, HostError>) + 'static> Future for Driven<O, U> {
    type Output = Result<O::Out, HostError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some((future, _)) = self.parts.as_mut() else {
            return Poll::Pending;
        };
        let result = ready!(Pin::new(future).poll(cx));
        self.parts = None;
        Poll::Ready(result)
    }
}

impl<O: Op, U: FnOnce(Result<O::Out, HostError>) + 'static> Drop for Driven<O, U> {
    fn drop(&mut self) {
        let Some((future, undo)) = self.parts.take() else {
            return;
        };
        if future.is_running() {
            adopt(|| Box::pin(async move { undo(future.await) }));
        }
    }
}
