//! The server: it admits clients, keeps their tunnels, and connects their sessions to targets.

mod accept_failure;
mod admit;
mod arrival;
mod audited;
mod carriers;
#[cfg(target_os = "linux")]
mod claim;
mod config;
mod connect;
mod event;
mod eviction;
mod gate;
mod grants;
mod guard;
mod handshake;
mod incoming;
mod key_limits;
mod keys;
mod limits;
mod listen;
mod listeners;
mod log;
mod monitor;
#[cfg(target_os = "linux")]
mod note;
mod notices;
mod phase;
mod refusals;
mod registry;
mod reload;
mod resolver;
#[cfg(target_os = "linux")]
mod resume;
mod role;
mod rules;
mod running;
mod sibling;
mod source_limits;
mod standby;

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

use crate::audit::Audit;
use crate::metrics::ProcessCounters;
use crate::net::congestion::{Congestion, CongestionError};
use crate::net::listener::{AcceptPause, Missing};
use crate::net::lookup::Lookups;
use crate::net::slots::Slots;
use crate::recovery::Recovery;
#[cfg(target_os = "linux")]
use crate::recovery::{EndedTunnel, OwnedListener, RecoveredTunnel};
use crate::status::Events;
#[cfg(target_os = "linux")]
use crate::store::ListenerPurpose;
use arrival::Headers;
use carriers::CarrierListeners;
use eternaltcp_tls::{PublicKey, ServerTls, TlsError};
use gate::Gate;
use keys::KeyStore;
use listeners::Listeners;
use log::SourceLog;
use notices::Notices;
use phase::Phases;
use refusals::RefusalLimits;
use registry::Registry;
use rules::{Replaceable, ServerRules};
use sibling::Sibling;

pub use crate::host_keys::MAX_NEXT_KEYS;
pub use crate::route::{MAX_NODE_ADDRESSES, Node};
pub use config::{ServerConfig, ServerLimits};
pub use gate::{MaxStartups, PenaltyRange};
pub use incoming::IncomingSession;
pub use keys::{KeyCommand, KeyCommandError, KeySet, KeySource};
pub use limits::{LimitsError, MIN_MEMORY, available_memory};
pub use monitor::{KillError, ServerMonitor};
pub use reload::ApplyError;
pub use running::RunningServer;

/// The reason why a server cannot start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// It cannot listen on the address.
    #[error("cannot listen on {0}: {1}")]
    Listen(SocketAddr, io::Error),
    /// The process may not have enough descriptors.
    #[error("{0}")]
    Descriptors(io::Error),
    /// The thread that reads the authorized keys cannot be started.
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
    /// TLS cannot be set up.
    #[error("TLS: {0}")]
    Tls(#[from] TlsError),
    /// The chosen congestion control cannot be used.
    #[error(transparent)]
    Congestion(#[from] CongestionError),
    /// A limit is too low to serve anybody, or contradicts another.
    #[error(transparent)]
    Limits(#[from] LimitsError),
}

/// The state that all tasks of a server share.
#[derive(Debug)]
struct Context {
    tls: ServerTls,
    /// The server's key.
    key: PublicKey,
    /// The server's name among several.
    node: Option<Node>,
    keys: Replaceable<KeyStore>,
    rules: Replaceable<ServerRules>,
    registry: Registry,
    listeners: Arc<Listeners>,
    notices: Notices,
    slots: Slots,
    lookups: Lookups,
    /// The program that accepts sessions itself, if any.
    program: OnceLock<mpsc::Sender<IncomingSession>>,
    phase: Phases,
    /// The previous server, while it is being drained.
    sibling: Sibling,
    events: Events,
    /// The limits of log lines.
    log: Arc<SourceLog>,
    /// The place where records go.
    audit: Audit,
    refusals: RefusalLimits,
    counts: Arc<ProcessCounters>,
    /// The places of connections whose PROXY header is read.
    headers: Headers,
    gate: Gate,
}

impl Context {
    fn new(config: ServerConfig, slots: Slots, sibling: Sibling) -> Result<Self, ServerError> {
        let counts = Arc::new(ProcessCounters::default());
        let tls = ServerTls::new(&config.identity)?;
        let named = config.node.as_ref().map(|node| node.name.clone());
        Ok(Self {
            headers: Headers::new(config.limits.max_startups.full),
            gate: Gate::new(&config.limits, slots.carriers(), Arc::clone(&counts)),
            tls: named.map_or(Ok(tls.clone()), |name| tls.of_node(&config.identity, name))?,
            node: config.node.clone(),
            key: config.identity.public_key(),
            rules: Replaceable::new(ServerRules::of(&config)),
            keys: KeyStore::new(config.key_sets(), config.strict_modes)
                .map(Replaceable::new)
                .map_err(ServerError::Thread)?,
            registry: Registry::default(),
            listeners: Arc::default(),
            lookups: Lookups::new(config.limits.lookups)
                .limited_by("--max-lookups", Arc::clone(&counts)),
            notices: Notices::new(Arc::clone(&counts)),
            slots,
            program: OnceLock::new(),
            phase: Phases::new(),
            sibling,
            events: Events::default(),
            log: Arc::default(),
            audit: config.audit,
            refusals: RefusalLimits::default(),
            counts,
        })
    }

    /// Returns the admitted keys.
    fn keys(&self) -> Arc<KeyStore> {
        self.keys.get()
    }

    /// Returns the present settings. They may be replaced while this call's result is used.
    fn rules(&self) -> Arc<ServerRules> {
        self.rules.get()
    }
}

/// A server that listens.
#[derive(Debug)]
pub struct Server {
    listeners: CarrierListeners,
    context: Arc<Context>,
    /// Tunnels of an earlier process, until the server runs.
    #[cfg(target_os = "linux")]
    recovered: Vec<RecoveredTunnel>,
    /// Tunnels of an earlier process that could not be continued.
    #[cfg(target_os = "linux")]
    ended: Vec<EndedTunnel>,
    /// The listeners of their sessions.
    #[cfg(target_os = "linux")]
    remotes: Vec<OwnedListener>,
}

impl Server {
    /// Listens. [`Self::run`] connects sessions to their targets, as sproxy does; [`Self::start`]
    /// passes them to the program.
    ///
    /// # Errors
    /// The address is in use or does not belong to this machine, TLS cannot be set up, or the
    /// limits would admit nobody.
    ///
    /// # Panics
    /// There is no tokio runtime with I/O and time.
    pub fn bind(config: ServerConfig) -> Result<Self, ServerError> {
        Self::recover_or_bind(&mut Recovery::none(), config)
    }

    /// Listens, and takes over the listeners and the tunnels of an earlier process, if there are
    /// any. They wait until the server [runs](Self::run). If the earlier process was draining, so
    /// is this server.
    ///
    /// # Errors
    /// As [`Self::bind`].
    ///
    /// # Panics
    /// As [`Self::bind`].
    pub fn recover_or_bind(
        recovery: &mut Recovery,
        mut config: ServerConfig,
    ) -> Result<Self, ServerError> {
        config.limits.check()?;
        config.mptcp.check();
        let congestion = config.congestion.as_ref();
        congestion.map_or(Ok(()), Congestion::check)?;
        let given = std::mem::take(&mut config.listeners);
        let (listeners, sibling) = CarrierListeners::recover_or_listen(recovery, &config, given)
            .map_err(|error| ServerError::Listen(config.listen, error))?;
        let slots = config.slots.take().map_or_else(Slots::of_process, Ok);
        let slots = slots.map_err(ServerError::Descriptors)?;
        slots.reserve_for_tunnels();
        let server = Self {
            listeners,
            context: Arc::new(Context::new(config, slots, sibling)?),
            #[cfg(target_os = "linux")]
            recovered: recovery.take_servers(),
            #[cfg(target_os = "linux")]
            ended: recovery.take_ended(),
            #[cfg(target_os = "linux")]
            remotes: recovery.take_owned(ListenerPurpose::Remote, |_| true),
        };
        if let Some(drain) = recovery.drain() {
            server.context.phase.resume(drain);
        }
        Ok(server)
    }

    /// Returns its address; the first one, if there are several.
    ///
    /// # Errors
    /// The system does not report them.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listeners.local_addrs()?.first().copied().ok_or(io::ErrorKind::NotConnected.into())
    }

    /// Returns each of its addresses.
    ///
    /// # Errors
    /// The system does not report them.
    pub fn local_addrs(&self) -> io::Result<Vec<SocketAddr>> {
        self.listeners.local_addrs()
    }

    /// Returns the requested addresses on which it does not listen, and the reasons. A family that
    /// this machine does not have is not included.
    pub fn missing(&self) -> impl Iterator<Item = &Missing> {
        self.listeners.missing()
    }

    /// Returns a handle that inspects and controls the server.
    #[must_use]
    pub fn monitor(&self) -> ServerMonitor {
        ServerMonitor::new(Arc::clone(&self.context))
    }

    /// Serves until `stop` is done or its [`ServerMonitor`] is asked to stop or drain it; then every
    /// tunnel is closed in order, within a second.
    ///
    /// Dropping the future ends every tunnel at once.
    pub async fn run(mut self, stop: impl Future<Output = ()>) {
        let context = Arc::clone(&self.context);
        self.resume().await;
        tokio::select! {
            () = self.accept() => {}
            () = keep_house(&context) => {}
            () = context.phase.over(&context.registry) => {}
            () = self.let_successor_in() => {}
            () = stop => {}
        }
        info!("shutting down");
        let left = context.registry.close_all(context.phase.closing()).await;
        audited::record_left(&context.audit, &left);
        audited::record_more_refusals(&context.audit, context.refusals.finish());
    }

    /// Continues with the tunnels of an earlier process.
    async fn resume(&mut self) {
        #[cfg(target_os = "linux")]
        if !self.recovered.is_empty() || !self.ended.is_empty() {
            // The keys must be known before a target is dialled again, and to name who is recorded.
            self.context.keys().refresh().await;
            self.ended.drain(..).for_each(|ended| resume::record_ended(&self.context, &ended));
            let mut remotes = std::mem::take(&mut self.remotes);
            for tunnel in self.recovered.drain(..) {
                resume::resume_tunnel(&self.context, tunnel, &mut remotes);
            }
        }
    }

    /// Lets a successor listen on the same port, once this server is drained. It continues to
    /// listen itself, because its clients need new carriers.
    async fn let_successor_in(&self) {
        tokio::select! {
            () = self.context.phase.closed_to_tunnels() => {}
            () = self.listeners.keep_claims() => {}
        }
        if let Err(error) = self.listeners.share_port() {
            warn!("this server keeps the port until it ends: {error}");
        }
        std::future::pending().await
    }

    async fn accept(&self) {
        let mut pause = AcceptPause::default();
        loop {
            match self.listeners.accept().await {
                Ok((stream, peer)) => arrival::arrive(&self.context, stream, peer),
                Err(error) => pause.after(&error).await,
            }
        }
    }
}

/// Interval of periodic work.
const TICK: Duration = Duration::from_secs(1);

/// Interval of periodic work while all tunnels are quiet.
const CALM_TICK: Duration = Duration::from_secs(10);

/// Checks the keys again, and ends tunnels whose time is over.
async fn keep_house(context: &Context) {
    let mut before = Instant::now();
    let mut period = TICK;
    loop {
        let now = Instant::now();
        context.keys().refresh().await;
        context.keys().renew(context.registry.users().into_iter());
        // A time in which this process was stopped proves nothing about others.
        let elapsed = now.duration_since(std::mem::replace(&mut before, now)).min(period + TICK);
        context.registry.judge_keys(&context.keys().view(), elapsed);
        context.gate.set_neighbours(context.registry.addresses().into_iter());
        let limits = context.rules().detached_limits();
        context.registry.end_detached(elapsed, &limits, |key, from| {
            context.limits_of(key, from).server.idle_per_key
        });
        context.sibling.look().await;
        context.log.tick();
        let told = context.refusals.tick(now.into_std());
        audited::record_more_refusals(&context.audit, told);
        period = if context.registry.is_calm() { CALM_TICK } else { TICK };
        sleep(period).await;
    }
}
