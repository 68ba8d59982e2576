//! An echo server on quinn alone: the limit that the machine sets.

use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use anyhow::{Context as _, Result, anyhow};
use quinn::crypto::rustls::QuicServerConfig;
use quinn::{Endpoint, ServerConfig};
use rustls::crypto::ring;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::sync::oneshot;

/// The server, on a thread of its own as the runtime is in a process of its own. It ends with this value.
pub(crate) struct Native {
    port: u16,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Native {
    /// Starts one with the server's certificate of this directory.
    ///
    /// # Errors
    /// When the certificate cannot be used or no socket can be had.
    pub(crate) fn start(certs: &Path) -> Result<Self> {
        let config = config(certs)?;
        let (stop, stopped) = oneshot::channel();
        let (tell, told) = mpsc::channel();
        let thread = thread::spawn(move || serve(config, stopped, &tell));
        let port = told
            .recv()
            .map_err(|_| anyhow!("the native echo server ended at once"))??;
        Ok(Self {
            port,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// Its UDP port.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Native {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // Had it panicked, the series would have failed.
            let _ = thread.join();
        }
    }
}

/// As the runtime sets its listeners up: TLS 1.3, no client certificates, quinn's defaults.
fn config(certs: &Path) -> Result<ServerConfig> {
    let chain = CertificateDer::pem_file_iter(certs.join("server.crt"))
        .and_then(Iterator::collect)
        .context("the server's certificate")?;
    let key = PrivateKeyDer::from_pem_file(certs.join("server.key")).context("the server's key")?;
    let tls = rustls::ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    Ok(ServerConfig::with_crypto(Arc::new(
        QuicServerConfig::try_from(tls)?,
    )))
}

fn serve(
    config: ServerConfig,
    mut stopped: oneshot::Receiver<()>,
    tell: &mpsc::Sender<Result<u16>>,
) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            let _ = tell.send(Err(error.into()));
            return;
        }
    };
    runtime.block_on(async move {
        let endpoint = Endpoint::server(config, (Ipv4Addr::LOCALHOST, 0).into());
        let bound = endpoint.and_then(|endpoint| Ok((endpoint.local_addr()?.port(), endpoint)));
        let endpoint = match bound {
            Ok((port, endpoint)) => {
                // Nobody waits for it only when we are ending already.
                let _ = tell.send(Ok(port));
                endpoint
            }
            Err(error) => {
                let _ = tell.send(Err(error.into()));
                return;
            }
        };
        loop {
            tokio::select! {
                incoming = endpoint.accept() => match incoming {
                    Some(incoming) => drop(tokio::spawn(echo(incoming))),
                    None => return,
                },
                _ = &mut stopped => return,
            }
        }
    });
}

/// Echoes what comes on the connection's first stream; however it ends, that is its client's business.
async fn echo(incoming: quinn::Incoming) {
    let Ok(connection) = incoming.await else {
        return;
    };
    let Ok((mut send, mut recv)) = connection.accept_bi().await else {
        return;
    };
    while let Ok(Some(chunk)) = recv.read_chunk(64 * 1024, true).await {
        if send.write_all(&chunk.bytes).await.is_err() {
            return;
        }
    }
}
