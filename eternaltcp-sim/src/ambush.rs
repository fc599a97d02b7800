//! Faults that wait for a reset. Such bugs need several events at one moment, which chance alone
//! combines too rarely.

use eternaltcp_proto::{Cause, Side};

use crate::app::Finish;
use crate::end::SimEnd;
use crate::env::{Env, note};
use crate::link_faults::notice;
use crate::scenario::{Ambush, Deed};
use crate::sides::{BOTH, other};

impl SimEnd {
    /// Handles the reset of a connection by its application, once its tunnel knows of it.
    pub(crate) fn ambush_reset(&self, env: &mut Env) {
        let waits = self.tunnel.unnumbered() > 0 && self.tunnel.is_attached();
        if env.ambush != Some(Ambush::Stop) || !waits {
            return;
        }
        env.counters.stopped_resets += 1;
        for id in self.links() {
            let Some(link) = env.links.get_mut(&id) else { continue };
            BOTH.into_iter().for_each(|side| link.silence(side, env.now));
        }
        let (at, time) = (env.now + env.rng.millis(1, 300), env.rng.millis(6000, 12_000));
        note!(env, "{:?} is to stop at {at:?} for {time:?}", self.side);
        env.plan_deed(at, Deed::Stop(self.side, time));
    }

    /// Handles a reset that waits behind data for the application. Its answer is still sent.
    pub(crate) fn ambush_wait(&self, env: &mut Env) {
        if env.ambush != Some(Ambush::Lose) || !env.rng.chance(60) {
            return;
        }
        for id in self.links() {
            note!(env, "nothing comes to {:?} on link {id}, where a reset waits", self.side);
            if let Some(link) = env.links.get_mut(&id) {
                link.silence(other(self.side), env.now);
            }
        }
    }

    /// Handles a reset that was passed on to the socket, before its sender is told.
    pub(crate) fn ambush_delivery(&self, env: &mut Env, cause: Cause) {
        let is_due = env.ambush == Some(Ambush::Lose) && cause == Cause::Application;
        if !is_due || !env.rng.chance(80) {
            return;
        }
        env.counters.unconfirmed_resets += 1;
        for id in self.links() {
            let notice = notice(env);
            note!(env, "link {id} breaks as a reset was passed on: {notice:?}");
            if let Some(link) = env.links.get_mut(&id) {
                link.break_off(env.now, notice);
            }
        }
    }
}

/// Handles a read of the proxy from an application's socket.
pub(crate) fn ambush_data(env: &mut Env, pair: usize, side: Side) {
    let app = env.model.app(pair, side);
    if env.ambush == Some(Ambush::Lose) && app.plan.finish == Finish::Reset && app.taken == 0 {
        env.corrupts = Some(side);
    }
}
