//! Transparent forwards: connections that a firewall redirects.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use eternaltcp_proto::{Cause, Reset};
use tokio::net::lookup_host;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tracing::debug;

use super::{Opener, Servers};
use crate::address::{Target, canonical_ip};
use crate::log_limit::{BURST, LogLimit, limited};
use crate::net::listener::Listener;
use crate::net::stream::{Stream, peer_name};

/// Limits the lines about refused connections.
static REFUSED: LogLimit = LogLimit::new(BURST);

/// Time that the look-up of a server's name may delay a connection to its port.
const PATIENCE: Duration = Duration::from_secs(2);

/// The maximum number of connections of one listener that are being forwarded; further ones wait to
/// be accepted.
const PLACES: usize = 256;

/// Serves a listener of [`Listener::bind_transparent`] for as long as the client runs: each
/// connection is forwarded to its original destination. A connection that would come back here is
/// rejected: one to the listener itself, or one to `servers`, such as the client's own carriers.
///
/// Dropping the future closes the listener. Accepted connections continue.
pub async fn serve_transparent(mut listener: Listener, servers: Servers, opener: Opener) {
    let own: Arc<[SocketAddr]> = listener.addresses().into();
    let places = Arc::new(Semaphore::new(PLACES));
    loop {
        // The semaphore is never closed.
        let place = Arc::clone(&places).acquire_owned().await;
        let stream = tokio::select! {
            stream = listener.accept() => stream,
            () = opener.ended() => return,
        };
        let (own, servers, opener) = (Arc::clone(&own), servers.clone(), opener.clone());
        tokio::spawn(async move {
            hand_over(stream, &own, &servers, &opener).await;
            drop(place);
        });
    }
}

async fn hand_over(stream: Stream, own: &[SocketAddr], servers: &Servers, opener: &Opener) {
    let destination = match stream.destination() {
        Ok(destination) => destination,
        Err(error) => return debug!("a connection was gone at once: {error}"),
    };
    let peer = peer_name(&stream);
    let itself = own.iter().find(|own| is_listener(destination, **own, is_of_this_machine));
    if let Some(own) = itself {
        limited!(
            &REFUSED,
            warn,
            "{peer} is refused: it was not redirected, but connected to {own} itself"
        );
        return stream.abort(&Reset::new(Cause::Unsupported));
    }
    if leads_to(servers, destination).await {
        limited!(
            &REFUSED,
            warn,
            "{peer} is refused: its destination {destination} is the server itself; \
             the firewall must not redirect what cproxy sends"
        );
        return stream.abort(&Reset::new(Cause::Unsupported));
    }
    debug!("{peer} was to go to {destination}");
    let target = Target::Tcp { host: destination.ip().to_string(), port: destination.port() };
    opener.carry(stream, Some(&target)).await;
}

/// Returns whether a destination is the listener itself: nothing was redirected.
fn is_listener(
    destination: SocketAddr,
    own: SocketAddr,
    is_of_this_machine: impl Fn(IpAddr) -> bool,
) -> bool {
    destination.port() == own.port()
        && if own.ip().is_unspecified() {
            is_of_this_machine(destination.ip())
        } else {
            destination.ip() == canonical_ip(own.ip())
        }
}

fn is_of_this_machine(ip: IpAddr) -> bool {
    let interfaces = if_addrs::get_if_addrs().unwrap_or_default();
    ip.is_loopback() || interfaces.iter().any(|interface| interface.ip() == ip)
}

/// Returns whether a destination is one of the servers.
async fn leads_to(servers: &Servers, destination: SocketAddr) -> bool {
    for server in servers.iter().filter(|server| server.port == destination.port()) {
        let found = timeout(PATIENCE, lookup_host((server.host.as_str(), server.port))).await;
        // A name that cannot be looked up now is no reason to refuse a connection.
        let Ok(Ok(mut addresses)) = found else { continue };
        if addresses.any(|address| canonical_ip(address.ip()) == destination.ip()) {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_connection_to_the_listener_itself_is_recognised_by_address_and_port() {
        let here = |ip: IpAddr| ip.is_loopback() || ip == at("192.0.2.1:0").ip();
        for (destination, own, is_it) in [
            ("127.0.0.1:1234", "127.0.0.1:1234", true),
            ("127.0.0.1:80", "127.0.0.1:1234", false),
            ("198.51.100.1:1234", "127.0.0.1:1234", false),
            ("192.0.2.1:1234", "0.0.0.0:1234", true),
            ("192.0.2.1:1234", "[::]:1234", true),
            ("[::1]:1234", "[::]:1234", true),
            ("192.0.2.2:1234", "[::]:1234", false),
            ("192.0.2.1:80", "[::]:1234", false),
        ] {
            assert_eq!(is_listener(at(destination), at(own), here), is_it, "{destination} {own}");
        }
        assert!(is_of_this_machine(at("127.0.0.9:0").ip()));
        assert!(!is_of_this_machine(at("192.0.2.99:0").ip()));
    }

    #[tokio::test]
    async fn a_server_is_known_by_its_address_and_port() {
        let servers = ["[::ffff:127.0.0.1]:7", "127.0.0.1:6200", "[::1]:6200"];
        let servers = servers.map(|text| text.parse().unwrap()).to_vec();
        let servers = Servers::from_list(servers).unwrap();
        assert!(leads_to(&servers, at("127.0.0.1:6200")).await);
        assert!(leads_to(&servers, at("[::1]:6200")).await);
        assert!(leads_to(&servers, at("127.0.0.1:7")).await);
        assert!(!leads_to(&servers, at("127.0.0.1:6201")).await);
        assert!(!leads_to(&servers, at("127.0.0.2:6200")).await);
    }
}
