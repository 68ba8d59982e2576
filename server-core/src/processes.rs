//! Starting and stopping processes.

use core::time::Duration;

use selium_remote_client_protocol::{
    ErrorCode, RemoteError,
    abi::{ArgumentError, check_arguments},
    limits::{MAX_ARGUMENT_BYTES, MAX_ARGUMENTS},
    ops::{Common, ProcessRef, ProcessState, StartRequest, decode_target, op},
};

use crate::{
    audit::{Asked, Done},
    failure,
    follow::LOOKS_IN_A_ROW,
    host::{Completion, HostCall, HostProcess, LogId, OpId, StopFailure},
    hub::Hub,
    requests::Answer,
    server::{Server, Start, Stop, Waiter},
    sessions::Token,
    table::can_log,
};
/// What the client is told that cancelled a start which the host had already.
fn cancelled_too_late(reference: &ProcessRef) -> RemoteError {
    let shown = crate::ids::show(reference.id);
    let message = format!("cancelled, started as {shown} (`{}`)", reference.name);
    RemoteError::new(ErrorCode::Cancelled, message).with_process(reference.id)
}

impl Server {
    pub(crate) fn start(&mut self, waiter: Waiter, common: &Common, body: &[u8]) -> Answer {
        let asked = self.asked(waiter, op::PROCESS_START, body);
        let token = match self.admit(waiter, common, &asked) {
            Ok(token) => token,
            Err(answer) => return answer,
        };
        if let Err(error) = self.queue_start(waiter, token, common, body, &asked) {
            self.conclude(&asked, waiter, token, Err(error));
        }
        self.next_starts();
        None
    }

    fn queue_start(
        &mut self,
        waiter: Waiter,
        token: Option<Token>,
        common: &Common,
        body: &[u8],
        asked: &Asked,
    ) -> Result<(), RemoteError> {
        let spec = StartRequest::decode(body)?;
        self.allow_channels(asked.role, &spec)?;
        self.allow_start(asked.role, &spec)?;
        check_spec(&spec)?;
        self.resolve_channels(&spec)?;
        self.allow_process(asked.role)?;
        let limit = self.config.max_processes;
        if self.table.live() >= limit {
            let message =
                format!("{limit} processes are started, which is the limit; stop some first");
            return Err(exhausted(message, limit));
        }
        let deadline = self.config.unix_origin_ms.and(common.deadline_ms);
        let name = self.table.reserve_name(&spec, asked.role)?;
        if let Err(error) = self.take_start(asked.role) {
            self.table.release_name(&name);
            return Err(error);
        }
        let start = Start {
            asked: asked.clone(),
            spec,
            name,
            waiter,
            token,
            deadline: deadline.map(|ms| self.now.saturating_add(Duration::from_millis(ms))),
            cancelled: false,
        };
        if let Err(start) = self.starts.push(waiter.0, start) {
            self.table.release_name(&start.name);
            let limit = self.config.max_waiting_starts;
            return Err(exhausted(
                format!("{limit} starts wait, which is the limit"),
                limit,
            ));
        }
        Ok(())
    }

    /// Hands waiting starts to the host, as many as may be there.
    fn next_starts(&mut self) {
        while let Some(start) = self.starts.pop() {
            if start.deadline.is_some_and(|deadline| deadline <= self.now) {
                self.starts.finished();
                self.table.release_name(&start.name);
                let error = RemoteError::new(
                    ErrorCode::DeadlineExceeded,
                    "the deadline passed while the start waited for its turn; nothing was started",
                );
                self.conclude(&start.asked, start.waiter, start.token, Err(error));
                continue;
            }
            // One may have been deleted while the start waited.
            let channels = match self.resolve_channels(&start.spec) {
                Ok(channels) => channels,
                Err(error) => {
                    self.starts.finished();
                    self.table.release_name(&start.name);
                    self.conclude(&start.asked, start.waiter, start.token, Err(error));
                    continue;
                }
            };
            let op = self.next_op();
            let spec = Box::new(start.spec.clone());
            self.starting.insert(op, start);
            self.calls.push_back(HostCall::Start { op, spec, channels });
        }
    }

    /// The host has started a process, or not.
    pub(crate) fn started(&mut self, op: OpId, result: Result<HostProcess, String>) {
        let Some(start) = self.starting.remove(&op) else {
            return;
        };
        self.starts.finished();
        let Start {
            spec,
            name,
            waiter,
            token,
            asked,
            cancelled,
            ..
        } = start;
        let result = match result {
            Ok(host) => {
                self.channels_given(&spec);
                self.register(spec, name, host)
            }
            Err(words) => {
                self.table.release_name(&name);
                Err(failure::start(&spec, &words))
            }
        };
        match &result {
            Ok(reference) if cancelled => {
                let error = cancelled_too_late(reference);
                if self.joined(waiter, token).is_none() {
                    self.record(&asked, &Done::ChangedBut(reference, &error));
                    self.settle(waiter, token, Err(error));
                    return self.next_starts();
                }
                // Others asked for the same and did not cancel.
                self.record(&asked, &Done::Changed(Some(reference)));
                self.respond(waiter, Err(error));
            }
            Ok(reference) => self.record(&asked, &Done::Changed(Some(reference))),
            // `conclude` records it.
            Err(_) => {}
        }
        let result = result.map(|reference| reference.encode());
        self.conclude(&asked, waiter, token, result);
        self.next_starts();
    }

    /// Another request that waits for the same start and can still be answered.
    fn joined(&self, waiter: Waiter, token: Option<Token>) -> Option<Waiter> {
        let waiters = self.sessions.waiters(token?);
        let is_open = |id| {
            let connection = self.connections.get(id);
            connection.is_some_and(|connection| connection.core.is_open())
        };
        let mut others = waiters.iter().filter(|other| **other != waiter);
        others.find(|(id, _)| is_open(id)).copied()
    }

    /// Takes back a start that the host does not have yet, with `error` for who asked for it; it goes on when others
    /// asked for the same.
    pub(crate) fn give_up(&mut self, mut start: Start, error: RemoteError) {
        let waiter = start.waiter;
        if let Some(other) = self.joined(waiter, start.token) {
            self.respond(waiter, Err(error));
            start.waiter = other;
            if let Err(start) = self.starts.push(other.0, start) {
                // It has just made room; but a start is never lost without a word.
                self.table.release_name(&start.name);
                let error = RemoteError::new(ErrorCode::ResourceExhausted, "too many starts wait");
                self.conclude(&start.asked, other, start.token, Err(error));
            }
            return;
        }
        self.table.release_name(&start.name);
        self.conclude(&start.asked, waiter, start.token, Err(error));
    }

    /// Puts a process that the host has started into the table, whoever still wants it.
    fn register(
        &mut self,
        spec: StartRequest,
        name: String,
        host: HostProcess,
    ) -> Result<ProcessRef, RemoteError> {
        let internal = || RemoteError::new(ErrorCode::Internal, "the server has no incarnation");
        let ids = self.ids().cloned().ok_or_else(internal)?;
        self.last_log += 1;
        let log = LogId(self.last_log);
        let hub = Hub::new(log, can_log(&spec.capabilities));
        let now_ms = self.unix_ms();
        let process = self.table.insert(&ids, name, spec, host, hub, now_ms);
        let (reference, ordinal) = (process.reference(), process.ordinal);
        self.logs.insert(log, ordinal);
        self.look(log, LOOKS_IN_A_ROW);
        Ok(reference)
    }

    pub(crate) fn stop(&mut self, waiter: Waiter, common: &Common, body: &[u8]) -> Answer {
        let asked = self.asked(waiter, op::PROCESS_STOP, body);
        let token = match self.admit(waiter, common, &asked) {
            Ok(token) => token,
            Err(answer) => return answer,
        };
        let found = decode_target(body)
            .map_err(RemoteError::from)
            .and_then(|target| {
                let process = self.table.find(&target)?;
                Ok((
                    process.ordinal,
                    process.host,
                    process.state,
                    process.reference(),
                ))
            });
        let (ordinal, process) = match found {
            Ok((ordinal, host, ProcessState::Started, _)) => (ordinal, host),
            // Stopping what is stopped changes nothing and is no error.
            Ok((_, _, _, reference)) => {
                self.record(&asked, &Done::WasSo(Some(&reference)));
                self.settle(waiter, token, Ok(reference.encode()));
                return None;
            }
            Err(error) => {
                self.conclude(&asked, waiter, token, Err(error));
                return None;
            }
        };
        // The host takes one stop of a process: whoever else asks for it waits for the same one.
        if let Some(stop) = self
            .stopping
            .values_mut()
            .find(|stop| stop.ordinal == ordinal)
        {
            stop.waiters.push((waiter, token, asked));
            return None;
        }
        let op = self.next_op();
        let waiters = vec![(waiter, token, asked)];
        self.stopping.insert(op, Stop { ordinal, waiters });
        self.calls.push_back(HostCall::Stop { op, process });
        None
    }

    /// The host has stopped a process, or not.
    pub(crate) fn stopped(&mut self, op: OpId, result: Result<(), StopFailure>) {
        let Some(stop) = self.stopping.remove(&op) else {
            return;
        };
        let now_ms = self.unix_ms();
        let max_stopped = self.config.max_stopped;
        let answer = match (self.table.get(stop.ordinal), result) {
            (None, _) => Err(RemoteError::new(
                ErrorCode::NotFound,
                "the process was forgotten",
            )),
            (Some(process), Err(StopFailure::Failed(words))) => {
                Err(failure::stop(&process.name, &words))
            }
            // Somebody else stopped it: what was asked for is true.
            (Some(process), Ok(()) | Err(StopFailure::Gone)) => Ok(process.reference()),
        };
        if answer.is_ok() {
            let forget = self
                .table
                .stopped(stop.ordinal, self.now, now_ms, max_stopped);
            self.close_log(stop.ordinal);
            if let Some(forget) = forget {
                self.forget(forget);
            }
        }
        for (at, (waiter, token, asked)) in stop.waiters.into_iter().enumerate() {
            match &answer {
                Ok(reference) if at == 0 => self.record(&asked, &Done::Changed(Some(reference))),
                // Who asked as well changed nothing by it.
                Ok(reference) => self.record(&asked, &Done::WasSo(Some(reference))),
                Err(_) => {}
            }
            let answer = answer.clone().map(|reference| reference.encode());
            self.conclude(&asked, waiter, token, answer);
        }
    }

    /// A stopped process's log is read to its end and then freed in the runtime; its ring stays.
    fn close_log(&mut self, ordinal: u64) {
        let Some(process) = self.table.get_mut(ordinal) else {
            return;
        };
        let log = process.hub.log();
        if process.hub.is_busy() {
            self.calls.push_back(HostCall::CloseLog { log });
            return;
        }
        process.hub.ended();
        self.handle_host(self.now, Completion::LogEnded { log });
    }

    /// Forgets a stopped process with its log.
    pub(crate) fn forget(&mut self, ordinal: u64) {
        let Some(process) = self.table.remove(ordinal) else {
            return;
        };
        self.ring_bytes = self.ring_bytes.saturating_sub(process.hub.ring().bytes());
        self.logs.remove(&process.hub.log());
        self.quiet.remove(process.hub.log());
        self.pump_followers(ordinal);
    }
}

/// What else must be right before the host sees it.
fn check_spec(spec: &StartRequest) -> Result<(), RemoteError> {
    let invalid = |field: &str, message: String| {
        Err(RemoteError::new(ErrorCode::InvalidArgument, message).with_field(field))
    };
    if spec.entrypoint.is_empty() || spec.entrypoint.chars().any(char::is_control) {
        let entrypoint = spec.entrypoint.escape_debug();
        return invalid("entrypoint", format!("`{entrypoint}` is not an entrypoint"));
    }
    if spec.log_uri.as_ref().is_some_and(String::is_empty) {
        return invalid("log-uri", "the log URI is empty".to_owned());
    }
    check_arguments(&spec.signature, &spec.args, spec.log_uri.as_deref()).map_err(|error| {
        let (code, limit) = match error {
            ArgumentError::TooLarge { .. } => (ErrorCode::TooLarge, Some(MAX_ARGUMENT_BYTES)),
            ArgumentError::TooMany { .. } => (ErrorCode::TooLarge, Some(MAX_ARGUMENTS)),
            _ => (ErrorCode::InvalidArgument, None),
        };
        let refused = RemoteError::new(code, error.to_string()).with_field("arguments");
        match limit {
            Some(limit) => refused.with_limit(limit as u64),
            None => refused,
        }
    })
}

fn exhausted(message: String, limit: usize) -> RemoteError {
    RemoteError::new(ErrorCode::ResourceExhausted, message).with_limit(limit as u64)
}
