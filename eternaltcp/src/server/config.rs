//! What a server needs to know, and the limits of its process.

use std::net::SocketAddr;
use std::time::Duration;

use super::gate::{MaxStartups, PenaltyRange};
use super::keys::KeySource;
use crate::address::Target;
use crate::net::congestion::Congestion;
use crate::net::socket::Mptcp;
use crate::policy::{ListenPermit, Permit, StrictModes};
use eternaltcp_tls::Identity;

/// What a server needs to know.
#[derive(Debug)]
pub struct ServerConfig {
    /// Where to listen for carriers.
    pub listen: SocketAddr,
    /// Further addresses, listened on at the port of the first. Of all of them one is enough.
    pub also_listen: Vec<SocketAddr>,
    /// Whether carriers may be MPTCP; TCP is always taken.
    pub mptcp: Mptcp,
    /// The congestion control of carriers; `None`: the system's.
    pub congestion: Option<Congestion>,
    /// The server's key.
    pub identity: Identity,
    /// Whose keys are let in.
    pub authorized_keys: KeySource,
    /// Who may be able to change the file of keys; `None`: anybody.
    pub strict_modes: Option<StrictModes>,
    /// Where a session goes whose client named no target.
    pub target: Target,
    /// Which further targets clients may name.
    pub permits: Vec<Permit>,
    /// Whether clients may ask this machine's resolver, also where no permit
    /// has its address.
    pub permits_resolver: bool,
    /// Where clients may have the server listen; if there are none: on loopback
    /// addresses, on ports from 1024 on.
    pub listen_permits: Vec<ListenPermit>,
    /// Tell targets who connects, by a header of the PROXY protocol.
    pub send_proxy: bool,
    /// The protocol's settings.
    pub tunnel: eternaltcp_proto::Config,
    /// Limits of the whole process.
    pub limits: ServerLimits,
}

impl ServerConfig {
    /// A server for these keys, or those in a file, with defaults for the rest: its default
    /// target is `127.0.0.1:23`, and clients may name no other.
    #[must_use]
    pub fn new(
        listen: SocketAddr,
        identity: Identity,
        authorized_keys: impl Into<KeySource>,
    ) -> Self {
        Self {
            listen,
            also_listen: Vec::new(),
            mptcp: Mptcp::default(),
            congestion: None,
            identity,
            authorized_keys: authorized_keys.into(),
            strict_modes: Some(StrictModes::of_this_user()),
            target: Target::Tcp { host: "127.0.0.1".to_owned(), port: 23 },
            permits: Vec::new(),
            permits_resolver: false,
            listen_permits: Vec::new(),
            send_proxy: false,
            tunnel: eternaltcp_proto::Config::default(),
            limits: ServerLimits::default(),
        }
    }
}

/// Limits of a server process, each with its default.
#[derive(Clone, Debug)]
pub struct ServerLimits {
    /// Memory for the queues of all tunnels, in cost units. Half of it is for
    /// what is sent, half for what is received, and no key gets more than half.
    pub memory: u64,
    /// What a tunnel is granted of it in each direction at first, while all is free, and an
    /// eighth of its key's part at most; later ones get a part of this: the square of the part
    /// that is still free.
    pub tunnel_memory_at_first: u64,
    /// Up to what that grows with its use, as long as as much is left to others.
    pub tunnel_memory: u64,
    /// Carriers that have not proved a key, in all.
    pub max_startups: MaxStartups,
    /// The same from one source: an IPv4 address, or an IPv6 /64. A source has
    /// as many more as there are clients with a tunnel.
    pub startups_per_source: usize,
    /// From when on, and how far, what a source did wrong counts against it;
    /// `None`: never.
    pub penalties: Option<PenaltyRange>,
    /// A carrier's time to begin its handshake, as much more to answer the
    /// server's part of it, and as much again, once its key is proved, to say
    /// what it wants.
    pub login_grace: Duration,
    /// What a carrier has on top of that to prove its key, once it has taken the
    /// server's part: its agent may ask the user.
    pub signature_grace: Duration,
    /// An admitted client's time to tell the numbers of all its sessions.
    pub numbers_grace: Duration,
    /// Tunnels of one key.
    pub tunnels_per_key: usize,
    /// Detached tunnels of one key without sessions: past that the longest detached ends, once
    /// it was detached for [`Self::keep_ghosts`]. Tunnels with sessions are not counted.
    pub idle_per_key: usize,
    /// How long a tunnel is kept whose client closed its carrier and did not come back, while
    /// another process of the same client was attached from the same address.
    pub keep_ghosts: Duration,
    /// Carriers that stand by for one tunnel.
    pub standbys_per_tunnel: usize,
    /// Silence that ends a carrier that stands by; clients send a heartbeat at
    /// least three times in it.
    pub standby_silence: Duration,
    /// Targets being connected at once for one tunnel.
    pub connecting_per_tunnel: usize,
    /// Names of targets that are looked up at once. A key gets half of those that
    /// others leave; further ones wait.
    pub lookups: usize,
    /// A target's time to answer, or the program's that takes sessions itself.
    pub connect_timeout: Duration,
    /// Sessions that wait until the program takes them, where it takes them
    /// itself ([`super::Server::start`]); at least one.
    pub incoming: usize,
    /// Listeners of one tunnel.
    pub listeners_per_tunnel: usize,
    /// Connections to a tunnel's listeners of which its client has not heard;
    /// further ones wait to be accepted. At least one.
    pub max_waiting: usize,
    /// How long one of them waits while there is no carrier; then it is reset.
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
