//! Waiting, in the few ways that are needed here and in no runtime's own.

use std::{
    future::poll_fn,
    pin::pin,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::Poll,
};

use futures_channel::oneshot;
use futures_util::{
    FutureExt as _,
    future::{Either, Shared, select},
    task::AtomicWaker,
};

/// Runs both until one is ready, and drops the other. When both are, it is `a`.
pub(crate) async fn first<A: Future, B: Future>(a: A, b: B) -> Either<A::Output, B::Output> {
    match select(pin!(a), pin!(b)).await {
        Either::Left((output, _)) => Either::Left(output),
        Either::Right((output, _)) => Either::Right(output),
    }
}

/// A bell for one listener. What rings while nobody listens is heard the next time, once.
#[derive(Debug, Default)]
pub(crate) struct Bell {
    rung: AtomicBool,
    listener: AtomicWaker,
}

impl Bell {
    pub(crate) fn ring(&self) {
        // Whoever rang before has woken the listener, or is about to.
        if !self.rung.swap(true, Ordering::AcqRel) {
            self.listener.wake();
        }
    }

    pub(crate) async fn heard(&self) {
        poll_fn(|cx| {
            if self.rung.swap(false, Ordering::AcqRel) {
                return Poll::Ready(());
            }
            self.listener.register(cx.waker());
            // It may have rung in between.
            match self.rung.swap(false, Ordering::AcqRel) {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        })
        .await;
    }
}

/// Something that happens once, for any number of waiters.
#[derive(Debug)]
pub(crate) struct Moment {
    tell: Mutex<Option<oneshot::Sender<()>>>,
    wait: Shared<oneshot::Receiver<()>>,
}

impl Moment {
    pub(crate) fn new() -> Self {
        let (tell, wait) = oneshot::channel();
        Self {
            tell: Mutex::new(Some(tell)),
            wait: wait.shared(),
        }
    }

    /// It happens; only the first time counts.
    pub(crate) fn happen(&self) {
        let tell = self
            .tell
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(tell) = tell {
            let _ = tell.send(());
        }
    }

    pub(crate) async fn happened(&self) {
        // The sender lives in `self`, so that waiting cannot fail.
        let _ = self.wait.clone().await;
    }
}

/// How much of one thing is done in a turn before the others of the task (and the other tasks) get theirs. Runtimes do
/// not see to that: a socket that always has something to read would be read for ever.
#[derive(Debug, Default)]
pub(crate) struct Turn(u8);

/// Reads or writes of at most 64 KiB each.
const TURN: u8 = 32;

impl Turn {
    /// Counts one, and yields at the end of the turn.
    pub(crate) async fn taken(&mut self) {
        self.0 += 1;
        if self.0 < TURN {
            return;
        }
        self.0 = 0;
        let mut yielded = false;
        poll_fn(|cx| match yielded {
            true => Poll::Ready(()),
            false => {
                yielded = true;
                cx.waker().wake_by_ref();
                Poll::Pending
            }
        })
        .await;
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
        task::{Context, Wake, Waker},
    };

    use super::*;

    /// Counts how often it is woken.
    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    impl Count {
        fn woken(&self) -> usize {
            self.0.load(Ordering::Relaxed)
        }
    }

    #[test]
    fn a_bell_is_heard_once_however_often_it_rang() {
        let (bell, count) = (Bell::default(), Arc::new(Count::default()));
        let waker = Waker::from(Arc::clone(&count));
        let cx = &mut Context::from_waker(&waker);
        bell.ring();
        bell.ring();
        assert!(pin!(bell.heard()).poll(cx).is_ready());
        let mut heard = pin!(bell.heard());
        assert!(heard.as_mut().poll(cx).is_pending());
        assert_eq!(count.woken(), 0);
        bell.ring();
        bell.ring();
        assert_eq!(count.woken(), 1);
        assert!(heard.poll(cx).is_ready());
        assert!(pin!(bell.heard()).poll(cx).is_pending());
    }

    #[test]
    fn a_ring_is_never_missed() {
        const ROUNDS: usize = 300_000;
        let bell = Bell::default();
        let (begun, rung) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let wait_for = |counter: &AtomicUsize, round| {
            while counter.load(Ordering::Acquire) < round {
                std::hint::spin_loop();
            }
        };
        let mut missed = 0;
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for round in 1..=ROUNDS {
                    wait_for(&begun, round);
                    bell.ring();
                    rung.store(round, Ordering::Release);
                }
            });
            for round in 1..=ROUNDS {
                // A waker of an earlier round counts for nothing.
                let count = Arc::new(Count::default());
                let waker = Waker::from(Arc::clone(&count));
                let cx = &mut Context::from_waker(&waker);
                let mut heard = pin!(bell.heard());
                begun.store(round, Ordering::Release);
                // It rings about now: before the first look, between the two, or after the second.
                for _ in 0..round % 64 {
                    std::hint::spin_loop();
                }
                let first = heard.as_mut().poll(cx);
                wait_for(&rung, round);
                if first.is_pending() {
                    missed += usize::from(count.woken() == 0 || heard.poll(cx).is_pending());
                }
            }
        });
        assert_eq!(missed, 0, "of {ROUNDS}");
    }

    #[test]
    fn a_moment_is_known_to_all_who_wait_and_all_who_come_later() {
        let (moment, count) = (Moment::new(), Arc::new(Count::default()));
        let waker = Waker::from(Arc::clone(&count));
        let cx = &mut Context::from_waker(&waker);
        let (mut one, mut two) = (pin!(moment.happened()), pin!(moment.happened()));
        assert!(one.as_mut().poll(cx).is_pending());
        assert!(two.as_mut().poll(cx).is_pending());
        moment.happen();
        moment.happen();
        assert_eq!(count.woken(), 2);
        assert!(one.poll(cx).is_ready() && two.poll(cx).is_ready());
        assert!(pin!(moment.happened()).poll(cx).is_ready());
    }

    #[test]
    fn a_turn_ends() {
        let count = Arc::new(Count::default());
        let waker = Waker::from(Arc::clone(&count));
        let cx = &mut Context::from_waker(&waker);
        let mut turn = Turn::default();
        for _ in 0..3 {
            for _ in 1..TURN {
                assert!(pin!(turn.taken()).poll(cx).is_ready());
            }
            let mut last = pin!(turn.taken());
            assert!(last.as_mut().poll(cx).is_pending());
            assert!(last.poll(cx).is_ready());
        }
        assert_eq!(count.woken(), 3, "each yield has woken its task again");
    }
}
