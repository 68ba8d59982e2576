//! The bodies of this crate's fuzz targets. **Unstable and private**: only there with the feature `fuzzing`, for `fuzz/`
//! and for the tests of this crate.
#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "to panic is how these functions report"
)]

use std::path::Path;

use crate::{
    AuditKey,
    audit::{self, Chain, Event},
    format::{self, State},
    policy_file::{MAX_POLICY, PolicyFile, Takeover},
    segment::CAPACITY,
};

/// A segment with any payload behind a right header is decoded, and comes back the same when it is written again, or it is
/// refused. The bytes as they are, which have no right checksum, are refused.
pub fn provision_segment(data: &[u8]) {
    assert!(format::decode(data).is_err(), "accepted without a checksum");
    let Some(segment) = format::sealed(data) else {
        return;
    };
    assert_eq!(segment.len(), CAPACITY);
    let state = format::state(&segment).expect("a right checksum");
    assert_eq!(state, State::Provisioned(format::VERSION));
    match format::decode(&segment) {
        Err(error) => assert!(!error.to_string().is_empty()),
        Ok(None) => panic!("provisioned, and taken for unprovisioned"),
        Ok(Some(provision)) => {
            provision.check().expect("what is decoded is valid");
            // What is written again is not longer: it has one form only, and no unknown fields.
            let again = format::encode(&provision).expect("it fits");
            let again = format::decode(&again).expect("it is valid");
            assert_eq!(again, Some(provision));
        }
    }
}

/// A policy is read and within its rules, or it is refused with a place in the file.
pub fn policy_file(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    match PolicyFile::parse(Path::new("policy.toml"), &text) {
        Err(error) => {
            assert!(!error.message.is_empty() && error.message.len() < 2_000);
            match error.position {
                None => assert!(text.len() > MAX_POLICY),
                Some(at) => {
                    assert!(at.line >= 1 && at.line <= text.split('\n').count());
                    assert!(at.column >= 1 && at.column <= text.len() + 1);
                }
            }
        }
        Ok(policy) => {
            let admin = policy.roles.first().expect("admin");
            assert_eq!((admin.role.name.as_str(), admin.port), (crate::ADMIN, None));
            for (at, entry) in policy.roles.iter().enumerate().skip(1) {
                let port = entry.port.expect("a port");
                let before = policy.roles.iter().take(at);
                assert!(port > 0 && !before.clone().any(|it| it.port == Some(port)));
                let takeover = Takeover::of(entry.role.ceiling).next();
                assert!(takeover.is_none() || text.contains("dangerous"));
            }
        }
    }
}

/// A log with any lines is read: everything in it that looks like a record is not genuine, and genuine records around
/// it are found. The input stands between two of them, line by line.
pub fn audit_log(data: &[u8]) {
    let key = AuditKey::new([7; 32]);
    let (mut chain, start) = Chain::start(key.clone(), *b"fuzzing!", None);
    let text = String::from_utf8_lossy(data);
    let record = chain.record(&Event {
        time_ms: None,
        role: &text,
        peer: &text,
        op: &text,
        target: Some(&text),
        result: Ok(()),
        reason: &text,
        process: &text,
        request: 1,
        suppressed: 0,
    });
    assert!(record.len() <= audit::MAX_RECORD);
    assert!(record.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
    let between: Vec<&[u8]> = data.split(|byte| *byte == b'\n').collect();
    let mut lines = vec![start.as_bytes()];
    lines.extend(&between);
    lines.push(record.as_bytes());
    let report = audit::verify(&key, &lines);
    assert_eq!(report.lines, lines.len() as u64);
    assert_eq!((report.records, report.missing), (2, 0));
    assert_eq!(report.runs.len(), 1);
    assert!(
        report
            .problems
            .iter()
            .all(|it| { it.kind == audit::ProblemKind::NotGenuine && !it.to_string().is_empty() })
    );
}
