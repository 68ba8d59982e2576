//! `selium ping`.

use std::time::Duration;

use serde::Serialize;

use crate::args::PingArgs;
use crate::failure::{Action, Failure};
use crate::render::escape;
use crate::session::Session;

/// The pause between two pings.
const PAUSE: Duration = Duration::from_secs(1);

#[derive(Serialize)]
struct Pong {
    event: &'static str,
    number: u64,
    round_trip_ms: f64,
}

/// Measures the round trip through the server module.
pub(super) async fn run(session: &Session, args: PingArgs) -> Result<(), Failure> {
    let client = session.connect().await?;
    let server = client.server();
    let software = format!("{} {}", server.software, server.version);
    for number in 1..=args.count {
        if number > 1 {
            tokio::time::sleep(PAUSE).await;
        }
        let round_trip = client.ping().await.map_err(Failure::client(Action::Ping))?;
        let round_trip_ms = (round_trip.as_secs_f64() * 1e6).round() / 1e3;
        if session.output.is_json() {
            session
                .json(&Pong {
                    event: "pong",
                    number,
                    round_trip_ms,
                })
                .await?;
        } else {
            let line = format!(
                "answer {number} from {} ({}): {round_trip_ms} ms",
                escape::line(&session.endpoint()),
                escape::line(&software)
            );
            session.output.data(line).await?;
        }
    }
    Ok(())
}
