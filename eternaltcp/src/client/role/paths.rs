//! A client's handling of its paths: changes of the network, and its spare.

use eternaltcp_proto::{Suspicion, Time, Tunnel};
use tracing::info;

use super::ClientRole;
use crate::client::dial::Dialed;
use crate::client::event::NetworkEvent;
use crate::client::path::is_here;
use crate::driver::Action;

impl ClientRole {
    /// Handles a change of the network, or a sleep of the machine.
    pub(super) fn handle_network(&mut self, now: Time, event: NetworkEvent, tunnel: &mut Tunnel) {
        let is_gone = self.dialing.current_path().is_some_and(|path| !is_here(path.source));
        if is_gone {
            // TCP itself would find out late: nothing can be sent, so that no send fails.
            self.dialing.handle_suspected(now, Some(Suspicion::Path));
        }
        self.actions.extend(self.pool.handle_network());
        self.fill_pool(tunnel);
        self.handle_change_of_path(now, event, tunnel);
        if is_gone {
            // First the user is told what is wrong.
            self.dial(now, tunnel);
            self.use_spare(now, tunnel);
        }
    }

    fn handle_change_of_path(&mut self, now: Time, event: NetworkEvent, tunnel: &mut Tunnel) {
        match event {
            NetworkEvent::Moved(path) => {
                let is_current = self.dialing.current_path() == Some(&path);
                let was_offline = self.patience.set_offline(false);
                if is_current && !was_offline && tunnel.suspicion().is_none() {
                    return tunnel.probe(now);
                }
                info!("the path to the server is now {path}");
                self.dialing.handle_moved(now, Some(path));
            }
            NetworkEvent::Gone => {
                info!("there is no path to the server any more; waiting for one");
                self.patience.set_offline(true);
                self.dialing.handle_offline();
                tunnel.probe(now);
            }
            NetworkEvent::Changed if self.patience.is_offline() || tunnel.suspicion().is_some() => {
                self.dialing.handle_moved(now, None);
            }
            NetworkEvent::Changed if !self.dialing.is_carried() => {
                self.dialing.handle_moved(now, None);
            }
            NetworkEvent::Changed => tunnel.probe(now),
            NetworkEvent::Woke(slept) => {
                info!("awake again after {}", crate::report::duration(slept));
                tunnel.probe(now);
                if !self.dialing.is_carried() {
                    self.dialing.handle_moved(now, None);
                }
            }
        }
    }

    /// Makes the missing carriers beside the attached one.
    pub(super) fn fill_pool(&mut self, tunnel: &Tunnel) {
        self.actions.extend(self.pool.fill(tunnel, self.dialing.current_path()));
    }

    /// Attaches a carrier that the tunnel has, if one is fit and there is a reason to. A carrier
    /// over an address that is gone is not fit.
    pub(super) fn take_over(&mut self, now: Time, tunnel: &Tunnel) {
        if tunnel.successor().is_none() {
            return;
        }
        let path = self.dialing.current_path().filter(|path| is_here(path.source)).cloned();
        let Some(path) = path.filter(|path| self.dialing.take_over(now, path)) else { return };
        info!("a carrier that had joined over {path} takes over");
        self.event_log.handle_commit(now, path, tunnel);
        self.actions.push(Action::TakeOver);
    }

    /// Attaches the spare, if one stands by and there is a reason to.
    pub(super) fn use_spare(&mut self, now: Time, tunnel: &Tunnel) {
        let Some(is_small) = self.pool.fit_spare() else { return };
        if !self.dialing.take_standby(now, is_small) {
            return;
        }
        let Some((id, path, server)) = self.pool.claim_spare() else { return };
        info!("the spare carrier over {path} takes over");
        self.event_log.handle_commit(now, path.clone(), tunnel);
        // The node that has the tunnel has let it stand by.
        self.dialing.set_current(path, server, true);
        self.actions.push(Action::AttachStandby(id));
    }

    /// Attaches the carrier that the process before this one has left.
    pub(super) fn attach_left(&mut self, now: Time, dialed: Dialed, tunnel: &Tunnel) {
        let Dialed { carrier, path, server, is_small, is_of_node, .. } = dialed;
        if !self.dialing.take_standby(now, is_small) {
            return;
        }
        info!("the carrier over {path} that the process before this one has left takes over");
        self.event_log.handle_commit(now, path.clone(), tunnel);
        self.dialing.set_current(path, server, is_of_node);
        let (carrier, new) = (Box::new(carrier), Box::new(self.intent()));
        self.actions.push(Action::Attach { carrier, new });
    }
}
