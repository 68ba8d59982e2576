//! Numbers as the runtime passes them.

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

    pub(super) fn encode(self, out: &mut Vec<u8>) {
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

    pub(super) fn decode(kind: AbiScalarType, value: &[u8]) -> Option<Self> {
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
