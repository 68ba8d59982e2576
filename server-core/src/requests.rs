//! What requests mean.

use selium_remote_client_protocol::{
    ErrorCode, RemoteError,
    limits::MAX_LIST,
    ops::{
        Common, InfoRequest, ListRequest, ProcessList, ProcessState, ServerInfo, decode_target, op,
    },
};

use crate::{
    audit::{Asked, Done},
    policy::RoleId,
    server::{Server, Waiter},
    sessions::{Admission, Token},
};

/// An answer.
pub(crate) type Reply = Result<Vec<u8>, RemoteError>;

/// An answer that is ready now; `None` when it comes later.
pub(crate) type Answer = Option<Reply>;

impl Server {
    /// Takes a request; it is answered here, or when the host has done what it asks for.
    pub(crate) fn request(&mut self, waiter: Waiter, op: u64, body: &[u8]) {
        // Before anything of it is read.
        let allowed = self.allow_request(self.role_of(waiter.0), op);
        #[cfg(any(test, feature = "test-util"))]
        let allowed = allowed.and_then(|()| self.refusals.take(op));
        let answer = match allowed {
            Ok(()) => match Common::decode(body) {
                Ok(common) => self.execute(waiter, op, &common, body),
                Err(error) => Some(Err(error.into())),
            },
            Err(error) => {
                self.record_refusal(waiter, op, body, &error);
                Some(Err(error))
            }
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
            op::CHANNEL_CREATE => self.create_channel(waiter, common, body),
            op::CHANNEL_DELETE | op::CHANNEL_DRAIN | op::CHANNEL_SHARE => {
                self.change_channel(waiter, common, op, body)
            }
            op::CHANNEL_LIST => Some(self.list_channels(body)),
            op::CHANNEL_INSPECT => Some(self.inspect_channel(body)),
            op::SUBSCRIBE => self.subscribe(waiter, common, body).err().map(Err),
            op::PUBLISH => self.publish(waiter, body).err().map(Err),
            _ => Some(Err(RemoteError::new(
                ErrorCode::Unsupported,
                format!("this server has no operation {op}"),
            ))),
        }
    }

    fn describe(&self, body: &[u8]) -> Reply {
        InfoRequest::decode(body)?;
        Ok(self.info().encode())
    }

    /// A client no longer wants an answer or a stream.
    pub(crate) fn cancelled(&mut self, waiter: Waiter, stream: bool) {
        let (id, _) = waiter;
        if stream {
            self.drop_follower(waiter);
            self.drop_subscriber(waiter);
            self.drop_publisher(waiter);
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
    pub(crate) fn settle(&mut self, waiter: Waiter, token: Option<Token>, result: Reply) {
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
        asked: &Asked,
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
        let admission = self.sessions.admit(token, common.retry, asked.role, waiter);
        let error = match admission {
            Admission::Execute => return Ok(Some(token)),
            Admission::Joined => return Err(None),
            // It was recorded when it was done.
            Admission::Done(result) => return Err(Some(result)),
            Admission::Unknown => RemoteError::new(
                ErrorCode::OutcomeUnknown,
                "the server does not know any more whether this was done; look before trying again",
            ),
            Admission::TooMany => RemoteError::new(
                ErrorCode::ResourceExhausted,
                "too many retries of this request wait for it",
            ),
            Admission::Foreign => self.foreign(asked.role),
        };
        self.record(asked, &Done::Failed(&error));
        Err(Some(Err(error)))
    }

    /// What a client of this role is told about a session of another one.
    pub(crate) fn foreign(&self, role: RoleId) -> RemoteError {
        let name = &self.roles.get(role).role.name;
        let message = format!(
            "the session began under another role than `{name}`; its requests and their outcomes are not yours"
        );
        RemoteError::new(ErrorCode::PermissionDenied, message).with_field("session")
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
        info.ring_bytes = self.ring_bytes.saturating_add(self.topic_bytes) as u64;
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

    fn list(&self, body: &[u8]) -> Reply {
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

    fn inspect(&self, body: &[u8]) -> Reply {
        let target = decode_target(body)?;
        Ok(self.table.find(&target)?.info().encode())
    }
}
