//! Start-up.

use std::rc::Rc;

use selium_remote_provision::{Provision, ProvisionError};
use selium_remote_server_core::{Config, Policy, Server};
use selium_remote_transport_wasm::{
    entry::{ArgumentError, StartArguments},
    log,
};
use thiserror::Error;

use crate::{
    audit::AuditLog,
    clock::Clock,
    listen::{self, ListenError},
    module::Module,
    provisioned,
};

/// The module's life.
pub(crate) async fn serve(arguments: Result<StartArguments, ArgumentError>) {
    log::install_panic_hook();
    // First thing: the runtime gives up on a module's log soon after its start.
    let logging = log::init().await;
    match start(arguments, logging.is_ok()).await {
        Ok(module) => {
            if module.clock.runs() {
                tick(&module).await;
            }
        }
        Err(error) => tracing::error!(%error, "the server was not started: it listens on nothing"),
    }
    // The log is written by a task, which ends with this one.
    core::future::pending::<()>().await;
}

/// Why the server was not started.
#[derive(Debug, Error)]
enum StartError {
    #[error("{0}: args=utf8:DOMAIN,u16:PORT")]
    Arguments(#[from] ArgumentError),
    #[error("what is provisioned cannot be used: {0}")]
    Provision(#[from] ProvisionError),
    #[error(
        "there is no log, and so no audit: a provisioned module needs ChannelLifecycle and ChannelWriter"
    )]
    NoLog,
    #[error(transparent)]
    Listen(#[from] ListenError),
}

/// Sets everything up. What is provisioned has to hold, or nothing is served.
async fn start(
    arguments: Result<StartArguments, ArgumentError>,
    logging: bool,
) -> Result<Rc<Module>, StartError> {
    let StartArguments { domain, port, .. } = arguments?;
    let provision = provisioned::read()?;
    // Unprovisioned the server serves all the same.
    if provision.is_some() && !logging {
        return Err(StartError::NoLog);
    }
    let clock = Clock::start().await.unwrap_or_else(|_| Clock::none());
    let doors = listen::open(&domain, port, provision.as_ref()).await?;
    let config = Config {
        unix_origin_ms: clock.unix_origin_ms(),
        authenticated: provision.is_some(),
        policy: provision
            .as_ref()
            .map_or_else(Policy::default, Provision::policy),
        ..Config::default()
    };
    let key = provision.map(|provision| provision.audit_key);
    let provisioned = key.is_some();
    let module = Module::new(Server::new(config), clock, AuditLog::new(key));
    module.begin_audit();
    for door in doors {
        door.serve(&module);
    }
    announce(&module, &domain, port, logging, provisioned);
    Ok(module)
}

/// Says in the log what serves here, and what is missing.
fn announce(module: &Module, domain: &str, port: u16, logging: bool, provisioned: bool) {
    let clock = module.clock.runs();
    tracing::info!(
        domain,
        port,
        clock,
        logging,
        provisioned,
        version = env!("CARGO_PKG_VERSION"),
        "remote client server listening"
    );
    if !provisioned {
        tracing::warn!(
            "clients are not authenticated: whoever reaches this port controls the runtime; `selium server install` changes that"
        );
    } else if !clock {
        tracing::warn!(
            "without the capability TimeRead no time limits are kept: neither for hellos nor for starts a minute"
        );
    }
}

/// Keeps the clock and the server's deadlines.
async fn tick(module: &Rc<Module>) {
    while module.clock.tick().await.is_ok() {
        let now = module.clock.now();
        module.lingering.expire(now);
        module.channels.report();
        module.with(|server| {
            if server.poll_timeout().is_some_and(|due| due <= now) {
                server.handle_timeout(now);
            }
        });
    }
    tracing::warn!("the clock stopped; deadlines are not kept any more");
}
