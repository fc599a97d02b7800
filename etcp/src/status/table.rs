//! The table of `etcp status`: the answers of the proxies, for people.

use std::fmt::Write;
use std::time::{Duration, SystemTime};

use eternaltcp::clean;
use eternaltcp::control::{EndedServer, ProcessStatus};
use eternaltcp::report::{bytes, counted, duration};
use eternaltcp::status::{
    CarrierStatus, Loss, Peer, SessionStage, SessionStatus, TunnelCondition, TunnelStatus,
};

use super::pager::cut;
use super::rates::{ByteRate, Rates};

/// The maximum number of sessions of a tunnel, and of forwards, that are listed unless all are
/// requested.
const LISTED: usize = 20;

/// Renders all proxies, as of `now`.
pub(super) fn render(
    processes: &[ProcessStatus],
    now: SystemTime,
    all: bool,
    rates: Option<&Rates>,
) -> String {
    let mut page = Page { text: String::new(), now, rates };
    for (number, process) in processes.iter().enumerate() {
        if number > 0 {
            page.line(0, "");
        }
        page.process(process, all);
    }
    page.text
}

struct Page<'a> {
    text: String,
    now: SystemTime,
    rates: Option<&'a Rates>,
}

impl Page<'_> {
    /// Adds a line. Part of it may come from a peer, so it is cleaned for the terminal.
    fn line(&mut self, indent: usize, line: &str) {
        let _ = writeln!(self.text, "{:indent$}{}", "", clean(line).trim_end());
    }

    fn since(&self, at: SystemTime) -> String {
        duration(self.now.duration_since(at).unwrap_or_default())
    }

    fn process(&mut self, process: &ProcessStatus, all: bool) {
        // A cproxy may have only listeners at its server.
        let does = match (process.listen.join(", "), &process.about) {
            (_, Some(about)) => about.clone(),
            (none, None) if none.is_empty() => "running".to_owned(),
            (listen, None) => format!("listening on {listen}"),
        };
        let draining = if process.is_draining { ", being drained" } else { "" };
        let since = self.since(process.started_at);
        let of = process.user.as_ref().map_or_else(String::new, |user| format!(" of {user}"));
        let head = format!("{} {}{of}", process.role, process.process);
        self.line(0, &format!("{head}: {does} for {since}{draining}"));
        self.restarts(process);
        self.forwards(process, all);
        if process.tunnels.is_empty() && process.ended.is_empty() {
            self.line(2, "no tunnels");
        }
        for EndedServer { server, why, ended_at } in &process.ended {
            let ago = self.since(*ended_at);
            self.line(2, &format!("no tunnel to {server}: ended for good {ago} ago: {why}"));
        }
        for tunnel in &process.tunnels {
            self.tunnel(process, tunnel, all);
        }
    }

    fn forwards(&mut self, process: &ProcessStatus, all: bool) {
        let listed = if all { usize::MAX } else { LISTED };
        for forward in process.forwards.iter().take(listed) {
            let place = match (forward.is_remote, &forward.server) {
                (false, _) => String::new(),
                (true, None) => "at the server ".to_owned(),
                (true, Some(server)) => format!("at {server} "),
            };
            let through = match (&forward.server, forward.is_remote) {
                (Some(server), false) => format!(" through {server}"),
                _ => String::new(),
            };
            let (listen, target) = (&forward.listen, &forward.target);
            self.line(2, &format!("forward {place}{listen} to {target}{through}"));
        }
        if let more @ 1.. = process.forwards.len().saturating_sub(listed) {
            let more = counted(more, "more forward", "more forwards");
            self.line(2, &format!("and {more} (--all lists them)"));
        }
    }

    fn restarts(&mut self, process: &ProcessStatus) {
        let Some(last) = &process.last_restart else { return };
        let restarts = usize::try_from(process.restarts).unwrap_or(usize::MAX);
        let count = counted(restarts, "restart", "restarts");
        let ago = self.since(last.restarted_at);
        self.line(2, &format!("{count}, the last {ago} ago: {}", last.cause));
    }

    fn tunnel(&mut self, process: &ProcessStatus, tunnel: &TunnelStatus, all: bool) {
        let name =
            tunnel.tunnel.as_ref().map_or("new tunnel".to_owned(), |id| format!("tunnel {id}"));
        let state = self.state(tunnel);
        match &tunnel.peer {
            Peer::Server(server) => {
                let node = match (&server.node, server.leaving) {
                    (None, false) => String::new(),
                    (None, true) => ", leaving it".to_owned(),
                    (Some(node), false) => format!(", node {node}"),
                    (Some(node), true) => format!(", leaving node {node}"),
                };
                let to = match &server.name {
                    Some(name) => format!("{name} ({})", server.address),
                    None => server.address.clone(),
                };
                self.line(2, &format!("{name} to {to}{node}: {state}"));
            }
            Peer::Client(client) => {
                self.line(2, &format!("{name} of {:?} from {}: {state}", client.name, client.from));
                // A name is a comment, which several keys may have.
                let name = client.key_name.as_ref();
                let key = name.map_or(client.key.clone(), |name| format!("{name}, {}", client.key));
                let machine = cut(&client.machine, 9);
                self.line(4, &format!("client     {key}, user {}, machine {machine}", client.user));
            }
        }
        if let Some(carrier) = &tunnel.carrier {
            self.line(4, &format!("path       {}", path(carrier)));
        }
        if let Some(spare) = &tunnel.standby {
            self.line(4, &format!("spare      {}", path(spare)));
        }
        self.line(4, &format!("carriers   {}", carriers(tunnel)));
        if let Some(loss) = &tunnel.last_loss {
            let line = self.loss(loss);
            self.line(4, &format!("last loss  {line}"));
        }
        let rate = self.rates.and_then(|rates| rates.of_tunnel(process, tunnel));
        self.line(4, &format!("data       {}", data(tunnel, rate)));
        self.sessions(process, tunnel, all);
    }

    fn state(&self, tunnel: &TunnelStatus) -> String {
        let since = self.since(tunnel.state_since_at);
        let why = tunnel.why.as_ref().map_or_else(String::new, |why| format!(": {why}"));
        let waits = match (tunnel.state, &tunnel.peer) {
            (TunnelCondition::Detached, Peer::Server(_)) => "waiting for the server",
            (TunnelCondition::Detached, Peer::Client(_)) => "waiting for its client",
            (TunnelCondition::Attaching, _) => "waiting for the server's answer",
            (TunnelCondition::Attached, _) => "attached",
            (TunnelCondition::Doubted, _) => "doubted, attached",
            (TunnelCondition::Closing, _) => return format!("closing{why}"),
        };
        format!("{waits} for {since}{why}")
    }

    fn loss(&self, loss: &Loss) -> String {
        let ago = self.since(loss.lost_at);
        let outage = match loss.outage {
            None => "not back yet".to_owned(),
            Some(outage) => {
                format!("back after {}, {} replayed", duration(outage), bytes(loss.replayed_bytes))
            }
        };
        format!("{ago} ago, {}: {}; {outage}", loss.kind, loss.why)
    }

    fn sessions(&mut self, process: &ProcessStatus, tunnel: &TunnelStatus, all: bool) {
        let sessions = &tunnel.sessions;
        if sessions.is_empty() {
            return self.line(4, "no sessions");
        }
        let listed = listed(sessions, all);
        let mut rows = vec![HEAD.map(str::to_owned)];
        rows.extend(listed.iter().map(|session| {
            let rate = self.rates.and_then(|rates| rates.of_session(process, tunnel, session));
            self.row(session, rate)
        }));
        let widths: Vec<_> = (0..HEAD.len())
            .map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0))
            .collect();
        for row in &rows {
            let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
            self.line(4, &cells.collect::<Vec<_>>().join("  "));
        }
        if let hidden @ 1.. = sessions.len() - listed.len() {
            let more = counted(hidden, "more session", "more sessions");
            self.line(4, &format!("and {more} (--all lists them)"));
        }
    }

    fn row(&self, session: &SessionStatus, rate: Option<ByteRate>) -> [String; 8] {
        let stage = match session.stage {
            SessionStage::Open => String::new(),
            stage => format!("({stage})"),
        };
        [
            session.session.to_string(),
            session.from.clone().unwrap_or_else(|| "the peer".to_owned()),
            session.target.clone(),
            self.since(session.opened_at),
            with_rate(session.sent_bytes, rate.map(|rate| rate.sent)),
            with_rate(session.received_bytes, rate.map(|rate| rate.received)),
            format!("{} out, {} in", bytes(session.queued_bytes), bytes(session.undelivered_bytes)),
            stage,
        ]
    }
}

const HEAD: [&str; 8] = ["SESSION", "FROM", "TARGET", "FOR", "SENT", "RECEIVED", "QUEUED", ""];

/// Returns the sessions to show: if there are many, those that hold and move most.
fn listed(sessions: &[SessionStatus], all: bool) -> Vec<&SessionStatus> {
    let mut listed: Vec<_> = sessions.iter().collect();
    if !all && listed.len() > LISTED {
        listed.sort_by_key(|session| {
            let held = session.queued_bytes + session.undelivered_bytes;
            std::cmp::Reverse((held, session.sent_bytes + session.received_bytes))
        });
        listed.truncate(LISTED);
        listed.sort_by_key(|session| session.session);
    }
    listed
}

fn path(carrier: &CarrierStatus) -> String {
    let mut line = format!("{} to {}", carrier.local, carrier.peer);
    if let Some(interface) = &carrier.interface {
        line += &format!(" via {interface}");
    }
    if let Some(round_trip) = carrier.round_trip {
        line += &format!(", round trip {}", short(round_trip));
    }
    if let Some(deviation) = carrier.deviation {
        line += &format!(" ± {}", short(deviation));
    }
    if carrier.joined > 0 {
        line += &format!(", with {} more beside it", carrier.joined);
    }
    if carrier.quiet {
        line += ", quiet";
    }
    if let Some(silent) = carrier.silent.filter(|silent| *silent > Duration::from_secs(2)) {
        line += &format!(", silent for {}", duration(silent));
    }
    line
}

fn carriers(tunnel: &TunnelStatus) -> String {
    let mut line = format!("{} so far", tunnel.carriers);
    if let Peer::Server(server) = &tunnel.peer {
        line += &format!(
            ", {}, {}, of them {}",
            counted(server.dials, "dial", "dials"),
            counted(server.doubts, "doubt", "doubts"),
            counted(server.false_alarms, "false alarm", "false alarms")
        );
        // A proxy of an older version reports only its path.
        if let (Some(spare), None) = (&server.spare, &tunnel.standby) {
            line += &format!("; a spare stands by over {spare}");
        }
    }
    line
}

fn data(tunnel: &TunnelStatus, rate: Option<ByteRate>) -> String {
    format!(
        "{} sent, {} received, {} queued out, {} queued in, {} replayed",
        with_rate(tunnel.sent_bytes, rate.map(|rate| rate.sent)),
        with_rate(tunnel.received_bytes, rate.map(|rate| rate.received)),
        bytes(tunnel.queued_bytes),
        bytes(tunnel.undelivered_bytes),
        bytes(tunnel.replayed_bytes)
    )
}

/// Formats a count of bytes with its rate: `12 MB (1.2 MB/s)`.
fn with_rate(count: u64, rate: Option<u64>) -> String {
    match rate {
        Some(rate) => format!("{} ({}/s)", bytes(count), bytes(rate)),
        None => bytes(count),
    }
}

/// Formats a round trip: `0.21 ms`, `23 ms`, `1.2 s`.
fn short(time: Duration) -> String {
    let millis = time.as_secs_f64() * 1000.0;
    match millis {
        ..10.0 => format!("{millis:.2} ms"),
        ..1000.0 => format!("{millis:.0} ms"),
        _ => format!("{:.1} s", millis / 1000.0),
    }
}

#[cfg(test)]
pub(super) mod samples;

#[cfg(test)]
mod tests;
