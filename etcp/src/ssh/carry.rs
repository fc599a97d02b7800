//! The program that ssh runs as its `ProxyCommand`: the client's end of the tunnel, with ssh's
//! connection as its only session.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::time::Duration;

use eternaltcp::address::ServerAddress;
use eternaltcp::client::{ClientConfig, Servers, Trust, Via};
use eternaltcp::control::ProxyKind;
use eternaltcp::tls::Identity;
use eternaltcp::{TunnelConfig, this_instance};

use super::handover::{Folder, Handover, SproxyRoute};
use super::login::ALONE;
use super::script;
use crate::cli::{AccessArgs, SshCarryArgs};
use crate::connect::{Carried, carry};
use crate::exit::ExitError;
use crate::ssh_config::family;
use crate::talk::Message;
use crate::title::TerminalTitle;

/// Time for the first contact. It is short, because the port was just tried.
const FIRST_CONTACT: Duration = Duration::from_secs(10);

/// The same for a login by ssh.
const FIRST_LOG_IN: Duration = Duration::from_secs(60);

/// Options that make ssh forward bytes without asking anything, and end when its network is gone.
const WIRE: [&str; 4] = [
    "-oBatchMode=yes",
    "-oConnectTimeout=10",
    "-oServerAliveInterval=5",
    "-oServerAliveCountMax=3",
];

pub(crate) fn run(args: SshCarryArgs) -> Result<(), ExitError> {
    let (handover, identity) = Folder::at(args.folder).read()?;
    let control = handover.control.as_deref().and_then(|control| control.parse().ok());
    let operator = AccessArgs { control, on_event: handover.on_event.clone() };
    let about = handover.host.clone();
    let title = handover.has_title.then(|| TerminalTitle::open(&handover.host)).flatten();
    let carried = Carried { target: None, operator, role: ProxyKind::Ssh, about, title };
    carry(configure(handover, identity)?, carried)
}

fn configure(handover: Handover, identity: Identity) -> Result<ClientConfig, ExitError> {
    let via = match &handover.route {
        SproxyRoute::Direct(_) => None,
        SproxyRoute::ViaSsh(args) => Some(via(&handover, args)),
    };
    let servers = match handover.route {
        SproxyRoute::Direct(servers) => servers,
        SproxyRoute::ViaSsh(_) => vec![ServerAddress { host: handover.host, port: handover.port }],
    };
    let servers = Servers::from_list(servers)
        .ok_or_else(|| ExitError::Failed("there is no server to connect to".to_owned()))?;
    let instance = this_instance(format!("ssh {}", std::process::id()));
    let mut config = ClientConfig::new(servers, identity, Trust::only(handover.key), instance);
    config.pins.address = handover.bind_address.and_then(|address| address.parse().ok());
    config.pins.interface = handover.bind_interface;
    config.pins.family = handover.address_family.as_deref().and_then(family);
    config.proxy = handover.proxy.as_deref().and_then(|url| url.parse().ok());
    let first_contact = if via.is_some() { FIRST_LOG_IN } else { FIRST_CONTACT };
    config.via = via;
    config.tunnel = TunnelConfig {
        heartbeat: handover.heartbeat,
        dead_after: handover.dead_after,
        quiet: handover.quiet,
        ..TunnelConfig::default()
    };
    config.connect_timeout = Some(first_contact);
    config.give_up_after = handover.give_up_after;
    Ok(config)
}

/// Returns the path for carriers through ssh, each of which runs etcp at the server.
fn via(handover: &Handover, login: &[OsString]) -> Via {
    let mut args: Vec<OsString> = ALONE.iter().chain(&WIRE).map(OsString::from).collect();
    args.extend(login.iter().cloned());
    args.push(script::carry().into());
    let request = Message::new("carry").with("port", handover.port);
    Via {
        name: format!("ssh {}", handover.host),
        program: "ssh".into(),
        args,
        greeting: format!("{}\n{request}\n", handover.program).into(),
        marker: Message::new("through").to_string(),
        route_to: handover.route_to.as_ref().and_then(|address| address.parse().ok()).map(
            // Nothing is sent there, so any port works.
            |address| SocketAddr::new(address, handover.port),
        ),
    }
}
