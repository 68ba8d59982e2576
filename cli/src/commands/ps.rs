//! `selium ps`.

use crate::args::{Format, ListOutput, PsArgs};
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
    if args.list.quiet {
        return session
            .lines(
                processes
                    .iter()
                    .map(|one| process::full_id(one.id))
                    .collect(),
            )
            .await;
    }
    let output = args.list.output.unwrap_or(match session.format(None) {
        Format::Text => ListOutput::Table,
        Format::Json => ListOutput::Json,
    });
    let lines = match output {
        ListOutput::Table => process::narrow(&processes, time::now_ms()),
        ListOutput::Wide => process::wide(&processes, time::now_ms()),
        ListOutput::Json => vec![process::json(&processes)],
        ListOutput::Name => processes
            .iter()
            .map(|one| escape::line(&one.name).into_owned())
            .collect(),
    };
    session.lines(lines).await
}
