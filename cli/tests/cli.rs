//! The binary, as far as it needs no server. What needs one is in the end-to-end suite.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests"
)]

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// A command that no setting of the tester reaches.
fn selium() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_selium"));
    for (name, _) in std::env::vars_os() {
        let is_ours = name.to_string_lossy().starts_with("SELIUM_");
        if is_ours || name == "RUST_LOG" || name == "NO_COLOR" {
            command.env_remove(name);
        }
    }
    command.stdin(Stdio::null());
    command
}

fn run(args: &[&str]) -> Output {
    selium().args(args).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Runs a command that must be refused as wrong usage before anything is printed; returns what it said.
fn refused(args: &[&str]) -> String {
    let output = run(args);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(output.stdout.is_empty(), "data on stdout");
    assert!(said.starts_with("error: "), "{said}");
    assert!(said.len() < 4_000, "{} bytes", said.len());
    said
}

/// A directory with certificates that any client accepts.
fn certificates() -> TempDir {
    let dir = TempDir::new().unwrap();
    let ca_key = rcgen::KeyPair::generate().unwrap();
    let mut ca = rcgen::CertificateParams::new(Vec::<String>::new()).unwrap();
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca_certificate = ca.self_signed(&ca_key).unwrap();
    let issuer = rcgen::Issuer::new(ca, ca_key);
    let key = rcgen::KeyPair::generate().unwrap();
    let client = rcgen::CertificateParams::new(vec!["client".to_owned()]).unwrap();
    let client = client.signed_by(&key, &issuer).unwrap();
    let write = |name: &str, pem: String| fs::write(dir.path().join(name), pem).unwrap();
    write("ca.crt", ca_certificate.pem());
    write("client.crt", client.pem());
    write("client.key", key.serialize_pem());
    dir
}

/// A socket that takes packets and never answers, and its port.
fn silent() -> (std::net::UdpSocket, String) {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port().to_string();
    (socket, port)
}

fn str(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn help_and_version_go_to_stdout() {
    let output = run(&["--version"]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(
        text(&output.stdout),
        concat!("selium ", env!("CARGO_PKG_VERSION"), "\n")
    );

    let output = run(&["--help"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(output.stderr.is_empty());
    let help = text(&output.stdout);
    for part in [
        "start",
        "stop",
        "ps",
        "logs",
        "inspect",
        "info",
        "ping",
        "--domain",
        "SELIUM_DOMAIN",
        "--port",
        "SELIUM_PORT",
        "--cert-dir",
        "SELIUM_CERT_DIR",
        "--log-format",
        "SELIUM_LOG_FORMAT",
        "--timeout",
        "--verbose",
        "--no-warn",
        "Exit codes:",
        "130",
    ] {
        assert!(help.contains(part), "{part}: {help}");
    }
    let help = text(&run(&["start", "--help"]).stdout);
    for part in [
        "--capabilities",
        "--arg",
        "--param",
        "--result",
        "--log-uri",
        "--attach",
        "the runtime does not tell",
    ] {
        assert!(help.contains(part), "{part}: {help}");
    }
}

#[test]
fn an_unknown_capability_is_named() {
    let said = refused(&[
        "start",
        "hello.wasm",
        "--capabilities",
        "ChannelReader,ChannelRaeder",
    ]);
    for part in [
        "ChannelRaeder",
        "--capabilities",
        "SessionLifecycle",
        "TimeRead",
        "a similar value exists: 'ChannelReader'",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
}

#[test]
fn wrong_arguments_are_refused_before_connecting() {
    for (args, part) in [
        (
            &["-a", "u8:256"][..],
            "argument 1 `u8:256` is no u8: expected an integer from 0 to 255",
        ),
        (
            &["-a", "u8:1", "-a", "hello"],
            "argument 2 `hello` has no type",
        ),
        (
            &["-p", "i32", "-a", "utf8:x"],
            "argument 1 `utf8:x` is of type utf8, --param says i32",
        ),
        (&["-p", "i32"], "argument 1 is missing"),
        (&["-a", "buffer:hex:0"], "pairs of hexadecimal digits"),
        (&["--name", ""], "the name is empty"),
    ] {
        let said = refused(&[&["start", "hello.wasm", "start"], args].concat());
        assert!(said.contains(part), "{part}: {said}");
        assert!(said.contains("selium start --help"), "{said}");
    }
}

#[test]
fn limits_are_named_before_connecting() {
    let long = "x".repeat(100_000);
    let said = refused(&["start", "hello.wasm", &long]);
    assert!(
        said.contains("the entrypoint") && said.contains("has 100000 bytes, the limit is 256"),
        "{said}"
    );
    let said = refused(&["start", &long]);
    assert!(
        said.contains("the module") && said.contains("the limit is 256"),
        "{said}"
    );
    let said = refused(&["stop", &long]);
    assert!(said.contains("the limit is 128"), "{said}");

    let many = [vec!["start", "hello.wasm"], ["--arg", "u8:1"].repeat(500)].concat();
    let said = refused(&many);
    assert!(
        said.contains("500") && said.contains("the limit of 64"),
        "{said}"
    );

    // The system bounds a word to 128 KiB, so that 1 MiB takes many.
    let part = format!("buffer:{}", "x".repeat(64 * 1024));
    let large = [vec!["start", "hello.wasm"], ["--arg", &part].repeat(16)].concat();
    let said = refused(&large);
    assert!(
        said.contains("1048576 bytes") && said.contains("the limit of 262144"),
        "{said}"
    );
}

#[test]
fn attaching_without_a_log_is_refused() {
    let said = refused(&["start", "hello.wasm", "--attach"]);
    for part in [
        "ChannelLifecycle",
        "ChannelWriter",
        "hint: add --capabilities ChannelLifecycle,ChannelWriter",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
}

#[test]
fn errors_are_json_when_that_is_wanted() {
    for args in [
        &["--log-format", "json", "start", "hello.wasm", "--attach"][..],
        &["--log-format", "json", "ps", "--frobnicate"],
        &["--log-format=json", "start", "m", "-c", "Nonsense"],
        &["start", "m", "-a", "u8:300", "--log-format", "json"],
    ] {
        let output = run(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(output.stdout.is_empty());
        let error: serde_json::Value = serde_json::from_slice(&output.stderr).unwrap();
        assert_eq!(error["error"]["kind"], "usage", "{error}");
        assert!(error["error"]["message"].is_string(), "{error}");
    }
    let output = selium()
        .args(["ps", "--frobnicate"])
        .env("SELIUM_LOG_FORMAT", "json")
        .output()
        .unwrap();
    assert!(serde_json::from_slice::<serde_json::Value>(&output.stderr).is_ok());
}

#[test]
fn missing_certificates_are_explained() {
    let dir = TempDir::new().unwrap();
    let missing = dir.path().join("no-such-certs");
    let output = run(&["--cert-dir", str(&missing), "ps"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty());
    let said = text(&output.stderr);
    for part in [
        "error: cannot connect",
        str(&missing),
        "ca.crt",
        "client.crt",
        "client.key",
        "generate-certs",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let output = run(&["--cert-dir", str(&missing), "ps", "--log-format", "json"]);
    let error: serde_json::Value = serde_json::from_slice(&output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        error["error"]["message"]
            .as_str()
            .unwrap()
            .contains(str(&missing)),
        "{error}"
    );
}

#[test]
fn variables_choose_and_options_come_first() {
    let dir = TempDir::new().unwrap();
    let (a, b): (PathBuf, PathBuf) = (
        dir.path().join("from-variable"),
        dir.path().join("from-option"),
    );
    let said = |command: &mut Command| text(&command.output().unwrap().stderr);
    let mut command = selium();
    command.env("SELIUM_CERT_DIR", &a).arg("ps");
    assert!(said(&mut command).contains("from-variable"));
    command.arg("--cert-dir").arg(&b);
    assert!(said(&mut command).contains("from-option"));

    // Empty means unset: these would be refused as values.
    let mut command = selium();
    for name in [
        "SELIUM_PORT",
        "SELIUM_DOMAIN",
        "SELIUM_LOG_FORMAT",
        "SELIUM_NO_WARN",
        "RUST_LOG",
    ] {
        command.env(name, "");
    }
    let output = command
        .env("SELIUM_CERT_DIR", &a)
        .arg("ps")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));

    let output = selium()
        .env("SELIUM_PORT", "nonsense")
        .arg("ps")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("nonsense"));
    let output = selium()
        .env("SELIUM_PORT", "nonsense")
        .args(["--port", "1", "--cert-dir"])
        .arg(&a)
        .arg("ps")
        .output();
    assert_eq!(
        output.unwrap().status.code(),
        Some(1),
        "an option comes before its variable"
    );
}

#[test]
fn without_a_server_the_command_fails_in_time() {
    let certs = certificates();
    let (socket, port) = silent();
    let args = [
        "--domain",
        "127.0.0.1",
        "--port",
        &port,
        "--cert-dir",
        str(certs.path()),
        "--timeout",
        "1",
        "ps",
    ];
    let begun = Instant::now();
    let output = run(&args);
    let took = begun.elapsed();
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        took >= Duration::from_millis(900) && took < Duration::from_secs(5),
        "{took:?}: {said}"
    );
    assert!(said.starts_with("error: cannot connect: "), "{said}");
    assert!(said.contains(&port), "{said}");
    assert!(output.stdout.is_empty());
    drop(socket);

    // Nobody at the port at all.
    let begun = Instant::now();
    let output = run(&args);
    assert_eq!(output.status.code(), Some(1));
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[cfg(unix)]
#[test]
fn ctrl_c_ends_connecting_at_once() {
    let certs = certificates();
    let (_socket, port) = silent();
    let mut child = selium()
        .args([
            "--domain",
            "127.0.0.1",
            "--port",
            &port,
            "--cert-dir",
            str(certs.path()),
            "--timeout",
            "60",
            "ps",
        ])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_millis(500));
    let pressed = Instant::now();
    let kill = Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status()
        .unwrap();
    assert!(kill.success());
    let status = child.wait().unwrap();
    assert!(
        pressed.elapsed() < Duration::from_secs(2),
        "{:?}",
        pressed.elapsed()
    );
    assert_eq!(status.code(), Some(130));
    let mut said = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut said)
        .unwrap();
    assert_eq!(said, "error: interrupted\n");
}

#[test]
fn nobody_reading_the_help_is_no_reason_to_complain() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = selium()
        .arg("--help")
        .stdout(writer)
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(output.stderr.is_empty(), "{}", text(&output.stderr));
}
