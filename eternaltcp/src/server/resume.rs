//! Tunnels of an earlier process, each of which waits for its client's next carrier.

use std::sync::Arc;

use eternaltcp_proto::{Config, TunnelId};
use tokio::time::Instant;
use tracing::{Instrument, warn};

use super::Context;
use super::listen::resume_listener;
use super::note::ServerNote;
use super::registry::TunnelEntry;
use super::role::ServerRole;
use crate::audit::AuditEvent;
use crate::driver::{Driver, channel};
use crate::recovery::{DAMAGED, EndedTunnel, OwnedListener, RecoveredTunnel};
use crate::spans;

/// Continues with a tunnel, which is detached, or ends it if that is not possible. Takes the
/// listeners of its sessions from `remotes`.
pub(super) fn resume_tunnel(
    context: &Arc<Context>,
    found: RecoveredTunnel,
    remotes: &mut Vec<OwnedListener>,
) {
    let (note, id) = (ServerNote::decode(&found.note), found.recovered.tunnel.id);
    let (Ok(note), Some(id)) = (note, id) else {
        warn!("the stored state of a tunnel is damaged: it is ended");
        record_ended(context, &found.ended(DAMAGED));
        return found.end();
    };
    // These are the listeners of sessions that have a socket; the others are requested again.
    let is_of_it = |remote: &mut OwnedListener| {
        remote.owner.tunnel == id && found.sockets.contains_key(&remote.owner.session)
    };
    let own = remotes.extract_if(.., is_of_it).collect();
    remotes.retain(|remote| remote.owner.tunnel != id);
    resume(context, found, note, id, own);
}

/// Records that a tunnel was ended, because it could not be continued.
pub(super) fn record_ended(context: &Context, ended: &EndedTunnel) {
    context.audit.record(|| {
        let EndedTunnel { id, note, sessions, why } = ended;
        let note = ServerNote::decode(note).ok();
        let name_of = |note: &ServerNote| {
            context.keys().judge(&note.user, note.from).ok().and_then(|admission| admission.name)
        };
        AuditEvent::TunnelLost {
            tunnel: id.map(|id| id.to_string()),
            key: note.as_ref().map(|note| note.user.fingerprint()),
            key_name: note.as_ref().and_then(name_of).as_deref().map(Into::into),
            from: note.map(|note| note.from),
            reason: why,
            sessions: *sessions,
        }
    });
}

fn resume(
    context: &Arc<Context>,
    found: RecoveredTunnel,
    note: ServerNote,
    id: TunnelId,
    remotes: Vec<OwnedListener>,
) {
    let ServerNote { user, own, instance, from, born, answers } = note;
    context.keys().remember(&user, &answers);
    let slots = context.slots.of_key(&user);
    let slot = slots.take_again_for_tunnel();
    let name = context.keys().judge(&user, from).ok().and_then(|admission| admission.name);
    let span = spans::server_tunnel(id, &user.fingerprint(), name.as_deref());
    let detached_since = Instant::now().checked_sub(found.detached_for);
    let config = Config { tunnel_limit: 0, ..context.limits_of(&user, from).tunnel };
    let ended = found.ended(DAMAGED);
    let restored = span.in_scope(|| found.restore(config, &slots));
    let (tunnel, sockets) = match restored {
        Ok(restored) => restored,
        Err(error) => {
            warn!(parent: &span, "the tunnel is ended: {error}");
            return record_ended(context, &ended);
        }
    };
    let (handle, commands) = channel(context.rules().limits.max_waiting);
    let mut entry = TunnelEntry::new(handle, user, own, instance, from, born);
    entry.name_key(name);
    entry.span = span.clone();
    entry.resume(tunnel.config().tunnel_limit, detached_since);
    // A server that is being drained ends without sessions, and may look before the driver runs.
    entry.shared.set_sessions(tunnel.session_count());
    context.registry.insert_again(id, entry.clone());
    let entry = Arc::new(entry);
    let role = ServerRole::new(Arc::clone(context), id, Arc::clone(&entry));
    for remote in remotes {
        if let Err(error) = resume_listener(context, Arc::clone(&entry), role.tunnel_log(), remote)
        {
            warn!(parent: &span, "a listener cannot be continued: {error}");
        }
    }
    let driver = Driver::with_sockets(tunnel, sockets, role, commands, Arc::clone(&entry.shared));
    tokio::spawn(super::admit::drive(Arc::clone(context), id, driver, slot, from).instrument(span));
}
