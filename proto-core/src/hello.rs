//! The hellos: what each side is and what it is willing to hold (PROTOCOL.md, "Hello").

use crate::{
    abi::{Capability, CapabilitySet},
    fields::{FieldError, FieldReader, FieldWriter},
    limits::{Limits, MAX_CHUNK, MAX_ROLE, MAX_SOFTWARE},
};

/// Feature bits: what a side can do beyond version 1's minimum. Unknown bits are ignored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features(pub u64);

impl Features {
    /// The server has a clock: deadlines and times are enforced and reported.
    pub const CLOCK: Features = Features(1);

    /// Whether all bits of `other` are set.
    #[must_use]
    pub const fn contains(self, other: Features) -> bool {
        self.0 & other.0 == other.0
    }
}

/// What the other side is willing to hold, as its hello states it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PeerLimits {
    /// Bytes of the largest message that it accepts.
    pub max_message: usize,
    /// Bytes of all messages that it reassembles at a time.
    pub reassembly: usize,
    /// The connection's first credit, in bytes.
    pub connection_window: u64,
    /// A stream's first credit, in bytes.
    pub stream_window: u64,
}

impl PeerLimits {
    fn of(limits: &Limits) -> Self {
        Self {
            max_message: limits.max_message,
            reassembly: limits.reassembly,
            connection_window: limits.connection_window as u64,
            stream_window: limits.stream_window as u64,
        }
    }

    /// Bytes of the longest request or response that it can take in: one that fits a frame needs no reassembly.
    pub(crate) fn longest_reassembled(&self) -> usize {
        self.reassembly.max(MAX_CHUNK)
    }

    fn encode(&self, fields: &mut FieldWriter) {
        fields
            .uint(10, self.max_message as u64)
            .uint(11, self.reassembly as u64)
            .uint(12, self.connection_window)
            .uint(13, self.stream_window);
    }
}

impl Default for PeerLimits {
    /// What a hello without the fields means: nothing may be sent on streams until credit comes.
    fn default() -> Self {
        Self {
            max_message: 0,
            reassembly: 0,
            connection_window: 0,
            stream_window: 0,
        }
    }
}

/// The client's hello.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClientHello {
    /// 16 unpredictable bytes, new for each connection. The server has no other source of randomness.
    pub nonce: [u8; 16],
    /// 16 unpredictable bytes, kept over reconnects: tokens of changing requests are bound to it.
    pub session: [u8; 16],
    /// Feature bits.
    pub features: Features,
    /// What the client is willing to hold.
    pub limits: PeerLimits,
    /// The client's software, at most [`MAX_SOFTWARE`] bytes.
    pub software: String,
    /// Its version, likewise.
    pub version: String,
}

impl ClientHello {
    /// A hello.
    #[must_use]
    pub fn new(nonce: [u8; 16], session: [u8; 16], limits: &Limits) -> Self {
        Self {
            nonce,
            session,
            features: Features::default(),
            limits: PeerLimits::of(limits),
            software: env!("CARGO_PKG_NAME").to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }

    /// Its fields.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut fields = FieldWriter::new();
        fields
            .must_bytes(1, &self.nonce)
            .must_bytes(2, &self.session)
            .uint(3, self.features.0)
            .text(4, crate::error::clip(&self.software, MAX_SOFTWARE))
            .text(5, crate::error::clip(&self.version, MAX_SOFTWARE));
        self.limits.encode(&mut fields);
        fields.finish()
    }

    /// Reads the fields.
    ///
    /// # Errors
    /// When they are malformed, or the nonce or the session is missing.
    pub fn decode(body: &[u8]) -> Result<Self, FieldError> {
        let mut fields = FieldReader::new(body);
        let mut nonce = None;
        let mut session = None;
        let mut hello = Self {
            nonce: [0; 16],
            session: [0; 16],
            features: Features::default(),
            limits: PeerLimits::default(),
            software: String::new(),
            version: String::new(),
        };
        while let Some(field) = fields.next()? {
            match field.number {
                1 => nonce = Some(field.array()?),
                2 => session = Some(field.array()?),
                3 => hello.features = Features(field.uint()?),
                4 => hello.software = field.text(MAX_SOFTWARE)?.to_owned(),
                5 => hello.version = field.text(MAX_SOFTWARE)?.to_owned(),
                10 => hello.limits.max_message = field.size()?,
                11 => hello.limits.reassembly = field.size()?,
                12 => hello.limits.connection_window = field.uint()?,
                13 => hello.limits.stream_window = field.uint()?,
                _ => field.unknown()?,
            }
        }
        hello.nonce = nonce.ok_or(fields.missing(1))?;
        hello.session = session.ok_or(fields.missing(2))?;
        Ok(hello)
    }
}

/// The server's hello.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerHello {
    /// The running server: every id that it gives out belongs to it. Another value means that the server was
    /// restarted and knows nothing of ids from before.
    pub incarnation: [u8; 16],
    /// Feature bits.
    pub features: Features,
    /// What the server is willing to hold.
    pub limits: PeerLimits,
    /// Requests that may be in flight.
    pub max_requests: usize,
    /// Streams that may be open.
    pub max_streams: usize,
    /// Bytes of the largest request.
    pub max_request: usize,
    /// The server's software, at most [`MAX_SOFTWARE`] bytes.
    pub software: String,
    /// Its version, likewise.
    pub version: String,
    /// The role that this listener gives its clients, at most [`MAX_ROLE`] bytes.
    pub role: String,
    /// The capabilities that the role may pass on.
    pub ceiling: CapabilitySet,
    /// Whether clients are authenticated here.
    pub authenticated: bool,
}

impl ServerHello {
    /// A hello of an unprovisioned server: role `admin`, every capability, no authentication.
    #[must_use]
    pub fn new(incarnation: [u8; 16], limits: &Limits) -> Self {
        Self {
            incarnation,
            features: Features::default(),
            limits: PeerLimits::of(limits),
            max_requests: limits.max_requests,
            max_streams: limits.max_streams,
            max_request: limits.max_request,
            software: "selium-remote-client-server".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            role: "admin".to_owned(),
            ceiling: CapabilitySet::all(),
            authenticated: false,
        }
    }

    /// Its fields.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut fields = FieldWriter::new();
        fields
            .must_bytes(2, &self.incarnation)
            .uint(3, self.features.0)
            .text(4, crate::error::clip(&self.software, MAX_SOFTWARE))
            .text(5, crate::error::clip(&self.version, MAX_SOFTWARE));
        self.limits.encode(&mut fields);
        fields
            .uint(14, self.max_requests as u64)
            .uint(15, self.max_streams as u64)
            .uint(16, self.max_request as u64)
            .text(20, crate::error::clip(&self.role, MAX_ROLE))
            .bytes(21, &self.ceiling.to_wire())
            .uint(22, u64::from(self.authenticated));
        fields.finish()
    }

    /// Reads the fields. Capabilities that this side does not know are left out of the ceiling.
    ///
    /// # Errors
    /// When they are malformed, or the incarnation is missing.
    pub fn decode(body: &[u8]) -> Result<Self, FieldError> {
        let mut fields = FieldReader::new(body);
        let mut incarnation = None;
        let mut hello = Self {
            incarnation: [0; 16],
            features: Features::default(),
            limits: PeerLimits::default(),
            max_requests: 1,
            max_streams: 1,
            max_request: usize::from(u16::MAX),
            software: String::new(),
            version: String::new(),
            role: String::new(),
            ceiling: CapabilitySet::EMPTY,
            authenticated: false,
        };
        while let Some(field) = fields.next()? {
            match field.number {
                2 => incarnation = Some(field.array()?),
                3 => hello.features = Features(field.uint()?),
                4 => hello.software = field.text(MAX_SOFTWARE)?.to_owned(),
                5 => hello.version = field.text(MAX_SOFTWARE)?.to_owned(),
                10 => hello.limits.max_message = field.size()?,
                11 => hello.limits.reassembly = field.size()?,
                12 => hello.limits.connection_window = field.uint()?,
                13 => hello.limits.stream_window = field.uint()?,
                14 => hello.max_requests = field.size()?,
                15 => hello.max_streams = field.size()?,
                16 => hello.max_request = field.size()?,
                20 => hello.role = field.text(MAX_ROLE)?.to_owned(),
                21 => hello.ceiling = known_capabilities(field.bytes(256)?),
                22 => hello.authenticated = field.flag()?,
                _ => field.unknown()?,
            }
        }
        hello.incarnation = incarnation.ok_or(fields.missing(2))?;
        Ok(hello)
    }
}

fn known_capabilities(bytes: &[u8]) -> CapabilitySet {
    bytes
        .iter()
        .filter_map(|byte| Capability::from_wire(*byte))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{envelope::ENVELOPE_HEADER, limits::MAX_ENVELOPE};

    #[test]
    fn hellos_round_trip_and_fit_the_envelope() {
        let mut client = ClientHello::new([1; 16], [2; 16], &Limits::default());
        client.software = "ü".repeat(100);
        let bytes = client.encode();
        assert!(bytes.len() + ENVELOPE_HEADER <= MAX_ENVELOPE);
        client.software = "ü".repeat(32);
        assert_eq!(ClientHello::decode(&bytes), Ok(client));

        let mut server = ServerHello::new([3; 16], &Limits::default());
        server.role = "viewer".repeat(20);
        server.authenticated = true;
        let bytes = server.encode();
        assert!(bytes.len() + ENVELOPE_HEADER <= MAX_ENVELOPE);
        server.role.truncate(MAX_ROLE);
        assert_eq!(ServerHello::decode(&bytes), Ok(server));
    }

    #[test]
    fn what_identifies_a_side_is_needed() {
        assert_eq!(ClientHello::decode(&[]).unwrap_err().number, 1);
        assert_eq!(ServerHello::decode(&[]).unwrap_err().number, 2);
    }
}
