//! Finds out which service answers at an open port, and whether large packets reach it.

use std::net::SocketAddr;
use std::time::Duration;

use eternaltcp::clean;
use eternaltcp::client::{Pins, connect_pinned};
use eternaltcp::tls::{Foreign, HandshakeError, TlsError, answers_hello, identify};
use rustix::net::sockopt::{ip_mtu, ipv6_mtu};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::report::DoctorReport;

/// Time for a connection to a port that answered before.
const CONNECT: Duration = Duration::from_secs(5);

/// Time for each step of a handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Time for a service that speaks first.
const BANNER: Duration = Duration::from_secs(2);

/// Time for the answer to a long message: lost segments are sent again several times.
const LARGE: Duration = Duration::from_secs(4);

/// The length of a message that needs packets of full size.
const LARGE_MESSAGE: usize = 6000;

/// The maximum number of bytes that are read of another service, and shown of them.
const MAX_READ: usize = 4096;
const MAX_SHOWN: usize = 100;

/// A reply of HTTP.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct WebReply {
    pub(super) status: u16,
    /// The URL to which the service redirects.
    pub(super) location: Option<String>,
}

impl WebReply {
    /// Parses the head of a reply.
    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let status = lines.next()?.strip_prefix("HTTP/")?.split(' ').nth(1)?.parse().ok()?;
        let location = lines.take_while(|line| !line.is_empty()).find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("location").then(|| value.trim().to_owned())
        });
        Some(Self { status, location })
    }

    /// Returns the host of the redirection.
    pub(super) fn host(&self) -> Option<&str> {
        let (_, rest) = self.location.as_deref()?.split_once("://")?;
        let authority = rest.split(['/', '?', '#']).next()?;
        Some(authority.rsplit_once(':').map_or(authority, |(host, _)| host))
    }
}

/// Reports what answers at this address. Returns the fingerprint of the key of an sproxy.
pub(super) async fn identify_at(
    report: &mut DoctorReport,
    host: &str,
    address: SocketAddr,
    pins: &Pins,
) -> Option<String> {
    let Some(stream) = connect(address, pins).await else {
        let text = format!("{address} did not accept a second connection");
        report.fail("answer", text, "try again; a firewall may limit new connections");
        return None;
    };
    let error = match identify(&stream, HANDSHAKE).await {
        Ok(key) => {
            let key = key.fingerprint();
            report.ok("answer", format!("{address} is an sproxy with the key {key}"));
            return Some(key);
        }
        Err(error) => error,
    };
    drop(stream);
    let (what, advice) = match &error {
        HandshakeError::Tls(TlsError::NotTls(kind)) => foreign(*kind, host, address, pins).await,
        HandshakeError::Tls(TlsError::WrongProtocol(why)) => (
            format!("TLS of another kind answers, not an sproxy ({why})"),
            "check host and port; sproxy listens on port 6200 by default".to_owned(),
        ),
        HandshakeError::Ended | HandshakeError::Io(_) if !error.is_silence() => (
            "something accepts the connection and closes it".to_owned(),
            "check host and port; sproxy itself does this to an address from which too many \
             attempts have failed: wait ten minutes"
                .to_owned(),
        ),
        error if error.is_silence() => silent(address, pins).await,
        error => (error.to_string(), "check host and port".to_owned()),
    };
    report.fail("answer", format!("{address}: {what}"), &advice);
    None
}

/// Describes a service that did not answer TLS in time.
async fn silent(address: SocketAddr, pins: &Pins) -> (String, String) {
    match banner(address, pins).await {
        Some(text) => (
            format!("another service answers: {text}"),
            "check host and port; sproxy listens on port 6200 by default".to_owned(),
        ),
        None => (
            "something accepts the connection and says nothing".to_owned(),
            "check host and port; if both are right, something on the way drops the data: try \
             another network"
                .to_owned(),
        ),
    }
}

/// Describes a service that does not speak TLS.
async fn foreign(kind: Foreign, host: &str, address: SocketAddr, pins: &Pins) -> (String, String) {
    match kind {
        Foreign::Ssh => {
            let banner = banner(address, pins).await.unwrap_or_default();
            (
                format!("an ssh server answers ({banner})"),
                "give the port of sproxy, which is 6200 by default, or use etcp ssh, which needs \
                 only ssh"
                    .to_owned(),
            )
        }
        Foreign::Http => match ask_web(host, address, pins).await {
            Some(reply) if reply.location.is_some() => (
                format!(
                    "a web server or the login page of a network answers; it redirects to {}",
                    reply.location.unwrap_or_default()
                ),
                "log in to the network with a browser, or check host and port".to_owned(),
            ),
            _ => (
                "a web server or the login page of a network answers".to_owned(),
                "check host and port, and log in to the network with a browser".to_owned(),
            ),
        },
        _ => silent(address, pins).await,
    }
}

/// Returns the first line of a service that speaks first.
async fn banner(address: SocketAddr, pins: &Pins) -> Option<String> {
    let mut stream = connect(address, pins).await?;
    let mut bytes = vec![0; MAX_READ];
    let count = timeout(BANNER, stream.read(&mut bytes)).await.ok()?.ok()?;
    let text = String::from_utf8_lossy(&bytes[..count]).into_owned();
    let line = text.lines().next().filter(|line| !line.is_empty())?;
    Some(clean(line).chars().take(MAX_SHOWN).collect())
}

/// Asks for a page, as a browser without a login does.
pub(super) async fn ask_web(host: &str, address: SocketAddr, pins: &Pins) -> Option<WebReply> {
    let mut stream = connect(address, pins).await?;
    let request = format!("GET / HTTP/1.0\r\nHost: {host}\r\nUser-Agent: etcp\r\n\r\n");
    timeout(BANNER, stream.write_all(request.as_bytes())).await.ok()?.ok()?;
    let mut bytes = Vec::new();
    // What has arrived until then is enough.
    let _ = timeout(BANNER, stream.take(MAX_READ as u64).read_to_end(&mut bytes)).await;
    WebReply::parse(&String::from_utf8_lossy(&bytes))
}

async fn connect(address: SocketAddr, pins: &Pins) -> Option<TcpStream> {
    timeout(CONNECT, connect_pinned(address, pins)).await.ok()?.ok()
}

/// The knowledge about large packets to an address.
#[derive(Clone, Copy, Debug)]
pub(super) struct LargePackets {
    /// The path MTU, as the kernel knows it.
    pub(super) mtu: Option<u32>,
    /// Whether a long message was answered.
    pub(super) is_answered: bool,
}

/// Sends a long message to an sproxy.
pub(super) async fn try_large(address: SocketAddr, pins: &Pins) -> Option<LargePackets> {
    let stream = connect(address, pins).await?;
    let is_answered = answers_hello(&stream, LARGE_MESSAGE, LARGE).await.ok()?;
    let mtu = if address.is_ipv4() { ip_mtu(&stream) } else { ipv6_mtu(&stream) };
    Some(LargePackets { mtu: mtu.ok(), is_answered })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirection_is_read_with_its_host() {
        let text = "HTTP/1.1 302 Found\r\nServer: x\r\nlocation: http://login.test:80/a?b\r\n\r\n";
        let reply = WebReply::parse(text).unwrap();
        assert_eq!((reply.status, reply.host()), (302, Some("login.test")));
        let plain = WebReply::parse("HTTP/1.0 200 OK\r\n\r\nLocation: no").unwrap();
        assert_eq!(plain, WebReply { status: 200, location: None });
        assert_eq!(WebReply::parse("SSH-2.0-x\r\n"), None);
    }
}
