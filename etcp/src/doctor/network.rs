//! Names, addresses, and whether a port answers.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use eternaltcp::address::ServerAddress;
use eternaltcp::client::{Pins, connect_pinned};
use tokio::net::lookup_host;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::report::DoctorReport;

/// Time for the resolver.
const LOOKUP: Duration = Duration::from_secs(10);

/// Time for an address to answer. Packets that are lost are sent again after one and three seconds.
const CONNECT: Duration = Duration::from_secs(5);

/// Time for other ports of a host whose port does not answer.
const OTHER_PORT: Duration = Duration::from_secs(3);

/// The maximum number of addresses that are tried.
const MAX_ADDRESSES: usize = 16;

/// Ports that tell whether a host is there at all.
const COMMON_PORTS: [u16; 3] = [22, 443, 80];

/// The result of an attempt to connect to an address.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum PortState {
    /// It accepted after this long.
    Open(Duration),
    /// It refused.
    Refused,
    /// There is no route from here.
    NoRoute,
    /// A host on the path reports that the address cannot be reached.
    Rejected(String),
    /// Nothing came back.
    Silent,
    /// This machine cannot make the attempt.
    Failed(String),
}

impl PortState {
    fn of(error: &io::Error) -> Self {
        match error.kind() {
            ErrorKind::ConnectionRefused => Self::Refused,
            ErrorKind::NetworkUnreachable => Self::NoRoute,
            ErrorKind::HostUnreachable | ErrorKind::ConnectionReset => Self::Rejected(plain(error)),
            ErrorKind::TimedOut => Self::Silent,
            _ => Self::Failed(plain(error)),
        }
    }

    /// Returns whether a machine has answered.
    fn is_answer(&self) -> bool {
        matches!(self, Self::Open(_) | Self::Refused)
    }
}

/// Returns the text of a system error without its number.
fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}

/// Tries to connect.
pub(super) async fn try_port(address: SocketAddr, pins: &Pins, patience: Duration) -> PortState {
    let start = Instant::now();
    match timeout(patience, connect_pinned(address, pins)).await {
        Ok(Ok(_)) => PortState::Open(start.elapsed()),
        Ok(Err(error)) => PortState::of(&error),
        Err(_) => PortState::Silent,
    }
}

/// Resolves a name, and reports its addresses. Returns those that fit the pins.
pub(super) async fn resolve(
    report: &mut DoctorReport,
    server: &ServerAddress,
    pins: &Pins,
) -> Vec<SocketAddr> {
    let host = &server.host;
    report.hide("HOST", host);
    let start = Instant::now();
    let found = timeout(LOOKUP, lookup_host((host.as_str(), server.port))).await;
    let took = start.elapsed();
    let addresses: Vec<_> = match found {
        Ok(Ok(found)) => found.take(MAX_ADDRESSES).collect(),
        Ok(Err(error)) => {
            let text = error.to_string();
            let why = text.strip_prefix("failed to lookup address information: ").unwrap_or(&text);
            let advice = "check the name, and the network of this machine";
            report.fail("name", format!("cannot resolve {host}: {why}"), advice);
            return Vec::new();
        }
        Err(_) => {
            let advice = "check the resolver of this machine, in /etc/resolv.conf";
            report.fail("name", format!("the resolver does not answer about {host}"), advice);
            return Vec::new();
        }
    };
    let is_fitting = |address: &SocketAddr| {
        pins.family.is_none_or(|family| family.has(address.ip()))
            && pins.address.is_none_or(|source| source.is_ipv4() == address.is_ipv4())
    };
    let all = addresses.iter().map(|it| it.ip().to_string()).collect::<Vec<_>>().join(", ");
    let fitting: Vec<_> = addresses.iter().copied().filter(is_fitting).collect();
    if fitting.is_empty() {
        let text = format!("{host} has no address of the family that is asked for, only {all}");
        report.fail("name", text, "leave out -4, -6 and -b, or give an address of that family");
    } else if host.parse::<IpAddr>().is_err() {
        let text = format!("{host} is {all} ({} ms)", took.as_millis());
        report.measured("name", text, &[("lookup_ms", millis(took))]);
    }
    fitting
}

/// Tries all addresses at once, and reports each. Returns those that answered.
pub(super) async fn try_all(
    report: &mut DoctorReport,
    addresses: &[SocketAddr],
    pins: &Pins,
) -> Vec<SocketAddr> {
    let mut tries = JoinSet::new();
    for (at, address) in addresses.iter().copied().enumerate() {
        let pins = pins.clone();
        tries.spawn(async move { (at, address, try_port(address, &pins, CONNECT).await) });
    }
    let mut tried = Vec::new();
    while let Some(done) = tries.join_next().await {
        tried.extend(done.ok());
    }
    tried.sort_by_key(|(at, ..)| *at);
    let is_open = |state: &PortState| matches!(state, PortState::Open(_));
    let is_any_open = tried.iter().any(|(.., state)| is_open(state));
    let mut open = Vec::new();
    for (_, address, state) in tried {
        if is_open(&state) {
            open.push(address);
        }
        report_port(report, address, &state, pins, is_any_open).await;
    }
    open
}

/// Reports whether a port answers. A port that does not is only a note if another address does.
async fn report_port(
    report: &mut DoctorReport,
    address: SocketAddr,
    state: &PortState,
    pins: &Pins,
    is_other_open: bool,
) {
    let (text, advice) = match state {
        PortState::Open(took) => {
            let text = format!("{address} accepts after {:.1} ms", millis(*took));
            return report.measured("port", text, &[("connect_ms", millis(*took))]);
        }
        PortState::Refused => (
            format!("{address} refuses: nothing listens there, or a firewall rejects it"),
            "is sproxy running there, on that port? Start it with: etcp sproxy; where only an ssh \
             server runs, use: etcp ssh"
                .to_owned(),
        ),
        PortState::NoRoute => (
            format!("{address} cannot be reached: no route leads there"),
            "check the network of this machine".to_owned(),
        ),
        PortState::Rejected(why) => (
            format!("{address} cannot be reached: {why}, says a router or a firewall on the way"),
            "check the address; a firewall has to let TCP pass to that port".to_owned(),
        ),
        PortState::Silent => silent(address, pins).await,
        PortState::Failed(why) => (
            format!("cannot connect to {address}: {why}"),
            "check -b and -B, and the network of this machine".to_owned(),
        ),
    };
    if is_other_open {
        let advice = "carriers use another address meanwhile; give -4 or -6 to leave this one out";
        report.note("port", text, advice);
    } else {
        report.fail("port", text, &advice);
    }
}

/// Describes an address that does not answer, by other ports of the same host.
async fn silent(address: SocketAddr, pins: &Pins) -> (String, String) {
    let port = address.port();
    let mut tries = JoinSet::new();
    for other in COMMON_PORTS.into_iter().filter(|other| *other != port) {
        let (pins, to) = (pins.clone(), SocketAddr::new(address.ip(), other));
        tries.spawn(async move { (other, try_port(to, &pins, OTHER_PORT).await) });
    }
    let mut answered = Vec::new();
    while let Some(done) = tries.join_next().await {
        answered.extend(done.ok().filter(|(_, state)| state.is_answer()).map(|(port, _)| port));
    }
    answered.sort_unstable();
    let seconds = CONNECT.as_secs();
    match answered.first() {
        Some(other) => (
            format!(
                "{address} does not answer within {seconds} s, but port {other} of that host does: \
                 a firewall drops packets to port {port}"
            ),
            format!(
                "let the firewalls of the server, and of this network, pass TCP to port {port}; or \
                 let sproxy listen on a port that passes, such as 443"
            ),
        ),
        None => (
            format!(
                "{address} does not answer within {seconds} s, nor do ports 22, 80 and 443 there"
            ),
            "check that the host is up, and its address; or a firewall drops everything to it"
                .to_owned(),
        ),
    }
}

/// Returns a duration in milliseconds.
pub(super) fn millis(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 10_000.0).round() / 10.0
}
