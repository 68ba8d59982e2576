//! Channels: create, delete, drain, list, inspect, share, subscribe, publish (PROTOCOL.md, "Operations").

use super::{Request, op, other};
use crate::{
    fields::{Field, FieldError, FieldErrorKind, FieldReader, FieldWriter},
    limits::{MAX_CAPACITY, MAX_LIST, MAX_NAME, MAX_TARGET},
};

/// What a channel does with a message for which there is no room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[repr(u8)]
pub enum Backpressure {
    /// The writer waits until the slowest lossless reader has read enough.
    #[default]
    Park = 1,
    /// The message is dropped, and nobody is told.
    Drop = 2,
}

impl Backpressure {
    fn read(field: &Field<'_>) -> Result<Self, FieldError> {
        match field.uint()? {
            1 => Ok(Self::Park),
            2 => Ok(Self::Drop),
            _ => Err(field.error(FieldErrorKind::Value)),
        }
    }
}

/// What the server knows of a channel's life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[repr(u8)]
pub enum ChannelState {
    /// It takes messages.
    #[default]
    Open = 1,
    /// It takes no new messages.
    Draining = 2,
    /// It was deleted; only the answer to that says so.
    Deleted = 3,
}

/// Create a channel. Answered with [`ChannelInfo`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CreateRequest {
    /// How many bytes it holds: 1 to [`MAX_CAPACITY`]. The server rounds up to a power of two.
    pub capacity: u32,
    /// What becomes of messages without room.
    pub backpressure: Backpressure,
    /// Its name; the server makes one when there is none.
    pub name: Option<String>,
}

impl Request for CreateRequest {
    const OP: u64 = op::CHANNEL_CREATE;

    fn fields(&self, fields: &mut FieldWriter) {
        fields.must_uint(1, self.capacity.into());
        if self.backpressure != Backpressure::default() {
            fields.must_uint(2, self.backpressure as u64);
        }
        if let Some(name) = &self.name {
            fields.must_text(3, name);
        }
    }
}

impl CreateRequest {
    /// Reads the fields.
    ///
    /// # Errors
    /// When they are malformed, there is no capacity, or one that is 0 or more than [`MAX_CAPACITY`].
    pub fn decode(body: &[u8]) -> Result<Self, FieldError> {
        let mut create = Self::default();
        let mut capacity = None;
        let mut fields = FieldReader::new(body);
        while let Some(field) = fields.next()? {
            match field.number {
                1 => capacity = Some(size(&field)?),
                2 => create.backpressure = Backpressure::read(&field)?,
                3 => create.name = Some(field.text(MAX_NAME)?.to_owned()),
                _ => other(&field)?,
            }
        }
        create.capacity = capacity.ok_or(fields.missing(1))?;
        Ok(create)
    }
}

/// A capacity.
fn size(field: &Field<'_>) -> Result<u32, FieldError> {
    u32::try_from(field.uint()?)
        .ok()
        .filter(|size| (1..=MAX_CAPACITY).contains(size))
        .ok_or(field.error(FieldErrorKind::Value))
}

macro_rules! targeted {
    ($(#[$doc:meta] $name:ident = $op:ident,)+) => {
        $(
            #[$doc]
            #[derive(Clone, Debug, Default, PartialEq, Eq)]
            #[non_exhaustive]
            pub struct $name {
                /// A full id (16 hexadecimal digits), a unique prefix of one, or a name.
                pub target: String,
            }

            impl Request for $name {
                const OP: u64 = op::$op;

                fn fields(&self, fields: &mut FieldWriter) {
                    fields.must_text(1, &self.target);
                }
            }
        )+
    };
}

targeted! {
    /// Delete a channel for everybody. Answered with [`ChannelInfo`]; read with [`decode_target`](super::decode_target).
    DeleteRequest = CHANNEL_DELETE,
    /// Let a channel take no new messages. Answered and read likewise.
    DrainRequest = CHANNEL_DRAIN,
    /// Tell about one channel. Answered and read likewise.
    InspectChannelRequest = CHANNEL_INSPECT,
    /// Make a channel one that processes can be given. Answered and read likewise.
    ShareRequest = CHANNEL_SHARE,
}

/// List channels, in the order of their creation. Answered with [`ChannelList`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ListChannelsRequest {
    /// Where to go on: the answer's `next`. 0 for the beginning.
    pub cursor: u64,
    /// How many at most; the server gives at most [`MAX_LIST`].
    pub limit: usize,
}

impl Default for ListChannelsRequest {
    fn default() -> Self {
        Self {
            cursor: 0,
            limit: MAX_LIST,
        }
    }
}

impl Request for ListChannelsRequest {
    const OP: u64 = op::CHANNEL_LIST;

    fn fields(&self, fields: &mut FieldWriter) {
        fields.uint(1, self.cursor).uint(2, self.limit as u64);
    }
}

impl ListChannelsRequest {
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
                _ => other(&field)?,
            }
        }
        Ok(list)
    }
}

/// Some channels.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ChannelList {
    /// The channels.
    pub channels: Vec<ChannelInfo>,
    /// Where to go on, when there are more.
    pub next: Option<u64>,
}

impl ChannelList {
    /// Its fields.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut fields = FieldWriter::new();
        for channel in &self.channels {
            fields.bytes(1, &channel.encode());
        }
        if let Some(next) = self.next {
            fields.uint(2, next);
        }
        fields.finish()
    }

    /// Reads the fields.
    ///
    /// # Errors
    /// When they are malformed or there are more than [`MAX_LIST`] channels.
    pub fn decode(body: &[u8]) -> Result<Self, FieldError> {
        let mut list = Self::default();
        let mut fields = FieldReader::new(body);
        while let Some(field) = fields.next()? {
            match field.number {
                1 => {
                    if list.channels.len() == MAX_LIST {
                        return Err(field.error(FieldErrorKind::TooLong(MAX_LIST)));
                    }
                    list.channels
                        .push(ChannelInfo::decode(field.item(usize::MAX)?)?);
                }
                2 => list.next = Some(field.uint()?),
                _ => field.unknown()?,
            }
        }
        Ok(list)
    }
}

/// What the server knows of a channel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ChannelInfo {
    /// Its id.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// How many bytes it holds.
    pub capacity: u32,
    /// What becomes of messages without room.
    pub backpressure: Backpressure,
    /// Whether it takes messages.
    pub state: ChannelState,
    /// Whether processes can be given it.
    pub shared: bool,
    /// Subscribers that hold writers back.
    pub lossless: u64,
    /// Subscribers that may lose messages.
    pub lossy: u64,
    /// Open publications.
    pub publishers: u64,
    /// Messages that were published from outside and are in the channel.
    pub published: u64,
    /// When it was created (milliseconds since the Unix epoch); needs a clock.
    pub created_ms: Option<u64>,
}

impl ChannelInfo {
    /// Its fields.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut fields = FieldWriter::new();
        fields
            .uint(1, self.id)
            .text(2, &self.name)
            .uint(3, self.capacity.into())
            .uint(4, self.backpressure as u64)
            .uint(5, self.state as u64)
            .uint(6, self.shared.into())
            .uint(7, self.lossless)
            .uint(8, self.lossy)
            .uint(9, self.publishers)
            .uint(10, self.published);
        if let Some(created_ms) = self.created_ms {
            fields.uint(11, created_ms);
        }
        fields.finish()
    }

    /// Reads the fields. A state that is not known here is read as draining: nothing can be relied on.
    ///
    /// # Errors
    /// When they are malformed or there is no id.
    pub fn decode(body: &[u8]) -> Result<Self, FieldError> {
        let mut channel = Self::default();
        let mut id = None;
        let mut fields = FieldReader::new(body);
        while let Some(field) = fields.next()? {
            match field.number {
                1 => id = Some(field.uint()?),
                2 => channel.name = field.text(MAX_NAME)?.to_owned(),
                3 => {
                    channel.capacity = u32::try_from(field.uint()?)
                        .map_err(|_| field.error(FieldErrorKind::Value))?;
                }
                4 => channel.backpressure = Backpressure::read(&field)?,
                5 => {
                    channel.state = match field.uint()? {
                        1 => ChannelState::Open,
                        3 => ChannelState::Deleted,
                        _ => ChannelState::Draining,
                    }
                }
                6 => channel.shared = field.flag()?,
                7 => channel.lossless = field.uint()?,
                8 => channel.lossy = field.uint()?,
                9 => channel.publishers = field.uint()?,
                10 => channel.published = field.uint()?,
                11 => channel.created_ms = Some(field.uint()?),
                _ => field.unknown()?,
            }
        }
        channel.id = id.ok_or(fields.missing(1))?;
        Ok(channel)
    }
}

/// Subscribe to a channel. Answered with [`SubscribeStarted`], then a stream of messages from the server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SubscribeRequest {
    /// A full id (16 hexadecimal digits), a unique prefix of one, or a name.
    pub target: String,
    /// Whether writers wait for this subscriber, so that it loses nothing.
    pub lossless: bool,
    /// Only messages with this sequence number or a later one.
    pub since: Option<u64>,
    /// At most so many of the retained messages first; none when there is neither this nor `since`.
    pub tail: Option<u64>,
}

impl Request for SubscribeRequest {
    const OP: u64 = op::SUBSCRIBE;

    fn fields(&self, fields: &mut FieldWriter) {
        fields.must_text(1, &self.target);
        if self.lossless {
            fields.must_uint(2, 1);
        }
        if let Some(since) = self.since {
            fields.must_uint(3, since);
        }
        if let Some(tail) = self.tail {
            fields.must_uint(4, tail);
        }
    }
}

impl SubscribeRequest {
    /// Reads the fields.
    ///
    /// # Errors
    /// When they are malformed or there is no target.
    pub fn decode(body: &[u8]) -> Result<Self, FieldError> {
        let mut subscribe = Self::default();
        let mut target = None;
        let mut fields = FieldReader::new(body);
        while let Some(field) = fields.next()? {
            match field.number {
                1 => target = Some(field.text(MAX_TARGET)?.to_owned()),
                2 => subscribe.lossless = field.flag()?,
                3 => subscribe.since = Some(field.uint()?),
                4 => subscribe.tail = Some(field.uint()?),
                _ => other(&field)?,
            }
        }
        subscribe.target = target.ok_or(fields.missing(1))?;
        Ok(subscribe)
    }
}

/// The answer to a subscribe.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SubscribeStarted {
    /// The channel's id.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// The first sequence number that is still retained.
    pub first: u64,
    /// The sequence number that the next message will get.
    pub next: u64,
}

impl SubscribeStarted {
    /// An answer.
    #[must_use]
    pub fn new(id: u64, name: impl Into<String>, first: u64, next: u64) -> Self {
        Self {
            id,
            name: name.into(),
            first,
            next,
        }
    }

    /// Its fields.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut fields = FieldWriter::new();
        fields
            .uint(1, self.id)
            .text(2, &self.name)
            .uint(3, self.first)
            .uint(4, self.next);
        fields.finish()
    }

    /// Reads the fields.
    ///
    /// # Errors
    /// When they are malformed or there is no id.
    pub fn decode(body: &[u8]) -> Result<Self, FieldError> {
        let mut started = Self::default();
        let mut id = None;
        let mut fields = FieldReader::new(body);
        while let Some(field) = fields.next()? {
            match field.number {
                1 => id = Some(field.uint()?),
                2 => started.name = field.text(MAX_NAME)?.to_owned(),
                3 => started.first = field.uint()?,
                4 => started.next = field.uint()?,
                _ => field.unknown()?,
            }
        }
        started.id = id.ok_or(fields.missing(1))?;
        Ok(started)
    }
}

/// Publish to a channel. Answered with [`PublishStarted`], then a stream of messages from the client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PublishRequest {
    /// A full id (16 hexadecimal digits), a unique prefix of one, or a name.
    pub target: String,
    /// The publication's number in the client's session, which it uses once.
    pub publication: u64,
    /// Whether it goes on with a publication that it has begun. When the server does not know it (any more), the answer is
    /// "outcome unknown".
    pub resume: bool,
}

impl Request for PublishRequest {
    const OP: u64 = op::PUBLISH;

    fn fields(&self, fields: &mut FieldWriter) {
        fields
            .must_text(1, &self.target)
            .must_uint(2, self.publication);
        if self.resume {
            fields.must_uint(3, 1);
        }
    }
}

impl PublishRequest {
    /// Reads the fields.
    ///
    /// # Errors
    /// When they are malformed or the target or the publication is missing.
    pub fn decode(body: &[u8]) -> Result<Self, FieldError> {
        let mut publish = Self::default();
        let (mut target, mut publication) = (None, None);
        let mut fields = FieldReader::new(body);
        while let Some(field) = fields.next()? {
            match field.number {
                1 => target = Some(field.text(MAX_TARGET)?.to_owned()),
                2 => publication = Some(field.uint()?),
                3 => publish.resume = field.flag()?,
                _ => other(&field)?,
            }
        }
        publish.target = target.ok_or(fields.missing(1))?;
        publish.publication = publication.ok_or(fields.missing(2))?;
        Ok(publish)
    }
}

/// The answer to a publish.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PublishStarted {
    /// The channel's id.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// How many bytes the channel holds: a longer message is refused.
    pub capacity: u32,
    /// Whether the channel may drop messages that it has acknowledged.
    pub backpressure: Backpressure,
    /// The last number that the server has of this publication; `None` when it has none.
    pub last: Option<u64>,
}

impl PublishStarted {
    /// An answer, for a publication of which the server has nothing.
    #[must_use]
    pub fn new(
        id: u64,
        name: impl Into<String>,
        capacity: u32,
        backpressure: Backpressure,
    ) -> Self {
        Self {
            id,
            name: name.into(),
            capacity,
            backpressure,
            last: None,
        }
    }

    /// Its fields.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut fields = FieldWriter::new();
        fields
            .uint(1, self.id)
            .text(2, &self.name)
            .uint(3, self.capacity.into())
            .uint(4, self.backpressure as u64);
        if let Some(last) = self.last {
            fields.uint(5, last);
        }
        fields.finish()
    }

    /// Reads the fields.
    ///
    /// # Errors
    /// When they are malformed or there is no id.
    pub fn decode(body: &[u8]) -> Result<Self, FieldError> {
        let mut started = Self::default();
        let mut id = None;
        let mut fields = FieldReader::new(body);
        while let Some(field) = fields.next()? {
            match field.number {
                1 => id = Some(field.uint()?),
                2 => started.name = field.text(MAX_NAME)?.to_owned(),
                3 => {
                    started.capacity = u32::try_from(field.uint()?)
                        .map_err(|_| field.error(FieldErrorKind::Value))?;
                }
                4 => started.backpressure = Backpressure::read(&field)?,
                5 => started.last = Some(field.uint()?),
                _ => field.unknown()?,
            }
        }
        started.id = id.ok_or(fields.missing(1))?;
        Ok(started)
    }
}
