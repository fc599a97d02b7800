//! The event log of a client's carriers: log lines and statistics.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use eternaltcp_proto::{Closing, Occasion, Refusal, Stats, Suspicion, Time, Tunnel};
use tracing::{debug, info};

use super::ClientLabel;
use super::dialing::Started;
use super::path::NetworkPath;
use super::statistics::Statistics;
use crate::driver::{CarrierEnd, CarrierIo, EndKind};
use crate::metrics::{ProcessCounters, TunnelMeter};
use crate::report::{bytes, counted, duration};
use crate::spans;
use crate::status::{EventKind, Publisher, TunnelEvent};

/// Logs and counts.
#[derive(Debug, Default)]
pub(super) struct EventLog {
    statistics: Arc<Mutex<Statistics>>,
    counts: Arc<ProcessCounters>,
    meter: TunnelMeter,
    /// The current carrier's path.
    path: Option<NetworkPath>,
    /// The time since which the carrier is unusable, and how it ended.
    paused: Option<(Time, EndKind)>,
    /// The time since which there is no carrier.
    lost: Option<Time>,
    /// Whether there was a carrier.
    was_attached: bool,
    /// The time since which the doubted carrier is silent, once that was logged.
    doubted: Option<Time>,
    /// The logged reason of that doubt, and its text.
    why: Option<Suspicion>,
    doubt: String,
    /// The server, for events.
    server: EventServer,
    publisher: Publisher,
}

/// A server as its events name it.
#[derive(Debug, Default)]
struct EventServer {
    name: Option<String>,
    addresses: String,
}

impl EventLog {
    /// Creates the log of a client with these servers.
    pub(super) fn new(addresses: String, label: &ClientLabel) -> Self {
        let server = EventServer { name: label.name().map(str::to_owned), addresses };
        let (publisher, counts) = (Publisher::new(label.events().clone()), label.counts());
        Self { server, publisher, counts: Arc::clone(counts), ..Self::default() }
    }

    /// Returns why the carrier is doubted, once that was logged.
    pub(super) fn doubt(&self) -> Option<&str> {
        self.doubted.map(|_| self.doubt.as_str())
    }

    /// Returns the statistics.
    pub(super) fn statistics(&self) -> Arc<Mutex<Statistics>> {
        Arc::clone(&self.statistics)
    }

    /// Adds what the tunnel has done to the counters.
    pub(super) fn note_stats(&mut self, stats: &Stats) {
        self.meter.note(&self.counts, stats);
    }

    /// Returns why the last carrier ended.
    fn last_why(&self) -> String {
        let statistics = self.statistics.lock().unwrap_or_else(PoisonError::into_inner);
        statistics.last_loss.as_ref().map_or_else(String::new, |loss| loss.why.clone())
    }

    /// Counts a pause that is over. Before the first carrier there is none.
    fn count_pause(&mut self, now: Time, pause: Option<Duration>) {
        let lost = self.lost.take();
        if std::mem::replace(&mut self.was_attached, true) {
            lost.iter().for_each(|since| self.counts.count_outage(now.since(*since)));
            pause.iter().for_each(|length| self.counts.count_pause(*length));
        }
    }

    fn note_loss(&self, end: EndKind, why: String) {
        self.counts.count_end(end);
        self.count(|statistics| statistics.note_loss(end, why));
    }

    fn count(&self, count: impl FnOnce(&mut Statistics)) {
        count(&mut self.statistics.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Logs the start of a dial.
    pub(super) fn handle_dial(&mut self, now: Time, started: &Started, tunnel: &Tunnel) {
        let Started { occasion, others } = started;
        self.counts.count_dial();
        self.count(|statistics| statistics.dials += 1);
        let Occasion::Suspicion(why) = occasion else {
            debug!("dialling: {occasion:?}");
            return;
        };
        let is_known = self.doubted.is_some();
        if self.why.replace(*why) == Some(*why) && is_known {
            return;
        }
        let joined = tunnel.joined_silent_since();
        let since = joined.or(last_heard(tunnel)).unwrap_or(now);
        self.doubted.get_or_insert(since);
        let silent = millis(now.since(since));
        let path =
            self.path.as_ref().map_or_else(String::new, |path| format!(" via {}", path.interface));
        self.doubt = match why {
            Suspicion::Path if joined.is_some() => {
                format!("a joined carrier{path} silent for {silent}, trying a new carrier")
            }
            Suspicion::Path if others.is_empty() => {
                format!("path{path} silent for {silent}, trying a new carrier")
            }
            Suspicion::Path => {
                let names: Vec<_> = others.iter().map(|path| path.interface.as_str()).collect();
                format!("path{path} silent for {silent}, trying {} too", names.join(", "))
            }
            Suspicion::Size => {
                format!("path{path} silent for {silent} and drops large packets, trying small ones")
            }
            Suspicion::Peer => format!(
                "the server is silent for {silent}, though its machine answers; trying a new carrier"
            ),
            Suspicion::Answer => {
                "the server sends data but does not answer; trying a new carrier".to_owned()
            }
        };
        info!("{}", self.doubt);
        if is_known {
            return;
        }
        let event = event(&self.server, self.path.as_ref(), Some(tunnel), &self.doubt);
        self.publisher.doubted(|| event);
    }

    /// Logs that the carrier is doubted, or no longer.
    pub(super) fn handle_suspected(&mut self, now: Time, why: Option<Suspicion>, tunnel: &Tunnel) {
        if why.is_some() {
            self.counts.count_doubt();
            self.count(|statistics| statistics.doubts += 1);
        } else if let Some(since) = self.doubted.take() {
            self.counts.count_false_alarm();
            self.count(|statistics| statistics.false_alarms += 1);
            let outage = now.since(since);
            let text = format!("the carrier answers again after {}, and is kept", millis(outage));
            info!("{text}");
            let event = event(&self.server, self.path.as_ref(), Some(tunnel), &text);
            self.publisher.relieved(|| TunnelEvent { outage: Some(outage), ..event });
        }
    }

    /// Records that a handshake has finished.
    pub(super) fn handle_carrier(&mut self) {
        self.count(|statistics| statistics.carriers += 1);
    }

    /// Records a new carrier that replaces one that was not lost, if there is one.
    pub(super) fn handle_commit(&mut self, now: Time, path: NetworkPath, tunnel: &Tunnel) {
        let before = self.path.replace(path);
        let doubted = self.doubted.take();
        if self.paused.is_some() || !tunnel.is_attached() {
            return;
        }
        let is_doubted = doubted.is_some() || tunnel.suspicion().is_some();
        let end = if is_doubted { EndKind::Doubted } else { EndKind::Replaced };
        let why = match before {
            Some(path) if is_doubted => format!("{} was doubted: {}", path, self.doubt),
            Some(path) => format!("it was replaced on {path}"),
            None => "it was replaced".to_owned(),
        };
        self.note_loss(end, why);
        let since = doubted.or_else(|| tunnel.suspicion().and(last_heard(tunnel))).unwrap_or(now);
        self.paused = Some((since, end));
    }

    /// Logs the loss of the carrier. `last_heard` is when it last received data.
    pub(super) fn handle_lost(&mut self, now: Time, end: &CarrierEnd, tunnel: &Tunnel) {
        self.note_loss(end.kind(), end.to_string());
        self.lost.get_or_insert(now);
        let event = event(&self.server, self.path.as_ref(), Some(tunnel), &end.to_string());
        self.publisher.lost(|| event);
        let since = Time::new(now.since_origin().saturating_sub(end.silence()));
        let since = self.doubted.take().unwrap_or(since);
        if self.paused.is_none() {
            info!(cause = %end.kind(), "carrier lost: {end}; connecting again");
            debug!("{}", counted(tunnel.session_count(), "session waits", "sessions wait"));
            self.paused = Some((since, end.kind()));
        } else {
            debug!(cause = %end.kind(), "carrier lost: {end}");
        }
    }

    /// Logs a refusal of the attach.
    pub(super) fn handle_refused(&mut self, now: Time, refusal: &Refusal, why: &str) {
        self.counts.count_refusal(refusal);
        self.note_loss(EndKind::Refused, why.to_owned());
        let event = event(&self.server, self.path.as_ref(), None, why);
        self.publisher.lost(|| event);
        self.paused.get_or_insert((now, EndKind::Refused));
    }

    /// Logs that the server closed the tunnel.
    pub(super) fn handle_over(&mut self, why: Closing) {
        let why = format!("the server ended the tunnel: {why}");
        let event = event(&self.server, self.path.as_ref(), None, &why);
        self.note_loss(EndKind::Closed, why);
        self.publisher.lost(|| event);
    }

    /// Logs that the carrier is attached.
    pub(super) fn handle_attached(
        &mut self,
        now: Time,
        is_resumed: bool,
        tunnel: &Tunnel,
        carrier: Option<&CarrierIo>,
    ) {
        self.count(|statistics| statistics.attaches += 1);
        if let Some(id) = tunnel.id() {
            spans::set_tunnel(id);
        }
        let via = carrier
            .and_then(CarrierIo::ends)
            .map_or_else(String::new, |(from, to)| format!(" ({from} to {to})"));
        let paused = self.paused.take();
        let replayed = tunnel.replay_due();
        let outage = paused.map(|(since, _)| now.since(since));
        self.count_pause(now, outage);
        let why = self.last_why();
        let event = event(&self.server, self.path.as_ref(), Some(tunnel), &why);
        self.publisher.attached(|| TunnelEvent { outage, replayed, ..event });
        if !is_resumed {
            let keeps = tunnel.peer().map_or(Duration::ZERO, |peer| peer.keep_detached);
            let keeps = duration(keeps);
            self.counts.count_tunnel();
            return info!(
                "attached{via}; the server keeps the tunnel for {keeps} when it is detached"
            );
        }
        let (since, end) = paused.unwrap_or((now, EndKind::Replaced));
        let pause = now.since(since);
        self.count(|statistics| {
            statistics.end_loss(pause, replayed);
            statistics.add_pause(pause, end, replayed);
        });
        info!("attached again{via} after {}, {} replayed", duration(pause), bytes(replayed));
    }
}

/// Returns the details of an event.
fn event(
    server: &EventServer,
    path: Option<&NetworkPath>,
    tunnel: Option<&Tunnel>,
    why: &str,
) -> TunnelEvent {
    TunnelEvent {
        // The publisher sets the kind.
        kind: EventKind::Attached,
        tunnel: tunnel.and_then(Tunnel::id).map(|id| id.to_string()),
        server_name: server.name.clone(),
        peer: server.addresses.clone(),
        path: path.map(NetworkPath::to_string),
        why: why.to_owned(),
        outage: None,
        replayed: 0,
        sessions: tunnel.map_or(0, Tunnel::session_count),
    }
}

fn last_heard(tunnel: &Tunnel) -> Option<Time> {
    tunnel.liveness().map(|(heard, _)| heard)
}

/// Formats a short silence: `400 ms`, `1.5 s`.
fn millis(duration: Duration) -> String {
    match duration.as_millis() {
        millis @ ..1000 => format!("{millis} ms"),
        _ => format!("{:.1} s", duration.as_secs_f64()),
    }
}
