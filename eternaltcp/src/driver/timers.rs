//! The driver's time: deadlines of the tunnel and its role, and housekeeping.

use std::future::Future;
use std::task::Context;
use std::time::Duration;

use eternaltcp_proto::{Cause, Reset, SessionId, Time};
use tokio::time::Instant;

use super::local::{HELD, Local};
use super::{Driver, Role, TICK};
use crate::log_limit::limited;

/// How often sockets that are to be reset are looked at.
const RESET_TICK: Duration = Duration::from_millis(50);

impl<R: Role> Driver<R> {
    pub(super) fn poll_timer(&mut self, cx: &mut Context<'_>) -> bool {
        // A timer that fires early costs less than one that is set anew for
        // every packet: only an earlier deadline moves it.
        let wanted = self.next_wake();
        if wanted < self.timer.deadline() {
            self.timer.as_mut().reset(wanted);
        }
        if self.timer.as_mut().poll(cx).is_pending() {
            return false;
        }
        if Instant::now() < wanted {
            self.timer.as_mut().reset(wanted);
            return true;
        }
        self.timer.as_mut().reset(self.next_tick + TICK);
        self.handle_time(self.clock.now());
        let now = Instant::now();
        if self.reset_tick.take_if(|at| *at <= now).is_some() {
            self.again.extend(&self.resetting);
        }
        if self.held_tick.take_if(|at| *at <= now).is_some() {
            self.check_held();
        }
        if now >= self.next_tick {
            self.next_tick = now + TICK;
            self.handle_tick();
        }
        true
    }

    /// What the tunnel and the role waited for. What arrived was read before.
    fn handle_time(&mut self, now: Time) {
        if self.tunnel.wants_path_report(now) {
            self.report_path(now);
        }
        self.tunnel.handle_timeout(now);
        self.poll_events();
        self.role.handle_timeout(now, &self.tunnel);
    }

    /// Tells the tunnel what the kernel knows of its carrier.
    pub(super) fn report_path(&mut self, now: Time) {
        let report = self.carrier.as_mut().and_then(|carrier| carrier.path_report(now));
        if let Some(report) = report {
            self.tunnel.handle_path_report(now, report);
        }
    }

    fn next_wake(&mut self) -> Instant {
        let mut wake = self.closing.map_or(self.next_tick, |until| self.next_tick.min(until));
        let tunnel = self.tunnel.poll_timeout().map(|(time, _)| time);
        for time in [tunnel, self.role.poll_timeout()].into_iter().flatten() {
            wake = wake.min(self.clock.instant(time));
        }
        if !self.resetting.is_empty() {
            let at = self.reset_tick.get_or_insert_with(|| Instant::now() + RESET_TICK);
            wake = wake.min(*at);
        }
        if !self.held.is_empty() {
            let at = self.held_tick.get_or_insert_with(|| Instant::now() + HELD);
            wake = wake.min(*at);
        }
        wake
    }

    /// Looks after sockets that are not read for want of room.
    fn check_held(&mut self) {
        let now = self.clock.now();
        let locals = &mut self.locals;
        self.held.retain(|id| {
            let Some(local) = locals.get_mut(id) else { return false };
            local.check_held(now);
            local.is_held()
        });
    }

    fn handle_tick(&mut self) {
        self.reap_dead();
        let held = self.tunnel.held();
        self.shared.set_held(held);
        let heard = self.tunnel.liveness().map(|(heard, _)| self.clock.now().since(heard));
        self.shared.set_silent(heard.is_some_and(|it| it >= self.tunnel.config().dead_after));
        self.blocks.trim();
        self.tunnel.compact();
        self.entrance.tick(&self.tunnel);
        self.forget_ended();
        self.check_drain();
        if let Some(carrier) = &mut self.carrier {
            carrier.shrink();
        }
        self.check_joined();
        let stats = self.tunnel.stats();
        let sessions = self.tunnel.session_count();
        self.ebb.handle_look(held, sessions, stats.sent_bytes + stats.delivered_bytes);
        if self.role.has_new_rules() {
            self.end_forbidden();
        }
        let verdict = self.role.tick(self.clock.now(), &mut self.tunnel);
        self.obey(verdict);
    }

    /// Finds sockets that died while nothing is read from them.
    fn reap_dead(&mut self) {
        let unwatched =
            |(_, local): &(&SessionId, &Local)| local.is_unwatched(&self.tunnel) && local.is_dead();
        let dead: Vec<_> = self.locals.iter().filter(unwatched).map(|(id, _)| *id).collect();
        for id in dead {
            limited!(self.role.log(), info, "session {id}: its local connection died");
            self.remove(id);
            self.tunnel.reset(self.clock.now(), id, Reset::new(Cause::Application));
        }
    }
}
