//! Operations: what requests ask for and what answers say (PROTOCOL.md, "Operations").
//!
//! Every body is fields. Numbers from [`COMMON`] on mean the same in every request: see [`Common`].

mod channel;
mod info;
mod log;
mod process;
mod start;

use bytes::Bytes;

pub use self::{
    channel::{
        Backpressure, ChannelInfo, ChannelList, ChannelState, CreateRequest, DeleteRequest,
        DrainRequest, InspectChannelRequest, ListChannelsRequest, PublishRequest, PublishStarted,
        ShareRequest, SubscribeRequest, SubscribeStarted,
    },
    info::{InfoRequest, ServerInfo},
    log::{FollowRequest, FollowStarted, LogState},
    process::{
        InspectRequest, ListRequest, ProcessInfo, ProcessList, ProcessRef, ProcessState,
        StopRequest, decode_target,
    },
    start::StartRequest,
};
use crate::{
    fields::{Field, FieldError, FieldErrorKind, FieldReader, FieldWriter},
    limits::Weight,
};

/// Numbers of operations.
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

    /// Create a channel.
    pub const CHANNEL_CREATE: u64 = 32;
    /// Delete a channel.
    pub const CHANNEL_DELETE: u64 = 33;
    /// Let a channel take no new messages.
    pub const CHANNEL_DRAIN: u64 = 34;
    /// List channels.
    pub const CHANNEL_LIST: u64 = 35;
    /// Tell about one channel.
    pub const CHANNEL_INSPECT: u64 = 36;
    /// Make a channel one that processes can be given.
    pub const CHANNEL_SHARE: u64 = 37;
    /// Subscribe to a channel; opens a stream from the server.
    pub const SUBSCRIBE: u64 = 38;
    /// Publish to a channel; opens a stream to the server.
    pub const PUBLISH: u64 = 39;

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
            CHANNEL_CREATE => "channel create",
            CHANNEL_DELETE => "channel delete",
            CHANNEL_DRAIN => "channel drain",
            CHANNEL_LIST => "channel list",
            CHANNEL_INSPECT => "channel inspect",
            CHANNEL_SHARE => "channel share",
            SUBSCRIBE => "subscribe",
            PUBLISH => "publish",
            _ => "unknown operation",
        }
    }
}

/// The first field number that is common to all requests.
pub const COMMON: u64 = 64;

/// The fields that every request may carry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Common {
    /// The sequence number of a changing request within the client's session: its idempotency token.
    pub token: Option<u64>,
    /// Whether this repeats a request that was sent before.
    pub retry: bool,
    /// How long the client waits, in milliseconds.
    pub deadline_ms: Option<u64>,
    /// The weight of the stream that the request opens; 1 when there is none.
    pub weight: Option<Weight>,
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
        if let Some(weight) = self.weight {
            fields.uint(67, weight.get() as u64);
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
                67 => common.weight = Some(weight(&field)?),
                _ => field.unknown()?,
            }
        }
        Ok(common)
    }
}

fn weight(field: &Field<'_>) -> Result<Weight, FieldError> {
    let weight = u8::try_from(field.uint()?).ok().and_then(Weight::new);
    weight.ok_or(field.error(FieldErrorKind::Value))
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

with!(
    Common,
    FollowRequest,
    StopRequest,
    InspectRequest,
    ListRequest,
    StartRequest,
    CreateRequest,
    DeleteRequest,
    DrainRequest,
    InspectChannelRequest,
    ShareRequest,
    ListChannelsRequest,
    SubscribeRequest,
    PublishRequest,
    ChannelInfo
);
