//! The channels against the fake host: what is opened and freed when, and who is told.

use core::{
    cell::{Cell, RefCell},
    future::Future,
};
use std::{collections::VecDeque, rc::Rc};

use bytes::Bytes;
use selium_abi::{ChannelCreate, IoFrame, IoWrite, decode_rkyv};
use selium_remote_client_protocol::ops::Backpressure;
use selium_remote_server_core::{
    Completion, HostCall,
    host::{HostChannel, OpId, ReaderId, WriterId},
};
use selium_remote_transport_wasm::{executor, fake, process::Argument};

use super::{Channels, Events, GONE};

const ATTACH: &str = "selium::channel::attach";
const CREATE: &str = "selium::channel::create";
const DELETE: &str = "selium::channel::delete";
const SHARE: &str = "selium::channel::share";
const STRONG_READER: &str = "selium::channel::strong_reader_create";
const WEAK_READER: &str = "selium::channel::weak_reader_create";
const STRONG_WRITER: &str = "selium::channel::strong_writer_create";
const WEAK_WRITER: &str = "selium::channel::weak_writer_create";
const STRONG_READ: &str = "selium::channel::strong_read";
const WEAK_READ: &str = "selium::channel::weak_read";
const STRONG_WRITE: &str = "selium::channel::strong_write";
const WEAK_WRITE: &str = "selium::channel::weak_write";

const CHANNEL: HostChannel = HostChannel(1);
const READER: ReaderId = ReaderId(1);

/// What was completed.
#[derive(Default)]
struct Told(RefCell<VecDeque<Completion>>);

impl Events for Told {
    fn complete(self: Rc<Self>, completion: Completion) {
        self.0.borrow_mut().push_back(completion);
    }
}

struct World {
    channels: Rc<Channels>,
    told: Rc<Told>,
}

impl World {
    fn new() -> Self {
        Self {
            channels: Rc::default(),
            told: Rc::default(),
        }
    }

    fn begin(&self, call: HostCall) {
        let told: Rc<Told> = Rc::clone(&self.told);
        let refused = self.channels.begin(told, call);
        self.told.0.borrow_mut().extend(refused);
    }

    /// Everything that was told, after all tasks have done what they can.
    async fn told(&self) -> Vec<Completion> {
        settle().await;
        self.told.0.borrow_mut().drain(..).collect()
    }

    async fn with_channel(backpressure: Backpressure) -> Self {
        let world = Self::new();
        world.begin(HostCall::CreateChannel {
            op: OpId(0),
            channel: CHANNEL,
            capacity: 4_096,
            backpressure,
        });
        assert_eq!(world.told().await, [done(0)]);
        world
    }

    fn open(&self, reader: ReaderId, lossless: bool) {
        self.begin(HostCall::OpenReader {
            reader,
            channel: CHANNEL,
            lossless,
        });
    }

    fn write(&self, writer: u64, text: &'static str) {
        self.begin(HostCall::Write {
            writer: WriterId(writer),
            channel: CHANNEL,
            bytes: Bytes::from_static(text.as_bytes()),
        });
    }

    async fn share(&self) {
        self.begin(HostCall::ShareChannel {
            op: OpId(9),
            channel: CHANNEL,
        });
        assert_eq!(self.told().await, [done(9)]);
    }
}

fn done(op: u64) -> Completion {
    Completion::ChannelDone {
        op: OpId(op),
        result: Ok(()),
    }
}

fn written(writer: u64) -> Completion {
    Completion::Written {
        writer: WriterId(writer),
        result: Ok(()),
    }
}

fn not_written(writer: u64) -> Completion {
    Completion::Written {
        writer: WriterId(writer),
        result: Err(GONE.to_owned()),
    }
}

fn ended() -> Completion {
    Completion::ReaderEnded {
        reader: READER,
        error: None,
    }
}

fn read(text: &'static str) -> Completion {
    Completion::Read {
        reader: READER,
        bytes: Bytes::from_static(text.as_bytes()),
    }
}

fn frame(text: &str) -> fake::Reply {
    frame_of(1, text)
}

fn frame_of(writer_id: u16, text: &str) -> fake::Reply {
    fake::ok(&IoFrame {
        writer_id,
        payload: text.as_bytes().to_vec(),
    })
}

/// Ends the oldest read or write that runs.
fn complete(name: &str, reply: fake::Reply) {
    fake::complete(fake::pending(name)[0], reply);
}

fn texts() -> Vec<String> {
    let written = fake::take_written();
    let text = |(_, bytes)| String::from_utf8(bytes).unwrap();
    written.into_iter().map(text).collect()
}

fn drained() -> fake::Reply {
    fake::error("internal error: io error: operation interrupted")
}

async fn settle() {
    for _ in 0..2_000 {
        // The round trips.
        for waiting in fake::pending(ATTACH) {
            fake::complete(waiting, fake::error("resource not found"));
        }
        executor::yield_now().await;
    }
}

fn on_host(test: impl Future<Output = ()> + 'static) {
    fake::reset();
    // A round trip takes its time.
    fake::on(ATTACH, |args| match decode_rkyv::<u64>(args) {
        Ok(u64::MAX) => fake::Reply::Pending,
        _ => fake::ok(&fake::alloc(true)),
    });
    executor::run(test).unwrap();
    assert!(fake::violations().is_empty(), "{:?}", fake::violations());
}

#[test]
fn channels_that_park_are_made_with_room() {
    on_host(async {
        let asked = Rc::new(RefCell::new(Vec::new()));
        let seen = Rc::clone(&asked);
        fake::on(CREATE, move |args| {
            let create = decode_rkyv::<ChannelCreate>(args).unwrap();
            seen.borrow_mut().push(create.capacity);
            fake::ok(&fake::alloc(true))
        });
        World::with_channel(Backpressure::Park).await;
        World::with_channel(Backpressure::Drop).await;
        assert_eq!(*asked.borrow(), [8_192, 4_096]);
        fake::on(CREATE, |_| fake::error("internal error: full"));
        let world = World::new();
        world.begin(HostCall::CreateChannel {
            op: OpId(0),
            channel: CHANNEL,
            capacity: 1,
            backpressure: Backpressure::Park,
        });
        let told = world.told().await;
        assert!(matches!(
            told.as_slice(),
            [Completion::ChannelDone { result: Err(_), .. }]
        ));
        world.write(1, "x");
        assert_eq!(world.told().await, [not_written(1)]);
    });
}

#[test]
fn a_reader_pauses_after_the_read_that_runs() {
    on_host(async {
        let world = World::with_channel(Backpressure::Park).await;
        world.open(READER, true);
        assert_eq!(world.told().await, []);
        complete(STRONG_READ, frame("one"));
        assert_eq!(world.told().await, [read("one")]);
        world.begin(HostCall::PauseReader { reader: READER });
        settle().await;
        complete(STRONG_READ, frame("two"));
        assert_eq!(world.told().await, [read("two")]);
        assert_eq!(fake::pending(STRONG_READ).len(), 0);
        world.begin(HostCall::ResumeReader { reader: READER });
        settle().await;
        complete(
            STRONG_READ,
            fake::error("Reader was too slow and got left behind"),
        );
        let lost = Completion::ReadLost { reader: READER };
        assert_eq!(world.told().await, [lost]);
        complete(
            STRONG_READ,
            fake::error("internal error: io error: frame exceeds requested length"),
        );
        let told = world.told().await;
        assert!(matches!(
            told.as_slice(),
            [Completion::ReaderEnded { error: Some(_), .. }]
        ));
        // The channel, and the look that found no writer to be woken.
        assert_eq!(fake::slots_in_use(), 2);
    });
}

#[test]
fn an_idle_strong_reader_is_freed_at_once_and_writers_are_woken() {
    on_host(async {
        let world = World::with_channel(Backpressure::Park).await;
        world.open(READER, true);
        world.begin(HostCall::PauseReader { reader: READER });
        assert_eq!(world.told().await, []);
        fake::on(WEAK_READ, |_| drained());
        world.begin(HostCall::CloseReader { reader: READER });
        assert_eq!(world.told().await, [ended()]);
        assert_eq!(fake::calls(WEAK_READ), 1);
        assert_eq!(fake::slots_in_use(), 1);
        // Nothing more is told of it.
        world.begin(HostCall::CloseReader { reader: READER });
        assert_eq!(world.told().await, []);
    });
}

#[test]
fn a_strong_reader_that_reads_is_freed_when_its_read_ends() {
    on_host(async {
        let world = World::with_channel(Backpressure::Park).await;
        world.open(READER, true);
        settle().await;
        world.begin(HostCall::CloseReader { reader: READER });
        assert_eq!(world.told().await, [ended()]);
        assert_eq!(fake::slots_in_use(), 2);
        assert_eq!(fake::calls(WEAK_READER), 0);
        complete(STRONG_READ, frame("nobody's"));
        assert_eq!(world.told().await, []);
        // Writers are woken by a weak reader. It found nothing, and is given up with the next look.
        assert_eq!(fake::calls(WEAK_READ), 1);
        assert_eq!(fake::slots_in_use(), 2);
    });
}

#[test]
fn coming_and_going_leaves_nothing_behind() {
    for (lossless, opened, reading) in [
        (true, STRONG_READER, STRONG_READ),
        (false, WEAK_READER, WEAK_READ),
    ] {
        on_host(async move {
            let world = World::with_channel(Backpressure::Park).await;
            for _ in 0..20 {
                world.open(READER, lossless);
                settle().await;
                world.begin(HostCall::CloseReader { reader: READER });
                assert_eq!(world.told().await, [ended()]);
            }
            assert_eq!(fake::calls(opened), 1);
            assert_eq!(fake::calls(reading), 1);
            world.open(READER, lossless);
            settle().await;
            complete(reading, frame("for the last"));
            assert_eq!(world.told().await, [read("for the last")]);
            world.begin(HostCall::CloseReader { reader: READER });
            assert_eq!(world.told().await, [ended()]);
        });
    }
}

#[test]
fn publications_take_turns_with_one_writer() {
    on_host(async {
        let world = World::with_channel(Backpressure::Park).await;
        for text in ["a1", "a2", "a3"] {
            world.write(1, text);
        }
        world.write(2, "b1");
        world.begin(HostCall::CloseWriter {
            writer: WriterId(1),
        });
        let told = world.told().await;
        assert_eq!(told, [written(1), written(2), written(1), written(1)]);
        assert_eq!(texts(), ["a1", "b1", "a2", "a3"]);
        world.write(3, "c");
        assert_eq!(world.told().await, [written(3)]);
        assert_eq!(fake::calls(STRONG_WRITER), 1);
        assert_eq!(fake::slots_in_use(), 2);
        // An idle writer would freeze what processes write.
        world.share().await;
        assert_eq!(fake::slots_in_use(), 1);
    });
}

#[test]
fn bursts_on_a_shared_channel_end_with_a_weak_writer() {
    on_host(async {
        let world = World::with_channel(Backpressure::Park).await;
        world.share().await;
        let order = Rc::new(RefCell::new(Vec::new()));
        for (name, what) in [(STRONG_WRITE, "strong"), (WEAK_WRITE, "weak")] {
            let order = Rc::clone(&order);
            fake::on(name, move |args| {
                let write = decode_rkyv::<IoWrite>(args).unwrap();
                order.borrow_mut().push((what, fake::slots_in_use()));
                fake::ok(&(write.payload.len() as u32))
            });
        }
        for _ in 0..6 {
            world.write(1, "x");
        }
        assert_eq!(world.told().await.len(), 6);
        // The channel and one writer: the strong one is gone when the weak one writes.
        let strong = ("strong", 2);
        let weak = ("weak", 2);
        assert_eq!(
            *order.borrow(),
            [strong, strong, strong, strong, strong, weak]
        );
        world.write(1, "x");
        assert_eq!(world.told().await, [written(1)]);
        assert_eq!(fake::calls(WEAK_WRITER), 1);
        assert_eq!(fake::calls(STRONG_WRITER), 1);
    });
}

/// The first writes are carried out, and the others wait.
fn first_writes(most: usize) {
    let begun = Cell::new(0);
    fake::on(STRONG_WRITE, move |args| {
        begun.set(begun.get() + 1);
        if begun.get() > most {
            return fake::Reply::Pending;
        }
        fake::ok(&(decode_rkyv::<IoWrite>(args).unwrap().payload.len() as u32))
    });
}

#[test]
fn what_was_written_is_told_of_together() {
    on_host(async {
        let world = World::with_channel(Backpressure::Park).await;
        first_writes(3);
        for _ in 0..5 {
            world.write(1, "x");
        }
        assert_eq!(world.told().await, [], "more is on its way");
        // The next one may wait for a reader for ever.
        world.channels.report();
        assert_eq!(world.told().await, [written(1), written(1), written(1)]);
        world.channels.report();
        assert_eq!(world.told().await, []);
        for waiting in fake::pending(STRONG_WRITE) {
            first_writes(usize::MAX);
            fake::complete(waiting, fake::ok(&1u32));
        }
        assert_eq!(world.told().await, [written(1), written(1)]);
    });
    on_host(async {
        let world = World::with_channel(Backpressure::Park).await;
        first_writes(20);
        for _ in 0..30 {
            world.write(1, "x");
        }
        assert_eq!(world.told().await.len(), 20, "that is enough");
    });
    on_host(async {
        let world = World::with_channel(Backpressure::Park).await;
        first_writes(40);
        for _ in 0..50 {
            world.write(1, "x");
        }
        assert_eq!(world.told().await.len(), 32, "no more than that waits");
    });
    on_host(async {
        let world = World::with_channel(Backpressure::Park).await;
        first_writes(1);
        let long: &'static str = "x".repeat(16 * 1024).leak();
        world.write(1, long);
        world.write(1, "x");
        assert_eq!(world.told().await, [written(1)], "that is as well");
    });
}

#[test]
fn a_stream_of_messages_is_no_burst_for_each_breath() {
    on_host(async {
        let world = World::with_channel(Backpressure::Park).await;
        world.share().await;
        for _ in 0..5 {
            world.write(1, "x");
        }
        // Round trips take their time: nobody ends them here.
        for _ in 0..200 {
            executor::yield_now().await;
        }
        assert_eq!(fake::calls(STRONG_WRITE), 4);
        assert_eq!(world.told.0.borrow().len(), 4, "while the last one waits");
        world.write(1, "x");
        for _ in 0..200 {
            executor::yield_now().await;
        }
        assert_eq!(fake::calls(STRONG_WRITE), 5);
        assert_eq!(fake::calls(WEAK_WRITE), 0);
        assert_eq!(world.told().await.len(), 6);
        assert_eq!(fake::calls(WEAK_WRITE), 1, "nothing more came");
        assert_eq!(fake::calls(STRONG_WRITER), 1);
    });
}

/// Counts the reads that had begun when a message was handed over.
#[derive(Default)]
struct Ahead(RefCell<Vec<usize>>);

impl Events for Ahead {
    fn complete(self: Rc<Self>, completion: Completion) {
        if matches!(completion, Completion::Read { .. }) {
            self.0.borrow_mut().push(fake::calls(STRONG_READ));
        }
    }
}

#[test]
fn the_next_read_has_begun_when_a_message_is_handed_over() {
    on_host(async {
        let world = World::with_channel(Backpressure::Park).await;
        let left = Cell::new(3);
        fake::on(STRONG_READ, move |_| {
            if left.get() == 0 {
                return fake::Reply::Pending;
            }
            left.set(left.get() - 1);
            frame("x")
        });
        let ahead = Rc::new(Ahead::default());
        let sink: Rc<Ahead> = Rc::clone(&ahead);
        let call = HostCall::OpenReader {
            reader: READER,
            channel: CHANNEL,
            lossless: true,
        };
        assert_eq!(world.channels.begin(sink, call), None);
        settle().await;
        assert_eq!(*ahead.0.borrow(), [2, 3, 4]);
    });
}

#[test]
fn a_shared_channel_that_drops_gets_a_writer_for_each_message() {
    on_host(async {
        let world = World::with_channel(Backpressure::Drop).await;
        world.share().await;
        for _ in 0..5 {
            world.write(1, "x");
        }
        assert_eq!(world.told().await.len(), 5);
        assert_eq!(fake::calls(WEAK_WRITER), 5);
        assert_eq!(fake::calls(STRONG_WRITER), 0);
        assert_eq!(fake::slots_in_use(), 1);
    });
}

#[test]
fn a_delete_ends_what_the_host_leaves_waiting() {
    for drained in [false, true] {
        on_host(async move {
            let world = World::with_channel(Backpressure::Park).await;
            fake::on(STRONG_WRITE, |_| fake::Reply::Pending);
            world.open(READER, true);
            world.open(ReaderId(2), false);
            world.write(1, "parked");
            world.write(1, "behind");
            assert_eq!(world.told().await, []);
            if drained {
                fake::on(DELETE, |args| {
                    // As the host: it is gone from the table, and an error all the same.
                    fake::on(DELETE, |_| fake::ok(&()));
                    drop(decode_rkyv::<u32>(args));
                    fake::error("internal error: Cannot terminate channel that is draining")
                });
            }
            world.begin(HostCall::DeleteChannel {
                op: OpId(3),
                channel: CHANNEL,
            });
            let told = world.told().await;
            let count = |wanted: &Completion| told.iter().filter(|it| *it == wanted).count();
            assert_eq!(count(&ended()), 1, "{told:?}");
            assert_eq!(count(&not_written(1)), 2, "{told:?}");
            assert_eq!(count(&done(3)), 1, "{told:?}");
            assert_eq!(told.len(), 5, "{told:?}");
            if !drained {
                assert_eq!(fake::slots_in_use(), 0);
            }
            world.write(1, "too late");
            assert_eq!(world.told().await, [not_written(1)]);
            assert!(world.channels.table.borrow().is_empty());
            assert!(world.channels.readers.borrow().is_empty());
        });
    }
}

fn gone() -> Completion {
    Completion::ChannelGone { channel: CHANNEL }
}

#[test]
fn nothing_is_opened_on_a_channel_that_somebody_else_deleted() {
    on_host(async {
        let world = World::with_channel(Backpressure::Park).await;
        world.share().await;
        let shares = fake::calls(SHARE);
        fake::on(ATTACH, |_| fake::error("resource not found"));
        world.open(READER, true);
        world.open(ReaderId(2), false);
        world.write(1, "x");
        let told = world.told().await;
        assert!(told.contains(&ended()), "{told:?}");
        assert!(told.contains(&not_written(1)), "{told:?}");
        assert!(told.contains(&gone()), "{told:?}");
        assert_eq!(told.len(), 4);
        for name in [STRONG_READER, WEAK_READER, STRONG_WRITER, WEAK_WRITER] {
            assert_eq!(fake::calls(name), 0, "{name}");
        }
        assert!(world.channels.lend(CHANNEL).await.is_err());
        // The runtime would give the freed number to the dead handle.
        assert_eq!(fake::calls(SHARE), shares);
        world.begin(HostCall::DeleteChannel {
            op: OpId(4),
            channel: CHANNEL,
        });
        assert_eq!(world.told().await, [done(4)]);
        assert!(world.channels.table.borrow().is_empty());
        assert_eq!(fake::slots_in_use(), 0);
    });
}

#[test]
fn another_channel_with_the_same_number_is_left_alone() {
    on_host(async {
        let world = World::with_channel(Backpressure::Park).await;
        world.share().await;
        // The number is taken, so the dead handle gets another one.
        fake::on(SHARE, |_| fake::ok(&77_u64));
        world.write(1, "x");
        assert_eq!(world.told().await, [gone(), not_written(1)]);
        assert_eq!(texts(), [""; 0]);
        assert_eq!(fake::slots_in_use(), 0);
        let world = World::with_channel(Backpressure::Park).await;
        world.share().await;
        fake::on(SHARE, |_| fake::ok(&78_u64));
        assert!(world.channels.lend(CHANNEL).await.is_err());
    });
}

#[test]
fn a_shared_channel_that_ends_is_gone_only_when_it_was_deleted() {
    on_host(async {
        let world = World::with_channel(Backpressure::Park).await;
        world.share().await;
        world.open(READER, false);
        settle().await;
        // A process has drained it.
        complete(WEAK_READ, drained());
        assert_eq!(world.told().await, [ended()]);
        world.open(READER, true);
        settle().await;
        complete(
            STRONG_READ,
            fake::error("internal error: io error: connection aborted"),
        );
        assert_eq!(world.told().await, [gone(), ended()]);
    });
}

#[test]
fn lossy_readers_are_fed_by_a_strong_one() {
    on_host(async {
        let world = World::with_channel(Backpressure::Park).await;
        let lossy = ReaderId(2);
        let fed = |text: &'static str| Completion::Read {
            reader: lossy,
            bytes: Bytes::from_static(text.as_bytes()),
        };
        let lost = || Completion::ReadLost { reader: lossy };
        // Others can write: nobody knows what is between two readers.
        world.share().await;
        world.open(lossy, false);
        settle().await;
        complete(WEAK_READ, frame("alone"));
        assert_eq!(world.told().await, [fed("alone")]);
        // What the strong one reads first is perhaps known; once it waits, everything is new.
        let mut backlog = vec!["old 2", "old 1"];
        fake::on(STRONG_READ, move |_| match backlog.pop() {
            Some(text) => frame(text),
            None => fake::Reply::Pending,
        });
        world.open(READER, true);
        assert_eq!(world.told().await, [read("old 1"), lost(), read("old 2")]);
        complete(STRONG_READ, frame("new"));
        assert_eq!(world.told().await, [read("new"), fed("new")]);
        world.begin(HostCall::PauseReader { reader: lossy });
        complete(STRONG_READ, frame("missed"));
        assert_eq!(world.told().await, [read("missed")]);
        world.begin(HostCall::ResumeReader { reader: lossy });
        assert_eq!(world.told().await, [lost()]);
        // The last one is read for nobody else.
        world.begin(HostCall::CloseReader { reader: READER });
        assert_eq!(world.told().await, [ended()]);
        let weak = fake::calls(WEAK_READER);
        complete(STRONG_READ, frame("last"));
        assert_eq!(world.told().await, [fed("last")]);
        assert!(fake::calls(WEAK_READER) > weak);
        complete(WEAK_READ, frame("nobody's"));
        world.begin(HostCall::CloseReader { reader: lossy });
        settle().await;
    });
}

#[test]
fn a_lossy_reader_is_told_of_what_comes_before_the_strong_one_feeds_it() {
    on_host(async {
        let world = World::with_channel(Backpressure::Park).await;
        world.share().await;
        world.open(READER, true);
        world.open(ReaderId(2), false);
        while fake::pending(STRONG_READ).is_empty() {
            executor::yield_now().await;
        }
        // The strong one has not come to the end yet: nobody knows whether this was there before the lossy one came.
        complete(STRONG_READ, frame("early"));
        assert_eq!(world.told().await, [read("early")]);
        complete(STRONG_READ, frame("new"));
        let lost = Completion::ReadLost {
            reader: ReaderId(2),
        };
        assert_eq!(world.told().await, [read("new"), lost, lossy_read("new")]);
        end_reads().await;
    });
}

/// Ends all reads, those of readers too that were given up.
async fn end_reads() {
    for name in [WEAK_READ, STRONG_READ] {
        fake::on(name, |_| drained());
        for waiting in fake::pending(name) {
            fake::complete(waiting, drained());
        }
    }
    settle().await;
}

fn lossy_read(text: &'static str) -> Completion {
    Completion::Read {
        reader: ReaderId(2),
        bytes: Bytes::from_static(text.as_bytes()),
    }
}

#[test]
fn a_lossy_reader_misses_nothing_when_a_strong_one_comes() {
    on_host(async {
        let world = World::with_channel(Backpressure::Park).await;
        world.open(ReaderId(2), false);
        settle().await;
        fake::on(STRONG_WRITE, |_| {
            complete(WEAK_READ, frame("before"));
            fake::ok(&6_u32)
        });
        world.write(1, "before");
        assert_eq!(world.told().await, [written(1), lossy_read("before")]);
        // The strong one reads what the weak one had, and nothing is written before it has come to the end.
        let mut backlog = Some("before");
        fake::on(STRONG_READ, move |_| {
            backlog.take().map_or(fake::Reply::Pending, frame)
        });
        fake::on(STRONG_WRITE, |_| {
            assert_eq!(fake::calls(STRONG_READ), 2, "it waits");
            fake::ok(&6_u32)
        });
        world.open(READER, true);
        executor::yield_now().await;
        world.write(1, "behind");
        settle().await;
        assert_eq!(world.told().await, [read("before"), written(1)]);
        complete(STRONG_READ, frame("behind"));
        assert_eq!(world.told().await, [read("behind"), lossy_read("behind")]);
        end_reads().await;
    });
}

#[test]
fn a_lossy_reader_is_told_when_the_strong_one_pauses_before_it_has_come_to_the_end() {
    on_host(async {
        let world = World::with_channel(Backpressure::Park).await;
        world.open(ReaderId(2), false);
        settle().await;
        for text in ["one", "two", "three"] {
            fake::on(STRONG_WRITE, move |_| {
                complete(WEAK_READ, frame(text));
                fake::ok(&(text.len() as u32))
            });
            world.write(1, text);
            assert_eq!(world.told().await, [written(1), lossy_read(text)]);
        }
        let mut backlog = vec!["three", "two", "one"];
        fake::on(STRONG_READ, move |_| {
            backlog.pop().map_or(fake::Reply::Pending, frame)
        });
        world.open(READER, true);
        world.begin(HostCall::PauseReader { reader: READER });
        let lost = Completion::ReadLost {
            reader: ReaderId(2),
        };
        assert_eq!(world.told().await, [lost], "it read nothing");
        // Writers need not wait for it.
        fake::on(STRONG_WRITE, |_| fake::ok(&1_u32));
        world.write(1, "x");
        assert_eq!(world.told().await, [written(1)]);
        end_reads().await;
    });
}

#[test]
fn a_reader_that_no_nudge_wakes_is_replaced() {
    for lossless in [true, false] {
        on_host(async move {
            let (opened, reading) = match lossless {
                true => (STRONG_READER, STRONG_READ),
                false => (WEAK_READER, WEAK_READ),
            };
            let world = World::with_channel(Backpressure::Park).await;
            let one = |text: &'static str| Completion::Read {
                reader: READER,
                bytes: Bytes::from_static(text.as_bytes()),
            };
            world.open(READER, lossless);
            settle().await;
            // The first one is seen.
            let sleeper = fake::pending(reading)[0];
            fake::on(STRONG_WRITE, move |_| {
                complete(reading, frame("one"));
                fake::ok(&3_u32)
            });
            world.write(1, "one");
            assert_eq!(world.told().await, [written(1), one("one")]);
            // The second one is not, whatever looks at it; a new reader finds both (a strong one only what the old one had not).
            fake::on(STRONG_WRITE, |_| fake::ok(&3_u32));
            let looks = RefCell::new(0);
            let mut there = match lossless {
                true => vec!["two"],
                false => vec!["two", "one"],
            };
            let before = fake::calls(opened);
            if lossless {
                fake::on(WEAK_READ, move |_| {
                    *looks.borrow_mut() += 1;
                    frame("two")
                });
                fake::on(STRONG_READ, move |_| {
                    there.pop().map_or(fake::Reply::Pending, frame)
                });
            } else {
                // The look comes first, and then the new reader.
                let mut look = Some("one");
                fake::on(WEAK_READ, move |_| {
                    let next = look.take().or_else(|| there.pop());
                    next.map_or(fake::Reply::Pending, frame)
                });
            }
            world.write(1, "two");
            let mut told = Vec::new();
            while told.len() < 2 {
                told.extend(world.told().await);
            }
            assert_eq!(told, [written(1), one("two")]);
            assert!(fake::calls(opened) > before);
            // The next write wakes both, and the message is told once.
            fake::on(reading, |_| fake::Reply::Pending);
            for waiting in fake::pending(reading) {
                if waiting != sleeper {
                    fake::complete(waiting, frame("three"));
                }
            }
            fake::on(STRONG_WRITE, |_| fake::ok(&5_u32));
            world.write(1, "three");
            let told = world.told().await;
            let reads = told.iter().filter(|it| **it == one("three"));
            assert_eq!(reads.count(), 1, "{told:?}");
            end_reads().await;
        });
    }
}

#[test]
fn a_drain_ends_those_who_wait_since_before() {
    on_host(async {
        let world = World::with_channel(Backpressure::Park).await;
        world.open(READER, true);
        settle().await;
        // What a new reader sees of an empty channel that drains.
        fake::on(WEAK_READ, |_| drained());
        world.begin(HostCall::DrainChannel {
            op: OpId(5),
            channel: CHANNEL,
        });
        assert_eq!(world.told().await, [done(5), ended()]);
        assert_eq!(fake::slots_in_use(), 1);
    });
}

#[test]
fn a_reader_that_sleeps_after_a_burst_is_nudged() {
    on_host(async {
        let world = World::with_channel(Backpressure::Park).await;
        world.open(READER, true);
        settle().await;
        let reading = fake::pending(STRONG_READ)[0];
        fake::on(WEAK_READ, move |_| {
            fake::complete(reading, frame("woken"));
            frame("woken")
        });
        world.write(1, "woken");
        assert_eq!(world.told().await, [written(1), read("woken")]);
        assert_eq!(fake::calls(WEAK_READ), 1);
        // One that has seen it is left alone.
        fake::on(STRONG_WRITE, |_| {
            complete(STRONG_READ, frame("seen"));
            fake::ok(&4_u32)
        });
        world.write(1, "seen");
        assert_eq!(world.told().await.len(), 2);
        assert_eq!(fake::calls(WEAK_READ), 1);
    });
}

#[test]
fn a_nudge_leaves_no_idle_writer_where_there_is_nothing_to_read() {
    on_host(async {
        let world = World::with_channel(Backpressure::Park).await;
        world.share().await;
        world.open(READER, true);
        settle().await;
        world.begin(HostCall::NudgeReader { reader: READER });
        assert_eq!(world.told().await, []);
        assert_eq!(fake::calls(WEAK_READ), 1);
        assert_eq!(fake::calls(STRONG_WRITER), 0);
        fake::on(WEAK_READ, |_| frame("there"));
        world.begin(HostCall::NudgeReader { reader: READER });
        assert_eq!(world.told().await, []);
        assert_eq!(fake::calls(STRONG_WRITER), 1);
        // The channel, the reader, and the first look.
        assert_eq!(fake::slots_in_use(), 3);
    });
}

#[test]
fn what_nobody_reads_is_read_now_and_then() {
    on_host(async {
        let world = World::with_channel(Backpressure::Park).await;
        fake::on(WEAK_READ, |_| frame("oldest"));
        for _ in 0..super::writer::MAX_UNREAD {
            world.write(1, "x");
        }
        for _ in 0..200 {
            settle().await;
        }
        assert_eq!(world.told().await.len(), super::writer::MAX_UNREAD as usize);
        assert_eq!(fake::calls(WEAK_READ), 1);
        assert_eq!(fake::slots_in_use(), 2);
    });
}

/// A shared channel with a lossless reader, which has read something of two writers and waits.
async fn with_two_writers(text: &'static str) -> World {
    let world = World::with_channel(Backpressure::Park).await;
    world.share().await;
    world.open(READER, true);
    settle().await;
    for writer in [1, 2] {
        complete(STRONG_READ, frame_of(writer, text));
        assert_eq!(world.told().await, [read(text)]);
    }
    world
}

#[test]
fn no_strong_reader_waits_where_several_write() {
    on_host(async {
        let world = with_two_writers("x").await;
        assert_eq!(fake::pending(STRONG_READ).len(), 0);
        assert_eq!(fake::pending(WEAK_READ).len(), 1);
        // What the scout has read the strong one reads.
        for _ in 0..3 {
            complete(WEAK_READ, frame_of(1, "y"));
            assert_eq!(world.told().await, []);
            assert_eq!(fake::pending(WEAK_READ).len(), 0);
            complete(STRONG_READ, frame_of(1, "y"));
            assert_eq!(world.told().await, [read("y")]);
            assert_eq!(fake::pending(STRONG_READ).len(), 0);
        }
        assert_eq!(fake::calls(WEAK_READER), 1);
        // It may sleep: a nudge is another scout.
        world.begin(HostCall::NudgeReader { reader: READER });
        assert_eq!(world.told().await, []);
        assert_eq!(fake::calls(WEAK_READER), 2);
        fake::complete(fake::pending(WEAK_READ)[1], frame_of(2, "z"));
        settle().await;
        complete(STRONG_READ, frame_of(2, "z"));
        assert_eq!(world.told().await, [read("z")]);
        // A pause holds for both.
        world.begin(HostCall::PauseReader { reader: READER });
        settle().await;
        fake::complete(fake::pending(WEAK_READ)[1], frame_of(1, "late"));
        assert_eq!(world.told().await, []);
        assert_eq!(fake::pending(STRONG_READ).len(), 0);
        world.begin(HostCall::ResumeReader { reader: READER });
        settle().await;
        complete(STRONG_READ, frame_of(1, "late"));
        assert_eq!(world.told().await, [read("late")]);
        // The strong one is free at any time.
        world.begin(HostCall::CloseReader { reader: READER });
        assert_eq!(world.told().await, [ended()]);
        assert_eq!(fake::calls(STRONG_READER), 1);
        for waiting in fake::pending(WEAK_READ) {
            fake::complete(waiting, drained());
        }
        world.begin(HostCall::DeleteChannel {
            op: OpId(3),
            channel: CHANNEL,
        });
        assert_eq!(world.told().await, [done(3)]);
        assert_eq!(fake::slots_in_use(), 0);
    });
}

#[test]
fn a_single_writer_needs_no_scout() {
    on_host(async {
        let world = World::with_channel(Backpressure::Park).await;
        world.share().await;
        world.open(READER, true);
        settle().await;
        for _ in 0..10 {
            complete(STRONG_READ, frame_of(7, "x"));
            assert_eq!(world.told().await, [read("x")]);
        }
        assert_eq!(fake::calls(WEAK_READER), 0);
    });
    // Nor does a channel that only this module writes to.
    on_host(async {
        let world = World::with_channel(Backpressure::Park).await;
        world.open(READER, true);
        settle().await;
        for writer in [1, 2, 1, 2] {
            complete(STRONG_READ, frame_of(writer, "x"));
            assert_eq!(world.told().await, [read("x")]);
        }
        assert_eq!(fake::calls(WEAK_READER), 0);
    });
}

#[test]
fn a_scout_that_sleeps_while_the_channel_is_full_is_replaced() {
    on_host(async {
        // An eighth of what the runtime keeps, in two messages.
        const HALF: &str = match core::str::from_utf8(&[b'x'; 512]) {
            Ok(text) => text,
            Err(_) => "",
        };
        let world = with_two_writers(HALF).await;
        let scouts = fake::calls(WEAK_READER);
        assert!((2..8).contains(&scouts), "{scouts}");
        // Not for ever.
        settle().await;
        assert_eq!(fake::calls(WEAK_READER), scouts);
        // Any of them may be the one that wakes; the last one counts.
        let waiting = fake::pending(WEAK_READ);
        assert_eq!(waiting.len(), scouts);
        fake::complete(waiting[scouts - 1], frame_of(1, "y"));
        settle().await;
        complete(STRONG_READ, frame_of(1, "y"));
        assert_eq!(world.told().await, [read("y")]);
        // The others are freed when they wake.
        for waiting in fake::pending(WEAK_READ) {
            fake::complete(waiting, frame_of(1, "y"));
        }
        settle().await;
        // The channel, its strong reader, the last scout and the one before.
        assert_eq!(fake::slots_in_use(), 4);
    });
}

#[test]
fn a_channel_is_lent_with_a_slot_of_its_own() {
    on_host(async {
        let world = World::with_channel(Backpressure::Park).await;
        let lent = world.channels.lend(CHANNEL).await.unwrap();
        assert_eq!(lent.shared.get(), 1_000);
        assert_eq!(Argument::Channel((&lent.channel).into()), {
            let again = (&lent.channel).into();
            Argument::Channel(again)
        });
        assert_eq!(fake::slots_in_use(), 2);
        drop(lent);
        assert_eq!(fake::slots_in_use(), 1);
        assert_eq!(fake::calls(DELETE), 0);
    });
}
