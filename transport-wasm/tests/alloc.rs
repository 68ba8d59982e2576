//! Waiting costs no memory: a poll of a pending operation, and the wake-up that led to it, allocate nothing.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    future::poll_fn,
    pin::pin,
    rc::Rc,
    task::Poll,
};

use selium_remote_transport_wasm::{executor, fake, quic::Listener};

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

fn count() {
    let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
}

#[allow(unsafe_code)]
// SAFETY: passes everything on to the system's allocator unchanged; counting touches a constant-initialised cell only.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn polling_allocates_nothing() {
    const ROUNDS: usize = 10_000;
    fake::reset();
    let polls = Rc::new(Cell::new(0usize));
    let seen = Rc::clone(&polls);
    executor::run(async move {
        let mut listener = Listener::bind("localhost", 7000, None).await.unwrap();
        executor::spawn(async move {
            let mut accept = pin!(listener.accept());
            poll_fn(|cx| {
                polls.set(polls.get() + 1);
                // Woken from the host (through the mailbox) and from the guest (through the waker), over and over.
                cx.waker().wake_by_ref();
                accept.as_mut().poll(cx).map(drop)
            })
            .await;
        })
        .unwrap();
        let started = poll_fn(|cx| {
            cx.waker().wake_by_ref();
            if seen.get() < 100 {
                Poll::Pending
            } else {
                Poll::Ready(ALLOCATIONS.get())
            }
        })
        .await;
        let mut round = 0;
        let ended = poll_fn(|cx| {
            cx.waker().wake_by_ref();
            fake::wake(1);
            round += 1;
            if round < ROUNDS {
                Poll::Pending
            } else {
                Poll::Ready(ALLOCATIONS.get())
            }
        })
        .await;
        assert!(seen.get() > ROUNDS);
        assert_eq!(ended - started, 0);
    })
    .unwrap();
}
