//! Operations: what requests ask for and what answers say (PROTOCOL.md, "Operations").
//!
//! Every body is fields. Numbers from [`COMMON`] on mean the same in every request: see [`Common`].

use bytes::Bytes;

use crate::{
    abi::{AbiParam, AbiSignature, Capability, EntrypointArg},
    fields::{Field, FieldError, FieldErrorKind, FieldReader, FieldWriter},
    limits::{
        MAX_ARGUMENT_BYTES, MAX_ARGUMENTS, MAX_ENTRYPOINT, MAX_LIST, MAX_LOG_URI, MAX_MODULE,
        MAX_NAME, MAX_TARGET,
    },
};

/// Numbers of operations. 32 to 47 are reserved for channels.
pub mod op {
    /// Tell about the server.
    pub const SERVER_INFO: u64 = 1;
    /// Start a process.
    pub const PROCESS_START: u64 = 16;
    /// Stop a process.
    pub const PROCESS_STOP: u64 = 17;
    /// List processes.
    pub const PROCESS_LIST: u64 = 18;
    /// Tell about one process.
    pub const PROCESS_INSPECT: u64 = 19;
    /// Follow a process's log; opens a stream from the server.
    pub const LOG_FOLLOW: u64 = 20;

    /// The operation's name, as errors and logs show it.
    #[must_use]
    pub const fn name(op: u64) -> &'static str {
        match op {
            SERVER_INFO => "server info",
            PROCESS_START => "process start",
            PROCESS_STOP => "process stop",
            PROCESS_LIST => "process list",
            PROCESS_INSPECT => "process inspect",
            LOG_FOLLOW => "log follow",
            _ => "unknown operation",
        }
    }
}

/// The first field number that is common to all requests.
pub const COMMON: u64 = 64;

/// The fields that every request may carry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Common {
    /// The sequence number of a changing request within the client's session: its idempotency token.
    pub token: Option<u64>,
    /// Whether this repeats a request that was sent before.
    pub retry: bool,
    /// How long the client waits, in milliseconds.
    pub deadline_ms: Option<u64>,
}

impl Common {
    fn encode(&self, fields: &mut FieldWriter) {
        if let Some(token) = self.token {
            fields.must_uint(64, token);
        }
        if self.retry {
            fields.must_uint(65, 1);
        }
        if let Some(deadline_ms) = self.deadline_ms {
            fields.uint(66, deadline_ms);
        }
    }

    /// Reads the common fields of a request and skips the others.
    ///
    /// # Errors
    /// When the body is malformed or a common field is mandatory and unknown.
    pub fn decode(body: &[u8]) -> Result<Self, FieldError> {
        let mut common = Self::default();
        let mut fields = FieldReader::new(body);
        while let Some(field) = fields.next()? {
            match field.number {
                0..COMMON => {}
                64 => common.token = Some(field.uint()?),
                65 => common.retry = field.flag()?,
                66 => common.deadline_ms = Some(field.uint()?),
                _ => field.unknown()?,
            }
        }
        Ok(common)
    }
}

/// A request that can be encoded with the common fields behind it.
pub trait Request {
    /// The operation's number.
    const OP: u64;

    /// Writes the operation's own fields.
    fn fields(&self, fields: &mut FieldWriter);

    /// The whole body.
    fn encode(&self, common: &Common) -> Bytes {
        let mut fields = FieldWriter::new();
        self.fields(&mut fields);
        common.encode(&mut fields);
        fields.finish().into()
    }
}

/// Handles a number that the operation does not have itself.
fn other(field: &Field<'_>) -> Result<(), FieldError> {
    if field.number >= COMMON {
        return Ok(());
    }
    field.unknown()
}

/// Tell about the server. Answered with [`ServerInfo`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InfoRequest;

impl Request for InfoRequest {
    const OP: u64 = op::SERVER_INFO;

    fn fields(&self, _fields: &mut FieldWriter) {}
}

/// Counters of the server. Those that it does not know are 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerInfo {
    /// Milliseconds since the server started; needs a clock.
    pub uptime_ms: Option<u64>,
    /// Open connections, this one included.
    pub connections: u64,
    /// Processes in the table, stopped ones included.
    pub processes: u64,
    /// Open streams.
    pub streams: u64,
    /// Log hubs.
    pub hubs: u64,
    /// Bytes that the hubs' replay rings hold.
    pub ring_bytes: u64,
    /// Starts that wait or run in the host.
    pub starts: u64,
}

impl ServerInfo {
    /// Its fields.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut fields = FieldWriter::new();
        if let Some(uptime) = self.uptime_ms {
            fields.uint(1, uptime);
        }
        fields
            .uint(2, self.connections)
            .uint(3, self.processes)
            .uint(4, self.streams)
            .uint(5, self.hubs)
            .uint(6, self.ring_bytes)
            .uint(7, self.starts);
        fields.finish()
    }

    /// Reads the fields.
    ///
    /// # Errors
    /// When they are malformed.
    pub fn decode(body: &[u8]) -> Result<Self, FieldError> {
        let mut info = Self::default();
        let mut fields = FieldReader::new(body);
        while let Some(field) = fields.next()? {
            match field.number {
                1 => info.uptime_ms = Some(field.uint()?),
                2 => info.connections = field.uint()?,
                3 => info.processes = field.uint()?,
                4 => info.streams = field.uint()?,
                5 => info.hubs = field.uint()?,
                6 => info.ring_bytes = field.uint()?,
                7 => info.starts = field.uint()?,
                _ => field.unknown()?,
            }
        }
        Ok(info)
    }
}

/// Start a process with exactly these capabilities. Answered with [`Started`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StartRequest {
    /// The module's id, relative to the runtime's module directory.
    pub module: String,
    /// The exported function to call.
    pub entrypoint: String,
    /// What the process is given, and nothing more.
    pub capabilities: Vec<Capability>,
    /// The entrypoint's signature, without the log URI.
    pub signature: AbiSignature,
    /// One argument a parameter.
    pub args: Vec<EntrypointArg>,
    /// The log URI to hand to the process.
    pub log_uri: Option<String>,
    /// The process's name; the server makes one when there is none.
    pub name: Option<String>,
}

impl Request for StartRequest {
    const OP: u64 = op::PROCESS_START;

    fn fields(&self, fields: &mut FieldWriter) {
        let kinds = |kinds: &[AbiParam]| -> Vec<u8> {
            kinds.iter().copied().map(AbiParam::to_wire).collect()
        };
        let capabilities: Vec<u8> = self
            .capabilities
            .iter()
            .copied()
            .map(Capability::to_wire)
            .collect();
        fields
            .must_text(1, &self.module)
            .must_text(2, &self.entrypoint)
            .must_bytes(3, &capabilities)
            .must_bytes(4, &kinds(self.signature.params()))
            .must_bytes(5, &kinds(self.signature.results()));
        for arg in &self.args {
            fields.must_bytes(6, &arg.encode());
        }
        if let Some(log_uri) = &self.log_uri {
            fields.must_text(7, log_uri);
        }
        if let Some(name) = &self.name {
            fields.must_text(8, name);
        }
    }
}

impl StartRequest {
    /// Reads the fields.
    ///
    /// # Errors
    /// When they are malformed, something is missing, unknown or past its limit.
    pub fn decode(body: &[u8]) -> Result<Self, FieldError> {
        let mut start = Self::default();
        let (mut module, mut entrypoint) = (None, None);
        let (mut params, mut results) = (Vec::new(), Vec::new());
        let mut fields = FieldReader::new(body);
        while let Some(field) = fields.next()? {
            match field.number {
                1 => module = Some(field.text(MAX_MODULE)?),
                2 => entrypoint = Some(field.text(MAX_ENTRYPOINT)?),
                3 => start.capabilities = capabilities(&field)?,
                4 => params = kinds(&field)?,
                5 => results = kinds(&field)?,
                6 => {
                    if start.args.len() == MAX_ARGUMENTS {
                        return Err(field.error(FieldErrorKind::TooLong(MAX_ARGUMENTS)));
                    }
                    let arg = EntrypointArg::decode(field.item(MAX_ARGUMENT_BYTES + 1)?);
                    start
                        .args
                        .push(arg.ok_or(field.error(FieldErrorKind::Value))?);
                }
                7 => start.log_uri = Some(field.text(MAX_LOG_URI)?.to_owned()),
                8 => start.name = Some(field.text(MAX_NAME)?.to_owned()),
                _ => other(&field)?,
            }
        }
        start.module = module.ok_or(fields.missing(1))?.to_owned();
        start.entrypoint = entrypoint.ok_or(fields.missing(2))?.to_owned();
        start.signature = AbiSignature::new(params, results);
        Ok(start)
    }
}

fn capabilities(field: &Field<'_>) -> Result<Vec<Capability>, FieldError> {
    field
        .bytes(64)?
        .iter()
        .map(|byte| Capability::from_wire(*byte).ok_or(field.error(FieldErrorKind::Value)))
        .collect()
}

fn kinds(field: &Field<'_>) -> Result<Vec<AbiParam>, FieldError> {
    field
        .bytes(MAX_ARGUMENTS)?
        .iter()
        .map(|byte| AbiParam::from_wire(*byte).ok_or(field.error(FieldErrorKind::Value)))
        .collect()
}

/// The answer to a start or a stop: which process it was.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProcessRef {
    /// Its id.
    pub id: u64,
    /// Its name.
    pub name: String,
}

impl ProcessRef {
    /// A reference.
    #[must_use]
    pub fn new(id: u64, name: impl Into<String>) -> Self {
        Self {
            id,
            name: name.into(),
        }
    }

    /// Its fields.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut fields = FieldWriter::new();
        fields.uint(1, self.id).text(2, &self.name);
        fields.finish()
    }

    /// Reads the fields.
    ///
    /// # Errors
    /// When they are malformed or there is no id.
    pub fn decode(body: &[u8]) -> Result<Self, FieldError> {
        let mut process = Self::default();
        let mut id = None;
        let mut fields = FieldReader::new(body);
        while let Some(field) = fields.next()? {
            match field.number {
                1 => id = Some(field.uint()?),
                2 => process.name = field.text(MAX_NAME)?.to_owned(),
                _ => field.unknown()?,
            }
        }
        process.id = id.ok_or(fields.missing(1))?;
        Ok(process)
    }
}

/// Stop a process. Answered with [`ProcessRef`]: the stop was requested.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StopRequest {
    /// A full id (16 hexadecimal digits), a unique prefix of one, or a name.
    pub target: String,
}

impl Request for StopRequest {
    const OP: u64 = op::PROCESS_STOP;

    fn fields(&self, fields: &mut FieldWriter) {
        fields.must_text(1, &self.target);
    }
}

/// Tell about one process. Answered with [`ProcessInfo`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InspectRequest {
    /// As in [`StopRequest`].
    pub target: String,
}

impl Request for InspectRequest {
    const OP: u64 = op::PROCESS_INSPECT;

    fn fields(&self, fields: &mut FieldWriter) {
        fields.must_text(1, &self.target);
    }
}

/// Reads the target of a stop or an inspect.
///
/// # Errors
/// When the fields are malformed or there is no target.
pub fn decode_target(body: &[u8]) -> Result<String, FieldError> {
    let mut target = None;
    let mut fields = FieldReader::new(body);
    while let Some(field) = fields.next()? {
        match field.number {
            1 => target = Some(field.text(MAX_TARGET)?.to_owned()),
            _ => other(&field)?,
        }
    }
    target.ok_or(fields.missing(1))
}

/// List processes, in the order of their starts. Answered with [`ProcessList`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListRequest {
    /// Where to go on: the answer's `next`. 0 for the beginning.
    pub cursor: u64,
    /// How many at most; the server gives at most [`MAX_LIST`].
    pub limit: usize,
    /// Whether stopped processes are listed too.
    pub all: bool,
}

impl Default for ListRequest {
    fn default() -> Self {
        Self {
            cursor: 0,
            limit: MAX_LIST,
            all: false,
        }
    }
}

impl Request for ListRequest {
    const OP: u64 = op::PROCESS_LIST;

    fn fields(&self, fields: &mut FieldWriter) {
        fields.uint(1, self.cursor).uint(2, self.limit as u64);
        if self.all {
            fields.must_uint(3, 1);
        }
    }
}

impl ListRequest {
    /// Reads the fields.
    ///
    /// # Errors
    /// When they are malformed.
    pub fn decode(body: &[u8]) -> Result<Self, FieldError> {
        let mut list = Self::default();
        let mut fields = FieldReader::new(body);
        while let Some(field) = fields.next()? {
            match field.number {
                1 => list.cursor = field.uint()?,
                2 => list.limit = field.size()?,
                3 => list.all = field.flag()?,
                _ => other(&field)?,
            }
        }
        Ok(list)
    }
}

/// Some processes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProcessList {
    /// The processes.
    pub processes: Vec<ProcessInfo>,
    /// Where to go on, when there are more.
    pub next: Option<u64>,
}

impl ProcessList {
    /// Its fields.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut fields = FieldWriter::new();
        for process in &self.processes {
            fields.bytes(1, &process.encode());
        }
        if let Some(next) = self.next {
            fields.uint(2, next);
        }
        fields.finish()
    }

    /// Reads the fields.
    ///
    /// # Errors
    /// When they are malformed or there are more than [`MAX_LIST`] processes.
    pub fn decode(body: &[u8]) -> Result<Self, FieldError> {
        let mut list = Self::default();
        let mut fields = FieldReader::new(body);
        while let Some(field) = fields.next()? {
            match field.number {
                1 => {
                    if list.processes.len() == MAX_LIST {
                        return Err(field.error(FieldErrorKind::TooLong(MAX_LIST)));
                    }
                    list.processes
                        .push(ProcessInfo::decode(field.item(usize::MAX)?)?);
                }
                2 => list.next = Some(field.uint()?),
                _ => field.unknown()?,
            }
        }
        Ok(list)
    }
}

/// What the server knows of a process's life. The runtime does not tell when a process ends by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[repr(u8)]
pub enum ProcessState {
    /// It was started; it may have ended by itself since.
    #[default]
    Started = 1,
    /// Its stop was requested and the runtime agreed.
    Stopped = 2,
}

/// What the server knows of a process's log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[repr(u8)]
pub enum LogState {
    /// It can have no log: it lacks a capability that logging needs.
    #[default]
    None = 0,
    /// It has not shown its log yet.
    Waiting = 1,
    /// Its log is being read.
    Attached = 2,
    /// Its log has ended.
    Ended = 3,
}

/// What the server knows of a process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProcessInfo {
    /// Its id.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// Its module.
    pub module: String,
    /// Its entrypoint.
    pub entrypoint: String,
    /// Started or stopped.
    pub state: ProcessState,
    /// Its capabilities.
    pub capabilities: Vec<Capability>,
    /// What is known of its log.
    pub log: LogState,
    /// Records that its log has had so far, lost ones that could be counted included.
    pub log_records: u64,
    /// When it was started (milliseconds since the Unix epoch); needs a clock.
    pub started_ms: Option<u64>,
    /// When it was stopped, likewise.
    pub stopped_ms: Option<u64>,
    /// When its last log record came, likewise.
    pub last_log_ms: Option<u64>,
}

impl ProcessInfo {
    /// Its fields.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let capabilities: Vec<u8> = self
            .capabilities
            .iter()
            .copied()
            .map(Capability::to_wire)
            .collect();
        let mut fields = FieldWriter::new();
        fields
            .uint(1, self.id)
            .text(2, &self.name)
            .text(3, &self.module)
            .text(4, &self.entrypoint)
            .uint(5, self.state as u64)
            .bytes(6, &capabilities)
            .uint(7, self.log as u64)
            .uint(8, self.log_records);
        for (number, time) in [
            (9, self.started_ms),
            (10, self.stopped_ms),
            (11, self.last_log_ms),
        ] {
            if let Some(time) = time {
                fields.uint(number, time);
            }
        }
        fields.finish()
    }

    /// Reads the fields. States and capabilities that are not known here are read as the nearest known thing.
    ///
    /// # Errors
    /// When they are malformed or there is no id.
    pub fn decode(body: &[u8]) -> Result<Self, FieldError> {
        let mut process = Self::default();
        let mut id = None;
        let mut fields = FieldReader::new(body);
        while let Some(field) = fields.next()? {
            match field.number {
                1 => id = Some(field.uint()?),
                2 => process.name = field.text(MAX_NAME)?.to_owned(),
                3 => process.module = field.text(MAX_MODULE)?.to_owned(),
                4 => process.entrypoint = field.text(MAX_ENTRYPOINT)?.to_owned(),
                5 => {
                    process.state = match field.uint()? {
                        2 => ProcessState::Stopped,
                        _ => ProcessState::Started,
                    }
                }
                6 => {
                    process.capabilities = field
                        .bytes(64)?
                        .iter()
                        .filter_map(|byte| Capability::from_wire(*byte))
                        .collect();
                }
                7 => {
                    process.log = match field.uint()? {
                        0 => LogState::None,
                        1 => LogState::Waiting,
                        2 => LogState::Attached,
                        _ => LogState::Ended,
                    }
                }
                8 => process.log_records = field.uint()?,
                9 => process.started_ms = Some(field.uint()?),
                10 => process.stopped_ms = Some(field.uint()?),
                11 => process.last_log_ms = Some(field.uint()?),
                _ => field.unknown()?,
            }
        }
        process.id = id.ok_or(fields.missing(1))?;
        Ok(process)
    }
}

/// Follow a process's log. Answered with [`FollowStarted`], then a stream of records from the server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FollowRequest {
    /// As in [`StopRequest`].
    pub target: String,
    /// At most so many of the retained records first; all of them when there is no number.
    pub tail: Option<u64>,
    /// Only records with this sequence number or a later one.
    pub since: Option<u64>,
    /// Whether to end after the retained records instead of waiting for new ones.
    pub no_follow: bool,
}

impl Request for FollowRequest {
    const OP: u64 = op::LOG_FOLLOW;

    fn fields(&self, fields: &mut FieldWriter) {
        fields.must_text(1, &self.target);
        if let Some(tail) = self.tail {
            fields.must_uint(2, tail);
        }
        if let Some(since) = self.since {
            fields.must_uint(3, since);
        }
        if self.no_follow {
            fields.must_uint(4, 1);
        }
    }
}

impl FollowRequest {
    /// Reads the fields.
    ///
    /// # Errors
    /// When they are malformed or there is no target.
    pub fn decode(body: &[u8]) -> Result<Self, FieldError> {
        let mut follow = Self::default();
        let mut target = None;
        let mut fields = FieldReader::new(body);
        while let Some(field) = fields.next()? {
            match field.number {
                1 => target = Some(field.text(MAX_TARGET)?.to_owned()),
                2 => follow.tail = Some(field.uint()?),
                3 => follow.since = Some(field.uint()?),
                4 => follow.no_follow = field.flag()?,
                _ => other(&field)?,
            }
        }
        follow.target = target.ok_or(fields.missing(1))?;
        Ok(follow)
    }
}

/// The answer to a follow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct FollowStarted {
    /// The process whose log it is.
    pub process: ProcessRef,
    /// The first sequence number that is still retained.
    pub first: u64,
    /// The sequence number that the next new record will get.
    pub next: u64,
    /// What is known of the log.
    pub log: LogState,
}

impl FollowStarted {
    /// An answer.
    #[must_use]
    pub fn new(process: ProcessRef, first: u64, next: u64, log: LogState) -> Self {
        Self {
            process,
            first,
            next,
            log,
        }
    }

    /// Its fields.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut fields = FieldWriter::new();
        fields
            .uint(1, self.process.id)
            .text(2, &self.process.name)
            .uint(3, self.first)
            .uint(4, self.next)
            .uint(5, self.log as u64);
        fields.finish()
    }

    /// Reads the fields.
    ///
    /// # Errors
    /// When they are malformed.
    pub fn decode(body: &[u8]) -> Result<Self, FieldError> {
        let mut started = Self::default();
        let mut fields = FieldReader::new(body);
        while let Some(field) = fields.next()? {
            match field.number {
                1 => started.process.id = field.uint()?,
                2 => started.process.name = field.text(MAX_NAME)?.to_owned(),
                3 => started.first = field.uint()?,
                4 => started.next = field.uint()?,
                5 => {
                    started.log = match field.uint()? {
                        0 => LogState::None,
                        1 => LogState::Waiting,
                        2 => LogState::Attached,
                        _ => LogState::Ended,
                    }
                }
                _ => field.unknown()?,
            }
        }
        Ok(started)
    }
}
