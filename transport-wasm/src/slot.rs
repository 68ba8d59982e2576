//! One owner per slot of the host's handle table, and one operation at a time on it.
//!
//! The host recycles a freed slot at once, last in first out, without a generation: a second or a late free would destroy what was put there
//! meanwhile. Nothing else than [`Slot`]'s destructor frees, it runs once, and numbers become slots only where the host
//! has just handed them out.

use core::{
    fmt,
    future::{Future, poll_fn},
    pin::Pin,
    task::{Context, Poll, ready},
};

use crate::{
    host::{
        self, HostError, HostFuture, Op,
        calls::{ChannelDelete, ChannelDetach},
    },
    orphan,
};

/// Owns one slot.
///
/// Freeing uses `selium::channel::delete`, which takes *whatever* stands in the slot out of the table before it finds that it is no channel: for
/// readers, writers and listeners its answer "not found" means that it worked. The host does so inside `create`, so a
/// destructor can free without waiting. Without the capability `ChannelLifecycle` nothing is freed.
pub(crate) struct Slot(u32);

impl Slot {
    /// Takes ownership of a slot that the host has just handed out.
    pub(crate) fn new(raw: u32) -> Self {
        Self(raw)
    }

    /// As [`new`](Self::new), for the replies that carry slots as 64-bit numbers.
    pub(crate) fn from_wide(raw: u64) -> Result<Self, HostError> {
        u32::try_from(raw)
            .map(Self)
            .map_err(|_| HostError::Malformed("handle"))
    }

    /// The number, to be used in arguments while the slot is owned.
    pub(crate) fn raw(&self) -> u32 {
        self.0
    }

    /// Gives the slot up without freeing it.
    pub(crate) fn leak(self) -> u32 {
        let raw = self.0;
        core::mem::forget(self);
        raw
    }

    /// Forgets the slot but leaves alive what it referred to.
    pub(crate) fn detach(self) {
        host::fire::<ChannelDetach>(&self.leak());
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        host::fire::<ChannelDelete>(&self.0);
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Slot({})", self.0)
    }
}

/// A slot with the one operation that may run on it.
///
/// ```text
///   idle ── begin ──► busy ── result ──► idle
///    │                 │  (a dropped future leaves it busy; the next call resumes)
///   drop: free        drop: to the orphanage, which frees after the result
/// ```
pub(crate) struct Port<O: Op> {
    /// `None` only while the port is being dropped.
    slot: Option<Slot>,
    busy: Option<HostFuture<O>>,
    /// What to do with a result that nobody waits for.
    undo: fn(O::Out),
}

impl<O: Op> Port<O> {
    pub(crate) fn new(slot: Slot, undo: fn(O::Out)) -> Self {
        Self {
            slot: Some(slot),
            busy: None,
            undo,
        }
    }

    /// The slot's number.
    pub(crate) fn raw(&self) -> Option<u32> {
        self.slot.as_ref().map(Slot::raw)
    }

    /// Whether an operation runs.
    pub(crate) fn is_busy(&self) -> bool {
        self.busy.is_some()
    }

    /// Starts an operation with the argument made from the slot. Only on an idle port.
    pub(crate) fn begin<'a>(&mut self, input: impl FnOnce(u32) -> O::In<'a>) {
        if let (None, Some(slot)) = (&self.busy, &self.slot) {
            self.busy = Some(host::call::<O>(&input(slot.raw())));
        }
    }

    /// Polls the running operation; `None` when there is none.
    pub(crate) fn poll_result(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<O::Out, HostError>>> {
        let Some(future) = self.busy.as_mut() else {
            return Poll::Ready(None);
        };
        let result = ready!(Pin::new(future).poll(cx));
        self.busy = None;
        Poll::Ready(Some(result))
    }

    /// Resumes the running operation, or starts one.
    pub(crate) fn poll_operation<'a>(
        &mut self,
        cx: &mut Context<'_>,
        input: impl FnOnce(u32) -> O::In<'a>,
    ) -> Poll<Result<O::Out, HostError>> {
        self.begin(input);
        self.poll_result(cx)
            .map(|result| result.unwrap_or(Err(HostError::NotFound)))
    }

    /// Frees the slot at once, also under a running operation, whose result is lost. Only for readers and writers of channels: the host's task
    /// holds what stood in the slot, not the slot, and drops it when the operation ends.
    pub(crate) fn release(mut self) {
        // First the operation, so that nobody is left who would ask for its result.
        self.busy = None;
        self.slot = None;
    }

    /// Waits for the running operation, if any.
    pub(crate) async fn settle(&mut self) -> Result<(), HostError> {
        match poll_fn(|cx| self.poll_result(cx)).await {
            Some(Err(error)) => Err(error),
            _ => Ok(()),
        }
    }
}

impl<O: Op> Drop for Port<O> {
    fn drop(&mut self) {
        let (Some(slot), Some(future)) = (self.slot.take(), self.busy.take()) else {
            // Idle: dropping the taken slot has freed it.
            return;
        };
        if !future.is_running() {
            return;
        }
        let mut parts = Some(PortOrphan {
            slot: Some(slot),
            future,
            undo: self.undo,
        });
        // Not adopted: `parts` is dropped here and leaks its slot rather than free it under a running operation.
        orphan::adopt(|| {
            let orphan = parts.take();
            Box::pin(async move {
                if let Some(orphan) = orphan {
                    orphan.await;
                }
            })
        });
    }
}

impl<O: Op> fmt::Debug for Port<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Port")
            .field("slot", &self.slot)
            .field("busy", &self.busy.is_some())
            .finish()
    }
}

/// An abandoned port with its running operation.
struct PortOrphan<O: Op> {
    slot: Option<Slot>,
    future: HostFuture<O>,
    undo: fn(O::Out),
}

impl<O: Op> Future for PortOrphan<O> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let result = ready!(Pin::new(&mut self.future).poll(cx));
        if let Ok(output) = result {
            (self.undo)(output);
        }
        self.slot = None;
        Poll::Ready(())
    }
}

impl<O: Op> Drop for PortOrphan<O> {
    fn drop(&mut self) {
        if let Some(slot) = self.slot.take()
            && self.future.is_running()
        {
            slot.leak();
        }
    }
}
