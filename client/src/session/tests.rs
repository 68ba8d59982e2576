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
    limits::MAX_WRITE,
    ops::{FollowRequest, InfoRequest, StopRequest},
    server::{ServerConnection, ServerEvent},
};

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn asks() -> Manner {
    Manner {
        changing: false,
        stream: false,
        timeout: SECOND,
    }
}

fn changes() -> Manner {
    Manner {
        changing: true,
        ..asks()
    }
}

fn follows() -> Manner {
    Manner {
        stream: true,
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
fn only_changing_requests_carry_tokens_and_these_count_up() {
    let mut pair = Pair::open();
    let stop = StopRequest::with(|made| {
        made.target = "x".to_owned();
    });
    for expected in [Some(1), None, Some(2)] {
        let manner = if expected.is_some() {
            changes()
        } else {
            asks()
        };
        let _answer = pair.session.call(pair.now, &stop, manner).unwrap();
        let (_, body) = pair.request();
        let common = Common::decode(&body).unwrap();
        assert_eq!((common.token, common.retry), (expected, false));
        assert_eq!(common.deadline_ms, Some(1_000));
    }
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
