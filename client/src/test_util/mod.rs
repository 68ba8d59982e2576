//! A server in memory (feature `test-util`), for tests of applications: no runtime, no network, no certificates.
//!
//! It is the real server, `selium-remote-server-core`, with its rules for processes, logs and channels; only the Selium
//! runtime below it is a fake one, and only the QUIC connection is replaced: bytes go from the client's protocol machine to
//! the server's and back. Clients are ordinary [`Client`]s that reconnect and go on as always. What the runtime's modules
//! do, the test says; what goes wrong, too.
//!
//! ```
//! use selium_remote_client::{
//!     Capability, Channel, ClientError, Process, ProcessBuilder, SubscribeItem, SubscribeOptions,
//!     test_util::{Effect, Guest, InMemoryServer},
//! };
//!
//! #[tokio::main]
//! async fn main() -> Result<(), ClientError> {
//!     let server = InMemoryServer::new();
//!     // Reads requests from one channel, and writes its answers to another.
//!     server.module("shout.wasm", |guest: Guest| async move {
//!         let mut requests = guest.reader(0)?;
//!         let mut answers = guest.writer(1)?;
//!         while let Some(request) = requests.read().await? {
//!             answers.write(request.to_ascii_uppercase()).await?;
//!         }
//!         Ok(())
//!     });
//!
//!     // From here on it is what an application does.
//!     let client = server.connect().await?;
//!     let requests = Channel::create(&client, 4_096).await?;
//!     let answers = Channel::create(&client, 4_096).await?;
//!     let shout = ProcessBuilder::new("shout.wasm", "start")
//!         .capability(Capability::ChannelLifecycle)
//!         .capability(Capability::ChannelReader)
//!         .capability(Capability::ChannelWriter)
//!         .arg_channel(&requests)
//!         .arg_channel(&answers);
//!     // The process is started, and the connection is lost before that is answered.
//!     server.lose_next(Effect::Start);
//!     let shout = Process::start(&client, shout).await?;
//!     assert_eq!(server.processes().len(), 1);
//!
//!     let lossless = SubscribeOptions::new().lossless(true);
//!     let mut subscriber = answers.subscribe_with(lossless).await?;
//!     let mut publisher = requests.publish().await?;
//!     for (request, expected) in [("hello", "HELLO"), ("again", "AGAIN")] {
//!         publisher.send(request).await?;
//!         match subscriber.next().await {
//!             Some(Ok(SubscribeItem::Message { payload, .. })) => assert_eq!(payload, expected),
//!             other => panic!("{other:?}"),
//!         }
//!     }
//!
//!     publisher.close().await?;
//!     shout.stop().await?;
//!     client.close().await;
//!     Ok(())
//! }
//! ```
//!
//! # What can be made to go wrong
//!
//! | what | how |
//! | --- | --- |
//! | connections are lost | [`InMemoryServer::drop_connections`] |
//! | no new connections: silence, overload, a certificate that is not accepted | [`InMemoryServer::refuse_connections`] |
//! | the server is restarted: processes and channels are gone, ids void | [`InMemoryServer::restart`] |
//! | it shuts down in order | [`InMemoryServer::drain`] |
//! | an operation is answered with an error | [`InMemoryServer::fail_next`] |
//! | an answer, or acknowledgements, are late: deadlines pass, outcomes are unknown | [`InMemoryServer::hold`] |
//! | an answer is lost, though what was asked for has happened | [`InMemoryServer::lose_next`] |
//! | the server reads nothing, so that credit runs out | [`InMemoryServer::stop_reading`] |
//! | nothing of what it says arrives | [`InMemoryServer::stop_sending`] |
//! | a process ends, or traps | its behaviour returns |
//!
//! # What is known of time
//!
//! The server's clock stands still; [`InMemoryServer::advance`] moves it, and with it everything that the server does after
//! a time. The client's clock is the real one: deadlines and waits between attempts to connect are real (set short ones).
//! Everything that comes of a call has happened when it returns, except what tasks do: those of clients, and guests. To
//! wait for them there is [`InMemoryServer::until`].
//!
//! # What is not imitated
//!
//! TLS and certificates ([`Client::credentials_expire_at`] is nothing), the audit log, the time that anything takes, and the
//! bugs of the runtime: channels wake whoever waits, and what a process has is freed when it is over. A process that came to
//! its end stays "started" for clients, as in the runtime, until it is stopped; [`InMemoryServer::processes`] tells the truth.

mod faults;
mod guest;
mod pipe;
mod processes;
mod record;
mod slots;
mod state;

use std::{fmt, future::poll_fn, sync::Arc, task::Poll, time::Duration};

use selium_remote_client_protocol::{ErrorCode, RemoteError};
use selium_remote_transport_quinn::memory::Loss;

pub use selium_remote_server_core::{
    Config, Permission, Permissions, Policy, Role, RoleId, RoleLimits,
};

pub(crate) use self::pipe::Door;
use self::state::{Dice, Shared, State};
pub use self::{
    faults::{Effect, Operation, Refusal},
    guest::{Guest, GuestReader, GuestWriter, MAX_LOG_MESSAGE, MAX_LOG_RECORD, Trap},
    processes::{ProcessEnd, ProcessReport},
};
use crate::{Client, ClientConfigBuilder, ClientError, Reconnect};

/// The server's time when it is made, in milliseconds since the Unix epoch: 2023-11-14.
pub const START_MS: u64 = 1_700_000_000_000;

impl ClientConfigBuilder {
    /// Connects to a server in memory: domain, port and certificates mean nothing then, and everything else what it always
    /// does.
    #[must_use]
    pub fn in_memory(mut self, server: &InMemoryServer) -> Self {
        self.door = Some(Door(Arc::clone(&server.shared)));
        self
    }
}

/// How a server in memory is.
#[derive(Clone, Debug)]
pub struct InMemoryServerBuilder {
    config: Config,
    seed: Option<u64>,
}

impl Default for InMemoryServerBuilder {
    fn default() -> Self {
        let mut config = Config {
            unix_origin_ms: Some(START_MS),
            ..Config::default()
        };
        // Minutes do not pass by themselves.
        for role in &mut config.policy.roles {
            role.limits.starts_per_minute = u32::MAX;
        }
        Self { config, seed: None }
    }
}

impl InMemoryServerBuilder {
    /// Changes the server's configuration: limits, roles (clients have the first one). The default is that of the server's
    /// module, with a clock and without a limit on starts a minute.
    #[must_use]
    pub fn configure(mut self, change: impl FnOnce(&mut Config)) -> Self {
        change(&mut self.config);
        self
    }

    /// Without a clock, as a module that was not given `TimeRead`.
    #[must_use]
    pub fn without_clock(self) -> Self {
        self.configure(|config| config.unix_origin_ms = None)
    }

    /// Where several things can happen next in channels (somebody reads, somebody writes), the seed chooses; without one
    /// their order is always the same.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// The server.
    #[must_use]
    pub fn build(self) -> InMemoryServer {
        InMemoryServer {
            shared: Shared::new(self.config, self.seed.map(Dice)),
        }
    }
}

/// What a server in memory has, at a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Snapshot {
    /// Connections that are up.
    pub connections: usize,
    /// Attempts to connect that wait ([`Refusal::Silence`]).
    pub callers: usize,
    /// Processes that run.
    pub processes: usize,
    /// Answers and acknowledgements that are held back ([`InMemoryServer::hold`]).
    pub held: usize,
    /// Channels.
    pub channels: usize,
    /// Readers of channels in the runtime: one for all subscribers of a kind, and those of guests.
    pub readers: usize,
    /// Writers to channels in the runtime: one for each publication that was not forgotten and had a message, and those
    /// of guests.
    pub writers: usize,
    /// Bytes of messages that wait for room in their channels.
    pub waiting_bytes: usize,
}

/// A server in memory; see [the module](self). Dropping it ends its connections and its processes.
pub struct InMemoryServer {
    shared: Arc<Shared>,
}

impl Default for InMemoryServer {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for InMemoryServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("InMemoryServer")
            .field(&self.snapshot())
            .finish()
    }
}

impl Drop for InMemoryServer {
    fn drop(&mut self) {
        let _modules = self.shared.change(|state| {
            state.over = true;
            state.restart();
            let callers = std::mem::take(&mut state.callers);
            state.wake(callers.into_values());
            std::mem::take(&mut state.modules)
        });
    }
}

impl InMemoryServer {
    /// A server without modules.
    #[must_use]
    pub fn new() -> Self {
        Self::builder().build()
    }

    /// A server that is made to measure.
    #[must_use]
    pub fn builder() -> InMemoryServerBuilder {
        InMemoryServerBuilder::default()
    }

    /// How to connect to it: the defaults, but for waits of 1 to 10 ms between attempts to reconnect.
    #[must_use]
    pub fn config(&self) -> ClientConfigBuilder {
        let reconnect = Reconnect::new()
            .delay(Duration::from_millis(1))
            .max_delay(Duration::from_millis(10));
        ClientConfigBuilder::default()
            .reconnect(reconnect)
            .in_memory(self)
    }

    /// A client of it, on the runtime that is here.
    ///
    /// # Errors
    /// As [`ClientConfigBuilder::connect`].
    ///
    /// # Cancel safety
    /// As [`ClientConfigBuilder::connect`].
    pub async fn connect(&self) -> Result<Client, ClientError> {
        self.config().connect().await
    }

    /// The runtime has a module from now on, all of whose entrypoints do this; instead of the one that it had by this name.
    /// What a start names that is not there is refused as the server refuses it.
    ///
    /// Each process is a task on the runtime of some client that is connected. It ends as the behaviour says, or when it is
    /// stopped: then it is polled once more, and dropped.
    pub fn module<F, L>(&self, name: impl Into<String>, behaviour: F)
    where
        F: Fn(Guest) -> L + Send + Sync + 'static,
        L: Future<Output = Result<(), Trap>> + Send + 'static,
    {
        let module = state::Module {
            any: Some(Arc::new(move |guest| Box::pin(behaviour(guest)))),
            ..state::Module::default()
        };
        let _before = self
            .shared
            .change(|state| state.modules.insert(name.into(), module));
    }

    /// The same for one entrypoint of a module, which may have others.
    pub fn entrypoint<F, L>(&self, module: impl Into<String>, name: impl Into<String>, behaviour: F)
    where
        F: Fn(Guest) -> L + Send + Sync + 'static,
        L: Future<Output = Result<(), Trap>> + Send + 'static,
    {
        let behaviour: guest::Behaviour = Arc::new(move |guest| Box::pin(behaviour(guest)));
        let _before = self.shared.change(|state| {
            let module = state.modules.entry(module.into()).or_default();
            module.entrypoints.insert(name.into(), behaviour)
        });
    }

    /// The runtime has a module no more. What runs of it goes on.
    pub fn remove_module(&self, name: &str) {
        let _before = self.shared.change(|state| state.modules.remove(name));
    }

    /// The processes that were started, in the order of their starts, with what became of them. Of those that are over,
    /// 1,024 are kept.
    #[must_use]
    pub fn processes(&self) -> Vec<ProcessReport> {
        self.shared.look(|state| state.processes.reports())
    }

    /// What there is now.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        self.shared.look(State::snapshot)
    }

    /// Waits until something is so.
    ///
    /// # Cancel safety
    /// Dropping the future stops the waiting.
    pub async fn until(&self, mut is: impl FnMut(&Snapshot) -> bool) -> Snapshot {
        poll_fn(|cx| {
            self.shared.look(|state| {
                let snapshot = state.snapshot();
                if is(&snapshot) {
                    return Poll::Ready(snapshot);
                }
                if !state
                    .watchers
                    .iter()
                    .any(|known| known.will_wake(cx.waker()))
                {
                    state.watchers.push(cx.waker().clone());
                }
                Poll::Pending
            })
        })
        .await
    }

    /// Lets the server's clock go on, and everything happen in between that is due. Without a clock that does nothing.
    pub fn advance(&self, time: Duration) {
        self.shared.change(|state| {
            let end = state.now.saturating_add(time);
            while let Some(due) = state.core.poll_timeout().filter(|due| *due <= end) {
                state.now = state.now.max(due);
                state.core.handle_timeout(state.now);
                state.settle();
            }
            state.now = end;
            state.core.handle_timeout(end);
        });
    }

    /// All connections are lost, without a goodbye. Clients may connect again.
    pub fn drop_connections(&self) {
        self.shared.change(|state| state.lose_all(Loss::Closed));
    }

    /// No new connections from now on, until [`InMemoryServer::accept_connections`].
    pub fn refuse_connections(&self, how: Refusal) {
        self.refusing(Some(how));
    }

    /// New connections are accepted again, and those that wait.
    pub fn accept_connections(&self) {
        self.refusing(None);
    }

    fn refusing(&self, how: Option<Refusal>) {
        self.shared.change(|state| {
            state.faults.refusing = how;
            let callers = std::mem::take(&mut state.callers);
            state.wake(callers.into_values());
        });
    }

    /// The server and its runtime are restarted: connections are lost, processes and channels are gone, ids of before are
    /// void. Modules are kept, and so is what goes wrong; but for answers that were held, which are lost.
    pub fn restart(&self) {
        self.shared.change(State::restart);
    }

    /// The server takes no new clients and requests, and finishes what runs.
    pub fn drain(&self) {
        self.shared.change(|state| state.core.drain());
    }

    /// The next operation of this kind, of any client, is answered with this error, and not done. Called again, it is the one
    /// behind that; 1,024 such errors are kept.
    pub fn fail_next(&self, operation: Operation, code: ErrorCode) {
        let error = RemoteError::new(code, "the test wants it so");
        self.shared
            .change(|state| state.core.refuse_next(operation.number(), error));
    }

    /// What is changed like this happens from now on, and is not answered, until [`InMemoryServer::release`]: the client's
    /// deadline passes, and the outcome is unknown to it. For [`Effect::Message`]: messages are in their channels, and not
    /// acknowledged.
    pub fn hold(&self, effect: Effect) {
        self.shared
            .change(|state| state.faults.holding.insert(effect));
    }

    /// Holds nothing back any more. What was held is answered, in its order.
    pub fn release(&self) {
        self.shared.change(State::let_go);
    }

    /// When something is changed like this the next time, all connections are lost before it is answered.
    pub fn lose_next(&self, effect: Effect) {
        self.shared
            .change(|state| state.faults.losing.insert(effect));
    }

    /// The server reads nothing from its clients. 256 KiB may be on their way on each connection; then they have to wait.
    pub fn stop_reading(&self) {
        self.shared.change(|state| state.faults.deaf = true);
    }

    /// Nothing that the server says arrives. A client whose ping is not answered for 20 s gives its connection up.
    pub fn stop_sending(&self) {
        self.shared.change(|state| state.faults.mute = true);
    }

    /// The server reads and sends again.
    pub fn resume(&self) {
        self.shared.change(|state| {
            state.faults.deaf = false;
            state.faults.mute = false;
            let readers = state.conns.values_mut().filter_map(|c| c.reader.take());
            let readers: Vec<_> = readers.collect();
            state.wake(readers);
        });
    }
}
