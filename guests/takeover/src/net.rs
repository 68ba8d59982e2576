//! Through the network: the control plane's own port, from both sides.

use futures::SinkExt as _;
use futures::StreamExt as _;
use selium_userland::{
    entrypoint,
    net::{
        Connection, NetError, NetProtocol, QuicListener, TlsClientBundle, TlsClientConfig,
        TlsServerBundle, TlsServerConfig, connect, connect_with_tls,
    },
    spawn,
};

use crate::{hex, refused, unhex};

/// Accepts that may fail in a row before one gives up.
const MAX_FAILURES: u32 = 100;

/// Listens on a port, with the runtime's own certificate, with so many accepts side by side, and logs what comes in.
///
/// Needs `NetQuicBind`, `NetQuicAccept` and `NetQuicRead`.
#[entrypoint]
pub async fn bind(domain: &str, port: u16, accepts: u32) {
    take("bind", domain, port, None, accepts).await;
}

/// The same with a TLS profile that asks for clients of this CA (no CA: for none), and a certificate of our own.
///
/// Needs `NetTlsServerConfig` as well.
#[entrypoint]
pub async fn bind_tls(
    domain: &str,
    port: u16,
    accepts: u32,
    chain: &str,
    key: &str,
    client_ca: &str,
) {
    let bundle = TlsServerBundle {
        cert_chain_pem: chain.as_bytes().to_vec(),
        private_key_pem: key.as_bytes().to_vec(),
        client_ca_pem: (!client_ca.is_empty()).then(|| client_ca.as_bytes().to_vec()),
        alpn: None,
        require_client_auth: !client_ca.is_empty(),
    };
    match TlsServerConfig::register(bundle).await {
        Ok(tls) => take("bind_tls", domain, port, Some(tls), accepts).await,
        Err(error) => refused("bind_tls", &error),
    }
}

async fn take(
    attempt: &'static str,
    domain: &str,
    port: u16,
    tls: Option<TlsServerConfig>,
    accepts: u32,
) {
    let mut waiting = Vec::new();
    for number in 0..accepts {
        let bound = match &tls {
            Some(tls) => QuicListener::bind_with_tls(domain, port, tls).await,
            None => QuicListener::bind(domain, port).await,
        };
        match bound {
            // A handle takes one accept at a time.
            Ok(listener) => waiting.push((number, listener)),
            Err(error) => return refused(attempt, &error),
        }
    }
    tracing::info!("takeover {attempt}: bound");
    let tasks: Vec<_> = waiting
        .into_iter()
        .map(|(number, listener)| spawn(accept(attempt, number, listener)))
        .collect();
    for task in tasks {
        task.await;
    }
}

async fn accept(attempt: &'static str, number: u32, listener: QuicListener) {
    let mut failures = 0;
    while failures < MAX_FAILURES {
        match listener.accept().await {
            Ok(connection) => {
                failures = 0;
                drop(spawn(hear(attempt, connection)));
            }
            Err(error) => {
                failures += 1;
                // Without the capability each accept is refused, and one line says it all.
                if error.to_string().contains("permission denied") {
                    if number == 0 {
                        tracing::info!("takeover {attempt}: accept refused: {error}");
                    }
                    return;
                }
            }
        }
    }
}

async fn hear(attempt: &str, mut connection: Connection) {
    match connection.recv().await {
        Ok(Some(frame)) => {
            let heard = hex(&frame.payload);
            tracing::info!("takeover {attempt}: accepted {connection:?}, which sent {heard}");
        }
        Ok(None) => tracing::info!("takeover {attempt}: accepted {connection:?}, which left"),
        Err(error) => tracing::info!("takeover {attempt}: accepted {connection:?}: {error}"),
    }
    // Its client waits for an answer, and gets none.
    core::future::pending::<()>().await;
}

/// Connects to a port, sends bytes (in hex), and logs the answer.
///
/// With a CA the server has to have a certificate of it, with a certificate and a key we show them; without a CA the
/// runtime's own roots decide. Needs `NetQuicConnect`, `NetQuicRead` and `NetQuicWrite`, and `NetTlsClientConfig` for the CA.
#[entrypoint]
pub async fn dial(domain: &str, port: u16, hello: &str, ca: &str, cert: &str, key: &str) {
    match talk(domain, port, hello, ca, cert, key).await {
        Ok(answer) => tracing::info!("takeover dial: answered {}", hex(&answer)),
        Err(error) => refused("dial", &error),
    }
}

async fn talk(
    domain: &str,
    port: u16,
    hello: &str,
    ca: &str,
    cert: &str,
    key: &str,
) -> Result<Vec<u8>, NetError> {
    let hello = unhex(hello).ok_or(NetError::InvalidArgument)?;
    let pem = |text: &str| (!text.is_empty()).then(|| text.as_bytes().to_vec());
    let mut connection = if ca.is_empty() {
        connect(NetProtocol::Quic, domain, port).await?
    } else {
        let tls = TlsClientConfig::register(TlsClientBundle {
            ca_bundle_pem: pem(ca),
            client_cert_pem: pem(cert),
            client_key_pem: pem(key),
            alpn: None,
        })
        .await?;
        connect_with_tls(NetProtocol::Quic, domain, port, &tls).await?
    };
    tracing::info!("takeover dial: connected");
    let (reader, writer) = connection.borrow_split();
    writer.send(hello).await?;
    let answer = reader.next().await.transpose()?;
    Ok(answer.map(|frame| frame.payload).unwrap_or_default())
}
