//! `selium info`.

use std::time::Duration;

use selium_remote_client::{Client, ServerInfo};
use serde::Serialize;

use crate::args::{Format, InfoArgs};
use crate::failure::{Action, Failure};
use crate::render::{escape, table::pairs, time};
use crate::session::Session;

/// What is shown, as JSON names it.
#[derive(Debug, Serialize)]
struct Info {
    endpoint: String,
    address: String,
    software: String,
    version: String,
    role: String,
    authenticated: bool,
    /// Capabilities that this client may pass on.
    ceiling: Vec<&'static str>,
    incarnation: String,
    clock: bool,
    uptime_ms: Option<u64>,
    connections: u64,
    processes: u64,
    streams: u64,
    log_hubs: u64,
    log_bytes: u64,
    starts: u64,
    zombies: u64,
    held_bytes: u64,
    suppressed_records: u64,
    orphans: u64,
}

/// Shows what the server is and how it fares.
pub(super) async fn run(session: &Session, args: InfoArgs) -> Result<(), Failure> {
    let client = session.connect().await?;
    let counters = client.info().await.map_err(Failure::client(Action::Info))?;
    let info = Info::new(session.endpoint(), &client, &counters);
    match session.format(args.output) {
        Format::Text => session.lines(info.text()).await,
        Format::Json => session.json(&info).await,
    }
}

impl Info {
    fn new(endpoint: String, client: &Client, counters: &ServerInfo) -> Self {
        let server = client.server();
        Self {
            endpoint,
            address: server.address.to_string(),
            software: server.software.clone(),
            version: server.version.clone(),
            role: server.role.clone(),
            authenticated: server.authenticated,
            ceiling: server
                .ceiling
                .iter()
                .map(|capability| capability.name())
                .collect(),
            incarnation: escape::hex(&server.incarnation, usize::MAX),
            clock: server.has_clock,
            uptime_ms: counters.uptime_ms,
            connections: counters.connections,
            processes: counters.processes,
            streams: counters.streams,
            log_hubs: counters.hubs,
            log_bytes: counters.ring_bytes,
            starts: counters.starts,
            zombies: counters.zombies,
            held_bytes: counters.held_bytes,
            suppressed_records: counters.suppressed_records,
            orphans: counters.orphans,
        }
    }

    fn text(&self) -> Vec<String> {
        let text = |text: &str| escape::line(text).into_owned();
        let yes_no = |yes: bool| if yes { "yes" } else { "no" }.to_owned();
        let ceiling = match self.ceiling.as_slice() {
            [] => "none".to_owned(),
            names => names.join(","),
        };
        pairs(&[
            ("endpoint", text(&self.endpoint)),
            ("address", self.address.clone()),
            ("software", text(&self.software)),
            ("version", text(&self.version)),
            ("role", text(&self.role)),
            ("authenticates clients", yes_no(self.authenticated)),
            ("may grant", ceiling),
            ("incarnation", self.incarnation.clone()),
            ("clock", yes_no(self.clock)),
            (
                "uptime",
                self.uptime_ms.map_or_else(
                    || "unknown".to_owned(),
                    |ms| time::short(Duration::from_millis(ms)),
                ),
            ),
            ("connections", self.connections.to_string()),
            ("processes", self.processes.to_string()),
            ("streams", self.streams.to_string()),
            ("log hubs", self.log_hubs.to_string()),
            ("log bytes", self.log_bytes.to_string()),
            ("starts under way", self.starts.to_string()),
            ("closed, client not gone", self.zombies.to_string()),
            ("bytes held", self.held_bytes.to_string()),
            (
                "suppressed log records",
                self.suppressed_records.to_string(),
            ),
            ("orphaned operations", self.orphans.to_string()),
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_stable() {
        let info = Info {
            endpoint: "localhost:7000".into(),
            address: "127.0.0.1:7000".into(),
            software: "server\x1b".into(),
            version: "1.0.0".into(),
            role: "admin".into(),
            authenticated: false,
            ceiling: vec!["TimeRead"],
            incarnation: "00ff".into(),
            clock: true,
            uptime_ms: Some(200_000),
            connections: 1,
            processes: 2,
            streams: 3,
            log_hubs: 4,
            log_bytes: 5,
            starts: 6,
            zombies: 7,
            held_bytes: 8,
            suppressed_records: 9,
            orphans: 10,
        };
        let text = info.text();
        assert_eq!(text[2], "software:                server\\u{1b}");
        assert_eq!(text[5], "authenticates clients:   no");
        assert_eq!(text[9], "uptime:                  3m");
        assert_eq!(
            escape::json(&info),
            r#"{"endpoint":"localhost:7000","address":"127.0.0.1:7000","software":"server\u001b","version":"1.0.0","role":"admin","#.to_owned()
                + r#""authenticated":false,"ceiling":["TimeRead"],"incarnation":"00ff","clock":true,"uptime_ms":200000,"#
                + r#""connections":1,"processes":2,"streams":3,"log_hubs":4,"log_bytes":5,"starts":6,"#
                + r#""zombies":7,"held_bytes":8,"suppressed_records":9,"orphans":10}"#
        );
    }
}
