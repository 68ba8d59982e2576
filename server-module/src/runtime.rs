//! The runtime as the server's host: every call becomes a task.

use std::{collections::BTreeMap, rc::Rc};

use selium_remote_client_protocol::{AbiParam, AbiScalarType, EntrypointArg, ops::StartRequest};
use selium_remote_server_core::{
    Completion, Host, HostCall, HostProcess, OpId,
    host::{HostChannel, StopFailure},
};
use selium_remote_transport_wasm::{
    HostError, executor,
    process::{self, Argument, StartSpec},
};

use crate::{
    channels::{BUSY, Channels, GONE, Lent},
    logs,
    module::{LogControl, Module},
};

/// The runtime, on behalf of one module.
pub(crate) struct Runtime<'a> {
    pub(crate) module: &'a Rc<Module>,
    /// What comes of a call that could not be begun.
    refused: Option<Completion>,
}

impl<'a> Runtime<'a> {
    pub(crate) fn new(module: &'a Rc<Module>) -> Self {
        Self {
            module,
            refused: None,
        }
    }
}

/// What is to be said of a call for which there is no task.
fn not_begun(call: &HostCall) -> Option<Completion> {
    match *call {
        HostCall::Start { op, .. } => Some(Completion::Started {
            op,
            result: Err(BUSY.to_owned()),
        }),
        HostCall::Stop { op, .. } => Some(Completion::Stopped {
            op,
            result: Err(StopFailure::Failed(BUSY.to_owned())),
        }),
        HostCall::OpenLog { log, .. } => Some(Completion::LogMissing { log }),
        HostCall::CloseLog { log } => Some(Completion::LogEnded { log }),
        HostCall::NudgeLog { .. } | HostCall::Audit(_) => None,
        // They answer for themselves.
        HostCall::CreateChannel { .. }
        | HostCall::DeleteChannel { .. }
        | HostCall::DrainChannel { .. }
        | HostCall::ShareChannel { .. }
        | HostCall::OpenReader { .. }
        | HostCall::PauseReader { .. }
        | HostCall::ResumeReader { .. }
        | HostCall::NudgeReader { .. }
        | HostCall::CloseReader { .. }
        | HostCall::Write { .. }
        | HostCall::CloseWriter { .. } => None,
    }
}

impl Host for Runtime<'_> {
    fn begin(&mut self, call: HostCall) {
        let module = Rc::clone(self.module);
        let not_begun = not_begun(&call);
        let spawned = match call {
            HostCall::Start { op, spec, channels } => {
                executor::spawn(start(module, op, spec, channels))
            }
            HostCall::Stop { op, process } => executor::spawn(stop(module, op, process)),
            HostCall::OpenLog {
                log,
                process,
                attempt,
            } => {
                let control = Rc::new(LogControl::default());
                self.module
                    .logs
                    .borrow_mut()
                    .insert(log, Rc::clone(&control));
                executor::spawn(logs::open(module, control, log, process, attempt))
            }
            HostCall::Audit(event) => {
                module.audit(&event);
                Ok(())
            }
            HostCall::NudgeLog { log } => {
                if let Some(control) = self.module.logs.borrow().get(&log) {
                    control.nudging.set(true);
                    control.changed.notify();
                }
                Ok(())
            }
            HostCall::CloseLog { log } => {
                let control = self.module.logs.borrow().get(&log).cloned();
                match control {
                    Some(control) => {
                        control.closing.set(true);
                        control.changed.notify();
                        Ok(())
                    }
                    // It has ended already, or was never found.
                    None => executor::spawn(async move {
                        module.complete(Completion::LogEnded { log });
                    }),
                }
            }
            channels => {
                let events = Rc::clone(&module);
                self.refused = module.channels.begin(events, channels);
                Ok(())
            }
        };
        if spawned.is_err() {
            // The number of tasks is bounded by the server's own limits; this cannot happen while they are lower.
            tracing::error!("too many tasks; a host operation was not begun");
            self.refused = not_begun;
        }
    }

    fn refused(&mut self) -> Option<Completion> {
        self.refused.take()
    }
}

async fn start(
    module: Rc<Module>,
    op: OpId,
    spec: Box<StartRequest>,
    channels: Vec<(u64, HostChannel)>,
) {
    let result = match lend(&module.channels, channels).await {
        Ok(lent) => match host_spec(&spec, &lent) {
            // What is lent lives until the host has it.
            Some(spec) => process::start(spec).await,
            None => Err(HostError::InvalidArgument),
        },
        Err(HostError::NotFound) => Err(HostError::Other(GONE.to_owned())),
        Err(error) => Err(error),
    };
    let result = result.map(HostProcess).map_err(|error| error.to_string());
    module.complete(Completion::Started { op, result });
}

/// The channels among the arguments of a start, by their ids.
type Lending = BTreeMap<u64, Lent>;

async fn lend(channels: &Channels, wanted: Vec<(u64, HostChannel)>) -> Result<Lending, HostError> {
    let mut lent = Lending::new();
    for (id, channel) in wanted {
        lent.insert(id, channels.lend(channel).await?);
    }
    Ok(lent)
}

async fn stop(module: Rc<Module>, op: OpId, process: HostProcess) {
    module.changes.begin(&module.clock).await;
    let result = process::stop(process.0).await.map_err(|error| match error {
        HostError::NotFound => StopFailure::Gone,
        other => StopFailure::Failed(other.to_string()),
    });
    module.complete(Completion::Stopped { op, result });
    module.changes.end();
}

/// A start in the runtime's own terms; `None` for what the server's rules do not let through.
fn host_spec(spec: &StartRequest, lent: &Lending) -> Option<StartSpec> {
    let mut host = StartSpec::new(spec.module.clone(), spec.entrypoint.clone());
    for capability in &spec.capabilities {
        host.capabilities
            .push(process::Capability::try_from(capability.to_wire()).ok()?);
    }
    for (index, arg) in spec.args.iter().enumerate() {
        host.arguments.push(match arg {
            EntrypointArg::Scalar(value) => Argument::Scalar(scalar(*value)),
            EntrypointArg::Buffer(bytes) => Argument::Buffer(bytes.clone()),
            EntrypointArg::Resource(id) => {
                resource(*spec.signature.params().get(index)?, lent.get(id)?)?
            }
        });
    }
    for result in spec.signature.results() {
        host.results.push(match result {
            AbiParam::Scalar(kind) => process::AbiParam::Scalar(scalar_type(*kind)),
            AbiParam::Buffer => process::AbiParam::Buffer,
        });
    }
    host.log_uri.clone_from(&spec.log_uri);
    Some(host)
}

/// A channel as an argument: itself, or the number that a process can attach to.
fn resource(param: AbiParam, lent: &Lent) -> Option<Argument> {
    match param {
        AbiParam::Scalar(AbiScalarType::I32) => Some(Argument::Channel((&lent.channel).into())),
        AbiParam::Scalar(AbiScalarType::U64) => Some(Argument::Shared(lent.shared)),
        _ => None,
    }
}

fn scalar(value: selium_remote_client_protocol::AbiScalarValue) -> process::AbiScalarValue {
    use process::AbiScalarValue as Host;
    use selium_remote_client_protocol::AbiScalarValue as Wire;
    match value {
        Wire::I8(value) => Host::I8(value),
        Wire::U8(value) => Host::U8(value),
        Wire::I16(value) => Host::I16(value),
        Wire::U16(value) => Host::U16(value),
        Wire::I32(value) => Host::I32(value),
        Wire::U32(value) => Host::U32(value),
        Wire::I64(value) => Host::I64(value),
        Wire::U64(value) => Host::U64(value),
        Wire::F32(value) => Host::F32(value),
        Wire::F64(value) => Host::F64(value),
    }
}

fn scalar_type(kind: selium_remote_client_protocol::AbiScalarType) -> process::AbiScalarType {
    use process::AbiScalarType as Host;
    use selium_remote_client_protocol::AbiScalarType as Wire;
    match kind {
        Wire::I8 => Host::I8,
        Wire::U8 => Host::U8,
        Wire::I16 => Host::I16,
        Wire::U16 => Host::U16,
        Wire::I32 => Host::I32,
        Wire::U32 => Host::U32,
        Wire::I64 => Host::I64,
        Wire::U64 => Host::U64,
        Wire::F32 => Host::F32,
        // The wire's list may grow; what this module does not know was refused when it was decoded.
        _ => Host::F64,
    }
}

#[cfg(test)]
mod tests {
    use selium_remote_client_protocol::{AbiScalarType, Capability};

    use super::*;

    #[test]
    fn numbers_are_those_of_the_runtimes_abi() {
        assert_eq!(Capability::ALL.len(), selium_abi::Capability::ALL.len());
        for capability in Capability::ALL {
            let host = selium_abi::Capability::try_from(capability.to_wire()).unwrap();
            assert_eq!(host.to_string(), capability.name());
        }
        for kind in AbiScalarType::ALL {
            assert_eq!(format!("{:?}", scalar_type(*kind)), kind.name());
        }
    }

    #[test]
    fn a_start_reaches_the_host_as_it_was_asked_for() {
        let spec = StartRequest::with(|made| {
            made.module = "m.wasm".into();
            made.entrypoint = "go".into();
            made.capabilities = vec![Capability::TimeRead, Capability::ChannelWriter];
            made.args = vec![EntrypointArg::Buffer(b"x".to_vec())];
            made.log_uri = Some("sel://x".into());
        });
        let host = host_spec(&spec, &Lending::new()).unwrap();
        let capabilities: Vec<_> = host.capabilities.iter().map(ToString::to_string).collect();
        assert_eq!(capabilities, ["TimeRead", "ChannelWriter"]);
        assert_eq!(host.arguments, [Argument::Buffer(b"x".to_vec())]);
        assert_eq!(host.log_uri.as_deref(), Some("sel://x"));
        let resource = {
            let mut made = spec;
            made.args = vec![EntrypointArg::Resource(1)];
            made
        };
        assert!(host_spec(&resource, &Lending::new()).is_none());
    }
}
