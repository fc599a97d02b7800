//! How the driver handles events of the state machine and actions of the role.

use bytes::Bytes;
use eternaltcp_proto::{
    AttachRequest, Cause, Event, Intent, JoinRequest, Lost, NotStandingBy, SessionId, TunnelId,
};
use tracing::debug;

use super::carriers::{CarriersEvent, Failure, joined_end};
use super::{Action, CarrierEnd, CarrierIo, Change, Driver, Role, StandbyId, drained};

/// Which events there were.
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
        while let Some(change) = self.carriers.poll_event() {
            handled = Handled::Others;
            let change = match change {
                CarriersEvent::StandsBy(id) => Change::StandsBy(id),
                CarriersEvent::StandbyDoubted(id, is_doubted) => {
                    Change::StandbyDoubted(id, is_doubted)
                }
                CarriersEvent::StandbyLost(id, why) => Change::StandbyLost(id, why),
            };
            self.role.handle_change(self.clocks.round(), change, &self.tunnel);
            self.apply_actions();
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
            Event::Refused(refusal) => {
                self.close_carriers();
                Change::Refused(refusal)
            }
            Event::Closed(why) => {
                self.close_carriers();
                Change::Closed(why)
            }
        };
        self.role.handle_change(now, change, &self.tunnel);
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
            Action::StandBy { id, carrier, config } => {
                let standby = self.tunnel.stand_by(self.clocks.round(), config);
                self.carriers.stand_by(id, *carrier, standby);
            }
            Action::AttachStandby(id) => self.attach_standby(id),
            Action::TakeOver => self.take_over(),
            Action::Join(id) => self.join(id),
            Action::ProbeStandby(id) => self.carriers.probe(self.clocks.round(), id),
            Action::CloseStandby(id) => drop(self.carriers.take_standby(id)),
            Action::AcceptAttach { id, request, carrier } => {
                self.accept_attach(id, *request, *carrier);
            }
            Action::AcceptJoin { request, carrier } => self.accept_join(*request, *carrier),
            Action::Serve { session, stream, target } => {
                self.sockets.insert_opened(&mut self.tunnel, session, stream, target, None);
            }
            Action::Keep => self.keep_note(),
            Action::End => self.lifecycle.end(),
            Action::Close(why) => {
                self.tunnel.close(why);
                self.lifecycle.close();
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
        self.carriers.close_standbys();
        lost.iter().for_each(|lost| self.role.lost(lost));
        self.sockets.abort_unknown(cause, &mut self.tunnel, &mut self.role);
    }

    /// Closes all carriers: there is nothing more to send on any of them.
    fn close_carriers(&mut self) {
        self.carriers.close();
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
        self.carriers.replace(id, carrier);
        self.shared.set_attached(false);
        self.report_path(now);
    }

    /// Asks for a carrier that stands by to be bound.
    fn attach_standby(&mut self, id: StandbyId) {
        if self.lifecycle.is_closing() {
            return;
        }
        let now = self.clocks.round();
        let attached = self.carriers.take_standby(id).and_then(|(carrier, standby)| {
            Some((carrier, self.tunnel.attach_standby(now, standby).ok()?))
        });
        let Some((carrier, id)) = attached else {
            // The role waits for an answer, which does not come.
            return self.give_up(NotStandingBy);
        };
        self.carriers.replace(id, carrier);
        self.shared.set_attached(false);
        self.report_path(now);
    }

    /// Asks for a carrier that the tunnel has to be bound in place of the lead.
    fn take_over(&mut self) {
        if self.lifecycle.is_closing() {
            return;
        }
        let now = self.clocks.round();
        let successor = self.tunnel.successor().ok_or(NotStandingBy);
        match successor.and_then(|id| self.tunnel.take_over(now, id)) {
            Ok(()) => {
                self.carriers.close_retired();
                self.carriers.reconcile(&self.tunnel, true);
                self.shared.set_attached(false);
                self.report_path(now);
            }
            Err(error) => self.give_up(error),
        }
    }

    /// Gives up an attach that the role expects an answer to, although it was not sent.
    fn give_up(&mut self, why: NotStandingBy) {
        self.carriers.close();
        self.tunnel.detach();
        self.handle_lost(&CarrierEnd::Detached(why.to_string()));
    }

    /// Asks for a standby carrier to join the attached one.
    fn join(&mut self, id: StandbyId) {
        let Some((carrier, standby)) = self.carriers.take_standby(id) else { return };
        match self.tunnel.join(self.clocks.round(), standby) {
            Ok(id) => self.carriers.join(id, carrier),
            Err(error) => debug!("a carrier cannot join: {error}"),
        }
    }

    /// Handles the server's part of an attach. The old carrier ends only if the new one is bound.
    fn accept_attach(&mut self, id: TunnelId, request: AttachRequest, carrier: CarrierIo) {
        match self.tunnel.handle_attach(self.clocks.round(), id, request) {
            Ok(id) => self.carriers.bind(id, carrier),
            Err(error) => self.carriers.refuse(carrier, error),
        }
    }

    /// Handles the server's part of a join. A carrier that comes too late is closed.
    fn accept_join(&mut self, request: JoinRequest, carrier: CarrierIo) {
        match self.tunnel.handle_join(request) {
            Ok(id) => {
                self.carriers.join(id, carrier);
                // The client may have sent more behind its request.
                let now = self.clocks.round();
                if let Err(violation) = self.tunnel.handle_input(now, id, Bytes::new()) {
                    self.handle_failures(vec![(id, Failure::Violation(violation))]);
                }
            }
            Err(error) => debug!(peer = %carrier.peer(), "a carrier cannot join: {error}"),
        }
    }
}
