//! `etcp cproxy`.

use eternaltcp::address::{Listen, ListenHost, Target};
use eternaltcp::client::{
    Client, ClientConfig, Opener, RemoteForward, Servers, serve_dynamic, serve_transparent,
};
use eternaltcp::control::Subject;
use eternaltcp::recovery::Recovery;
use eternaltcp::{Congestion, Listener, Missing, this_instance};
use tracing::{info, warn};

use crate::cli::{CproxyArgs, OperatorArgs, ServerArgs};
use crate::credentials::Credentials;
use crate::exit::{ExitError, of_client};
use crate::holder::{KeptAtMost, Life, MainProcess, stop_with_holder};
use crate::operator::Operator;
use crate::runtime;
use crate::signals::{Hangup, Signals, run_client};
use crate::sproxy::tunnel_config;
use crate::taken::{cannot_listen, explain};

/// The default address on which cproxy listens.
const DEFAULT_LISTEN: &str = "localhost:5200";

/// The maximum amount that a tunnel holds for its server.
const MAX_QUEUE: u64 = 64 << 20;

/// A listener, and the use of its connections.
struct Rule {
    listen: Listen,
    kind: ListenerKind,
}

/// The destination of a listener's sessions.
enum ListenerKind {
    /// To one target; `None`: the server's default target.
    Forward(Option<Target>),
    /// The target that each connection names.
    Dynamic,
    /// The original destination of each connection.
    Transparent,
}

/// The forwards of one cproxy.
struct Forwards {
    /// Forwards whose listeners are on this machine.
    rules: Vec<Rule>,
    /// Forwards whose listeners are at the server.
    remotes: Vec<RemoteForward>,
}

pub(crate) fn run(args: CproxyArgs, process: MainProcess) -> Result<(), ExitError> {
    let rules = rules(&args)?;
    let remotes = remotes(&args)?;
    let local = rules.iter().map(|rule| rule.listen.to_string());
    let remote = remotes.iter().map(|remote| format!("R:{}", remote.forward.listen));
    let name = local.chain(remote).collect::<Vec<_>>().join(",");
    let mut config = client_config(args.server, name)?;
    (config.max_waiting, config.wait) = (args.max_waiting, args.wait);
    runtime::raise_descriptors()?;
    // A tunnel that the server does not know any more is replaced.
    let most = KeptAtMost { memory: 2 * MAX_QUEUE, tunnels: 4, sessions: runtime::most_sessions() };
    process.serve(most, None, |life| {
        runtime::block_on(serve(config, Forwards { rules, remotes }, args.operator, life))?
    })
}

fn rules(args: &CproxyArgs) -> Result<Vec<Rule>, ExitError> {
    let rule = |listen: &Listen, kind| Rule { listen: listen.clone(), kind };
    let mut rules: Vec<Rule> = Vec::new();
    rules.extend(args.listen.iter().map(|listen| rule(listen, ListenerKind::Forward(None))));
    let forwards = args.forward.iter();
    rules.extend(
        forwards.map(|it| rule(&it.listen, ListenerKind::Forward(Some(it.target.clone())))),
    );
    rules.extend(args.dynamic.iter().map(|listen| rule(listen, ListenerKind::Dynamic)));
    let transparent = args.transparent.iter();
    rules.extend(transparent.map(|listen| rule(listen, ListenerKind::Transparent)));
    if rules.is_empty() && args.remote.is_empty() {
        let listen = DEFAULT_LISTEN.parse().map_err(ExitError::failed)?;
        rules.push(rule(&listen, ListenerKind::Forward(None)));
    }
    Ok(rules)
}

/// Describes the forwards for their user, in a line each.
pub(crate) fn describe_forwards(args: &CproxyArgs) -> Result<Vec<String>, ExitError> {
    let local = rules(args)?.into_iter().map(|rule| {
        let to = match &rule.kind {
            ListenerKind::Forward(Some(target)) => format!("forwards to {target}"),
            ListenerKind::Forward(None) => "forwards to the default target".to_owned(),
            ListenerKind::Dynamic => "serves SOCKS and HTTP CONNECT".to_owned(),
            ListenerKind::Transparent => "forwards redirected connections".to_owned(),
        };
        format!("listens on {}, and {to}", rule.listen)
    });
    let remote = remotes(args)?.into_iter().map(|remote| {
        let (listen, target) = (&remote.forward.listen, &remote.forward.target);
        format!("lets the server listen on {listen}, and forwards to {target}")
    });
    Ok(local.chain(remote).collect())
}

/// Returns the forwards whose listeners are at the server. Each has a different address.
fn remotes(args: &CproxyArgs) -> Result<Vec<RemoteForward>, ExitError> {
    let mut remotes: Vec<RemoteForward> = Vec::new();
    for forward in args.remote.iter().cloned() {
        let is_chosen = forward.listen.port() == Some(0);
        if matches!(forward.listen, Listen::Host(ListenHost::Name(_), _)) {
            return Err(ExitError::Usage(format!(
                "-R {forward}: the server does not look up names to listen on: write an address, localhost or *"
            )));
        }
        if !is_chosen && remotes.iter().any(|other| other.forward.listen == forward.listen) {
            let listen = &forward.listen;
            return Err(ExitError::Usage(format!("-R is given twice for {listen}: leave one out")));
        }
        let mut remote = RemoteForward::new(forward);
        remote.send_proxy = args.send_proxy;
        remotes.push(remote);
    }
    Ok(remotes)
}

async fn serve(
    config: ClientConfig,
    forwards: Forwards,
    operator: OperatorArgs,
    mut life: Life,
) -> Result<(), ExitError> {
    let signals = Signals::listen(Hangup::of_terminal())?;
    life.handles_signals();
    stop_with_holder();
    let mut recovery = life.take_recovery();
    // The addresses of a client that is being drained may be its successor's.
    let is_draining = recovery.is_draining();
    let drained = forwards.rules.iter().filter(|_| is_draining);
    let mut names: Vec<_> = drained.map(|rule| rule.listen.to_string()).collect();
    let rules = forwards.rules.into_iter().filter(|_| !is_draining);
    let listeners: Vec<_> =
        rules.map(|rule| rule.listen(&mut recovery)).collect::<Result<_, _>>()?;
    let servers = config.servers.clone();
    let client = Client::recover_or_start(&mut recovery, config).map_err(ExitError::failed)?;
    let monitor = client.monitor();
    let parts = listeners.iter().flat_map(|(listener, _)| listener.parts());
    names.extend(parts.map(|part| part.to_string()));
    let subject = Subject::Client(monitor.clone());
    let operator = Operator::start(operator, subject, names, &life, &mut recovery)?;
    for (listener, kind) in listeners {
        let accepting = kind.serve(listener, servers.clone(), client.opener());
        let draining = monitor.draining();
        tokio::spawn(async move {
            tokio::select! {
                () = accepting => {}
                () = draining => {}
            }
        });
    }
    for remote in forwards.remotes {
        // The log says where the server listens.
        let _ = client.forward_remotely(remote);
    }
    let leaving = monitor.clone();
    life.prepare_by(move || {
        let monitor = leaving.clone();
        async move { monitor.leave_carrier().await }
    });
    life.ready();
    recovery.finish();
    let end = run_client(client, signals).await;
    operator.end().await;
    of_client(end)
}

impl Rule {
    /// Listens, and logs where.
    fn listen(self, recovery: &mut Recovery) -> Result<(Listener, ListenerKind), ExitError> {
        let listener = self.bind(recovery)?;
        for part in listener.parts() {
            info!("listening on {part}");
        }
        for Missing { address, error, .. } in listener.missing() {
            let why = explain(&Listen::Tcp(*address), error);
            warn!("not listening on {address}: {why}");
        }
        Ok((listener, self.kind))
    }

    fn bind(&self, recovery: &mut Recovery) -> Result<Listener, ExitError> {
        let listen = &self.listen;
        let listener = match self.kind {
            ListenerKind::Transparent => Listener::recover_or_bind_transparent(recovery, listen),
            _ => Listener::recover_or_bind(recovery, listen),
        };
        listener.map_err(|error| cannot_listen(listen, &error))
    }
}

impl ListenerKind {
    /// Serves `listener` for as long as the client runs.
    async fn serve(self, listener: Listener, servers: Servers, opener: Opener) {
        match self {
            Self::Forward(target) => accept(listener, target, opener).await,
            Self::Dynamic => serve_dynamic(listener, opener).await,
            Self::Transparent => serve_transparent(listener, servers, opener).await,
        }
    }
}

/// Forwards every connection that `listener` accepts.
pub(crate) async fn accept(mut listener: Listener, target: Option<Target>, opener: Opener) {
    loop {
        let stream = listener.accept().await;
        if !opener.carry(stream, target.as_ref()).await {
            return;
        }
    }
}

/// Builds the configuration that every kind of client needs, with `name` as the default name.
pub(crate) fn client_config(args: ServerArgs, name: String) -> Result<ClientConfig, ExitError> {
    let congestion = args.congestion.as_ref();
    congestion.map_or(Ok(()), Congestion::check).map_err(ExitError::failed)?;
    let Credentials { servers, keys, trust, pins, via, proxy } = Credentials::from_args(&args)?;
    let instance = this_instance(args.name.unwrap_or(name));
    let mut config = ClientConfig::new(servers, keys, trust, instance);
    (config.pins, config.via, config.proxy) = (pins, via, proxy);
    config.mptcp = args.mptcp.into();
    config.congestion = args.congestion;
    config.carriers = args.carriers;
    config.tunnel = tunnel_config(&args.tunnel)?;
    config.give_up_after = args.give_up_after;
    config.spare = args.spare;
    Ok(config)
}
