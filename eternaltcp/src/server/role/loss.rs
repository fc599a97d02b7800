//! A server's records and log lines about a tunnel's carriers.

use std::time::{Duration, SystemTime};

use eternaltcp_proto::{Time, Tunnel, TunnelId};

use super::TunnelEntry;
use crate::driver::{CarrierEnd, CarrierIo, EndKind};
use crate::metrics::ProcessCounters;
use crate::status::{
    ClientPeer, EventKind, Events, Loss, Peer, Publisher, TunnelCondition, TunnelEvent,
    TunnelStatus,
};
use eternaltcp_tls::PublicKey;

/// The return of a client.
#[derive(Clone, Copy)]
pub(super) struct AttachedAgain {
    /// The time without a carrier, if there was such a time and this process has seen its beginning.
    pub(super) outage: Option<Duration>,
    /// The same, with the silence before the carrier was given up.
    pause: Option<Duration>,
    /// Whether it replaced a carrier that worked.
    is_replacement: bool,
    /// Payload that is sent again.
    pub(super) replayed: u64,
}

impl AttachedAgain {
    /// Adds it to the counters of the server.
    fn count(&self, counts: &ProcessCounters) {
        self.outage.iter().for_each(|length| counts.count_outage(*length));
        self.pause.iter().for_each(|length| counts.count_pause(*length));
        if self.is_replacement {
            counts.count_end(EndKind::Replaced);
        }
    }
}

/// The last loss of a tunnel, and the receivers of its events.
pub(super) struct LossHistory {
    tunnel: TunnelId,
    key: String,
    publisher: Publisher,
    last: Option<Loss>,
    /// The time since which there is no carrier.
    since: Option<Time>,
    /// The silence before that, as far as it was the reason.
    silence: Duration,
    /// The source address of the current or the last carrier.
    from: Option<String>,
}

impl LossHistory {
    pub(super) fn new(tunnel: TunnelId, user: &PublicKey, events: Events) -> Self {
        let publisher = Publisher::new(events);
        Self {
            tunnel,
            key: user.fingerprint(),
            publisher,
            last: None,
            since: None,
            silence: Duration::ZERO,
            from: None,
        }
    }

    pub(super) fn handle_lost(&mut self, now: Time, end: &CarrierEnd, tunnel: &Tunnel) {
        self.since = Some(now);
        self.silence = end.silence();
        self.note(end.kind(), end.to_string());
        let event = self.event(tunnel, end.to_string());
        self.publisher.lost(|| event);
    }

    pub(super) fn handle_attached(
        &mut self,
        now: Time,
        tunnel: &Tunnel,
        carrier: Option<&CarrierIo>,
        counts: &ProcessCounters,
    ) -> AttachedAgain {
        let before = self.from.take();
        self.from = carrier.map(|carrier| carrier.peer().to_string());
        let since = self.since.take();
        let is_replacement = before.is_some() && since.is_none();
        if let (Some(before), None) = (&before, since) {
            self.note(EndKind::Replaced, format!("it was replaced, from {before}"));
        }
        let (outage, replayed) =
            (before.map(|_| now.since(since.unwrap_or(now))), tunnel.replay_due());
        if let Some(loss) = &mut self.last {
            (loss.outage, loss.replayed_bytes) = (outage, replayed);
        }
        let why = self.last.as_ref().map_or_else(String::new, |loss| loss.why.clone());
        let event = self.event(tunnel, why);
        self.publisher.attached(|| TunnelEvent { outage, replayed, ..event });
        let outage = since.map(|since| now.since(since));
        let pause = outage.map(|outage| outage + self.silence);
        let attached = AttachedAgain { outage, pause, is_replacement, replayed };
        attached.count(counts);
        attached
    }

    fn note(&mut self, end: EndKind, why: String) {
        self.last = Some(Loss {
            lost_at: SystemTime::now(),
            kind: end.to_string(),
            why,
            outage: None,
            replayed_bytes: 0,
        });
    }

    fn event(&self, tunnel: &Tunnel, why: String) -> TunnelEvent {
        TunnelEvent {
            // The publisher states the kind.
            kind: EventKind::Attached,
            tunnel: Some(self.tunnel.to_string()),
            server_name: None,
            peer: self.key.clone(),
            path: self.from.clone(),
            why,
            outage: None,
            replayed: 0,
            sessions: tunnel.session_count(),
        }
    }

    pub(super) fn describe(&self, entry: &TunnelEntry, status: &mut TunnelStatus) {
        let instance = &entry.instance;
        status.tunnel = Some(self.tunnel.to_string());
        status.peer = Peer::Client(ClientPeer {
            key: self.key.clone(),
            key_name: entry.key_name().map(str::to_owned),
            from: entry.from().to_string(),
            name: instance.name.to_string(),
            user: instance.user.to_string(),
            machine: instance.machine.to_string(),
        });
        if status.state == TunnelCondition::Detached {
            status.why = self.last.as_ref().map(|loss| loss.why.clone());
        }
        status.last_loss.clone_from(&self.last);
    }
}
