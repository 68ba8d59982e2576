//! Ctrl-C.
//!
//! A thread of its own waits for it, so that it works whatever the rest does: the command gets [`GRACE`] to say
//! goodbye, then the process ends.

use std::future::{Future as _, poll_fn};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;
use std::{io, process, thread};

use tokio::sync::watch;

use crate::failure::{Failure, INTERRUPTED};

/// How long an interrupted command may take to say goodbye to the server and to write its last words.
pub(crate) const GRACE: Duration = Duration::from_millis(500);

/// How much of that a command may take that ends by itself, for example to wait for acknowledgements.
pub(crate) const WIND_UP: Duration = Duration::from_millis(250);

/// When such a command is ended.
const CUT: Duration = Duration::from_millis(300);

/// What an interrupt means at the moment.
#[derive(Clone, Debug, Default)]
pub(crate) enum Stage {
    /// Nothing was asked of the server that would matter.
    #[default]
    Idle,
    /// The server was asked for a change, which may happen; what to say then.
    Changing(String),
    /// Logs are followed until Ctrl-C; what to say then.
    Following(Option<String>),
    /// The command ends by itself within [`WIND_UP`]; what to say if it does not.
    WindingUp(String),
}

impl Stage {
    fn code(&self) -> i32 {
        match self {
            Self::Following(_) => 0,
            Self::Idle | Self::Changing(_) | Self::WindingUp(_) => i32::from(INTERRUPTED),
        }
    }
}

/// Knows whether Ctrl-C was pressed, and what that means.
#[derive(Clone, Debug)]
pub(crate) struct Interrupt {
    stage: Arc<Mutex<Stage>>,
    pressed: watch::Receiver<bool>,
}

impl Interrupt {
    /// Starts to wait.
    ///
    /// # Errors
    /// When the system gives no thread or no signals.
    pub(crate) fn start() -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let stage = Arc::new(Mutex::new(Stage::default()));
        let (press, pressed) = watch::channel(false);
        let (ready, is_ready) = std::sync::mpsc::sync_channel(1);
        let seen = Arc::clone(&stage);
        thread::Builder::new()
            .name("interrupt".to_owned())
            .spawn(move || {
                runtime.block_on(async {
                    // The first poll sets the handler; the command begins behind it.
                    let mut signal = std::pin::pin!(tokio::signal::ctrl_c());
                    let first = poll_fn(|context| Poll::Ready(signal.as_mut().poll(context))).await;
                    let _ = ready.send(());
                    let result = match first {
                        Poll::Ready(result) => result,
                        Poll::Pending => signal.await,
                    };
                    if result.is_err() {
                        // No handler: the system's own answer to Ctrl-C, death, stays in place.
                        return;
                    }
                    let code = lock(&seen).code();
                    let _ = press.send(true);
                    tokio::time::sleep(GRACE).await;
                    process::exit(code);
                });
                // Keeps the channel open: only a press may wake the command.
                thread::park();
                drop(press);
            })?;
        let _ = is_ready.recv();
        Ok(Self { stage, pressed })
    }

    /// Says what an interrupt means from now on.
    pub(crate) fn enter(&self, stage: Stage) {
        *lock(&self.stage) = stage;
    }

    /// What an interrupt means now.
    pub(crate) fn stage(&self) -> Stage {
        lock(&self.stage).clone()
    }

    /// Returns once Ctrl-C was pressed.
    pub(crate) async fn pressed(&self) {
        let mut pressed = self.pressed.clone();
        if pressed.wait_for(|pressed| *pressed).await.is_err() {
            // The thread is gone, and nobody can press any more.
            std::future::pending::<()>().await;
        }
    }

    /// Whether Ctrl-C was pressed.
    pub(crate) fn is_pressed(&self) -> bool {
        *self.pressed.borrow()
    }

    /// Returns once the command is to be ended: when Ctrl-C was pressed, or some time after that if it ends by itself.
    pub(crate) async fn cut(&self) {
        self.pressed().await;
        if self.winds_up() {
            tokio::time::sleep(CUT).await;
        }
    }

    /// How long the goodbye may take, so that there is time left for the last words.
    pub(crate) fn goodbye(&self) -> Duration {
        match self.winds_up() {
            true => GRACE.saturating_sub(CUT) / 2,
            false => GRACE / 2,
        }
    }

    fn winds_up(&self) -> bool {
        matches!(self.stage(), Stage::WindingUp(_))
    }

    /// How an interrupted command ends, and a note for stderr.
    pub(crate) fn outcome(&self) -> (Result<(), Failure>, Option<String>) {
        match self.stage() {
            Stage::Idle => (Err(Failure::Interrupted(None)), None),
            Stage::Changing(what) | Stage::WindingUp(what) => {
                (Err(Failure::Interrupted(Some(what))), None)
            }
            Stage::Following(note) => (Ok(()), note),
        }
    }
}

fn lock(stage: &Mutex<Stage>) -> std::sync::MutexGuard<'_, Stage> {
    // A stage is replaced as a whole, so that a panic cannot leave half of one.
    stage.lock().unwrap_or_else(PoisonError::into_inner)
}
