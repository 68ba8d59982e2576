//! What tasks use to wait for each other. All of it is single-threaded.

use core::{
    cell::{Cell, RefCell},
    future::Future,
    pin::Pin,
    task::{Context, Poll, Waker},
};
use std::{collections::VecDeque, rc::Rc};

use thiserror::Error;

/// Lets all other ready tasks run once before it continues. Cancel safe.
pub fn yield_now() -> YieldNow {
    YieldNow { yielded: false }
}

/// Future of [`yield_now`].
#[derive(Debug)]
#[must_use = "futures do nothing unless awaited"]
pub struct YieldNow {
    yielded: bool,
}

impl Future for YieldNow {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.yielded {
            return Poll::Ready(());
        }
        self.yielded = true;
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// An event with one consumer. A notification is kept until it is consumed; several before that are one.
///
/// Share it as `Rc<Notify>`. When two tasks wait at once, only the last one to be polled is woken.
#[derive(Debug, Default)]
pub struct Notify {
    set: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Notify {
    /// An event that has not happened.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes the current or the next [`notified`](Self::notified) return.
    pub fn notify(&self) {
        self.set.set(true);
        let waker = self.waker.borrow_mut().take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Waits for the event and consumes it. Cancel safe: a dropped future consumes nothing.
    pub fn notified(&self) -> Notified<'_> {
        Notified { notify: self }
    }

    /// Poll form of [`notified`](Self::notified).
    pub fn poll_notified(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.set.replace(false) {
            return Poll::Ready(());
        }
        let mut waker = self.waker.borrow_mut();
        match waker.as_mut() {
            Some(known) => known.clone_from(cx.waker()),
            None => *waker = Some(cx.waker().clone()),
        }
        Poll::Pending
    }
}

/// Future of [`Notify::notified`].
#[derive(Debug)]
#[must_use = "futures do nothing unless awaited"]
pub struct Notified<'a> {
    notify: &'a Notify,
}

impl Future for Notified<'_> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.notify.poll_notified(cx)
    }
}

/// Too many tasks wait at a [`Gate`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("too many tasks wait at the gate")]
pub struct GateFull;

/// Lets a fixed number of holders in at a time, in the order of their first poll, and a bounded number wait. Cloning shares it.
#[derive(Debug, Clone)]
pub struct Gate {
    inner: Rc<RefCell<GateInner>>,
}

#[derive(Debug)]
struct GateInner {
    free: usize,
    max_waiting: usize,
    waiting: VecDeque<Rc<Waiter>>,
}

#[derive(Debug)]
struct Waiter {
    granted: Cell<bool>,
    waker: RefCell<Waker>,
}

impl Gate {
    /// A gate for `permits` holders at a time, at which `max_waiting` more may wait.
    pub fn new(permits: usize, max_waiting: usize) -> Self {
        Self {
            inner: Rc::new(RefCell::new(GateInner {
                free: permits,
                max_waiting,
                waiting: VecDeque::new(),
            })),
        }
    }

    /// Waits for a permit; nobody overtakes. Cancel safe: dropping the future gives up the place, or passes the permit on.
    ///
    /// The future fails with [`GateFull`] when too many wait already.
    pub fn acquire(&self) -> Acquire {
        Acquire {
            gate: self.clone(),
            waiter: None,
        }
    }

    /// Number of tasks that wait.
    pub fn waiting(&self) -> usize {
        self.inner.borrow().waiting.len()
    }

    fn release(&self) {
        let next = {
            let mut inner = self.inner.borrow_mut();
            let next = inner.waiting.pop_front();
            if next.is_none() {
                inner.free += 1;
            }
            next
        };
        if let Some(waiter) = next {
            // The permit goes to the waiter directly, so that nobody who comes now can take it.
            waiter.granted.set(true);
            waiter.waker.borrow().wake_by_ref();
        }
    }
}

/// Future of [`Gate::acquire`].
#[derive(Debug)]
#[must_use = "futures do nothing unless awaited"]
pub struct Acquire {
    gate: Gate,
    waiter: Option<Rc<Waiter>>,
}

impl Future for Acquire {
    type Output = Result<Permit, GateFull>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(waiter) = &self.waiter {
            if !waiter.granted.get() {
                waiter.waker.borrow_mut().clone_from(cx.waker());
                return Poll::Pending;
            }
            self.waiter = None;
            return Poll::Ready(Ok(Permit {
                gate: self.gate.clone(),
            }));
        }
        let waiter = {
            let mut inner = self.gate.inner.borrow_mut();
            if inner.free > 0 {
                // Released permits go to waiters first, so a free one means that nobody waits.
                inner.free -= 1;
                None
            } else if inner.waiting.len() >= inner.max_waiting {
                return Poll::Ready(Err(GateFull));
            } else {
                let waiter = Rc::new(Waiter {
                    granted: Cell::new(false),
                    waker: RefCell::new(cx.waker().clone()),
                });
                inner.waiting.push_back(Rc::clone(&waiter));
                Some(waiter)
            }
        };
        match waiter {
            None => Poll::Ready(Ok(Permit {
                gate: self.gate.clone(),
            })),
            waiting => {
                self.waiter = waiting;
                Poll::Pending
            }
        }
    }
}

impl Drop for Acquire {
    fn drop(&mut self) {
        let Some(waiter) = self.waiter.take() else {
            return;
        };
        if waiter.granted.get() {
            self.gate.release();
        } else {
            self.gate
                .inner
                .borrow_mut()
                .waiting
                .retain(|other| !Rc::ptr_eq(other, &waiter));
        }
    }
}

/// A place inside a [`Gate`], given back on drop.
#[derive(Debug)]
pub struct Permit {
    gate: Gate,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.gate.release();
    }
}
