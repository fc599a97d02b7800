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

pub(crate) use carry::run as carry;

use eternaltcp::TunnelConfig;
use eternaltcp::process::as_started;
use eternaltcp::tls::Identity;

use crate::cli::{LogArgs, LogFormat, SshArgs};
use crate::exit::ExitError;
use crate::logging;
use crate::sproxy::tunnel_config;
use crate::ssh_config::{QueryError, SshConfig};
use crate::talk::{Message, PortChoice};
use arguments::SshArguments;
use copy::Copy;
use handover::{Folder, Handover, proxy_word};
use login::{StartedSproxy, log_in};
use route::choose;
use script::EtcpChoice;

pub(crate) fn run(args: SshArgs, log: &LogArgs) -> Result<(), ExitError> {
    let ssh = SshArguments::parse(&args.ssh);
    if !ssh.connect() {
        return Err(become_ssh(&args.ssh));
    }
    let Some(host) = ssh.host().map(OsStr::to_owned) else {
        return Err(ExitError::Usage("say which HOST: etcp ssh [ssh arguments] HOST".to_owned()));
    };
    let tunnel = tunnel_config(&args.tunnel)?;
    let shown = host.to_string_lossy().into_owned();
    let settings = ask(&ssh.of_login(), &host)?;
    let mut login = settings.undone();
    login.extend(ssh.of_login());
    login.extend(["--".into(), host]);
    let (folder, identity) = Folder::make()?;
    let wanted = wanted(&args)?;
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
        give_up_after: args.give_up_after,
        bind_address: source.as_ref().map(|source| source.ip.to_string()),
        bind_interface: source
            .and_then(|it| it.interface)
            .or_else(|| settings.bind_interface.clone()),
        address_family: settings.address_family.clone(),
        proxy: proxy.map(|proxy| proxy.to_secret_url().to_string()),
    })?;
    let proxy = proxy_command(&folder, log)?;
    // With connection sharing, ssh would use a connection without a tunnel; and its keepalives
    // would end it during an outage that the tunnel survives.
    let before = [OsStr::new("-o"), &proxy, OsStr::new("-oControlPath=none")];
    let after = [OsStr::new("-oServerAliveInterval=0")];
    // On success this process is ssh, and nothing of it is dropped.
    Err(become_ssh(&ssh.through(&before, &after)))
}

/// Returns the request to the server's etcp for an sproxy.
fn request(args: &SshArgs, tunnel: &TunnelConfig, identity: &Identity) -> Message {
    Message::new("serve")
        .with("key", identity.public_key())
        .with("ports", args.remote_port.unwrap_or(PortChoice::ANY))
        .with("reach", if args.via_ssh { "local" } else { "any" })
        .with("keep-detached", args.keep_detached.as_millis())
        .with("heartbeat", tunnel.heartbeat.as_millis())
        .with("dead-after", tunnel.dead_after.as_millis())
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

fn wanted(args: &SshArgs) -> Result<EtcpChoice, ExitError> {
    match (&args.remote_etcp, args.copy) {
        (Some(path), _) if path.contains(['\n', '\r']) || path.is_empty() => {
            Err(ExitError::Usage("--remote-etcp: that is not a path".to_owned()))
        }
        (Some(path), _) => Ok(EtcpChoice::Path(path.clone())),
        (None, true) => Copy::of_this().map(EtcpChoice::Copied),
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
