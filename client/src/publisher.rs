//! Publications to channels.

mod failure;
mod line;

use std::{
    fmt,
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
};

use bytes::Bytes;
use futures_sink::Sink;
use selium_remote_client_protocol::{
    Weight,
    ops::{Backpressure, PublishRequest, PublishStarted, op},
    publish::Publication,
};

use crate::{
    ChannelId, ClientError, MessageLimit,
    call::{Ask, Held},
    session::Refusal,
};

pub use failure::PublicationFailure;
pub(crate) use line::Line;

/// Bytes of messages without an acknowledgement that a publisher holds by default.
pub const DEFAULT_BACKLOG: usize = 1024 * 1024;

/// How to publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublishOptions {
    backlog: usize,
    weight: Option<Weight>,
}

impl Default for PublishOptions {
    fn default() -> Self {
        Self {
            backlog: DEFAULT_BACKLOG,
            weight: None,
        }
    }
}

impl PublishOptions {
    /// The default: a backlog of [`DEFAULT_BACKLOG`], a weight of 1.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Bytes of messages without an acknowledgement that are held at most, each with 32 more; at least 16,384. Past it
    /// [`Publisher::send`] waits. A message that is longer is taken when no other is held.
    #[must_use]
    pub fn backlog(mut self, bytes: usize) -> Self {
        self.backlog = bytes;
        self
    }

    /// How much of the connection the publication gets while others are busy too; 1 by default.
    #[must_use]
    pub fn weight(mut self, weight: Weight) -> Self {
        self.weight = Some(weight);
        self
    }

    pub(crate) fn stream_weight(self) -> Option<Weight> {
        self.weight
    }

    pub(crate) fn publication(self) -> Publication {
        Publication::new(self.backlog)
    }
}

/// A publication to a channel (PROTOCOL.md, "Messages"): a `Sink` of messages, with methods of its own besides.
///
/// Messages are numbered from 0. The publisher holds each until the server has acknowledged it: the channel has it then,
/// or, if the channel drops ([`Publisher::may_be_dropped`]), it was handed over. [`Publisher::send`] waits while too much
/// is held, which is how a full channel slows its writers down; [`Publisher::flush`] waits until nothing is.
///
/// When the connection is lost and made again ([`Reconnect`](crate::Reconnect)), the publication goes on by itself, also
/// while nobody looks: what was not acknowledged is sent again, with the same numbers, and the server takes each once.
/// Meanwhile messages are taken as long as the backlog has room.
///
/// When the server ends the publication (the channel was deleted or drained), was restarted and knows nothing of it, or
/// the connection is not made again, everything fails with [`ClientError::Publication`], which says which messages have
/// an unknown outcome.
///
/// Dropping a publisher gives the publication up at once, without waiting: what was not acknowledged may or may not be
/// published. [`Publisher::close`] or [`Publisher::flush`] before that to be sure.
///
/// ```no_run
/// use selium_remote_client::{Client, ClientError, PublishOptions};
///
/// async fn report(client: &Client, lines: Vec<String>) -> Result<(), ClientError> {
///     let options = PublishOptions::new().backlog(256 * 1024);
///     let mut publisher = client.publish("reports", options).await?;
///     for line in lines {
///         publisher.send(line).await?;
///     }
///     match publisher.close().await {
///         Err(ClientError::Publication(failure)) if !failure.unknown.is_empty() => {
///             for (number, message) in publisher.unacknowledged() {
///                 eprintln!("message {number} ({} bytes) may be lost", message.len());
///             }
///             Err(ClientError::Publication(failure))
///         }
///         result => result,
///     }
/// }
/// ```
pub struct Publisher {
    line: Arc<Line>,
    channel: ChannelId,
    name: String,
    capacity: u32,
    backpressure: Backpressure,
    /// Bytes of the longest message, and where that comes from.
    longest: (usize, MessageLimit),
    backlog: usize,
    /// A message of the sink for which the backlog had no room.
    waiting: Option<Bytes>,
    /// Whether it takes no more messages.
    closing: bool,
}

/// The stream is over.
struct Gone;

impl fmt::Debug for Publisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publisher")
            .field("channel", &self.channel)
            .field("acknowledged", &self.acknowledged())
            .finish_non_exhaustive()
    }
}

impl Publisher {
    pub(crate) fn new(
        held: Held,
        ask: Ask,
        mut request: PublishRequest,
        started: PublishStarted,
        options: PublishOptions,
    ) -> Result<Self, ClientError> {
        let mut publication = options.publication();
        // The server has nothing of a new publication.
        if publication.resume(started.last).is_err() {
            return Err(held.unreadable(op::PUBLISH, None));
        }
        let taken = held.with(|session, id| {
            session.attach(id, publication);
            session.longest_message()
        });
        // No capacity: the server does not tell.
        let capacity = usize::try_from(started.capacity).unwrap_or(usize::MAX);
        let longest = match capacity {
            1.. if capacity <= taken => (capacity, MessageLimit::Capacity),
            _ => (taken, MessageLimit::Connection),
        };
        // Another channel may have the name by then.
        request.target = ChannelId(started.id).to_string();
        request.resume = true;
        let inner = Arc::clone(&held.inner);
        let line = Arc::new(Line::new(held, request, ask));
        if inner.board.is_enabled() {
            inner.board.add(&line);
        }
        Ok(Self {
            line,
            channel: ChannelId(started.id),
            name: started.name,
            capacity: started.capacity,
            backpressure: started.backpressure,
            longest,
            backlog: options.backlog,
            waiting: None,
            closing: false,
        })
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

    /// How many bytes the channel holds.
    #[must_use]
    pub fn capacity(&self) -> u32 {
        self.capacity
    }

    /// What becomes of messages for which the channel has no room.
    #[must_use]
    pub fn backpressure(&self) -> Backpressure {
        self.backpressure
    }

    /// Bytes of the longest message that can be sent: what the channel holds, or what the server takes when that is less.
    #[must_use]
    pub fn max_message(&self) -> usize {
        self.longest.0
    }

    /// How many messages were taken: the number that the next one gets.
    #[must_use]
    pub fn sent(&self) -> u64 {
        let taken = self.line.lock().taken();
        taken.saturating_add(u64::from(self.waiting.is_some()))
    }

    /// The number of the last message that was acknowledged: that one and all before it.
    #[must_use]
    pub fn acknowledged(&self) -> Option<u64> {
        self.line.lock().acknowledged()
    }

    /// Whether an acknowledgement has said that messages were handed over to a channel that may drop them.
    #[must_use]
    pub fn may_be_dropped(&self) -> bool {
        let state = self.line.lock();
        state.may_be_dropped || state.standing(None).may_be_dropped
    }

    /// The messages that were sent and not acknowledged, with their numbers, the oldest first. When the publication is
    /// over, their outcome is unknown.
    #[must_use]
    pub fn unacknowledged(&self) -> Vec<(u64, Bytes)> {
        let state = self.line.lock();
        let mut messages = state.unacknowledged();
        if let Some(message) = &self.waiting {
            let acknowledged = state.acknowledged();
            let first = acknowledged.map_or(0, |number| number.saturating_add(1));
            let number = first.saturating_add(messages.len() as u64);
            messages.push((number, message.clone()));
        }
        messages
    }

    /// Sends a message (1 byte to [`Publisher::max_message`]) and answers its number in the publication. Waits while too
    /// much is held ([`PublishOptions::backlog`]). Success means that the message is on its way; [`Publisher::flush`]
    /// tells when it has been acknowledged.
    ///
    /// # Errors
    /// [`ClientError::EmptyMessage`] and [`ClientError::MessageTooLarge`], after which the publication goes on;
    /// [`ClientError::Publication`] when it is over, [`ClientError::PublisherClosed`] behind [`Publisher::close`].
    ///
    /// # Cancel safety
    /// Dropping the future before it is ready leaves the message out, as a whole. The publication goes on.
    pub async fn send(&mut self, message: impl Into<Bytes>) -> Result<u64, ClientError> {
        let message = message.into();
        self.check(&message)?;
        poll_fn(|cx| self.poll_send(&message, Some(cx.waker()))).await
    }

    /// As [`Publisher::send`], without waiting.
    ///
    /// # Errors
    /// [`ClientError::BacklogFull`] instead of waiting: the message was not taken. Otherwise as [`Publisher::send`].
    pub fn try_send(&mut self, message: impl Into<Bytes>) -> Result<u64, ClientError> {
        let message = message.into();
        self.check(&message)?;
        match self.poll_send(&message, None) {
            Poll::Ready(result) => result,
            Poll::Pending => Err(self.full()),
        }
    }

    /// Waits until every message has been acknowledged. On a channel that parks its writers that takes as long as its
    /// readers do.
    ///
    /// # Errors
    /// [`ClientError::Publication`] when the publication ended before that.
    ///
    /// # Cancel safety
    /// Dropping the future stops the waiting only.
    pub async fn flush(&mut self) -> Result<(), ClientError> {
        poll_fn(|cx| self.poll_flushed(cx)).await
    }

    /// Waits until every message has been acknowledged, as [`Publisher::flush`], tells the server that no more come, and
    /// waits for its end of the publication. No message can be sent any more from the call on.
    ///
    /// # Errors
    /// [`ClientError::Publication`] when the publication ended before every message was acknowledged.
    ///
    /// # Cancel safety
    /// Dropping the future stops the waiting; call it again to go on.
    pub async fn close(&mut self) -> Result<(), ClientError> {
        poll_fn(|cx| self.poll_closed(cx)).await
    }

    /// Waits until the publication is over, and answers why: [`ClientError::Publication`] when the server ended it (the
    /// channel was deleted or drained), was restarted, or is lost for good; [`ClientError::PublisherClosed`] when
    /// [`Publisher::close`] did. A connection that is lost and made again does not end it.
    ///
    /// For publishers that have nothing to send for long times, and want to know at once:
    ///
    /// ```no_run
    /// # use selium_remote_client::{ClientError, Publisher};
    /// # use tokio::sync::mpsc;
    /// async fn forward(mut publisher: Publisher, mut input: mpsc::Receiver<String>) -> Result<(), ClientError> {
    ///     loop {
    ///         tokio::select! {
    ///             message = input.recv() => match message {
    ///                 Some(message) => drop(publisher.send(message).await?),
    ///                 None => return publisher.close().await,
    ///             },
    ///             end = publisher.ended() => return Err(end),
    ///         }
    ///     }
    /// }
    /// ```
    ///
    /// # Cancel safety
    /// Dropping the future stops the waiting only.
    pub async fn ended(&mut self) -> ClientError {
        poll_fn(|cx| self.poll_ended(cx)).await
    }

    fn check(&self, message: &Bytes) -> Result<(), ClientError> {
        if self.closing {
            return Err(ClientError::PublisherClosed);
        }
        let (limit, by) = self.longest;
        match message.len() {
            0 => Err(ClientError::EmptyMessage),
            length if length > limit => Err(ClientError::MessageTooLarge { length, limit, by }),
            _ => Ok(()),
        }
    }

    fn full(&self) -> ClientError {
        ClientError::BacklogFull {
            limit: self.backlog,
        }
    }

    /// Hands a message to the stream, or keeps it until there is one again. [`Gone`] when the publication is over.
    fn poll_push(&mut self, message: &Bytes, waker: Option<&Waker>) -> Poll<Result<u64, Gone>> {
        let mut state = self.line.lock();
        if state.over.is_none() {
            let push = state
                .held
                .with(|session, id| session.push(id, message, waker));
            match push {
                Ok(number) => return Poll::Ready(Ok(number)),
                Err(Refusal::Full) => return Poll::Pending,
                Err(Refusal::Over) => state.take_back(),
            }
        }
        if !state.goes_on() {
            return Poll::Ready(Err(Gone));
        }
        if let Some((publication, _)) = &mut state.over
            && let Ok(number) = publication.push(message.clone())
        {
            return Poll::Ready(Ok(number));
        }
        state.wait(waker);
        Poll::Pending
    }

    /// Gets a message of the sink that waits out of the way.
    fn poll_waiting(&mut self, waker: Option<&Waker>) -> Poll<Result<(), ClientError>> {
        let Some(message) = self.waiting.take() else {
            return Poll::Ready(Ok(()));
        };
        let polled = self.poll_push(&message, waker);
        if !matches!(polled, Poll::Ready(Ok(_))) {
            self.waiting = Some(message);
        }
        polled.map(|pushed| match pushed {
            Ok(_) => Ok(()),
            Err(Gone) => Err(self.failure()),
        })
    }

    /// Hands a message to the stream, behind one of the sink that waits.
    fn poll_send(
        &mut self,
        message: &Bytes,
        waker: Option<&Waker>,
    ) -> Poll<Result<u64, ClientError>> {
        ready!(self.poll_waiting(waker)?);
        let polled = self.poll_push(message, waker);
        polled.map(|pushed| pushed.map_err(|Gone| self.failure()))
    }

    fn poll_flushed(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ClientError>> {
        ready!(self.poll_waiting(Some(cx.waker()))?);
        let mut state = self.line.lock();
        if state.over.is_none() {
            let standing = state.standing(Some(cx.waker()));
            if standing.flushed {
                // Also told of the end of a stream that has nothing left to do.
                return Poll::Ready(Ok(()));
            }
            // It may be taken back by somebody else.
            state.wait(Some(cx.waker()));
            if !standing.over {
                return Poll::Pending;
            }
            state.take_back();
        }
        let over = state.over.as_ref();
        if over.is_some_and(|(publication, _)| publication.is_flushed()) {
            return Poll::Ready(Ok(()));
        }
        if state.goes_on() {
            state.wait(Some(cx.waker()));
            return Poll::Pending;
        }
        drop(state);
        Poll::Ready(Err(self.failure()))
    }

    fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ClientError>> {
        self.closing = true;
        ready!(self.poll_flushed(cx)?);
        let mut state = self.line.lock();
        if state.over.is_none() {
            if !std::mem::replace(&mut state.told, true) {
                state.held.with(|session, id| session.finish(id));
            }
            state.wait(Some(cx.waker()));
            if !state.standing(Some(cx.waker())).over {
                return Poll::Pending;
            }
            state.take_back();
        }
        // Whatever it ended with: every message was acknowledged.
        state.finish();
        Poll::Ready(Ok(()))
    }

    fn poll_ended(&mut self, cx: &mut Context<'_>) -> Poll<ClientError> {
        let mut state = self.line.lock();
        if state.finished {
            return Poll::Ready(ClientError::PublisherClosed);
        }
        // It may be taken back by somebody else.
        state.wait(Some(cx.waker()));
        if state.over.is_none() {
            if !state.standing(Some(cx.waker())).over {
                return Poll::Pending;
            }
            state.take_back();
        }
        if state.goes_on() {
            return Poll::Pending;
        }
        drop(state);
        Poll::Ready(self.failure())
    }

    /// The error of a publication that is over.
    fn failure(&self) -> ClientError {
        let kept = self.unacknowledged().len() as u64;
        let state = self.line.lock();
        let acknowledged = state.acknowledged();
        let first = acknowledged.map_or(0, |number| number.saturating_add(1));
        ClientError::Publication(Box::new(PublicationFailure {
            channel: self.channel,
            name: self.name.clone(),
            acknowledged,
            unknown: first..first.saturating_add(kept),
            cause: state.cause(),
        }))
    }
}

impl Sink<Bytes> for Publisher {
    type Error = ClientError;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), ClientError>> {
        self.get_mut().poll_waiting(Some(cx.waker()))
    }

    /// An empty message, and one that is too long, are errors after which the sink can be used on.
    fn start_send(self: Pin<&mut Self>, message: Bytes) -> Result<(), ClientError> {
        let this = self.get_mut();
        this.check(&message)?;
        if this.waiting.is_some() {
            return Err(this.full()); // It was not ready.
        }
        match this.poll_send(&message, None) {
            Poll::Ready(result) => result.map(drop),
            Poll::Pending => {
                this.waiting = Some(message);
                Ok(())
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), ClientError>> {
        self.get_mut().poll_flushed(cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), ClientError>> {
        self.get_mut().poll_closed(cx)
    }
}
