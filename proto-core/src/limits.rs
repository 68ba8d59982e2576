//! Named limits of the protocol and of one connection.
//!
//! The constants are part of the protocol (PROTOCOL.md, "Limits"); [`Limits`] holds what each side chooses and states
//! in its hello.

/// The most bytes of message content in one frame. One chunk is the longest that a control frame waits in the core.
pub const MAX_CHUNK: usize = 16 * 1024;

/// The least that a stream may queue, however many share the connection's queue.
pub const MIN_STREAM_QUEUE: usize = 4 * 1024;

/// The least to which a connection's window shrinks when data waits on the path, in bytes: two chunks.
pub const MIN_CONNECTION_WINDOW: usize = 2 * MAX_CHUNK;

/// The least to which a stream's window shrinks, in bytes.
pub const MIN_STREAM_WINDOW: usize = 4 * 1024;

/// The largest value of a frame's length field: a chunk and the largest header around it.
pub const MAX_FRAME: usize = MAX_CHUNK + 64;

/// The most bytes of one write to the transport. What lies below the core cannot be reordered, so it is bounded.
pub const MAX_WRITE: usize = 64 * 1024;

/// The most bytes of a client's preface and hello together, and of a server's answer.
///
/// A server of version 0.3.3 takes each read for a request and reads at most 1,024 bytes of it.
pub const MAX_ENVELOPE: usize = 1_000;

/// What each message and each gap marker costs in credit besides its bytes, so that tiny messages cannot fill a
/// receiver's tables for the price of nothing.
pub const MESSAGE_OVERHEAD: usize = 32;

/// The most bytes of an error's message.
pub const MAX_ERROR_MESSAGE: usize = 1_024;

/// The most bytes of an error's field name.
pub const MAX_ERROR_FIELD: usize = 64;

/// The most bytes of a software name or version in a hello.
pub const MAX_SOFTWARE: usize = 64;

/// The most bytes of a role's name in a hello.
pub const MAX_ROLE: usize = 64;

/// The most bytes of a module id.
pub const MAX_MODULE: usize = 256;

/// The most bytes of an entrypoint's name.
pub const MAX_ENTRYPOINT: usize = 256;

/// The most bytes of a log URI.
pub const MAX_LOG_URI: usize = 1_024;

/// The most arguments (and parameters, and results) of one start.
pub const MAX_ARGUMENTS: usize = 64;

/// The most bytes of all buffer arguments of one start, the log URI included.
///
/// The runtime writes arguments over the new guest's stack from address 1040 upward; Rust guests keep their stack in
/// the first MiB. A larger argument corrupts the guest silently.
pub const MAX_ARGUMENT_BYTES: usize = 256 * 1024;

/// The most bytes of a process name.
pub const MAX_NAME: usize = 63;

/// The most bytes of a target (an id, an id prefix or a name).
pub const MAX_TARGET: usize = 128;

/// The most bytes that a channel holds.
pub const MAX_CAPACITY: u32 = 16 * 1024 * 1024;

/// The most processes, or channels, in one answer to a list request.
pub const MAX_LIST: usize = 256;

/// How much of the connection a stream gets while others are busy: so many turns for one turn of a stream of weight 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Weight(u8);

impl Weight {
    /// The greatest weight: its turn is 256 KiB long, for which other streams wait.
    pub const MAX: Weight = Weight(16);

    /// A weight of 1 to 16; `None` for others.
    #[must_use]
    pub const fn new(weight: u8) -> Option<Self> {
        match weight {
            1..=16 => Some(Self(weight)),
            _ => None,
        }
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> usize {
        self.0 as usize
    }
}

impl Default for Weight {
    /// The weight 1.
    fn default() -> Self {
        Self(1)
    }
}

/// What one side of a connection is willing to hold. Every field is a hard bound with a stated overflow action.
/// Made from the default: [`Limits::with`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Bytes of the largest request message accepted (server). Past it: that request is answered "too large".
    pub max_request: usize,
    /// Bytes of the largest response or stream message accepted. Past it: the connection ends ("protocol error"),
    /// because the peer knows the limit from the hello.
    pub max_message: usize,
    /// Bytes of all messages in reassembly together. Past it: the connection ends, as above.
    pub reassembly: usize,
    /// Bytes of stream data that may be on their way or unread on the whole connection, at first. Past it: the
    /// connection ends, because the peer knows its credit.
    pub connection_window: usize,
    /// The same for one stream.
    pub stream_window: usize,
    /// The largest that the connection's window becomes while round trips stay short, in bytes; the streams' windows
    /// grow in proportion. It also shrinks, to [`MIN_CONNECTION_WINDOW`] at the least, while they are long.
    pub max_connection_window: usize,
    /// Requests in flight (server). Past it: the request is answered "resource exhausted".
    pub max_requests: usize,
    /// Open streams (server). Past it: the request is answered "resource exhausted".
    pub max_streams: usize,
    /// Bytes of control frames waiting to be sent. Past it: the connection ends with "resource exhausted".
    pub control_queue: usize,
    /// Bytes of one stream's messages waiting to be sent. Past it: sending is refused until there is room.
    pub stream_queue: usize,
    /// The same for all streams of the connection: each gets an equal share, but at least [`MIN_STREAM_QUEUE`].
    pub connection_queue: usize,
}

impl Limits {
    /// The default, changed by `change`.
    ///
    /// ```
    /// use selium_remote_client_protocol::Limits;
    /// let limits = Limits::with(|limits| limits.max_requests = 16);
    /// assert_eq!(limits.max_requests, 16);
    /// ```
    #[must_use]
    pub fn with(change: impl FnOnce(&mut Self)) -> Self {
        let mut limits = Self::default();
        change(&mut limits);
        limits
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_request: 320 * 1024,
            max_message: 1024 * 1024,
            reassembly: 2 * 1024 * 1024,
            connection_window: 256 * 1024,
            stream_window: 64 * 1024,
            max_connection_window: 4 * 1024 * 1024,
            max_requests: 256,
            max_streams: 512,
            control_queue: 1024 * 1024,
            stream_queue: 64 * 1024,
            connection_queue: 1024 * 1024,
        }
    }
}
