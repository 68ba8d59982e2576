//! Messages from stdin or a file.
//!
//! A thread of its own reads, because reading may block for ever: the connection has to be kept alive meanwhile, and
//! Ctrl-C has to work.

use std::fmt;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::framing::{Decoder, FrameError};

/// What stands for stdin.
const STDIN: &str = "-";

/// Bytes that are read at once.
const READ: usize = 64 * 1024;

/// Reads whose messages may wait. What waits is bounded by them and one message.
const QUEUE: usize = 4;

/// Where messages are read from.
pub(crate) struct Source {
    name: String,
    is_stdin: bool,
    reader: Box<dyn io::Read + Send>,
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl Source {
    /// Stdin, or the file if one is named.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub(crate) fn open(file: Option<&Path>) -> io::Result<Self> {
        Ok(match file.filter(|file| *file != Path::new(STDIN)) {
            Some(file) => Self {
                name: file.display().to_string(),
                is_stdin: false,
                reader: Box::new(File::open(file)?),
            },
            None => Self {
                name: "stdin".to_owned(),
                is_stdin: true,
                reader: Box::new(io::stdin()),
            },
        })
    }

    /// What errors call it.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Whether it is stdin.
    pub(crate) fn is_stdin(&self) -> bool {
        self.is_stdin
    }
}

/// What was read.
#[derive(Debug)]
pub(crate) enum Batch {
    /// The messages that one read made complete.
    Messages(Vec<Bytes>),
    /// There are no more.
    End(End),
}

/// How the input ended.
#[derive(Debug)]
pub(crate) struct End {
    /// Messages without bytes, which were left out.
    pub(crate) empty: u64,
    /// Gap markers, which were left out.
    pub(crate) gaps: u64,
    /// Why it ended too early, if it did.
    pub(crate) error: Option<InputError>,
}

/// Why an input ended too early.
#[derive(Debug)]
pub(crate) enum InputError {
    /// It cannot be read.
    Io(io::Error),
    /// It cannot be cut into messages.
    Frame(FrameError),
}

/// What is being read.
#[derive(Debug)]
pub(crate) struct Input {
    batches: mpsc::Receiver<Batch>,
    is_enough: Arc<AtomicBool>,
}

impl Input {
    /// Begins to read: at most `count` messages, if that is given.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(crate) fn start(source: Source, decoder: Decoder, count: Option<u64>) -> io::Result<Self> {
        let (sender, batches) = mpsc::channel(QUEUE);
        let is_enough = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&is_enough);
        thread::Builder::new()
            .name("input".to_owned())
            .spawn(move || read(source.reader, decoder, count, &seen, &sender))?;
        Ok(Self { batches, is_enough })
    }

    /// What comes next; nothing behind the end.
    pub(crate) async fn next(&mut self) -> Option<Batch> {
        self.batches.recv().await
    }

    /// Reads no more. What was read still comes.
    pub(crate) fn stop(&mut self) {
        self.is_enough.store(true, Ordering::Relaxed);
    }

    /// What comes next, if it is there.
    pub(crate) fn ready(&mut self) -> Option<Batch> {
        self.batches.try_recv().ok()
    }
}

/// Reads to the end, or until enough was read or nobody listens any more.
fn read(
    mut reader: impl io::Read,
    mut decoder: Decoder,
    count: Option<u64>,
    is_enough: &AtomicBool,
    batches: &mpsc::Sender<Batch>,
) {
    let mut buffer = vec![0; READ];
    let mut left = count.unwrap_or(u64::MAX);
    let mut error = None;
    while error.is_none() && left > 0 && !is_enough.load(Ordering::Relaxed) {
        let length = match reader.read(&mut buffer) {
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(why) => {
                error = Some(InputError::Io(why));
                break;
            }
        };
        decoder.feed(buffer.get(..length).unwrap_or_default());
        let mut messages = Vec::new();
        while left > 0 {
            let message = match length {
                0 => decoder.finish(),
                _ => decoder.next(),
            };
            match message {
                Ok(Some(message)) => messages.push(message),
                Ok(None) => break,
                Err(why) => {
                    error = Some(InputError::Frame(why));
                    break;
                }
            }
            left -= 1;
        }
        if !messages.is_empty() && batches.blocking_send(Batch::Messages(messages)).is_err() {
            return;
        }
        if length == 0 {
            break;
        }
    }
    let end = End {
        empty: decoder.empty(),
        gaps: decoder.gaps(),
        error,
    };
    // Who does not listen any more does not want it.
    let _ = batches.blocking_send(Batch::End(end));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::framing::Framing;

    /// Gives what it has in parts, with an interruption before each, and fails at the end if it is to.
    struct Slow(Vec<&'static [u8]>, bool, bool);

    impl io::Read for Slow {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            self.1 = !self.1;
            match (self.1, self.0.is_empty(), self.2) {
                (true, ..) => Err(io::ErrorKind::Interrupted.into()),
                (false, true, true) => Err(io::Error::other("no more")),
                (false, true, false) => Ok(0),
                (false, false, _) => {
                    let part = self.0.remove(0);
                    into[..part.len()].copy_from_slice(part);
                    Ok(part.len())
                }
            }
        }
    }

    fn all(parts: &[&'static [u8]], fails: bool, count: Option<u64>) -> (Vec<Vec<Bytes>>, End) {
        let (sender, mut batches) = mpsc::channel(64);
        let slow = Slow(parts.to_vec(), false, fails);
        let decoder = Decoder::new(Framing::Line, 5, 1);
        read(slow, decoder, count, &AtomicBool::new(false), &sender);
        let mut messages = Vec::new();
        loop {
            match batches.try_recv().unwrap() {
                Batch::Messages(more) => messages.push(more),
                Batch::End(end) => return (messages, end),
            }
        }
    }

    #[test]
    fn each_read_hands_on_what_is_complete() {
        let (messages, end) = all(&[b"a\nb", b"c", b"d\n\n", b"e"], false, None);
        assert_eq!(messages, [vec!["a"], vec!["bcd"], vec!["e"]]);
        assert!(end.error.is_none());
        assert_eq!(end.empty, 1);
    }

    #[test]
    fn no_more_is_read_than_is_wanted() {
        let (messages, end) = all(&[b"a\nb\nc\n", b"not read"], true, Some(2));
        assert_eq!(messages, [vec!["a", "b"]]);
        assert!(end.error.is_none());
        // The last line may lack its newline.
        let (messages, end) = all(&[b"a\nb"], false, Some(2));
        assert_eq!(messages.concat(), ["a", "b"]);
        assert!(end.error.is_none());
    }

    #[test]
    fn what_came_before_an_error_is_handed_on() {
        let (messages, end) = all(&[b"a\n", b"b\nlonger\nc\n", b"d\n"], false, None);
        assert_eq!(messages, [vec!["a"], vec!["b"]]);
        assert!(matches!(
            end.error,
            Some(InputError::Frame(FrameError::TooLong { .. }))
        ));
        let (messages, end) = all(&[b"a\nb"], true, None);
        assert_eq!(messages, [vec!["a"]]);
        assert!(matches!(end.error, Some(InputError::Io(_))));
    }

    #[test]
    fn a_reader_that_is_stopped_ends() {
        let (sender, mut batches) = mpsc::channel(1);
        let decoder = Decoder::new(Framing::Line, 5, 1);
        read(
            io::repeat(b'\n'),
            decoder,
            None,
            &AtomicBool::new(true),
            &sender,
        );
        assert!(matches!(batches.try_recv(), Ok(Batch::End(_))));
        // And so does one to which nobody listens.
        let decoder = Decoder::new(Framing::Raw, 5, 5);
        drop(batches);
        read(
            io::repeat(b'x'),
            decoder,
            None,
            &AtomicBool::new(false),
            &sender,
        );
    }
}
