//! Drives the command line the way a user does.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::proc::{self, Guard};

/// Enough for every single command on a busy machine.
const COMMAND_LIMIT: Duration = Duration::from_secs(30);

/// The command line and the endpoint that it is pointed at.
#[derive(Debug)]
pub struct Selium {
    /// The program.
    pub binary: PathBuf,
    /// The certificate directory.
    pub certs: PathBuf,
    /// The port.
    pub port: u16,
}

/// A process as `selium ps` lists it.
#[derive(Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its full id.
    pub id: String,
    /// Its state, as it is shown.
    pub state: String,
}

/// A running `selium ... --attach`: its lines as they come, and the process that ends with this value.
#[derive(Debug)]
pub struct Attached {
    process: Guard,
    lines: Receiver<String>,
}

impl Selium {
    /// A command against our endpoint, whatever the user's own settings are.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("SELIUM_") {
                command.env_remove(name);
            }
        }
        command
            .arg("--cert-dir")
            .arg(&self.certs)
            .args(["--port", &self.port.to_string()])
            .args(args);
        command
    }

    /// Runs a command and shows what it prints.
    pub fn show(&self, args: &[&str]) -> Result<()> {
        let mut command = self.command(args);
        proc::announce(&command);
        let output = finish(&mut command, args, COMMAND_LIMIT)?;
        let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
        print!("{stdout}");
        eprint!("{stderr}");
        if !output.status.success() {
            bail!("`selium {}` failed ({})", args.join(" "), output.status);
        }
        Ok(())
    }

    /// Whether the server module answers; if not, what the command line said.
    pub fn answers(&self) -> Result<Result<(), String>> {
        let output = finish(&mut self.command(&["ps"]), &["ps"], COMMAND_LIMIT)?;
        if output.status.success() {
            Ok(Ok(()))
        } else {
            Ok(Err(text(&output.stderr)))
        }
    }

    /// All processes that the server module knows.
    pub fn processes(&self) -> Result<Vec<Listed>> {
        let args = ["ps", "-o", "json"];
        let output = finish(&mut self.command(&args), &args, COMMAND_LIMIT)?;
        if !output.status.success() {
            bail!(
                "`selium ps -o json` failed: {}",
                text(&output.stderr).trim()
            );
        }
        parse_processes(&text(&output.stdout))
    }

    /// Starts a command that goes on until it is interrupted.
    pub fn attach(&self, args: &[&str]) -> Result<Attached> {
        let mut command = self.command(args);
        proc::announce(&command);
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot run {}", self.binary.display()))?;
        let mut process = Guard::new(child);
        let stdout = process.child().stdout.take().context("stdout is a pipe")?;
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(|line| line.ok()) {
                if sender.send(line).is_err() {
                    return; // nobody listens any more
                }
            }
        });
        Ok(Attached { process, lines })
    }
}

impl Attached {
    /// Shows lines until one fulfils the condition, and returns that one.
    pub fn line_where(&mut self, limit: Duration, wanted: impl Fn(&str) -> bool) -> Result<String> {
        let begun = Instant::now();
        loop {
            let left = limit.saturating_sub(begun.elapsed());
            match self.lines.recv_timeout(left) {
                Ok(line) => {
                    println!("{line}");
                    if wanted(&line) {
                        return Ok(line);
                    }
                }
                Err(RecvTimeoutError::Timeout) => bail!("not seen in {} s", limit.as_secs()),
                Err(RecvTimeoutError::Disconnected) => {
                    // Its output has ended, so it is about to end itself.
                    match self.process.wait_within(Duration::from_secs(5))? {
                        Some(status) => bail!("the command ended too early ({status})"),
                        None => bail!("the command closed its output and did not end"),
                    }
                }
            }
        }
    }

    /// Presses Ctrl-C, so to speak, and waits for the end of the command.
    pub fn interrupt(mut self, limit: Duration) -> Result<ExitStatus> {
        eprintln!("+ Ctrl-C");
        self.process.interrupt()?;
        self.process
            .wait_within(limit)?
            .with_context(|| format!("Ctrl-C did not end the command in {} s", limit.as_secs()))
    }
}

/// Whether this is a full process id as `selium start` prints it.
pub fn is_process_id(line: &str) -> bool {
    let digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    line.len() == 16 && line.bytes().all(digit)
}

fn finish(command: &mut Command, args: &[&str], limit: Duration) -> Result<Output> {
    proc::output_within(command, limit)?.with_context(|| {
        format!(
            "`selium {}` did not end in {} s",
            args.join(" "),
            limit.as_secs()
        )
    })
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn parse_processes(json: &str) -> Result<Vec<Listed>> {
    let list: Value = serde_json::from_str(json).context("`selium ps -o json` is not JSON")?;
    let list = list
        .as_array()
        .context("`selium ps -o json` is not an array")?;
    list.iter()
        .map(|process| {
            let string = |key: &str| {
                let value = process.get(key).and_then(Value::as_str);
                value.with_context(|| format!("`selium ps -o json` has a process without {key}"))
            };
            Ok(Listed {
                id: string("id")?.to_owned(),
                state: string("state")?.to_owned(),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_full_ids_are_ids() {
        assert!(is_process_id("0123456789abcdef"));
        assert!(!is_process_id("0123456789ABCDEF"));
        assert!(!is_process_id("0123456789abcde"));
        assert!(!is_process_id("0123456789abcdefg"));
        assert!(!is_process_id("started 01234567"));
    }

    #[test]
    fn processes_are_read_from_json() {
        let json =
            r#"[{"id":"0123456789abcdef","name":null,"module":"hello.wasm","state":"started"}]"#;
        let expected = Listed {
            id: "0123456789abcdef".to_owned(),
            state: "started".to_owned(),
        };
        assert_eq!(parse_processes(json).expect("parses"), [expected]);
        assert_eq!(parse_processes("[]").expect("parses"), []);
        assert!(parse_processes(r#"[{"id":274877906949,"state":"started"}]"#).is_err());
        assert!(parse_processes("ID  NAME").is_err());
    }
}
