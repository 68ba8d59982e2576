//! What is said when there is no server, another server, or no way in; and the clients of version 0.3.3.

#![allow(
    clippy::print_stderr,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

use std::net::{ToSocketAddrs as _, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use quinn::{RecvStream, SendStream};
use selium_remote_client_protocol::legacy;
use selium_remote_e2e::{Impostor, Run, Shared, Wire, block_on, line, run, setup, text};

static SERVER: Shared = Shared::new();

/// A command with nothing but these arguments.
fn selium(cli: &Path, args: &[&str]) -> Run {
    let mut command = Command::new(cli);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("SELIUM_") {
            command.env_remove(name);
        }
    }
    command.env("SELIUM_NO_WARN", "1").args(args);
    run(command)
}

#[test]
fn missing_certificates_are_named_with_the_command_that_makes_them() {
    let Some(setup) = setup() else { return };
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().to_str().unwrap();
    let remedy = |directory: &str| {
        format!(
            "expected are ca.crt, client.crt and client.key (PEM) in {directory}; `selium cert init` or `issue` makes \
             them, `selium cert import` takes in those that you were sent, and `selium-runtime generate-certs \
             --output-dir {directory}` makes them for a server without client authentication"
        )
    };
    let missing = format!("{folder}/none");
    let says = |directory: &str, message: String| {
        selium(&setup.cli, &["ps", "--cert-dir", directory])
            .failed(1, &format!("error: cannot connect: {message}\n"));
    };
    says(
        &missing,
        format!(
            "there is no certificate directory {missing}: {}",
            remedy(&missing)
        ),
    );
    says(
        folder,
        format!("the file {folder}/ca.crt is missing: {}", remedy(folder)),
    );

    // The command that is named helps.
    let made = format!("{folder}/made");
    let mut generate = Command::new(&setup.runtime);
    generate
        .args(["generate-certs", "--output-dir", &made])
        .env_remove("SELIUM_WORK_DIR");
    run(generate).succeeded();
    std::fs::remove_file(format!("{made}/client.key")).unwrap();
    says(
        &made,
        format!("the file {made}/client.key is missing: {}", remedy(&made)),
    );
    std::fs::write(format!("{made}/client.key"), "no key").unwrap();
    says(
        &made,
        format!(
            "{made}/client.key has no private key in PEM in it: {}",
            remedy(&made)
        ),
    );
}

#[test]
fn a_port_where_nobody_answers_is_given_up_at_the_deadline() {
    let Some(server) = SERVER.get() else { return };
    // Closed, and taken by a service that never answers.
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let closed = xtask::runtime::free_port().unwrap();
    for port in [closed, silent.local_addr().unwrap().port()] {
        let begun = Instant::now();
        let certs = server.certs();
        let (certs, port_text) = (certs.to_str().unwrap().to_owned(), port.to_string());
        let run = selium(
            &server.setup().cli,
            &[
                "ps",
                "--cert-dir",
                &certs,
                "--port",
                &port_text,
                "--timeout",
                "1.5",
            ],
        );
        run.failed(
            1,
            &format!(
                "error: cannot connect: no answer from localhost:{port} (127.0.0.1) within 1500 ms: is the runtime \
                 running with the remote-client module, and is UDP port {port} reachable?\n"
            ),
        );
        let took = begun.elapsed();
        assert!(
            took >= Duration::from_millis(1_400) && took < Duration::from_secs(10),
            "{took:?}"
        );
    }
    server
        .selium(&["ping", "-n", "1", "--timeout", "1.5"])
        .succeeded();
}

#[test]
fn a_ca_that_does_not_fit_is_named() {
    let Some(server) = SERVER.get() else { return };
    let folder = tempfile::tempdir().unwrap();
    let other = folder.path().join("certs");
    let mut generate = Command::new(&server.setup().runtime);
    generate
        .args(["generate-certs", "--output-dir"])
        .arg(&other)
        .env_remove("SELIUM_WORK_DIR");
    run(generate).succeeded();
    let (certs, port) = (other.to_str().unwrap(), server.port().to_string());
    let run = selium(
        &server.setup().cli,
        &["ps", "--cert-dir", certs, "--port", &port],
    );
    assert_eq!((run.code, run.stdout.as_str()), (Some(1), ""), "{run}");
    assert_eq!(
        run.stderr.lines().next().unwrap(),
        format!(
            "error: cannot connect: the certificate of localhost:{port} (127.0.0.1) was not issued by a CA in \
             {certs}/ca.crt: use the ca.crt that was made together with the server's certificate, or check that this is \
             the right server; with certificates of `selium cert` the server has to be one that `selium server install` \
             made"
        )
    );
    let as_json = selium(
        &server.setup().cli,
        &[
            "ps",
            "--cert-dir",
            certs,
            "--port",
            &port,
            "--log-format",
            "json",
        ],
    );
    assert_eq!(
        text(&line(&as_json.stderr)["error"], "kind"),
        "authentication"
    );
    server.must_answer();
}

#[test]
fn addresses_and_other_names_of_this_machine() {
    let Some(server) = SERVER.get() else { return };
    let certs = server.certs();
    let (certs, port) = (
        certs.to_str().unwrap().to_owned(),
        server.port().to_string(),
    );
    let ps = |domain: &str| {
        selium(
            &server.setup().cli,
            &[
                "ps",
                "-q",
                "--cert-dir",
                &certs,
                "--port",
                &port,
                "--domain",
                domain,
            ],
        )
    };
    for domain in ["127.0.0.1", "localhost", "LOCALHOST", "127.1.2.3"] {
        ps(domain).succeeded();
    }
    // No such name at all, within the deadline.
    let none = ps("no-such-host.invalid");
    assert_eq!((none.code, none.stdout.as_str()), (Some(1), ""), "{none}");
    assert_eq!(
        none.stderr.lines().next().unwrap(),
        format!(
            "error: cannot connect: cannot look up no-such-host.invalid:{port}: check the domain and the name service \
             of this machine"
        )
    );
    // A name of loopback that the server does not route: most machines have one.
    let name = std::fs::read_to_string("/etc/hostname").unwrap_or_default();
    let candidates = [name.trim(), "localhost.localdomain", "other.localhost"];
    let loopback = candidates.into_iter().find(|name| {
        (*name, 1)
            .to_socket_addrs()
            .is_ok_and(|mut all| all.any(|one| one.ip().is_loopback() && one.is_ipv4()))
    });
    if let Some(name) = loopback {
        let refused = ps(name);
        assert_eq!(
            (refused.code, refused.stdout.as_str()),
            (Some(1), ""),
            "{refused}"
        );
        assert_eq!(
            refused.stderr.lines().next().unwrap(),
            format!(
                "error: cannot connect: {name}:{port} (127.0.0.1) does not serve the domain `{name}`: the server routes \
                 connections by that name (TLS SNI); use the domain that the arguments of its remote-client module bind"
            )
        );
    }
    // On every machine: another name than the one that is dialled.
    let error = block_on(async {
        server
            .config()
            .server_name("elsewhere.example")
            .connect()
            .await
            .unwrap_err()
    });
    assert_eq!(
        error.to_string(),
        format!(
            "localhost:{port} (127.0.0.1) does not serve the domain `elsewhere.example`: the server routes connections \
             by that name (TLS SNI); use the domain that the arguments of its remote-client module bind"
        )
    );
    server.must_answer();
}

/// Runs `ps` against an impostor and returns its error, which must come before the deadline.
fn turned_away(impostor: &Impostor, cli: &Path, timeout: &str) -> Run {
    let begun = Instant::now();
    let run = run(impostor.command(cli, &["ps", "--timeout", timeout]));
    assert_eq!((run.code, run.stdout.as_str()), (Some(1), ""), "{run}");
    assert!(
        begun.elapsed() < Duration::from_secs(8),
        "{:?}",
        begun.elapsed()
    );
    run
}

async fn say(mut send: SendStream, mut recv: RecvStream, bytes: Vec<u8>) {
    let mut hello = [0; 16];
    recv.read_exact(&mut hello).await.expect("a hello");
    send.write_all(&bytes).await.expect("room");
    // Until the client has gone.
    let _ = recv.read_to_end(1 << 20).await;
}

#[test]
fn servers_of_other_protocols_are_told_apart() {
    let Some(setup) = setup() else { return };
    let foreign = |port: u16| {
        format!(
            "error: cannot connect: localhost:{port} (127.0.0.1) is not a Selium control plane, its bytes are of \
             another protocol: check domain and port\n"
        )
    };
    // Greets in another protocol; echoes; says garbage.
    for bytes in [
        &b"220 mail.example ESMTP\r\n"[..],
        &[0xff; 70_000],
        b"HTTP/3 maybe",
    ] {
        eprintln!("an impostor that says {:?}", bytes.get(..8));
        let server = Impostor::start(move |send, recv| say_then_close(send, recv, bytes.to_vec()));
        turned_away(&server, &setup.cli, "5").failed(1, &foreign(server.port()));
    }
    let echo = Impostor::start(|mut send, mut recv| async move {
        while let Ok(Some(chunk)) = recv.read_chunk(65_536, true).await {
            if send.write_chunk(chunk.bytes).await.is_err() {
                return;
            }
        }
    });
    turned_away(&echo, &setup.cli, "5").failed(1, &foreign(echo.port()));
    // Half of a greeting may be one that broke off.
    let half =
        Impostor::start(|send, recv| say_then_close(send, recv, b"SLRS\r\n\x1a\nxx".to_vec()));
    let broke_off = format!(
        "error: cannot connect: localhost:{} (127.0.0.1) closed the connection before it answered the hello: look into \
         the log of its runtime\n",
        half.port()
    );
    turned_away(&half, &setup.cli, "5").failed(1, &broke_off);
    // A version from the future, which the client did not offer.
    let future = Impostor::start(|send, recv| {
        say(send, recv, b"SLRS\r\n\x1a\n\0\x09\0\x09\0\x09\0\0".to_vec())
    });
    let run = turned_away(&future, &setup.cli, "5");
    assert!(
        run.stderr
            .contains("the server chose version 9, which was not offered"),
        "{run}"
    );
}

async fn say_then_close(mut send: SendStream, mut recv: RecvStream, bytes: Vec<u8>) {
    let mut hello = [0; 16];
    recv.read_exact(&mut hello).await.expect("a hello");
    let _ = send.write_all(&bytes).await;
    let _ = send.finish();
    let _ = send.stopped().await;
}

#[test]
fn a_server_that_says_nothing_is_given_up_at_the_deadline() {
    let Some(setup) = setup() else { return };
    let mute = Impostor::start(|send, mut recv| async move {
        let _send = send;
        let _ = recv.read_to_end(1 << 20).await;
    });
    let port = mute.port();
    turned_away(&mute, &setup.cli, "1").failed(
        1,
        &format!(
            "error: cannot connect: localhost:{port} (127.0.0.1) accepted the connection but did not answer the hello: \
             its remote-client module is not running, hangs, or has all its waiting accepts taken; look into the log \
             of its runtime (within 1 s)\n"
        ),
    );
}

#[test]
fn a_server_of_0_3_3_is_known_by_its_answer() {
    let Some(setup) = setup() else { return };
    let old =
        Impostor::start(|send, recv| say(send, recv, legacy::error_response("decode request")));
    let port = old.port();
    turned_away(&old, &setup.cli, "5").failed(
        1,
        &format!(
            "error: cannot connect: the server at localhost:{port} (127.0.0.1) is a remote-client module of version \
             0.3.3, whose protocol is another one: update the module in its runtime\n"
        ),
    );
}

/// A request of 0.3.3, as its FlatBuffers library writes them: identifier at byte 4, root table, union `payload` of
/// type 1 (ChannelCreateRequest { capacity: u32 }).
fn legacy_request() -> Vec<u8> {
    let mut bytes = Vec::new();
    let u16s = |bytes: &mut Vec<u8>, values: &[u16]| {
        values.iter().for_each(|v| bytes.extend(v.to_le_bytes()))
    };
    let u32s = |bytes: &mut Vec<u8>, values: &[u32]| {
        values.iter().for_each(|v| bytes.extend(v.to_le_bytes()))
    };
    u32s(&mut bytes, &[16]); // the root, at 16
    bytes.extend(b"RMCL");
    u16s(&mut bytes, &[8, 12, 11, 4]); // 8: the root's vtable: payload_type at 11, payload at 4
    u32s(&mut bytes, &[8, 16]); // 16: the root; 20: the payload, at 36
    bytes.extend([0, 0, 0, 1]); // 24: ... type 1
    u16s(&mut bytes, &[6, 8, 4, 0]); // 28: the payload's vtable: capacity at 4
    u32s(&mut bytes, &[8, 65_536]); // 36: the payload
    bytes
}

fn u32_at(bytes: &[u8], at: usize) -> usize {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize
}

fn u16_at(bytes: &[u8], at: usize) -> usize {
    usize::from(u16::from_le_bytes(bytes[at..at + 2].try_into().unwrap()))
}

/// The absolute position of a table's field; none when it is not there.
fn field(buffer: &[u8], table: usize, slot: usize) -> usize {
    let vtable = table - u32_at(buffer, table);
    assert!(
        4 + 2 * slot < u16_at(buffer, vtable),
        "the vtable ends before field {slot}"
    );
    let offset = u16_at(buffer, vtable + 4 + 2 * slot);
    assert_ne!(offset, 0, "field {slot} is missing");
    table + offset
}

#[test]
fn a_client_of_0_3_3_is_told_to_update() {
    let Some(server) = SERVER.get() else { return };
    let request = legacy_request();
    assert_eq!(&request[4..8], b"RMCL");
    // As a whole; as it trickles in; and from one that ends its half before it reads.
    let whole = || vec![request.clone()];
    let trickling = request.chunks(5).map(<[u8]>::to_vec).collect();
    for (pieces, finished) in [(whole(), false), (trickling, false), (whole(), true)] {
        let answer = block_on(async {
            let mut wire = Wire::open(&server).await;
            for piece in pieces {
                wire.write(&piece).await;
            }
            if finished {
                wire.finish();
            }
            let mut answer = Vec::new();
            while answer.len() < 4 || answer.len() < 4 + u32_at(&answer, 0) {
                let bytes = wire.read().await;
                answer.extend_from_slice(
                    &bytes.unwrap_or_else(|| panic!("no answer (finished: {finished})")),
                );
            }
            wire.over().await;
            answer
        });
        // What the published client does with it: a little-endian length, then a FlatBuffer of that length.
        assert_eq!(u32_at(&answer, 0), answer.len() - 4);
        let buffer = &answer[4..];
        assert_eq!(&buffer[4..8], b"RMCL");
        let root = u32_at(buffer, 0);
        let kind = buffer[field(buffer, root, 0)];
        assert_eq!(kind, 14, "an ErrorResponse");
        let payload = field(buffer, root, 1);
        let error = payload + u32_at(buffer, payload);
        let message = field(buffer, error, 0);
        let message = message + u32_at(buffer, message);
        let length = u32_at(buffer, message);
        let said = std::str::from_utf8(&buffer[message + 4..message + 4 + length]).unwrap();
        assert_eq!(
            buffer[message + 4 + length],
            0,
            "FlatBuffers end strings with a NUL"
        );
        assert_eq!(
            said,
            "this control plane speaks a newer protocol than your client (0.3.3): update `selium` and \
             selium-remote-client to 1.0 or later"
        );
        server.must_answer();
    }
}
