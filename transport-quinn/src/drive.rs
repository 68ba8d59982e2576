//! The drive loops: bytes and time between a stream and its machine.

use std::time::{Duration, Instant};

use futures_util::future::{Either, join};
use quinn::ConnectionError;

use crate::{
    Link, Machine, Runtime,
    link::Next,
    runtime::Alarm,
    stream::{Ends, Receiver, Sender},
    wait::{Turn, first},
};

/// The most bytes that one read takes.
const MAX_READ: usize = 64 * 1024;

/// How long a machine that is over may take to get its last words (a goodbye) to the other side. A second is many round
/// trips; a peer that needs longer is not listening.
const CLOSE_WAIT: Duration = Duration::from_secs(1);

/// How long the endpoint gets to tell the peer that the connection is closed. The last words have arrived by then, so
/// that this only frees the peer's state sooner; waiting for all of QUIC's draining period would delay every command.
const IDLE_WAIT: Duration = Duration::from_millis(10);

/// Ends the link when the task ends, even when it is cancelled with its runtime: nobody may wait for ever.
struct Ended<M: Machine>(Link<M>);

impl<M: Machine> Drop for Ended<M> {
    fn drop(&mut self) {
        self.0.ended();
    }
}

/// Drives the machine until it is over and the connection is closed.
pub(crate) async fn run<M: Machine>(
    runtime: Runtime,
    link: Link<M>,
    ends: Ends,
    send: Sender,
    recv: Receiver,
) {
    let ended = Ended(link);
    let link = &ended.0;
    let writing = async {
        let given_up = async {
            link.closing().await;
            runtime.sleep_until(Instant::now() + CLOSE_WAIT).await;
        };
        if let Either::Left(Err(error)) = first(outbound(link, send), given_up).await {
            if let Some(error) = error {
                link.lost(error);
            }
            // What the other side said before it went may still wait to be read, and says more than its going.
            let _ = runtime.timeout(CLOSE_WAIT, link.closing()).await;
            link.run(M::handle_eof);
        }
        // This ends the reading too.
        ends.close();
    };
    join(inbound(&runtime, link, recv), writing).await;
    let _ = runtime.timeout(IDLE_WAIT, ends.idle()).await;
    tracing::debug!(address = %link.remote_address(), loss = ?link.loss(), "connection over");
}

/// Carries what arrives, and time. It waits for nothing else, so that neither a deadline nor an answer is late because
/// the other side does not read.
async fn inbound<M: Machine>(runtime: &Runtime, link: &Link<M>, mut recv: Receiver) {
    let mut alarm = Alarm::new(runtime);
    let mut turn = Turn::default();
    loop {
        let due = link.elapse();
        let time = first(alarm.wait(due), link.time_changed());
        match first(recv.read(MAX_READ), time).await {
            Either::Left(Ok(Some(bytes))) => {
                link.run(|machine, now| machine.handle_input(now, bytes));
                turn.taken().await;
            }
            Either::Left(Ok(None)) => break,
            Either::Left(Err(error)) => {
                if let Some(error) = error {
                    link.lost(error);
                }
                break;
            }
            Either::Right(_) => {}
        }
    }
    link.run(M::handle_eof);
}

/// Carries what the machine wants to send, one write after the other; ends when all of it has arrived.
async fn outbound<M: Machine>(
    link: &Link<M>,
    mut send: Sender,
) -> Result<(), Option<ConnectionError>> {
    let mut turn = Turn::default();
    loop {
        match link.next() {
            Next::Write(transmit) => {
                send.write(transmit).await?;
                turn.taken().await;
            }
            Next::Wait => link.work().await,
            Next::Finish => break,
        }
    }
    send.finish().await;
    Ok(())
}
