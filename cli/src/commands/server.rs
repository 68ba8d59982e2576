//! `selium server`: what was installed, and how to run it. It needs no connection, and shows nothing of a key.

use std::path::Path;

use rustls_pki_types::UnixTime;
use selium_remote_client::{DEFAULT_DOMAIN, DEFAULT_PORT};
use selium_remote_provision::ADMIN;
use serde::Serialize;

use super::cert::Certificate;
use crate::args::Format;
use crate::args::server::{InstallArgs, ServerArgs, ServerCommand};
use crate::failure::Failure;
use crate::provisioning::{Installed, Plan, Request};
use crate::render::shell::quoted;
use crate::runtime_line::RuntimeLine;
use crate::session::Session;

/// What the runtime takes for its work dir; module paths only resolve without it.
const WORK_DIR: &str = "SELIUM_WORK_DIR";

/// Gives the server what it needs.
pub(super) async fn run(session: &Session, args: ServerArgs) -> Result<(), Failure> {
    match args.command {
        ServerCommand::Install(args) => install(session, &args).await,
    }
}

/// What was installed, as JSON.
#[derive(Serialize)]
struct Done<'a> {
    command: &'a RuntimeLine,
    files: Files,
    server: Certificate<'a>,
    roles: Vec<Role<'a>>,
}

#[derive(Serialize)]
struct Files {
    module: String,
    audit_key: String,
    /// Those that were not there before, and the module.
    written: Vec<String>,
}

#[derive(Serialize)]
struct Role<'a> {
    role: &'a str,
    port: u16,
    client_cas: Vec<Certificate<'a>>,
}

async fn install(session: &Session, args: &InstallArgs) -> Result<(), Failure> {
    let (domain, port) = session.server();
    let request = Request {
        work: args.work_dir.as_deref().unwrap_or(Path::new(".")),
        policy: args.policy.as_deref(),
        module: args.module.as_deref(),
        domain,
        port,
    };
    let plan = Plan::make(&request, UnixTime::now())?;
    let written = plan.carry_out()?;
    match session.format(None) {
        Format::Json => {
            let shown = |path: &Path| path.display().to_string();
            let done = Done {
                command: &plan.line,
                files: Files {
                    module: shown(&plan.module),
                    audit_key: shown(&plan.audit_key),
                    written: written.iter().map(|path| shown(path)).collect(),
                },
                server: Certificate::of(plan.identity.leaf()),
                roles: plan.roles.iter().map(role).collect(),
            };
            session.json(&done).await?;
        }
        Format::Text => session.output.data(plan.line.line().to_owned()).await?,
    }
    for warning in &plan.warnings {
        session.output.warning(warning).await;
    }
    if std::env::var_os(WORK_DIR).is_some() {
        let text = format!(
            "{WORK_DIR} is set here, and the runtime would look for its modules there: `unset {WORK_DIR}` before the \
             command above"
        );
        session.output.warning(&text).await;
    }
    for note in notes(&plan, &request) {
        session.output.note(&note).await;
    }
    Ok(())
}

fn role(role: &Installed) -> Role<'_> {
    Role {
        role: &role.role,
        port: role.port,
        client_cas: role.cas.details().map(Certificate::of).collect(),
    }
}

/// What was done, and how to go on.
fn notes(plan: &Plan, request: &Request<'_>) -> Vec<String> {
    let mut notes = vec![format!("wrote {}", plan.module.display())];
    for Installed { role, port, cas } in &plan.roles {
        let cas = cas
            .details()
            .map(|ca| format!("{}, SHA-256 {}", ca.subject, ca.fingerprint));
        let cas: Vec<_> = cas.collect();
        notes.push(format!(
            "role {role}: port {port}, clients of {}",
            cas.join("; ")
        ));
    }
    let audit_key = plan.audit_key.display();
    notes.push(match plan.makes_key() {
        true => format!(
            "made the audit key {audit_key}: keep it as long as the logs; `selium audit verify` checks them with it"
        ),
        false => format!("the audit key {audit_key} stays as it was"),
    });
    if let Some(link) = &plan.link {
        notes.push(format!(
            "made the link {} -> . , with which the runtime finds the module",
            link.display()
        ));
    }
    notes.push(
        "next: run the command above; a runtime that runs already has to be started again"
            .to_owned(),
    );
    let mut client = format!("selium --cert-dir {}", quoted(&plan.certs));
    if request.domain != DEFAULT_DOMAIN {
        client.push_str(&format!(" --domain {}", quoted(request.domain)));
    }
    let with_port = match request.port {
        DEFAULT_PORT => String::new(),
        port => format!(" --port {port}"),
    };
    notes.push(format!(
        "then `{client}{with_port} ping` asks the server, as {ADMIN}"
    ));
    let dir = match request.work == Path::new(".") {
        true => String::new(),
        false => format!(" --dir {}", quoted(&request.work.display().to_string())),
    };
    for Installed { role, port, .. } in plan.roles.iter().filter(|it| it.role != ADMIN) {
        notes.push(format!(
            "clients of the role {role} (`selium cert issue NAME --role {role}{dir}`) need --port {port}"
        ));
    }
    notes
}
