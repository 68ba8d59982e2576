//! tokio as the runtime of the Selium Remote Client's transport (`selium-remote-transport-quinn`).

use std::sync::Arc;

use selium_remote_transport_quinn::Runtime;
use tokio::{runtime::Handle, task::spawn_blocking};

/// The runtime around the caller, with I/O and time enabled; `None` when there is none.
///
/// Whatever is done on it has to be done within it.
#[must_use]
pub fn runtime() -> Option<Runtime> {
    Handle::try_current().ok()?;
    let runtime = Arc::new(quinn::TokioRuntime);
    Some(Runtime::new(runtime, |work| drop(spawn_blocking(work))))
}
