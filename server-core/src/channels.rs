//! The channel table: what was created here, by id and by name.

use selium_remote_client_protocol::{
    ErrorCode, RemoteError,
    ops::{Backpressure, ChannelInfo, ChannelState, CreateRequest},
};

use crate::{
    Config,
    directory::{Directory, Listed},
    host::HostChannel,
    ids::Ids,
    policy::RoleId,
    server::Waiter,
    topic::{Kind, Topic, TopicId},
};

/// A channel of the table.
#[derive(Debug)]
pub(crate) struct Channel {
    pub(crate) id: u64,
    /// Its number in the order of creations; the cursor of lists.
    pub(crate) ordinal: u64,
    pub(crate) name: String,
    pub(crate) host: HostChannel,
    pub(crate) capacity: u32,
    pub(crate) backpressure: Backpressure,
    pub(crate) state: ChannelState,
    pub(crate) shared: bool,
    /// Open publications.
    pub(crate) publishers: u64,
    /// Messages that were published and that it has taken over.
    pub(crate) published: u64,
    created_ms: Option<u64>,
    lossy: Topic<Waiter>,
    lossless: Topic<Waiter>,
}

impl Channel {
    /// What clients are told of it.
    pub(crate) fn info(&self) -> ChannelInfo {
        ChannelInfo::with(|info| {
            info.id = self.id;
            info.name.clone_from(&self.name);
            info.capacity = self.capacity;
            info.backpressure = self.backpressure;
            info.state = self.state;
            info.shared = self.shared;
            info.lossless = self.lossless.len() as u64;
            info.lossy = self.lossy.len() as u64;
            info.publishers = self.publishers;
            info.published = self.published;
            info.created_ms = self.created_ms;
        })
    }

    /// Its source for subscribers of this kind.
    pub(crate) fn topic(&self, kind: Kind) -> &Topic<Waiter> {
        match kind {
            Kind::Lossy => &self.lossy,
            Kind::Lossless => &self.lossless,
        }
    }

    /// The same, to change it.
    pub(crate) fn topic_mut(&mut self, kind: Kind) -> &mut Topic<Waiter> {
        match kind {
            Kind::Lossy => &mut self.lossy,
            Kind::Lossless => &mut self.lossless,
        }
    }

    /// "unavailable", for who wants to do what a channel that takes no new messages does not do.
    pub(crate) fn drains(&self) -> RemoteError {
        let message = format!("the channel `{}` takes no new messages", self.name);
        RemoteError::new(ErrorCode::Unavailable, message)
    }
}

impl Listed for Channel {
    const WHAT: &'static str = "channel";
    const SEVERAL: &'static str = "channels";

    fn id(&self) -> u64 {
        self.id
    }

    fn name(&self) -> &str {
        &self.name
    }
}

/// A channel that is being created.
#[derive(Debug)]
pub(crate) struct Planned {
    pub(crate) name: String,
    pub(crate) host: HostChannel,
    pub(crate) capacity: u32,
    pub(crate) backpressure: Backpressure,
}

/// The table.
#[derive(Debug, Default)]
pub(crate) struct Channels {
    pub(crate) all: Directory<Channel>,
    /// The capacities of all channels, of those that are being created too.
    bytes: usize,
    last_host: u64,
}

impl Channels {
    /// Takes room for a channel that a client with this role asks for.
    pub(crate) fn plan(
        &mut self,
        request: &CreateRequest,
        role: RoleId,
        config: &Config,
    ) -> Result<Planned, RemoteError> {
        let exhausted = |message: String, limit: usize| {
            RemoteError::new(ErrorCode::ResourceExhausted, message).with_limit(limit as u64)
        };
        let limit = config.max_channels;
        if self.all.len() + self.all.reserved() >= limit {
            let message = format!("there are {limit} channels, which is the limit");
            return Err(exhausted(message, limit));
        }
        let capacity = request.capacity.next_power_of_two();
        let bytes = self.bytes.saturating_add(capacity as usize);
        let limit = config.all_channel_bytes;
        if bytes > limit {
            let message = format!("all channels together may hold {limit} bytes");
            return Err(exhausted(message, limit).with_field("capacity"));
        }
        let name = self
            .all
            .reserve_name(request.name.as_deref(), "channel", role)?;
        self.bytes = bytes;
        self.last_host += 1;
        Ok(Planned {
            name,
            host: HostChannel(self.last_host),
            capacity,
            backpressure: request.backpressure,
        })
    }

    /// Gives the room back.
    pub(crate) fn give_up(&mut self, planned: &Planned) {
        self.all.release_name(&planned.name);
        self.bytes = self.bytes.saturating_sub(planned.capacity as usize);
    }

    /// Adds a channel that was created.
    pub(crate) fn insert(&mut self, ids: &Ids, planned: Planned, now_ms: Option<u64>) -> &Channel {
        let id = |ordinal, round| ids.channel(ordinal, round);
        let Planned {
            name,
            host,
            capacity,
            backpressure,
        } = planned;
        self.all
            .insert(&name.clone(), id, |id, ordinal, _| Channel {
                id,
                ordinal,
                name,
                host,
                capacity,
                backpressure,
                state: ChannelState::Open,
                shared: false,
                publishers: 0,
                published: 0,
                created_ms: now_ms,
                lossy: Topic::new(Kind::Lossy),
                lossless: Topic::new(Kind::Lossless),
            })
    }

    /// Forgets a channel.
    pub(crate) fn remove(&mut self, ordinal: u64) -> Option<Channel> {
        let channel = self.all.remove(ordinal)?;
        self.bytes = self.bytes.saturating_sub(channel.capacity as usize);
        Some(channel)
    }

    /// A source of a channel.
    pub(crate) fn topic_mut(&mut self, id: TopicId) -> Option<&mut Topic<Waiter>> {
        Some(self.all.get_mut(id.channel)?.topic_mut(id.kind))
    }
}
