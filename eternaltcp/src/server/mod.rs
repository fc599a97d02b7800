//! The server's end: it admits clients, keeps their tunnels, and connects
//! their sessions to targets.

mod carriers;
mod connect;
mod eviction;
mod gate;
mod grants;
mod guest;
mod incoming;
mod keys;
mod limits;
mod listen;
mod listeners;
mod log;
mod monitor;
mod notices;
mod phase;
mod registry;
mod resolver;
mod role;
mod running;
mod sibling;
mod standby;
mod unwelcome;
mod welcome;

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, interval};
use tracing::{info, warn};

use crate::address::Target;
use crate::net::congestion::{Congestion, CongestionError};
use crate::net::listener::{Missing, Pause};
use crate::net::lookup::Lookups;
use crate::net::slots::Slots;
use crate::net::socket::Mptcp;
use crate::policy::{ListenPermit, ListenPolicy, Permit, StrictModes, TargetPolicy};
use crate::status::Events;
use carriers::Carriers;
use eternaltcp_tls::{Identity, ServerTls, TlsError};
use eviction::Allowance;
use gate::Gate;
use keys::KeyStore;
use listeners::Listeners;
use log::SourceLog;
use notices::Notices;
use phase::Phases;
use registry::Registry;
use sibling::Sibling;

pub use gate::{MaxStartups, PenaltyRange};
pub use incoming::IncomingSession;
pub use keys::KeySource;
pub use limits::{LimitsError, MIN_MEMORY, available_memory};
pub use monitor::{KillError, Monitor};
pub use running::RunningServer;
pub(crate) use standby::Joiner;

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
    /// itself ([`Server::start`]); at least one.
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

/// Why a server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The address cannot be listened on.
    #[error("cannot listen on {0}: {1}")]
    Listen(SocketAddr, io::Error),
    /// The thread that reads the authorized keys cannot be started.
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
    /// TLS cannot be set up.
    #[error("TLS: {0}")]
    Tls(#[from] TlsError),
    /// Carriers cannot have the congestion control that was chosen.
    #[error(transparent)]
    Congestion(#[from] CongestionError),
    /// A limit is too low to serve anybody, or contradicts another.
    #[error(transparent)]
    Limits(#[from] LimitsError),
}

/// What all tasks of a server share.
#[derive(Debug)]
struct Context {
    tls: ServerTls,
    keys: KeyStore,
    registry: Registry,
    target: Target,
    targets: TargetPolicy,
    listens: ListenPolicy,
    listeners: Arc<Listeners>,
    send_proxy: bool,
    tunnel: eternaltcp_proto::Config,
    limits: ServerLimits,
    notices: Notices,
    slots: Slots,
    lookups: Lookups,
    /// The program that takes sessions itself, where it does.
    program: OnceLock<mpsc::Sender<IncomingSession>>,
    phase: Phases,
    /// The server before this one, while that is drained.
    sibling: Sibling,
    events: Events,
    /// How much is logged of whom.
    log: Arc<SourceLog>,
}

/// A server that listens.
#[derive(Debug)]
pub struct Server {
    listeners: Carriers,
    context: Arc<Context>,
    gate: Gate,
}

impl Server {
    /// Listens. [`Self::run`] connects sessions to their targets, as sproxy
    /// does; [`Self::start`] hands them to the program.
    ///
    /// # Errors
    /// When the address is taken or not this machine's, TLS cannot be set up, or the limits
    /// would admit nobody.
    pub fn bind(config: ServerConfig, slots: Slots) -> Result<Self, ServerError> {
        config.limits.check()?;
        config.mptcp.check();
        let congestion = config.congestion.as_ref();
        congestion.map_or(Ok(()), Congestion::check)?;
        let (listeners, sibling) = Carriers::listen(&config, congestion)
            .map_err(|error| ServerError::Listen(config.listen, error))?;
        slots.reserve_for_tunnels();
        let gate = Gate::new(&config.limits, slots.carriers());
        let context = Context {
            tls: ServerTls::new(&config.identity)?,
            keys: KeyStore::new(config.authorized_keys, config.strict_modes)
                .map_err(ServerError::Thread)?,
            registry: Registry::default(),
            targets: TargetPolicy::new(&config.target, config.permits)
                .permitting_resolver(config.permits_resolver),
            target: config.target,
            listens: ListenPolicy::new(config.listen_permits),
            listeners: Arc::default(),
            send_proxy: config.send_proxy,
            tunnel: config.tunnel,
            lookups: Lookups::new(config.limits.lookups).limited_by("--max-lookups"),
            limits: config.limits,
            notices: Notices::default(),
            slots,
            program: OnceLock::new(),
            phase: Phases::new(),
            sibling,
            events: Events::default(),
            log: Arc::default(),
        };
        Ok(Self { listeners, context: Arc::new(context), gate })
    }

    /// Where it listens; the first address, if there are several.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listeners.local_addrs()?.first().copied().ok_or(io::ErrorKind::NotConnected.into())
    }

    /// Each address where it listens.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn local_addrs(&self) -> io::Result<Vec<SocketAddr>> {
        self.listeners.local_addrs()
    }

    /// Where it does not listen though it was asked to, and why. A family that
    /// this machine does not have is none of it.
    pub fn missing(&self) -> impl Iterator<Item = &Missing> {
        self.listeners.missing()
    }

    /// A way to look at the server while it runs.
    #[must_use]
    pub fn monitor(&self) -> Monitor {
        Monitor::new(Arc::clone(&self.context))
    }

    /// Serves until `stop` is done or its [`Monitor`] is asked to stop or drain it; then every tunnel is closed in order, in a
    /// second at most.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        let context = Arc::clone(&self.context);
        tokio::select! {
            () = self.accept() => {}
            () = keep_house(&context, &self.gate) => {}
            () = context.phase.over(&context.registry) => {}
            () = self.let_successor_in() => {}
            () = stop => {}
        }
        info!("shutting down");
        context.registry.close_all(context.phase.closing()).await;
    }

    /// Lets a successor listen on the same port, once this server is drained. It goes on
    /// listening itself, as the clients that it has need new carriers.
    async fn let_successor_in(&self) {
        self.context.phase.closed_to_new().await;
        if let Err(error) = self.listeners.share_port() {
            warn!("the port stays this server's until it ends: {error}");
        }
        std::future::pending().await
    }

    async fn accept(&self) {
        let mut pause = Pause::default();
        loop {
            match self.listeners.accept().await {
                Ok((stream, peer)) => {
                    let context = Arc::clone(&self.context);
                    self.gate.enter(peer, |ticket| {
                        let welcome = welcome::welcome(context, stream, peer, ticket);
                        tokio::spawn(welcome).abort_handle()
                    });
                }
                Err(error) => pause.after(&error).await,
            }
        }
    }
}

/// How often the house is kept.
const TICK: Duration = Duration::from_secs(1);

/// Judges the keys again, and ends tunnels whose time is over.
async fn keep_house(context: &Context, gate: &Gate) {
    let allowance = Allowance {
        keep: context.tunnel.keep_detached,
        keep_ghosts: context.limits.keep_ghosts,
        idle_per_key: context.limits.idle_per_key,
        memory: context.limits.memory / 2,
    };
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut before = Instant::now();
    loop {
        let now = ticks.tick().await;
        context.keys.refresh().await;
        // A time in which this process stood still proves nothing of others.
        let elapsed = now.duration_since(std::mem::replace(&mut before, now)).min(2 * TICK);
        context.registry.judge_keys(&context.keys.view(), elapsed);
        gate.set_neighbours(context.registry.addresses().into_iter());
        context.registry.end_detached(elapsed, &allowance);
        context.sibling.look().await;
        context.log.tick();
    }
}
