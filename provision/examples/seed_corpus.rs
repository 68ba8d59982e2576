//! Writes seeds for this crate's fuzz targets: `cargo run -p selium-remote-provision --example seed_corpus`.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::{fs, path::Path};

use selium_remote_client_protocol::ErrorCode;
use selium_remote_provision::{
    AuditKey, KeyPem, Listener, Provision,
    audit::{Chain, Event},
    format,
    policy_file::ready_made,
};

const PEM: &str = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";

fn write(target: &str, name: &str, bytes: &[u8]) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../fuzz/corpus")
        .join(target);
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join(format!("seed-{name}")), bytes).unwrap();
}

fn payload(listeners: Vec<Listener>) -> Vec<u8> {
    let provision = Provision {
        server_chain: PEM.into(),
        server_key: KeyPem::new(b"-----BEGIN PRIVATE KEY-----\n".to_vec()),
        audit_key: AuditKey::new([1; 32]),
        listeners,
    };
    let segment = format::encode(&provision).unwrap();
    let length = u32::from_be_bytes(segment[34..38].try_into().unwrap()) as usize;
    segment[70..70 + length].to_vec()
}

fn main() {
    let admin = Listener::admin(PEM.into());
    let operator = Listener {
        role: ready_made("operator").unwrap(),
        port: Some(7001),
        client_ca: PEM.into(),
    };
    write("provision_segment", "admin", &payload(vec![admin.clone()]));
    write(
        "provision_segment",
        "operator",
        &payload(vec![operator, admin]),
    );

    let docs = include_str!("../../docs/POLICY.md").lines();
    let example = docs.skip_while(|line| *line != "```toml").skip(1);
    let example = example.take_while(|line| *line != "```");
    let example: Vec<_> = example.collect();
    write("policy_file", "example", example.join("\n").as_bytes());
    write("policy_file", "admin", b"[role.admin]\n");
    write("policy_file", "unknown", b"[role.admin]\nclient_ca = 'x'\n");
    write(
        "policy_file",
        "takeover",
        b"[role.admin]\n[role.a]\nport = 1\npermissions = []\nceiling = ['ProcessLifecycle']\n",
    );

    // Of a key that the target does not have: what looks like a record there is never genuine.
    let (mut chain, start) = Chain::start(AuditKey::new([1; 32]), [2; 8], Some(3));
    let record = chain.record(&Event {
        time_ms: Some(4),
        role: "viewer",
        peer: "192.0.2.1:5",
        op: "start",
        target: Some("a\"b\\c\u{1b}"),
        result: Err(ErrorCode::PermissionDenied),
        reason: "",
        process: "",
        request: 6,
        suppressed: 7,
    });
    write(
        "audit_log",
        "bare",
        format!("{start}\n{record}\nother").as_bytes(),
    );
    let line = serde_json::json!({"level": "INFO", "fields": {"message": record}}).to_string();
    write("audit_log", "json", line.as_bytes());
    write(
        "audit_log",
        "twice",
        serde_json::to_string(&line).unwrap().as_bytes(),
    );
}
