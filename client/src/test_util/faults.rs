//! What can be made to go wrong.

use std::collections::{BTreeSet, VecDeque};

use selium_remote_client_protocol::ops::op;
use selium_remote_server_core::Completion;

/// What clients ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Operation {
    /// [`Client::info`](crate::Client::info).
    Info,
    /// Starting a process.
    Start,
    /// Stopping a process.
    Stop,
    /// Listing processes.
    Processes,
    /// Inspecting a process.
    Inspect,
    /// Opening a [`LogStream`](crate::LogStream), also to go on with it.
    Logs,
    /// Creating a channel.
    CreateChannel,
    /// Deleting a channel.
    DeleteChannel,
    /// Draining a channel.
    DrainChannel,
    /// Sharing a channel.
    ShareChannel,
    /// Listing channels.
    Channels,
    /// Inspecting a channel.
    InspectChannel,
    /// Opening a [`Subscriber`](crate::Subscriber), also to go on with it.
    Subscribe,
    /// Opening a [`Publisher`](crate::Publisher), also to go on with it.
    Publish,
}

impl Operation {
    pub(super) fn number(self) -> u64 {
        match self {
            Operation::Info => op::SERVER_INFO,
            Operation::Start => op::PROCESS_START,
            Operation::Stop => op::PROCESS_STOP,
            Operation::Processes => op::PROCESS_LIST,
            Operation::Inspect => op::PROCESS_INSPECT,
            Operation::Logs => op::LOG_FOLLOW,
            Operation::CreateChannel => op::CHANNEL_CREATE,
            Operation::DeleteChannel => op::CHANNEL_DELETE,
            Operation::DrainChannel => op::CHANNEL_DRAIN,
            Operation::ShareChannel => op::CHANNEL_SHARE,
            Operation::Channels => op::CHANNEL_LIST,
            Operation::InspectChannel => op::CHANNEL_INSPECT,
            Operation::Subscribe => op::SUBSCRIBE,
            Operation::Publish => op::PUBLISH,
        }
    }
}

/// What clients change in the runtime: it happens there first, and is answered then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Effect {
    /// A process was started, or not.
    Start,
    /// A process was stopped.
    Stop,
    /// A channel was created.
    CreateChannel,
    /// A channel was deleted.
    DeleteChannel,
    /// A channel was drained.
    DrainChannel,
    /// A channel was shared.
    ShareChannel,
    /// A message was written to its channel. The answer is its acknowledgement.
    Message,
}

/// How new connections fare.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Refusal {
    /// Nobody answers: attempts wait, until connections are accepted again or their own deadline passes.
    Silence,
    /// They are refused at once, as by a server that is overloaded. It may pass: a client that reconnects tries again.
    Overload,
    /// The client's certificate is not accepted. That is final: a client that reconnects gives up.
    Certificate,
}

/// What goes wrong now.
#[derive(Debug, Default)]
pub(super) struct Faults {
    pub(super) refusing: Option<Refusal>,
    /// Answers to these are kept back.
    pub(super) holding: BTreeSet<Effect>,
    /// Bounded by what the server has in the runtime at a time.
    pub(super) held: VecDeque<Completion>,
    /// Behind the next of these all connections are lost.
    pub(super) losing: BTreeSet<Effect>,
    /// Nothing is read from clients.
    pub(super) deaf: bool,
    /// Nothing is sent to clients.
    pub(super) mute: bool,
}
