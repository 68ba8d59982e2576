//! Both state machines in virtual time, over links that misbehave as a seed says.
//!
//! Nothing here reads a clock, opens a socket or starts a thread: one seed is one history, to the byte, on every
//! machine.
//!
//! ```text
//! run       a seed and a world's name in; a report, or a panic that says how to see it again
//!   |
//! world     the server's rules over a fake host, clients, what they do, what must hold
//!   |-- hostile   peers that break the protocol, beside honest ones
//!   |-- cores     the two protocol machines alone: publishing, weights, resets, drain, servers that are replaced
//!   |
//! transport one trait: an ordered stream of bytes in each direction, in virtual time
//!   |-- pipe   byte pipes that split, stall, delay and truncate
//!   `-- quic   two quinn-proto endpoints over a UDP link that loses, reorders, duplicates, limits and partitions
//! ```

pub mod cores;
pub mod hostile;
pub mod link;
pub mod pipe;
pub mod quic;
pub mod rng;
pub mod run;
pub mod trace;
pub mod transport;
pub mod world;
