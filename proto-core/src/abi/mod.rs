//! What a start names: capabilities, types and arguments, as the runtime's ABI knows them (PROTOCOL.md, "Types").
//!
//! The numbers are those of the runtime's ABI, 1.0.0-alpha.6; `server-module` holds a test against the ABI crate.

use core::fmt;

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

mod argument;
mod capability;
mod scalar;

pub use self::{
    argument::{ArgumentError, EntrypointArg, check_arguments},
    capability::{Capability, CapabilitySet, UnknownCapability},
    scalar::{AbiScalarType, AbiScalarValue},
};

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
