//! The runtime that the client is tested on: the one of this package's features `tokio` (default), `async-std` and `smol`
//! that is on; with several, the one that the client would choose.
//!
//! Tests of channels use no runtime by any other way, so that the same ones run on each. (`tokio::select!`,
//! `tokio::join!` and tokio's channels are no runtime: they work everywhere.) All other tests need tokio.
//!
//! The executors of async-std and smol live as long as the process, and their threads print where the test prints that
//! was the first: what a task prints, a panic included, is seen with `--nocapture` only.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::oneshot;

#[cfg(feature = "tokio")]
mod imp {
    use std::time::Duration;

    pub(super) fn block_on<T>(future: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a tokio runtime");
        runtime.block_on(future)
    }

    pub(super) fn spawn(task: impl Future<Output = ()> + Send + 'static) {
        tokio::spawn(task);
    }

    pub(super) async fn sleep(time: Duration) {
        tokio::time::sleep(time).await;
    }
}

#[cfg(all(feature = "async-std", not(feature = "tokio")))]
mod imp {
    pub(super) use async_std::task::{block_on, sleep};

    pub(super) fn spawn(task: impl Future<Output = ()> + Send + 'static) {
        async_std::task::spawn(task);
    }
}

#[cfg(not(any(feature = "tokio", feature = "async-std")))]
mod imp {
    use std::time::Duration;

    pub(super) use smol::block_on;

    pub(super) fn spawn(task: impl Future<Output = ()> + Send + 'static) {
        smol::spawn(task).detach();
    }

    pub(super) async fn sleep(time: Duration) {
        smol::Timer::after(time).await;
    }
}

/// What it is called.
pub const NAME: &str = if cfg!(feature = "tokio") {
    "tokio"
} else if cfg!(feature = "async-std") {
    "async-std"
} else {
    "smol"
};

/// Runs a future to its end.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    imp::block_on(future)
}

/// Waits.
pub async fn sleep(time: Duration) {
    imp::sleep(time).await;
}

/// Waits for a future, for so long at most.
pub async fn timeout<T>(time: Duration, future: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        output = future => Some(output),
        () = sleep(time) => None,
    }
}

/// The result of a task, for whoever waits for it; the task runs without that too.
#[derive(Debug)]
pub struct Task<T>(oneshot::Receiver<T>);

impl<T> Future for Task<T> {
    /// An error is that the task panicked.
    type Output = Result<T, oneshot::error::RecvError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx)
    }
}

/// Runs a task in the background: on tokio in the thread that calls this.
pub fn spawn<T: Send + 'static>(task: impl Future<Output = T> + Send + 'static) -> Task<T> {
    let (tell, result) = oneshot::channel();
    imp::spawn(async { drop(tell.send(task.await)) });
    Task(result)
}

/// Runs work that blocks in a thread of its own.
pub fn unblock<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Task<T> {
    let (tell, result) = oneshot::channel();
    std::thread::spawn(|| drop(tell.send(work())));
    Task(result)
}

/// A second thread with tasks: one thread alone would be what limits a test. On async-std and smol, whose tasks have
/// threads of their own anyway, it is these.
#[derive(Debug)]
pub struct Beside {
    #[cfg(feature = "tokio")]
    thread: Thread,
}

impl Beside {
    /// Starts it. It ends with this value.
    #[must_use]
    pub fn start() -> Self {
        Self {
            #[cfg(feature = "tokio")]
            thread: Thread::start(),
        }
    }

    /// Runs a task there.
    pub fn spawn<T: Send + 'static>(
        &self,
        task: impl Future<Output = T> + Send + 'static,
    ) -> Task<T> {
        #[cfg(feature = "tokio")]
        let _inside = self.thread.handle.enter();
        spawn(task)
    }
}

#[cfg(feature = "tokio")]
#[derive(Debug)]
struct Thread {
    handle: tokio::runtime::Handle,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

#[cfg(feature = "tokio")]
impl Thread {
    fn start() -> Self {
        let (stop, until) = oneshot::channel::<()>();
        let (ready, handle) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            block_on(async {
                let handle = tokio::runtime::Handle::current();
                ready.send(handle).expect("it is awaited");
                let _ = until.await;
            });
        });
        Self {
            handle: handle.recv().expect("it runs"),
            stop: Some(stop),
            thread: Some(thread),
        }
    }
}

#[cfg(feature = "tokio")]
impl Drop for Thread {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
