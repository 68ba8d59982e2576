//! The transport against a quinn server on 127.0.0.1, with a machine that has no protocol; server and client on the same
//! runtime.
//!
//! The adapters' tests include this file. They have `runtime()`, the runtime under test, and `block_on(future)`, the way
//! its applications enter it.

use std::{
    net::UdpSocket,
    pin::pin,
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::future::{Either, join, select};
use macro_rules_attribute::apply;
use quinn::{Endpoint, EndpointConfig, crypto::rustls::QuicServerConfig};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    crypto::ring,
    pki_types::PrivateKeyDer,
    server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier},
    sign::CertifiedKey,
};
use selium_remote_client_protocol::{Time, Transmit};
use selium_remote_transport_quinn::{
    Cause, DialError, Link, Machine, Phase, Rejection, Target, Windows, Wire, cause, dial,
};

use crate::{block_on, runtime};

/// A test that runs on the runtime under test.
macro_rules! runtime_test {
    ($(#[$meta:meta])* async fn $name:ident() $body:block) => {
        $(#[$meta])*
        #[test]
        fn $name() {
            block_on(async $body);
        }
    };
}

pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(10);
    runtime()
        .timeout_at(deadline, future)
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
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let runtime = runtime().quinn();
    Endpoint::new(EndpointConfig::default(), Some(config), socket, runtime).unwrap()
}

async fn connect(endpoint: &Endpoint, tls: ClientConfig) -> Result<Wire, DialError> {
    let target = Target::new("localhost", endpoint.local_addr().unwrap().port());
    let deadline = Instant::now() + Duration::from_secs(10);
    dial(&runtime(), &target, tls, Windows::default(), deadline).await
}

/// What lies behind the failure of a client to connect.
async fn failure(endpoint: &Endpoint, tls: ClientConfig) -> Option<Cause> {
    let accept = async {
        let _ = endpoint.accept().await.unwrap().await;
        std::future::pending::<()>().await;
    };
    match soon(select(pin!(connect(endpoint, tls)), pin!(accept))).await {
        Either::Left((result, _)) => result.expect_err("it fails").cause(),
        Either::Right(_) => unreachable!(),
    }
}

/// Keeps what it hears and sends what it is told to.
#[derive(Default)]
pub(crate) struct Probe {
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

async fn yield_now() {
    let mut yielded = false;
    std::future::poll_fn(|cx| {
        if std::mem::replace(&mut yielded, true) {
            return std::task::Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        std::task::Poll::Pending
    })
    .await;
}

/// Waits until the probe is as wanted, by looking whenever anything has happened.
async fn until(link: &Link<Probe>, wanted: impl Fn(&Probe) -> bool) {
    soon(async {
        while !link.with(|probe, _| wanted(probe)) {
            yield_now().await;
        }
    })
    .await;
}

#[apply(runtime_test!)]
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

#[apply(runtime_test!)]
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
        let (wire, accepted) = soon(join(connect(&endpoint, ca.client(certificate)), accept)).await;
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

pub(crate) async fn driven(
    probe: Probe,
) -> (Link<Probe>, quinn::SendStream, quinn::RecvStream, Endpoint) {
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
    let (link, (send, recv)) = soon(join(dialled, accept)).await;
    (link, send, recv, endpoint)
}

#[apply(runtime_test!)]
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

#[apply(runtime_test!)]
async fn the_last_words_arrive() {
    let (link, _send, mut recv, _endpoint) = driven(Probe::default()).await;
    link.with(|probe, _| {
        probe.out.push(Bytes::from_static(b", and goodbye"));
        probe.closed = true;
    });
    let (heard, ()) = soon(join(recv.read_to_end(100), link.over())).await;
    assert_eq!(heard.unwrap(), b"hello, and goodbye");
    assert!(
        link.with(|probe, _| probe.ended),
        "the machine hears the end too"
    );
}

#[apply(runtime_test!)]
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

#[apply(runtime_test!)]
async fn much_goes_both_ways_at_once() {
    const CHUNK: usize = 64 * 1024;
    const CHUNKS: usize = 128;
    let probe = Probe {
        out: vec![Bytes::from(vec![1; CHUNK]); CHUNKS],
        ..Probe::default()
    };
    let (link, mut send, mut recv, _endpoint) = driven(probe).await;
    let chunk = vec![2; CHUNK];
    let sent = async {
        for _ in 0..CHUNKS {
            send.write_all(&chunk).await.unwrap();
        }
        send.finish().unwrap();
    };
    let read = async {
        // Five more are the hello.
        let mut left = CHUNKS * CHUNK + 5;
        while left > 0 {
            left -= recv
                .read_chunk(left, true)
                .await
                .unwrap()
                .unwrap()
                .bytes
                .len();
        }
    };
    soon(join(sent, read)).await;
    soon(link.over()).await;
    assert_eq!(link.with(|probe, _| probe.heard.len()), CHUNKS * CHUNK);
}

#[apply(runtime_test!)]
async fn all_who_wait_for_the_end_hear_of_it() {
    let (link, mut send, _recv, _endpoint) = driven(Probe::default()).await;
    let other = link.clone();
    let ended = join(other.over(), link.over());
    send.finish().unwrap();
    soon(ended).await;
    soon(link.over()).await;
}

#[apply(runtime_test!)]
async fn a_server_that_does_not_answer_is_given_up_at_the_deadline() {
    const PATIENT: Duration = Duration::from_secs(1);
    // A socket that is bound and never read: nobody else gets its port, and nobody answers.
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    for host in ["127.0.0.1", "localhost"] {
        let began = Instant::now();
        // Looking up a name takes a part of it, on a busy machine.
        let deadline = began + PATIENT;
        let target = Target::new(host, port);
        let tls = Ca::new().client(None);
        let runtime = runtime();
        let dialled = dial(&runtime, &target, tls, Windows::default(), deadline);
        let error = soon(dialled).await.expect_err("nobody answers");
        assert_eq!(error.cause(), Some(Cause::NoAnswer), "{error:?}");
        let DialError::Timeout { phase, addresses } = error else {
            panic!("a timeout");
        };
        assert_eq!(phase, Phase::Handshake);
        assert!(addresses.contains(&[127, 0, 0, 1].into()), "{addresses:?}");
        assert!(began.elapsed() >= PATIENT);
    }
}

#[apply(runtime_test!)]
async fn blocking_work_runs_beside_and_its_deadline_is_kept() {
    let far = Instant::now() + Duration::from_secs(10);
    let elsewhere = || std::thread::current().id();
    let thread = soon(runtime().unblock(far, elsewhere)).await;
    assert!(thread.is_some_and(|thread| thread != std::thread::current().id()));

    let (release, held) = mpsc::channel::<()>();
    let (tell, told) = mpsc::channel();
    let work = move || {
        let released = held.recv().is_ok();
        let _ = tell.send(released);
    };
    let near = Instant::now() + Duration::from_millis(50);
    assert_eq!(soon(runtime().unblock(near, work)).await, None);
    // It goes on to its end.
    release.send(()).unwrap();
    assert_eq!(told.recv_timeout(Duration::from_secs(10)), Ok(true));

    let panicking = || -> u8 { panic!("on purpose") };
    assert_eq!(soon(runtime().unblock(far, panicking)).await, None);
}

#[apply(runtime_test!)]
async fn what_is_there_at_once_is_in_time() {
    let past = Instant::now();
    assert_eq!(runtime().timeout_at(past, async { 1 }).await, Some(1));
    let never = std::future::pending::<()>();
    assert_eq!(soon(runtime().timeout_at(past, never)).await, None);
}
