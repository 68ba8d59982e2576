//! The runtime that a transport runs on: tasks, timers and sockets as quinn asks for them, and blocking work.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::Poll,
    time::{Duration, Instant},
};

use futures_channel::oneshot;
use futures_util::future::Either;
use quinn::AsyncTimer;

use crate::wait::first;

/// Blocking work, as a runtime gets it.
pub type Work = Box<dyn FnOnce() + Send>;

/// A runtime. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Runtime {
    quinn: Arc<dyn quinn::Runtime>,
    unblock: fn(Work),
}

impl Runtime {
    /// A runtime that does for us what it does for quinn. `unblock` runs blocking work on a thread for such work, and
    /// returns at once.
    #[must_use]
    pub fn new(quinn: Arc<dyn quinn::Runtime>, unblock: fn(Work)) -> Self {
        Self { quinn, unblock }
    }

    /// What quinn uses of it.
    #[must_use]
    pub fn quinn(&self) -> Arc<dyn quinn::Runtime> {
        Arc::clone(&self.quinn)
    }

    /// Runs a task in the background.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.quinn.spawn(Box::pin(task));
    }

    /// Waits until `due`.
    ///
    /// # Cancel safety
    /// Dropping the future stops the waiting.
    pub async fn sleep_until(&self, due: Instant) {
        let mut timer = self.quinn.new_timer(due);
        poll_fn(|cx| timer.as_mut().poll(cx)).await;
    }

    /// Runs `future` until `deadline`; `None` when that passed. A future that is ready at once is in time.
    ///
    /// # Cancel safety
    /// As that of `future`.
    pub async fn timeout_at<F: Future>(&self, deadline: Instant, future: F) -> Option<F::Output> {
        match first(future, self.sleep_until(deadline)).await {
            Either::Left(output) => Some(output),
            Either::Right(()) => None,
        }
    }

    /// As [`Runtime::timeout_at`], from now.
    pub(crate) async fn timeout<F: Future>(&self, after: Duration, future: F) -> Option<F::Output> {
        self.timeout_at(Instant::now() + after, future).await
    }

    /// Runs blocking work (reading files, say) beside the runtime, until `deadline`; `None` when that passed, and when
    /// the work panicked. The work itself goes on to its end.
    ///
    /// # Cancel safety
    /// As at the deadline.
    pub async fn unblock<T: Send + 'static>(
        &self,
        deadline: Instant,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let (tell, result) = oneshot::channel();
        (self.unblock)(Box::new(move || drop(tell.send(work()))));
        self.timeout_at(deadline, result).await?.ok()
    }
}

/// A timer for times that change often, such as those of a machine. It is set again only when the time comes nearer or
/// when it has rung too early: setting one costs a system call on some runtimes, and most times move away.
#[derive(Debug)]
pub(crate) struct Alarm<'a> {
    runtime: &'a Runtime,
    timer: Option<Pin<Box<dyn AsyncTimer>>>,
    /// When the timer will ring.
    set: Option<Instant>,
}

impl<'a> Alarm<'a> {
    pub(crate) fn new(runtime: &'a Runtime) -> Self {
        Self {
            runtime,
            timer: None,
            set: None,
        }
    }

    /// Waits until `due`, or for ever. Dropping the future leaves the timer as it is, for the next time.
    pub(crate) async fn wait(&mut self, due: Option<Instant>) {
        poll_fn(|cx| {
            let Some(due) = due else {
                return Poll::Pending;
            };
            loop {
                let timer = match &mut self.timer {
                    None => self.timer.insert(self.runtime.quinn.new_timer(due)),
                    Some(timer) => {
                        if self.set.is_none_or(|set| set > due) {
                            timer.as_mut().reset(due);
                        }
                        timer
                    }
                };
                let set = *self.set.insert(self.set.map_or(due, |set| set.min(due)));
                if timer.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
                self.set = None;
                if set >= due {
                    return Poll::Ready(());
                }
            }
        })
        .await;
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        net::UdpSocket,
        pin::pin,
        sync::{Mutex, PoisonError},
        task::{Context, Waker},
    };

    use quinn::AsyncUdpSocket;

    use super::*;

    /// A clock, and what a timer of it was told.
    #[derive(Debug)]
    struct Clock {
        now: Instant,
        due: Option<Instant>,
        made: usize,
        resets: usize,
    }

    #[derive(Clone, Debug)]
    struct Fake(Arc<Mutex<Clock>>);

    impl Fake {
        fn with<T>(&self, change: impl FnOnce(&mut Clock) -> T) -> T {
            change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
        }
    }

    impl quinn::Runtime for Fake {
        fn new_timer(&self, due: Instant) -> Pin<Box<dyn AsyncTimer>> {
            self.with(|clock| {
                clock.made += 1;
                clock.due = Some(due);
            });
            Box::pin(self.clone())
        }

        fn spawn(&self, _future: Pin<Box<dyn Future<Output = ()> + Send>>) {}

        fn wrap_udp_socket(&self, _socket: UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
            Err(io::ErrorKind::Unsupported.into())
        }
    }

    impl AsyncTimer for Fake {
        fn reset(self: Pin<&mut Self>, due: Instant) {
            self.with(|clock| {
                clock.resets += 1;
                clock.due = Some(due);
            });
        }

        /// Rings once, as async-io's timers do.
        fn poll(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<()> {
            let rings = |clock: &mut Clock| clock.due.take_if(|due| *due <= clock.now);
            match self.with(rings) {
                Some(_) => Poll::Ready(()),
                None => Poll::Pending,
            }
        }
    }

    #[test]
    fn an_alarm_keeps_to_the_time_and_is_set_when_it_has_to_be() {
        let origin = Instant::now();
        let fake = Fake(Arc::new(Mutex::new(Clock {
            now: origin,
            due: None,
            made: 0,
            resets: 0,
        })));
        let runtime = Runtime::new(Arc::new(fake.clone()), |work| work());
        let mut alarm = Alarm::new(&runtime);
        let at = |seconds| Some(origin + Duration::from_secs(seconds));
        let mut rings = |due| {
            let cx = &mut Context::from_waker(Waker::noop());
            pin!(alarm.wait(due)).poll(cx).is_ready()
        };
        let told = || fake.with(|clock| (clock.made, clock.resets));
        let pass = |seconds| fake.with(|clock| clock.now = origin + Duration::from_secs(seconds));

        assert!(!rings(None));
        assert_eq!(told(), (0, 0));
        assert!(!rings(at(10)));
        // Moving away costs nothing, coming nearer does.
        assert!(!rings(at(20)) && !rings(at(30)) && !rings(None));
        assert_eq!(told(), (1, 0));
        assert!(!rings(at(5)));
        assert_eq!(told(), (1, 1));
        // Rung too early, it is set to the time that is wanted by now.
        pass(5);
        assert!(!rings(at(30)));
        assert_eq!(told(), (1, 2));
        pass(29);
        assert!(!rings(at(30)));
        pass(30);
        assert!(rings(at(30)));
        // And again.
        assert!(!rings(at(40)));
        pass(40);
        assert!(rings(at(40)));
        assert!(rings(at(39)), "what is past rings at once");
        assert_eq!(told(), (1, 4));
    }
}
