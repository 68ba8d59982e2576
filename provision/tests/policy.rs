//! Policies: what is taken, and what is refused where and with which words.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod common;

use std::{fs, path::Path};

use proptest::prelude::*;
use selium_remote_client_protocol::Capability;
use selium_remote_provision::{
    Listener,
    policy_file::{PolicyFile, Position, TAKEOVERS, ready_made},
    trust::{self, TrustError},
};
use selium_remote_server_core::policy::{Permission, Role};

fn parse(text: &str) -> Result<PolicyFile, String> {
    PolicyFile::parse(Path::new("p.toml"), text).map_err(|error| error.to_string())
}

/// The example of docs/POLICY.md.
fn example() -> String {
    let docs = include_str!("../../docs/POLICY.md").lines();
    let example = docs.skip_while(|line| *line != "```toml").skip(1);
    let example = example.take_while(|line| *line != "```");
    example.collect::<Vec<_>>().join("\n")
}

#[test]
fn the_documented_example_means_what_it_says() {
    let policy = parse(&example()).unwrap();
    let names: Vec<_> = policy
        .roles
        .iter()
        .map(|it| (it.role.name.as_str(), it.port))
        .collect();
    assert_eq!(
        names,
        [
            ("admin", None),
            ("viewer", Some(7003)),
            ("on-call", Some(7001)),
            ("deploy", Some(7002))
        ]
    );
    assert_eq!(policy.roles[0].role, Role::admin());
    assert_eq!(policy.roles[1].role, ready_made("viewer").unwrap());
    assert!(policy.roles[1].client_ca.is_empty());
    let on_call = &policy.roles[2].role;
    assert_eq!(on_call.modules, ["hello.wasm", "apps/*"]);
    assert_eq!(on_call.ceiling, ready_made("operator").unwrap().ceiling);
    assert!(!on_call.permissions.contains(Permission::SubscribeLossless));
    let deploy = &policy.roles[3].role;
    assert!(deploy.ceiling.contains(Capability::NetQuicConnect));
    assert_eq!(deploy.limits.hello.as_secs(), 5);
    assert_eq!(
        (deploy.limits.processes, deploy.limits.starts_per_minute),
        (20, 30)
    );
}

#[test]
fn errors_have_their_place_and_say_what_to_write() {
    let role = |rest: &str| format!("[role.admin]\n[role.x]\nport = 1\npermissions = []\n{rest}");
    let cases = [
        (
            String::new(),
            "p.toml:1:1: there is no role admin: write [role.admin]",
        ),
        (
            "[role.viewer]\nport=1".into(),
            "p.toml:1:1: there is no role admin",
        ),
        ("[role.admin\n".into(), "p.toml:1:12: this is not TOML"),
        (
            "[roles.admin]".into(),
            "p.toml:1:2: unknown key `roles`; did you mean `role`?",
        ),
        ("role = 3".into(), "p.toml:1:8: `role` must be tables"),
        (
            "[role]\nadmin = 1".into(),
            "p.toml:2:9: `admin` must be a table",
        ),
        (
            "[role.admin]\nport = 7000".into(),
            "p.toml:2:8: the port of admin is that of the module's arguments",
        ),
        (
            "[role.admin]\nclient_ca = 'x'".into(),
            "p.toml:2:1: unknown key of a role `client_ca`; did you mean `client-ca`?",
        ),
        (
            "[role.admin]\nzzzzzz = 'x'".into(),
            "p.toml:2:1: unknown key of a role `zzzzzz`; there are: base, port",
        ),
        (
            "[role.admin]\nclient-ca = []".into(),
            "p.toml:2:13: `client-ca` names no file",
        ),
        (
            "[role.admin]\nbase = 'veiwer'".into(),
            "p.toml:2:8: unknown ready-made role `veiwer`; did you mean `viewer`?",
        ),
        (
            "[role.admin]\n[role.viewer]".into(),
            "p.toml:2:7: the role viewer has no `port`",
        ),
        (
            "[role.admin]\n[role.x]\nport = 1".into(),
            "p.toml:2:7: the role x has no `permissions`: write them, like",
        ),
        (
            "[role.admin]\n[role.X]\nport = 1".into(),
            "p.toml:2:7: `X` is no name of a role",
        ),
        (
            "[role.admin]\n[role.viewer]\nport = 0".into(),
            "p.toml:3:8: `port` is out of range: write a whole number from 1 to 65535",
        ),
        (
            "[role.admin]\n[role.viewer]\nport = '1'".into(),
            "p.toml:3:8: `port` must be a whole number",
        ),
        (
            "[role.admin]\n[role.viewer]\nport = 5\n[role.operator]\nport = 5".into(),
            "p.toml:5:8: the port 5 is already that of the role viewer",
        ),
        (
            role("permissions = []"),
            "p.toml:5:1: this is not TOML: duplicate key",
        ),
        (
            "[role.admin]\n[role.x]\nport=1\npermissions = ['logs', 'strat']".into(),
            "p.toml:4:24: unknown permission `strat`; did you mean `start`?",
        ),
        (
            "[role.admin]\n[role.x]\nport=1\npermissions = 'logs'".into(),
            "p.toml:4:15: `permissions` must be a list of texts",
        ),
        (
            "[role.admin]\n[role.x]\nport=1\npermissions = ['start']".into(),
            "p.toml:2:7: the role x may start modules, but none are given",
        ),
        (role("modules = ['']"), "p.toml:5:12: a pattern of modules"),
        (
            role("ceiling = ['ChanelReader']"),
            "p.toml:5:12: unknown capability `ChanelReader`; did you mean `ChannelReader`?",
        ),
        (
            role("ceiling = ['ProcessLifecycle']"),
            "p.toml:5:11: the ceiling of the role x has ProcessLifecycle, and",
        ),
        (
            role("ceiling = ['NetQuicBind', 'NetQuicAccept']"),
            "has NetQuicBind with NetQuicAccept",
        ),
        (
            role("dangerous = 1"),
            "p.toml:5:13: `dangerous` must be true or false",
        ),
        (
            role("base = 'admin'"),
            "p.toml:2:7: the ceiling of the role x has ProcessLifecycle",
        ),
        (
            "[role.admin]\nceiling = ['ProcessLifecycle']".into(),
            "p.toml:2:11: the ceiling of the role admin",
        ),
        (
            role("[role.x.limits]\nprocess = 1"),
            "p.toml:6:1: unknown limit `process`; did you mean `processes`?",
        ),
        (
            role("[role.x.limits]\nconnections = 0"),
            "p.toml:6:15: `connections` is out of range: write a whole number from 1 to 1024",
        ),
        (
            role("[role.x.limits]\nhello-seconds = 301"),
            "write a whole number from 1 to 300",
        ),
        (
            role("[role.x.limits]\nqueued-bytes = 99999999999999999999"),
            "p.toml:6:16: `queued-bytes` is out of range",
        ),
        (
            role("limits = 3"),
            "p.toml:5:10: `limits` must be a table, like [role.x.limits]",
        ),
    ];
    for (text, expected) in cases {
        let error = parse(&text).unwrap_err();
        assert!(
            error.contains(expected),
            "{text}\nsays:  {error}\nlacks: {expected}"
        );
    }
}

#[test]
fn takeovers_are_taken_when_they_are_said_to_be_dangerous() {
    for takeover in &TAKEOVERS {
        let names: Vec<_> = takeover
            .capabilities
            .iter()
            .map(|it| format!("'{it}'"))
            .collect();
        let role = |names: &[String], rest: &str| {
            let list = names.join(", ");
            format!(
                "[role.admin]\n[role.x]\nport = 1\npermissions = []\nceiling = [{list}]\n{rest}"
            )
        };
        assert!(
            parse(&role(&names, ""))
                .unwrap_err()
                .contains("dangerous = true")
        );
        assert!(parse(&role(&names, "dangerous = true")).is_ok());
        if names.len() > 1 {
            assert!(parse(&role(&names[..1], "")).is_ok(), "one alone is none");
        }
    }
}

#[test]
fn keys_of_cas_are_compared() {
    let (one, other, server) = (common::ca("one"), common::ca("other"), common::ca("server"));
    let chain = server.server();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("policy.toml");
    let text =
        "[role.admin]\nclient-ca = 'a.crt'\n[role.viewer]\nport = 1\nclient-ca = ['b.crt']\n";
    fs::write(&path, text).unwrap();
    let listeners = |a: &[u8], b: &[u8], ca: &[u8]| {
        fs::write(folder.path().join("a.crt"), a).unwrap();
        fs::write(folder.path().join("b.crt"), b).unwrap();
        let policy = PolicyFile::load(&path).unwrap();
        policy.listeners(folder.path(), &chain, ca)
    };
    let fine = listeners(&one.pem(), &other.pem(), &server.pem()).unwrap();
    assert_eq!(fine[1].client_ca, other.pem());
    // Two certificates of one role may share their key; those of two may not, whatever they are called.
    let both = [one.pem(), one.again("once more").pem()].concat();
    assert!(listeners(&both, &other.pem(), b"").is_ok());
    let shared = listeners(&one.pem(), &one.again("alias").pem(), b"").unwrap_err();
    assert!(
        shared.message.contains("trust the same CA key (CN=alias"),
        "{shared}"
    );
    assert_eq!(
        shared.position,
        Some(Position {
            line: 5,
            column: 13
        })
    );
    // The server's, by its certificate and by what it signed.
    for ca in [&server.pem()[..], b""] {
        let error = listeners(&one.pem(), &server.again("alias").pem(), ca).unwrap_err();
        assert!(error.message.contains("is also the server's"), "{error}");
        assert_eq!(error.position.unwrap().line, 5);
    }
    let admin = [Listener::admin(server.pem())];
    assert!(matches!(
        trust::check(&admin, &chain, b""),
        Err(TrustError::ServerCa { .. })
    ));
    // What is no CA, no certificate, not there.
    let leaf = listeners(&one.pem(), &server.server(), b"").unwrap_err();
    assert!(leaf.message.contains("no CA's"), "{leaf}");
    let none = listeners(&one.pem(), b"text", b"").unwrap_err();
    assert!(
        none.message
            .contains("cannot be read as certificates: there is none"),
        "{none}"
    );
    let key = listeners(&one.pem(), common::key_pem().expose(), b"").unwrap_err();
    assert!(key.message.contains("private key in it") && !key.message.contains(common::CANARY));
    fs::remove_file(folder.path().join("a.crt")).unwrap();
    let missing = PolicyFile::load(&path)
        .unwrap()
        .listeners(folder.path(), &chain, b"")
        .unwrap_err();
    assert!(
        missing
            .to_string()
            .contains("policy.toml:2:13: the client CA of the role admin cannot be read"),
        "{missing}"
    );
}

proptest! {
    #[test]
    fn any_text_is_taken(text in "(\\[role\\.admin\\]\n)?([a-z\\[\\]=.,'\"{}0-9\n-]|port|limits|role|ceiling){0,60}") {
        selium_remote_provision::fuzzing::policy_file(text.as_bytes());
    }

    #[test]
    fn a_damaged_example_is_taken(at in 0usize..1_000, byte: u8) {
        let mut bytes = example().into_bytes();
        let at = at % bytes.len();
        bytes[at] = byte;
        selium_remote_provision::fuzzing::policy_file(&bytes);
    }
}

#[test]
fn a_key_in_place_of_certificates_is_not_shown() {
    // A file that lost its line breaks: the error of the PEM reader has all of it.
    let pem = b"-----BEGIN PRIVATE KEY-----SECRETSECRET-----END PRIVATE KEY-----";
    let error = selium_remote_provision::trust::check(&[], pem, b"").unwrap_err();
    let shown = format!("{error} {error:?}");
    assert!(shown.contains("the PEM is damaged"), "{shown}");
    assert!(
        !shown.contains("SECRET") && !shown.contains("83, 69, 67"),
        "{shown}"
    );
}
