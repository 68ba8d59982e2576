//! What the command says: data on stdout, notes on stderr, whole lines, one writer.
//!
//! A thread of its own writes, because a reader of our output may stop reading: the connection has to be kept alive
//! meanwhile, and Ctrl-C has to work. When the queue is full, whoever has more to say waits, and so, in the end, does
//! the server, which counts what it drops.

use std::io::{self, IsTerminal as _, Write};
use std::mem;
use std::sync::{Arc, OnceLock};
use std::thread;

use serde::Serialize;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use crate::args::Format;
use crate::failure::Failure;
use crate::render::escape;

/// Lines that may wait to be written. A line is bounded by the largest log record, some hundred KiB.
const QUEUE: usize = 64;

/// To the beginning of the terminal's line, and all of it away.
const CLEAR: &str = "\r\x1b[K";

/// Bytes that are gathered for one write while more lines wait.
pub(crate) const BATCH: usize = 64 * 1024;

/// Bytes of messages that may wait to be written, besides one batch.
const MAX_WAITING: usize = 4 * 1024 * 1024;

enum Line {
    Data(String),
    /// As they are, with the room that they take.
    Bytes(Vec<u8>, Option<OwnedSemaphorePermit>),
    Note(String),
    /// What stands on the terminal until something else is said.
    Progress(String),
}

/// How it ended.
#[derive(Debug, Default)]
struct Failed {
    error: OnceLock<io::Error>,
    notify: Notify,
}

/// Where everything is said.
#[derive(Debug)]
pub(crate) struct Output {
    format: Format,
    color: bool,
    lines: mpsc::Sender<Line>,
    room: Arc<Semaphore>,
    failed: Arc<Failed>,
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
        let failed = Arc::new(Failed::default());
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
            room: Arc::new(Semaphore::new(MAX_WAITING)),
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

    /// Data as it is, written at once. Waits while too much waits to be written.
    ///
    /// # Errors
    /// When stdout is gone.
    pub(crate) async fn bytes(&self, bytes: Vec<u8>) -> Result<(), Failure> {
        self.check()?;
        let room = u32::try_from(bytes.len().min(MAX_WAITING)).unwrap_or(u32::MAX);
        // Fails only when nobody would let anybody in any more.
        let permit = Arc::clone(&self.room).acquire_many_owned(room).await.ok();
        self.send(Line::Bytes(bytes, permit)).await;
        Ok(())
    }

    /// Returns once stdout is gone.
    pub(crate) async fn gone(&self) -> Failure {
        loop {
            if let Err(failure) = self.check() {
                return failure;
            }
            self.failed.notify.notified().await;
        }
    }

    /// What is going on, for a terminal on stderr. Left out when much waits to be written.
    pub(crate) fn progress(&self, text: &str) {
        // The next one tells more than this one.
        let _ = self
            .lines
            .try_send(Line::Progress(escape::line(text).into_owned()));
    }

    /// Whether stderr can show what is going on: a terminal, for people.
    pub(crate) fn shows_progress(&self) -> bool {
        self.format == Format::Text && !is_dumb() && io::stderr().is_terminal()
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

fn check(failed: &Failed) -> Result<(), Failure> {
    match failed.error.get() {
        None => Ok(()),
        Some(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(Failure::BrokenPipe),
        Some(error) => Err(Failure::Output(error.to_string())),
    }
}

/// Colours are for terminals whose user did not refuse them.
fn color_wanted() -> bool {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    !refused && !is_dumb() && io::stdout().is_terminal()
}

/// Whether the terminal knows no escape codes.
fn is_dumb() -> bool {
    std::env::var_os("TERM").is_some_and(|value| value == "dumb")
}

/// Writes until nobody has anything to say. After a failure of `out` its data is dropped; notes are still written.
fn write_all(
    mut queue: mpsc::Receiver<Line>,
    out: &mut impl Write,
    err: &mut impl Write,
    failed: &Failed,
) {
    let mut batch = Vec::new();
    let mut has_progress = false;
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
                Line::Bytes(mut bytes, permit) => {
                    flush(&mut batch, out, failed);
                    flush(&mut bytes, out, failed);
                    drop(permit);
                }
                Line::Progress(line) => {
                    has_progress = true;
                    let _ = err.write_all(format!("{CLEAR}{line}").as_bytes());
                }
                Line::Note(mut line) => {
                    flush(&mut batch, out, failed);
                    line.push('\n');
                    if mem::take(&mut has_progress) {
                        line.insert_str(0, CLEAR);
                    }
                    // There is no place left to complain about stderr.
                    let _ = err.write_all(line.as_bytes());
                }
            }
            next = queue.try_recv().ok();
        }
        flush(&mut batch, out, failed);
    }
    if has_progress {
        let _ = err.write_all(CLEAR.as_bytes());
    }
}

fn flush(batch: &mut Vec<u8>, out: &mut impl Write, failed: &Failed) {
    if failed.error.get().is_none()
        && !batch.is_empty()
        && let Err(error) = out.write_all(batch).and_then(|()| out.flush())
    {
        let _ = failed.error.set(error);
        failed.notify.notify_one();
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

    fn written(out: &mut impl Write, err: &mut impl Write) -> Failed {
        let (lines, queue) = mpsc::channel(QUEUE);
        for line in [
            Line::Data("one".into()),
            Line::Note("note".into()),
            Line::Data("two".into()),
        ] {
            lines.try_send(line).unwrap();
        }
        drop(lines);
        let failed = Failed::default();
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
    fn bytes_are_written_as_they_are_and_progress_makes_way() {
        let (lines, queue) = mpsc::channel(QUEUE);
        let room = Arc::new(Semaphore::new(8));
        let permit = Arc::clone(&room).try_acquire_many_owned(3).unwrap();
        for line in [
            Line::Data("one".into()),
            Line::Progress("1".into()),
            Line::Progress("2".into()),
            Line::Bytes(b"a\xff\n".to_vec(), Some(permit)),
            Line::Note("note".into()),
            Line::Note("another".into()),
            Line::Bytes(b"b".to_vec(), None),
            Line::Progress("3".into()),
        ] {
            lines.try_send(line).unwrap();
        }
        drop(lines);
        let (mut out, mut err) = (Vec::new(), Vec::new());
        write_all(queue, &mut out, &mut err, &Failed::default());
        assert_eq!(out, b"one\na\xff\nb");
        assert_eq!(
            String::from_utf8(err).unwrap(),
            "\r\x1b[K1\r\x1b[K2\r\x1b[Knote\nanother\n\r\x1b[K3\r\x1b[K"
        );
        assert_eq!(room.available_permits(), 8, "the room is free again");
    }

    #[test]
    fn a_broken_pipe_is_noticed_and_notes_go_on() {
        let mut err = Vec::new();
        let failed = written(&mut Broken, &mut err);
        assert_eq!(err, b"note\n");
        assert!(matches!(check(&failed), Err(Failure::BrokenPipe)));
    }
}
