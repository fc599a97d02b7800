//! Decides whether carriers can have their own connections, or go through ssh.

use std::ffi::OsString;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use eternaltcp::address::ServerAddress;
use eternaltcp::client::{Family, Proxy};
use tokio::net::{TcpSocket, TcpStream, lookup_host};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::handover::SproxyRoute;
use super::login::StartedSproxy;
use crate::cli::SshArgs;
use crate::exit::ExitError;
use crate::message::tell;
use crate::proxy::{self, ProxyChoice};
use crate::runtime;
use crate::source::SourceAddress;
use crate::ssh_config::SshConfig;

/// A port that can be reached answers within this time.
const PATIENCE: Duration = Duration::from_secs(3);

/// The maximum number of addresses of one name that are tried.
const MAX_ADDRESSES: usize = 16;

/// Finds the route and the proxy that it takes, and reports if the route is not the usual one.
pub(crate) fn choose(
    args: &SshArgs,
    settings: &SshConfig,
    started: &StartedSproxy,
    host: &str,
    source: Option<&SourceAddress>,
    login: Vec<OsString>,
) -> Result<(SproxyRoute, Option<Proxy>), ExitError> {
    if args.via_ssh {
        return Ok((SproxyRoute::ViaSsh(login), None));
    }
    let choice = ProxyChoice::of(args.proxy.as_deref())?;
    let why = if settings.is_proxied() && choice.is_none() {
        "ssh itself connects through something else".to_owned()
    } else {
        let servers = servers(settings, started);
        let mut why = String::new();
        for proxy in proxies(choice, &servers) {
            match probe(servers.clone(), source, settings.family(), proxy.clone())? {
                Ok(()) => return Ok((SproxyRoute::Direct(servers), proxy)),
                Err(reason) => why = format!("port {}: {reason}", started.port),
            }
        }
        why
    };
    let only = format!("only the port of ssh can be reached at {host} ({why})");
    if args.no_via_ssh {
        return Err(ExitError::Failed(format!(
            "{only}: give --via-ssh, or open a port there and give --remote-port"
        )));
    }
    tell(&format!(
        "{only}: carriers go through ssh, as with --via-ssh; to give them a port of their own, open one \
         there and give --remote-port"
    ));
    Ok((SproxyRoute::ViaSsh(login), None))
}

/// Returns the proxies to try; `None` means no proxy. The environment's proxy may be meant for
/// other ports.
fn proxies(choice: Option<ProxyChoice>, servers: &[ServerAddress]) -> Vec<Option<Proxy>> {
    match choice {
        Some(ProxyChoice::None) => vec![None],
        Some(ProxyChoice::Through(proxy)) => vec![Some(proxy)],
        None => {
            let is_for = |proxy: &Proxy| servers.iter().all(|server| proxy.is_for(server));
            let named = proxy::of_environment().filter(is_for);
            named.map(Some).into_iter().chain([None]).collect()
        }
    }
}

/// Returns the addresses at which the sproxy may be reached: the name that ssh uses, and the
/// address that ssh has reached.
pub(crate) fn servers(settings: &SshConfig, started: &StartedSproxy) -> Vec<ServerAddress> {
    let hosts = [settings.hostname.as_deref(), started.address.as_deref()];
    let mut servers: Vec<ServerAddress> = Vec::new();
    for host in hosts.into_iter().flatten() {
        let server = ServerAddress { host: host.to_owned(), port: started.port };
        // A name that ssh accepts and etcp cannot parse is left out.
        if !servers.contains(&server) && server.to_string().parse() == Ok(server.clone()) {
            servers.push(server);
        }
    }
    servers
}

/// Connects to the first server that answers; the inner error explains why none does.
fn probe(
    servers: Vec<ServerAddress>,
    source: Option<&SourceAddress>,
    family: Option<Family>,
    proxy: Option<Proxy>,
) -> Result<Result<(), String>, ExitError> {
    let bind = source.map(SourceAddress::address);
    runtime::block_on(async {
        let mut tries = JoinSet::new();
        for server in servers {
            let proxy = proxy.clone();
            tries.spawn(async move {
                timeout(PATIENCE, reach_through(proxy, &server, bind, family))
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

async fn reach_through(
    proxy: Option<Proxy>,
    server: &ServerAddress,
    bind: Option<SocketAddr>,
    family: Option<Family>,
) -> io::Result<TcpStream> {
    let Some(proxy) = proxy else { return reach(server, bind, family).await };
    let failed = |why: String| io::Error::other(format!("the proxy {proxy}: {why}"));
    let stream = reach(proxy.address(), bind, family).await;
    let mut stream = stream.map_err(|error| failed(error.to_string()))?;
    proxy.connect(&mut stream, server).await.map_err(|why| failed(why.to_string()))?;
    Ok(stream)
}

async fn reach(
    server: &ServerAddress,
    bind: Option<SocketAddr>,
    family: Option<Family>,
) -> io::Result<TcpStream> {
    let mut last = io::Error::other("its name has no address of the family that is wanted");
    let addresses = lookup_host((server.host.as_str(), server.port)).await?;
    let addresses = addresses.filter(|it| family.is_none_or(|family| family.has(it.ip())));
    // All are tried at once: a silent one must not change the route.
    let mut tries = JoinSet::new();
    addresses.take(MAX_ADDRESSES).for_each(|address| {
        tries.spawn(connect(address, bind));
    });
    while let Some(tried) = tries.join_next().await {
        match tried {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => last = error,
            Err(error) => last = io::Error::other(error),
        }
    }
    Err(last)
}

async fn connect(address: SocketAddr, bind: Option<SocketAddr>) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    if let Some(bind) = bind.filter(|bind| bind.is_ipv4() == address.is_ipv4()) {
        socket.bind(bind)?;
    }
    socket.connect(address).await
}
