//! Publications that ended too early.

use std::{error::Error, fmt, ops::Range, sync::Arc};

use crate::{ChannelId, ClientError};

/// A publication ended before every message was acknowledged, or does not go on.
///
/// What was acknowledged is in the channel (or was handed over to one that drops). Of the others nobody knows.
#[derive(Debug)]
#[non_exhaustive]
pub struct PublicationFailure {
    /// The channel.
    pub channel: ChannelId,
    /// The channel's name.
    pub name: String,
    /// The number of the last message that was acknowledged.
    pub acknowledged: Option<u64>,
    /// The numbers of the messages whose outcome is unknown. [`Publisher::unacknowledged`](crate::Publisher::unacknowledged) has the messages.
    pub unknown: Range<u64>,
    /// Why it ended, or does not go on: [`ClientError::Remote`], [`ClientError::NewIncarnation`],
    /// [`ClientError::OutcomeUnknown`], or, when there is no connection any more, [`ClientError::Closed`] or
    /// [`ClientError::GaveUp`].
    pub cause: Arc<ClientError>,
}

impl fmt::Display for PublicationFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "publishing to `{}` ended: {}", self.name, self.cause)?;
        let Range { start, end } = self.unknown;
        match end.saturating_sub(start) {
            0 => f.write_str("; every message was acknowledged"),
            1 => write!(
                f,
                "; outcome unknown of message {start}: it may have been published"
            ),
            _ => write!(
                f,
                "; outcome unknown of messages {start} to {}: they may have been published",
                end.saturating_sub(1)
            ),
        }
    }
}

impl Error for PublicationFailure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.cause.source()
    }
}
