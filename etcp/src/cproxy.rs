//! `etcp cproxy`.

mod forwards;
mod reload;

use eternaltcp::address::{Listen, ListenHost};
use eternaltcp::client::{Client, ClientConfig, RemoteForward};
use eternaltcp::control::Subject;
use eternaltcp::this_instance;

use crate::audit::AuditLog;
use crate::cli::{CliCommand, CproxyArgs, OperatorArgs, ServerArgs};
use crate::config::ActiveConfig;
use crate::credentials::Credentials;
use crate::exit::{ExitError, of_client};
use crate::holder::{KeptAtMost, Life, MainProcess, stop_with_holder};
use crate::metrics::check_address;
use crate::operator::Operator;
use crate::reloading::LiveConfig;
use crate::runtime;
use crate::signals::{Hangup, Signals};
use crate::sproxy::{check_congestion, tunnel_config};
pub(crate) use forwards::accept;
use forwards::{BoundRule, ListenerKind, Rule, RunningForwards};
use reload::{ClientReloader, KEYS};

/// The default address on which cproxy listens.
const DEFAULT_LISTEN: &str = "localhost:5200";

/// The maximum amount that a tunnel holds for its server.
const MAX_QUEUE: u64 = 64 << 20;

/// The forwards of one cproxy.
struct Forwards {
    /// Forwards whose listeners are on this machine.
    rules: Vec<Rule>,
    /// Forwards whose listeners are at the server.
    remotes: Vec<RemoteForward>,
}

pub(crate) fn run(
    args: CproxyArgs,
    process: MainProcess,
    active: Option<ActiveConfig>,
) -> Result<(), ExitError> {
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
        let live = LiveConfig::new(active, life.settings_keeper(), KEYS);
        let forwards = Forwards { rules, remotes };
        runtime::block_on(serve(config, forwards, args.operator, live, life))?
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
    check_addresses(&rules)?;
    if rules.is_empty() && args.remote.is_empty() {
        let listen = DEFAULT_LISTEN.parse().map_err(ExitError::failed)?;
        rules.push(rule(&listen, ListenerKind::Forward(None)));
    }
    check_address(args.operator.metrics.as_ref(), rules.iter().map(|rule| &rule.listen))?;
    Ok(rules)
}

/// Checks that each rule has an address that the rules before it leave free.
fn check_addresses(rules: &[Rule]) -> Result<(), ExitError> {
    for (at, Rule { listen, kind }) in rules.iter().enumerate() {
        if let Some(other) = rules[..at].iter().find(|other| listen.is_excluded_by(&other.listen)) {
            let (flag, other) = (kind.flag(), &other.listen);
            let text = format!("{flag} {listen}: {other} is listened on already: leave one out");
            return Err(ExitError::Usage(text));
        }
    }
    Ok(())
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
    mut forwards: Forwards,
    mut operator: OperatorArgs,
    mut live: LiveConfig,
    mut life: Life,
) -> Result<(), ExitError> {
    let signals = Signals::listen(Hangup::of_terminal())?;
    life.handles_signals();
    stop_with_holder();
    if let Some(CliCommand::Cproxy(args)) = live.kept() {
        forwards = Forwards { rules: rules(&args)?, remotes: remotes(&args)? };
        operator.metrics = args.operator.metrics;
    }
    let mut recovery = life.take_recovery();
    // The addresses of a client that is being drained may be its successor's.
    let is_draining = recovery.is_draining();
    let drained = forwards.rules.iter().filter(|_| is_draining);
    let mut names: Vec<_> = drained.map(|rule| rule.listen.to_string()).collect();
    let rules = forwards.rules.into_iter().filter(|_| !is_draining);
    let bound: Vec<_> = rules.map(|rule| rule.listen(&mut recovery)).collect::<Result<_, _>>()?;
    let servers = config.servers.clone();
    let client = Client::recover_or_start(&mut recovery, config).map_err(ExitError::failed)?;
    let monitor = client.monitor();
    let mut running = RunningForwards::new(servers, &client);
    names.extend(bound.iter().flat_map(BoundRule::names));
    let subject = Subject::client(monitor.clone());
    let operator =
        Operator::start(operator, subject, names, AuditLog::default(), &life, &mut recovery)?;
    bound.into_iter().for_each(|bound| running.start(bound));
    forwards.remotes.into_iter().for_each(|remote| running.start_remote(&client, remote));
    operator.set_forwards(running.statuses());
    let leaving = monitor.clone();
    life.prepare_by(move || {
        let monitor = leaving.clone();
        async move { monitor.leave_carrier().await }
    });
    life.ready();
    recovery.finish();
    let end = ClientReloader::new(live, running, &operator).run(client, signals).await;
    operator.end().await;
    of_client(end)
}

/// Builds the configuration that every kind of client needs, with `name` as the default name.
pub(crate) fn client_config(args: ServerArgs, name: String) -> Result<ClientConfig, ExitError> {
    check_congestion(args.congestion.as_ref())?;
    let credentials = Credentials::from_args(&args)?;
    configure(&args, credentials, name)
}

/// Builds the same configuration with these credentials.
pub(crate) fn configure(
    args: &ServerArgs,
    credentials: Credentials,
    name: String,
) -> Result<ClientConfig, ExitError> {
    let Credentials { servers, keys, trust, pins, via, proxy } = credentials;
    let instance = this_instance(args.name.clone().unwrap_or(name));
    let mut config = ClientConfig::new(servers, keys, trust, instance);
    (config.pins, config.via, config.proxy) = (pins, via, proxy);
    config.mptcp = args.mptcp.into();
    config.congestion = args.congestion.clone();
    config.carriers = args.carriers;
    config.tunnel = tunnel_config(&args.tunnel)?;
    config.give_up_after = args.give_up_after;
    config.node_wait = args.node_wait;
    config.spare = args.spare;
    Ok(config)
}
