//! The hostcalls that this crate uses, each with its argument and reply type.
//!
//! A hostcall is an import module with the three functions `create`, `poll` and `drop`. The attribute that names the import module takes
//! only a literal, so the names stand here a second time; a test compares them with `selium_abi`, and the types are checked by
//! the compiler against the ABI's own descriptors.

#![cfg_attr(target_arch = "wasm32", allow(unsafe_code))]

use selium_abi::{
    ChannelCreate, GuestResourceId, GuestUint, IoFrame, IoRead, IoWrite, NetAccept, NetAcceptReply,
    NetCreateListener, NetCreateListenerReply, NetTlsConfigReply, NetTlsServerConfig,
    ProcessLogLookup, ProcessLogRegistration, ProcessStart, TimeNow, TimeSleep, decode_rkyv,
    encode_rkyv,
};

use super::{
    error::HostError,
    io::{self, Read, Write},
    sys::Call,
};
use crate::channel::Frame;

/// One hostcall: its import functions and its types.
pub(crate) trait Op: 'static {
    /// The argument, encoded with rkyv.
    type In<'a>;
    /// The reply, decoded with bytecheck (the host is trusted, but a version mismatch must not become undefined behaviour).
    type Out;
    /// The three imported functions.
    const CALL: Call;
    /// Encodes the argument, at the end of `args`, which is empty.
    fn encode(input: &Self::In<'_>, args: &mut Vec<u8>) -> Result<(), HostError>;
    /// Decodes the reply.
    fn decode(bytes: &[u8]) -> Result<Self::Out, HostError>;
}

macro_rules! hostcalls {
    ($( $op:ident = $import:ident, $descriptor:ident, $name:literal: $input:tt => $output:tt; )+) => {
        $(
            pub(crate) enum $op {}

            #[cfg(target_arch = "wasm32")]
            mod $import {
                #[link(wasm_import_module = $name)]
                unsafe extern "C" {
                    pub(super) fn create(args: *const u8, len: u32) -> u32;
                    pub(super) fn poll(handle: u32, task: u32, result: *mut u8, capacity: u32) -> u32;
                    pub(super) fn drop(handle: u32, result: *mut u8, capacity: u32) -> u32;
                }
            }

            impl Op for $op {
                hostcalls!(@types $input => $output);

                #[cfg(target_arch = "wasm32")]
                const CALL: Call = Call { create: $import::create, poll: $import::poll, drop: $import::drop };
                #[cfg(not(target_arch = "wasm32"))]
                const CALL: Call = Call { name: $name };
            }

            const _: &selium_abi::Hostcall<$input, $output> = &selium_abi::hostcalls::$descriptor;
        )+

        #[cfg(test)]
        #[test]
        fn names_match_the_abi() {
            $( assert_eq!($name, selium_abi::hostcalls::$descriptor.name()); )+
        }
    };
    (@types IoRead => IoFrame) => {
        type In<'a> = Read;
        type Out = Frame;

        fn encode(input: &Read, args: &mut Vec<u8>) -> Result<(), HostError> {
            io::encode_read(input, args);
            Ok(())
        }

        fn decode(bytes: &[u8]) -> Result<Frame, HostError> {
            io::decode_frame(bytes)
        }
    };
    (@types IoWrite => $output:ident) => {
        type In<'a> = Write<'a>;
        type Out = $output;

        fn encode(input: &Write<'_>, args: &mut Vec<u8>) -> Result<(), HostError> {
            io::encode_write(input, args)
        }

        hostcalls!(@decode $output);
    };
    (@types $input:tt => $output:tt) => {
        type In<'a> = $input;
        type Out = $output;

        fn encode(input: &$input, args: &mut Vec<u8>) -> Result<(), HostError> {
            *args = encode_rkyv(input).map_err(|_| HostError::Malformed("argument"))?;
            Ok(())
        }

        hostcalls!(@decode $output);
    };
    (@decode $output:tt) => {
        fn decode(bytes: &[u8]) -> Result<$output, HostError> {
            decode_rkyv(bytes).map_err(|_| HostError::Malformed("reply"))
        }
    };
}

hostcalls! {
    QuicBind = quic_bind, NET_QUIC_BIND, "selium::net::quic::bind": NetCreateListener => NetCreateListenerReply;
    QuicAccept = quic_accept, NET_QUIC_ACCEPT, "selium::net::quic::accept": NetAccept => NetAcceptReply;
    QuicRead = quic_read, NET_QUIC_READ, "selium::net::quic::read": IoRead => IoFrame;
    QuicWrite = quic_write, NET_QUIC_WRITE, "selium::net::quic::write": IoWrite => GuestUint;
    TlsServerConfig = tls_server_config, NET_TLS_SERVER_CONFIG_CREATE, "selium::net::tls::server_config_create": NetTlsServerConfig => NetTlsConfigReply;
    ChannelNew = channel_create, CHANNEL_CREATE, "selium::channel::create": ChannelCreate => GuestUint;
    ChannelDelete = channel_delete, CHANNEL_DELETE, "selium::channel::delete": GuestUint => ();
    ChannelDrain = channel_drain, CHANNEL_DRAIN, "selium::channel::drain": u32 => ();
    ChannelShare = channel_share, CHANNEL_SHARE, "selium::channel::share": GuestUint => GuestResourceId;
    ChannelAttach = channel_attach, CHANNEL_ATTACH, "selium::channel::attach": GuestResourceId => GuestUint;
    ChannelDetach = channel_detach, CHANNEL_DETACH, "selium::channel::detach": GuestUint => ();
    StrongReaderNew = strong_reader_create, CHANNEL_STRONG_READER_CREATE, "selium::channel::strong_reader_create": GuestUint => GuestUint;
    WeakReaderNew = weak_reader_create, CHANNEL_WEAK_READER_CREATE, "selium::channel::weak_reader_create": GuestUint => GuestUint;
    StrongRead = strong_read, CHANNEL_STRONG_READ, "selium::channel::strong_read": IoRead => IoFrame;
    WeakRead = weak_read, CHANNEL_WEAK_READ, "selium::channel::weak_read": IoRead => IoFrame;
    StrongWriterNew = strong_writer_create, CHANNEL_STRONG_WRITER_CREATE, "selium::channel::strong_writer_create": GuestUint => GuestUint;
    WeakWriterNew = weak_writer_create, CHANNEL_WEAK_WRITER_CREATE, "selium::channel::weak_writer_create": GuestUint => GuestUint;
    StrongWrite = strong_write, CHANNEL_STRONG_WRITE, "selium::channel::strong_write": IoWrite => GuestUint;
    WeakWrite = weak_write, CHANNEL_WEAK_WRITE, "selium::channel::weak_write": IoWrite => GuestUint;
    ProcessStartCall = process_start, PROCESS_START, "selium::process::start": ProcessStart => GuestResourceId;
    ProcessStopCall = process_stop, PROCESS_STOP, "selium::process::stop": GuestResourceId => ();
    ProcessLogChannel = process_log_channel, PROCESS_LOG_CHANNEL, "selium::process::log_channel": ProcessLogLookup => GuestResourceId;
    ProcessRegisterLog = process_register_log, PROCESS_REGISTER_LOG, "selium::process::register_log_channel": ProcessLogRegistration => ();
    TimeNowCall = time_now, TIME_NOW, "selium::time::now": () => TimeNow;
    TimeSleepCall = time_sleep, TIME_SLEEP, "selium::time::sleep": TimeSleep => ();
}
