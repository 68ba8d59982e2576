//! Processes.

use std::fmt;

use selium_remote_client_protocol::{GuestResourceId, ops::ProcessRef};

use crate::{Client, ClientError, LogOptions, LogStream, ProcessBuilder, ProcessInfo, id::id};

id! {
    /// The id of a process: unique within one run of the server, and of no meaning to another.
    ProcessId, "process id"
}

/// A process on the server. Dropping it does nothing to the process.
#[derive(Clone, Debug)]
pub struct Process {
    client: Client,
    id: ProcessId,
    name: Option<String>,
}

impl Process {
    /// The process with this id, which the server is not asked about: an id that it does not know shows with the first
    /// request. Use [`Client::process`] to look one up by name or by a part of its id.
    #[must_use]
    pub fn new(client: &Client, handle: GuestResourceId) -> Self {
        Self {
            client: client.clone(),
            id: ProcessId(handle),
            name: None,
        }
    }

    pub(crate) fn of(client: &Client, process: ProcessRef) -> Self {
        Self {
            client: client.clone(),
            id: ProcessId(process.id),
            name: Some(process.name).filter(|name| !name.is_empty()),
        }
    }

    /// Starts a process (PROTOCOL.md, "Operations").
    ///
    /// # Errors
    /// [`ClientError::InvalidArgument`] before anything is sent, [`ClientError::Remote`] when the server or its runtime
    /// refuses. When [`ClientError::is_outcome_unknown`] says so, it may have started.
    ///
    /// # Cancel safety
    /// Dropping the future asks the server to give the start up. If that has reached the runtime already, the process
    /// starts: look with [`Client::processes`], best by a name that was given with [`ProcessBuilder::name`].
    pub async fn start(client: &Client, builder: ProcessBuilder) -> Result<Self, ClientError> {
        client.start(&builder.build()?).await
    }

    /// The id as a number.
    #[must_use]
    pub fn handle(&self) -> GuestResourceId {
        self.id.0
    }

    /// The id.
    #[must_use]
    pub fn id(&self) -> ProcessId {
        self.id
    }

    /// The name, when the server has told it ([`Process::start`], [`Client::process`], [`Client::stop`]).
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Stops the process: success means that the runtime was asked to stop it and agreed.
    ///
    /// # Errors
    /// As [`Client::stop`].
    ///
    /// # Cancel safety
    /// As [`Client::stop`].
    pub async fn stop(self) -> Result<(), ClientError> {
        self.client.stop(&self.id.to_string()).await.map(drop)
    }

    /// What the server knows of the process.
    ///
    /// # Errors
    /// [`ClientError::Remote`] when the server does not know it (any more).
    ///
    /// # Cancel safety
    /// Dropping the future gives the request up.
    pub async fn inspect(&self) -> Result<ProcessInfo, ClientError> {
        self.client.inspect(&self.id.to_string()).await
    }

    /// The process's log, as the options say. The server keeps its latest records also after the process ended.
    ///
    /// # Errors
    /// [`ClientError::Remote`] when the server does not know the process, or has no room for another stream.
    ///
    /// # Cancel safety
    /// Dropping the future gives the stream up.
    pub async fn logs(&self, options: LogOptions) -> Result<LogStream, ClientError> {
        self.client.logs(&self.id.to_string(), options).await
    }

    /// The process's log: all records that the server retains, then new ones as they come.
    ///
    /// # Errors
    /// As [`Process::logs`].
    ///
    /// # Cancel safety
    /// As [`Process::logs`].
    pub async fn log_channel(&self) -> Result<LogStream, ClientError> {
        self.logs(LogOptions::default()).await
    }
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "{name} ({})", self.id),
            None => self.id.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_shown_in_full_and_short() {
        let id = ProcessId(0x0012_3456_789a_bcde);
        assert_eq!(id.to_string(), "00123456789abcde");
        assert_eq!(id.short(), "00123456");
        assert!(id.to_string().starts_with(&id.short()));
        assert_eq!(id.to_string().parse(), Ok(id));
        for wrong in [
            "",
            "00123456",
            "+0123456789abcde",
            "00123456789abcdeg",
            "é0123456789abcd",
        ] {
            let error = wrong.parse::<ProcessId>().unwrap_err();
            assert_eq!(error.field, "process id", "{wrong}");
        }
    }
}
