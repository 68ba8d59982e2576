//! Arguments of an entrypoint, from `TYPE:VALUE` on the command line to the runtime's ABI.

use std::fmt;

use clap::ValueEnum;
use selium_remote_client::{AbiParam, AbiScalarType, AbiScalarValue, AbiSignature, EntrypointArg};

use selium_remote_client_protocol::limits::MAX_TARGET;

use crate::render::escape::quoted;

/// A type as the command line names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ParamKind {
    /// 8-bit signed integer.
    I8,
    /// 8-bit unsigned integer.
    U8,
    /// 16-bit signed integer.
    I16,
    /// 16-bit unsigned integer.
    U16,
    /// 32-bit signed integer.
    I32,
    /// 32-bit unsigned integer.
    U32,
    /// 64-bit signed integer.
    I64,
    /// 64-bit unsigned integer.
    U64,
    /// 32-bit float.
    F32,
    /// 64-bit float.
    F64,
    /// Bytes.
    #[value(aliases = ["bytes", "byte", "data"])]
    Buffer,
    /// Text.
    #[value(aliases = ["utf-8", "string", "str", "text"])]
    Utf8,
    /// A resource of the server.
    #[value(alias = "handle")]
    Resource,
    /// A channel, as a number to attach to.
    Channel,
    /// A channel, as a handle.
    ChannelHandle,
}

impl fmt::Display for ParamKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::I8 => "i8",
            Self::U8 => "u8",
            Self::I16 => "i16",
            Self::U16 => "u16",
            Self::I32 => "i32",
            Self::U32 => "u32",
            Self::I64 => "i64",
            Self::U64 => "u64",
            Self::F32 => "f32",
            Self::F64 => "f64",
            Self::Buffer => "buffer",
            Self::Utf8 => "utf8",
            Self::Resource => "resource",
            Self::Channel => "channel",
            Self::ChannelHandle => "channel-handle",
        })
    }
}

impl ParamKind {
    fn abi(self) -> AbiParam {
        AbiParam::Scalar(match self {
            Self::I8 => AbiScalarType::I8,
            Self::U8 => AbiScalarType::U8,
            Self::I16 => AbiScalarType::I16,
            Self::U16 => AbiScalarType::U16,
            Self::I32 | Self::ChannelHandle => AbiScalarType::I32,
            Self::U32 => AbiScalarType::U32,
            Self::I64 => AbiScalarType::I64,
            Self::U64 | Self::Resource | Self::Channel => AbiScalarType::U64,
            Self::F32 => AbiScalarType::F32,
            Self::F64 => AbiScalarType::F64,
            Self::Buffer | Self::Utf8 => return AbiParam::Buffer,
        })
    }

    /// What a value of this type looks like.
    fn expectation(self) -> String {
        let integer = |min: &dyn fmt::Display, max: &dyn fmt::Display| {
            format!("an integer from {min} to {max}")
        };
        match self {
            Self::I8 => integer(&i8::MIN, &i8::MAX),
            Self::U8 => integer(&u8::MIN, &u8::MAX),
            Self::I16 => integer(&i16::MIN, &i16::MAX),
            Self::U16 => integer(&u16::MIN, &u16::MAX),
            Self::I32 => integer(&i32::MIN, &i32::MAX),
            Self::U32 => integer(&u32::MIN, &u32::MAX),
            Self::I64 => integer(&i64::MIN, &i64::MAX),
            Self::U64 => integer(&u64::MIN, &u64::MAX),
            Self::F32 | Self::F64 => "a number".to_owned(),
            Self::Buffer => "text, or hex: and pairs of hexadecimal digits".to_owned(),
            Self::Utf8 => "text".to_owned(),
            Self::Resource => "a resource id, an integer".to_owned(),
            Self::Channel | Self::ChannelHandle => format!(
                "the id, a unique prefix of it or the name of a channel, of at most {MAX_TARGET} bytes"
            ),
        }
    }

    fn parse(self, value: &str) -> Option<Value> {
        let scalar = match self {
            Self::I8 => AbiScalarValue::I8(value.parse().ok()?),
            Self::U8 => AbiScalarValue::U8(value.parse().ok()?),
            Self::I16 => AbiScalarValue::I16(value.parse().ok()?),
            Self::U16 => AbiScalarValue::U16(value.parse().ok()?),
            Self::I32 => AbiScalarValue::I32(value.parse().ok()?),
            Self::U32 => AbiScalarValue::U32(value.parse().ok()?),
            Self::I64 => AbiScalarValue::I64(value.parse().ok()?),
            Self::U64 => AbiScalarValue::U64(value.parse().ok()?),
            Self::F32 => AbiScalarValue::F32(value.parse().ok()?),
            Self::F64 => AbiScalarValue::F64(value.parse().ok()?),
            Self::Buffer => {
                let bytes = match value.strip_prefix("hex:") {
                    Some(digits) => decode_hex(digits)?,
                    None => value.as_bytes().to_vec(),
                };
                return Some(Value::Known(EntrypointArg::Buffer(bytes)));
            }
            Self::Utf8 => {
                return Some(Value::Known(EntrypointArg::Buffer(
                    value.as_bytes().to_vec(),
                )));
            }
            Self::Resource => {
                return value
                    .parse()
                    .ok()
                    .map(|id| Value::Known(EntrypointArg::Resource(id)));
            }
            Self::Channel | Self::ChannelHandle => {
                return (1..=MAX_TARGET)
                    .contains(&value.len())
                    .then(|| Value::Channel {
                        target: value.to_owned(),
                        is_handle: self == Self::ChannelHandle,
                    });
            }
        };
        Some(Value::Known(EntrypointArg::Scalar(scalar)))
    }
}

/// The value of an argument.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    /// As it stands on the command line.
    Known(EntrypointArg),
    /// A channel, whose id the server knows.
    Channel {
        /// Its id, a prefix of it, or its name.
        target: String,
        /// Whether the process is given the channel itself, or a number to attach to.
        is_handle: bool,
    },
}

impl Value {
    /// The argument; for a channel, one that counts as much.
    pub(crate) fn stand_in(&self) -> EntrypointArg {
        match self {
            Self::Known(arg) => arg.clone(),
            Self::Channel { .. } => EntrypointArg::Resource(0),
        }
    }
}

/// Bytes from pairs of hexadecimal digits; `0x` in front, blanks and `_` between are skipped.
fn decode_hex(text: &str) -> Option<Vec<u8>> {
    let text = text.strip_prefix("0x").unwrap_or(text);
    let digits: Vec<u8> = text
        .chars()
        .filter(|c| !c.is_ascii_whitespace() && *c != '_')
        .map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
        .collect::<Option<_>>()?;
    digits
        .chunks(2)
        .map(|pair| match pair {
            [high, low] => Some(high << 4 | low),
            _ => None,
        })
        .collect()
}

/// Splits `TYPE:VALUE`; the whole is a value without a type if what stands before the colon is no type.
fn split(raw: &str) -> (Option<ParamKind>, &str) {
    if let Some((label, value)) = raw.split_once(':')
        && let Ok(kind) = ParamKind::from_str(label, true)
    {
        return (Some(kind), value);
    }
    (None, raw)
}

/// The signature and the arguments that go with it.
///
/// # Errors
/// A sentence that names the argument's position, its value and what was expected.
pub(crate) fn resolve(
    params: &[ParamKind],
    results: &[ParamKind],
    raw: &[String],
) -> Result<(AbiSignature, Vec<Value>), String> {
    let mut kinds = Vec::with_capacity(raw.len());
    let mut args = Vec::with_capacity(raw.len());
    for (index, raw) in raw.iter().enumerate() {
        let position = index + 1;
        let (own, value) = split(raw);
        let kind = match (params.get(index).copied(), own) {
            (Some(param), Some(own)) if param != own => {
                return Err(format!(
                    "argument {position} {} is of type {own}, --param says {param} for it",
                    quoted(raw)
                ));
            }
            (Some(kind), _) => kind,
            (None, Some(kind)) if params.is_empty() => kind,
            (None, None) if params.is_empty() => {
                return Err(format!(
                    "argument {position} {} has no type: write TYPE:VALUE (for example utf8:hello), or name the types \
                     with --param",
                    quoted(raw)
                ));
            }
            (None, _) => {
                return Err(format!(
                    "argument {position} {} is one too many: --param names {} {}",
                    quoted(raw),
                    params.len(),
                    if params.len() == 1 {
                        "parameter"
                    } else {
                        "parameters"
                    },
                ));
            }
        };
        let arg = kind.parse(value).ok_or_else(|| {
            format!(
                "argument {position} {} is no {kind}: expected {}",
                quoted(raw),
                kind.expectation()
            )
        })?;
        kinds.push(kind);
        args.push(arg);
    }
    if let Some(missing) = params.get(raw.len()) {
        return Err(format!(
            "argument {} is missing: --param says {missing} for it, expected {}",
            raw.len() + 1,
            missing.expectation()
        ));
    }
    let abi = |kinds: &[ParamKind]| kinds.iter().map(|kind| kind.abi()).collect();
    Ok((AbiSignature::new(abi(&kinds), abi(results)), args))
}

#[cfg(test)]
mod tests {
    use super::*;
    use AbiScalarValue as Scalars;
    use EntrypointArg::{Buffer, Resource, Scalar};

    fn values(params: &[ParamKind], raw: &[&str]) -> Result<Vec<Value>, String> {
        let raw: Vec<String> = raw.iter().map(|raw| (*raw).to_owned()).collect();
        resolve(params, &[], &raw).map(|(_, values)| values)
    }

    fn args(params: &[ParamKind], raw: &[&str]) -> Result<Vec<EntrypointArg>, String> {
        values(params, raw).map(|values| values.iter().map(Value::stand_in).collect())
    }

    #[test]
    fn channels_are_named() {
        let channel = |target: &str, is_handle| Value::Channel {
            target: target.to_owned(),
            is_handle,
        };
        let raw = ["channel:a:b", "CHANNEL-HANDLE:0123", "u8:1"];
        let expected = [
            channel("a:b", false),
            channel("0123", true),
            Value::Known(Scalar(Scalars::U8(1))),
        ];
        assert_eq!(values(&[], &raw).unwrap(), expected);
        let params = [ParamKind::Channel, ParamKind::ChannelHandle];
        assert_eq!(
            values(&params, &["jobs", "channel-handle:jobs"]).unwrap(),
            [channel("jobs", false), channel("jobs", true)]
        );
        let raw = ["channel:jobs".to_owned(), "channel-handle:jobs".to_owned()];
        let (signature, _) = resolve(&[], &[], &raw).unwrap();
        let kinds = [AbiScalarType::U64, AbiScalarType::I32];
        assert_eq!(signature.params(), kinds.map(AbiParam::Scalar));
        let long = format!("channel:{}", "x".repeat(129));
        for raw in ["channel:", "channel-handle:", &long] {
            let error = values(&[], &[raw]).unwrap_err();
            assert!(
                error.ends_with("of a channel, of at most 128 bytes"),
                "{error}"
            );
        }
        let error = values(&[ParamKind::Channel], &["channel-handle:x"]).unwrap_err();
        assert!(error.contains("is of type channel-handle, --param says channel"));
    }

    #[test]
    fn types_are_inferred() {
        let raw = [
            "i8:-128",
            "u8:255",
            "i16:-1",
            "u16:7000",
            "i32:-5",
            "U32:1",
            "i64:-1",
            "u64:18446744073709551615",
            "f32:1.5",
            "f64:-2e3",
        ];
        let expected = [
            Scalars::I8(-128),
            Scalars::U8(255),
            Scalars::I16(-1),
            Scalars::U16(7_000),
            Scalars::I32(-5),
            Scalars::U32(1),
            Scalars::I64(-1),
            Scalars::U64(u64::MAX),
            Scalars::F32(1.5),
            Scalars::F64(-2_000.0),
        ];
        assert_eq!(args(&[], &raw).unwrap(), expected.map(Scalar));
    }

    #[test]
    fn bytes_text_and_resources_are_read_under_all_names() {
        for raw in [
            "utf8:a:b",
            "utf-8:a:b",
            "string:a:b",
            "str:a:b",
            "text:a:b",
            "buffer:a:b",
            "bytes:a:b",
            "data:a:b",
        ] {
            assert_eq!(
                args(&[], &[raw]).unwrap(),
                [Buffer(b"a:b".to_vec())],
                "{raw}"
            );
        }
        for raw in ["buffer:hex:0aFF", "byte:hex:0x0a_ff", "bytes:hex:0a ff"] {
            assert_eq!(
                args(&[], &[raw]).unwrap(),
                [Buffer(vec![0x0a, 0xff])],
                "{raw}"
            );
        }
        assert_eq!(
            args(&[], &["utf8:hex:0a"]).unwrap(),
            [Buffer(b"hex:0a".to_vec())]
        );
        assert_eq!(
            args(&[], &["buffer:hex:", "utf8:"]).unwrap(),
            [Buffer(vec![]), Buffer(vec![])]
        );
        assert_eq!(
            args(&[], &["resource:7", "handle:8"]).unwrap(),
            [Resource(7), Resource(8)]
        );
    }

    #[test]
    fn params_give_types_to_values() {
        let params = [ParamKind::I32, ParamKind::Utf8, ParamKind::Buffer];
        assert_eq!(
            args(&params, &["-5", "note: x", "buffer:hex:00"]).unwrap(),
            [
                Scalar(Scalars::I32(-5)),
                Buffer(b"note: x".to_vec()),
                Buffer(vec![0])
            ]
        );
    }

    #[test]
    fn the_signature_follows() {
        let raw = ["resource:1".to_owned(), "utf8:x".to_owned()];
        let (signature, _) = resolve(&[], &[ParamKind::I32], &raw).unwrap();
        assert_eq!(
            signature.params(),
            [AbiParam::Scalar(AbiScalarType::U64), AbiParam::Buffer]
        );
        assert_eq!(signature.results(), [AbiParam::Scalar(AbiScalarType::I32)]);
    }

    #[test]
    fn errors_name_position_value_and_expectation() {
        let error = |params: &[ParamKind], raw: &[&str]| args(params, raw).unwrap_err();
        assert_eq!(
            error(&[], &["utf8:x", "u8:300"]),
            "argument 2 `u8:300` is no u8: expected an integer from 0 to 255"
        );
        assert_eq!(
            error(&[], &["hello"]),
            "argument 1 `hello` has no type: write TYPE:VALUE (for example utf8:hello), or name the types with --param"
        );
        assert_eq!(
            error(&[ParamKind::I32], &["utf8:x"]),
            "argument 1 `utf8:x` is of type utf8, --param says i32 for it"
        );
        assert_eq!(
            error(&[ParamKind::I32], &["1", "2"]),
            "argument 2 `2` is one too many: --param names 1 parameter"
        );
        assert_eq!(
            error(&[ParamKind::I32, ParamKind::U8], &["1"]),
            "argument 2 is missing: --param says u8 for it, expected an integer from 0 to 255"
        );
        for raw in ["buffer:hex:0", "buffer:hex:0g", "buffer:hex:ä"] {
            assert!(
                error(&[], &[raw])
                    .ends_with("expected text, or hex: and pairs of hexadecimal digits"),
                "{raw}"
            );
        }
        for raw in [
            "i8:128",
            "u64:-1",
            "f32:x",
            "resource:x",
            "u8:",
            "resource:1.5",
        ] {
            assert!(error(&[], &[raw]).contains("is no "), "{raw}");
        }
    }

    #[test]
    fn errors_stay_short() {
        let raw = format!("u8:{}\x1b", "9".repeat(100_000));
        let error = args(&[], &[&raw]).unwrap_err();
        assert!(
            error.chars().count() < 140 && !error.contains('\x1b'),
            "{error}"
        );
    }
}
