//! The part of the status that only the client's end of the tunnel knows.

use std::sync::PoisonError;

use eternaltcp_proto::{FEATURE_NAMES, Suspicion, Tunnel};

use super::ClientRole;
use crate::status::{Peer, ServerPeer, TunnelCondition, TunnelStatus};

impl ClientRole {
    pub(super) fn describe_end(&self, tunnel: &Tunnel, status: &mut TunnelStatus) {
        let statistics = self.event_log.statistics();
        let statistics = statistics.lock().unwrap_or_else(PoisonError::into_inner);
        status.peer = Peer::Server(ServerPeer {
            name: self.config.label.name().map(str::to_owned),
            address: self.dialing.dialer().servers().to_string(),
            dials: statistics.dials,
            doubts: statistics.doubts,
            false_alarms: statistics.false_alarms,
            spare: self.pool.spare().map(|(_, path)| path.to_string()),
            key: self.dialing.dialer().server_key(),
            node: self.dialing.dialer().node().map(|node| node.name.to_string()),
            user_key: self.dialing.dialer().keys().admitted(),
            features: features(tunnel),
            leaving: *self.leaves.borrow(),
        });
        status.last_loss = statistics.last_loss.clone();
        if let (Some(carrier), Some(path)) = (&mut status.carrier, self.dialing.current_path()) {
            carrier.interface = Some(path.interface.clone());
            carrier.small_segments = self.dialing.dialer().uses_small_segments(path);
        }
        status.why = self.why(status.state, tunnel);
    }

    /// Returns why the tunnel is not simply attached.
    fn why(&self, state: TunnelCondition, tunnel: &Tunnel) -> Option<String> {
        let is_offline = self.patience.is_offline();
        let offline = || is_offline.then(|| "no route leads to the server".to_owned());
        match state {
            TunnelCondition::Attached | TunnelCondition::Closing => offline(),
            TunnelCondition::Doubted => {
                let doubt = self.event_log.doubt().map(str::to_owned);
                doubt.or_else(offline).or_else(|| tunnel.suspicion().map(words))
            }
            TunnelCondition::Attaching | TunnelCondition::Detached => {
                offline().or_else(|| self.patience.why().map(str::to_owned))
            }
        }
    }
}

/// Returns the features of the server that this client can use now.
fn features(tunnel: &Tunnel) -> Vec<String> {
    let [standby, _, joined, ..] = FEATURE_NAMES;
    let found = [(standby, tunnel.may_stand_by()), (joined, tunnel.may_join())];
    found.iter().filter(|(_, is_there)| *is_there).map(|(name, _)| (*name).to_owned()).collect()
}

/// Describes a doubt for which no carrier was dialled yet.
fn words(doubt: Suspicion) -> String {
    match doubt {
        Suspicion::Path => "the path is silent",
        Suspicion::Size => "the path is silent, and seems to drop large packets",
        Suspicion::Peer => "the server is silent, though its machine answers",
        Suspicion::Answer => "the server sends data but does not answer",
    }
    .to_owned()
}
