//! `selium server install`: the binary, in folders of its own, with modules that have the segment and nothing else.

#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "helpers of tests"
)]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use common::{
    DAY, Said, command, contents, fine, init_at, json, mode, no_key_is_in, refused, run, run_after,
    said, set_mode,
};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
};
use selium_remote_provision::{
    Provision, install,
    policy_file::PolicyFile,
    segment::{CAPACITY, EMPTY},
};
use tempfile::TempDir;
use wasm_encoder::{ConstExpr, DataSection, MemorySection, MemoryType, Module};

const NAME: &str = "selium_remote_client_server.wasm";
const INSTALLED: &str = "modules/selium_remote_client_server.wasm";
const SPEC: &str = "path=modules/selium_remote_client_server.wasm;capabilities=ChannelLifecycle,ChannelReader,\
                    ChannelWriter,ProcessLifecycle,NetQuicBind,NetQuicAccept,NetQuicRead,NetQuicWrite,\
                    NetTlsServerConfig,TimeRead;args=utf8:";

/// A module with these data segments.
fn module(data: &[&[u8]]) -> Vec<u8> {
    let mut memories = MemorySection::new();
    memories.memory(MemoryType {
        minimum: 2,
        maximum: None,
        memory64: false,
        shared: false,
        page_size_log2: None,
    });
    let mut segments = DataSection::new();
    for bytes in data {
        segments.active(0, &ConstExpr::i32_const(1_024), bytes.iter().copied());
    }
    let mut module = Module::new();
    module.section(&memories).section(&segments);
    module.finish()
}

/// A folder with certificates and, outside of the work dir, a module: `plain.wasm` and `work`.
fn prepared() -> TempDir {
    let folder = TempDir::new().unwrap();
    fine(folder.path(), "cert init --dir work");
    fs::write(folder.path().join("plain.wasm"), module(&[&EMPTY])).unwrap();
    folder
}

const INSTALL: &str = "server install --work-dir work --module plain.wasm";

fn installed(work: &Path) -> Provision {
    let module = fs::read(work.join(INSTALLED)).unwrap();
    install::extract(&module).unwrap().unwrap()
}

fn path(folder: &TempDir, name: &str) -> PathBuf {
    folder.path().join(name)
}

fn copy(folder: &TempDir, from: &str, to: &str) {
    fs::copy(path(folder, from), path(folder, to)).unwrap();
}

#[test]
fn what_is_installed_is_what_is_there() {
    let folder = prepared();
    let work = path(&folder, "work");
    let said = fine(folder.path(), INSTALL);
    let dir = work.to_str().unwrap();
    assert_eq!(
        said.out,
        format!(
            "cd {dir} && TOKIO_WORKER_THREADS=8 RUST_LOG=info,selium_messaging=warn selium-runtime --log-format json \
             --module '{SPEC}localhost,u16:7000'\n"
        )
    );
    for part in [
        "wrote work/modules/selium_remote_client_server.wasm\n",
        "role admin: port 7000, clients of CN=Selium admin CA ",
        ", SHA-256 ",
        "made the audit key work/control-plane/audit.key",
        "made the link work/modules/modules -> .",
        "has to be started again",
        &format!("`selium --cert-dir {dir}/certs ping`"),
    ] {
        assert!(said.err.contains(part), "{part}: {said:?}");
    }
    assert!(!said.err.contains("warning"), "{said:?}");

    let provision = installed(&work);
    let read = |name: &str| fs::read(work.join(name)).unwrap();
    assert_eq!(provision.server_chain, read("control-plane/server.crt"));
    assert_eq!(
        provision.server_key.expose(),
        read("control-plane/server.key")
    );
    let [admin] = provision.listeners.as_slice() else {
        panic!("{provision:?}");
    };
    assert_eq!((admin.role.name.as_str(), admin.port), ("admin", None));
    assert_eq!(admin.client_ca, read("control-plane/clients-admin.crt"));
    let hex: String = provision
        .audit_key
        .expose()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert_eq!(
        read("control-plane/audit.key"),
        format!("{hex}\n").into_bytes()
    );
    // Nothing else of the module changed.
    let (plain, patched) = (
        fs::read(path(&folder, "plain.wasm")).unwrap(),
        read(INSTALLED),
    );
    let (at, _) = install::locate(&plain).unwrap();
    assert_eq!(patched.len(), plain.len());
    assert_eq!(patched[..at], plain[..at]);
    assert_eq!(patched[at + CAPACITY..], plain[at + CAPACITY..]);
    assert_eq!(
        fs::read_link(work.join("modules/modules")).unwrap(),
        Path::new(".")
    );
}

#[test]
fn again_keeps_the_audit_key_and_provisions_anew() {
    let folder = prepared();
    let work = path(&folder, "work");
    fine(folder.path(), INSTALL);
    let (first, key) = (installed(&work), work.join("control-plane/audit.key"));
    let digits = fs::read(&key).unwrap();
    fine(folder.path(), "cert renew server --dir work");
    // From the work dir, with the module that is there.
    let said = fine(&work, "server install");
    assert!(
        said.out.starts_with(&format!("cd {} && ", work.display())),
        "{said:?}"
    );
    for part in [
        "wrote modules/selium_remote_client_server.wasm\n",
        "the audit key control-plane/audit.key stays as it was",
    ] {
        assert!(said.err.contains(part), "{part}: {said:?}");
    }
    assert!(!said.err.contains("made"), "{said:?}");
    let second = installed(&work);
    assert_eq!(fs::read(&key).unwrap(), digits);
    assert_eq!(second.audit_key, first.audit_key);
    assert_ne!(second.server_key, first.server_key);
    assert_ne!(second.server_chain, first.server_chain);
    assert_eq!(second.listeners, first.listeners);
    // The same again writes the same.
    let before = contents(&work);
    fine(&work, "server install");
    assert_eq!(contents(&work), before);
    // As if it had been the first.
    fine(folder.path(), INSTALL);
    assert_eq!(contents(&work), before);
    // The module may be a link: it is not written through.
    fs::rename(work.join(INSTALLED), path(&folder, "elsewhere.wasm")).unwrap();
    std::os::unix::fs::symlink(path(&folder, "elsewhere.wasm"), work.join(INSTALLED)).unwrap();
    fine(folder.path(), "cert renew server --dir work");
    let elsewhere = fs::read(path(&folder, "elsewhere.wasm")).unwrap();
    fine(&work, "server install");
    assert_eq!(
        fs::read(path(&folder, "elsewhere.wasm")).unwrap(),
        elsewhere
    );
    assert!(
        !fs::symlink_metadata(work.join(INSTALLED))
            .unwrap()
            .is_symlink()
    );
}

#[test]
fn modes_do_not_follow_the_umask() {
    for umask in ["000", "022", "077", "0277"] {
        let folder = prepared();
        let said = run_after(folder.path(), &format!("umask {umask};"), INSTALL);
        assert_eq!(said.code, Some(0), "umask {umask}: {said:?}");
        for (name, wanted) in [
            (INSTALLED, 0o600),
            ("control-plane/audit.key", 0o600),
            ("control-plane", 0o700),
        ] {
            let found = mode(&path(&folder, "work").join(name));
            assert_eq!(found, wanted, "umask {umask}, {name}: {found:o}");
        }
        let modules = mode(&path(&folder, "work/modules"));
        assert_eq!(modules & 0o077, 0, "umask {umask}: {modules:o}");
        let left = contents(folder.path());
        let left = left.iter().filter(|(path, ..)| {
            let name = path.file_name().unwrap().to_str().unwrap();
            name.starts_with('.') && name != ".lock"
        });
        assert_eq!(left.count(), 0, "something was left");
    }
    // One that others could read does not stay so.
    let folder = prepared();
    fs::create_dir(path(&folder, "work/modules")).unwrap();
    copy(&folder, "plain.wasm", &format!("work/{INSTALLED}"));
    set_mode(&path(&folder, "work").join(INSTALLED), 0o666);
    fine(folder.path(), "server install --work-dir work");
    assert_eq!(mode(&path(&folder, "work").join(INSTALLED)), 0o600);
}

#[test]
fn the_line_runs_as_it_stands() {
    let folder = TempDir::new().unwrap();
    let work = path(&folder, "it's my $HOME; work");
    init_at(&work, 0);
    fs::create_dir(work.join("modules")).unwrap();
    fs::write(work.join(INSTALLED), module(&[&EMPTY])).unwrap();
    let said = fine(&work, "server install --domain LocalHost --port 7443");
    assert_eq!(said.out.lines().count(), 1, "{said:?}");
    assert!(
        said.err.contains("--domain LocalHost --port 7443 ping`"),
        "{said:?}"
    );
    let bin = path(&folder, "bin");
    fs::create_dir(&bin).unwrap();
    let script = "#!/bin/sh\npwd\nprintf '%s\\n' \"$TOKIO_WORKER_THREADS $RUST_LOG\" \"$@\"\n";
    fs::write(bin.join("selium-runtime"), script).unwrap();
    set_mode(&bin.join("selium-runtime"), 0o700);
    let ran = Command::new("sh")
        .args(["-c", &said.out])
        .env("PATH", format!("{}:/usr/bin:/bin", bin.display()))
        .current_dir("/")
        .output()
        .unwrap();
    assert_eq!(
        String::from_utf8(ran.stdout).unwrap(),
        format!(
            "{}\n8 info,selium_messaging=warn\n--log-format\njson\n--module\n{SPEC}localhost,u16:7443\n",
            work.canonicalize().unwrap().display()
        )
    );
}

const POLICY: &str = r#"
[role.admin]

[role.operator]
port = 7001

[role.deploy]
port = 7002
permissions = ["start"]
modules = ["apps/*"]
ceiling = ["ProcessLifecycle", "NetQuicConnect", "TimeRead"]
dangerous = true

[role.viewer]
port = 7003
"#;

fn with_roles() -> TempDir {
    let folder = prepared();
    for role in ["operator", "deploy", "viewer"] {
        let said = fine(
            folder.path(),
            &format!("cert issue {role}-1 --dir work --role {role}"),
        );
        assert!(
            said.err.contains("`selium server install` with a policy"),
            "{said:?}"
        );
    }
    fs::write(path(&folder, "policy.toml"), POLICY).unwrap();
    folder
}

#[test]
fn a_policy_gives_roles() {
    let folder = with_roles();
    let said = fine(folder.path(), &format!("{INSTALL} --policy policy.toml"));
    for part in [
        "role admin: port 7000, clients of CN=Selium admin CA",
        "role operator: port 7001, clients of CN=Selium operator CA",
        "role viewer: port 7003, clients of CN=Selium viewer CA",
        "clients of the role viewer (`selium cert issue NAME --role viewer --dir work`) need --port 7003",
    ] {
        assert!(said.err.contains(part), "{part}: {said:?}");
    }
    let warnings: Vec<_> = said
        .err
        .lines()
        .filter(|it| it.starts_with("warning: "))
        .collect();
    let [warning] = warnings.as_slice() else {
        panic!("{warnings:?}");
    };
    for part in [
        "the role deploy",
        "as good as admin",
        "ProcessLifecycle starts and stops every process",
        "NetQuicConnect can connect to a control plane that is not provisioned",
    ] {
        assert!(warning.contains(part), "{part}: {warning}");
    }
    let work = path(&folder, "work");
    let policy = PolicyFile::load(&path(&folder, "policy.toml")).unwrap();
    let chain = fs::read(work.join("control-plane/server.crt")).unwrap();
    let wanted = policy
        .listeners(&work.join("control-plane"), &chain, &[])
        .unwrap();
    assert_eq!(wanted.len(), 4);
    assert_eq!(installed(&work).listeners, wanted);

    // And without it there is the admin again.
    fine(folder.path(), INSTALL);
    assert_eq!(installed(&work).listeners.len(), 1);
}

#[test]
fn a_policy_is_refused_with_its_place() {
    let folder = with_roles();
    let line = format!("{INSTALL} --policy policy.toml");
    let policy = path(&folder, "policy.toml");
    let cases: [(&str, &[&str]); 6] = [
        ("[role.admin]\nprot = 1\n", &["policy.toml:2:1: "]),
        (
            "[role.admin]\n\n[role.x]\nport = 7001\npermissions = [\"list\"]\nclient-ca = \"work/control-plane/clients-admin.crt\"\n",
            &["policy.toml:6:1", "trust the same CA key"],
        ),
        (
            "[role.admin]\nclient-ca = \"work/certs/ca.crt\"\n",
            &["policy.toml:2:", "is also the server's"],
        ),
        (
            "[role.admin]\n[role.other]\nbase = \"viewer\"\nport = 7001\n",
            &[
                "policy.toml:",
                "clients-other.crt",
                "selium cert issue NAME --role other",
            ],
        ),
        (
            "[role.admin]\n[role.viewer]\nport = 7001\nceiling = [\"ProcessLifecycle\"]\n",
            &["policy.toml:4:", "dangerous"],
        ),
        (
            "[role.admin]\n[role.viewer]\nport = 7000\n",
            &["two listeners have the port 7000", "--port"],
        ),
    ];
    for (text, parts) in cases {
        fs::write(&policy, text).unwrap();
        refused(folder.path(), 1, &line, parts);
    }
    fs::remove_file(&policy).unwrap();
    refused(folder.path(), 1, &line, &["policy.toml: ", "No such file"]);
    // The port of the last one is free with another for admin.
    fs::write(&policy, "[role.admin]\n[role.viewer]\nport = 7000\n").unwrap();
    fine(folder.path(), &format!("{line} --port 7443"));
}

#[test]
fn wrong_usage_is_refused() {
    let folder = prepared();
    for (line, parts) in [
        (
            "--domain 10.0.0.7",
            &["--domain localhost", "ask for localhost"][..],
        ),
        ("--domain ::1", &["--domain localhost"]),
        (
            "--domain a;capabilities=ProcessLifecycle",
            &["--domain: ", "cannot be used"],
        ),
        ("--domain a,u16:1", &["--domain: "]),
        ("--domain a_b", &["--domain: "]),
        ("--domain *.example.org", &["--domain: "]),
        ("--port 0", &["port 0"]),
        ("frobnicate", &["unexpected argument"]),
        ("-o json", &["unexpected argument"]),
    ] {
        let said = refused(folder.path(), 2, &format!("{INSTALL} {line}"), parts);
        assert!(said.err.contains("--help"), "{said:?}");
    }
    refused(
        folder.path(),
        2,
        "server frobnicate",
        &["unrecognized subcommand"],
    );
    let mut newline = command(folder.path(), "", INSTALL);
    let newline = said(newline.args(["--domain", "a\nb"]).output().unwrap());
    assert_eq!(newline.code, Some(2), "{newline:?}");
    assert!(!path(&folder, "work/modules").exists());
    assert_eq!(run(folder.path(), "server").code, Some(2));
}

#[test]
fn missing_things_are_named() {
    let folder = TempDir::new().unwrap();
    let init = "`selium cert init --dir work`";
    refused(
        folder.path(),
        1,
        "server install --work-dir work",
        &[init, "no folder work"],
    );
    fs::create_dir(path(&folder, "work")).unwrap();
    refused(
        folder.path(),
        1,
        "server install --work-dir work",
        &[init, "no certificate for the server in work/control-plane"],
    );
    refused(
        &path(&folder, "work"),
        1,
        "server install",
        &["`selium cert init --dir .`"],
    );

    let folder = prepared();
    refused(
        folder.path(),
        1,
        "server install --work-dir work",
        &[
            "there is no module work/modules/selium_remote_client_server.wasm",
            "--module FILE",
        ],
    );
    refused(
        folder.path(),
        1,
        "server install --work-dir work --module none.wasm",
        &["there is no module none.wasm", "--module"],
    );
    refused(
        folder.path(),
        1,
        "server install --work-dir work --module work",
        &["not a file"],
    );
    for name in [
        "control-plane/server.crt",
        "control-plane/server.key",
        "control-plane/clients-admin.crt",
        "certs/ca.crt",
    ] {
        let folder = prepared();
        let file = path(&folder, "work").join(name);
        fs::remove_file(&file).unwrap();
        let name = format!("work/{name}");
        refused(folder.path(), 1, INSTALL, &[&name, "missing"]);
        fs::write(&file, "").unwrap();
        refused(folder.path(), 1, INSTALL, &[&name, "empty"]);
        fs::write(
            &file,
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        )
        .unwrap();
        refused(folder.path(), 1, INSTALL, &[&name]);
    }
    let mut odd = command(folder.path(), "", "server install --work-dir");
    fs::create_dir(path(&folder, "a\nb")).unwrap();
    let odd = said(odd.arg("a\nb").output().unwrap());
    assert_eq!(odd.code, Some(1), "{odd:?}");
    assert!(odd.err.contains("rename the folder"), "{odd:?}");
}

#[test]
fn modules_that_are_none_are_refused() {
    let folder = prepared();
    let mut changed = EMPTY;
    changed[CAPACITY / 2] = 0;
    for (bytes, part) in [
        (b"no module".to_vec(), "plain.wasm: this is no WASM module"),
        (module(&[b"other"]), "not built for provisioning"),
        (module(&[&EMPTY, &EMPTY]), "not built for provisioning"),
        (module(&[&EMPTY[..CAPACITY - 1]]), "fresh copy"),
        (module(&[&changed]), "fresh copy"),
        (Vec::new(), "this is no WASM module"),
    ] {
        fs::write(path(&folder, "plain.wasm"), bytes).unwrap();
        refused(folder.path(), 1, INSTALL, &[part]);
    }
}

#[test]
fn certificates_that_cannot_serve_are_refused() {
    type Damage = fn(&TempDir);
    let cases: [(&str, &[&str], Damage); 9] = [
        (
            "",
            &["work/control-plane/server.key does not belong"],
            |folder| {
                copy(
                    folder,
                    "work/certs/server.key",
                    "work/control-plane/server.key",
                );
            },
        ),
        (
            "",
            &[
                "is not for a server but for: client",
                "selium cert renew server --dir work",
            ],
            |folder| {
                copy(
                    folder,
                    "work/certs/client.crt",
                    "work/control-plane/server.crt",
                );
                copy(
                    folder,
                    "work/certs/client.key",
                    "work/control-plane/server.key",
                );
            },
        ),
        ("", &["not issued by a CA in work/certs/ca.crt"], |folder| {
            copy(
                folder,
                "work/certs/server.crt",
                "work/control-plane/server.crt",
            );
            copy(
                folder,
                "work/certs/server.key",
                "work/control-plane/server.key",
            );
        }),
        (
            "",
            &["has expired", "selium cert renew server --dir work"],
            |folder| {
                fs::remove_dir_all(path(folder, "work")).unwrap();
                init_at(&path(folder, "work"), -91 * DAY);
            },
        ),
        ("", &["is not valid yet", "is the clock right?"], |folder| {
            fs::remove_dir_all(path(folder, "work")).unwrap();
            init_at(&path(folder, "work"), DAY);
        }),
        (
            "--domain other.example.org",
            &[
                "not valid for the name other.example.org",
                "only for: localhost, 127.0.0.1, ::1",
                "--domain",
                "selium cert renew server --dir work --server-name other.example.org",
                "`selium cert init` has --server-name",
            ],
            |_| {},
        ),
        (
            "",
            &["client CA of the role admin", "is no CA's"],
            |folder| {
                copy(
                    folder,
                    "work/certs/client.crt",
                    "work/control-plane/clients-admin.crt",
                );
            },
        ),
        (
            "",
            &["client CA of the role admin is also the server's"],
            |folder| {
                copy(
                    folder,
                    "work/certs/ca.crt",
                    "work/control-plane/clients-admin.crt",
                );
            },
        ),
        (
            "",
            &[
                "client CA of the role admin (CN=Selium admin CA",
                "has expired",
                "a new CA",
            ],
            |folder| {
                init_at(&path(folder, "old"), -3_651 * DAY);
                // Beside one that is good: it would be trusted for ever.
                let ca = "work/control-plane/clients-admin.crt";
                let mut both = fs::read(path(folder, ca)).unwrap();
                both.extend(fs::read(path(folder, "old/control-plane/clients-admin.crt")).unwrap());
                fs::write(path(folder, ca), both).unwrap();
            },
        ),
    ];
    for (options, parts, damage) in cases {
        let folder = prepared();
        damage(&folder);
        refused(folder.path(), 1, &format!("{INSTALL} {options}"), parts);
    }
    // The way out that is named works, and the variable counts as the option does.
    let folder = prepared();
    fine(
        folder.path(),
        "cert renew server --dir work --server-name other.example.org",
    );
    let before = "SELIUM_DOMAIN=other.example.org SELIUM_PORT=7443";
    let said = run_after(folder.path(), before, INSTALL);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(
        said.out.contains("args=utf8:other.example.org,u16:7443'"),
        "{said:?}"
    );
}

#[test]
fn what_is_due_is_warned_of() {
    let folder = prepared();
    fs::remove_dir_all(path(&folder, "work")).unwrap();
    init_at(&path(&folder, "work"), -70 * DAY);
    let said = fine(folder.path(), INSTALL);
    assert!(
        said.err
            .contains("warning: the server's certificate work/control-plane/server.crt ends at "),
        "{said:?}"
    );
    let folder = prepared();
    init_at(&path(&folder, "old"), -3_400 * DAY);
    copy(
        &folder,
        "old/control-plane/clients-admin.crt",
        "work/control-plane/clients-admin.crt",
    );
    let said = fine(folder.path(), INSTALL);
    assert!(
        said.err
            .contains("warning: the client CA of the role admin (CN=Selium admin CA"),
        "{said:?}"
    );
    let folder = prepared();
    set_mode(&path(&folder, "work/control-plane/server.key"), 0o640);
    let said = fine(folder.path(), INSTALL);
    assert!(
        said.err
            .contains("warning: other users may use the private key work/control-plane/server.key"),
        "{said:?}"
    );
    set_mode(&path(&folder, "work/control-plane/audit.key"), 0o644);
    let said = fine(folder.path(), INSTALL);
    assert!(
        said.err.contains(
            "warning: other users may use the audit key work/control-plane/audit.key (mode 644)"
        ),
        "{said:?}"
    );
}

#[test]
fn an_audit_key_that_is_none_is_refused() {
    let folder = prepared();
    let key = path(&folder, "work/control-plane/audit.key");
    let secret = "5ec2e75ec2e7".repeat(6);
    for text in ["", "\n", &secret, &secret[..63], "0123456789abcdef"] {
        fs::write(&key, text).unwrap();
        let said = refused(
            folder.path(),
            1,
            INSTALL,
            &["audit.key is no audit key", "64"],
        );
        assert!(!said.err.contains("5ec2e7"), "{said:?}");
    }
    fs::remove_file(&key).unwrap();
    fs::create_dir(&key).unwrap();
    refused(folder.path(), 1, INSTALL, &["audit.key cannot be read"]);
}

#[test]
fn a_folder_in_place_of_the_link_is_refused() {
    let folder = prepared();
    let link = path(&folder, "work/modules/modules");
    fs::create_dir_all(&link).unwrap();
    refused(
        folder.path(),
        1,
        INSTALL,
        &["work/modules/modules does not lead to work/modules"],
    );
    fs::remove_dir(&link).unwrap();
    std::os::unix::fs::symlink("nowhere", &link).unwrap();
    refused(
        folder.path(),
        1,
        INSTALL,
        &["does not lead to work/modules"],
    );
    fs::remove_file(&link).unwrap();
    std::os::unix::fs::symlink(path(&folder, "work/modules"), &link).unwrap();
    let said = fine(folder.path(), INSTALL);
    assert!(!said.err.contains("made the link"), "{said:?}");
}

/// A folder as `selium-runtime generate-certs` writes it, and a module in it.
fn by_the_runtime() -> TempDir {
    let folder = TempDir::new().unwrap();
    let certs = path(&folder, "certs");
    fs::create_dir(&certs).unwrap();
    let mut ca = CertificateParams::new(vec![]).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(ca, KeyPair::generate().unwrap()).unwrap();
    let write = |name: &str, text: String| {
        fs::write(certs.join(name), text).unwrap();
        set_mode(&certs.join(name), 0o600);
    };
    write("ca.crt", ca.pem());
    write("ca.key", ca.key().serialize_pem());
    for (name, host, usage) in [
        ("server", "localhost", ExtendedKeyUsagePurpose::ServerAuth),
        (
            "client",
            "client.localhost",
            ExtendedKeyUsagePurpose::ClientAuth,
        ),
    ] {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        params.is_ca = IsCa::ExplicitNoCa;
        params.extended_key_usages = vec![usage];
        write(
            &format!("{name}.crt"),
            params.signed_by(&key, &ca).unwrap().pem(),
        );
        write(&format!("{name}.key"), key.serialize_pem());
    }
    fs::create_dir(path(&folder, "modules")).unwrap();
    fs::write(path(&folder, INSTALLED), module(&[&EMPTY])).unwrap();
    folder
}

#[test]
fn what_the_runtime_made_works_for_admin_only() {
    let folder = by_the_runtime();
    let said = fine(folder.path(), "server install");
    let warnings: Vec<_> = said
        .err
        .lines()
        .filter(|it| it.starts_with("warning: "))
        .collect();
    let [warning] = warnings.as_slice() else {
        panic!("{warnings:?}");
    };
    for part in [
        "certs has one CA for everything",
        "role admin only",
        "pose as the control plane",
        "certs/ca.key",
        "`selium cert init` in another folder",
    ] {
        assert!(warning.contains(part), "{part}: {warning}");
    }
    let provision = installed(folder.path());
    let read = |name: &str| fs::read(path(&folder, name)).unwrap();
    assert_eq!(provision.server_chain, read("certs/server.crt"));
    assert_eq!(provision.listeners[0].client_ca, read("certs/ca.crt"));
    assert_eq!(mode(&path(&folder, "control-plane")), 0o700);
    // The folder of the audit key does not make it another kind.
    fine(folder.path(), "server install");

    let policy = path(&folder, "policy.toml");
    fs::write(&policy, "[role.admin]\n[role.viewer]\nport = 7003\n").unwrap();
    let line = "server install --policy policy.toml";
    refused(
        folder.path(),
        1,
        line,
        &["admin is the only role", "selium cert init"],
    );
    refused(
        folder.path(),
        1,
        "server install --domain selium.example.org",
        &[
            "only for: localhost",
            "`selium cert init --server-name` in another folder",
        ],
    );
    // What `cert init` made and somebody lost a part of is none of the runtime's.
    let folder = prepared();
    for name in ["server.crt", "server.key"] {
        fs::remove_file(path(&folder, "work/control-plane").join(name)).unwrap();
    }
    refused(
        folder.path(),
        1,
        INSTALL,
        &["work/control-plane/server.crt is missing"],
    );
    fs::remove_dir_all(path(&folder, "work/control-plane")).unwrap();
    refused(
        folder.path(),
        1,
        INSTALL,
        &["not issued by a CA in work/certs/ca.crt"],
    );
}

/// The form of keys that `openssl ecparam -genkey` writes, which the runtime cannot read.
#[test]
fn keys_that_the_runtime_cannot_read_are_refused() {
    let folder = prepared();
    let path = path(&folder, "work/control-plane/server.key");
    let key = KeyPair::from_pem(&fs::read_to_string(&path).unwrap()).unwrap();
    let pkcs8 = key.serialize_der();
    let at = pkcs8
        .windows(4)
        .position(|it| it == [0x04, 0x6d, 0x30, 0x6b])
        .unwrap();
    let inner = base64(&pkcs8[at + 2..]);
    fs::write(
        &path,
        format!("-----BEGIN EC PRIVATE KEY-----\n{inner}\n-----END EC PRIVATE KEY-----\n"),
    )
    .unwrap();
    refused(
        folder.path(),
        1,
        INSTALL,
        &["EC PRIVATE KEY", "openssl pkcs8 -topk8"],
    );
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for group in bytes.chunks(3) {
        let mut all = [0; 4];
        all[1..=group.len()].copy_from_slice(group);
        let bits = u32::from_be_bytes(all);
        for place in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * place)) as usize & 63];
            out.push(if place > group.len() {
                '='
            } else {
                digit.into()
            });
        }
    }
    out
}

#[test]
fn json_says_the_same() {
    let folder = with_roles();
    let said = fine(
        folder.path(),
        &format!("{INSTALL} --policy policy.toml --log-format json"),
    );
    let found = json(&said.out);
    let work = path(&folder, "work");
    let command = &found["command"];
    assert_eq!(command["dir"], work.to_str().unwrap());
    assert_eq!(
        command["argv"],
        serde_json::json!([
            "selium-runtime",
            "--log-format",
            "json",
            "--module",
            format!("{SPEC}localhost,u16:7000")
        ])
    );
    assert_eq!(
        command["env"],
        serde_json::json!({"TOKIO_WORKER_THREADS": "8", "RUST_LOG": "info,selium_messaging=warn"})
    );
    assert_eq!(
        found["files"],
        serde_json::json!({
            "module": format!("work/{INSTALLED}"),
            "audit_key": "work/control-plane/audit.key",
            "written": ["work/control-plane/audit.key", "work/modules/modules", format!("work/{INSTALLED}")],
        })
    );
    assert_eq!(found["server"]["purpose"], "server");
    let roles: Vec<_> = found["roles"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| (it["role"].as_str().unwrap(), it["port"].as_u64().unwrap()))
        .collect();
    let wanted = [
        ("admin", 7000),
        ("operator", 7001),
        ("deploy", 7002),
        ("viewer", 7003),
    ];
    assert_eq!(roles, wanted);
    assert_eq!(found["roles"][0]["client_cas"][0]["purpose"], "CA");
    for line in said.err.lines() {
        let note = json(line);
        assert!(
            note["note"].is_string() || note["warning"].is_string(),
            "{line}"
        );
    }
    let text = fine(folder.path(), &format!("{INSTALL} --policy policy.toml"));
    assert_eq!(text.out.trim_end(), command["line"]);
    let said = run(folder.path(), "server install --log-format json");
    assert!(json(&said.err)["error"]["message"].is_string(), "{said:?}");
}

#[test]
fn keys_are_never_said() {
    let folder = with_roles();
    let mut said = Vec::new();
    fine(folder.path(), INSTALL);
    for line in [
        INSTALL,
        "server install --work-dir work --policy policy.toml",
        "-vv server install --work-dir work",
        "server install --work-dir work --domain other",
        "server install --work-dir work --module work/control-plane/server.key",
        "server install --work-dir work --module work/control-plane/audit.key",
        "server install --work-dir work --policy work/control-plane/server.key",
        "server install --work-dir work --policy work/control-plane/audit.key",
        "audit verify work/control-plane/audit.key --work-dir work",
        "audit verify work/modules/selium_remote_client_server.wasm --work-dir work",
        "audit verify policy.toml --key work/control-plane/server.key",
    ] {
        for format in ["text", "json"] {
            let line = format!("{line} --log-format {format}");
            let Said { out, err, .. } = run(folder.path(), &line);
            said.push(out + &err);
        }
    }
    let keys = no_key_is_in(folder.path(), &said);
    assert!(keys >= 12, "{keys}");
}

/// The system refuses whoever writes to a file.
#[test]
fn an_interrupted_write_leaves_the_old_module() {
    let folder = prepared();
    fine(folder.path(), INSTALL);
    fine(folder.path(), "cert renew server --dir work");
    let before = contents(folder.path());
    let said = run_after(folder.path(), "trap '' XFSZ; ulimit -f 0;", INSTALL);
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.err.contains(INSTALLED), "{said:?}");
    assert_eq!(contents(folder.path()), before);
}

#[test]
fn two_at_a_time_leave_one_that_works() {
    let folder = prepared();
    let children: Vec<_> = (0..4)
        .map(|_| {
            let mut command = command(folder.path(), "", INSTALL);
            command.stdout(Stdio::piped()).stderr(Stdio::piped());
            command.spawn().unwrap()
        })
        .collect();
    let mut done = 0;
    for child in children {
        let said = said(child.wait_with_output().unwrap());
        match said.code {
            Some(0) => done += 1,
            // Whoever comes too late to make the audit key.
            _ => assert!(
                said.err.contains("made it meanwhile: try again"),
                "{said:?}"
            ),
        }
    }
    assert!(done >= 1);
    let key = fs::read_to_string(path(&folder, "work/control-plane/audit.key")).unwrap();
    let provision = installed(&path(&folder, "work"));
    let hex: String = provision
        .audit_key
        .expose()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert_eq!(key.trim_end(), hex);
}

#[test]
fn help_says_what_is_needed() {
    let folder = TempDir::new().unwrap();
    let help = fine(folder.path(), "server install --help").out;
    for part in [
        "--work-dir",
        "--policy",
        "--module",
        "control-plane/audit.key",
        "generate-certs",
        "Examples:",
    ] {
        assert!(help.contains(part), "{part}: {help}");
    }
    assert!(help.contains(NAME), "{help}");
    assert!(fine(folder.path(), "server --help").out.contains("install"));
    assert!(fine(folder.path(), "--help").out.contains("server"));
}

#[test]
fn a_work_dir_of_the_environment_is_warned_of() {
    let folder = prepared();
    let said = run_after(
        folder.path(),
        "SELIUM_WORK_DIR=/elsewhere; export SELIUM_WORK_DIR;",
        INSTALL,
    );
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.err.contains("SELIUM_WORK_DIR is set"), "{}", said.err);
    let said = fine(folder.path(), INSTALL);
    assert!(!said.err.contains("SELIUM_WORK_DIR"), "{}", said.err);
}
