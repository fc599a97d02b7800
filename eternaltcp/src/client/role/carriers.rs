//! A client's handling of carriers that its dials make, and of refusals.

use eternaltcp_proto::{Cause, DialId, Refusal, RefusalCode, Time, Tunnel};
use tracing::{debug, info, warn};

use super::ClientRole;
use crate::client::dial::{Dialed, Dialer};
use crate::client::dialing::Finished;
use crate::client::{ClientEnd, DialError, Rejection, RejectionReason};
use crate::driver::Action;

impl ClientRole {
    /// Starts the dials that are due.
    pub(super) fn dial(&mut self, now: Time, tunnel: &Tunnel) {
        for started in self.dialing.start_due(now) {
            self.event_log.handle_dial(now, &started, tunnel);
        }
    }

    pub(super) fn handle_dialed(
        &mut self,
        now: Time,
        id: DialId,
        result: Result<Box<Dialed>, DialError>,
        tunnel: &Tunnel,
    ) {
        match (self.dialing.finish(now, id, result.is_ok()), result) {
            (Finished::Abandoned, _) => {}
            (Finished::Outdated, _) => {
                debug!("a carrier proved an earlier key: another is dialled");
            }
            (Finished::Wanted, Ok(dialed)) => self.handle_carrier(now, id, *dialed, tunnel),
            (Finished::Wanted, Err(error)) => self.handle_dial_error(now, id, error),
        }
    }

    fn handle_carrier(&mut self, now: Time, id: DialId, dialed: Dialed, tunnel: &Tunnel) {
        self.event_log.handle_carrier();
        self.dialing.note_progress(tunnel);
        if !self.dialing.handle_ready(now, id, &dialed) {
            return debug!("a carrier via {} is not needed any more", dialed.path);
        }
        if self.dialing.is_new() {
            // From now on it is known which server will have the tunnel.
            self.actions.push(Action::Keep);
        }
        self.event_log.handle_commit(now, dialed.path.clone(), tunnel);
        self.dialing.set_current(dialed.path, dialed.server, dialed.is_of_node);
        let (carrier, new) = (Box::new(dialed.carrier), Box::new(self.intent()));
        self.actions.push(Action::Attach { carrier, new });
    }

    fn handle_dial_error(&mut self, now: Time, id: DialId, error: DialError) {
        let is_first_contact = !self.patience.was_attached();
        let text = if is_first_contact { error.explain() } else { error.to_string() };
        if matches!(error, DialError::Key(_)) && is_first_contact {
            return self.handle_unusable(now, text);
        }
        if let (DialError::Trust(why), true) = (&error, is_first_contact) {
            return self.actions.fail(ClientEnd::Refused(why.clone()));
        }
        if matches!(error, DialError::Program(..)) && self.is_hurried() {
            return self.actions.fail(ClientEnd::Failed(text));
        }
        if matches!(error, DialError::Trust(_) | DialError::Key(_)) {
            warn!("{text}");
        }
        debug!("dial: {text}");
        if self.patience.is_first_reason() {
            warn!("{text}; trying {} again", self.dialing.dialer().servers());
        }
        self.dialing.handle_failed(now, id, error.is_answered());
        if !self.dialing.is_carried() {
            self.patience.wait(text);
        }
    }

    /// Handles a key that cannot be used: the next one is tried, if there is one.
    fn handle_unusable(&mut self, now: Time, why: String) {
        let dialer = &self.dialing.dialer();
        if !dialer.keys().handle_unusable(why.clone()) {
            let text = dialer.keys().explain(&dialer.servers().to_string());
            return self.actions.fail(ClientEnd::Failed(text));
        }
        warn!("{why}; trying {}", dialer.keys().current());
        self.dialing.handle_other_key(now);
    }

    /// Handles a refusal of the attach.
    pub(super) fn handle_refused(&mut self, now: Time, refusal: &Refusal, tunnel: &Tunnel) {
        let keys = self.dialing.dialer().keys();
        if refusal.is_final && is_about_key(refusal) {
            let refused = keys.current();
            let is_another = if self.dialing.is_new() {
                keys.handle_refused()
            } else {
                // The tunnel has its own key: another key of the user changes nothing.
                keys.note_refused();
                false
            };
            if is_another {
                info!("the key {refused} is refused: {refusal}; trying {}", keys.current());
                self.dialing.handle_other_key(now);
                return;
            }
        }
        let text = explain(refusal, self.dialing.dialer());
        if refusal.code == RefusalCode::Draining && self.dialing.is_new() {
            self.dialing.dialer().avoid_newest();
        }
        if self.patience.is_optional() {
            // Whoever wants the tunnel asks again later.
            let reason = RejectionReason::ByServer(refusal.code);
            return self.actions.fail(ClientEnd::Refused(Rejection::new(reason, text)));
        }
        self.event_log.handle_refused(now, refusal, &text);
        if refusal.code == RefusalCode::TunnelUnknown {
            return self.handle_unknown_tunnel(now, text);
        }
        let kept = self.kept_sessions(tunnel);
        // A successor may exist already, and another dial may reach it.
        let is_hurried = self.is_hurried() && refusal.code != RefusalCode::Draining;
        if (refusal.is_final && kept == 0) || is_hurried {
            let reason = RejectionReason::ByServer(refusal.code);
            return self.actions.fail(ClientEnd::Refused(Rejection::new(reason, text)));
        }
        if refusal.is_final {
            if self.dialing.is_new() {
                self.dialing.dialer().keys().start_over();
            }
            warn!(
                "refused for now: {text}; {kept} sessions are kept, and the server is asked again"
            );
        } else {
            warn!("refused for now: {text}");
        }
        self.patience.wait(text);
        self.dialing.handle_refused(now);
    }
}

impl ClientRole {
    /// Handles a server that does not know the tunnel. If that server is not the tunnel's node, the
    /// node itself may still have the tunnel.
    fn handle_unknown_tunnel(&mut self, now: Time, text: String) {
        if !self.dialing.is_elsewhere() {
            warn!("the server does not know the tunnel any more: its sessions are reset");
            return self.restart(now, Action::Restart(Cause::Unresumable));
        }
        let Some(waited) = self.dialing.handle_unknown() else {
            self.patience.wait(text);
            return self.dialing.handle_refused(now);
        };
        let waited = crate::report::duration(waited);
        let node = self.dialing.dialer().node().map(|node| node.name.to_string());
        warn!(
            "the node {} was not reached for {waited}, and other servers do not know its tunnel: \
             its sessions are reset",
            node.unwrap_or_default()
        );
        self.restart(now, Action::Restart(Cause::Unresumable));
    }
}

/// Returns whether another key may be admitted.
fn is_about_key(refusal: &Refusal) -> bool {
    matches!(
        refusal.code,
        RefusalCode::KeyUnknown | RefusalCode::KeyExpired | RefusalCode::KeyRestricted
    )
}

/// Describes a refusal, with the line that would admit the key if that helps.
fn explain(refusal: &Refusal, dialer: &Dialer) -> String {
    let server = dialer.servers().to_string();
    match refusal.code {
        RefusalCode::KeyUnknown => dialer.keys().explain(&server),
        _ => format!("{server} refused: {refusal}"),
    }
}
