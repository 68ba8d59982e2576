//! The start of a process (PROTOCOL.md, "process start").

use super::{Request, op, other};
use crate::{
    abi::{AbiParam, AbiSignature, Capability, EntrypointArg},
    fields::{Field, FieldError, FieldErrorKind, FieldReader, FieldWriter},
    limits::{
        MAX_ARGUMENT_BYTES, MAX_ARGUMENTS, MAX_ENTRYPOINT, MAX_LOG_URI, MAX_MODULE, MAX_NAME,
    },
};

/// Start a process with exactly these capabilities. Answered with [`ProcessRef`](super::ProcessRef).
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct StartRequest {
    /// The module's id, relative to the runtime's module directory.
    pub module: String,
    /// The exported function to call.
    pub entrypoint: String,
    /// What the process is given, and nothing more.
    pub capabilities: Vec<Capability>,
    /// The entrypoint's signature, without the log URI.
    pub signature: AbiSignature,
    /// One argument a parameter.
    pub args: Vec<EntrypointArg>,
    /// The log URI to hand to the process.
    pub log_uri: Option<String>,
    /// The process's name; the server makes one when there is none.
    pub name: Option<String>,
}

impl Request for StartRequest {
    const OP: u64 = op::PROCESS_START;

    fn fields(&self, fields: &mut FieldWriter) {
        let kinds = |kinds: &[AbiParam]| -> Vec<u8> {
            kinds.iter().copied().map(AbiParam::to_wire).collect()
        };
        let capabilities: Vec<u8> = self
            .capabilities
            .iter()
            .copied()
            .map(Capability::to_wire)
            .collect();
        fields
            .must_text(1, &self.module)
            .must_text(2, &self.entrypoint)
            .must_bytes(3, &capabilities)
            .must_bytes(4, &kinds(self.signature.params()))
            .must_bytes(5, &kinds(self.signature.results()));
        for arg in &self.args {
            fields.must_bytes(6, &arg.encode());
        }
        if let Some(log_uri) = &self.log_uri {
            fields.must_text(7, log_uri);
        }
        if let Some(name) = &self.name {
            fields.must_text(8, name);
        }
    }
}

impl StartRequest {
    /// Reads the fields.
    ///
    /// # Errors
    /// When they are malformed, something is missing, unknown or past its limit.
    pub fn decode(body: &[u8]) -> Result<Self, FieldError> {
        let mut start = Self::default();
        let (mut module, mut entrypoint) = (None, None);
        let (mut params, mut results) = (Vec::new(), Vec::new());
        let mut fields = FieldReader::new(body);
        while let Some(field) = fields.next()? {
            match field.number {
                1 => module = Some(field.text(MAX_MODULE)?),
                2 => entrypoint = Some(field.text(MAX_ENTRYPOINT)?),
                3 => start.capabilities = capabilities(&field)?,
                4 => params = kinds(&field)?,
                5 => results = kinds(&field)?,
                6 => {
                    if start.args.len() == MAX_ARGUMENTS {
                        return Err(field.error(FieldErrorKind::TooLong(MAX_ARGUMENTS)));
                    }
                    // The kind byte in front is no part of the argument.
                    let value = field.item(usize::MAX)?;
                    if value.len() > MAX_ARGUMENT_BYTES + 1 {
                        return Err(field.error(FieldErrorKind::TooLong(MAX_ARGUMENT_BYTES)));
                    }
                    let arg = EntrypointArg::decode(value);
                    start
                        .args
                        .push(arg.ok_or(field.error(FieldErrorKind::Value))?);
                }
                7 => start.log_uri = Some(field.text(MAX_LOG_URI)?.to_owned()),
                8 => start.name = Some(field.text(MAX_NAME)?.to_owned()),
                _ => other(&field)?,
            }
        }
        start.module = module.ok_or(fields.missing(1))?.to_owned();
        start.entrypoint = entrypoint.ok_or(fields.missing(2))?.to_owned();
        start.signature = AbiSignature::new(params, results);
        Ok(start)
    }
}

fn capabilities(field: &Field<'_>) -> Result<Vec<Capability>, FieldError> {
    field
        .bytes(64)?
        .iter()
        .map(|byte| Capability::from_wire(*byte).ok_or(field.error(FieldErrorKind::Value)))
        .collect()
}

fn kinds(field: &Field<'_>) -> Result<Vec<AbiParam>, FieldError> {
    field
        .bytes(MAX_ARGUMENTS)?
        .iter()
        .map(|byte| AbiParam::from_wire(*byte).ok_or(field.error(FieldErrorKind::Value)))
        .collect()
}
