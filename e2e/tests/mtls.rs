//! Who is let in: every kind of client certificate, by a server that asks for one and by one that does not; roles' ports;
//! a new CA in place of an old one; and sessions that outlive their certificate.

#![allow(
    clippy::print_stderr,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use selium_remote_client::ErrorKind;
use selium_remote_e2e::certificates::{Authority, Life, fill, write};
use selium_remote_e2e::{
    Answer, MIB, Run, Server, Setup, Tls, WARNING, block_on, eventually, median, mib,
    processor_time, resident, run, setup,
};
use xtask::runtime::{Runtime, SECURE, free_port, module_spec};
use xtask::selium::Selium;
use xtask::workdir::WorkDir;

/// A name that the servers' certificates have and that no listener is bound to.
const UNBOUND: &str = "elsewhere.example";

/// A name that nobody here has heard of.
const UNKNOWN: &str = "nowhere.example";

/// The alerts of TLS (RFC 8446, 6.2).
mod alert {
    pub(super) const UNSUPPORTED_CERTIFICATE: u8 = 43;
    pub(super) const CERTIFICATE_EXPIRED: u8 = 45;
    pub(super) const UNKNOWN_CA: u8 = 48;
    pub(super) const ACCESS_DENIED: u8 = 49;
    pub(super) const CERTIFICATE_REQUIRED: u8 = 116;
}

/// A kind of client, and what becomes of it where clients are authenticated.
struct Kind {
    what: &'static str,
    alert: Option<u8>,
    /// What the command line says besides the name of the file.
    words: &'static [&'static str],
}

const KINDS: [Kind; 5] = [
    Kind {
        what: "other-ca",
        alert: Some(alert::UNKNOWN_CA),
        words: &["CA", "another company"],
    },
    Kind {
        what: "expired",
        alert: Some(alert::CERTIFICATE_EXPIRED),
        words: &["expired"],
    },
    Kind {
        what: "not-yet-valid",
        alert: Some(alert::CERTIFICATE_EXPIRED),
        words: &["not valid"],
    },
    Kind {
        what: "wrong-use",
        alert: Some(alert::UNSUPPORTED_CERTIFICATE),
        words: &["server's certificate"],
    },
    Kind {
        what: "right",
        alert: None,
        words: &[],
    },
];

/// Certificate directories of every kind of client of this CA, for a server of that one.
fn clients(folder: &Path, server_ca: &str, clients: &Authority) -> BTreeMap<&'static str, PathBuf> {
    let other = Authority::new("another company");
    let mut directories = BTreeMap::new();
    for Kind { what, .. } in KINDS {
        let identity = match what {
            "other-ca" => other.client(Life::present()),
            "expired" => clients.client(Life::past()),
            "not-yet-valid" => clients.client(Life::future()),
            "wrong-use" => clients.server(&["client"], Life::present()),
            _ => clients.client(Life::present()),
        };
        let directory = folder.join("kinds").join(what);
        fill(&directory, server_ca, identity);
        directories.insert(what, directory);
    }
    directories
}

/// A command with nothing but these.
fn selium(setup: &Setup, certs: &Path, port: u16, args: &[&str]) -> Run {
    run(command(setup, certs, port, args))
}

fn command(setup: &Setup, certs: &Path, port: u16, args: &[&str]) -> std::process::Command {
    let selium = Selium {
        binary: setup.cli.clone(),
        certs: certs.to_owned(),
        port,
    };
    let mut command = selium.command(args);
    command.env_remove("RUST_LOG");
    command
}

fn cert(setup: &Setup, work: &WorkDir, args: &[&str]) {
    let mut command = work.selium(&setup.cli);
    command.arg("cert").args(args);
    run(command).succeeded();
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).expect("a file")
}

/// Fails unless names that are not bound lead nowhere, for a client that has everything else.
fn names_must_be_bound(server: &Server, certs: &Path) {
    let tls = Tls::of(certs);
    for name in [UNBOUND, UNKNOWN] {
        let knock = block_on(tls.knock_for(server.port(), name, Duration::from_secs(10)));
        assert_eq!(knock.alert(), alert::ACCESS_DENIED, "{name}: {knock:?}");
        let config = server.config().certificate_directory(certs);
        let error = block_on(config.server_name(name).connect()).unwrap_err();
        let text = error.to_string();
        assert!(text.contains(name) && text.contains("domain"), "{text}");
        assert_eq!(error.kind(), ErrorKind::Refused);
    }
}

#[test]
fn where_clients_are_authenticated_only_the_right_ones_are_let_in() {
    let mut directories = BTreeMap::new();
    let server = Server::secure(|setup, work| {
        cert(setup, work, &["renew", "server", "--server-name", UNBOUND]);
        let server_ca = read(&work.certs().join("ca.crt"));
        directories = clients(
            work.path(),
            &server_ca,
            &Authority::of(work.path(), "admin"),
        );
        None
    });
    let Some(server) = server else { return };
    let (setup, port) = (server.setup(), server.port());
    let log = server.log();

    let anonymous = Tls::anonymous(&server.certs());
    let refused = block_on(anonymous.knock(port));
    assert_eq!(refused.alert(), alert::CERTIFICATE_REQUIRED, "{refused:?}");
    assert!(refused.asked, "{refused:?}");

    let mut took = Vec::new();
    for Kind { what, alert, words } in KINDS {
        let directory = &directories[what];
        let knock = block_on(Tls::of(directory).knock(port));
        let listed = selium(setup, directory, port, &["ps", "-q"]);
        let Some(alert) = alert else {
            assert!(knock.hello().authenticated, "{knock:?}");
            assert_eq!(knock.hello().role, "admin");
            listed.printed("");
            assert_eq!(listed.stderr, "", "no warning: {listed}");
            continue;
        };
        assert_eq!(knock.alert(), alert, "{what}: {knock:?}");
        took.push(knock.took);
        assert_eq!((listed.code, &*listed.stdout), (Some(1), ""), "{listed}");
        let file = directory.join("client.crt").display().to_string();
        for word in words.iter().chain([&&*file]) {
            assert!(listed.stderr.contains(word), "{what}, {word:?}: {listed}");
        }
        // The alert is the same for both.
        assert!(
            (what == "not-yet-valid") != listed.stderr.contains("expired")
                || !["expired", "not-yet-valid"].contains(&what),
            "{listed}"
        );
        let json = selium(setup, directory, port, &["ps", "--log-format", "json"]);
        assert_eq!((json.code, &*json.stdout), (Some(1), ""), "{json}");
        let error = selium_remote_e2e::line(&json.stderr);
        assert!(
            error["error"]["message"].as_str().unwrap().contains(&file),
            "{json}"
        );
    }
    names_must_be_bound(&server, &server.certs());
    server.must_answer();

    // The module does not hear of them: they leave no trace in the log.
    assert_eq!(server.log(), log);
    // Each costs an accept for as long as it takes, and no longer.
    let expired = Tls::of(&directories["expired"]);
    for _ in 0..20 {
        let knock = block_on(expired.knock(port));
        assert_eq!(knock.alert(), alert::CERTIFICATE_EXPIRED);
        took.push(knock.took);
    }
    eprintln!("a refused handshake takes {:?}", median(&took));
    server.must_answer();
}

#[test]
fn where_nobody_is_authenticated_all_are_let_in_and_warned() {
    let Some(setup) = setup() else { return };
    let port = free_port().unwrap();
    let ca = Authority::new("e2e");
    let mut directories = BTreeMap::new();
    let server = Server::with(&setup, port, &module_spec(port, &[]), |work| {
        fill(&work.certs(), ca.pem(), ca.client(Life::present()));
        let [certificate, key] = ca.server(&["localhost", UNBOUND], Life::present());
        write(&work.certs(), "server.crt", &certificate);
        write(&work.certs(), "server.key", &key);
        directories = clients(work.path(), ca.pem(), &ca);
    });

    let anonymous = block_on(Tls::anonymous(&server.certs()).knock(port));
    assert!(
        !anonymous.hello().authenticated && !anonymous.asked,
        "{anonymous:?}"
    );
    for Kind { what, .. } in KINDS {
        let directory = &directories[what];
        let knock = block_on(Tls::of(directory).knock(port));
        assert!(
            !knock.hello().authenticated && !knock.asked,
            "{what}: {knock:?}"
        );
        let warned = selium(&setup, directory, port, &["ps", "-q"]);
        warned.printed("");
        let warnings = warned
            .stderr
            .lines()
            .filter(|line| line.starts_with(WARNING));
        assert_eq!(
            (warnings.count(), warned.stderr.lines().count()),
            (1, 1),
            "{warned}"
        );
        let mut silenced = command(&setup, directory, port, &["ps", "-q"]);
        silenced.env("SELIUM_NO_WARN", "1");
        for silent in [
            run(silenced),
            selium(&setup, directory, port, &["ps", "-q", "--no-warn"]),
        ] {
            silent.printed("");
            assert_eq!(silent.stderr, "", "{what}: {silent}");
        }
    }
    names_must_be_bound(&server, &server.certs());
    server.must_answer();
}

/// A policy with the roles admin and viewer.
fn policy(work: &WorkDir, viewer: u16) -> PathBuf {
    let path = work.path().join("policy.toml");
    let text = format!("[role.admin]\n\n[role.viewer]\nport = {viewer}\n");
    std::fs::write(&path, text).expect("writes");
    path
}

#[test]
fn a_client_of_one_role_is_refused_on_the_port_of_another() {
    let viewers = free_port().unwrap();
    let server = Server::secure(|setup, work| {
        cert(setup, work, &["issue", "vera", "--role", "viewer"]);
        Some(policy(work, viewers))
    });
    let Some(server) = server else { return };
    let admins = server.port();
    let (admin, viewer) = (server.certs(), server.work().path().join("clients/vera"));

    for (certs, own, others, role) in [
        (&admin, admins, viewers, "admin"),
        (&viewer, viewers, admins, "viewer"),
    ] {
        selium(server.setup(), certs, own, &["ps", "-q"]).printed("");
        let refused = selium(server.setup(), certs, others, &["ps", "-q"]);
        assert_eq!((refused.code, &*refused.stdout), (Some(1), ""), "{refused}");
        assert!(refused.stderr.contains("client.crt"), "{refused}");

        // A session of the own port is of use there, and of none on the other. Clients keep sessions by the server's name, so
        // that both ports are offered them.
        let tls = Tls::of(certs);
        let first = block_on(tls.knock(own));
        assert_eq!(first.hello().role, role);
        assert!(first.asked && !first.offered, "{first:?}");
        assert!(tls.sessions() >= 2, "{tls:?}");
        let foreign = block_on(tls.knock(others));
        assert_eq!(foreign.alert(), alert::UNKNOWN_CA, "{foreign:?}");
        assert!(foreign.offered && foreign.asked, "{foreign:?}");
        let again = block_on(tls.knock(own));
        assert_eq!(again.hello().role, role);
        assert!(again.offered && !again.asked, "resumed: {again:?}");
    }
}

/// A policy with the roles admin and viewer, of these CAs.
fn policy_of(work: &Path, viewer: u16, cas: &[&str]) -> PathBuf {
    let path = work.join("policy.toml");
    let text = format!("[role.admin]\n\n[role.viewer]\nport = {viewer}\nclient-ca = {cas:?}\n");
    std::fs::write(&path, text).expect("writes");
    path
}

#[test]
fn a_new_ca_takes_the_place_of_an_old_one() {
    let viewers = free_port().unwrap();
    let server = Server::secure(|setup, work| {
        for (role, old, new) in [("admin", "old", "new"), ("viewer", "old-vera", "new-vera")] {
            cert(setup, work, &["issue", old, "--role", role]);
            for kind in ["crt", "key"] {
                let file = format!("{role}-ca.{kind}");
                let path = work.path().join("authority").join(&file);
                std::fs::rename(&path, work.path().join(file)).unwrap();
            }
            cert(setup, work, &["issue", new, "--role", role]);
        }
        // The one as `selium cert` does it, with both in one file; the other in files of its own.
        let cas = ["viewer-ca.crt", "authority/viewer-ca.crt"];
        Some(policy_of(work.path(), viewers, &cas))
    });
    let Some(mut server) = server else { return };
    let (setup, admins) = (server.setup().clone(), server.port());
    let work = server.work().path().to_owned();
    let clients = [
        ("old", admins),
        ("new", admins),
        ("old-vera", viewers),
        ("new-vera", viewers),
    ]
    .map(|(name, port)| (work.join("clients").join(name), port));
    let [old, new, old_vera, new_vera] = &clients;
    let trusted = work.join("control-plane/clients-admin.crt");
    assert_eq!(
        read(&trusted).matches("BEGIN").count(),
        2,
        "both are trusted"
    );
    for (certs, port) in &clients {
        selium(&setup, certs, *port, &["ps", "-q"]).printed("");
    }

    // What is installed counts when the runtime is started again, and not before.
    std::fs::write(&trusted, Authority::of(&work, "admin").pem()).unwrap();
    let policy = policy_of(&work, viewers, &["authority/viewer-ca.crt"]);
    let installed = server.work().install(&setup.cli, admins, Some(&policy));
    installed.unwrap();
    for (certs, port) in &clients {
        selium(&setup, certs, *port, &["ps", "-q"]).printed("");
    }
    let kept = Tls::of(&old.0);
    assert_eq!(block_on(kept.knock(admins)).hello().role, "admin");

    server.interrupt();
    let mut runtime = restart(&setup, server.work(), admins, &new.0);
    for (certs, port) in [new, new_vera] {
        selium(&setup, certs, *port, &["ps", "-q"]).printed("");
    }
    for (certs, port) in [old, old_vera] {
        let refused = selium(&setup, certs, *port, &["ps", "-q"]);
        assert_eq!((refused.code, &*refused.stdout), (Some(1), ""), "{refused}");
        assert!(refused.stderr.contains("client.crt"), "{refused}");
    }
    // Neither does a session help that was begun before.
    let refused = block_on(kept.knock(admins));
    assert_eq!(refused.alert(), alert::UNKNOWN_CA, "{refused:?}");
    assert!(refused.offered && refused.asked, "{refused:?}");
    assert!(runtime.ended().unwrap().is_none());
}

/// Starts the runtime again.
fn restart(setup: &Setup, work: &WorkDir, port: u16, certs: &Path) -> Runtime {
    let spec = module_spec(port, &SECURE);
    let options = ["--log-format", "json"];
    let mut runtime = Runtime::start_with(&setup.runtime, work, port, &spec, &options).unwrap();
    let asking = Selium {
        binary: setup.cli.clone(),
        certs: certs.to_owned(),
        port,
    };
    runtime.wait_until_it_answers(&asking).unwrap();
    runtime
}

/// What the runtime's TLS does, so that we notice when it changes: a session that was begun with a certificate goes on
/// after the certificate's end, and passes itself on from connection to connection. Only a restart of the runtime ends it.
#[test]
fn sessions_outlive_their_certificate() {
    const LIFE: Duration = Duration::from_secs(4);
    let Some(server) = Server::secure(|_, _| None) else {
        return;
    };
    let work = server.work().path();
    let directory = work.join("short");
    let ca = read(&server.certs().join("ca.crt"));
    let life = Life::left(LIFE);
    fill(&directory, &ca, Authority::of(work, "admin").client(life));

    let (kept, fresh) = (Tls::of(&directory), Tls::of(&directory));
    let first = block_on(kept.knock(server.port()));
    assert_eq!(first.hello().role, "admin");
    assert!(first.asked && kept.sessions() > 0, "{first:?}");
    eventually("the certificate's end", || {
        // It is valid up to and with its last second.
        (SystemTime::now() > life.end + Duration::from_millis(1_100)).then_some(())
    });

    let refused = block_on(fresh.knock(server.port()));
    assert_eq!(refused.alert(), alert::CERTIFICATE_EXPIRED, "{refused:?}");
    // Each resumed session gives sessions of its own.
    for turn in 0..3 {
        let resumed = block_on(kept.knock(server.port()));
        assert!(
            matches!(resumed.answer, Answer::Hello(_)) && resumed.offered && !resumed.asked,
            "the runtime has learned to look at the end of a session's certificate (turn {turn}), or gives no sessions any \
             more: say so in SECURITY.md; {resumed:?}"
        );
        assert!(resumed.hello().authenticated);
    }
    // The command line keeps no sessions.
    let expired = selium(server.setup(), &directory, server.port(), &["ps"]);
    assert_eq!(expired.code, Some(1), "{expired}");
    assert!(expired.stderr.contains("expired"), "{expired}");
}

/// Refused clients cost what a handshake costs. That more of them come than accepts wait must not shut anybody out.
#[test]
fn refused_clients_do_not_shut_others_out() {
    const REFUSED: usize = 1_500;
    let Some(server) = Server::secure(|_, _| None) else {
        return;
    };
    let port = server.port();
    let honest = Tls::of(&server.certs());
    let siege = Tls::anonymous(&server.certs());
    // One for each accept, so that all of them have been used.
    assert_eq!(block_on(siege.besiege(port, 600)), 600);
    let before = resident(server.pid());
    let processor = processor_time(server.pid());
    let begun = Instant::now();
    let mut honest_took = Vec::new();
    let refused = block_on(async {
        let siege = siege.besiege(port, REFUSED);
        let mut siege = std::pin::pin!(siege);
        loop {
            tokio::select! {
                biased;
                knock = honest.knock(port) => {
                    assert!(knock.hello().authenticated, "{knock:?}");
                    honest_took.push(knock.took);
                }
                refused = &mut siege => break refused,
            }
        }
    });
    let took = begun.elapsed();
    // On a busy machine the host turns a few away before it looks at them.
    assert!(refused >= REFUSED * 9 / 10, "{refused} of {REFUSED}");
    let grown = resident(server.pid()).saturating_sub(before);
    eprintln!(
        "{REFUSED} refused clients in {took:?} ({:?} of processor time in the runtime), {:.1} MiB more; {} honest ones beside \
         them got in, in {:?} (at most {:?})",
        processor_time(server.pid()) - processor,
        mib(grown),
        honest_took.len(),
        median(&honest_took),
        honest_took.iter().max().unwrap()
    );
    assert!(grown < 32 * MIB, "{} bytes more", grown);
    server.must_answer();
}
