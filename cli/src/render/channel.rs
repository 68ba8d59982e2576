//! Channels as rows, lines and JSON.

use selium_remote_client::{Backpressure, ChannelInfo, ChannelState};
use serde::Serialize;

use super::{
    escape,
    process::{full_id, short_id},
    size,
    table::{pairs, table},
    time,
};

/// The most characters of a cell in the narrow table.
const MAX_CELL: usize = 40;

/// The state in one word.
pub(crate) fn state(state: ChannelState) -> &'static str {
    match state {
        ChannelState::Open => "open",
        ChannelState::Draining => "draining",
        ChannelState::Deleted => "deleted",
        _ => "unknown",
    }
}

/// What becomes of messages without room, in one word.
pub(crate) fn mode(backpressure: Backpressure) -> &'static str {
    match backpressure {
        Backpressure::Park => "park",
        Backpressure::Drop => "drop",
        _ => "unknown",
    }
}

/// The table of `selium channel ls`.
pub(crate) fn narrow(channels: &[ChannelInfo], now_ms: u64) -> Vec<String> {
    let rows: Vec<Vec<String>> = channels
        .iter()
        .map(|channel| {
            vec![
                short_id(channel.id),
                escape::cut(&channel.name, MAX_CELL),
                size::capacity(channel.capacity),
                mode(channel.backpressure).to_owned(),
                state(channel.state).to_owned(),
                channel.lossless.saturating_add(channel.lossy).to_string(),
                channel.publishers.to_string(),
                time::age(channel.created_ms, now_ms),
            ]
        })
        .collect();
    let header = [
        "ID",
        "NAME",
        "CAPACITY",
        "MODE",
        "STATE",
        "SUBSCRIBERS",
        "PUBLISHERS",
        "AGE",
    ];
    table(&header, &rows)
}

/// The table of `selium channel ls -o wide`: everything in full.
pub(crate) fn wide(channels: &[ChannelInfo], now_ms: u64) -> Vec<String> {
    let rows: Vec<Vec<String>> = channels
        .iter()
        .map(|channel| {
            vec![
                full_id(channel.id),
                escape::line(&channel.name).into_owned(),
                size::capacity(channel.capacity),
                mode(channel.backpressure).to_owned(),
                state(channel.state).to_owned(),
                if channel.shared { "yes" } else { "no" }.to_owned(),
                channel.lossless.to_string(),
                channel.lossy.to_string(),
                channel.publishers.to_string(),
                channel.published.to_string(),
                time::age(channel.created_ms, now_ms),
            ]
        })
        .collect();
    let header = [
        "ID",
        "NAME",
        "CAPACITY",
        "MODE",
        "STATE",
        "SHARED",
        "LOSSLESS",
        "LOSSY",
        "PUBLISHERS",
        "PUBLISHED",
        "AGE",
    ];
    table(&header, &rows)
}

/// One channel, a line for each thing known of it.
pub(crate) fn details(channel: &ChannelInfo) -> Vec<String> {
    let created = channel
        .created_ms
        .map_or_else(|| "unknown".to_owned(), time::rfc3339);
    pairs(&[
        ("id", full_id(channel.id)),
        ("name", escape::line(&channel.name).into_owned()),
        ("capacity", format!("{} bytes", channel.capacity)),
        ("mode", mode(channel.backpressure).to_owned()),
        ("state", state(channel.state).to_owned()),
        (
            "shared",
            if channel.shared { "yes" } else { "no" }.to_owned(),
        ),
        ("lossless subscribers", channel.lossless.to_string()),
        ("lossy subscribers", channel.lossy.to_string()),
        ("publishers", channel.publishers.to_string()),
        ("published from outside", channel.published.to_string()),
        ("created", created),
    ])
}

/// A channel in JSON. Ids are strings, because many readers of JSON round numbers past 2^53.
#[derive(Serialize)]
pub(crate) struct Json<'a> {
    id: String,
    name: &'a str,
    capacity: u32,
    mode: &'static str,
    state: &'static str,
    shared: bool,
    lossless_subscribers: u64,
    lossy_subscribers: u64,
    publishers: u64,
    published: u64,
    created_ms: Option<u64>,
}

impl<'a> From<&'a ChannelInfo> for Json<'a> {
    fn from(channel: &'a ChannelInfo) -> Self {
        Self {
            id: full_id(channel.id),
            name: &channel.name,
            capacity: channel.capacity,
            mode: mode(channel.backpressure),
            state: state(channel.state),
            shared: channel.shared,
            lossless_subscribers: channel.lossless,
            lossy_subscribers: channel.lossy,
            publishers: channel.publishers,
            published: channel.published,
            created_ms: channel.created_ms,
        }
    }
}

/// Channels as one JSON array.
pub(crate) fn json(channels: &[ChannelInfo]) -> String {
    let list: Vec<Json<'_>> = channels.iter().map(Json::from).collect();
    escape::json(&list)
}

/// Missing messages as text.
pub(crate) fn gap_text(count: Option<u64>, next: u64) -> String {
    match count {
        Some(count) => format!("{} lost before number {next}", size::messages(count)),
        None => format!("messages lost before number {next} (how many is not known)"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn channel(change: impl FnOnce(&mut ChannelInfo)) -> ChannelInfo {
        let mut channel = ChannelInfo::default();
        channel.id = 0x00c0_ffee_0000_0001;
        channel.name = "prices".into();
        channel.capacity = 65_536;
        channel.lossless = 1;
        channel.lossy = 2;
        channel.publishers = 3;
        channel.published = 4_000;
        channel.created_ms = Some(1_795_337_387_123);
        change(&mut channel);
        channel
    }

    #[test]
    fn the_tables_are_stable() {
        let other = channel(|channel| {
            channel.name = "evil\x1b[2J\n".into();
            channel.capacity = 1_000;
            channel.backpressure = Backpressure::Drop;
            channel.state = ChannelState::Draining;
            channel.shared = true;
            channel.created_ms = None;
        });
        assert_eq!(
            narrow(&[channel(|_| ()), other.clone()], 1_795_337_400_000),
            [
                "ID        NAME             CAPACITY  MODE  STATE     SUBSCRIBERS  PUBLISHERS  AGE",
                "00c0ffee  prices           64KiB     park  open      3            3           12s",
                "00c0ffee  evil\\u{1b}[2J\\n  1000      drop  draining  3            3           -",
            ]
        );
        assert_eq!(
            wide(&[other], 0)[1],
            "00c0ffee00000001  evil\\u{1b}[2J\\n  1000      drop  draining  yes     1         2      3           4000       -"
        );
        assert_eq!(narrow(&[], 0).len(), 1);
    }

    #[test]
    fn json_is_stable_and_ids_are_strings() {
        assert_eq!(
            json(&[channel(|channel| channel.name = "\u{9b}x".into())]),
            r#"[{"id":"00c0ffee00000001","name":"\u009bx","capacity":65536,"mode":"park","state":"open","shared":false,"#
                .to_owned()
                + r#""lossless_subscribers":1,"lossy_subscribers":2,"publishers":3,"published":4000,"#
                + r#""created_ms":1795337387123}]"#
        );
        assert_eq!(json(&[]), "[]");
    }

    #[test]
    fn details_name_what_is_not_known() {
        let shown = details(&channel(|channel| channel.created_ms = None));
        assert_eq!(shown[2], "capacity:               65536 bytes");
        assert_eq!(shown[10], "created:                unknown");
    }

    #[test]
    fn gaps_say_how_many() {
        assert_eq!(gap_text(Some(1), 9), "1 message lost before number 9");
        assert_eq!(gap_text(Some(17), 9), "17 messages lost before number 9");
        assert_eq!(
            gap_text(None, 9),
            "messages lost before number 9 (how many is not known)"
        );
    }
}
