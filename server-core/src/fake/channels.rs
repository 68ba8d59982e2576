//! Channels in memory: rings of messages that park or drop writers, with readers and writers of the server.
//!
//! What can happen next is a choice of the test: [`FakeChannels::ready`] tells what there is, [`FakeChannels::act`] does
//! one of it. [`FakeChannels::act_first`] takes the first, for who does not mind.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use selium_remote_client_protocol::ops::Backpressure;

use crate::host::{Completion, HostCall, HostChannel, ReaderId, WriterId};

/// Something that can happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Act {
    /// The oldest create, delete, drain or share completes.
    Answer,
    /// A reader brings a message, or tells that it lost some.
    Read(ReaderId),
    /// A reader ends.
    End(ReaderId),
    /// A writer's oldest message is written, dropped or refused.
    Write(WriterId),
}

#[derive(Debug)]
struct Channel {
    capacity: usize,
    backpressure: Backpressure,
    kept: VecDeque<Bytes>,
    bytes: usize,
    /// The place of the first message that is kept.
    first: u64,
    drained: bool,
    shared: bool,
}

impl Channel {
    fn next(&self) -> u64 {
        self.first + self.kept.len() as u64
    }
}

#[derive(Debug)]
struct Reader {
    channel: HostChannel,
    lossless: bool,
    at: u64,
    paused: bool,
    /// A read that was begun brings one message, paused or not.
    reading: bool,
    closing: bool,
}

#[derive(Debug)]
struct Writer {
    channel: HostChannel,
    queue: VecDeque<Bytes>,
    closed: bool,
}

/// All channels.
#[derive(Debug, Default)]
pub struct FakeChannels {
    channels: BTreeMap<HostChannel, Channel>,
    readers: BTreeMap<ReaderId, Reader>,
    writers: BTreeMap<WriterId, Writer>,
    answers: VecDeque<Completion>,
    /// Creates, deletes, drains and shares fail with these words while there are some.
    pub failing: Option<String>,
}

impl FakeChannels {
    /// Begins what concerns channels, and gives back what does not.
    pub fn begin(&mut self, call: HostCall) -> Option<HostCall> {
        let failure = self.failing.clone().map_or(Ok(()), Err);
        let may = failure.is_ok();
        match call {
            HostCall::CreateChannel {
                op,
                channel,
                capacity,
                backpressure,
            } => {
                if may {
                    let made = Channel {
                        capacity: capacity as usize,
                        backpressure,
                        kept: VecDeque::new(),
                        bytes: 0,
                        first: 0,
                        drained: false,
                        shared: false,
                    };
                    self.channels.insert(channel, made);
                }
                let result = failure;
                self.answers
                    .push_back(Completion::ChannelDone { op, result });
            }
            HostCall::DeleteChannel { op, channel } => {
                if may {
                    self.channels.remove(&channel);
                }
                let result = failure;
                self.answers
                    .push_back(Completion::ChannelDone { op, result });
            }
            HostCall::DrainChannel { op, channel } => {
                if let Some(known) = self.channels.get_mut(&channel) {
                    known.drained |= may;
                }
                let result = failure;
                self.answers
                    .push_back(Completion::ChannelDone { op, result });
            }
            HostCall::ShareChannel { op, channel } => {
                if let Some(known) = self.channels.get_mut(&channel) {
                    known.shared |= may;
                }
                let result = failure;
                self.answers
                    .push_back(Completion::ChannelDone { op, result });
            }
            HostCall::OpenReader {
                reader,
                channel,
                lossless,
            } => {
                let opened = Reader {
                    channel,
                    lossless,
                    at: self.channels.get(&channel).map_or(0, |known| known.first),
                    paused: false,
                    reading: true,
                    closing: false,
                };
                self.readers.insert(reader, opened);
            }
            HostCall::PauseReader { reader } => {
                if let Some(known) = self.readers.get_mut(&reader) {
                    known.paused = true;
                }
            }
            HostCall::ResumeReader { reader } => {
                if let Some(known) = self.readers.get_mut(&reader) {
                    known.paused = false;
                    known.reading = true;
                }
            }
            HostCall::CloseReader { reader } => {
                if let Some(known) = self.readers.get_mut(&reader) {
                    known.closing = true;
                }
            }
            HostCall::NudgeReader { .. } => {}
            HostCall::Write {
                writer,
                channel,
                bytes,
            } => {
                let known = self.writers.entry(writer).or_insert_with(|| Writer {
                    channel,
                    queue: VecDeque::new(),
                    closed: false,
                });
                known.queue.push_back(bytes);
            }
            HostCall::CloseWriter { writer } => {
                if let Some(known) = self.writers.get_mut(&writer) {
                    known.closed = true;
                }
                self.forget_writer(writer);
            }
            other => return Some(other),
        }
        None
    }

    /// What can happen now.
    #[must_use]
    pub fn ready(&self) -> Vec<Act> {
        let mut ready = Vec::new();
        if !self.answers.is_empty() {
            ready.push(Act::Answer);
        }
        for (id, reader) in &self.readers {
            let Some(channel) = self.channels.get(&reader.channel) else {
                ready.push(Act::End(*id));
                continue;
            };
            let more = reader.at < channel.next();
            if reader.reading && more {
                ready.push(Act::Read(*id));
            }
            if reader.closing || channel.drained && !more {
                ready.push(Act::End(*id));
            }
        }
        for (id, writer) in &self.writers {
            let front = writer.queue.front();
            if front.is_some_and(|bytes| self.can_write(writer.channel, bytes.len())) {
                ready.push(Act::Write(*id));
            }
        }
        ready
    }

    /// Does what can happen.
    pub fn act(&mut self, act: Act) -> Option<Completion> {
        match act {
            Act::Answer => self.answers.pop_front(),
            Act::Read(reader) => self.read(reader),
            Act::End(reader) => {
                self.readers.remove(&reader)?;
                let error = None;
                Some(Completion::ReaderEnded { reader, error })
            }
            Act::Write(id) => {
                let writer = self.writers.get_mut(&id)?;
                let (channel, bytes) = (writer.channel, writer.queue.pop_front()?);
                self.forget_writer(id);
                let result = self.write(channel, bytes);
                Some(Completion::Written { writer: id, result })
            }
        }
    }

    /// Does what can happen first.
    pub fn act_first(&mut self) -> Option<Completion> {
        let first = *self.ready().first()?;
        self.act(first)
    }

    /// Writes a message as a process would: into the channel, or nowhere when it drops.
    ///
    /// # Errors
    /// When the channel is gone, drained, too small or full.
    pub fn write(&mut self, id: HostChannel, bytes: Bytes) -> Result<(), String> {
        let room = self.make_room(id, bytes.len());
        let channel = self.channels.get_mut(&id).ok_or("resource not found")?;
        if channel.drained {
            return Err("channel draining".to_owned());
        }
        if bytes.len() > channel.capacity {
            return Err("frame exceeds the channel".to_owned());
        }
        if room {
            channel.bytes += bytes.len();
            channel.kept.push_back(bytes);
        } else if channel.backpressure == Backpressure::Park {
            return Err("full".to_owned());
        }
        Ok(())
    }

    /// Deletes a channel as a process would.
    pub fn lose(&mut self, id: HostChannel) {
        self.channels.remove(&id);
    }

    /// The message that a writer has to write next, and where to.
    #[must_use]
    pub fn front(&self, id: WriterId) -> Option<(HostChannel, &Bytes)> {
        let writer = self.writers.get(&id)?;
        Some((writer.channel, writer.queue.front()?))
    }

    /// Bytes of the messages that writers have.
    #[must_use]
    pub fn waiting_bytes(&self) -> usize {
        let queued = self.writers.values().flat_map(|writer| &writer.queue);
        queued.map(Bytes::len).sum()
    }

    /// The channels that there are.
    pub fn channels(&self) -> impl Iterator<Item = HostChannel> {
        self.channels.keys().copied()
    }

    /// Whether the runtime knows a channel under a number for processes.
    #[must_use]
    pub fn is_shared(&self, id: HostChannel) -> bool {
        self.channels.get(&id).is_some_and(|channel| channel.shared)
    }

    /// How many readers and writers there are.
    #[must_use]
    pub fn in_use(&self) -> (usize, usize) {
        (self.readers.len(), self.writers.len())
    }

    /// The first place that a lossless reader of a channel has not read.
    fn needed(&self, id: HostChannel) -> Option<u64> {
        let readers = self.readers.values();
        let lossless = readers.filter(|reader| reader.lossless && reader.channel == id);
        lossless.map(|reader| reader.at).min()
    }

    /// Whether a write would not wait.
    fn can_write(&self, id: HostChannel, len: usize) -> bool {
        let Some(channel) = self.channels.get(&id) else {
            return true; // It fails.
        };
        let fails = channel.drained || len > channel.capacity;
        let needed = self.needed(id).unwrap_or(u64::MAX);
        let free = channel.kept.iter().zip(channel.first..);
        let free = free.take_while(|(_, place)| *place < needed);
        let kept = channel.bytes - free.map(|(bytes, _)| bytes.len()).sum::<usize>();
        fails || kept + len <= channel.capacity || channel.backpressure == Backpressure::Drop
    }

    /// Drops the oldest messages that no lossless reader needs, as far as that is necessary.
    fn make_room(&mut self, id: HostChannel, len: usize) -> bool {
        let needed = self.needed(id).unwrap_or(u64::MAX);
        let Some(channel) = self.channels.get_mut(&id) else {
            return false;
        };
        while channel.bytes + len > channel.capacity && channel.first < needed {
            let Some(oldest) = channel.kept.pop_front() else {
                return false;
            };
            channel.bytes -= oldest.len();
            channel.first += 1;
        }
        channel.bytes + len <= channel.capacity
    }

    fn read(&mut self, id: ReaderId) -> Option<Completion> {
        let reader = self.readers.get_mut(&id)?;
        let channel = self.channels.get(&reader.channel)?;
        if reader.at < channel.first {
            reader.at = channel.first;
            return Some(Completion::ReadLost { reader: id });
        }
        let place = usize::try_from(reader.at - channel.first).ok()?;
        let bytes = channel.kept.get(place)?.clone();
        reader.at += 1;
        reader.reading = !reader.paused;
        Some(Completion::Read { reader: id, bytes })
    }

    /// Forgets a writer that is done.
    fn forget_writer(&mut self, id: WriterId) {
        let is_done = |writer: &Writer| writer.closed && writer.queue.is_empty();
        if self.writers.get(&id).is_some_and(is_done) {
            self.writers.remove(&id);
        }
    }
}
