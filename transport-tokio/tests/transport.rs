//! The transport against a quinn server on 127.0.0.1, with a machine that has no protocol.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    future::Future,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use quinn::{Endpoint, crypto::rustls::QuicServerConfig};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    crypto::ring,
    pki_types::PrivateKeyDer,
    server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier},
    sign::CertifiedKey,
};
use selium_remote_client_protocol::{Time, Transmit};
use selium_remote_transport_tokio::{
    Cause, DialError, Link, Machine, Rejection, Target, Windows, Wire, cause, dial,
};

async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(10), future)
        .await
        .expect("it happens soon")
}

struct Ca(CertifiedIssuer<'static, KeyPair>);

impl Ca {
    fn new() -> Self {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn leaf(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> CertifiedKey {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        change(&mut params);
        let certificate = params.signed_by(&key, &self.0).unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let provider = ring::default_provider();
        CertifiedKey::from_der(vec![certificate.der().clone()], key, &provider).unwrap()
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        roots
    }

    fn client(&self, certificate: Option<CertifiedKey>) -> ClientConfig {
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(self.roots());
        match certificate {
            None => builder.with_no_client_auth(),
            Some(certificate) => builder.with_client_cert_resolver(Arc::new(
                rustls::sign::SingleCertAndKey::from(certificate),
            )),
        }
    }
}

/// Shows the same certificate, whatever name is asked for.
#[derive(Debug)]
struct Always(Arc<CertifiedKey>);

impl ResolvesServerCert for Always {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

fn server(certificate: CertifiedKey, clients: Option<&Ca>) -> Endpoint {
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap();
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(ca) => builder.with_client_cert_verifier(
            WebPkiClientVerifier::builder_with_provider(Arc::new(ca.roots()), provider)
                .build()
                .unwrap(),
        ),
    };
    let tls = builder.with_cert_resolver(Arc::new(Always(Arc::new(certificate))));
    let crypto = Arc::new(QuicServerConfig::try_from(tls).unwrap());
    let mut config = quinn::ServerConfig::with_crypto(crypto);
    let mut transport = quinn::TransportConfig::default();
    transport.stream_receive_window(65_536u32.into());
    config.transport_config(Arc::new(transport));
    Endpoint::server(config, ([127, 0, 0, 1], 0).into()).unwrap()
}

async fn connect(endpoint: &Endpoint, tls: ClientConfig) -> Result<Wire, DialError> {
    let target = Target::new("localhost", endpoint.local_addr().unwrap().port());
    let deadline = Instant::now() + Duration::from_secs(10);
    dial(&target, tls, Windows::default(), deadline).await
}

/// What lies behind the failure of a client to connect.
async fn failure(endpoint: &Endpoint, tls: ClientConfig) -> Option<Cause> {
    let accept = async {
        let _ = endpoint.accept().await.unwrap().await;
        std::future::pending::<()>().await;
    };
    soon(async {
        tokio::select! {
            result = connect(endpoint, tls) => result.expect_err("it fails").cause(),
            () = accept => unreachable!(),
        }
    })
    .await
}

/// Keeps what it hears and sends what it is told to.
#[derive(Default)]
struct Probe {
    out: Vec<Bytes>,
    heard: Vec<u8>,
    due: Option<Time>,
    elapsed: usize,
    ended: bool,
    closed: bool,
}

impl Machine for Probe {
    fn handle_input(&mut self, _now: Time, bytes: Bytes) {
        self.heard.extend_from_slice(&bytes);
    }

    fn handle_eof(&mut self, _now: Time) {
        self.ended = true;
        self.closed = true;
    }

    fn handle_timeout(&mut self, now: Time) {
        assert!(self.due.take().is_some_and(|due| due <= now));
        self.elapsed += 1;
    }

    fn poll_transmit(&mut self, _max: usize) -> Option<Transmit> {
        (!self.out.is_empty()).then(|| Transmit::from(std::mem::take(&mut self.out)))
    }

    fn poll_timeout(&self) -> Option<Time> {
        self.due
    }

    fn is_closed(&self) -> bool {
        self.closed
    }
}

/// Waits until the probe is as wanted, by looking whenever anything has happened.
async fn until(link: &Link<Probe>, wanted: impl Fn(&Probe) -> bool) {
    soon(async {
        while !link.with(|probe, _| wanted(probe)) {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn our_verdicts_on_a_servers_certificate_are_told_apart() {
    let ca = Ca::new();
    let expired = ca.leaf("localhost", |params| {
        params.not_after = date_time_ymd(2000, 1, 1)
    });
    let future = ca.leaf("localhost", |params| {
        params.not_before = date_time_ymd(3000, 1, 1)
    });
    for (certificate, expected) in [
        (expired, Cause::Expired),
        (future, Cause::NotYetValid),
        (ca.leaf("other.example", |_| {}), Cause::WrongName),
        (Ca::new().leaf("localhost", |_| {}), Cause::UnknownIssuer),
    ] {
        let endpoint = server(certificate, None);
        assert_eq!(failure(&endpoint, ca.client(None)).await, Some(expected));
    }
}

#[tokio::test]
async fn a_servers_verdicts_on_our_certificate_are_told_apart() {
    let ca = Ca::new();
    let expired = ca.leaf("client", |params| {
        params.not_after = date_time_ymd(2000, 1, 1)
    });
    for (certificate, expected) in [
        (None, Rejection::Missing),
        (Some(expired), Rejection::Expired),
        (Some(Ca::new().leaf("client", |_| {})), Rejection::UnknownCa),
    ] {
        let endpoint = server(ca.leaf("localhost", |_| {}), Some(&ca));
        let accept = async { endpoint.accept().await.unwrap().await.map(drop) };
        let (wire, accepted) =
            soon(async { tokio::join!(connect(&endpoint, ca.client(certificate)), accept) }).await;
        assert!(accepted.is_err());
        // The handshake is over here before the server has judged.
        let lost = match wire {
            Ok(wire) => {
                let link = wire.drive(Probe::default(), Instant::now());
                soon(link.over()).await;
                assert!(link.with(|probe, _| probe.ended));
                link.loss().map(|loss| cause(&loss))
            }
            Err(error) => error.cause(),
        };
        assert_eq!(lost, Some(Cause::Rejected(expected)));
    }
}

async fn driven(probe: Probe) -> (Link<Probe>, quinn::SendStream, quinn::RecvStream, Endpoint) {
    let ca = Ca::new();
    let endpoint = server(ca.leaf("localhost", |_| {}), None);
    let first = Bytes::from_static(b"hello");
    let dialled = async {
        let wire = connect(&endpoint, ca.client(None)).await.unwrap();
        let link = wire.drive(probe, Instant::now());
        link.with(|probe, _| probe.out.push(first));
        link
    };
    let accept = async {
        let connection = endpoint.accept().await.unwrap().await.unwrap();
        connection.accept_bi().await.unwrap()
    };
    let (link, (send, recv)) = soon(async { tokio::join!(dialled, accept) }).await;
    (link, send, recv, endpoint)
}

#[tokio::test]
async fn bytes_go_both_ways_and_the_end_is_told() {
    let (link, mut send, mut recv, _endpoint) = driven(Probe::default()).await;
    let mut hello = [0; 5];
    soon(recv.read_exact(&mut hello)).await.unwrap();
    assert_eq!(&hello, b"hello");
    send.write_all(b"world").await.unwrap();
    until(&link, |probe| probe.heard == b"world").await;
    send.finish().unwrap();
    soon(link.over()).await;
    assert!(link.with(|probe, _| probe.ended));
    assert_eq!(link.loss(), None);
}

#[tokio::test]
async fn the_last_words_arrive() {
    let (link, _send, mut recv, _endpoint) = driven(Probe::default()).await;
    link.with(|probe, _| {
        probe.out.push(Bytes::from_static(b", and goodbye"));
        probe.closed = true;
    });
    let (heard, ()) = soon(async { tokio::join!(recv.read_to_end(100), link.over()) }).await;
    assert_eq!(heard.unwrap(), b"hello, and goodbye");
    assert!(
        link.with(|probe, _| probe.ended),
        "the machine hears the end too"
    );
}

#[tokio::test]
async fn time_passes_and_bytes_arrive_while_writing_waits() {
    let (link, mut send, _recv, _endpoint) = driven(Probe::default()).await;
    // Far more than all windows together, which nobody reads.
    link.with(|probe, now| {
        probe.out.push(vec![0; 4 * 1024 * 1024].into());
        probe.due = Some(now.saturating_add(Duration::from_millis(50)));
    });
    until(&link, |probe| probe.out.is_empty()).await;
    send.write_all(b"still here").await.unwrap();
    until(&link, |probe| {
        probe.heard == b"still here" && probe.elapsed == 1
    })
    .await;
    // A nearer time that is set later is heeded.
    link.with(|probe, now| probe.due = Some(now.saturating_add(Duration::from_secs(3_600))));
    link.with(|probe, now| probe.due = Some(now));
    until(&link, |probe| probe.elapsed == 2).await;
    // Closing waits for about a second, not for the reader.
    let began = Instant::now();
    link.with(|probe, _| probe.closed = true);
    soon(link.over()).await;
    assert!(
        began.elapsed() < Duration::from_secs(3),
        "{:?}",
        began.elapsed()
    );
}

#[test]
fn without_a_runtime_there_is_an_error() {
    let target = Target::new("localhost", 1);
    let tls = Ca::new().client(None);
    let mut dialled = Box::pin(dial(&target, tls, Windows::default(), Instant::now()));
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    let std::task::Poll::Ready(result) = dialled.as_mut().poll(&mut cx) else {
        panic!("it is told at once");
    };
    assert!(matches!(result, Err(DialError::NoRuntime)));
}
