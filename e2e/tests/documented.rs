//! The documented command lines, as they are written, and the warnings about clients that nobody authenticates.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

use std::net::UdpSocket;
use std::process::Command;

use selium_remote_client_protocol::{CapabilitySet, hello::Features};
use selium_remote_e2e::{
    Following, LOGGING, Peer, Server, WARNING, block_on, eventually, run, setup,
};
use xtask::runtime::free_port;

/// As the documentation has it.
const MODULE: &str = "path=modules/selium_remote_client_server.wasm;capabilities=ChannelLifecycle,ChannelReader,\
    ChannelWriter,ProcessLifecycle,NetQuicBind,NetQuicAccept,NetQuicRead,NetQuicWrite;args=utf8:localhost,u16:7000";

const PORT: u16 = 7000;

#[test]
fn the_documented_lines_work_as_they_are() {
    let Some(setup) = setup() else { return };
    let is_free = UdpSocket::bind(("0.0.0.0", PORT)).is_ok();
    let server = if is_free {
        Server::with(&setup, PORT, MODULE, |_| {})
    } else {
        let port = free_port().unwrap();
        let line = MODULE.replace("u16:7000", &format!("u16:{port}"));
        Server::with(&setup, port, &line, |_| {})
    };

    // Said once in the runtime's log, as a warning.
    const WARNED: &str =
        "clients are not authenticated: whoever reaches this port controls the runtime";
    let warned = eventually("the warning in the runtime's log", || {
        let lines: Vec<String> = server
            .log()
            .lines()
            .filter(|line| line.contains(WARNED))
            .map(str::to_owned)
            .collect();
        (!lines.is_empty()).then_some(lines)
    });
    assert_eq!(warned.len(), 1, "{warned:?}");
    assert!(
        warned[0].split_whitespace().any(|word| word == "WARN"),
        "{warned:?}"
    );
    let log = server.log();
    let listening = log
        .lines()
        .find(|line| line.ends_with("remote client server listening"))
        .expect(&log);
    assert!(listening.contains("domain=localhost"), "{listening}");
    assert!(
        listening.contains(&format!("port={}", server.port())),
        "{listening}"
    );
    assert!(
        listening.contains("clock=false"),
        "eight capabilities, no TimeRead: {listening}"
    );
    assert!(listening.contains("logging=true"), "{listening}");

    // The server's hello says it too.
    let hello = block_on(async { Peer::connect(&server).await.server });
    assert!(!hello.authenticated);
    assert_eq!(hello.role, "admin");
    assert_eq!(hello.ceiling, CapabilitySet::all());
    assert_eq!(hello.software, "selium-remote-client-server");
    assert!(!hello.features.contains(Features::CLOCK));

    // What is typed where the runtime was started; `./certs`, localhost and port 7000 are the defaults.
    let selium = |args: &[&str]| {
        let mut command = Command::new(&setup.cli);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("SELIUM_") {
                command.env_remove(name);
            }
        }
        command
            .current_dir(server.certs().parent().unwrap())
            .args(args);
        if !is_free {
            command.env("SELIUM_PORT", server.port().to_string());
        }
        command
    };
    let warning = format!(
        "{WARNING}localhost:{} authenticates nobody: whoever reaches it can start and stop processes; keep it on \
         localhost or a trusted network (SELIUM_NO_WARN=1 silences this)\n",
        server.port()
    );
    let listed = run(selium(&["ps"]));
    listed.printed("ID  NAME  MODULE  ENTRYPOINT  STATE  LOG  AGE\n");
    assert_eq!(listed.stderr, warning, "one warning, and nothing else");
    for silent in [
        {
            let mut command = selium(&["ps"]);
            command.env("SELIUM_NO_WARN", "1");
            command
        },
        selium(&["ps", "--no-warn"]),
    ] {
        let listed = run(silent);
        listed.printed("ID  NAME  MODULE  ENTRYPOINT  STATE  LOG  AGE\n");
        assert_eq!(listed.stderr, "");
    }
    let loud = run({
        let mut command = selium(&["ps"]);
        command.env("SELIUM_NO_WARN", "0");
        command
    });
    assert_eq!(loud.stderr, warning, "0 means no");

    let start = [
        "start",
        "hello.wasm",
        "hello",
        "--capabilities",
        "ChannelLifecycle,ChannelReader,ChannelWriter",
    ];
    let started = run(selium(&start));
    started.succeeded();
    let id = started.stdout.trim_end().to_owned();
    assert_eq!(id.len(), 16, "{started}");
    assert_eq!(
        started.stderr,
        format!("{warning}started hello-1 ({})\n", &id[..8])
    );

    let mut attached = Following::start(selium(&[&start[..], &["--attach"]].concat()));
    let second = attached.line();
    attached.until("the greeting", |line| {
        line == "INFO  hello: hello from selium"
    });
    attached.interrupt();
    assert_eq!(attached.end().code, Some(0));

    // Ctrl-C did not stop it; `stop` does.
    let ids = |run: selium_remote_e2e::Run| {
        run.succeeded();
        run.stdout
    };
    assert_eq!(ids(run(selium(&["ps", "-q"]))), format!("{id}\n{second}\n"));
    let mut stop = selium(&["--cert-dir", "certs", "stop", &second]);
    stop.env("SELIUM_NO_WARN", "1");
    let stopped = run(stop);
    stopped.printed(&format!("{second}\n"));
    assert_eq!(
        stopped.stderr,
        format!("stop requested: hello-2 ({})\n", &second[..8])
    );
    assert_eq!(ids(run(selium(&["ps", "-q"]))), format!("{id}\n"));
}

#[test]
fn the_domain_of_the_module_line_is_the_only_one_served() {
    let Some(setup) = setup() else { return };
    // Certificates that are good for two names, of which the module serves one.
    let ca = selium_remote_e2e::Ca::default();
    let port = free_port().unwrap();
    let server = Server::with(
        &setup,
        port,
        &MODULE.replace("u16:7000", &format!("u16:{port}")),
        |work| {
            ca.fill(&work.certs(), &["localhost", "elsewhere.example"]);
        },
    );
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
    assert_eq!(error.kind(), selium_remote_client::ErrorKind::Refused);
    // The same server under the name that it serves, and by address.
    server.must_answer();
    for domain in ["127.0.0.1", "localhost"] {
        server.selium(&["ps", "--domain", domain, "-q"]).printed("");
    }
    assert!(server.launch(&["hello.wasm", "hello"]).len() == 16 && !LOGGING.is_empty());
}
