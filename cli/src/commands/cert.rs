//! `selium cert`: what it did, as text and as JSON. None of it needs a connection, and none shows anything of a key.

use std::path::Path;

use rustls_pki_types::UnixTime;
use selium_remote_certs::issue::{
    self, Age, Bundle, Check, Contents, Details, Entry, Import, Init, Issue, IssueError, Item,
    Outcome, Renew, Verdict,
};
use serde::Serialize;

use crate::args::Format;
use crate::args::cert::{
    BundleArgs, CertArgs, CertCommand, ImportArgs, InitArgs, InspectArgs, IssueArgs, ListArgs,
    RenewArgs, StatusArgs, complaint,
};
use crate::failure::Failure;
use crate::render::{
    escape, shell,
    table::{pairs, table},
    time::when,
};
use crate::session::Session;

/// The exit codes of `status`.
const DUE: u8 = 1;
const UNUSABLE: u8 = 2;

/// Makes certificates and looks at them.
pub(super) async fn run(session: &Session, args: CertArgs) -> Result<(), Failure> {
    let now = UnixTime::now();
    match args.command {
        CertCommand::Init(args) => init(session, args, now).await,
        CertCommand::Issue(args) => issue(session, args, now).await,
        CertCommand::List(args) => list(session, &args, now).await,
        CertCommand::Status(args) => status(session, &args, now).await,
        CertCommand::Renew(args) => renew(session, args, now).await,
        CertCommand::Inspect(args) => inspect(session, &args, now).await,
        CertCommand::Bundle(args) => bundle(session, args, now).await,
        CertCommand::Import(args) => import(session, args, now).await,
    }
}

fn failed(error: IssueError) -> Failure {
    Failure::Local(error.to_string())
}

async fn init(session: &Session, args: InitArgs, now: UnixTime) -> Result<(), Failure> {
    if let Some(complaint) = complaint(&args.server_name) {
        return Err(Failure::usage("cert init", complaint));
    }
    let layout = args.place.layout();
    let mut init = Init::default();
    init.hosts = args.server_name;
    init.days = args.days;
    init.force = args.force;
    let outcome = layout.init(&init, now).map_err(failed)?;
    report(session, &outcome).await?;
    let dir = args.place.dir.as_deref().unwrap_or(Path::new("."));
    say(
        session,
        &[
            format!(
                "the keys of the CAs are in {}: keep that folder elsewhere if you can, and name it with --authority",
                layout.authority().display()
            ),
            format!(
                "next: `selium server install --work-dir {}` gives the control plane its certificate, and says how to run \
                 it",
                shell::quoted(&dir.display().to_string())
            ),
        ],
    )
    .await;
    Ok(())
}

async fn issue(session: &Session, args: IssueArgs, now: UnixTime) -> Result<(), Failure> {
    let layout = args.place.layout();
    let name = args.name.clone();
    let mut issue = Issue::new(args.name);
    issue.role = args.role;
    issue.days = args.days;
    issue.out = args.out;
    issue.force = args.force;
    let outcome = layout.issue(&issue, now).map_err(failed)?;
    report(session, &outcome).await?;
    let from = issue
        .out
        .as_ref()
        .map(|out| format!(" --from {}", out.display()))
        .unwrap_or_default();
    let next = format!("next: `selium cert bundle {name}{from}` makes one file to hand over");
    say(session, &[next]).await;
    Ok(())
}

async fn renew(session: &Session, args: RenewArgs, now: UnixTime) -> Result<(), Failure> {
    if let Some(complaint) = complaint(&args.server_name) {
        return Err(Failure::usage("cert renew", complaint));
    }
    let layout = args.place.layout();
    let mut renew = Renew::default();
    renew.hosts = args.server_name;
    renew.name = args.name;
    renew.if_needed = args.if_needed;
    renew.keep_key = args.keep_key;
    renew.days = args.days;
    let outcome = layout.renew(&renew, now).map_err(failed)?;
    report(session, &outcome).await?;
    if outcome.files.is_empty() && outcome.failures.is_empty() {
        say(session, &["nothing was renewed".to_owned()]).await;
    }
    match outcome.failures.is_empty() {
        true => Ok(()),
        false => Err(Failure::Local(outcome.failures.join("\n"))),
    }
}

async fn bundle(session: &Session, args: BundleArgs, now: UnixTime) -> Result<(), Failure> {
    let layout = args.place.layout();
    let name = args.name.clone();
    let mut bundle = Bundle::new(args.name);
    bundle.from = args.from;
    bundle.out = args.out;
    bundle.force = args.force;
    let outcome = layout.bundle(&bundle, now).map_err(failed)?;
    report(session, &outcome).await?;
    for file in &outcome.files {
        let text = format!(
            "{} contains a private key: whoever has it can act as {name}; send it over a safe way only, and delete it when \
             it is imported (`selium cert import`)",
            file.display()
        );
        session.output.warning(&text).await;
    }
    Ok(())
}

async fn import(session: &Session, args: ImportArgs, now: UnixTime) -> Result<(), Failure> {
    let directory = session.cert_dir().to_owned();
    let mut import = Import::new(args.file, &directory);
    import.force = args.force;
    let outcome = issue::import(&import, now).map_err(failed)?;
    report(session, &outcome).await?;
    let next = format!(
        "next: `selium --cert-dir {} ping` asks the server",
        directory.display()
    );
    say(session, &[next]).await;
    Ok(())
}

/// What was done, as JSON.
#[derive(Serialize)]
struct Done<'a> {
    files: Vec<String>,
    certificates: Vec<Certificate<'a>>,
}

/// Says what was done: data on stdout, remarks on stderr.
async fn report(session: &Session, outcome: &Outcome) -> Result<(), Failure> {
    let files = outcome.files.iter().map(|path| path.display().to_string());
    match session.format(None) {
        Format::Json => {
            let done = Done {
                files: files.collect(),
                certificates: outcome.certificates.iter().map(Certificate::of).collect(),
            };
            session.json(&done).await?;
        }
        Format::Text => {
            let issued = outcome.certificates.iter().map(|details| {
                format!(
                    "{}, {}, until {}, SHA-256 {}",
                    escape::line(&details.subject),
                    purpose(details),
                    when(details.not_after),
                    details.fingerprint
                )
            });
            let written = files.map(|path| format!("wrote {}", escape::line(&path)));
            session.lines(issued.chain(written).collect()).await?;
        }
    }
    for warning in &outcome.warnings {
        session.output.warning(warning).await;
    }
    say(session, &outcome.notes).await;
    Ok(())
}

async fn say(session: &Session, notes: &[String]) {
    for note in notes {
        session.output.note(note).await;
    }
}

async fn list(session: &Session, args: &ListArgs, now: UnixTime) -> Result<(), Failure> {
    let entries = args.place.layout().list().map_err(failed)?;
    match session.format(None) {
        Format::Json => {
            let entries: Vec<_> = entries.iter().map(|entry| Listed::of(entry, now)).collect();
            session.json(&entries).await
        }
        Format::Text => {
            let rows: Vec<_> = entries.iter().map(|entry| row(entry, now)).collect();
            let header = ["NAME", "ROLE", "STATE", "UNTIL", "SERIAL"];
            session.lines(table(&header, &rows)).await
        }
    }
}

/// Something that was issued, as JSON.
#[derive(Serialize)]
struct Listed<'a> {
    name: &'a str,
    role: Option<&'a str>,
    state: &'static str,
    path: String,
    problem: Option<&'a str>,
    certificate: Option<Certificate<'a>>,
}

impl<'a> Listed<'a> {
    fn of(entry: &'a Entry, now: UnixTime) -> Self {
        let certificate = entry.certificate.as_ref();
        Self {
            name: entry.name.as_str(),
            role: entry.role.as_deref(),
            state: certificate.map_or("damaged", |details| state(details, now)),
            path: entry.path.display().to_string(),
            problem: certificate.err().map(String::as_str),
            certificate: certificate.ok().map(Certificate::of),
        }
    }
}

fn row(entry: &Entry, now: UnixTime) -> Vec<String> {
    let role = entry.role.as_deref().unwrap_or("(CA not here)");
    let mut row = vec![entry.name.to_string(), role.to_owned()];
    match &entry.certificate {
        Ok(details) => row.extend([
            state(details, now).to_owned(),
            when(details.not_after),
            details.serial.clone(),
        ]),
        Err(_) => row.extend(["damaged", "-", "-"].map(str::to_owned)),
    }
    row
}

/// How everything is, as JSON.
#[derive(Serialize)]
struct Report<'a> {
    verdict: &'static str,
    exit_code: u8,
    checks: Vec<Checked<'a>>,
}

#[derive(Serialize)]
struct Checked<'a> {
    path: String,
    what: &'a str,
    verdict: &'static str,
    problem: Option<&'a str>,
    advice: Option<&'a str>,
    not_after: Option<String>,
}

async fn status(session: &Session, args: &StatusArgs, now: UnixTime) -> Result<(), Failure> {
    let layout = match args.place.dir {
        Some(_) => args.place.layout(),
        None => args.place.layout().with_certs(session.cert_dir()),
    };
    let status = layout.status(now);
    let code = exit_code(status.verdict());
    match session.format(None) {
        Format::Json => {
            let report = Report {
                verdict: verdict(status.verdict()),
                exit_code: code,
                checks: status.checks.iter().map(checked).collect(),
            };
            session.json(&report).await?;
        }
        Format::Text => {
            let rows: Vec<_> = status.checks.iter().map(check_row).collect();
            session
                .lines(table(&["STATE", "WHAT", "UNTIL", "FILE"], &rows))
                .await?;
            let problems = status.checks.iter().filter_map(|check| {
                let problem = check.problem.as_deref()?;
                let advice = check.advice.as_deref().unwrap_or_default();
                let path = check.path.display().to_string();
                // Some problems name the file themselves.
                Some(match problem.contains(&path) {
                    true => format!("{}: {problem}; {advice}", verdict(check.verdict)),
                    false => format!("{}: {path}: {problem}; {advice}", verdict(check.verdict)),
                })
            });
            let problems = problems.map(|line| escape::line(&line).into_owned());
            session.lines(problems.collect()).await?;
        }
    }
    for warning in &status.warnings {
        session.output.warning(warning).await;
    }
    say(session, &status.notes).await;
    match code {
        0 => Ok(()),
        code => Err(Failure::Verdict(code)),
    }
}

fn exit_code(verdict: Verdict) -> u8 {
    match verdict {
        Verdict::Fine => 0,
        Verdict::Due => DUE,
        Verdict::Unusable => UNUSABLE,
    }
}

fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Fine => "fine",
        Verdict::Due => "due",
        Verdict::Unusable => "unusable",
    }
}

fn checked(check: &Check) -> Checked<'_> {
    Checked {
        path: check.path.display().to_string(),
        what: &check.what,
        verdict: verdict(check.verdict),
        problem: check.problem.as_deref(),
        advice: check.advice.as_deref(),
        not_after: check.not_after.map(when),
    }
}

fn check_row(check: &Check) -> Vec<String> {
    vec![
        verdict(check.verdict).to_owned(),
        escape::line(&check.what).into_owned(),
        check.not_after.map_or_else(|| "-".to_owned(), when),
        escape::line(&check.path.display().to_string()).into_owned(),
    ]
}

/// What is in a file, as JSON.
#[derive(Serialize)]
struct Found<'a> {
    path: String,
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<&'static str>,
    #[serde(flatten)]
    certificate: Option<Certificate<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    public_key_sha256: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<&'a str>,
}

async fn inspect(session: &Session, args: &InspectArgs, now: UnixTime) -> Result<(), Failure> {
    let path = args.path.as_deref().unwrap_or(session.cert_dir());
    let (items, status) = issue::inspect(path).map_err(failed)?;
    match session.format(None) {
        Format::Json => {
            let found: Vec<_> = items.iter().map(|item| found(item, now)).collect();
            session.json(&found).await?;
        }
        Format::Text => {
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    session.output.data(String::new()).await?;
                }
                session.lines(shown(item, now)).await?;
            }
        }
    }
    for warning in &status.warnings {
        session.output.warning(warning).await;
    }
    say(session, &status.notes).await;
    let is_problem = |item: &Item| matches!(item.contents, Contents::Problem(_));
    match items.iter().any(is_problem) {
        true => Err(Failure::Reported),
        false => Ok(()),
    }
}

fn found(item: &Item, now: UnixTime) -> Found<'_> {
    let mut found = Found {
        path: item.path.display().to_string(),
        kind: "problem",
        state: None,
        certificate: None,
        public_key_sha256: None,
        problem: None,
    };
    match &item.contents {
        Contents::Certificate(details) => {
            found.kind = "certificate";
            found.state = Some(state(details, now));
            found.certificate = Some(Certificate::of(details));
        }
        Contents::Key(key) => {
            found.kind = "private_key";
            found.public_key_sha256 = Some(&key.fingerprint);
        }
        Contents::Problem(why) => found.problem = Some(why),
        _ => {}
    }
    found
}

fn shown(item: &Item, now: UnixTime) -> Vec<String> {
    let text = |text: &str| escape::line(text).into_owned();
    let mut rows = vec![("file", text(&item.path.display().to_string()))];
    match &item.contents {
        Contents::Certificate(details) => {
            rows.extend([
                ("certificate", purpose(details).to_owned()),
                ("subject", text(&details.subject)),
                ("issuer", text(&details.issuer)),
                ("serial", details.serial.clone()),
                ("valid from", when(details.not_before)),
                ("valid until", when(details.not_after)),
                ("state", state(details, now).to_owned()),
            ]);
            if !details.hosts().is_empty() {
                rows.push(("names", text(&details.hosts().join(", "))));
            }
            rows.push(("key", details.key.clone()));
            let ids = [
                ("key id", &details.key_id),
                ("issuer's key id", &details.authority_key_id),
            ];
            rows.extend(
                ids.iter()
                    .filter_map(|(name, id)| Some((*name, (*id).clone()?))),
            );
            rows.push(("SHA-256", details.fingerprint.clone()));
            rows.push(("public key SHA-256", details.key_fingerprint.clone()));
        }
        Contents::Key(key) => {
            rows.push(("private key", "not shown".to_owned()));
            rows.push(("public key SHA-256", key.fingerprint.clone()));
        }
        Contents::Problem(why) => rows.push(("problem", text(why))),
        _ => {}
    }
    pairs(&rows)
}

/// A certificate, as JSON.
#[derive(Serialize)]
pub(super) struct Certificate<'a> {
    subject: &'a str,
    issuer: &'a str,
    serial: &'a str,
    purpose: &'static str,
    not_before: String,
    not_after: String,
    names: Vec<String>,
    key: &'a str,
    key_id: Option<&'a str>,
    issuer_key_id: Option<&'a str>,
    sha256: &'a str,
    public_key_sha256: &'a str,
}

impl<'a> Certificate<'a> {
    pub(super) fn of(details: &'a Details) -> Self {
        Self {
            subject: &details.subject,
            issuer: &details.issuer,
            serial: &details.serial,
            purpose: purpose(details),
            not_before: when(details.not_before),
            not_after: when(details.not_after),
            names: details.hosts(),
            key: &details.key,
            key_id: details.key_id.as_deref(),
            issuer_key_id: details.authority_key_id.as_deref(),
            sha256: &details.fingerprint,
            public_key_sha256: &details.key_fingerprint,
        }
    }
}

fn purpose(details: &Details) -> &'static str {
    match (details.is_ca, details.usages.as_slice()) {
        (true, _) => "CA",
        (false, ["server"]) => "server",
        (false, ["client"]) => "client",
        (false, []) => "any use",
        (false, _) => "several uses",
    }
}

fn state(details: &Details, now: UnixTime) -> &'static str {
    match details.age(now) {
        Age::Fresh => "fine",
        Age::Due => "due",
        Age::Expired => "expired",
        Age::NotYet => "not valid yet",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_have_the_documented_codes() {
        let codes = [Verdict::Fine, Verdict::Due, Verdict::Unusable].map(exit_code);
        assert_eq!(codes, [0, 1, 2]);
    }
}
