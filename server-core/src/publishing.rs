//! Publishing to channels.

use selium_remote_client_protocol::{
    ErrorCode, Payload, RemoteError, SendError,
    ops::{Backpressure, ChannelState, PublishRequest, PublishStarted, op},
    server::StreamKind,
};

use crate::{
    channel_ops::What,
    failure,
    host::{HostCall, WriterId},
    publications::{After, Key},
    server::{Server, Waiter},
};

fn deleted() -> RemoteError {
    RemoteError::new(ErrorCode::NotFound, "the channel was deleted")
}

impl Server {
    pub(crate) fn publish(&mut self, waiter: Waiter, body: &[u8]) -> Result<(), RemoteError> {
        let request = PublishRequest::decode(body)?;
        let role = self.role_of(waiter.0);
        let session = self.connections.get(&waiter.0).map(|known| known.session);
        let key = (session.unwrap_or_default(), request.publication);
        let known = self.publications.get(key).map(|p| (p.role, p.channel));
        let is_its_own = match known {
            Some((of, _)) => of == role,
            None if request.resume => true,
            None => self.sessions.claim(key.0, role),
        };
        if !is_its_own {
            let error = self.foreign(role);
            self.record_refusal(waiter, op::PUBLISH, body, &error);
            return Err(error);
        }
        let channel = self.channels.all.find(&request.target)?;
        let drains = channel.state != ChannelState::Open;
        match known {
            Some((_, of)) if of != channel.ordinal => {
                let message = "the publication belongs to another channel";
                let error = RemoteError::new(ErrorCode::InvalidArgument, message);
                return Err(error.with_field("publication"));
            }
            None if request.resume => {
                let message = "the server does not know the publication any more, and not which of its messages the channel has";
                let error = RemoteError::new(ErrorCode::OutcomeUnknown, message);
                return Err(error.with_field("publication"));
            }
            None if drains => return Err(channel.drains()),
            _ => {}
        }
        let (ordinal, capacity) = (channel.ordinal, channel.capacity);
        let mut started = PublishStarted::new(
            channel.id,
            channel.name.clone(),
            channel.capacity,
            channel.backpressure,
        );
        started.last = self.publications.get(key).and_then(|p| p.written);
        let drains = drains.then(|| channel.drains());
        let (id, stream) = waiter;
        let Some(connection) = self.connections.get_mut(&id) else {
            return Ok(());
        };
        match connection
            .core
            .respond_stream(stream, started.encode(), StreamKind::ToServer)
        {
            Ok(()) => {}
            Err(SendError::Full) => {
                // It was answered with the same.
                let message = "as many streams are open as this connection may have";
                let error = RemoteError::new(ErrorCode::ResourceExhausted, message);
                self.record_refusal(waiter, op::PUBLISH, body, &error);
                return Ok(());
            }
            Err(_) => return Ok(()),
        }
        connection.core.set_longest(stream, capacity as usize);
        connection.publishing.insert(stream, key);
        let before = self.publications.attach(key, ordinal, role, waiter);
        self.count_publisher(ordinal, 1);
        if let Some((id, stream)) = before {
            self.count_publisher(ordinal, -1);
            if let Some(connection) = self.connections.get_mut(&id) {
                let message = "the publication goes on over another stream";
                let error = RemoteError::new(ErrorCode::Cancelled, message);
                connection.publishing.remove(&stream);
                connection.core.reset(stream, error);
                self.ready.insert(id);
            }
        }
        // What it has is told, and nothing more is taken.
        if let Some(error) = drains {
            self.refuse_publication(key, error);
        }
        self.ready.insert(id);
        Ok(())
    }

    fn count_publisher(&mut self, ordinal: u64, by: i64) {
        if let Some(channel) = self.channels.all.get_mut(ordinal) {
            channel.publishers = channel.publishers.saturating_add_signed(by);
        }
    }

    /// A message of a publication has come.
    pub(crate) fn published(&mut self, waiter: Waiter, number: u64, payload: Payload, cost: usize) {
        let (id, stream) = waiter;
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        // However long it waits, it holds up its own stream only.
        connection.core.release(stream, cost);
        let key = connection.publishing.get(&stream).copied();
        let admitted = match key {
            Some(key) => self.publications.admits(key, payload.len()),
            None => Ok(()),
        };
        let publication = key.and_then(|key| Some((key, self.publications.get_mut(key)?)));
        let Some((key, publication)) = publication else {
            return connection.core.consume(stream, cost);
        };
        if matches!(publication.after, After::Refused(_)) {
            return connection.core.consume(stream, cost);
        }
        let ordinal = publication.channel;
        let Some(channel) = self.channels.all.get(ordinal) else {
            return connection.core.consume(stream, cost);
        };
        if publication.intake.last().is_some_and(|last| number <= last) {
            if publication.written.is_some_and(|last| number <= last) {
                let may_be_dropped = channel.backpressure == Backpressure::Drop;
                connection.core.acknowledge(stream, number, may_be_dropped);
                connection.core.consume(stream, cost);
            } else {
                // The host has it; it is acknowledged with what was handed over.
                publication.owed.push_back((number, cost));
            }
            return;
        }
        let host = channel.host;
        if let Err(limit) = admitted {
            let message =
                format!("{limit} bytes of messages wait for channels, which is the limit");
            let error = RemoteError::new(ErrorCode::ResourceExhausted, message);
            return self.reset_publication(key, error.with_limit(limit as u64));
        }
        publication.intake.take(number);
        publication.owed.push_back((number, cost));
        let writer = self.publications.hand_over(key, number, payload.len());
        if let Some(writer) = writer {
            self.calls.push_back(HostCall::Write {
                writer,
                channel: host,
                bytes: payload.into_bytes(),
            });
        }
    }

    /// A message has begun that is longer than its channel: it would never be taken.
    pub(crate) fn publishes_too_much(&mut self, waiter: Waiter, len: u64) {
        let connection = self.connections.get(&waiter.0);
        let key = connection.and_then(|known| known.publishing.get(&waiter.1).copied());
        let publication = key.and_then(|key| Some((key, self.publications.get(key)?)));
        let Some((key, publication)) = publication else {
            return;
        };
        // What is refused anyhow is told why when what was before is written.
        if matches!(publication.after, After::Refused(_)) {
            return;
        }
        let Some(channel) = self.channels.all.get(publication.channel) else {
            return;
        };
        let capacity = channel.capacity;
        let message = format!(
            "the message is {len} bytes long, the channel `{}` holds {capacity}",
            channel.name
        );
        let error = RemoteError::new(ErrorCode::TooLarge, message);
        self.reset_publication(key, error.with_limit(capacity.into()));
    }

    /// The client has ended its half of a publication's stream.
    pub(crate) fn publication_ended(&mut self, waiter: Waiter) {
        let connection = self.connections.get(&waiter.0);
        let key = connection.and_then(|known| known.publishing.get(&waiter.1).copied());
        let Some(key) = key else {
            return;
        };
        if let Some(publication) = self.publications.get_mut(key)
            && publication.after == After::More
        {
            publication.after = After::End;
        }
        self.rest_publication(key);
    }

    /// The host has written a message, or not.
    pub(crate) fn written(&mut self, writer: WriterId, result: Result<(), String>) {
        let Some(written) = self.publications.written(writer) else {
            return;
        };
        let channel = self.channels.all.get_mut(written.channel);
        let mut may_be_dropped = false;
        if let Some(channel) = channel {
            may_be_dropped = channel.backpressure == Backpressure::Drop;
            channel.published = channel.published.saturating_add(u64::from(result.is_ok()));
        }
        let Some(key) = written.key else {
            return;
        };
        if let Err(words) = result {
            let error = self.write_failure(written.channel, &words);
            return self.break_publication(key, error);
        }
        let Some(publication) = self.publications.get_mut(key) else {
            return;
        };
        publication.written = Some(written.number);
        if let Some((id, stream)) = publication.stream
            && let Some(connection) = self.connections.get_mut(&id)
        {
            let mut last = None;
            while let Some((number, cost)) = publication.owed.front().copied() {
                if number > written.number {
                    break;
                }
                publication.owed.pop_front();
                connection.core.consume(stream, cost);
                last = Some(number);
            }
            if let Some(number) = last {
                connection.core.acknowledge(stream, number, may_be_dropped);
            }
            self.count(id);
            self.ready.insert(id);
        }
        self.rest_publication(key);
    }

    /// Why a write failed.
    fn write_failure(&self, ordinal: u64, words: &str) -> RemoteError {
        let channel = self.channels.all.get(ordinal);
        let Some(channel) = channel.filter(|_| !self.is_changing(ordinal, What::Delete)) else {
            return deleted();
        };
        let drains = channel.state != ChannelState::Open || self.is_changing(ordinal, What::Drain);
        if drains {
            return channel.drains();
        }
        failure::write(&channel.name, words)
    }

    /// Does what was to be done once the host has nothing more of a publication.
    fn rest_publication(&mut self, key: Key) {
        if self.publications.is_pending(key) {
            return;
        }
        let Some(publication) = self.publications.get_mut(key) else {
            return;
        };
        let Some((id, stream)) = publication.stream else {
            let call = self.publications.rest(key);
            return self.calls.extend(call);
        };
        let reason = match &publication.after {
            After::More => return,
            After::End => None,
            After::Refused(error) => Some(error.clone()),
        };
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.core.end(stream, reason);
            self.ready.insert(id);
        }
        self.drop_publisher((id, stream));
    }

    /// Takes nothing more of a publication: its stream ends with `error` when what the host has is written.
    fn refuse_publication(&mut self, key: Key, error: RemoteError) {
        if let Some(publication) = self.publications.get_mut(key) {
            publication.after = After::Refused(error);
        }
        self.rest_publication(key);
    }

    /// Ends a publication's stream at once. What the host has is written, and the publication can be gone on with.
    fn reset_publication(&mut self, key: Key, error: RemoteError) {
        let stream = self.publications.get(key).and_then(|p| p.stream);
        if let Some((id, stream)) = stream {
            if let Some(connection) = self.connections.get_mut(&id) {
                connection.core.reset(stream, error);
                self.ready.insert(id);
            }
            self.drop_publisher((id, stream));
        }
    }

    /// Gives a publication up: nobody can say any more which of its messages the channel has.
    fn break_publication(&mut self, key: Key, error: RemoteError) {
        self.reset_publication(key, error);
        let (_, call) = self.publications.remove(key);
        self.calls.extend(call);
    }

    /// The channel was deleted.
    pub(crate) fn break_publications(&mut self, ordinal: u64) {
        for key in self.publications.of_channel(ordinal) {
            self.break_publication(key, deleted());
        }
    }

    /// The channel takes nothing more.
    pub(crate) fn end_publications(&mut self, ordinal: u64) {
        let channel = self.channels.all.get(ordinal);
        let Some(error) = channel.map(|channel| channel.drains()) else {
            return;
        };
        for key in self.publications.of_channel(ordinal) {
            let publication = self.publications.get(key);
            if publication.is_some_and(|publication| publication.stream.is_some()) {
                self.refuse_publication(key, error.clone());
            }
        }
    }

    /// Forgets a publication's stream.
    pub(crate) fn drop_publisher(&mut self, waiter: Waiter) {
        let connection = self.connections.get_mut(&waiter.0);
        if let Some(key) = connection.and_then(|known| known.publishing.remove(&waiter.1)) {
            self.detach_publication(key, waiter);
        }
    }

    /// The same when its connection has forgotten it already.
    pub(crate) fn detach_publication(&mut self, key: Key, waiter: Waiter) {
        let Some(publication) = self.publications.get(key) else {
            return;
        };
        if publication.stream != Some(waiter) {
            return;
        }
        let ordinal = publication.channel;
        self.count_publisher(ordinal, -1);
        let call = self.publications.detach(key);
        self.calls.extend(call);
    }
}
