//! Private keys are where they belong, and nowhere else: in no command line, environment, log or error, and in no file that
//! others may read.

#![allow(
    clippy::print_stderr,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use selium_remote_e2e::certificates::{Authority, Life, Secrets, files, fill};
use selium_remote_e2e::{Following, LOGGING, Run, Server, Setup, Tls, block_on, run, setup};
use selium_remote_provision::install;
use xtask::proc::output_within;
use xtask::runtime::{SECURE, free_port, module_spec};
use xtask::selium::Selium;
use xtask::workdir::WorkDir;

/// The server's module, in a work dir.
const MODULE: &str = "modules/selium_remote_client_server.wasm";

/// The keys of a work dir in which `selium cert init` has run, one client of the role viewer was issued to, and a server
/// was installed: three CAs and viewer's, the two servers', the two clients' and the audit log's.
const KEYS: usize = 9;

/// Looks for keys in whatever is shown to it.
struct Lookout {
    secrets: Secrets,
    looked: usize,
}

impl Lookout {
    fn new(work: &Path) -> Self {
        let mut secrets = Secrets::below(work);
        assert!(secrets.len() >= KEYS, "{secrets:?}");
        // With this a guest could listen on a role's port (`Listener::host_ca`): it is as secret as the keys.
        let module = fs::read(work.join(MODULE)).unwrap();
        let provision = install::extract(&module).unwrap().expect("a provision");
        for listener in &provision.listeners {
            let ca = listener.host_ca(&provision.audit_key);
            let (line, rest) = ca.split_at(ca.len() - listener.client_ca.len());
            assert!(rest == listener.client_ca && line.len() == 65);
            secrets.add(&format!("the line of {}", listener.role.name), &line[..64]);
        }
        Self { secrets, looked: 0 }
    }

    fn look(&mut self, what: &str, bytes: &[u8]) {
        let found = self.secrets.within(bytes);
        // What was found is not shown.
        assert!(found.is_empty(), "{what} has the keys {found:?} in it");
        self.looked += bytes.len();
    }

    fn output(&mut self, run: &Run) {
        self.look(&format!("stdout of {}", run.args), run.stdout.as_bytes());
        self.look(&format!("stderr of {}", run.args), run.stderr.as_bytes());
    }

    /// Command lines and environments of all processes that may be looked at: those of this test among them.
    fn processes(&mut self, expected: &[u32]) {
        let mut seen = 0;
        for entry in fs::read_dir("/proc").unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            let Ok(pid) = name.parse::<u32>() else {
                continue;
            };
            for file in ["cmdline", "environ"] {
                // One that has ended, or is somebody else's.
                let Ok(text) = fs::read(path.join(file)) else {
                    continue;
                };
                self.look(&format!("{file} of process {pid}"), &text);
                seen += usize::from(expected.contains(&pid) && !text.is_empty());
            }
        }
        assert_eq!(
            seen,
            2 * expected.len(),
            "the processes {expected:?} are among them"
        );
    }
}

/// A command with nothing but these.
fn command(setup: &Setup, certs: &Path, port: u16, args: &[&str]) -> Command {
    let selium = Selium {
        binary: setup.cli.clone(),
        certs: certs.to_owned(),
        port,
    };
    let mut command = selium.command(args);
    command.env_remove("RUST_LOG");
    command
}

/// The role viewer, on that port, with a client.
fn viewers(setup: &Setup, work: &WorkDir, port: u16) -> PathBuf {
    let mut issue = work.selium(&setup.cli);
    issue.args(["cert", "issue", "vera", "--role", "viewer"]);
    run(issue).succeeded();
    let policy = work.path().join("policy.toml");
    let text = format!("[role.admin]\n\n[role.viewer]\nport = {port}\n");
    fs::write(&policy, text).unwrap();
    policy
}

#[test]
fn no_key_is_seen_while_a_server_is_used() {
    let viewer_port = free_port().unwrap();
    let server = Server::secure(|setup, work| Some(viewers(setup, work, viewer_port)));
    let Some(mut server) = server else { return };
    let (setup, port) = (server.setup().clone(), server.port());
    let (certs, work) = (server.certs(), server.work().path().to_owned());
    let vera = work.join("clients/vera");
    let mut lookout = Lookout::new(&work);
    // It finds what is there.
    let mut inside = lookout
        .secrets
        .within(&fs::read(work.join(MODULE)).unwrap());
    inside.sort_unstable();
    let folder = work.join("control-plane");
    assert_eq!(
        inside,
        ["audit.key", "server.key"].map(|file| folder.join(file).display().to_string())
    );

    // What works, what is refused by a role, and what is refused by TLS.
    let other = work.join("other");
    let ca = fs::read_to_string(certs.join("ca.crt")).unwrap();
    fill(
        &other,
        &ca,
        Authority::new("another").client(Life::present()),
    );
    let loud = |certs: &Path, port: u16, args: &[&str]| {
        run(command(
            &setup,
            certs,
            port,
            &[&["-v", "-v"], args].concat(),
        ))
    };
    let started = loud(
        &certs,
        port,
        &["start", "hello.wasm", "hello", "-c", LOGGING],
    );
    started.succeeded();
    assert!(started.stderr.contains("DEBUG"), "it says more: {started}");
    lookout.output(&started);
    let id = started.stdout.lines().next().unwrap().to_owned();
    for args in [
        &["ps"][..],
        &["info"],
        &["inspect", &id],
        &["logs", &id],
        &["stop", &id],
    ] {
        let run = loud(&certs, port, args);
        run.succeeded();
        lookout.output(&run);
    }
    let denied = loud(&vera, viewer_port, &["start", "hello.wasm", "hello"]);
    for refused in [
        denied,
        loud(&vera, port, &["ps"]),
        loud(&other, port, &["ps"]),
    ] {
        assert_eq!(refused.code, Some(1), "{refused}");
        lookout.output(&refused);
    }
    let mut everything = command(&setup, &certs, port, &["ps", "--log-format", "json"]);
    everything.env("RUST_LOG", "trace");
    let everything = run(everything);
    everything.succeeded();
    assert!(everything.stderr.contains("TRACE"), "{everything}");
    lookout.output(&everything);
    let anonymous = block_on(Tls::anonymous(&certs).knock(port));
    assert_eq!(anonymous.alert(), 116);

    // Keys that are damaged, and files in each other's place.
    let key = fs::read_to_string(certs.join("client.key")).unwrap();
    let bad = work.join("bad");
    for (file, text) in [
        ("client.key", key.replace('\n', "")),
        ("client.key", key.replace("-----END PRIVATE KEY-----", "")),
        ("client.key", key.replacen('A', "*", 1)),
        ("client.key", key.replace("PRIVATE KEY", "SECRET KEY")),
        ("client.key", key.replace("-----", "")),
        ("client.crt", key.clone()),
        ("ca.crt", key.replace('\n', " ")),
    ] {
        for file in ["ca.crt", "client.crt", "client.key"] {
            let _ = fs::create_dir(&bad);
            fs::copy(certs.join(file), bad.join(file)).unwrap();
        }
        fs::write(bad.join(file), text).unwrap();
        let refused = loud(&bad, port, &["ps"]);
        assert_eq!(refused.code, Some(1), "{refused}");
        lookout.output(&refused);
        let inspected = loud(&bad, port, &["cert", "inspect"]);
        lookout.output(&inspected);
    }
    // Commands that read keys.
    let listing = ["cert", "list"];
    let status = ["cert", "status", "--dir", "."];
    let inspect = ["cert", "inspect", "certs/client.key"];
    let inspect_all = ["cert", "inspect", "authority"];
    let install = ["server", "install", "--policy", "policy.toml"];
    let verify = ["audit", "verify", "runtime.log"];
    for args in [
        &listing[..],
        &status,
        &inspect,
        &inspect_all,
        &install,
        &verify,
    ] {
        for format in ["text", "json"] {
            let mut command = server.work().selium(&setup.cli);
            command
                .args(["-v", "-v", "--log-format", format])
                .args(args);
            let run = run(command);
            assert_eq!(run.code, Some(0), "{run}");
            lookout.output(&run);
        }
    }
    let swapped = work.join("control-plane/audit.key");
    let audit_key = fs::read(&swapped).unwrap();
    for text in [
        key.as_bytes(),
        &audit_key[..40],
        &[&audit_key[..], b"00"].concat(),
    ] {
        fs::write(&swapped, text).unwrap();
        for args in [&install[..], &verify] {
            let mut command = server.work().selium(&setup.cli);
            command.args(["-v", "-v"]).args(args);
            let refused = run(command);
            assert_eq!(refused.code, Some(1), "{refused}");
            lookout.output(&refused);
        }
    }
    fs::write(&swapped, &audit_key).unwrap();

    // While the runtime and a command run.
    let args = [
        "-v",
        "-v",
        "start",
        "hello.wasm",
        "hello",
        "-c",
        LOGGING,
        "--attach",
    ];
    let mut following = Following::start(command(&setup, &certs, port, &args));
    let _id = following.line();
    lookout.processes(&[server.pid(), std::process::id()]);
    following.interrupt();
    lookout.output(&following.end());
    server.interrupt();
    let log = server.log();
    assert!(log.contains("audit") && log.len() > 1_000, "{log}");
    lookout.look("the runtime's log", log.as_bytes());
    eprintln!(
        "{} keys in none of {} bytes",
        lookout.secrets.len(),
        lookout.looked
    );
}

/// The runtime can be told to log everything. What it says then is none of ours, but it is known.
#[test]
fn no_key_is_logged_by_a_runtime_that_logs_everything() {
    let Some(setup) = setup() else { return };
    let port = free_port().unwrap();
    let work = WorkDir::temporary(&std::env::temp_dir()).unwrap();
    let mut init = work.selium(&setup.cli);
    init.args(["cert", "init"]);
    run(init).succeeded();
    let policy = viewers(&setup, &work, free_port().unwrap());
    work.prepare_secure(
        &setup.cli,
        &setup.module,
        &setup.guests,
        port,
        Some(&policy),
    )
    .unwrap();
    let mut lookout = Lookout::new(work.path());

    // Until it has answered: the log grows by megabytes.
    let spec = module_spec(port, &SECURE);
    let script = "cd \"$1\" && exec env RUST_LOG=trace \"$2\" --log-format json --module \"$3\" > everything.log 2>&1";
    let mut shell = Command::new("sh");
    shell
        .args(["-c", script, "sh"])
        .args([work.path(), &setup.runtime])
        .arg(&spec);
    let mut runtime = xtask::proc::Guard::new(shell.spawn().unwrap());
    let certs = work.certs();
    selium_remote_e2e::eventually("an answer", || {
        assert!(runtime.ended().unwrap().is_none());
        let ps = run(command(
            &setup,
            &certs,
            port,
            &["--timeout", "10", "ps", "-q"],
        ));
        (ps.code == Some(0)).then_some(())
    });
    drop(runtime);
    let log = fs::read(work.path().join("everything.log")).unwrap();
    eprintln!("{} bytes of log", log.len());
    assert!(
        log.windows(7).any(|it| it == b"\"TRACE\""),
        "{} bytes",
        log.len()
    );
    lookout.look("a log of everything", &log);
}

/// Runs a command in a folder, under a mask that takes nothing away.
fn open_handed(work: &WorkDir, cli: &Path, args: &[&str]) {
    let mut command = Command::new("sh");
    command
        .args(["-c", "umask 000; exec \"$@\"", "sh"])
        .arg(cli)
        .args(args);
    command.current_dir(work.path());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("SELIUM_") {
            command.env_remove(name);
        }
    }
    let limit = selium_remote_e2e::PATIENCE;
    let output = output_within(&mut command, limit)
        .unwrap()
        .expect("it ends");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {stderr}");
}

#[test]
fn files_with_keys_are_their_owners_whatever_the_umask_is() {
    let Some(setup) = setup() else { return };
    let work = WorkDir::temporary(&std::env::temp_dir()).unwrap();
    let module = setup.module.to_str().unwrap();
    let install = ["server", "install", "--module", module];
    for args in [
        &["cert", "init"][..],
        &["cert", "issue", "vera", "--role", "viewer"],
        &["cert", "issue", "anna", "--out", "deep/down/anna"],
        &["cert", "bundle", "vera"],
        &[
            "--cert-dir",
            "imported/certs",
            "cert",
            "import",
            "vera.bundle.pem",
        ],
        &install,
        &install,
        &["cert", "renew"],
        &["cert", "renew", "server"],
        &["server", "install"],
    ] {
        open_handed(&work, &setup.cli, args);
    }
    let secrets = Secrets::below(work.path());
    assert!(secrets.len() > KEYS, "{secrets:?}");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    let (mut with_keys, mut others) = (Vec::new(), 0);
    for path in files(work.path()) {
        let inside = secrets.within(&fs::read(&path).unwrap()).len();
        if inside == 0 {
            others += 1;
            continue;
        }
        assert_eq!(mode(&path), 0o600, "{}", path.display());
        let folder = path.parent().unwrap();
        assert_eq!(mode(folder), 0o700, "{}", folder.display());
        with_keys.push(path);
    }
    // The files of the keys, the bundle and the module; nothing was left behind.
    assert_eq!(with_keys.len(), secrets.len() + 2, "{with_keys:#?}");
    assert!(
        others >= 10,
        "certificates are files without keys: {others}"
    );
    assert!(
        with_keys.contains(&work.path().join(MODULE)),
        "{with_keys:#?}"
    );
}

/// A runtime of an earlier release, or a user, may have made `modules` before: the module's mode does not depend on it.
#[test]
fn the_module_is_its_owners_where_it_was_everybodys() {
    let Some(setup) = setup() else { return };
    let work = WorkDir::temporary(&std::env::temp_dir()).unwrap();
    open_handed(&work, &setup.cli, &["cert", "init"]);
    work.fill(&setup.module, &setup.guests).unwrap();
    let module = work.path().join(MODULE);
    for path in [&module, module.parent().unwrap()] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o777)).unwrap();
    }
    // Whoever has it open has the old file, without keys.
    let opened = fs::File::open(&module).unwrap();
    open_handed(&work, &setup.cli, &["server", "install"]);
    let secrets = Secrets::below(work.path());
    assert_eq!(secrets.within(&fs::read(&module).unwrap()).len(), 2);
    let mode = fs::metadata(&module).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode, 0o600, "{mode:o}");
    let mut old = Vec::new();
    std::io::Read::read_to_end(&mut &opened, &mut old).unwrap();
    assert!(secrets.within(&old).is_empty());
}
