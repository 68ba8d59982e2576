//! The format of a provisioned segment.
//!
//! | bytes | what |
//! | --- | --- |
//! | 0 to 31 | the marker that `install` looks for |
//! | 32, 33 | the version of the format, big-endian: [`VERSION`] |
//! | 34 to 37 | the length of the payload, big-endian |
//! | 38 to 69 | SHA-256 over all other bytes of the segment, the filling included |
//! | 70 and on | the payload |
//! | the rest | filling |
//!
//! These 70 bytes and the checksum mean the same in every version. The payload is tagged fields (PROTOCOL.md, "Fields"),
//! all of them mandatory, so that an older module refuses what it does not understand:
//!
//! | message | fields |
//! | --- | --- |
//! | payload | 1 server's chain, 2 its key, 3 audit key (32 bytes), 4 listener (repeated) |
//! | listener | 1 role, 2 port (integer, missing: that of the arguments), 3 client CAs |
//! | role | 1 name, 2 permissions (integer, a bit each), 3 pattern of modules (repeated), 4 capabilities (a byte each), 5 limits |
//! | limits | integers: 1 connections, 2 hello (ms), 3 requests, 4 streams, 5 queued bytes, 6 processes, 7 starts per minute |
//!
//! # Two states, nothing between
//!
//! The segment is unprovisioned when all its 32,768 bytes are those of [`segment::EMPTY`], which is checked by their
//! hash: no accident to a provisioned segment gives that, because it would have to overwrite the header, the payload
//! and the checksum with the right filling. Everything else must have a right checksum. There is no byte
//! whose change is not noticed. (Who may write the file can put either state there on purpose.)

use selium_remote_client_protocol::{
    Capability, CapabilitySet,
    fields::{Field, FieldError, FieldErrorKind, FieldReader, FieldWriter},
    varint,
};
use selium_remote_server_core::policy::{
    MAX_PATTERN, MAX_PATTERNS, MAX_ROLE_NAME, MAX_ROLES, Permissions, Role, RoleLimits,
};
use sha2::{Digest as _, Sha256};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::{
    AuditKey, KeyPem, Listener, MAX_CA_PEM, MAX_CHAIN_PEM, MAX_KEY_PEM, Provision, provision,
    segment::{self, CAPACITY, FILLING, MARKER_LEN},
};

/// The version of the format that this crate writes and reads.
pub const VERSION: u16 = 1;

const VERSION_AT: usize = MARKER_LEN;
const LENGTH_AT: usize = VERSION_AT + 2;
const SUM_AT: usize = LENGTH_AT + 4;
const PAYLOAD_AT: usize = SUM_AT + 32;

/// The most bytes of a payload.
pub const MAX_PAYLOAD: usize = CAPACITY - PAYLOAD_AT;

/// The SHA-256 of [`segment::EMPTY`]. It is written down because the bytes themselves may stand in a module only once.
const EMPTY_SUM: [u8; 32] = [
    0x08, 0x9e, 0x4f, 0x2c, 0xe0, 0xc6, 0xdd, 0x1c, 0x71, 0xaf, 0x7a, 0x8f, 0xe7, 0x18, 0xd3, 0x4a,
    0x41, 0x42, 0x8c, 0x3b, 0x7b, 0x69, 0xa3, 0xb7, 0x33, 0x89, 0x04, 0xcf, 0x93, 0xa1, 0x77, 0x4f,
];

/// Why a segment or a provision was refused. No text has anything of a key in it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ProvisionError {
    /// The segment is shorter than it was compiled.
    #[error("the segment is cut off: it has {0} bytes of {CAPACITY}")]
    Truncated(usize),
    /// The segment or the payload is longer than fits.
    #[error(
        "the provision has {0} bytes, {1} fit: use fewer or smaller certificates, or fewer patterns"
    )]
    TooLong(usize, usize),
    /// Something in the segment was changed, or only a part of it was written.
    #[error(
        "the checksum is wrong: the module was damaged or changed after it was provisioned; install it again"
    )]
    Checksum,
    /// It was written for another version of the module.
    #[error(
        "the provision has version {0} of its format, this module reads version {VERSION}: install again, with the `selium` of this release"
    )]
    Version(u16),
    /// A field is not what it should be.
    #[error("malformed {0}: {1}")]
    Field(&'static str, FieldError),
    /// A blob or a list is larger than its limit, which is given.
    #[error("{0} is larger than {1}")]
    TooLarge(&'static str, usize),
    /// A blob is not what it should be in PEM.
    #[error("{0} has no PEM of its kind in it")]
    NotPem(&'static str),
    /// There is nothing to listen on.
    #[error("there is no listener")]
    NoListener,
    /// Nobody would be the admin.
    #[error("there is no listener for the role admin")]
    NoAdmin,
    /// A role's name is none.
    #[error(
        "a role's name is not 1 to {MAX_ROLE_NAME} characters of a-z 0-9 -, the first of them a letter"
    )]
    RoleName,
    /// Two listeners have the same role.
    #[error("two listeners have the role {0}")]
    SameRole(String),
    /// Two listeners have the same port.
    #[error("two listeners have the port {0}")]
    SamePort(u16),
    /// A port is zero.
    #[error("the port of the role {0} is 0")]
    PortZero(String),
    /// The admin's listener has a port of its own, or another has none.
    #[error(
        "the role {0}: admin takes the port of the module's arguments, every other role needs its own"
    )]
    AdminPort(String),
    /// A pattern of modules is none.
    #[error(
        "the role {0} has a pattern of modules that is empty, longer than {MAX_PATTERN} bytes, or has control characters"
    )]
    Pattern(String),
    /// A limit is out of range.
    #[error("the limit {0} of the role {1} is out of range")]
    Limit(&'static str, String),
}

/// What a segment is, without looking into the payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// As it was compiled in.
    Unprovisioned,
    /// It has a payload of this version of the format.
    Provisioned(u16),
}

/// The state of a segment.
///
/// # Errors
/// When it has another length or a wrong checksum.
pub fn state(bytes: &[u8]) -> Result<State, ProvisionError> {
    if bytes.len() < CAPACITY {
        return Err(ProvisionError::Truncated(bytes.len()));
    }
    if bytes.len() > CAPACITY {
        return Err(ProvisionError::TooLong(bytes.len(), CAPACITY));
    }
    if Sha256::digest(bytes).as_slice() == EMPTY_SUM {
        return Ok(State::Unprovisioned);
    }
    let header = Header::of(bytes).ok_or(ProvisionError::Truncated(bytes.len()))?;
    if checksum(bytes) != header.sum {
        return Err(ProvisionError::Checksum);
    }
    Ok(State::Provisioned(header.version))
}

/// Reads a segment: `None` when it is unprovisioned.
///
/// # Errors
/// When it is anything but unprovisioned or valid.
pub fn decode(bytes: &[u8]) -> Result<Option<Provision>, ProvisionError> {
    match state(bytes)? {
        State::Unprovisioned => return Ok(None),
        State::Provisioned(VERSION) => {}
        State::Provisioned(other) => return Err(ProvisionError::Version(other)),
    }
    let header = Header::of(bytes).ok_or(ProvisionError::Truncated(bytes.len()))?;
    let payload = bytes.get(PAYLOAD_AT..).unwrap_or_default();
    let payload = payload
        .get(..header.length)
        .ok_or(ProvisionError::TooLong(header.length, MAX_PAYLOAD))?;
    read_payload(payload).map(Some)
}

/// The segment of a provision: [`CAPACITY`] bytes, wiped when they are dropped.
///
/// # Errors
/// When the provision does not fit, or is one that [`Provision::check`] refuses.
pub fn encode(provision: &Provision) -> Result<Zeroizing<Vec<u8>>, ProvisionError> {
    provision.check()?;
    let payload = write_payload(provision);
    sealed(&payload).ok_or(ProvisionError::TooLong(payload.len(), MAX_PAYLOAD))
}

/// The segment of a payload; `None` when it does not fit.
pub(crate) fn sealed(payload: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    if payload.len() > MAX_PAYLOAD {
        return None;
    }
    let length = u32::try_from(payload.len()).ok()?;
    // Room for all of it from the start: a buffer that grows leaves copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(CAPACITY));
    bytes.extend_from_slice(&segment::MARKER);
    bytes.extend_from_slice(&VERSION.to_be_bytes());
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(&[0; 32]);
    bytes.extend_from_slice(payload);
    bytes.resize(CAPACITY, FILLING);
    let sum = checksum(&bytes);
    bytes.get_mut(SUM_AT..PAYLOAD_AT)?.copy_from_slice(&sum);
    Some(bytes)
}

struct Header {
    version: u16,
    length: usize,
    sum: [u8; 32],
}

impl Header {
    fn of(bytes: &[u8]) -> Option<Self> {
        let (version, rest) = bytes.get(VERSION_AT..)?.split_first_chunk()?;
        let (length, rest) = rest.split_first_chunk()?;
        let (sum, _) = rest.split_first_chunk()?;
        Some(Self {
            version: u16::from_be_bytes(*version),
            length: usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX),
            sum: *sum,
        })
    }
}

/// The SHA-256 over everything but the checksum.
fn checksum(bytes: &[u8]) -> [u8; 32] {
    let mut sum = Sha256::new();
    sum.update(bytes.get(..SUM_AT).unwrap_or_default());
    sum.update(bytes.get(PAYLOAD_AT..).unwrap_or_default());
    sum.finalize().into()
}

fn write_payload(provision: &Provision) -> Zeroizing<Vec<u8>> {
    let listeners = provision.listeners.iter().map(write_listener);
    let listeners: Vec<_> = listeners.collect();
    // The key's fields are written by hand, into a buffer that never grows.
    let mut chain = FieldWriter::new();
    chain.must_bytes(1, &provision.server_chain);
    let chain = chain.finish();
    let mut rest = FieldWriter::new();
    for listener in &listeners {
        rest.must_bytes(4, listener);
    }
    let rest = rest.finish();
    let key = provision.server_key.expose();
    let room = chain.len() + key.len() + provision.audit_key.expose().len() + rest.len() + 32;
    let mut payload = Zeroizing::new(Vec::with_capacity(room));
    payload.extend_from_slice(&chain);
    for (number, secret) in [(2u64, key), (3, provision.audit_key.expose())] {
        varint::put(&mut *payload, (number << 1) | 1);
        varint::put(&mut *payload, secret.len() as u64);
        payload.extend_from_slice(secret);
    }
    payload.extend_from_slice(&rest);
    payload
}

fn write_listener(listener: &Listener) -> Vec<u8> {
    let mut out = FieldWriter::new();
    out.must_bytes(1, &write_role(&listener.role));
    if let Some(port) = listener.port {
        out.must_uint(2, port.into());
    }
    out.must_bytes(3, &listener.client_ca);
    out.finish()
}

fn write_role(role: &Role) -> Vec<u8> {
    let mut limits = FieldWriter::new();
    for (number, value) in (1..).zip(provision::values(&role.limits)) {
        limits.must_uint(number, value.into());
    }
    let mut out = FieldWriter::new();
    out.must_text(1, &role.name);
    out.must_uint(2, role.permissions.bits().into());
    for pattern in &role.modules {
        out.must_text(3, pattern);
    }
    out.must_bytes(4, &role.ceiling.to_wire());
    out.must_bytes(5, &limits.finish());
    out.finish()
}

/// Says of which message a field is.
fn of<T>(message: &'static str, result: Result<T, FieldError>) -> Result<T, ProvisionError> {
    result.map_err(|error| ProvisionError::Field(message, error))
}

fn read_payload(payload: &[u8]) -> Result<Provision, ProvisionError> {
    const WHAT: &str = "provision";
    let (mut chain, mut key, mut audit) = (None, None, None);
    let mut listeners = Vec::new();
    let mut fields = FieldReader::new(payload);
    while let Some(field) = of(WHAT, fields.next())? {
        match field.number {
            1 => chain = Some(of(WHAT, field.bytes(MAX_CHAIN_PEM))?.to_vec()),
            2 => key = Some(KeyPem::new(of(WHAT, field.bytes(MAX_KEY_PEM))?.to_vec())),
            3 => audit = Some(AuditKey::new(of(WHAT, field.array())?)),
            4 if listeners.len() < MAX_ROLES => {
                listeners.push(read_listener(of(WHAT, field.item(MAX_PAYLOAD))?)?);
            }
            4 => return Err(ProvisionError::TooLarge("the list of listeners", MAX_ROLES)),
            _ => of(WHAT, field.unknown())?,
        }
    }
    let provision = Provision {
        server_chain: of(WHAT, chain.ok_or(fields.missing(1)))?,
        server_key: of(WHAT, key.ok_or(fields.missing(2)))?,
        audit_key: of(WHAT, audit.ok_or(fields.missing(3)))?,
        listeners,
    };
    provision.check()?;
    Ok(provision)
}

fn read_listener(body: &[u8]) -> Result<Listener, ProvisionError> {
    const WHAT: &str = "listener";
    let (mut role, mut port, mut client_ca) = (None, None, None);
    let mut fields = FieldReader::new(body);
    while let Some(field) = of(WHAT, fields.next())? {
        match field.number {
            1 => role = Some(read_role(of(WHAT, field.bytes(MAX_PAYLOAD))?)?),
            2 => port = Some(of(WHAT, number(&field))?),
            3 => client_ca = Some(of(WHAT, field.bytes(MAX_CA_PEM))?.to_vec()),
            _ => of(WHAT, field.unknown())?,
        }
    }
    Ok(Listener {
        role: of(WHAT, role.ok_or(fields.missing(1)))?,
        port,
        client_ca: of(WHAT, client_ca.ok_or(fields.missing(3)))?,
    })
}

fn read_role(body: &[u8]) -> Result<Role, ProvisionError> {
    const WHAT: &str = "role";
    let (mut name, mut permissions, mut ceiling, mut limits) = (None, None, None, None);
    let mut modules = Vec::new();
    let mut fields = FieldReader::new(body);
    while let Some(field) = of(WHAT, fields.next())? {
        match field.number {
            1 => name = Some(of(WHAT, field.text(MAX_ROLE_NAME))?),
            2 => {
                let known = Permissions::from_bits(of(WHAT, number(&field))?);
                permissions = Some(of(WHAT, known.ok_or(field.error(FieldErrorKind::Value)))?);
            }
            3 if modules.len() < MAX_PATTERNS => modules.push(of(WHAT, pattern(&field))?),
            3 => {
                return Err(ProvisionError::TooLarge(
                    "a role's list of modules",
                    MAX_PATTERNS,
                ));
            }
            4 => ceiling = Some(of(WHAT, capabilities(&field))?),
            5 => limits = Some(read_limits(of(WHAT, field.bytes(MAX_PAYLOAD))?)?),
            _ => of(WHAT, field.unknown())?,
        }
    }
    let mut role = Role::new(of(WHAT, name.ok_or(fields.missing(1)))?);
    role.permissions = of(WHAT, permissions.ok_or(fields.missing(2)))?;
    role.modules = modules;
    role.ceiling = of(WHAT, ceiling.ok_or(fields.missing(4)))?;
    role.limits = of(WHAT, limits.ok_or(fields.missing(5)))?;
    Ok(role)
}

fn read_limits(body: &[u8]) -> Result<RoleLimits, ProvisionError> {
    const WHAT: &str = "limits";
    let mut values = [None; provision::LIMITS.len()];
    let mut fields = FieldReader::new(body);
    while let Some(field) = of(WHAT, fields.next())? {
        let at = usize::try_from(field.number).ok();
        let place = at.and_then(|at| values.get_mut(at.checked_sub(1)?));
        match place {
            Some(place) => *place = Some(of(WHAT, number(&field))?),
            None => of(WHAT, field.unknown())?,
        }
    }
    let mut all = [0; provision::LIMITS.len()];
    for ((place, value), at) in all.iter_mut().zip(values).zip(1..) {
        *place = of(WHAT, value.ok_or(fields.missing(at)))?;
    }
    Ok(provision::limits_of(all))
}

/// An integer that fits its type.
fn number<T: TryFrom<u64>>(field: &Field<'_>) -> Result<T, FieldError> {
    T::try_from(field.uint()?).map_err(|_| field.error(FieldErrorKind::Integer))
}

fn pattern(field: &Field<'_>) -> Result<String, FieldError> {
    let text = core::str::from_utf8(field.item(MAX_PATTERN)?);
    let text = text.map_err(|_| field.error(FieldErrorKind::Utf8))?;
    Ok(text.to_owned())
}

fn capabilities(field: &Field<'_>) -> Result<CapabilitySet, FieldError> {
    let known = field.bytes(Capability::ALL.len())?.iter();
    let known = known.map(|byte| Capability::from_wire(*byte));
    let set: Option<CapabilitySet> = known.collect();
    set.ok_or(field.error(FieldErrorKind::Value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_of_the_empty_segment_is_written_down_right() {
        assert_eq!(<[u8; 32]>::from(Sha256::digest(segment::EMPTY)), EMPTY_SUM);
        assert_eq!(decode(&segment::EMPTY), Ok(None));
    }
}
