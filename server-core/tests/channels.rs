//! The server's rules for channels, against channels in memory, seen by real client machines.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)] // Helpers of tests may panic as tests do.

mod world;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use selium_remote_client_protocol::{
    AbiParam, AbiScalarType, AbiSignature, EntrypointArg, ErrorCode, Limits, RemoteError,
    RequestId, Time,
    ops::{
        Backpressure, ChannelInfo, ChannelList, ChannelState, CreateRequest, DeleteRequest,
        DrainRequest, InfoRequest, InspectChannelRequest, ListChannelsRequest, PublishRequest,
        PublishStarted, Request, ServerInfo, ShareRequest, StartRequest, SubscribeRequest,
        SubscribeStarted,
    },
    publish::Publication,
};
use selium_remote_server_core::{
    Completion, Config, HostCall, HostChannel, HostProcess, Permission, Policy, ReaderId, Role,
    RoleId, WriterId,
    fake::{Act, FakeChannels},
    ring::ENTRY_OVERHEAD,
};
use world::{World, spec};

const CLOCK: Option<u64> = Some(1_700_000_000_000);

struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) as usize % end.max(1)
    }
}

/// What the server may ask of a host in which order.
#[derive(Default)]
struct Contract {
    channels: BTreeSet<HostChannel>,
    /// Readers that may bring something, whose, and whether they are paused.
    readers: BTreeMap<ReaderId, (HostChannel, bool, bool)>,
    closing: BTreeSet<ReaderId>,
    seen: BTreeSet<ReaderId>,
    writers: BTreeSet<WriterId>,
    closed: BTreeSet<WriterId>,
}

impl Contract {
    fn check(&mut self, call: &HostCall) {
        match call {
            HostCall::CreateChannel {
                channel, capacity, ..
            } => {
                assert!(capacity.is_power_of_two());
                assert!(self.channels.insert(*channel), "{call:?}");
            }
            HostCall::OpenReader {
                reader,
                channel,
                lossless,
            } => {
                assert!(self.seen.insert(*reader), "{call:?}");
                let beside = self
                    .readers
                    .iter()
                    .filter(|(_, (c, l, _))| (c, l) == (channel, lossless));
                assert_eq!(beside.count(), 0, "one reader a kind");
                self.readers.insert(*reader, (*channel, *lossless, false));
            }
            HostCall::PauseReader { reader } => {
                let known = self.readers.get_mut(reader).expect("an open reader");
                assert!(known.1 && !known.2, "{call:?}");
                known.2 = true;
            }
            HostCall::ResumeReader { reader } => {
                let known = self.readers.get_mut(reader).expect("an open reader");
                assert!(known.2, "{call:?}");
                known.2 = false;
            }
            HostCall::CloseReader { reader } => {
                assert!(self.readers.contains_key(reader), "{call:?}");
                assert!(self.closing.insert(*reader), "{call:?}");
            }
            HostCall::Write { writer, bytes, .. } => {
                assert!(!bytes.is_empty());
                assert!(!self.closed.contains(writer), "{call:?}");
                self.writers.insert(*writer);
            }
            HostCall::CloseWriter { writer } => {
                assert!(self.writers.contains(writer), "{call:?}");
                assert!(self.closed.insert(*writer), "{call:?}");
            }
            _ => {}
        }
    }
}

/// A world whose channels act.
struct Lab {
    world: World,
    fake: FakeChannels,
    dice: Dice,
    contract: Contract,
    /// What was written to each channel, by whomever.
    written: BTreeMap<HostChannel, Vec<Bytes>>,
    /// Calls that concern no channels.
    others: Vec<HostCall>,
    nudges: usize,
    writes: usize,
    /// The publisher of each message that is on its way, so that nothing is done to it before.
    hold: bool,
}

impl Lab {
    fn new(config: Config) -> Self {
        Self::seeded(config, 1)
    }

    fn seeded(config: Config, seed: u64) -> Self {
        Self {
            world: World::new(config),
            fake: FakeChannels::default(),
            dice: Dice(seed),
            contract: Contract::default(),
            written: BTreeMap::new(),
            others: Vec::new(),
            nudges: 0,
            writes: 0,
            hold: false,
        }
    }

    /// Hands what the server asks for to the channels.
    fn hand(&mut self) {
        self.world.run();
        for call in self.world.host.take() {
            self.contract.check(&call);
            match &call {
                HostCall::NudgeReader { .. } => self.nudges += 1,
                HostCall::Write { .. } => self.writes += 1,
                _ => {}
            }
            self.others.extend(self.fake.begin(call));
        }
    }

    /// One thing happens in the host; whether there was one.
    fn step(&mut self) -> bool {
        self.hand();
        let mut ready = self.fake.ready();
        if self.hold {
            ready.retain(|act| !matches!(act, Act::Write(_)));
        }
        if ready.is_empty() {
            return false;
        }
        let act = ready[self.dice.below(ready.len())];
        self.act(act);
        true
    }

    fn act(&mut self, act: Act) {
        let message = match act {
            Act::Write(writer) => self
                .fake
                .front(writer)
                .map(|(channel, bytes)| (channel, bytes.clone())),
            _ => None,
        };
        let completion = self.fake.act(act).expect("it was ready");
        match (&completion, message) {
            (Completion::Written { result: Ok(()), .. }, Some((channel, bytes))) => {
                self.written.entry(channel).or_default().push(bytes);
            }
            (Completion::ReaderEnded { reader, .. }, _) => {
                self.contract.readers.remove(reader);
                self.contract.closing.remove(reader);
            }
            _ => {}
        }
        self.world.complete(completion);
        self.hand();
    }

    fn settle(&mut self) {
        while self.step() {}
    }

    fn ask(&mut self, peer: usize, request: &impl Request) -> Result<Bytes, RemoteError> {
        let id = self.world.call(peer, request);
        self.settle();
        self.world.answer(peer, id)
    }

    fn info(&mut self, peer: usize, request: &impl Request) -> Result<ChannelInfo, RemoteError> {
        let answer = self.ask(peer, request)?;
        Ok(ChannelInfo::decode(&answer).unwrap())
    }

    fn create(&mut self, peer: usize, name: &str, capacity: u32) -> ChannelInfo {
        self.info(peer, &create(Some(name), capacity)).unwrap()
    }

    fn inspect(&mut self, peer: usize, name: &str) -> ChannelInfo {
        self.info(peer, &inspect(name)).unwrap()
    }

    /// The newest channel, as the host knows it.
    fn newest(&self) -> HostChannel {
        self.fake.channels().last().unwrap()
    }

    /// A process writes.
    fn write(&mut self, channel: HostChannel, text: &str) {
        let bytes = Bytes::copy_from_slice(text.as_bytes());
        self.fake.write(channel, bytes.clone()).unwrap();
        self.written.entry(channel).or_default().push(bytes);
        self.settle();
    }

    fn subscribe(&mut self, peer: usize, request: &SubscribeRequest) -> RequestId {
        let id = self.world.call(peer, request);
        self.settle();
        id
    }

    fn publish(&mut self, peer: usize, target: &str, number: u64, resume: bool) -> RequestId {
        let request = publish(target, number, resume);
        let id = self.world.call(peer, &request);
        self.settle();
        id
    }

    fn started(&mut self, peer: usize, id: RequestId) -> PublishStarted {
        PublishStarted::decode(&self.world.answer(peer, id).unwrap()).unwrap()
    }

    fn send(&mut self, peer: usize, id: RequestId, number: u64, text: &str) {
        let bytes = Bytes::copy_from_slice(text.as_bytes());
        self.world.peers[peer].core.send(id, number, bytes).unwrap();
        self.settle();
    }

    fn lose(&mut self, peer: usize) {
        let id = self.world.peers[peer].connection;
        self.world.server.forget_connection(self.world.now, id);
        self.hand();
    }

    fn texts(&self, channel: HostChannel) -> Vec<&str> {
        let written = self.written.get(&channel).into_iter().flatten();
        written
            .map(|bytes| core::str::from_utf8(bytes).unwrap())
            .collect()
    }

    fn acks(&self, peer: usize, id: RequestId) -> Vec<(u64, bool)> {
        let acks = self.world.peers[peer].acks.get(&id);
        acks.cloned().unwrap_or_default()
    }

    fn end(&self, peer: usize, id: RequestId) -> Option<ErrorCode> {
        let ended = self.world.peers[peer].ended.get(&id).expect("an end");
        ended.as_ref().map(|error| error.code)
    }

    fn is_open(&self, peer: usize, id: RequestId) -> bool {
        !self.world.peers[peer].ended.contains_key(&id)
    }

    fn server_info(&mut self, peer: usize) -> ServerInfo {
        ServerInfo::decode(&self.ask(peer, &InfoRequest).unwrap()).unwrap()
    }

    fn at(&mut self, ms: u64) {
        let until = Time::from_millis(ms);
        while let Some(due) = self.world.server.poll_timeout().filter(|due| *due <= until) {
            self.world.now = self.world.now.max(due);
            self.world.server.handle_timeout(self.world.now);
            self.hand();
        }
        self.world.now = until;
        self.settle();
    }
}

fn create(name: Option<&str>, capacity: u32) -> CreateRequest {
    CreateRequest::with(|made| {
        made.capacity = capacity;
        made.name = name.map(str::to_owned);
    })
}

fn dropping(name: &str, capacity: u32) -> CreateRequest {
    let mut made = create(Some(name), capacity);
    made.backpressure = Backpressure::Drop;
    made
}

fn delete(target: &str) -> DeleteRequest {
    DeleteRequest::with(|made| made.target = target.into())
}

fn drain(target: &str) -> DrainRequest {
    DrainRequest::with(|made| made.target = target.into())
}

fn share(target: &str) -> ShareRequest {
    ShareRequest::with(|made| made.target = target.into())
}

fn inspect(target: &str) -> InspectChannelRequest {
    InspectChannelRequest::with(|made| made.target = target.into())
}

fn lossy(target: &str) -> SubscribeRequest {
    SubscribeRequest::with(|made| made.target = target.into())
}

fn lossless(target: &str) -> SubscribeRequest {
    SubscribeRequest::with(|made| {
        made.target = target.into();
        made.lossless = true;
    })
}

fn publish(target: &str, number: u64, resume: bool) -> PublishRequest {
    PublishRequest::with(|made| {
        made.target = target.into();
        made.publication = number;
        made.resume = resume;
    })
}

/// A start with these channels as arguments, one as a number and the others themselves.
fn start_with(channels: &[u64]) -> StartRequest {
    let mut made = spec(None);
    let kinds = [AbiScalarType::U64, AbiScalarType::I32];
    let kind = |at: usize| AbiParam::Scalar(kinds[at.min(1)]);
    made.signature = AbiSignature::new((0..channels.len()).map(kind).collect(), vec![]);
    made.args = channels
        .iter()
        .copied()
        .map(EntrypointArg::Resource)
        .collect();
    made
}

fn timed() -> Config {
    Config {
        unix_origin_ms: CLOCK,
        ..Config::default()
    }
}

fn code(answer: Result<impl core::fmt::Debug, RemoteError>) -> (ErrorCode, String) {
    let error = answer.expect_err("an error");
    (error.code, error.field.unwrap_or_default())
}

// ---------------------------------------------------------------- the table

#[test]
fn a_channel_is_created_inspected_and_deleted() {
    let mut lab = Lab::new(timed());
    let a = lab.world.connect();
    let made = lab.info(a, &create(None, 1_000)).unwrap();
    assert_eq!((made.name.as_str(), made.capacity), ("channel-1", 1_024));
    assert_eq!((made.state, made.shared), (ChannelState::Open, false));
    assert_eq!(
        (made.backpressure, made.created_ms),
        (Backpressure::Park, CLOCK)
    );
    assert_eq!(made.id % 2, 1, "never a process's id");
    let id = selium_remote_server_core::ids::show(made.id);
    for target in ["channel-1", &id, &id[..6]] {
        assert_eq!(lab.inspect(a, target), made);
    }
    let second = lab.info(a, &dropping("data", 16 << 20)).unwrap();
    assert_eq!(
        (second.capacity, second.backpressure),
        (16 << 20, Backpressure::Drop)
    );
    let gone = lab.info(a, &delete(&id)).unwrap();
    assert_eq!((gone.state, gone.id), (ChannelState::Deleted, made.id));
    assert_eq!(code(lab.ask(a, &inspect(&id))).0, ErrorCode::NotFound);
    assert_eq!(
        code(lab.ask(a, &delete("channel-1"))).0,
        ErrorCode::NotFound
    );
    // The name is free, and numbers go on.
    assert_eq!(lab.info(a, &create(None, 1)).unwrap().name, "channel-3");
    lab.create(a, "channel-1", 1);
    // A process may have the same name.
    assert!(lab.world.inspect(a, "data").is_err());
}

#[test]
fn channels_are_listed_in_pages() {
    let mut lab = Lab::new(Config::default());
    let a = lab.world.connect();
    for n in 0..5 {
        lab.create(a, &format!("c{n}"), 64);
    }
    lab.ask(a, &delete("c1")).unwrap();
    let mut list = |limit, cursor| {
        let request = ListChannelsRequest::with(|made| {
            made.limit = limit;
            made.cursor = cursor;
        });
        let list = ChannelList::decode(&lab.ask(a, &request).unwrap()).unwrap();
        let names: Vec<_> = list.channels.into_iter().map(|c| c.name).collect();
        (names.join(" "), list.next)
    };
    assert_eq!(list(256, 0), ("c0 c2 c3 c4".into(), None));
    let (names, next) = list(2, 0);
    assert_eq!(names, "c0 c2");
    assert_eq!(list(2, next.unwrap()), ("c3 c4".into(), None));
}

#[test]
fn bad_creates_name_the_thing_and_take_nothing() {
    let mut lab = Lab::new(Config {
        max_channels: 2,
        all_channel_bytes: 4_096,
        ..Config::default()
    });
    let a = lab.world.connect();
    let refused = |lab: &mut Lab, request: &CreateRequest| code(lab.ask(a, request));
    assert_eq!(
        refused(&mut lab, &create(None, 0)).0,
        ErrorCode::InvalidArgument
    );
    assert_eq!(
        refused(&mut lab, &create(None, (16 << 20) + 1)).0,
        ErrorCode::InvalidArgument
    );
    let name = (ErrorCode::InvalidArgument, "name".to_owned());
    assert_eq!(refused(&mut lab, &create(Some("No Name"), 1)), name);
    let capacity = (ErrorCode::ResourceExhausted, "capacity".to_owned());
    assert_eq!(
        refused(&mut lab, &create(None, 4_097)),
        capacity,
        "rounded up"
    );
    assert!(lab.contract.channels.is_empty(), "the host sees nothing");
    lab.create(a, "one", 2_049);
    assert_eq!(refused(&mut lab, &create(None, 1)), capacity);
    lab.ask(a, &delete("one")).unwrap();
    lab.create(a, "one", 2_048);
    assert_eq!(
        refused(&mut lab, &create(Some("one"), 1)),
        (ErrorCode::AlreadyExists, "name".to_owned())
    );
    // What the host does not create takes no room and no name.
    lab.fake.failing = Some("permission denied".to_owned());
    for _ in 0..5 {
        assert_eq!(
            refused(&mut lab, &create(Some("two"), 2_048)).0,
            ErrorCode::Unavailable
        );
    }
    lab.fake.failing = None;
    lab.create(a, "two", 2_048);
    assert_eq!(
        refused(&mut lab, &create(None, 1)).0,
        ErrorCode::ResourceExhausted
    );
}

#[test]
fn what_is_so_already_changes_nothing() {
    let mut lab = Lab::new(Config::default());
    let a = lab.world.connect();
    lab.create(a, "data", 64);
    for _ in 0..3 {
        assert!(lab.info(a, &share("data")).unwrap().shared);
        assert_eq!(
            lab.info(a, &drain("data")).unwrap().state,
            ChannelState::Draining
        );
    }
    assert!(lab.fake.is_shared(lab.newest()));
    let events = lab.world.host.take_audit();
    assert_eq!(events.len(), 1 + 6);
    // One that fails changes nothing either.
    lab.create(a, "other", 64);
    lab.fake.failing = Some("the host is tired".to_owned());
    assert_eq!(code(lab.ask(a, &share("other"))).0, ErrorCode::Internal);
    assert_eq!(code(lab.ask(a, &drain("other"))).0, ErrorCode::Internal);
    let error = lab.ask(a, &delete("other")).unwrap_err();
    assert!(error.message.contains("`other`") && error.message.contains("tired"));
    let other = lab.inspect(a, "other");
    assert_eq!((other.state, other.shared), (ChannelState::Open, false));
}

#[test]
fn retries_join_and_change_once() {
    let mut lab = Lab::new(Config::default());
    let a = lab.world.connect();
    let first = lab.world.changing(a, &create(Some("data"), 64), 1, false);
    let second = lab.world.changing(a, &create(Some("data"), 64), 1, true);
    lab.settle();
    let one = lab.world.answer(a, first).unwrap();
    assert_eq!(lab.world.answer(a, second).unwrap(), one);
    let late = lab.world.changing(a, &create(Some("data"), 64), 1, true);
    assert_eq!(lab.world.answer(a, late).unwrap(), one);
    assert_eq!(lab.contract.channels.len(), 1);
    let unknown = lab.world.changing(a, &delete("data"), 9, true);
    assert_eq!(
        code(lab.world.answer(a, unknown)).0,
        ErrorCode::OutcomeUnknown
    );
    // Two deletes without tokens, and one with: the host is asked once.
    lab.world.host.take_audit();
    let asks = [
        lab.world.call(a, &delete("data")),
        lab.world.call(a, &delete("data")),
        lab.world.changing(a, &delete("data"), 2, false),
        lab.world.changing(a, &delete("data"), 2, true),
    ];
    let calls = lab.world.host.take();
    assert!(
        matches!(calls[..], [HostCall::DeleteChannel { .. }]),
        "{calls:?}"
    );
    for call in calls {
        lab.fake.begin(call);
    }
    lab.settle();
    for id in asks {
        let info = ChannelInfo::decode(&lab.world.answer(a, id).unwrap()).unwrap();
        assert_eq!(info.state, ChannelState::Deleted);
    }
    assert_eq!(lab.world.host.take_audit().len(), 3);
    let late = lab.world.changing(a, &delete("data"), 2, true);
    assert!(
        lab.world.answer(a, late).is_ok(),
        "the result, not a delete"
    );
}

#[test]
fn a_channel_outlives_its_creator() {
    let mut lab = Lab::new(Config::default());
    let (a, b) = (lab.world.connect(), lab.world.connect());
    lab.world.call(a, &create(Some("data"), 64));
    lab.lose(a);
    lab.settle();
    assert_eq!(lab.inspect(b, "data").name, "data");
}

#[test]
fn a_channel_that_a_process_deletes_is_gone() {
    let mut lab = Lab::new(Config::default());
    let a = lab.world.connect();
    lab.create(a, "data", 64);
    let channel = lab.newest();
    let reading = lab.subscribe(a, &lossy("data"));
    let writing = lab.publish(a, "data", 1, false);
    lab.fake.lose(channel);
    lab.world.complete(Completion::ChannelGone { channel });
    lab.world.complete(Completion::ChannelGone { channel });
    lab.settle();
    assert_eq!(lab.end(a, reading), Some(ErrorCode::Cancelled));
    assert_eq!(lab.end(a, writing), Some(ErrorCode::NotFound));
    assert_eq!(code(lab.ask(a, &inspect("data"))).0, ErrorCode::NotFound);
    lab.create(a, "data", 64);
}

// ---------------------------------------------------------------- audit and roles

#[test]
fn changes_and_refusals_are_recorded() {
    let mut role = Role::new("reader");
    role.permissions = [Permission::Subscribe].into_iter().collect();
    let mut lab = Lab::new(Config {
        policy: Policy::new(vec![Role::admin(), role]),
        ..timed()
    });
    let a = lab.world.connect();
    let b = lab.world.connect_in(9, Limits::default(), RoleId(1));
    lab.create(a, "data", 64);
    lab.info(a, &create(None, 64)).unwrap();
    let _ = lab.ask(a, &create(Some("data"), 64));
    lab.ask(a, &share("data")).unwrap();
    lab.ask(a, &share("data")).unwrap();
    lab.ask(a, &drain("data")).unwrap();
    let _ = lab.ask(a, &drain("nothing"));
    lab.ask(a, &delete("channel-2")).unwrap();
    let _ = lab.ask(b, &create(Some("mine"), 64));
    let _ = lab.ask(b, &delete("data"));
    let _ = lab.ask(b, &lossless("data"));
    let _ = lab.ask(b, &publish("data", 1, false));
    let events = lab.world.host.take_audit();
    let told: Vec<_> = events
        .iter()
        .map(|event| {
            assert_eq!(event.process, None);
            assert_eq!(event.result.is_ok(), event.reason.is_empty());
            let error = event.result.err();
            (
                event.role.as_str(),
                event.operation,
                event.target.as_str(),
                error,
            )
        })
        .collect();
    let denied = Some(ErrorCode::PermissionDenied);
    assert_eq!(
        told,
        [
            ("admin", "channel create", "data", None),
            ("admin", "channel create", "channel-2", None),
            (
                "admin",
                "channel create",
                "data",
                Some(ErrorCode::AlreadyExists)
            ),
            ("admin", "channel share", "data", None),
            ("admin", "channel share", "data", None),
            ("admin", "channel drain", "data", None),
            (
                "admin",
                "channel drain",
                "nothing",
                Some(ErrorCode::NotFound)
            ),
            ("admin", "channel delete", "channel-2", None),
            ("reader", "channel create", "mine", denied),
            ("reader", "channel delete", "data", denied),
            ("reader", "subscribe", "data", denied),
            ("reader", "publish", "data", denied),
        ]
    );
}

#[test]
fn permissions_of_channels_stand_for_their_own_operations() {
    type Ask = fn(&mut Lab, usize) -> Result<Bytes, RemoteError>;
    let operations: [(Permission, Ask); 9] = [
        (Permission::Channels, |lab, a| lab.ask(a, &create(None, 64))),
        (Permission::Channels, |lab, a| lab.ask(a, &share("x"))),
        (Permission::Channels, |lab, a| lab.ask(a, &drain("x"))),
        (Permission::Channels, |lab, a| lab.ask(a, &delete("x"))),
        (Permission::Subscribe, |lab, a| {
            lab.ask(a, &ListChannelsRequest::default())
        }),
        (Permission::Subscribe, |lab, a| lab.ask(a, &inspect("x"))),
        (Permission::Subscribe, |lab, a| lab.ask(a, &lossy("x"))),
        (Permission::SubscribeLossless, |lab, a| {
            lab.ask(a, &lossless("x"))
        }),
        (Permission::Publish, |lab, a| {
            lab.ask(a, &publish("x", 1, false))
        }),
    ];
    // Each permission alone, and all but each.
    for one in Permission::ALL {
        for alone in [true, false] {
            let mut role = Role::admin();
            let mut granted = Permission::ALL.to_vec();
            granted.retain(|permission| (*permission == one) == alone);
            role.permissions = granted.iter().copied().collect();
            let mut lab = Lab::new(Config {
                policy: Policy::new(vec![role, Role::admin()]),
                ..timed()
            });
            let a = lab.world.connect();
            for exists in [false, true] {
                if exists {
                    let admin = lab.world.connect_in(7, Limits::default(), RoleId(1));
                    lab.create(admin, "x", 64);
                }
                for (permission, ask) in operations {
                    if exists && permission == Permission::Channels {
                        continue; // It would not stay.
                    }
                    let denied = match ask(&mut lab, a) {
                        Err(error) if error.code == ErrorCode::PermissionDenied => {
                            assert_eq!(error.field.as_deref(), Some("operation"));
                            true
                        }
                        _ => false,
                    };
                    assert_eq!(
                        denied,
                        !granted.contains(&permission),
                        "{permission:?} of {granted:?}, {exists}"
                    );
                }
            }
        }
    }
}

#[test]
fn who_may_not_subscribe_learns_nothing() {
    let mut lab = Lab::new(Config {
        policy: Policy::new(vec![Role::admin(), Role::new("nothing")]),
        ..timed()
    });
    let a = lab.world.connect();
    lab.create(a, "data", 64);
    let b = lab.world.connect_in(9, Limits::default(), RoleId(1));
    let mut answers = Vec::new();
    for target in ["data", "nobody", ""] {
        for request in [lossy(target), lossless(target)] {
            answers.push(lab.ask(b, &request).unwrap_err().message);
        }
    }
    answers.dedup();
    assert_eq!(answers.len(), 1, "{answers:?}");
}

// ---------------------------------------------------------------- arguments of processes

#[test]
fn a_process_is_given_channels() {
    let mut lab = Lab::new(Config::default());
    let a = lab.world.connect();
    let (one, two) = (lab.create(a, "one", 64), lab.create(a, "two", 64));
    let request = lab.world.call(a, &start_with(&[one.id, two.id, one.id]));
    lab.settle();
    let Some(HostCall::Start { op, channels, .. }) = lab.others.pop() else {
        panic!("a start")
    };
    assert_eq!(
        channels,
        [(one.id, HostChannel(1)), (two.id, HostChannel(2))]
    );
    assert!(!lab.inspect(a, "one").shared, "not before it was started");
    let result = Ok(HostProcess(1));
    lab.world.complete(Completion::Started { op, result });
    assert!(lab.world.answer(a, request).is_ok());
    assert!(lab.inspect(a, "one").shared && lab.inspect(a, "two").shared);

    let arguments = |code| (code, "arguments".to_owned());
    assert_eq!(
        code(lab.ask(a, &start_with(&[one.id, 12_345]))),
        arguments(ErrorCode::NotFound)
    );
    lab.ask(a, &drain("two")).unwrap();
    assert_eq!(
        code(lab.ask(a, &start_with(&[one.id, two.id]))),
        arguments(ErrorCode::Unavailable)
    );
    // One that is deleted while its start waits.
    for _ in 0..3 {
        lab.world.call(a, &start_with(&[one.id]));
    }
    lab.hand();
    assert_eq!(lab.others.len(), 3, "two starts and a log");
    lab.ask(a, &delete("one")).unwrap();
    let ops: Vec<_> = lab
        .others
        .iter()
        .filter_map(|call| match call {
            HostCall::Start { op, .. } => Some(*op),
            _ => None,
        })
        .collect();
    lab.others.clear();
    let failed = |op| Completion::Started {
        op,
        result: Err("no".to_owned()),
    };
    lab.world.complete(failed(ops[0]));
    lab.hand();
    assert!(lab.others.is_empty(), "the third is not started");
    let errors: Vec<_> = lab.world.peers[a]
        .answers
        .values()
        .map(|answer| code(answer.clone()).0)
        .collect();
    assert_eq!(
        errors
            .iter()
            .filter(|code| **code == ErrorCode::NotFound)
            .count(),
        1
    );
}

#[test]
fn channels_as_arguments_ask_for_their_permission() {
    let mut role = Role::admin();
    role.permissions = [Permission::Start].into_iter().collect();
    let mut lab = Lab::new(Config {
        policy: Policy::new(vec![Role::admin(), role]),
        ..Config::default()
    });
    let a = lab.world.connect();
    let b = lab.world.connect_in(9, Limits::default(), RoleId(1));
    let one = lab.create(a, "one", 64);
    for id in [one.id, 4_711] {
        let refused = code(lab.ask(b, &start_with(&[id])));
        assert_eq!(
            refused,
            (ErrorCode::PermissionDenied, "arguments".to_owned())
        );
    }
    assert!(lab.others.is_empty());
    lab.world.call(b, &start_with(&[]));
    lab.hand();
    assert_eq!(lab.others.len(), 1);
}

// ---------------------------------------------------------------- subscriptions

#[test]
fn subscribers_get_what_is_written_with_its_boundaries() {
    for request in [lossy("data"), lossless("data")] {
        let mut lab = Lab::new(Config::default());
        let (a, b) = (lab.world.connect(), lab.world.connect());
        lab.create(a, "data", 1_024);
        let channel = lab.newest();
        lab.write(channel, "before");
        let one = lab.subscribe(a, &request);
        let started = SubscribeStarted::decode(&lab.world.answer(a, one).unwrap()).unwrap();
        assert_eq!(
            (started.name.as_str(), started.first, started.next),
            ("data", 0, 0)
        );
        assert_eq!(
            lab.world.stream(a, one),
            ["0:before"],
            "what the channel holds"
        );
        lab.write(channel, "a");
        let two = lab.subscribe(b, &request);
        let started = SubscribeStarted::decode(&lab.world.answer(b, two).unwrap()).unwrap();
        assert_eq!((started.first, started.next), (0, 2));
        lab.write(channel, "bc");
        assert_eq!(lab.world.stream(a, one), ["0:before", "1:a", "2:bc"]);
        assert_eq!(
            lab.world.stream(b, two),
            ["2:bc"],
            "nothing of what was before"
        );
        // Unless it asks.
        for (tail, since, seen) in [
            (Some(2), None, vec!["1:a", "2:bc"]),
            (None, Some(1), vec!["1:a", "2:bc"]),
            (Some(9), Some(2), vec!["2:bc"]),
            (Some(1), Some(0), vec!["2:bc"]),
            (Some(0), None, vec![]),
            (None, Some(9), vec![]),
        ] {
            let mut request = request.clone();
            (request.tail, request.since) = (tail, since);
            let id = lab.subscribe(b, &request);
            assert_eq!(lab.world.stream(b, id), seen, "{tail:?} {since:?}");
        }
        let info = lab.inspect(a, "data");
        let counts = (info.lossless, info.lossy);
        assert_eq!(counts, if request.lossless { (8, 0) } else { (0, 8) });
        assert_eq!(lab.fake.in_use(), (1, 0), "one reader for all");
    }
}

#[test]
fn the_two_kinds_are_numbered_for_themselves() {
    let mut lab = Lab::new(Config::default());
    let a = lab.world.connect();
    lab.create(a, "data", 1_024);
    let channel = lab.newest();
    let one = lab.subscribe(a, &lossy("data"));
    lab.write(channel, "a");
    let two = lab.subscribe(a, &lossless("data"));
    lab.write(channel, "b");
    assert_eq!(lab.world.stream(a, one), ["0:a", "1:b"]);
    assert_eq!(
        lab.world.stream(a, two),
        ["0:a", "1:b"],
        "its own reader begins with what there is"
    );
    assert_eq!(lab.fake.in_use(), (2, 0));
}

#[test]
fn a_channel_that_drops_has_no_lossless_subscribers() {
    let mut lab = Lab::new(Config::default());
    let a = lab.world.connect();
    lab.ask(a, &dropping("data", 64)).unwrap();
    assert_eq!(
        code(lab.ask(a, &lossless("data"))),
        (ErrorCode::InvalidArgument, "lossless".to_owned())
    );
    assert!(lab.ask(a, &lossy("data")).is_ok());
}

#[test]
fn slow_lossy_subscribers_are_told_how_many_they_missed() {
    let mut lab = Lab::new(Config {
        channel_ring_bytes: 20 * (10 + ENTRY_OVERHEAD),
        ..Config::default()
    });
    let (slow, fast) = (lab.world.connect(), lab.world.connect());
    lab.create(slow, "data", 1 << 20);
    let channel = lab.newest();
    lab.world.peers[slow].reads = false;
    let one = lab.subscribe(slow, &lossy("data"));
    let two = lab.subscribe(fast, &lossy("data"));
    let total = 20_000;
    for n in 0..total {
        lab.write(channel, &format!("{n:010}"));
    }
    assert_eq!(lab.world.stream(fast, two).len(), total);
    let got = lab.world.stream(slow, one).len();
    assert!((500..total / 2).contains(&got), "{got}");
    lab.world.peers[slow].reads = true;
    for _ in 0..1_000 {
        lab.world.peers[slow].read();
        lab.settle();
    }
    // Every message or a place in a gap: exactly all of them.
    let (messages, missed, next) = tally(&lab.world.stream(slow, one));
    assert_eq!((messages + missed, next), (total as u64, total as u64));
    assert!(missed > 1_000);
    // What the runtime lost has no count.
    let reader = *lab.contract.readers.keys().next().unwrap();
    lab.world.complete(Completion::ReadLost { reader });
    let last = format!("gap ? ->{}", total + 1);
    assert_eq!(lab.world.stream(slow, one).last(), Some(&last.as_str()));
}

/// Messages, and those that were missed, of what a subscriber has seen from 0 on; and the next number. Checks the order.
fn tally(seen: &[&str]) -> (u64, u64, u64) {
    let (mut messages, mut missed, mut next) = (0, 0, 0);
    for event in seen {
        if let Some(gap) = event.strip_prefix("gap ") {
            let (count, to) = gap.split_once(" ->").unwrap();
            let to: u64 = to.parse().unwrap();
            let count: u64 = count.parse().expect("a counted gap");
            assert_eq!(next + count, to);
            missed += count;
            next = to;
        } else {
            let (number, text) = event.split_once(':').unwrap();
            assert_eq!(number.parse::<u64>().unwrap(), next);
            assert_eq!(text.parse::<u64>().unwrap(), next);
            messages += 1;
            next += 1;
        }
    }
    (messages, missed, next)
}

#[test]
fn a_slow_lossless_subscriber_holds_writers_back_and_loses_nothing() {
    let ring = 8_192;
    let mut lab = Lab::new(Config {
        channel_ring_bytes: ring,
        ..timed()
    });
    let (slow, fast) = (lab.world.connect(), lab.world.connect());
    lab.create(slow, "data", 4_096);
    let channel = lab.newest();
    let (one, two) = (
        lab.subscribe(slow, &lossless("data")),
        lab.subscribe(fast, &lossless("data")),
    );
    lab.world.peers[slow].reads = false;
    let mut n = 0u64;
    let mut most = 0;
    let mut fill = |lab: &mut Lab, n: &mut u64| {
        for _ in 0..2_000 {
            if lab.fake.write(channel, format!("{n:0100}").into()).is_err() {
                break;
            }
            *n += 1;
            // The reader may read or not in between.
            if lab.dice.below(3) == 0 {
                lab.settle();
            }
            most = most.max(lab.server_info(fast).ring_bytes);
        }
        lab.settle();
    };
    for _ in 0..10 {
        fill(&mut lab, &mut n);
    }
    let held = n;
    fill(&mut lab, &mut n);
    assert_eq!(n, held, "the writer waits");
    assert!(n > 100, "{n}");
    // What the slow one has not read: its windows and queue, the ring, the channel. Nothing else grows.
    let fast_got = lab.world.stream(fast, two).len() as u64;
    assert!(
        fast_got < n && n - fast_got <= 41,
        "{fast_got} of {n}: the channel holds the rest"
    );
    lab.world.peers[slow].reads = true;
    lab.world.peers[slow].read();
    for _ in 0..10 {
        lab.settle();
        fill(&mut lab, &mut n);
    }
    assert!(n > held + 200);
    for (peer, id) in [(slow, one), (fast, two)] {
        assert_eq!(tally(&lab.world.stream(peer, id)), (n, 0, n));
    }
    // A reader that is to wait is not looked after.
    lab.world.peers[slow].reads = false;
    fill(&mut lab, &mut n);
    let nudges = lab.nudges;
    let paused = lab.contract.readers.values().all(|(_, _, paused)| *paused);
    assert!(paused, "again");
    lab.at(20_000);
    assert_eq!(lab.nudges, nudges);
    let bound = (ring + 164 * 2) as u64;
    assert!((ring as u64..=bound).contains(&most), "{most}");
    assert!(lab.is_open(slow, one));
}

#[test]
fn all_rings_together_are_bounded() {
    let all = 64 * 1_024;
    let mut lab = Lab::new(Config {
        channel_ring_bytes: 32 * 1_024,
        all_channel_rings_bytes: all,
        ..Config::default()
    });
    let a = lab.world.connect();
    let b = lab.world.connect();
    lab.world.peers[a].reads = false;
    let names: Vec<String> = (0..8).map(|n| format!("c{n}")).collect();
    for (at, name) in names.iter().enumerate() {
        lab.create(b, name, 2_048);
        let kind = if at % 2 == 0 {
            lossy(name)
        } else {
            lossless(name)
        };
        lab.subscribe(a, &kind);
    }
    let channels: Vec<HostChannel> = lab.fake.channels().collect();
    let mut most = 0;
    for _ in 0..2_000 {
        for channel in &channels {
            let _ = lab.fake.write(*channel, vec![b'x'; 900].into());
        }
        lab.settle();
        most = most.max(lab.server_info(b).ring_bytes);
    }
    // One message on its way for each.
    assert!(most <= (all + 8 * 1_000) as u64, "{most}");
    assert!(most > all as u64 / 2, "{most}");
    // All that are slow go on when they read.
    lab.world.peers[a].reads = true;
    for _ in 0..200 {
        lab.world.peers[a].read();
        lab.settle();
    }
    let stream = |lab: &Lab| -> usize { lab.world.peers[a].stream.values().map(Vec::len).sum() };
    let before = stream(&lab);
    for channel in &channels {
        lab.fake
            .write(*channel, "again".into())
            .expect("nobody waits");
    }
    lab.settle();
    assert_eq!(stream(&lab), before + 8);
}

#[test]
fn a_lossless_subscriber_that_takes_nothing_is_ended() {
    for clock in [CLOCK, None] {
        let mut lab = Lab::new(Config {
            unix_origin_ms: clock,
            channel_ring_bytes: 256 * 1_024,
            ..Config::default()
        });
        let (slow, fast) = (lab.world.connect(), lab.world.connect());
        lab.create(slow, "data", 4_096);
        let channel = lab.newest();
        let one = lab.subscribe(slow, &lossless("data"));
        let two = lab.subscribe(fast, &lossless("data"));
        // Who has everything takes nothing for as long as it likes.
        lab.at(100_000);
        lab.world.peers[slow].reads = false;
        let mut n = 0;
        let mut fill = |lab: &mut Lab| {
            let before = n;
            for _ in 0..6_000 {
                if lab.fake.write(channel, format!("{n:0100}").into()).is_err() {
                    break;
                }
                n += 1;
                lab.settle();
            }
            n > before
        };
        assert!(fill(&mut lab));
        assert!(!fill(&mut lab), "it is full");
        lab.at(129_999);
        assert!(lab.is_open(slow, one));
        // It takes a little, of much more than that waits, and has 30 s again.
        lab.world.peers[slow].read_some(500);
        lab.settle();
        assert!(!fill(&mut lab), "less than half of the ring");
        lab.at(159_998);
        assert!(lab.is_open(slow, one));
        lab.at(160_000);
        if clock.is_none() {
            assert!(lab.is_open(slow, one), "without a clock it may");
            continue;
        }
        assert_eq!(lab.end(slow, one), Some(ErrorCode::ResourceExhausted));
        assert!(fill(&mut lab), "writers go on");
        assert!(lab.is_open(fast, two));
        assert_eq!(lab.world.stream(fast, two).len(), n);
        assert_eq!(lab.inspect(fast, "data").lossless, 1);
    }
}

/// Writes 100 bytes at a time until the channel is full; how many.
fn fill(lab: &mut Lab, channel: HostChannel) -> usize {
    let mut count = 0;
    while count < 20_000 && lab.fake.write(channel, vec![b'm'; 100].into()).is_ok() {
        count += 1;
        lab.settle();
    }
    count
}

#[test]
fn a_lossless_subscriber_that_takes_a_long_message_bit_by_bit_is_not_ended() {
    const SECONDS: u64 = 1_000;
    let mut lab = Lab::new(Config {
        channel_ring_bytes: 64 * 1_024,
        ..timed()
    });
    let (slow, other) = (lab.world.connect(), lab.world.connect());
    lab.create(slow, "data", 1 << 20);
    let channel = lab.newest();
    let id = lab.subscribe(slow, &lossless("data"));
    lab.world.peers[slow].deaf = true;
    // It takes 20 kB every 20 s: the message takes minutes, and writers wait meanwhile.
    lab.write(channel, &"x".repeat(400_000));
    for _ in 0..5 {
        lab.write(channel, &"y".repeat(100_000));
    }
    assert!(fill(&mut lab, channel) > 0);
    let mut now = 0;
    let mut taken = 0;
    while taken < 400_000 {
        now += 20 * SECONDS;
        lab.at(now);
        let bytes = lab.world.trickle(slow, 20_000);
        assert!((1..=20_000).contains(&bytes), "{bytes} at {now}");
        let end = lab.world.peers[slow].ended.get(&id);
        assert!(end.is_none(), "after {now} ms and {taken} bytes: {end:?}");
        taken += bytes;
    }
    assert!(now > 300 * SECONDS);
    // Then nothing more, not a byte. It is looked at every second.
    lab.at(now + 29_999);
    assert_eq!(lab.inspect(other, "data").lossless, 1);
    lab.at(now + 31_000);
    assert_eq!(lab.inspect(other, "data").lossless, 0);
    assert!(fill(&mut lab, channel) > 0, "writers go on");
}

#[test]
fn who_holds_nobody_back_may_take_nothing() {
    let mut lab = Lab::new(Config {
        channel_ring_bytes: 64 * 1_024,
        ..timed()
    });
    let (slow, other) = (lab.world.connect(), lab.world.connect());
    lab.create(slow, "data", 65_536);
    let channel = lab.newest();
    let id = lab.subscribe(slow, &lossless("data"));
    lab.world.peers[slow].reads = false;
    // More than its window and its queue, and less than the source has room for.
    for _ in 0..11 {
        lab.write(channel, &"x".repeat(16_000));
    }
    lab.write(channel, "behind");
    lab.at(500_000);
    assert!(lab.is_open(slow, id), "nobody waits");
    // The source is full now: from here on it counts.
    assert!(fill(&mut lab, channel) > 0);
    lab.at(530_000);
    assert!(lab.is_open(slow, id));
    // It takes everything, and may take nothing again.
    lab.world.peers[slow].reads = true;
    lab.world.peers[slow].read();
    lab.settle();
    lab.world.peers[slow].reads = false;
    lab.at(600_000);
    assert!(lab.is_open(slow, id), "nobody waits");
    fill(&mut lab, channel);
    lab.at(631_000);
    assert_eq!(lab.end(slow, id), Some(ErrorCode::ResourceExhausted));
    assert_eq!(lab.inspect(other, "data").lossless, 0);
}

#[test]
fn a_lost_connection_frees_the_writers_at_once() {
    let mut lab = Lab::new(Config {
        channel_ring_bytes: 1_024,
        ..timed()
    });
    let (slow, other) = (lab.world.connect(), lab.world.connect());
    lab.create(slow, "data", 512);
    let channel = lab.newest();
    lab.world.peers[slow].reads = false;
    lab.subscribe(slow, &lossless("data"));
    let mut stuck = 0;
    while stuck < 3 {
        stuck += usize::from(lab.fake.write(channel, vec![b'x'; 100].into()).is_err());
        lab.settle();
    }
    lab.lose(slow);
    lab.settle();
    assert_eq!(lab.fake.in_use(), (0, 0));
    lab.write(channel, "free");
    assert_eq!(lab.inspect(other, "data").lossless, 0);
    // What was written in between is a gap of unknown count for who asks for it.
    let mut since = lossless("data");
    since.since = Some(0);
    let id = lab.subscribe(other, &since);
    let seen = lab.world.stream(other, id);
    assert!(
        seen.iter().any(|event| event.starts_with("gap ?")),
        "{seen:?}"
    );
    assert!(seen.last().unwrap().ends_with(":free"), "{seen:?}");
}

#[test]
fn a_lossy_reader_stays_for_a_while() {
    let mut lab = Lab::new(timed());
    let a = lab.world.connect();
    lab.create(a, "data", 1_024);
    let channel = lab.newest();
    let one = lab.subscribe(a, &lossy("data"));
    lab.write(channel, "a");
    lab.world.peers[a].core.cancel(one);
    lab.settle();
    lab.at(29_999);
    assert_eq!(lab.fake.in_use().0, 1);
    lab.write(channel, "b");
    let mut since = lossy("data");
    since.since = Some(1);
    let two = lab.subscribe(a, &since);
    assert_eq!(lab.world.stream(a, two), ["1:b"], "nothing is missing");
    lab.at(90_000);
    assert_eq!(lab.fake.in_use().0, 1, "somebody is there");
    lab.world.peers[a].core.cancel(two);
    lab.settle();
    lab.at(120_000);
    assert_eq!(lab.fake.in_use().0, 0);
    let three = lab.subscribe(a, &since);
    assert_eq!(lab.world.stream(a, three)[..2], ["1:b", "gap ? ->3"]);
    assert_eq!(lab.contract.seen.len(), 2);

    // Without a clock it is closed at once.
    let mut lab = Lab::new(Config::default());
    let a = lab.world.connect();
    lab.create(a, "data", 1_024);
    let one = lab.subscribe(a, &lossy("data"));
    lab.world.peers[a].core.cancel(one);
    lab.settle();
    assert_eq!(lab.fake.in_use().0, 0);
}

#[test]
fn who_comes_while_the_reader_closes_gets_a_new_one() {
    let mut lab = Lab::new(Config::default());
    let (a, b) = (lab.world.connect(), lab.world.connect());
    lab.create(a, "data", 1_024);
    let channel = lab.newest();
    let one = lab.subscribe(a, &lossless("data"));
    lab.write(channel, "0");
    lab.world.peers[a].core.cancel(one);
    lab.hand();
    let old = *lab.contract.closing.iter().next().unwrap();
    // The reader is not gone yet, and brings something.
    lab.world.call(b, &lossless("data"));
    let two = lab.world.call(b, &lossless("data"));
    let bytes = Bytes::from_static(b"late");
    lab.world.complete(Completion::Read { reader: old, bytes });
    assert_eq!(lab.contract.seen.len(), 1);
    lab.settle();
    assert_eq!(lab.contract.seen.len(), 2, "one new reader");
    lab.write(channel, "3");
    let seen = lab.world.stream(b, two);
    assert_eq!(
        seen,
        ["gap ? ->2", "2:0", "3:3"],
        "something may be missing"
    );
}

#[test]
fn silent_channels_are_looked_after_once_a_burst() {
    let mut lab = Lab::new(timed());
    let a = lab.world.connect();
    lab.create(a, "data", 1_024);
    let channel = lab.newest();
    lab.subscribe(a, &lossy("data"));
    lab.at(199);
    assert_eq!(lab.nudges, 0);
    lab.at(200);
    assert_eq!(lab.nudges, 1, "its first message may be hidden");
    lab.at(5_000);
    assert_eq!(lab.nudges, 1);
    lab.write(channel, "a");
    lab.at(5_150);
    lab.write(channel, "b");
    lab.at(5_349);
    assert_eq!(lab.nudges, 1);
    lab.at(5_350);
    assert_eq!(lab.nudges, 2);
    // Not one that is to read nothing, or that is closed.
    lab.write(channel, "c");
    lab.ask(a, &delete("data")).unwrap();
    lab.at(60_000);
    assert_eq!(lab.nudges, 2);

    let mut lab = Lab::new(Config::default());
    let a = lab.world.connect();
    lab.create(a, "data", 1_024);
    lab.subscribe(a, &lossy("data"));
    lab.subscribe(a, &lossy("data"));
    for (pings, nudges) in [(1, 0), (1, 1), (5, 1)] {
        for _ in 0..pings {
            let now = lab.world.now;
            lab.world.peers[a].core.ping(now);
            lab.settle();
        }
        assert_eq!(lab.nudges, nudges);
    }
}

#[test]
fn a_reader_that_fails_ends_its_subscriptions() {
    let mut lab = Lab::new(Config::default());
    let a = lab.world.connect();
    lab.create(a, "data", 1_024);
    let channel = lab.newest();
    for error in [Some("driver error".to_owned()), None] {
        let id = lab.subscribe(a, &lossy("data"));
        lab.write(channel, "x");
        let reader = *lab.contract.readers.keys().next().unwrap();
        lab.contract.readers.clear();
        lab.world
            .complete(Completion::ReaderEnded { reader, error });
        assert_eq!(lab.end(a, id), Some(ErrorCode::Unavailable));
    }
    let mut since = lossy("data");
    since.since = Some(0);
    let id = lab.subscribe(a, &since);
    let seen = lab.world.stream(a, id);
    assert!(seen.contains(&"gap ? ->2"), "{seen:?}");
}

#[test]
fn a_drained_channel_is_read_to_its_end() {
    let mut lab = Lab::new(Config::default());
    let a = lab.world.connect();
    lab.create(a, "data", 1_024);
    let channel = lab.newest();
    let early = lab.subscribe(a, &lossless("data"));
    for text in ["a", "b"] {
        lab.fake.write(channel, text.into()).unwrap();
    }
    let draining = lab.world.call(a, &drain("data"));
    lab.settle();
    assert!(lab.world.answer(a, draining).is_ok());
    assert_eq!(lab.world.stream(a, early), ["0:a", "1:b", "end: over"]);
    assert_eq!(lab.end(a, early), None, "without a reason");
    // Who comes later gets what there is: of the source that was read, what the ring has.
    let mut all = lossless("data");
    all.since = Some(0);
    let late = lab.subscribe(a, &all);
    assert_eq!(lab.world.stream(a, late), ["0:a", "1:b", "end: over"]);
    let other = lab.subscribe(a, &lossy("data"));
    assert_eq!(lab.world.stream(a, other), ["0:a", "1:b", "end: over"]);
    let none = lab.subscribe(a, &lossy("data"));
    assert_eq!(lab.world.stream(a, none), ["end: over"]);
    assert_eq!(lab.fake.in_use(), (0, 0));
}

#[test]
fn a_slow_subscriber_gets_all_of_a_drained_channel() {
    let mut lab = Lab::new(Config::default());
    let a = lab.world.connect();
    lab.create(a, "data", 1_024);
    let channel = lab.newest();
    lab.world.peers[a].reads = false;
    let id = lab.subscribe(a, &lossless("data"));
    let total = 2_000;
    for n in 0..total {
        lab.write(channel, &format!("{n:0100}"));
    }
    lab.ask(a, &drain("data")).unwrap();
    assert!(lab.is_open(a, id));
    lab.world.peers[a].reads = true;
    for _ in 0..20 {
        lab.world.peers[a].read();
        lab.settle();
    }
    let seen = lab.world.stream(a, id);
    assert_eq!(tally(&seen[..seen.len() - 1]).0, total);
    assert_eq!(seen.last(), Some(&"end: over"));
}

#[test]
fn a_drained_channel_that_is_deleted_ends_as_a_deleted_one() {
    let mut lab = Lab::new(Config::default());
    let a = lab.world.connect();
    lab.create(a, "data", 1_024);
    let channel = lab.newest();
    let id = lab.subscribe(a, &lossy("data"));
    lab.fake.write(channel, "x".into()).unwrap();
    let draining = lab.world.call(a, &drain("data"));
    lab.hand();
    lab.act(Act::Answer);
    assert!(lab.world.answer(a, draining).is_ok());
    lab.world.call(a, &delete("data"));
    lab.hand();
    let reader = *lab.contract.readers.keys().next().unwrap();
    lab.act_end(reader);
    assert!(lab.is_open(a, id), "it was not read to its end");
    lab.settle();
    assert_eq!(lab.end(a, id), Some(ErrorCode::Cancelled));
}

#[test]
fn readers_that_end_before_the_answer_to_a_drain_or_delete() {
    for deleted in [false, true] {
        for works in [true, false] {
            let mut lab = Lab::new(Config::default());
            let a = lab.world.connect();
            lab.create(a, "data", 1_024);
            let id = lab.subscribe(a, &lossy("data"));
            if !works {
                lab.fake.failing = Some("no".to_owned());
            }
            let asked = match deleted {
                true => lab.world.call(a, &delete("data")),
                false => lab.world.call(a, &drain("data")),
            };
            lab.hand();
            let reader = *lab.contract.readers.keys().next().unwrap();
            lab.act_end(reader);
            assert!(lab.is_open(a, id), "nobody knows why yet");
            lab.settle();
            assert_eq!(lab.world.answer(a, asked).is_ok(), works);
            if works {
                let why = deleted.then_some(ErrorCode::Cancelled);
                assert_eq!(lab.end(a, id), why);
            } else {
                assert!(lab.is_open(a, id), "it goes on");
                lab.fake.failing = None;
                let channel = lab.newest();
                lab.write(channel, "more");
                assert_eq!(lab.world.stream(a, id), ["gap ? ->1", "1:more"]);
            }
        }
    }
}

impl Lab {
    /// A reader ends by itself.
    fn act_end(&mut self, reader: ReaderId) {
        self.act(Act::End(reader));
    }
}

#[test]
fn a_deleted_channel_ends_everything() {
    let mut lab = Lab::new(timed());
    let a = lab.world.connect();
    lab.create(a, "data", 1_024);
    let ids = [
        lab.subscribe(a, &lossy("data")),
        lab.subscribe(a, &lossless("data")),
    ];
    let writing = lab.publish(a, "data", 1, false);
    lab.send(a, writing, 0, "x");
    let info = lab.inspect(a, "data");
    assert_eq!(
        (info.lossy, info.lossless, info.publishers, info.published),
        (1, 1, 1, 1)
    );
    let info = lab.info(a, &delete("data")).unwrap();
    assert_eq!(
        (info.lossy, info.lossless, info.publishers, info.published),
        (0, 0, 0, 1)
    );
    for id in ids {
        assert_eq!(lab.end(a, id), Some(ErrorCode::Cancelled));
    }
    assert_eq!(lab.end(a, writing), Some(ErrorCode::NotFound));
    assert_eq!(lab.fake.in_use(), (0, 0));
    assert_eq!(lab.server_info(a).ring_bytes, 0);
    lab.at(3_600_000);
    assert_eq!(lab.server_info(a).streams, 0);
}

#[test]
fn streams_are_counted() {
    let mut lab = Lab::new(Config {
        limits: Limits::with(|limits| limits.max_streams = 2),
        ..Config::default()
    });
    let a = lab.world.connect();
    lab.create(a, "data", 1_024);
    lab.subscribe(a, &lossy("data"));
    lab.publish(a, "data", 1, false);
    for _ in 0..2 {
        assert_eq!(
            code(lab.ask(a, &lossy("data"))).0,
            ErrorCode::ResourceExhausted
        );
        assert_eq!(
            code(lab.ask(a, &publish("data", 2, false))).0,
            ErrorCode::ResourceExhausted
        );
    }
    let info = lab.inspect(a, "data");
    assert_eq!((info.lossy, info.publishers), (1, 1));
}

// ---------------------------------------------------------------- publications

#[test]
fn published_messages_are_acknowledged_when_the_channel_has_them() {
    let mut lab = Lab::new(Config::default());
    let a = lab.world.connect();
    lab.create(a, "data", 1_024);
    let channel = lab.newest();
    let id = lab.publish(a, "data", 7, false);
    let started = lab.started(a, id);
    assert_eq!((started.name.as_str(), started.capacity), ("data", 1_024));
    assert_eq!(
        (started.backpressure, started.last),
        (Backpressure::Park, None)
    );
    lab.hold = true;
    for (number, text) in ["a", "bc", "d"].into_iter().enumerate() {
        lab.send(a, id, number as u64, text);
    }
    assert_eq!(
        (lab.writes, lab.acks(a, id)),
        (3, vec![]),
        "not before it is written"
    );
    lab.hold = false;
    lab.step();
    assert_eq!(lab.acks(a, id), [(0, false)]);
    lab.settle();
    assert_eq!(lab.acks(a, id), [(0, false), (1, false), (2, false)]);
    assert_eq!(lab.texts(channel), ["a", "bc", "d"]);
    let info = lab.inspect(a, "data");
    assert_eq!((info.publishers, info.published), (1, 3));
    // The end comes behind the last acknowledgement.
    lab.hold = true;
    lab.send(a, id, 3, "e");
    lab.world.peers[a].core.finish(id);
    lab.settle();
    assert!(lab.is_open(a, id));
    lab.hold = false;
    lab.settle();
    assert_eq!(lab.acks(a, id).last(), Some(&(3, false)));
    assert_eq!(lab.end(a, id), None);
    assert_eq!(lab.inspect(a, "data").publishers, 0);
    assert_eq!(lab.fake.in_use(), (0, 0), "no idle writer");
}

#[test]
fn on_a_channel_that_drops_an_acknowledgement_says_so() {
    let mut lab = Lab::new(Config::default());
    let a = lab.world.connect();
    lab.ask(a, &dropping("data", 64)).unwrap();
    let id = lab.publish(a, "data", 1, false);
    assert_eq!(lab.started(a, id).backpressure, Backpressure::Drop);
    lab.send(a, id, 0, "x");
    assert_eq!(lab.acks(a, id), [(0, true)]);
    // One that was taken before says it again.
    let id = lab.publish(a, "data", 1, true);
    lab.send(a, id, 0, "x");
    assert_eq!(lab.acks(a, id), [(0, true)]);
    assert_eq!(lab.writes, 1);
}

#[test]
fn credit_returns_only_when_the_channel_takes_messages() {
    let mut lab = Lab::new(Config::default());
    let a = lab.world.connect();
    lab.create(a, "data", 1_024);
    let id = lab.publish(a, "data", 1, false);
    lab.hold = true;
    let mut sent = 0;
    // The client's own queue comes on top of the window.
    while lab.world.peers[a]
        .core
        .send(id, sent, vec![b'x'; 1_000])
        .is_ok()
    {
        sent += 1;
        lab.settle();
    }
    let window = Config::default().limits.stream_window;
    // A message that has begun may come.
    let fit = window / 1_032;
    assert!(
        (fit..fit + 3).contains(&lab.writes),
        "{} of {fit}",
        lab.writes
    );
    assert!(sent as usize > lab.writes);
    lab.hold = false;
    lab.settle();
    assert_eq!(lab.acks(a, id).last(), Some(&(sent - 1, false)));
    assert_eq!(lab.writes as u64, sent);
}

#[test]
fn publications_that_wait_hold_up_nothing_else_on_their_connection() {
    let config = Config::default();
    let window = config.limits.stream_window;
    // As many as a session may have with full windows.
    let fits = window / 1_032;
    let waiting = config.session_publication_bytes / ((fits + 3) * (1_000 + ENTRY_OVERHEAD));
    assert!((256..config.limits.max_streams - 3).contains(&waiting));
    let mut lab = Lab::new(config);
    let a = lab.world.connect();
    lab.create(a, "full", 1_024);
    lab.create(a, "free", 1 << 20);
    let (full, free) = {
        let mut channels = lab.fake.channels();
        (channels.next().unwrap(), channels.next().unwrap())
    };
    // A lossless subscriber that is not read keeps the channel full.
    lab.world.peers[a].reads = false;
    let unread = lab.subscribe(a, &lossless("full"));
    lab.hold = true;
    let parked: Vec<RequestId> = (0..waiting as u64)
        .map(|number| lab.publish(a, "full", number, false))
        .collect();
    for id in &parked {
        let mut number = 0;
        // All of its window, and its queue behind it.
        let message = Bytes::from(vec![b'x'; 1_000]);
        let send = |lab: &mut Lab, number| {
            let core = &mut lab.world.peers[a].core;
            core.send(*id, number, message.clone()).is_ok()
        };
        while send(&mut lab, number) {
            number += 1;
            lab.world.run();
        }
        lab.hand();
    }
    let handed = lab.writes / waiting;
    assert!((fits..fits + 3).contains(&handed), "{handed} of {fits}");
    assert!(
        parked.iter().all(|id| lab.is_open(a, *id)),
        "none was reset"
    );
    // Requests, logs, and a publication to a channel that has room.
    let live = lab.publish(a, "free", 1_000_000, false);
    let bytes = vec![b'l'; 60_000];
    for number in 0..50 {
        lab.world.peers[a]
            .core
            .send(live, number, bytes.clone())
            .unwrap();
        lab.hand();
        let writers: Vec<WriterId> = lab.contract.writers.iter().copied().collect();
        for writer in writers.into_iter().rev() {
            if lab
                .fake
                .front(writer)
                .is_some_and(|(channel, _)| channel == free)
            {
                lab.act(Act::Write(writer));
            }
        }
        assert_eq!(lab.acks(a, live).last(), Some(&(number, false)));
    }
    assert_eq!(lab.inspect(a, "full").publishers, waiting as u64);
    let unread_log = lab.subscribe(a, &lossy("free"));
    lab.settle();
    assert!(!lab.world.stream(a, unread_log).is_empty());
    // And they go on when there is room.
    assert!(lab.is_open(a, unread));
    lab.world.peers[a].core.cancel(unread);
    lab.hold = false;
    lab.settle();
    for id in &parked {
        assert!(!lab.acks(a, *id).is_empty());
    }
    assert!(lab.texts(full).len() >= waiting * fits);
}

#[test]
fn one_sessions_waiting_messages_leave_room_for_the_others() {
    let cost = 1_000 + ENTRY_OVERHEAD;
    let mut lab = Lab::new(Config {
        all_publication_bytes: 400 * cost,
        session_publication_bytes: 100 * cost,
        policy: Policy::new(vec![Role::admin(), Role::admin()]),
        limits: Limits::with(|limits| limits.stream_window = 1 << 20),
        ..Config::default()
    });
    let a = lab.world.connect_as(1, Limits::default());
    lab.create(a, "data", 1 << 20);
    lab.hold = true;
    let text = "x".repeat(1_000);
    let send = |lab: &mut Lab, peer: usize, id: RequestId, from: u64, count: u64| {
        for number in from..from + count {
            if !lab.is_open(peer, id) {
                return number - from;
            }
            lab.send(peer, id, number, &text);
        }
        count
    };
    // Past its limit a session's publications have equal parts: who has more is reset, who has less goes on.
    let (one, two) = (
        lab.publish(a, "data", 1, false),
        lab.publish(a, "data", 2, false),
    );
    assert_eq!(send(&mut lab, a, one, 0, 95), 95);
    assert_eq!(send(&mut lab, a, two, 0, 50), 50);
    assert_eq!(send(&mut lab, a, one, 95, 1), 1);
    assert_eq!(lab.end(a, one), Some(ErrorCode::ResourceExhausted));
    assert!(lab.is_open(a, two));
    assert_eq!(lab.writes, 145);
    // Alone it may have all of it, of which it has half.
    assert_eq!(send(&mut lab, a, two, 50, 51), 51);
    assert_eq!(lab.end(a, two), Some(ErrorCode::ResourceExhausted));
    assert_eq!(lab.writes, 195);
    // One message each may always wait.
    let three = lab.publish(a, "data", 3, false);
    assert_eq!(send(&mut lab, a, three, 0, 1), 1);
    assert!(lab.is_open(a, three));
    // Other sessions of the role, up to what is not the other role's part: a quarter of all.
    let mut sum = 196;
    for session in 2..6 {
        let peer = lab.world.connect_as(session, Limits::default());
        let id = lab.publish(peer, "data", 1, false);
        send(&mut lab, peer, id, 0, 90);
        if !lab.is_open(peer, id) {
            break;
        }
        sum += 90;
    }
    assert!(sum < 300 && lab.writes == 300, "{} after {sum}", lab.writes);
    let other = lab.world.connect_in(99, Limits::default(), RoleId(1));
    let id = lab.publish(other, "data", 1, false);
    assert_eq!(send(&mut lab, other, id, 0, 99), 99);
    assert!(lab.is_open(other, id), "its own part");
    // What was written is free again, for everyone.
    lab.hold = false;
    lab.settle();
    assert_eq!(lab.acks(other, id).last(), Some(&(98, false)));
    let again = lab.publish(a, "data", 1, true);
    assert_eq!(lab.started(a, again).last, Some(94));
    assert_eq!(send(&mut lab, a, again, 95, 90), 90);
    assert!(lab.is_open(a, again));
}

#[test]
fn a_message_longer_than_the_channel_is_refused_when_it_begins() {
    let mut lab = Lab::new(Config::default());
    let a = lab.world.connect();
    lab.create(a, "data", 65_536);
    let id = lab.publish(a, "data", 1, false);
    lab.send(a, id, 0, "fits");
    let peer = &mut lab.world.peers[a];
    peer.core.send(id, 1, vec![b'x'; 500_000]).unwrap();
    // One frame of it comes through.
    let first = peer.core.poll_transmit(0).unwrap();
    assert!(first.len() < 17_000);
    let (now, connection) = (lab.world.now, peer.connection);
    let bytes = first.to_vec().into();
    lab.world.server.handle_input(now, connection, bytes);
    let answer = lab.world.server.poll_transmit(connection, usize::MAX);
    let peer = &mut lab.world.peers[a];
    peer.core.handle_input(now, answer.unwrap().to_vec().into());
    assert!(
        peer.core
            .poll_transmit(0)
            .is_none_or(|rest| rest.len() < 100),
        "the rest is not sent"
    );
    lab.settle();
    let error = lab.world.peers[a].ended[&id].clone().unwrap();
    assert_eq!(
        (error.code, error.limit),
        (ErrorCode::TooLarge, Some(65_536))
    );
    // It can be gone on with, and what is as long as the channel is taken.
    let id = lab.publish(a, "data", 1, true);
    assert_eq!(lab.started(a, id).last, Some(0));
    lab.send(a, id, 1, &"y".repeat(65_536));
    assert_eq!(lab.acks(a, id), [(1, false)]);
}

#[test]
fn a_draining_server_finishes_what_is_under_way_and_begins_nothing() {
    let mut lab = Lab::new(Config {
        max_starts: 1,
        ..timed()
    });
    let a = lab.world.connect();
    lab.create(a, "data", 1_024);
    let channel = lab.newest();
    let publishing = lab.publish(a, "data", 1, false);
    let subscribed = lab.subscribe(a, &lossless("data"));
    // Under way: a start in the host and one that waits for it, a create, a message, half of a request.
    let starts = [
        lab.world.call(a, &spec(Some("one"))),
        lab.world.call(a, &spec(Some("two"))),
    ];
    let creating = lab.world.call(a, &create(Some("late"), 64));
    lab.hold = true;
    lab.world.peers[a]
        .core
        .send(publishing, 0, Bytes::from("m"))
        .unwrap();
    lab.world.run();
    let mut long = spec(Some("three"));
    long.args = vec![EntrypointArg::Buffer(vec![1; 100_000])];
    long.signature = AbiSignature::new(vec![AbiParam::Buffer], vec![]);
    let peer = &mut lab.world.peers[a];
    let body = Request::encode(
        &long,
        &selium_remote_client_protocol::ops::Common::default(),
    );
    let options = selium_remote_client_protocol::client::RequestOptions::default();
    let half = peer.core.request(StartRequest::OP, body, options).unwrap();
    let first = peer.core.poll_transmit(20_000).unwrap();
    let (now, connection) = (lab.world.now, peer.connection);
    lab.world
        .server
        .handle_input(now, connection, first.to_vec().into());
    let peer = &lab.world.peers[a];
    assert!(!peer.answers.contains_key(&half));

    // What is asked for before the client has heard of it crosses the DRAIN.
    let options = selium_remote_client_protocol::client::RequestOptions::default();
    let body = Request::encode(
        &inspect("data"),
        &selium_remote_client_protocol::ops::Common::default(),
    );
    let crossing = lab.world.peers[a]
        .core
        .request(InspectChannelRequest::OP, body, options)
        .unwrap();
    lab.world.server.drain();
    lab.world.run();
    let error = lab
        .world
        .answer(a, crossing)
        .expect_err("it is refused at once");
    assert_eq!(error.code, ErrorCode::Unavailable);
    assert!(error.message.contains("shutting down"), "{}", error.message);
    // And then the client does not even send it.
    let options = selium_remote_client_protocol::client::RequestOptions::default();
    let refused = lab.world.peers[a].core.request(1, Bytes::new(), options);
    assert!(refused.is_err());
    let late = lab.world.connect();
    assert!(lab.world.peers[late].hello.is_none());

    lab.hold = false;
    lab.settle();
    assert_eq!(lab.acks(a, publishing), [(0, false)]);
    assert_eq!(lab.world.stream(a, subscribed), ["0:m"]);
    assert!(lab.world.answer(a, creating).is_ok());
    for (nth, id) in starts.into_iter().chain([half]).enumerate() {
        let at = lab
            .others
            .iter()
            .position(|call| matches!(call, HostCall::Start { .. }));
        let Some(HostCall::Start { op, .. }) = at.map(|at| lab.others.remove(at)) else {
            panic!("start {nth} was not begun");
        };
        let result = Ok(HostProcess(op.0));
        lab.world.complete(Completion::Started { op, result });
        lab.hand();
        assert!(lab.world.answer(a, id).is_ok(), "start {nth}");
    }
    // Streams go on until they end.
    lab.send(a, publishing, 1, "n");
    lab.write(channel, "o");
    assert_eq!(lab.world.stream(a, subscribed), ["0:m", "1:n", "2:o"]);
    assert!(lab.world.peers[a].closed.is_none());
}

#[test]
fn messages_longer_than_the_channel_are_refused() {
    let mut lab = Lab::new(Config::default());
    let a = lab.world.connect();
    lab.create(a, "data", 64);
    let id = lab.publish(a, "data", 1, false);
    lab.hold = true;
    lab.send(a, id, 0, &"x".repeat(64));
    lab.send(a, id, 1, &"x".repeat(65));
    let error = lab.world.peers[a].ended[&id].clone().unwrap();
    assert_eq!((error.code, error.limit), (ErrorCode::TooLarge, Some(64)));
    lab.hold = false;
    lab.settle();
    assert_eq!(lab.writes, 1);
    // What it has of it can be asked for.
    let id = lab.publish(a, "data", 1, true);
    assert_eq!(lab.started(a, id).last, Some(0));
}

#[test]
fn a_failed_write_ends_the_publication() {
    let mut lab = Lab::new(Config::default());
    let a = lab.world.connect();
    lab.create(a, "data", 1_024);
    let id = lab.publish(a, "data", 1, false);
    lab.hold = true;
    for number in 0..3 {
        lab.send(a, id, number, "x");
    }
    let writer = *lab.contract.writers.iter().next().unwrap();
    for (result, acks) in [
        (Ok(()), 1),
        (Err("write stalled mid-frame".to_owned()), 1),
        (Ok(()), 1),
        (Ok(()), 1),
    ] {
        lab.world.complete(Completion::Written { writer, result });
        lab.hand();
        assert_eq!(lab.acks(a, id).len(), acks);
    }
    let error = lab.world.peers[a].ended[&id].clone().unwrap();
    assert_eq!(error.code, ErrorCode::Internal);
    assert!(error.message.contains("stalled") && error.message.contains("`data`"));
    assert_eq!(lab.inspect(a, "data").published, 2);
    assert_eq!(
        code(lab.ask(a, &publish("data", 1, true))),
        (ErrorCode::OutcomeUnknown, "publication".to_owned()),
        "nobody knows which of the others the channel has"
    );
}

#[test]
fn a_publication_goes_on_after_a_lost_connection() {
    let mut lab = Lab::new(Config::default());
    let a = lab.world.connect_as(1, Limits::default());
    lab.create(a, "data", 1_024);
    let channel = lab.newest();
    let id = lab.publish(a, "data", 5, false);
    lab.send(a, id, 0, "0");
    lab.hold = true;
    for number in 1..4 {
        lab.send(a, id, number, &number.to_string());
    }
    lab.lose(a);
    assert!(
        lab.contract.closed.is_empty(),
        "the host has messages of it"
    );
    let b = lab.world.connect_as(1, Limits::default());
    let id = lab.publish(b, "data", 5, true);
    assert_eq!(lab.started(b, id).last, Some(0), "what the channel has");
    // It sends again what was not acknowledged: the host has it already.
    for number in 1..6 {
        lab.send(b, id, number, &number.to_string());
    }
    assert_eq!(lab.acks(b, id), []);
    assert_eq!(lab.writes, 1 + 3 + 2);
    lab.hold = false;
    lab.settle();
    let acks: Vec<u64> = lab.acks(b, id).iter().map(|(number, _)| *number).collect();
    assert_eq!(acks, [1, 2, 3, 4, 5]);
    assert_eq!(lab.texts(channel), ["0", "1", "2", "3", "4", "5"]);
    assert_eq!(lab.contract.writers.len(), 1, "so that nothing overtakes");
    // Lost when everything was written: a new writer, and numbers that are known are acknowledged at once.
    lab.lose(b);
    assert_eq!(lab.contract.closed.len(), 1);
    let c = lab.world.connect_as(1, Limits::default());
    let id = lab.publish(c, "data", 5, true);
    assert_eq!(lab.started(c, id).last, Some(5));
    lab.hold = true;
    lab.send(c, id, 4, "4");
    lab.send(c, id, 5, "5");
    assert_eq!(lab.acks(c, id), [(4, false), (5, false)]);
    lab.hold = false;
    lab.send(c, id, 6, "6");
    assert_eq!(lab.texts(channel).len(), 7);
    assert_eq!(lab.contract.writers.len(), 2);
}

#[test]
fn a_publication_that_is_opened_again_moves() {
    let mut lab = Lab::new(Config::default());
    let a = lab.world.connect_as(1, Limits::default());
    let b = lab.world.connect_as(1, Limits::default());
    lab.create(a, "data", 1_024);
    lab.create(a, "other", 1_024);
    let one = lab.publish(a, "data", 5, false);
    lab.send(a, one, 0, "0");
    // Without saying so as well: the answer to the first may have been lost.
    let two = lab.publish(b, "data", 5, false);
    assert_eq!(lab.end(a, one), Some(ErrorCode::Cancelled));
    assert_eq!(lab.started(b, two).last, Some(0));
    let three = lab.publish(b, "data", 5, true);
    assert_eq!(lab.end(b, two), Some(ErrorCode::Cancelled));
    assert_eq!(lab.inspect(a, "data").publishers, 1);
    assert_eq!(
        code(lab.ask(a, &publish("other", 5, true))),
        (ErrorCode::InvalidArgument, "publication".to_owned())
    );
    assert!(lab.is_open(b, three));
    // What came over the old stream is not acknowledged on the new one, which has not carried it.
    lab.hold = true;
    lab.send(b, three, 1, "1");
    let four = lab.publish(a, "data", 5, true);
    lab.hold = false;
    lab.settle();
    assert_eq!(lab.acks(a, four), []);
    lab.send(a, four, 1, "1");
    assert_eq!(lab.acks(a, four), [(1, false)]);
    let three = lab.publish(b, "data", 5, true);
    assert_eq!(lab.started(b, three).last, Some(1));
    // A stream that its client gives up is the same as one that is lost.
    lab.world.peers[b].core.cancel(three);
    lab.settle();
    assert_eq!(lab.inspect(a, "data").publishers, 0);
    let five = lab.publish(a, "data", 5, true);
    assert_eq!(lab.started(a, five).last, Some(1));
}

#[test]
fn publications_belong_to_a_session_and_its_role() {
    let mut lab = Lab::new(Config {
        policy: Policy::new(vec![Role::admin(), Role::admin()]),
        ..Config::default()
    });
    let a = lab.world.connect_as(1, Limits::default());
    let foreign = lab.world.connect_in(1, Limits::default(), RoleId(1));
    let other = lab.world.connect_as(2, Limits::default());
    lab.create(a, "data", 1_024);
    let one = lab.publish(a, "data", 5, false);
    lab.send(a, one, 0, "0");
    let session = (ErrorCode::PermissionDenied, "session".to_owned());
    for resume in [false, true] {
        assert_eq!(code(lab.ask(foreign, &publish("data", 5, resume))), session);
    }
    assert_eq!(code(lab.ask(foreign, &publish("data", 6, false))), session);
    assert_eq!(lab.world.host.take_audit().len(), 1 + 3);
    // Another session has numbers of its own.
    assert_eq!(
        code(lab.ask(other, &publish("data", 5, true))).0,
        ErrorCode::OutcomeUnknown
    );
    let two = lab.publish(other, "data", 5, false);
    assert_eq!(lab.started(other, two).last, None);
    assert!(lab.is_open(a, one));
}

#[test]
fn idle_publications_are_remembered_up_to_a_bound() {
    let mut lab = Lab::new(Config {
        max_publications: 3,
        policy: Policy::new(vec![Role::admin(), Role::admin()]),
        ..Config::default()
    });
    let a = lab.world.connect();
    let b = lab.world.connect_in(9, Limits::default(), RoleId(1));
    lab.create(a, "data", 1 << 20);
    let go = |lab: &mut Lab, peer: usize, number: u64| {
        let id = lab.publish(peer, "data", number, false);
        lab.send(peer, id, 0, "x");
        lab.world.peers[peer].core.finish(id);
        lab.settle();
    };
    let knows = |lab: &mut Lab, peer: usize, number: u64| {
        let id = lab.publish(peer, "data", number, true);
        let known = lab.world.answer(peer, id).is_ok();
        if known {
            lab.world.peers[peer].core.cancel(id);
            lab.settle();
        }
        known
    };
    go(&mut lab, b, 1);
    for number in 1..=2 {
        go(&mut lab, a, number);
    }
    assert!(knows(&mut lab, a, 1), "and is the one used last now");
    go(&mut lab, a, 3);
    assert!(!knows(&mut lab, a, 2), "detached first");
    assert!(knows(&mut lab, a, 1) && knows(&mut lab, a, 3));
    // Another role's is not pushed out, nor another session's.
    let c = lab.world.connect_as(77, Limits::default());
    go(&mut lab, c, 1);
    for number in 10..20 {
        go(&mut lab, a, number);
    }
    assert!(knows(&mut lab, b, 1) && knows(&mut lab, c, 1));
    // One of which the host has something is not forgotten.
    let id = lab.publish(a, "data", 50, false);
    lab.hold = true;
    lab.send(a, id, 0, "x");
    lab.world.peers[a].core.cancel(id);
    lab.settle();
    for number in 60..70 {
        let id = lab.publish(a, "data", number, false);
        lab.world.peers[a].core.cancel(id);
        lab.settle();
    }
    assert!(knows(&mut lab, a, 50));
}

#[test]
fn messages_that_wait_in_the_host_are_bounded() {
    let cost = 100 + ENTRY_OVERHEAD;
    let mut lab = Lab::new(Config {
        all_publication_bytes: 10 * cost,
        ..Config::default()
    });
    let (a, b) = (lab.world.connect(), lab.world.connect());
    lab.create(a, "data", 1_024);
    let text = "x".repeat(100);
    let (one, two) = (
        lab.publish(a, "data", 1, false),
        lab.publish(b, "data", 1, false),
    );
    lab.hold = true;
    for number in 0..6 {
        lab.send(a, one, number, &text);
    }
    lab.lose(a);
    for number in 0..4 {
        lab.send(b, two, number, &text);
    }
    assert!(lab.is_open(b, two));
    lab.send(b, two, 4, &text);
    assert_eq!(lab.end(b, two), Some(ErrorCode::ResourceExhausted));
    assert_eq!(lab.writes, 10);
    // It goes on when there is room.
    lab.hold = false;
    lab.settle();
    let two = lab.publish(b, "data", 1, true);
    assert_eq!(lab.started(b, two).last, Some(3));
    lab.hold = true;
    for number in 4..14 {
        lab.send(b, two, number, &text);
    }
    assert!(lab.is_open(b, two), "all of it is free again");
    lab.hold = false;
    lab.settle();
    assert_eq!(lab.acks(b, two).last(), Some(&(13, false)));
}

#[test]
fn a_drained_channel_takes_nothing_new() {
    let mut lab = Lab::new(Config::default());
    let a = lab.world.connect();
    lab.create(a, "data", 1_024);
    let idle = lab.publish(a, "data", 1, false);
    lab.send(a, idle, 0, "x");
    let busy = lab.publish(a, "data", 2, false);
    lab.hold = true;
    lab.send(a, busy, 0, "y");
    lab.ask(a, &drain("data")).unwrap();
    assert_eq!(lab.end(a, idle), Some(ErrorCode::Unavailable));
    assert!(lab.is_open(a, busy), "the host has a message of it");
    lab.send(a, busy, 1, "z");
    assert_eq!(lab.writes, 2, "nothing more is handed over");
    // It was written before the channel was drained.
    let writer = *lab.contract.writers.iter().last().unwrap();
    let result = Ok(());
    lab.world.complete(Completion::Written { writer, result });
    assert_eq!(lab.acks(a, busy), [(0, false)]);
    assert_eq!(lab.end(a, busy), Some(ErrorCode::Unavailable));
    // A new one is refused; one that is known is told what the channel has.
    assert_eq!(
        code(lab.ask(a, &publish("data", 3, false))).0,
        ErrorCode::Unavailable
    );
    let again = lab.publish(a, "data", 2, true);
    assert_eq!(lab.started(a, again).last, Some(0));
    assert_eq!(lab.end(a, again), Some(ErrorCode::Unavailable));
    assert_eq!(lab.inspect(a, "data").publishers, 0);
}

#[test]
fn writes_that_fail_because_the_channel_goes_say_so() {
    for deleted in [true, false] {
        let mut lab = Lab::new(Config::default());
        let a = lab.world.connect();
        lab.create(a, "data", 1_024);
        let id = lab.publish(a, "data", 1, false);
        lab.hold = true;
        lab.send(a, id, 0, "x");
        match deleted {
            true => lab.world.call(a, &delete("data")),
            false => lab.world.call(a, &drain("data")),
        };
        lab.hand();
        let writer = *lab.contract.writers.iter().next().unwrap();
        lab.act(Act::Write(writer));
        let code = match deleted {
            true => ErrorCode::NotFound,
            false => ErrorCode::Unavailable,
        };
        assert_eq!(lab.end(a, id), Some(code));
        lab.settle();
    }
}

#[test]
fn unknown_publications_are_not_gone_on_with() {
    let mut lab = Lab::new(Config::default());
    let a = lab.world.connect();
    lab.create(a, "data", 1_024);
    assert_eq!(
        code(lab.ask(a, &publish("data", 1, true))),
        (ErrorCode::OutcomeUnknown, "publication".to_owned())
    );
    assert_eq!(
        code(lab.ask(a, &publish("nobody", 1, false))),
        (ErrorCode::NotFound, "target".to_owned())
    );
    // A deleted channel takes its publications with it.
    let id = lab.publish(a, "data", 1, false);
    lab.send(a, id, 0, "x");
    lab.ask(a, &delete("data")).unwrap();
    lab.create(a, "data", 1_024);
    assert_eq!(
        code(lab.ask(a, &publish("data", 1, true))).0,
        ErrorCode::OutcomeUnknown
    );
    assert_eq!(lab.fake.in_use(), (0, 0));
}

// ---------------------------------------------------------------- anything at any time

/// A client that publishes, over as many connections as it takes.
struct Publisher {
    session: u8,
    channel: usize,
    half: Publication,
    peer: usize,
    stream: Option<RequestId>,
    /// Whether the server has answered once.
    known: bool,
    seen_acks: usize,
    acked: u64,
    texts: Vec<String>,
}

/// A subscription, and what was true when it began.
struct Subscription {
    peer: usize,
    id: RequestId,
    channel: usize,
    lossless: bool,
    since: Option<u64>,
    /// How much had been written.
    joined: usize,
    gone: bool,
}

struct Chaos {
    lab: Lab,
    names: Vec<String>,
    hosts: Vec<HostChannel>,
    drops: Vec<bool>,
    publishers: Vec<Publisher>,
    subscriptions: Vec<Subscription>,
    guests: u64,
    most_ring: u64,
    resumed: usize,
    exhausted: usize,
    paused: usize,
    gaps: usize,
}

const RING: usize = 2_048;
const RINGS: usize = 6_000;
const WAITING: usize = 6_000;
const LONGEST: usize = 300;

impl Chaos {
    fn new(seed: u64) -> Self {
        let mut dice = Dice(seed);
        let mut lab = Lab::seeded(
            Config {
                channel_ring_bytes: RING,
                all_channel_rings_bytes: RINGS,
                all_publication_bytes: WAITING,
                session_publication_bytes: if dice.below(2) == 0 {
                    WAITING / 3
                } else {
                    WAITING
                },
                unix_origin_ms: CLOCK.filter(|_| dice.below(2) == 0),
                limits: Limits::with(|limits| {
                    limits.stream_window = 2_048;
                    limits.stream_queue = 4_096;
                }),
                ..Config::default()
            },
            seed,
        );
        let a = lab.world.connect_as(200, Limits::default());
        let mut chaos = Self {
            lab,
            names: Vec::new(),
            hosts: Vec::new(),
            drops: Vec::new(),
            publishers: Vec::new(),
            subscriptions: Vec::new(),
            guests: 0,
            most_ring: 0,
            resumed: 0,
            exhausted: 0,
            paused: 0,
            gaps: 0,
        };
        for n in 0..3 {
            let name = format!("c{n}");
            let drops = n == 2;
            let capacity = 512 << dice.below(3);
            let request = match drops {
                true => dropping(&name, capacity),
                false => create(Some(&name), capacity),
            };
            chaos.lab.ask(a, &request).unwrap();
            chaos.hosts.push(chaos.lab.newest());
            chaos.names.push(name);
            chaos.drops.push(drops);
        }
        for n in 0..5 {
            let session = 1 + n / 2; // Some share a session.
            let peer = chaos.connect(session);
            chaos.publishers.push(Publisher {
                session,
                channel: usize::from(n) % 3,
                half: Publication::new(1 << 20),
                peer,
                stream: None,
                known: false,
                seen_acks: 0,
                acked: 0,
                texts: Vec::new(),
            });
        }
        chaos
    }

    fn connect(&mut self, session: u8) -> usize {
        let limits = Limits::with(|limits| {
            limits.stream_window = 1_024;
            limits.connection_window = 8_192;
        });
        self.lab.world.connect_as(session, limits)
    }

    fn below(&mut self, end: usize) -> usize {
        self.lab.dice.below(end)
    }

    /// Takes what came for a publisher, and sends what it can.
    fn drive(&mut self, at: usize) {
        let publisher = &mut self.publishers[at];
        let peer = publisher.peer;
        let Some(id) = publisher.stream else {
            let name = &self.names[publisher.channel];
            self.resumed += usize::from(publisher.known);
            let request = publish(name, at as u64, publisher.known);
            publisher.stream = Some(self.lab.world.call(peer, &request));
            publisher.seen_acks = 0;
            self.lab.hand();
            return self.drive(at);
        };
        if let Some(answer) = self.lab.world.peers[peer].answers.remove(&id) {
            let started = PublishStarted::decode(&answer.expect("it is known")).unwrap();
            publisher.known = true;
            publisher.acked += publisher.half.resume(started.last).unwrap() as u64;
        }
        let acks = self.lab.world.peers[peer].acks.get(&id);
        for (number, _) in acks.into_iter().flatten().skip(publisher.seen_acks) {
            publisher.seen_acks += 1;
            publisher.acked += publisher.half.acknowledged(*number) as u64;
        }
        if let Some(ended) = self.lab.world.peers[peer].ended.get(&id) {
            let code = ended.as_ref().map(|error| error.code);
            assert_eq!(code, Some(ErrorCode::ResourceExhausted));
            self.exhausted += 1;
            publisher.stream = None;
            return;
        }
        if publisher.known {
            let _ = publisher
                .half
                .pump(&mut self.lab.world.peers[peer].core, id);
        }
    }

    fn push(&mut self, at: usize) {
        let padding = "x".repeat(self.below(LONGEST - 20));
        let publisher = &mut self.publishers[at];
        if publisher.texts.len() < 60 {
            let text = format!("p{at}.{}:{padding}", publisher.texts.len());
            publisher.half.push(text.clone().into_bytes()).unwrap();
            publisher.texts.push(text);
        }
    }

    /// A publisher's connection is lost, perhaps with something on its way in each direction.
    fn lose_publisher(&mut self, at: usize) {
        self.push(at);
        self.drive(at);
        let Publisher { peer, session, .. } = self.publishers[at];
        let connection = self.lab.world.peers[peer].connection;
        if self.below(2) == 0 {
            let now = self.lab.world.now;
            while let Some(sent) = self.lab.world.peers[peer].core.poll_transmit(usize::MAX) {
                let bytes = sent.to_vec().into();
                self.lab.world.server.handle_input(now, connection, bytes);
            }
        }
        self.lab.lose(peer);
        let peer = self.connect(session);
        let publisher = &mut self.publishers[at];
        publisher.peer = peer;
        publisher.stream = None;
    }

    fn subscribe(&mut self, since: Option<u64>, channel: usize, lossless: bool) {
        let peer = self.connect(100);
        let request = SubscribeRequest::with(|made| {
            made.target.clone_from(&self.names[channel]);
            made.lossless = lossless;
            made.since = since;
        });
        let joined = self.written(channel);
        let id = self.lab.world.call(peer, &request);
        self.lab.hand();
        self.subscriptions.push(Subscription {
            peer,
            id,
            channel,
            lossless,
            since,
            joined,
            gone: false,
        });
    }

    fn written(&self, channel: usize) -> usize {
        let written = self.lab.written.get(&self.hosts[channel]);
        written.map_or(0, Vec::len)
    }

    fn act(&mut self) {
        match self.below(40) {
            0..=9 => {
                let at = self.below(self.publishers.len());
                self.push(at);
                self.drive(at);
            }
            10..=27 => {
                self.lab.step();
            }
            28 | 29 => {
                let channel = self.below(3);
                self.guests += 1;
                let padding = "y".repeat(self.below(200));
                let text = format!("g{}:{padding}", self.guests);
                let host = self.hosts[channel];
                let bytes = Bytes::from(text);
                if self.lab.fake.write(host, bytes.clone()).is_ok() {
                    self.lab.written.entry(host).or_default().push(bytes);
                }
            }
            30 => {
                if self.lab.world.peers.len() < 60 {
                    let at = self.below(self.publishers.len());
                    self.lose_publisher(at);
                }
            }
            31 | 32 => {
                if self.subscriptions.iter().filter(|s| !s.gone).count() < 8
                    && self.subscriptions.len() < 30
                {
                    let channel = self.below(3);
                    let lossless = !self.drops[channel] && self.below(2) == 0;
                    self.subscribe(None, channel, lossless);
                }
            }
            33 => {
                // One goes, and may come back for what it has not got.
                let count = self.subscriptions.len();
                let at = self.below(count);
                let Some(subscription) = self.subscriptions.get_mut(at).filter(|s| !s.gone) else {
                    return;
                };
                subscription.gone = true;
                let &mut Subscription {
                    peer,
                    id,
                    channel,
                    lossless,
                    since,
                    ..
                } = subscription;
                let next = next_of(&self.lab.world.stream(peer, id)).or(since);
                if self.below(2) == 0 {
                    self.lab.lose(peer);
                } else {
                    self.lab.world.peers[peer].core.cancel(id);
                    self.lab.hand();
                }
                if let Some(next) = next.filter(|_| self.below(2) == 0) {
                    self.subscribe(Some(next), channel, lossless);
                }
            }
            34..=37 => {
                let count = self.subscriptions.len();
                let at = self.below(count);
                let stops = self.below(3) == 0;
                if let Some(subscription) = self.subscriptions.get(at) {
                    let peer = &mut self.lab.world.peers[subscription.peer];
                    peer.reads = !stops;
                    peer.read();
                }
                self.lab.hand();
            }
            38 => {
                let ms = self.below(150) as u64;
                self.pass(ms);
            }
            _ => {
                let at = self.below(self.publishers.len());
                self.drive(at);
            }
        }
        self.bounds();
    }

    fn pass(&mut self, ms: u64) {
        let world = &mut self.lab.world;
        world.now = world
            .now
            .saturating_add(core::time::Duration::from_millis(ms));
        world.server.handle_timeout(world.now);
        self.lab.hand();
    }

    fn bounds(&mut self) {
        self.lab.hand();
        let ring = self.ring_bytes();
        self.most_ring = self.most_ring.max(ring);
        // Each of six sources may hold a message more.
        let bound = RINGS + 6 * (LONGEST + ENTRY_OVERHEAD);
        assert!(ring <= bound as u64, "{ring} bytes in rings");
        let waiting = self.lab.fake.waiting_bytes();
        assert!(waiting <= WAITING, "{waiting} bytes wait in the host");
        let paused = self.lab.contract.readers.values();
        self.paused += paused.filter(|(_, _, paused)| *paused).count();
    }

    fn ring_bytes(&mut self) -> u64 {
        let id = self.lab.world.call(0, &InfoRequest);
        self.lab.hand();
        let answer = self.lab.world.answer(0, id).unwrap();
        ServerInfo::decode(&answer).unwrap().ring_bytes
    }

    /// Everyone reads and finishes.
    fn finish(&mut self) {
        for _ in 0..10_000 {
            for peer in &mut self.lab.world.peers {
                peer.reads = true;
                peer.read();
            }
            for at in 0..self.publishers.len() {
                self.drive(at);
            }
            self.lab.settle();
            self.bounds();
            let flushed = self.publishers.iter().all(|p| p.half.is_flushed());
            if flushed
                && self
                    .lab
                    .world
                    .peers
                    .iter()
                    .all(|peer| peer.unread.is_empty())
            {
                return;
            }
        }
        panic!("it does not come to an end");
    }

    fn check(&mut self) {
        for (at, publisher) in self.publishers.iter().enumerate() {
            assert_eq!(publisher.acked, publisher.texts.len() as u64);
            let prefix = format!("p{at}.");
            let written = self.lab.texts(self.hosts[publisher.channel]);
            let own: Vec<&str> = written
                .into_iter()
                .filter(|text| text.starts_with(&prefix))
                .collect();
            assert_eq!(own, publisher.texts, "once, and in order");
        }
        // Each number of a source is the same message for everyone.
        let mut known: BTreeMap<(usize, bool, u64), String> = BTreeMap::new();
        for s in &self.subscriptions {
            let seen = self.lab.world.stream(s.peer, s.id);
            let written = self.lab.texts(self.hosts[s.channel]);
            let mut next = s.since;
            // Runs of messages between gaps.
            let mut runs: Vec<Vec<&str>> = vec![Vec::new()];
            let mut holes = Vec::new();
            for event in &seen {
                if let Some(gap) = event.strip_prefix("gap ") {
                    self.gaps += 1;
                    let (count, to) = gap.split_once(" ->").unwrap();
                    let to: u64 = to.parse().unwrap();
                    match count.parse::<u64>() {
                        Ok(count) => assert_eq!(next.map(|next| next + count), Some(to)),
                        Err(_) => assert!(next.is_none_or(|next| next < to)),
                    }
                    holes.push(count.parse::<u64>().ok());
                    next = Some(to);
                    runs.push(Vec::new());
                    continue;
                }
                if event.starts_with("end: ") {
                    continue;
                }
                let (number, text) = event.split_once(':').unwrap();
                let number: u64 = number.parse().unwrap();
                assert!(next.is_none_or(|next| next == number), "{next:?}: {event}");
                next = Some(number + 1);
                let before = known.insert((s.channel, s.lossless, number), text.to_owned());
                assert!(before.is_none_or(|before| before == text));
                runs.last_mut().unwrap().push(text);
            }
            let place = |run: &[&str]| written.iter().position(|text| Some(text) == run.first());
            for run in &runs {
                if self.drops[s.channel] {
                    continue; // What was dropped nobody knows.
                }
                if let Some(place) = place(run) {
                    assert_eq!(
                        written[place..place + run.len()],
                        run[..],
                        "nothing is left out"
                    );
                }
            }
            if s.lossless && s.since.is_none() {
                // One that came while the last reader was closing is told so.
                let told = holes == [None] && runs[0].is_empty();
                assert!(holes.is_empty() || told, "{seen:?}");
                let run = &runs[usize::from(told)];
                match place(run) {
                    Some(place) => {
                        assert!(told || place <= s.joined, "from when it was there");
                        if !s.gone {
                            assert_eq!(place + run.len(), written.len(), "to the end");
                        }
                    }
                    None if !s.gone => assert!(told || written.len() == s.joined),
                    None => {}
                }
            }
        }
    }
}

/// The number behind what was seen.
fn next_of(seen: &[&str]) -> Option<u64> {
    let last = seen.last()?;
    match last.split_once(" ->") {
        Some((_, to)) => to.parse().ok(),
        None => Some(last.split_once(':')?.0.parse::<u64>().ok()? + 1),
    }
}

#[test]
fn whatever_happens_nothing_is_lost_or_doubled_or_unbounded() {
    let wanted: Option<u64> = std::env::var("SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let count = std::env::var("SEEDS")
        .ok()
        .and_then(|count| count.parse().ok());
    let seeds = match wanted {
        Some(seed) => seed..seed + 1,
        None => 1..count.unwrap_or(100u64).saturating_add(1),
    };
    let mut totals = [0; 5];
    for seed in seeds {
        println!("SEED={seed}");
        let mut chaos = Chaos::new(seed);
        for _ in 0..3_000 {
            chaos.act();
        }
        chaos.finish();
        chaos.check();
        let seen = [
            chaos.resumed,
            chaos.exhausted,
            chaos.paused,
            chaos.gaps,
            usize::from(chaos.most_ring > RINGS as u64 / 2),
        ];
        for (total, seen) in totals.iter_mut().zip(seen) {
            *total += seen;
        }
    }
    println!("resumed, exhausted, paused, gaps, full: {totals:?}");
    if wanted.is_none() {
        assert!(totals.iter().all(|total| *total > 10), "{totals:?}");
    }
}
