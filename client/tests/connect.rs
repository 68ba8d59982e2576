//! Connecting, and every way in which it fails: what the error says and of which kind it is.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::{error::Error as _, net::UdpSocket, time::Duration, time::Instant};

use common::{
    Ca, Server,
    runtime::{apply, runtime_test},
    soon,
};
use selium_remote_client::{
    CertificateRejection, ClientConfigBuilder, ClientError, ConnectCause, ErrorKind,
};
use selium_remote_client_protocol::{
    ErrorCode, Limits, RemoteError, Time, legacy, server::ServerConnection, server::ServerEvent,
};

fn cause(error: &ClientError) -> ConnectCause {
    match error {
        ClientError::Connect(failure) => failure.cause,
        other => panic!("{other:?} is no failure to connect"),
    }
}

/// Errors name things by words; sources are not repeated.
fn says(error: &ClientError, words: &[&str]) {
    let text = error.to_string();
    for word in words {
        assert!(text.contains(word), "`{word}` is not in: {text}");
    }
    if let Some(source) = error.source() {
        assert!(
            !text.contains(&source.to_string()),
            "{text} repeats {source}"
        );
    }
}

#[apply(runtime_test!)]
async fn a_client_connects_and_knows_its_server() {
    let server = Server::new();
    let (client, _peer) = server.connect().await;
    let told = client.server();
    assert_eq!(told.software, "selium-remote-client-server");
    assert_eq!(told.role, "admin");
    assert_eq!(told.incarnation, [7; 16]);
    assert_eq!(told.address.port(), server.port());
    assert!(told.has_clock && !told.authenticated && !client.is_closed());
    assert!(soon(client.ping()).await.unwrap() < Duration::from_secs(5));
}

#[apply(runtime_test!)]
async fn an_address_asks_for_localhost_or_what_it_is_told() {
    let server = Server::new();
    let (client, _peer) = server
        .connect_with(server.config().domain("127.0.0.1"))
        .await;
    drop(client);

    let ca = Ca::new("ca");
    let server = Server::with(&ca, "api.example", None, &[], ca.client_directory(&ca));
    let named = server
        .config()
        .domain("127.0.0.1")
        .server_name("api.example");
    server.connect_with(named).await;
}

#[apply(runtime_test!)]
async fn clients_are_authenticated() {
    let (ca, clients) = (Ca::new("servers"), Ca::new("clients"));
    let directory = clients.client_directory(&ca);
    let server = Server::with(&ca, "localhost", Some(&clients), &[], directory);
    server.connect().await;
}

#[apply(runtime_test!)]
async fn a_missing_directory_is_named() {
    let missing = tempfile::tempdir().unwrap().path().join("certs");
    let config = ClientConfigBuilder::default().certificate_directory(&missing);
    let error = config.connect().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Certificate);
    assert!(error.is_auth() && !error.is_retryable());
    says(
        &error,
        &[
            missing.to_str().unwrap(),
            "selium cert init",
            "selium-runtime generate-certs",
        ],
    );
}

#[apply(runtime_test!)]
async fn a_server_of_another_ca_is_not_trusted() {
    // Another name, and the same name with another key (certificates made anew).
    for other in ["other", "ca"] {
        let (ca, other) = (Ca::new("ca"), Ca::new(other));
        let server = Server::with(&ca, "localhost", None, &[], other.client_directory(&other));
        let error = server
            .refusal(server.config(), async {
                let _ = server.endpoint.accept().await.unwrap().await;
            })
            .await;
        assert_eq!(cause(&error), ConnectCause::UnknownIssuer);
        assert!(error.is_auth() && !error.is_retryable());
        let ca_path = server.directory.path().join("ca.crt");
        says(&error, &["localhost", ca_path.to_str().unwrap()]);
    }
}

#[apply(runtime_test!)]
async fn a_client_of_another_ca_is_not_accepted() {
    for other in ["other", "clients"] {
        let (ca, clients, other) = (Ca::new("servers"), Ca::new("clients"), Ca::new(other));
        let directory = other.client_directory(&ca);
        let server = Server::with(&ca, "localhost", Some(&clients), &[], directory);
        let error = server
            .refusal(server.config(), async {
                let _ = server.endpoint.accept().await.unwrap().await;
            })
            .await;
        let rejected = ConnectCause::Rejected(CertificateRejection::UnknownCa);
        assert_eq!(cause(&error), rejected);
        assert_eq!(error.kind(), ErrorKind::Authentication);
        let certificate = server.directory.path().join("client.crt");
        says(
            &error,
            &[certificate.to_str().unwrap(), "is not trusted on this port"],
        );
        assert!(error.source().is_some());
    }
}

#[apply(runtime_test!)]
async fn a_name_that_is_not_served_is_named() {
    let ca = Ca::new("ca");
    let server = Server::with(&ca, "api.example", None, &[], ca.client_directory(&ca));
    let error = server
        .refusal(server.config(), async {
            let _ = server.endpoint.accept().await.unwrap().await;
        })
        .await;
    assert_eq!(cause(&error), ConnectCause::UnknownName);
    assert_eq!(error.kind(), ErrorKind::Refused);
    says(&error, &["`localhost`", "routes connections by that name"]);
}

#[apply(runtime_test!)]
async fn a_name_that_nobody_bound_is_named() {
    let server = Server::new();
    let error = server
        .refusal(server.config(), async {
            let (connection, _send, _recv) = server.accept().await;
            connection.close(1u32.into(), b"unrouted domain");
            connection.closed().await;
        })
        .await;
    assert_eq!(cause(&error), ConnectCause::UnknownName);
}

#[apply(runtime_test!)]
async fn a_service_with_an_application_protocol_is_none_of_ours() {
    let ca = Ca::new("ca");
    let server = Server::with(&ca, "localhost", None, &[b"h3"], ca.client_directory(&ca));
    let error = server
        .refusal(server.config(), async {
            let _ = server.endpoint.accept().await.unwrap().await;
        })
        .await;
    assert_eq!(cause(&error), ConnectCause::ApplicationProtocol);
    assert_eq!(error.kind(), ErrorKind::Incompatible);
}

/// What a client hears from a server that answers its hello with these bytes.
async fn answered_with(answer: &[u8]) -> ClientError {
    let server = Server::new();
    let served = async {
        let (connection, mut send, mut recv) = server.accept().await;
        recv.read_chunk(1_024, true).await.unwrap();
        send.write_all(answer).await.unwrap();
        connection.closed().await;
    };
    server.refusal(server.config(), served).await
}

#[apply(runtime_test!)]
async fn a_server_of_version_0_3_3_is_recognised() {
    let error = answered_with(&legacy::error_response("unknown request")).await;
    assert!(matches!(error, ClientError::Legacy { .. }), "{error:?}");
    says(&error, &["version 0.3.3", "update the module", "127.0.0.1"]);
}

#[apply(runtime_test!)]
async fn another_protocol_is_recognised() {
    let error = answered_with(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
    assert!(matches!(error, ClientError::NotSelium { .. }), "{error:?}");
    assert_eq!(error.kind(), ErrorKind::Incompatible);
}

#[apply(runtime_test!)]
async fn a_refusal_is_passed_on() {
    let mut core = ServerConnection::new(Limits::default());
    let server = Server::new();
    let served = async {
        let (connection, mut send, mut recv) = server.accept().await;
        let hello = recv.read_chunk(1_024, true).await.unwrap().unwrap();
        core.handle_input(Time::ZERO, hello.bytes);
        assert!(matches!(core.poll_event(), Some(ServerEvent::Hello(_))));
        core.refuse(RemoteError::new(ErrorCode::PermissionDenied, "not you"));
        send.write_all(&core.poll_transmit(1_024).unwrap().to_vec())
            .await
            .unwrap();
        connection.closed().await;
    };
    let error = server.refusal(server.config(), served).await;
    assert_eq!(error.code(), Some(ErrorCode::PermissionDenied));
    assert!(error.is_auth());
    says(&error, &["refuses this client: permission denied: not you"]);
}

#[apply(runtime_test!)]
async fn a_connection_closed_before_the_hello_is_told() {
    let server = Server::new();
    let served = async {
        let (connection, _send, _recv) = server.accept().await;
        connection.close(0u32.into(), b"");
        connection.closed().await;
    };
    let error = server.refusal(server.config(), served).await;
    assert_eq!(cause(&error), ConnectCause::Closed);
    says(&error, &["before it answered the hello"]);
}

#[apply(runtime_test!)]
async fn a_server_that_never_answers_is_given_up_at_the_deadline() {
    let server = Server::new();
    let config = server.config().connect_timeout(Duration::from_millis(500));
    let started = Instant::now();
    let served = async {
        let (connection, _send, _recv) = server.accept().await;
        connection.closed().await;
    };
    let error = server.refusal(config, served).await;
    assert!(matches!(error, ClientError::Timeout { .. }), "{error:?}");
    assert!(error.is_timeout() && error.is_retryable());
    assert!(started.elapsed() >= Duration::from_millis(500));
    says(&error, &["did not answer the hello", "within 500 ms"]);
}

#[apply(runtime_test!)]
async fn no_server_at_all_is_told_at_the_deadline() {
    // A socket that is bound and never read: nobody else gets its port, and nobody answers.
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let ca = Ca::new("ca");
    let directory = ca.client_directory(&ca);
    let config = ClientConfigBuilder::default()
        .port(port)
        .certificate_directory(directory.path())
        .connect_timeout(Duration::from_millis(500));
    let error = soon(config.connect()).await.unwrap_err();
    assert_eq!(cause(&error), ConnectCause::NoAnswer);
    assert!(error.is_timeout() && error.is_retryable());
    let at = format!("no answer from localhost:{port} (127.0.0.1");
    let udp = format!("is UDP port {port} reachable?");
    says(
        &error,
        &[&at, "within 500 ms", "remote-client module", &udp],
    );
}

#[apply(runtime_test!)]
async fn domains_that_are_none_are_told() {
    let ca = Ca::new("ca");
    let directory = ca.client_directory(&ca);
    let config = ClientConfigBuilder::default().certificate_directory(directory.path());
    let error = soon(config.clone().domain("no.such.domain.invalid").connect())
        .await
        .unwrap_err();
    assert!(
        matches!(
            error,
            ClientError::Resolve { .. } | ClientError::Timeout { .. }
        ),
        "{error:?}"
    );
    let error = soon(config.domain("127.0.0.1").server_name("no name").connect())
        .await
        .unwrap_err();
    assert!(matches!(error, ClientError::Tls { .. }), "{error:?}");
    says(&error, &["`no name`"]);
}

#[apply(runtime_test!)]
async fn a_dropped_attempt_leaves_nothing_behind() {
    let server = Server::new();
    let mut attempt = Box::pin(server.config().connect());
    let (connection, _send, mut recv) = soon(async {
        tokio::select! {
            _ = &mut attempt => panic!("nobody answered the hello"),
            accepted = server.accept() => accepted,
        }
    })
    .await;
    soon(async {
        tokio::select! {
            _ = &mut attempt => panic!("nobody answered the hello"),
            hello = recv.read_chunk(1_024, true) => assert!(hello.unwrap().is_some()),
        }
    })
    .await;
    drop(attempt);
    soon(connection.closed()).await;
}
