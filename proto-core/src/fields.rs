//! Tagged fields: the encoding of every body that may grow over the years (PROTOCOL.md, "Fields").
//!
//! A field is a key (varint: number times two, plus one when the field is mandatory), a length (varint) and a value.
//! Fields stand in ascending order of their numbers; a repeated field has its number several times in a row. A reader
//! skips optional fields that it does not know and refuses mandatory ones.
//!
//! Value encodings: an *integer* is big-endian without leading zero bytes (zero is empty, at most eight bytes); *text*
//! is UTF-8; *bytes* are themselves; a *message* is fields again.

use bytes::BufMut;
use thiserror::Error;

use crate::varint;

/// Why a body of fields was refused, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
#[error("field {number} at byte {at}: {kind}")]
pub struct FieldError {
    /// The offset of the field in the body, in bytes.
    pub at: usize,
    /// The field's number; 0 when it could not be read.
    pub number: u64,
    /// What is wrong with it.
    pub kind: FieldErrorKind,
}

/// What is wrong with a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum FieldErrorKind {
    /// The body ends inside the field.
    #[error("the body ends inside it")]
    Truncated,
    /// Its number is smaller than that of the field before it.
    #[error("it stands out of order")]
    OutOfOrder,
    /// It may stand once and stands again.
    #[error("it stands twice")]
    Duplicate,
    /// It is mandatory and unknown here.
    #[error("it is mandatory and not known here")]
    UnknownMandatory,
    /// It is not there although it has to be.
    #[error("it is missing")]
    Missing,
    /// An integer has more than eight bytes, a leading zero byte, or a value that is not allowed.
    #[error("it is not a valid integer")]
    Integer,
    /// A text is not UTF-8.
    #[error("it is not UTF-8")]
    Utf8,
    /// A value has another length than its type has.
    #[error("its value has a wrong length")]
    Length,
    /// A value names something that does not exist here.
    #[error("its value is not known here")]
    Value,
    /// A value is longer than its limit in bytes (or items), which is given.
    #[error("it is longer than {0}")]
    TooLong(usize),
}

/// One field as it was read.
#[derive(Clone, Copy, Debug)]
pub struct Field<'a> {
    /// Its number.
    pub number: u64,
    /// Whether its reader must know it.
    pub mandatory: bool,
    /// Its value.
    pub value: &'a [u8],
    at: usize,
    again: bool,
}

impl<'a> Field<'a> {
    /// An error of this field.
    #[must_use]
    pub fn error(&self, kind: FieldErrorKind) -> FieldError {
        FieldError {
            at: self.at,
            number: self.number,
            kind,
        }
    }

    fn once(&self) -> Result<(), FieldError> {
        if self.again {
            return Err(self.error(FieldErrorKind::Duplicate));
        }
        Ok(())
    }

    /// The value as bytes of a field that may stand once.
    ///
    /// # Errors
    /// When the field stands again or is longer than `limit` bytes.
    pub fn bytes(&self, limit: usize) -> Result<&'a [u8], FieldError> {
        self.once()?;
        self.item(limit)
    }

    /// The value as bytes of a field that may stand several times.
    ///
    /// # Errors
    /// When it is longer than `limit` bytes.
    pub fn item(&self, limit: usize) -> Result<&'a [u8], FieldError> {
        if self.value.len() > limit {
            return Err(self.error(FieldErrorKind::TooLong(limit)));
        }
        Ok(self.value)
    }

    /// The value as exactly `N` bytes.
    ///
    /// # Errors
    /// When the field stands again or has another length.
    pub fn array<const N: usize>(&self) -> Result<[u8; N], FieldError> {
        self.once()?;
        self.value
            .try_into()
            .map_err(|_| self.error(FieldErrorKind::Length))
    }

    /// The value as text.
    ///
    /// # Errors
    /// When the field stands again, is longer than `limit` bytes, or is not UTF-8.
    pub fn text(&self, limit: usize) -> Result<&'a str, FieldError> {
        core::str::from_utf8(self.bytes(limit)?).map_err(|_| self.error(FieldErrorKind::Utf8))
    }

    /// The value as an integer.
    ///
    /// # Errors
    /// When the field stands again, or is longer than eight bytes or than needed.
    pub fn uint(&self) -> Result<u64, FieldError> {
        self.once()?;
        if self.value.len() > 8 || self.value.first() == Some(&0) {
            return Err(self.error(FieldErrorKind::Integer));
        }
        Ok(self
            .value
            .iter()
            .fold(0, |value, byte| (value << 8) | u64::from(*byte)))
    }

    /// The value as an integer that fits `usize` on every platform (32 bits); larger values count as `u32::MAX`.
    ///
    /// # Errors
    /// As [`Field::uint`].
    pub fn size(&self) -> Result<usize, FieldError> {
        Ok(self.uint()?.min(u64::from(u32::MAX)) as usize)
    }

    /// The value as a flag: 0 or 1.
    ///
    /// # Errors
    /// As [`Field::uint`], and for other values.
    pub fn flag(&self) -> Result<bool, FieldError> {
        match self.uint()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(self.error(FieldErrorKind::Integer)),
        }
    }

    /// What a reader does with a number that it does not know: skip it, or refuse it when it is mandatory.
    ///
    /// # Errors
    /// When the field is mandatory.
    pub fn unknown(&self) -> Result<(), FieldError> {
        if self.mandatory {
            return Err(self.error(FieldErrorKind::UnknownMandatory));
        }
        Ok(())
    }
}

/// Reads fields one after another. Allocates nothing.
#[derive(Clone, Debug)]
pub struct FieldReader<'a> {
    body: &'a [u8],
    at: usize,
    last: Option<u64>,
}

impl<'a> FieldReader<'a> {
    /// A reader at the start of `body`.
    #[must_use]
    pub fn new(body: &'a [u8]) -> Self {
        Self {
            body,
            at: 0,
            last: None,
        }
    }

    /// The next field, or `None` at the end.
    ///
    /// # Errors
    /// When the body ends inside a field or a field stands out of order.
    #[allow(clippy::should_implement_trait)] // It returns `Result<Option<_>>`, which `?` reads better than an iterator.
    pub fn next(&mut self) -> Result<Option<Field<'a>>, FieldError> {
        let at = self.at;
        let truncated = |number| FieldError {
            at,
            number,
            kind: FieldErrorKind::Truncated,
        };
        let rest = self.body.get(at..).unwrap_or_default();
        if rest.is_empty() {
            return Ok(None);
        }
        let (key, key_len) = varint::get(rest).ok_or(truncated(0))?;
        let number = key >> 1;
        let rest = rest.get(key_len..).unwrap_or_default();
        let (len, len_len) = varint::get(rest).ok_or(truncated(number))?;
        let rest = rest.get(len_len..).unwrap_or_default();
        let value = usize::try_from(len)
            .ok()
            .and_then(|len| rest.get(..len))
            .ok_or(truncated(number))?;
        let field = Field {
            number,
            mandatory: key & 1 == 1,
            value,
            at,
            again: self.last == Some(number),
        };
        if self.last.is_some_and(|last| last > number) {
            return Err(field.error(FieldErrorKind::OutOfOrder));
        }
        self.last = Some(number);
        self.at = at + key_len + len_len + value.len();
        Ok(Some(field))
    }

    /// The error for a field that is not there although it has to be.
    #[must_use]
    pub fn missing(&self, number: u64) -> FieldError {
        FieldError {
            at: self.at,
            number,
            kind: FieldErrorKind::Missing,
        }
    }
}

/// Writes fields. The caller writes them in ascending order of their numbers.
#[derive(Clone, Debug, Default)]
pub struct FieldWriter {
    out: Vec<u8>,
    last: u64,
}

impl FieldWriter {
    /// An empty body.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The body.
    #[must_use]
    pub fn finish(self) -> Vec<u8> {
        self.out
    }

    fn field(&mut self, number: u64, mandatory: bool, value: &[u8]) -> &mut Self {
        debug_assert!(
            number >= self.last,
            "fields are written in ascending order: {number} after {}",
            self.last
        );
        self.last = number;
        varint::put(&mut self.out, (number << 1) | u64::from(mandatory));
        varint::put(&mut self.out, value.len() as u64);
        self.out.put_slice(value);
        self
    }

    /// An optional field of bytes.
    pub fn bytes(&mut self, number: u64, value: &[u8]) -> &mut Self {
        self.field(number, false, value)
    }

    /// A mandatory field of bytes.
    pub fn must_bytes(&mut self, number: u64, value: &[u8]) -> &mut Self {
        self.field(number, true, value)
    }

    /// An optional field of text.
    pub fn text(&mut self, number: u64, value: &str) -> &mut Self {
        self.field(number, false, value.as_bytes())
    }

    /// A mandatory field of text.
    pub fn must_text(&mut self, number: u64, value: &str) -> &mut Self {
        self.field(number, true, value.as_bytes())
    }

    /// An optional integer.
    pub fn uint(&mut self, number: u64, value: u64) -> &mut Self {
        let bytes = value.to_be_bytes();
        self.field(number, false, significant(&bytes))
    }

    /// A mandatory integer.
    pub fn must_uint(&mut self, number: u64, value: u64) -> &mut Self {
        let bytes = value.to_be_bytes();
        self.field(number, true, significant(&bytes))
    }
}

/// `bytes` without its leading zeros.
fn significant(bytes: &[u8]) -> &[u8] {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    bytes.get(zeros..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn integers_have_one_form() {
        for (value, bytes) in [
            (0u64, &[][..]),
            (1, &[1]),
            (256, &[1, 0]),
            (u64::MAX, &[0xff; 8]),
        ] {
            let mut writer = FieldWriter::new();
            writer.uint(1, value);
            let body = writer.finish();
            assert_eq!(&body[2..], bytes);
            let field = FieldReader::new(&body).next().unwrap().unwrap();
            assert_eq!(field.uint(), Ok(value));
        }
        let field = FieldReader::new(&[2, 1, 0]).next().unwrap().unwrap();
        assert_eq!(field.uint().unwrap_err().kind, FieldErrorKind::Integer);
        let long = [2, 9, 1, 1, 1, 1, 1, 1, 1, 1, 1];
        let field = FieldReader::new(&long).next().unwrap().unwrap();
        assert_eq!(field.uint().unwrap_err().kind, FieldErrorKind::Integer);
    }

    #[test]
    fn order_and_repetition_are_checked() {
        let mut reader = FieldReader::new(&[4, 0, 2, 0]);
        assert!(reader.next().is_ok());
        let err = reader.next().unwrap_err();
        assert_eq!((err.at, err.kind), (2, FieldErrorKind::OutOfOrder));

        let mut reader = FieldReader::new(&[2, 0, 2, 0]);
        assert!(reader.next().unwrap().unwrap().uint().is_ok());
        let again = reader.next().unwrap().unwrap();
        assert_eq!(again.uint().unwrap_err().kind, FieldErrorKind::Duplicate);
        assert!(again.item(0).is_ok());
    }

    #[test]
    fn unknown_optional_is_skipped_and_mandatory_refused() {
        let optional = FieldReader::new(&[200, 100, 0, 0]).next();
        assert!(optional.is_err(), "a truncated key is an error");
        let field = FieldReader::new(&[62, 1, 7]).next().unwrap().unwrap();
        assert_eq!(field.unknown(), Ok(()));
        let field = FieldReader::new(&[63, 1, 7]).next().unwrap().unwrap();
        assert_eq!(
            field.unknown().unwrap_err().kind,
            FieldErrorKind::UnknownMandatory
        );
    }

    proptest! {
        #[test]
        fn any_input_is_read_without_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut reader = FieldReader::new(&body);
            let mut read = 0usize;
            while let Ok(Some(field)) = reader.next() {
                read += field.value.len();
                let _ = (field.uint(), field.text(10), field.flag(), field.unknown());
            }
            prop_assert!(read <= body.len());
        }
    }
}
