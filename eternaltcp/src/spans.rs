//! Spans of the log: every line within a span has its fields.
//!
//! They have the level of errors, so that no filter of lines removes the fields. A task enters its
//! span whenever it is woken, not for each packet.

use eternaltcp_proto::{SessionId, TunnelId};
use tracing::field::Empty;
use tracing::{Span, error_span};

/// Returns the span of a server's tunnel, whose user has the key with this fingerprint and name.
pub(crate) fn server_tunnel(id: TunnelId, key: &str, name: Option<&str>) -> Span {
    // An empty field has no place in a line.
    error_span!(parent: None, "tunnel", tunnel = %id, key, key_name = name)
}

/// Returns the span of a client's tunnel, which has no id before it is attached. `server` is the name
/// of its server in a program with several clients.
pub(crate) fn client_tunnel(peer: &str, server: Option<&str>) -> Span {
    error_span!(parent: None, "tunnel", tunnel = Empty, server, peer)
}

/// Records which tunnel it is, within the span of a client.
pub(crate) fn set_tunnel(id: TunnelId) {
    Span::current().record("tunnel", tracing::field::display(id));
}

/// Returns the span of a task that works for one session, within that of the tunnel. A span takes
/// some hundred bytes, so sessions that only wait have none.
pub(crate) fn session(id: SessionId) -> Span {
    error_span!("session", session = id.get())
}
