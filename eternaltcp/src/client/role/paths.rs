//! What a client does about its paths: when the network changes, with its spare, and with
//! carriers that join.

use eternaltcp_proto::{Suspicion, Time, Tunnel};
use tracing::{debug, info};

use super::ClientRole;
use crate::client::event::{Claimed, Handle, NetworkEvent, PoolEvent, PooledId, Purpose};
use crate::client::joining::Joining;
use crate::client::path::{Path, is_here};
use crate::client::spare::Spare;
use crate::client::{ClientConfig, dial::Dialer};
use crate::driver::{Action, CarrierEnd};

/// The carriers that a client keeps beside the attached one.
#[derive(Debug)]
pub(super) struct Pool {
    /// The standing spare, if one is kept.
    spare: Option<Spare>,
    /// The carriers that join, if more than one is wanted.
    joining: Option<Joining>,
}

impl Pool {
    /// What the user wants of it. Through a program each further carrier would be one more log-in
    /// on the same path.
    pub(super) fn new(config: &ClientConfig, dialer: &Dialer, handle: &Handle) -> Self {
        let joining = config.carriers.saturating_sub(1).min(config.tunnel.max_joined);
        let is_joined = joining > 0 && config.via.is_none();
        Self {
            spare: config.spare.then(|| Spare::new(dialer.clone(), handle.clone())),
            joining: is_joined.then(|| Joining::new(dialer.clone(), handle.clone(), joining)),
        }
    }

    /// Makes what is missing beside the attached carrier, which takes the path `current`.
    pub(super) fn fill(&mut self, now: Time, tunnel: &Tunnel, current: Option<&Path>) {
        if let Some(spare) = &mut self.spare {
            spare.tend(now, tunnel, current);
        }
        if let Some(joining) = &mut self.joining {
            joining.tend(now, tunnel, current);
        }
    }

    /// The network changed: the spare may be dead, or another may be possible.
    fn handle_network(&mut self, now: Time, tunnel: &Tunnel, current: Option<&Path>) {
        if let Some(spare) = &mut self.spare {
            spare.handle_change();
            spare.tend(now, tunnel, current);
        }
    }

    /// Another carrier is attached.
    pub(super) fn handle_attached(&mut self) {
        if let Some(joining) = &mut self.joining {
            joining.handle_attached();
        }
    }

    /// The attached carrier is gone: the spare is wanted.
    pub(super) fn handle_lost(&mut self, end: &CarrierEnd) {
        if let Some(joining) = &mut self.joining {
            joining.handle_lost(matches!(end, CarrierEnd::Joined(_)));
        }
        self.claim_spare();
    }

    /// Asks for the spare, if there is one, beside the dial that is begun.
    pub(super) fn claim_spare(&self) {
        if let Some(spare) = &self.spare {
            spare.claim();
        }
    }

    /// The path of the spare that stands by.
    pub(super) fn spare_path(&self) -> Option<&Path> {
        self.spare.as_ref()?.path()
    }
}

impl ClientRole {
    /// The network changed, or the machine slept.
    pub(super) fn handle_network(&mut self, now: Time, event: NetworkEvent, tunnel: &mut Tunnel) {
        if self.dialing.current_path().is_some_and(|path| !is_here(path.source)) {
            // TCP itself would find out late: nothing can be sent, and nothing fails.
            self.dialing.handle_suspected(now, Some(Suspicion::Path));
            self.pool.claim_spare();
        }
        self.pool.handle_network(now, tunnel, self.dialing.current_path());
        match event {
            NetworkEvent::Moved(path) => {
                let is_current = self.dialing.current_path() == Some(&path);
                let was_offline = std::mem::take(&mut self.is_offline);
                if is_current && !was_offline && tunnel.suspicion().is_none() {
                    return tunnel.probe(now);
                }
                info!("the way to the server is now {path}");
                self.dialing.handle_moved(now, Some(path));
            }
            NetworkEvent::Gone => {
                info!("there is no way to the server any more; waiting for one");
                self.is_offline = true;
                self.dialing.handle_offline();
                tunnel.probe(now);
            }
            NetworkEvent::Changed if self.is_offline || tunnel.suspicion().is_some() => {
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

    /// Something happened to a pooled carrier.
    pub(super) fn handle_pool(
        &mut self,
        now: Time,
        id: PooledId,
        event: PoolEvent,
        tunnel: &Tunnel,
    ) -> Action {
        match id.purpose {
            Purpose::Spare => {
                let Some(spare) = &mut self.pool.spare else { return Action::Continue };
                let is_present = spare.handle_event(id.number, &event);
                match event {
                    PoolEvent::Claimed(claimed) if is_present => {
                        self.handle_spare(now, *claimed, tunnel)
                    }
                    _ => Action::Continue,
                }
            }
            Purpose::Join => {
                let Some(joining) = &mut self.pool.joining else { return Action::Continue };
                let current = self.dialing.current_path();
                let claimed = joining.handle_event(now, id.number, event, tunnel, current);
                claimed.map_or(Action::Continue, |claimed| Action::Join {
                    carrier: Box::new(claimed.carrier),
                    standby: Box::new(claimed.standby),
                })
            }
        }
    }

    /// The spare that was claimed is there. If the carrier has come to life
    /// meanwhile it is not needed.
    fn handle_spare(&mut self, now: Time, spare: Claimed, tunnel: &Tunnel) -> Action {
        if !self.dialing.take_standby(now) {
            debug!("the spare over {} is not needed any more", spare.path);
            return Action::Continue;
        }
        info!("the spare carrier over {} takes over", spare.path);
        self.event_log.handle_commit(now, spare.path.clone(), tunnel);
        self.dialing.set_current(spare.path, spare.server);
        Action::AttachStandby { carrier: Box::new(spare.carrier), standby: Box::new(spare.standby) }
    }
}
