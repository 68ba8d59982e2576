//! `selium inspect`.

use super::check_target;
use crate::args::{Format, InspectArgs};
use crate::failure::{Action, Failure};
use crate::render::process;
use crate::session::Session;

/// Shows what is known of one process.
pub(super) async fn run(session: &Session, args: InspectArgs) -> Result<(), Failure> {
    check_target("inspect", &args.target)?;
    let client = session.connect().await?;
    let info = client
        .inspect(&args.target)
        .await
        .map_err(Failure::client(Action::Inspect(args.target)))?;
    match session.format(args.output) {
        Format::Text => session.lines(process::details(&info)).await,
        Format::Json => session.json(&process::Json::from(&info)).await,
    }
}
