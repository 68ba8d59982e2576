//! Through the processes of others.

use selium_userland::{
    entrypoint,
    process::{Capability, ProcessBuilder, ProcessHandle},
};

use crate::refused;

/// Starts a process with every capability that a takeover needs, most of which we do not have.
///
/// Needs `ProcessLifecycle`.
#[entrypoint]
pub async fn launch(module: &str, entrypoint: &str) {
    let all = [
        Capability::ChannelReader,
        Capability::ProcessLifecycle,
        Capability::NetQuicBind,
        Capability::NetQuicAccept,
        Capability::NetQuicConnect,
        Capability::NetTlsServerConfig,
        Capability::NetTlsClientConfig,
    ];
    let builder = all
        .into_iter()
        .fold(ProcessBuilder::new(module, entrypoint), |it, one| {
            it.capability(one)
        });
    match builder.start().await {
        Ok(handle) => tracing::info!("takeover launch: started {}", handle.raw()),
        Err(error) => refused("launch", &error),
    }
}

/// Stops a process by its id. Id 1 is the control plane, if it is the runtime's first module.
///
/// Needs `ProcessLifecycle`.
#[entrypoint]
pub async fn stop(id: u64) {
    match forged(id).stop().await {
        Ok(()) => tracing::info!("takeover stop: {id} stopped"),
        Err(error) => refused("stop", &error),
    }
}

/// Lists the processes with ids below this: asking for the log of what is none gives another error.
///
/// Needs `ProcessLifecycle`.
#[entrypoint]
pub async fn survey(below: u64) {
    for id in 0..below {
        match forged(id).log_channel().await {
            Ok(log) => tracing::info!(
                "takeover survey: {id} is a process, its log is {}",
                log.raw()
            ),
            Err(error) if error.to_string().contains("permission denied") => {
                return refused("survey", &error);
            }
            Err(_) => {}
        }
    }
    tracing::info!("takeover survey: done");
}

#[allow(unsafe_code)] // see below
fn forged(id: u64) -> ProcessHandle {
    // SAFETY: it is a number that goes to the host. Nobody gave it to us, which is the attempt.
    unsafe { ProcessHandle::from_raw(id) }
}
