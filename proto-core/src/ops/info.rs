//! About the server itself (PROTOCOL.md, "server info").

use super::{Request, op, other};
use crate::fields::{FieldError, FieldReader, FieldWriter};

/// Tell about the server. Answered with [`ServerInfo`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InfoRequest;

impl Request for InfoRequest {
    const OP: u64 = op::SERVER_INFO;

    fn fields(&self, _fields: &mut FieldWriter) {}
}

impl InfoRequest {
    /// Reads the fields: there are none.
    ///
    /// # Errors
    /// When they are malformed, or one is mandatory.
    pub fn decode(body: &[u8]) -> Result<Self, FieldError> {
        let mut fields = FieldReader::new(body);
        while let Some(field) = fields.next()? {
            other(&field)?;
        }
        Ok(Self)
    }
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
    /// Connections that the server has closed and whose clients have not gone: it cannot end them from its side.
    pub zombies: u64,
    /// Bytes that connections hold: unsent answers and records, and requests that are not complete.
    pub held_bytes: u64,
    /// Records of the server's own log that were suppressed.
    pub suppressed_records: u64,
    /// Operations of the runtime that nobody waits for any more and that have not ended.
    pub orphans: u64,
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
            .uint(7, self.starts)
            .uint(8, self.zombies)
            .uint(9, self.held_bytes)
            .uint(10, self.suppressed_records)
            .uint(11, self.orphans);
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
                8 => info.zombies = field.uint()?,
                9 => info.held_bytes = field.uint()?,
                10 => info.suppressed_records = field.uint()?,
                11 => info.orphans = field.uint()?,
                _ => field.unknown()?,
            }
        }
        Ok(info)
    }
}
