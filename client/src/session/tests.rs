//! The session against the core's server machine, in memory and in made-up time.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::Wake,
};

use futures_channel::oneshot::Receiver;
use selium_remote_client_protocol::{
    ErrorCode, Limits,
    hello::ClientHello,
    limits::{MAX_CHUNK, MAX_WRITE},
    ops::{FollowRequest, InfoRequest, PublishRequest, StopRequest},
    publish::Publication,
    server::{ServerConnection, ServerEvent},
};

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn asks() -> Manner {
    Manner {
        token: None,
        retry: false,
        stream: StreamKind::None,
        weight: None,
        timeout: SECOND,
    }
}

fn changes(token: u64, retry: bool) -> Manner {
    Manner {
        token: Some(token),
        retry,
        ..asks()
    }
}

fn follows() -> Manner {
    Manner {
        stream: StreamKind::ToClient,
        ..asks()
    }
}

/// Counts how often it is woken.
#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// A session and its server, with a clock.
struct Pair {
    session: Session,
    server: ServerConnection,
    events: VecDeque<ServerEvent>,
    greeting: Receiver<Greeting>,
    now: Time,
    wakes: Arc<Count>,
}

impl Pair {
    fn new() -> Self {
        let limits = Limits::default();
        let config = ClientConfig::new(ClientHello::new([1; 16], [2; 16], &limits), limits);
        let (session, greeting) = Session::new(config, Time::ZERO.saturating_add(SECOND));
        Self {
            session,
            server: ServerConnection::new(limits),
            events: VecDeque::new(),
            greeting,
            now: Time::ZERO,
            wakes: Arc::default(),
        }
    }

    fn open() -> Self {
        let mut pair = Self::new();
        pair.exchange();
        assert!(matches!(
            pair.greeting.try_recv(),
            Ok(Some(Greeting::Hello(_)))
        ));
        pair
    }

    /// Carries bytes until there are none.
    fn exchange(&mut self) {
        loop {
            let mut quiet = true;
            while let Some(transmit) = self.session.poll_transmit(MAX_WRITE) {
                quiet = false;
                self.server.handle_input(self.now, transmit.to_vec().into());
            }
            while let Some(event) = self.server.poll_event() {
                match event {
                    ServerEvent::Hello(_) => {
                        self.server
                            .accept(&ServerHello::new([3; 16], &Limits::default()));
                    }
                    event => self.events.push_back(event),
                }
            }
            while let Some(transmit) = self.server.poll_transmit(MAX_WRITE) {
                quiet = false;
                self.session
                    .handle_input(self.now, transmit.to_vec().into());
            }
            if quiet {
                return;
            }
        }
    }

    fn pass(&mut self, duration: Duration) {
        self.now = self.now.saturating_add(duration);
        self.session.handle_timeout(self.now);
        self.exchange();
    }

    fn request(&mut self) -> (RequestId, Bytes) {
        self.exchange();
        match self.events.pop_front() {
            Some(ServerEvent::Request { id, body, .. }) => (id, body),
            other => panic!("{other:?} is no request"),
        }
    }

    fn info(&mut self) -> (RequestId, Receiver<Outcome<Bytes>>) {
        self.session.call(self.now, &InfoRequest, asks()).unwrap()
    }

    /// A stream that the server has opened.
    fn follow(&mut self) -> RequestId {
        let request = FollowRequest::default();
        let (id, mut answer) = self.session.call(self.now, &request, follows()).unwrap();
        self.request();
        self.server
            .respond_stream(id, Vec::new(), StreamKind::ToClient)
            .unwrap();
        self.exchange();
        assert!(matches!(answer.try_recv(), Ok(Some(Outcome::Answer(_)))));
        id
    }

    /// A stream to the server, which has opened it, with a publication of its own.
    fn publish(&mut self, backlog: usize, weight: Option<Weight>) -> RequestId {
        let request = PublishRequest::default();
        let manner = Manner {
            stream: StreamKind::ToServer,
            weight,
            ..asks()
        };
        let (id, mut answer) = self.session.call(self.now, &request, manner).unwrap();
        let (_, body) = self.request();
        assert_eq!(Common::decode(&body).unwrap().weight, weight);
        self.server
            .respond_stream(id, Vec::new(), StreamKind::ToServer)
            .unwrap();
        self.exchange();
        assert!(matches!(answer.try_recv(), Ok(Some(Outcome::Answer(_)))));
        self.session.attach(id, Publication::new(backlog));
        id
    }

    fn push(&mut self, id: RequestId, message: &[u8]) -> Result<u64, Refusal> {
        let waker = Arc::clone(&self.wakes).into();
        let message = Bytes::copy_from_slice(message);
        self.session.push(id, &message, Some(&waker))
    }

    /// The messages that the server has got since the last time, with the streams and what they cost.
    fn got(&mut self) -> Vec<(RequestId, u64, usize)> {
        self.exchange();
        let messages = self.events.drain(..).filter_map(|event| match event {
            ServerEvent::Message { id, seq, cost, .. } => Some((id, seq, cost)),
            _ => None,
        });
        messages.collect()
    }

    fn arrival(&mut self, id: RequestId) -> Poll<Arrival> {
        let waker = Arc::clone(&self.wakes).into();
        self.session
            .poll_arrival(id, &mut Context::from_waker(&waker))
    }

    fn woken(&self) -> usize {
        self.wakes.0.load(Ordering::Relaxed)
    }

    /// Nothing is left of requests and streams.
    fn is_clean(&self) -> bool {
        self.session.pending.is_empty()
            && self.session.waiting_bytes == 0
            && self.session.inflows.is_empty()
            && self.session.outflows.is_empty()
            && self.session.pings.is_empty()
    }
}

#[test]
fn a_request_is_answered_once_and_forgotten() {
    let mut pair = Pair::open();
    let (id, mut answer) = pair.info();
    let (asked, _) = pair.request();
    assert_eq!(asked, id);
    pair.server.respond(id, Ok(b"yes".to_vec()));
    pair.exchange();
    let Ok(Some(Outcome::Answer(body))) = answer.try_recv() else {
        panic!("an answer");
    };
    assert_eq!(body, "yes");
    assert!(pair.is_clean());
}

#[test]
fn requests_carry_the_token_that_they_are_given() {
    let mut pair = Pair::open();
    let stop = StopRequest::with(|made| {
        made.target = "x".to_owned();
    });
    for (token, retry) in [(Some(1), false), (None, false), (Some(1), true)] {
        let manner = token.map_or(asks(), |token| changes(token, retry));
        let _answer = pair.session.call(pair.now, &stop, manner).unwrap();
        let (_, body) = pair.request();
        let common = Common::decode(&body).unwrap();
        assert_eq!((common.token, common.retry), (token, retry));
        assert_eq!(common.deadline_ms, Some(1_000));
    }
}

#[test]
fn the_end_is_told() {
    let mut pair = Pair::open();
    let mut ended = pair.session.ended();
    assert_eq!(ended.try_recv(), Ok(None));
    pair.session.close();
    assert_eq!(ended.try_recv(), Ok(Some(())));
}

#[test]
fn requests_and_pings_expire() {
    let mut pair = Pair::open();
    let (id, mut answer) = pair.info();
    let mut ping = pair.session.ping(pair.now, SECOND / 2).unwrap();
    assert_eq!(pair.session.poll_timeout(), Some(Time::from_millis(500)));
    pair.request();
    // The exchange has answered the ping; another one is not sent while the server is not heard.
    assert!(matches!(ping.try_recv(), Ok(Some(Outcome::Answer(_)))));
    let mut ping = pair.session.ping(pair.now, SECOND / 2).unwrap();
    pair.session.handle_timeout(Time::from_millis(500));
    assert!(matches!(ping.try_recv(), Ok(Some(Outcome::Expired))));
    assert!(matches!(answer.try_recv(), Ok(None)));
    pair.pass(SECOND);
    assert!(matches!(answer.try_recv(), Ok(Some(Outcome::Expired))));
    assert_eq!(
        pair.events.pop_front(),
        Some(ServerEvent::Cancelled { id, stream: false })
    );
    pair.server.respond(id, Ok(Vec::new()));
    pair.exchange();
    assert!(
        pair.is_clean() && !pair.session.is_closed(),
        "a late answer is dropped"
    );
}

#[test]
fn an_abandoned_request_is_cancelled_and_forgotten() {
    let mut pair = Pair::open();
    let (id, answer) = pair.info();
    pair.request();
    drop(answer);
    pair.session.abandon(id);
    pair.exchange();
    assert!(matches!(
        pair.events.pop_front(),
        Some(ServerEvent::Cancelled { .. })
    ));
    assert!(pair.is_clean());
}

#[test]
fn a_stream_wakes_its_reader_and_ends() {
    let mut pair = Pair::open();
    let id = pair.follow();
    assert!(pair.arrival(id).is_pending());
    pair.server.send(id, 7, b"one".to_vec()).unwrap();
    pair.server.gap(id, 9, Some(1)).unwrap();
    pair.server.end(id, None);
    pair.exchange();
    assert_eq!(pair.woken(), 1, "woken once, then not waiting");
    let payload = b"one".to_vec().into();
    assert_eq!(
        pair.arrival(id),
        Poll::Ready(Arrival::Message { seq: 7, payload })
    );
    assert_eq!(
        pair.arrival(id),
        Poll::Ready(Arrival::Gap {
            next: 9,
            count: Some(1)
        })
    );
    assert_eq!(pair.arrival(id), Poll::Ready(Arrival::End(None)));
    assert!(pair.is_clean());
    assert_eq!(
        pair.arrival(id),
        Poll::Ready(Arrival::Closed),
        "and nothing comes any more"
    );
}

#[test]
fn an_unread_stream_is_bounded_and_its_credit_returns() {
    let mut pair = Pair::open();
    let window = Limits::default().stream_window;
    for _ in 0..20 {
        let id = pair.follow();
        let mut sent = 0;
        while pair.server.send(id, sent, vec![0; 1_000]).is_ok() {
            sent += 1;
            pair.exchange();
        }
        let held: usize = pair.session.inflows[&id]
            .arrivals
            .iter()
            .map(|(_, cost)| cost)
            .sum();
        // The window, and a message that had begun within it.
        assert!(held <= window + 1_000, "{held} bytes are held");
        assert!(held > window / 2, "the window is used");
        // Some are read, the rest is dropped with the stream.
        for expected in 0..10 {
            let Poll::Ready(Arrival::Message { seq, .. }) = pair.arrival(id) else {
                panic!("a message");
            };
            assert_eq!(seq, expected);
        }
        pair.session.abandon(id);
        pair.exchange();
        pair.events.clear();
        assert!(pair.is_clean());
    }
}

#[test]
fn closing_ends_everything_behind_what_has_come() {
    let mut pair = Pair::open();
    let id = pair.follow();
    pair.server.send(id, 0, b"one".to_vec()).unwrap();
    pair.exchange();
    let (_, mut answer) = pair.info();
    pair.server
        .close(RemoteError::new(ErrorCode::Unavailable, "bye"));
    pair.exchange();
    assert!(matches!(answer.try_recv(), Ok(Some(Outcome::Closed))));
    assert!(
        matches!(pair.session.reason(), Some(CloseReason::Peer(error)) if error.message == "bye")
    );
    let payload = b"one".to_vec().into();
    assert_eq!(
        pair.arrival(id),
        Poll::Ready(Arrival::Message { seq: 0, payload })
    );
    assert_eq!(pair.arrival(id), Poll::Ready(Arrival::Closed));
    let mut ping = pair.session.ping(pair.now, SECOND).unwrap();
    assert!(matches!(ping.try_recv(), Ok(Some(Outcome::Closed))));
    assert!(matches!(
        pair.session.call(pair.now, &InfoRequest, asks()),
        Err(Unsent::Core(RequestError::NotOpen))
    ));
    pair.session.abandon(id);
    assert!(
        pair.session.poll_transmit(MAX_WRITE).is_none(),
        "nothing behind the end"
    );
    assert!(pair.is_clean());
}

#[test]
fn a_goodbye_is_the_last_word() {
    let mut pair = Pair::open();
    let id = pair.follow();
    pair.server.send(id, 0, vec![0; 40_000]).unwrap();
    pair.exchange();
    pair.session.close();
    // The reader drops its stream only now.
    pair.session.abandon(id);
    pair.exchange();
    assert!(matches!(
        pair.events.pop_back(),
        Some(ServerEvent::Closed(CloseReason::Peer(_)))
    ));
    assert!(pair.session.is_closed());
}

#[test]
fn a_hello_that_is_not_answered_expires() {
    let mut pair = Pair::new();
    assert_eq!(pair.session.poll_timeout(), Some(Time::from_millis(1_000)));
    pair.session.handle_timeout(Time::from_millis(999));
    assert!(matches!(pair.greeting.try_recv(), Ok(None)));
    pair.session.handle_timeout(Time::from_millis(1_000));
    assert!(matches!(
        pair.greeting.try_recv(),
        Ok(Some(Greeting::TimedOut))
    ));
    assert!(pair.session.is_closed());
    assert_eq!(pair.session.poll_timeout(), None);
}

#[test]
fn a_silent_server_is_noticed() {
    let mut pair = Pair::open();
    let (_, mut answer) = pair.info();
    let _ = answer.try_recv();
    let mut waits = 0;
    while let Some(due) = pair.session.poll_timeout() {
        // Nothing is carried any more.
        pair.session.handle_timeout(due);
        waits += 1;
        assert!(waits < 100, "time goes on");
    }
    assert_eq!(pair.session.reason(), Some(&CloseReason::Silent));
    assert!(pair.is_clean());
}

#[test]
fn waiting_for_pings_is_bounded() {
    let mut pair = Pair::open();
    let mut waiters: Vec<_> = (0..MAX_PINGS)
        .map(|_| pair.session.ping(pair.now, SECOND).unwrap())
        .collect();
    assert!(pair.session.ping(pair.now, SECOND).is_none());
    // One who does not wait any more makes room.
    waiters.pop();
    assert!(pair.session.ping(pair.now, SECOND).is_some());
    pair.exchange();
    for waiter in &mut waiters {
        assert!(matches!(waiter.try_recv(), Ok(Some(Outcome::Answer(_)))));
    }
    assert!(pair.is_clean());
}

#[test]
fn long_requests_do_not_pile_up_and_do_not_end_the_connection() {
    let mut pair = Pair::open();
    let long = StopRequest::with(|made| {
        made.target = "x".repeat(300 * 1024);
    });
    let (first, _) = pair.session.call(pair.now, &long, asks()).unwrap();
    let (_second, _) = pair.session.call(pair.now, &long, asks()).unwrap();
    let third = pair.session.call(pair.now, &long, asks());
    assert_eq!(third.unwrap_err(), Unsent::Busy);
    assert!(!pair.session.is_closed());
    pair.exchange();
    assert!(
        pair.session.call(pair.now, &InfoRequest, asks()).is_ok(),
        "a short one passes"
    );
    pair.server.respond(first, Ok(Vec::new()));
    pair.exchange();
    assert!(pair.session.call(pair.now, &long, asks()).is_ok());
}

#[test]
fn a_publication_waits_for_acknowledgements_and_wakes_who_waits() {
    let mut pair = Pair::open();
    let id = pair.publish(MAX_CHUNK, None);
    let long = vec![0; MAX_CHUNK - 100];
    assert_eq!(pair.push(id, &long), Ok(0));
    assert_eq!(pair.push(id, &long), Err(Refusal::Full));
    assert_eq!(pair.got().len(), 1);
    assert_eq!(pair.woken(), 0);
    let standing = Standing {
        next: 1,
        ..Standing::default()
    };
    assert_eq!(pair.session.standing(id, None), standing);
    pair.server.acknowledge(id, 0, true);
    pair.exchange();
    assert_eq!(pair.woken(), 1);
    let standing = Standing {
        acknowledged: Some(0),
        next: 1,
        flushed: true,
        may_be_dropped: true,
        over: false,
    };
    assert_eq!(pair.session.standing(id, None), standing);
    assert_eq!(pair.push(id, &long), Ok(1));
    assert_eq!(pair.session.unacknowledged(id).len(), 1);
    pair.session.finish(id);
    pair.got();
    pair.server.end(id, None);
    pair.exchange();
    assert!(pair.session.standing(id, None).over);
    assert_eq!(pair.push(id, b"x"), Err(Refusal::Over));
    let (publication, over) = pair.session.detach(id).unwrap();
    assert_eq!(over, Over::Ended(None));
    assert_eq!(unacknowledged(&publication).len(), 1);
    assert_eq!(acknowledged(&publication), Some(0));
    assert!(pair.is_clean());
}

#[test]
fn a_publication_moves_on_while_nobody_looks() {
    let mut pair = Pair::open();
    let id = pair.publish(1 << 20, None);
    // More than the core queues and than the server gives credit for.
    for number in 0..500 {
        assert_eq!(pair.push(id, &[1; 1_000]), Ok(number));
    }
    let mut expected = 0;
    loop {
        let got = pair.got();
        if got.is_empty() {
            break;
        }
        for (_, seq, cost) in got {
            assert_eq!(seq, expected);
            expected += 1;
            pair.server.consume(id, cost);
        }
    }
    assert_eq!(expected, 500);
    pair.server.acknowledge(id, 499, false);
    pair.exchange();
    assert!(pair.session.standing(id, None).flushed);
    pair.session.abandon(id);
    assert!(pair.is_clean());
}

#[test]
fn a_publication_outlives_its_connection() {
    let mut pair = Pair::open();
    let id = pair.publish(1 << 20, None);
    for number in 0..3 {
        assert_eq!(pair.push(id, b"one"), Ok(number));
    }
    assert!(pair.session.detach(id).is_none(), "it is not over");
    assert_eq!(pair.got().len(), 3);
    assert_eq!(pair.push(id, b"one"), Ok(3));
    pair.server.acknowledge(id, 0, false);
    pair.exchange();
    pair.events.clear();
    // Somebody waits.
    let waker = Arc::clone(&pair.wakes).into();
    pair.session.standing(id, Some(&waker));
    let before = pair.woken();
    pair.session.handle_eof(pair.now);
    assert_eq!(pair.woken(), before + 1);
    let (mut publication, over) = pair.session.detach(id).unwrap();
    assert_eq!(over, Over::Closed);
    assert!(pair.is_clean());

    let mut pair = Pair::open();
    assert_eq!(publication.resume(Some(1)), Ok(1));
    let id = pair.publish(1, None);
    pair.session.attach(id, publication);
    let sent: Vec<u64> = pair.got().iter().map(|(_, seq, _)| *seq).collect();
    assert_eq!(sent, [2, 3]);
}

#[test]
fn a_heavier_publication_gets_more_of_a_write() {
    let mut pair = Pair::open();
    let weight = Weight::new(3).unwrap();
    let light = pair.publish(1 << 20, None);
    let heavy = pair.publish(1 << 20, Some(weight));
    for _ in 0..60 {
        for id in [light, heavy] {
            pair.push(id, &[1; 1_000]).unwrap();
        }
    }
    let write = pair.session.poll_transmit(MAX_WRITE).unwrap();
    pair.server.handle_input(pair.now, write.to_vec().into());
    let mut bytes = BTreeMap::new();
    while let Some(event) = pair.server.poll_event() {
        if let ServerEvent::Message { id, cost, .. } = event {
            *bytes.entry(id).or_insert(0) += cost;
        }
    }
    assert!(bytes[&heavy] > 2 * bytes[&light], "{bytes:?}");
}
