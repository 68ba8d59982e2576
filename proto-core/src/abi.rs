//! What a start names: capabilities, types and arguments, as the runtime's ABI knows them (PROTOCOL.md, "Types").
//!
//! The numbers are those of the runtime's ABI, 1.0.0-alpha.6; `server-module` holds a test against the ABI crate.

use core::{fmt, str::FromStr};

use thiserror::Error;

use crate::limits::{MAX_ARGUMENT_BYTES, MAX_ARGUMENTS};

/// Identifier of a resource in the runtime.
pub type GuestResourceId = u64;

/// The guest's pointer-sized unsigned integer.
pub type GuestUint = u32;

macro_rules! numbered {
    ($(#[$doc:meta])* $type:ident { $($(#[$vdoc:meta])* $name:ident = $value:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        #[repr(u8)]
        pub enum $type {
            $($(#[$vdoc])* $name = $value,)+
        }

        impl $type {
            /// All of them, in order of the numbers.
            pub const ALL: &[$type] = &[$($type::$name,)+];

            /// The number that travels.
            #[must_use]
            pub const fn to_wire(self) -> u8 {
                self as u8
            }

            /// The one with this number.
            #[must_use]
            pub const fn from_wire(value: u8) -> Option<Self> {
                match value {
                    $($value => Some($type::$name),)+
                    _ => None,
                }
            }

            /// Its name in the runtime's ABI.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $($type::$name => stringify!($name),)+
                }
            }
        }
    };
}

numbered! {
    /// A permission that a process may be given. The names say less than what the host makes of them: see SECURITY.md.
    Capability {
        /// Create and change sessions.
        SessionLifecycle = 0,
        /// Create, delete, drain, share and attach channels (every shared one).
        ChannelLifecycle = 1,
        /// Read from channels.
        ChannelReader = 2,
        /// Write to channels.
        ChannelWriter = 3,
        /// Start and stop processes with any capability.
        ProcessLifecycle = 4,
        /// Bind QUIC listeners.
        NetQuicBind = 5,
        /// Accept QUIC connections.
        NetQuicAccept = 6,
        /// Open QUIC connections.
        NetQuicConnect = 7,
        /// Read from QUIC streams.
        NetQuicRead = 8,
        /// Write to QUIC streams.
        NetQuicWrite = 9,
        /// Bind HTTP listeners.
        NetHttpBind = 10,
        /// Accept HTTP connections.
        NetHttpAccept = 11,
        /// Open HTTP connections.
        NetHttpConnect = 12,
        /// Read from HTTP streams.
        NetHttpRead = 13,
        /// Write to HTTP streams.
        NetHttpWrite = 14,
        /// Make TLS configurations of servers.
        NetTlsServerConfig = 15,
        /// Make TLS configurations of clients.
        NetTlsClientConfig = 16,
        /// Register singletons.
        SingletonRegistry = 17,
        /// Look singletons up.
        SingletonLookup = 18,
        /// Read the clock and sleep.
        TimeRead = 19,
    }
}

numbered! {
    /// The type of a scalar.
    AbiScalarType {
        /// 8-bit signed integer.
        I8 = 0,
        /// 8-bit unsigned integer.
        U8 = 1,
        /// 16-bit signed integer.
        I16 = 2,
        /// 16-bit unsigned integer.
        U16 = 3,
        /// 32-bit signed integer.
        I32 = 4,
        /// 32-bit unsigned integer.
        U32 = 5,
        /// 64-bit signed integer.
        I64 = 6,
        /// 64-bit unsigned integer.
        U64 = 7,
        /// 32-bit float.
        F32 = 8,
        /// 64-bit float.
        F64 = 9,
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A capability name that is not known.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("unknown capability `{0}`")]
pub struct UnknownCapability(pub String);

impl FromStr for Capability {
    type Err = UnknownCapability;

    /// Accepts the ABI's name in any case, with or without `-` and `_` between the words, as the runtime does.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let plain: String = text
            .chars()
            .filter(|c| !matches!(c, '-' | '_'))
            .take(64)
            .collect();
        Self::ALL
            .iter()
            .copied()
            .find(|capability| capability.name().eq_ignore_ascii_case(&plain))
            .ok_or_else(|| UnknownCapability(crate::error::clip(text, 64).to_owned()))
    }
}

/// A set of capabilities.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct CapabilitySet(u32);

impl CapabilitySet {
    /// No capability.
    pub const EMPTY: Self = Self(0);

    /// Every capability.
    #[must_use]
    pub fn all() -> Self {
        Capability::ALL.iter().copied().collect()
    }

    /// Adds one.
    pub fn insert(&mut self, capability: Capability) {
        self.0 |= 1 << capability.to_wire();
    }

    /// Whether it is in the set.
    #[must_use]
    pub const fn contains(self, capability: Capability) -> bool {
        self.0 & (1 << capability.to_wire()) != 0
    }

    /// Its members, in order of the numbers.
    pub fn iter(self) -> impl Iterator<Item = Capability> {
        Capability::ALL
            .iter()
            .copied()
            .filter(move |capability| self.contains(*capability))
    }

    /// One byte a member, as it travels.
    #[must_use]
    pub fn to_wire(self) -> Vec<u8> {
        self.iter().map(Capability::to_wire).collect()
    }
}

impl FromIterator<Capability> for CapabilitySet {
    fn from_iter<T: IntoIterator<Item = Capability>>(iter: T) -> Self {
        let mut set = Self::EMPTY;
        for capability in iter {
            set.insert(capability);
        }
        set
    }
}

/// The kind of a parameter or result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AbiParam {
    /// An immediate scalar.
    Scalar(AbiScalarType),
    /// Bytes, passed as pointer and length.
    Buffer,
}

impl AbiParam {
    const BUFFER: u8 = 16;

    /// The number that travels: the scalar's, or 16 for a buffer.
    #[must_use]
    pub const fn to_wire(self) -> u8 {
        match self {
            AbiParam::Scalar(kind) => kind.to_wire(),
            AbiParam::Buffer => Self::BUFFER,
        }
    }

    /// The kind with this number.
    #[must_use]
    pub const fn from_wire(value: u8) -> Option<Self> {
        if value == Self::BUFFER {
            return Some(AbiParam::Buffer);
        }
        match AbiScalarType::from_wire(value) {
            Some(kind) => Some(AbiParam::Scalar(kind)),
            None => None,
        }
    }
}

impl fmt::Display for AbiParam {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AbiParam::Scalar(kind) => f.write_str(&kind.name().to_ascii_lowercase()),
            AbiParam::Buffer => f.write_str("buffer"),
        }
    }
}

/// The parameters and results of an entrypoint, without the log URI that the runtime's convention puts first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct AbiSignature {
    params: Vec<AbiParam>,
    results: Vec<AbiParam>,
}

impl AbiSignature {
    /// A signature.
    #[must_use]
    pub fn new(params: Vec<AbiParam>, results: Vec<AbiParam>) -> Self {
        Self { params, results }
    }

    /// The parameters.
    #[must_use]
    pub fn params(&self) -> &[AbiParam] {
        &self.params
    }

    /// The results.
    #[must_use]
    pub fn results(&self) -> &[AbiParam] {
        &self.results
    }
}

/// A scalar.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum AbiScalarValue {
    /// 8-bit signed integer.
    I8(i8),
    /// 8-bit unsigned integer.
    U8(u8),
    /// 16-bit signed integer.
    I16(i16),
    /// 16-bit unsigned integer.
    U16(u16),
    /// 32-bit signed integer.
    I32(i32),
    /// 32-bit unsigned integer.
    U32(u32),
    /// 64-bit signed integer.
    I64(i64),
    /// 64-bit unsigned integer.
    U64(u64),
    /// 32-bit float.
    F32(f32),
    /// 64-bit float.
    F64(f64),
}

impl AbiScalarValue {
    /// Its type.
    #[must_use]
    pub const fn kind(&self) -> AbiScalarType {
        match self {
            AbiScalarValue::I8(_) => AbiScalarType::I8,
            AbiScalarValue::U8(_) => AbiScalarType::U8,
            AbiScalarValue::I16(_) => AbiScalarType::I16,
            AbiScalarValue::U16(_) => AbiScalarType::U16,
            AbiScalarValue::I32(_) => AbiScalarType::I32,
            AbiScalarValue::U32(_) => AbiScalarType::U32,
            AbiScalarValue::I64(_) => AbiScalarType::I64,
            AbiScalarValue::U64(_) => AbiScalarType::U64,
            AbiScalarValue::F32(_) => AbiScalarType::F32,
            AbiScalarValue::F64(_) => AbiScalarType::F64,
        }
    }

    fn encode(self, out: &mut Vec<u8>) {
        match self {
            AbiScalarValue::I8(v) => out.extend(v.to_be_bytes()),
            AbiScalarValue::U8(v) => out.extend(v.to_be_bytes()),
            AbiScalarValue::I16(v) => out.extend(v.to_be_bytes()),
            AbiScalarValue::U16(v) => out.extend(v.to_be_bytes()),
            AbiScalarValue::I32(v) => out.extend(v.to_be_bytes()),
            AbiScalarValue::U32(v) => out.extend(v.to_be_bytes()),
            AbiScalarValue::I64(v) => out.extend(v.to_be_bytes()),
            AbiScalarValue::U64(v) => out.extend(v.to_be_bytes()),
            AbiScalarValue::F32(v) => out.extend(v.to_be_bytes()),
            AbiScalarValue::F64(v) => out.extend(v.to_be_bytes()),
        }
    }

    fn decode(kind: AbiScalarType, value: &[u8]) -> Option<Self> {
        Some(match kind {
            AbiScalarType::I8 => AbiScalarValue::I8(i8::from_be_bytes(value.try_into().ok()?)),
            AbiScalarType::U8 => AbiScalarValue::U8(u8::from_be_bytes(value.try_into().ok()?)),
            AbiScalarType::I16 => AbiScalarValue::I16(i16::from_be_bytes(value.try_into().ok()?)),
            AbiScalarType::U16 => AbiScalarValue::U16(u16::from_be_bytes(value.try_into().ok()?)),
            AbiScalarType::I32 => AbiScalarValue::I32(i32::from_be_bytes(value.try_into().ok()?)),
            AbiScalarType::U32 => AbiScalarValue::U32(u32::from_be_bytes(value.try_into().ok()?)),
            AbiScalarType::I64 => AbiScalarValue::I64(i64::from_be_bytes(value.try_into().ok()?)),
            AbiScalarType::U64 => AbiScalarValue::U64(u64::from_be_bytes(value.try_into().ok()?)),
            AbiScalarType::F32 => AbiScalarValue::F32(f32::from_be_bytes(value.try_into().ok()?)),
            AbiScalarType::F64 => AbiScalarValue::F64(f64::from_be_bytes(value.try_into().ok()?)),
        })
    }
}

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
        ("parameters", signature.params.len()),
        ("results", signature.results.len()),
        ("arguments", args.len()),
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
    fn capability_names_are_read_as_the_runtime_reads_them() {
        for capability in Capability::ALL {
            assert_eq!(capability.name().parse(), Ok(*capability));
            assert_eq!(
                Capability::from_wire(capability.to_wire()),
                Some(*capability)
            );
        }
        assert_eq!("net-quic-bind".parse(), Ok(Capability::NetQuicBind));
        assert_eq!("channel_reader".parse(), Ok(Capability::ChannelReader));
        assert_eq!(
            "Nonsense".parse::<Capability>(),
            Err(UnknownCapability("Nonsense".into()))
        );
        assert_eq!(Capability::from_wire(20), None);
    }

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
