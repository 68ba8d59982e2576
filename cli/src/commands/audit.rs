//! `selium audit`: what is in an audit log, and what is wrong with it. It needs no connection.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use selium_remote_certs::issue::Layout;
use selium_remote_provision::AuditKey;
use selium_remote_provision::audit::{MAX_LINE, Problem, ProblemKind, Report, Verifier};
use serde::Serialize;

use crate::args::Format;
use crate::args::audit::{AuditArgs, AuditCommand, VerifyArgs};
use crate::audit_key::{self, AUDIT_KEY_FILE};
use crate::failure::{FAILED, Failure};
use crate::render::{
    escape,
    table::{pairs, table},
};
use crate::session::Session;

/// What stands for stdin.
const STDIN: &str = "-";

/// Bytes of a log that are read at once.
const BUFFER: usize = 64 * 1024;

/// Checks audit logs.
pub(super) async fn run(session: &Session, args: AuditArgs) -> Result<(), Failure> {
    match args.command {
        AuditCommand::Verify(args) => verify(session, args).await,
    }
}

async fn verify(session: &Session, args: VerifyArgs) -> Result<(), Failure> {
    let path = args.key.unwrap_or_else(|| {
        let work = args.work_dir.as_deref().unwrap_or(Path::new("."));
        Layout::new(work).control_plane().join(AUDIT_KEY_FILE)
    });
    let found = audit_key::load(&path).map_err(Failure::Local)?;
    let found = found.ok_or_else(|| {
        Failure::Local(format!(
            "there is no audit key {}: `selium server install` makes it; name the runtime's work dir with --work-dir, or \
             the key with --key",
            path.display()
        ))
    })?;
    if let Some(warning) = &found.warning {
        session.output.warning(warning).await;
    }
    let file = args.file.clone();
    // On a thread of its own: Ctrl-C must work while it waits for more.
    let read = tokio::task::spawn_blocking(move || read(&file, found.key)).await;
    let report = match read {
        Ok(Ok(report)) => report,
        Ok(Err(error)) => {
            let file = name(&args.file);
            return Err(Failure::Local(format!("{file} cannot be read: {error}")));
        }
        Err(error) => return Err(Failure::Local(format!("cannot check the log: {error}"))),
    };
    match session.format(None) {
        Format::Json => session.json(&Shown::of(&report)).await?,
        Format::Text => session.lines(shown(&report)).await?,
    }
    if report.records == 0 && report.problems.is_empty() {
        let text = format!(
            "there is no audit record in {}: is it the runtime's log, and was the runtime's log not filtered (RUST_LOG=info)?",
            name(&args.file)
        );
        session.output.warning(&text).await;
    } else if report.records == 0 {
        let text = format!(
            "no record is genuine by the key {}: is it that of the server that wrote the log?",
            path.display()
        );
        session.output.warning(&text).await;
    }
    match report.is_whole() {
        true => Ok(()),
        false => Err(Failure::Verdict(FAILED)),
    }
}

fn name(file: &Path) -> String {
    match file == Path::new(STDIN) {
        true => "stdin".to_owned(),
        false => file.display().to_string(),
    }
}

fn read(file: &PathBuf, key: AuditKey) -> io::Result<Report> {
    let verifier = Verifier::new(key);
    match file.as_path() == Path::new(STDIN) {
        true => feed(BufReader::with_capacity(BUFFER, io::stdin()), verifier),
        false => feed(
            BufReader::with_capacity(BUFFER, File::open(file)?),
            verifier,
        ),
    }
}

/// Gives all lines to the verifier; of one that is too long only so much that the verifier can tell.
fn feed(mut log: impl BufRead, mut verifier: Verifier) -> io::Result<Report> {
    let mut line = Vec::new();
    let mut has_begun = false;
    loop {
        let chunk = match log.fill_buf() {
            Ok(chunk) => chunk,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if chunk.is_empty() {
            break;
        }
        let mut parts = chunk.splitn(2, |byte| *byte == b'\n');
        let part = parts.next().unwrap_or_default();
        let ends = parts.next().is_some();
        let room = (MAX_LINE + 1).saturating_sub(line.len());
        line.extend(part.iter().take(room));
        let read = part.len() + usize::from(ends);
        log.consume(read);
        has_begun = !ends;
        if ends {
            verifier.line(&line);
            line.clear();
        }
    }
    if has_begun {
        verifier.line(&line);
    }
    Ok(verifier.finish())
}

/// What was found, as JSON.
#[derive(Serialize)]
struct Shown<'a> {
    whole: bool,
    lines: u64,
    records: u64,
    suppressed: u64,
    missing: u64,
    skipped: u64,
    runs: Vec<Run<'a>>,
    /// Records of runs that are not in the list.
    more_runs: u64,
    problems: Vec<Wrong>,
    /// Problems that are not in the list.
    more_problems: u64,
}

#[derive(Serialize)]
struct Run<'a> {
    run: &'a str,
    line: u64,
    first: u64,
    last: u64,
}

#[derive(Serialize)]
struct Wrong {
    line: u64,
    kind: &'static str,
    message: String,
}

impl<'a> Shown<'a> {
    fn of(report: &'a Report) -> Self {
        let runs = report.runs.iter().map(|it| Run {
            run: &it.run,
            line: it.line,
            first: it.first,
            last: it.last,
        });
        let problems = report.problems.iter().map(|problem| Wrong {
            line: problem.line,
            kind: kind(problem),
            message: problem.to_string(),
        });
        Self {
            whole: report.is_whole(),
            lines: report.lines,
            records: report.records,
            suppressed: report.suppressed,
            missing: report.missing,
            skipped: report.skipped,
            runs: runs.collect(),
            more_runs: report.more_runs,
            problems: problems.collect(),
            more_problems: report.more_problems,
        }
    }
}

fn kind(problem: &Problem) -> &'static str {
    match problem.kind {
        ProblemKind::NotGenuine => "not_genuine",
        ProblemKind::Gap { .. } => "gap",
        ProblemKind::StartMissing { .. } => "start_missing",
        ProblemKind::OutOfOrder { .. } => "out_of_order",
        ProblemKind::NotLinked { .. } => "not_linked",
        _ => "other",
    }
}

fn shown(report: &Report) -> Vec<String> {
    let mut lines = Vec::new();
    if !report.runs.is_empty() {
        let rows = report.runs.iter().map(|it| {
            vec![
                it.run.clone(),
                format!("{}..{}", it.first, it.last),
                it.line.to_string(),
            ]
        });
        let rows: Vec<_> = rows.collect();
        lines.extend(table(&["RUN", "RECORDS", "LINE"], &rows));
    }
    if report.more_runs > 0 {
        lines.push(format!(
            "and {} records of further runs, whose order was not checked",
            report.more_runs
        ));
    }
    let problems = report.problems.iter().map(Problem::to_string);
    lines.extend(problems.map(|problem| escape::line(&problem).into_owned()));
    if report.more_problems > 0 {
        lines.push(format!("and {} more problems", report.more_problems));
    }
    let count = report.problems.len() as u64;
    lines.extend(pairs(&[
        ("lines", report.lines.to_string()),
        ("records", report.records.to_string()),
        ("suppressed", report.suppressed.to_string()),
        ("missing", report.missing.to_string()),
        ("skipped", report.skipped.to_string()),
        ("problems", count.saturating_add(report.more_problems).to_string()),
        (
            "verdict",
            match report.is_whole() {
                true => "every record is there and genuine, except that the last of a run may be missing",
                false => "NOT WHOLE",
            }
            .to_owned(),
        ),
    ]));
    lines
}

#[cfg(test)]
mod tests {
    use selium_remote_provision::AUDIT_KEY;

    use super::*;

    /// Gives bytes one at a time, and says now and then that it was interrupted.
    struct Slow<'a>(&'a [u8], bool);

    impl io::Read for Slow<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            self.1 = !self.1;
            match (self.1, self.0.split_first(), into.first_mut()) {
                (true, ..) => Err(io::ErrorKind::Interrupted.into()),
                (false, Some((first, rest)), Some(place)) => {
                    *place = *first;
                    self.0 = rest;
                    Ok(1)
                }
                _ => Ok(0),
            }
        }
    }

    #[test]
    fn lines_are_counted_as_they_are() {
        let long = "x".repeat(MAX_LINE);
        for (log, lines, skipped) in [
            (String::new(), 0, 0),
            ("\n".to_owned(), 1, 0),
            ("a".to_owned(), 1, 0),
            ("a\n\nb\n".to_owned(), 3, 0),
            ("a\n\nb".to_owned(), 3, 0),
            (format!("{long}\n"), 1, 0),
            (format!("{long}x\n{long}x"), 2, 2),
            (format!("{long}{long}{long}\na\n"), 2, 1),
        ] {
            for capacity in [1, 7, BUFFER] {
                let verifier = || Verifier::new(AuditKey::new([1; AUDIT_KEY]));
                let log = log.as_bytes();
                let whole = feed(BufReader::with_capacity(capacity, log), verifier()).unwrap();
                assert_eq!((whole.lines, whole.skipped), (lines, skipped));
                let slow = BufReader::with_capacity(capacity, Slow(log, false));
                assert_eq!(feed(slow, verifier()).unwrap(), whole);
            }
        }
    }
}
