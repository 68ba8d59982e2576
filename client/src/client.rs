//! The client: what can be asked of a server.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use bytes::Bytes;
use selium_remote_client_protocol::{
    Weight,
    client::StreamKind,
    fields::FieldError,
    limits::MAX_TARGET,
    ops::{
        ChannelInfo, ChannelList, CreateRequest, DeleteRequest, DrainRequest, FollowRequest,
        FollowStarted, InfoRequest, InspectChannelRequest, InspectRequest, ListChannelsRequest,
        ListRequest, ProcessInfo, ProcessList, ProcessRef, PublishRequest, PublishStarted,
        ServerInfo, ShareRequest, StartRequest, StopRequest, SubscribeStarted, op,
    },
};

use crate::{
    Channel, ClientConfigBuilder, ClientError, ConnectionEvents, ConnectionState, LogOptions,
    LogStream, Process, PublishOptions, Publisher, Server, SubscribeOptions, Subscriber,
    call::{Ask, Held, Inner},
    config::MAX_TIMEOUT,
    spans::About,
    start::check,
};

/// The most processes, or channels, that one call lists. A server that lists more does not mean it well.
const MAX_LISTED: usize = 100_000;

/// A connection to a server, which is made again when it is lost ([`Reconnect`](crate::Reconnect)). Cheap to clone;
/// clones share it.
///
/// When the last clone and everything that was made with it is dropped, the connection is closed with a goodbye in the
/// background; [`Client::close`] also waits for it.
#[derive(Clone, Debug)]
pub struct Client {
    inner: Arc<Inner>,
    timeout: Duration,
}

fn check_target(target: &str) -> Result<String, ClientError> {
    check("target", target, MAX_TARGET)?;
    Ok(target.to_owned())
}

impl Client {
    pub(crate) fn new(inner: Inner, timeout: Duration) -> Self {
        Self {
            inner: Arc::new(inner),
            timeout,
        }
    }

    /// Connects with the defaults of [`ClientConfigBuilder`].
    ///
    /// # Errors
    /// As [`ClientConfigBuilder::connect`].
    ///
    /// # Cancel safety
    /// As [`ClientConfigBuilder::connect`].
    pub async fn connect() -> Result<Client, ClientError> {
        ClientConfigBuilder::default().connect().await
    }

    /// This client with another request timeout: for single calls, and for what is made with it. At most
    /// [`MAX_TIMEOUT`]. The connection is the same.
    ///
    /// ```no_run
    /// # async fn example(client: &selium_remote_client::Client) -> Result<(), selium_remote_client::ClientError> {
    /// use std::time::Duration;
    ///
    /// let processes = client.with_timeout(Duration::from_secs(2)).processes(false).await?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn with_timeout(&self, timeout: Duration) -> Client {
        Self {
            inner: Arc::clone(&self.inner),
            timeout: timeout.min(MAX_TIMEOUT),
        }
    }

    /// How long each request may take.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// What the server said of itself when the latest connection was made.
    #[must_use]
    pub fn server(&self) -> Arc<Server> {
        self.inner.board.server()
    }

    /// How the client stands to its server.
    #[must_use]
    pub fn state(&self) -> ConnectionState {
        self.inner.board.state()
    }

    /// What happens to the connection from now on. When there is one, the first event says so.
    #[must_use]
    pub fn events(&self) -> ConnectionEvents {
        self.inner.board.listen()
    }

    /// Until when the certificate is valid that the client showed when the latest connection was made; nothing if that
    /// cannot be told. Certificates are read anew for each connection: a renewed one counts from the next on.
    #[must_use]
    pub fn credentials_expire_at(&self) -> Option<SystemTime> {
        self.inner.board.expires()
    }

    /// Whether the client is over: closed, or its connection was lost and is not made again. Every request fails then
    /// with an error that says why ([`ClientError::Closed`], [`ClientError::GaveUp`]).
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.state() == ConnectionState::Closed
    }

    /// The server's counters (PROTOCOL.md, "Operations").
    ///
    /// # Errors
    /// As all requests: [`ClientError::Remote`], [`ClientError::Expired`], [`ClientError::NotConnected`] while the
    /// connection is being made again, [`ClientError::Closed`] and [`ClientError::GaveUp`] when it is not any more.
    ///
    /// # Cancel safety
    /// Dropping the future gives the request up.
    pub async fn info(&self) -> Result<ServerInfo, ClientError> {
        self.ask(&InfoRequest, false, ServerInfo::decode).await
    }

    /// The time from here through the server's module and back (PROTOCOL.md, "A connection's life").
    ///
    /// While a ping is on its way, more calls wait for its answer instead of sending another.
    ///
    /// # Errors
    /// [`ClientError::Expired`], [`ClientError::Closed`], and [`ClientError::Exhausted`] when 1,024 calls wait.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing else.
    pub async fn ping(&self) -> Result<Duration, ClientError> {
        self.inner.ping(self.timeout).await
    }

    /// The processes that the server knows, in the order of their starts; stopped ones too when `all` is set
    /// (PROTOCOL.md, "Operations").
    ///
    /// A long list comes in several answers: processes that start or stop in between may or may not be in it.
    ///
    /// # Errors
    /// As all requests. The request timeout covers the whole list.
    ///
    /// # Cancel safety
    /// Dropping the future gives the request up.
    pub async fn processes(&self, all: bool) -> Result<Vec<ProcessInfo>, ClientError> {
        let request = ListRequest::with(|made| {
            made.all = all;
        });
        self.list(
            request,
            |request| &mut request.cursor,
            |body| ProcessList::decode(body).map(|list| (list.processes, list.next)),
        )
        .await
    }

    /// Asks for a list, answer by answer. The request timeout covers the whole.
    async fn list<R: About, T>(
        &self,
        mut request: R,
        cursor: impl Fn(&mut R) -> &mut u64,
        decode: impl Fn(&[u8]) -> Result<(Vec<T>, Option<u64>), FieldError>,
    ) -> Result<Vec<T>, ClientError> {
        let started = Instant::now();
        let mut listed = Vec::new();
        let mut incarnation = None;
        loop {
            let after = self.timeout;
            let ask = Ask::new(false, after.saturating_sub(started.elapsed()));
            let answer = self.inner.call(&request, ask).await;
            let (body, held) = answer.map_err(|error| match error {
                // The time for the whole is what was configured.
                ClientError::Expired {
                    operation,
                    changing,
                    request,
                    ..
                } => ClientError::Expired {
                    operation,
                    changing,
                    after,
                    request,
                },
                ClientError::NotConnected { operation, .. } => {
                    ClientError::NotConnected { operation, after }
                }
                error => error,
            })?;
            let answered_by = held.connection.server.incarnation;
            if *incarnation.get_or_insert(answered_by) != answered_by {
                // The cursor means nothing to a server that was restarted.
                incarnation = None;
                listed.clear();
                *cursor(&mut request) = 0;
                continue;
            }
            let (more, next) = held.read(R::OP, &body, &decode)?;
            listed.extend(more);
            let cursor = cursor(&mut request);
            match next {
                None => return Ok(listed),
                Some(next) if next > *cursor && listed.len() < MAX_LISTED => *cursor = next,
                Some(_) => return Err(held.unreadable(R::OP, None)),
            }
        }
    }

    /// What the server knows of a process (PROTOCOL.md, "Operations"). `target` is its id (16 hexadecimal digits), a part of the id from its
    /// beginning that no other process shares, or its name; at most 128 bytes.
    ///
    /// # Errors
    /// [`ClientError::Remote`] when there is no such process, or more than one.
    ///
    /// # Cancel safety
    /// Dropping the future gives the request up.
    pub async fn inspect(&self, target: &str) -> Result<ProcessInfo, ClientError> {
        let target = check_target(target)?;
        let request = InspectRequest::with(|request| request.target = target);
        self.ask(&request, false, ProcessInfo::decode).await
    }

    /// The process that `target` means (as in [`Client::inspect`]).
    ///
    /// # Errors
    /// As [`Client::inspect`].
    ///
    /// # Cancel safety
    /// As [`Client::inspect`].
    pub async fn process(&self, target: &str) -> Result<Process, ClientError> {
        let info = self.inspect(target).await?;
        Ok(Process::of(self, ProcessRef::new(info.id, info.name)))
    }

    /// Stops the process that `target` means (as in [`Client::inspect`]) and answers which one it was. Success means
    /// that the runtime was asked to stop it and agreed (PROTOCOL.md, "Operations").
    ///
    /// # Errors
    /// [`ClientError::Remote`] when there is no such process or the runtime refuses. When [`ClientError::is_outcome_unknown`] says so, it may have been stopped.
    ///
    /// # Cancel safety
    /// Dropping the future asks the server to give the stop up; once that has reached the runtime, it happens.
    pub async fn stop(&self, target: &str) -> Result<Process, ClientError> {
        let target = check_target(target)?;
        let request = StopRequest::with(|request| request.target = target);
        let process = self.ask(&request, true, ProcessRef::decode).await?;
        Ok(Process::of(self, process))
    }

    /// The log of the process that `target` means (as in [`Client::inspect`]), as the options say (PROTOCOL.md,
    /// "Operations"). The process is not looked up before: a role needs the permission for logs and no other.
    ///
    /// ```no_run
    /// # async fn example(client: &selium_remote_client::Client) -> Result<(), selium_remote_client::ClientError> {
    /// use selium_remote_client::{LogItem, LogOptions};
    ///
    /// let mut log = client.logs("hello", LogOptions::new().tail(10)).await?;
    /// println!("the log of {} ({})", log.name(), log.process());
    /// while let Some(item) = log.next().await {
    ///     if let LogItem::Record { record, .. } = item? {
    ///         println!("{} {}", record.level, record.message);
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`ClientError::Remote`] when there is no such process, or more than one, when it can have no log, or when there is
    /// no room for another stream.
    ///
    /// # Cancel safety
    /// Dropping the future gives the stream up.
    pub async fn logs(&self, target: &str, options: LogOptions) -> Result<LogStream, ClientError> {
        let request: FollowRequest = options.request(check_target(target)?);
        let (body, held, ask) = self.open(&request, None).await?;
        let started = held.read(op::LOG_FOLLOW, &body, FollowStarted::decode)?;
        Ok(LogStream::new(held, ask, started, options))
    }

    /// The channels that the server knows, in the order of their creation (PROTOCOL.md, "Operations").
    ///
    /// A long list comes in several answers: channels that are created or deleted in between may or may not be in it.
    ///
    /// # Errors
    /// As all requests. The request timeout covers the whole list.
    ///
    /// # Cancel safety
    /// Dropping the future gives the request up.
    pub async fn channels(&self) -> Result<Vec<ChannelInfo>, ClientError> {
        self.list(
            ListChannelsRequest::default(),
            |request| &mut request.cursor,
            |body| ChannelList::decode(body).map(|list| (list.channels, list.next)),
        )
        .await
    }

    /// What the server knows of a channel (PROTOCOL.md, "Operations"). `target` is its id (16 hexadecimal digits), a part of the id from its
    /// beginning that no other channel shares, or its name; at most 128 bytes.
    ///
    /// # Errors
    /// [`ClientError::Remote`] when there is no such channel, or more than one.
    ///
    /// # Cancel safety
    /// Dropping the future gives the request up.
    pub async fn inspect_channel(&self, target: &str) -> Result<ChannelInfo, ClientError> {
        let target = check_target(target)?;
        let request = InspectChannelRequest::with(|request| request.target = target);
        self.channel(&request, false).await
    }

    /// Deletes the channel that `target` means (as in [`Client::inspect_channel`]), for everybody, and answers what it
    /// was: its subscriptions end, and its publications fail (PROTOCOL.md, "Operations").
    ///
    /// # Errors
    /// [`ClientError::Remote`] when there is no such channel or the server refuses. When [`ClientError::is_outcome_unknown`] says so, it may have been deleted.
    ///
    /// # Cancel safety
    /// Dropping the future asks the server to give the deletion up; once that has reached the runtime, it happens.
    pub async fn delete_channel(&self, target: &str) -> Result<ChannelInfo, ClientError> {
        let target = check_target(target)?;
        let request = DeleteRequest::with(|request| request.target = target);
        self.channel(&request, true).await
    }

    /// Lets the channel that `target` means (as in [`Client::inspect_channel`]) take no new messages: its publications
    /// fail, and its subscriptions end when everything was read (PROTOCOL.md, "Operations"). Draining
    /// twice is no error.
    ///
    /// # Errors
    /// [`ClientError::Remote`] when there is no such channel or the server refuses. When [`ClientError::is_outcome_unknown`] says so, it may drain.
    ///
    /// # Cancel safety
    /// Dropping the future asks the server to give that up; once it has reached the runtime, it happens.
    pub async fn drain_channel(&self, target: &str) -> Result<ChannelInfo, ClientError> {
        let target = check_target(target)?;
        let request = DrainRequest::with(|request| request.target = target);
        self.channel(&request, true).await
    }

    /// Makes the channel that `target` means (as in [`Client::inspect_channel`]) one that processes can be given. A
    /// start that names it as an argument does so by itself (PROTOCOL.md, "Operations").
    ///
    /// # Errors
    /// [`ClientError::Remote`] when there is no such channel or the server refuses. When [`ClientError::is_outcome_unknown`] says so, it may be shared.
    ///
    /// # Cancel safety
    /// Dropping the future asks the server to give that up; once it has reached the runtime, it happens.
    pub async fn share_channel(&self, target: &str) -> Result<ChannelInfo, ClientError> {
        let target = check_target(target)?;
        let request = ShareRequest::with(|request| request.target = target);
        self.channel(&request, true).await
    }

    /// Publishes to the channel that `target` means (as in [`Client::inspect_channel`]; PROTOCOL.md, "Messages").
    ///
    /// # Errors
    /// [`ClientError::Remote`] when there is no such channel, it takes no messages, or there is no room for another
    /// stream.
    ///
    /// # Cancel safety
    /// Dropping the future gives the publication up. Nothing was published.
    pub async fn publish(
        &self,
        target: &str,
        options: PublishOptions,
    ) -> Result<Publisher, ClientError> {
        let target = check_target(target)?;
        let request = PublishRequest::with(|request| {
            request.target = target;
            request.publication = self.inner.publication();
        });
        let ask =
            Ask::new(false, self.timeout).stream(StreamKind::ToServer, options.stream_weight());
        let (body, held) = self.inner.call(&request, ask).await?;
        let started = held.read(op::PUBLISH, &body, PublishStarted::decode)?;
        Publisher::new(held, ask, request, started, options)
    }

    /// Subscribes to the channel that `target` means (as in [`Client::inspect_channel`]; PROTOCOL.md, "Operations").
    ///
    /// # Errors
    /// [`ClientError::Remote`] when there is no such channel, it drops and is to be subscribed without loss, or there is
    /// no room for another stream; [`ClientError::InvalidArgument`] for a longest message of 0 bytes.
    ///
    /// # Cancel safety
    /// Dropping the future gives the subscription up. What was on its way is lost to it, and to nobody else.
    pub async fn subscribe(
        &self,
        target: &str,
        options: SubscribeOptions,
    ) -> Result<Subscriber, ClientError> {
        let (request, weight) = options.request(check_target(target)?)?;
        let (body, held, ask) = self.open(&request, weight).await?;
        let started = held.read(op::SUBSCRIBE, &body, SubscribeStarted::decode)?;
        Ok(Subscriber::new(held, ask, request, started, options))
    }

    /// Closes the connection for all clones (PROTOCOL.md, "A connection's life"): says goodbye, and waits (for about 1 s at most) until the server has it.
    /// Requests that are waiting fail with [`ClientError::Closed`]. No other connection is made; while one is being made,
    /// that is given up at once.
    ///
    /// # Cancel safety
    /// Dropping the future stops the waiting only.
    pub async fn close(self) {
        if let Some(connection) = self.inner.board.close() {
            let link = connection.link().clone();
            link.with(|session, _| session.close());
            link.over().await;
        }
    }

    pub(crate) async fn start(&self, request: &StartRequest) -> Result<Process, ClientError> {
        let process = self.ask(request, true, ProcessRef::decode).await?;
        Ok(Process::of(self, process))
    }

    pub(crate) async fn create_channel(
        &self,
        request: &CreateRequest,
    ) -> Result<Channel, ClientError> {
        let info = self.channel(request, true).await?;
        Ok(Channel::of(self, info))
    }

    /// Asks for something that is answered with a channel.
    async fn channel<R: About>(
        &self,
        request: &R,
        changing: bool,
    ) -> Result<ChannelInfo, ClientError> {
        self.ask(request, changing, ChannelInfo::decode).await
    }

    async fn ask<R: About, T>(
        &self,
        request: &R,
        changing: bool,
        decode: impl FnOnce(&[u8]) -> Result<T, FieldError>,
    ) -> Result<T, ClientError> {
        let ask = Ask::new(changing, self.timeout);
        let (body, held) = self.inner.call(request, ask).await?;
        held.read(R::OP, &body, decode)
    }

    /// Opens a stream from the server.
    async fn open<R: About>(
        &self,
        request: &R,
        weight: Option<Weight>,
    ) -> Result<(Bytes, Held, Ask), ClientError> {
        let ask = Ask::new(false, self.timeout).stream(StreamKind::ToClient, weight);
        let (body, held) = self.inner.call(request, ask).await?;
        Ok((body, held, ask))
    }
}
