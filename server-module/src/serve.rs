//! Start-up and the pool of waiting accepts.

use std::rc::Rc;

use selium_remote_server_core::{Config, Server};
use selium_remote_transport_wasm::{
    HostError,
    entry::{ArgumentError, StartArguments},
    executor, log,
    quic::Listener,
};

use crate::{clock::Clock, connection, module::Module};

/// How many accepts wait side by side.
///
/// The host's accept waits for the handshake and the first stream of one connection before it looks at the next, and an
/// abandoned accept is not cancelled: each silent or half-open client holds one of them.
const ACCEPTS: usize = 512;

/// Failures in a row after which an accept is given up.
const MAX_ACCEPT_FAILURES: u32 = 10_000;

/// The module's life.
pub(crate) async fn serve(arguments: Result<StartArguments, ArgumentError>) {
    log::install_panic_hook();
    // First thing: the runtime gives up on a module's log soon after its start. Without it the server serves all the same.
    let logging = log::init().await;
    let arguments = match arguments {
        Ok(arguments) => arguments,
        Err(error) => {
            tracing::error!(%error, "the server was not started: args=utf8:DOMAIN,u16:PORT");
            return;
        }
    };
    let clock = Clock::start().await.unwrap_or_else(|_| Clock::none());
    let StartArguments { domain, port, .. } = arguments;
    let listeners = match bind(&domain, port).await {
        Ok(listeners) => listeners,
        Err(error) => {
            tracing::error!(%error, domain, port, "the server was not started: it cannot listen");
            return;
        }
    };
    let config = Config {
        unix_origin_ms: clock.unix_origin_ms(),
        ..Config::default()
    };
    let has_clock = clock.runs();
    let module = Module::new(Server::new(config), clock);
    let accepts = listeners.len();
    for listener in listeners {
        if executor::spawn(accept(Rc::clone(&module), listener)).is_err() {
            tracing::error!("too many tasks; fewer clients can be waited for");
        }
    }
    tracing::info!(
        domain,
        port,
        accepts,
        clock = has_clock,
        logging = logging.is_ok(),
        version = env!("CARGO_PKG_VERSION"),
        "remote client server listening"
    );
    tracing::warn!("clients are not authenticated: whoever reaches this port controls the runtime");
    if has_clock {
        tick(&module).await;
    }
    core::future::pending::<()>().await;
}

/// Binds the same port as often as accepts are to wait. One bind has to have finished before the next is sent: two at a
/// time would both try to open the socket.
async fn bind(domain: &str, port: u16) -> Result<Vec<Listener>, HostError> {
    let mut listeners = vec![Listener::bind(domain, port, None).await?];
    while listeners.len() < ACCEPTS {
        match Listener::bind(domain, port, None).await {
            Ok(listener) => listeners.push(listener),
            Err(error) => {
                tracing::warn!(%error, accepts = listeners.len(), "fewer accepts wait than planned");
                break;
            }
        }
    }
    Ok(listeners)
}

/// Accepts one connection after another.
async fn accept(module: Rc<Module>, mut listener: Listener) {
    let mut failures = 0;
    while failures < MAX_ACCEPT_FAILURES {
        match listener.accept().await {
            Ok(accepted) => {
                failures = 0;
                connection::serve(&module, accepted);
            }
            Err(error @ (HostError::PermissionDenied | HostError::NotFound)) => {
                tracing::error!(%error, "connections cannot be accepted");
                return;
            }
            // A handshake that failed is its client's business.
            Err(_) => failures += 1,
        }
        executor::yield_now().await;
    }
    tracing::error!(failures, "an accept failed too often and was given up");
}

/// Keeps the clock and the server's deadlines.
async fn tick(module: &Rc<Module>) {
    while module.clock.tick().await.is_ok() {
        let now = module.clock.now();
        module.lingering.expire(now);
        module.with(|server| {
            if server.poll_timeout().is_some_and(|due| due <= now) {
                server.handle_timeout(now);
            }
        });
    }
    tracing::warn!("the clock stopped; deadlines are not kept any more");
}
