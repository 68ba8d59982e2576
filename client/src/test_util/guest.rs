//! What a module of the runtime in memory is written with.

use std::{
    fmt,
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Poll, ready},
};

use bytes::Bytes;
use selium_remote_client_protocol::{error::clip, ops::StartRequest};
use selium_remote_server_core::{HostCall, HostChannel, ReaderId, WriterId};

use super::{
    processes::ProcessEnd,
    record::encode,
    state::{Shared, State},
};
use crate::{AbiSignature, Capability, EntrypointArg, LogLevel, LogRecord};

/// The most bytes of a record's message that [`Guest::log`] writes; a longer one is cut.
pub const MAX_LOG_MESSAGE: usize = 64 * 1024;

/// The most bytes of a record. Past it [`Guest::log_record`] is an error.
pub const MAX_LOG_RECORD: usize = 256 * 1024;

/// Why a guest ends that does not come to its end, in words.
///
/// Every error becomes one by `?`.
pub struct Trap(String);

impl Trap {
    /// A trap with these words.
    #[must_use]
    pub fn new(words: impl Into<String>) -> Self {
        Self(words.into())
    }
}

impl fmt::Display for Trap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Trap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Trap").field(&self.0).finish()
    }
}

impl<E: std::error::Error> From<E> for Trap {
    fn from(error: E) -> Self {
        Self(error.to_string())
    }
}

pub(super) type Life = Pin<Box<dyn Future<Output = Result<(), Trap>> + Send>>;

pub(super) type Behaviour = Arc<dyn Fn(Guest) -> Life + Send + Sync>;

/// A guest that is to begin.
pub(super) struct Birth {
    pub(super) process: u64,
    pub(super) spec: StartRequest,
    pub(super) behaviour: Behaviour,
}

/// Says that a guest is over, also when its task is dropped.
struct Death {
    shared: Arc<Shared>,
    process: u64,
    end: ProcessEnd,
}

impl Drop for Death {
    fn drop(&mut self) {
        let (process, end) = (self.process, self.end.clone());
        self.shared.change(|state| {
            let wakers = state.processes.end(process, end);
            state.wake(wakers.unwrap_or_default());
            state.release(process);
        });
    }
}

/// Lets a guest live, until it comes to its end or is stopped.
pub(super) fn live(shared: Arc<Shared>, birth: Birth) -> impl Future<Output = ()> + Send {
    let Birth {
        process,
        spec,
        behaviour,
    } = birth;
    let death = Death {
        shared: Arc::clone(&shared),
        process,
        end: ProcessEnd::Trapped("its task panicked, or was dropped with its runtime".to_owned()),
    };
    let guest = Guest {
        shared: Arc::clone(&shared),
        process,
        spec: Arc::new(spec),
    };
    // Its death is known also if it is never polled.
    async move {
        let mut death = death;
        let mut life = behaviour(guest);
        let lived = poll_fn(|cx| {
            let runs = shared.look(|state| state.processes.attend(process, cx));
            // One that was stopped is polled once more, to hear of it.
            match life.as_mut().poll(cx) {
                Poll::Ready(result) => Poll::Ready(Some(result)),
                Poll::Pending if runs => Poll::Pending,
                Poll::Pending => Poll::Ready(None),
            }
        });
        // What was said before holds for one that was stopped.
        death.end = match lived.await {
            Some(Err(trap)) => ProcessEnd::Trapped(trap.0),
            _ => ProcessEnd::Returned,
        };
    }
}

/// A process of the runtime in memory, from inside: what a module's behaviour is given. Clones are the same process.
#[derive(Clone)]
pub struct Guest {
    shared: Arc<Shared>,
    process: u64,
    spec: Arc<StartRequest>,
}

impl fmt::Debug for Guest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guest")
            .field("module", &self.spec.module)
            .field("entrypoint", &self.spec.entrypoint)
            .finish_non_exhaustive()
    }
}

fn over() -> Trap {
    Trap::new("the process is over")
}

impl Guest {
    /// The module.
    #[must_use]
    pub fn module(&self) -> &str {
        &self.spec.module
    }

    /// The entrypoint that was called.
    #[must_use]
    pub fn entrypoint(&self) -> &str {
        &self.spec.entrypoint
    }

    /// The entrypoint's signature, as it was given.
    #[must_use]
    pub fn signature(&self) -> &AbiSignature {
        &self.spec.signature
    }

    /// The log URI, if there is one.
    #[must_use]
    pub fn log_uri(&self) -> Option<&str> {
        self.spec.log_uri.as_deref()
    }

    /// The arguments, without the log URI.
    #[must_use]
    pub fn args(&self) -> &[EntrypointArg] {
        &self.spec.args
    }

    /// The argument at this place, from 0, when it is a text: a buffer of UTF-8.
    #[must_use]
    pub fn text(&self, argument: usize) -> Option<&str> {
        match self.spec.args.get(argument) {
            Some(EntrypointArg::Buffer(bytes)) => std::str::from_utf8(bytes).ok(),
            _ => None,
        }
    }

    /// The capabilities that it was given.
    #[must_use]
    pub fn capabilities(&self) -> &[Capability] {
        &self.spec.capabilities
    }

    /// Whether it has a log: it was given `ChannelLifecycle` and `ChannelWriter`.
    #[must_use]
    pub fn can_log(&self) -> bool {
        let capabilities = &self.spec.capabilities;
        capabilities.contains(&Capability::ChannelLifecycle)
            && capabilities.contains(&Capability::ChannelWriter)
    }

    /// Writes to its log, with the server's time. Without a log that does nothing.
    pub fn log(&self, level: LogLevel, message: impl AsRef<str>) {
        let message = clip(message.as_ref(), MAX_LOG_MESSAGE).to_owned();
        let unix_ms = self.shared.look(|state| state.unix_ms());
        let record = LogRecord::with(|made| {
            made.level = level;
            made.target = self.spec.module.clone();
            made.message = message;
            made.timestamp_ms = unix_ms.unwrap_or_default();
        });
        self.write_log(encode(&record));
    }

    /// Writes a record to its log, as it is. Without a log that does nothing.
    ///
    /// # Errors
    /// When it is longer than [`MAX_LOG_RECORD`].
    pub fn log_record(&self, record: &LogRecord) -> Result<(), Trap> {
        let bytes = encode(record);
        if bytes.len() > MAX_LOG_RECORD {
            return Err(Trap::new("the log record is too long"));
        }
        self.write_log(bytes);
        Ok(())
    }

    fn write_log(&self, bytes: Bytes) {
        if self.can_log() {
            self.shared.change(|state| state.log(self.process, bytes));
        }
    }

    /// Reads the channel at this place of the arguments, from 0, from its oldest message on. Writers wait for the reader,
    /// if the channel parks them.
    ///
    /// # Errors
    /// When the argument is no channel, the channel was deleted, or the process lacks a capability that it would need in a
    /// runtime: `ChannelReader`, and `ChannelLifecycle` for a channel that was shared with it
    /// ([`ProcessBuilder::arg_channel`](crate::ProcessBuilder::arg_channel)).
    pub fn reader(&self, argument: usize) -> Result<GuestReader, Trap> {
        let channel = self.channel(argument, Capability::ChannelReader)?;
        let opened = self.change(|state| {
            let (reader, call) = state.slots.reader(self.process, channel);
            let _ = state.channels.begin(call);
            reader
        });
        Ok(GuestReader {
            shared: Arc::clone(&self.shared),
            reader: opened?,
        })
    }

    /// Writes to the channel at this place of the arguments, from 0.
    ///
    /// # Errors
    /// As [`Guest::reader`], with `ChannelWriter`.
    pub fn writer(&self, argument: usize) -> Result<GuestWriter, Trap> {
        let channel = self.channel(argument, Capability::ChannelWriter)?;
        let opened = self.change(|state| state.slots.writer(self.process));
        Ok(GuestWriter {
            shared: Arc::clone(&self.shared),
            writer: opened?,
            channel,
        })
    }

    /// Whether a client has stopped it (or the runtime was restarted).
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        let end = self
            .shared
            .look(|state| state.processes.end_of(self.process));
        matches!(end, Some(ProcessEnd::Stopped | ProcessEnd::Killed))
    }

    /// Waits until it is stopped. A process that is stopped is polled once more and then dropped, as the runtime drops it:
    /// it hears of it, and cannot wait for anything any more.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn stopped(&self) {
        poll_fn(|cx| {
            let attend = |state: &mut State| state.processes.attend(self.process, cx);
            // One that came to its end is stopped no more.
            match self.shared.look(attend) || !self.is_stopped() {
                true => Poll::Pending,
                false => Poll::Ready(()),
            }
        })
        .await;
    }

    fn channel(&self, argument: usize, capability: Capability) -> Result<HostChannel, Trap> {
        let Some(EntrypointArg::Resource(id)) = self.spec.args.get(argument) else {
            return Err(Trap::new(format!("argument {argument} is no channel")));
        };
        let param = self.spec.signature.params().get(argument).copied();
        let is_shared = param != Some(crate::AbiParam::Scalar(crate::AbiScalarType::I32));
        let attach = is_shared.then_some(Capability::ChannelLifecycle);
        for needed in attach.into_iter().chain([capability]) {
            if !self.spec.capabilities.contains(&needed) {
                let words = format!("permission denied: the process was not given {needed}");
                return Err(Trap::new(words));
            }
        }
        let found = self.shared.look(|state| {
            let channel = state.processes.channel(self.process, *id);
            channel.filter(|channel| state.channels.channels().any(|known| known == *channel))
        });
        found.ok_or_else(|| Trap::new(format!("the channel of argument {argument} is gone")))
    }

    /// Does something while the process runs.
    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> Result<T, Trap> {
        let done = self.shared.change(|state| {
            let runs = state.processes.runs(self.process);
            runs.then(|| change(state))
        });
        done.ok_or_else(over)
    }
}

/// Reads a channel, as a process does. Dropping it lets writers wait for it no more.
pub struct GuestReader {
    shared: Arc<Shared>,
    reader: ReaderId,
}

impl fmt::Debug for GuestReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuestReader").finish_non_exhaustive()
    }
}

impl GuestReader {
    /// The next message; nothing when the channel was deleted, or drained and read to its end.
    ///
    /// # Errors
    /// When the process is over.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub async fn read(&mut self) -> Result<Option<Bytes>, Trap> {
        let reader = self.reader;
        let read = poll_fn(|cx| {
            // It may come at once.
            let wanted = |state: &mut State| state.slots.poll_read(reader, cx);
            let polled = self.shared.change(wanted);
            match polled {
                Poll::Pending => self.shared.look(|state| state.slots.poll_read(reader, cx)),
                ready => ready,
            }
        });
        read.await.map_err(|()| over())
    }
}

impl Drop for GuestReader {
    fn drop(&mut self) {
        self.shared.change(|state| {
            if let Some(call) = state.slots.close_reader(self.reader) {
                let _ = state.channels.begin(call);
            }
        });
    }
}

/// Writes to a channel, as a process does.
pub struct GuestWriter {
    shared: Arc<Shared>,
    writer: WriterId,
    channel: HostChannel,
}

impl fmt::Debug for GuestWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuestWriter").finish_non_exhaustive()
    }
}

impl GuestWriter {
    /// Writes a message. Waits while the channel is full, if it parks its writers.
    ///
    /// # Errors
    /// When the message is empty or longer than the channel, the channel was deleted or drained, or the process is over.
    ///
    /// # Cancel safety
    /// When the future is dropped, the message may be written or not; the next call waits for that.
    pub async fn write(&mut self, message: impl Into<Bytes>) -> Result<(), Trap> {
        let bytes = message.into();
        if bytes.is_empty() {
            return Err(Trap::new("a message without bytes cannot be written"));
        }
        let (writer, channel) = (self.writer, self.channel);
        let _before = self.written().await?;
        self.shared.change(|state| {
            if state.slots.is_pending(writer) == Ok(false) {
                state.slots.begun(writer);
                let _ = state.channels.begin(HostCall::Write {
                    writer,
                    channel,
                    bytes,
                });
            }
        });
        self.written().await?.map_err(Trap::new)
    }

    /// Waits until there is no message that is not written; what came of the last one.
    async fn written(&self) -> Result<Result<(), String>, Trap> {
        let written = poll_fn(|cx| {
            let polled = self
                .shared
                .look(|state| state.slots.poll_written(self.writer, cx));
            Poll::Ready(ready!(polled))
        });
        written.await.map_err(|()| over())
    }
}

impl Drop for GuestWriter {
    fn drop(&mut self) {
        self.shared.change(|state| {
            if let Some(call) = state.slots.close_writer(self.writer) {
                let _ = state.channels.begin(call);
            }
        });
    }
}
