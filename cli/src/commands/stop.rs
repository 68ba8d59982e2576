//! `selium stop`.

use serde::Serialize;

use super::check_target;
use crate::args::StopArgs;
use crate::failure::{Action, Failure};
use crate::interrupt::Stage;
use crate::render::process::{full_id, short_id};
use crate::session::Session;

#[derive(Serialize)]
struct Requested<'a> {
    event: &'static str,
    id: String,
    name: &'a str,
}

/// Stops one process after the other, also after a failure.
pub(super) async fn run(session: &Session, args: StopArgs) -> Result<(), Failure> {
    for target in &args.targets {
        check_target("stop", target)?;
    }
    let client = session.connect().await?;
    let mut result = Ok(());
    let mut output = Ok(());
    for target in args.targets {
        session.enter(Stage::Changing(
            "a stop was under way and may still happen; `selium ps --all` shows whether it did"
                .to_owned(),
        ));
        match client.stop(&target).await {
            Ok(process) => {
                session.enter(Stage::Idle);
                // Who reads the ids may be gone; the others are stopped all the same.
                output = output.and(
                    say(
                        session,
                        process.handle(),
                        process.name().unwrap_or_default(),
                    )
                    .await,
                );
            }
            Err(error) => {
                session.enter(Stage::Idle);
                let failure = Failure::client(Action::Stop(target))(error);
                if client.is_closed() {
                    return Err(failure);
                }
                session.output.failure(&failure).await;
                result = Err(Failure::Reported);
            }
        }
    }
    result.and(output)
}

async fn say(session: &Session, id: u64, name: &str) -> Result<(), Failure> {
    session
        .output
        .note(&format!("stop requested: {name} ({})", short_id(id)))
        .await;
    if session.output.is_json() {
        return session
            .json(&Requested {
                event: "stop_requested",
                id: full_id(id),
                name,
            })
            .await;
    }
    session.output.data(full_id(id)).await
}
