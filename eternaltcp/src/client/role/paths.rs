//! What a client does about its paths: when the network changes, when a better
//! path may be there, with its spare, and with carriers that join.

use std::time::Duration;

use eternaltcp_proto::{Suspicion, Time, Tunnel};
use tokio::time::Instant;
use tracing::{debug, info};

use super::ClientRole;
use crate::client::joining::Joining;
use crate::client::keeper::Taken;
use crate::client::notice::{NetworkEvent, SpareNews};
use crate::client::path::is_here;
use crate::client::{ClientConfig, dial::Dialer};
use crate::driver::{Handle, Verdict};

/// How often a path or a server that is preferred to the present one is tried.
const PREFERENCE_TICK: Duration = Duration::from_secs(30);

impl ClientRole {
    /// The network changed, or the machine slept.
    pub(super) fn handle_network(&mut self, now: Time, event: NetworkEvent, tunnel: &mut Tunnel) {
        if self.wish.current.as_ref().is_some_and(|path| !is_here(path.source)) {
            // TCP itself would find out late: nothing can be sent, and nothing fails.
            self.dialing.failover.handle_suspected(now, Suspicion::Path);
            self.take_spare();
        }
        if let Some(spare) = &mut self.spare {
            spare.handle_change();
            spare.tend(now, tunnel, self.wish.current.as_ref());
        }
        match event {
            NetworkEvent::Moved(path) => {
                let is_current = self.wish.current.as_ref() == Some(&path);
                let was_offline = std::mem::take(&mut self.is_offline);
                if is_current && !was_offline && tunnel.suspicion().is_none() {
                    return tunnel.probe(now);
                }
                info!("the way to the server is now {path}");
                self.wish.path = Some(path);
                self.dialing.failover.handle_moved(now);
            }
            NetworkEvent::Gone => {
                info!("there is no way to the server any more; waiting for one");
                (self.is_offline, self.wish.path) = (true, None);
                tunnel.probe(now);
            }
            NetworkEvent::Changed if self.is_offline || tunnel.suspicion().is_some() => {
                self.dialing.failover.handle_moved(now);
            }
            NetworkEvent::Changed if !self.dialing.failover.is_carried() => {
                self.dialing.failover.handle_moved(now);
            }
            NetworkEvent::Changed => tunnel.probe(now),
            NetworkEvent::Woke(slept) => {
                info!("awake again after {}", crate::report::duration(slept));
                tunnel.probe(now);
                if !self.dialing.failover.is_carried() {
                    self.dialing.failover.handle_moved(now);
                }
            }
        }
    }

    /// From time to time, looks whether there is a better way than the present
    /// one: the path that the system would choose, or a preferred server.
    pub(super) fn prefer(&mut self, now: Time) {
        if self.preferred_at.elapsed() < PREFERENCE_TICK {
            return;
        }
        self.preferred_at = Instant::now();
        let chosen = self.dialing.dialer.chosen_path();
        let is_elsewhere = chosen.is_some() && chosen != self.wish.current;
        if is_elsewhere || self.wish.server > 0 {
            self.wish.path = chosen;
            self.dialing.failover.prefer(now);
        }
    }

    /// A spare came back that was asked for. If the carrier has come to life
    /// meanwhile it is not needed.
    pub(super) fn handle_taken(&mut self, now: Time, taken: Taken, tunnel: &Tunnel) -> Verdict {
        if !self.dialing.failover.take_standby(now) {
            debug!("the spare over {} is not needed any more", taken.path);
            return Verdict::Continue;
        }
        info!("the spare carrier over {} takes over", taken.path);
        self.story.handle_commit(now, taken.path.clone(), tunnel);
        (self.wish.current, self.wish.server) = (Some(taken.path), taken.server);
        Verdict::AttachStandby(Box::new(taken.carrier), Box::new(taken.standby))
    }

    /// Makes what is missing beside the attached carrier.
    pub(super) fn tend_others(&mut self, now: Time, tunnel: &Tunnel) {
        let current = self.wish.current.as_ref();
        if let Some(spare) = &mut self.spare {
            spare.tend(now, tunnel, current);
        }
        if let Some(joining) = &mut self.joining {
            joining.tend(now, tunnel, current);
        }
    }

    /// News of a carrier that is to join.
    pub(super) fn handle_joining(
        &mut self,
        now: Time,
        news: (u64, SpareNews),
        tunnel: &Tunnel,
    ) -> Verdict {
        let Some(joining) = &mut self.joining else { return Verdict::Continue };
        let taken = joining.handle_news(now, news, tunnel, self.wish.current.as_ref());
        taken.map_or(Verdict::Continue, |taken| {
            Verdict::Join(Box::new(taken.carrier), Box::new(taken.standby))
        })
    }

    /// Asks for the spare, if there is one, beside the dial that is begun.
    pub(super) fn take_spare(&mut self) {
        if let Some(spare) = &mut self.spare {
            spare.take();
        }
    }
}

/// What makes the carriers beside the attached one, if any are wanted. Through
/// a program each would be one more log-in on the same path.
pub(super) fn joining(config: &ClientConfig, dialer: &Dialer, handle: &Handle) -> Option<Joining> {
    let wanted = config.carriers.saturating_sub(1).min(config.tunnel.max_joined);
    let is_wanted = wanted > 0 && config.via.is_none();
    is_wanted.then(|| Joining::new(dialer.clone(), handle.clone(), wanted))
}
