//! Logs and who follows them.

use selium_remote_client_protocol::{
    ErrorCode, RemoteError, RequestId, SendError,
    ops::{Common, FollowRequest, FollowStarted, LogState, ProcessState, op},
    server::StreamKind,
};

use crate::{
    connection::{ConnectionId, Follower},
    feed::{Fed, feed},
    host::{HostCall, LogId},
    ring::Entry,
    server::{Server, Waiter},
    table::Process,
};
/// How often a log is looked for in a row before the server waits for somebody to ask for it.
pub(crate) const LOOKS_IN_A_ROW: u32 = 40;

/// Whether a follower that has everything is at its end, and the reason that it is told.
fn follow_end(process: &Process, bounded: bool) -> Option<Option<RemoteError>> {
    if bounded {
        return Some(None);
    }
    let over = match process.hub.state() {
        LogState::Ended => true,
        LogState::Waiting => process.state == ProcessState::Stopped && !process.hub.is_busy(),
        LogState::None => true,
        _ => false,
    };
    let reason = if process.state == ProcessState::Stopped {
        RemoteError::new(ErrorCode::Cancelled, "the process was stopped")
    } else {
        RemoteError::new(ErrorCode::Unavailable, "the process's log ended")
    };
    over.then_some(Some(reason))
}

impl Server {
    pub(crate) fn follow(
        &mut self,
        waiter: Waiter,
        common: &Common,
        body: &[u8],
    ) -> Result<(), RemoteError> {
        let request = FollowRequest::decode(body)?;
        let process = self.table.find(&request.target)?;
        let hub = &process.hub;
        if hub.state() == LogState::None {
            let message = format!(
                "`{}` has no log: it was started without ChannelLifecycle and ChannelWriter",
                process.name
            );
            return Err(RemoteError::new(ErrorCode::NotFound, message).with_field("log"));
        }
        let follower = Follower {
            ordinal: process.ordinal,
            cursor: hub.start_for(request.tail, request.since),
            until: request.no_follow.then(|| hub.ring().next()),
        };
        let (first, next) = (hub.ring().first(), hub.ring().next());
        let started = FollowStarted::new(process.reference(), first, next, hub.state());
        let log = hub.log();
        let (id, stream) = waiter;
        if let Some(connection) = self.connections.get_mut(&id) {
            let opened =
                connection
                    .core
                    .respond_stream(stream, started.encode(), StreamKind::ToClient);
            match opened {
                Ok(()) => {
                    let weight = common.weight.unwrap_or_default();
                    connection.core.set_weight(stream, weight);
                    self.add_follower(waiter, follower);
                }
                Err(SendError::Full) => {
                    // It was answered with the same.
                    let message = "as many streams are open as this connection may have";
                    let error = RemoteError::new(ErrorCode::ResourceExhausted, message);
                    self.record_refusal(waiter, op::LOG_FOLLOW, body, &error);
                }
                Err(_) => {}
            }
        }
        self.look(log, u32::MAX);
        self.pump(id, stream);
        Ok(())
    }

    /// Opens a follower's stream of records.
    pub(crate) fn add_follower(&mut self, waiter: Waiter, follower: Follower) {
        let (id, request) = waiter;
        if let Some(connection) = self.connections.get_mut(&id) {
            self.followers
                .entry(follower.ordinal)
                .or_default()
                .insert(waiter);
            connection.followers.insert(request, follower);
        }
    }

    /// Forgets a follower.
    pub(crate) fn drop_follower(&mut self, waiter: Waiter) {
        let (id, request) = waiter;
        let follower = self
            .connections
            .get_mut(&id)
            .and_then(|connection| connection.followers.remove(&request));
        if let Some(follower) = follower {
            self.unlink(follower.ordinal, waiter);
        }
    }

    pub(crate) fn unlink(&mut self, ordinal: u64, waiter: Waiter) {
        if let Some(followers) = self.followers.get_mut(&ordinal) {
            followers.remove(&waiter);
            if followers.is_empty() {
                self.followers.remove(&ordinal);
            }
        }
    }

    pub(crate) fn with_hub(&mut self, log: LogId, change: impl FnOnce(&mut Process)) {
        let process = self
            .logs
            .get(&log)
            .and_then(|ordinal| self.table.get_mut(*ordinal));
        if let Some(process) = process {
            change(process);
        }
    }

    /// Looks for a log that is not there yet.
    pub(crate) fn look(&mut self, log: LogId, max_attempts: u32) {
        let process = self
            .logs
            .get(&log)
            .and_then(|ordinal| self.table.get_mut(*ordinal));
        if let Some(process) = process
            && process.state == ProcessState::Started
            && let Some(attempt) = process.hub.look(max_attempts)
        {
            let process = process.host;
            self.calls.push_back(HostCall::OpenLog {
                log,
                process,
                attempt,
            });
        }
    }

    /// Looks once more for the logs, and for the last records, that a client waits for: its input is the only clock that a server without one has.
    pub(crate) fn look_again(&mut self, id: ConnectionId, pinged: bool) {
        let Some(connection) = self.connections.get(&id) else {
            return;
        };
        let followed: Vec<LogId> = connection
            .followers
            .values()
            .filter_map(|follower| self.table.get(follower.ordinal))
            .filter(|process| matches!(process.hub.state(), LogState::Waiting | LogState::Attached))
            .map(|process| process.hub.log())
            .collect();
        for log in followed {
            self.look(log, u32::MAX);
            // Pings only: a busy follower's credit comes all the time, and the remedy is for silent logs.
            if pinged && self.config.unix_origin_ms.is_none() {
                self.nudge(log);
            }
        }
    }

    /// Looks after a log that may not have shown its last record.
    fn nudge(&mut self, log: LogId) {
        if self.quiet.asked(log) {
            self.calls.push_back(HostCall::NudgeLog { log });
        }
    }

    pub(crate) fn push(&mut self, log: LogId, entry: Entry) {
        let now_ms = self.unix_ms();
        let (mut max, all) = (self.config.ring_bytes, self.config.all_rings_bytes);
        let Some(process) = self
            .logs
            .get(&log)
            .and_then(|ordinal| self.table.get_mut(*ordinal))
        else {
            return;
        };
        if self.ring_bytes >= all {
            // The ring that grows pays: it keeps what it has and no more.
            max = max.min(process.hub.ring().bytes());
        }
        let grown = process.hub.push(entry, max, now_ms);
        self.quiet.touched(log, self.now);
        self.ring_bytes = self.ring_bytes.saturating_add_signed(grown);
        self.pump_log(log);
    }

    /// Sends what is new to everyone who follows a log.
    pub(crate) fn pump_log(&mut self, log: LogId) {
        let Some(ordinal) = self.logs.get(&log).copied() else {
            return;
        };
        self.pump_followers(ordinal);
    }

    /// Sends what is new to everyone who follows this process.
    pub(crate) fn pump_followers(&mut self, ordinal: u64) {
        let followers: Vec<Waiter> = self
            .followers
            .get(&ordinal)
            .map(|followers| followers.iter().copied().collect())
            .unwrap_or_default();
        for (id, request) in followers {
            self.pump(id, request);
        }
    }

    /// Sends one follower as much as its stream takes.
    pub(crate) fn pump(&mut self, id: ConnectionId, request: RequestId) {
        let share = self.queue_share();
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        let Some(follower) = connection.followers.get_mut(&request) else {
            return;
        };
        let Some(process) = self.table.get(follower.ordinal) else {
            connection.core.end(request, None);
            self.ready.insert(id);
            self.drop_follower((id, request));
            return;
        };
        connection.core.set_queue_share(share);
        let until = follower.until.unwrap_or(u64::MAX);
        let ring = process.hub.ring();
        let fed = feed(
            &mut connection.core,
            request,
            ring,
            &mut follower.cursor,
            until,
        );
        self.ready.insert(id);
        if fed != Fed::All {
            return;
        }
        let over = follow_end(process, follower.until.is_some());
        if let Some(reason) = over {
            connection.core.end(request, reason);
            self.drop_follower((id, request));
        }
    }
}
