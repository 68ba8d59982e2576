//! Subscriptions to channels.

use std::collections::BTreeSet;

use selium_remote_client_protocol::{
    ErrorCode, RemoteError, RequestId, SendError,
    ops::{Backpressure, ChannelState, Common, SubscribeRequest, SubscribeStarted, op},
    server::StreamKind,
};

use crate::{
    channel_ops::What,
    connection::{ConnectionId, Waited},
    failure,
    feed::{Fed, feed},
    host::{HostCall, ReaderId},
    policy::Permission,
    ring::Entry,
    server::{Server, Waiter},
    topic::{Kind, Pace, Rest, Topic, TopicId},
};

/// How often a subscriber that writers wait for is looked at before it is ended.
const LOOKS: u32 = 120;

impl Server {
    pub(crate) fn subscribe(
        &mut self,
        waiter: Waiter,
        common: &Common,
        body: &[u8],
    ) -> Result<(), RemoteError> {
        let request = SubscribeRequest::decode(body)?;
        let (permission, kind) = if request.lossless {
            (Permission::SubscribeLossless, Kind::Lossless)
        } else {
            (Permission::Subscribe, Kind::Lossy)
        };
        // Before anything is looked up.
        if let Err(error) = self.allow(self.role_of(waiter.0), permission) {
            self.record_refusal(waiter, op::SUBSCRIBE, body, &error);
            return Err(error);
        }
        let channel = self.channels.all.find(&request.target)?;
        if request.lossless && channel.backpressure == Backpressure::Drop {
            let message = format!(
                "the channel `{}` drops messages: it can have no lossless subscribers",
                channel.name
            );
            let error = RemoteError::new(ErrorCode::InvalidArgument, message);
            return Err(error.with_field("lossless"));
        }
        let (shown, name) = (channel.id, channel.name.clone());
        let id = TopicId {
            channel: channel.ordinal,
            kind,
        };
        // What was written while nobody read may be missing: before this subscriber, so that it is not told of it unless
        // it asks for what was before. While the old reader is still closing it may also miss what comes now: then the mark
        // stands behind its beginning.
        self.change_topic(id, |topic| {
            if topic.is_closed() {
                topic.mark_break();
            }
        });
        let Some(topic) = self.channels.topic_mut(id) else {
            return Ok(());
        };
        let (first, next) = (topic.ring().first(), topic.ring().next());
        let (connection, stream) = waiter;
        let Some(known) = self.connections.get_mut(&connection) else {
            return Ok(());
        };
        let started = SubscribeStarted::new(shown, name, first, next).encode();
        match known
            .core
            .respond_stream(stream, started, StreamKind::ToClient)
        {
            Ok(()) => {}
            Err(SendError::Full) => {
                // It was answered with the same.
                let message = "as many streams are open as this connection may have";
                let error = RemoteError::new(ErrorCode::ResourceExhausted, message);
                self.record_refusal(waiter, op::SUBSCRIBE, body, &error);
                return Ok(());
            }
            Err(_) => return Ok(()),
        }
        let weight = common.weight.unwrap_or_default();
        known.core.set_weight(stream, weight);
        known.subscriptions.insert(stream, id);
        topic.join(waiter, request.tail, request.since);
        self.lingering.clear(id);
        self.open_reader(id);
        self.pump_subscriber(connection, stream);
        Ok(())
    }

    /// Changes a source, and counts by how much its ring has grown.
    fn change_topic<T>(
        &mut self,
        id: TopicId,
        change: impl FnOnce(&mut Topic<Waiter>) -> T,
    ) -> Option<T> {
        let topic = self.channels.topic_mut(id)?;
        let before = topic.ring().bytes();
        let result = change(topic);
        let after = topic.ring().bytes();
        self.topic_bytes = self
            .topic_bytes
            .saturating_sub(before)
            .saturating_add(after);
        Some(result)
    }

    /// Opens a source's reader, if somebody waits for one and the last one is gone.
    pub(crate) fn open_reader(&mut self, id: TopicId) {
        let Some(channel) = self.channels.all.get(id.channel) else {
            return;
        };
        if !channel.topic(id.kind).wants_reader() {
            return;
        }
        let channel = channel.host;
        self.last_reader += 1;
        let reader = ReaderId(self.last_reader);
        self.change_topic(id, |topic| topic.opened(reader));
        self.readers.insert(reader, id);
        // Its first message may be hidden as well.
        self.quiet_readers.touched(reader, self.now);
        self.calls.push_back(HostCall::OpenReader {
            reader,
            channel,
            lossless: id.kind == Kind::Lossless,
        });
    }

    fn close_reader(&mut self, id: TopicId) {
        self.lingering.clear(id);
        let topic = self.channels.topic_mut(id);
        if let Some(reader) = topic.and_then(Topic::close) {
            self.quiet_readers.remove(reader);
            self.calls.push_back(HostCall::CloseReader { reader });
        }
    }

    /// Closes readers that nobody has needed for a while.
    pub(crate) fn close_lingering(&mut self) {
        while let Some(id) = self.lingering.pop(self.now) {
            self.close_reader(id);
        }
    }

    /// Looks after the lossless subscribers that writers wait for: those that have taken nothing for too long, not a byte,
    /// are ended. What they take shows in what waits on their streams; it is looked at from time to time, because a write
    /// to a connection knows no time.
    pub(crate) fn end_stalled(&mut self) {
        while let Some(waiter) = self.stalled.pop(self.now) {
            let (id, request) = waiter;
            let limit = self.config.stalled_subscriber;
            let Some(connection) = self.connections.get_mut(&id) else {
                continue;
            };
            let queued = connection.core.queued_on(request);
            let Some(waited) = connection.waited_for.get_mut(&request) else {
                continue;
            };
            let took = queued < core::mem::replace(&mut waited.queued, queued);
            let since = waited.since.filter(|_| !took).unwrap_or(self.now);
            waited.since = Some(since);
            if self.now.saturating_since(since) < limit {
                let next = self.now.saturating_add(limit / LOOKS);
                self.stalled.set(waiter, next);
                continue;
            }
            let message = format!(
                "the subscriber has taken nothing for {} s while the channel had no room for more, and writers wait for it",
                limit.as_secs_f64()
            );
            let error = RemoteError::new(ErrorCode::ResourceExhausted, message);
            connection.waited_for.remove(&request);
            connection.core.reset(request, error);
            self.ready.insert(id);
            self.drop_subscriber(waiter);
        }
    }

    /// Writers wait for a subscriber from now on, or it has taken something.
    fn waits_for(&mut self, waiter: Waiter) {
        if self.config.unix_origin_ms.is_none() {
            return;
        }
        let Some(connection) = self.connections.get_mut(&waiter.0) else {
            return;
        };
        let waited = Waited {
            queued: usize::MAX,
            since: None,
        };
        connection.waited_for.insert(waiter.1, waited);
        if !self.stalled.has(waiter) {
            let next = self
                .now
                .saturating_add(self.config.stalled_subscriber / LOOKS);
            self.stalled.set(waiter, next);
        }
    }

    /// Writers do not wait for a subscriber.
    fn waits_not(&mut self, waiter: Waiter) {
        if self.stalled.has(waiter) {
            self.stalled.clear(waiter);
            if let Some(connection) = self.connections.get_mut(&waiter.0) {
                connection.waited_for.remove(&waiter.1);
            }
        }
    }

    /// A lossless source has no room for more: writers wait for those who have not got everything.
    fn source_is_full(&mut self, id: TopicId) {
        let behind = self.channels.topic_mut(id).map(|topic| topic.behind());
        for waiter in behind.unwrap_or_default() {
            self.waits_for(waiter);
        }
    }

    /// It has room again.
    fn source_has_room(&mut self, id: TopicId) {
        let all = self.channels.topic_mut(id).map(|topic| topic.subscribers());
        for waiter in all.unwrap_or_default() {
            self.waits_not(waiter);
        }
    }

    /// A reader has brought something.
    pub(crate) fn read(&mut self, reader: ReaderId, entry: Entry) {
        let Some(id) = self.readers.get(&reader).copied() else {
            return;
        };
        let pushed = self.change_topic(id, |topic| {
            // What a reader brings that was closed belongs to what is missing.
            let is_read = topic.reader() == Some(reader);
            if is_read {
                topic.push(entry);
            }
            (is_read, topic.is_reading())
        });
        let Some((true, is_reading)) = pushed else {
            return;
        };
        if is_reading {
            self.quiet_readers.touched(reader, self.now);
        }
        self.pump_topic(id);
    }

    /// A reader is gone.
    pub(crate) fn reader_ended(&mut self, reader: ReaderId, error: Option<String>) {
        let Some(id) = self.readers.remove(&reader) else {
            return;
        };
        self.quiet_readers.remove(reader);
        self.lingering.clear(id);
        let is_deleting = self.is_changing(id.channel, What::Delete);
        let is_draining = self.is_changing(id.channel, What::Drain);
        let Some(channel) = self.channels.all.get_mut(id.channel) else {
            return;
        };
        let drained = channel.state == ChannelState::Draining;
        let name = channel.name.clone();
        let topic = channel.topic_mut(id.kind);
        if topic.ended() {
            // Who came in the meantime gets a new one.
            self.open_reader(id);
            return;
        }
        let error = match error {
            Some(words) if !is_deleting => failure::read(&name, &words),
            None if !is_deleting && !is_draining && !drained => {
                failure::read(&name, "the reader ended")
            }
            _ => {
                let all_read = drained && !is_deleting;
                topic.rest = if all_read { Rest::None } else { Rest::Unknown };
                self.pump_topic(id);
                return;
            }
        };
        self.end_subscribers(id, &error);
    }

    /// Ends all subscriptions to a source.
    pub(crate) fn end_subscribers(&mut self, id: TopicId, error: &RemoteError) {
        let waiters = self.channels.topic_mut(id).map(|topic| topic.subscribers());
        for waiter in waiters.unwrap_or_default() {
            if let Some(connection) = self.connections.get_mut(&waiter.0) {
                connection.core.end(waiter.1, Some(error.clone()));
                self.ready.insert(waiter.0);
            }
            self.drop_subscriber(waiter);
        }
    }

    /// Forgets a source whose channel the host has deleted; its reader ends by itself.
    pub(crate) fn forget_topic(&mut self, id: TopicId) {
        let Some(topic) = self.channels.topic_mut(id) else {
            return;
        };
        self.topic_bytes = self.topic_bytes.saturating_sub(topic.ring().bytes());
        if let Some(reader) = topic.reader() {
            self.quiet_readers.remove(reader);
        }
        self.readers.retain(|_, topic| *topic != id);
        self.lingering.clear(id);
    }

    /// Forgets a subscriber.
    pub(crate) fn drop_subscriber(&mut self, waiter: Waiter) {
        let connection = self.connections.get_mut(&waiter.0);
        let id = connection.and_then(|known| known.subscriptions.remove(&waiter.1));
        if let Some(id) = id {
            self.unsubscribe(id, waiter);
        }
    }

    /// The same when its connection has forgotten it already.
    pub(crate) fn unsubscribe(&mut self, id: TopicId, waiter: Waiter) {
        self.waits_not(waiter);
        let topic = self.channels.topic_mut(id);
        let was_last = topic.is_some_and(|topic| topic.leave(waiter));
        if was_last {
            // Writers wait for a lossless reader; a lossy one may stay for who comes back.
            if id.kind == Kind::Lossy && self.config.unix_origin_ms.is_some() {
                let at = self.now.saturating_add(self.config.reader_grace);
                self.lingering.set(id, at);
            } else {
                self.close_reader(id);
            }
        }
        self.settle_topic(id);
    }

    /// Sends what is new to everyone who subscribes to a source.
    pub(crate) fn pump_topic(&mut self, id: TopicId) {
        let waiters = self.channels.topic_mut(id).map(|topic| topic.subscribers());
        for (connection, request) in waiters.unwrap_or_default() {
            self.feed_subscriber(connection, request);
        }
        self.settle_topic(id);
    }

    /// Sends one subscriber as much as its stream takes.
    pub(crate) fn pump_subscriber(&mut self, id: ConnectionId, request: RequestId) {
        if let Some(topic) = self.feed_subscriber(id, request) {
            self.settle_topic(topic);
        }
    }

    fn feed_subscriber(&mut self, id: ConnectionId, request: RequestId) -> Option<TopicId> {
        let share = self.queue_share();
        let waiter = (id, request);
        let connection = self.connections.get_mut(&id)?;
        let topic_id = *connection.subscriptions.get(&request)?;
        let topic = self.channels.topic_mut(topic_id)?;
        let over = topic.rest == Rest::None;
        let is_full = topic.is_paused();
        let (ring, cursor) = topic.place(waiter)?;
        let before = *cursor;
        connection.core.set_queue_share(share);
        let fed = feed(&mut connection.core, request, ring, cursor, u64::MAX);
        let moved = *cursor != before;
        self.ready.insert(id);
        if fed != Fed::Full {
            self.waits_not(waiter);
        } else if is_full && (moved || !self.stalled.has(waiter)) {
            self.waits_for(waiter);
        }
        if fed == Fed::All && over {
            if let Some(connection) = self.connections.get_mut(&id) {
                connection.core.end(request, None);
            }
            self.drop_subscriber(waiter);
        }
        Some(topic_id)
    }

    /// Bounds what a source holds.
    fn settle_topic(&mut self, id: TopicId) {
        let Some(topic) = self.channels.topic_mut(id) else {
            return;
        };
        // It may have what the others leave.
        let others = self.topic_bytes.saturating_sub(topic.ring().bytes());
        let left = self.config.all_channel_rings_bytes.saturating_sub(others);
        let max = self.config.channel_ring_bytes.min(left);
        match self.change_topic(id, |topic| topic.settle(max)).flatten() {
            Some(Pace::Pause(reader)) => {
                self.source_is_full(id);
                self.quiet_readers.remove(reader);
                self.calls.push_back(HostCall::PauseReader { reader });
            }
            Some(Pace::Resume(reader)) => {
                self.source_has_room(id);
                self.quiet_readers.touched(reader, self.now);
                self.calls.push_back(HostCall::ResumeReader { reader });
            }
            None => {}
        }
    }

    /// Looks after the readers that a client's subscriptions wait for: its pings are the only clock that a server without
    /// one has.
    pub(crate) fn nudge_readers(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get(&id) else {
            return;
        };
        let topics: BTreeSet<TopicId> = connection.subscriptions.values().copied().collect();
        for topic in topics {
            let reader = self.channels.topic_mut(topic).and_then(|t| t.reader());
            if let Some(reader) = reader
                && self.quiet_readers.asked(reader)
            {
                self.calls.push_back(HostCall::NudgeReader { reader });
            }
        }
    }
}
