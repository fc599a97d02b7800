//! `etcp sproxy`.

mod commands;
mod groups;
mod own_key;
mod reload;

use std::net::{Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use eternaltcp::address::{Listen, ListenHost};
use eternaltcp::control::{ReloadAnswer, Subject};
use eternaltcp::policy::{ListenPermit, StrictModes, load_authorized_keys};
use eternaltcp::server::{KeySet, KeySource, Server, ServerConfig, ServerError, ServerMonitor};
use eternaltcp::tls::{Identity, PublicKey};
use eternaltcp::{Congestion, Missing, QuietConfig, TunnelConfig, listen_addresses};
use tracing::{info, warn};

use crate::activation::ActivatedSockets;
use crate::audit::{self, AuditLog, ProcessEvent};
use crate::cli::{
    AuditPlace, GroupSetting, OperatorArgs, SproxyArgs, TunnelArgs, YesNo, group_key,
};
use crate::config::ActiveConfig;
use crate::exit::ExitError;
use crate::holder::{KeptAtMost, Life, MainProcess, stop_with_holder};
use crate::metrics::check_address;
use crate::operator::Operator;
use crate::reloading::{LiveConfig, ReloadRequests};
use crate::signals::{Hangup, SignalRequest, Signals, cannot_upgrade};
use crate::taken::{cannot_listen, explain};
use crate::{paths, runtime};
pub(crate) use commands::NamedCommand;
use own_key::{OwnKey, check_next_identities, next_identities};
use reload::{KEYS, ServerReloader};

pub(crate) fn run(
    mut args: SproxyArgs,
    process: MainProcess,
    sockets: ActivatedSockets,
    active: Option<ActiveConfig>,
) -> Result<(), ExitError> {
    // A program that continues by itself needs no such file.
    if let Some(active) = &active
        && (args.holder.is_check() || !process.has_predecessor())
    {
        check_named_files(&args, active)?;
    }
    let operator = std::mem::take(&mut args.operator);
    let audit = std::mem::take(&mut args.audit.audit_log);
    // Nothing of the records keeps a worker from starting while sessions wait for it.
    if args.holder.is_check() || !process.has_predecessor() {
        audit::check(&audit)?;
    }
    let listen = args.listen.clone();
    let own_key = OwnKey::load(args.identity.take(), process.has_predecessor())?;
    let addresses = carrier_addresses(&listen)?;
    check_address(operator.metrics.as_ref(), [&listen])?;
    let names_keys = names_keys(&args);
    let config = configure(args, own_key.identity.clone(), addresses)?;
    runtime::raise_descriptors()?;
    let setup = Setup { listen, sockets, own_key, config, names_keys, operator, audit, active };
    let most = most_kept(&setup.config);
    let key = setup.own_key.identity.public_key().fingerprint().to_string();
    process.serve(most, Some(key), |life| serve(setup, life))
}

/// The minimum memory of a tunnel, in each direction.
const MIN_TUNNEL: u64 = 128 << 10;

/// The minimum and the maximum number of tunnels that can be kept.
const MIN_TUNNELS: u32 = 64;
const MAX_TUNNELS: u32 = 16_384;

/// The configuration of a worker, and its listener's address.
struct Setup {
    listen: Listen,
    sockets: ActivatedSockets,
    own_key: OwnKey,
    config: ServerConfig,
    /// Whether the settings name the admitted keys.
    names_keys: bool,
    operator: OperatorArgs,
    /// The places of records.
    audit: Vec<AuditPlace>,
    active: Option<ActiveConfig>,
}

/// Returns the maximum state that the tunnels of a server hold.
fn most_kept(config: &ServerConfig) -> KeptAtMost {
    let bounded = |count: u64| u32::try_from(count).unwrap_or(u32::MAX);
    KeptAtMost {
        memory: config.limits.memory,
        tunnels: bounded(config.limits.memory / MIN_TUNNEL).clamp(MIN_TUNNELS, MAX_TUNNELS),
        sessions: runtime::most_sessions(),
    }
}

fn serve(setup: Setup, mut life: Life) -> Result<(), ExitError> {
    let Setup { listen, sockets, own_key, config, names_keys, mut operator, audit, active } = setup;
    let audit = AuditLog::start(&audit);
    let live = LiveConfig::new(active, life.settings_keeper(), KEYS);
    let mut reloader = ServerReloader::new(live, config, own_key, names_keys);
    let mut config = reloader.config()?;
    reloader.take_metrics(&mut operator);
    config.audit = audit.audit();
    config.listeners = sockets.for_carriers()?;
    let runtime = runtime::on_all_processors()?;
    let result = runtime.block_on(async {
        // As with sshd, the loss of a terminal does not end a server.
        let signals = Signals::listen(Hangup::Reloads)?;
        life.handles_signals();
        stop_with_holder();
        commands::warn_of_unusable(NamedCommand::all(&config));
        let mut recovery = life.take_recovery();
        let server =
            Server::recover_or_bind(&mut recovery, config).map_err(|error| match error {
                ServerError::Listen(_, error) => cannot_listen(&listen, &error),
                other => ExitError::failed(other),
            })?;
        let addresses = server.local_addrs().map_err(ExitError::failed)?;
        let subject = Subject::server(server.monitor());
        let texts: Vec<_> = addresses.iter().map(ToString::to_string).collect();
        let taken = (&mut recovery, sockets.for_metrics()?);
        let mut operator =
            Operator::start(operator, subject, texts.clone(), audit.clone(), &life, taken)?;
        recovery.finish();
        for address in &addresses {
            info!("listening on {address}");
        }
        for Missing { address, error, .. } in server.missing() {
            let why = explain(&Listen::Tcp(*address), error);
            warn!("not listening on {address}: {why}");
        }
        // All addresses have the same port.
        introduce(&reloader.public_key(), addresses.first().map_or(0, |address| address.port()));
        life.ready();
        audit.record(&ProcessEvent::begin(life.start(), &texts));
        let requests = (signals, operator.take_reloads());
        let asked = handle(requests, server.monitor(), reloader, &operator, audit.clone());
        server.run(asked).await;
        operator.end().await;
        audit.record(&ProcessEvent::stopped());
        Ok(())
    });
    // A pending name look-up is not waited for.
    runtime.shutdown_background();
    audit.finish();
    result
}

/// Carries out the requests of signals and reloads, until a signal ends the program.
async fn handle(
    (mut signals, mut reloads): (Signals, ReloadRequests),
    monitor: ServerMonitor,
    mut reloader: ServerReloader,
    operator: &Operator,
    audit: AuditLog,
) {
    loop {
        let request = tokio::select! {
            request = signals.next() => request,
            asked = reloads.next() => {
                // The requester may be gone.
                let _ = asked.send(reload(&mut reloader, &monitor, operator, &audit).await);
                continue;
            }
        };
        match request {
            SignalRequest::Stop(_) => return,
            SignalRequest::Reload => {
                drop(reload(&mut reloader, &monitor, operator, &audit).await);
            }
            // A signal to every process called etcp is meant for the clients.
            SignalRequest::Reconnect => {}
            SignalRequest::Upgrade => cannot_upgrade(),
        }
    }
}

/// Opens the files of records again, because they may have been renamed, and reloads.
async fn reload(
    reloader: &mut ServerReloader,
    monitor: &ServerMonitor,
    operator: &Operator,
    audit: &AuditLog,
) -> ReloadAnswer {
    audit.reopen();
    let answer = reloader.reload(monitor, operator).await;
    audit.record(&ProcessEvent::reloaded(&answer));
    answer
}

/// Checks what the start of a server would refuse in its settings. Returns its commands, which a
/// start does not judge.
pub(crate) fn check(args: SproxyArgs) -> Result<Vec<NamedCommand>, ExitError> {
    let none = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0));
    let identity = Identity::generate().map_err(ExitError::failed)?;
    check_next_identities(&args.next_identity)?;
    let args = SproxyArgs { next_identity: Vec::new(), ..args };
    let config = configure(args, identity, (none, Vec::new()))?;
    config.limits.check().map_err(ExitError::failed)?;
    check_congestion(config.congestion.as_ref())?;
    Ok(NamedCommand::all(&config))
}

/// Checks that the system has a congestion control.
pub(crate) fn check_congestion(congestion: Option<&Congestion>) -> Result<(), ExitError> {
    let checked = congestion.map_or(Ok(()), Congestion::check);
    checked.map_err(|error| ExitError::Failed(format!("--congestion: {error}")))
}

/// Returns the configuration of a server that listens on these addresses: the first one, and
/// further ones.
fn configure(
    args: SproxyArgs,
    identity: Identity,
    (listen, also_listen): (SocketAddr, Vec<SocketAddr>),
) -> Result<ServerConfig, ExitError> {
    let permits = &args.permit_listen;
    if permits.len() > 1 && permits.iter().any(ListenPermit::is_none) {
        let text = "--permit-listen none stands beside other addresses: remove it, or them";
        return Err(ExitError::Usage(text.to_owned()));
    }
    let mut files = key_files(&args)?.into_iter();
    let first = files.next().map_or_else(KeySource::none, KeySource::File);
    let mut config = ServerConfig::new(listen, identity, first);
    config.more_keys = files.map(KeySet::new).collect();
    config.more_keys.extend(further_keys(&args)?);
    config.next_identities = next_identities(&args.next_identity)?;
    config.also_listen = also_listen;
    config.node = args.node.node()?;
    config.proxy_from = args.node.proxy_from;
    config.mptcp = args.mptcp.into();
    config.congestion = args.congestion;
    config.strict_modes = (args.strict_modes == YesNo::Yes).then(StrictModes::of_this_user);
    config.target = args.target;
    config.permits = args.permit;
    config.permits_resolver = args.permit_resolver;
    config.listen_permits = args.permit_listen;
    config.send_proxy = args.send_proxy;
    config.tunnel = args
        .limits
        .tunnel(TunnelConfig { keep_detached: args.keep_detached, ..tunnel_config(&args.tunnel)? });
    config.limits = args.limits.server();
    config.limits.max_startups = args.max_startups;
    config.limits.startups_per_source = args.per_source_max_startups;
    config.limits.penalties = args.per_source_penalties.0;
    config.limits.login_grace = args.login_grace;
    config.limits.signature_grace = args.signature_grace;
    config.limits.lookups = args.max_lookups;
    Ok(config)
}

/// Returns the files of admitted keys that the settings name, each with the key that names it.
pub(crate) fn named_files(args: &SproxyArgs) -> Vec<(String, PathBuf)> {
    let plain = args.authorized_keys.iter().map(|path| ("authorized-keys".to_owned(), path));
    let of_groups = args.group.iter().filter_map(|line| match &line.setting {
        GroupSetting::KeyFile(path) => Some((group_key(&line.name, "key-files"), path)),
        _ => None,
    });
    plain.chain(of_groups).map(|(key, path)| (key, path.clone())).collect()
}

/// Checks that the files of admitted keys that a configuration file names can be used, as a reload
/// does.
fn check_named_files(args: &SproxyArgs, active: &ActiveConfig) -> Result<(), ExitError> {
    let modes = (args.strict_modes == YesNo::Yes).then(StrictModes::of_this_user);
    for (key, path) in named_files(args) {
        let Some(place) = active.place(&key) else { continue };
        load_authorized_keys(&path, modes.as_ref())
            .map_err(|error| ExitError::Usage(format!("{place}: {error}")))?;
    }
    Ok(())
}

/// Returns the keys of groups and of commands, the latter last.
fn further_keys(args: &SproxyArgs) -> Result<Vec<KeySet>, ExitError> {
    let user = args.authorized_keys_command_user.as_deref();
    let mut sets = groups::sets(&args.group, user)?;
    if let Some(line) = &args.authorized_keys_command {
        let source = groups::source_of_command(line, user)
            .map_err(|why| ExitError::Usage(format!("--authorized-keys-command: {why}")))?;
        sets.push(KeySet::new(source));
    }
    Ok(sets)
}

/// Returns whether the settings name the admitted keys. Otherwise they are the user's own.
pub(crate) fn names_keys(args: &SproxyArgs) -> bool {
    !args.authorized_keys.is_empty()
        || !args.group.is_empty()
        || args.authorized_keys_command.is_some()
}

/// Returns the files of admitted keys that belong to no group. Without a flag and groups, it is the
/// user's own.
pub(crate) fn key_files(args: &SproxyArgs) -> Result<Vec<PathBuf>, ExitError> {
    if names_keys(args) {
        return Ok(args.authorized_keys.clone());
    }
    paths::authorized_keys().map(|path| vec![path])
}

/// Returns the address to listen on, and the further addresses that it stands for.
pub(crate) fn carrier_addresses(
    listen: &Listen,
) -> Result<(SocketAddr, Vec<SocketAddr>), ExitError> {
    if let Listen::Host(ListenHost::Any, port) = listen {
        return Ok(((Ipv6Addr::UNSPECIFIED, *port).into(), Vec::new()));
    }
    let mut found =
        listen_addresses(listen).map_err(|error| cannot_listen(listen, &error))?.into_iter();
    let first = found.next().ok_or_else(|| {
        ExitError::Usage("sproxy listens on TCP: give --listen address:port".to_owned())
    })?;
    Ok((first, found.collect()))
}

/// Three times the shortest heartbeat interval that a side can request.
const MIN_PATIENCE: Duration = Duration::from_millis(300);

/// Returns the protocol's settings that both sides share.
pub(crate) fn tunnel_config(args: &TunnelArgs) -> Result<TunnelConfig, ExitError> {
    if args.heartbeat * 2 > args.dead_after {
        return Err(ExitError::Usage(format!(
            "--dead-after {:?} leaves no time for heartbeats: make it at least twice --heartbeat ({:?})",
            args.dead_after, args.heartbeat
        )));
    }
    if args.dead_after < MIN_PATIENCE {
        return Err(ExitError::Usage(format!(
            "--dead-after {:?} is too short: the other side may be silent for 100 ms, so make it at least {MIN_PATIENCE:?}",
            args.dead_after
        )));
    }
    Ok(TunnelConfig {
        heartbeat: args.heartbeat,
        dead_after: args.dead_after,
        quiet: args
            .quiet_heartbeat
            .0
            .map(|heartbeat| QuietConfig { after: args.quiet_after, heartbeat }),
        ..TunnelConfig::default()
    })
}

/// Logs how clients can identify this server.
fn introduce(key: &PublicKey, port: u16) {
    info!("server key {}", key.fingerprint());
    info!("known_hosts line for clients: [HOST]:{port} {key}");
}
