//! Whether carriers can have connections of their own, or go through ssh.

use std::ffi::OsString;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use eternaltcp::address::Server;
use eternaltcp::client::Family;
use tokio::net::{TcpSocket, TcpStream, lookup_host};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::handover::Route;
use super::login::Started;
use crate::cli::SshArgs;
use crate::exit::{Failure, tell};
use crate::runtime;
use crate::ssh_config::SshConfig;

/// A port that can be reached answers within this time.
const PATIENCE: Duration = Duration::from_secs(3);

/// Finds the route, and says so where it is not the usual one.
pub(crate) fn choose(
    args: &SshArgs,
    settings: &SshConfig,
    started: &Started,
    host: &str,
    login: Vec<OsString>,
) -> Result<Route, Failure> {
    if args.via_ssh {
        return Ok(Route::ViaSsh(login));
    }
    let why = if settings.is_proxied() {
        "ssh itself gets there through something else".to_owned()
    } else {
        let servers = servers(settings, started);
        match probe(servers.clone(), settings)? {
            Ok(()) => return Ok(Route::Direct(servers)),
            Err(why) => format!("port {}: {why}", started.port),
        }
    };
    let only = format!("only the port of ssh can be reached at {host} ({why})");
    if args.no_via_ssh {
        return Err(Failure::Failed(format!(
            "{only}: give --via-ssh, or open a port there and give --remote-port"
        )));
    }
    tell(&format!(
        "{only}: carriers go through ssh, as with --via-ssh; to give them a port of their own, open one \
         there and give --remote-port"
    ));
    Ok(Route::ViaSsh(login))
}

/// Where the sproxy may be reached: by the name that ssh goes by, and by the
/// address that it has reached.
fn servers(settings: &SshConfig, started: &Started) -> Vec<Server> {
    let hosts = [settings.hostname.as_deref(), started.address.as_deref()];
    let mut servers: Vec<Server> = Vec::new();
    for host in hosts.into_iter().flatten() {
        let server = Server { host: host.to_owned(), port: started.port };
        // What ssh takes and we do not read back is left out.
        if !servers.contains(&server) && server.to_string().parse() == Ok(server.clone()) {
            servers.push(server);
        }
    }
    servers
}

/// Connects to the first that answers; the inner error says why none does.
fn probe(servers: Vec<Server>, settings: &SshConfig) -> Result<Result<(), String>, Failure> {
    let bind = settings.bind_address.map(|address| SocketAddr::new(address, 0));
    let family = settings.family();
    runtime::block_on(async {
        let mut tries = JoinSet::new();
        for server in servers {
            tries.spawn(async move {
                timeout(PATIENCE, reach(&server, bind, family))
                    .await
                    .unwrap_or_else(|_| Err(io::Error::other("no answer")))
            });
        }
        let mut why = "no address".to_owned();
        while let Some(tried) = tries.join_next().await {
            match tried {
                Ok(Ok(_)) => return Ok(()),
                Ok(Err(error)) => why = error.to_string(),
                Err(error) => why = error.to_string(),
            }
        }
        Err(why)
    })
}

async fn reach(
    server: &Server,
    bind: Option<SocketAddr>,
    family: Option<Family>,
) -> io::Result<TcpStream> {
    let mut last = io::Error::other("its name has no address of the family that is wanted");
    let addresses = lookup_host((server.host.as_str(), server.port)).await?;
    for address in addresses.filter(|it| family.is_none_or(|family| family.has(it.ip()))) {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        if let Some(bind) = bind.filter(|bind| bind.is_ipv4() == address.is_ipv4()) {
            socket.bind(bind)?;
        }
        match socket.connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}
