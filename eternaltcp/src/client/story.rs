//! The story of a client's carriers: what its user reads in the log, and what is
//! counted.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use eternaltcp_proto::{Occasion, Suspicion, Time, Tunnel};
use tracing::{debug, info};

use super::history::History;
use super::path::Path;
use crate::driver::{CarrierEnd, CarrierIo, EndKind};
use crate::report::{bytes, duration};

/// Tells and counts.
#[derive(Debug, Default)]
pub(super) struct Story {
    history: Arc<Mutex<History>>,
    /// The present carrier's path.
    path: Option<Path>,
    /// Since when the carrier is of no use, and how it ended.
    paused: Option<(Time, EndKind)>,
    /// Since when the doubted carrier is silent, once that was told.
    doubted: Option<Time>,
}

impl Story {
    /// What was counted, to be read by others.
    pub(super) fn history(&self) -> Arc<Mutex<History>> {
        Arc::clone(&self.history)
    }

    fn count(&self, count: impl FnOnce(&mut History)) {
        count(&mut self.history.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// A dial begins; `also` names further paths.
    pub(super) fn handle_dial(
        &mut self,
        now: Time,
        occasion: Occasion,
        also: &[Path],
        tunnel: &Tunnel,
    ) {
        self.count(|history| history.dials += 1);
        let Occasion::Suspicion(why) = occasion else {
            debug!("dialling: {occasion:?}");
            return;
        };
        if self.doubted.is_some() {
            return;
        }
        let since = last_heard(tunnel).unwrap_or(now);
        self.doubted = Some(since);
        let silent = millis(now.since(since));
        let path =
            self.path.as_ref().map_or_else(String::new, |path| format!(" via {}", path.interface));
        match why {
            Suspicion::Path if also.is_empty() => {
                info!("path{path} silent for {silent}, trying a new carrier");
            }
            Suspicion::Path => {
                let names: Vec<_> = also.iter().map(|path| path.interface.as_str()).collect();
                info!("path{path} silent for {silent}, trying {} too", names.join(", "));
            }
            Suspicion::Peer => info!(
                "the server is silent for {silent}, though its machine answers; trying a new carrier"
            ),
            Suspicion::Answer => {
                info!("the server is heard and does not answer; trying a new carrier");
            }
        }
    }

    /// The carrier is doubted, or no longer.
    pub(super) fn handle_suspected(&mut self, now: Time, why: Option<Suspicion>) {
        if why.is_some() {
            self.count(|history| history.doubts += 1);
        } else if let Some(since) = self.doubted.take() {
            self.count(|history| history.false_alarms += 1);
            info!("the carrier answers again after {}, and is kept", millis(now.since(since)));
        }
    }

    /// A handshake is done.
    pub(super) fn handle_carrier(&mut self) {
        self.count(|history| history.carriers += 1);
    }

    /// A new carrier takes the place of one that was not lost, if there is one.
    pub(super) fn handle_commit(&mut self, now: Time, path: Path, tunnel: &Tunnel) {
        self.path = Some(path);
        let doubted = self.doubted.take();
        if self.paused.is_some() || !tunnel.is_attached() {
            return;
        }
        let end = if tunnel.suspicion().is_some() { EndKind::Doubted } else { EndKind::Replaced };
        self.count(|history| history.count_end(end));
        let since = doubted.or_else(|| tunnel.suspicion().and(last_heard(tunnel))).unwrap_or(now);
        self.paused = Some((since, end));
    }

    /// The carrier is gone; `last_heard` is when it last said something.
    pub(super) fn handle_lost(&mut self, now: Time, end: &CarrierEnd, tunnel: &Tunnel) {
        self.count(|history| history.count_end(end.kind()));
        let silence = match end {
            CarrierEnd::Silent(silence) => *silence,
            _ => Duration::ZERO,
        };
        let since = Time::new(now.since_origin().saturating_sub(silence));
        let since = self.doubted.take().unwrap_or(since);
        if self.paused.is_none() {
            info!("carrier lost: {end}; connecting again");
            debug!("{} sessions wait", tunnel.session_count());
            self.paused = Some((since, end.kind()));
        } else {
            debug!("carrier lost: {end}");
        }
    }

    /// The server refused the attach.
    pub(super) fn handle_refused(&mut self, now: Time) {
        self.count(|history| history.count_end(EndKind::Refused));
        self.paused.get_or_insert((now, EndKind::Refused));
    }

    /// The carrier is bound.
    pub(super) fn handle_attached(
        &mut self,
        now: Time,
        is_resumed: bool,
        tunnel: &Tunnel,
        carrier: Option<&CarrierIo>,
    ) {
        self.count(|history| history.attaches += 1);
        let via = carrier
            .and_then(|carrier| Some((carrier.local().ok()?, carrier.peer())))
            .map_or_else(String::new, |(from, to)| format!(" ({from} to {to})"));
        let paused = self.paused.take();
        if !is_resumed {
            let keeps = tunnel.peer().map_or(Duration::ZERO, |peer| peer.keep_detached);
            let keeps = duration(keeps);
            return info!(
                "attached{via}; the server keeps the tunnel for {keeps} when it is detached"
            );
        }
        let replayed = tunnel.replay_due();
        let (since, end) = paused.unwrap_or((now, EndKind::Replaced));
        let pause = now.since(since);
        self.count(|history| history.add_pause(pause, end, replayed));
        info!("attached again{via} after {}, {} replayed", duration(pause), bytes(replayed));
    }
}

fn last_heard(tunnel: &Tunnel) -> Option<Time> {
    tunnel.liveness().map(|(heard, _)| heard)
}

/// A short silence: `400 ms`, `1.5 s`.
fn millis(duration: Duration) -> String {
    match duration.as_millis() {
        millis @ ..1000 => format!("{millis} ms"),
        _ => format!("{:.1} s", duration.as_secs_f64()),
    }
}
