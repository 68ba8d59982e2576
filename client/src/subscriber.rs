//! Subscriptions to channels.

use std::{
    fmt,
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_core::{FusedStream, Stream};
use selium_remote_client_protocol::{
    Weight,
    ops::{SubscribeRequest, SubscribeStarted},
};

use crate::{
    ChannelId, ClientError, InvalidArgument, MessageLimit,
    call::{Ask, Held},
    incoming::{Incoming, Item, Source, beginning},
};

/// Which messages are wanted, and how. The default: new messages from now on, and a slow reader loses some.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SubscribeOptions {
    lossless: bool,
    since: Option<u64>,
    tail: Option<u64>,
    max_message: Option<usize>,
    weight: Option<Weight>,
}

impl SubscribeOptions {
    /// The default.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether writers wait for this subscriber, so that it loses nothing. The role needs a permission of its own for
    /// that, and the channel has to park its writers.
    ///
    /// Such a subscriber has to read on: the server ends the subscription of one that has let messages wait for 30 s.
    #[must_use]
    pub fn lossless(mut self, lossless: bool) -> Self {
        self.lossless = lossless;
        self
    }

    /// Only messages with this sequence number or a later one. [`Subscriber::position`] is the number to go on with
    /// after a connection was lost: what is missing is told, and nothing comes twice while the server reads the channel.
    ///
    /// It reads a channel for lossless subscribers only while there are some, for others 30 s longer (with a clock). When
    /// it begins again, with what the channel holds then, a [`SubscribeItem::Gap`] without a count comes first, and messages
    /// behind it may be ones that came before.
    ///
    /// Lossless and other subscribers count a channel's messages each for themselves: a number goes with
    /// [`SubscribeOptions::lossless`] as it was.
    #[must_use]
    pub fn since(mut self, sequence: u64) -> Self {
        self.since = Some(sequence);
        self
    }

    /// First so many of the messages that the server retains, the last ones; new messages behind them.
    #[must_use]
    pub fn tail(mut self, messages: u64) -> Self {
        self.tail = Some(messages);
        self
    }

    /// Bytes of the longest message that is accepted. A longer one is [`ClientError::MessageTooLarge`] instead, and
    /// ends the subscription; [`Subscriber::position`] is its number then, so that nothing is passed over unseen.
    ///
    /// The connection has a limit besides, of which the server knows: what is longer than
    /// [`ClientConfigBuilder::response_limit`](crate::ClientConfigBuilder::response_limit) is not sent at all.
    #[must_use]
    pub fn max_message(mut self, bytes: usize) -> Self {
        self.max_message = Some(bytes);
        self
    }

    /// How much of the connection the subscription gets while other streams are busy too; 1 by default.
    #[must_use]
    pub fn weight(mut self, weight: Weight) -> Self {
        self.weight = Some(weight);
        self
    }

    pub(crate) fn request(
        self,
        target: String,
    ) -> Result<(SubscribeRequest, Option<Weight>), InvalidArgument> {
        if self.max_message == Some(0) {
            return Err(InvalidArgument {
                field: "chunk size",
                problem: "no message has 0 bytes".to_owned(),
                limit: None,
            });
        }
        let request = SubscribeRequest::with(|made| {
            made.target = target;
            made.lossless = self.lossless;
            made.since = self.since;
            made.tail = self.tail;
        });
        Ok((request, self.weight))
    }
}

/// What a subscription has next.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SubscribeItem {
    /// A message, as it was written: whole, and nothing else.
    Message {
        /// Its number in the channel, counted by the server from 0.
        sequence: u64,
        /// Its bytes, at least one.
        payload: Bytes,
    },
    /// Messages are missing here.
    Gap {
        /// The number of the next message.
        next: u64,
        /// How many are missing, where that is known: the server counts what it dropped itself, not what the runtime
        /// did.
        count: Option<u64>,
    },
}

impl From<Item> for SubscribeItem {
    fn from(item: Item) -> Self {
        match item {
            Item::Message { sequence, payload } => SubscribeItem::Message {
                sequence,
                payload: payload.into_bytes(),
            },
            Item::Gap { next, count } => SubscribeItem::Gap { next, count },
        }
    }
}

/// A subscription to a channel: a stream of [`SubscribeItem`]s (PROTOCOL.md, "Operations" and "Credit").
///
/// It ends (`None`) when the channel was deleted, or drained and everything was read. [`Subscriber::end_reason`] tells
/// which. Everything else is an error, after which it is over too: [`ClientError::Remote`] when the server gives up,
/// [`ClientError::MessageTooLarge`] where [`SubscribeOptions::max_message`] says so, [`ClientError::Closed`] and
/// [`ClientError::GaveUp`] when there is no connection any more.
///
/// When the connection is lost and made again ([`Reconnect`](crate::Reconnect)), the subscription goes on behind what was
/// read, as soon as it is read on: what is missing is a [`SubscribeItem::Gap`]. (Until then the server does not know of
/// it: writers do not wait for a lossless subscriber whose connection is lost, and behind the gap messages may come once more,
/// see [`SubscribeOptions::since`].) A server that was restarted knows nothing
/// of the channel: [`ClientError::NewIncarnation`].
///
/// What arrives is held until it is read, about 128 KiB at first and more on fast connections (one message may be
/// larger); the server waits meanwhile. It drops messages when it has to, which a [`SubscribeItem::Gap`] tells, or for a
/// lossless subscription lets the channel's writers wait. Dropping the subscriber ends the subscription on the server.
///
/// ```no_run
/// use selium_remote_client::{Client, ClientError, SubscribeItem, SubscribeOptions};
///
/// async fn copy(client: &Client) -> Result<(), ClientError> {
///     let options = SubscribeOptions::new().lossless(true).tail(100);
///     let mut subscriber = client.subscribe("prices", options).await?;
///     while let Some(item) = subscriber.next().await {
///         match item? {
///             SubscribeItem::Message { sequence, payload } => {
///                 println!("{sequence}: {} bytes", payload.len());
///             }
///             SubscribeItem::Gap { count: Some(count), .. } => println!("{count} are missing"),
///             SubscribeItem::Gap { .. } => println!("an unknown number is missing"),
///             _ => {}
///         }
///     }
///     println!("{}", subscriber.end_reason().unwrap_or("everything was read"));
///     Ok(())
/// }
/// ```
pub struct Subscriber {
    incoming: Incoming,
    channel: ChannelId,
    name: String,
    first: u64,
    next: u64,
    max_message: Option<usize>,
}

impl fmt::Debug for Subscriber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscriber")
            .field("channel", &self.channel)
            .field("position", &self.position())
            .field("end_reason", &self.end_reason())
            .finish_non_exhaustive()
    }
}

impl Subscriber {
    pub(crate) fn new(
        held: Held,
        ask: Ask,
        mut request: SubscribeRequest,
        started: SubscribeStarted,
        options: SubscribeOptions,
    ) -> Self {
        // Another channel may have the name by then.
        request.target = ChannelId(started.id).to_string();
        let retained = (started.first, started.next);
        let position = beginning(retained, options.since, options.tail, started.next);
        Self {
            incoming: Incoming::new(held, Source::Channel(request), ask, position),
            channel: ChannelId(started.id),
            name: started.name,
            first: started.first,
            next: started.next,
            max_message: options.max_message,
        }
    }

    /// The channel.
    #[must_use]
    pub fn channel(&self) -> ChannelId {
        self.channel
    }

    /// The channel's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The first sequence number that the server still had when the subscription began.
    #[must_use]
    pub fn first_sequence(&self) -> u64 {
        self.first
    }

    /// The sequence number that the next new message was to get when the subscription began: messages before it are old
    /// ones.
    #[must_use]
    pub fn next_sequence(&self) -> u64 {
        self.next
    }

    /// The sequence number behind what was read: what to give to [`SubscribeOptions::since`] to go on here.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.incoming.position()
    }

    /// Why the subscription ended, once it has, if the server told; for example "the channel was deleted".
    #[must_use]
    pub fn end_reason(&self) -> Option<&str> {
        self.incoming.end_reason()
    }

    /// The next item, for programs without a stream library.
    ///
    /// # Errors
    /// As the stream.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Result<SubscribeItem, ClientError>> {
        poll_fn(|cx| self.poll_item(cx)).await
    }

    fn poll_item(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<SubscribeItem, ClientError>>> {
        let polled = self.incoming.poll_item(cx);
        polled.map(|item| item.map(|item| item.and_then(|item| self.accept(item))))
    }

    fn accept(&mut self, item: Item) -> Result<SubscribeItem, ClientError> {
        if let Item::Message { sequence, payload } = &item
            && let Some(limit) = self.max_message
            && payload.len() > limit
        {
            self.incoming.give_up(*sequence);
            return Err(ClientError::MessageTooLarge {
                length: payload.len(),
                limit,
                by: MessageLimit::Subscription,
            });
        }
        Ok(item.into())
    }
}

impl Stream for Subscriber {
    type Item = Result<SubscribeItem, ClientError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll_item(cx)
    }
}

impl FusedStream for Subscriber {
    fn is_terminated(&self) -> bool {
        self.incoming.is_over()
    }
}
