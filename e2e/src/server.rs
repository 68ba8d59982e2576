//! A stock runtime with the server module.

use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::{self, JoinHandle};

use selium_remote_client::ClientConfigBuilder;
use xtask::runtime::{Runtime, SECURE, free_port, module_spec};
use xtask::selium::Selium;
use xtask::workdir::WorkDir;

use crate::json;
use crate::setup::{Setup, setup};
use crate::{Following, LOGGING, Run, run};

/// A running runtime in a work dir of its own, on a port of its own, whose server module answers. It ends with this
/// value.
#[derive(Debug)]
pub struct Server {
    setup: Setup,
    work: Arc<WorkDir>,
    selium: Selium,
    /// How the runtime is told of the module.
    spec: String,
    log: PathBuf,
    pid: u32,
    stop: Option<Sender<Ending>>,
    keeper: Option<JoinHandle<()>>,
}

/// How the runtime is to end.
#[derive(Clone, Copy, Debug)]
enum Ending {
    /// As Ctrl-C ends it.
    Asked,
    /// At once.
    Killed,
}

impl Server {
    /// Starts one with the documented capabilities and more; `None` when the tests are skipped.
    ///
    /// # Panics
    /// When it does not answer.
    #[must_use]
    pub fn start(more: &[&str]) -> Option<Self> {
        let setup = setup()?;
        let port = free_port().expect("a free port");
        Some(Self::with(&setup, port, &module_spec(port, more), |_| {}))
    }

    /// Starts one on this port, with this module line, in a work dir that `prepare` has seen before anything else.
    ///
    /// # Panics
    /// When it does not answer.
    #[must_use]
    pub fn with(setup: &Setup, port: u16, spec: &str, prepare: impl FnOnce(&WorkDir)) -> Self {
        Self::launch_in(setup, port, spec, |work| {
            prepare(work);
            work.prepare(&setup.runtime, &setup.module, &setup.guests)
                .expect("a prepared work dir");
        })
    }

    /// Starts a provisioned one, with mTLS: `selium cert init`, then what `more` does in its work dir (issue certificates,
    /// write a policy whose path it returns), then `selium server install`. Its log is JSON. `None` when the tests are
    /// skipped.
    ///
    /// # Panics
    /// When it does not answer.
    #[must_use]
    pub fn secure(more: impl FnOnce(&Setup, &WorkDir) -> Option<PathBuf>) -> Option<Self> {
        let setup = setup()?;
        let port = free_port().expect("a free port");
        let spec = module_spec(port, &SECURE);
        Some(Self::launch_in(&setup, port, &spec, |work| {
            run(prepared(work.selium(&setup.cli), &["cert", "init"])).succeeded();
            let policy = more(&setup, work);
            work.prepare_secure(
                &setup.cli,
                &setup.module,
                &setup.guests,
                port,
                policy.as_deref(),
            )
            .expect("a provisioned work dir");
        }))
    }

    /// Starts one in a work dir that `fill` fills.
    fn launch_in(setup: &Setup, port: u16, spec: &str, fill: impl FnOnce(&WorkDir)) -> Self {
        let folder = std::env::temp_dir();
        let work = WorkDir::temporary(&folder).expect("a work dir");
        fill(&work);
        let selium = Selium {
            binary: setup.cli.clone(),
            certs: work.certs(),
            port,
        };
        let log = work.path().join("runtime.log");
        let mut server = Self {
            setup: setup.clone(),
            work: Arc::new(work),
            selium,
            spec: spec.to_owned(),
            log,
            pid: 0,
            stop: None,
            keeper: None,
        };
        server.launch_runtime();
        server
    }

    /// Starts the runtime, and waits until it answers.
    fn launch_runtime(&mut self) {
        let (stop, until) = mpsc::channel();
        let (ready, is_ready) = mpsc::channel();
        let keeper = {
            let binary = self.setup.runtime.clone();
            let (work, spec, port) = (Arc::clone(&self.work), self.spec.clone(), self.port());
            let asking = Selium {
                binary: self.setup.cli.clone(),
                certs: self.work.certs(),
                port,
            };
            // A thread of its own, which lives as long as the runtime: the runtime is tied to the thread that started
            // it, and the one of a test ends before other tests are done with the runtime.
            thread::spawn(move || keep(&binary, &work, port, &spec, &asking, &ready, &until))
        };
        let answer = is_ready.recv().expect("the keeper answers");
        self.pid = *answer.as_ref().unwrap_or(&0);
        self.stop = Some(stop);
        self.keeper = Some(keeper);
        if let Err(error) = answer {
            panic!("no runtime: {error}");
        }
    }

    /// Where what is tested is.
    #[must_use]
    pub fn setup(&self) -> &Setup {
        &self.setup
    }

    /// The port of the control plane.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.selium.port
    }

    /// The runtime's process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The work dir.
    #[must_use]
    pub fn work(&self) -> &WorkDir {
        &self.work
    }

    /// The certificate directory.
    #[must_use]
    pub fn certs(&self) -> PathBuf {
        self.work.certs()
    }

    /// The runtime's log so far.
    #[must_use]
    pub fn log(&self) -> String {
        let bytes = std::fs::read(&self.log).expect("the runtime's log");
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// How the library connects to it.
    #[must_use]
    pub fn config(&self) -> ClientConfigBuilder {
        ClientConfigBuilder::default()
            .port(self.port())
            .certificate_directory(self.certs())
    }

    /// A command that is pointed at it, without the warning.
    #[must_use]
    pub fn command(&self, args: &[&str]) -> std::process::Command {
        let mut command = self.selium.command(args);
        command.env("SELIUM_NO_WARN", "1").env_remove("RUST_LOG");
        command
    }

    /// Runs a command to its end.
    #[must_use]
    pub fn selium(&self, args: &[&str]) -> Run {
        run(self.command(args))
    }

    /// Starts a command that follows something.
    #[must_use]
    pub fn follow(&self, args: &[&str]) -> Following {
        Following::start(self.command(args))
    }

    /// Starts a process that can log, and returns its id.
    #[must_use]
    pub fn launch(&self, args: &[&str]) -> String {
        let mut all = vec!["start", "--capabilities", LOGGING];
        all.extend(args);
        let run = self.selium(&all);
        run.succeeded();
        run.stdout.lines().next().expect("the id").to_owned()
    }

    /// The processes as `selium ps -o json` lists them, with more arguments.
    #[must_use]
    pub fn ps(&self, args: &[&str]) -> Vec<serde_json::Value> {
        let mut all = vec!["ps", "-o", "json"];
        all.extend(args);
        let run = self.selium(&all);
        run.succeeded();
        json::array(&json::line(&run.stdout)).clone()
    }

    /// Fails when the server does not answer any more; for after something that must not disturb it.
    pub fn must_answer(&self) {
        let run = self.selium(&["ps", "--quiet"]);
        assert_eq!(
            run.code,
            Some(0),
            "the server must live on: {run}\n{}",
            self.log()
        );
    }

    /// Ends the runtime as Ctrl-C does.
    pub fn interrupt(&mut self) {
        self.end(Ending::Asked);
    }

    /// Ends the runtime so that it can do nothing any more.
    pub fn kill(&mut self) {
        self.end(Ending::Killed);
    }

    /// Kills the runtime, which can do nothing any more, and starts another run of it: in the same work dir, with the same
    /// certificates, on the same port.
    ///
    /// # Panics
    /// When it does not answer.
    pub fn kill_and_restart(&mut self) {
        self.kill();
        self.launch_runtime();
    }

    fn end(&mut self, how: Ending) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(how);
        }
        if let Some(keeper) = self.keeper.take() {
            let _ = keeper.join();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if thread::panicking() && self.stop.is_some() {
            eprintln!("the runtime's log:\n{}", self.log());
        }
        self.end(Ending::Killed);
    }
}

/// A command with these arguments.
fn prepared(mut command: std::process::Command, args: &[&str]) -> std::process::Command {
    command.args(args);
    command
}

/// Starts a runtime and holds it until it is to end.
fn keep(
    binary: &std::path::Path,
    work: &WorkDir,
    port: u16,
    spec: &str,
    selium: &Selium,
    ready: &Sender<Result<u32, String>>,
    until: &Receiver<Ending>,
) {
    // As `selium server install` says: audit records come through whole.
    let options: &[&str] = match spec.contains(SECURE[0]) {
        true => &["--log-format", "json"],
        false => &[],
    };
    let started = Runtime::start_with(binary, work, port, spec, options).and_then(|mut runtime| {
        runtime.wait_until_it_answers(selium)?;
        Ok(runtime)
    });
    let runtime = match started {
        Ok(runtime) => runtime,
        Err(error) => {
            let _ = ready.send(Err(format!("{error:#}")));
            return;
        }
    };
    let _ = ready.send(Ok(runtime.pid()));
    // Fails when the test is gone; dropping the runtime kills it.
    if let Ok(Ending::Asked) = until.recv() {
        let _ = runtime.stop();
    }
}

/// One server for the tests of a file: started by the first, ended by the last that uses it.
#[derive(Debug)]
pub struct Shared(Mutex<Weak<Server>>);

impl Shared {
    /// None yet.
    #[must_use]
    #[allow(clippy::new_without_default, reason = "it is only for statics")]
    pub const fn new() -> Self {
        Self(Mutex::new(Weak::new()))
    }

    /// The server; `None` when the tests are skipped.
    #[must_use]
    pub fn get(&self) -> Option<Arc<Server>> {
        // A test that failed to start it leaves nothing behind.
        let mut weak = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(server) = weak.upgrade() {
            return Some(server);
        }
        let server = Arc::new(Server::start(&[])?);
        *weak = Arc::downgrade(&server);
        Some(server)
    }
}
