//! How lost connections are made again, and what can be seen of it.

use std::{
    collections::VecDeque,
    fmt,
    future::poll_fn,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::Duration,
};

use futures_core::{FusedStream, Stream};
use selium_remote_client_protocol::{CloseReason, ErrorCode};

use crate::{ClientError, config::MAX_TIMEOUT};

/// The longest wait before the first attempt to reconnect, by default.
pub const DEFAULT_RECONNECT_DELAY: Duration = Duration::from_millis(100);

/// The longest wait between attempts to reconnect, by default.
pub const DEFAULT_MAX_RECONNECT_DELAY: Duration = Duration::from_secs(10);

/// The most events that wait to be read; the oldest go, which is told.
const MAX_EVENTS: usize = 64;

/// Whether and how a lost connection is made again. The default: for ever, with waits that double from 100 ms to 10 s.
///
/// Each wait is cut to between a half and the whole of it, at random, so that the clients of a server that was restarted
/// do not come back at the same time. The waits begin anew when a connection has lasted for as long as the longest of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reconnect {
    enabled: bool,
    delay: Duration,
    max_delay: Duration,
    attempts: Option<u32>,
}

impl Default for Reconnect {
    fn default() -> Self {
        Self {
            enabled: true,
            delay: DEFAULT_RECONNECT_DELAY,
            max_delay: DEFAULT_MAX_RECONNECT_DELAY,
            attempts: None,
        }
    }
}

impl Reconnect {
    /// The default.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Not at all: when the connection is lost, the client is over.
    #[must_use]
    pub fn never() -> Self {
        Self {
            enabled: false,
            ..Self::default()
        }
    }

    /// The longest wait before the first attempt. It doubles with each attempt. At least 1 ms.
    #[must_use]
    pub fn delay(mut self, delay: Duration) -> Self {
        self.delay = delay.clamp(Duration::from_millis(1), MAX_TIMEOUT);
        self
    }

    /// What the waits grow to.
    #[must_use]
    pub fn max_delay(mut self, delay: Duration) -> Self {
        self.max_delay = delay.clamp(Duration::from_millis(1), MAX_TIMEOUT);
        self
    }

    /// How many attempts in a row may fail before the client gives up; at least one.
    #[must_use]
    pub fn attempts(mut self, attempts: u32) -> Self {
        self.attempts = Some(attempts.max(1));
        self
    }

    pub(crate) fn is_enabled(&self) -> bool {
        self.enabled
    }

    /// Whether so many failed attempts are enough.
    pub(crate) fn is_enough(&self, failed: u32) -> bool {
        self.attempts.is_some_and(|attempts| failed >= attempts)
    }

    /// How long a connection has to last for the waits to begin anew: a server that takes every connection and drops it
    /// at once is not asked more often for that.
    pub(crate) fn settled(&self) -> Duration {
        self.max_delay
    }

    /// How long to wait when so many waits lie behind.
    pub(crate) fn wait(&self, waits: u32, random: u32) -> Duration {
        let doubled = 2u32
            .checked_pow(waits)
            .and_then(|factor| self.delay.checked_mul(factor));
        let longest = doubled.unwrap_or(self.max_delay).min(self.max_delay);
        let half = longest / 2;
        half + half.mul_f64(f64::from(random) / f64::from(u32::MAX))
    }

    /// Whether a connection that ended like this is made again.
    pub(crate) fn lasts(&self, reason: &CloseReason) -> bool {
        self.enabled && may_pass(reason)
    }
}

/// Whether another connection may fare better than one that ended like this.
pub(crate) fn may_pass(reason: &CloseReason) -> bool {
    match reason {
        CloseReason::Peer(error) => passes(error.code),
        CloseReason::Local(_) | CloseReason::Lost | CloseReason::Silent => true,
        _ => false,
    }
}

/// Whether a server that sends a client away with this code may take it later.
pub(crate) fn passes(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::Unavailable
            | ErrorCode::ResourceExhausted
            | ErrorCode::Cancelled
            | ErrorCode::DeadlineExceeded
            | ErrorCode::Internal
    )
}

/// How a client stands to its server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ConnectionState {
    /// Connected.
    Connected,
    /// The connection was lost and is being made again.
    Reconnecting,
    /// Over for good: closed, given up, or lost without [`Reconnect`].
    Closed,
}

/// What happened to a client's connection.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ConnectionEvent {
    /// There is a connection.
    Connected {
        /// Which run of the server it is.
        incarnation: [u8; 16],
        /// Whether it is another one than the client's first.
        again: bool,
    },
    /// The server was restarted: it knows nothing of processes, channels and ids from before. Comes behind the
    /// [`ConnectionEvent::Connected`] that showed it.
    NewIncarnation {
        /// The run of the server that is over.
        old: [u8; 16],
        /// The run that began.
        new: [u8; 16],
    },
    /// The connection was lost.
    Lost {
        /// Why.
        reason: CloseReason,
    },
    /// Another attempt is made in a moment.
    Retrying {
        /// How long is waited before it.
        after: Duration,
        /// Which attempt since the connection was lost, from 1.
        attempt: u32,
        /// Why the last one failed, if there was one.
        error: Option<Arc<ClientError>>,
    },
    /// No more attempts are made: there were enough, or the error is one that does not pass. The last event.
    GaveUp {
        /// The last error.
        error: Arc<ClientError>,
    },
    /// The client was closed, or is over with its connection. The last event.
    Closed,
    /// Events that nobody read had to make room.
    Missed {
        /// How many are missing here.
        count: u64,
    },
}

#[derive(Debug, Default)]
pub(crate) struct Queue {
    events: VecDeque<ConnectionEvent>,
    missed: u64,
    over: bool,
    waker: Option<Waker>,
}

fn lock(queue: &Mutex<Queue>) -> MutexGuard<'_, Queue> {
    queue.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Hands an event to a listener.
pub(crate) fn tell(queue: &Mutex<Queue>, event: ConnectionEvent) {
    let mut queue = lock(queue);
    queue.over |= matches!(
        event,
        ConnectionEvent::GaveUp { .. } | ConnectionEvent::Closed
    );
    if queue.events.len() >= MAX_EVENTS {
        queue.events.pop_front();
        queue.missed = queue.missed.saturating_add(1);
    }
    queue.events.push_back(event);
    let waker = queue.waker.take();
    drop(queue);
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// What happens to a client's connection, as a stream that ends with the client ([`Client::events`](crate::Client::events)).
///
/// 64 events are kept for a reader who is slow; then the oldest go, which [`ConnectionEvent::Missed`] tells. It does not
/// keep the client alive.
pub struct ConnectionEvents {
    queue: Arc<Mutex<Queue>>,
}

impl fmt::Debug for ConnectionEvents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionEvents").finish_non_exhaustive()
    }
}

impl ConnectionEvents {
    pub(crate) fn new(queue: Arc<Mutex<Queue>>) -> Self {
        Self { queue }
    }

    /// The next event, for programs without a stream library.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<ConnectionEvent> {
        poll_fn(|cx| self.poll_event(cx)).await
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Option<ConnectionEvent>> {
        let mut queue = lock(&self.queue);
        let count = std::mem::take(&mut queue.missed);
        if count > 0 {
            return Poll::Ready(Some(ConnectionEvent::Missed { count }));
        }
        match queue.events.pop_front() {
            Some(event) => Poll::Ready(Some(event)),
            None if queue.over => Poll::Ready(None),
            None => {
                queue.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Stream for ConnectionEvents {
    type Item = ConnectionEvent;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll_event(cx)
    }
}

impl FusedStream for ConnectionEvents {
    fn is_terminated(&self) -> bool {
        let queue = lock(&self.queue);
        queue.over && queue.events.is_empty() && queue.missed == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_are_cut_at_random() {
        let policy = Reconnect::default();
        for (waits, longest) in [
            (0, 100),
            (1, 200),
            (2, 400),
            (6, 6_400),
            (7, 10_000),
            (31, 10_000),
            (32, 10_000),
            (u32::MAX, 10_000),
        ] {
            let longest = Duration::from_millis(longest);
            assert_eq!(policy.wait(waits, 0), longest / 2, "{waits}");
            assert_eq!(policy.wait(waits, u32::MAX), longest, "{waits}");
            let middle = policy.wait(waits, u32::MAX / 2);
            assert!(middle > longest / 2 && middle < longest, "{waits}");
        }
        let other = Reconnect::new()
            .delay(Duration::ZERO)
            .max_delay(Duration::from_millis(3));
        assert_eq!(other.wait(0, u32::MAX), Duration::from_millis(1));
        assert_eq!(other.wait(9, u32::MAX), Duration::from_millis(3));
        assert!(!other.is_enough(u32::MAX));
        assert!(Reconnect::new().attempts(0).is_enough(1));
        assert!(!Reconnect::new().attempts(2).is_enough(1));
    }

    #[test]
    fn what_does_not_pass_is_not_tried_again() {
        use selium_remote_client_protocol::RemoteError;
        let policy = Reconnect::default();
        let peer = |code| CloseReason::Peer(RemoteError::new(code, ""));
        for (reason, expected) in [
            (CloseReason::Lost, true),
            (CloseReason::Silent, true),
            (peer(ErrorCode::Unavailable), true),
            (peer(ErrorCode::ResourceExhausted), true),
            (peer(ErrorCode::Unauthenticated), false),
            (peer(ErrorCode::PermissionDenied), false),
            (peer(ErrorCode::Protocol), false),
            (CloseReason::Protocol("x".to_owned()), false),
            (CloseReason::Legacy, false),
            (CloseReason::Foreign, false),
        ] {
            assert_eq!(policy.lasts(&reason), expected, "{reason:?}");
            assert!(!Reconnect::never().lasts(&reason), "{reason:?}");
        }
    }

    #[test]
    fn a_slow_listener_is_told_what_it_missed() {
        let queue = Arc::new(Mutex::new(Queue::default()));
        let mut events = ConnectionEvents::new(Arc::clone(&queue));
        for attempt in 0..70 {
            let after = Duration::ZERO;
            let error = None;
            tell(
                &queue,
                ConnectionEvent::Retrying {
                    after,
                    attempt,
                    error,
                },
            );
        }
        tell(&queue, ConnectionEvent::Closed);
        let cx = &mut Context::from_waker(Waker::noop());
        let mut poll = || events.poll_event(cx);
        assert!(matches!(
            poll(),
            Poll::Ready(Some(ConnectionEvent::Missed { count: 7 }))
        ));
        assert!(matches!(
            poll(),
            Poll::Ready(Some(ConnectionEvent::Retrying { attempt: 7, .. }))
        ));
        for _ in 8..70 {
            assert!(poll().is_ready());
        }
        assert!(matches!(poll(), Poll::Ready(Some(ConnectionEvent::Closed))));
        assert!(matches!(poll(), Poll::Ready(None)));
        assert!(events.is_terminated());
    }
}
