//! Arguments of an entrypoint, and whether they go with its signature.

use thiserror::Error;

use super::{AbiParam, AbiScalarType, AbiScalarValue, AbiSignature, GuestResourceId};
use crate::limits::{MAX_ARGUMENT_BYTES, MAX_ARGUMENTS};

/// An argument of an entrypoint.
#[derive(Clone, Debug, PartialEq)]
pub enum EntrypointArg {
    /// An immediate scalar.
    Scalar(AbiScalarValue),
    /// Bytes.
    Buffer(Vec<u8>),
    /// A resource of this server, by the id that the server gave it (never a raw handle of the runtime).
    Resource(GuestResourceId),
}

impl EntrypointArg {
    const RESOURCE: u8 = 17;

    /// The bytes that travel: a kind byte (the scalar's number, 16 for a buffer, 17 for a resource) and the value,
    /// integers and floats big-endian.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        match self {
            EntrypointArg::Scalar(value) => {
                let mut out = vec![value.kind().to_wire()];
                value.encode(&mut out);
                out
            }
            EntrypointArg::Buffer(bytes) => {
                let mut out = Vec::with_capacity(1 + bytes.len());
                out.push(AbiParam::BUFFER);
                out.extend_from_slice(bytes);
                out
            }
            EntrypointArg::Resource(id) => {
                let mut out = vec![Self::RESOURCE];
                out.extend(id.to_be_bytes());
                out
            }
        }
    }

    /// Reads the bytes that [`EntrypointArg::encode`] makes; `None` for any other.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (kind, value) = bytes.split_first()?;
        match *kind {
            AbiParam::BUFFER => Some(EntrypointArg::Buffer(value.to_vec())),
            Self::RESOURCE => Some(EntrypointArg::Resource(u64::from_be_bytes(
                value.try_into().ok()?,
            ))),
            kind => {
                AbiScalarValue::decode(AbiScalarType::from_wire(kind)?, value).map(Self::Scalar)
            }
        }
    }

    fn fits(&self, param: AbiParam) -> bool {
        match (param, self) {
            (AbiParam::Scalar(expected), EntrypointArg::Scalar(value)) => value.kind() == expected,
            (AbiParam::Scalar(kind), EntrypointArg::Resource(_)) => {
                matches!(kind, AbiScalarType::I32 | AbiScalarType::U64)
            }
            (AbiParam::Buffer, EntrypointArg::Buffer(_)) => true,
            _ => false,
        }
    }

    fn name(&self) -> String {
        match self {
            EntrypointArg::Scalar(value) => AbiParam::Scalar(value.kind()).to_string(),
            EntrypointArg::Buffer(_) => "buffer".to_owned(),
            EntrypointArg::Resource(_) => "resource".to_owned(),
        }
    }
}

/// Why a signature and arguments do not go together or are too large.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ArgumentError {
    /// Their numbers differ.
    #[error("the signature has {expected} parameters, {actual} arguments were given")]
    Count {
        /// Parameters in the signature.
        expected: usize,
        /// Arguments given.
        actual: usize,
    },
    /// One is of another type than its parameter.
    #[error("argument {index} is of type {actual}, the signature says {expected}")]
    Type {
        /// Its position, from 1.
        index: usize,
        /// The parameter's type.
        expected: String,
        /// The argument's type.
        actual: String,
    },
    /// There are too many parameters, results or arguments.
    #[error("{actual} {what} are more than the limit of {MAX_ARGUMENTS}")]
    TooMany {
        /// What there are too many of.
        what: &'static str,
        /// How many there are.
        actual: usize,
    },
    /// The buffers together are too large for the new process's memory.
    #[error(
        "the buffer arguments take {actual} bytes, more than the limit of {MAX_ARGUMENT_BYTES}"
    )]
    TooLarge {
        /// Bytes in all, the log URI included.
        actual: usize,
    },
}

/// Checks arguments against a signature and against the limits that keep the new process's memory intact.
///
/// # Errors
/// The first thing that does not fit.
pub fn check_arguments(
    signature: &AbiSignature,
    args: &[EntrypointArg],
    log_uri: Option<&str>,
) -> Result<(), ArgumentError> {
    for (what, actual) in [
        ("arguments", args.len()),
        ("parameters", signature.params.len()),
        ("results", signature.results.len()),
    ] {
        if actual > MAX_ARGUMENTS {
            return Err(ArgumentError::TooMany { what, actual });
        }
    }
    let bytes = args
        .iter()
        .map(|arg| match arg {
            EntrypointArg::Buffer(bytes) => bytes.len(),
            _ => 0,
        })
        .fold(log_uri.map_or(0, str::len), usize::saturating_add);
    if bytes > MAX_ARGUMENT_BYTES {
        return Err(ArgumentError::TooLarge { actual: bytes });
    }
    if signature.params.len() != args.len() {
        return Err(ArgumentError::Count {
            expected: signature.params.len(),
            actual: args.len(),
        });
    }
    let misfit = signature
        .params
        .iter()
        .zip(args)
        .enumerate()
        .find(|(_, (param, arg))| !arg.fits(**param));
    match misfit {
        None => Ok(()),
        Some((index, (param, arg))) => Err(ArgumentError::Type {
            index: index + 1,
            expected: param.to_string(),
            actual: arg.name(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_round_trip() {
        let args = [
            EntrypointArg::Scalar(AbiScalarValue::I8(-1)),
            EntrypointArg::Scalar(AbiScalarValue::U16(7000)),
            EntrypointArg::Scalar(AbiScalarValue::I64(i64::MIN)),
            EntrypointArg::Scalar(AbiScalarValue::F64(1.5)),
            EntrypointArg::Buffer(vec![]),
            EntrypointArg::Buffer(b"localhost".to_vec()),
            EntrypointArg::Resource(u64::MAX),
        ];
        for arg in args {
            assert_eq!(EntrypointArg::decode(&arg.encode()), Some(arg));
        }
        assert_eq!(EntrypointArg::decode(&[]), None);
        assert_eq!(EntrypointArg::decode(&[3, 1]), None, "a u16 has two bytes");
        assert_eq!(EntrypointArg::decode(&[10]), None, "no such kind");
    }

    #[test]
    fn arguments_are_checked() {
        let signature = AbiSignature::new(vec![AbiParam::Scalar(AbiScalarType::U16)], vec![]);
        let check = |args: &[EntrypointArg]| check_arguments(&signature, args, None);
        assert_eq!(
            check(&[EntrypointArg::Scalar(AbiScalarValue::U16(1))]),
            Ok(())
        );
        assert_eq!(
            check(&[EntrypointArg::Scalar(AbiScalarValue::I16(1))])
                .unwrap_err()
                .to_string(),
            "argument 1 is of type i16, the signature says u16"
        );
        assert!(matches!(check(&[]), Err(ArgumentError::Count { .. })));

        let buffers = |sizes: &[usize]| {
            let signature = AbiSignature::new(vec![AbiParam::Buffer; sizes.len()], vec![]);
            let args: Vec<_> = sizes
                .iter()
                .map(|size| EntrypointArg::Buffer(vec![0; *size]))
                .collect();
            check_arguments(&signature, &args, Some("uri"))
        };
        assert_eq!(buffers(&[MAX_ARGUMENT_BYTES - 3]), Ok(()));
        assert_eq!(
            buffers(&[MAX_ARGUMENT_BYTES - 2]),
            Err(ArgumentError::TooLarge {
                actual: MAX_ARGUMENT_BYTES + 1
            })
        );
        assert_eq!(buffers(&[0; MAX_ARGUMENTS]), Ok(()));
        assert!(matches!(
            buffers(&[0; MAX_ARGUMENTS + 1]),
            Err(ArgumentError::TooMany { .. })
        ));
    }
}
