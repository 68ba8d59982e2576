//! A provisioned server serves as it was told to, or it listens on nothing: without the capability that it needs, damaged,
//! with certificates that are none, beside another service on its port. And `selium server install`, which refuses what
//! would end like this.

#![allow(
    clippy::print_stderr,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

use std::collections::BTreeSet;
use std::fs;
use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use selium_remote_e2e::certificates::{Authority, Life, Secrets, fill, write};
use selium_remote_e2e::{Answer, Dice, Run, Server, Setup, Tls, block_on, eventually, run, setup};
use selium_remote_provision::segment::{CAPACITY, EMPTY};
use selium_remote_provision::{KeyPem, Provision, format, install};
use xtask::proc::Guard;
use xtask::runtime::{Runtime, SECURE, free_port, module_spec};
use xtask::selium::Selium;
use xtask::workdir::WorkDir;

/// The server's module in a work dir.
const MODULE: &str = "selium_remote_client_server.wasm";

/// Where the checksum of a segment stands, and the payload behind it (`provision`, `format`).
const VERSION_AT: usize = 32;
const LENGTH_AT: usize = 34;
const SUM_AT: usize = 38;
const PAYLOAD_AT: usize = 70;

/// How long a client waits for what must not come. On loopback a server that answers does so in some milliseconds.
const SILENCE: Duration = Duration::from_millis(700);

/// A work dir as `selium cert init` and `selium server install` make it.
fn provisioned(
    setup: &Setup,
    port: u16,
    policy: impl FnOnce(&WorkDir) -> Option<PathBuf>,
) -> WorkDir {
    let work = WorkDir::temporary(&std::env::temp_dir()).unwrap();
    let mut init = work.selium(&setup.cli);
    run(with(&mut init, &["cert", "init"])).succeeded();
    let policy = policy(&work);
    work.prepare_secure(
        &setup.cli,
        &setup.module,
        &setup.guests,
        port,
        policy.as_deref(),
    )
    .unwrap();
    work
}

/// The command with these arguments.
fn with(command: &mut Command, args: &[&str]) -> Command {
    let mut whole = Command::new(command.get_program());
    whole.args(command.get_args()).args(args);
    if let Some(folder) = command.get_current_dir() {
        whole.current_dir(folder);
    }
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => whole.env(name, value),
            None => whole.env_remove(name),
        };
    }
    whole
}

/// The server's module in that work dir.
fn module(work: &WorkDir) -> PathBuf {
    work.path().join("modules").join(MODULE)
}

/// What is provisioned there.
fn provision(work: &WorkDir) -> Provision {
    let module = fs::read(module(work)).unwrap();
    install::extract(&module).unwrap().expect("a provision")
}

/// Puts the module with another provision beside the one that is there.
fn patched(work: &WorkDir, name: &str, provision: &Provision) {
    let module = fs::read(module(work)).unwrap();
    let patched = install::patch(&module, provision).unwrap();
    install::write(&work.path().join("modules").join(name), &patched).unwrap();
}

/// The line that runs that module.
fn spec(name: &str, port: u16, more: &[&str]) -> String {
    module_spec(port, more).replace(MODULE, name)
}

/// Starts the runtime with these modules, one after another.
fn start(setup: &Setup, work: &WorkDir, specs: &[String]) -> Runtime {
    let (last, others) = specs.split_last().expect("a module");
    let mut options = vec!["--log-format", "json"];
    for spec in others {
        options.extend(["--module", spec]);
    }
    Runtime::start_with(&setup.runtime, work, 0, last, &options).unwrap()
}

/// Waits for so many errors in the runtime's log, and returns them.
fn complaints(runtime: &mut Runtime, count: usize) -> Vec<String> {
    let found = |log: &str| -> Vec<String> {
        let lines = log
            .lines()
            .filter(|line| line.contains("listens on nothing"));
        lines.map(str::to_owned).collect()
    };
    let mut lines = Vec::new();
    // One module is started after another, which takes its time on a busy machine.
    for wanted in 1..=count {
        lines = eventually("the errors in the runtime's log", || {
            let ended = runtime.ended().unwrap();
            assert!(
                ended.is_none(),
                "the runtime ended: {ended:?}\n{}",
                runtime.tail()
            );
            let lines = found(&runtime.log().unwrap());
            (lines.len() >= wanted).then_some(lines)
        });
    }
    assert_eq!(lines.len(), count, "{lines:#?}");
    for line in &lines {
        assert!(line.contains("ERROR"), "{line}");
    }
    lines
}

/// The UDP ports that a process is bound to.
fn ports(pid: u32) -> BTreeSet<u16> {
    let mut inodes = BTreeSet::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fd")).unwrap() {
        let Ok(target) = fs::read_link(entry.unwrap().path()) else {
            continue; // closed meanwhile
        };
        let target = target.to_string_lossy().into_owned();
        if let Some(inode) = target.strip_prefix("socket:[") {
            inodes.insert(inode.trim_end_matches(']').to_owned());
        }
    }
    let mut ports = BTreeSet::new();
    for table in ["udp", "udp6"] {
        let table = fs::read_to_string(format!("/proc/{pid}/net/{table}")).unwrap();
        for line in table.lines().skip(1) {
            let fields: Vec<&str> = line.split_whitespace().collect();
            if inodes.contains(fields[9]) {
                let (_, port) = fields[1].rsplit_once(':').expect("address:port");
                ports.insert(u16::from_str_radix(port, 16).expect("a port"));
            }
        }
    }
    ports
}

/// Fails if anything of the application comes from that port.
fn must_be_silent(work: &WorkDir, port: u16) {
    let knock = block_on(Tls::of(&work.certs()).knock_for(port, "localhost", SILENCE));
    let silent = matches!(
        knock.answer,
        Answer::Nothing | Answer::Closed(_) | Answer::Alert(_)
    );
    assert!(silent && knock.bytes == 0, "port {port}: {knock:?}");
}

fn selium(setup: &Setup, certs: &Path, port: u16, args: &[&str]) -> Run {
    let selium = Selium {
        binary: setup.cli.clone(),
        certs: certs.to_owned(),
        port,
    };
    let mut command = selium.command(args);
    command.env_remove("RUST_LOG");
    run(command)
}

/// Waits until that port answers a client of the work dir.
fn must_answer(setup: &Setup, work: &WorkDir, port: u16) {
    eventually("an answer", || {
        let run = selium(setup, &work.certs(), port, &["--timeout", "5", "ps", "-q"]);
        (run.code == Some(0)).then_some(())
    });
}

#[test]
fn without_the_capability_for_tls_it_listens_on_nothing() {
    let Some(setup) = setup() else { return };
    let [documented, secure] = [(); 2].map(|()| free_port().unwrap());
    let work = provisioned(&setup, documented, |_| None);
    // What it serves with is no more than that capability: the same file, in the same runtime.
    let specs = [
        spec(MODULE, documented, &[]),
        spec(MODULE, secure, &["NetTlsServerConfig"]),
    ];
    let mut runtime = start(&setup, &work, &specs);
    let lines = complaints(&mut runtime, 1);
    assert!(lines[0].contains("NetTlsServerConfig"), "{lines:?}");
    must_answer(&setup, &work, secure);

    assert_eq!(ports(runtime.pid()), BTreeSet::from([secure]));
    drop(UdpSocket::bind(("0.0.0.0", documented)).expect("the port is free"));
    must_be_silent(&work, documented);
    let begun = Instant::now();
    let ping = selium(
        &setup,
        &work.certs(),
        documented,
        &["--timeout", "1", "ping"],
    );
    assert_eq!((ping.code, &*ping.stdout), (Some(1), ""), "{ping}");
    assert!(ping.stderr.contains("no answer"), "{ping}");
    assert!(begun.elapsed() < Duration::from_secs(10));
    // The other has no clock, and says what it cannot do without.
    let log = runtime.log().unwrap();
    let warned = log.lines().filter(|line| line.contains("TimeRead"));
    let warned: Vec<&str> = warned.collect();
    assert_eq!(warned.len(), 1, "{log}");
    assert!(warned[0].contains("WARN"), "{warned:?}");
}

/// The module with this change in its segment.
fn altered(module: &[u8], at: usize, change: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let mut bytes = module.to_vec();
    change(&mut bytes[at..at + CAPACITY]);
    bytes
}

#[test]
fn an_altered_module_listens_on_nothing() {
    let Some(setup) = setup() else { return };
    let mut dice = Dice::seeded("an_altered_module_listens_on_nothing");
    let port = free_port().unwrap();
    let work = provisioned(&setup, port, |_| None);
    let good = fs::read(module(&work)).unwrap();
    let (at, state) = install::locate(&good).unwrap();
    assert_eq!(state, format::State::Provisioned(format::VERSION));
    let length = &good[at + LENGTH_AT..at + SUM_AT];
    let length = u32::from_be_bytes(length.try_into().unwrap()) as usize;
    let used = PAYLOAD_AT + length;
    assert!(length > 1_000 && used < CAPACITY / 2, "{length}");

    let mut flip = |from: usize, to: usize| {
        let at_byte = from + dice.below((to - from) as u64) as usize;
        let bit = 1 << dice.below(8);
        let name = format!("bit {bit:#04x} of byte {at_byte} flipped");
        (name, altered(&good, at, |segment| segment[at_byte] ^= bit))
    };
    let mut modules = vec![
        flip(0, VERSION_AT),
        flip(VERSION_AT, LENGTH_AT),
        flip(LENGTH_AT, SUM_AT),
        flip(SUM_AT, PAYLOAD_AT),
        flip(PAYLOAD_AT, used),
        flip(PAYLOAD_AT, used),
        flip(used, CAPACITY),
        flip(CAPACITY - 1, CAPACITY),
    ];
    let mut change = |name: &str, change: &dyn Fn(&mut [u8])| {
        modules.push((name.to_owned(), altered(&good, at, change)));
    };
    change("the first half emptied", &|it| {
        it[..used / 2].copy_from_slice(&EMPTY[..used / 2]);
    });
    change("the second half emptied", &|it| {
        it[used / 2..].copy_from_slice(&EMPTY[used / 2..]);
    });
    change("the header emptied", &|it| {
        it[..PAYLOAD_AT].copy_from_slice(&EMPTY[..PAYLOAD_AT]);
    });
    change("cut off, as files are whose end was never written", &|it| {
        it[used / 3..].fill(0);
    });
    change("all of it zero", &|it| it.fill(0));

    let mut specs = Vec::new();
    let mut silent = Vec::new();
    for (number, (name, bytes)) in modules.iter().enumerate() {
        eprintln!("{number}: {name}");
        let file = format!("altered-{number}.wasm");
        fs::write(work.path().join("modules").join(&file), bytes).unwrap();
        let port = free_port().unwrap();
        specs.push(spec(&file, port, &SECURE));
        silent.push(port);
    }
    specs.push(spec(MODULE, port, &SECURE));
    let begun = Instant::now();
    let mut runtime = start(&setup, &work, &specs);
    let lines = complaints(&mut runtime, modules.len());
    for line in &lines {
        assert!(line.contains("provisioned cannot be used"), "{line}");
        assert!(line.contains("checksum"), "{line}");
    }
    must_answer(&setup, &work, port);
    eprintln!("{} modules started in {:?}", specs.len(), begun.elapsed());
    assert_eq!(ports(runtime.pid()), BTreeSet::from([port]), "{silent:?}");
    assert!(
        Secrets::below(work.path())
            .within(runtime.log().unwrap().as_bytes())
            .is_empty()
    );
}

#[test]
fn a_module_that_is_cut_off_does_not_load() {
    let Some(setup) = setup() else { return };
    let port = free_port().unwrap();
    let work = provisioned(&setup, port, |_| None);
    let good = fs::read(module(&work)).unwrap();
    let (at, _) = install::locate(&good).unwrap();
    for end in [
        0,
        8,
        good.len() / 2,
        at + 1_000,
        at + CAPACITY,
        good.len() - 1,
    ] {
        fs::write(module(&work), &good[..end]).unwrap();
        let mut runtime = start(&setup, &work, &[spec(MODULE, port, &SECURE)]);
        let status = eventually("the runtime's end", || runtime.ended().unwrap());
        assert!(!status.success(), "{end}: {status}\n{}", runtime.tail());
        let log = runtime.log().unwrap();
        assert!(
            !log.contains("remote client server listening"),
            "{end}: {log}"
        );
        assert!(
            Secrets::below(work.path())
                .within(log.as_bytes())
                .is_empty()
        );
    }
    drop(UdpSocket::bind(("0.0.0.0", port)).expect("the port is free"));
}

/// PEM of nothing.
fn garbage(kind: &str) -> String {
    format!("-----BEGIN {kind}-----\nZ2FyYmFnZQ==\n-----END {kind}-----\n")
}

#[test]
fn certificates_that_are_none_are_not_served_with() {
    let Some(setup) = setup() else { return };
    let port = free_port().unwrap();
    let work = provisioned(&setup, port, |_| None);
    let good = provision(&work);
    let mut specs = Vec::new();
    let mut silent = Vec::new();
    let mut case = |name: &str, domain: &str, change: &dyn Fn(&mut Provision)| {
        let mut provision = good.clone();
        change(&mut provision);
        patched(&work, name, &provision);
        let port = free_port().unwrap();
        let spec = spec(name, port, &SECURE);
        specs.push(spec.replace("utf8:localhost", &format!("utf8:{domain}")));
        silent.push(port);
    };
    case("chain.wasm", "localhost", &|it| {
        it.server_chain = garbage("CERTIFICATE").into_bytes();
    });
    case("key.wasm", "localhost", &|it| {
        it.server_key = KeyPem::new(garbage("PRIVATE KEY").into_bytes());
    });
    case("client-ca.wasm", "localhost", &|it| {
        it.listeners[0].client_ca = garbage("CERTIFICATE").into_bytes();
    });
    case("name.wasm", "elsewhere.example", &|_| {});
    specs.push(spec(MODULE, port, &SECURE));

    let mut runtime = start(&setup, &work, &specs);
    let lines = complaints(&mut runtime, silent.len());
    // (The host has bound two of these ports by the time it refuses.)
    for (line, port) in lines.iter().zip(&silent) {
        assert!(
            line.contains("the role admin") && line.contains(&port.to_string()),
            "{line}"
        );
        must_be_silent(&work, *port);
    }
    must_answer(&setup, &work, port);
}

/// A provisioned server with the key of another certificate: the host takes it, and no client does.
#[test]
fn a_key_of_another_certificate_lets_nobody_in() {
    let Some(setup) = setup() else { return };
    let port = free_port().unwrap();
    let work = provisioned(&setup, port, |_| None);
    let mut other = provision(&work);
    let key = fs::read(work.certs().join("server.key")).unwrap();
    other.server_key = KeyPem::new(key);
    patched(&work, MODULE, &other);
    let mut runtime = start(&setup, &work, &[spec(MODULE, port, &SECURE)]);
    eventually("the port", || {
        ports(runtime.pid()).contains(&port).then_some(())
    });
    let refused = eventually("a verdict", || {
        let run = selium(&setup, &work.certs(), port, &["--timeout", "2", "ps"]);
        (!run.stderr.contains("no answer")).then_some(run)
    });
    assert_eq!((refused.code, &*refused.stdout), (Some(1), ""), "{refused}");
    assert!(refused.stderr.contains("certificate"), "{refused}");
    must_be_silent(&work, port);
    assert!(runtime.ended().unwrap().is_none());
}

#[test]
fn where_one_port_cannot_be_had_none_is_served() {
    let Some(setup) = setup() else { return };
    let [admins, viewers] = [(); 2].map(|()| free_port().unwrap());
    let work = provisioned(&setup, admins, |work| {
        let mut issue = work.selium(&setup.cli);
        run(with(
            &mut issue,
            &["cert", "issue", "vera", "--role", "viewer"],
        ))
        .succeeded();
        let policy = work.path().join("policy.toml");
        let text = format!("[role.admin]\n\n[role.viewer]\nport = {viewers}\n");
        fs::write(&policy, text).unwrap();
        Some(policy)
    });
    let taken = UdpSocket::bind(("0.0.0.0", viewers)).unwrap();
    let mut runtime = start(&setup, &work, &[spec(MODULE, admins, &SECURE)]);
    let lines = complaints(&mut runtime, 1);
    for word in [&*viewers.to_string(), "viewer"] {
        assert!(lines[0].contains(word), "{word}: {lines:?}");
    }
    must_be_silent(&work, admins);
    let ping = selium(&setup, &work.certs(), admins, &["--timeout", "1", "ping"]);
    assert_eq!((ping.code, &*ping.stdout), (Some(1), ""), "{ping}");
    drop(runtime);

    // It is that port and nothing else.
    drop(taken);
    let _runtime = start(&setup, &work, &[spec(MODULE, admins, &SECURE)]);
    must_answer(&setup, &work, admins);
    let vera = work.path().join("clients/vera");
    selium(&setup, &vera, viewers, &["ps", "-q"]).printed("");
}

/// A group of processes, which ends with this value.
struct Group(Guard);

impl Drop for Group {
    fn drop(&mut self) {
        // The group has the number of its first process, which is waited for only afterwards.
        let group = format!("-{}", self.0.id());
        let _ = Command::new("kill").args(["-KILL", "--", &group]).status();
    }
}

#[test]
fn the_line_that_is_printed_runs_the_server() {
    let Some(setup) = setup() else { return };
    let port = free_port().unwrap();
    // Its name is one that shells would take apart.
    let outer = WorkDir::temporary(&std::env::temp_dir()).unwrap();
    let work = WorkDir::at(&outer.path().join("it's a \"work\" dir; $HOME")).unwrap();
    run(with(&mut work.selium(&setup.cli), &["cert", "init"])).succeeded();
    work.fill(&setup.module, &setup.guests).unwrap();
    let port_text = port.to_string();
    let install = ["--port", &port_text, "server", "install"];
    let printed = run(with(&mut work.selium(&setup.cli), &install));
    printed.succeeded();
    assert_eq!(printed.stdout.lines().count(), 1, "{printed}");
    let line = printed.stdout.trim_end();

    let secrets = Secrets::below(work.path());
    assert!(secrets.len() >= 7, "{secrets:?}");
    for text in [&printed.stdout, &printed.stderr] {
        assert!(secrets.within(text.as_bytes()).is_empty(), "{printed}");
    }
    let mut json = work.selium(&setup.cli);
    let json = run(with(
        &mut json,
        &[&install[..], &["--log-format", "json"]].concat(),
    ));
    json.succeeded();
    let json = selium_remote_e2e::line(&json.stdout);
    assert_eq!(json["command"]["line"], line);
    assert_eq!(json["command"]["dir"], work.path().to_str().unwrap());
    let words: Vec<&str> = json["command"]["argv"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it.as_str().unwrap())
        .collect();
    let module = module_spec(port, &SECURE);
    assert_eq!(
        words,
        [
            "selium-runtime",
            "--log-format",
            "json",
            "--module",
            &module
        ]
    );
    // Only the folder is a path of this machine.
    assert!(!words.concat().contains(work.path().to_str().unwrap()));
    assert_eq!(
        line.matches(" /").count() + line.matches("'/").count(),
        1,
        "{line}"
    );

    let log = fs::File::create(outer.path().join("log")).unwrap();
    let folder = setup.runtime.parent().unwrap().display();
    let shell = Command::new("sh")
        .args(["-c", line])
        .current_dir("/")
        .env_clear()
        .env("PATH", format!("{folder}:/usr/bin:/bin"))
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap();
    let mut group = Group(Guard::new(shell));
    must_answer(&setup, &work, port);
    let ping = selium(&setup, &work.certs(), port, &["ping", "--count", "1"]);
    ping.succeeded();
    assert_eq!(ping.stderr, "", "{ping}");
    assert!(group.0.ended().unwrap().is_none());
}

/// What `change` makes of a client's directory.
fn changed(certs: &Path, change: impl FnOnce(&Path)) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for file in ["ca.crt", "client.crt", "client.key"] {
        fs::copy(certs.join(file), folder.path().join(file)).unwrap();
    }
    change(folder.path());
    folder
}

fn cut(path: &Path) {
    let text = fs::read(path).unwrap();
    fs::write(path, &text[..text.len() / 2]).unwrap();
}

fn swap(folder: &Path, left: &str, right: &str) {
    let other = folder.join("other");
    fs::rename(folder.join(left), &other).unwrap();
    fs::rename(folder.join(right), folder.join(left)).unwrap();
    fs::rename(&other, folder.join(right)).unwrap();
}

#[test]
fn certificate_directories_that_are_not_right_are_named_and_nothing_is_sent() {
    let Some(server) = Server::secure(|_, _| None) else {
        return;
    };
    let (setup, certs) = (server.setup(), server.certs());
    let listener = UdpSocket::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut packet = [0; 2_048];

    let mut check = |what: &str, names: &[&str], change: &dyn Fn(&Path)| {
        let folder = changed(&certs, change);
        for port in [server.port(), port] {
            let refused = selium(setup, folder.path(), port, &["--timeout", "5", "ps"]);
            assert_eq!(
                (refused.code, &*refused.stdout),
                (Some(1), ""),
                "{what}: {refused}"
            );
            for name in names {
                let path = folder.path().join(name).display().to_string();
                assert!(refused.stderr.contains(&path), "{what}: {refused}");
            }
            let secrets = Secrets::below(&certs);
            assert!(
                secrets.within(refused.stderr.as_bytes()).is_empty(),
                "{refused}"
            );
        }
        let sent = listener.recv_from(&mut packet);
        assert!(sent.is_err(), "{what}: sent {sent:?}");
    };
    for file in ["ca.crt", "client.crt", "client.key"] {
        check(&format!("{file} missing"), &[file], &|it| {
            fs::remove_file(it.join(file)).unwrap();
        });
        check(&format!("{file} empty"), &[file], &|it| {
            fs::write(it.join(file), "").unwrap();
        });
        check(&format!("{file} cut off"), &[file], &|it| {
            cut(&it.join(file))
        });
        check(&format!("{file} a folder"), &[file], &|it| {
            fs::remove_file(it.join(file)).unwrap();
            fs::create_dir(it.join(file)).unwrap();
        });
        check(&format!("{file} without line breaks"), &[file], &|it| {
            let text = fs::read_to_string(it.join(file)).unwrap();
            fs::write(it.join(file), text.replace('\n', "")).unwrap();
        });
    }
    check("certificate and key swapped", &["client.crt"], &|it| {
        swap(it, "client.crt", "client.key");
    });
    check("certificate and CA swapped", &["client.crt"], &|it| {
        swap(it, "client.crt", "ca.crt");
    });
    check("another's key", &["client.crt", "client.key"], &|it| {
        fs::copy(certs.join("server.key"), it.join("client.key")).unwrap();
    });

    // Modes are warned of, and whoever is right has something sent.
    let open = changed(&certs, |it| {
        let mode = fs::Permissions::from_mode(0o644);
        fs::set_permissions(it.join("client.key"), mode).unwrap();
    });
    let warned = selium(setup, open.path(), server.port(), &["-v", "ps", "-q"]);
    warned.printed("");
    let key = open.path().join("client.key").display().to_string();
    assert!(
        warned.stderr.contains(&key) && warned.stderr.contains("644"),
        "{warned}"
    );
    let silent = selium(setup, &certs, port, &["--timeout", "0.5", "ps"]);
    assert_eq!(silent.code, Some(1), "{silent}");
    assert!(
        listener.recv_from(&mut packet).is_ok(),
        "the right one is sent"
    );
    server.must_answer();
}

#[test]
fn what_is_not_right_is_not_installed() {
    let Some(setup) = setup() else { return };
    let work = provisioned(&setup, 7_000, |_| None);
    let folder = work.path().join("control-plane");
    let module = module(&work);
    let before = fs::read(&module).unwrap();
    let names = |folder: &Path| -> BTreeSet<_> {
        let entries = fs::read_dir(folder).unwrap();
        entries.map(|it| it.unwrap().file_name()).collect()
    };
    let modules = names(&work.path().join("modules"));
    let files = ["server.crt", "server.key", "clients-admin.crt", "audit.key"];
    let good = files.map(|file| fs::read(folder.join(file)).unwrap());
    let secrets = Secrets::below(work.path());

    let mut count = 0;
    let mut check = |what: &str, name: &str, change: &dyn Fn(&Path)| {
        change(&folder);
        let refused = run(with(&mut work.selium(&setup.cli), &["server", "install"]));
        assert_eq!(
            (refused.code, &*refused.stdout),
            (Some(1), ""),
            "{what}: {refused}"
        );
        assert!(refused.stderr.contains(name), "{what}: {refused}");
        assert!(
            secrets.within(refused.stderr.as_bytes()).is_empty(),
            "{refused}"
        );
        assert!(
            fs::read(&module).unwrap() == before,
            "{what} changed the module"
        );
        assert_eq!(names(&work.path().join("modules")), modules, "{what}");
        for (file, bytes) in files.iter().zip(&good) {
            let path = folder.join(file);
            let _ = fs::remove_dir(&path);
            fs::write(&path, bytes).unwrap();
        }
        count += 1;
    };
    for file in files {
        check(&format!("{file} empty"), file, &|it| {
            fs::write(it.join(file), "").unwrap();
        });
        check(&format!("{file} cut off"), file, &|it| cut(&it.join(file)));
        check(&format!("{file} a folder"), file, &|it| {
            fs::remove_file(it.join(file)).unwrap();
            fs::create_dir(it.join(file)).unwrap();
        });
        // Without an audit key a new one is made.
        if file != "audit.key" {
            check(&format!("{file} missing"), file, &|it| {
                fs::remove_file(it.join(file)).unwrap();
            });
        }
    }
    check("server.crt and server.key swapped", "server.crt", &|it| {
        swap(it, "server.crt", "server.key");
    });
    check(
        "server.crt and clients-admin.crt swapped",
        "server.crt",
        &|it| {
            swap(it, "server.crt", "clients-admin.crt");
        },
    );
    check("audit.key and server.key swapped", "server.key", &|it| {
        swap(it, "audit.key", "server.key");
    });
    check("the runtime's key", "server.key", &|it| {
        fs::copy(work.certs().join("server.key"), it.join("server.key")).unwrap();
    });
    check("the runtime's certificate and key", "server.crt", &|it| {
        for file in ["server.crt", "server.key"] {
            fs::copy(work.certs().join(file), it.join(file)).unwrap();
        }
    });
    check("a client's certificate and key", "server.crt", &|it| {
        for kind in ["crt", "key"] {
            let (from, to) = (format!("client.{kind}"), format!("server.{kind}"));
            fs::copy(work.certs().join(from), it.join(to)).unwrap();
        }
    });
    check("clients of the server's CA", "CA", &|it| {
        fs::copy(work.certs().join("ca.crt"), it.join("clients-admin.crt")).unwrap();
    });
    let server_ca = Authority::of(work.path(), "server");
    for (what, life, word) in [
        ("expired", Life::past(), "expired"),
        ("not yet valid", Life::future(), "not valid"),
    ] {
        check(&format!("server.crt {what}"), "server.crt", &|it| {
            let [certificate, key] = server_ca.server(&["localhost"], life);
            write(it, "server.crt", &certificate);
            write(it, "server.key", &key);
        });
        check(&format!("clients-admin.crt {what}"), word, &|it| {
            let ca = Authority::living("old", life);
            write(it, "clients-admin.crt", ca.pem());
        });
    }
    check("server.crt for another name", "elsewhere.example", &|it| {
        let [certificate, key] = server_ca.server(&["elsewhere.example"], Life::present());
        write(it, "server.crt", &certificate);
        write(it, "server.key", &key);
    });
    eprintln!("{count} ways to be wrong");

    // A module that was damaged after it was provisioned is not provisioned again.
    let (at, _) = install::locate(&before).unwrap();
    let damaged = altered(&before, at, |segment| segment[PAYLOAD_AT] ^= 1);
    fs::write(&module, &damaged).unwrap();
    let refused = run(with(&mut work.selium(&setup.cli), &["server", "install"]));
    assert_eq!((refused.code, &*refused.stdout), (Some(1), ""), "{refused}");
    assert!(refused.stderr.contains(MODULE), "{refused}");
    assert!(fs::read(&module).unwrap() == damaged);
    fs::write(&module, &before).unwrap();

    // Everything is as it was.
    work.install(&setup.cli, 7_000, None).unwrap();
    assert!(fs::read(&module).unwrap() == before, "the same again");
}

#[test]
fn certificates_of_the_runtime_work_for_the_admin_with_a_warning() {
    let Some(setup) = setup() else { return };
    let port = free_port().unwrap();
    let work = WorkDir::temporary(&std::env::temp_dir()).unwrap();
    work.prepare(&setup.runtime, &setup.module, &setup.guests)
        .unwrap();
    let port_text = port.to_string();
    let install = ["--port", &port_text, "server", "install"];
    let installed = run(with(&mut work.selium(&setup.cli), &install));
    installed.succeeded();
    let warned = installed
        .stderr
        .lines()
        .filter(|line| line.starts_with("warning"));
    let warned: Vec<&str> = warned.collect();
    assert!(
        warned
            .iter()
            .any(|line| line.contains("one CA for everything")),
        "{installed}"
    );

    // No other role is possible.
    let policy = work.path().join("policy.toml");
    fs::write(&policy, "[role.admin]\n\n[role.viewer]\nport = 7001\n").unwrap();
    let before = fs::read(module(&work)).unwrap();
    let refused = [&install[..], &["--policy", "policy.toml"]].concat();
    let refused = run(with(&mut work.selium(&setup.cli), &refused));
    assert_eq!(refused.code, Some(1), "{refused}");
    assert!(fs::read(module(&work)).unwrap() == before);

    let _runtime = start(&setup, &work, &[spec(MODULE, port, &SECURE)]);
    must_answer(&setup, &work, port);
    let listed = selium(&setup, &work.certs(), port, &["ps", "-q"]);
    listed.printed("");
    assert_eq!(listed.stderr, "", "clients are authenticated: {listed}");
    let anonymous = block_on(Tls::anonymous(&work.certs()).knock(port));
    assert_eq!(anonymous.alert(), 116, "{anonymous:?}");
    let other = work.path().join("other");
    let ca = fs::read_to_string(work.certs().join("ca.crt")).unwrap();
    fill(
        &other,
        &ca,
        Authority::new("another").client(Life::present()),
    );
    let refused = block_on(Tls::of(&other).knock(port));
    assert_eq!(refused.alert(), 48, "{refused:?}");
    // What the warning says of the runtime's own certificate.
    let server = work.path().join("as-server");
    let read = |name: &str| fs::read_to_string(work.certs().join(name)).unwrap();
    fill(&server, &ca, [read("server.crt"), read("server.key")]);
    let knock = block_on(Tls::of(&server).knock(port));
    eprintln!(
        "the runtime's own certificate as a client's: {:?}",
        knock.answer
    );
}
