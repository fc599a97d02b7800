//! The configuration of a client.

use std::time::Duration;

use eternaltcp_proto::Instance;

use super::{ClientLabel, Pins, Proxy, Servers, Trust, UserKeys, Via};
use crate::net::congestion::Congestion;
use crate::net::slots::Slots;
use crate::net::socket::Mptcp;

/// The configuration of a client.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ClientConfig {
    /// The addresses of sproxy.
    pub servers: Servers,
    /// The pinned parts of the path.
    pub pins: Pins,
    /// A program whose stdio carriers go through; `None` for direct connections.
    pub via: Option<Via>,
    /// The proxy that carriers go through; `None` for direct connections. `via` overrides it.
    pub proxy: Option<Proxy>,
    /// Whether carriers use MPTCP.
    pub mptcp: Mptcp,
    /// The congestion control of carriers; `None` for the system's.
    pub congestion: Option<Congestion>,
    /// The user's keys.
    pub keys: UserKeys,
    /// The trusted servers.
    pub trust: Trust,
    /// The identity of this client, with which a later one ends its ghost.
    pub instance: Instance,
    /// The protocol's settings.
    pub tunnel: eternaltcp_proto::Config,
    /// The client ends when the server could not be reached for this long; `None` for never.
    pub give_up_after: Option<Duration>,
    /// The time for which the node that has the tunnel is waited for while other machines answer;
    /// then any server is asked for the tunnel.
    pub node_wait: Duration,
    /// The client ends if the server is not reached for the first time within this time.
    pub connect_timeout: Option<Duration>,
    /// New sessions that the server has not been told of; further ones wait to be accepted. At
    /// least one.
    pub max_waiting: usize,
    /// The time for which such a connection waits while there is no carrier; then it is reset.
    pub wait: Duration,
    /// Whether to keep a second carrier, authenticated and not attached, over another interface: a dead path
    /// then costs one round trip.
    pub spare: bool,
    /// The number of carriers at a time, 1 to [`super::MAX_CARRIERS`]. With more than one, the others
    /// carry bulk: together they get a larger share of a path that loses packets.
    pub carriers: usize,
    /// If the server asks its clients to move to another one, a second tunnel is begun within this time,
    /// at a moment that is chosen at random; see [`super::MOVE_WITHIN`]. `None`: the client stays.
    pub move_within: Option<Duration>,
    /// Closes the tunnel when its last session has ended.
    pub ends_when_idle: bool,
    /// The descriptors for connections that [remote forwards](super::Client::forward_remotely) make here;
    /// `None`: the descriptors that everything in this process shares ([`Slots::of_process`]).
    pub slots: Option<Slots>,
    /// Its place among several clients of one program.
    pub label: ClientLabel,
}

impl ClientConfig {
    /// Creates a configuration with defaults: it never gives up, and at most 128 new connections
    /// wait for up to a minute.
    #[must_use]
    pub fn new(
        servers: Servers,
        keys: impl Into<UserKeys>,
        trust: Trust,
        instance: Instance,
    ) -> Self {
        Self {
            servers,
            pins: Pins::default(),
            via: None,
            proxy: None,
            mptcp: Mptcp::default(),
            congestion: None,
            keys: keys.into(),
            trust,
            instance,
            tunnel: eternaltcp_proto::Config::default(),
            give_up_after: None,
            node_wait: Duration::from_secs(60),
            connect_timeout: None,
            max_waiting: 128,
            wait: Duration::from_secs(60),
            spare: false,
            carriers: 1,
            move_within: None,
            ends_when_idle: false,
            slots: None,
            label: ClientLabel::default(),
        }
    }
}
