//! The records of clients that are admitted or refused.

use std::net::IpAddr;

use eternaltcp_proto::{Instance, Refusal, TunnelId};
use eternaltcp_tls::PublicKey;

use super::registry::TunnelEntry;
use crate::audit::{AuditEvent, refusal_word};

/// Returns the record of a client that has a new tunnel.
pub(super) fn admitted(id: TunnelId, entry: &TunnelEntry) -> AuditEvent {
    let Instance { machine, user, name, .. } = &entry.instance;
    let text = |text: &str| text.into();
    AuditEvent::Admitted {
        client: entry.audit_client(id),
        name: text(name),
        user: text(user),
        machine: text(machine),
    }
}

/// Returns the record of a carrier that was refused, after `not_recorded` others.
pub(super) fn refused(
    from: IpAddr,
    key: Option<&PublicKey>,
    refusal: &Refusal,
    not_recorded: u64,
) -> AuditEvent {
    AuditEvent::Refused {
        from,
        key: key.map(PublicKey::fingerprint),
        reason: refusal_word(refusal.code),
        is_final: refusal.is_final,
        detail: refusal.advice.clone().into(),
        not_recorded,
    }
}
