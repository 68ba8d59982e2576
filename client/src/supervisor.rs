//! The task that keeps a client connected. It ends with the client: nothing that it holds keeps that alive.

use std::{
    future::poll_fn,
    pin::pin,
    sync::Arc,
    task::Poll,
    time::{Duration, Instant},
};

use futures_channel::oneshot;
use selium_remote_client_protocol::CloseReason;
use tracing::Instrument as _;

use crate::{
    ClientConfigBuilder, ClientError, ConnectionEvent, ErrorKind,
    board::{Board, Chores, Connection, Final},
    link::runtime,
    publisher::Line,
    reconnect::{self, passes},
    spans,
};

/// Whichever of two is ready first.
pub(crate) enum First<A, B> {
    One(A),
    Other(B),
}

/// Waits for the first of two; the other is dropped.
pub(crate) async fn first<A, B>(
    one: impl Future<Output = A>,
    other: impl Future<Output = B>,
) -> First<A, B> {
    let (mut one, mut other) = (pin!(one), pin!(other));
    poll_fn(|cx| {
        if let Poll::Ready(one) = one.as_mut().poll(cx) {
            return Poll::Ready(First::One(one));
        }
        other.as_mut().poll(cx).map(First::Other)
    })
    .await
}

/// When the task is dropped with its runtime, nobody may wait for it.
struct Guard(Arc<Board>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.end(Final::Closed(CloseReason::Lost, None));
    }
}

/// Whether the same attempt may succeed later. A certificate directory may just be being written: that is looked at
/// again once.
fn may_pass(error: &ClientError, last: Option<&ClientError>) -> bool {
    if let ClientError::Certificate(_) = error {
        return !matches!(last, Some(ClientError::Certificate(_)));
    }
    if error.is_auth() {
        return false;
    }
    match error {
        ClientError::Refused { error, .. } => passes(error.code),
        ClientError::Closed(closed) => reconnect::may_pass(&closed.reason),
        ClientError::Resolve { .. } | ClientError::Endpoint(_) | ClientError::Timeout { .. } => {
            true
        }
        // A server that is just starting may not serve the name yet.
        ClientError::Connect(_) => error.kind() != ErrorKind::Incompatible,
        _ => false,
    }
}

fn random() -> u32 {
    // Without random numbers no hello could be made.
    getrandom::u32().unwrap_or_default()
}

pub(crate) struct Supervisor {
    board: Arc<Board>,
    config: ClientConfigBuilder,
    session: [u8; 16],
}

impl Supervisor {
    pub(crate) fn new(board: Arc<Board>, config: ClientConfigBuilder, session: [u8; 16]) -> Self {
        Self {
            board,
            config,
            session,
        }
    }

    /// Keeps the client connected until it is over. `ended` tells when the present connection is.
    pub(crate) async fn run(self, ended: oneshot::Receiver<()>) {
        let guard = Guard(Arc::clone(&self.board));
        let mut ended = ended;
        let (mut waits, mut number) = (0, 1u64);
        loop {
            let began = Instant::now();
            if let First::Other(()) = first(ended, self.chores()).await {
                break;
            }
            let Some(reason) = self.board.lost() else {
                break;
            };
            tracing::info!(%reason, "the connection was lost, it is being made again");
            if began.elapsed() >= self.config.reconnect.settled() {
                waits = 0;
            }
            number = number.saturating_add(1);
            let Some((connection, end)) = self.again(number, &mut waits).await else {
                break;
            };
            ended = end;
            if !self.board.up(connection) {
                break;
            }
        }
        drop(guard);
    }

    /// Tries until there is a connection, or nothing more is to be tried.
    async fn again(
        &self,
        number: u64,
        waits: &mut u32,
    ) -> Option<(Connection, oneshot::Receiver<()>)> {
        let mut last: Option<Arc<ClientError>> = None;
        let mut attempts = 0u32;
        loop {
            attempts = attempts.saturating_add(1);
            let after = self.config.reconnect.wait(*waits, random());
            *waits = waits.saturating_add(1);
            self.board.tell(&ConnectionEvent::Retrying {
                after,
                attempt: attempts,
                error: last.clone(),
            });
            self.during(sleep(after)).await?;
            let span = spans::connection(&self.config.target().to_string(), number, attempts);
            let attempt = self.config.open(self.session, number);
            let error = match self.during(attempt.instrument(span.clone())).await? {
                Ok(connected) => {
                    spans::connected(&span, &connected.0.server);
                    return Some(connected);
                }
                Err(error) => Arc::new(error),
            };
            tracing::debug!(%error, attempts, "no connection");
            let over = !may_pass(&error, last.as_deref());
            if over || self.config.reconnect.is_enough(attempts) {
                tracing::warn!(%error, attempts, "the connection is not made again");
                self.board.end(Final::GaveUp { error, attempts });
                return None;
            }
            last = Some(error);
        }
    }

    /// What comes of `future`; nothing when the client is over first.
    async fn during<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        match first(future, self.chores()).await {
            First::One(output) => Some(output),
            First::Other(()) => None,
        }
    }

    /// Looks after publications and those who wait, until the client is over.
    async fn chores(&self) {
        loop {
            let due = match self.board.chores() {
                Chores::Over => return,
                Chores::Wait(lines, due) => {
                    for line in lines {
                        self.look_after(&line);
                    }
                    due
                }
            };
            let rung = poll_fn(|cx| self.board.poll_rung(cx));
            match (due, runtime()) {
                (Some(due), Ok(runtime)) => {
                    let _ = runtime.timeout_at(due, rung).await;
                }
                _ => rung.await,
            }
        }
    }

    /// Goes on with a publication whose stream was lost, in the background.
    fn look_after(&self, line: &Arc<Line>) {
        if let Some(reopening) = Line::reopen(line)
            && let Ok(runtime) = runtime()
        {
            runtime.spawn(reopening);
        }
    }
}

async fn sleep(after: Duration) {
    if let Ok(runtime) = runtime() {
        runtime.sleep_until(Instant::now() + after).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use selium_remote_client_protocol::{ErrorCode, RemoteError};

    #[test]
    fn errors_that_do_not_pass_end_the_attempts() {
        let refused = |code| ClientError::Refused {
            server: String::new(),
            versions: (1, 1),
            error: Box::new(RemoteError::new(code, "")),
        };
        let resolve = || ClientError::Resolve {
            target: String::new(),
            source: None,
        };
        for (error, expected) in [
            (refused(ErrorCode::ResourceExhausted), true),
            (refused(ErrorCode::Unauthenticated), false),
            (refused(ErrorCode::Unsupported), false),
            (resolve(), true),
            (ClientError::NoRuntime, false),
            (
                ClientError::Legacy {
                    server: String::new(),
                },
                false,
            ),
        ] {
            assert_eq!(may_pass(&error, None), expected, "{error}");
        }
    }
}
