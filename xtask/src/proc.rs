//! Other programs: running them, showing what is run, and never waiting for ever or leaving one behind.

use std::ffi::OsStr;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};

/// How often a wait with a deadline looks again: short against every deadline here, long against the cost of looking.
const POLL: Duration = Duration::from_millis(20);

/// Shows the command as one could type it.
pub fn announce(command: &Command) {
    eprintln!("+ {}", render(command));
}

/// Shows and runs a command whose output is progress: all of it goes to stderr.
pub fn run(command: &mut Command) -> Result<()> {
    announce(command);
    let status = command
        .stdout(std::io::stderr())
        .status()
        .with_context(|| missing(command))?;
    check(command, status)
}

/// Shows and runs a command whose output and exit code are the result.
pub fn run_through(command: &mut Command) -> Result<ExitStatus> {
    announce(command);
    command.status().with_context(|| missing(command))
}

/// Runs a question quietly and returns what it printed on stdout.
pub fn ask(command: &mut Command) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| missing(command))?;
    check(command, output.status)?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs a command with its output captured; `None` if it did not end in time and was killed.
pub fn output_within(command: &mut Command, limit: Duration) -> Result<Option<Output>> {
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| missing(command))?;
    let mut child = Guard::new(child);
    // Both pipes are emptied all the time: a full one would stop the child.
    let stdout = drain(child.0.stdout.take());
    let stderr = drain(child.0.stderr.take());
    let Some(status) = child.wait_within(limit)? else {
        return Ok(None);
    };
    let collect = |reader: thread::JoinHandle<Vec<u8>>| {
        reader
            .join()
            .map_err(|_| anyhow!("reading a pipe panicked"))
    };
    Ok(Some(Output {
        status,
        stdout: collect(stdout)?,
        stderr: collect(stderr)?,
    }))
}

fn drain(pipe: Option<impl Read + Send + 'static>) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            // What could be read until an error is still worth showing.
            let _ = pipe.read_to_end(&mut bytes);
        }
        bytes
    })
}

/// A child process that does not outlive this value.
#[derive(Debug)]
pub struct Guard(Child);

impl Guard {
    /// Guards a child that was just started.
    pub fn new(child: Child) -> Self {
        Self(child)
    }

    /// The child.
    pub fn child(&mut self) -> &mut Child {
        &mut self.0
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.0.id()
    }

    /// Its exit status, if it has ended.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.0.try_wait().context("look after a child process")
    }

    /// Sends the signal that Ctrl-C sends, to this process only.
    pub fn interrupt(&self) -> Result<()> {
        // The standard library can only kill; `kill` is everywhere.
        ask(Command::new("kill").args(["-INT", &self.0.id().to_string()]))?;
        Ok(())
    }

    /// Waits for its end; `None` if it still runs after that time.
    pub fn wait_within(&mut self, limit: Duration) -> Result<Option<ExitStatus>> {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.ended()? {
                return Ok(Some(status));
            }
            if begun.elapsed() >= limit {
                return Ok(None);
            }
            thread::sleep(POLL);
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // Both fail only for a child that has ended and was waited for already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The file that a program's name means, looked up the way a shell does.
pub fn find(program: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?)
        .map(|folder| folder.join(program))
        .find(|path| is_executable(path))
}

/// Whether this is a file that may be run.
pub fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    path.metadata()
        .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// The cargo that runs us, else the one in the path.
pub fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

fn check(command: &Command, status: ExitStatus) -> Result<()> {
    if !status.success() {
        bail!("`{}` failed ({status})", brief(command));
    }
    Ok(())
}

fn missing(command: &Command) -> String {
    format!(
        "cannot run `{}`",
        Path::new(command.get_program()).display()
    )
}

/// The command's name for a message; the whole of it was shown before.
fn brief(command: &Command) -> String {
    let words = std::iter::once(name(command)).chain(command.get_args().take(1));
    words.map(quote).collect::<Vec<_>>().join(" ")
}

/// A full path says nothing that the program's name does not.
fn name(command: &Command) -> &OsStr {
    let program = command.get_program();
    Path::new(program).file_name().unwrap_or(program)
}

/// The command as one would type it, with the variables that are set for it.
fn render(command: &Command) -> String {
    let variables = command
        .get_envs()
        .filter_map(|(name, value)| Some(format!("{}={}", quote(name), quote(value?))));
    let words = std::iter::once(name(command))
        .chain(command.get_args())
        .map(quote);
    variables.chain(words).collect::<Vec<_>>().join(" ")
}

fn quote(word: &OsStr) -> String {
    let word = word.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.into_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''").replace('\u{1f}', " "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_shown_as_one_could_type_it() {
        let mut command = Command::new("/opt/tools/cargo");
        command
            .args(["build", "--profile", "it's; new", ""])
            .env("RUSTC_BOOTSTRAP", "1")
            .env_remove("RUSTFLAGS");
        assert_eq!(
            render(&command),
            r"RUSTC_BOOTSTRAP=1 cargo build --profile 'it'\''s; new' ''"
        );
    }

    #[test]
    fn a_failed_command_is_named_briefly() {
        let mut command = Command::new("false");
        command.args(["build", "--package", "x"]).env("A", "b");
        let error = ask(&mut command).expect_err("fails");
        assert_eq!(error.to_string(), "`false build` failed (exit status: 1)");
    }

    #[test]
    fn a_command_that_does_not_end_is_killed() {
        let begun = Instant::now();
        let limit = Duration::from_millis(50);
        let output = output_within(Command::new("sleep").arg("30"), limit).expect("runs");
        assert!(output.is_none());
        assert!(begun.elapsed() < Duration::from_secs(20));
    }

    #[test]
    fn output_longer_than_a_pipe_arrives_whole() {
        let mut command = Command::new("head");
        command.args(["-c", "300000", "/dev/zero"]);
        let output = output_within(&mut command, Duration::from_secs(30))
            .expect("runs")
            .expect("ends");
        assert_eq!(output.stdout.len(), 300_000);
    }

    #[test]
    fn a_missing_program_is_named() {
        let error = ask(&mut Command::new("no-such-program-here")).expect_err("cannot run");
        assert!(format!("{error:#}").contains("cannot run `no-such-program-here`"));
    }
}
