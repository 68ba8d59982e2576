//! What the command says: data on stdout, notes on stderr, whole lines, one writer.
//!
//! A thread of its own writes, because a reader of our output may stop reading: the connection has to be kept alive
//! meanwhile, and Ctrl-C has to work. When the queue is full, whoever has more to say waits, and so, in the end, does
//! the server, which counts what it drops.

use std::io::{self, IsTerminal as _, Write};
use std::sync::{Arc, OnceLock};
use std::thread;

use serde::Serialize;
use tokio::sync::{mpsc, oneshot};

use crate::args::Format;
use crate::failure::Failure;
use crate::render::escape;

/// Lines that may wait to be written. A line is bounded by the largest log record, some hundred KiB.
const QUEUE: usize = 64;

/// Bytes that are gathered for one write while more lines wait.
const BATCH: usize = 64 * 1024;

enum Line {
    Data(String),
    Note(String),
}

/// Where everything is said.
#[derive(Debug)]
pub(crate) struct Output {
    format: Format,
    color: bool,
    lines: mpsc::Sender<Line>,
    failed: Arc<OnceLock<io::Error>>,
    done: oneshot::Receiver<()>,
}

/// The kinds of notes, as JSON names them.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Note<'a> {
    Note(&'a str),
    Warning(&'a str),
}

impl Output {
    /// Starts the writer.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(crate) fn start(format: Format) -> io::Result<Self> {
        let (lines, queue) = mpsc::channel(QUEUE);
        let (end, done) = oneshot::channel();
        let failed = Arc::new(OnceLock::new());
        let seen = Arc::clone(&failed);
        thread::Builder::new()
            .name("output".to_owned())
            .spawn(move || {
                write_all(queue, &mut io::stdout().lock(), &mut io::stderr(), &seen);
                // Nobody waits any more when the command was interrupted.
                let _ = end.send(());
            })?;
        Ok(Self {
            format,
            color: color_wanted(),
            lines,
            failed,
            done,
        })
    }

    /// Whether JSON is wanted.
    pub(crate) fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    /// How output looks.
    pub(crate) fn format(&self) -> Format {
        self.format
    }

    /// Whether stdout shows colours.
    pub(crate) fn color(&self) -> bool {
        self.color
    }

    /// A line of data.
    ///
    /// # Errors
    /// When stdout is gone.
    pub(crate) async fn data(&self, line: String) -> Result<(), Failure> {
        self.check()?;
        self.send(Line::Data(line)).await;
        Ok(())
    }

    /// A remark for people; the text is escaped.
    pub(crate) async fn note(&self, text: &str) {
        self.send(Line::Note(note(self.format, text))).await;
    }

    /// A warning; the text is escaped.
    pub(crate) async fn warning(&self, text: &str) {
        let line = match self.format {
            Format::Text => format!("warning: {}", escape::line(text)),
            Format::Json => escape::json(&Note::Warning(text)),
        };
        self.send(Line::Note(line)).await;
    }

    /// What went wrong.
    pub(crate) async fn failure(&self, failure: &Failure) {
        if let Some(text) = failure.render(self.format) {
            self.send(Line::Note(text)).await;
        }
    }

    /// Waits until everything is written.
    ///
    /// # Errors
    /// When stdout was gone before all data was written.
    pub(crate) async fn finish(self) -> Result<(), Failure> {
        let Self {
            lines,
            failed,
            done,
            ..
        } = self;
        drop(lines);
        // An error means that the writer is gone, and so is what it had to write.
        let _ = done.await;
        check(&failed)
    }

    fn check(&self) -> Result<(), Failure> {
        check(&self.failed)
    }

    async fn send(&self, line: Line) {
        // Fails only when the writer is gone, which `finish` notices.
        let _ = self.lines.send(line).await;
    }
}

/// A remark for people as a line; the text is escaped.
pub(crate) fn note(format: Format, text: &str) -> String {
    match format {
        Format::Text => escape::line(text).into_owned(),
        Format::Json => escape::json(&Note::Note(text)),
    }
}

fn check(failed: &OnceLock<io::Error>) -> Result<(), Failure> {
    match failed.get() {
        None => Ok(()),
        Some(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(Failure::BrokenPipe),
        Some(error) => Err(Failure::Output(error.to_string())),
    }
}

/// Colours are for terminals whose user did not refuse them.
fn color_wanted() -> bool {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
        || std::env::var_os("TERM").is_some_and(|value| value == "dumb");
    !refused && io::stdout().is_terminal()
}

/// Writes until nobody has anything to say. After a failure of `out` its data is dropped; notes are still written.
fn write_all(
    mut queue: mpsc::Receiver<Line>,
    out: &mut impl Write,
    err: &mut impl Write,
    failed: &OnceLock<io::Error>,
) {
    let mut batch = Vec::new();
    while let Some(first) = queue.blocking_recv() {
        let mut next = Some(first);
        while let Some(line) = next {
            match line {
                Line::Data(line) => {
                    batch.extend_from_slice(line.as_bytes());
                    batch.push(b'\n');
                    if batch.len() >= BATCH {
                        flush(&mut batch, out, failed);
                    }
                }
                Line::Note(mut line) => {
                    flush(&mut batch, out, failed);
                    line.push('\n');
                    // There is no place left to complain about stderr.
                    let _ = err.write_all(line.as_bytes());
                }
            }
            next = queue.try_recv().ok();
        }
        flush(&mut batch, out, failed);
    }
}

fn flush(batch: &mut Vec<u8>, out: &mut impl Write, failed: &OnceLock<io::Error>) {
    if failed.get().is_none()
        && !batch.is_empty()
        && let Err(error) = out.write_all(batch).and_then(|()| out.flush())
    {
        let _ = failed.set(error);
    }
    batch.clear();
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Broken;

    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn written(out: &mut impl Write, err: &mut impl Write) -> OnceLock<io::Error> {
        let (lines, queue) = mpsc::channel(QUEUE);
        for line in [
            Line::Data("one".into()),
            Line::Note("note".into()),
            Line::Data("two".into()),
        ] {
            lines.try_send(line).unwrap();
        }
        drop(lines);
        let failed = OnceLock::new();
        write_all(queue, out, err, &failed);
        failed
    }

    #[test]
    fn data_and_notes_go_their_ways() {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let failed = written(&mut out, &mut err);
        assert_eq!(
            (out.as_slice(), err.as_slice()),
            (&b"one\ntwo\n"[..], &b"note\n"[..])
        );
        assert!(check(&failed).is_ok());
    }

    #[test]
    fn a_broken_pipe_is_noticed_and_notes_go_on() {
        let mut err = Vec::new();
        let failed = written(&mut Broken, &mut err);
        assert_eq!(err, b"note\n");
        assert!(matches!(check(&failed), Err(Failure::BrokenPipe)));
    }
}
