//! Where clients come in: a listener for each role, or, unprovisioned, one for everybody.
//!
//! The runtime tells nobody who connected, so the listener says which role a client has: its port asks for a certificate
//! of that role's CA. Either all of them listen or none does.

use std::rc::Rc;

use selium_remote_provision::{Provision, ProvisionError};
use selium_remote_server_core::policy::{Role, RoleId};
use selium_remote_transport_wasm::{
    HostError, executor,
    quic::{Listener, TlsConfig, TlsMaterial},
};
use thiserror::Error;

use crate::{connection, module::Module};

/// How many accepts wait side by side on each port.
///
/// The host's accept waits for the handshake and the first stream of one connection before it looks at the next, and an
/// abandoned accept is not cancelled: each silent or half-open client holds one of them. With 16 roles they are half of the
/// tasks that there can be.
const ACCEPTS: usize = 512;

/// Failures in a row after which an accept waits a moment: one that cannot succeed must not take the whole processor. It
/// is never given up: failures are what clients without a right certificate cause, as many as they like.
const PATIENT_FAILURES: u32 = 256;

/// That moment, in milliseconds; needs a clock.
const PAUSE_MS: u64 = 10;

/// Why nothing listens.
#[derive(Debug, Error)]
pub(crate) enum ListenError {
    /// The ports do not go together.
    #[error("{0}: give another port in the module's arguments, or install with another policy")]
    Ports(ProvisionError),
    /// The host does not take the certificates.
    #[error(
        "the TLS configuration of the role {role} is refused: {error}; the module needs the capability NetTlsServerConfig"
    )]
    Tls {
        /// The role.
        role: String,
        /// What the host says.
        error: HostError,
    },
    /// A port cannot be had. The host looks at certificates only now.
    #[error("the port {port} of the role {role} cannot be had{}: {error}", if *.tls { " with its certificates" } else { "" })]
    Bind {
        /// Whether with TLS of our own.
        tls: bool,
        /// The role.
        role: String,
        /// The port.
        port: u16,
        /// What the host says.
        error: HostError,
    },
}

/// A port, and the role of who comes in there.
#[derive(Debug)]
pub(crate) struct Door {
    role: RoleId,
    name: String,
    port: u16,
    tls: Option<TlsConfig>,
    listeners: Vec<Listener>,
}

/// Opens every door.
///
/// # Errors
/// When one cannot be opened; then none is. (The runtime keeps ports that were bound, but accepts nobody there.)
pub(crate) async fn open(
    domain: &str,
    port: u16,
    provision: Option<&Provision>,
) -> Result<Vec<Door>, ListenError> {
    let mut doors = match provision {
        None => vec![Door::new(
            RoleId::default(),
            &Role::admin().name,
            port,
            None,
        )],
        Some(provision) => with_tls(port, provision).await?,
    };
    for door in &mut doors {
        door.bind(domain).await?;
    }
    for door in &mut doors {
        door.multiply(domain).await;
    }
    Ok(doors)
}

/// Has the host take the certificates of every role, before anything is bound.
async fn with_tls(port: u16, provision: &Provision) -> Result<Vec<Door>, ListenError> {
    let mut doors = Vec::new();
    let listeners = provision.ports(port).map_err(ListenError::Ports)?;
    for (number, (port, listener)) in (0..).zip(listeners) {
        let material = TlsMaterial {
            cert_chain: provision.server_chain.clone(),
            private_key: provision.server_key.expose().to_vec(),
            client_ca: Some(listener.host_ca(&provision.audit_key)),
            require_client_auth: true,
        };
        let name = &listener.role.name;
        let tls = TlsConfig::create(&material).await;
        let tls = tls.map_err(|error| ListenError::Tls {
            role: name.clone(),
            error,
        })?;
        doors.push(Door::new(RoleId(number), name, port, Some(tls)));
    }
    Ok(doors)
}

impl Door {
    fn new(role: RoleId, name: &str, port: u16, tls: Option<TlsConfig>) -> Self {
        Self {
            role,
            name: name.to_owned(),
            port,
            tls,
            listeners: Vec::new(),
        }
    }

    /// Binds the port. One bind has to have finished before the next is sent: two at a time would both try to open the
    /// socket.
    async fn bind(&mut self, domain: &str) -> Result<(), ListenError> {
        match Listener::bind(domain, self.port, self.tls.as_ref()).await {
            Ok(listener) => {
                self.listeners.push(listener);
                Ok(())
            }
            Err(error) => Err(ListenError::Bind {
                tls: self.tls.is_some(),
                role: self.name.clone(),
                port: self.port,
                error,
            }),
        }
    }

    /// Binds the same port as often as accepts are to wait.
    async fn multiply(&mut self, domain: &str) {
        while self.listeners.len() < ACCEPTS {
            if let Err(error) = self.bind(domain).await {
                let accepts = self.listeners.len();
                tracing::warn!(%error, accepts, "fewer accepts wait than planned");
                return;
            }
        }
    }

    /// Lets clients in.
    pub(crate) fn serve(self, module: &Rc<Module>) {
        tracing::info!(
            role = self.name,
            port = self.port,
            accepts = self.listeners.len(),
            authenticated = self.tls.is_some(),
            "listening"
        );
        for listener in self.listeners {
            if executor::spawn(accept(Rc::clone(module), self.role, listener)).is_err() {
                tracing::error!("too many tasks; fewer clients can be waited for");
                return;
            }
        }
    }
}

/// Accepts one connection after another.
async fn accept(module: Rc<Module>, role: RoleId, mut listener: Listener) {
    let mut failures: u32 = 0;
    loop {
        match listener.accept().await {
            Ok(accepted) => {
                failures = 0;
                connection::serve(&module, role, accepted);
            }
            Err(error @ (HostError::PermissionDenied | HostError::NotFound)) => {
                tracing::error!(%error, "connections cannot be accepted");
                return;
            }
            // A handshake that failed is its client's business.
            Err(_) => failures += 1,
        }
        if failures >= PATIENT_FAILURES {
            failures = 0;
            module.clock.sleep(PAUSE_MS).await;
        }
        executor::yield_now().await;
    }
}
