//! What the server says of itself.

use std::net::SocketAddr;

use selium_remote_client_protocol::{
    CapabilitySet,
    hello::{Features, ServerHello},
};

/// What the server said of itself when the connection was made (PROTOCOL.md, "Hello").
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Server {
    /// Where it is.
    pub address: SocketAddr,
    /// Its software.
    pub software: String,
    /// Its version.
    pub version: String,
    /// The role that its listener gives this client.
    pub role: String,
    /// The capabilities that the role may pass on to processes.
    pub ceiling: CapabilitySet,
    /// Whether it authenticates its clients. When it does not, whoever reaches its port can do what this client can.
    pub authenticated: bool,
    /// Which run of the server this is: ids of processes belong to it. Another value means that the server was
    /// restarted and knows nothing of ids from before.
    pub incarnation: [u8; 16],
    /// Whether it has a clock: without one it enforces no deadlines and reports no times.
    pub has_clock: bool,
}

impl Server {
    pub(crate) fn new(address: SocketAddr, hello: ServerHello) -> Self {
        Self {
            address,
            has_clock: hello.features.contains(Features::CLOCK),
            software: hello.software,
            version: hello.version,
            role: hello.role,
            ceiling: hello.ceiling,
            authenticated: hello.authenticated,
            incarnation: hello.incarnation,
        }
    }
}
