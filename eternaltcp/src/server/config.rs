//! The configuration of a server, and the limits of its process.

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use super::gate::{MaxStartups, PenaltyRange};
use super::keys::{KeySet, KeySource};
use crate::address::Target;
use crate::audit::Audit;
use crate::net::congestion::Congestion;
use crate::net::slots::Slots;
use crate::net::socket::Mptcp;
use crate::policy::{ListenPermit, Network, Permit, StrictModes};
use crate::route::Node;
use eternaltcp_tls::Identity;

/// The configuration of a server.
#[derive(Debug)]
#[non_exhaustive]
pub struct ServerConfig {
    /// The address to listen on for carriers.
    pub listen: SocketAddr,
    /// Further addresses, with the port of the first. The server starts if it can listen on at
    /// least one of all addresses.
    pub also_listen: Vec<SocketAddr>,
    /// Sockets that already listen, to use instead of listening on the addresses: a service manager
    /// may have opened them.
    pub listeners: Vec<TcpListener>,
    /// Whether carriers may use MPTCP; TCP is always accepted.
    pub mptcp: Mptcp,
    /// The congestion control of carriers; `None` for the system's.
    pub congestion: Option<Congestion>,
    /// The server's key.
    pub identity: Identity,
    /// The server's next keys, which clients are told of: the first [`super::MAX_NEXT_KEYS`].
    pub next_identities: Vec<Identity>,
    /// The name of this server among several that serve one name, and how clients reach it.
    pub node: Option<Node>,
    /// The admitted keys.
    pub authorized_keys: KeySource,
    /// Further admitted keys, such as those of groups.
    pub more_keys: Vec<KeySet>,
    /// The users who may be able to change the file of keys; `None`: anybody.
    pub strict_modes: Option<StrictModes>,
    /// The target of sessions whose client names none.
    pub target: Target,
    /// Further targets that clients may name.
    pub permits: Vec<Permit>,
    /// Whether clients may query this machine's resolver, even if no permit includes its address.
    pub permits_resolver: bool,
    /// The addresses on which clients may make the server listen; if empty: loopback addresses, on
    /// ports from 1024 on.
    pub listen_permits: Vec<ListenPermit>,
    /// Tell targets who connects, in a header of the PROXY protocol.
    pub send_proxy: bool,
    /// The networks of load balancers. A connection from there must begin with a header of the PROXY
    /// protocol, and comes from the address in it.
    pub proxy_from: Vec<Network>,
    /// The protocol's settings.
    pub tunnel: eternaltcp_proto::Config,
    /// Limits of the whole process.
    pub limits: ServerLimits,
    /// The descriptors for sessions and tunnels. `None`: the descriptors that everything in this
    /// process shares ([`Slots::of_process`]).
    pub slots: Option<Slots>,
    /// The place where records of clients and sessions go.
    pub audit: Audit,
}

impl ServerConfig {
    /// Returns all sources of admitted keys.
    pub(super) fn key_sets(&self) -> Vec<KeySet> {
        let first = KeySet::new(self.authorized_keys.clone());
        std::iter::once(first).chain(self.more_keys.iter().cloned()).collect()
    }

    /// Returns the addresses to listen on.
    pub(super) fn addresses(&self) -> impl Iterator<Item = &SocketAddr> {
        [&self.listen].into_iter().chain(&self.also_listen)
    }

    /// Creates a configuration for these keys, or those in a file, with defaults for the rest: the
    /// default target is `127.0.0.1:23`, and clients may name no other.
    #[must_use]
    pub fn new(
        listen: SocketAddr,
        identity: Identity,
        authorized_keys: impl Into<KeySource>,
    ) -> Self {
        Self {
            listen,
            also_listen: Vec::new(),
            listeners: Vec::new(),
            mptcp: Mptcp::default(),
            congestion: None,
            identity,
            next_identities: Vec::new(),
            node: None,
            authorized_keys: authorized_keys.into(),
            more_keys: Vec::new(),
            strict_modes: Some(StrictModes::of_this_user()),
            target: Target::Tcp { host: "127.0.0.1".to_owned(), port: 23 },
            permits: Vec::new(),
            permits_resolver: false,
            listen_permits: Vec::new(),
            send_proxy: false,
            proxy_from: Vec::new(),
            tunnel: eternaltcp_proto::Config::default(),
            limits: ServerLimits::default(),
            slots: None,
            audit: Audit::default(),
        }
    }
}

/// Limits of a server process, each with its default.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ServerLimits {
    /// Memory for the queues of all tunnels, in cost units: half for sending, half for receiving.
    /// No key gets more than half.
    pub memory: u64,
    /// The grant of a new tunnel in each direction while all memory is free, but at most an eighth
    /// of its key's share. Later tunnels get a part of this: the square of the free part.
    pub tunnel_memory_at_first: u64,
    /// The maximum to which the grant grows with its use, as long as the same amount stays free for
    /// others.
    pub tunnel_memory: u64,
    /// The number of carriers that have not proved a key.
    pub max_startups: MaxStartups,
    /// The same for one source: an IPv4 address, or an IPv6 /64. A source gets one more for each
    /// client there that has a tunnel.
    pub startups_per_source: usize,
    /// The range of penalties that count against a source; `None`: never.
    pub penalties: Option<PenaltyRange>,
    /// Time for a carrier to start its handshake, the same again to answer the server's part, and
    /// the same again to send its request once its key is proved.
    pub login_grace: Duration,
    /// Further time for a carrier to prove its key once it has received the server's part: its
    /// agent may ask the user.
    pub signature_grace: Duration,
    /// Time for an admitted client to send the numbers of all its sessions.
    pub numbers_grace: Duration,
    /// Tunnels of one key.
    pub tunnels_per_key: usize,
    /// Detached tunnels of one key without sessions. Beyond that, the longest detached ends, once
    /// it was detached for [`Self::keep_ghosts`]. Tunnels with sessions do not count.
    pub idle_per_key: usize,
    /// The time for which a tunnel is kept whose client closed its carrier and did not return,
    /// while another process of the same client was attached from the same address.
    pub keep_ghosts: Duration,
    /// Standby carriers of one tunnel.
    pub standbys_per_tunnel: usize,
    /// Silence after which a standby carrier is closed; clients send at least three heartbeats in
    /// this time.
    pub standby_silence: Duration,
    /// Targets that are connected at the same time for one tunnel.
    pub connecting_per_tunnel: usize,
    /// Concurrent name look-ups of targets. A key gets half of those that others leave; further
    /// ones wait.
    pub lookups: usize,
    /// Time for a target to answer, or for the program that accepts sessions itself.
    pub connect_timeout: Duration,
    /// Sessions that wait until the program accepts them, if it accepts them itself
    /// ([`super::Server::start`]); at least one.
    pub incoming: usize,
    /// Listeners of one tunnel.
    pub listeners_per_tunnel: usize,
    /// Connections to a tunnel's listeners that its client has not been told of; further ones wait
    /// to be accepted. At least one.
    pub max_waiting: usize,
    /// The time for which such a connection waits while there is no carrier; then it is reset.
    pub wait: Duration,
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self {
            memory: 1 << 30,
            tunnel_memory_at_first: 24 << 20,
            tunnel_memory: 64 << 20,
            max_startups: MaxStartups::default(),
            startups_per_source: 64,
            penalties: Some(PenaltyRange::default()),
            login_grace: Duration::from_secs(5),
            signature_grace: Duration::from_secs(60),
            numbers_grace: Duration::from_secs(30),
            tunnels_per_key: 4096,
            idle_per_key: 64,
            keep_ghosts: Duration::from_secs(600),
            standbys_per_tunnel: 2,
            standby_silence: Duration::from_secs(45),
            connecting_per_tunnel: 256,
            lookups: 128,
            connect_timeout: Duration::from_secs(10),
            incoming: 128,
            listeners_per_tunnel: 64,
            max_waiting: 128,
            wait: Duration::from_secs(60),
        }
    }
}
