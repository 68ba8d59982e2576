//! How both ends are set up.

use core::time::Duration;

use quinn_proto::{IdleTimeout, TransportConfig, VarInt};

/// How one end is set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndSettings {
    /// Bytes of the stream that may be received and not read.
    pub stream_receive_window: u32,
    /// The same for the connection; without a limit when `None`.
    pub receive_window: Option<u32>,
    /// Bytes that are written and not acknowledged.
    pub send_window: u64,
    /// How often a sign of life is sent.
    pub keep_alive: Option<Duration>,
    /// After how long without one the connection is lost; never when `None`.
    pub idle_timeout: Option<Duration>,
    /// How many streams the other end may open.
    pub streams: u32,
}

impl EndSettings {
    /// What the client's dialling sets (`transport-quinn`).
    #[must_use]
    pub const fn client() -> Self {
        Self {
            stream_receive_window: 1024 * 1024,
            receive_window: Some(1024 * 1024),
            send_window: 256 * 1024,
            keep_alive: Some(Duration::from_secs(5)),
            idle_timeout: Some(Duration::from_secs(30)),
            streams: 0,
        }
    }

    /// What the runtime sets: nothing, so that these are `quinn`'s defaults.
    #[must_use]
    pub const fn server() -> Self {
        Self {
            stream_receive_window: 1_250_000,
            receive_window: None,
            send_window: 10_000_000,
            keep_alive: None,
            idle_timeout: Some(Duration::from_secs(30)),
            streams: 100,
        }
    }

    pub(super) fn transport(&self) -> TransportConfig {
        let mut transport = TransportConfig::default();
        let receive_window = self.receive_window.map_or(VarInt::MAX, VarInt::from_u32);
        let idle = |timeout| IdleTimeout::try_from(timeout).ok();
        transport
            .stream_receive_window(VarInt::from_u32(self.stream_receive_window))
            .receive_window(receive_window)
            .send_window(self.send_window)
            .keep_alive_interval(self.keep_alive)
            .max_idle_timeout(self.idle_timeout.and_then(idle))
            .max_concurrent_bidi_streams(VarInt::from_u32(self.streams))
            .max_concurrent_uni_streams(VarInt::from_u32(self.streams))
            .datagram_receive_buffer_size(None);
        transport
    }
}

/// How a link is set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The client's end.
    pub client: EndSettings,
    /// The server's end.
    pub server: EndSettings,
    /// How fine timers are. A timer is late, never early.
    pub timer: Duration,
}

impl Default for Settings {
    /// As the real drivers do it: [`EndSettings::client`], [`EndSettings::server`], and `tokio`'s timers of 1 ms.
    fn default() -> Self {
        Self {
            client: EndSettings::client(),
            server: EndSettings::server(),
            timer: Duration::from_millis(1),
        }
    }
}
