//! A host for tests, one per thread.
//!
//! It behaves like the real one where that matters: slots are recycled at once and last in first out, `delete` takes whatever stands in a slot and
//! answers "not found" for what is no channel, operations cannot be cancelled, a poll that returns ready enqueues a wake-up, and the mailbox publishes its tail before
//! the slot. Breaking the rules of the real host is recorded in [`violations`]: freeing a slot twice or under a running
//! operation, two operations on one slot, a result that does not fit its buffer.
//!
//! Unscripted hostcalls get a plausible answer ([`on`] scripts others): creates hand out slots, writes succeed, reads and accepts stay pending until
//! [`complete`] is called, the clock and TLS are "permission denied".

mod state;
mod syscalls;

use core::cell::RefCell;
use std::rc::Rc;

use selium_abi::{
    RkyvEncode, encode_rkyv,
    mailbox::{CAPACITY, FLAG_OFFSET, RING_OFFSET, SLOT_SIZE, TAIL_OFFSET},
};
use state::{Host, with};
pub(crate) use syscalls::{cell, copy_memory, create, drop, poll, set_cell, yield_now};

/// Answer of a hostcall.
#[derive(Debug, Clone)]
pub enum Reply {
    /// Encoded result.
    Ready(Vec<u8>),
    /// Error text.
    Error(String),
    /// Not yet: see [`complete`].
    Pending,
}

/// A successful [`Reply`].
pub fn ok<T: RkyvEncode>(value: &T) -> Reply {
    match encode_rkyv(value) {
        Ok(bytes) => Reply::Ready(bytes),
        Err(error) => Reply::Error(error.to_string()),
    }
}

/// A failed [`Reply`].
pub fn error(text: &str) -> Reply {
    Reply::Error(text.to_owned())
}

/// Starts over with an empty host.
pub fn reset() {
    with(|host| {
        *host = Host {
            cells: vec![0; state::CELLS],
            next: 1,
            ..Host::default()
        }
    });
}

/// Scripts a hostcall: `handler` is given the encoded arguments. It may call the other functions of this module.
pub fn on(name: &str, handler: impl FnMut(&[u8]) -> Reply + 'static) {
    with(|host| {
        host.handlers
            .insert(name.to_owned(), Rc::new(RefCell::new(handler)))
    });
}

/// Called whenever the guest yields with the mailbox flag unset. Without it, and without wake-ups, `run` ends with `HostClosed`.
pub fn on_yield(hook: impl FnMut() + 'static) {
    with(|host| host.on_yield = Some(Rc::new(RefCell::new(hook))));
}

/// Called before each access of the guest to a mailbox word: the place to interleave the host.
pub fn on_cell(hook: impl FnMut() + 'static) {
    with(|host| host.on_cell = Some(Rc::new(RefCell::new(hook))));
}

/// Takes a slot, as the host does when it creates something.
pub fn alloc(is_channel: bool) -> u32 {
    with(|host| host.alloc(is_channel))
}

/// Number of slots in use.
pub fn slots_in_use() -> usize {
    with(|host| host.slots.iter().flatten().count())
}

/// Broken rules so far.
pub fn violations() -> Vec<String> {
    with(|host| host.violations.clone())
}

/// How often a hostcall was created.
pub fn calls(name: &str) -> usize {
    with(|host| host.calls.get(name).copied().unwrap_or(0))
}

/// How often any hostcall was polled.
pub fn polls() -> usize {
    with(|host| host.polls)
}

/// How often the guest yielded.
pub fn yields() -> usize {
    with(|host| host.yields)
}

/// Handles of the operations with this name that have no result yet, oldest first; dropped ones included.
pub fn pending(name: &str) -> Vec<u32> {
    with(|host| {
        let open = host
            .operations
            .iter()
            .filter(|(_, operation)| operation.name == name && operation.result.is_none());
        open.map(|(handle, _)| *handle).collect()
    })
}

/// The written payloads so far, each with its slot; removes them.
pub fn take_written() -> Vec<(u32, Vec<u8>)> {
    with(|host| host.written.drain(..).collect())
}

/// Places `bytes` at `address` of the guest's memory, for entrypoint arguments.
pub fn set_memory(address: u32, bytes: &[u8]) {
    with(|host| host.memory = (address, bytes.to_vec()));
}

/// Ends a pending operation and wakes its task. Unknown handles are ignored.
pub fn complete(handle: u32, reply: Reply) {
    let task = with(|host| {
        let operation = host.operations.get_mut(&handle)?;
        let slot = operation.slot.take();
        let dropped = operation.dropped;
        operation.result = Some(reply);
        let task = operation.task.take();
        if let Some(slot) = slot {
            host.busy.retain(|busy| *busy != slot);
        }
        if dropped {
            host.operations.remove(&handle);
            return None;
        }
        task
    });
    if let Some(task) = task {
        wake(task);
    }
}

/// Enqueues a wake-up, all steps at once.
pub fn wake(task: u32) {
    let position = publish_tail();
    store_slot(position, task);
}

/// First step of a wake-up: claims a position of the ring.
pub fn publish_tail() -> u32 {
    with(|host| {
        let tail = host.raw_cell(TAIL_OFFSET);
        let position = *tail;
        *tail = position.wrapping_add(1);
        position
    })
}

/// The other steps of a wake-up: stores the slot, then the flag.
pub fn store_slot(position: u32, task: u32) {
    with(|host| {
        *host.raw_cell(RING_OFFSET + (position % CAPACITY) as usize * SLOT_SIZE) = task;
        *host.raw_cell(FLAG_OFFSET) = 1;
    });
}

/// Whether the mailbox flag is set.
pub fn is_signalled() -> bool {
    with(|host| *host.raw_cell(FLAG_OFFSET) != 0)
}

/// Moves the ring to `position`, to test positions that wrap around. Only before the executor runs.
pub fn set_tail(position: u32) {
    with(|host| *host.raw_cell(TAIL_OFFSET) = position);
}
