//! Processes as rows, lines and JSON.

use selium_remote_client::{Capability, LogState, ProcessInfo, ProcessState};
use serde::Serialize;

use super::{
    escape,
    table::{pairs, table},
    time,
};

/// The most characters of a cell in the narrow table.
const MAX_CELL: usize = 40;

/// A process's id in full: 16 hexadecimal digits.
pub(crate) fn full_id(id: u64) -> String {
    format!("{id:016x}")
}

/// The first 8 digits of an id.
pub(crate) fn short_id(id: u64) -> String {
    format!("{:08x}", id >> 32)
}

/// The state in one word.
pub(crate) fn state(state: ProcessState) -> &'static str {
    match state {
        ProcessState::Started => "started",
        ProcessState::Stopped => "stopped",
        _ => "unknown",
    }
}

/// What is known of the log, in one word.
pub(crate) fn log(log: LogState) -> &'static str {
    match log {
        LogState::None => "none",
        LogState::Waiting => "waiting",
        LogState::Attached => "attached",
        LogState::Ended => "ended",
        _ => "unknown",
    }
}

fn capabilities(capabilities: &[Capability]) -> String {
    if capabilities.is_empty() {
        return "-".to_owned();
    }
    let names: Vec<&str> = capabilities
        .iter()
        .map(|capability| capability.name())
        .collect();
    names.join(",")
}

/// The table of `selium ps`.
pub(crate) fn narrow(processes: &[ProcessInfo], now_ms: u64) -> Vec<String> {
    let rows: Vec<Vec<String>> = processes
        .iter()
        .map(|process| {
            vec![
                short_id(process.id),
                escape::cut(&process.name, MAX_CELL),
                escape::cut(&process.module, MAX_CELL),
                escape::cut(&process.entrypoint, MAX_CELL),
                state(process.state).to_owned(),
                log(process.log).to_owned(),
                time::age(process.started_ms, now_ms),
            ]
        })
        .collect();
    table(
        &["ID", "NAME", "MODULE", "ENTRYPOINT", "STATE", "LOG", "AGE"],
        &rows,
    )
}

/// The table of `selium ps -o wide`: everything in full.
pub(crate) fn wide(processes: &[ProcessInfo], now_ms: u64) -> Vec<String> {
    let rows: Vec<Vec<String>> = processes
        .iter()
        .map(|process| {
            vec![
                full_id(process.id),
                escape::line(&process.name).into_owned(),
                escape::line(&process.module).into_owned(),
                escape::line(&process.entrypoint).into_owned(),
                state(process.state).to_owned(),
                log(process.log).to_owned(),
                time::age(process.started_ms, now_ms),
                process.log_records.to_string(),
                time::age(process.last_log_ms, now_ms),
                capabilities(&process.capabilities),
            ]
        })
        .collect();
    let header = [
        "ID",
        "NAME",
        "MODULE",
        "ENTRYPOINT",
        "STATE",
        "LOG",
        "AGE",
        "RECORDS",
        "LAST LOG",
        "CAPABILITIES",
    ];
    table(&header, &rows)
}

/// One process, a line for each thing known of it.
pub(crate) fn details(process: &ProcessInfo) -> Vec<String> {
    let when = |ms: Option<u64>| ms.map_or_else(|| "unknown".to_owned(), time::rfc3339);
    let mut lines = vec![
        ("id", full_id(process.id)),
        ("name", escape::line(&process.name).into_owned()),
        ("module", escape::line(&process.module).into_owned()),
        ("entrypoint", escape::line(&process.entrypoint).into_owned()),
        ("state", state(process.state).to_owned()),
        ("capabilities", capabilities(&process.capabilities)),
        ("log", log(process.log).to_owned()),
        ("log records", process.log_records.to_string()),
        ("last log", when(process.last_log_ms)),
        ("started", when(process.started_ms)),
    ];
    if process.state == ProcessState::Stopped {
        lines.push(("stopped", when(process.stopped_ms)));
    }
    pairs(&lines)
}

/// A process in JSON. Ids are strings, because many readers of JSON round numbers past 2^53.
#[derive(Serialize)]
pub(crate) struct Json<'a> {
    id: String,
    name: &'a str,
    module: &'a str,
    entrypoint: &'a str,
    state: &'static str,
    capabilities: Vec<&'static str>,
    log: &'static str,
    log_records: u64,
    started_ms: Option<u64>,
    stopped_ms: Option<u64>,
    last_log_ms: Option<u64>,
}

impl<'a> From<&'a ProcessInfo> for Json<'a> {
    fn from(process: &'a ProcessInfo) -> Self {
        Self {
            id: full_id(process.id),
            name: &process.name,
            module: &process.module,
            entrypoint: &process.entrypoint,
            state: state(process.state),
            capabilities: process.capabilities.iter().map(|one| one.name()).collect(),
            log: log(process.log),
            log_records: process.log_records,
            started_ms: process.started_ms,
            stopped_ms: process.stopped_ms,
            last_log_ms: process.last_log_ms,
        }
    }
}

/// Processes as one JSON array.
pub(crate) fn json(processes: &[ProcessInfo]) -> String {
    let list: Vec<Json<'_>> = processes.iter().map(Json::from).collect();
    escape::json(&list)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(change: impl FnOnce(&mut ProcessInfo)) -> ProcessInfo {
        let mut process = ProcessInfo::default();
        process.id = 0x00c0_ffee_0000_0001;
        process.name = "hello-1".into();
        process.module = "hello.wasm".into();
        process.entrypoint = "start".into();
        process.log = LogState::Attached;
        process.capabilities = vec![Capability::ChannelLifecycle, Capability::ChannelWriter];
        process.log_records = 7;
        process.started_ms = Some(1_795_337_387_123);
        change(&mut process);
        process
    }

    #[test]
    fn the_table_is_stable() {
        let other = process(|process| {
            process.id = u64::MAX;
            process.name = "evil\x1b[2J\n".into();
            process.module = "m".repeat(100);
            process.state = ProcessState::Stopped;
            process.log = LogState::None;
            process.started_ms = None;
        });
        let shown = narrow(&[process(|_| ()), other], 1_795_337_400_000);
        let module = format!("{}…", "m".repeat(39));
        assert_eq!(
            shown,
            [
                "ID        NAME             MODULE                                    ENTRYPOINT  STATE    LOG       AGE".to_owned(),
                "00c0ffee  hello-1          hello.wasm                                start       started  attached  12s".to_owned(),
                format!("ffffffff  evil\\u{{1b}}[2J\\n  {module}  start       stopped  none      -"),
            ]
        );
        assert_eq!(
            narrow(&[], 0),
            ["ID  NAME  MODULE  ENTRYPOINT  STATE  LOG  AGE"]
        );
    }

    #[test]
    fn wide_shows_everything() {
        let shown = wide(&[process(|_| ())], 1_795_337_400_000);
        assert_eq!(
            shown[1],
            "00c0ffee00000001  hello-1  hello.wasm  start       started  attached  12s  7        -         \
             ChannelLifecycle,ChannelWriter"
        );
    }

    #[test]
    fn json_is_stable_and_ids_are_strings() {
        let shown = json(&[process(|process| process.name = "\u{9b}x".into())]);
        assert_eq!(
            shown,
            r#"[{"id":"00c0ffee00000001","name":"\u009bx","module":"hello.wasm","entrypoint":"start","state":"started","#
                .to_owned()
                + r#""capabilities":["ChannelLifecycle","ChannelWriter"],"log":"attached","log_records":7,"#
                + r#""started_ms":1795337387123,"stopped_ms":null,"last_log_ms":null}]"#
        );
        assert_eq!(json(&[]), "[]");
    }

    #[test]
    fn details_name_what_is_not_known() {
        let shown = details(&process(|process| process.capabilities.clear()));
        assert!(shown.contains(&"capabilities: -".to_owned()), "{shown:?}");
        assert!(
            shown.contains(&"last log:     unknown".to_owned()),
            "{shown:?}"
        );
        assert!(
            shown.contains(&"started:      2026-11-22T08:49:47.123Z".to_owned()),
            "{shown:?}"
        );
        assert!(!shown.iter().any(|line| line.starts_with("stopped")));
    }
}
