//! The sproxy for one user. It has left the login that started it, admits only the key that came
//! through the login, connects only to the sshd of that login (and to what that key's user asked
//! for, who could reach it by the login anyway), and ends with its tunnel.

use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use eternaltcp::address::Target;
use eternaltcp::control::{ProxyKind, Subject};
use eternaltcp::policy::{AuthorizedKeys, Permit};
use eternaltcp::server::{KeySource, Server, ServerConfig, ServerError};
use eternaltcp::tls::{Identity, PublicKey};
use eternaltcp::{QuietConfig, TunnelConfig};

use crate::cli::AccessArgs;
use crate::exit::ExitError;
use crate::operator::Operator;
use crate::signals::{Hangup, Signals};
use crate::talk::{Message, OFF, PortChoice, TalkError};
use crate::{runtime, stdio};

/// Time after the login in which the first client must connect.
const FIRST_CONTACT: Duration = Duration::from_secs(120);

/// Time after the end of the tunnel until this sproxy ends.
const LAST_CONTACT: Duration = Duration::from_secs(5);

/// The request.
#[derive(Debug)]
struct ServeRequest {
    key: PublicKey,
    ports: PortChoice,
    /// Only carriers through ssh are expected.
    is_local: bool,
    /// Further targets than the sshd of the login.
    permits: Vec<Permit>,
    tunnel: TunnelConfig,
}

impl ServeRequest {
    fn read(message: &Message) -> Result<Self, TalkError> {
        let key = message.text("key").and_then(|key| PublicKey::from_openssh(key).ok());
        let millis = |name| message.get(name).map(Duration::from_millis);
        Ok(Self {
            key: key.ok_or(TalkError::Field("key"))?,
            ports: message.get("ports")?,
            is_local: message.text("reach") == Some("local"),
            permits: match message.text("permit") {
                None => Vec::new(),
                Some(_) => vec![message.get("permit")?],
            },
            tunnel: TunnelConfig {
                keep_detached: millis("keep-detached")?,
                heartbeat: millis("heartbeat")?,
                dead_after: millis("dead-after")?,
                quiet: (message.text("quiet") != Some(OFF)).then(QuietConfig::default),
                ..TunnelConfig::default()
            },
        })
    }
}

pub(crate) fn run(request: &Message) -> Result<(), ExitError> {
    // Signals that the login's processes receive at its end do not reach this process.
    rustix::process::setsid().map_err(ExitError::failed)?;
    runtime::block_on(async {
        let stop = Signals::listen(Hangup::Reloads)?.stop();
        let server = match bind(request) {
            Ok((server, answer)) => say(&answer).map(|()| server)?,
            Err(error) => return say(&Message::new("error").with("text", error)),
        };
        super::copies::remove_old();
        let monitor = server.monitor();
        let subject = Subject::server(monitor.clone()).in_role(ProxyKind::OneUser, None);
        let listen = server.local_addr().iter().map(ToString::to_string).collect();
        let operator = Operator::of_command(AccessArgs::default(), subject, listen)?;
        server
            .run(async {
                tokio::select! {
                    _ = stop => {}
                    () = monitor.unused(FIRST_CONTACT, LAST_CONTACT) => {}
                }
            })
            .await;
        operator.end().await;
        Ok(())
    })?
}

/// Sends one message and leaves the login, which ends once no process holds its stdio.
fn say(answer: &Message) -> Result<(), ExitError> {
    let leave = || -> io::Result<()> {
        std::env::set_current_dir("/")?;
        let nothing = File::options().read(true).write(true).open("/dev/null")?;
        rustix::stdio::dup2_stdin(&nothing)?;
        rustix::stdio::dup2_stderr(&nothing)?;
        stdio::write_stdout(format!("{answer}\n").as_bytes())?;
        rustix::stdio::dup2_stdout(&nothing)?;
        Ok(())
    };
    leave().map_err(ExitError::failed)
}

/// Listens, and returns the answer with the port.
fn bind(message: &Message) -> Result<(Server, Message), String> {
    let request = ServeRequest::read(message).map_err(|error| error.to_string())?;
    let login = LoginProcess::of_this_process();
    let identity = Identity::generate().map_err(|error| error.to_string())?;
    runtime::raise_descriptors().map_err(|failure| failure.text().to_owned())?;
    let server = listen(&request, &identity, &login)?;
    let port = server.local_addr().map_err(|error| error.to_string())?.port();
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut answer = Message::new("here")
        .with("port", port)
        .with("pid", std::process::id())
        .with("key", identity.public_key())
        .with("program", program.display());
    if let Some(address) = login.address {
        answer = answer.with("address", address);
    }
    Ok((server, answer))
}

/// Listens on the first free port, over IPv6 and IPv4 if both exist.
fn listen(
    request: &ServeRequest,
    identity: &Identity,
    login: &LoginProcess,
) -> Result<Server, String> {
    let addresses: &[IpAddr] = if request.is_local {
        &[IpAddr::V4(Ipv4Addr::LOCALHOST)]
    } else {
        &[IpAddr::V6(Ipv6Addr::UNSPECIFIED), IpAddr::V4(Ipv4Addr::UNSPECIFIED)]
    };
    let mut last = String::new();
    for port in request.ports.iter() {
        for address in addresses {
            let listen = SocketAddr::new(*address, port);
            let keys = KeySource::Fixed(AuthorizedKeys::parse(&request.key.to_string()));
            let mut config = ServerConfig::new(listen, identity.clone(), keys);
            config.target = login.target();
            config.permits = request.permits.clone();
            config.tunnel = request.tunnel.clone();
            match Server::bind(config) {
                Ok(server) => return Ok(server),
                Err(error @ ServerError::Listen(..)) => last = error.to_string(),
                Err(error) => return Err(error.to_string()),
            }
        }
    }
    Err(format!("{last}; no port of {} is free", request.ports))
}

/// The sshd that started this process.
#[derive(Clone, PartialEq, Eq, Debug)]
struct LoginProcess {
    /// The address at which the client reached it, if known.
    address: Option<IpAddr>,
    port: u16,
}

impl LoginProcess {
    fn of_this_process() -> Self {
        Self::parse(&std::env::var("SSH_CONNECTION").unwrap_or_default())
    }

    /// Parses `SSH_CONNECTION` (ssh(1)): the addresses and ports of client and server. Without it,
    /// sshd is assumed at its usual address.
    fn parse(connection: &str) -> Self {
        let words: Vec<&str> = connection.split(' ').collect();
        let found = match words[..] {
            [_, _, address, port] => address.parse().ok().zip(port.parse().ok()),
            _ => None,
        };
        match found {
            Some((address, port)) => Self { address: Some(address), port },
            None => Self { address: None, port: 22 },
        }
    }

    fn target(&self) -> Target {
        let address = self.address.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
        Target::Tcp { host: address.to_string(), port: self.port }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sshd_of_the_log_in_is_the_target() {
        for (connection, target) in [
            ("192.0.2.7 50000 198.51.100.1 22", "198.51.100.1:22"),
            ("2001:db8::7 50000 2001:db8::1 2222", "[2001:db8::1]:2222"),
            ("", "127.0.0.1:22"),
            ("UNKNOWN 65535 UNKNOWN 65535", "127.0.0.1:22"),
            ("1 2 192.0.2.1 99999", "127.0.0.1:22"),
        ] {
            assert_eq!(
                LoginProcess::parse(connection).target().to_string(),
                target,
                "{connection:?}"
            );
        }
    }

    #[test]
    fn a_request_is_read_whole_or_not_at_all() {
        let key = Identity::generate().unwrap().public_key();
        let request = Message::new("serve")
            .with("ports", "60000-60010")
            .with("keep-detached", 5000)
            .with("heartbeat", 1000)
            .with("dead-after", 3000);
        assert_eq!(ServeRequest::read(&request).unwrap_err(), TalkError::Field("key"));
        let request = ServeRequest::read(&request.with("key", &key)).unwrap();
        assert_eq!((request.key, request.is_local), (key, false));
        assert_eq!(request.tunnel.keep_detached, Duration::from_secs(5));
    }
}
