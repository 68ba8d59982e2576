//! Two real `quinn-proto` endpoints over a UDP path, in virtual time.
//!
//! ```text
//! client: Connection, one stream --packets--> Path (delay, loss, rate, cuts ...) --packets--> server: Connection
//! ```
//!
//! There is no socket and no clock in it: packets are carried in [`udp`], and the instants that `quinn-proto` wants
//! are one origin plus the virtual time. Everything that decides about the time or size of a packet comes from the
//! dice: both endpoints' random numbers, the connection ids, the path. Random remain the contents of the TLS handshake
//! and its keys, and with them the bytes of every packet, but not their lengths: the certificate has a fixed serial
//! number and an Ed25519 key, the key exchange is X25519, and there is no resumption.

mod pair;
mod settings;
mod tls;
pub mod udp;

pub use self::{
    pair::Quic,
    settings::{EndSettings, Settings},
    udp::{Bursts, Counts, Cut, Profile, Way},
};
