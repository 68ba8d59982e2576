//! Processes: stop, list, inspect (PROTOCOL.md, "Operations").

use super::{LogState, Request, op, other};
use crate::{
    abi::Capability,
    fields::{FieldError, FieldErrorKind, FieldReader, FieldWriter},
    limits::{MAX_ENTRYPOINT, MAX_LIST, MAX_MODULE, MAX_NAME, MAX_TARGET},
};

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
#[non_exhaustive]
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
#[non_exhaustive]
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
#[non_exhaustive]
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
