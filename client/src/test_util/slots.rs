//! The readers and writers of guests: who waits for what of the channels in memory.

use std::{
    collections::BTreeMap,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use selium_remote_server_core::{Completion, HostCall, HostChannel, ReaderId, WriterId};

/// Ids from here on are guests', those below the server's.
const GUESTS: u64 = 1 << 63;

/// Whether an id is one of a guest.
pub(super) fn is_guests(id: u64) -> bool {
    id >= GUESTS
}

#[derive(Debug)]
struct Reading {
    process: u64,
    wanted: bool,
    message: Option<Bytes>,
    ended: bool,
    waker: Option<Waker>,
}

#[derive(Debug)]
struct Writing {
    process: u64,
    pending: bool,
    result: Option<Result<(), String>>,
    waker: Option<Waker>,
}

/// All of them.
#[derive(Debug)]
pub(super) struct Slots {
    readers: BTreeMap<ReaderId, Reading>,
    writers: BTreeMap<WriterId, Writing>,
    last: u64,
}

impl Default for Slots {
    fn default() -> Self {
        Self {
            readers: BTreeMap::new(),
            writers: BTreeMap::new(),
            last: GUESTS,
        }
    }
}

impl Slots {
    pub(super) fn reader(&mut self, process: u64, channel: HostChannel) -> (ReaderId, HostCall) {
        self.last += 1;
        let reader = ReaderId(self.last);
        let reading = Reading {
            process,
            wanted: false,
            message: None,
            ended: false,
            waker: None,
        };
        self.readers.insert(reader, reading);
        let call = HostCall::OpenReader {
            reader,
            channel,
            lossless: true,
        };
        (reader, call)
    }

    pub(super) fn writer(&mut self, process: u64) -> WriterId {
        self.last += 1;
        let writer = WriterId(self.last);
        let writing = Writing {
            process,
            pending: false,
            result: None,
            waker: None,
        };
        self.writers.insert(writer, writing);
        writer
    }

    /// Whether a guest waits for what this reader would bring.
    pub(super) fn wants(&self, reader: ReaderId) -> bool {
        self.readers.get(&reader).is_some_and(|r| r.wanted)
    }

    /// The next message of a reader; [`None`] inside when there is none any more. `Err` when there is no such reader.
    pub(super) fn poll_read(
        &mut self,
        reader: ReaderId,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Bytes>, ()>> {
        let Some(reading) = self.readers.get_mut(&reader) else {
            return Poll::Ready(Err(()));
        };
        if let Some(message) = reading.message.take() {
            return Poll::Ready(Ok(Some(message)));
        }
        if reading.ended {
            return Poll::Ready(Ok(None));
        }
        reading.wanted = true;
        reading.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Whether a writer has a message that is not written. `Err` when there is no such writer.
    pub(super) fn is_pending(&self, writer: WriterId) -> Result<bool, ()> {
        self.writers.get(&writer).map(|w| w.pending).ok_or(())
    }

    /// A writer was given a message.
    pub(super) fn begun(&mut self, writer: WriterId) {
        if let Some(writing) = self.writers.get_mut(&writer) {
            writing.pending = true;
            writing.result = None;
        }
    }

    /// What came of a writer's message.
    pub(super) fn poll_written(
        &mut self,
        writer: WriterId,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Result<(), String>, ()>> {
        let Some(writing) = self.writers.get_mut(&writer) else {
            return Poll::Ready(Err(()));
        };
        if !writing.pending {
            return Poll::Ready(Ok(writing.result.take().unwrap_or(Ok(()))));
        }
        writing.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Takes what came of a guest's reader or writer; gives back what is the server's.
    pub(super) fn complete(&mut self, completion: Completion) -> Result<Option<Waker>, Completion> {
        match completion {
            Completion::Read { reader, bytes } if is_guests(reader.0) => {
                let reading = self.readers.get_mut(&reader);
                Ok(reading.and_then(|reading| {
                    reading.wanted = false;
                    reading.message = Some(bytes);
                    reading.waker.take()
                }))
            }
            // Not of lossless ones, which is what guests have.
            Completion::ReadLost { reader } if is_guests(reader.0) => Ok(None),
            Completion::ReaderEnded { reader, .. } if is_guests(reader.0) => {
                let reading = self.readers.get_mut(&reader);
                Ok(reading.and_then(|reading| {
                    reading.ended = true;
                    reading.waker.take()
                }))
            }
            Completion::Written { writer, result } if is_guests(writer.0) => {
                let writing = self.writers.get_mut(&writer);
                Ok(writing.and_then(|writing| {
                    writing.pending = false;
                    writing.result = Some(result);
                    writing.waker.take()
                }))
            }
            completion => Err(completion),
        }
    }

    /// Forgets a reader; what is to be done in the host.
    pub(super) fn close_reader(&mut self, reader: ReaderId) -> Option<HostCall> {
        self.readers.remove(&reader)?;
        Some(HostCall::CloseReader { reader })
    }

    /// Forgets a writer; likewise.
    pub(super) fn close_writer(&mut self, writer: WriterId) -> Option<HostCall> {
        self.writers.remove(&writer)?;
        Some(HostCall::CloseWriter { writer })
    }

    /// Forgets those of a process; likewise.
    pub(super) fn release(&mut self, process: u64) -> Vec<HostCall> {
        let readers = self.readers.extract_if(.., |_, r| r.process == process);
        let readers = readers.map(|(reader, _)| HostCall::CloseReader { reader });
        let writers = self.writers.extract_if(.., |_, w| w.process == process);
        let writers = writers.map(|(writer, _)| HostCall::CloseWriter { writer });
        readers.chain(writers).collect()
    }

    /// Forgets all; who is to hear of it.
    pub(super) fn clear(&mut self) -> Vec<Waker> {
        let readers = std::mem::take(&mut self.readers).into_values();
        let writers = std::mem::take(&mut self.writers).into_values();
        let readers = readers.filter_map(|reading| reading.waker);
        readers.chain(writers.filter_map(|w| w.waker)).collect()
    }
}
