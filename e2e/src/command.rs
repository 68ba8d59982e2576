//! The command line, run to its end or followed line by line.

use std::fmt;
use std::io::{BufRead as _, BufReader, Read};
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use xtask::proc::{Guard, output_within};

use crate::PATIENCE;

/// The beginning of the warning that is printed when the server authenticates nobody.
pub const WARNING: &str = "warning: the server at ";

/// What a command did.
#[derive(Debug)]
pub struct Run {
    /// The arguments.
    pub args: String,
    /// The exit code; none when a signal ended it.
    pub code: Option<i32>,
    /// All of its output.
    pub stdout: String,
    /// All of its errors, notes and warnings.
    pub stderr: String,
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            args,
            code,
            stdout,
            stderr,
        } = self;
        write!(
            f,
            "`selium {args}` ended with {code:?}\nstdout:\n{stdout}\nstderr:\n{stderr}"
        )
    }
}

impl Run {
    /// Fails unless it succeeded.
    pub fn succeeded(&self) {
        assert_eq!(self.code, Some(0), "{self}");
    }

    /// Fails unless it ended with this exit code, printed nothing, and said exactly this on stderr.
    pub fn failed(&self, code: i32, stderr: &str) {
        assert_eq!(self.code, Some(code), "{self}");
        assert_eq!(self.stdout, "", "{self}");
        assert_eq!(self.stderr, stderr, "{self}");
    }

    /// Fails unless it succeeded with exactly this on stdout.
    pub fn printed(&self, stdout: &str) {
        self.succeeded();
        assert_eq!(self.stdout, stdout, "{self}");
    }
}

fn shown(command: &Command) -> String {
    let args: Vec<String> = command
        .get_args()
        .map(|arg| {
            let arg = arg.to_string_lossy();
            let short: String = arg.chars().take(80).collect();
            if short.len() < arg.len() {
                format!("{short}…")
            } else {
                short
            }
        })
        .collect();
    args.join(" ")
}

/// Runs a command to its end.
///
/// # Panics
/// When it does not end.
#[must_use]
pub fn run(mut command: Command) -> Run {
    let args = shown(&command);
    let output = output_within(&mut command, PATIENCE)
        .expect("the command runs")
        .unwrap_or_else(|| panic!("`selium {args}` did not end in {} s", PATIENCE.as_secs()));
    Run {
        args,
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).expect("UTF-8 on stdout"),
        stderr: String::from_utf8(output.stderr).expect("UTF-8 on stderr"),
    }
}

#[derive(Debug)]
enum Line {
    Out(String),
    Err(String),
}

/// A command that runs, and what it has printed so far. It is killed with this value.
#[derive(Debug)]
pub struct Following {
    args: String,
    process: Guard,
    lines: Receiver<Line>,
    out: Vec<String>,
    err: Vec<String>,
}

impl Following {
    /// Starts it.
    #[must_use]
    pub fn start(mut command: Command) -> Self {
        let args = shown(&command);
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the command runs");
        let mut process = Guard::new(child);
        let (sender, lines) = mpsc::channel();
        let child = process.child();
        forward(
            child.stdout.take().expect("a pipe"),
            sender.clone(),
            Line::Out,
        );
        forward(child.stderr.take().expect("a pipe"), sender, Line::Err);
        Self {
            args,
            process,
            lines,
            out: Vec::new(),
            err: Vec::new(),
        }
    }

    /// The next line on stdout.
    ///
    /// # Panics
    /// When none comes.
    pub fn line(&mut self) -> String {
        self.until("a line", |_| true)
    }

    /// The next line on stdout that fits; those before it are skipped (see [`Following::seen`]).
    ///
    /// # Panics
    /// When none comes.
    pub fn until(&mut self, what: &str, fits: impl Fn(&str) -> bool) -> String {
        self.wait(what, |line| matches!(line, Line::Out(text) if fits(text)))
    }

    /// The next line on stderr that fits.
    ///
    /// # Panics
    /// When none comes.
    pub fn note(&mut self, what: &str, fits: impl Fn(&str) -> bool) -> String {
        self.wait(what, |line| matches!(line, Line::Err(text) if fits(text)))
    }

    /// All lines on stdout that were waited for or skipped.
    #[must_use]
    pub fn seen(&self) -> &[String] {
        &self.out
    }

    fn wait(&mut self, what: &str, fits: impl Fn(&Line) -> bool) -> String {
        let begun = Instant::now();
        loop {
            let left = PATIENCE.saturating_sub(begun.elapsed());
            let line = match self.lines.recv_timeout(left) {
                Ok(line) => line,
                Err(RecvTimeoutError::Timeout) => panic!("never seen: {what}; {self:?}"),
                Err(RecvTimeoutError::Disconnected) => panic!("ended before {what}; {self:?}"),
            };
            let found = fits(&line);
            let text = self.keep(line);
            if found {
                return text;
            }
        }
    }

    fn keep(&mut self, line: Line) -> String {
        let (text, kept) = match line {
            Line::Out(text) => (text, &mut self.out),
            Line::Err(text) => (text, &mut self.err),
        };
        kept.push(text.clone());
        text
    }

    /// Presses Ctrl-C.
    ///
    /// # Panics
    /// When the command is gone.
    pub fn interrupt(&self) {
        self.process.interrupt().expect("the signal is sent");
    }

    /// Fails if it has ended.
    ///
    /// # Panics
    /// As it says.
    pub fn must_run(&mut self) {
        let ended = self.process.ended().expect("its state");
        assert!(ended.is_none(), "ended with {ended:?}; {self:?}");
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it does not end.
    #[must_use]
    pub fn end(self) -> Run {
        self.end_within(PATIENCE)
    }

    /// Waits so long for its end.
    ///
    /// # Panics
    /// When it does not end.
    #[must_use]
    pub fn end_within(mut self, limit: Duration) -> Run {
        let begun = Instant::now();
        loop {
            match self
                .lines
                .recv_timeout(limit.saturating_sub(begun.elapsed()))
            {
                Ok(line) => drop(self.keep(line)),
                Err(RecvTimeoutError::Timeout) => panic!("it does not end; {self:?}"),
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        let status = self.process.wait_within(PATIENCE).expect("its status");
        let status = status.unwrap_or_else(|| panic!("it does not end; {self:?}"));
        let text =
            |lines: &[String]| -> String { lines.iter().map(|line| format!("{line}\n")).collect() };
        Run {
            args: self.args.clone(),
            code: status.code(),
            stdout: text(&self.out),
            stderr: text(&self.err),
        }
    }
}

fn forward(
    pipe: impl Read + Send + 'static,
    lines: Sender<Line>,
    kind: impl Fn(String) -> Line + Send + 'static,
) {
    thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            if lines.send(kind(line)).is_err() {
                return; // nobody listens any more
            }
        }
    });
}
