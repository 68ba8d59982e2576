//! Starting and stopping processes, and finding their log channels.
//!
//! - A start cannot be taken back: once the host has it, it runs to its end. A [`start`] that is dropped after that point is reported to the
//!   function registered with [`on_orphan`], or else nobody could ever stop the process.
//! - A start compiles the module on a host thread; [`MAX_STARTS_IN_FLIGHT`] keeps the others free. It is held until the *host* has finished, also when the
//!   caller has gone.
//! - The host writes the arguments over the new guest's stack, from address 1040 upward, and checks nothing: a megabyte of arguments silently
//!   corrupts the guest. Hence [`MAX_ARGUMENT_BYTES`].
//! - `stop` aborts a guest only where it yields, and answers success in any case. Process ids are not slots; nothing has to be freed,
//!   and nothing that a process owned ever is.
//! - There is no way to list processes, to wait for one or to learn how it ended.

use core::{
    cell::RefCell,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};
use std::rc::Rc;

pub use selium_abi::{AbiParam, AbiScalarType, AbiScalarValue, Capability};
use selium_abi::{AbiSignature, EntrypointArg, EntrypointInvocation, ProcessLogLookup};

use crate::{
    channel::{Channel, SharedId},
    executor::{Acquire, Gate, Permit},
    host::{
        self, HostError, HostFuture,
        calls::{ProcessLogChannel, ProcessRegisterLog, ProcessStartCall, ProcessStopCall},
    },
    orphan,
};

/// Most bytes of all buffer arguments of a start, the log URI included. The guest's stack is a megabyte and begins where they are written.
pub const MAX_ARGUMENT_BYTES: usize = 256 * 1024;

/// Most arguments of a start.
pub const MAX_ARGUMENTS: usize = 64;

/// Longest module id and entrypoint, in bytes. The host's error texts echo them.
pub const MAX_NAME: usize = 256;

/// Most starts that the host works on at a time.
pub const MAX_STARTS_IN_FLIGHT: usize = 2;

/// Most starts that wait for their turn; beyond it [`start`] fails with [`HostError::Busy`].
pub const MAX_STARTS_WAITING: usize = 1_024;

/// One argument of an entrypoint. Its parameter type follows from it.
#[derive(Debug, Clone, PartialEq)]
pub enum Argument {
    /// A number; 64-bit ones are passed as two 32-bit halves.
    Scalar(AbiScalarValue),
    /// Bytes or text, passed as pointer and length.
    Buffer(Vec<u8>),
    /// A shared channel, passed as its 64-bit id.
    Shared(SharedId),
    /// A channel itself: the process gets a slot of its own for it, passed as a 32-bit number.
    Channel(ChannelSlot),
}

/// A channel of this module as an argument. The host puts it into the new process's table and leaves this module's slot as it is.
///
/// It is the number of a slot and does not keep it: the [`Channel`] has to live until the host has the start, or the process gets what
/// stands in the slot by then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelSlot(u32);

impl From<&Channel> for ChannelSlot {
    fn from(channel: &Channel) -> Self {
        Self(channel.raw_slot())
    }
}

/// What to start.
#[derive(Debug, Clone, PartialEq)]
pub struct StartSpec {
    /// File name of the module, relative to the runtime's modules directory; at most [`MAX_NAME`] bytes.
    pub module_id: String,
    /// Name of the exported function; at most [`MAX_NAME`] bytes.
    pub entrypoint: String,
    /// Exactly what the process may do. Without `ChannelLifecycle` and `ChannelWriter` it has no logs.
    pub capabilities: Vec<Capability>,
    /// The arguments after the log URI.
    pub arguments: Vec<Argument>,
    /// The types of the entrypoint's results, at most [`MAX_ARGUMENTS`]. The host compares them with the module's; nobody ever sees the values.
    pub results: Vec<AbiParam>,
    /// The log URI, which every entrypoint gets as its first argument (empty when unset).
    pub log_uri: Option<String>,
}

impl StartSpec {
    /// A start without arguments and capabilities.
    pub fn new(module_id: impl Into<String>, entrypoint: impl Into<String>) -> Self {
        Self {
            module_id: module_id.into(),
            entrypoint: entrypoint.into(),
            capabilities: Vec::new(),
            arguments: Vec::new(),
            results: Vec::new(),
            log_uri: None,
        }
    }

    /// Checks all limits and builds what the host gets.
    fn encode(&self) -> Result<selium_abi::ProcessStart, HostError> {
        HostError::check("module id", self.module_id.len(), MAX_NAME)?;
        HostError::check("entrypoint", self.entrypoint.len(), MAX_NAME)?;
        HostError::check("argument count", self.arguments.len(), MAX_ARGUMENTS)?;
        HostError::check("result count", self.results.len(), MAX_ARGUMENTS)?;
        HostError::check(
            "capability count",
            self.capabilities.len(),
            Capability::ALL.len(),
        )?;
        let log_uri = self.log_uri.as_deref().unwrap_or_default().as_bytes();
        let bytes = self
            .arguments
            .iter()
            .fold(log_uri.len(), |sum, argument| match argument {
                Argument::Buffer(buffer) => sum.saturating_add(buffer.len()),
                _ => sum,
            });
        HostError::check("arguments", bytes, MAX_ARGUMENT_BYTES)?;

        let mut params = vec![AbiParam::Buffer];
        let mut args = vec![EntrypointArg::Buffer(log_uri.to_vec())];
        for argument in &self.arguments {
            let (param, arg) = match argument {
                Argument::Scalar(value) => (
                    AbiParam::Scalar(value.kind()),
                    EntrypointArg::Scalar(*value),
                ),
                Argument::Buffer(bytes) => (AbiParam::Buffer, EntrypointArg::Buffer(bytes.clone())),
                Argument::Shared(id) => (
                    AbiParam::Scalar(AbiScalarType::U64),
                    EntrypointArg::Resource(id.get()),
                ),
                Argument::Channel(slot) => (
                    AbiParam::Scalar(AbiScalarType::I32),
                    EntrypointArg::Resource(slot.0.into()),
                ),
            };
            params.push(param);
            args.push(arg);
        }
        let entrypoint =
            EntrypointInvocation::new(AbiSignature::new(params, self.results.clone()), args)
                .map_err(|_| HostError::InvalidArgument)?;
        Ok(selium_abi::ProcessStart {
            module_id: self.module_id.clone(),
            name: self.entrypoint.clone(),
            capabilities: self.capabilities.clone(),
            entrypoint,
        })
    }
}

/// A process that was started after its starter had gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrphanedStart {
    /// The process.
    pub process_id: u64,
    /// What was started.
    pub module_id: String,
    /// Its entrypoint.
    pub entrypoint: String,
}

type OrphanHandler = Rc<dyn Fn(OrphanedStart)>;

thread_local! {
    static STARTS: Gate = Gate::new(MAX_STARTS_IN_FLIGHT, MAX_STARTS_WAITING);
    static ON_ORPHAN: RefCell<Option<OrphanHandler>> = const { RefCell::new(None) };
}

/// Registers who is told about orphaned starts (the last registration counts). It is called from a task and may spawn, for
/// instance a [`stop`].
pub fn on_orphan(handler: impl Fn(OrphanedStart) + 'static) {
    ON_ORPHAN.with(|slot| *slot.borrow_mut() = Some(Rc::new(handler)));
}

/// Starts a process and returns its id. Needs `ProcessLifecycle`.
///
/// Waits for one of [`MAX_STARTS_IN_FLIGHT`] places, in order. Cancel safety: dropped before [`Start::handed_over`], nothing was started; after
/// that, the process is started all the same and reported to [`on_orphan`].
///
/// # Errors
/// [`HostError::TooLarge`] and [`HostError::Busy`] by this crate's limits. The host's reasons (no such module, no such
/// entrypoint, parameter mismatch, unavailable capability) come as [`HostError::Other`] text.
pub fn start(spec: StartSpec) -> Start {
    let state = match spec.encode() {
        Ok(input) => StartState::Waiting(STARTS.with(Gate::acquire), input),
        Err(error) => StartState::Refused(error),
    };
    Start {
        state,
        module_id: spec.module_id,
        entrypoint: spec.entrypoint,
    }
}

/// Future of [`start`].
#[must_use = "futures do nothing unless awaited"]
pub struct Start {
    state: StartState,
    module_id: String,
    entrypoint: String,
}

enum StartState {
    Refused(HostError),
    Waiting(Acquire, selium_abi::ProcessStart),
    Running(HostFuture<ProcessStartCall>, Permit),
    Done,
}

impl Start {
    /// Whether the host has it: from then on it cannot be cancelled.
    pub fn handed_over(&self) -> bool {
        matches!(self.state, StartState::Running(..))
    }
}

impl Future for Start {
    type Output = Result<u64, HostError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        if let StartState::Waiting(acquire, input) = &mut this.state {
            let next = match ready!(Pin::new(acquire).poll(cx)) {
                Ok(permit) => StartState::Running(host::call::<ProcessStartCall>(input), permit),
                Err(_) => StartState::Refused(HostError::Busy("a process start")),
            };
            this.state = next;
        }
        let result = match &mut this.state {
            StartState::Refused(error) => Err(error.clone()),
            StartState::Running(call, _) => ready!(Pin::new(call).poll(cx)),
            StartState::Waiting(..) | StartState::Done => return Poll::Pending,
        };
        this.state = StartState::Done;
        Poll::Ready(result)
    }
}

impl Drop for Start {
    fn drop(&mut self) {
        let StartState::Running(call, permit) =
            core::mem::replace(&mut self.state, StartState::Done)
        else {
            return;
        };
        if !call.is_running() {
            return;
        }
        let (module_id, entrypoint) = (
            core::mem::take(&mut self.module_id),
            core::mem::take(&mut self.entrypoint),
        );
        orphan::adopt(|| {
            Box::pin(async move {
                let result = call.await;
                drop(permit);
                let handler = ON_ORPHAN.with(|slot| slot.borrow().clone());
                if let (Ok(process_id), Some(handler)) = (result, handler) {
                    handler(OrphanedStart {
                        process_id,
                        module_id,
                        entrypoint,
                    });
                }
            })
        });
    }
}

/// Asks the host to stop a process. Success means "requested": a guest that does not yield runs on. After it, the process's log channel cannot be
/// looked up any more. The host also stops the calling module if that is what the id says: check first. Needs `ProcessLifecycle`.
///
/// Carried out at the first poll, even if the future is dropped then.
///
/// # Errors
/// [`HostError::NotFound`] when there is no such process (any more); [`HostError::InvalidArgument`] when the id is something else.
pub async fn stop(process_id: u64) -> Result<(), HostError> {
    host::call::<ProcessStopCall>(&process_id).await
}

/// The log channel of a process, to attach to. Cancel safe. Needs `ProcessLifecycle`.
///
/// # Errors
/// [`HostError::NotFound`] for a moment after the start, until the process has registered it, and for ever if it cannot.
pub async fn log_channel(process_id: u64) -> Result<SharedId, HostError> {
    host::call::<ProcessLogChannel>(&ProcessLogLookup { process_id })
        .await
        .map(SharedId::new)
}

/// Registers a shared channel as this module's own log. Cancel safe. Needs `ChannelLifecycle`.
///
/// # Errors
/// See [`HostError`].
pub async fn register_log_channel(channel: SharedId) -> Result<(), HostError> {
    host::call::<ProcessRegisterLog>(&selium_abi::ProcessLogRegistration {
        channel: channel.get(),
    })
    .await
}
