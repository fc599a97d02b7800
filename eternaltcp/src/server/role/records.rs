//! The records of one tunnel and its sessions.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use eternaltcp_proto::{Cause, Closing, Reset, SessionId, TunnelId};

use super::super::registry::TunnelEntry;
use super::loss::AttachedAgain;
use super::outages::SeenOutages;
use crate::audit::{Audit, AuditClient, AuditEnd, AuditEvent, AuditOutages, AuditSession};
use crate::driver::{EndKind, SessionChange, SessionNews, TotalCounts};
use crate::net::origin::Origin;
use crate::target::{Requested, decode_open, describe_target};
use crate::word::{cause_word, closing_word};

/// The past of a tunnel, as far as its records need it. Another process that continues with the
/// tunnel begins anew, and records no session twice.
pub(super) struct TunnelRecords {
    audit: Audit,
    tunnel: TunnelId,
    entry: Arc<TunnelEntry>,
    outages: SeenOutages,
    /// The outages at the beginning of each session that had some before.
    before: BTreeMap<SessionId, AuditOutages>,
    /// The ends that this side has decided on.
    decided: BTreeMap<SessionId, AuditEnd>,
    /// The reason that the client gave for the end.
    by_client: Option<Closing>,
}

impl TunnelRecords {
    pub(super) fn new(audit: Audit, tunnel: TunnelId, entry: Arc<TunnelEntry>) -> Self {
        Self {
            audit,
            tunnel,
            entry,
            outages: SeenOutages::default(),
            before: BTreeMap::new(),
            decided: BTreeMap::new(),
            by_client: None,
        }
    }

    fn client(&self) -> AuditClient {
        self.entry.audit_client(self.tunnel)
    }

    /// Records that the client is back.
    pub(super) fn attached(&mut self, AttachedAgain { outage, replayed, .. }: AttachedAgain) {
        self.outages.end(outage);
        self.audit.record(|| AuditEvent::Attached {
            client: self.client(),
            outage,
            replayed_bytes: replayed,
        });
    }

    /// Records that there is no carrier.
    pub(super) fn detached(&mut self, end: EndKind) {
        self.outages.begin(Instant::now());
        self.audit.record(|| AuditEvent::Detached {
            client: self.client(),
            reason: end.to_string().into(),
        });
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
        let decided = match what {
            SessionChange::Opened(_) => None,
            _ => self.decided.remove(&id),
        };
        let (end, reset) = match what {
            SessionChange::Opened(address) => return self.opened(id, target, address),
            SessionChange::Refused(reset) => {
                return self.audit.record(|| self.session_refused(id, target, &reset));
            }
            SessionChange::Ended => (AuditEnd::Order, None),
            SessionChange::Broken(reset) => (AuditEnd::TargetReset, Some(reset)),
            SessionChange::Aborted(reset) => (end_of(reset.cause), Some(reset)),
            SessionChange::Lost => (AuditEnd::Lost, None),
        };
        if is_listener(target) {
            return;
        }
        let end = decided.unwrap_or(end);
        let before = self.before.remove(&id).unwrap_or_default();
        let outages = self.outages.after(before, Instant::now());
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
        if is_listener(target) {
            return;
        }
        let before = self.outages.before(Instant::now());
        if before != AuditOutages::default() {
            self.before.insert(id, before);
        }
        self.audit.record(|| AuditEvent::SessionOpened {
            client: self.client(),
            session: session(id, target),
            address,
        });
    }

    fn session_refused(&self, id: SessionId, target: &[u8], reset: &Reset) -> AuditEvent {
        AuditEvent::SessionRefused {
            client: self.client(),
            session: session(id, target),
            reason: cause_word(reset.cause),
            detail: reset.detail.clone().into(),
        }
    }

    /// Records the end of the tunnel, which this side has closed for this reason, or the client.
    pub(super) fn ended(&self, why: Option<Closing>, totals: &TotalCounts) {
        let is_by_client = why.is_none() && self.by_client.is_some();
        let why = why.or(self.by_client);
        self.audit.record(|| AuditEvent::TunnelEnded {
            client: self.client(),
            is_by_client,
            // A tunnel that ends was closed, here or by the client.
            reason: closing_word(why.unwrap_or(Closing::Done)),
            started_at: totals.started_at,
            lasted: since(totals.started_at),
            carriers: totals.attaches,
            sent_bytes: totals.sent_bytes,
            received_bytes: totals.delivered_bytes,
            replayed_bytes: totals.replayed_bytes,
            outages: self.outages.after(AuditOutages::default(), Instant::now()),
        });
    }
}

/// Returns whether a session is a listener, which has records of its own.
fn is_listener(target: &[u8]) -> bool {
    decode_open(target).is_some_and(|open| matches!(open.wanted, Requested::Listen(_)))
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
