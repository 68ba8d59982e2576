//! `selium cert`: the binary, in folders of its own.

#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "helpers of tests"
)]

mod common;

use std::fs;
use std::os::unix::fs::{MetadataExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use common::{
    DAY, Said, command, contents, fine, init_at, mode, no_key_is_in, run, run_after, set_mode,
};
use serde_json::Value;
use tempfile::TempDir;

/// Fails with a message for people that says what, and what to do; nothing is on stdout, and nothing was written.
fn refused(folder: &Path, line: &str, parts: &[&str]) {
    common::refused(folder, 1, line, parts);
}

fn json(said: &Said) -> Value {
    common::json(&said.out)
}

fn work() -> TempDir {
    let folder = TempDir::new().unwrap();
    fine(folder.path(), "cert init");
    folder
}

/// A work dir that was made so many days ago.
fn made_before(days: i64) -> TempDir {
    let folder = TempDir::new().unwrap();
    init_at(folder.path(), -days * DAY);
    folder
}

const MADE: [&str; 17] = [
    "authority/admin-ca.crt",
    "authority/admin-ca.key",
    "authority/issued/admin.crt",
    "authority/issued/runtime.crt",
    "authority/issued/server.crt",
    "authority/runtime-ca.crt",
    "authority/runtime-ca.key",
    "authority/server-ca.crt",
    "authority/server-ca.key",
    "certs/ca.crt",
    "certs/client.crt",
    "certs/client.key",
    "certs/server.crt",
    "certs/server.key",
    "control-plane/clients-admin.crt",
    "control-plane/server.crt",
    "control-plane/server.key",
];

#[test]
fn one_command_makes_everything_with_the_right_modes() {
    for (umask, certificate) in [("000", 0o644), ("022", 0o644), ("077", 0o600)] {
        let folder = TempDir::new().unwrap();
        let said = run_after(
            folder.path(),
            &format!("umask {umask};"),
            "cert init --dir work",
        );
        assert_eq!(said.code, Some(0), "{said:?}");
        let work = folder.path().join("work");
        assert_eq!(mode(&work), 0o700);
        let mut files = Vec::new();
        for (path, mode, _) in contents(&work) {
            let name = path.to_str().unwrap().to_owned();
            let wanted = match path.extension().and_then(|end| end.to_str()) {
                Some("key") => 0o600,
                Some("crt") => certificate,
                None if name.ends_with(".lock") => 0o600,
                _ => 0o700,
            };
            assert_eq!(mode, wanted, "umask {umask}, {name}: {mode:o}");
            if name.ends_with(".key") || name.ends_with(".crt") {
                files.push(name);
            }
        }
        assert_eq!(files, MADE);
        for name in MADE {
            assert!(
                said.out.contains(&format!("wrote work/{name}\n")),
                "{name}: {said:?}"
            );
        }
        for part in [
            "next: `selium server install --work-dir work`",
            "gives the control plane its certificate, and says how to run it",
            "--authority",
        ] {
            assert!(said.err.contains(part), "{part}: {said:?}");
        }
        assert!(!said.err.contains("warning"), "{said:?}");
        assert_eq!(run(folder.path(), "cert status --dir work").code, Some(0));
    }
}

#[test]
fn a_second_init_is_refused_and_changes_nothing() {
    let folder = work();
    let before = contents(folder.path());
    refused(
        folder.path(),
        "cert init",
        &[
            "certs/ca.crt and 16 more files already exist",
            "nothing was changed",
            "--force",
        ],
    );
    assert_eq!(contents(folder.path()), before);

    let said = fine(folder.path(), "cert init --force");
    assert!(said.out.contains("wrote certs/client.key"), "{said:?}");
    let after = contents(folder.path());
    assert_eq!(after.len(), before.len());
    for (old, new) in before.iter().zip(&after) {
        assert_eq!((&old.0, old.1), (&new.0, new.1));
        let is_file = old.0.extension().is_some();
        assert_eq!(old.2 != new.2, is_file, "{:?}", old.0);
    }
    fine(folder.path(), "cert status");
}

#[test]
fn names_are_checked_before_anything_is_made() {
    let folder = TempDir::new().unwrap();
    for line in [
        "cert init --server-name *.example.org",
        "cert init --server-name 0.0.0.0",
        "cert init --server-name a:7000",
        "cert init --days 0",
        "cert init --days 3651",
        "cert issue ../ann",
        "cert issue .ann",
        "cert issue ann --role Admin",
        "cert issue ann --role server",
        "cert",
        "cert frobnicate",
    ] {
        let said = run(folder.path(), line);
        assert_eq!(said.code, Some(2), "{line}: {said:?}");
        assert!(said.out.is_empty(), "{line}: {said:?}");
    }
    let many = format!("cert init {}", "--server-name a.example.org ".repeat(65));
    let said = run(folder.path(), &many);
    assert_eq!(said.code, Some(2), "{said:?}");
    assert!(said.err.contains("the limit of 64"), "{said:?}");
    assert!(contents(folder.path()).is_empty());
    let said = run(
        folder.path(),
        "cert issue ann --role Admin --log-format json",
    );
    assert!(serde_json::from_str::<Value>(&said.err).unwrap()["error"]["message"].is_string());
}

#[test]
fn the_servers_names_are_in_its_certificates() {
    let folder = TempDir::new().unwrap();
    fine(
        folder.path(),
        "cert init --server-name Selium.Example.org --server-name 10.0.0.7 --server-name ::1 --days 7",
    );
    let said = fine(
        folder.path(),
        "cert inspect control-plane/server.crt --log-format json",
    );
    let found = json(&said);
    assert_eq!(
        found[0]["names"],
        serde_json::json!([
            "localhost",
            "selium.example.org",
            "127.0.0.1",
            "::1",
            "10.0.0.7"
        ])
    );
    assert_eq!(found[0]["purpose"], "server");
    assert_eq!(found[0]["key"], "ECDSA P-256");
    assert_eq!(found[0]["state"], "fine");
    let said = fine(folder.path(), "cert inspect control-plane");
    for part in [
        "certificate:        server",
        "certificate:        CA",
        "names:              localhost, selium.example.org",
        "private key:        not shown",
        "public key SHA-256: ",
    ] {
        assert!(said.out.contains(part), "{part}: {said:?}");
    }
    fine(
        folder.path(),
        "cert renew server --server-name new.example.org",
    );
    let said = fine(
        folder.path(),
        "cert inspect control-plane/server.crt --log-format json",
    );
    assert_eq!(
        json(&said)[0]["names"],
        serde_json::json!(["localhost", "new.example.org", "127.0.0.1", "::1"])
    );
    fine(folder.path(), "cert status");
}

#[test]
fn somebody_gets_a_bundle_and_imports_it() {
    let folder = work();
    let path = |name: &str| folder.path().join(name);
    let said = fine(folder.path(), "cert issue ann --role operator");
    assert!(said.out.contains("CN=ann, client, until "), "{said:?}");
    for part in [
        "`selium server install` with a policy that has the role (--policy) and a restart of the runtime",
        "`selium cert bundle ann`",
    ] {
        assert!(said.err.contains(part), "{part}: {said:?}");
    }
    assert_eq!(mode(&path("clients/ann")), 0o700);
    assert_eq!(mode(&path("clients/ann/client.key")), 0o600);
    assert!(path("control-plane/clients-operator.crt").exists());
    assert_eq!(mode(&path("authority/operator-ca.key")), 0o600);
    refused(
        folder.path(),
        "cert issue ann",
        &["already exist", "selium cert renew ann", "--force"],
    );

    let said = run_after(folder.path(), "umask 000;", "cert bundle ann");
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(
        said.err
            .contains("warning: ann.bundle.pem contains a private key"),
        "{said:?}"
    );
    assert_eq!(mode(&path("ann.bundle.pem")), 0o600);
    refused(
        folder.path(),
        "cert bundle ann",
        &["ann.bundle.pem already exists", "--force"],
    );
    fine(folder.path(), "cert bundle ann --force");

    let said = run_after(
        folder.path(),
        "umask 000;",
        "cert import ann.bundle.pem --cert-dir ann/certs",
    );
    assert_eq!(said.code, Some(0), "{said:?}");
    for part in [
        "contains the private key: delete it",
        "`selium --cert-dir ann/certs ping`",
    ] {
        assert!(said.err.contains(part), "{part}: {said:?}");
    }
    assert_eq!(
        (
            mode(&path("ann/certs")),
            mode(&path("ann/certs/client.key"))
        ),
        (0o700, 0o600)
    );
    for file in ["ca.crt", "client.crt", "client.key"] {
        let (ours, theirs) = (path("clients/ann").join(file), path("ann/certs").join(file));
        assert_eq!(fs::read(ours).unwrap(), fs::read(theirs).unwrap(), "{file}");
    }
    refused(
        folder.path(),
        "cert import ann.bundle.pem --cert-dir ann/certs",
        &["already exist", "--force"],
    );
    fine(
        folder.path(),
        "cert import ann.bundle.pem --cert-dir ann/certs --force",
    );
    // As their own machine, which has nothing else.
    fine(&path("ann"), "cert status");

    // A renewal of a key that is not here travels without it.
    fs::remove_dir_all(path("clients/ann")).unwrap();
    let said = fine(folder.path(), "cert renew ann --days 100");
    assert!(said.err.contains("it is no secret"), "{said:?}");
    fine(
        folder.path(),
        "cert import authority/issued/ann.crt --cert-dir ann/certs",
    );
    fine(&path("ann"), "cert status");
    refused(
        folder.path(),
        "cert renew bob",
        &["nothing was issued to \"bob\"", "selium cert list"],
    );
    refused(folder.path(), "cert bundle bob", &["selium cert issue bob"]);

    set_mode(&path("ann.bundle.pem"), 0o644);
    let said = fine(folder.path(), "cert import ann.bundle.pem --cert-dir other");
    assert!(
        said.err
            .contains("other users may use the private key ann.bundle.pem"),
        "{said:?}"
    );
}

#[test]
fn what_was_issued_is_listed() {
    let folder = work();
    fine(folder.path(), "cert issue olga --role operator --days 2");
    let said = fine(folder.path(), "cert list");
    let lines: Vec<_> = said.out.lines().collect();
    assert_eq!(lines.len(), 5, "{said:?}");
    assert!(
        lines[0].starts_with("NAME     ROLE      STATE  UNTIL"),
        "{said:?}"
    );
    assert!(
        lines[2].starts_with("olga     operator  fine   "),
        "{said:?}"
    );

    let said = fine(folder.path(), "cert list --log-format json");
    let list = json(&said);
    let of = |index: usize, key: &str| list[index][key].as_str().unwrap().to_owned();
    let names: Vec<_> = (0..4)
        .map(|index| (of(index, "name"), of(index, "role")))
        .collect();
    let expected = [
        ("admin", "admin"),
        ("olga", "operator"),
        ("runtime", "runtime"),
        ("server", "server"),
    ];
    assert_eq!(
        names,
        expected.map(|(name, role)| (name.to_owned(), role.to_owned()))
    );
    let certificate = &list[1]["certificate"];
    assert_eq!(certificate["subject"], "CN=olga");
    assert_eq!(certificate["purpose"], "client");
    for key in [
        "serial",
        "not_before",
        "not_after",
        "sha256",
        "key_id",
        "issuer_key_id",
    ] {
        assert!(certificate[key].is_string(), "{key}: {certificate}");
    }
    let empty = TempDir::new().unwrap();
    refused(
        empty.path(),
        "cert list",
        &[
            "no certificate authority in authority",
            "selium cert init",
            "--authority",
        ],
    );
}

/// The exit code of `status`, and what it says of a file.
fn status(folder: &Path, file: &str) -> (Option<i32>, Option<String>, String) {
    let said = run(folder, "cert status --log-format json");
    let report = json(&said);
    assert_eq!(
        report["exit_code"].as_i64().map(|code| code as i32),
        said.code,
        "{said:?}"
    );
    let checks = report["checks"].as_array().unwrap();
    let check = checks.iter().find(|check| check["path"] == file);
    let problem = check
        .and_then(|check| check["problem"].as_str())
        .map(str::to_owned);
    // Text and JSON agree.
    let text = run(folder, "cert status");
    assert_eq!(text.code, said.code);
    if let Some(problem) = &problem {
        assert!(text.out.contains(problem), "{text:?}");
    }
    (said.code, problem, said.err)
}

#[test]
fn the_status_tells_age() {
    let folder = work();
    let (code, problem, err) = status(folder.path(), "certs/client.crt");
    assert_eq!((code, problem), (Some(0), None), "{err}");
    assert_eq!(err, "");

    let folder = made_before(61);
    let (code, problem, _) = status(folder.path(), "certs/client.crt");
    assert_eq!(code, Some(1));
    assert!(problem.unwrap().contains("less than a third"));
    fine(folder.path(), "cert renew --if-needed");
    fine(folder.path(), "cert status");

    let folder = made_before(91);
    let (code, problem, _) = status(folder.path(), "control-plane/server.crt");
    assert_eq!(
        (code, problem.as_deref()),
        (Some(2), Some("it has expired"))
    );
    fine(folder.path(), "cert renew --if-needed");
    fine(folder.path(), "cert status");

    let folder = made_before(3_700);
    let (code, problem, _) = status(folder.path(), "certs/ca.crt");
    assert_eq!(
        (code, problem.as_deref()),
        (Some(2), Some("it has expired"))
    );
    refused(
        folder.path(),
        "cert renew",
        &["has expired", "selium cert --help"],
    );
}

#[test]
fn the_status_tells_damage() {
    type Damage = fn(&Path);
    let cases: [(&str, Option<&str>, Damage); 8] = [
        ("certs/client.key", Some("is missing"), |path| {
            fs::remove_file(path).unwrap()
        }),
        ("certs/client.crt", Some("is missing"), |path| {
            fs::remove_file(path).unwrap()
        }),
        ("certs/client.key", Some("is empty"), |path| {
            fs::write(path, "").unwrap()
        }),
        ("certs/ca.crt", Some("is empty"), |path| {
            fs::write(path, "\n").unwrap()
        }),
        ("certs/client.key", Some("in PEM"), |path| {
            fs::write(path, "key").unwrap()
        }),
        ("control-plane/server.key", Some("damaged"), |path| {
            let text = fs::read(path).unwrap();
            fs::write(path, &text[..text.len() / 2]).unwrap();
        }),
        ("certs/client.crt", Some("does not belong to it"), |path| {
            fs::copy(
                path.with_file_name("server.key"),
                path.with_file_name("client.key"),
            )
            .unwrap();
        }),
        (
            "control-plane/server.crt",
            Some("not issued by a CA in certs/ca.crt"),
            |path| {
                let certs = path.parent().unwrap().with_file_name("certs");
                for file in ["server.crt", "server.key"] {
                    fs::copy(certs.join(file), path.with_file_name(file)).unwrap();
                }
            },
        ),
    ];
    for (file, expected, damage) in cases {
        let folder = work();
        damage(&folder.path().join(file));
        let (code, problem, _) = status(folder.path(), file);
        assert_eq!(code, Some(2), "{file}");
        assert!(
            problem.as_deref().unwrap().contains(expected.unwrap()),
            "{file}: {problem:?}"
        );
    }
    let empty = TempDir::new().unwrap();
    let (code, problem, _) = status(empty.path(), "certs/ca.crt");
    assert_eq!(code, Some(2));
    assert!(problem.unwrap().contains("is missing"));
}

#[test]
fn open_files_and_folders_are_warned_of() {
    let folder = work();
    let path = |name: &str| folder.path().join(name);
    for (name, mode, part) in [
        ("certs/client.key", 0o644, "chmod 600 certs/client.key"),
        (
            "control-plane/server.key",
            0o640,
            "chmod 600 control-plane/server.key",
        ),
        (
            "authority/admin-ca.key",
            0o604,
            "chmod 600 authority/admin-ca.key",
        ),
        ("authority", 0o755, "chmod 700 authority"),
        ("certs", 0o711, "chmod 700 certs"),
    ] {
        let before = self::mode(&path(name));
        set_mode(&path(name), mode);
        let said = run(folder.path(), "cert status");
        assert_eq!(said.code, Some(0), "{said:?}");
        assert!(
            said.err.starts_with("warning: ") && said.err.contains(part),
            "{part}: {said:?}"
        );
        set_mode(&path(name), before);
    }
    assert_eq!(fine(folder.path(), "cert status").err, "");
    fs::write(path("certs/.selium-client.key-0123.tmp"), "x").unwrap();
    let said = fine(folder.path(), "cert status");
    assert!(
        said.err
            .contains("was left by a command that was interrupted"),
        "{said:?}"
    );
}

#[test]
fn renewing_keeps_owner_and_mode() {
    let folder = work();
    let key = folder.path().join("certs/client.key");
    let certificate = folder.path().join("certs/client.crt");
    set_mode(&key, 0o440);
    set_mode(&certificate, 0o604);
    // Only the superuser can give files away.
    let given = chown(&key, Some(12_345), Some(54_321)).is_ok();
    let serial = || {
        let said = run(
            folder.path(),
            "cert inspect certs/client.crt --log-format json",
        );
        json(&said)[0]["serial"].as_str().unwrap().to_owned()
    };
    let (old, old_key) = (serial(), fs::read(&key).unwrap());
    let said = run_after(folder.path(), "umask 077;", "cert renew");
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(
        said.err
            .contains("`selium server install` and a restart of the runtime put it in force"),
        "{said:?}"
    );
    assert_ne!(serial(), old);
    assert_ne!(fs::read(&key).unwrap(), old_key);
    assert_eq!((mode(&key), mode(&certificate)), (0o440, 0o604));
    if given {
        let metadata = fs::metadata(&key).unwrap();
        assert_eq!((metadata.uid(), metadata.gid()), (12_345, 54_321));
    }
    let said = fine(folder.path(), "cert renew --if-needed");
    assert!(
        said.out.is_empty() && said.err.contains("nothing was renewed"),
        "{said:?}"
    );

    // A link is not followed, and then nothing is renewed.
    let elsewhere = folder.path().join("elsewhere.key");
    fs::rename(&key, &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &key).unwrap();
    let before = contents(folder.path());
    refused(folder.path(), "cert renew", &["is a symbolic link"]);
    assert_eq!(contents(folder.path()), before);
}

/// The system kills, or refuses, whoever writes to a file: every write is interrupted.
#[test]
fn an_interrupted_write_leaves_the_old_files() {
    let folder = work();
    let before = contents(folder.path());
    let said = run_after(folder.path(), "trap '' XFSZ; ulimit -f 0;", "cert renew");
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(
        said.err.contains("cannot write") && said.err.contains(".tmp"),
        "{said:?}"
    );
    assert_eq!(contents(folder.path()), before, "nothing is left either");

    for line in [
        "cert renew",
        "cert init --force",
        "cert issue ann",
        "cert bundle admin",
    ] {
        let said = run_after(folder.path(), "ulimit -c 0; ulimit -f 0;", line);
        assert_eq!(said.code, None, "it was killed: {said:?}");
        let mut after = contents(folder.path());
        let left = |name: &PathBuf| name.to_str().unwrap().ends_with(".tmp");
        assert!(
            after.iter().any(|(name, ..)| left(name)),
            "{line}: it was not in the middle"
        );
        for (name, mode, text) in after.iter().filter(|(name, ..)| left(name)) {
            assert!(
                text.is_empty() && *mode & 0o077 == 0 || !name.to_str().unwrap().contains("key")
            );
            fs::remove_file(folder.path().join(name)).unwrap();
        }
        after.retain(|(name, ..)| !left(name) && !name.starts_with("clients"));
        assert_eq!(after, before, "{line}");
    }
    fine(folder.path(), "cert status");

    // The same for a folder that cannot be written, unless we may write everywhere.
    let certs = folder.path().join("certs");
    set_mode(&certs, 0o500);
    if fs::write(certs.join("probe"), "").is_err() {
        refused(folder.path(), "cert renew", &["cannot create"]);
    } else {
        fs::remove_file(certs.join("probe")).unwrap();
    }
    set_mode(&certs, 0o700);
    let mut after = contents(folder.path());
    after.retain(|(name, ..)| !name.starts_with("clients"));
    assert_eq!(after, before);
}

#[test]
fn two_at_a_time_wait_for_one_another() {
    let folder = work();
    let children: Vec<_> = (0..4)
        .map(|_| {
            command(folder.path(), "", "cert renew")
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap()
        })
        .collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    fine(folder.path(), "cert status");
}

#[test]
fn keys_are_never_said() {
    let folder = work();
    fine(folder.path(), "cert issue ann");
    let mut said = Vec::new();
    for line in [
        "cert list",
        "cert status",
        "cert inspect certs",
        "cert inspect authority",
        "cert inspect certs/client.key",
        "cert bundle ann",
        "cert inspect ann.bundle.pem",
        "cert import ann.bundle.pem --cert-dir x",
        "cert import certs/client.key --cert-dir y",
        "cert renew --keep-key",
        "cert renew --if-needed",
        "-vv cert status",
        "ps --cert-dir certs --timeout 0.1 --port 1",
    ] {
        for format in ["text", "json"] {
            let line = format!("{line} --log-format {format}");
            let Said { out, err, .. } = run(folder.path(), &line);
            said.push(out + &err);
        }
    }
    let keys = no_key_is_in(folder.path(), &said);
    assert!(keys >= 8, "{keys}");
}

#[test]
fn what_the_runtime_made_is_explained() {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
    let folder = TempDir::new().unwrap();
    let certs = folder.path().join("certs");
    fs::create_dir(&certs).unwrap();
    let write = |name: &str, text: String| fs::write(certs.join(name), text).unwrap();
    let key = KeyPair::generate().unwrap();
    let mut ca = CertificateParams::new(vec![]).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    write("ca.crt", ca.self_signed(&key).unwrap().pem());
    write("ca.key", key.serialize_pem());
    let issuer = Issuer::new(ca, key);
    for name in ["server", "client"] {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        write(
            &format!("{name}.crt"),
            params.signed_by(&key, &issuer).unwrap().pem(),
        );
        write(&format!("{name}.key"), key.serialize_pem());
    }
    for line in ["cert status", "cert inspect"] {
        let said = fine(folder.path(), line);
        for part in [
            "one CA for everything",
            "admin only",
            "pose as the control plane",
            "selium cert init",
        ] {
            assert!(said.err.contains(part), "{line}, {part}: {said:?}");
        }
    }
    refused(
        folder.path(),
        "cert init",
        &["certs/ca.crt and 4 more files already exist"],
    );
}

#[test]
fn help_says_what_is_where() {
    let folder = TempDir::new().unwrap();
    let help = fine(folder.path(), "cert --help").out;
    for part in [
        "init",
        "issue",
        "list",
        "status",
        "renew",
        "inspect",
        "bundle",
        "import",
        "certs/",
        "control-plane/",
        "clients/NAME/",
        "authority/",
        "generate-certs",
        "revoked",
    ] {
        assert!(help.contains(part), "{part}: {help}");
    }
    let help = fine(folder.path(), "cert status --help").out;
    assert!(
        help.contains("Exit codes:") && help.contains("2  something has expired"),
        "{help}"
    );
    let help = fine(folder.path(), "cert bundle --help").out;
    assert!(help.contains("CONTAINS A PRIVATE KEY"), "{help}");
}
