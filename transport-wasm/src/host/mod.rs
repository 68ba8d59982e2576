//! Hostcalls as futures.
//!
//! A hostcall is started with `create`, which hands the encoded argument over and returns a handle; `poll` asks for the result and registers
//! the current *task* for the wake-up; `drop` forgets the handle. Three behaviours of the host shape this module:
//!
//! - A reply longer than the result buffer traps the guest: all results go through one buffer of [`MAX_READ`] bytes and more.
//! - A missing capability is a stub whose `poll` answers "permission denied" at once, without a wake-up.
//! - `drop` cancels nothing. A plain `HostFuture` that is dropped only loses its result; operations whose result must
//!   not be lost are wrapped (see [`crate::orphan`]).

pub(crate) mod calls;
mod error;
pub(crate) mod io;
pub(crate) mod scratch;
pub(crate) mod sys;

use core::{
    future::Future,
    marker::PhantomData,
    pin::Pin,
    task::{Context, Poll},
};

pub(crate) use calls::Op;
pub(crate) use error::clip;
pub use error::{HostError, MAX_ERROR_TEXT};
pub use scratch::MAX_READ;
use selium_abi::{DriverPollResult, driver_decode_result};

use crate::executor;

/// A running hostcall. Dropping it forgets the result; the host runs on.
pub(crate) struct HostFuture<O: Op> {
    state: State,
    op: PhantomData<fn() -> O>,
}

enum State {
    /// The host knows it under this handle.
    Running(u32),
    /// It never reached the host.
    Failed(HostError),
    /// The result was taken; the host has removed the handle.
    Done,
}

/// Starts a hostcall. The host sees it at once, not at the first poll.
pub(crate) fn call<O: Op>(input: &O::In<'_>) -> HostFuture<O> {
    let state = scratch::with_args(|args| match O::encode(input, args) {
        Ok(()) => State::Running(O::CALL.create(args)),
        Err(error) => State::Failed(error),
    });
    HostFuture {
        state,
        op: PhantomData,
    }
}

/// Starts a hostcall and forgets it. Enough for calls that the host executes inside `create`.
pub(crate) fn fire<O: Op>(input: &O::In<'_>) {
    drop(call::<O>(input));
}

/// Starts a hostcall by `create` alone: for last words, when nothing else of this crate may be relied on.
pub(crate) fn launch<O: Op>(input: &O::In<'_>) {
    core::mem::forget(call::<O>(input));
}

impl<O: Op> HostFuture<O> {
    /// Whether the host may still be working on it.
    pub(crate) fn is_running(&self) -> bool {
        matches!(self.state, State::Running(_))
    }
}

// The future holds a number and an error, nothing that points into itself.
impl<O: Op> Unpin for HostFuture<O> {}

impl<O: Op> Future for HostFuture<O> {
    type Output = Result<O::Out, HostError>;

    fn poll(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let handle = match core::mem::replace(&mut this.state, State::Done) {
            State::Running(handle) => handle,
            State::Failed(error) => return Poll::Ready(Err(error)),
            // Polled after completion: stay pending rather than panic, which would end the server.
            State::Done => return Poll::Pending,
        };
        let polled = scratch::with(|buffer| {
            let word = O::CALL.poll(handle, executor::current_task(), buffer);
            match driver_decode_result(word) {
                DriverPollResult::Pending => None,
                DriverPollResult::Ready(len) => Some(match buffer.get(..len as usize) {
                    Some(reply) => O::decode(reply),
                    None => Err(HostError::Malformed("reply length")),
                }),
                DriverPollResult::Error(_) => Some(Err(HostError::from_reply(buffer))),
            }
        });
        match polled {
            Some(result) => Poll::Ready(result),
            None => {
                this.state = State::Running(handle);
                Poll::Pending
            }
        }
    }
}

impl<O: Op> Drop for HostFuture<O> {
    fn drop(&mut self) {
        if let State::Running(handle) = self.state {
            scratch::with(|buffer| O::CALL.drop(handle, buffer));
        }
    }
}
