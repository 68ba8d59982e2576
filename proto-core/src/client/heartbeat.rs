//! Pings, and the silence that ends a connection (PROTOCOL.md, "A connection's life").

use core::time::Duration;

use super::ClientConfig;
use crate::{Time, frame::Frame};

/// Pings in a shorter interval would leave no time for anything else.
const LEAST_INTERVAL: Duration = Duration::from_millis(10);

/// When to ping, and which ping is unanswered. One at most is.
#[derive(Debug)]
pub(super) struct Heartbeat {
    interval: Option<Duration>,
    timeout: Duration,
    next: Option<Time>,
    sent: Option<(u64, Time)>,
    counter: u64,
}

impl Heartbeat {
    pub(super) fn new(config: &ClientConfig) -> Self {
        Self {
            interval: config.heartbeat.map(|every| every.max(LEAST_INTERVAL)),
            timeout: config.heartbeat_timeout,
            next: None,
            sent: None,
            counter: 0,
        }
    }

    /// Counts the interval from now on.
    pub(super) fn schedule(&mut self, now: Time) {
        self.next = self.interval.map(|interval| now.saturating_add(interval));
    }

    /// When the next ping is due, or the answer to the last one.
    pub(super) fn due(&self) -> Option<Time> {
        let answer_due = self.sent.map(|(_, at)| at.saturating_add(self.timeout));
        self.next.into_iter().chain(answer_due).min()
    }

    /// Whether a ping has stayed without an answer for too long.
    pub(super) fn is_silent(&self, now: Time) -> bool {
        self.sent
            .is_some_and(|(_, at)| at.saturating_add(self.timeout) <= now)
    }

    /// Whether it is time to ping.
    pub(super) fn wants_ping(&self, now: Time) -> bool {
        self.next.is_some_and(|next| next <= now)
    }

    /// A ping to send now, unless one is unanswered.
    pub(super) fn ping(&mut self, now: Time) -> Option<Frame> {
        if self.sent.is_some() {
            return None;
        }
        self.counter += 1;
        self.sent = Some((self.counter, now));
        Some(Frame::Ping(self.counter.to_be_bytes()))
    }

    /// Takes an answer; the time that it took, if it answers the last ping.
    pub(super) fn pong(&mut self, now: Time, token: [u8; 8]) -> Option<Duration> {
        let (_, at) = self
            .sent
            .filter(|(expected, _)| *expected == u64::from_be_bytes(token))?;
        self.sent = None;
        Some(now.saturating_since(at))
    }
}
