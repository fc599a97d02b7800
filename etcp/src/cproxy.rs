//! `etcp cproxy`: forwards, through a tunnel to one server or to each of several.

mod addresses;
mod forwards;
mod reload;
mod servers;
mod setup;

use std::collections::HashSet;

use eternaltcp::address::{Listen, ListenHost};
use eternaltcp::client::{ClientConfig, RemoteForward};
use eternaltcp::control::{Clients, Subject};
use eternaltcp::this_instance;

use crate::audit::AuditLog;
use crate::cli::{CliCommand, CproxyArgs, OperatorArgs, ServerArgs};
use crate::config::{ActiveConfig, MAX_SERVERS};
use crate::credentials::Credentials;
use crate::exit::ExitError;
use crate::holder::{KeptAtMost, Life, MainProcess, stop_with_holder};
use crate::metrics::check_address;
use crate::operator::Operator;
use crate::reloading::LiveConfig;
use crate::runtime;
use crate::signals::{Hangup, Signals};
use crate::sproxy::{check_congestion, tunnel_config};
use addresses::TakenAddresses;
pub(crate) use forwards::accept;
use forwards::{ListenerKind, Rule};
use reload::{ClientReloader, KEYS};
use servers::RunningServers;
use setup::{ServerPlan, ServerSetup};

/// The default address on which cproxy listens.
const DEFAULT_LISTEN: &str = "localhost:5200";

/// The maximum amount that a tunnel holds for its server.
const MAX_QUEUE: u64 = 64 << 20;

/// The maximum number of tunnels of a server at a time: one that the server does not know any more is
/// replaced, and those that were left end with their last sessions.
const MAX_TUNNELS: u32 = 8;

pub(crate) fn run(
    mut args: CproxyArgs,
    process: MainProcess,
    active: Option<ActiveConfig>,
) -> Result<(), ExitError> {
    // The addresses of forwards are compared with that of the metrics.
    let OperatorArgs { access, metrics } = &mut args.operator;
    let operator = OperatorArgs { access: std::mem::take(access), metrics: metrics.clone() };
    // A reload may add servers, but cannot add memory.
    let most = u32::try_from(MAX_SERVERS).unwrap_or(u32::MAX);
    let places = if args.tables.is_empty() { 1 } else { most };
    let plans = ServerPlan::all(args)?.into_iter();
    let setups: Vec<_> = plans.map(ServerPlan::set_up).collect::<Result<_, _>>()?;
    runtime::raise_descriptors()?;
    let most = KeptAtMost {
        memory: 3 * MAX_QUEUE * u64::from(places),
        tunnels: MAX_TUNNELS * places,
        sessions: runtime::most_sessions(),
    };
    process.serve(most, None, |life| {
        let live = LiveConfig::new(active, life.settings_keeper(), KEYS);
        runtime::block_on(serve(setups, operator, live, life))?
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
    let mut taken = TakenAddresses::new();
    for Rule { listen, kind } in rules {
        if let Some((other, ())) = taken.find(listen) {
            let flag = kind.flag();
            let text = format!("{flag} {listen}: {other} is listened on already: leave one out");
            return Err(ExitError::Usage(text));
        }
        taken.add(listen, ());
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
    let (mut remotes, mut listens) = (Vec::new(), HashSet::new());
    for forward in &args.remote {
        let is_chosen = forward.listen.port() == Some(0);
        if matches!(forward.listen, Listen::Host(ListenHost::Name(_), _)) {
            return Err(ExitError::Usage(format!(
                "-R {forward}: the server does not look up names to listen on: write an address, localhost or *"
            )));
        }
        if !is_chosen && !listens.insert(&forward.listen) {
            let listen = &forward.listen;
            return Err(ExitError::Usage(format!("-R is given twice for {listen}: leave one out")));
        }
        let mut remote = RemoteForward::new(forward.clone());
        remote.send_proxy = args.send_proxy;
        remotes.push(remote);
    }
    Ok(remotes)
}

/// Checks what the start of a cproxy would refuse in its servers as a whole.
pub(crate) fn check(args: CproxyArgs) -> Result<(), ExitError> {
    ServerPlan::all(args).map(drop)
}

async fn serve(
    mut setups: Vec<ServerSetup>,
    mut operator: OperatorArgs,
    mut live: LiveConfig,
    mut life: Life,
) -> Result<(), ExitError> {
    let signals = Signals::listen(Hangup::of_terminal())?;
    life.handles_signals();
    stop_with_holder();
    if let Some(CliCommand::Cproxy(args)) = live.kept() {
        operator.metrics.clone_from(&args.operator.metrics);
        setups = setup::reloaded(args, setups)?;
    }
    let mut recovery = life.take_recovery();
    // Its counters begin with this process.
    let clients = Clients::default();
    let mut servers = RunningServers::new(clients.clone());
    let drained = servers.start(setups, &mut recovery)?;
    let names = drained.into_iter().chain(servers.names()).collect();
    let subject = Subject::clients(clients.clone());
    let mut operator = Operator::start(
        operator,
        subject,
        names,
        AuditLog::default(),
        &life,
        (&mut recovery, Vec::new()),
    )?;
    // Whoever reads that it listens may ask at once.
    operator.set_forwards(servers.forwards());
    servers.open();
    life.prepare_by(move || {
        let all = clients.all();
        async move {
            // Each has its own time, so that one server that is away delays none.
            let leaving = all.into_iter().map(|client| async move { client.leave_carrier().await });
            let tasks: Vec<_> = leaving.map(tokio::spawn).collect();
            for task in tasks {
                // It does nothing that could panic.
                let _ = task.await;
            }
        }
    });
    life.ready();
    recovery.finish();
    let reloads = operator.take_reloads();
    let end = ClientReloader::new(live, servers, &operator).run(signals, reloads).await;
    operator.end().await;
    end
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
