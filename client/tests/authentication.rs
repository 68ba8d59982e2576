//! Certificates that one side does not accept: what the client says, in which words, and that it is final.
//!
//! The servers judge as the stock runtime does: rustls with `WebPkiClientVerifier`, TLS 1.3. The client's `connect` comes
//! back from QUIC before the server has looked at its certificate, so that a refusal ends the connection a moment later.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::{
    error::Error as _,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use common::{
    Ca, Server,
    runtime::{apply, runtime_test, spawn, threads_test},
    soon,
};
use quinn::ConnectionError;
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, date_time_ymd};
use rustls::{
    ServerConfig, SignatureScheme,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, UnixTime, pem::PemObject as _},
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
    time_provider::TimeProvider,
};
use selium_remote_client::{
    CertificateRejection as Rejection, ClientError, ConnectCause as Cause, ErrorKind,
};
use tempfile::TempDir;

const DAY: u64 = 86_400;

fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs()
}

/// A change that makes a certificate valid between two moments, in seconds since the Unix epoch.
fn valid(begin: u64, end: u64) -> impl Fn(&mut CertificateParams) {
    let epoch = date_time_ymd(1970, 1, 1);
    move |params| {
        params.not_before = epoch + Duration::from_secs(begin);
        params.not_after = epoch + Duration::from_secs(end);
    }
}

/// A change that makes a certificate for nothing but this.
fn only_for(purpose: ExtendedKeyUsagePurpose) -> impl Fn(&mut CertificateParams) {
    move |params| params.extended_key_usages = vec![purpose.clone()]
}

const CLIENTS: ExtendedKeyUsagePurpose = ExtendedKeyUsagePurpose::ClientAuth;
const SERVERS: ExtendedKeyUsagePurpose = ExtendedKeyUsagePurpose::ServerAuth;

/// A server's certificate and what it demands of clients.
struct Plan {
    servers: Ca,
    clients: Ca,
}

impl Plan {
    fn new() -> Self {
        Self {
            servers: Ca::new("servers"),
            clients: Ca::new("Selium viewer CA 1a2b"),
        }
    }

    /// A directory with a client's certificate of this CA.
    fn directory(&self, of: &Ca, change: impl FnOnce(&mut CertificateParams)) -> TempDir {
        let (certificate, key) = of.issue("client", change);
        self.servers
            .directory(certificate.pem(), key.serialize_pem())
    }

    /// What rustls asks of clients that are of the CA.
    fn verifier(&self, provider: CryptoProvider) -> Arc<dyn ClientCertVerifier> {
        WebPkiClientVerifier::builder_with_provider(self.clients.roots(), Arc::new(provider))
            .build()
            .unwrap()
    }

    /// A server that demands certificates of clients, with this directory for its client.
    fn demanding(&self, directory: TempDir) -> Server {
        let verifier = self.verifier(ring::default_provider());
        self.server("localhost", verifier, only_for(SERVERS), directory)
    }

    fn server(
        &self,
        name: &str,
        verifier: Arc<dyn ClientCertVerifier>,
        change: impl FnOnce(&mut CertificateParams),
        directory: TempDir,
    ) -> Server {
        Server::of(self.tls(name, verifier, change), directory)
    }

    fn tls(
        &self,
        name: &str,
        verifier: Arc<dyn ClientCertVerifier>,
        change: impl FnOnce(&mut CertificateParams),
    ) -> ServerConfig {
        let (certificate, key) = self.servers.issue(name, change);
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap()
    }
}

/// What the server's client hears.
async fn refused(server: &Server) -> ClientError {
    server
        .refusal(server.config(), async {
            let _ = server.endpoint.accept().await.unwrap().await;
        })
        .await
}

/// The TLS alert that ended the connection: the server's, or ours.
fn alert(error: &ClientError) -> (&'static str, u64) {
    let source = error.source();
    let source = source.and_then(|source| source.downcast_ref::<ConnectionError>());
    let (by, code) = match source {
        Some(ConnectionError::ConnectionClosed(close)) => ("server", close.error_code),
        Some(ConnectionError::TransportError(error)) => ("client", error.code),
        other => panic!("{other:?} is no alert"),
    };
    (by, u64::from(code) - 0x100)
}

/// What is to be said of every certificate that is refused: why, in which words, and never again.
fn is_final(error: &ClientError, expected: Cause, words: &[&str]) {
    let ClientError::Connect(failure) = error else {
        panic!("{error:?} is no failure to connect");
    };
    let text = error.to_string();
    assert_eq!(failure.cause, expected, "{text}");
    assert_eq!(error.kind(), ErrorKind::Authentication);
    assert!(error.is_auth() && !error.is_retryable() && !error.is_timeout());
    for word in words {
        assert!(text.contains(word), "`{word}` is not in: {text}");
    }
    assert!(!text.contains("closed"), "{text}");
}

/// A server that demands certificates refuses the one in this directory.
async fn refuses(
    plan: &Plan,
    directory: TempDir,
    (code, rejection): (u64, Rejection),
    words: &[&str],
) {
    let server = plan.demanding(directory);
    let error = refused(&server).await;
    assert_eq!(alert(&error), ("server", code));
    let place = format!("localhost:{} (127.0.0.1)", server.port());
    let file = server.directory.path().join("client.crt");
    let words = [&[place.as_str(), file.to_str().unwrap()], words].concat();
    is_final(&error, Cause::Rejected(rejection), &words);
}

#[apply(runtime_test!)]
async fn the_right_certificate_is_accepted() {
    let plan = Plan::new();
    for change in [
        &only_for(CLIENTS) as &dyn Fn(&mut CertificateParams),
        &valid(now() - 1, now() + DAY),
        &|_: &mut CertificateParams| (),
    ] {
        let server = plan.demanding(plan.directory(&plan.clients, change));
        server.connect().await;
    }
}

#[apply(runtime_test!)]
async fn no_certificate_is_named() {
    // This client always has one, and shows none when the server takes no key of its kind.
    let plan = Plan::new();
    let mut provider = ring::default_provider();
    let mapping = provider.signature_verification_algorithms.mapping;
    let ed25519 = mapping
        .iter()
        .position(|(scheme, _)| *scheme == SignatureScheme::ED25519)
        .unwrap();
    provider.signature_verification_algorithms.mapping = &mapping[ed25519..=ed25519];
    let server = plan.server(
        "localhost",
        plan.verifier(provider),
        |_| (),
        plan.directory(&plan.clients, |_| ()),
    );
    let error = refused(&server).await;
    assert_eq!(alert(&error), ("server", 116));
    let file = server.directory.path().join("client.crt");
    is_final(
        &error,
        Cause::Rejected(Rejection::Missing),
        &[
            "asks for a client certificate and got none",
            file.to_str().unwrap(),
            "selium cert issue",
        ],
    );
}

#[apply(runtime_test!)]
async fn another_ca_is_named() {
    let plan = Plan::new();
    let advice = ["check the port", "`selium server install`"];
    let other = Ca::new("Selium operator CA \u{202e}3c4d");
    let of_other = plan.directory(&other, only_for(CLIENTS));
    let named = "its CA, \"Selium operator CA \\u{202e}3c4d\", is not trusted on this port";
    let words = [&[named], advice.as_slice()].concat();
    refuses(&plan, of_other, (48, Rejection::UnknownCa), &words).await;

    // The same name with another key: a CA that was made anew.
    let again = Ca::new("Selium viewer CA 1a2b");
    let of_again = plan.directory(&again, only_for(CLIENTS));
    let named = "its CA, \"Selium viewer CA 1a2b\", is not trusted on this port";
    let words = [&[named], advice.as_slice()].concat();
    refuses(&plan, of_again, (51, Rejection::UnknownCa), &words).await;
}

#[apply(runtime_test!)]
async fn an_expired_certificate_is_named_with_its_end() {
    let plan = Plan::new();
    let now = now();
    // 2026-01-01.
    let end = 1_767_225_600;
    let old = plan.directory(&plan.clients, valid(end - DAY, end));
    let words = [
        "it expired on 2026-01-01T00:00:00Z (",
        " days ago)",
        "`selium cert renew NAME` where the CAs are",
        "`selium cert import`",
    ];
    refuses(&plan, old, (45, Rejection::Expired), &words).await;

    let since = plan.directory(&plan.clients, valid(now - 30 * DAY, now - 2 * DAY - 60));
    let words = ["(2 days ago)"];
    refuses(&plan, since, (45, Rejection::Expired), &words).await;

    // It is what the server judges first.
    let other = Ca::new("other");
    let worse = plan.directory(&other, |params| {
        valid(now - 30 * DAY, now - 3 * 3_600 - 60)(params);
        only_for(SERVERS)(params);
    });
    let words = ["(3 hours ago)"];
    refuses(&plan, worse, (45, Rejection::Expired), &words).await;
}

#[apply(runtime_test!)]
async fn a_certificate_of_the_future_is_named_with_its_begin() {
    let plan = Plan::new();
    let begin = now() + 5 * 3_600 + 60;
    let early = plan.directory(&plan.clients, valid(begin, begin + DAY));
    let words = [
        "it is not valid before 20",
        "Z (in 5 hours)",
        "check the clock of this machine",
    ];
    refuses(&plan, early, (45, Rejection::Expired), &words).await;
}

#[derive(Debug)]
struct Fixed(u64);

impl TimeProvider for Fixed {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(self.0)))
    }
}

#[apply(runtime_test!)]
async fn a_server_with_another_clock_is_named() {
    let plan = Plan::new();
    for clock in [now() + 10 * DAY, now() - 10 * DAY] {
        let directory = plan.directory(&plan.clients, valid(now() - DAY, now() + DAY));
        let verifier = plan.verifier(ring::default_provider());
        let mut tls = plan.tls("localhost", verifier, |_| ());
        tls.time_provider = Arc::new(Fixed(clock));
        let error = refused(&Server::of(tls, directory)).await;
        assert_eq!(alert(&error), ("server", 45));
        is_final(
            &error,
            Cause::Rejected(Rejection::Expired),
            &[
                "by the clock of this machine it is valid (from 20",
                "check the clocks of both machines",
            ],
        );
    }
}

#[apply(runtime_test!)]
async fn a_certificate_for_another_use_is_named() {
    let plan = Plan::new();
    let advice = "`selium cert issue NAME` where the CAs are makes a client's";
    let other = Ca::new("other");
    // The use is judged before the issuer.
    for ca in [&plan.clients, &other, &plan.servers] {
        let server = plan.directory(ca, only_for(SERVERS));
        let words = ["it is a server's certificate", advice];
        refuses(&plan, server, (43, Rejection::WrongUse), &words).await;
    }
    let code = plan.directory(
        &plan.clients,
        only_for(ExtendedKeyUsagePurpose::CodeSigning),
    );
    let words = ["it is not a client's certificate", advice];
    refuses(&plan, code, (43, Rejection::WrongUse), &words).await;

    let (certificate, key) = plan.clients.pem();
    let authority = plan.servers.directory(certificate, key);
    let words = ["it is a CA's certificate", advice];
    refuses(&plan, authority, (46, Rejection::Unusable), &words).await;
}

#[apply(runtime_test!)]
async fn a_malformed_chain_is_named() {
    // The first certificate is read here, before anything is sent. What follows it is not.
    let plan = Plan::new();
    let (certificate, key) = Ca::new("other").issue("client", only_for(CLIENTS));
    let garbage = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let chain = format!("{}{garbage}", certificate.pem());
    let directory = plan.servers.directory(chain, key.serialize_pem());
    let words = ["it cannot be used (`selium cert status` may tell why)"];
    refuses(&plan, directory, (42, Rejection::Unusable), &words).await;
}

/// The client always hears why, however its reads, its writes and the server's alert come to pass.
#[apply(threads_test!)]
async fn a_refusal_never_looks_like_a_lost_connection() {
    let plan = Plan::new();
    let server = plan.demanding(plan.directory(&Ca::new("other"), only_for(CLIENTS)));
    let rounds = std::env::var("SELIUM_TEST_ROUNDS").map_or(8, |rounds| rounds.parse().unwrap());
    for round in 0..rounds {
        let began = Instant::now();
        // Side by side, so that tasks wait for their turn.
        let all = (0..8).map(|_| server.config().connect());
        let accepting = async {
            while let Some(incoming) = server.endpoint.accept().await {
                spawn(incoming.into_future());
            }
        };
        let results = soon(async {
            tokio::select! {
                results = futures_util::future::join_all(all) => results,
                () = accepting => unreachable!(),
            }
        })
        .await;
        for result in results {
            let error = result.unwrap_err();
            let ClientError::Connect(failure) = &error else {
                panic!("round {round}: {error:?}");
            };
            // Who stands still for a second, as threads do on a busy machine, finds that the server has forgotten it.
            if failure.cause == Cause::Reset && began.elapsed() > Duration::from_secs(1) {
                continue;
            }
            assert_eq!(
                failure.cause,
                Cause::Rejected(Rejection::UnknownCa),
                "round {round}: {error:?}"
            );
        }
    }
}

/// The client refuses the server's certificate.
async fn distrusts(server: Server, code: u64, cause: Cause, words: &[&str]) {
    let error = refused(&server).await;
    assert_eq!(alert(&error), ("client", code));
    let place = format!("localhost:{} (127.0.0.1)", server.port());
    is_final(&error, cause, &[&[place.as_str()], words].concat());
}

#[apply(runtime_test!)]
async fn servers_are_judged_too() {
    let plan = Plan::new();
    let right = || plan.directory(&plan.clients, only_for(CLIENTS));
    let verifier = || plan.verifier(ring::default_provider());
    let now = now();

    let server = plan.server("other.example", verifier(), |_| (), right());
    let words = [
        "not valid for the name `localhost`",
        "selium cert renew server --server-name",
    ];
    distrusts(server, 42, Cause::WrongName, &words).await;

    for (name, code) in [("other", 48), ("servers", 51)] {
        let (certificate, key) = plan.clients.issue("client", only_for(CLIENTS));
        let directory = Ca::new(name).directory(certificate.pem(), key.serialize_pem());
        let file = directory.path().join("ca.crt");
        let server = plan.server("localhost", verifier(), only_for(SERVERS), directory);
        let words = [file.to_str().unwrap(), "`selium server install`"];
        distrusts(server, code, Cause::UnknownIssuer, &words).await;
    }

    let expired = valid(now - 30 * DAY, now - DAY);
    let server = plan.server("localhost", verifier(), expired, right());
    let words = ["has expired", "selium cert renew", "selium server install"];
    distrusts(server, 45, Cause::Expired, &words).await;

    let early = valid(now + DAY, now + 2 * DAY);
    let server = plan.server("localhost", verifier(), early, right());
    let words = ["is not valid yet: check the clocks"];
    distrusts(server, 45, Cause::NotYetValid, &words).await;

    let server = plan.server("localhost", verifier(), only_for(CLIENTS), right());
    let words = ["is not one for servers", "selium cert renew server"];
    distrusts(server, 43, Cause::WrongUse, &words).await;
}

/// A server that asks for nothing takes any certificate, also one that it would refuse if it looked.
#[apply(runtime_test!)]
async fn a_server_that_does_not_ask_takes_expired_ones() {
    let plan = Plan::new();
    let (certificate, key) = plan.clients.issue("client", valid(DAY, 2 * DAY));
    let directory = plan
        .servers
        .directory(certificate.pem(), key.serialize_pem());
    let server = Server::with(&plan.servers, "localhost", None, &[], directory);
    server.connect().await;
}

/// What is warned of.
static WARNINGS: Mutex<Vec<String>> = Mutex::new(Vec::new());

struct Warnings;

impl tracing::Subscriber for Warnings {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() == tracing::Level::WARN
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        struct Message;
        impl tracing::field::Visit for Message {
            fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
                if field.name() == "message" {
                    let mut warnings = WARNINGS.lock().unwrap_or_else(PoisonError::into_inner);
                    warnings.push(format!("{value:?}"));
                }
            }
        }
        event.record(&mut Message);
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

#[cfg(unix)]
#[apply(runtime_test!)]
async fn a_key_that_others_may_read_is_warned_of() {
    use std::os::unix::fs::PermissionsExt as _;
    tracing::subscriber::set_global_default(Warnings).unwrap();
    let plan = Plan::new();
    let server = plan.demanding(plan.directory(&plan.clients, only_for(CLIENTS)));
    let key = server.directory.path().join("client.key");
    let warned = |mode: u32| {
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(mode)).unwrap();
        let (server, key) = (&server, key.to_str().unwrap().to_owned());
        async move {
            server.connect().await;
            let all = WARNINGS.lock().unwrap_or_else(PoisonError::into_inner);
            let about = all.iter().filter(|warning| warning.contains(&key));
            about.cloned().collect::<Vec<_>>()
        }
    };
    assert_eq!(warned(0o600).await, Vec::<String>::new());
    let warnings = warned(0o644).await;
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(
        warnings[0].contains("(mode 644); `chmod 600"),
        "{warnings:?}"
    );
}

/// A certificate directory that cannot be used is no reason to try again either.
#[apply(runtime_test!)]
async fn directories_that_cannot_be_used_are_final() {
    let plan = Plan::new();
    for (file, contents) in [
        ("client.key", None),
        ("client.crt", None),
        ("client.crt", Some("-----BEGIN CERTIFICATE-----\nAAAA\n")),
        (
            "client.crt",
            Some("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
        ),
    ] {
        let directory = plan.directory(&plan.clients, |_| ());
        let path = directory.path().join(file);
        match contents {
            None => std::fs::remove_file(&path).unwrap(),
            Some(text) => std::fs::write(&path, text).unwrap(),
        }
        let server = plan.demanding(directory);
        let error = soon(server.config().connect()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Certificate);
        assert!(error.is_auth() && !error.is_retryable());
        assert!(
            error.to_string().contains(path.to_str().unwrap()),
            "{error}"
        );
    }
    // What the tests above write is what a client reads.
    let directory = plan.directory(&plan.clients, |_| ());
    let certificate = directory.path().join("client.crt");
    assert!(CertificateDer::from_pem_file(certificate).is_ok());
}
