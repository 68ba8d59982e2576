//! What the tests of hostile peers share: an honest client beside them, what the runtime's memory did meanwhile, and a
//! connection that says any frame.

#![allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    reason = "part of several tests, none of which uses all of it"
)]

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use bytes::Bytes;
use selium_remote_client::{
    AbiSignature, Capability, Client, LogItem, LogStream, Process, ProcessBuilder, ServerInfo,
};
use selium_remote_client_protocol::{
    ErrorCode, Payload, RemoteError,
    frame::{Frame, FrameReader},
    hello::ClientHello,
    ops::{Common, FollowRequest, Request, op},
};
use selium_remote_e2e::{
    MIB, PATIENCE, Server, Wire, block_on_for, frames, guests, median, mib, resident, soon,
};

/// The longest that an honest client may wait for any answer while hostile peers are at work. Answers take a
/// millisecond and starts 60 on a quiet machine; the rest is for machines with other work.
pub const SERVICE: Duration = Duration::from_secs(5);

/// The longest that it may wait for most of its answers.
pub const MOST: Duration = Duration::from_millis(500);

/// What a start and its process leave in the runtime, which frees nothing that a process owned (SECURITY.md: 32 KiB
/// without a log). With room for the compiler's own memory, which the allocator does not give back at once.
const START: u64 = 256 * 1024;

/// What the runtime's resident memory moves by itself: its allocator's arenas, buffers of the QUIC stack, a compiler at
/// work on the honest client's starts.
pub const NOISE: u64 = 24 * MIB;

/// Tests that look at the memory of one machine take turns.
pub fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A client that pings, asks, starts and follows a log on a thread of its own, and watches the runtime's memory.
pub struct Honest {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<Report>>,
}

/// What an honest client saw.
#[derive(Debug)]
pub struct Report {
    /// What a ping and a server info in a row took, each time.
    answers: Vec<Duration>,
    /// What a start and a stop in a row took, each time.
    starts: Vec<Duration>,
    /// Records of the log that it followed, and the longest time between two of them.
    records: u64,
    silence: Duration,
    /// The runtime's resident memory before, and at most.
    before: u64,
    peak: u64,
    /// The server's counter of held bytes, at most.
    pub held: u64,
    /// The server's counter of connections that are closed and not gone, at most.
    pub zombies: u64,
}

impl Honest {
    /// Starts one; returns when it is served.
    pub fn start(server: &Arc<Server>) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let (ready, is_ready) = mpsc::channel();
        let thread = {
            let (over, server) = (Arc::clone(&over), Arc::clone(server));
            thread::spawn(move || {
                block_on_for(PATIENCE * 20, async { live(&server, &over, &ready).await })
            })
        };
        is_ready.recv().expect("the honest client is served");
        Self {
            over,
            thread: Some(thread),
        }
    }

    /// Ends it, and fails when it was not served well: answers came late, records were missing or late, or the server
    /// has kept something for somebody who is gone. All hostile peers have to be gone.
    pub fn was_served(mut self, what: &str, server: &Server) -> Report {
        self.over.store(true, Ordering::Relaxed);
        let report = self.thread.take().expect("it is not over").join();
        let report = report.unwrap_or_else(|_| panic!("the honest client beside {what} failed"));
        let worst = |took: &[Duration]| took.iter().max().copied().unwrap_or_default();
        let answers = (median(&report.answers), worst(&report.answers));
        let starts = (median(&report.starts), worst(&report.starts));
        eprintln!(
            "{what}: an honest client's {} pairs of ping and info {:.1?}, at most {:.1?}; {} pairs of start and stop \
             {:.1?}, at most {:.1?}; {} records, at most {:.1?} apart; memory {:.1} MiB before, {:.1} at most; \
             at most {} bytes held, {} zombies",
            report.answers.len(),
            answers.0,
            answers.1,
            report.starts.len(),
            starts.0,
            starts.1,
            report.records,
            report.silence,
            mib(report.before),
            mib(report.peak),
            report.held,
            report.zombies,
        );
        assert!(
            answers.1 <= SERVICE && answers.0 <= MOST,
            "answers came late: {answers:.1?}"
        );
        assert!(starts.1 <= 2 * SERVICE, "starts were late: {starts:.1?}");
        assert!(
            report.silence <= SERVICE,
            "records came late: {:.1?}",
            report.silence
        );
        server.must_answer();
        report
    }
}

impl Drop for Honest {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        // Not beside the next test, when this one has failed.
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Report {
    /// How far the runtime's memory went above what it was before, apart from what the honest client's own starts leave.
    pub fn growth(&self) -> u64 {
        let own = self.starts.len() as u64 * START;
        self.peak.saturating_sub(self.before).saturating_sub(own)
    }

    /// Fails when the memory went further above what it was before than `bound` and what it moves by itself.
    pub fn stayed_within(&self, what: &str, bound: u64) {
        let growth = self.growth();
        assert!(
            growth <= bound + NOISE,
            "{what}: the runtime's memory grew by {:.1} MiB, {:.1} are allowed",
            mib(growth),
            mib(bound + NOISE)
        );
    }
}

async fn live(server: &Server, over: &AtomicBool, ready: &mpsc::Sender<()>) -> Report {
    let config = server
        .config()
        .connect_timeout(PATIENCE)
        .request_timeout(PATIENCE);
    let client = config.connect().await.expect("a connection");
    let ticker = Process::start(&client, guests::ticker(1_000_000, 10)).await;
    let ticker = ticker.expect("a ticker");
    let mut log = ticker.log_channel().await.expect("its log");
    // Warm: its log is found, and a module was compiled.
    tick(&mut log, 0).await;
    start(&client).await;
    let before = resident(server.pid());
    ready.send(()).expect("the test waits");
    let is_over = || over.load(Ordering::Relaxed);
    let asking = async {
        let (mut took, mut held, mut zombies) = (Vec::new(), 0, 0);
        while !is_over() || took.len() < 5 {
            let begun = Instant::now();
            client.ping().await.expect("a pong");
            let info = client.info().await.expect("counters");
            took.push(begun.elapsed());
            held = held.max(info.held_bytes);
            zombies = zombies.max(info.zombies);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        (took, held, zombies)
    };
    let starting = async {
        let mut took = Vec::new();
        while !is_over() || took.is_empty() {
            let begun = Instant::now();
            start(&client).await;
            took.push(begun.elapsed());
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        took
    };
    let following = async {
        let (mut next, mut silence) = (1, Duration::ZERO);
        while !is_over() || next < 10 {
            let begun = Instant::now();
            tick(&mut log, next).await;
            silence = silence.max(begun.elapsed());
            next += 1;
        }
        (next, silence)
    };
    let watching = async {
        let mut peak = before;
        while !is_over() {
            peak = peak.max(resident(server.pid()));
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        peak.max(resident(server.pid()))
    };
    let ((answers, held, zombies), starts, (records, silence), peak) =
        tokio::join!(asking, starting, following, watching);
    drop(log);
    ticker.stop().await.expect("it stops");
    alone(&client).await;
    client.close().await;
    Report {
        answers,
        starts,
        records,
        silence,
        before,
        peak,
        held,
        zombies,
    }
}

/// Starts a process that cannot log and stops it.
async fn start(client: &Client) {
    let builder = ProcessBuilder::new("hello.wasm", "hello")
        .capability(Capability::ChannelReader)
        .signature(AbiSignature::new(vec![], vec![]));
    let process = Process::start(client, builder).await.expect("it starts");
    process.stop().await.expect("it stops");
}

/// The next record of a ticker's log, which has to be this one.
async fn tick(log: &mut LogStream, number: u64) {
    let item = soon("a tick", log.next()).await.expect("the log goes on");
    match item.expect("no error") {
        LogItem::Record { sequence, record } => {
            assert_eq!(sequence, number, "a record is missing");
            assert_eq!(record.message, format!("tick {}", number + 1));
        }
        other => panic!("{other:?} instead of record {number}"),
    }
}

/// Waits until only this client is connected, and nothing is held for anybody.
pub async fn alone(client: &Client) {
    let mut info = ServerInfo::default();
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        info = client.info().await.expect("counters");
        let ServerInfo {
            connections,
            streams,
            zombies,
            held_bytes,
            orphans,
            ..
        } = info;
        if (connections, streams, zombies, held_bytes, orphans) == (1, 0, 0, 0, 0) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("something is left of others: {info:?}");
}

/// A connection that says any frame, and reads frames.
pub struct Talk {
    pub wire: Wire,
    reader: FrameReader,
}

impl Talk {
    /// Connects with the hello of every client.
    pub async fn open(server: &Server) -> Self {
        Self::from(Wire::greeted(server).await.0)
    }

    /// Connects with a hello of its own.
    pub async fn with(server: &Server, change: impl FnOnce(&mut ClientHello)) -> Self {
        let wire = Wire::open(server).await;
        Self::from(wire.greet_as(&Wire::hello_with(change)).await.0)
    }

    /// Goes on with a connection that was greeted.
    pub fn from(wire: Wire) -> Self {
        Self {
            wire,
            reader: FrameReader::new(),
        }
    }

    /// Sends frames.
    pub async fn say(&mut self, all: &[Frame]) {
        self.wire.write(&frames(all)).await;
    }

    /// The next frame; `None` at the end.
    pub async fn hear(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.reader.next().expect("the server speaks the protocol") {
                return Some(frame);
            }
            let bytes = self.wire.read().await?;
            self.reader.push(bytes);
        }
    }

    /// The next frame, which has to come.
    pub async fn frame(&mut self) -> Frame {
        self.hear().await.expect("a frame before the end")
    }

    /// Pings, and reads up to the answer; returns what came before it.
    pub async fn ping(&mut self) -> Vec<Frame> {
        self.say(&[Frame::Ping(*b"are you?")]).await;
        let mut before = Vec::new();
        loop {
            match self.frame().await {
                Frame::Pong(token) if token == *b"are you?" => return before,
                frame => before.push(frame),
            }
        }
    }

    /// Pings, and counts the responses up to the answer, which come before it.
    pub async fn ping_behind(&mut self, responses: usize) -> usize {
        let before = self.ping().await;
        let mut seen = before
            .iter()
            .filter(|frame| matches!(frame, Frame::Response { .. }))
            .count();
        while seen < responses {
            if let Frame::Response { .. } = self.frame().await {
                seen += 1;
            }
        }
        seen
    }

    /// The answer to this request, which is in one frame and the next frame.
    pub async fn answer(&mut self, request: u64) -> Result<Bytes, RemoteError> {
        match self.frame().await {
            Frame::Response {
                id,
                code,
                total,
                chunk,
            } if id == request && chunk.len() as u64 == total => outcome(code, chunk),
            other => panic!("{other:?} is no answer to request {request}"),
        }
    }

    /// The goodbye, skipping what comes before it, and the end behind it.
    pub async fn goodbye(&mut self) -> RemoteError {
        loop {
            if let Frame::Goodbye(error) = self.frame().await {
                self.over().await;
                return error;
            }
        }
    }

    /// Ends our half and waits for the end of the server's, on which nothing may come any more.
    pub async fn over(&mut self) {
        assert_eq!(self.reader.buffered(), 0, "bytes behind the last word");
        self.wire.over().await;
    }

    /// Closes the connection at once, and waits until the server was told.
    pub async fn cut(self) {
        self.wire.cut().await;
    }
}

/// What a response says.
pub fn outcome(code: u64, chunk: Payload) -> Result<Bytes, RemoteError> {
    match code {
        0 => Ok(chunk.into_bytes()),
        code => {
            let code = ErrorCode::from_wire(code);
            Err(RemoteError::decode(code, &chunk.into_bytes()).expect("an error"))
        }
    }
}

/// A request in one frame.
pub fn request<R: Request>(id: u64, request: &R) -> Frame {
    raw(id, R::OP, request.encode(&Common::default()))
}

/// A request for the server's counters.
pub fn info(id: u64) -> Frame {
    raw(id, op::SERVER_INFO, Bytes::new())
}

/// A request to follow a log from its first record on.
pub fn follow(id: u64, target: &str) -> Frame {
    let mut follow = FollowRequest::default();
    target.clone_into(&mut follow.target);
    request(id, &follow)
}

/// A request of any body, in one frame.
pub fn raw(id: u64, op: u64, body: Bytes) -> Frame {
    Frame::Request {
        id,
        op,
        total: body.len() as u64,
        chunk: body.into(),
    }
}

/// The first frame of a request of `total` bytes.
pub fn beginning(id: u64, total: u64, chunk: usize) -> Frame {
    Frame::Request {
        id,
        op: op::PROCESS_START,
        total,
        chunk: vec![b'x'; chunk].into(),
    }
}

/// "protocol error", with these words.
pub fn protocol(message: impl Into<String>) -> RemoteError {
    RemoteError::new(ErrorCode::Protocol, message)
}

/// A log for hostile peers: a storm of so many lines, all of which the server has.
pub async fn storm(server: &Server, name: &str, lines: u32) -> (Client, Process) {
    let config = server.config().request_timeout(PATIENCE);
    let client = config.connect().await.expect("a connection");
    for attempt in 1.. {
        let builder = guests::storm(lines).name(name);
        let process = Process::start(&client, builder).await.expect("it starts");
        // A guest can hang while it logs (ARCHITECTURE.md, "Logs"): another one then.
        let (mut records, mut since) = (0, Instant::now());
        while since.elapsed() < Duration::from_secs(2) {
            let now = process.inspect().await.expect("it is there").log_records;
            if now >= u64::from(lines) {
                return (client, process);
            }
            if now != records {
                (records, since) = (now, Instant::now());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(attempt < 8, "every storm hung");
        process.stop().await.expect("it stops");
    }
    unreachable!("attempts are counted");
}
