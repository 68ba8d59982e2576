//! Channels for tests: in memory, of one connection, without a limit but what a test sets.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use selium_remote_client_protocol::{
    ErrorCode, Payload, RemoteError, RequestId, SendError,
    ops::{
        Backpressure, ChannelInfo, ChannelList, ChannelState, Common, CreateRequest, FollowRequest,
        FollowStarted, ListChannelsRequest, LogState, ProcessRef, PublishRequest, PublishStarted,
        SubscribeRequest, SubscribeStarted, decode_target, op,
    },
    publish::Intake,
    server::{ServerConnection, ServerEvent, StreamKind},
};

use super::Application;

/// How many channels one answer lists.
const PAGE: usize = 3;

pub(crate) struct Channel {
    pub(crate) info: ChannelInfo,
    /// The number of the first message that is retained.
    first: u64,
    pub(crate) messages: VecDeque<Bytes>,
    /// Those that are not retained any more.
    pub(crate) forgotten: Vec<Bytes>,
}

impl Channel {
    fn next(&self) -> u64 {
        self.first + self.messages.len() as u64
    }
}

struct Subscription {
    channel: u64,
    cursor: u64,
    lossless: bool,
}

struct Publication {
    channel: u64,
    number: u64,
    ended: bool,
}

/// A message that was not taken yet.
struct Unread {
    stream: RequestId,
    seq: u64,
    payload: Payload,
    cost: usize,
}

/// The channels, who subscribes and who publishes.
#[derive(Default)]
pub(crate) struct Hub {
    pub(crate) channels: BTreeMap<u64, Channel>,
    created: u64,
    subscriptions: BTreeMap<RequestId, Subscription>,
    publications: BTreeMap<RequestId, Publication>,
    intakes: BTreeMap<u64, Intake>,
    /// Whether published messages are left unread.
    paused: bool,
    unread: VecDeque<Unread>,
    /// The common fields of each request, with its operation.
    pub(crate) asked: Vec<(u64, Common)>,
    /// Whether creates, deletes, drains and shares stay without an answer.
    pub(crate) mute: bool,
}

fn refused(code: ErrorCode, field: &str) -> RemoteError {
    RemoteError::new(code, "refused").with_field(field)
}

impl Hub {
    pub(crate) fn channel(&mut self, name: &str) -> &mut Channel {
        let mut channels = self.channels.values_mut();
        channels
            .find(|channel| channel.info.name == name)
            .expect("there is such a channel")
    }

    /// Open publications and subscriptions.
    pub(crate) fn streams(&self) -> usize {
        self.publications.len() + self.subscriptions.len()
    }

    /// Bytes of messages that came and were not taken.
    pub(crate) fn unread(&self) -> usize {
        self.unread.iter().map(|unread| unread.cost).sum()
    }

    /// Leaves what comes unread, or takes what was left and everything from now on.
    pub(crate) fn pause(&mut self, core: &mut ServerConnection, paused: bool) {
        self.paused = paused;
        if !paused {
            while self.take_one(core) {}
        }
    }

    /// Takes the oldest message that was left unread.
    pub(crate) fn take_one(&mut self, core: &mut ServerConnection) -> bool {
        let Some(unread) = self.unread.pop_front() else {
            return false;
        };
        if let Some(publication) = self.publications.get(&unread.stream) {
            let intake = self.intakes.entry(publication.number).or_default();
            let channel = self.channels.get_mut(&publication.channel);
            if let Some(channel) = channel.filter(|_| intake.take(unread.seq)) {
                channel.messages.push_back(unread.payload.into_bytes());
                channel.info.published += 1;
            }
            let drops = self
                .channels
                .get(&publication.channel)
                .is_some_and(|channel| channel.info.backpressure == Backpressure::Drop);
            core.acknowledge(unread.stream, unread.seq, drops);
        }
        core.consume(unread.stream, unread.cost);
        self.deliver(core);
        self.end_publications(core);
        true
    }

    /// Forgets all but the last messages of a channel.
    pub(crate) fn retain(&mut self, name: &str, count: usize) {
        let channel = self.channel(name);
        while channel.messages.len() > count {
            let oldest = channel.messages.pop_front();
            channel.forgotten.extend(oldest);
            channel.first += 1;
        }
    }

    /// Writes to a channel, as a guest would.
    pub(crate) fn write(&mut self, core: &mut ServerConnection, name: &str, message: Bytes) {
        self.channel(name).messages.push_back(message);
        self.deliver(core);
    }

    /// Ends a channel's publications.
    pub(crate) fn fail(&mut self, core: &mut ServerConnection, error: &RemoteError) {
        for id in std::mem::take(&mut self.publications).into_keys() {
            core.end(id, Some(error.clone()));
        }
    }

    /// Sends each subscriber what it has not got.
    fn deliver(&mut self, core: &mut ServerConnection) {
        self.subscriptions.retain(|id, subscription| {
            let Some(channel) = self.channels.get(&subscription.channel) else {
                let error = RemoteError::new(ErrorCode::Cancelled, "the channel was deleted");
                core.end(*id, Some(error));
                return false;
            };
            while subscription.cursor < channel.next() {
                if subscription.cursor < channel.first {
                    let missing = channel.first - subscription.cursor;
                    if core.gap(*id, channel.first, Some(missing)).is_err() {
                        return false; // It was cancelled, which is told in a moment.
                    }
                    subscription.cursor = channel.first;
                    continue;
                }
                let at = (subscription.cursor - channel.first) as usize;
                match core.send(*id, subscription.cursor, channel.messages[at].clone()) {
                    Ok(()) => subscription.cursor += 1,
                    Err(SendError::Full) => return true,
                    Err(SendError::NotOpen) => return false,
                    Err(error) => panic!("{error}"),
                }
            }
            let drained = channel.info.state == ChannelState::Draining;
            if drained {
                core.end(*id, None);
            }
            !drained
        });
    }

    /// Answers the END of the clients whose messages were all taken.
    fn end_publications(&mut self, core: &mut ServerConnection) {
        let unread = &self.unread;
        self.publications.retain(|id, publication| {
            let over = publication.ended && !unread.iter().any(|unread| unread.stream == *id);
            if over {
                core.end(*id, None);
            }
            !over
        });
    }

    fn find(&self, target: &str) -> Result<u64, RemoteError> {
        let mut channels = self.channels.values();
        channels
            .find(|channel| {
                channel.info.name == target || format!("{:016x}", channel.info.id) == target
            })
            .map(|channel| channel.info.id)
            .ok_or_else(|| refused(ErrorCode::NotFound, "target"))
    }

    fn told(&self, id: u64) -> Vec<u8> {
        let mut info = self.channels[&id].info.clone();
        let of = |lossless| move |s: &&Subscription| s.channel == id && s.lossless == lossless;
        info.lossless = self.subscriptions.values().filter(of(true)).count() as u64;
        info.lossy = self.subscriptions.values().filter(of(false)).count() as u64;
        let publications = self.publications.values();
        info.publishers = publications.filter(|p| p.channel == id).count() as u64;
        info.encode()
    }

    fn create(&mut self, body: &[u8]) -> Result<Vec<u8>, RemoteError> {
        let create = CreateRequest::decode(body)?;
        self.created += 1;
        // Ids that need all of their digits.
        let id = 0x0123_4567_0000_0000 + self.created;
        let name = create.name.unwrap_or_else(|| format!("c{}", self.created));
        if self.find(&name).is_ok() {
            return Err(refused(ErrorCode::AlreadyExists, "name"));
        }
        let mut info = ChannelInfo::default();
        info.id = id;
        info.name = name;
        info.capacity = create.capacity.next_power_of_two();
        info.backpressure = create.backpressure;
        let channel = Channel {
            info,
            first: 0,
            messages: VecDeque::new(),
            forgotten: Vec::new(),
        };
        self.channels.insert(id, channel);
        Ok(self.told(id))
    }

    fn change(
        &mut self,
        core: &mut ServerConnection,
        operation: u64,
        body: &[u8],
    ) -> Result<Vec<u8>, RemoteError> {
        let id = self.find(&decode_target(body)?)?;
        let channel = self.channels.get_mut(&id).expect("it was found");
        match operation {
            op::CHANNEL_DELETE => {
                channel.info.state = ChannelState::Deleted;
                let told = self.told(id);
                self.channels.remove(&id);
                self.close_to_writers(core, id, ErrorCode::NotFound, "the channel was deleted");
                self.deliver(core);
                return Ok(told);
            }
            op::CHANNEL_DRAIN => {
                channel.info.state = ChannelState::Draining;
                self.close_to_writers(core, id, ErrorCode::Unavailable, "the channel drains");
                self.deliver(core);
            }
            op::CHANNEL_SHARE => channel.info.shared = true,
            _ => {}
        }
        Ok(self.told(id))
    }

    fn close_to_writers(
        &mut self,
        core: &mut ServerConnection,
        channel: u64,
        code: ErrorCode,
        why: &str,
    ) {
        self.publications.retain(|id, publication| {
            let over = publication.channel == channel;
            if over {
                core.end(*id, Some(RemoteError::new(code, why)));
            }
            !over
        });
    }

    fn list(&self, body: &[u8]) -> Result<Vec<u8>, RemoteError> {
        let request = ListChannelsRequest::decode(body)?;
        let mut list = ChannelList::default();
        let mut behind = self
            .channels
            .values()
            .filter(|channel| channel.info.id > request.cursor);
        list.channels
            .extend(behind.by_ref().take(PAGE).map(|c| c.info.clone()));
        let last = list.channels.last().map(|info| info.id);
        list.next = behind.next().and(last);
        Ok(list.encode())
    }

    fn subscribe(&mut self, body: &[u8]) -> Result<(Vec<u8>, Subscription), RemoteError> {
        let request = SubscribeRequest::decode(body)?;
        let id = self.find(&request.target)?;
        let channel = &self.channels[&id];
        if request.lossless && channel.info.backpressure == Backpressure::Drop {
            return Err(refused(ErrorCode::InvalidArgument, "lossless"));
        }
        let next = channel.next();
        let tail = request.tail.map(|tail| next.saturating_sub(tail));
        let tail = tail.map(|tail| tail.max(channel.first));
        let started = SubscribeStarted::new(id, channel.info.name.clone(), channel.first, next);
        let subscription = Subscription {
            channel: id,
            cursor: request.since.max(tail).unwrap_or(next),
            lossless: request.lossless,
        };
        Ok((started.encode(), subscription))
    }

    fn publish(&mut self, body: &[u8]) -> Result<(Vec<u8>, Publication), RemoteError> {
        let request = PublishRequest::decode(body)?;
        let id = self.find(&request.target)?;
        let info = &self.channels[&id].info;
        if info.state != ChannelState::Open {
            return Err(refused(ErrorCode::Unavailable, "target"));
        }
        let number = request.publication;
        let mut started =
            PublishStarted::new(id, info.name.clone(), info.capacity, info.backpressure);
        match (request.resume, self.intakes.get(&number)) {
            (true, None) => return Err(refused(ErrorCode::OutcomeUnknown, "publication")),
            (false, None) => drop(self.intakes.insert(number, Intake::default())),
            // Also asked for again without an answer.
            (_, Some(intake)) => {
                started.last = intake.last();
                assert!(
                    request.resume || started.last.is_none(),
                    "{number} is used once"
                );
            }
        }
        let publication = Publication {
            channel: id,
            number,
            ended: false,
        };
        Ok((started.encode(), publication))
    }

    /// Follows the channel with the process's name, as if it were its log.
    pub(crate) fn follow(&mut self, core: &mut ServerConnection, stream: RequestId, body: &[u8]) {
        let request = FollowRequest::decode(body).unwrap();
        let id = match self.find(&request.target) {
            Ok(id) => id,
            Err(error) => return core.respond(stream, Err(error)),
        };
        let channel = &self.channels[&id];
        let process = ProcessRef::new(id, channel.info.name.clone());
        let started =
            FollowStarted::new(process, channel.first, channel.next(), LogState::Attached);
        let subscription = Subscription {
            channel: id,
            cursor: request.since.unwrap_or(0),
            lossless: false,
        };
        if core
            .respond_stream(stream, started.encode(), StreamKind::ToClient)
            .is_ok()
        {
            self.subscriptions.insert(stream, subscription);
            self.deliver(core);
        }
    }

    /// Forgets the streams of a connection that is over, and what it had not taken of them.
    pub(crate) fn disconnected(&mut self) {
        self.subscriptions.clear();
        self.publications.clear();
        self.unread.clear();
    }

    /// Takes no messages from now on.
    pub(crate) fn hold(&mut self) {
        self.paused = true;
    }

    /// Forgets which publications there were.
    pub(crate) fn forget(&mut self) {
        self.intakes.clear();
    }

    pub(crate) fn request(
        &mut self,
        core: &mut ServerConnection,
        id: RequestId,
        operation: u64,
        body: &[u8],
    ) {
        self.asked.push((operation, Common::decode(body).unwrap()));
        let result = match operation {
            op::CHANNEL_CREATE..=op::CHANNEL_DRAIN | op::CHANNEL_SHARE if self.mute => return,
            op::CHANNEL_CREATE => self.create(body),
            op::CHANNEL_LIST => self.list(body),
            op::CHANNEL_DELETE..=op::CHANNEL_SHARE => self.change(core, operation, body),
            op::SUBSCRIBE => match self.subscribe(body) {
                Ok((started, subscription)) => {
                    if core
                        .respond_stream(id, started, StreamKind::ToClient)
                        .is_ok()
                    {
                        self.subscriptions.insert(id, subscription);
                        self.deliver(core);
                    }
                    return;
                }
                Err(error) => Err(error),
            },
            op::PUBLISH => match self.publish(body) {
                Ok((started, publication)) => {
                    if core
                        .respond_stream(id, started, StreamKind::ToServer)
                        .is_ok()
                    {
                        self.publications.insert(id, publication);
                    }
                    return;
                }
                Err(error) => Err(error),
            },
            _ => Err(refused(ErrorCode::Unsupported, "operation")),
        };
        core.respond(id, result);
    }
}

impl Application for Hub {
    fn event(&mut self, core: &mut ServerConnection, event: ServerEvent) {
        match event {
            ServerEvent::Request { id, op, body } => self.request(core, id, op, &body),
            ServerEvent::Cancelled { id, .. } | ServerEvent::Reset { id, .. } => {
                self.publications.remove(&id);
                self.subscriptions.remove(&id);
            }
            ServerEvent::Message {
                id,
                seq,
                payload,
                cost,
            } => {
                self.unread.push_back(Unread {
                    stream: id,
                    seq,
                    payload,
                    cost,
                });
                if !self.paused {
                    self.take_one(core);
                }
            }
            ServerEvent::Ended { id } => {
                if let Some(publication) = self.publications.get_mut(&id) {
                    publication.ended = true;
                }
                self.end_publications(core);
            }
            ServerEvent::Room { .. } => self.deliver(core),
            _ => {}
        }
    }
}
