//! What every command needs: the options, the output, Ctrl-C and the connection.

use std::cell::OnceCell;
use std::path::Path;
use std::time::Duration;

use selium_remote_client::{Client, ClientConfigBuilder, Reconnect};

use crate::args::{Format, Global};
use crate::failure::{Action, Failure};
use crate::interrupt::{Interrupt, Stage};
use crate::output::Output;
use crate::render::escape;

/// One run of a command.
#[derive(Debug)]
pub(crate) struct Session {
    global: Global,
    /// Where everything is said.
    pub(crate) output: Output,
    interrupt: Interrupt,
    client: OnceCell<Client>,
}

impl Session {
    /// A run that is not connected yet.
    pub(crate) fn new(global: Global, output: Output, interrupt: Interrupt) -> Self {
        Self {
            global,
            output,
            interrupt,
            client: OnceCell::new(),
        }
    }

    /// Connects.
    ///
    /// # Errors
    /// When there is no connection within the deadline.
    pub(crate) async fn connect(&self) -> Result<Client, Failure> {
        self.connect_for(None).await
    }

    /// Connects, for messages of so many bytes at most if that is given.
    ///
    /// # Errors
    /// When there is no connection within the deadline.
    pub(crate) async fn connect_for(&self, longest: Option<usize>) -> Result<Client, Failure> {
        let global = &self.global;
        // A command ends with its connection, and says so.
        let config = ClientConfigBuilder::default()
            .reconnect(Reconnect::never())
            .domain(global.domain.as_str())
            .port(global.port)
            .certificate_directory(&global.cert_dir);
        let config = match global.timeout {
            Some(timeout) => config.connect_timeout(timeout).request_timeout(timeout),
            None => config,
        };
        let config = match longest {
            Some(longest) => config.response_limit(longest),
            None => config,
        };
        let client = config
            .connect()
            .await
            .map_err(Failure::client(Action::Connect))?;
        // Kept for the goodbye, also of an interrupted command.
        let client = self.client.get_or_init(|| client).clone();
        if !client.server().authenticated && !global.no_warn {
            let text = format!(
                "the server at {} authenticates nobody: whoever reaches it can start and stop processes; keep it on \
                 localhost or a trusted network (SELIUM_NO_WARN=1 silences this)",
                self.endpoint()
            );
            self.output.warning(&text).await;
        }
        Ok(client)
    }

    /// Where the certificates are.
    pub(crate) fn cert_dir(&self) -> &Path {
        &self.global.cert_dir
    }

    /// The server's name, and the port of its admins.
    pub(crate) fn server(&self) -> (&str, u16) {
        (&self.global.domain, self.global.port)
    }

    /// `host:port` of the server, for messages.
    pub(crate) fn endpoint(&self) -> String {
        let Global { domain, port, .. } = &self.global;
        if domain.contains(':') {
            format!("[{domain}]:{port}")
        } else {
            format!("{domain}:{port}")
        }
    }

    /// How long to wait for something, if that was said.
    pub(crate) fn timeout(&self) -> Option<Duration> {
        self.global.timeout
    }

    /// Returns once Ctrl-C was pressed.
    pub(crate) async fn interrupted(&self) {
        self.interrupt.pressed().await;
    }

    /// Says what an interrupt means from now on.
    pub(crate) fn enter(&self, stage: Stage) {
        self.interrupt.enter(stage);
    }

    /// The format of a result: the command's own choice, else the general one.
    pub(crate) fn format(&self, own: Option<Format>) -> Format {
        own.unwrap_or(self.output.format())
    }

    /// Prints lines of data.
    ///
    /// # Errors
    /// When stdout is gone.
    pub(crate) async fn lines(&self, lines: Vec<String>) -> Result<(), Failure> {
        for line in lines {
            self.output.data(line).await?;
        }
        Ok(())
    }

    /// Prints one JSON value.
    ///
    /// # Errors
    /// When stdout is gone.
    pub(crate) async fn json<T: serde::Serialize>(&self, value: &T) -> Result<(), Failure> {
        self.output.data(escape::json(value)).await
    }

    /// The connection to take leave of, if there is one, and the output.
    pub(crate) fn split(self) -> (Option<Client>, Output) {
        (self.client.into_inner(), self.output)
    }
}
