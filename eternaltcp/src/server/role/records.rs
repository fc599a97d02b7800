//! The records of one tunnel and its sessions.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use eternaltcp_proto::{Cause, Closing, Reset, SessionId, TunnelId};

use super::super::registry::TunnelEntry;
use super::loss::AttachedAgain;
use crate::audit::{
    Audit, AuditClient, AuditEnd, AuditEvent, AuditOutages, AuditSession, cause_word, closing_word,
};
use crate::driver::{EndKind, SessionChange, SessionNews, TotalCounts};
use crate::net::origin::Origin;
use crate::target::{Requested, decode_open, describe_target};

/// What the records of a tunnel must know of its past. Another process that continues with the
/// tunnel begins anew, and records no session twice.
pub(super) struct TunnelRecords {
    audit: Audit,
    tunnel: TunnelId,
    entry: TunnelEntry,
    /// The outages that this process has seen.
    outages: AuditOutages,
    /// The outages at the beginning of each session that had some before.
    before: BTreeMap<SessionId, AuditOutages>,
    /// The ends that this side has decided on.
    decided: BTreeMap<SessionId, AuditEnd>,
    /// The reason that the client gave for the end.
    by_client: Option<Closing>,
}

impl TunnelRecords {
    pub(super) fn new(audit: Audit, tunnel: TunnelId, entry: TunnelEntry) -> Self {
        Self {
            audit,
            tunnel,
            entry,
            outages: AuditOutages::default(),
            before: BTreeMap::new(),
            decided: BTreeMap::new(),
            by_client: None,
        }
    }

    fn client(&self) -> AuditClient {
        self.entry.audit_client(self.tunnel)
    }

    /// Records that the client is back.
    pub(super) fn attached(&mut self, AttachedAgain { outage, replayed }: AttachedAgain) {
        if let Some(outage) = outage {
            self.outages.outages += 1;
            self.outages.time += outage;
        }
        self.audit.record(|| AuditEvent::Attached {
            client: self.client(),
            outage,
            replayed_bytes: replayed,
        });
    }

    /// Records that there is no carrier.
    pub(super) fn detached(&self, end: EndKind) {
        self.audit
            .record(|| AuditEvent::Detached { client: self.client(), reason: end.to_string() });
    }

    /// Records that the operator ends a session.
    pub(super) fn killed(&mut self, id: SessionId) {
        self.audit.record(|| AuditEvent::Killed { client: self.client(), session: id.get() });
        self.note_end(id, AuditEnd::Killed);
    }

    /// Notes why this side is about to reset a session.
    pub(super) fn note_end(&mut self, id: SessionId, end: AuditEnd) {
        if self.audit.is_on() {
            self.decided.entry(id).or_insert(end);
        }
    }

    /// Notes that the client closed the tunnel.
    pub(super) fn closed_by_client(&mut self, why: Closing) {
        self.by_client = Some(why);
    }

    /// Records the beginning or the end of a session.
    pub(super) fn handle_news(&mut self, news: SessionNews) {
        if !self.audit.is_on() {
            return;
        }
        let SessionNews { id, metadata, what } = news;
        let target = metadata.target();
        if decode_open(target).is_some_and(|open| matches!(open.wanted, Requested::Listen(_))) {
            // A listener has records of its own.
            return;
        }
        let (end, reset) = match what {
            SessionChange::Opened(address) => return self.opened(id, target, address),
            SessionChange::Ended => (AuditEnd::Order, None),
            SessionChange::Broken(reset) => (AuditEnd::TargetReset, Some(reset)),
            SessionChange::Aborted(reset) => (end_of(reset.cause), Some(reset)),
            SessionChange::Lost => (AuditEnd::Lost, None),
        };
        let end = self.decided.remove(&id).unwrap_or(end);
        let before = self.before.remove(&id).unwrap_or_default();
        let outages = AuditOutages {
            outages: self.outages.outages.saturating_sub(before.outages),
            time: self.outages.time.saturating_sub(before.time),
        };
        let (sent_bytes, received_bytes) = metadata.counts();
        let opened_at = metadata.opened_at();
        self.audit.record(|| AuditEvent::SessionEnded {
            client: self.client(),
            session: session(id, target),
            end,
            reason: reset.as_ref().map(|reset| cause_word(reset.cause)),
            detail: reset.filter(|reset| !reset.detail.is_empty()).map(|it| it.detail.into()),
            sent_bytes,
            received_bytes,
            opened_at,
            lasted: since(opened_at),
            outages,
        });
    }

    fn opened(&mut self, id: SessionId, target: &[u8], address: Option<SocketAddr>) {
        if self.outages != AuditOutages::default() {
            self.before.insert(id, self.outages);
        }
        self.audit.record(|| AuditEvent::SessionOpened {
            client: self.client(),
            session: session(id, target),
            address,
        });
    }

    /// Records the end of the tunnel, which this side has closed for this reason, or the client.
    pub(super) fn ended(&self, why: Option<Closing>, totals: &TotalCounts) {
        let why = self.by_client.or(why);
        self.audit.record(|| AuditEvent::TunnelEnded {
            client: self.client(),
            is_by_client: self.by_client.is_some(),
            reason: why.map_or_else(|| "stopped".to_owned(), closing_word),
            started_at: totals.started_at,
            lasted: since(totals.started_at),
            carriers: totals.attaches,
            sent_bytes: totals.sent_bytes,
            received_bytes: totals.delivered_bytes,
            replayed_bytes: totals.replayed_bytes,
            outages: self.outages,
        });
    }
}

/// Returns the record of a session that was not connected to its target.
pub(super) fn session_refused(
    client: AuditClient,
    id: SessionId,
    target: &[u8],
    reset: &Reset,
) -> AuditEvent {
    AuditEvent::SessionRefused {
        client,
        session: session(id, target),
        reason: cause_word(reset.cause),
        detail: reset.detail.clone().into(),
    }
}

fn session(id: SessionId, target: &[u8]) -> AuditSession {
    let origin = decode_open(target).and_then(|open| open.origin);
    AuditSession {
        session: id.get(),
        target: describe_target(target).into(),
        origin: origin.as_ref().map(Origin::source),
    }
}

/// Returns the end of a session that was reset for this cause, without a decision of this side.
fn end_of(cause: Cause) -> AuditEnd {
    match cause {
        Cause::TunnelOver => AuditEnd::TunnelOver,
        Cause::Corrupt | Cause::Unresumable => AuditEnd::Lost,
        _ => AuditEnd::Reset,
    }
}

fn since(start: SystemTime) -> Duration {
    SystemTime::now().duration_since(start).unwrap_or_default()
}
