//! The audit log: what is written is verified, and whatever was done to it shows.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use proptest::prelude::*;
use selium_remote_client_protocol::ErrorCode;
use selium_remote_provision::{
    AuditKey,
    audit::{self, Chain, Event, MAX_RECORD, ProblemKind, Report},
};

const KEY: [u8; 32] = *b"an audit key CANARY-AUDIT-KEY 32";

fn event(target: &str) -> Event<'_> {
    Event {
        time_ms: Some(1_764_000_000_000),
        role: "operator",
        peer: "192.0.2.7:5013",
        op: "start",
        target: Some(target),
        result: Err(ErrorCode::PermissionDenied),
        reason: "the role `operator` may not",
        process: "",
        request: 12,
        suppressed: 1,
    }
}

/// A run with its start and five records.
fn run(id: u8) -> Vec<String> {
    let (mut chain, start) = Chain::start(AuditKey::new(KEY), [id; 8], None);
    let records = (1..=5).map(|at| chain.record(&event(&format!("a \"b\" \\ {at} é 😀"))));
    [start].into_iter().chain(records).collect()
}

fn verify(lines: &[String]) -> Report {
    audit::verify(&AuditKey::new(KEY), lines)
}

fn kinds(report: &Report) -> Vec<ProblemKind> {
    report.problems.iter().map(|it| it.kind.clone()).collect()
}

#[test]
fn records_are_json_and_verify() {
    let lines = run(1);
    let json: serde_json::Value = serde_json::from_str(&lines[1]).unwrap();
    assert_eq!(json["seq"], 1);
    assert_eq!(json["target"], "a \"b\" \\ 1 é 😀");
    assert_eq!(json["result"], "permission denied");
    assert_eq!(json["reason"], "the role `operator` may not");
    assert_eq!(json.get("process"), None);
    let report = verify(&lines);
    assert!(report.is_whole(), "{report:?}");
    assert_eq!(
        (report.records, report.suppressed, report.runs.len()),
        (6, 5, 1)
    );
    assert!(!verify(&[]).is_whole());
}

#[test]
fn records_are_found_in_what_a_runtime_writes() {
    let bare = run(1);
    let json = |line: &String| {
        serde_json::json!({"level": "INFO", "x": "{\"a\":1", "fields": {"message": line}})
            .to_string()
    };
    let wrapped: Vec<_> = bare.iter().map(json).collect();
    let twice: Vec<_> = wrapped
        .iter()
        .map(|it| serde_json::to_string(it).unwrap())
        .collect();
    let text: Vec<_> = bare
        .iter()
        .map(|it| format!("12:00 INFO a=\"b {it} c\""))
        .collect();
    for mut lines in [wrapped, twice, text] {
        lines.insert(2, "{\"level\":\"INFO\",\"audit\":\"no\"".into());
        lines.insert(4, "\"{{{\\".into());
        let report = verify(&lines);
        assert!(report.is_whole(), "{report:?}\n{lines:?}");
        assert_eq!(report.records, 6);
    }
}

#[test]
fn what_was_done_to_a_log_shows() {
    let lines = run(1);
    let mut gap = lines.clone();
    gap.drain(2..4);
    let report = verify(&gap);
    assert_eq!(kinds(&report), [ProblemKind::Gap { from: 2, to: 3 }]);
    assert_eq!((report.missing, report.problems[0].line), (2, 3));

    assert_eq!(
        kinds(&verify(&lines[2..])),
        [ProblemKind::StartMissing { to: 1 }]
    );

    let mut twice = lines.clone();
    twice.insert(4, lines[1].clone());
    assert!(matches!(
        kinds(&verify(&twice))[..],
        [ProblemKind::OutOfOrder { seq: 1, .. }]
    ));

    let mut swapped = lines.clone();
    swapped.swap(2, 3);
    assert_eq!(kinds(&verify(&swapped)).len(), 2);

    let mut changed = lines.clone();
    changed[3] = changed[3].replace("operator", "admin");
    assert_eq!(
        kinds(&verify(&changed)),
        [ProblemKind::NotGenuine, ProblemKind::Gap { from: 3, to: 3 }]
    );

    // A record of another chain with the same run and number.
    let (mut other, _) = Chain::start(AuditKey::new(KEY), [1; 8], Some(9));
    let _ = other.record(&event("x"));
    let mut exchanged = lines.clone();
    exchanged[2] = other.record(&event("y"));
    assert!(kinds(&verify(&exchanged)).contains(&ProblemKind::NotLinked { seq: 2 }));

    let report = audit::verify(&AuditKey::new([0; 32]), &lines);
    assert_eq!((report.records, report.problems.len()), (0, 6));
}

#[test]
fn restarts_are_runs_and_no_problems() {
    let report = verify(&[run(1), run(2), run(3)].concat());
    assert!(report.is_whole(), "{report:?}");
    let lines: Vec<_> = report
        .runs
        .iter()
        .map(|it| (it.line, it.first, it.last))
        .collect();
    assert_eq!(lines, [(1, 0, 5), (7, 0, 5), (13, 0, 5)]);
}

#[test]
fn records_are_bounded() {
    let long = "\u{1}".repeat(10_000);
    let (mut chain, _) = Chain::start(AuditKey::new(KEY), [255; 8], Some(u64::MAX));
    let event = Event {
        time_ms: Some(u64::MAX),
        role: &long,
        peer: &long,
        op: &long,
        reason: &long,
        process: &long,
        request: u64::MAX,
        suppressed: u64::MAX,
        ..event(&long)
    };
    let record = chain.record(&event);
    assert!(record.len() <= MAX_RECORD, "{}", record.len());
    assert!(!format!("{chain:?}").contains("CANARY"));
}

proptest! {
    #[test]
    fn any_log_is_read(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        selium_remote_provision::fuzzing::audit_log(&bytes);
    }

    #[test]
    fn any_change_of_a_record_shows(line in 0usize..6, at: usize, byte in 1u8..128) {
        let mut lines: Vec<_> = run(1).into_iter().map(String::into_bytes).collect();
        let at = at % lines[line].len();
        lines[line][at] ^= byte;
        let report = audit::verify(&AuditKey::new(KEY), &lines);
        prop_assert_eq!(report.records, 5);
        // That the last one is gone does not show when it does not look like one any more.
        prop_assert!(line == 5 || !report.is_whole());
    }
}
