//! The driver's handling of events of the state machine and actions of the role.

use bytes::Bytes;
use eternaltcp_proto::{
    AttachRequest, CarrierId, Cause, Event, Intent, JoinRequest, Lost, NotStandingBy, SessionId,
    TunnelId,
};
use tracing::debug;

use super::carriers::{Failure, joined_end};
use super::{Action, CarrierEnd, CarrierIo, Change, Driver, Role, drained};

/// The kinds of events that occurred.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Handled {
    Nothing,
    /// Only events whose sockets were served: there may be something to send.
    Sockets,
    /// Events after which anything may have changed, including the carrier.
    Others,
}

impl<R: Role> Driver<R> {
    pub(super) fn poll_events(&mut self) -> Handled {
        let mut handled = Handled::Nothing;
        while let Some(event) = self.tunnel.poll_event() {
            let is_socket = matches!(event, Event::Dirty(_));
            handled = handled.max(if is_socket { Handled::Sockets } else { Handled::Others });
            self.handle_event(event);
        }
        handled
    }

    fn handle_event(&mut self, event: Event) {
        let now = self.clocks.round();
        let change = match event {
            Event::Dirty(id) => {
                return self.sockets.serve(id, now, &mut self.tunnel, &mut self.role);
            }
            Event::Opened(id) => return self.handle_opened(id),
            Event::CarrierDead(id) if self.carriers.is_lead(id) => {
                return self.handle_lost(&CarrierEnd::Silent(self.tunnel.config().dead_after));
            }
            // An earlier event has led to another carrier.
            Event::CarrierDead(_) if self.tunnel.lead().is_some() => return,
            Event::CarrierDead(_) => return self.handle_lost(&joined_end(CarrierEnd::Unanswered)),
            Event::Attached { is_resumed } => {
                self.shared.set_attached(true);
                self.clocks.note_change();
                self.carriers.reconcile(&self.tunnel, false);
                self.carriers.close_retired();
                Change::Attached { is_resumed, carrier: self.carriers.attached() }
            }
            Event::Suspected(why) => Change::Suspected(why),
            Event::Relieved => Change::Relieved,
            Event::StandsBy(id) => Change::StandsBy(id),
            Event::StandbyDoubted(id, doubt) => Change::StandbyDoubted(id, doubt.is_some()),
            Event::StandbyLost(id, why) => {
                return self.handle_standby_lost(id, why.to_string());
            }
            Event::Refused(refusal) => {
                self.close_carriers();
                Change::Refused(refusal)
            }
            Event::Announced(stated) => Change::Announced(stated),
            Event::Closed(why) => {
                self.close_carriers();
                Change::Closed(why)
            }
        };
        self.role.handle_change(now, change, &self.tunnel);
        self.apply_actions();
    }

    /// Handles the loss of a carrier that stood by, or was to.
    pub(super) fn handle_standby_lost(&mut self, id: CarrierId, why: String) {
        self.carriers.reconcile(&self.tunnel, false);
        self.role.handle_change(self.clocks.round(), Change::StandbyLost(id, why), &self.tunnel);
        self.apply_actions();
    }

    /// Handles a session that the peer opened.
    fn handle_opened(&mut self, id: SessionId) {
        let Some(target) = self.tunnel.offered_target(id).cloned() else { return };
        if self.lifecycle.is_draining() {
            return self.tunnel.reset(self.clocks.round(), id, drained());
        }
        let offer = self.role.offered(id, &target);
        self.sockets.insert_offer(id, offer, target);
    }

    /// Checks whether the number of sessions has changed. Returns whether the last one has ended.
    pub(super) fn check_sessions(&mut self) -> bool {
        let count = self.tunnel.session_count();
        if !self.lifecycle.note_sessions(count) {
            return false;
        }
        self.shared.set_sessions(count);
        self.sockets.news().look(&self.tunnel);
        if count == 0 {
            self.check_drain();
        }
        self.role.handle_session_count(&self.tunnel);
        self.apply_actions();
        count == 0
    }

    /// Carries out the role's actions.
    pub(super) fn apply_actions(&mut self) {
        while let Some(action) = self.role.poll_action() {
            self.apply(action);
        }
    }

    pub(super) fn apply(&mut self, action: Action) {
        match action {
            Action::Attach { carrier, new } => self.attach(*carrier, *new),
            Action::StandBy { id, carrier } => self.carriers.add(id, *carrier),
            Action::AttachStandby(id) => self.attach_standby(id),
            Action::TakeOver => self.take_over(),
            Action::Join(id) => self.join(id),
            Action::ProbeStandby(id) => self.tunnel.probe_standby(self.clocks.round(), id),
            Action::CloseStandby(id) => self.close_standby(id),
            Action::Leave(id, done) => {
                self.take_out(id);
                self.keep_note();
                // The requester may be gone.
                let _ = done.send(());
            }
            Action::AcceptAttach { id, request, carrier } => {
                self.accept_attach(id, *request, *carrier);
            }
            Action::AcceptJoin { request, carrier } => self.accept_join(*request, *carrier),
            Action::Serve { session, stream, target } => {
                self.sockets.insert_opened(session, stream, target, None);
            }
            Action::Announce(stated) => self.tunnel.announce(stated),
            Action::Keep => _ = self.keep_note(),
            Action::End => self.lifecycle.end(),
            Action::Close(why) => {
                self.tunnel.close(why);
                self.lifecycle.close(why);
            }
            Action::Restart(cause) => {
                let lost = self.tunnel.restart();
                self.handle_restarted(&lost, cause);
            }
            Action::MoveOn => {
                let lost = self.tunnel.restart_drained(|id| self.sockets.target(id).cloned());
                self.handle_restarted(&lost, Cause::TunnelOver);
            }
        }
    }

    fn handle_restarted(&mut self, lost: &[Lost], cause: Cause) {
        lost.iter().for_each(|lost| self.role.lost(lost));
        self.sockets.abort_unknown(cause, &mut self.tunnel, &mut self.role);
    }

    /// Closes all carriers: there is nothing more to send on any of them.
    fn close_carriers(&mut self) {
        self.carriers.close(&self.tunnel);
        self.shared.set_attached(false);
    }

    /// Asks for a new carrier to be bound: the client's part of an attach. The previous carrier is
    /// ignored from now on.
    fn attach(&mut self, carrier: CarrierIo, new: Intent) {
        if self.lifecycle.is_closing() {
            return;
        }
        let now = self.clocks.round();
        let id = self.tunnel.attach(now, || new);
        self.carriers.retire(&self.tunnel);
        self.carriers.add(id, carrier);
        self.shared.set_attached(false);
        self.report_path(now);
    }

    /// Asks for a carrier that stands by to be bound.
    fn attach_standby(&mut self, id: CarrierId) {
        if !self.lifecycle.is_closing() {
            let asked = self.tunnel.attach_standby(self.clocks.round(), id);
            self.handle_asked(asked);
        }
    }

    /// Asks for a carrier that the tunnel has to be bound in place of the lead.
    fn take_over(&mut self) {
        if self.lifecycle.is_closing() {
            return;
        }
        let now = self.clocks.round();
        let successor = self.tunnel.successor().ok_or(NotStandingBy);
        let asked = successor.and_then(|id| self.tunnel.take_over(now, id));
        self.handle_asked(asked);
    }

    /// Handles the request to bind a carrier that the tunnel has. If it could not be made, the
    /// answer that the role waits for does not come.
    fn handle_asked(&mut self, asked: Result<(), NotStandingBy>) {
        match asked {
            Ok(()) => {
                self.carriers.retire(&self.tunnel);
                self.shared.set_attached(false);
                self.report_path(self.clocks.round());
            }
            Err(error) => self.give_up(error),
        }
    }

    /// Gives up an attach that was not sent, although the role expects an answer to it.
    fn give_up(&mut self, why: NotStandingBy) {
        self.tunnel.detach();
        self.carriers.close(&self.tunnel);
        self.handle_lost(&CarrierEnd::Detached(why.to_string()));
    }

    /// Asks for a standby carrier to join the attached one.
    fn join(&mut self, id: CarrierId) {
        if let Err(error) = self.tunnel.join(self.clocks.round(), id) {
            debug!("a carrier cannot join: {error}");
            self.close_standby(id);
        }
    }

    /// Closes a carrier that stands by.
    fn close_standby(&mut self, id: CarrierId) {
        if self.tunnel.is_standby(id) {
            self.tunnel.handle_lost(id);
            self.carriers.reconcile(&self.tunnel, false);
        }
    }

    /// Takes a carrier that stands by out of the tunnel. From here on nothing is sent on it.
    fn take_out(&mut self, id: CarrierId) {
        let carrier = self.carriers.take(id).map(Box::new);
        self.tunnel.handle_lost(id);
        self.role.handle_change(self.clocks.round(), Change::Left(carrier), &self.tunnel);
    }

    /// Handles the server's part of an attach. The old carrier ends only if the new one is bound.
    fn accept_attach(&mut self, id: TunnelId, request: AttachRequest, carrier: CarrierIo) {
        match self.tunnel.handle_attach(self.clocks.round(), id, request) {
            Ok(id) => {
                self.carriers.close(&self.tunnel);
                self.carriers.add(id, carrier);
            }
            Err(error) => {
                let (peer, refusal) = (carrier.peer(), error.refusal());
                self.carriers.refuse(carrier, error);
                let change = Change::Rejected { peer, refusal };
                self.role.handle_change(self.clocks.round(), change, &self.tunnel);
            }
        }
    }

    /// Handles the server's part of a join. A carrier that comes too late is closed.
    fn accept_join(&mut self, request: JoinRequest, carrier: CarrierIo) {
        match self.tunnel.handle_join(request) {
            Ok(id) => {
                self.carriers.add(id, carrier);
                // The client may have sent more after its request.
                let now = self.clocks.round();
                if let Err(violation) = self.tunnel.handle_input(now, id, Bytes::new()) {
                    self.handle_failures(vec![(id, Failure::Violation(violation))]);
                }
            }
            Err(error) => debug!(peer = %carrier.peer(), "a carrier cannot join: {error}"),
        }
    }
}
