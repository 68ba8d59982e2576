//! The part of a publisher that outlives its connections.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Waker,
};

use bytes::Bytes;
use futures_channel::oneshot;
use selium_remote_client_protocol::{
    ErrorCode, RemoteError,
    ops::{PublishRequest, PublishStarted, op},
    publish::Publication,
};

use crate::{
    ClientError,
    call::{Ask, Held},
    session::{Over, Standing, acknowledged, unacknowledged},
    supervisor::{First, first},
};

/// The part of a publisher that the client's task looks after when the connection was lost.
///
/// ```text
///   on a stream ---- stream is over, taken back ----> over ---- for good ----> (fails)
///        ^                                             |
///        '---- opened again, over another connection --'
/// ```
#[derive(Debug)]
pub(crate) struct Line {
    state: Mutex<State>,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) held: Held,
    /// What goes on with it.
    request: PublishRequest,
    ask: Ask,
    /// The publication, taken back from a stream that is over.
    pub(super) over: Option<(Publication, Over)>,
    /// Why it does not go on.
    failed: Option<Arc<ClientError>>,
    pub(super) may_be_dropped: bool,
    /// Whether the server was told on this stream that nothing more comes.
    pub(super) told: bool,
    /// Whether it was closed, with everything acknowledged.
    pub(super) finished: bool,
    /// It is being opened again, until this is dropped.
    reopening: Option<oneshot::Sender<()>>,
    /// Who waits for that.
    waker: Option<Waker>,
}

impl Line {
    /// Of a publication that `request` goes on with, on its first stream.
    pub(super) fn new(held: Held, request: PublishRequest, ask: Ask) -> Self {
        Self {
            state: Mutex::new(State {
                held,
                request,
                ask,
                over: None,
                failed: None,
                may_be_dropped: false,
                told: false,
                finished: false,
                reopening: None,
                waker: None,
            }),
        }
    }

    /// What holds it does not panic.
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the publisher look again.
    pub(crate) fn wake(&self) {
        let waker = self.lock().waker.take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Opens the publication again, if its connection was lost and nobody does so already.
    pub(crate) fn reopen(line: &Arc<Self>) -> Option<impl Future<Output = ()> + Send + use<>> {
        let mut state = line.lock();
        if state.over.is_none() && state.standing(None).over {
            state.take_back();
        }
        if state.reopening.is_some() || !state.goes_on() {
            return None;
        }
        let (tell, gone) = oneshot::channel();
        state.reopening = Some(tell);
        let inner = Arc::clone(&state.held.inner);
        let (request, ask, behind) = (state.request.clone(), state.ask, state.held.behind());
        let line = Arc::downgrade(line);
        Some(async move {
            // Nothing keeps the publisher alive meanwhile.
            let First::One(answer) = first(inner.resume(&request, ask, behind), gone).await else {
                return;
            };
            if let Some(line) = line.upgrade() {
                line.lock().reopened(answer);
                line.wake();
                // This connection may be lost as well by now.
                inner.board.ring();
            }
        })
    }
}

impl State {
    pub(super) fn standing(&self, waker: Option<&Waker>) -> Standing {
        self.held.with(|session, id| session.standing(id, waker))
    }

    /// Takes the publication back from a stream that is over.
    pub(super) fn take_back(&mut self) {
        self.may_be_dropped |= self.standing(None).may_be_dropped;
        self.over = self.held.with(|session, id| session.detach(id));
        self.held.over();
    }

    /// Whether a publication that is over goes on over another connection.
    pub(super) fn goes_on(&self) -> bool {
        matches!(self.over, Some((_, Over::Closed)))
            && self.failed.is_none()
            && !self.finished
            && self.held.lasts()
            && self.held.inner.board.over().is_none()
    }

    fn reopened(&mut self, answer: Result<(Bytes, Held), ClientError>) {
        self.reopening = None;
        if self.finished {
            return;
        }
        let resumed = answer.and_then(|(body, held)| {
            let started = held.read(op::PUBLISH, &body, PublishStarted::decode)?;
            Ok((started, held))
        });
        let (started, held) = match resumed {
            Ok(resumed) => resumed,
            Err(ClientError::NewIncarnation { old, new, .. }) => {
                let lost = format!(
                    "the channel {} and the publication are void",
                    self.request.target
                );
                let error = ClientError::NewIncarnation { old, new, lost };
                self.failed = Some(Arc::new(error));
                return;
            }
            Err(error) => {
                self.failed = Some(Arc::new(error));
                return;
            }
        };
        let Some((mut publication, over)) = self.over.take() else {
            return;
        };
        if publication.resume(started.last).is_err() {
            self.failed = Some(Arc::new(held.unreadable(op::PUBLISH, None)));
            self.over = Some((publication, over));
            return;
        }
        held.with(|session, id| session.attach(id, publication));
        self.told = false;
        self.held = held;
        tracing::debug!(last = ?started.last, "a publication goes on");
    }

    /// It was closed: it does not go on.
    pub(super) fn finish(&mut self) {
        self.finished = true;
        self.reopening = None;
    }

    pub(super) fn wait(&mut self, waker: Option<&Waker>) {
        if let Some(waker) = waker {
            self.waker = Some(waker.clone());
        }
    }

    pub(super) fn acknowledged(&self) -> Option<u64> {
        match &self.over {
            Some((publication, _)) => acknowledged(publication),
            None => self.standing(None).acknowledged,
        }
    }

    /// How many messages were taken.
    pub(super) fn taken(&self) -> u64 {
        match &self.over {
            Some((publication, _)) => publication.next(),
            None => self.standing(None).next,
        }
    }

    pub(super) fn unacknowledged(&self) -> Vec<(u64, Bytes)> {
        match &self.over {
            Some((publication, _)) => unacknowledged(publication),
            None => self.held.with(|session, id| session.unacknowledged(id)),
        }
    }

    /// Why a publication is over that does not go on.
    pub(super) fn cause(&self) -> Arc<ClientError> {
        if let Some(failed) = &self.failed {
            return Arc::clone(failed);
        }
        Arc::new(match self.over.as_ref().map(|(_, over)| over) {
            Some(Over::Ended(error)) => {
                let error = error.clone().unwrap_or_else(|| {
                    RemoteError::new(ErrorCode::Cancelled, "the server ended the publication")
                });
                self.held.remote(error, op::name(op::PUBLISH))
            }
            _ => match self.held.inner.board.over() {
                Some(end) if self.held.lasts() => end.error(None),
                _ => self.held.closed(),
            },
        })
    }
}
