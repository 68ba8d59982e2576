//! Channels.

use std::fmt;

use selium_remote_client_protocol::{
    GuestResourceId,
    limits::{MAX_CAPACITY, MAX_NAME},
    ops::{Backpressure, ChannelInfo, CreateRequest},
};

use crate::{
    Client, ClientError, InvalidArgument, PublishOptions, Publisher, SubscribeOptions, Subscriber,
    id::id, start::check,
};

id! {
    /// The id of a channel: unique within one run of the server, and of no meaning to another.
    ChannelId, "channel id"
}

/// A channel to be created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelBuilder {
    request: CreateRequest,
}

impl ChannelBuilder {
    /// A channel that holds so many bytes: 1 to 16,777,216. The server rounds up to a power of two.
    #[must_use]
    pub fn new(capacity: u32) -> Self {
        let request = CreateRequest::with(|made| made.capacity = capacity);
        Self { request }
    }

    /// What becomes of messages for which there is no room: writers wait ([`Backpressure::Park`], the default), or the
    /// messages are dropped and nobody is told ([`Backpressure::Drop`]).
    #[must_use]
    pub fn backpressure(mut self, backpressure: Backpressure) -> Self {
        self.request.backpressure = backpressure;
        self
    }

    /// The channel's name (1 to 63 bytes): unique on the server. The server makes one when none is given.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.request.name = Some(name.into());
        self
    }

    /// The request, if it is one that a server may accept.
    pub(crate) fn build(self) -> Result<CreateRequest, InvalidArgument> {
        let capacity = self.request.capacity;
        if !(1..=MAX_CAPACITY).contains(&capacity) {
            return Err(InvalidArgument {
                field: "capacity",
                problem: format!("it is {capacity}, it must be 1 to {MAX_CAPACITY} bytes"),
                limit: Some(MAX_CAPACITY as usize),
            });
        }
        if let Some(name) = &self.request.name {
            check("name", name, MAX_NAME)?;
        }
        Ok(self.request)
    }
}

/// A channel on the server: messages of bytes, from any number of writers to any number of readers, inside the runtime
/// and outside. Dropping it does nothing to the channel, which lives until it is deleted.
///
/// ```no_run
/// use selium_remote_client::{Channel, ClientConfigBuilder, ClientError, SubscribeItem};
///
/// #[tokio::main]
/// async fn main() -> Result<(), ClientError> {
///     let client = ClientConfigBuilder::default().connect().await?;
///     let channel = Channel::create(&client, 64 * 1024).await?;
///
///     // Whoever subscribes later gets what is written later.
///     let mut subscriber = channel.subscribe(64 * 1024).await?;
///     let mut publisher = channel.publish().await?;
///     publisher.send("ping").await?;
///     publisher.flush().await?;
///
///     if let Some(item) = subscriber.next().await {
///         match item? {
///             SubscribeItem::Message { payload, .. } => println!("{} bytes", payload.len()),
///             SubscribeItem::Gap { .. } => eprintln!("some messages are missing here"),
///             _ => {}
///         }
///     }
///     publisher.close().await?;
///     channel.delete().await
/// }
/// ```
///
/// A guest is given a channel with [`ProcessBuilder::arg_channel`](crate::ProcessBuilder::arg_channel).
#[derive(Clone, Debug)]
pub struct Channel {
    client: Client,
    id: ChannelId,
    /// What the server has told of it.
    told: Option<Told>,
}

#[derive(Clone, Debug)]
struct Told {
    name: String,
    capacity: u32,
    backpressure: Backpressure,
}

impl Channel {
    /// The channel with this id, which the server is not asked about: an id that it does not know shows with the first
    /// request. Use [`Channel::find`] to look one up by name or by a part of its id.
    #[must_use]
    pub fn new(client: &Client, handle: GuestResourceId) -> Self {
        Self {
            client: client.clone(),
            id: ChannelId(handle),
            told: None,
        }
    }

    pub(crate) fn of(client: &Client, info: ChannelInfo) -> Self {
        Self {
            client: client.clone(),
            id: ChannelId(info.id),
            told: Some(Told {
                name: info.name,
                capacity: info.capacity,
                backpressure: info.backpressure,
            }),
        }
    }

    /// Creates a channel that holds so many bytes (1 to 16,777,216, rounded up to a power of two), whose writers wait
    /// when it is full, under a name that the server makes.
    ///
    /// # Errors
    /// As [`Channel::create_with`].
    ///
    /// # Cancel safety
    /// As [`Channel::create_with`].
    pub async fn create(client: &Client, capacity: u32) -> Result<Self, ClientError> {
        Self::create_with(client, ChannelBuilder::new(capacity)).await
    }

    /// Creates a channel (PROTOCOL.md, "Operations").
    ///
    /// ```no_run
    /// # async fn example(client: &selium_remote_client::Client) -> Result<(), selium_remote_client::ClientError> {
    /// use selium_remote_client::{Backpressure, Channel, ChannelBuilder};
    ///
    /// let prices = ChannelBuilder::new(1024 * 1024)
    ///     .name("prices")
    ///     .backpressure(Backpressure::Drop);
    /// let channel = Channel::create_with(client, prices).await?;
    /// assert_eq!(channel.name(), Some("prices"));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`ClientError::InvalidArgument`] before anything is sent, [`ClientError::Remote`] when the name is taken or the
    /// server refuses. When [`ClientError::is_outcome_unknown`] says so, it may exist.
    ///
    /// # Cancel safety
    /// Dropping the future asks the server to give the creation up. If that has reached the runtime already, the
    /// channel exists: look with [`Channel::list`], best by a name that was given with [`ChannelBuilder::name`].
    pub async fn create_with(
        client: &Client,
        builder: ChannelBuilder,
    ) -> Result<Self, ClientError> {
        client.create_channel(&builder.build()?).await
    }

    /// The channel that `target` means: its id (16 hexadecimal digits), a part of the id from its beginning that no
    /// other channel shares, or its name; at most 128 bytes.
    ///
    /// # Errors
    /// As [`Client::inspect_channel`].
    ///
    /// # Cancel safety
    /// As [`Client::inspect_channel`].
    pub async fn find(client: &Client, target: &str) -> Result<Self, ClientError> {
        let info = client.inspect_channel(target).await?;
        Ok(Self::of(client, info))
    }

    /// The channels that the server knows, in the order of their creation.
    ///
    /// # Errors
    /// As [`Client::channels`].
    ///
    /// # Cancel safety
    /// As [`Client::channels`].
    pub async fn list(client: &Client) -> Result<Vec<ChannelInfo>, ClientError> {
        client.channels().await
    }

    /// Subscribes to the channel that `target` means (as in [`Channel::find`]), whoever made it, with the default
    /// options: [`Client::subscribe`] has others.
    ///
    /// # Errors
    /// As [`Client::subscribe`].
    ///
    /// # Cancel safety
    /// As [`Client::subscribe`].
    pub async fn subscribe_shared(
        client: &Client,
        target: &str,
    ) -> Result<Subscriber, ClientError> {
        client.subscribe(target, SubscribeOptions::default()).await
    }

    /// The id as a number.
    #[must_use]
    pub fn handle(&self) -> GuestResourceId {
        self.id.0
    }

    /// The id.
    #[must_use]
    pub fn id(&self) -> ChannelId {
        self.id
    }

    /// The name, when the server has told it: not after [`Channel::new`].
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.told.as_ref().map(|told| told.name.as_str())
    }

    /// How many bytes it holds, when the server has told it: not after [`Channel::new`].
    #[must_use]
    pub fn capacity(&self) -> Option<u32> {
        self.told.as_ref().map(|told| told.capacity)
    }

    /// What becomes of messages without room, when the server has told it: not after [`Channel::new`].
    #[must_use]
    pub fn backpressure(&self) -> Option<Backpressure> {
        self.told.as_ref().map(|told| told.backpressure)
    }

    /// Deletes the channel, for everybody: its subscriptions end, and its publications fail.
    ///
    /// # Errors
    /// As [`Client::delete_channel`].
    ///
    /// # Cancel safety
    /// As [`Client::delete_channel`].
    pub async fn delete(self) -> Result<(), ClientError> {
        let target = self.id.to_string();
        self.client.delete_channel(&target).await.map(drop)
    }

    /// Lets the channel take no new messages: its publications fail, and its subscriptions end when everything was
    /// read. Draining twice is no error.
    ///
    /// # Errors
    /// As [`Client::drain_channel`].
    ///
    /// # Cancel safety
    /// As [`Client::drain_channel`].
    pub async fn drain(&self) -> Result<ChannelInfo, ClientError> {
        self.client.drain_channel(&self.id.to_string()).await
    }

    /// What the server knows of the channel.
    ///
    /// # Errors
    /// As [`Client::inspect_channel`].
    ///
    /// # Cancel safety
    /// As [`Client::inspect_channel`].
    pub async fn inspect(&self) -> Result<ChannelInfo, ClientError> {
        self.client.inspect_channel(&self.id.to_string()).await
    }

    /// Makes the channel one that processes can be given. A start that names it as an argument does so by itself.
    ///
    /// # Errors
    /// As [`Client::share_channel`].
    ///
    /// # Cancel safety
    /// As [`Client::share_channel`].
    pub async fn share(&self) -> Result<ChannelInfo, ClientError> {
        self.client.share_channel(&self.id.to_string()).await
    }

    /// Publishes to the channel, with the default options.
    ///
    /// # Errors
    /// As [`Client::publish`].
    ///
    /// # Cancel safety
    /// As [`Client::publish`].
    pub async fn publish(&self) -> Result<Publisher, ClientError> {
        self.publish_with(PublishOptions::default()).await
    }

    /// Publishes to the channel.
    ///
    /// # Errors
    /// As [`Client::publish`].
    ///
    /// # Cancel safety
    /// As [`Client::publish`].
    pub async fn publish_with(&self, options: PublishOptions) -> Result<Publisher, ClientError> {
        self.client.publish(&self.id.to_string(), options).await
    }

    /// Subscribes to the channel's messages from now on, of at most `chunk_size` bytes each; slow readers lose some.
    ///
    /// Messages are always handed on whole. A longer one is an error that ends the subscription, as
    /// [`SubscribeOptions::max_message`] says.
    ///
    /// # Errors
    /// As [`Client::subscribe`].
    ///
    /// # Cancel safety
    /// As [`Client::subscribe`].
    pub async fn subscribe(&self, chunk_size: u32) -> Result<Subscriber, ClientError> {
        let limit = usize::try_from(chunk_size).unwrap_or(usize::MAX);
        self.subscribe_with(SubscribeOptions::new().max_message(limit))
            .await
    }

    /// Subscribes to the channel.
    ///
    /// # Errors
    /// As [`Client::subscribe`].
    ///
    /// # Cancel safety
    /// As [`Client::subscribe`].
    pub async fn subscribe_with(
        &self,
        options: SubscribeOptions,
    ) -> Result<Subscriber, ClientError> {
        self.client.subscribe(&self.id.to_string(), options).await
    }
}

impl fmt::Display for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => write!(f, "{name} ({})", self.id),
            None => self.id.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_server_would_create_is_not_asked_for() {
        for capacity in [1, 64 * 1024, MAX_CAPACITY] {
            assert_eq!(
                ChannelBuilder::new(capacity).build().unwrap().capacity,
                capacity
            );
        }
        for capacity in [0, MAX_CAPACITY + 1] {
            let error = ChannelBuilder::new(capacity).build().unwrap_err();
            assert_eq!((error.field, error.limit), ("capacity", Some(16_777_216)));
            assert!(error.to_string().contains(&capacity.to_string()));
        }
        let named = |length| ChannelBuilder::new(1).name("x".repeat(length)).build();
        assert!(named(63).is_ok());
        assert_eq!(named(64).unwrap_err().limit, Some(63));
        assert_eq!(named(0).unwrap_err().field, "name");
    }
}
