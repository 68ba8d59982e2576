//! What a start asks for, and the checks that need no server.

use selium_remote_client_protocol::{
    AbiParam, AbiScalarType, AbiScalarValue, AbiSignature, Capability, EntrypointArg,
    GuestResourceId,
    abi::{ArgumentError, check_arguments},
    limits::{
        MAX_ARGUMENT_BYTES, MAX_ARGUMENTS, MAX_ENTRYPOINT, MAX_LOG_URI, MAX_MODULE, MAX_NAME,
    },
    ops::StartRequest,
};

use crate::{Channel, InvalidArgument};

/// A process to be started.
///
/// It is given exactly the capabilities that are named here, none by default. Without
/// [`Capability::ChannelLifecycle`] and [`Capability::ChannelWriter`] it can have no log (see
/// [`ProcessBuilder::can_log`]); version 0.3.3 added these two by itself.
#[derive(Clone, Debug, PartialEq)]
pub struct ProcessBuilder {
    request: StartRequest,
    /// Which arguments are channels, and of what kind their parameters have to be.
    channels: Vec<(usize, AbiScalarType)>,
}

impl ProcessBuilder {
    /// A process of this module (its id, relative to the runtime's module directory, at most 256 bytes) that begins in
    /// this entrypoint (an exported function, at most 256 bytes).
    #[must_use]
    pub fn new(module_id: impl Into<String>, entrypoint: impl Into<String>) -> Self {
        let request = StartRequest::with(|made| {
            made.module = module_id.into();
            made.entrypoint = entrypoint.into();
        });
        Self {
            request,
            channels: Vec::new(),
        }
    }

    /// Gives it a capability.
    #[must_use]
    pub fn capability(mut self, capability: Capability) -> Self {
        if !self.request.capabilities.contains(&capability) {
            self.request.capabilities.push(capability);
        }
        self
    }

    /// The entrypoint's signature, without the log URI.
    #[must_use]
    pub fn signature(mut self, signature: AbiSignature) -> Self {
        self.request.signature = signature;
        self
    }

    /// The log URI that the process is handed (at most 1,024 bytes).
    #[must_use]
    pub fn log_uri(mut self, value: impl Into<String>) -> Self {
        self.request.log_uri = Some(value.into());
        self
    }

    /// The process's name (1 to 63 bytes): unique on the server while the process runs. The server makes one when none
    /// is given.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.request.name = Some(name.into());
        self
    }

    /// Adds a scalar argument.
    #[must_use]
    pub fn arg_scalar(self, value: AbiScalarValue) -> Self {
        self.arg(EntrypointArg::Scalar(value))
    }

    /// Adds a text argument: a buffer of its bytes in UTF-8.
    #[must_use]
    pub fn arg_utf8(self, value: impl Into<String>) -> Self {
        self.arg_buffer(value.into().into_bytes())
    }

    /// Adds a buffer argument. All buffers and the log URI together may have 262,144 bytes.
    #[must_use]
    pub fn arg_buffer(self, value: impl Into<Vec<u8>>) -> Self {
        self.arg(EntrypointArg::Buffer(value.into()))
    }

    /// Adds a resource of the server as an argument, by the id that the server gave it.
    #[must_use]
    pub fn arg_resource(self, handle: impl Into<GuestResourceId>) -> Self {
        self.arg(EntrypointArg::Resource(handle.into()))
    }

    /// Adds a channel as an argument: the process gets a number (u64) that it can attach to, as often as it likes, if it
    /// has `ChannelLifecycle`; to read or write it takes `ChannelReader` or `ChannelWriter` besides. The server shares the
    /// channel for that ([`Channel::share`]).
    ///
    /// The parameter is added to the signature, unless that has one at this place already.
    ///
    /// ```
    /// use selium_remote_client::{Capability, Channel, ProcessBuilder};
    ///
    /// fn worker(jobs: &Channel, results: &Channel) -> ProcessBuilder {
    ///     ProcessBuilder::new("worker.wasm", "start")
    ///         .capability(Capability::ChannelLifecycle)
    ///         .capability(Capability::ChannelReader)
    ///         .capability(Capability::ChannelWriter)
    ///         .arg_channel(jobs)
    ///         .arg_channel(results)
    /// }
    /// ```
    #[must_use]
    pub fn arg_channel(self, channel: &Channel) -> Self {
        self.channel_of_kind(channel, AbiScalarType::U64)
    }

    /// Adds a channel as an argument: the process is given the channel itself, as a handle (i32) in its own table.
    ///
    /// The parameter is added to the signature, unless that has one at this place already.
    #[must_use]
    pub fn arg_channel_handle(self, channel: &Channel) -> Self {
        self.channel_of_kind(channel, AbiScalarType::I32)
    }

    fn channel_of_kind(mut self, channel: &Channel, kind: AbiScalarType) -> Self {
        self.channels.push((self.request.args.len(), kind));
        self.arg_resource(channel.handle())
    }

    /// Whether the process has the capabilities that it needs for a log.
    #[must_use]
    pub fn can_log(&self) -> bool {
        [Capability::ChannelLifecycle, Capability::ChannelWriter]
            .iter()
            .all(|capability| self.request.capabilities.contains(capability))
    }

    fn arg(mut self, arg: EntrypointArg) -> Self {
        self.request.args.push(arg);
        self
    }

    /// The request, if it is one that a server may accept.
    pub(crate) fn build(self) -> Result<StartRequest, InvalidArgument> {
        let mut request = self.request;
        request.signature = with_channels(request.signature, &self.channels)?;
        check("module id", &request.module, MAX_MODULE)?;
        check("entrypoint", &request.entrypoint, MAX_ENTRYPOINT)?;
        if let Some(name) = &request.name {
            check("name", name, MAX_NAME)?;
        }
        if let Some(log_uri) = &request.log_uri {
            check("log URI", log_uri, MAX_LOG_URI)?;
        }
        let log_uri = request.log_uri.as_deref();
        match check_arguments(&request.signature, &request.args, log_uri) {
            Ok(()) => Ok(request),
            Err(error) => {
                let limit = match &error {
                    ArgumentError::TooMany { .. } => Some(MAX_ARGUMENTS),
                    ArgumentError::TooLarge { .. } => Some(MAX_ARGUMENT_BYTES),
                    _ => None,
                };
                Err(InvalidArgument {
                    field: "arguments",
                    problem: error.to_string(),
                    limit,
                })
            }
        }
    }
}

/// The signature with the parameters of channel arguments. Resources go with two kinds of parameters, which mean
/// different things: the one that was meant has to be there.
fn with_channels(
    signature: AbiSignature,
    channels: &[(usize, AbiScalarType)],
) -> Result<AbiSignature, InvalidArgument> {
    let mut params = signature.params().to_vec();
    for (at, kind) in channels {
        let meant = AbiParam::Scalar(*kind);
        match params.get(*at) {
            None if params.len() == *at => params.push(meant),
            Some(param) if *param != meant => {
                return Err(InvalidArgument {
                    field: "arguments",
                    problem: format!(
                        "argument {} is a channel of type {meant}, the signature says {param}",
                        at + 1
                    ),
                    limit: None,
                });
            }
            // Or arguments before it have no parameter, which is told later.
            _ => {}
        }
    }
    Ok(AbiSignature::new(params, signature.results().to_vec()))
}

/// Checks that a text is there and within its limit.
pub(crate) fn check(field: &'static str, text: &str, limit: usize) -> Result<(), InvalidArgument> {
    if text.is_empty() {
        let problem = "it is empty".to_owned();
        return Err(InvalidArgument {
            field,
            problem,
            limit: None,
        });
    }
    if text.len() > limit {
        let problem = format!("it is {} bytes long, the limit is {limit}", text.len());
        return Err(InvalidArgument {
            field,
            problem,
            limit: Some(limit),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use selium_remote_client_protocol::{AbiParam, AbiScalarType};

    fn builder() -> ProcessBuilder {
        ProcessBuilder::new("hello.wasm", "start")
    }

    #[test]
    fn nothing_is_granted_by_default() {
        assert_eq!(builder().build().unwrap().capabilities, []);
        let logging = builder()
            .capability(Capability::ChannelWriter)
            .capability(Capability::ChannelWriter);
        assert!(!logging.can_log());
        let logging = logging.capability(Capability::ChannelLifecycle);
        assert!(logging.can_log());
        assert_eq!(logging.build().unwrap().capabilities.len(), 2);
    }

    #[test]
    fn limits_are_named() {
        let long = |length| "x".repeat(length);
        for (builder, field, limit) in [
            (ProcessBuilder::new(long(257), "e"), "module id", 256),
            (ProcessBuilder::new("m", long(257)), "entrypoint", 256),
            (builder().name(long(64)), "name", 63),
            (builder().log_uri(long(1_025)), "log URI", 1_024),
        ] {
            let error = builder.build().unwrap_err();
            assert_eq!((error.field, error.limit), (field, Some(limit)));
            assert!(error.to_string().contains(&limit.to_string()), "{error}");
        }
        let error = ProcessBuilder::new("", "e").build().unwrap_err();
        assert_eq!(error.to_string(), "invalid module id: it is empty");
    }

    #[test]
    fn arguments_are_checked_against_the_signature() {
        let signature = AbiSignature::new(vec![AbiParam::Scalar(AbiScalarType::U16)], vec![]);
        let error = builder()
            .signature(signature.clone())
            .arg_utf8("7000")
            .build()
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "invalid arguments: argument 1 is of type buffer, the signature says u16"
        );
        let start = builder()
            .signature(signature)
            .arg_scalar(AbiScalarValue::U16(7000));
        assert!(start.build().is_ok());
        let large = builder()
            .signature(AbiSignature::new(vec![AbiParam::Buffer], vec![]))
            .arg_buffer(vec![0; MAX_ARGUMENT_BYTES + 1]);
        assert_eq!(large.build().unwrap_err().limit, Some(MAX_ARGUMENT_BYTES));
    }
}
