//! async-std and smol as runtimes of the Selium Remote Client's transport (`selium-remote-transport-quinn`).
//!
//! Each has a feature of its name, and none is on by default. Both have an executor that is there for the whole process:
//! it is started when it is first used, so that there is no such thing as "outside of the runtime".
//!
//! # async-std is discontinued
//!
//! Its maintainers point to smol, and quinn 0.11 is the last line that supports it. It is here for applications that
//! have not moved yet. When this project goes on to a later quinn, `async_std` goes; `smol`, which runs in the same
//! process beside async-std, stays.

#[cfg(feature = "async-std")]
/// async-std: tasks on its global executor, blocking work on its threads for that.
#[must_use]
pub fn async_std() -> selium_remote_transport_quinn::Runtime {
    let runtime = std::sync::Arc::new(quinn::AsyncStdRuntime);
    selium_remote_transport_quinn::Runtime::new(runtime, |work| {
        drop(async_std::task::spawn_blocking(work));
    })
}

#[cfg(feature = "smol")]
/// smol: tasks on its global executor (one thread, or as many as `SMOL_THREADS` says), blocking work on its threads for
/// that.
#[must_use]
pub fn smol() -> selium_remote_transport_quinn::Runtime {
    let runtime = std::sync::Arc::new(quinn::SmolRuntime);
    selium_remote_transport_quinn::Runtime::new(runtime, |work| smol::unblock(work).detach())
}
