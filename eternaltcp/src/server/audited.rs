//! The records of clients that are admitted or refused.

use std::net::IpAddr;
use std::time::Instant;

use eternaltcp_proto::{Instance, Refusal, TunnelId};
use eternaltcp_tls::PublicKey;

use super::Context;
use super::refusals::NotRecorded;
use super::registry::TunnelEntry;
use crate::audit::{Audit, AuditClient, AuditEvent};
use crate::word::refusal_word;

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

/// Records the tunnels that a server that stops has not closed in time.
pub(super) fn record_left(audit: &Audit, left: &[(TunnelId, TunnelEntry)]) {
    for (id, entry) in left {
        audit.record(|| {
            let AuditClient { tunnel, key, key_name, from } = entry.audit_client(*id);
            AuditEvent::TunnelLost {
                tunnel: Some(tunnel),
                key: Some(key),
                key_name,
                from: Some(from),
                reason: "stopped",
                sessions: Some(entry.shared.sessions()),
            }
        });
    }
}

/// Counts that a carrier was refused, and records it within the limits of records. `is_known` says
/// whether its key is that of a client.
pub(super) fn record_refusal(
    context: &Context,
    from: IpAddr,
    (key, is_known): (Option<&PublicKey>, bool),
    refusal: &Refusal,
) {
    context.counts.count_refusal(refusal);
    if !context.audit.is_on() {
        return;
    }
    let Some(not_recorded) = context.refusals.admit(from, is_known, Instant::now()) else { return };
    context.audit.record(|| AuditEvent::Refused {
        from,
        key: key.map(PublicKey::fingerprint),
        reason: refusal_word(refusal.code),
        is_final: refusal.is_final,
        detail: refusal.advice.clone().into(),
        not_recorded,
    });
}

/// Records how many refusals were not recorded one by one.
pub(super) fn record_more_refusals(audit: &Audit, told: Vec<NotRecorded>) {
    for (from, not_recorded) in told {
        audit.record(|| AuditEvent::RefusedMore { from, not_recorded });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use eternaltcp_proto::{Closing, Epoch};
    use eternaltcp_tls::Identity;

    use super::super::ServerLimits;
    use super::super::notices::Notices;
    use super::super::registry::Registry;
    use super::*;
    use crate::audit::AuditSink;
    use crate::driver::channel;

    #[derive(Debug, Default)]
    struct Recorded(Mutex<Vec<serde_json::Value>>);

    impl AuditSink for Recorded {
        fn record(&self, event: &AuditEvent) {
            self.0.lock().unwrap().push(serde_json::to_value(event).unwrap());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_tunnel_that_is_not_closed_in_time_at_a_stop_is_recorded_as_lost() {
        let key = Identity::generate().unwrap().public_key();
        // The receiver of the driver's commands is kept, but nothing takes commands from it.
        let (handle, _driver) = channel(1);
        let (instance, from) = (Instance::default(), IpAddr::from([192, 0, 2, 7]));
        let entry = TunnelEntry::new(handle, key.clone(), key.clone(), instance, from, Epoch(1));
        let (registry, recorded) = (Registry::default(), Arc::new(Recorded::default()));
        let (id, limits) = (TunnelId([7; 16]), ServerLimits::default());
        assert!(registry.insert(id, entry, &limits, &Notices::new(Arc::default())).is_ok());
        let left = registry.close_all(Closing::Shutdown).await;
        record_left(&Audit::to(recorded.clone()), &left);
        let recorded = recorded.0.lock().unwrap();
        let [lost] = &recorded[..] else { panic!("one record: {recorded:?}") };
        assert_eq!((&lost["event"], &lost["reason"]), (&"tunnel-lost".into(), &"stopped".into()));
        assert_eq!((&lost["from"], &lost["sessions"]), (&"192.0.2.7".into(), &0.into()));
        assert_eq!(lost["key"], key.fingerprint().as_str());
    }
}
