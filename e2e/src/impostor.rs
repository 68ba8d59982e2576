//! Servers that are no control plane of ours, with certificates that the client has no reason to doubt.

use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use quinn::crypto::rustls::QuicServerConfig;
use quinn::{Endpoint, RecvStream, SendStream};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tempfile::TempDir;
use tokio::sync::oneshot;

/// A certificate authority.
#[derive(Debug)]
pub struct Ca {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Default for Ca {
    fn default() -> Self {
        let mut params = CertificateParams::new(vec![]).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "e2e");
        let key = KeyPair::generate().expect("a key");
        Self {
            issuer: CertifiedIssuer::self_signed(params, key).expect("a certificate"),
        }
    }
}

impl Ca {
    fn leaf(&self, names: &[&str]) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().expect("a key");
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let params = CertificateParams::new(names).expect("parameters");
        (
            params.signed_by(&key, &self.issuer).expect("a certificate"),
            key,
        )
    }

    /// Fills a certificate directory for a client of this CA, and for a server with these names.
    pub fn fill(&self, directory: &Path, server: &[&str]) {
        std::fs::create_dir_all(directory).expect("a directory");
        let write = |name: &str, text: String| {
            std::fs::write(directory.join(name), text).expect("writes");
        };
        write("ca.crt", self.issuer.pem());
        for (who, names) in [("client", &["client"][..]), ("server", server)] {
            let (certificate, key) = self.leaf(names);
            write(&format!("{who}.crt"), certificate.pem());
            write(&format!("{who}.key"), key.serialize_pem());
        }
    }
}

/// A QUIC server on loopback that plays the same on each stream. It ends with this value.
#[derive(Debug)]
pub struct Impostor {
    directory: TempDir,
    port: u16,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Impostor {
    /// Starts one. `play` has the connection's stream, and the connection is closed when it is done.
    #[must_use]
    pub fn start<F>(play: impl Fn(SendStream, RecvStream) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let ca = Ca::default();
        let directory = tempfile::tempdir().expect("a directory");
        ca.fill(directory.path(), &["localhost"]);
        let config = config(&ca);
        let (stop, mut stopped) = oneshot::channel();
        let (tell, told) = std::sync::mpsc::channel();
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a tokio runtime");
            runtime.block_on(async move {
                let endpoint =
                    Endpoint::server(config, (Ipv4Addr::LOCALHOST, 0).into()).expect("a socket");
                tell.send(endpoint.local_addr().expect("an address").port())
                    .expect("told");
                loop {
                    let incoming = tokio::select! {
                        incoming = endpoint.accept() => incoming.expect("the endpoint is open"),
                        _ = &mut stopped => return,
                    };
                    // A client that breaks off is none of our business.
                    if let Ok(connection) = incoming.await
                        && let Ok((send, recv)) = connection.accept_bi().await
                    {
                        let played = play(send, recv);
                        tokio::spawn(async move {
                            played.await;
                            connection.close(0u32.into(), b"");
                        });
                    }
                }
            });
        });
        let port = told.recv().expect("it listens");
        Self {
            directory,
            port,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    /// A `selium` command that is pointed at it.
    #[must_use]
    pub fn command(&self, cli: &Path, args: &[&str]) -> std::process::Command {
        let selium = xtask::selium::Selium {
            binary: cli.to_owned(),
            certs: self.directory.path().to_owned(),
            port: self.port,
        };
        selium.command(args)
    }

    /// Its port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Impostor {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn config(ca: &Ca) -> quinn::ServerConfig {
    let (certificate, key) = ca.leaf(&["localhost"]);
    let chain: Vec<CertificateDer<'static>> = vec![certificate.der().clone()];
    let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
    let tls = rustls::ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("a certificate");
    quinn::ServerConfig::with_crypto(Arc::new(
        QuicServerConfig::try_from(tls).expect("TLS for QUIC"),
    ))
}
