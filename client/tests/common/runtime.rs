//! The runtime that tests run on, which is the one that the client was built for; with several features, the one that the
//! client would choose.
//!
//! Tests use no runtime by any other way, so that the same suite runs on each. (`tokio::select!`, `tokio::join!` and
//! tokio's channels are no runtime: they work everywhere.)
//!
//! The executors of async-std and smol live as long as the process, and their threads print where the test prints that
//! was the first: what a task prints, a panic included, is seen with `--nocapture` only.

#![allow(unused_imports, unused_macros, reason = "not every test file uses all")]

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use futures_channel::oneshot;
pub(crate) use macro_rules_attribute::apply;

/// A test: `#[apply(runtime_test!)] async fn ...`.
macro_rules! runtime_test {
    ($(#[$meta:meta])* async fn $name:ident() $body:block) => {
        $(#[$meta])*
        #[test]
        fn $name() {
            $crate::common::runtime::block_on(async $body);
        }
    };
}

/// A test whose tasks run side by side on several threads, where the runtime leaves that to us.
macro_rules! threads_test {
    ($(#[$meta:meta])* async fn $name:ident() $body:block) => {
        $(#[$meta])*
        #[test]
        fn $name() {
            $crate::common::runtime::block_on_threads(async $body);
        }
    };
}

pub(crate) use {runtime_test, threads_test};

#[cfg(feature = "tokio")]
mod imp {
    use std::time::Duration;

    use tokio::runtime::Builder;

    pub(crate) fn block_on<T>(test: impl Future<Output = T>) -> T {
        let mut one = Builder::new_current_thread();
        one.enable_all().build().unwrap().block_on(test)
    }

    pub(crate) fn block_on_threads<T>(test: impl Future<Output = T>) -> T {
        let mut many = Builder::new_multi_thread();
        many.worker_threads(4).enable_all();
        many.build().unwrap().block_on(test)
    }

    pub(crate) fn spawn(task: impl Future<Output = ()> + Send + 'static) {
        tokio::spawn(task);
    }

    pub(crate) async fn sleep(time: Duration) {
        tokio::time::sleep(time).await;
    }
}

#[cfg(all(feature = "async-std", not(feature = "tokio")))]
mod imp {
    use std::time::Duration;

    pub(crate) fn block_on<T>(test: impl Future<Output = T>) -> T {
        async_std::task::block_on(test)
    }

    pub(crate) use block_on as block_on_threads;

    pub(crate) fn spawn(task: impl Future<Output = ()> + Send + 'static) {
        async_std::task::spawn(task);
    }

    pub(crate) async fn sleep(time: Duration) {
        async_std::task::sleep(time).await;
    }
}

#[cfg(not(any(feature = "tokio", feature = "async-std")))]
mod imp {
    use std::time::Duration;

    pub(crate) fn block_on<T>(test: impl Future<Output = T>) -> T {
        smol::block_on(test)
    }

    pub(crate) use block_on as block_on_threads;

    pub(crate) fn spawn(task: impl Future<Output = ()> + Send + 'static) {
        smol::spawn(task).detach();
    }

    pub(crate) async fn sleep(time: Duration) {
        smol::Timer::after(time).await;
    }
}

pub(crate) use imp::{block_on, block_on_threads, sleep};

/// The result of a task, for whoever waits for it; the task runs without that too.
pub(crate) struct Task<T>(oneshot::Receiver<T>);

impl<T> Future for Task<T> {
    /// An error is that the task panicked.
    type Output = Result<T, oneshot::Canceled>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx)
    }
}

/// Runs a task in the background.
pub(crate) fn spawn<T: Send + 'static>(task: impl Future<Output = T> + Send + 'static) -> Task<T> {
    let (tell, result) = oneshot::channel();
    imp::spawn(async { drop(tell.send(task.await)) });
    Task(result)
}

/// Runs `future` for so long at most.
pub(crate) async fn timeout<T>(time: Duration, future: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        output = future => Some(output),
        () = sleep(time) => None,
    }
}
