//! What the driver does when the state machine or the role says so.

use eternaltcp_proto::{Cause, Event, Lost, Standby};
use tokio::time::Instant;

use super::{About, CLOSE_PATIENCE, CarrierEnd, CarrierIo, Driver, Role, Verdict, drained};

/// Which events there were.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Handled {
    Nothing,
    /// Only some whose sockets were served: there may be something to send.
    Sockets,
    /// Some after which anything may be different, also the carrier.
    Others,
}

impl<R: Role> Driver<R> {
    pub(super) fn poll_events(&mut self) -> Handled {
        let mut handled = Handled::Nothing;
        while let Some(event) = self.tunnel.poll_event() {
            let is_socket = matches!(event, Event::Touched(_));
            handled = handled.max(if is_socket { Handled::Sockets } else { Handled::Others });
            self.handle_event(event);
        }
        handled
    }

    fn handle_event(&mut self, event: Event) {
        let now = self.now;
        let verdict = match event {
            Event::Touched(id) => return self.serve(id),
            Event::Opened(id) => {
                if let Some(target) = self.tunnel.offered_target(id) {
                    let target = target.clone();
                    if self.drain.is_some() {
                        return self.tunnel.reset(now, id, drained());
                    }
                    let offer = self.role.offered(id, &target);
                    self.offers.insert(id, offer);
                    self.abouts.insert(id, About::offered(target));
                }
                return;
            }
            Event::Attached { is_resumed } => {
                self.shared.set_attached(true);
                self.note_change();
                self.retired.clear();
                self.role.attached(now, is_resumed, &self.tunnel, self.carrier.as_ref());
                return;
            }
            Event::CarrierDead => {
                let silence = self.tunnel.config().dead_after;
                return self.lose(&CarrierEnd::Silent(silence));
            }
            Event::JoinedDead => {
                return self.lose_joined(CarrierEnd::Unanswered);
            }
            Event::Suspected(why) => return self.role.suspected(now, Some(why), &self.tunnel),
            Event::Relieved => return self.role.suspected(now, None, &self.tunnel),
            Event::Refused(refusal) => {
                self.close_carriers();
                self.role.refused(now, refusal, &self.tunnel)
            }
            Event::Closed(why) => {
                self.close_carriers();
                self.role.closed(why)
            }
        };
        self.obey(verdict);
    }

    pub(super) fn check_idle(&mut self) -> bool {
        let count = self.tunnel.session_count();
        if self.had_sessions == count {
            return false;
        }
        self.had_sessions = count;
        self.shared.set_sessions(count);
        let is_idle = count == 0;
        if is_idle {
            self.check_drain();
            let verdict = self.role.idle();
            self.obey(verdict);
        }
        is_idle
    }

    pub(super) fn obey(&mut self, verdict: Verdict) {
        match verdict {
            Verdict::Continue => {}
            Verdict::Attach(carrier) => self.commit(*carrier, None),
            Verdict::AttachStandby(carrier, standby) => self.commit(*carrier, Some(*standby)),
            Verdict::Join(carrier, standby) => self.ask_to_join(*carrier, *standby),
            Verdict::End => self.is_ended = true,
            Verdict::Close(why) => {
                self.tunnel.close(why);
                self.closing.get_or_insert(Instant::now() + CLOSE_PATIENCE);
            }
            Verdict::Restart(cause) => {
                let lost = self.tunnel.restart();
                self.restarted(&lost, cause);
            }
            Verdict::MoveOn => {
                let (locals, abouts) = (&self.locals, &self.abouts);
                let lost = self.tunnel.restart_drained(|id| {
                    let about = locals.get(&id).map(|local| &local.about).or(abouts.get(&id));
                    about.map(|about| about.target().clone())
                });
                self.restarted(&lost, Cause::TunnelOver);
            }
        }
    }

    fn restarted(&mut self, lost: &[Lost], cause: Cause) {
        lost.iter().for_each(|lost| self.role.lost(lost));
        self.abort_unknown(cause);
        self.role.restarted(self.now);
    }

    /// There is nothing more to say on any of them.
    fn close_carriers(&mut self) {
        self.carrier = None;
        self.joined.clear();
        self.retired.clear();
        self.shared.set_attached(false);
    }

    /// The client's part of an attach. Nothing of the carrier before counts any
    /// more; it stays open until the server has taken this one.
    fn commit(&mut self, mut carrier: CarrierIo, standby: Option<Standby>) {
        if self.closing.is_some() {
            return;
        }
        carrier.pass_on();
        let now = self.now;
        let asked = match standby {
            Some(standby) => self.tunnel.attach_standby(now, standby),
            None => {
                let role = &self.role;
                self.tunnel.attach(now, || role.intent());
                Ok(())
            }
        };
        self.retired = self.carrier.replace(carrier).into_iter().collect();
        self.retired.extend(self.joined.drain(..).map(|joined| joined.carrier));
        self.shared.set_attached(false);
        match asked {
            Ok(()) => self.report_path(now),
            Err(error) => self.lose(&CarrierEnd::Detached(error.to_string())),
        }
    }
}
