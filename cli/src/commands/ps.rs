//! `selium ps`.

use crate::args::{Format, PsArgs, PsOutput};
use crate::failure::{Action, Failure};
use crate::render::{escape, process, time};
use crate::session::Session;

/// Lists processes.
pub(super) async fn run(session: &Session, args: PsArgs) -> Result<(), Failure> {
    let client = session.connect().await?;
    let processes = client
        .processes(args.all)
        .await
        .map_err(Failure::client(Action::List))?;
    if args.quiet {
        return session
            .lines(
                processes
                    .iter()
                    .map(|one| process::full_id(one.id))
                    .collect(),
            )
            .await;
    }
    let output = args.output.unwrap_or(match session.format(None) {
        Format::Text => PsOutput::Table,
        Format::Json => PsOutput::Json,
    });
    let lines = match output {
        PsOutput::Table => process::narrow(&processes, time::now_ms()),
        PsOutput::Wide => process::wide(&processes, time::now_ms()),
        PsOutput::Json => vec![process::json(&processes)],
        PsOutput::Name => processes
            .iter()
            .map(|one| escape::line(&one.name).into_owned())
            .collect(),
    };
    session.lines(lines).await
}
