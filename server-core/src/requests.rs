//! What requests mean.

use selium_remote_client_protocol::{
    ErrorCode, RemoteError,
    limits::MAX_LIST,
    ops::{
        Common, InfoRequest, ListRequest, ProcessList, ProcessState, ServerInfo, decode_target, op,
    },
};

use crate::{
    server::{Server, Waiter},
    sessions::{Admission, Token},
};

/// An answer that is ready now; `None` when it comes later.
pub(crate) type Answer = Option<Result<Vec<u8>, RemoteError>>;

impl Server {
    /// Takes a request; it is answered here, or when the host has done what it asks for.
    pub(crate) fn request(&mut self, waiter: Waiter, op: u64, body: &[u8]) {
        let answer = match Common::decode(body) {
            Ok(common) => self.execute(waiter, op, &common, body),
            Err(error) => Some(Err(error.into())),
        };
        if let Some(result) = answer {
            self.respond(waiter, result);
        }
    }

    fn execute(&mut self, waiter: Waiter, op: u64, common: &Common, body: &[u8]) -> Answer {
        match op {
            op::SERVER_INFO => Some(self.describe(body)),
            op::PROCESS_START => self.start(waiter, common, body),
            op::PROCESS_STOP => self.stop(waiter, common, body),
            op::PROCESS_LIST => Some(self.list(body)),
            op::PROCESS_INSPECT => Some(self.inspect(body)),
            op::LOG_FOLLOW => self.follow(waiter, common, body).err().map(Err),
            _ => Some(Err(RemoteError::new(
                ErrorCode::Unsupported,
                format!("this server has no operation {op}"),
            ))),
        }
    }

    fn describe(&self, body: &[u8]) -> Result<Vec<u8>, RemoteError> {
        InfoRequest::decode(body)?;
        Ok(self.info().encode())
    }

    /// A client no longer wants an answer or a stream.
    pub(crate) fn cancelled(&mut self, waiter: Waiter, stream: bool) {
        let (id, _) = waiter;
        if stream {
            self.drop_follower(waiter);
            return;
        }
        for start in self.starts.remove(id, |start| start.waiter == waiter) {
            let error = RemoteError::new(ErrorCode::Cancelled, "cancelled before it was started");
            self.give_up(start, error);
        }
        if let Some(start) = self
            .starting
            .values_mut()
            .find(|start| start.waiter == waiter)
        {
            start.cancelled = true;
        }
    }

    /// Answers a changing request and everyone who joined it.
    pub(crate) fn settle(
        &mut self,
        waiter: Waiter,
        token: Option<Token>,
        result: Result<Vec<u8>, RemoteError>,
    ) {
        let mut waiters = self.finish_token(token, &result);
        if !waiters.contains(&waiter) {
            waiters.push(waiter);
        }
        for waiter in waiters {
            self.respond(waiter, result.clone());
        }
    }

    /// Reserves the token of a changing request; an answer when there is nothing to execute.
    pub(crate) fn admit(
        &mut self,
        waiter: Waiter,
        common: &Common,
    ) -> Result<Option<Token>, Answer> {
        let Some(sequence) = common.token else {
            return Ok(None);
        };
        let Some(session) = self
            .connections
            .get(&waiter.0)
            .map(|connection| connection.session)
        else {
            return Err(None);
        };
        let token = (session, sequence);
        match self.sessions.admit(token, common.retry, waiter) {
            Admission::Execute => Ok(Some(token)),
            Admission::Joined => Err(None),
            Admission::Done(result) => Err(Some(result)),
            Admission::Unknown => Err(Some(Err(RemoteError::new(
                ErrorCode::OutcomeUnknown,
                "the server does not know any more whether this was done; look before trying again",
            )))),
            Admission::TooMany => Err(Some(Err(RemoteError::new(
                ErrorCode::ResourceExhausted,
                "too many retries of this request wait for it",
            )))),
        }
    }

    fn info(&self) -> ServerInfo {
        let mut info = ServerInfo::default();
        info.uptime_ms = self
            .config
            .unix_origin_ms
            .and_then(|_| u64::try_from(self.now.since_origin().as_millis()).ok());
        info.connections = self.connections.len() as u64;
        info.processes = self.table.len() as u64;
        info.streams = self
            .connections
            .values()
            .map(|connection| connection.core.streams() as u64)
            .sum();
        info.hubs = self.logs.len() as u64;
        info.ring_bytes = self.ring_bytes as u64;
        info.starts = self.starts.len() as u64;
        info.zombies = self
            .connections
            .values()
            .filter(|connection| connection.core.is_closed())
            .count() as u64;
        info.held_bytes = self
            .connections
            .values()
            .map(|connection| connection.core.held() as u64)
            .sum();
        info.suppressed_records = self.counters.suppressed_records;
        info.orphans = self.counters.orphans;
        info
    }

    fn list(&self, body: &[u8]) -> Result<Vec<u8>, RemoteError> {
        let request = ListRequest::decode(body)?;
        let limit = request.limit.clamp(1, MAX_LIST);
        let mut list = ProcessList::default();
        let processes = self
            .table
            .from_cursor(request.cursor)
            .filter(|process| request.all || process.state == ProcessState::Started);
        for process in processes {
            if list.processes.len() == limit {
                list.next = Some(process.ordinal);
                break;
            }
            list.processes.push(process.info());
        }
        Ok(list.encode())
    }

    fn inspect(&self, body: &[u8]) -> Result<Vec<u8>, RemoteError> {
        let target = decode_target(body)?;
        Ok(self.table.find(&target)?.info().encode())
    }
}
