//! `etcp ssh`: ssh through a tunnel, to a server on which no sproxy runs.
//!
//! 1. `login`: ssh runs etcp at the server, which becomes an sproxy for this user only
//!    (`one_user`), and reports its port and key;
//! 2. `route`: whether that port can be reached, or only ssh's;
//! 3. then this process becomes the user's ssh, whose `ProxyCommand` is `carry`: the client's end
//!    of the tunnel. A `handover` holds its data.
//!
//! ssh therefore behaves as always towards its terminal, its signals and its caller, and the tunnel
//! lives as long as ssh's connection.

mod arguments;
mod carry;
mod copy;
mod handover;
mod login;
mod route;
mod script;

use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

pub(crate) use carry::run as carry;
pub(crate) use login::StartedSproxy;

use eternaltcp::TunnelConfig;
use eternaltcp::address::ServerAddress;
use eternaltcp::process::as_started;
use eternaltcp::tls::Identity;

use crate::cli::{ControlSocketArg, DemoArgs, LogArgs, LogFormat, SshArgs};
use crate::exit::ExitError;
use crate::sproxy::tunnel_config;
use crate::ssh_config::{QueryError, SshConfig};
use crate::talk::{Message, OFF, PortChoice};
use crate::{logging, title};
use arguments::SshArguments;
use copy::Copies;
use handover::{Folder, Handover, proxy_word};
use login::log_in;
use route::{choose, servers};
use script::EtcpChoice;

/// Time for which the sproxy of a demo is kept after the demo was killed.
const KEPT_BY_DEMO: Duration = Duration::from_secs(60);

pub(crate) fn run(args: SshArgs, log: &LogArgs) -> Result<(), ExitError> {
    let ssh = SshArguments::parse(&args.ssh);
    if !ssh.connect() {
        return Err(become_ssh(&args.ssh));
    }
    let Some(host) = ssh.host().map(OsStr::to_owned) else {
        return Err(ExitError::Usage("say which HOST: etcp ssh [ssh arguments] HOST".to_owned()));
    };
    let tunnel = tunnel_config(&args.tunnel)?;
    let control = control_text(args.operator.control.as_ref())?;
    let shown = host.to_string_lossy().into_owned();
    let settings = ask(&ssh.of_login(), &host)?;
    let mut login = settings.undone();
    login.extend(ssh.of_login());
    login.extend(["--".into(), host]);
    let (folder, identity) = Folder::make()?;
    let wanted = wanted(args.remote_etcp.as_deref(), args.copy)?;
    let request = request(&args, &tunnel, &identity);
    let started = log_in(&login, &shown, &wanted, &request)?;
    let source = settings.source();
    let (route, proxy) = choose(&args, &settings, &started, &shown, source.as_ref(), login)?;
    let StartedSproxy { port, key, program, address } = started;
    folder.write(&Handover {
        host: shown,
        route,
        port,
        key,
        program,
        // If ssh goes through a jump or a command, the route to this address is not the path.
        route_to: address.filter(|_| !settings.is_proxied()),
        heartbeat: tunnel.heartbeat,
        dead_after: tunnel.dead_after,
        quiet: tunnel.quiet,
        give_up_after: args.give_up_after,
        bind_address: source.as_ref().map(|source| source.ip.to_string()),
        bind_interface: source
            .and_then(|it| it.interface)
            .or_else(|| settings.bind_interface.clone()),
        address_family: settings.address_family.clone(),
        proxy: proxy.map(|proxy| proxy.to_secret_url().to_string()),
        control,
        on_event: args.operator.on_event,
        has_title: !args.no_title && title::is_wanted(),
    })?;
    let proxy = proxy_command(&folder, log)?;
    // With connection sharing, ssh would use a connection without a tunnel; and its keepalives
    // would end it during an outage that the tunnel survives.
    let before = [OsStr::new("-o"), &proxy, OsStr::new("-oControlPath=none")];
    let after = [OsStr::new("-oServerAliveInterval=0")];
    // On success this process is ssh, and nothing of it is dropped.
    Err(become_ssh(&ssh.through(&before, &after)))
}

/// Returns the place of the control socket as its flag names it.
fn control_text(control: Option<&ControlSocketArg>) -> Result<Option<String>, ExitError> {
    match control {
        None => Ok(None),
        Some(ControlSocketArg::None) => Ok(Some("none".to_owned())),
        Some(ControlSocketArg::At(path)) => {
            path.to_str().map(|it| Some(it.to_owned())).ok_or_else(|| {
                ExitError::Usage(format!("--control {}: the path is not UTF-8", path.display()))
            })
        }
    }
}

/// Returns the request to the server's etcp for an sproxy.
fn request(args: &SshArgs, tunnel: &TunnelConfig, identity: &Identity) -> Message {
    let message = Message::new("serve")
        .with("key", identity.public_key())
        .with("ports", args.remote_port.unwrap_or(PortChoice::ANY))
        .with("reach", if args.via_ssh { "local" } else { "any" })
        .with("keep-detached", args.keep_detached.as_millis())
        .with("heartbeat", tunnel.heartbeat.as_millis())
        .with("dead-after", tunnel.dead_after.as_millis());
    if tunnel.quiet.is_some() { message } else { message.with("quiet", OFF) }
}

/// Asks ssh what it would do for `host` with these options.
fn ask(options: &[OsString], host: &OsStr) -> Result<SshConfig, ExitError> {
    SshConfig::of_login(options, host).map_err(|error| match error {
        QueryError::NoSsh => ExitError::Failed("cannot start ssh: it is not installed".to_owned()),
        QueryError::Failed { code, stderr } => {
            logging::say(&stderr);
            ExitError::Ended(code.and_then(|code| code.try_into().ok()).unwrap_or(255))
        }
        QueryError::Broken(why) => ExitError::Failed(why),
    })
}

/// Starts an sproxy at `host` by a login, which admits this key, and connects it to the machine of
/// the login only. Returns it with the addresses at which it may be reached.
pub(crate) fn start_one_user(
    host: &str,
    args: &DemoArgs,
    identity: &Identity,
    tunnel: &TunnelConfig,
) -> Result<(StartedSproxy, Vec<ServerAddress>), ExitError> {
    let file = args.server.ssh_config.iter();
    let options: Vec<OsString> = file.flat_map(|file| ["-F".into(), file.into()]).collect();
    let settings = ask(&options, host.as_ref())?;
    let mut login = settings.undone();
    login.extend(options);
    login.extend([OsString::from("--"), OsString::from(host)]);
    let request = Message::new("serve")
        .with("key", identity.public_key())
        .with("ports", args.remote_port.unwrap_or(PortChoice::ANY))
        .with("reach", "any")
        .with("permit", "localhost:*")
        .with("keep-detached", KEPT_BY_DEMO.as_millis())
        .with("heartbeat", tunnel.heartbeat.as_millis())
        .with("dead-after", tunnel.dead_after.as_millis());
    let wanted = wanted(args.remote_etcp.as_deref(), args.copy)?;
    let started = log_in(&login, host, &wanted, &request)?;
    let servers = servers(&settings, &started);
    Ok((started, servers))
}

fn wanted(remote_etcp: Option<&str>, copy: bool) -> Result<EtcpChoice, ExitError> {
    match (remote_etcp, copy) {
        (Some(path), _) if path.contains(['\n', '\r']) || path.is_empty() => {
            Err(ExitError::Usage("--remote-etcp: that is not a path".to_owned()))
        }
        (Some(path), _) => Ok(EtcpChoice::Path(path.to_owned())),
        (None, true) => Copies::find().map(EtcpChoice::Copied),
        (None, false) => Ok(EtcpChoice::Found),
    }
}

/// Returns the option that makes ssh run [`carry()`], with the log settings of this command.
fn proxy_command(folder: &Folder, log: &LogArgs) -> Result<OsString, ExitError> {
    let this = std::env::current_exe().map_err(|error| {
        ExitError::Failed(format!("the path of this program is not known: {error}"))
    })?;
    let mut option = OsString::from("ProxyCommand=");
    option.push(proxy_word(this.as_os_str()));
    option.push(" -v".repeat(log.verbose.into()));
    if matches!(log.log_format, LogFormat::Json) {
        option.push(" --log-format json");
    }
    option.push(" ssh-carry ");
    option.push(proxy_word(folder.path().as_os_str()));
    Ok(option)
}

/// Replaces this process. Returns only on failure.
fn become_ssh(args: &[OsString]) -> ExitError {
    // The writer thread of the log ends with this program.
    logging::finish();
    ExitError::Failed(format!(
        "cannot start ssh: {}",
        as_started(Command::new("ssh").args(args)).exec()
    ))
}
