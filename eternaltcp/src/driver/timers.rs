//! The driver's time: deadlines of the tunnel and its role, and housekeeping.

use std::task::Context;

use eternaltcp_proto::Time;
use tokio::time::Instant;

use super::clocks::Wake;
use super::{Driver, Role};

impl<R: Role> Driver<R> {
    /// Returns whether something was done, so that another round is due.
    pub(super) fn poll_timer(&mut self, cx: &mut Context<'_>) -> bool {
        let wanted = self.next_wake();
        match self.clocks.poll(cx, wanted) {
            Wake::Pending => return false,
            Wake::Early => return true,
            Wake::Due => {}
        }
        self.handle_time(self.clocks.now());
        let now = Instant::now();
        self.sockets.handle_timeout(now, self.clocks.now());
        if self.clocks.take_tick(now) {
            self.handle_tick();
        }
        true
    }

    /// Handles the tunnel's deadline. Everything that has arrived was read before.
    fn handle_time(&mut self, now: Time) {
        if self.tunnel.wants_path_report(now) {
            self.report_path(now);
        }
        self.tunnel.handle_timeout(now);
        self.poll_events();
    }

    /// Gives the tunnel the kernel's reports about its carriers.
    pub(super) fn report_path(&mut self, now: Time) {
        self.carriers.report_paths(now, &mut self.tunnel);
    }

    fn next_wake(&mut self) -> Instant {
        let role = self.role.poll(self.clocks.round(), &mut self.tunnel);
        self.apply_actions();
        let tunnel = self.tunnel.poll_timeout().map(|(time, _)| time);
        let times = tunnel.into_iter().chain(role);
        self.clocks.set_quiet(self.tunnel.is_quiet());
        let times = times.map(|time| self.clocks.instant(time));
        let others = self.lifecycle.closing_until().into_iter().chain(self.sockets.poll_timeout());
        times.chain(others).fold(self.clocks.next_tick(), Instant::min)
    }

    fn handle_tick(&mut self) {
        let now = self.clocks.now();
        self.sockets.handle_tick(now, &mut self.tunnel, self.role.log());
        let held = self.tunnel.held();
        let patience = self.tunnel.config().dead_after;
        self.shared.set_held(held);
        let heard = self.tunnel.liveness().map(|(heard, _)| now.since(heard));
        self.shared.set_silent(heard.is_some_and(|silence| silence >= patience));
        self.shared.set_quiet(self.tunnel.is_quiet());
        self.tunnel.compact();
        self.entrance.tick(&self.tunnel);
        self.check_drain();
        let failures = self.carriers.handle_tick(now, &self.tunnel, patience);
        self.handle_failures(failures);
        let stats = self.tunnel.stats();
        let sessions = self.tunnel.session_count();
        self.trim.handle_look(held, sessions, stats.sent_bytes + stats.delivered_bytes);
        self.role.handle_tick(self.clocks.now(), &mut self.tunnel, &self.sockets);
        self.apply_actions();
    }
}
